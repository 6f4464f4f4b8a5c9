//! The payment itself, and the one way to change it.

use std::collections::BTreeMap;

use money::{Currency, EventId, PaymentId, RefundId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    dispute::Dispute,
    method::Method,
    operation::{Failure, NextAction, Operation, OperationKind, Waiting},
    posting::{self, Posting},
    transition::{self, Event, OperationStatus, Status},
};

/// The most operations that callers can begin on one payment, refunds included. What must follow by itself (another
/// processor, the end of its time, undoing what came too late) still can, each with a bound of its own: about 100 in
/// all.
pub const OPERATIONS_MAX: usize = 70;

/// How often a processor is asked to release what came to the end of its time, or to undo what came too late, while it
/// cannot take it on.
pub const TRIES_MAX: usize = 8;

/// When the money is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CaptureMethod {
    /// Together with the authorization.
    Automatic,
    /// Later, by a call of its own.
    Manual,
}

/// Who began the payment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Initiator {
    /// The payer, who is there.
    #[default]
    Customer,
    /// The merchant, under a mandate.
    Merchant,
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
/// `0 ≤ captured + capture_pending ≤ authorized ≤ amount`, `0 ≤ refunded + refund_pending + disputed ≤ captured`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields are those of the contract's Payment
pub struct Payment {
    pub id: PaymentId,
    pub tenant: TenantId,
    pub status: Status,
    pub amount: i64,
    /// The amount before anything was reserved in addition: what tax and fee are shares of.
    pub amount_at_first: i64,
    pub amount_authorized: i64,
    pub amount_captured: i64,
    /// Promised to captures that are not settled yet.
    pub amount_capture_pending: i64,
    pub amount_refunded: i64,
    /// Promised to refunds that are not settled yet.
    pub amount_refund_pending: i64,
    /// Taken back by payers' banks, for good or until they decide.
    pub amount_disputed: i64,
    /// The part of the amount that the payer pays for paying; ours, not the biller's.
    pub convenience_fee: i64,
    pub currency: Currency,
    pub method: Method,
    pub capture_method: CaptureMethod,
    /// What is not captured was released: no capture can follow.
    pub capture_closed: bool,
    pub initiator: Initiator,
    /// The mandate under which the merchant may charge, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mandate: Option<String>,
    pub reference: String,
    pub description: String,
    pub metadata: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fraud: Option<Fraud>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tax: Option<Tax>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_action: Option<NextAction>,
    /// Who may be asked if the processor that is asked now cannot take it on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fallbacks: Vec<String>,
    pub processor: String,
    pub processor_reference: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_transaction_id: String,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// When the state that it is in ends by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
    /// The number of the latest event.
    pub sequence: i64,
    /// Counts the commits; whoever changes a payment says which version was read.
    pub version: i64,
    /// Whether there is a reservation on our books.
    pub reserved: bool,
    /// Which reservation on our books is the current one; each is resolved before the next is made. 0: none yet.
    pub reservation: u32,
    /// How many postings there were.
    pub postings: u32,
    /// In the order in which they were begun.
    pub operations: Vec<Operation>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub disputes: Vec<Dispute>,
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

/// Names of events that are not steps of the payment itself.
pub mod event_type {
    /// A payment was written down.
    pub const CREATED: &str = "payment.created";
    /// More money was reserved.
    pub const INCREMENTED: &str = "payment.authorization_incremented";
    /// The money is reserved for longer.
    pub const EXTENDED: &str = "payment.authorization_extended";
    /// A capture, void, increment or extension was refused; what was before it stands.
    pub const OPERATION_REFUSED: &str = "payment.operation_refused";
    /// It is not known what became of a capture, void, increment or extension.
    pub const OPERATION_UNKNOWN: &str = "payment.operation_unknown";
    /// An authorization succeeded after the payment was given up; it is being undone.
    pub const LATE_SUCCESS: &str = "payment.late_success";
    /// That is undone.
    pub const LATE_SUCCESS_REVERSED: &str = "payment.late_success_reversed";
    /// The processor's answer was not to what it was asked; it is kept for inspection.
    pub const ANSWER_REFUSED: &str = "payment.processor_answer_refused";
    /// A refund was written down.
    pub const REFUND_CREATED: &str = "refund.created";
    /// A refund was refused.
    pub const REFUND_FAILED: &str = "refund.failed";
    /// It is not known what became of a refund.
    pub const REFUND_UNKNOWN: &str = "refund.unknown";
    /// The payer's bank disputes the payment.
    pub const DISPUTE_OPENED: &str = "dispute.opened";
    /// Evidence was given.
    pub const DISPUTE_UNDER_REVIEW: &str = "dispute.under_review";
    /// The money came back.
    pub const DISPUTE_WON: &str = "dispute.won";
    /// The money is gone.
    pub const DISPUTE_LOST: &str = "dispute.lost";

