//! Keeps snapshots, from time to time, of what is on disk: it replays the journal beside the engine, which
//! is not paused and not asked.

use std::time::Duration;

use tokio::sync::watch;

use crate::{
    domain::Book,
    journal::{Link, files::JournalReader, snapshot::Snapshots},
    store::ports::{JournalError, Sequence, Snapshot},
};

/// How often the length of the journal is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    pub(super) reader: JournalReader,
    pub(super) snapshots: Snapshots,
    pub(super) durable: watch::Receiver<Sequence>,
    /// About how many bytes the journal had grown since the last snapshot when it was opened.
    pub(super) behind: u64,
    /// How many bytes it grows by between two.
    pub(super) every: u64,
}

impl Keeper {
    /// Until the engine is gone.
    pub(super) fn run(mut self) {
        let mut at = self.bytes().saturating_sub(self.behind);
        loop {
            let bytes = self.bytes();
            if bytes.saturating_sub(at) >= self.every {
                let durable = *self.durable.borrow_and_update();
                match self.keep(durable) {
                    Ok(()) => tracing::debug!(record = durable, "a snapshot is kept"),
                    Err(error) if self.is_over() => {
                        tracing::debug!(%error, "the ledger was closed before a snapshot was kept");
                    }
                    Err(error) => {
                        tracing::warn!(%error, "no snapshot could be kept; a start takes longer until there is one");
                    }
                }
                at = bytes;
            }
            if self.is_over() {
                return;
            }
            std::thread::park_timeout(LOOK_EVERY);
        }
    }

    /// Whether the engine is gone.
    fn is_over(&self) -> bool {
        self.durable.has_changed().is_err()
    }

    fn bytes(&self) -> u64 {
        self.reader.bytes().unwrap_or_default()
    }

    /// Replays from the last snapshot on, and keeps what it comes to.
    fn keep(&self, durable: Sequence) -> Result<(), JournalError> {
        let last = self.snapshots.latest()?.unwrap_or_else(Snapshot::empty);
        let follows = Link { sequence: last.sequence, hash: last.hash, last: last.last };
        let mut book = Book::restore(last.sequence, last.last, last.accounts, last.reservations);
        let mut hash = last.hash;
        for record in self.reader.replay(follows, durable)? {
            let record = record?;
            book.replay(record.sequence, &record.events);
            book.forget_through(record.sequence);
            hash = record.hash;
        }
        let (sequence, last) = (book.sequence(), book.last());
        let (accounts, reservations) = book.into_parts();
        self.snapshots.keep(&Snapshot { sequence, hash, last, accounts, reservations })
    }
}
