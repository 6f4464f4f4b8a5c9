//! What may be done with reserved money: take some of it, reserve more, keep it for longer, or release it.

use money::{AMOUNT_MAX, Timestamp};

use super::{
    answer::unanswered,
    due::{self, Terms},
    operation::{Approval, Failure, Operation, OperationKind, ProcessorOutcome, Rpc, VoidCause, Waiting},
    payment::{Change, Payment, Rejection, TRIES_MAX, event_type},
    posting,
    transition::{Event, OperationEvent, OperationStatus, Status},
};

/// What is asked for when a payment came to the end of its time.
const EXPIRED: OperationKind = OperationKind::Void { cause: VoidCause::Expired };

/// What became of something that was asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Refusal {
    /// The processor does not do it.
    Final,
    /// It did not get as far as to decide.
    NotTaken,
}

fn held(payment: &Payment, needed: &'static str) -> Result<(), Rejection> {
    let status = payment.status;
    if matches!(status, Status::Authorized | Status::PartiallyCaptured | Status::Refunded)
        && !payment.capture_closed
    {
        Ok(())
    } else {
        Err(Rejection::State { status, needed })
    }
}

fn begun(
    mut change: Change,
    kind: OperationKind,
    waiting: Option<Waiting>,
    now: Timestamp,
) -> Result<Change, Rejection> {
    // Why an earlier operation was refused says nothing about this one.
    change.payment.failure = None;
    change.begin(kind, waiting, now)?;
    Ok(change)
}

/// Begins a capture of `amount`, or of all that can be captured; with `last` the rest is released.
pub fn begin_capture(
    payment: Payment,
    amount: Option<i64>,
    last: bool,
    key: &str,
    now: Timestamp,
) -> Result<Change, Rejection> {
    payment.must_be_idle()?;
    held(&payment, "only what is AUTHORIZED and not all captured or released can be captured")?;
    let is_last = |open: &Operation| matches!(open.kind, OperationKind::Capture { last: true, .. });
    if payment.open_operations().any(is_last) {
        return Err(Rejection::OperationUnderWay);
    }
    let available = payment.capturable();
    let amount = amount.unwrap_or(available);
    if amount > available || amount <= 0 {
        return Err(Rejection::CaptureExceedsAuthorized { available });
    }
    // What others have promised cannot be released: after this one nothing is left, unless they are refused.
    let alone = payment.amount_capture_pending == 0;
    let last = if amount == available { alone } else { last };
    if last && !alone {
        return Err(Rejection::OperationUnderWay);
    }
    let mut change = Change::of(payment);
    change.payment.amount_capture_pending += amount;
    let waiting = Waiting { rpc: Rpc::CapturePayment, key: key.into() };
    begun(change, OperationKind::Capture { amount, last }, Some(waiting), now)
}

/// Begins to reserve `amount` more.
pub fn begin_increment(
    payment: Payment,
    amount: i64,
    key: &str,
    now: Timestamp,
) -> Result<Change, Rejection> {
    payment.must_be_alone()?;
    held(&payment, "only what is AUTHORIZED can be incremented")?;
    if amount <= 0 || payment.amount.checked_add(amount).is_none_or(|sum| sum > AMOUNT_MAX) {
        return Err(Rejection::AmountTooLarge);
    }
    let waiting = Waiting { rpc: Rpc::IncrementAuthorization, key: key.into() };
    begun(Change::of(payment), OperationKind::Increment { amount }, Some(waiting), now)
}

/// Begins to keep the reservation for longer.
pub fn begin_extend(payment: Payment, key: &str, now: Timestamp) -> Result<Change, Rejection> {
    payment.must_be_alone()?;
    held(&payment, "only what is AUTHORIZED can be extended")?;
    let waiting = Waiting { rpc: Rpc::ExtendAuthorization, key: key.into() };
    begun(Change::of(payment), OperationKind::Extend, Some(waiting), now)
}

