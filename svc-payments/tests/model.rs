//! Any sequence of commands, legal or not, on a payment: the domain against a reference model written
//! from the rules, not from the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use money::{RefundId, Timestamp};
use proptest::{collection::vec, prelude::*};
use svc_payments::domain::{
    authorization, capture, due,
    operation::{Failure, Operation, ProcessorOutcome},
    payment::{CaptureMethod, Change, Fraud, FraudOutcome, Payment, Rejection},
    posting::{self, AccountCode},
    refund::{self, Refund},
    transition::Status,
};
use uuid::Uuid;

use crate::support::{Ledger, at, created};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Approved,
    Declined,
    Unanswered,
    NeverHeardOf,
}

#[derive(Debug, Clone)]
enum Command {
    /// Fraud assessment stops the payment, with a reservation of an earlier attempt or without.
    Stop {
        review: bool,
        reserved: bool,
    },
    RefuseByLedger,
    AnswerAuthorization(Outcome),
    Capture(Option<i64>),
    Cancel,
    AnswerOperation(Outcome),
    Refund(Option<i64>),
    AnswerRefund(usize, Outcome),
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        4 => Just(Outcome::Approved),
        1 => Just(Outcome::Declined),
        2 => Just(Outcome::Unanswered),
        1 => Just(Outcome::NeverHeardOf),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let amount = || proptest::option::of(1..=120_i64);
    prop_oneof![
        1 => (any::<bool>(), any::<bool>())
            .prop_map(|(review, reserved)| Command::Stop { review, reserved }),
        1 => Just(Command::RefuseByLedger),
        6 => outcome().prop_map(Command::AnswerAuthorization),
        4 => amount().prop_map(Command::Capture),
        2 => Just(Command::Cancel),
        6 => outcome().prop_map(Command::AnswerOperation),
        8 => amount().prop_map(Command::Refund),
        8 => (0..20_usize, outcome()).prop_map(|(which, outcome)| Command::AnswerRefund(which, outcome)),
    ]
}

/// What is under way, in the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Nothing,
    Authorizing,
    Capturing(i64),
    Voiding,
}

/// The rules of a payment's life, said as plainly as they can be.
#[derive(Debug, Clone)]
struct Model {
    amount: i64,
    automatic: bool,
    status: &'static str,
    doing: Doing,
    authorized: i64,
    captured: i64,
    refunded: i64,
    promised: i64,
    events: i64,
    /// Amount, and `None` while open: whether it was asked about without an answer; else settled.
    refunds: Vec<(i64, Option<bool>)>,
}

impl Model {
    fn new(amount: i64, automatic: bool) -> Self {
        Self {
            amount,
            automatic,
            status: "PROCESSING",
            doing: Doing::Authorizing,
            authorized: 0,
            captured: 0,
            refunded: 0,
            promised: 0,
            events: 1,
            refunds: Vec::new(),
        }
    }

    fn becomes(&mut self, status: &'static str, doing: Doing) -> bool {
        self.status = status;
        self.doing = doing;
        self.events += 1;
        true
    }

    fn silence(&mut self) -> bool {
        if self.status == "UNKNOWN" { true } else { self.becomes("UNKNOWN", self.doing) }
    }

    /// Whether the command is legal; if so, it is carried out.
    fn apply(&mut self, command: &Command) -> bool {
        match (command, self.status, self.doing) {
            (Command::Stop { review, .. }, "PROCESSING", _) => {
                self.becomes(if *review { "IN_REVIEW" } else { "FAILED" }, Doing::Nothing)
            }
            (Command::RefuseByLedger, "PROCESSING", _) => self.becomes("FAILED", Doing::Nothing),
            (Command::AnswerAuthorization(outcome), _, Doing::Authorizing) => match outcome {
                Outcome::Approved => {
                    self.authorized = self.amount;
                    self.becomes("AUTHORIZED", Doing::Nothing);
                    if self.automatic {
                        self.captured = self.amount;
                        self.becomes("CAPTURED", Doing::Nothing);
                    }
                    true
                }
                Outcome::Declined | Outcome::NeverHeardOf => self.becomes("FAILED", Doing::Nothing),
                Outcome::Unanswered => self.silence(),
            },
            (Command::Capture(amount), "AUTHORIZED", Doing::Nothing)
                if amount.is_none_or(|amount| amount <= self.amount) =>
            {
                self.doing = Doing::Capturing(amount.unwrap_or(self.amount));
                true
            }
            (Command::Cancel, "AUTHORIZED", Doing::Nothing) => {
                self.doing = Doing::Voiding;
                true
            }
            (Command::Cancel, "IN_REVIEW", _) => self.becomes("CANCELED", Doing::Nothing),
            (Command::AnswerOperation(outcome), _, Doing::Capturing(_) | Doing::Voiding) => match outcome {
                Outcome::Approved => match self.doing {
                    Doing::Capturing(amount) => {
                        self.captured = amount;
                        let whole = amount == self.amount;
                        self.becomes(if whole { "CAPTURED" } else { "PARTIALLY_CAPTURED" }, Doing::Nothing)
                    }
                    _ => self.becomes("CANCELED", Doing::Nothing),
                },
                Outcome::Declined | Outcome::NeverHeardOf => self.becomes("AUTHORIZED", Doing::Nothing),
                Outcome::Unanswered => self.silence(),
            },
            (Command::Refund(amount), _, _) => {
                // What was never captured has nothing to give back, so no state needs to be named.
                let free = self.captured - self.refunded - self.promised;
                let amount = amount.unwrap_or(free);
                if amount <= 0 || amount > free {
                    return false;
                }
                self.promised += amount;
                self.refunds.push((amount, Some(false)));
                self.events += 1;
                true
            }
            (Command::AnswerRefund(which, outcome), _, _) => {
                if self.refunds.is_empty() {
                    return false;
                }
                let which = which % self.refunds.len();
                let refund = &mut self.refunds[which];
                let (amount, Some(asked_before)) = *refund else { return true };
                if *outcome == Outcome::Unanswered {
                    *refund = (amount, Some(true));
                    self.events += i64::from(!asked_before);
                    return true;
                }
                *refund = (amount, None);
                self.promised -= amount;
                self.events += 1;
                if *outcome == Outcome::Approved {
                    self.refunded += amount;
                    if self.refunded == self.captured {
                        self.status = "REFUNDED";
                    }
                }
                true
            }
            _ => false,
        }
    }
}

