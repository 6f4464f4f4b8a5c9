//! From a new payment to an authorized one: what to do next, and what its outcome means.

use money::Timestamp;

use super::{
    operation::{Failure, Operation, ProcessorOutcome},
    payment::{CaptureMethod, Change, Fraud, FraudOutcome, Payment, Rejection},
    posting,
    transition::{Event, Status},
};

/// Only an authorization that is under way, and whose outcome nobody asked for yet, can be stopped.
fn begun(payment: Payment) -> Result<Change, Rejection> {
    if payment.operation != Some(Operation::Authorize) || payment.status != Status::Processing {
        return Err(Rejection::State { status: payment.status, needed: "no authorization is beginning" });
    }
    Ok(Change::of(payment))
}

/// Fraud assessment decided against going on. `reserved`: an earlier attempt, cut off by a crash, had
/// the amount reserved on our books; it is released.
pub fn stopped_by_fraud(
    payment: Payment,
    fraud: Fraud,
    reserved: bool,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let outcome = fraud.outcome;
    let mut change = begun(payment)?;
    change.payment.fraud = Some(fraud);
    change.settle_operation();
    match outcome {
        FraudOutcome::Review => change.step(Event::ReviewOpened, change.payment.amount, now)?,
        FraudOutcome::Block | FraudOutcome::Allow => {
            change.payment.failure =
                Some(Failure::new("FRAUD_BLOCKED", "The payment was blocked by a fraud rule."));
            change.step(Event::Failed, change.payment.amount, now)?;
        }
    }
    if reserved {
        change.postings.push(posting::release(&change.payment));
    }
    Ok(change)
}

/// The ledger refused the reservation.
pub fn refused_by_ledger(payment: Payment, fraud: Fraud, now: Timestamp) -> Result<Change, Rejection> {
    let mut change = begun(payment)?;
    change.payment.fraud = Some(fraud);
    change.payment.failure =
        Some(Failure::new("LEDGER_REJECTED", "The ledger refused to reserve the amount."));
    change.settle_operation();
    change.step(Event::Failed, change.payment.amount, now)?;
    Ok(change)
}

/// The processor was asked to authorize: this is how it ended.
pub fn answered(
    payment: Payment,
    fraud: Option<Fraud>,
    outcome: ProcessorOutcome,
    now: Timestamp,
) -> Result<Change, Rejection> {
    if payment.operation != Some(Operation::Authorize) {
        return Err(Rejection::State { status: payment.status, needed: "no authorization is under way" });
    }
    let mut change = Change::of(payment);
    if fraud.is_some() {
        change.payment.fraud = fraud;
    }
    let amount = change.payment.amount;
    match outcome {
        ProcessorOutcome::Approved { reference } => {
            change.settle_operation();
            change.payment.processor_reference = reference;
            change.payment.amount_authorized = amount;
            change.step(Event::Authorized, amount, now)?;
            if change.payment.capture_method == CaptureMethod::Automatic {
                change.payment.amount_captured = amount;
                change.step(Event::Captured, amount, now)?;
                change.postings.push(posting::capture(&change.payment, amount));
            }
        }
        ProcessorOutcome::Declined(failure) => fail(&mut change, failure, now)?,
        ProcessorOutcome::NeverHeardOf => fail(&mut change, Failure::never_heard_of(), now)?,
        ProcessorOutcome::Unanswered => unanswered(&mut change, now)?,
    }
    Ok(change)
}

fn fail(change: &mut Change, failure: Failure, now: Timestamp) -> Result<(), Rejection> {
    change.settle_operation();
    change.payment.failure = Some(failure);
    change.step(Event::Failed, change.payment.amount, now)?;
    change.postings.push(posting::release(&change.payment));
    Ok(())
}

/// The outcome is unknown, or still is: the operation stays, and will be asked about.
pub(super) fn unanswered(change: &mut Change, now: Timestamp) -> Result<(), Rejection> {
    if change.payment.status == Status::Unknown {
        change.payment.inquiries = change.payment.inquiries.saturating_add(1);
        return Ok(());
    }
    change.step(Event::Unanswered, change.payment.amount, now)
}
