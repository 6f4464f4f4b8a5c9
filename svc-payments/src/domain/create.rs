//! A new payment: what may be asked for, and how it begins.

use std::collections::BTreeMap;

use money::{Currency, PaymentId, TenantId, Timestamp};

use super::{
    due::Terms,
    method::Method,
    operation::{OperationKind, Rpc, Waiting},
    payment::{CaptureMethod, Change, Initiator, Payment, Rejection, Tax, event_type},
    transition::{Event, Status},
};

/// A request for a payment, its fields checked.
#[derive(Debug, Clone)]
#[allow(missing_docs)] // the fields are those of the contract's CreatePaymentRequest
pub struct NewPayment {
    pub amount: i64,
    pub convenience_fee: i64,
    pub currency: Currency,
    pub capture_method: CaptureMethod,
    /// Whether it is carried out at once.
    pub confirm: bool,
    pub initiator: Initiator,
    pub mandate: Option<String>,
    pub reference: String,
    pub description: String,
    pub metadata: BTreeMap<String, String>,
}

/// What is found out about it before it is written down.
#[derive(Debug, Clone)]
pub struct Found {
    /// What it is paid with.
    pub method: Method,
    /// The tax, where asked for.
    pub tax: Option<Tax>,
    /// The processors that may be asked, the first first. At least one.
    pub processors: Vec<String>,
}

/// The payment as it is first written down: nothing reserved, and if it is to be carried out at once, its
/// authorization demanded.
pub fn create(
    new: NewPayment,
    found: Found,
    id: PaymentId,
    tenant: TenantId,
    key: &str,
    terms: &Terms,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let mut processors = found.processors.into_iter();
    let payment = Payment {
        id,
        tenant,
        status: if new.confirm { Status::Processing } else { Status::RequiresConfirmation },
        amount: new.amount,
        amount_at_first: new.amount,
        amount_authorized: 0,
        amount_captured: 0,
        amount_capture_pending: 0,
        amount_refunded: 0,
        amount_refund_pending: 0,
        amount_disputed: 0,
        convenience_fee: new.convenience_fee,
        currency: new.currency,
        method: found.method,
        capture_method: new.capture_method,
        capture_closed: false,
        initiator: new.initiator,
        mandate: new.mandate,
        reference: new.reference,
        description: new.description,
        metadata: new.metadata,
        fraud: None,
        tax: found.tax,
        failure: None,
        next_action: None,
        processor: processors.next().unwrap_or_default(),
        fallbacks: processors.collect(),
        processor_reference: String::new(),
        network_transaction_id: String::new(),
        created_at: now,
        updated_at: now,
        expires_at: if new.confirm { None } else { terms.unconfirmed(now) },
        sequence: 0,
        version: 0,
        reserved: false,
        reservation: 1,
        postings: 0,
        operations: Vec::new(),
        disputes: Vec::new(),
    };
    let mut change = Change::of(payment);
    change.record(event_type::CREATED, new.amount, now);
    let waiting = Waiting { rpc: Rpc::CreatePayment, key: key.into() };
    if new.confirm {
        authorize(&mut change, Some(waiting), now)?;
    } else {
        change.answered.push((waiting, None));
    }
    Ok(change)
}

/// The caller wants it carried out.
pub fn confirm(payment: Payment, key: &str, now: Timestamp) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    change.step(Event::Confirmed, change.payment.amount, now)?;
    change.payment.expires_at = None;
    authorize(&mut change, Some(Waiting { rpc: Rpc::ConfirmPayment, key: key.into() }), now)?;
    Ok(change)
}

/// Demands an attempt to authorize it, at the processor that it is with.
pub(super) fn authorize(
    change: &mut Change,
    waiting: Option<Waiting>,
    now: Timestamp,
) -> Result<u32, Rejection> {
    let amount = change.payment.amount;
    let capture = change.payment.capture_method == CaptureMethod::Automatic;
    change.begin(OperationKind::Authorize { amount, capture }, waiting, now)
}
