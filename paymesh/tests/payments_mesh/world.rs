//! The services, the edge's way to call them, and what can be checked afterwards.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use mesh::{
    Call, Clock, Fault, Harness, ManualClock, Origin, Reason, Running, Upstream, client::BreakerSettings,
};
use money::Timestamp;
use paymesh_proto::{
    crypto::v1::{CardInput, TokenizeRequest, vault_service_client::VaultServiceClient},
    ledger::v1::{AuditRequest, ListAccountsRequest, ledger_service_client::LedgerServiceClient},
    payments::v1::{
        CancelPaymentRequest, CapturePaymentRequest, CreatePaymentRequest, CreateRefundRequest,
        GetPaymentRequest, ListPaymentEventsRequest, Payment, PaymentMethod, Refund, payment::CaptureMethod,
        payment_service_client::PaymentServiceClient,
    },
};
use prost::Message;
use svc_payments::{Payments, config::Config, processor::ProcessorLimits};
use tonic::{Response, Status};

use crate::gate::{Gate, PATIENCE, until};

pub(crate) const VISA: &str = "4242424242424242";
pub(crate) const SILENT: &str = "4000000000004087";
/// Always blocked by the development rules.
pub(crate) const BLOCKED: &str = "4100000000000019";

/// 2026-11-21T00:00:00Z.
const NOW: Timestamp = Timestamp::from_seconds(1_795_219_200);

/// All services that a payment needs; svc-payments reaches them through gates.
pub(crate) struct World {
    pub(crate) harness: Harness,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) crypto_gate: Gate,
    pub(crate) fraud_gate: Gate,
    pub(crate) ledger_gate: Gate,
    crypto: Running,
    ledger: Running,
    _fraud: Running,
    _tax: Running,
    dir: tempfile::TempDir,
}

/// Quick to look for work, and so patient that a slow disk is not taken for silence.
pub(crate) fn config() -> Config {
    with_timeout(20_000)
}

/// For tests in which the processor does not answer.
pub(crate) fn impatient() -> Config {
    with_timeout(1_000)
}

fn with_timeout(timeout_ms: u64) -> Config {
    // What fails here is to be asked all the same.
    let breaker = BreakerSettings { failed_percent: 0, ..BreakerSettings::default() };
    let limits = ProcessorLimits { timeout_ms, breaker, ..ProcessorLimits::default() };
    let processors = BTreeMap::from([("simulator".to_owned(), limits)]);
    Config { processors, work_interval_ms: 5, ..Config::default() }
}

impl World {
    /// Everything but svc-payments.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(NOW));
        let mut harness = Harness::with_clock(dir.path(), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        let crypto =
            harness.start::<svc_crypto::Crypto>(svc_crypto::config::Config::default()).await.unwrap();
        let ledger = harness.start::<svc_ledger::Ledger>(svc_ledger::Config::default()).await.unwrap();
        let fraud = harness.start::<svc_fraud::Fraud>(svc_fraud::Config::default()).await.unwrap();
        let tax = harness.start::<svc_tax::Tax>(svc_tax::Config::default()).await.unwrap();
        let crypto_gate = Gate::to(crypto.address).await;
        let fraud_gate = Gate::to(fraud.address).await;
        let ledger_gate = Gate::to(ledger.address).await;
        for (name, gate) in
            [("svc-crypto", &crypto_gate), ("svc-fraud", &fraud_gate), ("svc-ledger", &ledger_gate)]
        {
            harness.add_upstream(name, &gate.address.to_string());
        }
        Self {
            harness,
            clock,
            crypto_gate,
            fraud_gate,
            ledger_gate,
            crypto,
            ledger,
            _fraud: fraud,
            _tax: tax,
            dir,
        }
    }

    /// Everything.
    pub(crate) async fn with_payments() -> (Self, Running, Edge) {
        let mut world = Self::new().await;
        let (running, edge) = world.start_payments(config()).await;
        (world, running, edge)
    }

    /// svc-payments, on what it left behind.
    pub(crate) async fn start_payments(&mut self, config: Config) -> (Running, Edge) {
        // The dead hold no lock; what a test has made stop for ever still does.
        let _ = std::fs::remove_file(self.dir.path().join("svc-payments/lock"));
        let running = self.harness.start::<Payments>(config).await.unwrap();
        let edge = self.edge(&running);
        (running, edge)
    }

