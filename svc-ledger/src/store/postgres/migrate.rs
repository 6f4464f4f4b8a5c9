//! Brings the schema up to date, once for all replicas.

use mesh::StoreError;
use tokio_postgres::Client;

use super::session::failed;

/// Applied in order, each once and each in a transaction of its own. One that was released never changes.
pub(super) const MIGRATIONS: &[&str] = &[include_str!("schema/001_ledger.sql")];

/// Applies what is missing. Replicas that start together wait for one another; a schema from a newer
/// program is refused.
pub(super) async fn migrate(
    client: &mut Client,
    schema: &str,
    migrations: &[&str],
) -> Result<(), StoreError> {
    let known = migrations.len();
    loop {
        let transaction = client.transaction().await.map_err(failed)?;
        transaction
            .execute("SELECT pg_advisory_xact_lock(hashtextextended('paymesh-ledger ' || $1, 0))", &[&schema])
            .await
            .map_err(failed)?;
        // The name was checked: it needs no quotes.
        let begin = format!(
            "CREATE SCHEMA IF NOT EXISTS {schema};
             CREATE TABLE IF NOT EXISTS {schema}.schema_version (
                 version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
        );
        transaction.batch_execute(&begin).await.map_err(failed)?;
        let row = transaction
            .query_one("SELECT coalesce(max(version), 0) FROM schema_version", &[])
            .await
            .map_err(failed)?;
        let version: i32 = row.get(0);
        let found = usize::try_from(version)
            .map_err(|_| StoreError::Corrupt("the schema's version is negative".to_owned()))?;
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        let Some(migration) = migrations.get(found) else {
            return transaction.commit().await.map_err(failed);
        };
        transaction.batch_execute(migration).await.map_err(failed)?;
        transaction
            .execute("INSERT INTO schema_version (version) VALUES ($1)", &[&(version + 1)])
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        tracing::info!(schema, version = version + 1, "the schema was migrated");
    }
}
