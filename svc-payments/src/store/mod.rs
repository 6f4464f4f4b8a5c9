//! Where payments are kept. Every method is one durable commit; the domain decides inside it.

#[cfg(test)]
mod contract;
mod embedded;
mod rows;

use std::future::Future;

use mesh::{
    Fault, Reason, StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
};
use money::{PaymentId, RefundId, TenantId, Timestamp};

pub use embedded::EmbeddedStore;

use crate::domain::{
    payment::{Change, Payment, Recorded, Rejection},
    posting::Posting,
    refund::Refund,
    transition::Status,
};
use crate::processor::WebhookSubject;

/// What one commit writes.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The payment's next state, its events and postings.
    pub change: Change,
    /// The refund's next state, where the decision is about one.
    pub refund: Option<Refund>,
    /// The answer to keep for a caller's idempotency key.
    pub answer: Option<(Scope, Vec<u8>)>,
}

impl Decision {
    /// A decision about the payment alone.
    pub fn of(change: Change) -> Self {
        Self { change, refund: None, answer: None }
    }
}

/// What a decision became.
#[derive(Debug, Clone)]
pub struct Committed {
    /// What was written.
    pub decision: Decision,
    /// The postings, with the numbers they are kept under until the ledger has them.
    pub postings: Vec<(i64, Posting)>,
}

/// What is known of a mutating request when it arrives.
#[derive(Debug, Clone)]
pub enum Begun {
    /// New: this was written for it.
    New(Box<Committed>),
    /// Written for the first time by an earlier request, and not answered yet.
    Underway {
        /// The payment's or refund's id.
        subject: String,
    },
    /// Answered before, with these bytes.
    Answered(Vec<u8>),
}

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

/// Something that is under way and due.
#[derive(Debug, Clone)]
pub enum Work {
    /// A payment's operation.
    Payment(TenantId, PaymentId),
    /// A refund.
    Refund(TenantId, PaymentId, RefundId),
    /// A posting that the ledger has not confirmed.
    Posting(i64, Box<Posting>),
}

/// Which payments to list.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in this state.
    pub status: Option<Status>,
    /// Only those with this reference.
    pub reference: Option<String>,
    /// Only those older than this one.
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
            CommitError::Store(error) => error.into(),
        }
    }
}

impl From<Rejection> for Fault {
    fn from(rejection: Rejection) -> Self {
        let text = rejection.to_string();
        match rejection {
            Rejection::State { .. } | Rejection::OperationUnderWay => {
                Fault::new(Reason::PaymentStateConflict, text)
            }
            Rejection::CaptureExceedsAuthorized { available } => {
                Fault::new(Reason::CaptureExceedsAuthorized, text)
                    .violating("amount", format!("must not exceed {available}"))
            }
            Rejection::RefundExceedsCaptured { available } => Fault::new(Reason::RefundExceedsCaptured, text)
                .violating("amount", format!("must not exceed {available}")),
        }
    }
}

/// A store of payments.
pub trait Store: Clone + Send + Sync + 'static {
    /// Writes down a new payment together with its request's key.
    fn create(
        &self,
        claim: Claim,
        change: Change,
        now: Timestamp,
    ) -> impl Future<Output = Result<Begun, CommitError>> + Send;

    /// Lets the domain begin something on a payment, together with the request's key.
    fn begin<D>(
        &self,
        claim: Claim,
        payment: PaymentId,
        now: Timestamp,
        decide: D,
    ) -> impl Future<Output = Result<Begun, CommitError>> + Send
    where
        D: FnOnce(Payment) -> Result<Decision, Rejection> + Send + 'static;

    /// Lets the domain settle something on a payment, and on one of its refunds where `refund` says so.
    fn settle<D>(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        refund: Option<RefundId>,
        now: Timestamp,
        decide: D,
    ) -> impl Future<Output = Result<Committed, CommitError>> + Send
    where
        D: FnOnce(Payment, Option<Refund>) -> Result<Decision, Rejection> + Send + 'static;

    /// What is known of a request's key.
    fn find_claim(&self, claim: Claim) -> impl Future<Output = Result<Option<Begun>, CommitError>> + Send;

    /// The ledger has confirmed these postings.
    fn postings_done(&self, numbers: Vec<i64>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// What is under way and was due by `now`, oldest first.
    fn due(&self, now: Timestamp, limit: usize)
    -> impl Future<Output = Result<Vec<Work>, StoreError>> + Send;

    /// What was due could not be done: it is due again at `until`, unless it is settled meanwhile.
    fn put_off(&self, work: Work, until: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes everything that is under way due at once. For the start, when nobody can be working on it.
    fn make_all_due(&self, now: Timestamp) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Makes a payment's operation or a refund due by `now`, if it is under way and due later.
    fn make_due(
        &self,
        subject: WebhookSubject,
        now: Timestamp,
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

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

    /// A page of a payment's refunds, newest first; `None` where there is no such payment.
    fn refunds(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        page: Page<RefundId>,
    ) -> impl Future<Output = Result<Option<Vec<Refund>>, StoreError>> + Send;

    /// One refund with its payment.
    fn refund(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        id: RefundId,
    ) -> impl Future<Output = Result<Option<(Payment, Refund)>, StoreError>> + Send;

    /// A page of a payment's events by their numbers, oldest first; `None` where there is no such payment.
    fn events(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        page: Page<i64>,
    ) -> impl Future<Output = Result<Option<(Payment, Vec<Recorded>)>, StoreError>> + Send;
}
