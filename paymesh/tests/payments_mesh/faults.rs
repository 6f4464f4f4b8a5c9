//! svc-payments with a store and a processor that stop when they are told to. What has stopped never
//! goes on: to everyone else it is as if the process had been killed at that point.

use std::sync::{Arc, Mutex};

use mesh::{Parts, ServiceContext, StartError, StoreError};
use money::{PaymentId, TenantId, Timestamp};
use paymesh_proto::payments::v1::payment_service_server::PaymentServiceServer;
use serde::Deserialize;
use svc_payments::{
    clients::Clients,
    config::Config,
    domain::{
        operation::ProcessorOutcome,
        payment::{Inspection, Payment, Recorded},
        posting::Posting,
    },
    driver::Driver,
    processor::{
        Answer, Asked, Inquiry, Processor, ProcessorRequest, Processors, WebhookError, WebhookHeaders,
        WebhookSubject, simulator::Simulator,
    },
    service,
    store::{Claim, Commit, CommitError, Committed, EmbeddedStore, Filter, Known, Page, Store, Work},
};
use tokio::sync::Notify;

use crate::gate::until;

/// What becomes of processor calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Line {
    #[default]
    Good,
    /// They arrive, and the answer is lost.
    AnswerLost,
    /// They never arrive.
    RequestLost,
    /// They wait until [`Faults::release`] is notified.
    Held,
}

#[derive(Debug, Default)]
struct State {
    steps: usize,
    stop_at: Option<usize>,
    stopped: bool,
    line: Line,
}

/// Where things go wrong.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    state: Mutex<State>,
    pub(crate) stopped: Notify,
    pub(crate) arrived: Notify,
    pub(crate) release: Notify,
}

impl Faults {
    /// From now on, stop before the step of this number: 0 is the next one.
    pub(crate) fn stop_at(&self, step: usize) {
        *self.state.lock().unwrap() = State { stop_at: Some(step), ..State::default() };
    }

    /// Waits until so many steps were taken.
    pub(crate) async fn quiet(&self, steps: usize) {
        until("the steps are taken", async || (self.state.lock().unwrap().steps >= steps).then_some(()))
            .await;
    }

    pub(crate) fn set_line(&self, line: Line) {
        self.state.lock().unwrap().line = line;
    }

    fn line(&self) -> Line {
        self.state.lock().unwrap().line
    }

    /// Before and after everything that has an effect.
    async fn step(&self) {
        let goes_on = {
            let mut state = self.state.lock().unwrap();
            state.stopped |= state.stop_at == Some(state.steps);
            state.steps += 1;
            !state.stopped
        };
        if !goes_on {
            self.stopped.notify_one();
            std::future::pending::<()>().await;
        }
    }
}

/// The configuration of the service with faults.
#[derive(Default, Deserialize)]
pub(crate) struct Rig {
    #[serde(skip)]
    pub(crate) config: Config,
    #[serde(skip)]
    pub(crate) faults: Arc<Faults>,
}

/// svc-payments, as far as its handlers go: nothing happens in the background.
pub(crate) struct FaultyPayments;

impl mesh::Service for FaultyPayments {
    const NAME: &'static str = "svc-payments";
    type Config = Rig;

    async fn build(rig: Rig, context: &ServiceContext) -> Result<Parts, StartError> {
        let Rig { config, faults } = rig;
        let inner = EmbeddedStore::open(&context.data_dir().join("payments.db"))?;
        let store = FaultyStore { inner, faults: Arc::clone(&faults) };
        let inner = Simulator::open(&context.data_dir().join("simulator.db"), context.clock())?;
        let processor: Arc<dyn Processor> = Arc::new(FaultyProcessor { inner, faults });
        let limits = config.processors.get(processor.name()).cloned().unwrap_or_default();
        let processors = Processors::new([(processor, limits)]);
        let clients = Clients::new(
            context.upstream("svc-crypto")?,
            context.upstream("svc-fraud")?,
            context.upstream("svc-ledger")?,
            context.upstream("svc-tax")?,
        );
        let identity = context.identity().clone();
        let driver =
            Driver::new(store, clients, processors, context.clock(), context.ids(), identity, config);
        let handlers = service::Payments::new(driver);
        Ok(Parts::new().serve(PaymentServiceServer::new(handlers)))
    }
}