    /// All of them.
    pub const ALL: [&str; 15] = [
        CREATED,
        INCREMENTED,
        EXTENDED,
        OPERATION_REFUSED,
        OPERATION_UNKNOWN,
        LATE_SUCCESS,
        LATE_SUCCESS_REVERSED,
        ANSWER_REFUSED,
        REFUND_CREATED,
        REFUND_FAILED,
        REFUND_UNKNOWN,
        DISPUTE_OPENED,
        DISPUTE_UNDER_REVIEW,
        DISPUTE_WON,
        DISPUTE_LOST,
    ];
}

/// What a processor said that cannot be right; kept for a person to look at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inspection {
    /// Who said it.
    pub processor: String,
    /// Our reference of what it was asked for.
    pub reference: String,
    /// What was wrong, in our words.
    pub finding: Finding,
}

/// What is wrong with a processor's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// Another amount than asked for.
    Amount {
        /// What it was asked for, in minor units.
        asked: i64,
        /// What it says.
        said: i64,
    },
    /// Another currency than asked for.
    Currency {
        /// What it says.
        said: Currency,
    },
    /// An id that it gave for another payment before.
    DuplicateReference,
    /// It does not undo what it did after the payment was given up.
    NotReversed,
}

/// A payment's next state, with everything that must be written down in the same commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The new state.
    pub payment: Payment,
    /// What happened.
    pub events: Vec<Recorded>,
    /// What the ledger must be told, in this order.
    pub postings: Vec<Posting>,
    /// What a person should look at.
    pub inspections: Vec<Inspection>,
    /// Callers whose wait is over: the answer they are given is the payment as it is now, or its refund.
    pub answered: Vec<(Waiting, Option<RefundId>)>,
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
    /// What the outcome is of is settled already.
    #[error("Operation {number} of the payment is settled.")]
    OperationSettled {
        /// Its number.
        number: u32,
    },
    /// There were as many operations as there can be.
    #[error("The payment has had as many operations as it can have.")]
    TooManyOperations,
    /// More than what is authorized.
    #[error("The capture exceeds the {available} minor units that are authorized and not captured.")]
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
    /// More than a payment may be about.
    #[error("The payment would exceed the largest amount that one can have.")]
    AmountTooLarge,
    /// There is no such dispute.
    #[error("The payment has no such dispute.")]
    DisputeNotFound,
    /// The dispute is decided.
    #[error("The dispute is {status:?}; it can no longer be changed.")]
    DisputeDecided {
        /// Where it stands.
        status: transition::DisputeStatus,
    },
}

impl Change {
    /// No change yet.
    pub fn of(payment: Payment) -> Self {
        Self { payment, events: vec![], postings: vec![], inspections: vec![], answered: vec![] }
    }

    /// Takes a step of the transition table. A step that the table does not have is a rejection.
    pub fn step(&mut self, event: Event, amount: i64, now: Timestamp) -> Result<(), Rejection> {
        let from = self.payment.status;
        self.payment.status = transition::next(transition::PAYMENT, from, event)
            .ok_or(Rejection::State { status: from, needed: "this step is not possible from there" })?;
        self.record(event.name(), amount, now);
        Ok(())
    }

    /// Notes that something happened, with the next number.
    pub fn record(&mut self, event_type: &'static str, amount: i64, now: Timestamp) {
        self.payment.sequence += 1;
        self.payment.updated_at = now;
        let (sequence, status) = (self.payment.sequence, self.payment.status);
        self.events.push(Recorded { sequence, event_type, status, amount, at: now });
    }

