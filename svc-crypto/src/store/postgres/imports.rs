//! Imports under way in PostgreSQL.

use deadpool_postgres::GenericClient;
use mesh::StoreError;
use money::{TenantId, Timestamp};
use uuid::Uuid;

use super::{PostgresStore, execute, row};
use crate::store::{KeptImport, SharedImports};

#[tonic::async_trait]
impl SharedImports for PostgresStore {
    async fn imports_waiting(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.with(async |client| {
            let statement = "SELECT count(*) FROM import WHERE expires_at > $1";
            let found = row(client, statement, &[&now.as_nanos()]).await?;
            let count: i64 = found.map_or(0, |row| row.get(0));
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        })
        .await
    }

    async fn keep_import(&self, import: KeptImport, now: Timestamp) -> Result<(), StoreError> {
        self.with(async |client| {
            prune(client, now).await?;
            let statement = "INSERT INTO import (id, tenant, wrapped, expires_at) VALUES ($1, $2, $3, $4)";
            let KeptImport { id, tenant, wrapped, expires_at } = &import;
            execute(client, statement, &[id, &tenant.as_str(), wrapped, &expires_at.as_nanos()]).await?;
            Ok(())
        })
        .await
    }

    async fn take_import(
        &self,
        tenant: &TenantId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        self.with(async |client| {
            // Who comes second waits for the first one's commit, and finds nothing.
            let statement =
                "DELETE FROM import WHERE id = $1 AND tenant = $2 AND expires_at > $3 RETURNING wrapped";
            let found = row(client, statement, &[&id, &tenant.as_str(), &now.as_nanos()]).await?;
            Ok(found.map(|row| row.get(0)))
        })
        .await
    }
}

/// Deletes those whose time is over.
pub(super) async fn prune(client: &impl GenericClient, now: Timestamp) -> Result<u64, StoreError> {
    execute(client, "DELETE FROM import WHERE expires_at <= $1", &[&now.as_nanos()]).await
}
