//! A processor that needs no network: deterministic by card number, with the public test cards of
//! Stripe (<https://docs.stripe.com/testing>) and one card of our own that never answers.
//!
//! It keeps a journal of its own, as a processor elsewhere would: what it has approved it still knows
//! after a crash of ours, and a reference that comes twice has its effect once.

use std::{future::pending, path::Path, sync::Arc};

use mesh::{Clock, Embedded, StoreError};
use rusqlite::{Connection, OptionalExtension as _, params};
use webhooks::WebhookSecret;

use super::{
    Answer, Asked, Authorization, ChargeableCard, Inquiry, Instrument, Processor, ProcessorRequest,
    WebhookError, WebhookHeaders, WebhookSubject,
};
use crate::domain::operation::{Approval, Failure, ProcessorOutcome, of_reference};

/// The name that payments carry.
pub const NAME: &str = "simulator";

/// The card of our own: the authorization is made, its answer never comes. Passes the Luhn check.
pub const NEVER_ANSWERS: &str = "4000000000004087";

/// Asked about a request that it did not answer, the simulator knows the outcome only this much later.
const SETTLES_AFTER_NS: i64 = 20 * 1_000_000_000;

const SCHEMA: &str = "CREATE TABLE journal (
    reference TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    of TEXT NOT NULL,
    amount INTEGER NOT NULL,
    outcome TEXT NOT NULL,
    answers INTEGER NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID";

/// The simulator.
pub struct Simulator {
    journal: Embedded,
    clock: Arc<dyn Clock>,
    webhooks: Option<WebhookSecret>,
}

/// What the simulator's webhooks hold: `{"type": "payment.updated", "data": {"reference": "pay_…_1"}}`.
#[derive(serde::Deserialize)]
struct Webhook {
    data: WebhookData,
}

#[derive(serde::Deserialize)]
struct WebhookData {
    /// Our own reference.
    #[serde(default)]
    reference: String,
}

/// One line of the journal.
struct Entry {
    kind: &'static str,
    of: String,
    amount: i64,
    outcome: ProcessorOutcome,
    answers: bool,
}

impl Simulator {
    /// Opens or creates the journal.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Ok(Self { journal: Embedded::open(path, &[SCHEMA])?, clock, webhooks: None })
    }

    /// Takes webhooks that are signed with this secret; without one none are.
    #[must_use]
    pub fn with_webhooks(mut self, secret: WebhookSecret) -> Self {
        self.webhooks = Some(secret);
        self
    }

    async fn carry_out(&self, reference: &str, request: ProcessorRequest) -> ProcessorOutcome {
        let (reference, now) = (reference.to_owned(), self.clock.now().as_nanos());
        let entry = decide(&reference, &request);
        drop(request);
        let answers = entry.answers;
        let outcome = self.journal.write(move |connection| record(connection, &reference, entry, now)).await;
        match outcome {
            Ok(_) if !answers => pending().await,
            Ok(outcome) => outcome,
            Err(error) => {
                let error: StoreError = error;
                tracing::error!(%error, "the simulator's journal failed");
                ProcessorOutcome::Unanswered
            }
        }
    }

    async fn look_up(&self, asked: Asked<'_>) -> Inquiry {
        let reference = asked.reference.to_owned();
        // What an earlier program asked for stands under the name that it gave.
        let before = asked.processor_reference.map(str::to_owned);
        let latest = self.clock.now().as_nanos().saturating_sub(SETTLES_AFTER_NS);
        // In the writer's queue, behind any request that came before: what it says never arrived, never will.
        let look = move |connection: &Connection| match (find(connection, &reference)?, before) {
            (None, Some(before)) => find(connection, &before),
            (found, _) => Ok(found),
        };
        match self.journal.write(look).await {
            Ok(None) => Inquiry::NeverHeardOf,
            Ok(Some((_, false, at))) if at > latest => Inquiry::Pending,
            Ok(Some((outcome, _, _))) => Inquiry::Settled(outcome),
            Err(error) => {
                let error: StoreError = error;
                tracing::error!(%error, "the simulator's journal failed");
                Inquiry::Unanswered
            }
        }
    }
}

impl Processor for Simulator {
    fn name(&self) -> &str {
        NAME
    }

    fn perform<'a>(&'a self, reference: &'a str, request: ProcessorRequest) -> Answer<'a, ProcessorOutcome> {
        Box::pin(self.carry_out(reference, request))
    }

    fn inquire<'a>(&'a self, asked: Asked<'a>) -> Answer<'a, Inquiry> {
        Box::pin(self.look_up(asked))
    }

    fn verify_webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<WebhookSubject, WebhookError> {
        let secret = self.webhooks.as_ref().ok_or(WebhookError::Signature)?;
        secret.verify(headers, body, self.clock.now())?;
        let webhook: Webhook = serde_json::from_slice(body).map_err(|_| WebhookError::Body)?;
        Ok(subject(&webhook.data.reference))
    }
}

