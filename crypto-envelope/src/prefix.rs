//! How every envelope begins: what made it, and under which key. The suites go on from there, each in
//! a module of its own.
//!
//! | offset | bytes | field   | content                            |
//! |-------:|------:|---------|------------------------------------|
//! |      0 |     4 | magic   | `PME1`                             |
//! |      4 |     1 | suite   | 1 to 4, see [`Suite`]              |
//! |      5 |    16 | key id  | the key that sealed it, a UUID     |
//! |     21 |     4 | version | of that key, from 1, big endian    |

use uuid::Uuid;

use crate::{derive::Prk, envelope::KeyRef, secret::KeyBytes};

const MAGIC: &[u8; 4] = b"PME1";
const SUITE_AT: usize = 4;
const KEY_ID_AT: usize = 5;
const VERSION_AT: usize = 21;
/// How many bytes all envelopes have in common.
pub const PREFIX_BYTES: usize = 25;

const EXTRACT_LABEL: &[u8] = b"paymesh envelope 1";

/// How an envelope was made. A key serves one suite or several; their subkeys differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-256-GCM under a key per message: [`crate::envelope`].
    Message,
    /// AES-SIV, equal for equal plaintexts: `svc-crypto/src/domain/deterministic.rs`.
    Deterministic,
    /// AES-256-GCM in chunks: `svc-crypto/src/domain/large.rs`.
    Large,
    /// AES-256-GCM under a data key, by a client: [`crate::local`].
    Local,
}

impl Suite {
    /// Every suite there is.
    pub const ALL: [Self; 4] = [Self::Message, Self::Deterministic, Self::Large, Self::Local];

    /// The byte that stands for it. Never reused.
    pub fn code(self) -> u8 {
        match self {
            Self::Message => 1,
            Self::Deterministic => 2,
            Self::Large => 3,
            Self::Local => 4,
        }
    }
}

/// The beginning of an envelope. Nothing in it is authenticated yet when it has been read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// How it was made.
    pub suite: Suite,
    /// Which key sealed it.
    pub key: KeyRef,
}

impl Prefix {
    /// Reads the beginning of what may be an envelope; `None` if it is none.
    pub fn read(envelope: &[u8]) -> Option<Self> {
        let prefix: &[u8; PREFIX_BYTES] = envelope.first_chunk()?;
        if !prefix.starts_with(MAGIC) {
            return None;
        }
        let suite = Suite::ALL.into_iter().find(|suite| suite.code() == prefix[SUITE_AT])?;
        let id = Uuid::from_slice(&prefix[KEY_ID_AT..VERSION_AT]).ok()?;
        let version = u32::from_be_bytes(*prefix[VERSION_AT..].first_chunk()?);
        Some(Self { suite, key: KeyRef { id, version } })
    }

    /// As it is written.
    pub fn bytes(self) -> [u8; PREFIX_BYTES] {
        let mut bytes = [0; PREFIX_BYTES];
        bytes[..SUITE_AT].copy_from_slice(MAGIC);
        bytes[SUITE_AT] = self.suite.code();
        bytes[KEY_ID_AT..VERSION_AT].copy_from_slice(self.key.id.as_bytes());
        bytes[VERSION_AT..].copy_from_slice(&self.key.version.to_be_bytes());
        bytes
    }

    /// What all keys of this suite, key id and version are expanded from: HKDF-Extract with the salt
    /// "paymesh envelope 1" ‖ suite ‖ key id ‖ version.
    pub fn extract(self, key: &KeyBytes) -> Prk {
        Prk::extract(&[EXTRACT_LABEL, &self.bytes()[SUITE_AT..]], key.expose())
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_reads_back(suite in 0..Suite::ALL.len(), id: u128, version: u32, rest in vec(any::<u8>(), 0..9)) {
            let key = KeyRef { id: Uuid::from_u128(id), version };
            let prefix = Prefix { suite: Suite::ALL[suite], key };
            let envelope = [&prefix.bytes()[..], &rest].concat();
            prop_assert_eq!(Prefix::read(&envelope), Some(prefix));
            prop_assert_eq!(Prefix::read(&envelope[..PREFIX_BYTES - 1]), None);
        }

        #[test]
        fn reading_never_panics(bytes in vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(Prefix::read(&bytes), None);
        }
    }

    #[test]
    fn an_unknown_suite_is_none() {
        let key = KeyRef { id: Uuid::from_u128(1), version: 1 };
        for unknown in [0, 5, 0xff] {
            let mut bytes = Prefix { suite: Suite::Message, key }.bytes();
            bytes[SUITE_AT] = unknown;
            assert_eq!(Prefix::read(&bytes), None);
        }
    }
}
