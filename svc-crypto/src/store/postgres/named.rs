//! Named keys in PostgreSQL. Their versions stand in the table of all keys.

use std::time::Duration;

use deadpool_postgres::{GenericClient, Object};
use mesh::{
    StoreError,
    postgres::{as_bigint, failed, from_bigint},
};
use money::{TenantId, Timestamp};
use tokio_postgres::Row;

use super::{Values, execute, limit_of, own::version_of, row, rows};
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

fn unknown() -> StoreError {
    StoreError::Corrupt("a key on record is none that this version knows".to_owned())
}

/// A row as a key without its versions; `None`: it holds what this version does not know.
fn key(row: &Row) -> Option<Key> {
    let period = u64::try_from(row.get::<_, i64>(7)).ok()?;
    Some(Key {
        tenant: row.get::<_, &str>(0).parse().ok()?,
        name: KeyName::parse(row.get(1)).ok()?,
        id: row.get(2),
        algorithm: Purpose::from_code(row.get::<_, i16>(3).into()).and_then(Algorithm::of_purpose)?,
        state: state_of(row.get::<_, i16>(4).into(), row.get(5))?,
        min_decrypt_version: u32::try_from(row.get::<_, i64>(6)).ok()?,
        rotation_period: (period > 0).then(|| Duration::from_secs(period)),
        created_at: Timestamp::from_nanos(row.get(8)),
        versions: Vec::new(),
        revision: u64::try_from(row.get::<_, i64>(9)).ok()?,
    })
}

/// A row's version of its key. Without one the key is broken.
fn version(row: &Row) -> Result<Version, StoreError> {
    let number: Option<i64> = row.get(10);
    Ok(Version {
        version: version_of(number.ok_or_else(unknown)?)?,
        created_at: Timestamp::from_nanos(row.get(11)),
        imported: row.get(12),
        wrapped: row.get(13),
        public_key: row.get(14),
    })
}

/// Keys with their versions, in one statement: of one moment.
async fn all(
    client: &impl GenericClient,
    which: &str,
    order: &str,
    values: &Values<'_>,
) -> Result<Vec<Key>, StoreError> {
    let statement = format!(
        "SELECT n.tenant, n.name, n.id, n.purpose, n.state, n.state_at, n.min_decrypt_version, n.rotation_period_s,
             n.created_at, n.revision, v.version, v.created_at, v.imported, v.wrapped, v.public_key
         FROM (SELECT * FROM named_key WHERE {which}) AS n
         LEFT JOIN key AS v ON v.tenant = n.tenant AND v.purpose = n.purpose AND v.name = n.name
         ORDER BY {order}, v.version"
    );
    let mut keys: Vec<Key> = Vec::new();
    for row in rows(client, &statement, values).await? {
        let version = version(&row)?;
        let (tenant, name): (&str, &str) = (row.get(0), row.get(1));
        match keys.last_mut() {
            Some(last) if last.tenant.as_str() == tenant && last.name.as_str() == name => {
                last.versions.push(version);
            }
            _ => {
                let mut key = key(&row).ok_or_else(unknown)?;
                key.versions.push(version);
                keys.push(key);
            }
        }
    }
    Ok(keys)
}

pub(super) async fn select(
    client: &impl GenericClient,
    tenant: &TenantId,
    name: &KeyName,
) -> Result<Option<Key>, StoreError> {
    let found =
        all(client, "tenant = $1 AND name = $2", "n.name", &[&tenant.as_str(), &name.as_str()]).await?;
    Ok(found.into_iter().next())
}

pub(super) async fn revision(
    client: &impl GenericClient,
    tenant: &TenantId,
    name: &KeyName,
) -> Result<Option<u64>, StoreError> {
    let statement = "SELECT revision FROM named_key WHERE tenant = $1 AND name = $2";
    let found = row(client, statement, &[&tenant.as_str(), &name.as_str()]).await?;
    found.map(|row| from_bigint(row.get(0))).transpose()
}

pub(super) async fn list(
    client: &impl GenericClient,
    tenant: &TenantId,
    after: Option<&KeyName>,
    limit: usize,
) -> Result<Vec<Key>, StoreError> {
    let after = after.map_or("", KeyName::as_str);
    let which = "tenant = $1 AND name > $2 ORDER BY name LIMIT $3";
    all(client, which, "n.name", &[&tenant.as_str(), &after, &limit_of(limit)]).await
}

