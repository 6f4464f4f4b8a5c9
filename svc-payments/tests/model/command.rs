//! Everything that can be tried on a payment, in any order.

use proptest::{collection::vec, prelude::*};
use svc_payments::domain::transition::DisputeStatus;

use crate::beginning::Beginning;

/// What a processor says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As it was asked; for this long, in seconds.
    Approved(Option<i64>),
    /// It did so with another amount.
    WrongAmount(i64),
    WrongCurrency,
    ActionRequired,
    Submitted,
    Declined,
    NotTaken,
    Returned,
    Unanswered,
    NeverHeardOf,
}

/// Which operation.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Which {
    /// One of those that are open, if any is.
    Open(usize),
    /// One of all.
    Any(usize),
}

/// What is tried.
#[derive(Debug, Clone)]
pub(crate) enum Command {
    Confirm,
    Review {
        approve: bool,
    },
    Capture {
        amount: Option<i64>,
        last: bool,
    },
    Increment(i64),
    Extend,
    Cancel,
    Refund(Option<i64>),
    /// A processor tells of the dispute with this name.
    Told {
        dispute: usize,
        status: DisputeStatus,
        amount: i64,
    },
    Evidence(usize),
    Accept(usize),
    /// Fraud assessment stops the payment, with a reservation of an earlier attempt or without.
    Stop {
        review: bool,
        reserved: bool,
    },
    RefuseByLedger,
    Answer(Which, Outcome),
    /// The processor gave the id of another payment.
    Duplicate(Which),
    /// There is news of an attempt that failed.
    AskAgain(Which, Outcome),
    /// The payer's bank takes it back.
    Return,
    /// So many seconds pass, or as many as the payment's time has left; then it is seen whether it is over.
    Wait(Option<i64>),
}

/// Any outcome.
pub(crate) fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        12 => proptest::option::weighted(0.2, 1..2_000_i64).prop_map(Outcome::Approved),
        1 => (-5..150_i64).prop_map(Outcome::WrongAmount),
        1 => Just(Outcome::WrongCurrency),
        3 => Just(Outcome::ActionRequired),
        3 => Just(Outcome::Submitted),
        3 => Just(Outcome::Declined),
        3 => Just(Outcome::NotTaken),
        1 => Just(Outcome::Returned),
        4 => Just(Outcome::Unanswered),
        3 => Just(Outcome::NeverHeardOf),
    ]
}

fn which() -> impl Strategy<Value = Which> {
    prop_oneof![9 => (0..20_usize).prop_map(Which::Open), 1 => (0..20_usize).prop_map(Which::Any)]
}

fn dispute_status() -> impl Strategy<Value = DisputeStatus> {
    prop_oneof![
        4 => Just(DisputeStatus::Open),
        1 => Just(DisputeStatus::UnderReview),
        1 => Just(DisputeStatus::Won),
        1 => Just(DisputeStatus::Lost),
    ]
}

/// Any command.
pub(crate) fn command() -> impl Strategy<Value = Command> {
    let amount = || proptest::option::of(1..=60_i64);
    prop_oneof![
        1 => Just(Command::Confirm),
        1 => any::<bool>().prop_map(|approve| Command::Review { approve }),
        5 => (amount(), any::<bool>()).prop_map(|(amount, last)| Command::Capture { amount, last }),
        2 => (1..=60_i64).prop_map(Command::Increment),
        1 => Just(Command::Extend),
        2 => Just(Command::Cancel),
        5 => amount().prop_map(Command::Refund),
        3 => (0..3_usize, dispute_status(), -5..=80_i64)
            .prop_map(|(dispute, status, amount)| Command::Told { dispute, status, amount }),
        1 => (0..3_usize).prop_map(Command::Evidence),
        1 => (0..3_usize).prop_map(Command::Accept),
        1 => (any::<bool>(), any::<bool>()).prop_map(|(review, reserved)| Command::Stop { review, reserved }),
        1 => Just(Command::RefuseByLedger),
        20 => (which(), outcome()).prop_map(|(which, outcome)| Command::Answer(which, outcome)),
        1 => which().prop_map(Command::Duplicate),
        1 => ((0..20_usize).prop_map(Which::Any), outcome())
            .prop_map(|(which, outcome)| Command::AskAgain(which, outcome)),
        1 => Just(Command::Return),
        2 => prop_oneof![Just(None), (0..100_i64).prop_map(Some), (0..100_000_i64).prop_map(Some)]
            .prop_map(Command::Wait),
    ]
}

/// Any way for a payment to begin.
pub(crate) fn beginning() -> impl Strategy<Value = Beginning> {
    let shares = (proptest::option::of(0..=60_i64), 0..=40_i64);
    (proptest::bool::weighted(0.8), proptest::bool::weighted(0.3), shares, 1..=3_usize).prop_map(
        |(confirm, automatic, (tax, fee), processors)| Beginning {
            amount: 100,
            confirm,
            automatic,
            tax,
            fee,
            processors,
        },
    )
}

/// A payment's life: how it begins, what is tried on it, and what its processors say while it comes to rest.
pub(crate) fn life() -> impl Strategy<Value = (Beginning, Vec<Command>, Vec<Outcome>)> {
    (beginning(), vec(command(), 0..60), vec(outcome(), 40))
}
