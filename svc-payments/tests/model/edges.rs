//! What the model does not come to: the largest amounts, the most operations, and when something is due.

use money::{AMOUNT_MAX, RefundId};
use svc_payments::domain::{
    answer, due, hold, late,
    operation::{Approval, Failure, OperationKind, ProcessorOutcome},
    payment::{Change, Finding, OPERATIONS_MAX, Payment, Rejection, TRIES_MAX},
    posting::{self, TransferKind},
    refund,
    transition::{OperationStatus, Status},
};
use uuid::Uuid;

use crate::beginning::{Beginning, TERMS, at};

fn approved() -> ProcessorOutcome {
    ProcessorOutcome::Approved(Approval::as_asked("r"))
}

fn no() -> Failure {
    Failure::new("CARD_DECLINED", "No.")
}

fn answered(payment: Payment, outcome: ProcessorOutcome, second: i64) -> Change {
    let number = payment.open_operations().last().unwrap().number;
    answer::answered(payment, number, outcome, &TERMS, at(second)).unwrap()
}

fn authorized(amount: i64) -> Payment {
    answered(Beginning::plain(amount).created().payment, approved(), 1).payment
}

fn captured(amount: i64) -> Payment {
    let change = hold::begin_capture(authorized(amount), None, true, "k1", at(2)).unwrap();
    answered(change.payment, approved(), 2).payment
}

/// A payment that was given up while nobody knew its outcome, and was authorized after all.
fn late_success() -> Payment {
    let unknown = answered(Beginning::plain(100).created().payment, ProcessorOutcome::Unanswered, 1).payment;
    let canceled = hold::begin_cancel(unknown, String::new(), "k1", at(2)).unwrap().payment;
    answered(canceled, approved(), 3).payment
}

/// How long the payment waits until it is looked at again, in seconds.
fn pause(payment: &Payment, now: i64) -> i64 {
    due::payment(payment).unwrap().as_seconds() - at(now).as_seconds()
}

fn refund_id(number: u32) -> RefundId {
    RefundId::new(Uuid::from_u128(u128::from(number) << 32))
}

#[test]
fn the_largest_amount_goes_all_the_way() {
    let beginning = Beginning { tax: Some(AMOUNT_MAX / 5), fee: 3, ..Beginning::plain(AMOUNT_MAX) };
    let payment = answered(beginning.created().payment, approved(), 1).payment;
    let begun = hold::begin_increment(payment.clone(), 1, "k1", at(2));
    assert_eq!(begun.unwrap_err(), Rejection::AmountTooLarge);
    for amount in [0, -1, i64::MIN, i64::MAX] {
        assert!(hold::begin_increment(payment.clone(), amount, "k1", at(2)).is_err());
        assert!(hold::begin_capture(payment.clone(), Some(amount), true, "k1", at(2)).is_err());
    }
    let change = hold::begin_capture(payment, None, true, "k1", at(2)).unwrap();
    let captured = answered(change.payment, approved(), 2);
    let amounts = |change: &Change| -> Vec<i64> {
        change.postings[0].transfers.iter().map(|transfer| transfer.amount).collect()
    };
    assert_eq!(amounts(&captured), [AMOUNT_MAX, AMOUNT_MAX / 5, 3]);
    for amount in [0, -1, i64::MIN, i64::MAX, AMOUNT_MAX + 1] {
        let begun =
            refund::begin(captured.payment.clone(), refund_id(1), Some(amount), String::new(), "k2", at(3));
        assert_eq!(begun.unwrap_err(), Rejection::RefundExceedsCaptured { available: AMOUNT_MAX });
    }
    let change = refund::begin(captured.payment, refund_id(1), None, String::new(), "k2", at(3)).unwrap();
    let refunded = answered(change.payment, approved(), 3);
    assert_eq!(amounts(&refunded), [AMOUNT_MAX, AMOUNT_MAX / 5, 3]);
    assert_eq!(refunded.payment.status, Status::Refunded);
}

