//! The ledger on the mesh's embedded engine.
//!
//! Calls that arrive while a commit is under way are gathered and executed as one job on one working
//! set. A job of one transfer costs several times what one more transfer in a job costs, even without
//! the sync, so that sharing the commit alone would not do.
//!
//! What a commit writes decides how fast the ledger is, so the layout keeps it to appends:
//!
//! - `transfers` is keyed by the timestamp: a new row goes to the end of the tree. It is the
//!   journal, and never updated.
//! - `transfer_ids` maps an id to its timestamp, or to nothing if the id is burned, so that one probe
//!   answers both "exists" and "failed". Its key is the client's, and is the one that may be random.
//!   It is a tree of its own because its rows are small: about 130 fit a page, against 20 whole
//!   transfers, so that a batch of random ids touches a fraction of the pages that a table of
//!   transfers keyed by id would touch. Ids that begin with the time (UUIDv7) make it an append too.
//! - `reservations` holds the state of each pending transfer, keyed by its timestamp. The index
//!   of due times has only those that are open and can lapse.
//! - `expiries` is the journal of lapsed reservations, in the same order of time as the transfers.
//! - `limits` is the journal of limits that were set.
//! - `accounts` is keyed by the time of opening, which is its small internal number and the order
//!   of its list; a balance update touches no index. Each touched account is updated once per job.

mod audit;
mod read;
mod rows;
#[cfg(test)]
mod tests;
mod write;

use std::{path::Path, sync::Arc};

use mesh::{
    batch::{BatchError, BatchLimits, Batcher},
    store::{Embedded, StoreError},
};
use money::{TenantId, Timestamp};
use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use self::write::Batch;
use super::{AccountQuery, Store};
use crate::domain::{
    Account, AccountId, AccountResult, AuditReport, BATCH_MAX, LimitResult, NewAccount, NewLimit,
    NewTransfer, Transfer, TransferId, TransferResult, TrialBalance,
};

const MIGRATIONS: &[&str] = &[include_str!("schema.sql"), include_str!("schema_2.sql")];

/// The most items waiting for the writer, over all calls; more are refused. Sixteen full batches
/// take about a second on a small machine.
const ITEMS_WAITING_MAX: usize = 16 * BATCH_MAX;

type Answer = Result<Vec<TransferResult>, StoreError>;

/// The ledger in one local file. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Embedded,
    transfers: Batcher<Batch, Answer>,
    waiting: Arc<Semaphore>,
    auditing: Arc<Semaphore>,
}

impl EmbeddedStore {
    /// Opens or creates the ledger at `path`.
    ///
    /// # Panics
    /// Outside of a tokio runtime, on which calls are gathered.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let engine = Embedded::open(path, MIGRATIONS)?;
        let transfers = Batcher::on_task(BatchLimits::default(), 1, {
            let engine = engine.clone();
            move |calls| carry_out(engine.clone(), calls)
        });
        let waiting = Arc::new(Semaphore::new(ITEMS_WAITING_MAX));
        Ok(Self { engine, transfers, waiting, auditing: Arc::new(Semaphore::new(1)) })
    }

    fn admit(&self, items: usize) -> Result<OwnedSemaphorePermit, StoreError> {
        let items = u32::try_from(items).map_err(|_| BatchError::Full)?;
        Ok(Arc::clone(&self.waiting).try_acquire_many_owned(items).map_err(|_| BatchError::Full)?)
    }
}

/// Carries out the calls that were gathered, in jobs of at most a full batch each. Once the engine has
/// failed, the calls that are left are answered with that: each further try could take as long as the
/// engine waits for a locked file, and everyone waits meanwhile.
async fn carry_out(engine: Embedded, calls: Vec<Batch>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(calls.len());
    let mut calls = calls.into_iter().peekable();
    while let Some(first) = calls.next() {
        let mut items = first.items.len();
        let mut job = vec![first];
        while let Some(next) = calls.next_if(|next| items + next.items.len() <= BATCH_MAX) {
            items += next.items.len();
            job.push(next);
        }
        answers.extend(carry_out_job(&engine, job).await);
        if let Some(Err(last)) = answers.last()
            && failed_for_all(last).is_some()
        {
            break;
        }
    }
    refuse_rest(answers, calls.len())
}

