//! The one thing that a payment has under way at its processor, and how the processor answered.

use serde::{Deserialize, Serialize};

/// What the processor is asked for. At most one per payment at a time; refunds have their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Operation {
    /// Reserve the amount; take it at once where the capture method is automatic.
    Authorize,
    /// Take `amount` of what is reserved, release the rest.
    Capture {
        /// Minor units.
        amount: i64,
    },
    /// Release what is reserved.
    Void {
        /// The caller's words.
        reason: String,
    },
}

/// The caller that waits for the operation: its answer is kept under this key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The RPC that began the operation.
    pub rpc: Rpc,
    /// The caller's idempotency key.
    pub key: String,
}

/// The RPCs that change a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Rpc {
    /// CreatePayment.
    CreatePayment,
    /// CapturePayment.
    CapturePayment,
    /// CancelPayment.
    CancelPayment,
    /// CreateRefund.
    CreateRefund,
}

impl Rpc {
    /// The name, as idempotency records have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CreatePayment => "CreatePayment",
            Self::CapturePayment => "CapturePayment",
            Self::CancelPayment => "CancelPayment",
            Self::CreateRefund => "CreateRefund",
        }
    }
}

/// How a processor call ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessorOutcome {
    /// Done.
    Approved {
        /// The processor's own id of what it did.
        reference: String,
    },
    /// Refused, for good.
    Declined(Failure),
    /// Nobody knows: the call timed out, or its answer made no sense.
    Unanswered,
    /// The processor was asked later and has never heard of it.
    NeverHeardOf,
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
}
