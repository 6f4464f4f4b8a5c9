//! The audit log in a SQLite file of its own, so that its commits wait for no others.

use std::path::Path;

use mesh::{Embedded, StoreError};
use money::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::{
    domain::audit::{ChainKey, Chained, Entry, Link, Record},
    store::{
        AuditLog, Found, Usage,
        rows::{Columns, check_known, subject_texts, used},
    },
};

/// Applied once each, in order; never changed after a release.
const MIGRATIONS: &[&str] = &["CREATE TABLE record (
        sequence INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        workload TEXT NOT NULL,
        tenant TEXT NOT NULL,
        key_name TEXT NOT NULL,
        token TEXT NOT NULL,
        key_id BLOB NOT NULL,
        key_version INTEGER NOT NULL,
        verb INTEGER NOT NULL,
        outcome TEXT NOT NULL,
        count INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    CREATE TABLE usage (
        id BLOB NOT NULL,
        version INTEGER NOT NULL,
        messages INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (id, version)
    ) STRICT, WITHOUT ROWID"];

/// Keeps the audit log in one file. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedAuditLog {
    engine: Embedded,
    key: ChainKey,
}

impl EmbeddedAuditLog {
    /// Opens or creates the file. The hashes are made with `key`.
    pub fn open(path: &Path, key: ChainKey) -> Result<Self, StoreError> {
        Ok(Self { engine: Embedded::open(path, MIGRATIONS)?, key })
    }

    /// Opens a file that is there, and changes nothing in it.
    pub fn open_read_only(path: &Path, key: ChainKey) -> Result<Self, StoreError> {
        Ok(Self { engine: Embedded::open_read_only(path, MIGRATIONS)?, key })
    }
}

impl AuditLog for EmbeddedAuditLog {
    async fn append(&self, entries: Vec<Entry>, known: Link, now: Timestamp) -> Result<Link, StoreError> {
        let key = self.key.clone();
        self.engine.write(move |connection| append(connection, &key, entries, known, now)).await
    }

    async fn end(&self, known: Link) -> Result<Link, StoreError> {
        self.engine.read(move |connection| Ok(end(connection, known)?.0)).await
    }

    async fn records(&self, after: u64, limit: usize) -> Result<Vec<Found>, StoreError> {
        self.engine.read(move |connection| records(connection, after, limit)).await
    }

    async fn last_before(&self, time: Timestamp) -> Result<u64, StoreError> {
        self.engine.read(move |connection| last_before(connection, time)).await
    }

    async fn usage(&self, key: Uuid) -> Result<Vec<Usage>, StoreError> {
        self.engine.read(move |connection| usage(connection, key)).await
    }
}

/// The last record and its time, if the log holds what is known of it.
fn end(connection: &Connection, known: Link) -> Result<(Link, Timestamp), StoreError> {
    let mut last =
        connection.prepare_cached("SELECT sequence, hash, at FROM record ORDER BY sequence DESC LIMIT 1")?;
    let link = |row: &Row<'_>| {
        Ok((Link { sequence: row.get(0)?, hash: row.get(1)? }, Timestamp::from_nanos(row.get(2)?)))
    };
    let (end, at) = last.query_row([], link).optional()?.unwrap_or((Link::START, Timestamp::EPOCH));
    if known != end && known != Link::START {
        let mut at_known = connection.prepare_cached("SELECT hash FROM record WHERE sequence = ?1")?;
        let hash: Option<Vec<u8>> = at_known.query_row([known.sequence], |row| row.get(0)).optional()?;
        check_known(known, hash.as_deref(), end)?;
    }
    Ok((end, at))
}

fn append(
    connection: &Connection,
    key: &ChainKey,
    entries: Vec<Entry>,
    known: Link,
    now: Timestamp,
) -> Result<Link, StoreError> {
    let (mut end, at) = end(connection, known)?;
    let used = used(&entries);
    let mut insert = connection.prepare_cached(
        "INSERT INTO record (sequence, at, workload, tenant, key_name, token, key_id, key_version, verb, outcome,
             count, bytes, hash)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)",
    )?;
    for Chained { record, hash } in key.extend(end, at, entries, now) {
        let Record { sequence, at, entry: Entry { act, count, bytes } } = record;
        let (key_name, token) = subject_texts(&act.subject);
        insert.execute(params![
            sequence,
            at.as_nanos(),
            act.workload.name(),
            act.tenant.as_ref().map_or("", |tenant| tenant.as_str()),
            key_name,
            token,
            act.key.as_ref().map_or(&[][..], |key| key.id.as_bytes()),
            act.key.map_or(0, |key| key.version),
            act.verb.code(),
            act.outcome.as_str(),
            count,
            bytes,
            hash,
        ])?;
        end = Link { sequence, hash };
    }
    let mut add = connection.prepare_cached(
        "INSERT INTO usage (id, version, messages, bytes) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT (id, version) DO UPDATE
         SET messages = messages + excluded.messages, bytes = bytes + excluded.bytes",
    )?;
    for Usage { key, version, messages, bytes } in used {
        add.execute(params![key.as_bytes(), version, messages, bytes])?;
    }
    Ok(end)
}

fn records(connection: &Connection, after: u64, limit: usize) -> Result<Vec<Found>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT sequence, at, workload, tenant, key_name, token, key_id, key_version, verb, outcome, count, bytes,
             hash
         FROM record WHERE sequence > ?1 ORDER BY sequence LIMIT ?2",
    )?;
    let rows = select.query_map(params![after, limit], |row| {
        let sequence = row.get(0)?;
        // What cannot be had as what it should be was changed; the verification says so.
        let chained = columns(row, sequence).ok().and_then(Columns::chained);
        Ok(Found { sequence, chained })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn columns(row: &Row<'_>, sequence: u64) -> Result<Columns, rusqlite::Error> {
    Ok(Columns {
        sequence,
        at: row.get(1)?,
        workload: row.get(2)?,
        tenant: row.get(3)?,
        key_name: row.get(4)?,
        token: row.get(5)?,
        key_id: row.get(6)?,
        key_version: row.get(7)?,
        verb: row.get(8)?,
        outcome: row.get(9)?,
        count: row.get(10)?,
        bytes: row.get(11)?,
        hash: row.get(12)?,
    })
}

/// Times rise with numbers, so halving finds it.
fn last_before(connection: &Connection, time: Timestamp) -> Result<u64, StoreError> {
    let (last, _) = end(connection, Link::START)?;
    let mut select = connection.prepare_cached("SELECT at FROM record WHERE sequence = ?1")?;
    let (mut before, mut not_before) = (0, last.sequence + 1);
    while not_before - before > 1 {
        let middle = u64::midpoint(before, not_before);
        let at: Option<i64> = select.query_row([middle], |row| row.get(0)).optional()?;
        if at.is_some_and(|at| at < time.as_nanos()) {
            before = middle;
        } else {
            not_before = middle;
        }
    }
    Ok(before)
}

fn usage(connection: &Connection, key: Uuid) -> Result<Vec<Usage>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT version, messages, bytes FROM usage WHERE id = ?1 ORDER BY version")?;
    let rows = select.query_map(params![key.as_bytes()], |row| {
        Ok(Usage { key, version: row.get(0)?, messages: row.get(1)?, bytes: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

#[cfg(test)]
mod tests;
