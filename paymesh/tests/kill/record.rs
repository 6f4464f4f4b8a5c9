//! What the client knows: every answer that it got, and every request that it got no answer to.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use serde_json::Value;

use crate::support::books::{number, text};

/// What a request is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Token,
    Payment,
    Capture,
    Cancel,
    Refund,
}

/// A request as it is sent, and sent again after a crash.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) path: String,
    pub(crate) key: String,
    pub(crate) body: Value,
    /// The payment that it is about.
    pub(crate) subject: String,
}

/// A success.
#[derive(Debug, Clone)]
pub(crate) struct Acknowledged {
    pub(crate) operation: Operation,
    pub(crate) bytes: Bytes,
    pub(crate) answer: Value,
}

/// What was acknowledged of one payment.
#[derive(Debug, Clone, Default)]
pub(crate) struct PaymentRecord {
    /// The answer with the highest sequence.
    pub(crate) latest: Value,
    /// The outcome of an operation came as UNKNOWN: what became of it only the payment says.
    pub(crate) was_unknown: bool,
    /// The amount that an answer says was captured.
    pub(crate) captured: i64,
    pub(crate) refunds: BTreeMap<String, Value>,
}

/// Everything.
#[derive(Default)]
pub(crate) struct Record {
    pub(crate) acknowledged: Vec<Acknowledged>,
    by_key: HashMap<(Kind, String), usize>,
    pub(crate) payments: BTreeMap<String, PaymentRecord>,
    pub(crate) tokens: Vec<String>,
    pub(crate) silent_token: String,
    /// Got no answer yet; to be sent again with the same key.
    pub(crate) unanswered: Vec<Operation>,
    pub(crate) refused: u64,
    pub(crate) lost: Vec<String>,
    pub(crate) double: Vec<String>,
    /// Neither lost nor double, and wrong all the same.
    pub(crate) wrong: Vec<String>,
    /// Payments that can be captured, and that can be refunded.
    pub(crate) authorized: Vec<String>,
    pub(crate) captured: Vec<String>,
}

impl Record {
    /// Notes a success. `replayed`: the answer says that it was given before.
    pub(crate) fn acknowledge(&mut self, operation: Operation, bytes: Bytes, answer: Value) {
        let key = (operation.kind, operation.key.clone());
        if let Some(first) = self.by_key.get(&key).map(|at| &self.acknowledged[*at]) {
            if first.bytes != bytes {
                self.double.push(format!("{operation:?} was answered with {} and {answer}", first.answer));
            }
            return;
        }
        self.by_key.insert(key, self.acknowledged.len());
        let subject = operation.subject.clone();
        match operation.kind {
            Kind::Token => self.tokens.push(text(&answer, "id")),
            Kind::Payment | Kind::Capture | Kind::Cancel => self.note_payment(&answer),
            Kind::Refund => {
                let record = self.payments.entry(subject.clone()).or_default();
                record.refunds.insert(text(&answer, "id"), answer.clone());
                self.captured.push(subject);
            }
        }
        self.acknowledged.push(Acknowledged { operation, bytes, answer });
    }

    fn note_payment(&mut self, answer: &Value) {
        let id = text(answer, "id");
        let record = self.payments.entry(id.clone()).or_default();
        if number(answer, "sequence") > number(&record.latest, "sequence") {
            record.latest = answer.clone();
        }
        let unknown = |operation: &Value| operation["status"] == "UNKNOWN";
        record.was_unknown |= answer["operations"].as_array().is_some_and(|all| all.iter().any(unknown));
        record.captured = record.captured.max(number(answer, "amount_captured"));
        match answer["status"].as_str() {
            Some("AUTHORIZED") => self.authorized.push(id),
            Some("CAPTURED" | "PARTIALLY_CAPTURED") => self.captured.push(id),
            _ => {}
        }
    }

    /// The first of each kind.
    pub(crate) fn print_faults(&self) {
        for (name, found) in [("LOST", &self.lost), ("DOUBLE", &self.double), ("WRONG", &self.wrong)] {
            for what in found.iter().take(20) {
                println!("{name}: {what}");
            }
        }
    }

    pub(crate) fn faults(&self) -> usize {
        self.lost.len() + self.double.len() + self.wrong.len()
    }
}