fn subject(reference: &str) -> WebhookSubject {
    of_reference(reference).map_or(WebhookSubject::Other, |(payment, _)| WebhookSubject::Payment(payment))
}

fn decide(reference: &str, request: &ProcessorRequest) -> Entry {
    let approved = || ProcessorOutcome::Approved(Approval::as_asked(format!("sim_{reference}")));
    let entry = |kind: &'static str, of: &str, amount: i64| Entry {
        kind,
        of: of.to_owned(),
        amount,
        outcome: approved(),
        answers: true,
    };
    match request {
        ProcessorRequest::Authorize(authorization) => {
            let Authorization { instrument, amount, currency, capture, .. } = authorization.as_ref();
            let card = match instrument {
                Instrument::Card(card) => Some(card),
                Instrument::BankAccount(_) | Instrument::Wallet(_) => None,
            };
            let approval = Approval {
                amount: Some(*amount),
                currency: Some(*currency),
                network_transaction_id: format!("nt_{reference}"),
                ..Approval::as_asked(format!("sim_{reference}"))
            };
            Entry {
                kind: if *capture { "sale" } else { "authorize" },
                of: String::new(),
                amount: *amount,
                outcome: card
                    .and_then(decline)
                    .map_or(ProcessorOutcome::Approved(approval), ProcessorOutcome::Declined),
                answers: card.is_none_or(|card| card.expose_number() != NEVER_ANSWERS),
            }
        }
        ProcessorRequest::Increment { of, by, .. } => entry("increment", of, *by),
        ProcessorRequest::Extend { of } => entry("extend", of, 0),
        ProcessorRequest::Capture { of, amount, .. } => entry("capture", of, *amount),
        ProcessorRequest::Void { of } => entry("void", of, 0),
        ProcessorRequest::Refund { of, amount } => entry("refund", of, *amount),
    }
}

/// Why this card is declined, if it is.
fn decline(card: &ChargeableCard) -> Option<Failure> {
    let (code, decline_code, message) = match card.expose_number() {
        "4000000000000002" => ("CARD_DECLINED", "generic_decline", "The card was declined."),
        "4000000000009995" => ("CARD_DECLINED", "insufficient_funds", "The card has insufficient funds."),
        "4000000000009987" => ("CARD_DECLINED", "lost_card", "The card was declined."),
        "4000000000009979" => ("CARD_DECLINED", "stolen_card", "The card was declined."),
        "4000000000000069" => ("EXPIRED_CARD", "expired_card", "The card has expired."),
        // The check of the code fails where there is one to check.
        "4000000000000101" if card.expose_cvc().is_none() => return None,
        "4000000000000127" | "4000000000000101" => {
            ("INCORRECT_CVC", "incorrect_cvc", "The card's security code is incorrect.")
        }
        "4000000000000119" => {
            ("PROCESSING_ERROR", "processing_error", "The processor could not process the card; try again.")
        }
        _ => return None,
    };
    Some(Failure { code: code.into(), decline_code: decline_code.into(), message: message.into() })
}