#[test]
fn callers_begin_so_many_operations_and_what_must_follow_still_can() {
    let mut payment = authorized(1_000);
    for _ in payment.operations.len()..OPERATIONS_MAX {
        let change = hold::begin_capture(payment, Some(1), false, "k1", at(2)).unwrap();
        payment = answered(change.payment, approved(), 2).payment;
    }
    let full = Rejection::TooManyOperations;
    assert_eq!(hold::begin_capture(payment.clone(), None, true, "k", at(3)).unwrap_err(), full);
    assert_eq!(hold::begin_increment(payment.clone(), 1, "k", at(3)).unwrap_err(), full);
    assert_eq!(hold::begin_extend(payment.clone(), "k", at(3)).unwrap_err(), full);
    assert_eq!(hold::begin_cancel(payment.clone(), String::new(), "k", at(3)).unwrap_err(), full);
    let refused = refund::begin(payment.clone(), refund_id(1), None, String::new(), "k", at(3));
    assert_eq!(refused.unwrap_err(), full);
    // What is not captured is released all the same when its time is over.
    let over = 1 + TERMS.authorized_s;
    let change = hold::expire(payment, &TERMS, at(over)).unwrap().unwrap();
    let change = answered(change.payment, approved(), over);
    assert!(change.payment.capture_closed);
    assert_eq!(due::payment(&change.payment), None);
}

