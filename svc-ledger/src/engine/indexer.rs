//! The indexer: one thread that carries what is durable into the index.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

use mesh::store::StoreError;
use tokio::{runtime::Handle, sync::watch};

use super::{EngineError, Stop, stop};
use crate::{
    domain::BATCH_MAX,
    store::ports::{Happened, Index, Sequence},
};

/// The most events of one step, but for a record that has more.
const STEP_EVENTS_MAX: usize = 4 * BATCH_MAX;

/// How long events gather while nobody asks for them: each step has a fixed cost.
const GATHER: Duration = Duration::from_millis(20);

/// How long to wait after the index failed before it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How often a step is tried. A full disk or a server that restarts has this many seconds.
const ATTEMPTS_MAX: u32 = 30;

/// What the indexer is told.
pub(super) enum Step {
    /// Something happened, and is durable.
    Take(Happened),
    /// Somebody waits for what was told before.
    Hurry,
}

pub(super) struct Indexer<I> {
    pub(super) index: I,
    pub(super) runtime: Handle,
    pub(super) steps: Receiver<Step>,
    pub(super) indexed: watch::Sender<Sequence>,
    pub(super) stopped: Arc<Stop>,
}

impl<I: Index> Indexer<I> {
    /// Until nobody tells it anything any more, or the engine has stopped. What nobody waits for any more is left to
    /// whoever begins next: it may be much, and the journal has it.
    pub(super) fn run(self) {
        let mut last = Instant::now();
        while let Ok(first) = self.steps.recv() {
            if self.indexed.is_closed() {
                return;
            }
            let Step::Take(first) = first else { continue };
            let mut events = first.events.len();
            let mut records = vec![first];
            // An idle index takes up at once what comes; a busy one gathers.
            let until = last + GATHER;
            while events < STEP_EVENTS_MAX {
                let patience = until.saturating_duration_since(Instant::now());
                match self.steps.recv_timeout(patience) {
                    Ok(Step::Take(next)) => {
                        events += next.events.len();
                        records.push(next);
                    }
                    Ok(Step::Hurry) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                        break;
                    }
                }
            }
            let Some(through) = records.last().map(|record| record.sequence) else { continue };
            if !self.apply(&records) {
                return;
            }
            last = Instant::now();
            self.indexed.send_replace(through);
        }
    }

    /// Tries again what may pass: what is durable must be findable, and the executor waits when too much is
    /// not. What does not pass ends the engine: a new start makes a damaged index anew.
    fn apply(&self, records: &[Happened]) -> bool {
        for attempt in 1..=ATTEMPTS_MAX {
            let error = match self.runtime.block_on(self.index.apply(records.to_vec())) {
                Ok(()) => return true,
                Err(error) => error,
            };
            tracing::error!(%error, attempt, "the ledger's index failed");
            if matches!(error, StoreError::Corrupt(_) | StoreError::Newer { .. }) {
                break;
            }
            if self.runtime.block_on(self.wait_or_stopped()) {
                return false;
            }
        }
        let gave_up = EngineError::Index("it cannot take up what is durable".to_owned());
        stop(&self.stopped, gave_up);
        false
    }

    /// Whether the engine has stopped meanwhile.
    async fn wait_or_stopped(&self) -> bool {
        let mut stopped = self.stopped.subscribe();
        let gone = self.indexed.closed();
        tokio::select! {
            () = tokio::time::sleep(RETRY_AFTER) => false,
            _ = stopped.wait_for(Option::is_some) => true,
            () = gone => true,
        }
    }
}
