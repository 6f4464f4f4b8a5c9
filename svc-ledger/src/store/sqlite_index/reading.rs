//! A transaction that only reads, begun and ended by statements that are compiled once: the library's own are
//! compiled each time.

use std::ops::Deref;

use mesh::store::StoreError;
use rusqlite::Connection;

/// What is read through it is of one commit: the last one when the first thing was read. It ends when it is
/// dropped.
pub(super) struct Reading<'a>(&'a Connection);

impl<'a> Reading<'a> {
    pub(super) fn begin(connection: &'a Connection) -> Result<Self, StoreError> {
        connection.prepare_cached("BEGIN")?.execute([])?;
        Ok(Self(connection))
    }
}

impl Deref for Reading<'_> {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        self.0
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let ended = self.0.prepare_cached("COMMIT").and_then(|mut end| end.execute([]));
        if let Err(error) = ended {
            tracing::warn!(%error, "a transaction of the index that only read could not be ended");
        }
    }
}