/// The domain, with its books.
struct Real {
    payment: Payment,
    refunds: Vec<Refund>,
    ledger: Ledger,
    now: Timestamp,
}

impl Real {
    fn processor(outcome: Outcome) -> ProcessorOutcome {
        match outcome {
            Outcome::Approved => ProcessorOutcome::Approved { reference: "r".into() },
            Outcome::Declined => ProcessorOutcome::Declined(Failure::new("CARD_DECLINED", "No.")),
            Outcome::Unanswered => ProcessorOutcome::Unanswered,
            Outcome::NeverHeardOf => ProcessorOutcome::NeverHeardOf,
        }
    }

    fn apply(&mut self, command: &Command) -> Result<(), Rejection> {
        let (payment, now) = (self.payment.clone(), self.now);
        let fraud = |outcome| Fraud { outcome, score: 1, reasons: Vec::new() };
        let change = match command {
            Command::Stop { review, reserved } => {
                let outcome = if *review { FraudOutcome::Review } else { FraudOutcome::Block };
                let change = authorization::stopped_by_fraud(payment, fraud(outcome), *reserved, now)?;
                if *reserved {
                    self.ledger.post(&posting::reserve(&self.payment));
                }
                change
            }
            Command::RefuseByLedger => {
                authorization::refused_by_ledger(payment, fraud(FraudOutcome::Allow), now)?
            }
            Command::AnswerAuthorization(outcome) => {
                let outcome = Self::processor(*outcome);
                let change = authorization::answered(payment, None, outcome, now)?;
                // The books come before the processor, and again after a crash.
                self.ledger.post(&posting::reserve(&self.payment));
                change
            }
            Command::Capture(amount) => capture::begin_capture(payment, *amount, "k")?,
            Command::Cancel => capture::begin_cancel(payment, "why".into(), "k", now)?,
            Command::AnswerOperation(outcome) => capture::answered(payment, Self::processor(*outcome), now)?,
            Command::Refund(amount) => {
                let id = RefundId::new(Uuid::from_u128(1_000 * (1 + self.refunds.len() as u128)));
                let (change, refund) = refund::begin(payment, id, *amount, String::new(), "k", now)?;
                self.refunds.push(refund);
                change
            }
            Command::AnswerRefund(which, outcome) => {
                if self.refunds.is_empty() {
                    return Err(Rejection::OperationUnderWay);
                }
                let at = which % self.refunds.len();
                let refund = self.refunds[at].clone();
                let (change, refund) = refund::answered(payment, refund, Self::processor(*outcome), now)?;
                self.refunds[at] = refund;
                change
            }
        };
        self.take(change);
        Ok(())
    }

    /// Writes down what a store would, and tells the ledger twice.
    fn take(&mut self, change: Change) {
        let numbers: Vec<i64> = change.events.iter().map(|event| event.sequence).collect();
        let expected: Vec<i64> = (self.payment.sequence + 1..=change.payment.sequence).collect();
        assert_eq!(numbers, expected, "events are numbered without a gap");
        if let Some(last) = change.events.last() {
            assert_eq!((last.status, last.at), (change.payment.status, self.now));
        }
        for posting in change.postings.iter().chain(&change.postings) {
            self.ledger.post(posting);
        }
        let stored = serde_json::to_vec(&change.payment).unwrap();
        assert_eq!(serde_json::from_slice::<Payment>(&stored).unwrap(), change.payment);
        self.payment = change.payment;
    }