struct FaultyProcessor {
    inner: Simulator,
    faults: Arc<Faults>,
}

impl Processor for FaultyProcessor {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn perform<'a>(&'a self, reference: &'a str, request: ProcessorRequest) -> Answer<'a, ProcessorOutcome> {
        Box::pin(async move {
            self.faults.step().await;
            let line = self.faults.line();
            if line == Line::RequestLost {
                std::future::pending::<()>().await;
            }
            if line == Line::Held {
                self.faults.arrived.notify_one();
                self.faults.release.notified().await;
            }
            let outcome = self.inner.perform(reference, request).await;
            if line == Line::AnswerLost {
                std::future::pending::<()>().await;
            }
            self.faults.step().await;
            outcome
        })
    }

    fn inquire<'a>(&'a self, asked: Asked<'a>) -> Answer<'a, Inquiry> {
        self.inner.inquire(asked)
    }

    fn verify_webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<WebhookSubject, WebhookError> {
        self.inner.verify_webhook(headers, body)
    }
}

#[derive(Clone)]
struct FaultyStore {
    inner: EmbeddedStore,
    faults: Arc<Faults>,
}

impl FaultyStore {
    async fn around<T>(&self, effect: impl Future<Output = T>) -> T {
        self.faults.step().await;
        let outcome = effect.await;
        self.faults.step().await;
        outcome
    }
}

impl Store for FaultyStore {
    async fn commit(&self, commit: Commit, now: Timestamp) -> Result<Committed, CommitError> {
        self.around(self.inner.commit(commit, now)).await
    }

    async fn postings_done(&self, payment: PaymentId, ordinal: u32) -> Result<(), StoreError> {
        self.around(self.inner.postings_done(payment, ordinal)).await
    }

    async fn find_claim(&self, claim: Claim) -> Result<Option<Known>, CommitError> {
        self.inner.find_claim(claim).await
    }

    async fn postings(&self, tenant: TenantId, payment: PaymentId) -> Result<Vec<Posting>, StoreError> {
        self.inner.postings(tenant, payment).await
    }

    async fn take_due(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Work>, StoreError> {
        self.inner.take_due(now, until, limit).await
    }

    async fn put_off(&self, work: Work, until: Timestamp) -> Result<(), StoreError> {
        self.inner.put_off(work, until).await
    }

    async fn make_all_due(&self, now: Timestamp) -> Result<(), StoreError> {
        self.inner.make_all_due(now).await
    }

    async fn make_due(&self, payment: PaymentId, now: Timestamp) -> Result<Option<TenantId>, StoreError> {
        self.inner.make_due(payment, now).await
    }

    async fn by_processor_reference(
        &self,
        processor: String,
        reference: String,
    ) -> Result<Option<(TenantId, PaymentId)>, StoreError> {
        self.inner.by_processor_reference(processor, reference).await
    }

    async fn payment(&self, tenant: TenantId, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.inner.payment(tenant, id).await
    }

    async fn payments(&self, tenant: TenantId, filter: Filter) -> Result<Vec<Payment>, StoreError> {
        self.inner.payments(tenant, filter).await
    }

    async fn events(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        page: Page<i64>,
    ) -> Result<Option<(Payment, Vec<Recorded>)>, StoreError> {
        self.inner.events(tenant, payment, page).await
    }

    async fn inspections(&self, limit: usize) -> Result<Vec<Inspection>, StoreError> {
        self.inner.inspections(limit).await
    }
}
