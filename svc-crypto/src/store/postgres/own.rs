//! The service's own keys in PostgreSQL.

use deadpool_postgres::{GenericClient, Object};
use mesh::{StoreError, postgres::failed};
use money::Timestamp;
use tokio_postgres::Row;

use super::{execute, root, rows};
use crate::{
    domain::{
        envelope::KeyRef,
        keys::{Slot, WrappedKey},
    },
    store::RootedError,
};

/// A version's number as it is read.
pub(super) fn version_of(number: i64) -> Result<u32, StoreError> {
    let wrong = |_| StoreError::Corrupt("a key on record has a version that can be none".to_owned());
    u32::try_from(number).map_err(wrong)
}

pub(super) async fn select(client: &impl GenericClient, slot: &Slot) -> Result<Vec<WrappedKey>, StoreError> {
    let statement = "SELECT version, id, wrapped FROM key
        WHERE tenant = $1 AND purpose = $2 AND name = $3 ORDER BY version";
    let purpose = i16::from(slot.purpose.code());
    let found = rows(client, statement, &[&slot.owner(), &purpose, &slot.name()]).await?;
    let wrapped = |row: &Row| {
        let reference = KeyRef { version: version_of(row.get(0))?, id: row.get(1) };
        Ok(WrappedKey { reference, wrapped: row.get(2) })
    };
    found.iter().map(wrapped).collect()
}

pub(super) async fn make(
    client: &mut Object,
    slot: &Slot,
    first: &WrappedKey,
    now: Timestamp,
) -> Result<Vec<WrappedKey>, RootedError> {
    let transaction = client.transaction().await.map_err(failed)?;
    root::hold(&transaction, slot, &first.wrapped).await?;
    // Of those who come at once one inserts, and the others wait for it and insert nothing.
    let statement =
        "INSERT INTO key (tenant, purpose, name, version, id, wrapped, created_at, imported, public_key)
        VALUES ($1, $2, $3, $4, $5, $6, $7, false, '') ON CONFLICT DO NOTHING";
    let WrappedKey { reference: KeyRef { id, version }, wrapped } = first;
    let (purpose, version, at) = (i16::from(slot.purpose.code()), i64::from(*version), now.as_nanos());
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&slot.owner(), &purpose, &slot.name(), &version, id, wrapped, &at];
    execute(&transaction, statement, &values).await?;
    let versions = select(&transaction, slot).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(versions)
}