    /// Writes down what the processor is to be asked for. `updated_at` stays: it is the time of the latest event,
    /// and this is none.
    pub fn begin(
        &mut self,
        kind: OperationKind,
        waiting: Option<Waiting>,
        now: Timestamp,
    ) -> Result<u32, Rejection> {
        let operations = &mut self.payment.operations;
        if operations.len() >= OPERATIONS_MAX && !kind.follows_by_itself() {
            return Err(Rejection::TooManyOperations);
        }
        let number = operations.last().map_or(1, |last| last.number.saturating_add(1));
        operations.push(Operation {
            number,
            kind,
            status: OperationStatus::Pending,
            processor: self.payment.processor.clone(),
            processor_reference: String::new(),
            failure: None,
            waiting,
            inquiries: 0,
            asked_at: None,
            created_at: now,
            updated_at: now,
        });
        Ok(number)
    }

    /// The operation that an outcome is about, while it is open.
    pub fn open_operation(&mut self, number: u32) -> Result<&mut Operation, Rejection> {
        let operation = self.payment.operations.iter_mut().find(|operation| operation.number == number);
        operation.filter(|operation| operation.status.is_open()).ok_or(Rejection::OperationSettled { number })
    }

    /// Tells the ledger something, after everything that it was told of this payment before.
    pub fn post(&mut self, mut posting: Posting) {
        self.payment.postings += 1;
        posting.ordinal = self.payment.postings;
        self.postings.push(posting);
    }

    /// What is reserved on our books is released.
    pub fn release(&mut self) {
        if std::mem::take(&mut self.payment.reserved) {
            let posting = posting::release(&mut self.payment);
            self.post(posting);
        }
    }

    /// Whoever waits for the operation is answered with this commit.
    pub fn answer(&mut self, number: u32) {
        let operation = self.payment.operations.iter_mut().find(|operation| operation.number == number);
        let Some(operation) = operation else { return };
        if let Some(waiting) = operation.waiting.take() {
            self.answered.push((waiting, operation.refund_id()));
        }
    }
}

impl Payment {
    /// What could be captured now.
    pub fn capturable(&self) -> i64 {
        if self.capture_closed || self.status.is_given_up() {
            return 0;
        }
        self.amount_authorized - self.amount_captured - self.amount_capture_pending
    }

    /// What could be refunded now.
    pub fn refundable(&self) -> i64 {
        self.amount_captured - self.amount_refunded - self.amount_refund_pending - self.amount_disputed
    }

    /// What went back to the payer. What the payer's bank took back counts as not captured any more.
    pub fn given_back(&self) -> i64 {
        let returned =
            if self.status.is_given_up() { self.amount_authorized - self.amount_captured } else { 0 };
        self.amount_refunded + returned
    }

    /// The operation with this number.
    pub fn operation(&self, number: u32) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.number == number)
    }

    /// The refund with this id.
    pub fn refund(&self, id: RefundId) -> Option<&Operation> {
        self.operations.iter().find(|operation| operation.refund_id() == Some(id))
    }

    /// What the processor still has to say something about, or waits for being asked.
    pub fn open_operations(&self) -> impl Iterator<Item = &Operation> {
        self.operations.iter().filter(|operation| operation.status.is_open())
    }

    /// The latest attempt to authorize it.
    pub fn attempt(&self) -> Option<&Operation> {
        self.operations
            .iter()
            .rev()
            .find(|operation| matches!(operation.kind, OperationKind::Authorize { .. }))
    }

    /// How often its processor was asked for just this.
    pub fn tries(&self, kind: &OperationKind) -> usize {
        self.operations.iter().filter(|operation| operation.kind == *kind).count()
    }

    /// That nothing is under way that must be alone.
    pub fn must_be_idle(&self) -> Result<(), Rejection> {
        match self.status {
            Status::Unknown | Status::Processing => {
                let needed = "wait until the processor's answer is known";
                Err(Rejection::State { status: self.status, needed })
            }
            _ if self.open_operations().any(Operation::is_exclusive) => Err(Rejection::OperationUnderWay),
            _ => Ok(()),
        }
    }

    /// Likewise, and no capture either.
    pub fn must_be_alone(&self) -> Result<(), Rejection> {
        self.must_be_idle()?;
        if self.amount_capture_pending > 0 { Err(Rejection::OperationUnderWay) } else { Ok(()) }
    }

    /// A fresh event id is made of the payment and the sequence, so that it is the same after a retry.
    pub fn event_id(&self, sequence: i64) -> EventId {
        // The payment's time prefix is kept and the number goes into the random part.
        let number = u128::from(sequence.unsigned_abs()) << 2;
        EventId::new(uuid::Uuid::from_u128(self.id.uuid().as_u128() ^ (0b01 | number)))
    }
}