    fn agrees_with(&self, model: &Model) {
        let p = &self.payment;
        let doing = match &p.operation {
            None => Doing::Nothing,
            Some(Operation::Authorize) => Doing::Authorizing,
            Some(Operation::Capture { amount }) => Doing::Capturing(*amount),
            Some(Operation::Void { .. }) => Doing::Voiding,
        };
        assert_eq!((p.status.name(), doing, p.sequence), (model.status, model.doing, model.events));
        assert_eq!(
            (p.amount_authorized, p.amount_captured, p.amount_refunded, p.amount_refund_pending),
            (model.authorized, model.captured, model.refunded, model.promised)
        );
        assert!(p.amount_captured <= p.amount_authorized && p.amount_authorized <= p.amount);
        assert!(p.amount_refunded + p.amount_refund_pending <= p.amount_captured);
        // A reason for failure is that of the last attempt that was answered.
        let may_have_failed = matches!(p.status, Status::Failed | Status::Authorized);
        assert!(p.failure.is_none() || may_have_failed, "{:?} {:?}", p.status, p.failure);
        // What is under way is looked at again; what is not, never.
        assert_eq!(due::payment(p, self.now).is_some(), p.operation.is_some());
        for refund in &self.refunds {
            assert_eq!(due::refund(refund, self.now).is_some(), refund.is_open());
        }
    }

    fn books_are_right(&self, tax: i64) {
        let p = &self.payment;
        let reserved = match p.status {
            Status::Authorized => p.amount,
            // A payment that is beginning may not have come as far as the books.
            Status::Unknown | Status::Processing if p.operation.is_some() => self.ledger.pending(),
            _ => 0,
        };
        assert_eq!(self.ledger.pending(), reserved, "{:?}", p.status);
        let kept = p.amount_captured - p.amount_refunded;
        assert_eq!(self.ledger.balance(AccountCode::ProcessorClearing), kept);
        let set_aside = -self.ledger.balance(AccountCode::TaxPayable);
        // Within rounding of its share, and exactly nothing once everything went back.
        assert!((set_aside * p.amount - tax * kept).abs() <= p.amount, "{set_aside} of {tax}");
        assert!(kept > 0 || set_aside == 0);
        assert!(kept < p.amount || set_aside == tax);
        let total: i64 = AccountCode::ALL.iter().map(|account| self.ledger.balance(*account)).sum();
        assert_eq!(total, 0, "debits equal credits");
    }
}

/// Lets everything that is still open end.
fn endings(real: &Real, outcomes: &[Outcome]) -> Vec<Command> {
    let settled = |n: usize| match outcomes.get(n) {
        Some(Outcome::Declined) => Outcome::Declined,
        _ => Outcome::Approved,
    };
    let mut commands = match real.payment.operation {
        Some(Operation::Authorize) => vec![Command::AnswerAuthorization(settled(0))],
        Some(_) => vec![Command::AnswerOperation(settled(0))],
        None => Vec::new(),
    };
    let open = real.refunds.iter().enumerate().filter(|(_, refund)| refund.is_open());
    commands.extend(open.map(|(n, _)| Command::AnswerRefund(n, settled(n))));
    commands
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn the_domain_does_what_the_rules_say(
        automatic in any::<bool>(),
        tax in proptest::option::of(0..=100_i64),
        commands in vec(command(), 0..40),
        outcomes in vec(outcome(), 40),
    ) {
        let method = if automatic { CaptureMethod::Automatic } else { CaptureMethod::Manual };
        let change = created(100, tax, method);
        let mut model = Model::new(100, automatic);
        let mut real = Real {
            payment: Payment { sequence: 0, ..change.payment.clone() },
            refunds: Vec::new(),
            ledger: Ledger::default(),
            now: at(0),
        };
        real.take(change);
        real.agrees_with(&model);
        for (second, command) in (1..).zip(&commands) {
            real.now = at(second);
            let expected = model.apply(command);
            prop_assert_eq!(real.apply(command).is_ok(), expected, "{:?} in {:?}", command, model);
            real.agrees_with(&model);
            real.books_are_right(tax.unwrap_or_default());
        }
        for command in endings(&real, &outcomes) {
            prop_assert!(model.apply(&command) && real.apply(&command).is_ok(), "{command:?}");
            real.agrees_with(&model);
            // The same outcome, heard of a second time, changes nothing.
            let before = real.payment.clone();
            let again = real.apply(&command);
            prop_assert!(again.is_err() || matches!(command, Command::AnswerRefund(..)));
            prop_assert_eq!(&real.payment, &before);
        }
        prop_assert!(real.payment.operation.is_none());
        prop_assert!(real.refunds.iter().all(|refund| !refund.is_open()));
        prop_assert_eq!(real.payment.amount_refund_pending, 0);
        real.books_are_right(tax.unwrap_or_default());
    }
}
