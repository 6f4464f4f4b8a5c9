//! What each append begins with. It says that every record before it was durable when it was written, which
//! the records themselves cannot say, as several are written in one step.

use crate::{journal::key::JournalKey, store::ports::Sequence};

/// What a mark begins with.
pub(super) const MAGIC: [u8; 4] = *b"PMLA";

/// The version of a mark's format.
const VERSION: u16 = 1;

/// How long a mark is, in bytes.
pub(super) const MARK_BYTES: usize = 32;

/// How much of it the hash is over.
const CONTENT_BYTES: usize = 16;

/// The start of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    /// The first record of the append.
    pub(super) first: Sequence,
}

impl Mark {
    /// As bytes. Its hash is keyed, so that no text in a record can look like a mark.
    pub(super) fn encode(self, key: &JournalKey) -> [u8; MARK_BYTES] {
        let mut bytes = [0; MARK_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&VERSION.to_le_bytes());
        bytes[8..CONTENT_BYTES].copy_from_slice(&self.first.to_le_bytes());
        let hash = key.hash(&bytes[..CONTENT_BYTES]);
        bytes[CONTENT_BYTES..].copy_from_slice(&hash[..MARK_BYTES - CONTENT_BYTES]);
        bytes
    }

    /// Reads a mark; `None` where there is none.
    pub(super) fn decode(bytes: &[u8; MARK_BYTES], key: &JournalKey) -> Option<Self> {
        let first = bytes[8..CONTENT_BYTES].try_into().map(Sequence::from_le_bytes).ok()?;
        let mark = Self { first };
        (mark.encode(key) == *bytes).then_some(mark)
    }
}
