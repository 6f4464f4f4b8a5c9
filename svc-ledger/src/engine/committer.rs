//! The committer: one thread that makes frames durable and lets answers go.

use std::sync::{
    Arc,
    mpsc::{Receiver, Sender},
};

use tokio::{runtime::Handle, sync::watch};

use super::{EngineError, Stop, executor::Release, indexer::Step};
use crate::store::ports::{Frame, Happened, Journal, Sequence};

/// What a group of calls did, and who waits for it.
pub(super) struct Commit {
    /// What is to be made durable; nothing, where the group only looked. The error is the engine's end.
    pub(super) done: Result<Option<(Frame, Happened)>, EngineError>,
    pub(super) releases: Vec<Release>,
}

pub(super) struct Committer<J> {
    pub(super) journal: J,
    pub(super) runtime: Handle,
    pub(super) commits: Receiver<Commit>,
    pub(super) steps: Sender<Step>,
    pub(super) durable: watch::Sender<Sequence>,
    pub(super) stopped: Arc<Stop>,
}

impl<J: Journal> Committer<J> {
    /// Until the executor is gone or the journal fails.
    pub(super) fn run(mut self) {
        while let Ok(first) = self.commits.recv() {
            let mut group = vec![first];
            group.extend(self.commits.try_iter());
            let mut frames = Vec::with_capacity(group.len());
            let mut happened = Vec::with_capacity(group.len());
            let mut releases = Vec::with_capacity(group.len());
            for commit in group {
                releases.extend(commit.releases);
                match commit.done {
                    Ok(None) => {}
                    Ok(Some((frame, events))) => {
                        frames.push(frame);
                        happened.push(events);
                    }
                    Err(error) => return self.fail(&error, releases),
                }
            }
            if frames.is_empty() {
                // They were answered from memory alone, which is old where somebody else has written.
                let confirmed = self.journal.confirm().map_err(EngineError::from);
                for release in releases {
                    release(confirmed.clone());
                }
                continue;
            }
            if let Err(error) = self.runtime.block_on(self.journal.append(&frames)) {
                return self.fail(&error.into(), releases);
            }
            self.tell(happened, releases);
        }
    }

    /// All of it is durable. The index is told first, so that whoever has an answer and asks the index finds
    /// the step already under way.
    fn tell(&self, happened: Vec<Happened>, releases: Vec<Release>) {
        if let Some(last) = happened.last() {
            let last = last.sequence;
            for records in happened {
                drop(self.steps.send(Step::Take(records)));
            }
            self.durable.send_replace(last);
        }
        let one_at_most = releases.len() <= 1;
        let answer_all = move || {
            for release in releases {
                release(Ok(()));
            }
        };
        if one_at_most {
            answer_all();
        } else {
            // From here each answer would wake its caller across threads; a task among the callers wakes all
            // of them for the price of one.
            self.runtime.spawn(async { answer_all() });
        }
    }

    /// What is in memory may be ahead of the journal: nothing goes on from here.
    fn fail(self, error: &EngineError, releases: Vec<Release>) {
        tracing::error!(%error, "the ledger stops");
        self.stopped.send_replace(Some(error.clone()));
        let waiting = self.commits.try_iter().flat_map(|commit| commit.releases);
        for release in releases.into_iter().chain(waiting.collect::<Vec<_>>()) {
            release(Err(error.clone()));
        }
    }
}
