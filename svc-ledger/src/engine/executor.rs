//! The executor: one thread that owns the book.

use std::{
    collections::VecDeque,
    sync::{Arc, mpsc::SyncSender},
};

use money::Timestamp;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, mpsc, watch},
};

use super::{EngineError, Stop, committer::Commit, index_failed};
use crate::{
    domain::{BATCH_MAX, Book, TransferId},
    journal::Chain,
    store::ports::{Happened, Index, Sequence},
};

/// Gives a call its answer, or the reason why there is none.
pub(super) type Release = Box<dyn FnOnce(Result<(), EngineError>) + Send>;

/// A call's turn at the book, and the time; or why it has none.
pub(super) type Turn<'a> = Result<(&'a mut Book, Timestamp), EngineError>;

/// What a call does with its turn.
type Run = Box<dyn FnOnce(Turn<'_>) -> Release + Send>;

/// The most events that the index may be behind, beside about as many that an engine begins with. They are held
/// in memory, some 300 bytes each.
pub(crate) const LAG_MAX: usize = 16 * BATCH_MAX;

/// One call.
pub(super) struct Command {
    /// The transfers that it may ask the book for.
    pub(super) ids: Vec<TransferId>,
    /// Its time and its place among those that wait; none for a read.
    pub(super) writes: Option<(Timestamp, OwnedSemaphorePermit)>,
    /// Whether it makes transfers, before which lapsed reservations are released.
    pub(super) moves: bool,
    /// What it does.
    pub(super) run: Run,
}

impl Command {
    /// What it counts in a group.
    fn weight(&self) -> usize {
        self.writes.as_ref().map_or(1, |(_, admitted)| admitted.num_permits().max(1))
    }
}

pub(super) struct Executor<I> {
    book: Book,
    chain: Chain,
    /// Kept for its room.
    buffer: Vec<u8>,
    index: I,
    runtime: Handle,
    indexed: watch::Receiver<Sequence>,
    stopped: Arc<Stop>,
    /// Records of ours that the index has not taken up, and their events.
    behind: VecDeque<(Sequence, usize)>,
    lag: usize,
}

impl<I: Index> Executor<I> {
    pub(super) fn new(
        book: Book,
        chain: Chain,
        index: I,
        runtime: Handle,
        indexed: watch::Receiver<Sequence>,
        stopped: Arc<Stop>,
    ) -> Self {
        let (buffer, behind) = (Vec::new(), VecDeque::new());
        Self { book, chain, buffer, index, runtime, indexed, stopped, behind, lag: 0 }
    }

    /// Until the last caller or the committer is gone, or the engine was stopped.
    pub(super) fn run(mut self, mut calls: mpsc::Receiver<Command>, commits: &SyncSender<Commit>) {
        let mut held = None;
        while let Some(first) = held.take().or_else(|| calls.blocking_recv()) {
            let mut weight = first.weight();
            let mut group = vec![first];
            while let Ok(next) = calls.try_recv() {
                weight += next.weight();
                if weight > BATCH_MAX {
                    held = Some(next);
                    break;
                }
                group.push(next);
            }
            if self.keep_within_reach().is_none() || self.stopped.borrow().is_some() {
                break;
            }
            let commit = self.carry_out(group);
            if commits.send(commit).is_err() {
                break;
            }
        }
    }

    /// Forgets what the index has taken up, and waits while it is too far behind. `None` when it is gone.
    fn keep_within_reach(&mut self) -> Option<()> {
        loop {
            let indexed = *self.indexed.borrow_and_update();
            self.book.forget_through(indexed);
            while self.behind.front().is_some_and(|(sequence, _)| *sequence <= indexed) {
                self.lag -= self.behind.pop_front().map_or(0, |(_, events)| events);
            }
            if self.lag <= LAG_MAX {
                return Some(());
            }
            self.runtime.block_on(self.indexed.changed()).ok()?;
        }
    }

    /// Whether it asks for a transfer of which the book does not know whether it exists.
    fn is_any_unknown(&self, call: &Command) -> bool {
        let mut ids = call.ids.clone();
        self.book.retain_unknown(&mut ids);
        !ids.is_empty()
    }

    fn carry_out(&mut self, mut group: Vec<Command>) -> Commit {
        // None of the group was answered yet, so that its order is ours to choose: reads see the state after a
        // whole record, the one that the book names.
        group.sort_by_key(|call| call.writes.is_some());
        let mut ids: Vec<TransferId> = group.iter().flat_map(|call| call.ids.iter().copied()).collect();
        self.book.retain_unknown(&mut ids);
        let mut releases = Vec::with_capacity(group.len());
        if !ids.is_empty() {
            match self.runtime.block_on(self.index.known(ids)) {
                Ok(known) => self.book.learn(known),
                Err(error) => {
                    let error = index_failed(&self.index, error, &self.stopped);
                    let (refused, others): (Vec<_>, Vec<_>) =
                        group.into_iter().partition(|call| self.is_any_unknown(call));
                    releases.extend(refused.into_iter().map(|call| (call.run)(Err(error.clone()))));
                    group = others;
                }
            }
        }
        // The ledger's time only runs forward: that of the latest call holds for all.
        let writes = group.iter().filter_map(|call| call.writes.as_ref());
        let now = writes.map(|(now, _)| *now).max().unwrap_or(Timestamp::EPOCH);
        let mut lapses = group.iter().any(|call| call.moves);
        for call in group {
            if call.writes.is_some() && std::mem::take(&mut lapses) {
                self.book.release_lapsed(now);
            }
            releases.push((call.run)(Ok((&mut self.book, now))));
            // Its place among those that wait is free once it was carried out.
            drop(call.writes);
        }
        let events = self.book.settle(self.chain.link().sequence + 1);
        if events.is_empty() {
            return Commit { done: Ok(None), releases };
        }
        let frame = match self.chain.seal(&events, &mut self.buffer) {
            Ok(frame) => frame,
            Err(error) => return Commit { done: Err(error.into()), releases },
        };
        self.behind.push_back((frame.sequence, events.len()));
        self.lag += events.len();
        let happened = Happened { sequence: frame.sequence, hash: frame.hash, events: events.into() };
        Commit { done: Ok(Some((frame, happened))), releases }
    }
}
