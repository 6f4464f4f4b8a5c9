//! Giving captured money back. Several refunds of one payment may be under way at once: each promises
//! its amount before the processor is asked, so that together they never exceed what was captured.

use money::{PaymentId, RefundId, TenantId, Timestamp};
use serde::{Deserialize, Serialize};

use super::{
    operation::{Failure, ProcessorOutcome},
    payment::{Change, Payment, Rejection},
    posting,
    transition::{Event, Status},
};

/// Where a refund stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundStatus {
    /// Under way.
    Pending,
    /// Given back.
    Succeeded,
    /// Refused; the amount can be refunded again.
    Failed,
    /// The processor did not answer; being asked until it is settled.
    Unknown,
}

/// A refund of a payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs)] // the fields are those of the contract's Refund
pub struct Refund {
    pub id: RefundId,
    pub payment: PaymentId,
    pub tenant: TenantId,
    pub status: RefundStatus,
    pub amount: i64,
    pub reason: String,
    pub failure: Option<Failure>,
    /// The caller's idempotency key.
    pub key: String,
    pub inquiries: u32,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Refund {
    /// Whether the processor still has to say what became of it.
    pub fn is_open(&self) -> bool {
        matches!(self.status, RefundStatus::Pending | RefundStatus::Unknown)
    }
}

/// Begins a refund of `amount`, or of all that can be refunded.
pub fn begin(
    payment: Payment,
    id: RefundId,
    amount: Option<i64>,
    reason: String,
    key: &str,
    now: Timestamp,
) -> Result<(Change, Refund), Rejection> {
    if !matches!(payment.status, Status::Captured | Status::PartiallyCaptured | Status::Refunded) {
        let needed = "only CAPTURED or PARTIALLY_CAPTURED can be refunded";
        return Err(Rejection::State { status: payment.status, needed });
    }
    let available = payment.refundable();
    let amount = amount.unwrap_or(available);
    if amount > available || amount <= 0 {
        return Err(Rejection::RefundExceedsCaptured { available });
    }
    let refund = Refund {
        id,
        payment: payment.id,
        tenant: payment.tenant.clone(),
        status: RefundStatus::Pending,
        amount,
        reason,
        failure: None,
        key: key.into(),
        inquiries: 0,
        created_at: now,
        updated_at: now,
    };
    let mut change = Change::of(payment);
    change.payment.amount_refund_pending += amount;
    change.record("refund.created", amount, now);
    Ok((change, refund))
}

/// The processor was asked to refund: this is how it ended. A refund that is settled stays as it is.
pub fn answered(
    payment: Payment,
    mut refund: Refund,
    outcome: ProcessorOutcome,
    now: Timestamp,
) -> Result<(Change, Refund), Rejection> {
    let mut change = Change::of(payment);
    if !refund.is_open() {
        return Ok((change, refund));
    }
    refund.updated_at = now;
    match outcome {
        ProcessorOutcome::Approved { .. } => {
            refund.status = RefundStatus::Succeeded;
            let before = change.payment.amount_refunded;
            change.payment.amount_refund_pending -= refund.amount;
            change.payment.amount_refunded += refund.amount;
            let whole = change.payment.amount_refunded == change.payment.amount_captured;
            change.step(
                if whole { Event::Refunded } else { Event::PartiallyRefunded },
                refund.amount,
                now,
            )?;
            change.postings.push(posting::refund(&change.payment, refund.id, refund.amount, before));
        }
        ProcessorOutcome::Declined(failure) => fail(&mut change, &mut refund, failure, now),
        ProcessorOutcome::NeverHeardOf => fail(&mut change, &mut refund, Failure::never_heard_of(), now),
        ProcessorOutcome::Unanswered if refund.status == RefundStatus::Unknown => {
            refund.inquiries = refund.inquiries.saturating_add(1);
        }
        ProcessorOutcome::Unanswered => {
            refund.status = RefundStatus::Unknown;
            change.record("refund.unknown", refund.amount, now);
        }
    }
    Ok((change, refund))
}

fn fail(change: &mut Change, refund: &mut Refund, failure: Failure, now: Timestamp) {
    refund.status = RefundStatus::Failed;
    refund.failure = Some(failure);
    change.payment.amount_refund_pending -= refund.amount;
    change.record("refund.failed", refund.amount, now);
}
