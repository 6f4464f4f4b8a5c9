//! Takes events from a service's outbox to a publisher: at least once, each subject's in order, and again until the
//! publisher has them.
//!
//! It decides nothing by what an event says, and waits for nothing but the store, the publisher, its wake and time.

use std::{collections::HashSet, sync::Arc, time::Duration};

use mesh::{Clock, Drain, Metrics};
use money::TenantId;
use tokio::time::{Instant, timeout_at};

use crate::{
    backoff::Backoff,
    config::RelayConfig,
    event::{Event, Subject},
    metrics::RelayMetrics,
    outbox::{Outbox, Pending, Position, Wake},
    publish::{BrokerError, Outcome, PublishError, Publisher},
};

/// The wait after the first failure.
const RETRY_LEAST: Duration = Duration::from_millis(100);
/// How often the outbox is asked how much waits, while something does.
const MEASURED_EVERY: Duration = Duration::from_secs(5);
/// For how long a batch that is under way is waited for once the drain has begun.
const LAST_BATCH_MAX: Duration = Duration::from_secs(2);
/// How many subjects may be held back before those after them wait as well.
const HELD_MAX: usize = 10_000;

/// Publishes what is in an outbox.
pub struct Relay<O> {
    outbox: O,
    publisher: Arc<dyn Publisher>,
    wake: Wake,
    clock: Arc<dyn Clock>,
    config: RelayConfig,
    metrics: RelayMetrics,
    /// Subjects of which an event failed that is not tried again yet: those after it wait.
    held: HashSet<(TenantId, Subject)>,
    measured: Option<Instant>,
    /// What was said last in the log.
    trouble: Option<PublishError>,
}

/// How a look through the outbox ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// All that was there is published.
    Done,
    /// All is but what is held back.
    Held,
    /// The store or the broker failed, or is away.
    Away,
    /// It was left, as the drain has begun.
    Left,
}

impl<O: Outbox> Relay<O> {
    /// A relay that does nothing yet. Whoever writes to the outbox tells `wake` after the commit.
    pub fn new(
        outbox: O,
        publisher: Arc<dyn Publisher>,
        wake: Wake,
        clock: Arc<dyn Clock>,
        config: RelayConfig,
        metrics: &Metrics,
    ) -> Self {
        let metrics = RelayMetrics::register(metrics);
        let (held, measured, trouble) = (HashSet::new(), None, None);
        Self { outbox, publisher, wake, clock, config, metrics, held, measured, trouble }
    }

    /// Publishes until the drain begins: the batch that is under way then is finished, for two seconds at most. What
    /// is not published by then stays in the outbox.
    pub async fn run(mut self, drain: Drain) {
        let mut backoff = Backoff::new(RETRY_LEAST, self.config.retry_max());
        // When those that are held back are tried again.
        let mut again: Option<Instant> = None;
        loop {
            if again.is_some_and(|at| at <= Instant::now()) {
                self.held.clear();
                again = None;
            }
            let until = match self.pass(&drain).await {
                Pass::Done => {
                    backoff.succeeded();
                    self.is_well();
                    Instant::now() + self.config.poll()
                }
                Pass::Held => *again.get_or_insert_with(|| Instant::now() + backoff.failed()),
                Pass::Away => {
                    self.held.clear();
                    again = None;
                    // Not woken by what is written: it would fare no better.
                    let wait = tokio::time::sleep(backoff.failed());
                    if drain.unless_started(wait).await.is_none() {
                        return;
                    }
                    continue;
                }
                Pass::Left => return,
            };
            let woken = timeout_at(until, self.wake.woken());
            if drain.unless_started(woken).await.is_none() {
                return;
            }
        }
    }

