//! Releases reservations that have lapsed, so that balances are right on an idle ledger too.
//!
//! Needs no lease and keeps no progress: what is due is in the store, and a reservation is released
//! once, however many look for it.

use std::{sync::Arc, time::Duration};

use mesh::{Clock, Drain};
use tokio::time::{MissedTickBehavior, interval};

use crate::{domain::EXPIRE_MAX, engine::EngineError, store::Store};

/// Looks every `period` until the service drains.
pub(crate) async fn release_lapsed<S: Store>(
    store: S,
    clock: Arc<dyn Clock>,
    drain: Drain,
    period: Duration,
) {
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while drain.unless_started(ticks.tick()).await.is_some() {
        // A full sweep means that more may be due; the drain is heeded in between.
        while sweep(&store, &*clock).await == EXPIRE_MAX && !drain.has_started() {}
    }
}

async fn sweep<S: Store>(store: &S, clock: &dyn Clock) -> usize {
    match store.expire(clock.now()).await {
        Ok(released) => released,
        // Whoever leads does it.
        Err(EngineError::NotLeader { .. }) => 0,
        Err(error) => {
            tracing::warn!(%error, "lapsed reservations could not be released; the next sweep tries again");
            0
        }
    }
}