pub(super) async fn due(
    client: &impl GenericClient,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<Key>, StoreError> {
    let which = "due_at <= $1 ORDER BY due_at LIMIT $2";
    all(client, which, "n.due_at, n.tenant, n.name", &[&now.as_nanos(), &limit_of(limit)]).await
}

const FIRST: &str = "INSERT INTO named_key
        (tenant, name, revision, change, state, state_at, min_decrypt_version, rotation_period_s, due_at, id, purpose,
         created_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";

/// Waits for whoever changes the same row, and then sees their revision.
const NEXT: &str = "UPDATE named_key SET revision = $3::bigint, change = $4, state = $5, state_at = $6,
        min_decrypt_version = $7, rotation_period_s = $8, due_at = $9
    WHERE tenant = $1 AND name = $2 AND revision = $3::bigint - 1";

pub(super) async fn keep(client: &mut Object, key: &Key) -> Result<Kept, StoreError> {
    let transaction = client.transaction().await.map_err(failed)?;
    let counted =
        row(&transaction, "UPDATE last_change SET number = number + 1 RETURNING number", &[]).await?;
    let change: i64 = counted.ok_or_else(unknown)?.get(0);
    let (tenant, name, revision) = (key.tenant.as_str(), key.name.as_str(), as_bigint(key.revision)?);
    let (state, state_at) = state_code(key.state);
    let state = i16::try_from(state).map_err(|_| unknown())?;
    let min = i64::from(key.min_decrypt_version);
    let period = as_bigint(key.rotation_period.map_or(0, |period| period.as_secs()))?;
    let (due, purpose) = (key.due_at().map(Timestamp::as_nanos), i16::from(key.algorithm.purpose().code()));
    let created_at = key.created_at.as_nanos();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 12] = [
        &tenant,
        &name,
        &revision,
        &change,
        &state,
        &state_at,
        &min,
        &period,
        &due,
        &key.id,
        &purpose,
        &created_at,
    ];
    let kept = if key.revision == 1 {
        execute(&transaction, FIRST, &values).await?
    } else {
        execute(&transaction, NEXT, &values[..9]).await?
    };
    if kept == 0 {
        transaction.rollback().await.map_err(failed)?;
        return Ok(Kept::Overtaken);
    }
    keep_versions(&transaction, key, purpose).await?;
    transaction.commit().await.map_err(failed)?;
    Ok(Kept::Done)
}

/// Versions are added, and emptied when their key is destroyed; they never change.
async fn keep_versions(client: &impl GenericClient, key: &Key, purpose: i16) -> Result<(), StoreError> {
    let (tenant, name) = (key.tenant.as_str(), key.name.as_str());
    let place: [&(dyn tokio_postgres::types::ToSql + Sync); 3] = [&tenant, &purpose, &name];
    if matches!(key.state, State::Destroyed { .. }) {
        let wipe = "UPDATE key SET wrapped = '' WHERE tenant = $1 AND purpose = $2 AND name = $3";
        execute(client, wipe, &place).await?;
        return Ok(());
    }
    let last = "SELECT coalesce(max(version), 0) FROM key WHERE tenant = $1 AND purpose = $2 AND name = $3";
    let last: i64 = row(client, last, &place).await?.ok_or_else(unknown)?.get(0);
    let insert =
        "INSERT INTO key (tenant, purpose, name, version, id, wrapped, created_at, imported, public_key)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
    for version in key.versions.iter().filter(|version| i64::from(version.version) > last) {
        let (number, at) = (i64::from(version.version), version.created_at.as_nanos());
        let values: [&(dyn tokio_postgres::types::ToSql + Sync); 9] = [
            &tenant,
            &purpose,
            &name,
            &number,
            &key.id,
            &version.wrapped,
            &at,
            &version.imported,
            &version.public_key,
        ];
        execute(client, insert, &values).await?;
    }
    Ok(())
}

pub(super) async fn changes(
    client: &impl GenericClient,
    after: u64,
    limit: usize,
) -> Result<Vec<Change>, StoreError> {
    let statement = "SELECT change, tenant, name FROM named_key WHERE change > $1 ORDER BY change LIMIT $2";
    let found = rows(client, statement, &[&as_bigint(after)?, &limit_of(limit)]).await?;
    let change = |row: &Row| match (row.get::<_, &str>(1).parse(), KeyName::parse(row.get(2))) {
        (Ok(tenant), Ok(name)) => Ok(Change { number: from_bigint(row.get(0))?, tenant, name }),
        _ => Err(StoreError::Corrupt("a key on record has no name that can be one".to_owned())),
    };
    found.iter().map(change).collect()
}

pub(super) async fn last_change(client: &impl GenericClient) -> Result<u64, StoreError> {
    let found = row(client, "SELECT number FROM last_change", &[]).await?;
    from_bigint(found.ok_or_else(unknown)?.get(0))
}

/// The server's process for this session.
pub(super) async fn session(client: &impl GenericClient) -> Result<u64, StoreError> {
    let found = row(client, "SELECT pg_backend_pid()::bigint", &[]).await?;
    from_bigint(found.ok_or_else(unknown)?.get(0))
}