    pub(crate) fn edge(&self, payments: &Running) -> Edge {
        Edge(PaymentServiceClient::new(self.harness.upstream("edge-gateway", payments).unwrap()))
    }

    /// The token of a card.
    pub(crate) async fn token(&self, number: &str) -> String {
        let upstream = self.harness.upstream("edge-gateway", &self.crypto).unwrap();
        let card = CardInput {
            number: number.into(),
            exp_month: 12,
            exp_year: 2030,
            cvc: "123".into(),
            holder_name: "Ada Payer".into(),
        };
        let request = call("").request(TokenizeRequest { card: Some(card), ..Default::default() });
        VaultServiceClient::new(upstream).tokenize(request).await.unwrap().into_inner().id
    }

    /// Takes every card out of the vault, behind its back.
    pub(crate) fn lose_cards(&self) {
        let connection = rusqlite::Connection::open(self.dir.path().join("svc-crypto/crypto.db")).unwrap();
        assert!(connection.execute("DELETE FROM card", []).unwrap() > 0);
    }

    /// What the processor has carried out, by kind: reference and amount.
    pub(crate) fn journal(&self) -> Vec<(String, String, i64)> {
        let path: PathBuf = self.dir.path().join("svc-payments/simulator.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
        let mut select = connection
            .prepare("SELECT kind, reference, amount FROM journal ORDER BY reference, kind")
            .unwrap();
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    }

    /// Whether nothing that is under way is due by now.
    pub(crate) fn nothing_is_due(&self) -> bool {
        let path = self.dir.path().join("svc-payments/payments.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
        let due = "SELECT (SELECT count(*) FROM payment WHERE due_at <= ?1)
            + (SELECT count(*) FROM posting WHERE due_at <= ?1)";
        connection.query_row(due, [self.clock.now().as_nanos()], |row| row.get::<_, i64>(0)).unwrap() == 0
    }

    /// How often the processor was asked what became of a payment's first operation.
    pub(crate) fn inquiries(&self, payment: &str) -> u64 {
        let path = self.dir.path().join("svc-payments/payments.db");
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY;
        let connection = rusqlite::Connection::open_with_flags(path, flags).unwrap();
        let asked = "SELECT CAST(body AS TEXT) ->> '$.operations[0].inquiries' FROM payment WHERE lower(hex(id)) = ?1";
        let id = payment.trim_start_matches("pay_");
        connection.query_row(asked, [id], |row| row.get(0)).unwrap()
    }

    /// How often the processor carried out something of this kind.
    pub(crate) fn effects(&self, kind: &str) -> usize {
        self.journal().iter().filter(|(of, _, _)| of == kind).count()
    }

    /// Pending debits, and posted debits less posted credits, by account code.
    pub(crate) async fn books(&self) -> BTreeMap<String, (i64, i64)> {
        let upstream = self.harness.upstream("operator", &self.ledger).unwrap();
        let mut ledger = LedgerServiceClient::new(upstream);
        let mut said = ledger.audit(call("").request(AuditRequest {})).await.unwrap().into_inner();
        let mut audit = paymesh_proto::ledger::v1::AuditResponse::default();
        while let Some(report) = said.message().await.unwrap() {
            audit = report;
        }
        assert!(audit.ok, "{audit:?}");
        let accounts = ledger.list_accounts(call("").request(ListAccountsRequest::default())).await.unwrap();
        let accounts = accounts.into_inner().accounts;
        let posted: i64 = accounts.iter().map(|a| a.debits_posted - a.credits_posted).sum();
        assert_eq!(posted, 0, "the trial balance is zero");
        let line = |a: &paymesh_proto::ledger::v1::Account| {
            (a.debits_pending + a.credits_pending, a.debits_posted - a.credits_posted)
        };
        accounts.iter().map(|account| (account.code.clone(), line(account))).collect()
    }

    /// Waits until the ledger has exactly this reserved, kept by the processor, and set aside as tax.
    pub(crate) async fn books_become(&self, reserved: i64, kept: i64, tax: i64) {
        let expected = BTreeMap::from([
            ("processor_clearing".to_owned(), (reserved, kept)),
            ("biller_payable".to_owned(), (reserved, tax - kept)),
            ("tax_payable".to_owned(), (0, -tax)),
        ]);
        let mut last = BTreeMap::new();
        let agreed = until("the ledger", async || {
            last = self.books().await;
            (last == expected).then_some(())
        });
        let in_time = tokio::time::timeout(PATIENCE / 2, agreed).await;
        assert!(in_time.is_ok(), "the ledger has {last:?}, not {expected:?}");
    }
}

/// A call for the tenant, with an idempotency key unless it is empty.
pub(crate) fn call(key: &str) -> Call {
    let plain = mesh::testing::call_of("acme");
    Call::start(Origin {
        peer: plain.peer().clone(),
        tenant: plain.tenant().ok().cloned(),
        request_id: Arc::clone(plain.request_id()),
        trace: plain.trace(),
        deadline: None,
        idempotency_key: (!key.is_empty()).then(|| key.parse().unwrap()),
    })
}

/// An answer's bytes, and whether they are those of an earlier answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer<M> {
    pub(crate) message: M,
    pub(crate) bytes: Vec<u8>,
    pub(crate) replayed: bool,
}

fn answer<M: Message>(response: Result<Response<M>, Status>) -> Result<Answer<M>, Fault> {
    let response = response.map_err(|status| Fault::from_status(&status))?;
    let replayed = response.metadata().contains_key("idempotency-replayed");
    let message = response.into_inner();
    Ok(Answer { bytes: message.encode_to_vec(), message, replayed })
}

/// Asks until the request is neither under way nor waiting for a service.
pub(crate) async fn settled<M>(mut ask: impl AsyncFnMut() -> Result<Answer<M>, Fault>) -> Answer<M> {
    until("an answer", async || match ask().await {
        Ok(answer) => Some(answer),
        Err(fault) => {
            let passing = [Reason::IdempotencyInProgress, Reason::Unavailable];
            assert!(passing.contains(&fault.reason()), "{fault}");
            assert!(fault.retry_after().is_some(), "{fault}");
            None
        }
    })
    .await
}

/// The edge, as svc-payments sees it.
#[derive(Clone)]
pub(crate) struct Edge(PaymentServiceClient<Upstream>);

/// A request for 100.00 EUR.
pub(crate) fn order(token: &str, method: CaptureMethod) -> CreatePaymentRequest {
    CreatePaymentRequest {
        amount: 10_000,
        currency: "EUR".into(),
        payment_method: Some(PaymentMethod { token: token.into() }),
        capture_method: method.into(),
        reference: "INV-1".into(),
        ..Default::default()
    }
}

impl Edge {
    pub(crate) async fn create(
        &self,
        key: &str,
        request: &CreatePaymentRequest,
    ) -> Result<Answer<Payment>, Fault> {
        answer(self.0.clone().create_payment(call(key).forward(request.clone())).await)
    }