/// A processor that is away for very long is not asked for ever, and what it holds ends with its own time.
#[test]
fn what_cannot_be_released_is_over_in_the_end() {
    let mut payment = authorized(100);
    let mut now = 1;
    let mut pauses = Vec::new();
    for _ in 0..TRIES_MAX {
        now += pause(&payment, now);
        payment = hold::expire(payment, &TERMS, at(now)).unwrap().unwrap().payment;
        payment = answered(payment, ProcessorOutcome::NotTaken(no()), now).payment;
        assert_eq!(payment.status, Status::Authorized);
        pauses.push(pause(&payment, now));
    }
    assert_eq!(pauses, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
    now += pause(&payment, now);
    let change = hold::expire(payment, &TERMS, at(now)).unwrap().unwrap();
    assert_eq!(change.payment.status, Status::Expired);
    assert!(matches!(change.postings[0].transfers[0].kind, TransferKind::Void { .. }));
    assert_eq!(due::payment(&change.payment), None);
}

#[test]
fn a_payer_who_is_waited_for_in_vain_can_still_be_too_late() {
    let action = || ProcessorOutcome::ActionRequired {
        reference: "r".into(),
        action: svc_payments::domain::operation::NextAction::Redirect { url: "https://bank.example/".into() },
    };
    let mut payment = answered(Beginning::plain(100).created().payment, action(), 1).payment;
    let over = |payment: &Payment| payment.expires_at.unwrap().as_seconds() - at(0).as_seconds();
    for _ in 0..TRIES_MAX {
        let now = over(&payment);
        payment = hold::expire(payment, &TERMS, at(now)).unwrap().unwrap().payment;
        payment = answered(payment, ProcessorOutcome::Declined(no()), now).payment;
        assert_eq!(payment.status, Status::RequiresAction);
    }
    let now = over(&payment);
    payment = hold::expire(payment, &TERMS, at(now)).unwrap().unwrap().payment;
    assert_eq!((payment.status, payment.reserved), (Status::Expired, true));
    let change = answered(payment, approved(), now);
    assert!(matches!(change.payment.operations.last().unwrap().kind, OperationKind::Reverse { of: 1, .. }));
    let change = answered(change.payment, approved(), now);
    assert!(!change.payment.reserved);
}

/// Undoing is tried again with growing pauses, and then a person is told.
#[test]
fn what_cannot_be_undone_is_kept_for_inspection() {
    let mut payment = late_success();
    let mut now = 3;
    let mut pauses = Vec::new();
    for _ in 1..TRIES_MAX {
        pauses.push(pause(&payment, now));
        now += pause(&payment, now);
        let change = answered(payment, ProcessorOutcome::NotTaken(no()), now);
        assert!(change.inspections.is_empty());
        payment = change.payment;
    }
    assert_eq!(pauses, [15, 30, 60, 120, 240, 480, 960]);
    let change = answered(payment, ProcessorOutcome::NotTaken(no()), now);
    assert_eq!(change.inspections[0].finding, Finding::NotReversed);
    assert_eq!(change.payment.open_operations().count(), 0);
    assert!(!change.payment.reserved);
}

#[test]
fn what_was_reserved_for_a_payment_under_review_is_not_taken_up_again() {
    use svc_payments::domain::{
        authorization,
        payment::{Fraud, FraudOutcome},
    };
    let payment = Beginning::plain(100).created().payment;
    let first = posting::reserve(&payment);
    let fraud = Fraud { outcome: FraudOutcome::Review, score: 70, reasons: vec![] };
    let change = authorization::stopped_by_fraud(payment, 1, fraud, true, &TERMS, at(1)).unwrap();
    let released = TransferKind::Void { pending_id: first.transfers[0].id };
    assert_eq!(change.postings[0].transfers[0].kind, released);
    let change = authorization::review_resolved(change.payment, true, "k1", at(2)).unwrap();
    assert_ne!(posting::reserve(&change.payment).transfers[0].id, first.transfers[0].id);
}

#[test]
fn news_of_an_attempt_that_is_undone_undoes_it_no_second_time() {
    let payment = late_success();
    let again = |payment: &Payment| late::asked_again(payment.clone(), 1, &approved(), at(4)).unwrap();
    assert_eq!(again(&payment), None);
    let undone = answered(payment, approved(), 4).payment;
    assert_eq!(again(&undone), None);
    // Nor one that counts as failed, because twice another amount was said.
    let wrong = || ProcessorOutcome::Approved(Approval { amount: Some(7), ..Approval::as_asked("r") });
    let doubted = answered(Beginning::plain(100).created().payment, wrong(), 1).payment;
    let failed = answered(doubted, wrong(), 2).payment;
    assert_eq!(failed.operations[0].status, OperationStatus::Failed);
    assert_eq!(again(&failed), None);
    let undone = answered(failed, approved(), 4).payment;
    assert_eq!(again(&undone), None);
}

#[test]
fn a_caller_has_some_patience_and_then_the_background_takes_over() {
    let payment = Beginning::plain(100).created().payment;
    assert_eq!(pause(&payment, 0), 15);
    assert_eq!(due::operations(&payment, at(14)), [1], "whoever comes early has news");
    assert_eq!(due::operations(&payment, at(15)), [1]);
    let unconfirmed = Beginning { confirm: false, ..Beginning::plain(100) }.created().payment;
    assert_eq!(pause(&unconfirmed, 0), TERMS.unconfirmed_s);
    assert_eq!(due::payment(&captured(100)), None);
}

/// 1, 2, 4, … seconds, and then each minute.
#[test]
fn an_unknown_outcome_is_asked_about_with_growing_pauses() {
    let mut payment =
        answered(Beginning::plain(100).created().payment, ProcessorOutcome::Unanswered, 0).payment;
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(pause(&payment, now));
        now += pause(&payment, now);
        payment = answered(payment, ProcessorOutcome::Unanswered, now).payment;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
    payment.operations[0].inquiries = u32::MAX;
    assert_eq!(pause(&payment, now), 60);
}

#[test]
fn a_bank_debit_is_asked_about_hourly_at_last() {
    let submitted = || ProcessorOutcome::Submitted { reference: "r".into() };
    let mut payment = answered(Beginning::plain(100).created().payment, submitted(), 0).payment;
    let mut now = 0;
    let mut pauses = Vec::new();
    for _ in 0..8 {
        pauses.push(pause(&payment, now));
        now += pause(&payment, now);
        payment = answered(payment, submitted(), now).payment;
    }
    assert_eq!(pauses, [60, 120, 240, 480, 960, 1_920, 3_600, 3_600]);
}

/// Of several that are open only those that are due are driven.
#[test]
fn what_is_not_due_is_left_alone() {
    let payment = captured(100);
    let first = refund::begin(payment, refund_id(1), Some(10), String::new(), "k2", at(10)).unwrap().payment;
    let second = refund::begin(first, refund_id(2), Some(10), String::new(), "k3", at(20)).unwrap().payment;
    let open: Vec<u32> = second.open_operations().map(|open| open.number).collect();
    assert_eq!(due::operations(&second, at(10)), open);
    assert_eq!(due::operations(&second, at(25)), open[..1]);
    assert_eq!(due::operations(&second, at(35)), open);
    assert_eq!(pause(&second, 10), 15);
    assert!(second.operations.iter().all(|operation| operation.status != OperationStatus::Unknown));
    let now = at(40);
    assert_eq!(due::retry(now), at(45));
    assert_eq!(due::posting(now), at(45));
    assert_eq!(due::lease(now), at(55));
}