/// Begins to give the payment up. What has no processor to be asked is given up at once; so is what has an unknown
/// outcome: if it turns out to have succeeded, it is undone.
pub fn begin_cancel(
    payment: Payment,
    reason: String,
    key: &str,
    now: Timestamp,
) -> Result<Change, Rejection> {
    let waiting = Waiting { rpc: Rpc::CancelPayment, key: key.into() };
    let submitted = payment.attempt().is_some_and(|attempt| attempt.status == OperationStatus::Submitted);
    match payment.status {
        Status::RequiresConfirmation | Status::InReview | Status::Unknown => {
            let mut change = Change::of(payment);
            change.payment.expires_at = None;
            change.step(Event::Canceled, change.payment.amount, now)?;
            change.answered.push((waiting, None));
            Ok(change)
        }
        Status::RequiresAction | Status::Processing => {
            if payment.status == Status::Processing && !submitted {
                let needed = "wait until the processor's answer is known";
                return Err(Rejection::State { status: payment.status, needed });
            }
            if payment.open_operations().any(|open| matches!(open.kind, OperationKind::Void { .. })) {
                return Err(Rejection::OperationUnderWay);
            }
            let cause = VoidCause::Canceled(reason);
            begun(Change::of(payment), OperationKind::Void { cause }, Some(waiting), now)
        }
        _ => {
            payment.must_be_alone()?;
            held(&payment, "only what is not captured can be cancelled")?;
            let cause = VoidCause::Canceled(reason);
            begun(Change::of(payment), OperationKind::Void { cause }, Some(waiting), now)
        }
    }
}

/// The payment came to the end of its time, if it has. `None`: it has not.
pub fn expire(payment: Payment, terms: &Terms, now: Timestamp) -> Result<Option<Change>, Rejection> {
    if payment.expires_at.is_none_or(|at| at > now) {
        return Ok(None);
    }
    let mut change = Change::of(payment);
    change.payment.expires_at = None;
    match change.payment.status {
        Status::RequiresConfirmation | Status::InReview => {
            change.step(Event::Expired, change.payment.amount, now)?;
        }
        Status::RequiresAction | Status::Authorized | Status::PartiallyCaptured | Status::Refunded => {
            let voiding = |open: &Operation| matches!(open.kind, OperationKind::Void { .. });
            let waits = change.payment.status == Status::RequiresAction;
            let busy = if waits {
                change.payment.open_operations().any(voiding)
            } else {
                change.payment.must_be_alone().is_err()
            };
            if busy {
                change.payment.expires_at = terms.busy(now);
            } else if change.payment.tries(&EXPIRED) < TRIES_MAX {
                change.begin(EXPIRED, None, now)?;
            } else if waits {
                // It is asked about on and on, and undone should it succeed.
                change.payment.next_action = None;
                change.step(Event::Expired, change.payment.amount, now)?;
            } else {
                released(&mut change, &VoidCause::Expired, now)?;
            }
        }
        _ => {}
    }
    Ok(Some(change))
}

/// The processor was asked to do something with what it holds: this is how it ended.
pub(super) fn answered(
    change: &mut Change,
    operation: &Operation,
    outcome: ProcessorOutcome,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    match outcome {
        ProcessorOutcome::Approved(approval) => done(change, operation, approval, terms, now)?,
        ProcessorOutcome::Submitted { reference } => {
            done(change, operation, Approval::as_asked(reference), terms, now)?;
        }
        ProcessorOutcome::Unanswered => {
            if unanswered(change, number, now)? {
                change.record(event_type::OPERATION_UNKNOWN, operation.amount(), now);
            }
        }
        ProcessorOutcome::Declined(failure) | ProcessorOutcome::Returned(failure) => {
            refused(change, operation, Refusal::Final, failure, now)?;
        }
        ProcessorOutcome::NotTaken(failure) => {
            refused(change, operation, Refusal::NotTaken, failure, now)?;
        }
        ProcessorOutcome::NeverHeardOf => {
            refused(change, operation, Refusal::NotTaken, Failure::never_heard_of(), now)?;
        }
        ProcessorOutcome::ActionRequired { .. } => {
            let failure =
                Failure::new("ACTION_REQUIRED", "The processor wants the payer to act, who is not there.");
            refused(change, operation, Refusal::Final, failure, now)?;
        }
    }
    change.answer(number);
    Ok(())
}

fn settle(change: &mut Change, number: u32, event: OperationEvent, now: Timestamp) -> Result<(), Rejection> {
    change.open_operation(number)?.step(event, now)
}

