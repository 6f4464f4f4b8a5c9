//! Named keys in SQLite. Their versions stand in the table of all keys.

use std::time::Duration;

use mesh::StoreError;
use money::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::{
    domain::{
        algorithm::Algorithm,
        key::{Key, State, Version},
        keys::{KeyName, Purpose},
    },
    store::{
        Change, Kept,
        rows::{state_code, state_of},
    },
};

/// Keys that were made on their first use, before they had a life of their own, become named keys.
pub(super) const SCHEMA: &str = "
    ALTER TABLE key ADD COLUMN imported INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE key ADD COLUMN public_key BLOB NOT NULL DEFAULT x'';
    CREATE TABLE named_key (
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        id BLOB NOT NULL,
        purpose INTEGER NOT NULL,
        state INTEGER NOT NULL,
        state_at INTEGER NOT NULL,
        min_decrypt_version INTEGER NOT NULL,
        rotation_period_s INTEGER NOT NULL,
        created_at INTEGER NOT NULL,
        due_at INTEGER,
        revision INTEGER NOT NULL,
        change INTEGER NOT NULL,
        PRIMARY KEY (tenant, name)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO named_key
        SELECT tenant, name, id, purpose, 1, 0, 1, 0, min(created_at), NULL, 1, row_number() OVER ()
        FROM key WHERE name <> '' GROUP BY tenant, name;
    CREATE UNIQUE INDEX named_key_change ON named_key (change);
    CREATE INDEX named_key_due ON named_key (due_at) WHERE due_at IS NOT NULL";

const COLUMNS: &str = "tenant, name, id, purpose, state, state_at, min_decrypt_version, rotation_period_s,
    created_at, revision";

/// A row without its versions. `None` inside: it holds what this version does not know.
fn row(row: &Row<'_>) -> Result<Option<Key>, rusqlite::Error> {
    let (tenant, name): (String, String) = (row.get(0)?, row.get(1)?);
    let algorithm = Purpose::from_code(row.get(3)?).and_then(Algorithm::of_purpose);
    let (Ok(tenant), Ok(name), Some(algorithm), Some(state)) =
        (tenant.parse(), KeyName::parse(&name), algorithm, state_of(row.get(4)?, row.get(5)?))
    else {
        return Ok(None);
    };
    let period: u64 = row.get(7)?;
    Ok(Some(Key {
        tenant,
        name,
        id: Uuid::from_bytes(row.get(2)?),
        algorithm,
        state,
        min_decrypt_version: row.get(6)?,
        rotation_period: (period > 0).then(|| Duration::from_secs(period)),
        created_at: Timestamp::from_nanos(row.get(8)?),
        versions: Vec::new(),
        revision: row.get(9)?,
    }))
}

fn whole(connection: &Connection, key: Option<Key>) -> Result<Key, StoreError> {
    let unknown = || StoreError::Corrupt("a key on record is none that this version knows".to_owned());
    let mut key = key.ok_or_else(unknown)?;
    let mut select = connection.prepare_cached(
        "SELECT version, created_at, imported, wrapped, public_key FROM key
         WHERE tenant = ?1 AND purpose = ?2 AND name = ?3 ORDER BY version",
    )?;
    let of = params![key.tenant.as_str(), key.algorithm.purpose().code(), key.name.as_str()];
    let versions = select.query_map(of, |row| {
        Ok(Version {
            version: row.get(0)?,
            created_at: Timestamp::from_nanos(row.get(1)?),
            imported: row.get(2)?,
            wrapped: row.get(3)?,
            public_key: row.get(4)?,
        })
    })?;
    key.versions = versions.collect::<Result<_, _>>()?;
    if key.versions.is_empty() { Err(unknown()) } else { Ok(key) }
}

pub(super) fn select(
    connection: &Connection,
    tenant: &TenantId,
    name: &KeyName,
) -> Result<Option<Key>, StoreError> {
    let mut select = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM named_key WHERE tenant = ?1 AND name = ?2"))?;
    let found = select.query_row(params![tenant.as_str(), name.as_str()], row).optional()?;
    found.map(|key| whole(connection, key)).transpose()
}

pub(super) fn revision(
    connection: &Connection,
    tenant: &TenantId,
    name: &KeyName,
) -> Result<Option<u64>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT revision FROM named_key WHERE tenant = ?1 AND name = ?2")?;
    Ok(select.query_row(params![tenant.as_str(), name.as_str()], |row| row.get(0)).optional()?)
}

