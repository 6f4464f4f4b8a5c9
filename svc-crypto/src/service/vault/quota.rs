//! The quota of cards, taken item by item.

use std::sync::{Mutex, PoisonError};

use mesh::{Fault, Reason, SpiffeId};
use money::Timestamp;

use super::named::Name;
use crate::domain::quota::{Exceeded, Quota};

/// Counts every card that is named, found or not: a token that is guessed at costs as much. Those for which there is
/// nothing left become refusals.
pub(super) fn charge(quota: &Mutex<Quota>, workload: &SpiffeId, names: &mut [Name], now: Timestamp) {
    // Every change leaves the buckets whole, so a poisoned lock guards nothing broken.
    let mut quota = quota.lock().unwrap_or_else(PoisonError::into_inner);
    for name in names {
        if let Ok((tenant, _)) = name
            && let Err(exceeded) = quota.take(workload.as_str(), tenant, now)
        {
            *name = Err(refused(exceeded));
        }
    }
}

fn refused(Exceeded { wait_s }: Exceeded) -> Fault {
    let message = "This workload has taken as many cards of the tenant out of the vault as it may for now.";
    Fault::new(Reason::DetokenizeQuota, message).retry_after_s(wait_s)
}
