//! Drives what is written down to its end: asks fraud, ledger, vault and processor in turn, and writes down what they
//! said. Every step is idempotent by an id derived from the payment, so that after a crash the same steps are simply
//! taken again.
//!
//! `authorize` and `ask` are one operation's way; `postings` is the ledger's; `background` takes up what is due.

mod ask;
mod authorize;
mod background;
mod postings;

use std::sync::Arc;

use mesh::{Call, Clock, Fault, Ids, Reason, SpiffeId};
use money::{PaymentId, TenantId, Timestamp};
use tokio_util::task::TaskTracker;

use crate::{
    clients::Clients,
    config::Config,
    domain::{
        due::Terms,
        operation::{Rpc, Waiting},
        payment::{Change, Payment, Rejection},
        routing::Rule,
        transition::OperationStatus,
    },
    processor::Processors,
    store::{self, Begun, Claim, CommitError, Done, Lines, Store, Work},
    under_way::{Key, UnderWay},
    watchers::Watchers,
};

/// Everything that driving needs. Shared by the handlers and the background.
pub struct Driver<S> {
    pub(crate) store: S,
    pub(crate) clients: Clients,
    pub(crate) processors: Processors,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) identity: SpiffeId,
    pub(crate) config: Config,
    pub(crate) terms: Terms,
    pub(crate) routes: Vec<Rule>,
    pub(crate) watchers: Arc<Watchers>,
    pub(crate) under_way: UnderWay,
    lines: Lines,
    tasks: TaskTracker,
}

/// Holds an operation while it is driven.
struct Held<S: Store> {
    driver: Arc<Driver<S>>,
    key: Key,
    released: bool,
}

/// Whether this is the first attempt, which nothing can have come before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    /// A crash or a service that was away ended an earlier one, nobody knows where.
    Again,
}

/// What became of a request that changes something.
pub(crate) enum Outcome {
    /// It was carried out now: this is the payment after it.
    Done(Box<Payment>),
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
    fn release(&mut self) -> bool {
        let released = std::mem::replace(&mut self.released, true);
        !released && self.driver.under_way.release(&self.key)
    }

