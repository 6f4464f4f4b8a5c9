//! Giving captured money back. Any number of refunds can be under way at once: each promises its amount first.

use money::{RefundId, Timestamp};
use uuid::Uuid;

use super::{
    answer::unanswered,
    operation::{Approval, Failure, Operation, OperationKind, ProcessorOutcome, Rpc, Waiting},
    payment::{Change, Payment, Rejection, event_type},
    posting,
    transition::{Event, OperationEvent, Status},
};

/// Begins a refund of `amount`, or of all that can be refunded.
pub fn begin(
    payment: Payment,
    id: RefundId,
    amount: Option<i64>,
    reason: String,
    key: &str,
    now: Timestamp,
) -> Result<Change, Rejection> {
    if !matches!(payment.status, Status::Captured | Status::PartiallyCaptured | Status::Refunded) {
        let needed = "only CAPTURED or PARTIALLY_CAPTURED can be refunded";
        return Err(Rejection::State { status: payment.status, needed });
    }
    let available = payment.refundable();
    let amount = amount.unwrap_or(available);
    if amount > available || amount <= 0 {
        return Err(Rejection::RefundExceedsCaptured { available });
    }
    let mut change = Change::of(payment);
    change.payment.amount_refund_pending += amount;
    let waiting = Waiting { rpc: Rpc::CreateRefund, key: key.into() };
    change.begin(OperationKind::Refund { id, amount, reason }, Some(waiting), now)?;
    change.record(event_type::REFUND_CREATED, amount, now);
    Ok(change)
}

/// The processor was asked to refund: this is how it ended.
pub(super) fn answered(
    change: &mut Change,
    operation: &Operation,
    outcome: ProcessorOutcome,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    match outcome {
        ProcessorOutcome::Approved(Approval { reference, .. }) => {
            succeeded(change, operation, reference, now)?;
        }
        // Bank credits take days, and are not refused once they are taken on.
        ProcessorOutcome::Submitted { reference } => succeeded(change, operation, reference, now)?,
        ProcessorOutcome::Declined(failure)
        | ProcessorOutcome::NotTaken(failure)
        | ProcessorOutcome::Returned(failure) => {
            fail(change, operation, failure, now)?;
        }
        ProcessorOutcome::NeverHeardOf => fail(change, operation, Failure::never_heard_of(), now)?,
        ProcessorOutcome::ActionRequired { .. } => {
            let failure =
                Failure::new("ACTION_REQUIRED", "The processor wants the payer to act, who is not there.");
            fail(change, operation, failure, now)?;
        }
        ProcessorOutcome::Unanswered => {
            if unanswered(change, number, now)? {
                change.record(event_type::REFUND_UNKNOWN, operation.amount(), now);
            }
        }
    }
    change.answer(number);
    Ok(())
}

fn succeeded(
    change: &mut Change,
    operation: &Operation,
    reference: String,
    now: Timestamp,
) -> Result<(), Rejection> {
    let OperationKind::Refund { id, amount, .. } = operation.kind else { return Ok(()) };
    let open = change.open_operation(operation.number)?;
    open.processor_reference = reference;
    open.step(OperationEvent::Succeeded, now)?;
    let payment = &mut change.payment;
    let before = payment.given_back();
    payment.amount_refund_pending -= amount;
    payment.amount_refunded += amount;
    let whole = payment.amount_refunded == payment.amount_captured;
    if payment.status.is_given_up() {
        // The payer's bank took everything else back meanwhile.
        change.record(Event::PartiallyRefunded.name(), amount, now);
    } else {
        change.step(if whole { Event::Refunded } else { Event::PartiallyRefunded }, amount, now)?;
    }
    let posting = posting::refund(&change.payment, id, before, amount);
    change.post(posting);
    Ok(())
}

fn fail(
    change: &mut Change,
    operation: &Operation,
    failure: Failure,
    now: Timestamp,
) -> Result<(), Rejection> {
    let open = change.open_operation(operation.number)?;
    open.failure = Some(failure);
    open.step(OperationEvent::Failed, now)?;
    change.payment.amount_refund_pending -= operation.amount();
    change.record(event_type::REFUND_FAILED, operation.amount(), now);
    if let Some(id) = operation.refund_id() {
        freed(change, id.uuid(), operation.amount());
    }
    Ok(())
}

/// The payer's bank took a direct debit back: nothing that was captured and not refunded is left.
pub fn returned(payment: Payment, failure: Failure, now: Timestamp) -> Result<Change, Rejection> {
    if !payment.capture_closed {
        let needed = "only what is all CAPTURED can be returned";
        return Err(Rejection::State { status: payment.status, needed });
    }
    let mut change = Change::of(payment);
    let amount = change.payment.refundable();
    let number = change.payment.attempt().map_or(0, |attempt| attempt.number);
    let attempt = change.payment.operations.iter_mut().find(|operation| operation.number == number);
    let attempt = attempt.ok_or(Rejection::OperationSettled { number })?;
    attempt.failure = Some(failure.clone());
    attempt.step(OperationEvent::Returned, now)?;
    change.payment.failure = Some(failure);
    change.step(Event::Returned, amount, now)?;
    let id = change.payment.id.uuid();
    freed(&mut change, id, amount);
    Ok(change)
}

/// What was promised elsewhere when the payer's bank took everything back, and is free now, was taken too. `id`: of
/// what it was promised to.
pub(super) fn freed(change: &mut Change, id: Uuid, amount: i64) {
    if change.payment.status.is_given_up() && amount > 0 {
        let posting = posting::returned(&change.payment, id, amount);
        change.post(posting);
        change.payment.amount_captured -= amount;
    }
}
