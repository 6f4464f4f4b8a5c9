//! What a payment processor is to us. Every call carries our own reference, which makes it idempotent
//! there; an answer that does not come is [`ProcessorOutcome::Unanswered`], never a failure.

pub mod simulator;

use std::{collections::BTreeMap, future::Future, pin::Pin};

use money::{Currency, PaymentId, RefundId};
use webhooks::SignatureError;

use crate::domain::operation::ProcessorOutcome;

/// A card on its way to a processor. Cannot be printed; wiped when dropped.
pub struct ChargeableCard {
    number: zeroize::Zeroizing<String>,
    cvc: zeroize::Zeroizing<String>,
}

impl ChargeableCard {
    /// Takes number and verification code over; an empty code is none.
    pub fn new(number: String, cvc: String) -> Self {
        Self { number: zeroize::Zeroizing::new(number), cvc: zeroize::Zeroizing::new(cvc) }
    }

    /// The digits, for the processor call and for nothing else.
    pub fn expose_number(&self) -> &str {
        &self.number
    }

    /// The verification code, if the payer gave one for this authorization. For the processor call and for nothing
    /// else: it may not be kept after it, in no form (PCI DSS 3.3.1).
    pub fn expose_cvc(&self) -> Option<&str> {
        Some(self.cvc.as_str()).filter(|cvc| !cvc.is_empty())
    }
}

/// What a processor is asked for.
pub enum ProcessorRequest {
    /// Reserve `amount`, and take it at once with `capture`.
    Authorize {
        /// The card.
        card: ChargeableCard,
        /// Minor units.
        amount: i64,
        /// The currency.
        currency: Currency,
        /// Whether to take it at once.
        capture: bool,
    },
    /// Take `amount` of what the processor knows as `of`.
    Capture {
        /// The processor's reference of the authorization.
        of: String,
        /// Minor units.
        amount: i64,
    },
    /// Release what the processor knows as `of`.
    Void {
        /// The processor's reference of the authorization.
        of: String,
    },
    /// Give `amount` of what the processor knows as `of` back.
    Refund {
        /// The processor's reference of the authorization.
        of: String,
        /// Minor units.
        amount: i64,
    },
}

/// What a processor says when asked about an earlier request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inquiry {
    /// It ended like this.
    Settled(ProcessorOutcome),
    /// It is known and not settled.
    Pending,
    /// It never arrived, and never will.
    NeverHeardOf,
    /// The processor did not answer this question either.
    Unanswered,
}

/// What a processor's webhook is about: something of ours to ask it about. What the webhook says beyond
/// that is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WebhookSubject {
    /// A payment's operation.
    Payment(PaymentId),
    /// A refund.
    Refund(RefundId),
    /// Nothing that we ask about.
    Other,
}

/// Why a webhook is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WebhookError {
    /// Not signed, not by the processor, or not now: not said which, so that nobody can feel their way.
    #[error("the webhook's signature is not valid")]
    Signature,
    /// Signed, and not what the processor documents.
    #[error("the webhook's body cannot be read")]
    Body,
}

impl From<SignatureError> for WebhookError {
    fn from(SignatureError: SignatureError) -> Self {
        Self::Signature
    }
}

/// The headers of a webhook, by their lower-case names.
pub type WebhookHeaders = BTreeMap<String, String>;

/// A boxed future, so that processors can be chosen at run time.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A payment processor.
pub trait Processor: Send + Sync + 'static {
    /// The name that payments carry.
    fn name(&self) -> &'static str;

    /// Carries a request out once, however often it is sent with the same `reference`. May take as long
    /// as it likes: the caller has a timeout.
    fn perform<'a>(&'a self, reference: &'a str, request: ProcessorRequest) -> Answer<'a, ProcessorOutcome>;

    /// Asks what became of the request with this `reference`.
    fn inquire<'a>(&'a self, reference: &'a str) -> Answer<'a, Inquiry>;

    /// Checks a webhook's signature over the body as it was sent, and only then reads what it is about.
    fn verify_webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<WebhookSubject, WebhookError>;
}
