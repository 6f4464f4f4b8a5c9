//! The journal: what happened to the ledger, in records that follow one another. It is the truth; balances,
//! indexes and snapshots are derived from it.
//!
//! - [`codec`]: events as bytes, and back. Pure.
//! - [`chain`]: records: a header, the events and a keyed hash that is over the one before, too. Pure.
//! - [`files`]: records in segment files, and what is done after a crash.
//! - [`key`]: the key of the hashes.
//! - [`snapshot`]: the state after a record, in files.
//! - [`verify`]: the whole of a journal, from its first record.
//!
//! `docs/ledger-journal.md` says every byte. Nothing here knows what a transfer may do.

pub mod chain;
pub mod codec;
pub mod files;
pub mod key;
#[cfg(test)]
pub(crate) mod samples;
pub mod snapshot;
pub mod verify;

pub use chain::{Chain, Link};
pub use codec::Decoder;
pub use files::{FileJournal, JournalReader};
pub use key::JournalKey;
pub use snapshot::Snapshots;
