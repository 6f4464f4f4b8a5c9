//! What a processor did although the payment has no use for it any more: it is undone and reported, never dropped.

use money::Timestamp;

use super::{
    operation::{Approval, Failure, Operation, OperationKind, ProcessorOutcome},
    payment::{Change, Finding, Inspection, Payment, Rejection, TRIES_MAX, event_type},
    transition::{Event, OperationEvent, OperationStatus},
};

/// An authorization succeeded after the payment was given up.
pub(super) fn reverse(
    change: &mut Change,
    attempt: &Operation,
    approval: &Approval,
    now: Timestamp,
) -> Result<(), Rejection> {
    change.record(event_type::LATE_SUCCESS, attempt.amount(), now);
    undo(change, attempt.number, taken(attempt, approval), now)
}

/// How much an authorization took at once: what its processor says, or what it was asked for.
fn taken(attempt: &Operation, approval: &Approval) -> i64 {
    match attempt.kind {
        OperationKind::Authorize { amount, capture: true } => approval.amount.unwrap_or(amount).max(0),
        _ => 0,
    }
}

/// Demands that the authorization with this number is undone, which took so much; 0: it only reserved, or waits for the
/// payer.
pub(super) fn undo(change: &mut Change, number: u32, captured: i64, now: Timestamp) -> Result<(), Rejection> {
    let Some(attempt) = change.payment.operation(number).cloned() else {
        return Err(Rejection::OperationSettled { number });
    };
    let undoing = change.begin(OperationKind::Reverse { of: number, captured }, None, now)?;
    let undoing = change.open_operation(undoing)?;
    undoing.processor = attempt.processor;
    Ok(())
}

/// The processor was asked to undo an authorization: this is how it ended.
pub(super) fn answered(
    change: &mut Change,
    operation: &Operation,
    outcome: ProcessorOutcome,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    match outcome {
        ProcessorOutcome::Approved(Approval { reference, .. })
        | ProcessorOutcome::Submitted { reference } => {
            let open = change.open_operation(number)?;
            open.processor_reference = reference;
            open.step(OperationEvent::Succeeded, now)?;
            change.record(event_type::LATE_SUCCESS_REVERSED, operation.amount(), now);
        }
        ProcessorOutcome::Unanswered => {
            super::answer::unanswered(change, number, now)?;
            return Ok(());
        }
        ProcessorOutcome::Declined(failure) | ProcessorOutcome::Returned(failure) => {
            not_reversed(change, operation, failure, now)?;
        }
        ProcessorOutcome::NotTaken(failure) => return again(change, operation, failure, now),
        ProcessorOutcome::NeverHeardOf => {
            return again(change, operation, Failure::never_heard_of(), now);
        }
        ProcessorOutcome::ActionRequired { .. } => {
            let failure = Failure::new("ACTION_REQUIRED", "The processor wants the payer to act.");
            not_reversed(change, operation, failure, now)?;
        }
    }
    if change.payment.status.is_given_up() {
        change.release();
    }
    Ok(())
}

/// The processor did not get as far as to refuse it: it is asked anew after a while, which [`due`](super::due) says.
fn again(
    change: &mut Change,
    operation: &Operation,
    failure: Failure,
    now: Timestamp,
) -> Result<(), Rejection> {
    let OperationKind::Reverse { of, captured } = operation.kind else { return Ok(()) };
    if change.payment.tries(&operation.kind) < TRIES_MAX {
        let open = change.open_operation(operation.number)?;
        open.failure = Some(failure);
        open.step(OperationEvent::Failed, now)?;
        return undo(change, of, captured, now);
    }
    not_reversed(change, operation, failure, now)?;
    if change.payment.status.is_given_up() {
        change.release();
    }
    Ok(())
}

fn not_reversed(
    change: &mut Change,
    operation: &Operation,
    failure: Failure,
    now: Timestamp,
) -> Result<(), Rejection> {
    let open = change.open_operation(operation.number)?;
    open.failure = Some(failure);
    open.step(OperationEvent::Failed, now)?;
    change.record(event_type::OPERATION_REFUSED, operation.amount(), now);
    inspect(change, operation, Finding::NotReversed);
    Ok(())
}