    pub(crate) async fn capture(
        &self,
        key: &str,
        id: &str,
        amount: Option<i64>,
    ) -> Result<Answer<Payment>, Fault> {
        let request = CapturePaymentRequest { id: id.into(), amount, r#final: None };
        answer(self.0.clone().capture_payment(call(key).forward(request)).await)
    }

    pub(crate) async fn cancel(&self, key: &str, id: &str) -> Result<Answer<Payment>, Fault> {
        let request = CancelPaymentRequest { id: id.into(), reason: "changed my mind".into() };
        answer(self.0.clone().cancel_payment(call(key).forward(request)).await)
    }

    pub(crate) async fn refund(
        &self,
        key: &str,
        id: &str,
        amount: Option<i64>,
    ) -> Result<Answer<Refund>, Fault> {
        let request = CreateRefundRequest { payment_id: id.into(), amount, reason: String::new() };
        answer(self.0.clone().create_refund(call(key).forward(request)).await)
    }

    pub(crate) async fn get(&self, id: &str) -> Payment {
        let request = GetPaymentRequest { id: id.into() };
        self.0.clone().get_payment(call("").forward(request)).await.unwrap().into_inner()
    }

    /// The types of a payment's events, checked to be numbered without a gap.
    pub(crate) async fn events(&self, id: &str) -> Vec<String> {
        let request = ListPaymentEventsRequest { payment_id: id.into(), ..Default::default() };
        let events = self.0.clone().list_payment_events(call("").forward(request)).await.unwrap();
        let events = events.into_inner().events;
        for (number, event) in (1..).zip(&events) {
            assert_eq!(event.sequence, number, "{events:?}");
        }
        events.into_iter().map(|event| event.r#type).collect()
    }

    pub(crate) fn client(&self) -> PaymentServiceClient<Upstream> {
        self.0.clone()
    }
}
