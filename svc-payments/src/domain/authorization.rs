//! From a payment that is to be carried out to an authorized one: what is decided before a processor is asked, and what
//! its answer means.

use money::Timestamp;

use super::{
    create,
    due::Terms,
    late,
    operation::{Approval, Failure, NextAction, Operation, OperationKind, ProcessorOutcome, Rpc, Waiting},
    payment::{Change, Fraud, FraudOutcome, Payment, Rejection},
    posting,
    transition::{Event, OperationEvent, OperationStatus, Status},
};

/// Only an authorization that is under way, and whose outcome nobody asked for yet, can be stopped.
fn begun(payment: Payment, number: u32) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    let operation = change.open_operation(number)?;
    let begun = operation.status == OperationStatus::Pending
        && matches!(operation.kind, OperationKind::Authorize { .. });
    if !begun || change.payment.status != Status::Processing {
        let status = change.payment.status;
        return Err(Rejection::State { status, needed: "no authorization is beginning" });
    }
    Ok(change)
}

/// Ends the attempt before its processor was asked.
fn stop(change: &mut Change, number: u32, failure: Failure, now: Timestamp) -> Result<(), Rejection> {
    let operation = change.open_operation(number)?;
    operation.failure = Some(failure);
    operation.step(OperationEvent::Failed, now)?;
    change.answer(number);
    Ok(())
}

/// Fraud assessment decided against going on. `reserved`: an earlier attempt, cut off by a crash, had the amount
/// reserved on our books; it is released.
pub fn stopped_by_fraud(
    payment: Payment,
    number: u32,
    fraud: Fraud,
    reserved: bool,
    terms: &Terms,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let review = fraud.outcome == FraudOutcome::Review;
    let mut change = begun(payment, number)?;
    change.payment.fraud = Some(fraud);
    let amount = change.payment.amount;
    if review {
        stop(&mut change, number, Failure::new("FRAUD_REVIEW", "The payment is held back for review."), now)?;
        change.step(Event::ReviewOpened, amount, now)?;
        change.payment.expires_at = terms.review(now);
    } else {
        let failure = Failure::new("FRAUD_BLOCKED", "The payment was blocked by a fraud rule.");
        stop(&mut change, number, failure.clone(), now)?;
        change.payment.failure = Some(failure);
        change.step(Event::Failed, amount, now)?;
    }
    change.payment.reserved |= reserved;
    change.release();
    Ok(change)
}

/// A person looked at a payment that was held back.
pub fn review_resolved(
    payment: Payment,
    approved: bool,
    key: &str,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    let amount = change.payment.amount;
    let waiting = Waiting { rpc: Rpc::ResolveReview, key: key.into() };
    if approved {
        change.step(Event::ReviewApproved, amount, now)?;
        if let Some(fraud) = &mut change.payment.fraud {
            fraud.outcome = FraudOutcome::Allow;
            fraud.reasons.push("review_approved".into());
        }
        create::authorize(&mut change, Some(waiting), now)?;
    } else {
        if change.payment.status != Status::InReview {
            let status = change.payment.status;
            return Err(Rejection::State { status, needed: "only IN_REVIEW can be reviewed" });
        }
        change.payment.failure =
            Some(Failure::new("REVIEW_REJECTED", "The payment was refused by whoever reviewed it."));
        change.step(Event::Failed, amount, now)?;
        change.answered.push((waiting, None));
    }
    change.payment.expires_at = None;
    Ok(change)
}

/// The ledger refused the reservation.
pub fn refused_by_ledger(
    payment: Payment,
    number: u32,
    fraud: Fraud,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let mut change = begun(payment, number)?;
    let failure = Failure::new("LEDGER_REJECTED", "The ledger refused to reserve the amount.");
    change.payment.fraud = Some(fraud);
    change.payment.failure = Some(failure.clone());
    stop(&mut change, number, failure, now)?;
    change.step(Event::Failed, change.payment.amount, now)?;
    change.release();
    Ok(change)
}

/// The fraud assessment goes into the commit of the outcome that follows it.
pub fn assessed(payment: &mut Payment, fraud: Option<Fraud>) {
    if fraud.is_some() {
        payment.fraud = fraud;
    }
}

