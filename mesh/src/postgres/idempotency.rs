//! Idempotency keys in PostgreSQL: what [`crate::idempotency`] says of them, for any number of replicas.

use deadpool_postgres::GenericClient;
use money::Timestamp;
use tokio_postgres::Row;

use super::failed;
use crate::{
    idempotency::{Fingerprint, KEPT_S, Known, PRUNED_AT_ONCE, Reuse, Scope},
    store::StoreError,
};

/// The table; add it to a service's migrations.
pub const SCHEMA: &str = r#"CREATE TABLE idempotency (
    tenant text COLLATE "C" NOT NULL,
    rpc text COLLATE "C" NOT NULL,
    key text COLLATE "C" NOT NULL,
    fingerprint bytea NOT NULL,
    subject text NOT NULL,
    answer bytea,
    created_at bigint NOT NULL,
    answered_at bigint,
    PRIMARY KEY (tenant, rpc, key)
);
CREATE INDEX idempotency_by_age ON idempotency (answered_at) WHERE answered_at IS NOT NULL"#;

/// Looks a key up without recording anything.
///
/// # Errors
/// [`Reuse::OtherRequest`] for a key that was used with another request.
pub async fn find(
    client: &impl GenericClient,
    scope: &Scope,
    fingerprint: &Fingerprint,
) -> Result<Option<Known>, Reuse> {
    let statement =
        "SELECT fingerprint, subject, answer FROM idempotency WHERE tenant = $1 AND rpc = $2 AND key = $3";
    let statement = client.prepare_cached(statement).await.map_err(failed)?;
    let (tenant, key) = (scope.tenant.as_str(), scope.key.as_str());
    let found = client.query_opt(&statement, &[&tenant, &scope.rpc, &key]).await.map_err(failed)?;
    found.map(|row| known(&row, fingerprint)).transpose()
}

/// What a row says whose columns `fingerprint`, `subject` and `answer` are as in the table.
///
/// # Errors
/// [`Reuse::OtherRequest`] for a key that was used with another request.
pub fn known(row: &Row, fingerprint: &Fingerprint) -> Result<Known, Reuse> {
    if row.get::<_, &[u8]>("fingerprint") != fingerprint {
        return Err(Reuse::OtherRequest);
    }
    Ok(match row.get("answer") {
        Some(answer) => Known::Answered(answer),
        None => Known::Underway { subject: row.get("subject") },
    })
}

/// Deletes records that were answered more than [`KEPT_S`] ago, oldest first and [`PRUNED_AT_ONCE`] at most, and says
/// how many. What is underway is kept. Replicas that do it at once pass over what another one has.
///
/// # Errors
/// [`StoreError::Server`].
pub async fn prune(client: &impl GenericClient, now: Timestamp) -> Result<usize, StoreError> {
    let statement = "DELETE FROM idempotency WHERE (tenant, rpc, key) IN (
            SELECT tenant, rpc, key FROM idempotency WHERE answered_at < $1
            ORDER BY answered_at LIMIT $2 FOR UPDATE SKIP LOCKED)";
    let statement = client.prepare_cached(statement).await.map_err(failed)?;
    let oldest = now.as_nanos().saturating_sub(KEPT_S.saturating_mul(1_000_000_000));
    let gone = client.execute(&statement, &[&oldest, &i64::from(PRUNED_AT_ONCE)]).await.map_err(failed)?;
    Ok(usize::try_from(gone).unwrap_or(usize::MAX))
}
