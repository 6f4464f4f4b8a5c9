//! What a payment processor is to us. Every call carries our own reference, which makes it idempotent
//! there; an answer that does not come is [`ProcessorOutcome::Unanswered`], never a failure.

mod registry;
pub mod simulator;

use std::{collections::BTreeMap, future::Future, pin::Pin};

use money::{Currency, PaymentId};
use webhooks::SignatureError;

pub use registry::{Performed, ProcessorLimits, Processors, unavailable};

use crate::domain::{
    operation::{OperationKind, ProcessorOutcome},
    payment::Initiator,
};

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

/// A bank account on its way to a processor. Cannot be printed; wiped when dropped.
pub struct DebitableAccount {
    /// The bank's ABA routing number: public.
    pub routing_number: String,
    number: zeroize::Zeroizing<String>,
    /// Whether it is a savings account; else a checking account.
    pub savings: bool,
    /// Whose it is, as the bank knows the holder.
    pub holder: String,
}

impl DebitableAccount {
    /// Takes the number over.
    pub fn new(routing_number: String, number: String, savings: bool, holder: String) -> Self {
        Self { routing_number, number: zeroize::Zeroizing::new(number), savings, holder }
    }

    /// The account's number, for the processor call and for nothing else.
    pub fn expose_number(&self) -> &str {
        &self.number
    }
}

/// What a payment is paid with, on its way to a processor. Cannot be printed.
pub enum Instrument {
    /// A card.
    Card(ChargeableCard),
    /// A bank account, by direct debit.
    BankAccount(DebitableAccount),
    /// The token that a wallet gave for this payment.
    Wallet(zeroize::Zeroizing<String>),
}

/// What is reserved, or taken at once.
pub struct Authorization {
    /// With what.
    pub instrument: Instrument,
    /// Minor units.
    pub amount: i64,
    /// The currency.
    pub currency: Currency,
    /// Whether it is taken at once.
    pub capture: bool,
    /// Whether the payer is there; else it is the merchant, under a mandate.
    pub initiator: Initiator,
    /// The network's id of the payment that the mandate began with; empty where there is none.
    pub network_transaction_id: String,
    /// The caller's own reference, such as an invoice number; may be empty.
    pub statement_reference: String,
}

/// What a processor is asked for. `of` is the processor's own reference of the authorization; amounts are minor units
/// of its currency.
pub enum ProcessorRequest {
    /// Reserve money, or take it at once.
    Authorize(Box<Authorization>),
    /// Reserve `by` more, so that `total` is.
    Increment {
        /// Of what.
        of: String,
        /// How much more.
        by: i64,
        /// How much then.
        total: i64,
    },
    /// Keep it reserved for longer.
    Extend {
        /// What.
        of: String,
    },
    /// Take `amount`; with `last` release the rest.
    Capture {
        /// Of what.
        of: String,
        /// How much.
        amount: i64,
        /// Whether nothing will be taken after this.
        last: bool,
    },
    /// Release what is reserved.
    Void {
        /// What.
        of: String,
    },
    /// Give `amount` back.
    Refund {
        /// Of what.
        of: String,
        /// How much.
        amount: i64,
    },
}

/// An operation that a processor is asked about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Our reference of it.
    pub reference: &'a str,
    /// The processor's own, where it gave one.
    pub processor_reference: Option<&'a str>,
    /// What was asked for.
    pub kind: &'a OperationKind,
}

/// What a processor says when asked about an earlier request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Inquiry {
    /// It ended like this.
    Settled(ProcessorOutcome),
    /// It is known, and nothing has changed.
    Pending,
    /// It never arrived, and never will.
    NeverHeardOf,
    /// The processor did not answer this question either.
    Unanswered,
}

/// What a processor's webhook is about: something of ours to ask it about. What the webhook says beyond
/// that is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookSubject {
    /// A payment of ours.
    Payment(PaymentId),
    /// What the processor knows under this id of its own.
    ProcessorReference(String),
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
    fn name(&self) -> &str;

    /// Carries a request out once, however often it is sent with the same `reference`. May take as long
    /// as it likes: the caller has a timeout.
    fn perform<'a>(&'a self, reference: &'a str, request: ProcessorRequest) -> Answer<'a, ProcessorOutcome>;

    /// Asks what became of an earlier request.
    fn inquire<'a>(&'a self, asked: Asked<'a>) -> Answer<'a, Inquiry>;

    /// Checks a webhook's signature over the body as it was sent, and only then reads what it is about.
    fn verify_webhook(&self, headers: &WebhookHeaders, body: &[u8]) -> Result<WebhookSubject, WebhookError>;
}