async fn carry_out_job(engine: &Embedded, job: Vec<Batch>) -> Vec<Answer> {
    let job = Arc::new(job);
    let together = Arc::clone(&job);
    let error = match engine.write(move |connection| write::transfer(connection, &together)).await {
        Ok(results) => return results.into_iter().map(Ok).collect(),
        Err(error) => error,
    };
    if job.len() == 1 || failed_for_all(&error).is_some() {
        return refuse_rest(vec![Err(error)], job.len() - 1);
    }
    // Nothing was done. What one call met with (a row that cannot be read) is not the others' trouble.
    let mut answers = Vec::with_capacity(job.len());
    for index in 0..job.len() {
        let one = Arc::clone(&job);
        let alone = engine.write(move |connection| write::transfer(connection, &one[index..=index])).await;
        let failed = alone.as_ref().is_err_and(|error| failed_for_all(error).is_some());
        answers.push(alone.map(|mut results| results.pop().unwrap_or_default()));
        if failed {
            break;
        }
    }
    let rest = job.len() - answers.len();
    refuse_rest(answers, rest)
}

/// The failure again, if it is one of the engine and not of a call: the transaction could not be begun or
/// committed, or the writer takes nothing more.
fn failed_for_all(error: &StoreError) -> Option<StoreError> {
    match error {
        StoreError::Commit(reason) => Some(StoreError::Commit(reason.clone())),
        StoreError::Queue(reason) => Some(StoreError::Queue(*reason)),
        StoreError::Engine(_)
        | StoreError::Newer { .. }
        | StoreError::Server(_)
        | StoreError::Corrupt(_)
        | StoreError::Io(_) => None,
    }
}

/// Answers `rest` more calls with the failure that the answers end with.
fn refuse_rest(mut answers: Vec<Answer>, rest: usize) -> Vec<Answer> {
    for _ in 0..rest {
        let failure = answers.last().and_then(|last| last.as_ref().err()).and_then(failed_for_all);
        answers.push(Err(failure.unwrap_or(StoreError::Queue(BatchError::Closed))));
    }
    answers
}

impl Store for EmbeddedStore {
    async fn open_accounts(
        &self,
        batch: Vec<NewAccount>,
        now: Timestamp,
    ) -> Result<Vec<AccountResult>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let _admitted = self.admit(batch.len())?;
        self.engine.write(move |connection| write::open_accounts(connection, &batch, now)).await
    }

    async fn set_limits(&self, batch: Vec<NewLimit>, now: Timestamp) -> Result<Vec<LimitResult>, StoreError> {
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let _admitted = self.admit(batch.len())?;
        self.engine.write(move |connection| write::set_limits(connection, &batch, now)).await
    }

    async fn transfer(
        &self,
        items: Vec<NewTransfer>,
        now: Timestamp,
    ) -> Result<Vec<TransferResult>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let admitted = self.admit(items.len())?;
        self.transfers.call(Batch { items, now, _admitted: admitted }).await?
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, StoreError> {
        // Looked up on the reading side first: most sweeps find nothing and need no commit.
        let due = self.engine.read(move |connection| read::is_any_due(connection, now)).await?;
        if !due {
            return Ok(0);
        }
        self.engine.write(move |connection| write::expire_due(connection, now)).await
    }

    async fn accounts(&self, tenant: TenantId, ids: Vec<AccountId>) -> Result<Vec<Account>, StoreError> {
        self.engine.read(move |connection| read::accounts(connection, &tenant, &ids)).await
    }

    async fn transfers(&self, tenant: TenantId, ids: Vec<TransferId>) -> Result<Vec<Transfer>, StoreError> {
        self.engine.read(move |connection| read::transfers(connection, &tenant, &ids)).await
    }

    async fn list_accounts(&self, query: AccountQuery) -> Result<Vec<Account>, StoreError> {
        self.engine.read(move |connection| read::list_accounts(connection, &query)).await
    }

    async fn trial_balance(&self, tenant: TenantId) -> Result<TrialBalance, StoreError> {
        self.engine.read(move |connection| read::trial_balance(connection, &tenant)).await
    }

    async fn audit(&self) -> Result<AuditReport, StoreError> {
        let one = Arc::clone(&self.auditing).try_acquire_owned().map_err(|_| BatchError::Full)?;
        let audit = move |connection: &Connection| {
            // Given back when the audit is over, which may be after its caller went away.
            let _one = one;
            audit::audit(connection)
        };
        self.engine.read_aside(audit).await
    }
}
