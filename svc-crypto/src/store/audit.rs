//! Where the audit log is kept: records in a chain, and what is counted of them.

use std::future::Future;

use mesh::StoreError;
use money::Timestamp;
use uuid::Uuid;

use crate::domain::audit::{Chained, Entry, Link};

/// Keeps the audit log. Every answer speaks of what is durable.
pub trait AuditLog: Clone + Send + Sync + 'static {
    /// Keeps entries, in one transaction: a record for each after the last one that there is, and in
    /// [`AuditLog::usage`] what was done with keys. Gives the new end.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] if the log does not hold `known` any more, and nothing is kept then: it lost its
    /// end, or was written anew. Any other error says that nothing was kept, or that nobody knows.
    fn append(
        &self,
        entries: Vec<Entry>,
        known: Link,
        now: Timestamp,
    ) -> impl Future<Output = Result<Link, StoreError>> + Send;

    /// The last record; refuses as [`AuditLog::append`] does.
    fn end(&self, known: Link) -> impl Future<Output = Result<Link, StoreError>> + Send;

    /// Records after this number, at most `limit`.
    fn records(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Found>, StoreError>> + Send;

    /// The number of the last record that was kept before this time; 0 if there is none.
    fn last_before(&self, time: Timestamp) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// What is counted of a key's versions, by version. Those never used are left out.
    fn usage(&self, key: Uuid) -> impl Future<Output = Result<Vec<Usage>, StoreError>> + Send;
}

/// A record as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The number that it is kept under.
    pub sequence: u64,
    /// The record; `None` if what is kept is none that this program could have written.
    pub chained: Option<Chained>,
}

/// How much a version of a key was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// The key's id.
    pub key: Uuid,
    /// The version.
    pub version: u32,
    /// Messages that were made or undone with it.
    pub messages: u64,
    /// Their bytes.
    pub bytes: u64,
}
