//! Where the ledger is kept: the trait that every store implements, with one contract suite for all.
//!
//! A store brings the state machine of [`crate::domain`] what a batch touches and keeps what it
//! changed, in one atomic and durable step. It decides nothing by itself.

#[cfg(test)]
mod contract;
pub mod embedded;
#[cfg(test)]
pub(crate) mod index_contract;
pub mod ports;
pub mod postgres;
pub mod recovery;
pub mod sqlite_index;

use std::future::Future;

use mesh::store::StoreError;
use money::{TenantId, Timestamp};

use crate::domain::{
    Account, AccountId, AccountResult, AuditReport, Code, LedgerCode, LimitResult, NewAccount, NewLimit,
    NewTransfer, Transfer, TransferId, TransferResult, TrialBalance,
};

pub use embedded::EmbeddedStore;

/// The most reservations that one batch or one sweep releases: bounds how long it holds the writer.
pub const EXPIRE_MAX: usize = 8_190;

/// Which accounts to list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountQuery {
    /// The owner.
    pub tenant: TenantId,
    /// Only of this ledger.
    pub ledger: Option<LedgerCode>,
    /// Only of this code.
    pub code: Option<Code>,
    /// Only accounts opened before this.
    pub before: Option<Timestamp>,
    /// At most so many.
    pub limit: usize,
}

/// The ledger's state, durable. Every answer to a write is given after it is on disk.
pub trait Store: Clone + Send + Sync + 'static {
    /// Opens accounts; a result per item.
    fn open_accounts(
        &self,
        batch: Vec<NewAccount>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<AccountResult>, StoreError>> + Send;

    /// Sets limits of accounts; a result per item.
    fn set_limits(
        &self,
        batch: Vec<NewLimit>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<LimitResult>, StoreError>> + Send;

    /// Releases up to [`EXPIRE_MAX`] reservations that have lapsed, then executes the batch, all in
    /// one commit; a result per item.
    fn transfer(
        &self,
        batch: Vec<NewTransfer>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<TransferResult>, StoreError>> + Send;

    /// Releases up to [`EXPIRE_MAX`] reservations that have lapsed, those first that lapsed first.
    /// Returns how many; as many as the bound means that there may be more.
    fn expire(&self, now: Timestamp) -> impl Future<Output = Result<usize, StoreError>> + Send;

    /// Those of the accounts that exist and are the tenant's, in the order asked.
    fn accounts(
        &self,
        tenant: TenantId,
        ids: Vec<AccountId>,
    ) -> impl Future<Output = Result<Vec<Account>, StoreError>> + Send;

    /// Those of the transfers that exist and are the tenant's, in the order asked.
    fn transfers(
        &self,
        tenant: TenantId,
        ids: Vec<TransferId>,
    ) -> impl Future<Output = Result<Vec<Transfer>, StoreError>> + Send;

    /// A tenant's accounts, newest first.
    fn list_accounts(
        &self,
        query: AccountQuery,
    ) -> impl Future<Output = Result<Vec<Account>, StoreError>> + Send;

    /// Sums over a tenant's accounts.
    fn trial_balance(
        &self,
        tenant: TenantId,
    ) -> impl Future<Output = Result<TrialBalance, StoreError>> + Send;

    /// Replays the journal of all tenants on one consistent state. It takes as long as the journal is
    /// long and goes on when its caller no longer waits, so there is one at a time: meanwhile others are
    /// refused with [`BatchError::Full`](mesh::BatchError::Full).
    fn audit(&self) -> impl Future<Output = Result<AuditReport, StoreError>> + Send;
}