    /// It was driven. What a webhook told meanwhile is asked about next, whatever was just written down.
    async fn finish(mut self) {
        if !self.release() {
            return;
        }
        if let Err(error) = self.driver.store.make_due(self.key.0, self.driver.now()).await {
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
        processors: Processors,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        identity: SpiffeId,
        config: Config,
    ) -> Arc<Self> {
        let (under_way, tasks) = (UnderWay::default(), TaskTracker::new());
        let watchers = Watchers::new(config.watchers_max, config.watchers_per_tenant_max);
        let (terms, routes) = (config.terms(), config.routes());
        Arc::new(Self {
            store,
            clients,
            processors,
            clock,
            ids,
            identity,
            config,
            terms,
            routes,
            watchers,
            under_way,
            lines: Lines::default(),
            tasks,
        })
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn hold(self: &Arc<Self>, key: Key) -> Option<Held<S>> {
        self.under_way.hold(key).then(|| Held { driver: Arc::clone(self), key, released: false })
    }

    /// Runs in a task of its own, so that a caller who goes away does not stop it half-way.
    async fn detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Fault>> + Send + 'static,
    ) -> Result<T, Fault> {
        let task = self.tasks.spawn(mesh::scope::carry(work));
        let lost = || {
            Fault::new(Reason::Internal, "The work on this payment ended unexpectedly; it will be resumed.")
        };
        task.await.unwrap_or_else(|_| Err(lost()))
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

    /// Writes a new payment down and drives it.
    pub(crate) async fn create(
        self: &Arc<Self>,
        call: Call,
        claim: Claim,
        change: Change,
    ) -> Result<Outcome, Fault> {
        let driver = Arc::clone(self);
        let work = async move {
            let key = claim.scope.key.clone();
            let _beginning = driver.under_way.beginning(change.payment.id, key.as_str());
            let begun = store::create(&driver.store, claim, change, driver.now()).await?;
            driver.go_on(&call, begun).await
        };
        self.detached(work).await
    }

    /// Lets the domain begin something on a payment and drives it.
    pub(crate) async fn begin<D>(
        self: &Arc<Self>,
        call: Call,
        claim: Claim,
        payment: PaymentId,
        decide: D,
    ) -> Result<Outcome, Fault>
    where
        D: Fn(Payment, Timestamp) -> Result<Change, Rejection> + Send + Sync + 'static,
    {
        let driver = Arc::clone(self);
        let work = async move {
            let now = driver.now();
            let begun = store::begin(&driver.store, &driver.lines, claim, payment, now, |payment| {
                decide(payment, now)
            })
            .await?;
            driver.go_on(&call, begun).await
        };
        self.detached(work).await
    }

    async fn go_on(self: &Arc<Self>, call: &Call, begun: Begun) -> Result<Outcome, Fault> {
        Ok(match begun {
            Begun::Underway { subject } => Outcome::Underway { subject },
            Begun::Answered(answer) => Outcome::Replayed(answer),
            Begun::New(done) => {
                let newest = done.change.payment.operations.last();
                let key =
                    newest.and_then(|newest| newest.waiting.as_ref()).map(|waiting| waiting.key.clone());
                let _beginning = key.map(|key| self.under_way.beginning(done.change.payment.id, &key));
                self.told(&done);
                self.see_postings_through(call, &done).await;
                let payment = done.change.payment;
                // What was begun is the latest; what is answered with the same commit has nothing to be driven.
                let newest =
                    payment.operations.last().filter(|newest| newest.status == OperationStatus::Pending);
                match newest.map(|newest| newest.number).filter(|_| done.change.answered.is_empty()) {
                    Some(number) => self.drive_held(call, payment, number, Attempt::First).await?,
                    None => Outcome::Done(Box::new(payment)),
                }
            }
        })
    }

    /// Drives an operation, unless somebody does so already: then the request has met its own doing.
    async fn drive_held(
        self: &Arc<Self>,
        call: &Call,
        payment: Payment,
        number: u32,
        attempt: Attempt,
    ) -> Result<Outcome, Fault> {
        let Some(held) = self.hold((payment.id, number)) else {
            return Ok(Outcome::Underway { subject: payment.id.to_string() });
        };
        let driven = self.settle(call, payment, number, attempt).await;
        held.finish().await;
        Ok(Outcome::Done(Box::new(driven?)))
    }

    /// Finishes what an earlier request began and is waiting for, if it still does. Whether it could be: somebody else
    /// may be at it.
    pub(crate) async fn resume(
        self: &Arc<Self>,
        call: Call,
        tenant: TenantId,
        id: PaymentId,
        waiting: Waiting,
    ) -> Result<bool, Fault> {
        let driver = Arc::clone(self);
        let work = async move {
            let payment = driver.store.payment(tenant.clone(), id).await?.ok_or_else(payment_not_found)?;
            let waits = |number: u32| (payment.id, number);
            if driver.under_way.is_beginning(id, &waiting.key) {
                return Ok(false);
            }
            let found = payment.operations.iter().find(|open| open.waiting.as_ref() == Some(&waiting));
            let Some(number) = found.map(|found| found.number) else { return Ok(true) };
            let Some(held) = driver.hold(waits(number)) else { return Ok(false) };
            // Read only now that nobody else drives it: what was read before may be settled by now.
            let payment = driver.store.payment(tenant, id).await?.ok_or_else(payment_not_found)?;
            let settled = driver.settle(&call, payment, number, Attempt::Again).await;
            held.finish().await;
            settled.map(|_| true)
        };
        self.detached(work).await
    }

    /// Tells those who watch of what was committed.
    fn told(&self, done: &Done) {
        let payment = &done.change.payment;
        if !done.change.events.is_empty() {
            self.watchers.tell(&payment.tenant, payment.id);
        }
    }

    /// Commits what the domain makes of what became known, and does what must follow at once.
    async fn commit(
        self: &Arc<Self>,
        call: &Call,
        payment: Payment,
        decide: impl Fn(Payment, Timestamp) -> Result<Change, Rejection>,
    ) -> Result<Payment, CommitError> {
        let now = self.now();
        let done =
            store::change(&self.store, &self.lines, payment, now, |payment| decide(payment, now)).await?;
        self.told(&done);
        self.see_postings_through(call, &done).await;
        Ok(done.change.payment)
    }
}

/// The caller of this RPC, under this key.
pub(crate) fn waiting(rpc: Rpc, claim: &Claim) -> Waiting {
    Waiting { rpc, key: claim.scope.key.as_str().to_owned() }
}

fn payment_not_found() -> Fault {
    Fault::new(Reason::PaymentNotFound, "There is no such payment.")
}

/// What is put off, and until when nobody looks at it.
async fn put_off<S: Store>(store: &S, work: Work, until: Timestamp) {
    if let Err(error) = store.put_off(work, until).await {
        tracing::warn!(%error, "work that was due could not be put off");
    }
}
