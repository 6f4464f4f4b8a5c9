//! Answers that are given again, in PostgreSQL. They are written in the transaction that makes them true, so that
//! none is ever found under way.

use deadpool_postgres::GenericClient;
use mesh::{
    StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
};
use money::Timestamp;

use super::{execute, row};

/// What was answered under this key.
pub(super) async fn find(
    client: &impl GenericClient,
    scope: &Scope,
    fingerprint: &Fingerprint,
) -> Result<Option<Vec<u8>>, Reuse> {
    let statement = "SELECT fingerprint, answer FROM idempotency WHERE tenant = $1 AND rpc = $2 AND key = $3";
    let (tenant, key) = (scope.tenant.as_str(), scope.key.as_str());
    let Some(found) = row(client, statement, &[&tenant, &scope.rpc, &key]).await? else { return Ok(None) };
    if found.get::<_, &[u8]>(0) == fingerprint { Ok(Some(found.get(1))) } else { Err(Reuse::OtherRequest) }
}

/// Keeps an answer; false: there is one under this key, which stays.
pub(super) async fn keep(
    client: &impl GenericClient,
    scope: &Scope,
    fingerprint: &Fingerprint,
    answer: &[u8],
    now: Timestamp,
) -> Result<bool, StoreError> {
    let statement = "INSERT INTO idempotency (tenant, rpc, key, fingerprint, answer, answered_at)
        VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
    let (tenant, key, fingerprint) = (scope.tenant.as_str(), scope.key.as_str(), fingerprint.as_slice());
    let at = now.as_nanos();
    let kept = execute(client, statement, &[&tenant, &scope.rpc, &key, &fingerprint, &answer, &at]).await?;
    Ok(kept == 1)
}
