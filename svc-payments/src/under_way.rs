//! What is being driven right now, for whose request, and what a processor said about it meanwhile.
//!
//! Knows nothing of how it is driven.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, MutexGuard, PoisonError},
};

use money::TenantId;
use uuid::Uuid;

use crate::{processor::WebhookSubject, store::Claim};

/// A payment or a refund of a tenant.
pub(crate) type Key = (TenantId, Uuid);

/// Never two tasks at one payment or refund at once.
#[derive(Default)]
pub(crate) struct UnderWay(Mutex<HashMap<Key, Driven>>);

struct Driven {
    by: Option<Claim>,
    /// A webhook came while it was driven.
    told: Option<WebhookSubject>,
}

impl UnderWay {
    /// Begins to drive it; refused, with the request that it is driven for, if that is done already. To be
    /// ended with `release`.
    pub(crate) fn hold(&self, key: Key, by: Option<Claim>) -> Result<(), Option<Claim>> {
        match self.driven().entry(key) {
            Entry::Occupied(held) => Err(held.get().by.clone()),
            Entry::Vacant(free) => {
                free.insert(Driven { by, told: None });
                Ok(())
            }
        }
    }

    /// A webhook says that there is news of this. If it is being driven, the processor may have been asked
    /// before there was, and what is about to be written down knows nothing of it.
    pub(crate) fn told(&self, subject: WebhookSubject) {
        let id = match subject {
            WebhookSubject::Payment(id) => id.uuid(),
            WebhookSubject::Refund(id) => id.uuid(),
            WebhookSubject::Other => return,
        };
        for (_, driven) in self.driven().iter_mut().filter(|((_, driven), _)| *driven == id) {
            driven.told = Some(subject);
        }
    }

    /// It is driven no longer. Returns what is to be asked about again.
    pub(crate) fn release(&self, key: &Key) -> Option<WebhookSubject> {
        self.driven().remove(key)?.told
    }

    fn driven(&self) -> MutexGuard<'_, HashMap<Key, Driven>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use money::{PaymentId, RefundId};

    use super::*;

    #[test]
    fn a_webhook_that_comes_while_it_is_driven_is_not_lost() {
        let under_way = UnderWay::default();
        let (payment, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let key: Key = ("acme".parse().unwrap(), payment);
        let subject = WebhookSubject::Payment(PaymentId::new(payment));
        under_way.told(subject);
        assert!(under_way.hold(key.clone(), None).is_ok());
        assert!(under_way.hold(key.clone(), None).is_err(), "one at a time");
        assert_eq!(under_way.release(&key), None, "what came before it began, it knows of");
        under_way.hold(key.clone(), None).unwrap();
        under_way.told(WebhookSubject::Refund(RefundId::new(other)));
        under_way.told(WebhookSubject::Other);
        under_way.told(subject);
        assert_eq!((under_way.release(&key), under_way.release(&key)), (Some(subject), None));
        assert!(under_way.hold(key, None).is_ok());
    }
}
