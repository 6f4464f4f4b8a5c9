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
    },
    store::{RootRecord, RootedKey},
};

fn record(row: &Row) -> RootRecord {
    RootRecord { id: row.get(0), other: row.get(1) }
}

pub(super) async fn select(client: &impl GenericClient) -> Result<Option<RootRecord>, StoreError> {
    Ok(row(client, "SELECT id, other FROM root", &[]).await?.as_ref().map(record))
}

pub(super) async fn adopt(client: &mut Object, id: Uuid) -> Result<RootRecord, StoreError> {
    execute(client, "INSERT INTO root (id) VALUES ($1) ON CONFLICT DO NOTHING", &[&id]).await?;
    let adopted = change(client, |known| RootRecord::adopt(Some(known), id)).await?;
    adopted.ok_or_else(|| StoreError::Corrupt("the root's id was taken away".to_owned()))
}

pub(super) async fn settle(client: &mut Object, id: Uuid) -> Result<Option<RootRecord>, StoreError> {
    change(client, |known| known.settle(id)).await
}

/// Changes the record under a lock, and gives it as it is then; `None` where there is none.
async fn change(
    client: &mut Object,
    change: impl FnOnce(RootRecord) -> RootRecord,
) -> Result<Option<RootRecord>, StoreError> {
    let transaction = client.transaction().await.map_err(failed)?;
    let Some(found) = row(&transaction, "SELECT id, other FROM root FOR UPDATE", &[]).await? else {
        return Ok(None);
    };
    let known = record(&found);
    let next = change(known);
    if next != known {
        execute(&transaction, "UPDATE root SET id = $1, other = $2", &[&next.id, &next.other]).await?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(Some(next))
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
    client: &impl GenericClient,
    from: &RootedKey,
    wrapped: &[u8],
) -> Result<bool, StoreError> {
    let statement = "UPDATE key SET wrapped = $1
        WHERE tenant = $2 AND purpose = $3 AND name = '' AND version = $4 AND id = $5 AND wrapped = $6";
    let RootedKey { slot, key: WrappedKey { reference, wrapped: before } } = from;
    let (purpose, version) = (i16::from(slot.purpose.code()), i64::from(reference.version));
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
        [&wrapped, &slot.owner(), &purpose, &version, &reference.id, before];
    Ok(execute(client, statement, &values).await? == 1)
}

#[cfg(test)]
mod tests {
    use super::Purpose;

    #[test]
    fn the_statement_names_what_a_root_wraps() {
        assert_eq!(Purpose::UNDER_ROOT.map(Purpose::code), [1, 12]);
    }
}
