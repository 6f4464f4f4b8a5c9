//! Where payments are kept. A payment is one row with a version: whoever changes it says which version was read, and
//! state, events, postings and answers are written in one durable commit, or not at all.

mod before;
#[cfg(test)]
mod contract;
mod decide;
mod embedded;
mod encoding;
mod postgres;
mod rows;
mod schema;

use std::future::Future;

use mesh::{
    Fault, Reason, StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
};
use money::{PaymentId, TenantId, Timestamp};

pub use decide::{Begun, Done, Lines, begin, change, create};
pub use embedded::EmbeddedStore;
pub use postgres::{PostgresConfig, PostgresStore};

use crate::domain::{
    payment::{Change, Inspection, Payment, Recorded, Rejection},
    posting::Posting,
    transition::Status,
};

/// A mutating request's idempotency.
#[derive(Debug, Clone)]
pub struct Claim {
    /// Tenant, RPC and key.
    pub scope: Scope,
    /// The digest of the request.
    pub fingerprint: Fingerprint,
    /// The id of what it makes or changes.
    pub subject: String,
}

/// What one commit writes.
#[derive(Debug, Clone)]
pub struct Commit {
    /// The request that it is for, to be put on record; refused if it is there already.
    pub claim: Option<Claim>,
    /// The payment's next state, whose version is one above the one that was read (a new payment's is 1), with what
    /// happened and what must follow.
    pub change: Change,
    /// Answers to keep for callers' idempotency keys.
    pub answers: Vec<(Scope, Vec<u8>)>,
}

/// What became of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// It is durable.
    Done {
        /// Whether the ledger still has to confirm something that it was told of the payment before this commit.
        earlier_postings: bool,
    },
    /// Nothing was written: the payment is of another version by now.
    Contended,
    /// Nothing was written: the request was accepted before and is not answered.
    Underway {
        /// What it made or changes.
        subject: String,
    },
    /// Nothing was written: the request was answered with these bytes.
    Answered(Vec<u8>),
}

/// What is known of a request's key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Accepted and not answered.
    Underway {
        /// What it made or changes.
        subject: String,
    },
    /// Answered with these bytes.
    Answered(Vec<u8>),
}

/// Something that is under way and due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Work {
    /// Operations of a payment, or the end of its time.
    Payment(TenantId, PaymentId),
    /// What the ledger must be told of a payment.
    Postings(TenantId, PaymentId),
}

/// Which payments to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in this state.
    pub status: Option<Status>,
    /// Only those with this reference.
    pub reference: Option<String>,
    /// Only those of at least this amount.
    pub amount_min: Option<i64>,
    /// Only those of at most this amount.
    pub amount_max: Option<i64>,
    /// Only those with this entry in their metadata.
    pub metadata: Option<(String, String)>,
    /// Only those whose id, which begins with the time, is this or a later one.
    pub from: Option<PaymentId>,
    /// Only those whose id is an earlier one.
    pub before: Option<PaymentId>,
    /// At most so many.
    pub limit: usize,
}

/// Which part of a list.
#[derive(Debug, Clone, Copy)]
pub struct Page<K> {
    /// Only what comes after this one, in the list's own order.
    pub after: Option<K>,
    /// At most so many.
    pub limit: usize,
}

/// Why a commit did not happen.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The tenant has no such payment.
    #[error("there is no such payment")]
    PaymentNotFound,
    /// The domain refused.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The idempotency key cannot be used.
    #[error(transparent)]
    Key(#[from] Reuse),
    /// Others changed the payment each time that it was tried.
    #[error("the payment is being changed by too many at once")]
    Contended,
    /// Another payment has the id that the processor gave for this one.
    #[error("the processor gave this id for another payment")]
    DuplicateReference,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CommitError> for Fault {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::PaymentNotFound => Fault::new(Reason::PaymentNotFound, "There is no such payment."),
            CommitError::Rejected(rejection) => rejection.into(),
            CommitError::Key(reuse) => reuse.into(),
            CommitError::Contended => {
                Fault::new(Reason::Conflict, "The payment is being changed by others; try again.")
                    .retry_after_s(1)
            }
            CommitError::DuplicateReference => {
                Fault::new(Reason::Conflict, "The processor gave the same id for another payment.")
            }
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::State { .. }
            | Rejection::OperationUnderWay
            | Rejection::OperationSettled { .. }
            | Rejection::TooManyOperations
            | Rejection::DisputeNotFound
            | Rejection::DisputeDecided { .. } => Fault::new(Reason::PaymentStateConflict, text),
            Rejection::CaptureExceedsAuthorized { available } => {
                Fault::new(Reason::CaptureExceedsAuthorized, text)
                    .violating("amount", format!("must not exceed {available}"))
            }
            Rejection::RefundExceedsCaptured { available } => Fault::new(Reason::RefundExceedsCaptured, text)
                .violating("amount", format!("must not exceed {available}")),
            Rejection::AmountTooLarge => Fault::invalid("amount", text),
        }
    }
}

/// A store of payments.
pub trait Store: Clone + Send + Sync + 'static {
    /// Writes a commit down, or says why it cannot be.
    fn commit(
        &self,
        commit: Commit,
        now: Timestamp,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send;

    /// What is known of a request's key.
    fn find_claim(&self, claim: Claim) -> impl Future<Output = Result<Option<Known>, CommitError>> + Send;

    /// What the ledger has not confirmed of what it must be told of a payment, in order.
    fn postings(
        &self,
        tenant: TenantId,
        payment: PaymentId,
    ) -> impl Future<Output = Result<Vec<Posting>, StoreError>> + Send;

    /// The ledger has confirmed the payment's postings up to this ordinal.
    fn postings_done(
        &self,
        payment: PaymentId,
        ordinal: u32,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Takes what was due by `now`, oldest first. Nobody else is given it before `until`, unless it is settled or made
    /// due meanwhile.
    fn take_due(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Work>, StoreError>> + Send;

    /// What was due could not be done: it is due again at `until`, unless it is settled meanwhile.
    fn put_off(&self, work: Work, until: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes everything that is under way due at once, where this process is the only one. For the start, when nobody
    /// can be working on it.
    fn make_all_due(&self, now: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Somebody has news of a payment, whatever state it is in: it is due. `None`: there is no such payment.
    fn make_due(
        &self,
        payment: PaymentId,
        now: Timestamp,
    ) -> impl Future<Output = Result<Option<TenantId>, StoreError>> + Send;

    /// The payment that a processor gave this id for.
    fn by_processor_reference(
        &self,
        processor: String,
        reference: String,
    ) -> impl Future<Output = Result<Option<(TenantId, PaymentId)>, StoreError>> + Send;

    /// One payment of the tenant.
    fn payment(
        &self,
        tenant: TenantId,
        id: PaymentId,
    ) -> impl Future<Output = Result<Option<Payment>, StoreError>> + Send;

    /// The tenant's payments, newest first.
    fn payments(
        &self,
        tenant: TenantId,
        filter: Filter,
    ) -> impl Future<Output = Result<Vec<Payment>, StoreError>> + Send;

    /// A page of a payment's events by their numbers, oldest first; `None` where there is no such payment.
    fn events(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        page: Page<i64>,
    ) -> impl Future<Output = Result<Option<(Payment, Vec<Recorded>)>, StoreError>> + Send;

    /// What processors said that cannot be right, newest first.
    fn inspections(&self, limit: usize) -> impl Future<Output = Result<Vec<Inspection>, StoreError>> + Send;
}