/// An attempt that counts as failed is asked about once more, because its processor has news of it. `None`: nothing
/// else is known than before, or it is undone already.
pub fn asked_again(
    payment: Payment,
    number: u32,
    outcome: &ProcessorOutcome,
    now: Timestamp,
) -> Result<Option<Change>, Rejection> {
    let ProcessorOutcome::Approved(approval) = outcome else { return Ok(None) };
    let undone = |other: &Operation| {
        let of_this = matches!(other.kind, OperationKind::Reverse { of, .. } if of == number);
        of_this && other.status != OperationStatus::Failed
    };
    if payment.operations.iter().any(undone) {
        return Ok(None);
    }
    let mut change = Change::of(payment);
    let attempt = change.payment.operations.iter_mut().find(|operation| operation.number == number);
    let Some(attempt) = attempt.filter(|attempt| {
        attempt.status == OperationStatus::Failed && matches!(attempt.kind, OperationKind::Authorize { .. })
    }) else {
        return Ok(None);
    };
    attempt.processor_reference.clone_from(&approval.reference);
    attempt.step(OperationEvent::SucceededLate, now)?;
    let attempt = attempt.clone();
    reverse(&mut change, &attempt, approval, now)?;
    Ok(Some(change))
}

/// What is wrong with what the processor says that it did, if anything.
pub(super) fn finding(payment: &Payment, operation: &Operation, approval: &Approval) -> Option<Finding> {
    let asked = operation.amount();
    let has_amount = !matches!(
        operation.kind,
        OperationKind::Void { .. } | OperationKind::Extend | OperationKind::Reverse { .. }
    );
    match (approval.amount, approval.currency) {
        (Some(said), _) if has_amount && said != asked => Some(Finding::Amount { asked, said }),
        (_, Some(said)) if said != payment.currency => Some(Finding::Currency { said }),
        _ => None,
    }
}

/// The processor's answer cannot be right. The first time its outcome counts as unknown. If it says the same when it is
/// asked again, an authorization is undone; anything else stays unknown until a person has looked at it.
pub(super) fn refuse(
    change: &mut Change,
    operation: &Operation,
    approval: &Approval,
    finding: Finding,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    if !operation.is_doubted() {
        return doubt(change, operation, finding, now);
    }
    if !matches!(operation.kind, OperationKind::Authorize { .. }) {
        return Ok(());
    }
    let open = change.open_operation(number)?;
    open.failure = Some(Failure::wrong_answer());
    open.processor_reference.clone_from(&approval.reference);
    open.step(OperationEvent::Failed, now)?;
    if !change.payment.status.is_given_up() {
        change.payment.failure = Some(Failure::wrong_answer());
        change.payment.next_action = None;
        change.payment.expires_at = None;
        change.step(Event::Failed, change.payment.amount, now)?;
    }
    undo(change, number, taken(operation, approval), now)?;
    change.answer(number);
    Ok(())
}

/// The first answer that cannot be right is kept for inspection.
fn doubt(
    change: &mut Change,
    operation: &Operation,
    finding: Finding,
    now: Timestamp,
) -> Result<(), Rejection> {
    change.open_operation(operation.number)?.failure = Some(Failure::doubtful_answer());
    inspect(change, operation, finding);
    change.record(event_type::ANSWER_REFUSED, operation.amount(), now);
    Ok(())
}

fn inspect(change: &mut Change, operation: &Operation, finding: Finding) {
    let processor = operation.processor.clone();
    let reference = super::operation::reference(change.payment.id, operation.number);
    change.inspections.push(Inspection { processor, reference, finding });
}

/// The store refused an authorization's commit: another payment has the id that the processor gave. Its outcome is
/// unknown.
pub fn duplicate_reference(
    payment: Payment,
    number: u32,
    terms: &super::due::Terms,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let operation = payment.operation(number).cloned().ok_or(Rejection::OperationSettled { number })?;
    let mut change = super::answer::answered(payment, number, ProcessorOutcome::Unanswered, terms, now)?;
    if !operation.is_doubted() {
        doubt(&mut change, &operation, Finding::DuplicateReference, now)?;
    }
    Ok(change)
}
