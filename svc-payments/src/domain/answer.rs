//! What a processor's answer means, whatever it was asked for: the one way in for outcomes.

use money::Timestamp;

use super::{
    authorization,
    due::Terms,
    hold, late,
    operation::{OperationKind, ProcessorOutcome},
    payment::{Change, Payment, Rejection},
    refund,
    transition::{OperationEvent, OperationStatus},
};

/// The processor was asked for the operation with this number, or what became of it: this is the answer. An operation
/// that is settled already is a rejection.
pub fn answered(
    payment: Payment,
    number: u32,
    outcome: ProcessorOutcome,
    terms: &Terms,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let mut change = Change::of(payment);
    let operation = change.open_operation(number)?.clone();
    let outcome = match outcome {
        ProcessorOutcome::Approved(approval) => match late::finding(&change.payment, &operation, &approval) {
            None => ProcessorOutcome::Approved(approval),
            Some(finding) => {
                late::refuse(&mut change, &operation, &approval, finding, now)?;
                if change.open_operation(number).is_err() {
                    return Ok(change);
                }
                ProcessorOutcome::Unanswered
            }
        },
        outcome => outcome,
    };
    match operation.kind {
        OperationKind::Authorize { .. } => {
            authorization::answered(&mut change, &operation, outcome, terms, now)?;
        }
        OperationKind::Refund { .. } => refund::answered(&mut change, &operation, outcome, now)?,
        OperationKind::Reverse { .. } => late::answered(&mut change, &operation, outcome, now)?,
        OperationKind::Capture { .. }
        | OperationKind::Void { .. }
        | OperationKind::Increment { .. }
        | OperationKind::Extend => hold::answered(&mut change, &operation, outcome, terms, now)?,
    }
    Ok(change)
}

/// The outcome is unknown, or still is: the operation stays, and will be asked about. Whether that is news.
pub(super) fn unanswered(change: &mut Change, number: u32, now: Timestamp) -> Result<bool, Rejection> {
    let open = change.open_operation(number)?;
    if open.status == OperationStatus::Pending {
        open.step(OperationEvent::Unanswered, now)?;
        return Ok(true);
    }
    open.inquiries = open.inquiries.saturating_add(1);
    open.asked_at = Some(now);
    Ok(false)
}
