//! What a processor is asked for on behalf of a payment, and how it answered. Every attempt to authorize, every
//! capture, void and refund is one operation with a number, on record before the processor hears of it.

use money::{Currency, PaymentId, RefundId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    payment::Rejection,
    transition::{self, OperationEvent, OperationStatus},
};

/// The code of an answer that cannot be right.
const ANSWER_WRONG: &str = "PROCESSOR_ANSWER_WRONG";

/// Something that a processor is asked for, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    /// 1, 2, 3, … within the payment.
    pub number: u32,
    /// What is asked for.
    pub kind: OperationKind,
    /// Where it stands.
    pub status: OperationStatus,
    /// Who is asked.
    pub processor: String,
    /// The processor's own id of what it did; empty where it gave none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub processor_reference: String,
    /// Why it was not done, or why its outcome is in doubt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure: Option<Failure>,
    /// The caller who waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<Waiting>,
    /// How often the processor was asked what became of it.
    #[serde(default)]
    pub inquiries: u32,
    /// When the processor was last asked without telling anything new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked_at: Option<Timestamp>,
    /// When it was written down.
    pub created_at: Timestamp,
    /// When something last became known of it.
    pub updated_at: Timestamp,
}

/// What is asked for. Amounts are minor units.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum OperationKind {
    /// Reserve the amount; with `capture` take it at once. Every attempt is one of its own.
    Authorize {
        /// How much.
        amount: i64,
        /// Whether it is taken at once.
        capture: bool,
    },
    /// Reserve more.
    Increment {
        /// By how much.
        amount: i64,
    },
    /// Keep what is reserved for longer.
    Extend,
    /// Take some of what is reserved.
    Capture {
        /// How much.
        amount: i64,
        /// Whether the rest is released.
        last: bool,
    },
    /// Release what is reserved and not captured.
    Void {
        /// Why.
        cause: VoidCause,
    },
    /// Give back what was captured.
    Refund {
        /// The refund's id.
        id: RefundId,
        /// How much.
        amount: i64,
        /// The caller's words.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        reason: String,
    },
    /// Undo an authorization that succeeded after the payment was given up.
    Reverse {
        /// The number of the authorization.
        of: u32,
        /// How much was taken; 0: it was only reserved.
        captured: i64,
    },
}

impl OperationKind {
    /// Whether it is not a caller who asks for it; an authorization is the payment itself.
    pub const fn follows_by_itself(&self) -> bool {
        matches!(
            self,
            Self::Authorize { .. } | Self::Reverse { .. } | Self::Void { cause: VoidCause::Expired }
        )
    }
}

/// Why a reservation is released.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VoidCause {
    /// The caller gave the payment up, with these words.
    Canceled(String),
    /// Its time is over.
    Expired,
}

/// The caller that waits for an operation: its answer is kept under this key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The RPC that began the operation.
    pub rpc: Rpc,
    /// The caller's idempotency key.
    pub key: String,
}

/// The RPCs that change a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)] // the names are those of the contract's RPCs
pub enum Rpc {
    CreatePayment,
    ConfirmPayment,
    ResolveReview,
    CapturePayment,
    CancelPayment,
    IncrementAuthorization,
    ExtendAuthorization,
    CreateRefund,
}

impl Rpc {
    /// The name, as idempotency records have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreatePayment => "CreatePayment",
            Self::ConfirmPayment => "ConfirmPayment",
            Self::ResolveReview => "ResolveReview",
            Self::CapturePayment => "CapturePayment",
            Self::CancelPayment => "CancelPayment",
            Self::IncrementAuthorization => "IncrementAuthorization",
            Self::ExtendAuthorization => "ExtendAuthorization",
            Self::CreateRefund => "CreateRefund",
        }
    }
}

/// How a processor call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessorOutcome {
    /// Done.
    Approved(Approval),
    /// The payer has to do something first.
    ActionRequired {
        /// The processor's own id of what waits.
        reference: String,
        /// What the payer has to do.
        action: NextAction,
    },
    /// Taken on; what became of it is known in hours or days.
    Submitted {
        /// The processor's own id of it.
        reference: String,
    },
    /// Refused, for good.
    Declined(Failure),
    /// It certainly had no effect, and another processor may be asked: it was never sent, or the processor said that
    /// it cannot take it on now.
    NotTaken(Failure),
    /// The payer's bank took the money back after it counted as paid.
    Returned(Failure),
    /// Nobody knows: the call timed out, or its answer made no sense.
    Unanswered,
    /// The processor was asked later and has never heard of it.
    NeverHeardOf,
}

