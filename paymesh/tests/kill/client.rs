//! Clients that pay, capture, cancel and refund as they please, and send again what was not answered.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use paymesh::rest::Rest;
use serde_json::{Value, json};
use tokio::{sync::Notify, task::JoinSet};

use crate::{
    record::{Kind, Operation, Record},
    support::{Rng, SILENT, card, payment_body, process::PATIENCE, with_check_digit},
};

const CLIENTS: u64 = 8;
const CARDS: [&str; 14] = [
    "4242424242424242",
    "4242424242424242",
    "4242424242424242",
    "5555555555554444",
    "5555555555554444",
    "378282246310005",
    "378282246310005",
    "6011111111111117",
    "6011111111111117",
    "4000000000000002",
    "4000000000009995",
    "4000000000000119",
    "4100000000000019",
    "4000000000009235",
];
const CURRENCIES: [&str; 3] = ["EUR", "USD", "JPY"];

/// What all clients of a run share.
#[derive(Default)]
pub(crate) struct World {
    pub(crate) record: Mutex<Record>,
    /// Answers of this life of the mesh.
    pub(crate) answers: AtomicU64,
    pub(crate) answered: Notify,
    pub(crate) stop: AtomicBool,
    pub(crate) keys: AtomicU64,
}

enum Outcome {
    Final(paymesh::rest::Answer),
    /// The connection broke, or the mesh is not there: nobody knows.
    Unanswered,
}

impl World {
    fn key(&self) -> String {
        format!("k-{}", self.keys.fetch_add(1, Ordering::Relaxed))
    }

    /// Starts the clients; they run until told to stop or until the mesh is gone.
    pub(crate) fn clients(self: &Arc<Self>, rest: &Rest, rng: &mut Rng) -> JoinSet<()> {
        self.stop.store(false, Ordering::SeqCst);
        self.answers.store(0, Ordering::SeqCst);
        let mut clients = JoinSet::new();
        for _ in 0..CLIENTS {
            let (world, rest, rng) = (Arc::clone(self), rest.clone(), Rng(rng.next()));
            clients.spawn(async move { world.client(&rest, rng).await });
        }
        clients
    }

    async fn client(self: Arc<Self>, rest: &Rest, mut rng: Rng) {
        while !self.stop.load(Ordering::SeqCst) {
            let earlier = self.record.lock().unwrap().unanswered.pop();
            let operation = earlier.unwrap_or_else(|| self.choose(&mut rng));
            // Some clients are impatient and send the same twice at the same time.
            if rng.below(16) == 0 {
                let (first, second) =
                    tokio::join!(self.attempt(rest, operation.clone()), self.attempt(rest, operation));
                if !(first && second) {
                    return;
                }
            } else if !self.attempt(rest, operation).await {
                return;
            }
        }
    }

    /// Sends until there is an answer, and notes it. False if the mesh is gone.
    async fn attempt(&self, rest: &Rest, operation: Operation) -> bool {
        match self.send(rest, &operation).await {
            Outcome::Unanswered => {
                self.record.lock().unwrap().unanswered.push(operation);
                false
            }
            Outcome::Final(answer) => {
                self.note(operation, &answer);
                self.answers.fetch_add(1, Ordering::SeqCst);
                self.answered.notify_waiters();
                true
            }
        }
    }