fn all(
    connection: &Connection,
    condition: &str,
    values: &[&dyn rusqlite::ToSql],
) -> Result<Vec<Key>, StoreError> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM named_key WHERE {condition}"))?;
    let rows = select.query_map(values, row)?.collect::<Result<Vec<_>, _>>()?;
    rows.into_iter().map(|key| whole(connection, key)).collect()
}

pub(super) fn list(
    connection: &Connection,
    tenant: &TenantId,
    after: Option<&KeyName>,
    limit: usize,
) -> Result<Vec<Key>, StoreError> {
    let after = after.map_or("", KeyName::as_str);
    let condition = "tenant = ?1 AND name > ?2 ORDER BY name LIMIT ?3";
    all(connection, condition, &[&tenant.as_str(), &after, &limit])
}

pub(super) fn due(connection: &Connection, now: Timestamp, limit: usize) -> Result<Vec<Key>, StoreError> {
    all(connection, "due_at <= ?1 ORDER BY due_at LIMIT ?2", &[&now.as_nanos(), &limit])
}

pub(super) fn keep(connection: &Connection, key: &Key) -> Result<Kept, StoreError> {
    if revision(connection, &key.tenant, &key.name)?.unwrap_or(0) + 1 != key.revision {
        return Ok(Kept::Overtaken);
    }
    let mut put = connection.prepare_cached(
        "INSERT OR REPLACE INTO named_key
             (tenant, name, id, purpose, state, state_at, min_decrypt_version, rotation_period_s, created_at,
              due_at, revision, change)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, (SELECT coalesce(max(change), 0) + 1 FROM named_key))",
    )?;
    let (state, state_at) = state_code(key.state);
    put.execute(params![
        key.tenant.as_str(),
        key.name.as_str(),
        key.id.as_bytes(),
        key.algorithm.purpose().code(),
        state,
        state_at,
        key.min_decrypt_version,
        key.rotation_period.map_or(0, |period| period.as_secs()),
        key.created_at.as_nanos(),
        key.due_at().map(Timestamp::as_nanos),
        key.revision,
    ])?;
    keep_versions(connection, key)?;
    Ok(Kept::Done)
}

/// Versions are added, and wiped when their key is destroyed; they never change.
fn keep_versions(connection: &Connection, key: &Key) -> Result<(), StoreError> {
    let (tenant, purpose, name) = (key.tenant.as_str(), key.algorithm.purpose().code(), key.name.as_str());
    if matches!(key.state, State::Destroyed { .. }) {
        // What is freed is overwritten, and not only let go of.
        connection.pragma_update(None, "secure_delete", true)?;
        let mut wipe = connection.prepare_cached(
            "UPDATE key SET wrapped = x'' WHERE tenant = ?1 AND purpose = ?2 AND name = ?3",
        )?;
        wipe.execute(params![tenant, purpose, name])?;
        return Ok(());
    }
    let mut last = connection.prepare_cached(
        "SELECT coalesce(max(version), 0) FROM key WHERE tenant = ?1 AND purpose = ?2 AND name = ?3",
    )?;
    let last: u32 = last.query_row(params![tenant, purpose, name], |row| row.get(0))?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO key (tenant, purpose, name, version, id, wrapped, created_at, imported, public_key)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    for version in key.versions.iter().filter(|version| version.version > last) {
        insert.execute(params![
            tenant,
            purpose,
            name,
            version.version,
            key.id.as_bytes(),
            version.wrapped,
            version.created_at.as_nanos(),
            version.imported,
            version.public_key,
        ])?;
    }
    Ok(())
}

pub(super) fn changes(connection: &Connection, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT change, tenant, name FROM named_key WHERE change > ?1 ORDER BY change LIMIT ?2",
    )?;
    let rows = select.query_map(params![after, limit], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?))
    })?;
    rows.map(|row| {
        let (number, tenant, name) = row?;
        match (tenant.parse(), KeyName::parse(&name)) {
            (Ok(tenant), Ok(name)) => Ok(Change { number, tenant, name }),
            _ => Err(StoreError::Corrupt("a key on record has no name that can be one".to_owned())),
        }
    })
    .collect()
}

pub(super) fn last_change(connection: &Connection) -> Result<u64, StoreError> {
    let mut select = connection.prepare_cached("SELECT coalesce(max(change), 0) FROM named_key")?;
    Ok(select.query_row([], |row| row.get(0))?)
}
