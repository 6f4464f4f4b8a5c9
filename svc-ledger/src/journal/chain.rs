//! Records that follow one another: each is a header, its events and a keyed hash over both, and the header
//! holds the hash of the record before. Pure.

mod header;

use money::Timestamp;

pub use header::{HEADER_BYTES, Header, HeaderError, VERSION};

use super::{
    codec::{Decoder, Encoder},
    key::{JournalKey, KeyId},
};
use crate::{
    domain::Event,
    store::ports::{Frame, Happened, Hash, JournalError, Sequence},
};

/// How long a record's hash is, in bytes.
pub const HASH_BYTES: usize = size_of::<Hash>();

/// The longest body of a record, in bytes: 64 MiB. Bounds what a reader holds. The longest event takes less
/// than 700 bytes, so that 90,000 events of any kind always fit.
pub const BODY_BYTES_MAX: usize = 64 << 20;

/// Where a chain stands: what the next record must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// The last record; 0 for the empty journal.
    pub sequence: Sequence,
    /// Its hash; zeros for the empty journal.
    pub hash: Hash,
    /// The latest time of any event.
    pub last: Timestamp,
}

impl Link {
    /// Of the empty journal.
    pub const EMPTY: Self = Self { sequence: 0, hash: [0; HASH_BYTES], last: Timestamp::EPOCH };
}

/// Seals records, or opens them, one after the other.
#[derive(Debug)]
pub struct Chain {
    key: JournalKey,
    id: KeyId,
    link: Link,
    decoder: Decoder,
}

impl Chain {
    /// One that stands there.
    pub fn new(key: JournalKey, link: Link) -> Self {
        Self { id: key.id(), key, link, decoder: Decoder::default() }
    }

    /// One that stands before a record, as the record says: what came before is not looked at.
    pub fn before(key: JournalKey, bytes: &[u8]) -> Result<Self, JournalError> {
        let damaged = || JournalError::Damaged { sequence: 0, what: "it ends within its header".to_owned() };
        let header = Header::decode(bytes.first_chunk().ok_or_else(damaged)?, key.id());
        header.map(|header| Self::new(key, header.follows())).map_err(|error| error.at(0))
    }

    /// Where it stands.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Makes the next record of events. The buffer is scratch, kept by the caller to be used again.
    /// Refused, with nothing changed, where the events take more than [`BODY_BYTES_MAX`].
    pub fn seal(&mut self, events: &[Event], buffer: &mut Vec<u8>) -> Result<Frame, JournalError> {
        buffer.clear();
        buffer.resize(HEADER_BYTES, 0);
        let mut encoder = Encoder::new(buffer);
        for event in events {
            encoder.event(event);
        }
        let (first, last) = times(events).unwrap_or((self.link.last, self.link.last));
        let sequence = self.link.sequence + 1;
        let body_bytes = buffer.len() - HEADER_BYTES;
        let lengths = u32::try_from(body_bytes).ok().zip(u32::try_from(events.len()).ok());
        let (body, count) = lengths.filter(|_| body_bytes <= BODY_BYTES_MAX).ok_or_else(|| {
            JournalError::Failed(format!("{body_bytes} bytes of events are too many for a record"))
        })?;
        let version = header::version_of(events);
        let header = Header { version, sequence, body, count, first, last, previous: self.link.hash };
        buffer[..HEADER_BYTES].copy_from_slice(&header.encode(self.id));
        let hash = self.key.hash(buffer);
        buffer.extend_from_slice(&hash);
        self.link = Link { sequence, hash, last };
        Ok(Frame { sequence, hash, bytes: buffer.as_slice().into() })
    }

    /// Verifies the next record and reads its events. On an error the chain stands where it stood.
    pub fn open(&mut self, bytes: &[u8]) -> Result<Happened, JournalError> {
        let (header, link) = self.check(bytes)?;
        let damaged = |what: String| JournalError::Damaged { sequence: header.sequence, what };
        let body = &bytes[HEADER_BYTES..bytes.len() - HASH_BYTES];
        let events = self
            .decoder
            .events(body, header.count as usize)
            .map_err(|error| damaged(format!("its hash is right but its events cannot be read: {error}")))?;
        if times(&events).is_some_and(|times| times != (header.first, header.last)) {
            return Err(damaged("its events are not of the times that its header says".to_owned()));
        }
        if header::version_of(&events) != header.version {
            return Err(damaged("its events are not of the version that its header says".to_owned()));
        }
        self.link = link;
        Ok(Happened { sequence: link.sequence, hash: link.hash, events: events.into() })
    }

    /// Verifies the next record but for what its events say. On an error the chain stands where it stood.
    pub fn verify(&mut self, bytes: &[u8]) -> Result<Header, JournalError> {
        let (header, link) = self.check(bytes)?;
        self.link = link;
        Ok(header)
    }

    fn check(&self, bytes: &[u8]) -> Result<(Header, Link), JournalError> {
        let sequence = self.link.sequence + 1;
        let damaged = |what: &str| JournalError::Damaged { sequence, what: what.to_owned() };
        let head = bytes.first_chunk().ok_or_else(|| damaged("it ends within its header"))?;
        let header = Header::decode(head, self.id).map_err(|error| error.at(sequence))?;
        if header.sequence != sequence {
            return Err(damaged(&format!("record {} is in its place", header.sequence)));
        }
        if header.previous != self.link.hash {
            return Err(damaged("it does not follow the record before: their hashes differ"));
        }
        if bytes.len() != header.record_bytes() {
            return Err(damaged("its length is not the one that its header says"));
        }
        let (content, claimed) = bytes.split_at(bytes.len() - HASH_BYTES);
        let hash = self.key.hash(content);
        if hash != claimed {
            return Err(damaged("its bytes are not those that its hash was made of"));
        }
        Ok((header, Link { sequence, hash, last: header.last }))
    }
}

/// The times of the first and the last event that has one.
fn times(events: &[Event]) -> Option<(Timestamp, Timestamp)> {
    let first = events.iter().find_map(Event::timestamp)?;
    let last = events.iter().rev().find_map(Event::timestamp)?;
    Some((first, last))
}

#[cfg(test)]
mod tests;
