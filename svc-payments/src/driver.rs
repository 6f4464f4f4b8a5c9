//! Drives what is written down to its end: asks fraud, ledger, vault and processor in turn, and writes
//! down what they said. Every step is idempotent by an id derived from the payment, so that after a
//! crash the same steps are simply taken again.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex},
    time::Duration,
};

use mesh::{
    Call, Clock, Fault, IdempotencyKey, Ids, Origin, Reason, SpiffeId, idempotency::Scope, telemetry,
};
use money::{PaymentId, RefundId, TenantId, Timestamp};
use paymesh_proto::fraud::v1 as proto;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::{
    clients::{Clients, Posted},
    config::Config,
    convert,
    domain::{
        authorization, capture,
        operation::{Operation, ProcessorOutcome, Rpc},
        payment::{CaptureMethod, Change, Fraud, FraudOutcome, Payment, Rejection},
        posting::{self, Posting},
        refund::{self, Refund},
        transition::Status,
    },
    processor::{Inquiry, Processor, ProcessorRequest},
    store::{Begun, Claim, Committed, Decision, Store},
};

/// Everything that driving needs. Shared by the handlers and the background.
pub struct Driver<S> {
    pub(crate) store: S,
    pub(crate) clients: Clients,
    pub(crate) processor: Arc<dyn Processor>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) identity: SpiffeId,
    pub(crate) config: Config,
    /// Driven right now, by payment or refund id: never by two tasks at once.
    under_way: Mutex<HashSet<Key>>,
    tasks: TaskTracker,
}

/// A payment or a refund of a tenant.
type Key = (TenantId, Uuid);

/// Holds a payment or refund while it is driven.
struct Held<S: Store> {
    driver: Arc<Driver<S>>,
    key: Key,
}

/// What became of a request that changes something.
pub(crate) enum Outcome<T> {
    /// It was carried out now.
    Done(T),
    /// It was answered before, with these bytes.
    Replayed(Vec<u8>),
    /// It was accepted before and not answered; this is what it is about.
    Underway {
        /// The payment's or refund's id.
        subject: String,
    },
}

impl<S: Store> Drop for Held<S> {
    fn drop(&mut self) {
        if let Ok(mut under_way) = self.driver.under_way.lock() {
            under_way.remove(&self.key);
        }
    }
}

/// Nothing was settled, and nothing is lost: it will be tried again.
fn later(what: &'static str, fault: &Fault) -> Fault {
    tracing::warn!(%fault, step = what, "a payment waits for a service");
    Fault::new(
        Reason::Unavailable,
        "The request was accepted and is being worked on; ask again with the same idempotency key.",
    )
    .retry_after_s(1)
}