fn done(
    change: &mut Change,
    operation: &Operation,
    approval: Approval,
    terms: &Terms,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    change.open_operation(number)?.processor_reference = approval.reference;
    settle(change, number, OperationEvent::Succeeded, now)?;
    match &operation.kind {
        OperationKind::Capture { amount, last } => captured(change, *amount, *last, now),
        OperationKind::Void { cause } => released(change, cause, now),
        OperationKind::Increment { amount } => {
            let payment = &mut change.payment;
            payment.amount += amount;
            payment.amount_authorized += amount;
            let remaining = payment.amount_authorized - payment.amount_captured;
            let posting = posting::reserve_anew(payment, remaining);
            change.post(posting);
            change.record(event_type::INCREMENTED, *amount, now);
            Ok(())
        }
        _ => {
            change.payment.expires_at = approval.valid_until.or_else(|| terms.authorized(now));
            change.record(event_type::EXTENDED, 0, now);
            Ok(())
        }
    }
}

fn captured(change: &mut Change, amount: i64, last: bool, now: Timestamp) -> Result<(), Rejection> {
    let payment = &mut change.payment;
    let before = payment.amount_captured;
    payment.amount_capture_pending -= amount;
    payment.amount_captured += amount;
    let remaining = payment.amount_authorized - payment.amount_captured;
    payment.capture_closed = remaining == 0 || last;
    let kept = if payment.capture_closed { 0 } else { remaining };
    let posting = posting::capture(payment, before, amount, kept);
    if payment.capture_closed {
        payment.reserved = false;
        payment.expires_at = None;
    }
    change.post(posting);
    change.step(if remaining == 0 { Event::Captured } else { Event::PartiallyCaptured }, amount, now)
}

/// Nothing is held any more at the processor.
fn released(change: &mut Change, cause: &VoidCause, now: Timestamp) -> Result<(), Rejection> {
    // The attempt was declined while it was being released: there was nothing to be released.
    if change.payment.status.is_given_up() {
        return Ok(());
    }
    let attempt =
        change.payment.attempt().filter(|attempt| attempt.status.is_open()).map(|attempt| attempt.number);
    if let Some(number) = attempt {
        let open = change.open_operation(number)?;
        open.failure = Some(Failure::given_up());
        open.step(OperationEvent::Failed, now)?;
        change.answer(number);
    }
    change.payment.next_action = None;
    change.payment.expires_at = None;
    if matches!(change.payment.status, Status::PartiallyCaptured | Status::Refunded) {
        let amount = change.payment.capturable();
        change.payment.capture_closed = true;
        change.step(Event::RemainderReleased, amount, now)?;
    } else {
        let event = match cause {
            VoidCause::Expired => Event::Expired,
            VoidCause::Canceled(_) => Event::Canceled,
        };
        change.step(event, change.payment.amount, now)?;
    }
    change.release();
    Ok(())
}

/// What was before stands.
fn refused(
    change: &mut Change,
    operation: &Operation,
    refusal: Refusal,
    failure: Failure,
    now: Timestamp,
) -> Result<(), Rejection> {
    let number = operation.number;
    let waits_for_payer = change.payment.attempt().is_some_and(|attempt| attempt.status.is_open());
    let expired = operation.kind == EXPIRED;
    if expired && !waits_for_payer && refusal == Refusal::Final {
        // What is over for us is over for the processor too, and that is what it says.
        settle(change, number, OperationEvent::Succeeded, now)?;
        return released(change, &VoidCause::Expired, now);
    }
    change.open_operation(number)?.failure = Some(failure.clone());
    settle(change, number, OperationEvent::Failed, now)?;
    if change.payment.status.is_given_up() {
        return Ok(());
    }
    if let OperationKind::Capture { amount, .. } = operation.kind {
        change.payment.amount_capture_pending -= amount;
    }
    if expired && change.payment.status != Status::Processing {
        // The payer may have acted in the last moment, or the processor is away: the end of its time comes again.
        change.payment.expires_at = due::release_again(change.payment.tries(&EXPIRED), now);
    }
    change.payment.failure = Some(failure);
    change.record(event_type::OPERATION_REFUSED, operation.amount(), now);
    Ok(())
}