/// What a processor says that it did. What it does not say counts as what it was asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// The processor's own id of what it did.
    pub reference: String,
    /// Minor units.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub amount: Option<i64>,
    /// The currency.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub currency: Option<Currency>,
    /// Until when the money is reserved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub valid_until: Option<Timestamp>,
    /// The card network's own id of the transaction: what later charges by the merchant refer to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub network_transaction_id: String,
}

impl Approval {
    /// As it was asked for, under this id.
    pub fn as_asked(reference: impl Into<String>) -> Self {
        Self { reference: reference.into(), ..Self::default() }
    }
}

/// What a payer has to do before a payment can go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum NextAction {
    /// Visit this page, such as the bank's of 3-D Secure.
    Redirect {
        /// An https URL.
        url: String,
    },
}

/// Why a payment or a refund failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Ours, stable, such as `CARD_DECLINED`.
    pub code: String,
    /// The processor's finer word, such as `insufficient_funds`; may be empty.
    pub decline_code: String,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A failure without a finer word.
    pub fn new(code: &str, message: &str) -> Self {
        Self { code: code.into(), decline_code: String::new(), message: message.into() }
    }

    /// The vault does not know the card any more, so the processor cannot be asked.
    pub fn token_not_found() -> Self {
        Self::new("TOKEN_NOT_FOUND", "The card's token is gone; nothing was charged.")
    }

    /// The processor never heard of it: nothing was charged.
    pub fn never_heard_of() -> Self {
        Self::new("NOT_FOUND_AT_PROCESSOR", "The processor never received the request; nothing was charged.")
    }

    /// The payment was given up first.
    pub fn given_up() -> Self {
        Self::new("PAYMENT_GIVEN_UP", "The payment was given up before its outcome was known.")
    }

    /// What the processor says that it did is not what it was asked for; it is asked again.
    pub fn doubtful_answer() -> Self {
        Self::new(ANSWER_WRONG, "The processor's answer is not to what it was asked for; it is asked again.")
    }

    /// It said so again.
    pub fn wrong_answer() -> Self {
        Self::new(ANSWER_WRONG, "The processor did something else than it was asked for; it is being undone.")
    }
}

impl Operation {
    /// Takes a step of the table. A step that the table does not have is a rejection.
    pub fn step(&mut self, event: OperationEvent, now: Timestamp) -> Result<(), Rejection> {
        let Some(to) = transition::next(transition::OPERATION, self.status, event) else {
            return Err(Rejection::OperationSettled { number: self.number });
        };
        self.status = to;
        self.updated_at = now;
        self.inquiries = 0;
        self.asked_at = None;
        if to == OperationStatus::Succeeded {
            self.failure = None;
        }
        Ok(())
    }

    /// Whether its processor gave an answer before that cannot be right.
    pub fn is_doubted(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.code == ANSWER_WRONG)
    }

    /// Minor units that it is about; 0 where there are none.
    pub fn amount(&self) -> i64 {
        match &self.kind {
            OperationKind::Authorize { amount, .. }
            | OperationKind::Increment { amount }
            | OperationKind::Capture { amount, .. }
            | OperationKind::Refund { amount, .. } => *amount,
            OperationKind::Reverse { captured, .. } => *captured,
            OperationKind::Extend | OperationKind::Void { .. } => 0,
        }
    }

    /// The refund's id, where it is one.
    pub fn refund_id(&self) -> Option<RefundId> {
        match &self.kind {
            OperationKind::Refund { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// Whether nothing else may be asked of the processor while this is open. Captures and refunds promise their
    /// amount first, so that any number of them can be; a reversal is of an authorization that the payment has no part in.
    pub fn is_exclusive(&self) -> bool {
        use OperationKind::{Capture, Refund, Reverse};
        !matches!(self.kind, Capture { .. } | Refund { .. } | Reverse { .. })
    }
}

/// Our reference of an operation: the processor's idempotency key, and what it is asked about later.
pub fn reference(payment: PaymentId, number: u32) -> String {
    format!("{payment}_{number}")
}

/// Whose reference it is.
pub fn of_reference(reference: &str) -> Option<(PaymentId, u32)> {
    let (payment, number) = reference.rsplit_once('_')?;
    Some((payment.parse().ok()?, number.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_says_whose_it_is() {
        let payment = PaymentId::new(uuid::Uuid::from_u128(0x0193_3c5e_8f7a_7c3e_9d5b_2a4f_6e8c_0d1b));
        assert_eq!(of_reference(&reference(payment, 12)), Some((payment, 12)));
        for other in ["", "x", "pay_", "pay_1_2_3", &payment.to_string(), &format!("{payment}_x")] {
            assert_eq!(of_reference(other), None, "{other}");
        }
    }
}
