//! Roots of trust, and what they wrap.

use mesh::StoreError;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use uuid::Uuid;

use crate::{
    domain::{
        envelope::KeyRef,
        keys::{Purpose, Slot, WrappedKey},
        rooted::{self, RootName},
    },
    store::{RootRecord, RootedError, RootedKey},
};

/// Another root beside the one that there was.
pub(super) const SCHEMA: &str = "ALTER TABLE root ADD COLUMN other BLOB";

/// Keys that are looked through at once.
const READ_AT_ONCE: usize = 1_024;

pub(super) fn select(connection: &Connection) -> Result<Option<RootRecord>, StoreError> {
    let mut select = connection.prepare_cached("SELECT id, other FROM root")?;
    let record = |row: &Row<'_>| {
        let other: Option<[u8; 16]> = row.get(1)?;
        Ok(RootRecord { id: Uuid::from_bytes(row.get(0)?), other: other.map(Uuid::from_bytes) })
    };
    Ok(select.query_row([], record).optional()?)
}

pub(super) fn adopt(
    connection: &Connection,
    id: Uuid,
    before: Option<Uuid>,
) -> Result<RootRecord, StoreError> {
    let known = select(connection)?;
    let record = RootRecord::adopt(known, id, before);
    if known != Some(record) {
        keep(connection, record)?;
    }
    Ok(record)
}

pub(super) fn settle(connection: &Connection, root: &RootName) -> Result<Option<RootRecord>, StoreError> {
    let Some(known) = select(connection)? else { return Ok(None) };
    let record = known.settle(root.id());
    if known != record {
        let begin = rooted::begin(root);
        let mut after = None;
        loop {
            let page = keys(connection, after.as_ref(), READ_AT_ONCE)?;
            if page.iter().any(|rooted| !rooted.key.wrapped.starts_with(&begin)) {
                return Ok(Some(known));
            }
            after = page.into_iter().last();
            if after.is_none() {
                break;
            }
        }
        keep(connection, record)?;
    }
    Ok(Some(record))
}

fn keep(connection: &Connection, record: RootRecord) -> Result<(), StoreError> {
    let mut keep = connection.prepare_cached(
        "INSERT INTO root (only, id, other) VALUES (1, ?1, ?2)
         ON CONFLICT (only) DO UPDATE SET id = excluded.id, other = excluded.other",
    )?;
    keep.execute(params![record.id.as_bytes(), record.other.as_ref().map(Uuid::as_bytes)])?;
    Ok(())
}

pub(super) fn keys(
    connection: &Connection,
    after: Option<&RootedKey>,
    limit: usize,
) -> Result<Vec<RootedKey>, StoreError> {
    let [kek, chain] = Purpose::UNDER_ROOT.map(Purpose::code);
    let (owner, purpose, version) = after.map_or(("", 0, 0), |after| {
        (after.slot.owner(), after.slot.purpose.code(), after.key.reference.version)
    });
    let mut select = connection.prepare_cached(
        "SELECT tenant, purpose, version, id, wrapped FROM key
         WHERE (tenant, purpose, name, version) > (?1, ?2, '', ?3) AND purpose IN (?4, ?5) AND name = ''
         ORDER BY tenant, purpose, name, version LIMIT ?6",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = select.query_map(params![owner, purpose, version, kek, chain, limit], |row| {
        let reference = KeyRef { version: row.get(2)?, id: Uuid::from_bytes(row.get(3)?) };
        let key = WrappedKey { reference, wrapped: row.get(4)? };
        Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, key))
    })?;
    rows.map(|row| {
        let (owner, purpose, key) = row?;
        let corrupt = || StoreError::Corrupt("a key's owner or purpose is none".to_owned());
        let purpose = Purpose::from_code(purpose).ok_or_else(corrupt)?;
        let slot = match &*owner {
            "" => Slot::of_service(purpose),
            tenant => Slot::own(tenant.parse().map_err(|_| corrupt())?, purpose),
        };
        Ok(RootedKey { slot, key })
    })
    .collect()
}

pub(super) fn rewrap(connection: &Connection, from: &RootedKey, wrapped: &[u8]) -> Result<bool, RootedError> {
    let RootedKey { slot, key } = from;
    RootRecord::check(select(connection)?, slot, wrapped)?;
    let failed = StoreError::from;
    // What the root before wrapped is overwritten, and not only let go of: that root may be known to others.
    connection.pragma_update(None, "secure_delete", true).map_err(failed)?;
    let mut update = connection
        .prepare_cached(
            "UPDATE key SET wrapped = ?1
         WHERE tenant = ?2 AND purpose = ?3 AND name = '' AND version = ?4 AND id = ?5 AND wrapped = ?6",
        )
        .map_err(failed)?;
    let changed = update
        .execute(params![
            wrapped,
            slot.owner(),
            slot.purpose.code(),
            key.reference.version,
            key.reference.id.as_bytes(),
            key.wrapped,
        ])
        .map_err(failed)?;
    Ok(changed == 1)
}