/// The processor was asked to authorize: this is how it ended.
pub(super) fn answered(
    change: &mut Change,
    operation: &Operation,
    outcome: ProcessorOutcome,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    // Whoever asks a processor has reserved before.
    if !change.payment.status.is_given_up() {
        change.payment.reserved = true;
    }
    let is_void = |open: &Operation| matches!(open.kind, OperationKind::Void { .. });
    match outcome {
        // Whether it is released again is being found out: it is asked about after that.
        ProcessorOutcome::Approved(_) if change.payment.open_operations().any(is_void) => {
            super::answer::unanswered(change, number, now)?;
        }
        ProcessorOutcome::Approved(approval) => approved(change, operation, approval, terms, now)?,
        ProcessorOutcome::ActionRequired { reference, action } => {
            act(change, operation, reference, action, terms, now)?;
        }
        ProcessorOutcome::Submitted { reference } => submitted(change, operation, reference, now)?,
        ProcessorOutcome::NotTaken(failure) if may_fall_back(&change.payment, operation) => {
            fall_back(change, number, failure, now)?;
        }
        ProcessorOutcome::Declined(failure)
        | ProcessorOutcome::NotTaken(failure)
        | ProcessorOutcome::Returned(failure) => {
            fail(change, number, failure, now)?;
        }
        ProcessorOutcome::NeverHeardOf => fail(change, number, Failure::never_heard_of(), now)?,
        ProcessorOutcome::Unanswered => {
            if super::answer::unanswered(change, number, now)? && !change.payment.status.is_given_up() {
                change.step(Event::Unanswered, change.payment.amount, now)?;
            }
        }
    }
    change.answer(number);
    Ok(())
}

/// Another processor may be asked for as long as this one has not taken it on: what waits for the payer or for the
/// payer's bank may be being released already.
fn may_fall_back(payment: &Payment, operation: &Operation) -> bool {
    let not_taken_on = matches!(operation.status, OperationStatus::Pending | OperationStatus::Unknown);
    not_taken_on && !payment.status.is_given_up() && !payment.fallbacks.is_empty()
}

fn approved(
    change: &mut Change,
    operation: &Operation,
    approval: Approval,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    let open = change.open_operation(number)?;
    open.processor_reference.clone_from(&approval.reference);
    open.step(OperationEvent::Succeeded, now)?;
    if change.payment.status.is_given_up() {
        return late::reverse(change, operation, &approval, now);
    }
    let amount = operation.amount();
    let payment = &mut change.payment;
    payment.processor.clone_from(&operation.processor);
    payment.processor_reference = approval.reference;
    payment.network_transaction_id = approval.network_transaction_id;
    payment.amount_authorized = amount;
    payment.failure = None;
    payment.next_action = None;
    payment.fallbacks.clear();
    payment.expires_at = approval.valid_until.or_else(|| terms.authorized(now));
    change.step(Event::Authorized, amount, now)?;
    if matches!(operation.kind, OperationKind::Authorize { capture: true, .. }) {
        change.payment.amount_captured = amount;
        change.payment.capture_closed = true;
        change.payment.expires_at = None;
        change.payment.reserved = false;
        change.step(Event::Captured, amount, now)?;
        let posting = posting::capture(&mut change.payment, 0, amount, 0);
        change.post(posting);
    }
    Ok(())
}

fn act(
    change: &mut Change,
    operation: &Operation,
    reference: String,
    action: NextAction,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    // What was submitted waits for the payer no more, whatever is said of it.
    if matches!(operation.status, OperationStatus::RequiresAction | OperationStatus::Submitted) {
        return super::answer::unanswered(change, number, now).map(|_| ());
    }
    let open = change.open_operation(number)?;
    open.processor_reference = reference;
    open.step(OperationEvent::ActionRequired, now)?;
    if change.payment.status.is_given_up() {
        let open = change.open_operation(number)?;
        open.failure = Some(Failure::given_up());
        open.step(OperationEvent::Failed, now)?;
        return late::undo(change, number, 0, now);
    }
    change.payment.next_action = Some(action);
    change.payment.expires_at = terms.action(now);
    change.step(Event::ActionRequired, change.payment.amount, now)
}

fn submitted(
    change: &mut Change,
    operation: &Operation,
    reference: String,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    if operation.status == OperationStatus::Submitted {
        return super::answer::unanswered(change, number, now).map(|_| ());
    }
    let open = change.open_operation(number)?;
    open.processor_reference.clone_from(&reference);
    open.step(OperationEvent::Submitted, now)?;
    if change.payment.status.is_given_up() {
        return Ok(());
    }
    change.payment.processor_reference = reference;
    change.payment.next_action = None;
    change.payment.expires_at = None;
    change.step(Event::Submitted, change.payment.amount, now)
}

fn fall_back(change: &mut Change, number: u32, failure: Failure, now: Timestamp) -> Result<(), Rejection> {
    let open = change.open_operation(number)?;
    open.failure = Some(failure);
    open.step(OperationEvent::Failed, now)?;
    let waiting = open.waiting.take();
    change.step(Event::AttemptFailed, change.payment.amount, now)?;
    change.payment.processor = change.payment.fallbacks.remove(0);
    create::authorize(change, waiting, now)?;
    Ok(())
}

fn fail(change: &mut Change, number: u32, failure: Failure, now: Timestamp) -> Result<(), Rejection> {
    let open = change.open_operation(number)?;
    open.failure = Some(failure.clone());
    open.step(OperationEvent::Failed, now)?;
    if !change.payment.status.is_given_up() {
        change.payment.failure = Some(failure);
        change.payment.next_action = None;
        change.payment.expires_at = None;
        change.step(Event::Failed, change.payment.amount, now)?;
    }
    change.release();
    Ok(())
}
