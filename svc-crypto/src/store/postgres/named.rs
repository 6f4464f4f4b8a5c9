//! Named keys in PostgreSQL. Their versions stand in the table of all keys.

use std::time::Duration;

use deadpool_postgres::GenericClient;
use mesh::{
    StoreError,
    postgres::{as_bigint, from_bigint},
};
use money::{TenantId, Timestamp};
use tokio_postgres::Row;

use super::{Values, limit_of, own::version_of, row, rows};
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

/// What a first revision writes.
const FIRST: &str = "INSERT INTO named_key (tenant, name, revision, change, state, state_at, min_decrypt_version,
            rotation_period_s, due_at, id, purpose, created_at)
        SELECT $1::text, $2::text, $3::bigint, counted.number, $4::smallint, $5::bigint, $6::bigint, $7::bigint,
            $8::bigint, $9::uuid, $10::smallint, $17::bigint
        FROM counted ON CONFLICT DO NOTHING";

/// What a later one writes. Waits for whoever changes the same row, and then sees their revision.
const NEXT: &str =
    "UPDATE named_key SET revision = $3::bigint, change = counted.number, state = $4::smallint,
            state_at = $5::bigint, min_decrypt_version = $6::bigint, rotation_period_s = $7::bigint,
            due_at = $8::bigint
        FROM counted
        WHERE tenant = $1::text AND name = $2::text AND revision = $3::bigint - 1";

/// One statement, and no transaction around it: `last_change` is held for as long as the server takes, and not for
/// as long as a replica does that stands still, or the way there.
async fn change(client: &impl GenericClient, which: &str, values: &Values<'_>) -> Result<bool, StoreError> {
    let statement = format!(
        "WITH counted AS (
            UPDATE last_change SET number = number + 1 RETURNING number
        ), kept AS (
            {which} RETURNING 1
        ), made AS (
            INSERT INTO key (tenant, purpose, name, version, id, wrapped, created_at, imported, public_key)
            SELECT $1::text, $10::smallint, $2::text, new.version, $9::uuid, new.wrapped, new.created_at,
                new.imported, new.public_key
            FROM unnest($11::bigint[], $12::bytea[], $13::bigint[], $14::boolean[], $15::bytea[])
                AS new (version, wrapped, created_at, imported, public_key)
            WHERE EXISTS (SELECT FROM kept)
        ), wiped AS (
            UPDATE key SET wrapped = ''
            WHERE $16::boolean AND tenant = $1::text AND purpose = $10::smallint AND name = $2::text
                AND EXISTS (SELECT FROM kept)
        )
        SELECT count(*) FROM kept"
    );
    let kept = row(client, &statement, values).await?.ok_or_else(unknown)?;
    Ok(kept.get::<_, i64>(0) > 0)
}

/// Versions are added, and emptied when their key is destroyed; they never change.
pub(super) async fn keep(client: &impl GenericClient, key: &Key) -> Result<Kept, StoreError> {
    let (tenant, name, revision) = (key.tenant.as_str(), key.name.as_str(), as_bigint(key.revision)?);
    let (state, state_at) = state_code(key.state);
    let state = i16::try_from(state).map_err(|_| unknown())?;
    let min = i64::from(key.min_decrypt_version);
    let period = as_bigint(key.rotation_period.map_or(0, |period| period.as_secs()))?;
    let (due, purpose) = (key.due_at().map(Timestamp::as_nanos), i16::from(key.algorithm.purpose().code()));
    let created_at = key.created_at.as_nanos();
    let wipe = matches!(key.state, State::Destroyed { .. });
    let added = if wipe { Vec::new() } else { added(client, key).await? };
    let numbers: Vec<i64> = added.iter().map(|version| version.version.into()).collect();
    let wrapped: Vec<&[u8]> = added.iter().map(|version| version.wrapped.as_slice()).collect();
    let created: Vec<i64> = added.iter().map(|version| version.created_at.as_nanos()).collect();
    let imported: Vec<bool> = added.iter().map(|version| version.imported).collect();
    let public: Vec<&[u8]> = added.iter().map(|version| version.public_key.as_slice()).collect();
    let values: [&(dyn tokio_postgres::types::ToSql + Sync); 17] = [
        &tenant,
        &name,
        &revision,
        &state,
        &state_at,
        &min,
        &period,
        &due,
        &key.id,
        &purpose,
        &numbers,
        &wrapped,
        &created,
        &imported,
        &public,
        &wipe,
        &created_at,
    ];
    let kept = if key.revision == 1 {
        change(client, FIRST, &values).await?
    } else {
        change(client, NEXT, &values[..16]).await?
    };
    Ok(if kept { Kept::Done } else { Kept::Overtaken })
}

/// The versions that are not on record. Whoever else adds some changes the revision, so that these are not kept.
async fn added<'a>(client: &impl GenericClient, key: &'a Key) -> Result<Vec<&'a Version>, StoreError> {
    let last = "SELECT coalesce(max(version), 0) FROM key WHERE tenant = $1 AND purpose = $2 AND name = $3";
    let purpose = i16::from(key.algorithm.purpose().code());
    let last = row(client, last, &[&key.tenant.as_str(), &purpose, &key.name.as_str()]).await?;
    let last: i64 = last.ok_or_else(unknown)?.get(0);
    Ok(key.versions.iter().filter(|version| i64::from(version.version) > last).collect())
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
