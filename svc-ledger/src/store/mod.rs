//! Where the ledger is kept: what every store brings, with one contract suite for all.
//!
//! A store brings a journal, an index and snapshots ([`ports`]), and the engine over them. It decides
//! nothing by itself.

mod audit;
#[cfg(test)]
pub(crate) mod contract;
pub mod embedded;
mod frames;
#[cfg(test)]
pub(crate) mod index_contract;
pub mod ports;
pub mod postgres;
pub mod recovery;
pub mod sqlite_index;

use std::{future::Future, path::PathBuf};

use money::{TenantId, Timestamp};

pub use audit::{Progress, audit};
pub use embedded::EmbeddedStore;
pub use frames::Frames;

use self::{
    ports::{AccountFilter, Archive, BalanceAt, BalanceFilter, Index, JournalError, Page, TransferFilter},
    recovery::RecoveryError,
};
use crate::{
    domain::{
        Account, AccountId, AccountResult, AuditReport, LimitResult, NewAccount, NewLimit, NewTransfer,
        Transfer, TransferId, TransferResult, TrialBalance,
    },
    engine::{Engine, EngineError},
};

/// Why a ledger cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// What is on disk is damaged, of another journal, or of a newer program.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A thread cannot be made.
    #[error("the ledger cannot start: {0}")]
    Io(#[from] std::io::Error),
    /// The directory holds a ledger from before there was a journal.
    #[error("{} was written by a version without a journal and cannot be read; move it away to begin anew", .0.display())]
    Former(PathBuf),
    /// A bug.
    #[error("the ledger's recovery panicked")]
    Panicked,
}

impl From<JournalError> for OpenError {
    fn from(error: JournalError) -> Self {
        Self::Recovery(error.into())
    }
}

/// Who has an engine, or knows who does.
pub trait Led: Clone + Send + Sync + 'static {
    /// What follows the journal.
    type Index: Index;
    /// Reads the journal.
    type Archive: Archive;
    /// In which an engine speaks for the ledger; another engine does in another one.
    type Term: Copy + Send + Sync + 'static;

    /// The engine and its term, or [`EngineError::NotLeader`].
    fn lead(&self) -> Result<(Engine<Self::Index>, Self::Term), EngineError>;

    /// Whether what was read in a term may be said now: nobody else can have written since. It may also where nothing
    /// new is begun any more; [`EngineError::NotLeader`] otherwise.
    fn confirm(&self, term: Self::Term) -> Result<(), EngineError>;

    /// The engine, or [`EngineError::NotLeader`].
    fn engine(&self) -> Result<Engine<Self::Index>, EngineError> {
        self.lead().map(|(engine, _)| engine)
    }

    /// The journal, for reading.
    fn archive(&self) -> Self::Archive;
}

/// A store for all steps of one question. They ask the engine that led when it began, which does not end before the
/// last of them: a question that is under way when its replica is told to stop is answered.
#[derive(Clone)]
pub struct Pinned<L: Led> {
    led: L,
    engine: Engine<L::Index>,
    term: L::Term,
}

impl<L: Led> Pinned<L> {
    /// On the engine that leads now, or [`EngineError::NotLeader`].
    pub fn on(led: &L) -> Result<Self, EngineError> {
        let (engine, term) = led.lead()?;
        Ok(Self { led: led.clone(), engine, term })
    }
}

impl<L: Led> Led for Pinned<L> {
    type Index = L::Index;
    type Archive = L::Archive;
    type Term = L::Term;

    fn lead(&self) -> Result<(Engine<L::Index>, L::Term), EngineError> {
        Ok((self.engine.clone(), self.term))
    }

    fn confirm(&self, term: L::Term) -> Result<(), EngineError> {
        self.led.confirm(term)
    }

    fn archive(&self) -> L::Archive {
        self.led.archive()
    }
}

