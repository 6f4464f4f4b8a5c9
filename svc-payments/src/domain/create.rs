//! A new payment: what may be asked for.

use std::collections::BTreeMap;

use money::{Currency, PaymentId, TenantId, Timestamp, TokenId, TokenRef};

use super::{
    card::CardSummary,
    operation::{Operation, Rpc, Waiting},
    payment::{CaptureMethod, Change, Payment, Tax},
    transition::Status,
};

/// A request for a payment, its fields checked.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the fields are those of the contract's CreatePaymentRequest
pub struct NewPayment {
    pub amount: i64,
    pub currency: Currency,
    pub token: TokenRef,
    pub capture_method: CaptureMethod,
    pub reference: String,
    pub description: String,
    pub metadata: BTreeMap<String, String>,
}

/// What is found out about it before it is written down.
#[derive(Debug, Clone)]
pub struct Found {
    /// The token that every card has, whichever was given.
    pub token: TokenId,
    /// The card behind the token.
    pub card: CardSummary,
    /// The tax, where asked for.
    pub tax: Option<Tax>,
    /// The processor that will be asked.
    pub processor: String,
}

/// The payment as it is first written down: under way, nothing reserved, its authorization demanded.
pub fn create(
    new: NewPayment,
    found: Found,
    id: PaymentId,
    tenant: TenantId,
    key: &str,
    now: Timestamp,
) -> Change {
    let payment = Payment {
        id,
        tenant,
        status: Status::Processing,
        amount: new.amount,
        amount_authorized: 0,
        amount_captured: 0,
        amount_refunded: 0,
        amount_refund_pending: 0,
        currency: new.currency,
        token: found.token,
        card: found.card,
        capture_method: new.capture_method,
        reference: new.reference,
        description: new.description,
        metadata: new.metadata,
        fraud: None,
        tax: found.tax,
        failure: None,
        processor: found.processor,
        processor_reference: String::new(),
        created_at: now,
        updated_at: now,
        sequence: 0,
        operation: Some(Operation::Authorize),
        waiting: Some(Waiting { rpc: Rpc::CreatePayment, key: key.into() }),
        inquiries: 0,
        operation_number: 1,
    };
    let mut change = Change::of(payment);
    change.record(Status::Processing.event_type(), change.payment.amount, now);
    change
}
