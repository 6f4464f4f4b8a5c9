//! The background: takes up what is due. After a crash that is everything that was under way; in quiet
//! times it is unknown outcomes to ask about, and postings that the ledger has not confirmed.

use std::{sync::Arc, time::Duration};

use mesh::Drain;
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{domain::due, driver::Driver, store::Store};

/// How much of each kind is taken up at a time.
const TAKEN_UP_MAX: usize = 256;

/// Runs until the drain begins, then ends the streams and waits until nothing is driven any more.
pub(crate) async fn run<S: Store>(driver: Arc<Driver<S>>, drain: Drain) {
    let mut ticks = tokio::time::interval(Duration::from_millis(driver.config.work_interval_ms.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while drain.unless_started(ticks.tick()).await.is_some() {
        if drain.unless_started(take_up(&driver)).await.is_none() {
            break;
        }
    }
    driver.watchers.close();
    driver.finish().await;
}

/// Takes up what is due, side by side.
async fn take_up<S: Store>(driver: &Arc<Driver<S>>) {
    let now = driver.now();
    let work = match driver.store.take_due(now, due::lease(now), TAKEN_UP_MAX).await {
        Ok(work) => work,
        Err(error) => {
            tracing::warn!(%error, "due work could not be read");
            return;
        }
    };
    let mut tasks = JoinSet::new();
    for item in work {
        let driver = Arc::clone(driver);
        tasks.spawn(async move { driver.take_up(item).await });
    }
    while tasks.join_next().await.is_some() {}
}