/// What a ledger does. Every answer to a write is given after it is durable, and so is all that a read shows.
pub trait Store: Clone + Send + Sync + 'static {
    /// Opens accounts; a result per item.
    fn open_accounts(
        &self,
        batch: Vec<NewAccount>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<AccountResult>, EngineError>> + Send;

    /// Releases up to [`EXPIRE_MAX`](crate::domain::EXPIRE_MAX) reservations that have lapsed, then makes
    /// transfers; a result per item.
    fn transfer(
        &self,
        batch: Vec<NewTransfer>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<TransferResult>, EngineError>> + Send;

    /// Sets limits of accounts; a result per item.
    fn set_limits(
        &self,
        batch: Vec<NewLimit>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<LimitResult>, EngineError>> + Send;

    /// Releases up to [`EXPIRE_MAX`](crate::domain::EXPIRE_MAX) reservations that have lapsed, those first that
    /// lapsed first. Returns how many; as many as the bound means that there may be more.
    fn expire(&self, now: Timestamp) -> impl Future<Output = Result<usize, EngineError>> + Send;

    /// Lets nothing that is still to happen have this time or an earlier one, so that an answer about it is final.
    /// `false`, and nothing changes, of a time that is later than `now` and than all that happened.
    fn close_until(
        &self,
        time: Timestamp,
        now: Timestamp,
    ) -> impl Future<Output = Result<bool, EngineError>> + Send;

    /// Those of the accounts that exist and are the tenant's, in the order asked.
    fn accounts(
        &self,
        tenant: TenantId,
        ids: Vec<AccountId>,
    ) -> impl Future<Output = Result<Vec<Account>, EngineError>> + Send;

    /// Those of the transfers that exist and are the tenant's, in the order asked.
    fn transfers(
        &self,
        tenant: TenantId,
        ids: Vec<TransferId>,
    ) -> impl Future<Output = Result<Vec<Transfer>, EngineError>> + Send;

    /// Accounts that pass a filter, with their balances now.
    fn find_accounts(
        &self,
        filter: AccountFilter,
    ) -> impl Future<Output = Result<Page<Account>, EngineError>> + Send;

    /// Transfers that pass a filter.
    fn find_transfers(
        &self,
        filter: TransferFilter,
    ) -> impl Future<Output = Result<Page<Transfer>, EngineError>> + Send;

    /// Balances after each movement of an account that keeps its history.
    fn find_balances(
        &self,
        filter: BalanceFilter,
    ) -> impl Future<Output = Result<Page<BalanceAt>, EngineError>> + Send;

    /// Sums over a tenant's accounts.
    fn trial_balance(
        &self,
        tenant: TenantId,
    ) -> impl Future<Output = Result<TrialBalance, EngineError>> + Send;

    /// Replays the journal of all tenants and compares the outcome with the state that is served.
    fn audit(&self) -> impl Future<Output = Result<AuditReport, EngineError>> + Send;
}

/// Every read: it is answered only where the engine that was asked could speak for the ledger until its answer was
/// there. While that was waited for, another replica may have taken over and written.
async fn read<L: Led, T, F>(led: &L, ask: impl FnOnce(Engine<L::Index>) -> F) -> Result<T, EngineError>
where
    F: Future<Output = Result<T, EngineError>>,
{
    let (engine, term) = led.lead()?;
    let answer = ask(engine.clone()).await;
    // A place that is given up in a clean stop is held until its engine is gone.
    let confirmed = led.confirm(term);
    drop(engine);
    confirmed.and(answer)
}

impl<L: Led> Store for L {
    async fn open_accounts(
        &self,
        batch: Vec<NewAccount>,
        now: Timestamp,
    ) -> Result<Vec<AccountResult>, EngineError> {
        self.engine()?.open_accounts(batch, now).await
    }

    async fn transfer(
        &self,
        batch: Vec<NewTransfer>,
        now: Timestamp,
    ) -> Result<Vec<TransferResult>, EngineError> {
        self.engine()?.transfer(batch, now).await
    }

    async fn set_limits(
        &self,
        batch: Vec<NewLimit>,
        now: Timestamp,
    ) -> Result<Vec<LimitResult>, EngineError> {
        self.engine()?.set_limits(batch, now).await
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, EngineError> {
        self.engine()?.expire(now).await
    }

    async fn close_until(&self, time: Timestamp, now: Timestamp) -> Result<bool, EngineError> {
        read(self, |engine| async move { engine.close_until(time, now).await }).await
    }

    async fn accounts(&self, tenant: TenantId, ids: Vec<AccountId>) -> Result<Vec<Account>, EngineError> {
        read(self, |engine| async move { engine.accounts(tenant, ids).await }).await
    }

    async fn transfers(&self, tenant: TenantId, ids: Vec<TransferId>) -> Result<Vec<Transfer>, EngineError> {
        read(self, |engine| async move { engine.transfers(tenant, ids).await }).await
    }

    async fn find_accounts(&self, filter: AccountFilter) -> Result<Page<Account>, EngineError> {
        read(self, |engine| async move { engine.find_accounts(filter).await }).await
    }

    async fn find_transfers(&self, filter: TransferFilter) -> Result<Page<Transfer>, EngineError> {
        read(self, |engine| async move { engine.find_transfers(filter).await }).await
    }

    async fn find_balances(&self, filter: BalanceFilter) -> Result<Page<BalanceAt>, EngineError> {
        read(self, |engine| async move { engine.find_balances(filter).await }).await
    }

    async fn trial_balance(&self, tenant: TenantId) -> Result<TrialBalance, EngineError> {
        read(self, |engine| async move { engine.trial_balance(tenant).await }).await
    }

    async fn audit(&self) -> Result<AuditReport, EngineError> {
        audit(self, |_| true).await.map(|progress| progress.found)
    }
}
