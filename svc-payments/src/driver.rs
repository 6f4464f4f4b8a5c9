//! Drives what is written down to its end: asks fraud, ledger, vault and processor in turn, and writes
//! down what they said. Every step is idempotent by an id derived from the payment, so that after a
//! crash the same steps are simply taken again.

use std::{sync::Arc, time::Duration};

use mesh::{
    Call, Clock, Fault, IdempotencyKey, Ids, Reason, SpiffeId,
    idempotency::{self, Reuse, Scope},
};
use money::{PaymentId, RefundId, TenantId, Timestamp};
use paymesh_proto::fraud::v1 as proto;
use tokio_util::task::TaskTracker;

use crate::{
    clients::{Clients, Posted},
    config::Config,
    convert,
    domain::{
        authorization, capture, due,
        operation::{Failure, Operation, ProcessorOutcome, Rpc},
        payment::{CaptureMethod, Change, Fraud, FraudOutcome, Payment, Rejection},
        posting::{self, Posting},
        refund::{self, Refund},
        transition::Status,
    },
    processor::{Inquiry, Processor, ProcessorRequest, WebhookSubject},
    store::{Begun, Claim, Committed, Decision, Store, Work},
    under_way::{Key, UnderWay},
    watchers::Watchers,
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
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) under_way: UnderWay,
    tasks: TaskTracker,
}

/// Holds a payment or refund while it is driven.
struct Held<S: Store> {
    driver: Arc<Driver<S>>,
    key: Key,
    released: bool,
}

/// What was to be driven is being driven already.
pub struct Busy {
    /// The request that it is driven for; `None`: an earlier one, or nobody's.
    by: Option<Claim>,
}

impl Busy {
    /// What a request with the same key is told; `None` for one with another key.
    pub(crate) fn same_key(&self, claim: &Claim) -> Option<Fault> {
        let by = self.by.as_ref().filter(|by| by.scope == claim.scope)?;
        let same = by.fingerprint == claim.fingerprint;
        Some(if same { idempotency::in_progress() } else { Reuse::OtherRequest.into() })
    }
}

/// Whether this is the first attempt, which nothing can have come before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    /// A crash or a service that was away ended an earlier one, nobody knows where.
    Again,
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
        self.release();
    }
}

impl<S: Store> Held<S> {
    /// Lets others drive it, once.
    fn release(&mut self) -> Option<WebhookSubject> {
        let released = std::mem::replace(&mut self.released, true);
        if released { None } else { self.driver.under_way.release(&self.key) }
    }

