//! What a record begins with: enough to know, before its body is trusted, how long it is and where it belongs.

use super::Link;
use money::Timestamp;

use super::{BODY_BYTES_MAX, HASH_BYTES};
use crate::{
    domain::Event,
    journal::key::KeyId,
    store::ports::{Hash, JournalError, Sequence},
};

/// What every record begins with.
const MAGIC: [u8; 4] = *b"PMLJ";

/// The newest version of the format, which this program reads as well as all before it. A record has the first one
/// that has all of its events.
pub const VERSION: u16 = 2;

/// The version of a record of these events.
pub(super) fn version_of(events: &[Event]) -> u16 {
    let has_newer = events.iter().any(|event| matches!(event, Event::TimesClosed { .. }));
    if has_newer { VERSION } else { 1 }
}

/// How long a header is, in bytes. Magic, version and checksum keep their places in all versions.
pub const HEADER_BYTES: usize = 84;

/// How much of it the checksum is over.
const CHECKED_BYTES: usize = HEADER_BYTES - 4;

/// What a record says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Of the format: that of its events.
    pub version: u16,
    /// Its place.
    pub sequence: Sequence,
    /// How long its body is, in bytes.
    pub body: u32,
    /// How many events.
    pub count: u32,
    /// The time of the first event that has one; where none has, that of the latest event before.
    pub first: Timestamp,
    /// The time of the last event that has one; where none has, that of the latest event before.
    pub last: Timestamp,
    /// The hash of the record before; zeros for the first.
    pub previous: Hash,
}

/// Why bytes are no header that this program can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not a header at all, or a damaged one.
    #[error("{0}")]
    Damaged(&'static str),
    /// Of a newer program.
    #[error(
        "the journal is of format {version}, this program reads formats up to {VERSION}: start a newer one"
    )]
    Newer {
        /// Its version.
        version: u16,
    },
    /// Of another cluster.
    #[error("the journal was written with another key than this ledger's: put back the key or the journal")]
    OtherKey,
}

impl HeaderError {
    /// As the error of a record.
    pub fn at(self, sequence: Sequence) -> JournalError {
        match self {
            Self::Damaged(what) => JournalError::Damaged { sequence, what: what.to_owned() },
            Self::Newer { .. } | Self::OtherKey => JournalError::Foreign(self.to_string()),
        }
    }
}

impl Header {
    /// What the record follows, as it says itself.
    pub fn follows(&self) -> Link {
        Link { sequence: self.sequence.saturating_sub(1), hash: self.previous, last: self.first }
    }

    /// How long the whole record is, in bytes.
    pub fn record_bytes(&self) -> usize {
        HEADER_BYTES + self.body as usize + HASH_BYTES
    }

    /// As bytes, with the name of the key that the record's hash is made with.
    pub(super) fn encode(&self, key: KeyId) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let mut rest = bytes.as_mut_slice();
        for field in [
            MAGIC.as_slice(),
            &self.version.to_le_bytes(),
            &[0; 2],
            &key,
            &self.sequence.to_le_bytes(),
            &self.body.to_le_bytes(),
            &self.count.to_le_bytes(),
            &self.first.as_nanos().to_le_bytes(),
            &self.last.as_nanos().to_le_bytes(),
            &self.previous,
        ] {
            rest = put(rest, field);
        }
        let checksum = crc32fast::hash(&bytes[..CHECKED_BYTES]);
        bytes[CHECKED_BYTES..].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    /// Reads the header of a record that was written with the key of this name.
    pub fn decode(bytes: &[u8; HEADER_BYTES], key: KeyId) -> Result<Self, HeaderError> {
        let mut rest = bytes.as_slice();
        if take::<4>(&mut rest) != MAGIC {
            return Err(HeaderError::Damaged("it does not begin as a record does"));
        }
        let version = u16::from_le_bytes(take(&mut rest));
        let unused: [u8; 2] = take(&mut rest);
        let written_with: KeyId = take(&mut rest);
        let header = Self {
            version,
            sequence: u64::from_le_bytes(take(&mut rest)),
            body: u32::from_le_bytes(take(&mut rest)),
            count: u32::from_le_bytes(take(&mut rest)),
            first: Timestamp::from_nanos(i64::from_le_bytes(take(&mut rest))),
            last: Timestamp::from_nanos(i64::from_le_bytes(take(&mut rest))),
            previous: take(&mut rest),
        };
        if crc32fast::hash(&bytes[..CHECKED_BYTES]) != u32::from_le_bytes(take(&mut rest)) {
            return Err(HeaderError::Damaged("its header's checksum is wrong"));
        }
        if version > VERSION {
            return Err(HeaderError::Newer { version });
        }
        if version == 0 || unused != [0; 2] {
            return Err(HeaderError::Damaged("its header is of no format there ever was"));
        }
        if written_with != key {
            return Err(HeaderError::OtherKey);
        }
        if header.body as usize > BODY_BYTES_MAX {
            return Err(HeaderError::Damaged("its header says that it is longer than a record may be"));
        }
        Ok(header)
    }
}

/// Copies a field to the front, and returns what is behind it.
fn put<'a>(to: &'a mut [u8], field: &[u8]) -> &'a mut [u8] {
    let (here, rest) = to.split_at_mut(field.len());
    here.copy_from_slice(field);
    rest
}

/// Takes a field from the front. The fields of a header are as long as the header.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let (field, behind) = rest.split_first_chunk().unwrap_or((&[0; N], &[]));
    *rest = behind;
    *field
}
