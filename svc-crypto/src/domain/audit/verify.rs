//! Checks a chain of records, handed over in order, and names the first that is not as it was written.

use money::Timestamp;

use super::{ChainKey, Chained, Link};

/// What is wrong with an audit log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Offence {
    /// A record is missing, or one is there twice.
    #[error("record {expected} is missing: record {found} comes in its place")]
    Gap {
        /// What should have come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// It holds what no record holds.
    #[error(
        "record {sequence} cannot be read: it was changed, or written by a newer version of this program"
    )]
    Unreadable {
        /// Which.
        sequence: u64,
    },
    /// It was changed, or what comes before it was, or it is of another log.
    #[error("record {sequence} does not have the hash of what it says and of what comes before it")]
    Hash {
        /// Which.
        sequence: u64,
    },
    /// It is older than the record before it.
    #[error("record {sequence} is older than the record before it")]
    Time {
        /// Which.
        sequence: u64,
    },
    /// There was more.
    #[error(
        "the log ends with record {last}, and record {known} is known to have been kept: its end is missing"
    )]
    Cut {
        /// The last that there is.
        last: u64,
        /// One that is known.
        known: u64,
    },
    /// There was another record in its place.
    #[error(
        "record {sequence} is another one than what is known of it: the log was written anew from there or before"
    )]
    Rewritten {
        /// Which.
        sequence: u64,
    },
}

/// Where a check has come to.
pub struct Verifier {
    key: ChainKey,
    end: Link,
    at: Timestamp,
    known: Vec<Link>,
}

impl Verifier {
    /// From the first record on. `known`: places that the chain is known to have had, from elsewhere.
    pub fn new(key: ChainKey, known: impl IntoIterator<Item = Link>) -> Self {
        let known = known.into_iter().filter(|link| *link != Link::START).collect();
        Self { key, end: Link::START, at: Timestamp::from_nanos(i64::MIN), known }
    }

    /// From the record after `end` on, for who has no need to doubt what comes before.
    pub fn after(key: ChainKey, end: Link) -> Self {
        Self { end, ..Self::new(key, []) }
    }

    /// The last record that was found right.
    pub fn end(&self) -> Link {
        self.end
    }

    /// Takes the next record; `None`: its number is all that could be read.
    ///
    /// # Errors
    /// What is wrong with it. Nothing that follows says anything then.
    pub fn check(&mut self, sequence: u64, found: Option<&Chained>) -> Result<(), Offence> {
        let expected = self.end.sequence + 1;
        if sequence != expected {
            return Err(Offence::Gap { expected, found: sequence });
        }
        let Some(Chained { record, hash }) = found else { return Err(Offence::Unreadable { sequence }) };
        if record.sequence != sequence || self.key.hash(&self.end.hash, record) != *hash {
            return Err(Offence::Hash { sequence });
        }
        if record.at < self.at {
            return Err(Offence::Time { sequence });
        }
        if self.known.iter().any(|link| link.sequence == sequence && link.hash != *hash) {
            return Err(Offence::Rewritten { sequence });
        }
        (self.end, self.at) = (Link { sequence, hash: *hash }, record.at);
        Ok(())
    }

    /// There is no further record.
    ///
    /// # Errors
    /// [`Offence::Cut`].
    pub fn finish(&self) -> Result<(), Offence> {
        let last = self.end.sequence;
        let missing = self.known.iter().map(|link| link.sequence).filter(|known| *known > last);
        missing.max().map_or(Ok(()), |known| Err(Offence::Cut { last, known }))
    }
}
