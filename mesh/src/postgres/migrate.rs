//! Brings the schema up to date, once for all replicas.

use tokio_postgres::Client;

use super::{Server, failed};
use crate::store::StoreError;

/// In the schema that search_path names.
const VERSIONS: &str = "CREATE TABLE IF NOT EXISTS schema_version (
    version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())";

/// Applies those of a service's migrations that are missing, in order, each once and each in a transaction of its
/// own. One that was released never changes. Replicas that start together wait for one another.
///
/// # Errors
/// [`StoreError::Newer`] for a schema that a newer program has migrated.
pub async fn migrate(server: &Server, client: &mut Client, migrations: &[&str]) -> Result<(), StoreError> {
    let (schema, known) = (server.schema(), migrations.len());
    let lock = format!("{} {schema}", server.application());
    loop {
        let transaction = client.transaction().await.map_err(failed)?;
        transaction
            .execute("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", &[&lock])
            .await
            .map_err(failed)?;
        // A schema that somebody made for us needs no right to make one.
        let row = transaction
            .query_one("SELECT to_regnamespace(quote_ident($1)) IS NULL", &[&schema])
            .await
            .map_err(failed)?;
        if row.get(0) {
            // The name was checked: in quotes it can be no other than itself.
            transaction.batch_execute(&format!("CREATE SCHEMA \"{schema}\"")).await.map_err(failed)?;
        }
        transaction.batch_execute(VERSIONS).await.map_err(failed)?;
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
