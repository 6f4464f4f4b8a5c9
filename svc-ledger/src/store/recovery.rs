//! From what is on disk to a book: the snapshot, then what the journal says happened after it. Brings the
//! index up to the journal's end on the way, or as near to it as an engine may begin with.

use mesh::store::StoreError;

use super::ports::{Happened, Hash, Index, JournalError, Sequence, Snapshot};
use crate::{
    domain::{BATCH_MAX, Book},
    engine::LAG_MAX,
};

/// What a [`RecoveryError::Ahead`] says of the index.
pub const INDEX: &str = "the index";

/// What a [`RecoveryError::Ahead`] says of a journal with another record at the place.
pub const ANOTHER: &str = "has another record there";

/// How many events the index is given at once.
const STEP_EVENTS: usize = 4 * BATCH_MAX;

/// Why a ledger could not be recovered. It does not start then: what it would serve might be wrong.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The index.
    #[error("the ledger's index: {0}")]
    Index(#[from] StoreError),
    /// What was derived from the journal is from another one, or from more of it than there is.
    #[error("{what} was made at record {at}, and the journal {why}")]
    Ahead {
        /// The snapshot or the index.
        what: &'static str,
        /// The record it was made at.
        at: Sequence,
        /// What the journal has there.
        why: &'static str,
    },
}

/// Something that was derived from the journal up to a record.
struct Mark {
    what: &'static str,
    sequence: Sequence,
    hash: Hash,
}

/// A recovery under way. Feed it the journal's records from [`Recovery::from`] on, in order.
pub struct Recovery<I> {
    book: Book,
    index: I,
    marks: [Mark; 2],
    /// The last record that was fed.
    at: Sequence,
    /// What the index has not taken up, in order.
    waiting: Vec<Happened>,
    waiting_events: usize,
    /// How many of those events may be left to the engine's indexer.
    left_max: usize,
}

impl<I: Index> Recovery<I> {
    /// Begins with a snapshot and the index as they were found.
    pub async fn begin(snapshot: Snapshot, index: I) -> Result<Self, RecoveryError> {
        let Snapshot { sequence, hash, last, accounts, reservations } = snapshot;
        let indexed = index.applied().await?;
        let marks = [
            Mark { what: "the snapshot", sequence, hash },
            Mark { what: INDEX, sequence: indexed.sequence, hash: indexed.hash },
        ];
        let at = 0;
        let book = Book::restore(sequence, last, accounts, reservations);
        Ok(Self { book, index, marks, at, waiting: Vec::new(), waiting_events: 0, left_max: 0 })
    }

    /// Leaves what the index has not taken up to the engine's indexer, as far as the engine lets it be behind.
    #[must_use]
    pub fn leave_the_rest(mut self) -> Self {
        self.left_max = LAG_MAX;
        self
    }

    /// Refuses a snapshot that does not fit together, for one that was kept where anybody can change it.
    pub fn refuse_contradictions(&self) -> Result<(), RecoveryError> {
        match self.book.contradiction() {
            None => Ok(()),
            Some(what) => Err(StoreError::Corrupt(format!("what is stored was changed: {what}")).into()),
        }
    }

    /// The first record that is needed. It may be one that both hold: its hash tells whether they belong to
    /// this journal.
    pub fn from(&self) -> Sequence {
        let [snapshot, index] = &self.marks;
        snapshot.sequence.min(index.sequence).max(1)
    }

    /// Takes up a record.
    pub async fn take(&mut self, record: Happened) -> Result<(), RecoveryError> {
        let Happened { sequence, hash, .. } = record;
        self.at = sequence;
        for mark in &self.marks {
            if mark.sequence == sequence && mark.hash != hash {
                return Err(RecoveryError::Ahead { what: mark.what, at: sequence, why: ANOTHER });
            }
        }
        let [snapshot, index] = &self.marks;
        let (is_new, is_unindexed) = (sequence > snapshot.sequence, sequence > index.sequence);
        if is_new {
            self.book.replay(sequence, &record.events);
        }
        if is_unindexed {
            self.waiting_events += record.events.len();
            self.waiting.push(record);
        } else {
            self.book.forget_through(sequence);
        }
        while self.waiting_events >= self.left_max + STEP_EVENTS {
            self.index_step(self.at).await?;
        }
        Ok(())
    }

    /// Brings the index up to a record, or as far as one step goes.
    async fn index_step(&mut self, through: Sequence) -> Result<(), RecoveryError> {
        let (mut records, mut events) = (0, 0);
        for record in self.waiting.iter().take_while(|record| record.sequence <= through) {
            records += 1;
            events += record.events.len();
            if events >= STEP_EVENTS {
                break;
            }
        }
        let step: Vec<Happened> = self.waiting.drain(..records).collect();
        let Some(last) = step.last().map(|record| record.sequence) else { return Ok(()) };
        self.waiting_events -= events;
        self.index.apply(step).await?;
        self.book.forget_through(last);
        Ok(())
    }

    /// The book after the journal's last record, the index, and what was left for it to take up.
    pub async fn finish(mut self) -> Result<(Book, I, Vec<Happened>), RecoveryError> {
        for mark in &self.marks {
            if mark.sequence > self.at {
                let why = "ends before it";
                return Err(RecoveryError::Ahead { what: mark.what, at: mark.sequence, why });
            }
        }
        // Of records that the snapshot holds, the book knows no transfer: they must be found in the index.
        let [snapshot, _] = &self.marks;
        let through = if self.left_max == 0 { self.at } else { snapshot.sequence };
        while self.waiting.first().is_some_and(|record| record.sequence <= through) {
            self.index_step(through).await?;
        }
        Ok((self.book, self.index, self.waiting))
    }
}