    /// It was driven. What a webhook told meanwhile is asked about next, whatever was just written down.
    async fn finish(mut self) {
        let Some(subject) = self.release() else { return };
        if let Err(error) = self.driver.store.make_due(subject, self.driver.now()).await {
            tracing::warn!(%error, "what a webhook told is asked about later");
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
        let (under_way, tasks) = (UnderWay::default(), TaskTracker::new());
        let watchers = Watchers::new(config.watchers_max, config.watchers_per_tenant_max);
        Arc::new(Self { store, clients, processor, clock, ids, identity, config, watchers, under_way, tasks })
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn hold(self: &Arc<Self>, key: Key, by: Option<Claim>) -> Result<Held<S>, Busy> {
        self.under_way.hold(key.clone(), by).map_err(|by| Busy { by })?;
        Ok(Held { driver: Arc::clone(self), key, released: false })
    }

    /// Runs in a task of its own, so that a caller who goes away does not stop it half-way.
    async fn detached<T: Send + 'static>(
        self: &Arc<Self>,
        key: Key,
        by: Option<Claim>,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<Result<T, Fault>, Busy> {
        let held = self.hold(key, by)?;
        let task = self.tasks.spawn(mesh::scope::carry(async move {
            let done = work.await;
            held.finish().await;
            done
        }));
        let lost = || {
            Fault::new(Reason::Internal, "The work on this payment ended unexpectedly; it will be resumed.")
        };
        Ok(task.await.unwrap_or_else(|_| Err(lost())))
    }

    /// Waits until nothing is driven any more.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// A call that begins in the background, for a tenant.
    pub(crate) fn background_call(&self, tenant: &TenantId) -> Call {
        let fresh = self.ids.uuid_v7(self.now());
        Call::begin(self.identity.clone(), Some(tenant.clone()), fresh)
    }

    /// Drives a payment's operation to its end, or to the point where it is known to be unknown.
    pub async fn drive(
        self: &Arc<Self>,
        call: Call,
        tenant: TenantId,
        id: PaymentId,
    ) -> Result<Result<Payment, Fault>, Busy> {
        let driver = Arc::clone(self);
        let key = (tenant.clone(), id.uuid());
        let work = async move {
            // Read only now that nobody else drives it: what was read before may be settled by now.
            let payment = driver.store.payment(tenant, id).await?.ok_or_else(payment_not_found)?;
            driver.settle_operation(&call, payment, Attempt::Again).await
        };
        self.detached(key, None, work).await
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
        let created = self.detached(key, None, async move {
            let begun = driver.store.create(claim, change, driver.now()).await?;
            driver.go_on(&call, begun).await
        });
        created.await.unwrap_or_else(|_| Err(same_id()))
    }

    /// Lets the domain begin something on a payment and drives it.
    pub(crate) async fn begin<D>(
        self: &Arc<Self>,
        call: Call,
        claim: Claim,
        payment: PaymentId,
        decide: D,
    ) -> Result<Result<Outcome<Payment>, Fault>, Busy>
    where
        D: FnOnce(Payment, Timestamp) -> Result<Decision, Rejection> + Send + 'static,
    {
        let driver = Arc::clone(self);
        let key = (claim.scope.tenant.clone(), payment.uuid());
        let begun = self.detached(key, Some(claim.clone()), async move {
            let now = driver.now();
            let begun = driver.store.begin(claim, payment, now, move |payment| decide(payment, now)).await?;
            driver.tell(&begun);
            driver.go_on(&call, begun).await
        });
        begun.await
    }

    /// Tells those who watch of what was committed.
    fn tell(&self, begun: &Begun) {
        if let Begun::New(committed) = begun {
            let payment = &committed.decision.change.payment;
            self.watchers.tell(&payment.tenant, payment.id);
        }
    }

    async fn go_on(&self, call: &Call, begun: Begun) -> Result<Outcome<Payment>, Fault> {
        Ok(match begun {
            Begun::New(committed) => {
                self.see_postings_through(call, &committed).await;
                let payment = committed.decision.change.payment;
                Outcome::Done(self.settle_operation(call, payment, Attempt::First).await?)
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
        let begun = self.detached(key, None, async move {
            let now = driver.now();
            let begun = driver.store.begin(claim, payment, now, move |payment| decide(payment, now)).await?;
            driver.tell(&begun);
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
        begun.await.unwrap_or_else(|_| Err(same_id()))
    }

    async fn settle_operation(
        &self,
        call: &Call,
        payment: Payment,
        attempt: Attempt,
    ) -> Result<Payment, Fault> {
        let committed = match payment.operation.clone() {
            None => return Ok(payment),
            Some(_) if payment.status == Status::Unknown => self.inquire(payment).await?,
            Some(Operation::Authorize) => self.authorize(call, payment, attempt).await?,
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

    /// Fraud, ledger, vault, processor. What an earlier attempt did at the processor stands, whatever
    /// the others would say today: before anything is refused [`Attempt::Again`], the processor is asked.
    async fn authorize(&self, call: &Call, payment: Payment, attempt: Attempt) -> Result<Committed, Fault> {
        let fraud = match payment.fraud.clone() {
            Some(fraud) => fraud,
            None => self.assess(call, &payment).await?,
        };
        let allowed = fraud.outcome == FraudOutcome::Allow;
        if !allowed && attempt == Attempt::First {
            let stop = move |p, now| authorization::stopped_by_fraud(p, fraud, false, now);
            return self.commit(payment, stop).await;
        }
        // After an earlier attempt this also makes sure that there is a reservation that can be released.
        let posted = self.clients.post(call, &posting::reserve(&payment)).await;
        if let Posted::Refused(code) = posted.map_err(|fault| later("ledger", &fault))? {
            tracing::warn!(payment = %payment.id, code, "the ledger refused a reservation");
            return self.commit(payment, move |p, now| authorization::refused_by_ledger(p, fraud, now)).await;
        }
        let reference = payment.operation_reference();
        if !allowed {
            let outcome = self.ask_again(&reference).await;
            let stop = move |p, now| match outcome {
                ProcessorOutcome::NeverHeardOf => authorization::stopped_by_fraud(p, fraud, true, now),
                outcome => authorization::answered(p, Some(fraud), outcome, now),
            };
            return self.commit(payment, stop).await;
        }
        let outcome = match self.clients.card(call, &payment.tenant, payment.token).await {
            Ok(card) => {
                let capture = payment.capture_method == CaptureMethod::Automatic;
                let (amount, currency) = (payment.amount, payment.currency);
                self.ask(&reference, ProcessorRequest::Authorize { card, amount, currency, capture }).await
            }
            Err(fault) if fault.reason() == Reason::TokenNotFound => {
                match self.earlier_outcome(&reference, attempt).await {
                    ProcessorOutcome::NeverHeardOf => ProcessorOutcome::Declined(Failure::token_not_found()),
                    outcome => outcome,
                }
            }
            Err(fault) => return Err(later("vault", &fault)),
        };
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

    async fn earlier_outcome(&self, reference: &str, attempt: Attempt) -> ProcessorOutcome {
        match attempt {
            Attempt::First => ProcessorOutcome::NeverHeardOf,
            Attempt::Again => self.ask_again(reference).await,
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
        let (tenant, id, number) = (payment.tenant, payment.id, payment.operation_number);
        let decide = move |payment: Payment, _| {
            // An outcome belongs to the operation that was asked about, and to no later one.
            if payment.operation_number != number {
                let needed = "the operation was settled meanwhile";
                return Err(Rejection::State { status: payment.status, needed });
            }
            Ok(answer_waiting(decide(payment, now)?))
        };
        let committed = self.store.settle(tenant.clone(), id, None, now, decide).await?;
        self.watchers.tell(&tenant, id);
        Ok(committed)
    }

    /// Drives a refund to its end.
    pub async fn drive_refund(
        self: &Arc<Self>,
        call: Call,
        tenant: TenantId,
        payment: PaymentId,
        id: RefundId,
    ) -> Result<Result<Refund, Fault>, Busy> {
        let driver = Arc::clone(self);
        let key = (tenant.clone(), id.uuid());
        let work = async move {
            let found = driver.store.refund(tenant, payment, id).await?;
            let (payment, refund) = found.ok_or_else(payment_not_found)?;
            driver.settle_refund(&call, payment, refund).await
        };
        self.detached(key, None, work).await
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
        let settled = self.store.settle(payment.tenant.clone(), payment.id, Some(refund.id), now, decide);
        let committed = settled.await?;
        self.watchers.tell(&payment.tenant, payment.id);
        self.see_postings_through(call, &committed).await;
        Ok(committed.decision.refund.unwrap_or(refund))
    }

    /// Tells the ledger. What it does not confirm now stays on record, and the background goes on.
    async fn see_postings_through(&self, call: &Call, committed: &Committed) {
        for (number, posting) in &committed.postings {
            self.see_posting_through(call, *number, posting).await;
        }
    }

    /// Whether the ledger has it now.
    async fn see_posting_through(&self, call: &Call, number: i64, posting: &Posting) -> bool {
        match self.clients.post(call, posting).await {
            Ok(Posted::Done) => {
                // Not waited for: doing it again would be harmless.
                let store = self.store.clone();
                self.tasks.spawn(async move {
                    if let Err(error) = store.postings_done(vec![number]).await {
                        tracing::warn!(%error, "a confirmed posting could not be crossed off");
                    }
                });
                true
            }
            Ok(Posted::Refused(code)) => {
                tracing::error!(payment = %posting.payment, code, "the ledger refuses a posting; it is kept for inspection");
                false
            }
            Err(fault) => {
                tracing::warn!(payment = %posting.payment, %fault, "a posting waits for the ledger");
                false
            }
        }
    }

    /// Takes something up in the background. What cannot be done now is put off, so that it neither
    /// keeps others from their turn nor is tried all the time.
    pub(crate) async fn take_up(self: &Arc<Self>, work: Work) {
        let settled = match work.clone() {
            Work::Payment(tenant, id) => {
                let driven = self.drive(self.background_call(&tenant), tenant, id).await;
                driven.map_or(true, |outcome| is_done(outcome.err().as_ref()))
            }
            Work::Refund(tenant, payment, id) => {
                let driven = self.drive_refund(self.background_call(&tenant), tenant, payment, id).await;
                driven.map_or(true, |outcome| is_done(outcome.err().as_ref()))
            }
            Work::Posting(number, posting) => {
                let call = self.background_call(&posting.tenant);
                self.see_posting_through(&call, number, &posting).await
            }
        };
        if settled {
            return;
        }
        if let Err(error) = self.store.put_off(work, due::retry(self.now())).await {
            tracing::warn!(%error, "work that was due could not be put off");
        }
    }
}

fn is_done(fault: Option<&Fault>) -> bool {
    if let Some(fault) = fault {
        tracing::warn!(%fault, "work that was due will be tried again");
    }
    fault.is_none()
}

fn payment_not_found() -> Fault {
    Fault::new(Reason::PaymentNotFound, "There is no such payment.")
}

fn same_id() -> Fault {
    Fault::new(Reason::Conflict, "The same id was made twice; try again.")
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