    async fn send(&self, rest: &Rest, operation: &Operation) -> Outcome {
        let began = Instant::now();
        loop {
            let Ok(answer) = rest.post(&operation.path, Some(&operation.key), &operation.body).await else {
                return Outcome::Unanswered;
            };
            let in_progress = answer.body["code"] == "IDEMPOTENCY_IN_PROGRESS";
            if !in_progress && !matches!(answer.status, 429 | 503 | 504) {
                return Outcome::Final(answer);
            }
            if began.elapsed() > PATIENCE {
                let mut record = self.record.lock().unwrap();
                record.wrong.push(format!("{operation:?} is never answered: {}", answer.body));
                return Outcome::Unanswered;
            }
            // As a client that was told to ask again, only less patient.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn note(&self, operation: Operation, answer: &paymesh::rest::Answer) {
        let mut record = self.record.lock().unwrap();
        let moves_on = matches!(operation.kind, Kind::Capture | Kind::Cancel | Kind::Refund);
        match answer.status {
            200 => record.acknowledge(operation, answer.bytes.clone(), answer.body.clone()),
            // Another client was faster, or the payment is not that far yet: nothing was done.
            409 | 422 if moves_on && answer.body["code"] != "IDEMPOTENCY_KEY_REUSED" => record.refused += 1,
            status => record.wrong.push(format!("{operation:?} got {status}: {}", answer.body)),
        }
    }

    fn choose(&self, rng: &mut Rng) -> Operation {
        let mut record = self.record.lock().unwrap();
        let dice = rng.below(100);
        let found = match dice {
            0..8 => None,
            8..33 if !record.authorized.is_empty() => {
                let at = rng.index(record.authorized.len());
                let id = record.authorized.swap_remove(at);
                if rng.below(10) == 0 {
                    // Left for another client as well: of two only one may win.
                    record.authorized.push(id.clone());
                }
                let amount = crate::support::books::number(&record.payments[&id].latest, "amount");
                let (kind, verb, body) = match rng.below(3) {
                    0 => (Kind::Cancel, "cancel", json!({"reason": "a whim"})),
                    1 => (Kind::Capture, "capture", json!({})),
                    _ => (Kind::Capture, "capture", json!({"amount": rng.amount(amount)})),
                };
                Some((kind, format!("/v1/payments/{id}/{verb}"), body, id))
            }
            33..55 if !record.captured.is_empty() => {
                let at = rng.index(record.captured.len());
                let id = record.captured.swap_remove(at);
                let captured = record.payments[&id].captured;
                let body =
                    if rng.below(2) == 0 { json!({}) } else { json!({"amount": rng.amount(captured)}) };
                Some((Kind::Refund, format!("/v1/payments/{id}/refunds"), body, id))
            }
            _ if record.tokens.is_empty() => None,
            _ => {
                let silent = rng.below(150) == 0 && !record.silent_token.is_empty();
                let token =
                    if silent { record.silent_token.clone() } else { rng.pick(&record.tokens).clone() };
                Some((Kind::Payment, "/v1/payments".to_owned(), payment(rng, &token), String::new()))
            }
        };
        let (kind, path, body, subject) =
            found.unwrap_or_else(|| (Kind::Token, "/v1/tokens".to_owned(), new_card(rng), String::new()));
        Operation { kind, path, key: self.key(), body, subject }
    }

    /// Sends everything again that got no answer.
    pub(crate) async fn settle_unanswered(&self, rest: &Rest) {
        loop {
            let Some(operation) = self.record.lock().unwrap().unanswered.pop() else { return };
            assert!(self.attempt(rest, operation).await, "the mesh is there and does not answer");
        }
    }

    /// Makes the token of the card that never answers; it is not among those that are drawn.
    pub(crate) async fn make_silent_token(&self, rest: &Rest) {
        let id = crate::support::token(rest, SILENT).await;
        self.record.lock().unwrap().silent_token = id;
    }
}

fn new_card(rng: &mut Rng) -> Value {
    if rng.below(2) == 0 {
        return card(CARDS[rng.index(CARDS.len())]);
    }
    card(&with_check_digit(&format!("45{:013}", rng.below(10_000_000_000_000))))
}

fn payment(rng: &mut Rng, token: &str) -> Value {
    let (amount, currency) = (rng.amount(90_000), *rng.pick(&CURRENCIES));
    let capture = if rng.below(2) == 0 { "AUTOMATIC" } else { "MANUAL" };
    let mut body = payment_body(token, amount, currency, capture);
    if currency == "EUR" && rng.below(3) == 0 {
        let line = json!({"reference": "L1", "amount": amount, "category": "STANDARD"});
        body["tax"] = json!({"lines": [line], "ship_to": {"country": "DE"}, "prices_include_tax": true});
    }
    body
}
