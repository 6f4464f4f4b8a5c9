//! Roots of trust, and what they wrap.
//!
//! What was overwritten stays in the table's dead rows until they are vacuumed, and in the write-ahead log.

use deadpool_postgres::{GenericClient, Object};
use mesh::{StoreError, postgres::failed};
use tokio_postgres::Row;
use uuid::Uuid;

use super::{execute, limit_of, own::version_of, row, rows};
use crate::{
    domain::{
        envelope::KeyRef,
        keys::{Purpose, Slot, WrappedKey},
        rooted::{self, RootName},
    },
    store::{RootRecord, RootedError, RootedKey},
};

fn record(row: &Row) -> RootRecord {
    RootRecord { id: row.get(0), other: row.get(1) }
}

pub(super) async fn select(client: &impl GenericClient) -> Result<Option<RootRecord>, StoreError> {
    Ok(row(client, "SELECT id, other FROM root", &[]).await?.as_ref().map(record))
}

/// Whether `wrapped` may be kept in this place, and stays so until the transaction ends: no root is taken off the
/// record meanwhile.
pub(super) async fn hold(
    transaction: &impl GenericClient,
    slot: &Slot,
    wrapped: &[u8],
) -> Result<(), RootedError> {
    if !Purpose::UNDER_ROOT.contains(&slot.purpose) {
        return Ok(());
    }
    let found = row(transaction, "SELECT id, other FROM root FOR SHARE", &[]).await?;
    RootRecord::check(found.as_ref().map(record), slot, wrapped)
}

pub(super) async fn adopt(
    client: &mut Object,
    id: Uuid,
    before: Option<Uuid>,
) -> Result<RootRecord, StoreError> {
    execute(client, "INSERT INTO root (id) VALUES ($1) ON CONFLICT DO NOTHING", &[&id]).await?;
    let transaction = client.transaction().await.map_err(failed)?;
    let known = lock(&transaction).await?;
    let known = known.ok_or_else(|| StoreError::Corrupt("the root's id was taken away".to_owned()))?;
    let record = RootRecord::adopt(Some(known), id, before);
    change(&transaction, known, record).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(record)
}

pub(super) async fn settle(client: &mut Object, root: &RootName) -> Result<Option<RootRecord>, StoreError> {
    // Of a statement after the lock: it sees what was kept by those who held the record, and nobody keeps more.
    let statement = "SELECT EXISTS (SELECT FROM key
        WHERE purpose IN (1, 12) AND name = '' AND substring(wrapped FROM 1 FOR length($1::bytea)) <> $1::bytea)";
    let transaction = client.transaction().await.map_err(failed)?;
    let Some(known) = lock(&transaction).await? else { return Ok(None) };
    let record = known.settle(root.id());
    if record != known {
        let others = row(&transaction, statement, &[&rooted::begin(root)]).await?;
        if others.is_none_or(|others| others.get(0)) {
            return Ok(Some(known));
        }
        change(&transaction, known, record).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(Some(record))
}

/// The record, which nobody else changes or goes by until the transaction ends.
async fn lock(transaction: &impl GenericClient) -> Result<Option<RootRecord>, StoreError> {
    Ok(row(transaction, "SELECT id, other FROM root FOR UPDATE", &[]).await?.as_ref().map(record))
}

async fn change(
    transaction: &impl GenericClient,
    known: RootRecord,
    next: RootRecord,
) -> Result<(), StoreError> {
    if next != known {
        execute(transaction, "UPDATE root SET id = $1, other = $2", &[&next.id, &next.other]).await?;
    }
    Ok(())
}

pub(super) async fn keys(
    client: &impl GenericClient,
    after: Option<&RootedKey>,
    limit: usize,
) -> Result<Vec<RootedKey>, StoreError> {
    // The purposes are those of the index, which takes no parameters: a test holds them to `Purpose::UNDER_ROOT`.
    let statement = "SELECT tenant, purpose, version, id, wrapped FROM key
        WHERE purpose IN (1, 12) AND name = '' AND (tenant, purpose, version) > ($1, $2, $3)
        ORDER BY tenant, purpose, version LIMIT $4";
    let (owner, purpose, version) = after.map_or(("", 0, 0), |after| {
        (after.slot.owner(), i16::from(after.slot.purpose.code()), i64::from(after.key.reference.version))
    });
    let found = rows(client, statement, &[&owner, &purpose, &version, &limit_of(limit)]).await?;
    let rooted = |row: &Row| {
        let corrupt = || StoreError::Corrupt("a key's owner or purpose is none".to_owned());
        let (owner, purpose): (&str, i16) = (row.get(0), row.get(1));
        let purpose = Purpose::from_code(purpose.into()).ok_or_else(corrupt)?;
        let slot = match owner {
            "" => Slot::of_service(purpose),
            tenant => Slot::own(tenant.parse().map_err(|_| corrupt())?, purpose),
        };
        let reference = KeyRef { version: version_of(row.get(2))?, id: row.get(3) };
        Ok(RootedKey { slot, key: WrappedKey { reference, wrapped: row.get(4) } })
    };
    found.iter().map(rooted).collect()
}

pub(super) async fn rewrap(
    client: &mut Object,
    from: &RootedKey,
    wrapped: &[u8],
) -> Result<bool, RootedError> {
    let statement = "UPDATE key SET wrapped = $1
        WHERE tenant = $2 AND purpose = $3 AND name = '' AND version = $4 AND id = $5 AND wrapped = $6";
    let RootedKey { slot, key: WrappedKey { reference, wrapped: before } } = from;
    let (purpose, version) = (i16::from(slot.purpose.code()), i64::from(reference.version));
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&wrapped, &slot.owner(), &purpose, &version, &reference.id, before];
    let transaction = client.transaction().await.map_err(failed)?;
    hold(&transaction, slot, wrapped).await?;
    let changed = execute(&transaction, statement, &values).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(changed == 1)
}

#[cfg(test)]
mod tests {
    use super::Purpose;

    #[test]
    fn the_statement_names_what_a_root_wraps() {
        assert_eq!(Purpose::UNDER_ROOT.map(Purpose::code), [1, 12]);
    }
}
