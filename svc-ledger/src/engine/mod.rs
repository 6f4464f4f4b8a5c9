//! The engine: one state machine in memory, a journal that makes what it did durable, an index that
//! follows. The same for every store.
//!
//! ```text
//! callers ─▶ queue ─▶ executor ─▶ committer ─▶ answers
//!                        ▲            └─▶ indexer ─▶ index
//!                        └── what is neither in memory nor new is looked up in the index
//! ```
//!
//! - The **executor** owns the [`Book`]. It takes what has arrived, executes it as one group, and seals what
//!   happened into one frame. It may be a frame ahead of the disk, never more.
//! - The **committer** makes the frames that wait durable in one step. Only then do answers go out, those of
//!   reads too: nobody is told of anything that a power cut could take back. Where there is no frame, the
//!   journal confirms that nobody else has written one.
//! - The **indexer** carries the events into the index, in big steps while there is much to do. What it has
//!   not taken up yet is in the book, so that a lookup by id never waits for it; a query does.
//!
//! Knows nothing of files, SQL or gRPC. Once the journal fails, the engine stops: what is in memory may be
//! ahead of what is durable, and only the journal knows by how much.

mod committer;
mod error;
mod executor;
mod indexer;
mod ops;
#[cfg(test)]
mod tests;

use std::{future::Future, pin::Pin, sync::Arc};

use mesh::store::StoreError;
use money::Timestamp;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};

pub use self::error::EngineError;
pub(crate) use self::executor::LAG_MAX;
use self::{
    committer::Committer,
    executor::{Command, Executor, Release, Turn},
    indexer::{Indexer, Step},
};
use crate::{
    domain::{BATCH_MAX, Book, TransferId},
    journal::Chain,
    store::ports::{Happened, Index, Journal, Sequence},
};

/// The most items waiting for the executor, over all calls; more are refused. Sixteen full batches take
/// about a tenth of a second on a small machine.
const ITEMS_WAITING_MAX: usize = 16 * BATCH_MAX;

/// The most calls waiting. Reads have no items, and are bounded by this.
const CALLS_WAITING_MAX: usize = 65_536;

/// What an engine starts from: the state after the journal's last record.
pub struct Beginning<J, I> {
    /// The state.
    pub book: Book,
    /// The chain, after the journal's last record.
    pub chain: Chain,
    /// Where records become durable.
    pub journal: J,
    /// What follows the journal.
    pub index: I,
    /// The journal's last records, in order, where the index has not taken them up. The book has.
    pub unindexed: Vec<Happened>,
}

/// What a call that is in the queue will be answered.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, EngineError>> + Send>>;

/// Where it is said that the engine has stopped, and why.
type Stop = watch::Sender<Option<EngineError>>;

/// Stops the engine, but for what is under way; what was said first stays.
fn stop(stopped: &Stop, why: EngineError) {
    stopped.send_if_modified(|stopped| stopped.is_none() && stopped.replace(why).is_none());
}

/// Why the index did not say what was asked. One that is damaged and made anew at a start ends the engine.
fn index_failed<I: Index>(index: &I, error: StoreError, stopped: &Stop) -> EngineError {
    if let StoreError::Corrupt(what) = &error
        && index.give_up()
    {
        let why = EngineError::Index(format!("it is damaged, and made anew at the next start: {what}"));
        stop(stopped, why.clone());
        return why;
    }
    error.into()
}

/// However a thread ends, the engine ends with it, and says so to whoever watches.
struct Gone(Arc<Stop>);

impl Drop for Gone {
    fn drop(&mut self) {
        stop(&self.0, EngineError::Closed);
    }
}

/// What the executor has to know of a call.
struct Call {
    ids: Vec<TransferId>,
    writes: Option<(Timestamp, OwnedSemaphorePermit)>,
    moves: bool,
}

/// A running engine. Cheap to clone; it stops when the last clone is gone.
pub struct Engine<I>(Arc<Shared<I>>);