    /// Publishes what is in the outbox, from its beginning, until there is no more.
    async fn pass(&mut self, drain: &Drain) -> Pass {
        let mut after: Position = 0;
        loop {
            if drain.has_started() {
                return Pass::Left;
            }
            self.measure().await;
            let limit = self.config.batch_max.max(1);
            let page = match self.outbox.unpublished(after, limit).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(%error, "the outbox cannot be read");
                    return Pass::Away;
                }
            };
            let is_last = page.len() < limit;
            match page.last() {
                Some(last) if last.position > after => after = last.position,
                Some(_) => {
                    tracing::error!("the outbox shows events that it was not asked for");
                    return Pass::Away;
                }
                None => return self.at_the_end(),
            }
            if let Some(end) = self.publish(page, drain).await {
                return end;
            }
            // What was written meanwhile has left its wake.
            if is_last {
                return self.at_the_end();
            }
            if self.held.len() > HELD_MAX {
                return Pass::Held;
            }
        }
    }

    fn at_the_end(&mut self) -> Pass {
        if self.held.is_empty() {
            self.metrics.waiting(0, Duration::ZERO);
            Pass::Done
        } else {
            Pass::Held
        }
    }

    /// Publishes a page and marks what was; `Some` if the pass ends here.
    async fn publish(&mut self, page: Vec<Pending>, drain: &Drain) -> Option<Pass> {
        let fresh = page.into_iter().filter(|pending| !self.held.contains(&pending.event.stream()));
        let (positions, batch): (Vec<Position>, Vec<Event>) =
            fresh.map(|pending| (pending.position, pending.event)).unzip();
        if batch.is_empty() {
            return None;
        }
        let Some(mut outcomes) = self.outcomes(&batch, drain).await else { return Some(Pass::Left) };
        outcomes.resize(batch.len(), Err(PublishError::Unconfirmed(BrokerError::Protocol)));
        let mut published = Vec::with_capacity(positions.len());
        let mut is_away = false;
        for ((position, event), outcome) in positions.iter().zip(&batch).zip(outcomes) {
            match outcome {
                Ok(()) => published.push(*position),
                Err(error) => {
                    self.metrics.failed(error);
                    self.is_unwell(error, event);
                    self.held.insert(event.stream());
                    is_away |= error.is_of_the_broker();
                }
            }
        }
        if !published.is_empty() {
            if let Err(error) = self.outbox.mark_published(&published).await {
                tracing::error!(%error, "published events cannot be marked; they will be published again");
                return Some(Pass::Away);
            }
            self.metrics.published(published.len());
        }
        is_away.then_some(Pass::Away)
    }

    /// `None` if the drain has begun and it took too long.
    async fn outcomes(&self, batch: &[Event], drain: &Drain) -> Option<Vec<Outcome>> {
        let too_long = async {
            drain.started().await;
            tokio::time::sleep(LAST_BATCH_MAX).await;
        };
        tokio::select! {
            biased;
            outcomes = self.publisher.publish(batch) => Some(outcomes),
            () = too_long => None,
        }
    }

    /// Asks how much waits, every so often.
    async fn measure(&mut self) {
        if self.measured.is_some_and(|at| at.elapsed() < MEASURED_EVERY) {
            return;
        }
        self.measured = Some(Instant::now());
        match self.outbox.backlog().await {
            Ok(backlog) => {
                let age = backlog.oldest.map_or(0, |oldest| self.clock.now().nanos_since(oldest));
                let age = Duration::from_nanos(age.try_into().unwrap_or_default());
                self.metrics.waiting(backlog.events, age);
            }
            Err(error) => tracing::warn!(%error, "the outbox does not say how much waits"),
        }
    }

    /// Says once what is wrong, and not at every attempt.
    fn is_unwell(&mut self, error: PublishError, event: &Event) {
        if error != PublishError::Behind && self.trouble.replace(error) != Some(error) {
            tracing::warn!(%error, ?event, "an event is not published; it is tried again");
        }
    }

    fn is_well(&mut self) {
        if self.trouble.take().is_some() {
            tracing::info!("all events are published again");
        }
    }
}
