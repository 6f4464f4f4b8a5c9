//! Imports under way that any replica may end.

use mesh::StoreError;
use money::{TenantId, Timestamp};
use uuid::Uuid;

/// An import that waits for its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptImport {
    /// What it is ended with.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: TenantId,
    /// The private half of its key pair, wrapped under the tenant's key.
    pub wrapped: Vec<u8>,
    /// Until when it waits.
    pub expires_at: Timestamp,
}

/// Where replicas share their imports. Only a store that they share has it: for one alone, memory does.
#[tonic::async_trait]
pub trait SharedImports: Send + Sync {
    /// How many wait at this time.
    async fn imports_waiting(&self, now: Timestamp) -> Result<usize, StoreError>;

    /// Keeps one, and lets go of those whose time is over.
    async fn keep_import(&self, import: KeptImport, now: Timestamp) -> Result<(), StoreError>;

    /// Takes one out, if it waits at this time: of all who ask at once, and ever, one is given it.
    async fn take_import(
        &self,
        tenant: &TenantId,
        id: Uuid,
        now: Timestamp,
    ) -> Result<Option<Vec<u8>>, StoreError>;
}