impl<S: Store> Driver<S> {
    /// A driver that has nothing under way yet.
    pub fn new(
        store: S,
        clients: Clients,
        processor: Arc<dyn Processor>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        identity: SpiffeId,
        config: Config,
    ) -> Arc<Self> {
        let (under_way, tasks) = (Mutex::default(), TaskTracker::new());
        Arc::new(Self { store, clients, processor, clock, ids, identity, config, under_way, tasks })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn hold(self: &Arc<Self>, key: Key) -> Option<Held<S>> {
        let mut under_way = self.under_way.lock().ok()?;
        under_way.insert(key.clone()).then(|| Held { driver: Arc::clone(self), key })
    }

    /// Runs in a task of its own, so that a caller who goes away does not stop it half-way; `None` if the
    /// same thing is being driven already.
    async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        key: Key,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Option<Result<T, Fault>> {
        let held = self.hold(key)?;
        let span = tracing::Span::current();
        let task = self.tasks.spawn(tracing::Instrument::instrument(
            async move {
                let _held = held;
                work.await
            },
            span,
        ));
        let lost = || {
            Fault::new(Reason::Internal, "The work on this payment ended unexpectedly; it will be resumed.")
        };
        Some(task.await.unwrap_or_else(|_| Err(lost())))
    }

    /// Waits until nothing is driven any more.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A call that begins in the background, for a tenant.
    pub(crate) fn background_call(&self, tenant: &TenantId) -> Call {
        let fresh = self.ids.uuid_v7(self.now());
        Call::start(Origin {
            peer: self.identity.clone(),
            tenant: Some(tenant.clone()),
            request_id: fresh.simple().to_string().into(),
            trace: telemetry::start_trace(fresh),
            deadline: None,
            idempotency_key: None,
        })
    }

    /// Drives a payment's operation to its end, or to the point where it is known to be unknown.
    /// `None` if it is being driven already.
    pub async fn drive(self: &Arc<Self>, call: Call, payment: Payment) -> Option<Result<Payment, Fault>> {
        let driver = Arc::clone(self);
        let key = (payment.tenant.clone(), payment.id.uuid());
        self.detached(key, async move { driver.settle_operation(&call, payment).await }).await
    }

    /// Writes a new payment down and drives it. It is held from before it exists, so that the background
    /// never takes it up as well.
    pub(crate) async fn create(
        self: &Arc<Self>,
        call: Call,
        claim: Claim,
        change: Change,
    ) -> Result<Outcome<Payment>, Fault> {
        let driver = Arc::clone(self);
        let key = (change.payment.tenant.clone(), change.payment.id.uuid());
        let created = self.detached(key, async move {
            let begun = driver.store.create(claim, change, driver.now()).await?;
            driver.go_on(&call, begun).await
        });
        created
            .await
            .unwrap_or_else(|| Err(Fault::new(Reason::Conflict, "The same id was made twice; try again.")))
    }

    /// Lets the domain begin something on a payment and drives it. `None` if the payment is being driven.
    pub(crate) async fn begin<D>(
        self: &Arc<Self>,
        call: Call,
        claim: Claim,
        payment: PaymentId,
        decide: D,
    ) -> Option<Result<Outcome<Payment>, Fault>>
    where
        D: FnOnce(Payment, Timestamp) -> Result<Decision, Rejection> + Send + 'static,
    {
        let driver = Arc::clone(self);
        let key = (claim.scope.tenant.clone(), payment.uuid());
        let begun = self.detached(key, async move {
            let now = driver.now();
            let begun = driver.store.begin(claim, payment, now, move |payment| decide(payment, now)).await?;
            driver.go_on(&call, begun).await
        });
        begun.await
    }

    async fn go_on(&self, call: &Call, begun: Begun) -> Result<Outcome<Payment>, Fault> {
        Ok(match begun {
            Begun::New(committed) => {
                self.see_postings_through(call, &committed).await;
                Outcome::Done(self.settle_operation(call, committed.decision.change.payment).await?)
            }
            Begun::Underway { subject } => Outcome::Underway { subject },
            Begun::Answered(answer) => Outcome::Replayed(answer),
        })
    }

    /// Writes a refund down and drives it. Other refunds of the same payment may be under way.
    pub(crate) async fn begin_refund<D>(
        self: &Arc<Self>,
        call: Call,
        claim: Claim,
        payment: PaymentId,
        id: RefundId,
        decide: D,
    ) -> Result<Outcome<(Refund, Payment)>, Fault>
    where
        D: FnOnce(Payment, Timestamp) -> Result<Decision, Rejection> + Send + 'static,
    {
        let driver = Arc::clone(self);
        let key = (claim.scope.tenant.clone(), id.uuid());
        let begun = self.detached(key, async move {
            let now = driver.now();
            let begun = driver.store.begin(claim, payment, now, move |payment| decide(payment, now)).await?;
            Ok(match begun {
                Begun::Underway { subject } => Outcome::Underway { subject },
                Begun::Answered(answer) => Outcome::Replayed(answer),
                Begun::New(committed) => {
                    let Decision { change, refund, .. } = committed.decision;
                    let refund = refund
                        .ok_or_else(|| Fault::new(Reason::Internal, "A refund was not written down."))?;
                    let payment = change.payment.clone();
                    Outcome::Done((driver.settle_refund(&call, change.payment, refund).await?, payment))
                }
            })
        });
        begun
            .await
            .unwrap_or_else(|| Err(Fault::new(Reason::Conflict, "The same id was made twice; try again.")))
    }

    async fn settle_operation(&self, call: &Call, payment: Payment) -> Result<Payment, Fault> {
        let committed = match payment.operation.clone() {
            None => return Ok(payment),
            Some(_) if payment.status == Status::Unknown => self.inquire(payment).await?,
            Some(Operation::Authorize) => self.authorize(call, payment).await?,
            Some(Operation::Capture { amount }) => {
                let of = payment.processor_reference.clone();
                let outcome =
                    self.ask(&payment.operation_reference(), ProcessorRequest::Capture { of, amount }).await;
                self.commit(payment, move |p, now| capture::answered(p, outcome, now)).await?
            }
            Some(Operation::Void { .. }) => {
                let of = payment.processor_reference.clone();
                let outcome = self.ask(&payment.operation_reference(), ProcessorRequest::Void { of }).await;
                self.commit(payment, move |p, now| capture::answered(p, outcome, now)).await?
            }
        };
        self.see_postings_through(call, &committed).await;
        Ok(committed.decision.change.payment)
    }

    async fn authorize(&self, call: &Call, payment: Payment) -> Result<Committed, Fault> {
        let fraud = match payment.fraud.clone() {
            Some(fraud) => fraud,
            None => self.assess(call, &payment).await?,
        };
        if fraud.outcome != FraudOutcome::Allow {
            return self.commit(payment, move |p, now| authorization::stopped_by_fraud(p, fraud, now)).await;
        }
        let posted = self.clients.post(call, &posting::reserve(&payment)).await;
        if let Posted::Refused(code) = posted.map_err(|fault| later("ledger", &fault))? {
            tracing::warn!(payment = %payment.id, code, "the ledger refused a reservation");
            return self.commit(payment, move |p, now| authorization::refused_by_ledger(p, fraud, now)).await;
        }
        let card = self.clients.card(call, &payment.tenant, payment.token).await;
        let card = card.map_err(|fault| later("vault", &fault))?;
        let request = ProcessorRequest::Authorize {
            card,
            amount: payment.amount,
            currency: payment.currency,
            capture: payment.capture_method == CaptureMethod::Automatic,
        };
        let outcome = self.ask(&payment.operation_reference(), request).await;
        self.commit(payment, move |p, now| authorization::answered(p, Some(fraud), outcome, now)).await
    }

    async fn assess(&self, call: &Call, payment: &Payment) -> Result<Fraud, Fault> {
        let question = proto::AssessRequest {
            payment_id: payment.id.to_string(),
            amount: payment.amount,
            currency: payment.currency.code().to_owned(),
            card_fingerprint: payment.card.fingerprint.clone(),
            card_bin: payment.card.bin.clone(),
            card_last4: payment.card.last4.clone(),
            card_brand: payment.card.brand.clone(),
            tenant: payment.tenant.to_string(),
        };
        match self.clients.assess(call, question).await {
            Ok(assessment) => convert::fraud(&assessment),
            Err(fault) if payment.amount <= self.config.fraud_unavailable_allow_up_to => {
                tracing::warn!(%fault, payment = %payment.id, "fraud is unavailable: allowed by amount");
                let reasons = vec!["fraud_unavailable".to_owned()];
                Ok(Fraud { outcome: FraudOutcome::Allow, score: 0, reasons })
            }
            Err(fault) => Err(later("fraud", &fault)),
        }
    }

    /// One processor call. An answer that does not come in time is an unknown outcome.
    async fn ask(&self, reference: &str, request: ProcessorRequest) -> ProcessorOutcome {
        let timeout = Duration::from_millis(self.config.processor_timeout_ms);
        match tokio::time::timeout(timeout, self.processor.perform(reference, request)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => ProcessorOutcome::Unanswered,
        }
    }

    async fn ask_again(&self, reference: &str) -> ProcessorOutcome {
        let timeout = Duration::from_millis(self.config.processor_timeout_ms);
        match tokio::time::timeout(timeout, self.processor.inquire(reference)).await {
            Ok(Inquiry::Settled(outcome)) => outcome,
            Ok(Inquiry::NeverHeardOf) => ProcessorOutcome::NeverHeardOf,
            Ok(Inquiry::Pending | Inquiry::Unanswered) | Err(_) => ProcessorOutcome::Unanswered,
        }
    }

    async fn inquire(&self, payment: Payment) -> Result<Committed, Fault> {
        let outcome = self.ask_again(&payment.operation_reference()).await;
        match payment.operation {
            Some(Operation::Authorize) => {
                self.commit(payment, move |p, now| authorization::answered(p, None, outcome, now)).await
            }
            _ => self.commit(payment, move |p, now| capture::answered(p, outcome, now)).await,
        }
    }

    /// Commits what the domain makes of an outcome, with the answer for the caller who waits.
    async fn commit<D>(&self, payment: Payment, decide: D) -> Result<Committed, Fault>
    where
        D: FnOnce(Payment, Timestamp) -> Result<Change, Rejection> + Send + 'static,
    {
        let now = self.now();
        let (tenant, id) = (payment.tenant, payment.id);
        let decide = move |payment: Payment, _| Ok(answer_waiting(decide(payment, now)?));
        Ok(self.store.settle(tenant, id, None, now, decide).await?)
    }

    /// Drives a refund to its end. `None` if it is being driven already.
    pub async fn drive_refund(
        self: &Arc<Self>,
        call: Call,
        payment: Payment,
        refund: Refund,
    ) -> Option<Result<Refund, Fault>> {
        let driver = Arc::clone(self);
        let key = (payment.tenant.clone(), refund.id.uuid());
        self.detached(key, async move { driver.settle_refund(&call, payment, refund).await }).await
    }

    async fn settle_refund(&self, call: &Call, payment: Payment, refund: Refund) -> Result<Refund, Fault> {
        if !refund.is_open() {
            return Ok(refund);
        }
        let reference = refund.id.to_string();
        let outcome = if refund.status == refund::RefundStatus::Unknown {
            self.ask_again(&reference).await
        } else {
            let of = payment.processor_reference.clone();
            self.ask(&reference, ProcessorRequest::Refund { of, amount: refund.amount }).await
        };
        let now = self.now();
        let fallback = refund.clone();
        let decide = move |payment: Payment, stored: Option<Refund>| {
            let (change, refund) = refund::answered(payment, stored.unwrap_or(fallback), outcome, now)?;
            let scope = scope_of(&refund.tenant, Rpc::CreateRefund, &refund.key);
            let answer = scope.map(|scope| (scope, convert::encode_refund(&refund, &change.payment)));
            Ok(Decision { change, refund: Some(refund), answer })
        };
        let committed = self.store.settle(payment.tenant, payment.id, Some(refund.id), now, decide).await?;
        self.see_postings_through(call, &committed).await;
        Ok(committed.decision.refund.unwrap_or(refund))
    }

    /// Tells the ledger. What it does not confirm now stays on record, and the background goes on.
    async fn see_postings_through(&self, call: &Call, committed: &Committed) {
        for (number, posting) in &committed.postings {
            self.see_posting_through(call, *number, posting).await;
        }
    }

    pub(crate) async fn see_posting_through(&self, call: &Call, number: i64, posting: &Posting) {
        match self.clients.post(call, posting).await {
            Ok(Posted::Done) => {
                // Not waited for: doing it again would be harmless.
                let store = self.store.clone();
                self.tasks.spawn(async move {
                    if let Err(error) = store.postings_done(vec![number]).await {
                        tracing::warn!(%error, "a confirmed posting could not be crossed off");
                    }
                });
            }
            Ok(Posted::Refused(code)) => {
                tracing::error!(payment = %posting.payment, code, "the ledger refuses a posting; it is kept for inspection");
            }
            Err(fault) => {
                tracing::warn!(payment = %posting.payment, %fault, "a posting waits for the ledger");
            }
        }
    }

    /// Takes up a payment in the background.
    pub(crate) async fn resume(self: &Arc<Self>, tenant: TenantId, id: PaymentId) -> Result<(), Fault> {
        let Some(payment) = self.store.payment(tenant.clone(), id).await? else { return Ok(()) };
        let _ = self.drive(self.background_call(&tenant), payment).await.transpose()?;
        Ok(())
    }

    /// Takes up a refund in the background.
    pub(crate) async fn resume_refund(
        self: &Arc<Self>,
        tenant: TenantId,
        payment: PaymentId,
        id: RefundId,
    ) -> Result<(), Fault> {
        let Some(found) = self.store.payment(tenant.clone(), payment).await? else { return Ok(()) };
        let refunds = self.store.refunds(tenant.clone(), payment).await?.unwrap_or_default();
        let Some(refund) = refunds.into_iter().find(|refund| refund.id == id) else { return Ok(()) };
        let _ = self.drive_refund(self.background_call(&tenant), found, refund).await.transpose()?;
        Ok(())
    }
}

/// The answer goes into the same commit as the state that it speaks of.
pub(crate) fn answer_waiting(change: Change) -> Decision {
    let payment = &change.payment;
    let answer = payment.waiting.as_ref().and_then(|waiting| {
        let scope = scope_of(&payment.tenant, waiting.rpc, &waiting.key)?;
        Some((scope, convert::encode_payment(payment)))
    });
    Decision { change, refund: None, answer }
}

/// A stored key was checked when it came in, so it is one.
fn scope_of(tenant: &TenantId, rpc: Rpc, key: &str) -> Option<Scope> {
    let key: IdempotencyKey = key.parse().ok()?;
    Some(Scope { tenant: tenant.clone(), rpc: rpc.name(), key })
}
