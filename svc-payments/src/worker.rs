//! The background: takes up what is due. After a crash that is everything that was under way; in quiet
//! times it is unknown outcomes to ask about, and postings that the ledger has not confirmed.

use std::{sync::Arc, time::Duration};

use mesh::Drain;
use money::Timestamp;
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{
    driver::Driver,
    store::{Store, Work},
};

/// How much is taken up at a time.
const TAKEN_UP_MAX: usize = 256;

/// Runs until the drain begins, then waits until nothing is driven any more.
pub(crate) async fn run<S: Store>(driver: Arc<Driver<S>>, drain: Drain) {
    // Nothing can be under way in a process that has just begun, so everything is due.
    let mut horizon = Timestamp::from_nanos(i64::MAX);
    let mut ticks = tokio::time::interval(Duration::from_millis(driver.config.work_interval_ms.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while drain.unless_started(ticks.tick()).await.is_some() {
        let Some(found) = drain.unless_started(take_up(&driver, horizon)).await else { break };
        if found < TAKEN_UP_MAX {
            horizon = driver.clock.now();
        }
    }
    driver.finish().await;
}

/// Takes up what was due by `horizon`, side by side, and says how much there was.
async fn take_up<S: Store>(driver: &Arc<Driver<S>>, horizon: Timestamp) -> usize {
    let work = match driver.store.due(horizon, TAKEN_UP_MAX).await {
        Ok(work) => work,
        Err(error) => {
            tracing::warn!(%error, "due work could not be read");
            return 0;
        }
    };
    let found = work.len();
    let mut tasks = JoinSet::new();
    for item in work {
        let driver = Arc::clone(driver);
        tasks.spawn(async move {
            let outcome = match item {
                Work::Payment(tenant, id) => driver.resume(tenant, id).await,
                Work::Refund(tenant, payment, id) => driver.resume_refund(tenant, payment, id).await,
                Work::Posting(number, posting) => {
                    let call = driver.background_call(&posting.tenant);
                    driver.see_posting_through(&call, number, &posting).await;
                    Ok(())
                }
            };
            if let Err(fault) = outcome {
                tracing::warn!(%fault, "work that was due will be tried again");
            }
        });
    }
    while tasks.join_next().await.is_some() {}
    found
}