impl<I> Clone for Engine<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// What the clones have in common: a call clones the engine, and each of these has a counter of its own.
struct Shared<I> {
    queue: mpsc::Sender<Command>,
    waiting: Arc<Semaphore>,
    index: I,
    durable: watch::Receiver<Sequence>,
    indexed: watch::Receiver<Sequence>,
    steps: std::sync::mpsc::Sender<Step>,
    stops: Arc<Stop>,
    stopped: Arc<watch::Receiver<Option<EngineError>>>,
    /// Open as long as a thread runs.
    running: watch::Receiver<()>,
}

impl<I: Index> Engine<I> {
    /// Starts the three threads.
    ///
    /// # Errors
    /// Where a thread cannot be made.
    ///
    /// # Panics
    /// Outside of a tokio runtime, on which journals and indexes that need one run.
    pub fn start<J: Journal>(beginning: Beginning<J, I>) -> std::io::Result<Self> {
        let Beginning { book, chain, journal, index, unindexed } = beginning;
        let sequence = chain.link().sequence;
        let runtime = tokio::runtime::Handle::current();
        let (queue, calls) = mpsc::channel(CALLS_WAITING_MAX);
        // One frame waits while one is written: what arrives meanwhile becomes one group.
        let (commits, waiting_commits) = std::sync::mpsc::sync_channel(1);
        let (steps, waiting_steps) = std::sync::mpsc::channel();
        let (durable_to, durable) = watch::channel(sequence);
        let indexed = unindexed.first().map_or(sequence, |record| record.sequence - 1);
        let (indexed_to, indexed_rx) = watch::channel(indexed);
        let (stopped_to, stopped) = watch::channel(None);
        let stopped_to = Arc::new(stopped_to);
        let (running_to, running) = watch::channel(());
        let running_to = Arc::new(running_to);

        let indexer = Indexer {
            index: index.clone(),
            runtime: runtime.clone(),
            steps: waiting_steps,
            indexed: indexed_to,
            stopped: Arc::clone(&stopped_to),
        };
        let committer = Committer {
            journal,
            runtime: runtime.clone(),
            commits: waiting_commits,
            steps: steps.clone(),
            durable: durable_to,
            stopped: Arc::clone(&stopped_to),
        };
        let stops = Arc::clone(&stopped_to);
        let executor =
            Executor::new(book, chain, index.for_writes(), runtime, indexed_rx.clone(), Arc::clone(&stops));
        for record in unindexed {
            // The indexer has the other end.
            drop(steps.send(Step::Take(record)));
        }
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let (running, gone) = (Arc::clone(&running_to), Gone(Arc::clone(&stopped_to)));
            let work = move || {
                work();
                drop((gone, running));
            };
            std::thread::Builder::new().name(name.to_owned()).spawn(work).map(drop)
        };
        spawn("ledger-indexer", Box::new(move || indexer.run()))?;
        spawn("ledger-committer", Box::new(move || committer.run()))?;
        spawn("ledger-executor", Box::new(move || executor.run(calls, &commits)))?;
        let waiting = Arc::new(Semaphore::new(ITEMS_WAITING_MAX));
        let stopped = Arc::new(stopped);
        let indexed = indexed_rx;
        let shared = Shared { queue, waiting, index, durable, indexed, steps, stops, stopped, running };
        Ok(Self(Arc::new(shared)))
    }

    /// Runs `work` on the book, in its turn. `ids` are those of transfers that it may ask the book for.
    /// `items` of all calls that wait are bounded. Answers when all that `work` did or saw is durable.
    pub async fn write<T: Send + 'static>(
        &self,
        ids: Vec<TransferId>,
        items: usize,
        now: Timestamp,
        work: impl FnOnce(&mut Book, Timestamp) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let admitted = self.admit(items)?;
        let call = Call { ids, writes: Some((now, admitted)), moves: false };
        self.call(call, work).await
    }

    /// As [`Engine::write`], after what has lapsed was released. It is in the queue when this returns, and the
    /// answer is waited for apart from that: calls are carried out in the order in which they were put there.
    pub fn submit_transfers<T: Send + 'static>(
        &self,
        ids: Vec<TransferId>,
        items: usize,
        now: Timestamp,
        work: impl FnOnce(&mut Book, Timestamp) -> T + Send + 'static,
    ) -> Result<Answer<T>, EngineError> {
        let admitted = self.admit(items)?;
        self.enqueue(Call { ids, writes: Some((now, admitted)), moves: true }, work)
    }

    /// As [`Engine::write`], for what only looks.
    pub async fn read<T: Send + 'static>(
        &self,
        ids: Vec<TransferId>,
        work: impl FnOnce(&Book) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        let call = Call { ids, writes: None, moves: false };
        self.call(call, |book, _| work(book)).await.map_err(EngineError::of_a_read)
    }

    async fn call<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&mut Book, Timestamp) -> T + Send + 'static,
    ) -> Result<T, EngineError> {
        self.enqueue(call, work)?.await
    }

    /// Puts a call into the queue: calls are carried out in the order in which this was called.
    fn enqueue<T: Send + 'static>(
        &self,
        call: Call,
        work: impl FnOnce(&mut Book, Timestamp) -> T + Send + 'static,
    ) -> Result<Answer<T>, EngineError> {
        let (answer, answered) = oneshot::channel();
        let run = Box::new(move |turn: Turn<'_>| -> Release {
            let value = turn.map(|(book, now)| work(book, now));
            Box::new(move |outcome: Result<(), EngineError>| {
                // Nobody may wait any more; what was done stays done.
                drop(answer.send(outcome.and(value)));
            })
        });
        let Call { ids, writes, moves } = call;
        let command = Command { ids, writes, moves, run };
        self.0.queue.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => EngineError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => self.why_stopped(),
        })?;
        let stopped = Arc::clone(&self.0.stopped);
        Ok(Box::pin(async move {
            let why = || stopped.borrow().clone().unwrap_or(EngineError::Closed);
            answered.await.unwrap_or_else(|_| Err(why()))
        }))
    }

    fn admit(&self, items: usize) -> Result<OwnedSemaphorePermit, EngineError> {
        let items = u32::try_from(items).map_err(|_| EngineError::Overloaded)?;
        Arc::clone(&self.0.waiting).try_acquire_many_owned(items).map_err(|_| EngineError::Overloaded)
    }

    /// The index, once it holds all that was durable when this was called.
    pub async fn index(&self) -> Result<&I, EngineError> {
        if self.0.stopped.borrow().is_some() {
            return Err(self.why_stopped().of_a_read());
        }
        let durable = *self.0.durable.borrow();
        self.index_through(durable).await?;
        Ok(&self.0.index)
    }

    async fn index_through(&self, sequence: Sequence) -> Result<(), EngineError> {
        let mut indexed = self.0.indexed.clone();
        if *indexed.borrow() < sequence {
            drop(self.0.steps.send(Step::Hurry));
            indexed.wait_for(|at| *at >= sequence).await.map_err(|_| self.why_stopped().of_a_read())?;
        }
        Ok(())
    }

    /// The last durable record; changes as more become durable.
    pub fn durable(&self) -> watch::Receiver<Sequence> {
        self.0.durable.clone()
    }

    /// Done when the engine has stopped, with the reason.
    pub fn stopped(&self) -> impl Future<Output = EngineError> + Send + use<I> {
        let mut stopped = watch::Receiver::clone(&self.0.stopped);
        async move {
            match stopped.wait_for(Option::is_some).await {
                Ok(why) => why.clone().unwrap_or(EngineError::Closed),
                Err(_) => EngineError::Closed,
            }
        }
    }

    /// Lets go of the engine; done when its threads have ended, which is when the last clone is gone too.
    pub async fn close(self) {
        let mut running = self.0.running.clone();
        drop(self);
        // An error says that nobody is left who could change it.
        while running.changed().await.is_ok() {}
    }

    fn index_failed(&self, error: StoreError) -> EngineError {
        index_failed(&self.0.index, error, &self.0.stops)
    }

    fn why_stopped(&self) -> EngineError {
        self.0.stopped.borrow().clone().unwrap_or(EngineError::Closed)
    }
}
