//! What a ledger does, in terms of the engine: changes and lookups by id on the book, questions on the index.

use std::collections::HashMap;

use mesh::store::StoreError;
use money::{TenantId, Timestamp};

use super::{Answer, Engine, EngineError};
use crate::{
    domain::{
        Account, AccountId, AccountResult, Book, Known, LimitResult, NewAccount, NewLimit, NewTransfer,
        Transfer, TransferId, TransferResult, TrialBalance, mentioned,
    },
    store::ports::{AccountFilter, BalanceAt, BalanceFilter, Index, Page, TransferFilter},
};

impl<I: Index> Engine<I> {
    /// Opens accounts; a result per item.
    pub async fn open_accounts(
        &self,
        batch: Vec<NewAccount>,
        now: Timestamp,
    ) -> Result<Vec<AccountResult>, EngineError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.write(Vec::new(), batch.len(), now, move |book, now| book.open_accounts(&batch, now)).await
    }

    /// Sets limits of accounts; a result per item.
    pub async fn set_limits(
        &self,
        batch: Vec<NewLimit>,
        now: Timestamp,
    ) -> Result<Vec<LimitResult>, EngineError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        self.write(Vec::new(), batch.len(), now, move |book, now| book.set_limits(&batch, now)).await
    }

    /// Releases what has lapsed, then makes transfers; a result per item.
    pub async fn transfer(
        &self,
        batch: Vec<NewTransfer>,
        now: Timestamp,
    ) -> Result<Vec<TransferResult>, EngineError> {
        self.submit(batch, now)?.await
    }

    /// The same, in the queue when this returns: batches are executed in the order in which they came there.
    pub fn submit(
        &self,
        batch: Vec<NewTransfer>,
        now: Timestamp,
    ) -> Result<Answer<Vec<TransferResult>>, EngineError> {
        let ids = mentioned(&batch);
        self.submit_transfers(ids, batch.len(), now, move |book, now| book.transfer(&batch, now))
    }

    /// Releases reservations that have lapsed, as many as one sweep does. Returns how many.
    pub async fn expire(&self, now: Timestamp) -> Result<usize, EngineError> {
        // Most sweeps find nothing, and nothing is all that they cost.
        if !self.read(Vec::new(), move |book| book.is_any_due(now)).await? {
            return Ok(0);
        }
        self.write(Vec::new(), 0, now, Book::release_lapsed).await
    }

    /// Lets nothing that is still to happen have this time or an earlier one; `false` of a time that has not
    /// come. A question that follows sees all that has.
    pub async fn close_until(&self, time: Timestamp, now: Timestamp) -> Result<bool, EngineError> {
        let closing = self.write(Vec::new(), 0, now, move |book, now| book.close_until(time, now));
        closing.await.map_err(EngineError::of_a_read)
    }

    /// Those of the accounts that exist and are the tenant's, in the order asked.
    pub async fn accounts(&self, tenant: TenantId, ids: Vec<AccountId>) -> Result<Vec<Account>, EngineError> {
        self.read(Vec::new(), move |book| book.accounts(&tenant, &ids)).await
    }

    /// Those of the transfers that exist and are the tenant's, in the order asked.
    pub async fn transfers(
        &self,
        tenant: TenantId,
        ids: Vec<TransferId>,
    ) -> Result<Vec<Transfer>, EngineError> {
        let asked = ids.clone();
        let held = self.read(Vec::new(), move |book| book.transfers(&asked)).await?;
        // What the book does not hold, the index does, if it was ever made. The executor is not kept waiting.
        let elsewhere = ids.iter().zip(&held).filter(|(_, known)| known.is_none()).map(|(id, _)| *id);
        let found = self.indexed(elsewhere.collect()).await?;
        let known = ids.iter().zip(held).filter_map(|(id, known)| known.or_else(|| found.get(id).cloned()));
        let made = known.filter_map(|known| match known {
            Known::Made(transfer) | Known::Reserved(transfer, _) => Some(transfer),
            Known::Failed(_) => None,
        });
        let mine = made.filter(|transfer| transfer.tenant == tenant);
        Ok(mine.map(|transfer| Transfer::clone(&transfer)).collect())
    }

    async fn indexed(&self, ids: Vec<TransferId>) -> Result<HashMap<TransferId, Known>, EngineError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let known = self.0.index.known(ids).await.map_err(|error| self.index_failed(error))?;
        Ok(known.into_iter().collect())
    }

    /// Transfers that pass a filter, of all that were durable when it was asked.
    pub async fn find_transfers(&self, filter: TransferFilter) -> Result<Page<Transfer>, EngineError> {
        self.index().await?.transfers(filter).await.map_err(|error| self.index_failed(error))
    }

    /// Balances after each movement of an account that keeps its history.
    pub async fn find_balances(&self, filter: BalanceFilter) -> Result<Page<BalanceAt>, EngineError> {
        self.index().await?.balances(filter).await.map_err(|error| self.index_failed(error))
    }

    /// Accounts that pass a filter, with their balances now.
    pub async fn find_accounts(&self, filter: AccountFilter) -> Result<Page<Account>, EngineError> {
        let tenant = filter.tenant.clone();
        let found = self.index().await?.accounts(filter).await;
        let Page { items, resume } = found.map_err(|error| self.index_failed(error))?;
        let found = items.len();
        let items = self.accounts(tenant, items).await?;
        if items.len() != found {
            let what = "the index holds an account that the ledger does not".to_owned();
            return Err(self.index_failed(StoreError::Corrupt(what)));
        }
        Ok(Page { items, resume })
    }

    /// Sums over a tenant's accounts.
    pub async fn trial_balance(&self, tenant: TenantId) -> Result<TrialBalance, EngineError> {
        self.read(Vec::new(), move |book| book.trial_balance(&tenant)).await
    }
}