fn record(
    connection: &Connection,
    reference: &str,
    entry: Entry,
    now: i64,
) -> Result<ProcessorOutcome, StoreError> {
    if let Some((outcome, _, _)) = find(connection, reference)? {
        return Ok(outcome);
    }
    let outcome = serde_json::to_string(&entry.outcome).map_err(|e| StoreError::Corrupt(e.to_string()))?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO journal (reference, kind, of, amount, outcome, answers, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    insert.execute(params![reference, entry.kind, entry.of, entry.amount, outcome, entry.answers, now])?;
    Ok(entry.outcome)
}

fn find(
    connection: &Connection,
    reference: &str,
) -> Result<Option<(ProcessorOutcome, bool, i64)>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT outcome, answers, at FROM journal WHERE reference = ?1")?;
    let found: Option<(String, bool, i64)> =
        select.query_row([reference], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
    found
        .map(|(outcome, answers, at)| {
            let outcome = serde_json::from_str(&outcome).map_err(|e| StoreError::Corrupt(e.to_string()))?;
            Ok((outcome, answers, at))
        })
        .transpose()
}

#[cfg(test)]
mod tests {
    use mesh::ManualClock;
    use money::Timestamp;

    use super::*;
    use crate::domain::{operation::OperationKind, payment::Initiator};

    fn sale(number: &str) -> ProcessorRequest {
        sale_with(number, "")
    }

    fn sale_with(number: &str, cvc: &str) -> ProcessorRequest {
        let currency = "EUR".parse().unwrap();
        ProcessorRequest::Authorize(Box::new(Authorization {
            instrument: Instrument::Card(ChargeableCard::new(number.into(), cvc.into())),
            amount: 100,
            currency,
            capture: true,
            initiator: Initiator::Customer,
            network_transaction_id: String::new(),
            statement_reference: String::new(),
        }))
    }

    async fn asked(simulator: &Simulator, reference: &str) -> Inquiry {
        let kind = OperationKind::Authorize { amount: 100, capture: true };
        simulator.inquire(Asked { reference, processor_reference: None, kind: &kind }).await
    }

    fn simulator() -> (tempfile::TempDir, Arc<ManualClock>, Simulator) {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_000)));
        let simulator =
            Simulator::open(&dir.path().join("s.db"), Arc::clone(&clock) as Arc<dyn Clock>).unwrap();
        (dir, clock, simulator)
    }

    #[tokio::test]
    async fn the_card_decides_and_a_reference_counts_once() {
        let (_dir, _, simulator) = simulator();
        for number in ["4242424242424242", "5555555555554444", "378282246310005", "6011111111111117"] {
            let approved = simulator.perform(number, sale(number)).await;
            assert!(
                matches!(&approved, ProcessorOutcome::Approved(a) if a.reference == format!("sim_{number}") && a.amount == Some(100)),
                "{number}: {approved:?}"
            );
        }
        for (number, decline_code) in [
            ("4000000000000002", "generic_decline"),
            ("4000000000009995", "insufficient_funds"),
            ("4000000000009987", "lost_card"),
            ("4000000000009979", "stolen_card"),
            ("4000000000000069", "expired_card"),
            ("4000000000000127", "incorrect_cvc"),
            ("4000000000000119", "processing_error"),
        ] {
            let outcome = simulator.perform(number, sale(number)).await;
            assert!(
                matches!(&outcome, ProcessorOutcome::Declined(f) if f.decline_code == decline_code),
                "{number}"
            );
            // The same reference again, even for another card: the first outcome.
            assert_eq!(simulator.perform(number, sale("4242424242424242")).await, outcome);
        }
        let checked = simulator.perform("checked", sale_with("4000000000000101", "123")).await;
        assert!(matches!(&checked, ProcessorOutcome::Declined(f) if f.decline_code == "incorrect_cvc"));
        let unchecked = simulator.perform("unchecked", sale("4000000000000101")).await;
        assert!(matches!(unchecked, ProcessorOutcome::Approved(_)));
        assert_eq!(asked(&simulator, "never sent").await, Inquiry::NeverHeardOf);
    }

    /// What was sent before the question is known when the question is answered, also if the sender did
    /// not wait for it.
    #[tokio::test]
    async fn what_was_sent_is_never_said_to_be_unheard_of() {
        let (_dir, _, simulator) = simulator();
        for number in 0..200 {
            let reference = format!("r{number}");
            {
                let mut sent = simulator.perform(&reference, sale("4242424242424242"));
                let once =
                    std::future::poll_fn(|context| std::task::Poll::Ready(sent.as_mut().poll(context)));
                assert!(once.await.is_pending(), "the answer takes a thread");
            }
            let found = asked(&simulator, &reference).await;
            assert!(matches!(found, Inquiry::Settled(ProcessorOutcome::Approved(_))), "{number}: {found:?}");
        }
    }

    #[test]
    fn a_webhook_says_whom_to_ask_about_and_nothing_else() {
        let (_dir, _, simulator) = simulator();
        let secret = WebhookSecret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let about = |simulator: &Simulator, body: &str| {
            let signature = secret.sign("msg_1", "1000", body.as_bytes());
            let headers = [("id", "msg_1"), ("timestamp", "1000"), ("signature", &signature)]
                .map(|(name, value)| (format!("webhook-{name}"), value.to_owned()));
            simulator.verify_webhook(&headers.into(), body.as_bytes())
        };
        let payment = money::PaymentId::new(uuid::Uuid::from_u128(1 << 76 | 2 << 62));
        let body =
            |reference: &str| format!(r#"{{"type":"x","data":{{"reference":"{reference}","paid":true}}}}"#);
        assert_eq!(about(&simulator, &body("x")), Err(WebhookError::Signature), "none without a secret");
        let simulator = simulator.with_webhooks(secret.clone());
        assert_eq!(about(&simulator, &body(&format!("{payment}_3"))), Ok(WebhookSubject::Payment(payment)));
        for other in ["", "x", "pay_", "pay_1_2_3"] {
            assert_eq!(about(&simulator, &body(other)), Ok(WebhookSubject::Other), "{other}");
        }
        for broken in ["", "{}", "[]", "not json"] {
            assert_eq!(about(&simulator, broken), Err(WebhookError::Body), "{broken}");
            // The signature comes before the body.
            assert_eq!(
                simulator.verify_webhook(&WebhookHeaders::new(), broken.as_bytes()),
                Err(WebhookError::Signature)
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_silent_card_never_answers_and_settles_when_asked_later() {
        let (_dir, clock, simulator) = simulator();
        let wait = std::time::Duration::from_secs(3_600);
        assert!(tokio::time::timeout(wait, simulator.perform("r1", sale(NEVER_ANSWERS))).await.is_err());
        assert_eq!(asked(&simulator, "r1").await, Inquiry::Pending);
        clock.advance_seconds(21);
        assert!(matches!(asked(&simulator, "r1").await, Inquiry::Settled(ProcessorOutcome::Approved(_))));
    }
}
