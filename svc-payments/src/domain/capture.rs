//! Taking or giving up what is reserved.

use money::Timestamp;

use super::{
    authorization::unanswered,
    operation::{Operation, ProcessorOutcome, Rpc, Waiting},
    payment::{Change, Payment, Rejection},
    posting,
    transition::{Event, Status},
};

/// Begins a capture of `amount`, or of all that is authorized.
pub fn begin_capture(payment: Payment, amount: Option<i64>, key: &str) -> Result<Change, Rejection> {
    must_be_idle(&payment)?;
    if payment.status != Status::Authorized {
        return Err(Rejection::State { status: payment.status, needed: "only AUTHORIZED can be captured" });
    }
    let available = payment.amount_authorized - payment.amount_captured;
    let amount = amount.unwrap_or(available);
    if amount > available {
        return Err(Rejection::CaptureExceedsAuthorized { available });
    }
    Ok(begin(payment, Operation::Capture { amount }, Rpc::CapturePayment, key))
}

/// Begins to give the payment up. What never reached the processor is given up at once.
pub fn begin_cancel(
    payment: Payment,
    reason: String,
    key: &str,
    now: Timestamp,
) -> Result<Change, Rejection> {
    must_be_idle(&payment)?;
    match payment.status {
        Status::Authorized => Ok(begin(payment, Operation::Void { reason }, Rpc::CancelPayment, key)),
        Status::InReview => {
            let mut change = Change::of(payment);
            change.payment.waiting = Some(Waiting { rpc: Rpc::CancelPayment, key: key.into() });
            change.step(Event::Canceled, change.payment.amount, now)?;
            Ok(change)
        }
        status => Err(Rejection::State { status, needed: "only AUTHORIZED or IN_REVIEW can be cancelled" }),
    }
}

fn must_be_idle(payment: &Payment) -> Result<(), Rejection> {
    match payment.operation {
        // While nothing is known, the state says more than "busy".
        Some(_) if matches!(payment.status, Status::Unknown | Status::Processing) => Err(Rejection::State {
            status: payment.status,
            needed: "wait until the processor's answer is known",
        }),
        Some(_) => Err(Rejection::OperationUnderWay),
        None => Ok(()),
    }
}

/// `updated_at` stays: it is the time of the latest event, and this is none.
fn begin(payment: Payment, operation: Operation, rpc: Rpc, key: &str) -> Change {
    let mut change = Change::of(payment);
    change.payment.operation = Some(operation);
    change.payment.operation_number = change.payment.operation_number.saturating_add(1);
    change.payment.waiting = Some(Waiting { rpc, key: key.into() });
    // Why an earlier capture or void was refused says nothing about this one.
    change.payment.failure = None;
    change
}

/// The processor was asked to capture or to void: this is how it ended.
pub fn answered(payment: Payment, outcome: ProcessorOutcome, now: Timestamp) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    let operation = change.payment.operation.clone();
    match (operation, outcome) {
        (Some(Operation::Authorize) | None, _) => {
            let status = change.payment.status;
            return Err(Rejection::State { status, needed: "no capture or void is under way" });
        }
        (_, ProcessorOutcome::Unanswered) => unanswered(&mut change, now)?,
        (Some(Operation::Capture { amount }), ProcessorOutcome::Approved { .. }) => {
            let whole = amount == change.payment.amount_authorized;
            change.payment.amount_captured = amount;
            change.settle_operation();
            change.step(if whole { Event::Captured } else { Event::PartiallyCaptured }, amount, now)?;
            change.postings.push(posting::capture(&change.payment, amount));
        }
        (Some(Operation::Void { .. }), ProcessorOutcome::Approved { .. }) => {
            change.settle_operation();
            change.step(Event::Canceled, change.payment.amount, now)?;
            change.postings.push(posting::release(&change.payment));
        }
        (Some(Operation::Capture { .. } | Operation::Void { .. }), ProcessorOutcome::Declined(failure)) => {
            change.payment.failure = Some(failure);
            change.settle_operation();
            change.step(Event::OperationRefused, 0, now)?;
        }
        (Some(Operation::Capture { .. } | Operation::Void { .. }), ProcessorOutcome::NeverHeardOf) => {
            change.settle_operation();
            change.step(Event::OperationRefused, 0, now)?;
        }
    }
    Ok(change)
}
