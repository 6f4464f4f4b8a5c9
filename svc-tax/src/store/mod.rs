//! Where calculations are kept.
//!
//! Every implementation passes the one suite in `contract.rs`.

mod embedded;

#[cfg(test)]
mod contract;

use std::future::Future;

use mesh::{
    StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
};
use money::{CalculationId, TenantId};

use crate::domain::Calculation;

pub use embedded::EmbeddedStore;

/// The key that a caller gave, and what it was given with.
#[derive(Debug, Clone)]
pub struct Key {
    /// What the key is unique within.
    pub scope: Scope,
    /// A digest of the request.
    pub fingerprint: Fingerprint,
}

/// What became of a calculation that was to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is kept.
    New(Calculation),
    /// The key was used before with the same request: this came of it, and nothing was kept now.
    Replayed(Calculation),
}

/// Keeps calculations. Cheap to clone.
pub trait Store: Clone + Send + Sync + 'static {
    /// Keeps a calculation for a tenant, and its key with it; answers when both are durable.
    fn keep(
        &self,
        tenant: TenantId,
        calculation: Calculation,
        key: Option<Key>,
    ) -> impl Future<Output = Result<Kept, Reuse>> + Send;

    /// What came of the first request with this key, if there was one.
    fn replay(&self, key: Key) -> impl Future<Output = Result<Option<Calculation>, Reuse>> + Send;

    /// The tenant's calculation of this id, if there is one.
    fn find(
        &self,
        tenant: TenantId,
        id: CalculationId,
    ) -> impl Future<Output = Result<Option<Calculation>, StoreError>> + Send;
}
