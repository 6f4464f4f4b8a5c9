//! The payment itself, and the one way to change it.

use std::collections::BTreeMap;

use money::{Currency, EventId, PaymentId, TenantId, Timestamp, TokenId};
use serde::{Deserialize, Serialize};

use super::{
    card::CardSummary,
    operation::{Failure, Operation, Waiting},
    posting::Posting,
    transition::{self, Event, Status},
};

/// When the money is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMethod {
    /// Together with the authorization.
    Automatic,
    /// Later, by a call of its own.
    Manual,
}

/// What the fraud service said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fraud {
    /// The decision.
    pub outcome: FraudOutcome,
    /// 0 to 100.
    pub score: i32,
    /// The rules that matched.
    pub reasons: Vec<String>,
}

/// The decision of a fraud assessment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FraudOutcome {
    /// Go on.
    Allow,
    /// Hold back for a person.
    Review,
    /// Refuse.
    Block,
}

/// The tax in a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tax {
    /// The tax service's calculation, as it answered (an encoded `paymesh.tax.v1.Calculation`).
    pub calculation: Vec<u8>,
    /// Minor units of the whole payment's tax.
    pub amount_tax: i64,
}

/// A payment. Invariants, kept by every function of this module and by the store's own constraints:
/// `0 ≤ captured ≤ authorized`, `0 ≤ refunded + refund_pending ≤ captured`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields are those of the contract's Payment
pub struct Payment {
    pub id: PaymentId,
    pub tenant: TenantId,
    pub status: Status,
    pub amount: i64,
    pub amount_authorized: i64,
    pub amount_captured: i64,
    pub amount_refunded: i64,
    /// Promised to refunds that are not settled yet.
    pub amount_refund_pending: i64,
    pub currency: Currency,
    pub token: TokenId,
    pub card: CardSummary,
    pub capture_method: CaptureMethod,
    pub reference: String,
    pub description: String,
    pub metadata: BTreeMap<String, String>,
    pub fraud: Option<Fraud>,
    pub tax: Option<Tax>,
    pub failure: Option<Failure>,
    pub processor: String,
    pub processor_reference: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// The number of the latest event.
    pub sequence: i64,
    /// What is under way at the processor.
    pub operation: Option<Operation>,
    /// Who waits for it.
    pub waiting: Option<Waiting>,
    /// How often the processor was asked about an unknown outcome.
    pub inquiries: u32,
    /// Numbers the operations, so that each has a processor key of its own.
    pub operation_number: u32,
}

/// Something that happened, numbered without a gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// 1, 2, 3, …
    pub sequence: i64,
    /// The name for the outside, such as `payment.authorized`.
    pub event_type: &'static str,
    /// The payment's state after it.
    pub status: Status,
    /// Minor units; 0 where no amount is meant.
    pub amount: i64,
    /// When.
    pub at: Timestamp,
}

/// A payment's next state, with everything that must be written down in the same commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new state.
    pub payment: Payment,
    /// What happened.
    pub events: Vec<Recorded>,
    /// What the ledger must be told.
    pub postings: Vec<Posting>,
}

/// Why a command cannot be carried out. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// The payment is in a state in which this cannot be done.
    #[error("The payment is {}; {needed}.", status.name())]
    State {
        /// The state.
        status: Status,
        /// What would be needed.
        needed: &'static str,
    },
    /// Something else is under way.
    #[error("Another operation on this payment is under way; try again when it is settled.")]
    OperationUnderWay,
    /// More than what is authorized.
    #[error("The capture exceeds the {available} minor units that are authorized.")]
    CaptureExceedsAuthorized {
        /// What could be captured.
        available: i64,
    },
    /// More than what is captured and not yet refunded.
    #[error("The refund exceeds the {available} minor units that are captured and not refunded.")]
    RefundExceedsCaptured {
        /// What could be refunded.
        available: i64,
    },
}

impl Change {
    /// No change yet.
    pub fn of(payment: Payment) -> Self {
        Self { payment, events: Vec::new(), postings: Vec::new() }
    }

    /// Takes a step of the transition table. A step that the table does not have is a rejection.
    pub fn step(&mut self, event: Event, amount: i64, now: Timestamp) -> Result<(), Rejection> {
        let from = self.payment.status;
        let to = transition::next(from, event)
            .ok_or(Rejection::State { status: from, needed: "this step is not possible from there" })?;
        self.payment.status = to;
        let event_type = match event {
            Event::OperationRefused => "payment.operation_refused",
            Event::PartiallyRefunded => "payment.partially_refunded",
            _ => to.event_type(),
        };
        self.record(event_type, amount, now);
        Ok(())
    }

    /// Notes that something happened, with the next number.
    pub fn record(&mut self, event_type: &'static str, amount: i64, now: Timestamp) {
        self.payment.sequence += 1;
        self.payment.updated_at = now;
        let (sequence, status) = (self.payment.sequence, self.payment.status);
        self.events.push(Recorded { sequence, event_type, status, amount, at: now });
    }

    /// The operation is settled.
    pub fn settle_operation(&mut self) {
        self.payment.operation = None;
        self.payment.inquiries = 0;
    }
}

impl Payment {
    /// Our reference of the operation under way: the processor's idempotency key, and what it is asked
    /// about later.
    pub fn operation_reference(&self) -> String {
        format!("{}_{}", self.id, self.operation_number)
    }

    /// What could be refunded now.
    pub fn refundable(&self) -> i64 {
        self.amount_captured - self.amount_refunded - self.amount_refund_pending
    }

    /// A fresh event id is made of the payment and the sequence, so that it is the same after a retry.
    pub fn event_id(&self, sequence: i64) -> EventId {
        // The payment's time prefix is kept and the number goes into the random part.
        let number = u128::from(sequence.unsigned_abs()) << 2;
        EventId::new(uuid::Uuid::from_u128(self.id.uuid().as_u128() ^ (0b01 | number)))
    }
}
