//! The domain with its books: carries commands out, and checks what must hold whatever they were.

use std::collections::HashSet;

use money::{Currency, RefundId};
use svc_payments::domain::{
    answer, authorization, create,
    dispute::{self, Notice},
    due, hold, late,
    operation::{Approval, Failure, NextAction, Operation, OperationKind, ProcessorOutcome, VoidCause},
    payment::{Change, Fraud, FraudOutcome, Payment, Rejection},
    posting::{self, AccountCode},
    refund,
    transition::{self, DisputeStatus, Event, OperationStatus, Status, Table},
};
use uuid::Uuid;

use crate::{
    beginning::{Beginning, TERMS, at},
    command::{Command, Outcome},
    ledger::Ledger,
    rules::{self, Kind, Rules},
};

/// Steps of the tables that were taken.
#[derive(Default)]
pub(crate) struct Steps {
    pub(crate) payment: HashSet<(Status, Event)>,
    pub(crate) operation: HashSet<(OperationStatus, OperationStatus)>,
    pub(crate) dispute: HashSet<(DisputeStatus, DisputeStatus)>,
    pub(crate) events: HashSet<&'static str>,
}

impl Steps {
    /// These were taken, too.
    pub(crate) fn extend(&mut self, others: Self) {
        self.payment.extend(others.payment);
        self.operation.extend(others.operation);
        self.dispute.extend(others.dispute);
        self.events.extend(others.events);
    }
}

/// The domain as it is, with its books.
pub(crate) struct Real {
    pub(crate) payment: Payment,
    pub(crate) now: i64,
    pub(crate) steps: Steps,
    ledger: Ledger,
    answered: HashSet<String>,
    said: rules::Said,
}

fn approved(amount: Option<i64>, currency: Option<&str>, valid_until: Option<i64>) -> ProcessorOutcome {
    ProcessorOutcome::Approved(Approval {
        reference: "r".into(),
        amount,
        currency: currency.map(|code| code.parse::<Currency>().unwrap()),
        valid_until: valid_until.map(at),
        network_transaction_id: "n".into(),
    })
}

/// Whether the tables lead from one to the other, in one step or in several.
fn leads<S: Copy + PartialEq, E>(table: Table<S, E>, from: S, to: S) -> bool {
    let mut seen = vec![from];
    let mut next = 0;
    while let Some(state) = seen.get(next).copied() {
        for (_, _, to) in table.iter().filter(|(from, _, _)| *from == state) {
            if !seen.contains(to) {
                seen.push(*to);
            }
        }
        next += 1;
    }
    seen.contains(&to)
}

fn dispute_id(name: usize) -> Uuid {
    Uuid::from_u128((1 << 100) + ((name as u128) << 32))
}

impl Real {
    pub(crate) fn new(beginning: &Beginning) -> Self {
        let change = beginning.created();
        let mut real = Self {
            payment: Payment { sequence: 0, operations: Vec::new(), ..change.payment.clone() },
            now: 0,
            steps: Steps::default(),
            ledger: Ledger::default(),
            answered: HashSet::new(),
            said: rules::Said::default(),
        };
        real.take(&change);
        real
    }

    fn outcome(&self, outcome: Outcome) -> ProcessorOutcome {
        let failure = || Failure::new("CARD_DECLINED", "No.");
        match outcome {
            Outcome::Approved(valid) => approved(None, None, valid.map(|valid| self.now + valid)),
            Outcome::WrongAmount(said) => approved(Some(said), Some("EUR"), None),
            Outcome::WrongCurrency => approved(None, Some("USD"), None),
            Outcome::ActionRequired => {
                let action = NextAction::Redirect { url: "https://bank.example/".into() };
                ProcessorOutcome::ActionRequired { reference: "r".into(), action }
            }
            Outcome::Submitted => ProcessorOutcome::Submitted { reference: "r".into() },
            Outcome::Declined => ProcessorOutcome::Declined(failure()),
            Outcome::NotTaken => ProcessorOutcome::NotTaken(failure()),
            Outcome::Returned => ProcessorOutcome::Returned(failure()),
            Outcome::Unanswered => ProcessorOutcome::Unanswered,
            Outcome::NeverHeardOf => ProcessorOutcome::NeverHeardOf,
        }
    }

    fn decide(&mut self, command: &Command, number: u32, key: &str) -> Result<Change, Rejection> {
        let (payment, now) = (self.payment.clone(), at(self.now));
        let attempt = payment.attempt().map_or(0, |attempt| attempt.number);
        let fraud = |outcome| Fraud { outcome, score: 1, reasons: Vec::new() };
        match command {
            Command::Confirm => create::confirm(payment, key, now),
            Command::Review { approve } => authorization::review_resolved(payment, *approve, key, now),
            Command::Capture { amount, last } => hold::begin_capture(payment, *amount, *last, key, now),
            Command::Increment(amount) => hold::begin_increment(payment, *amount, key, now),
            Command::Extend => hold::begin_extend(payment, key, now),
            Command::Cancel => hold::begin_cancel(payment, "why".into(), key, now),
            Command::Refund(amount) => {
                let id =
                    RefundId::new(Uuid::from_u128((2 << 100) + ((payment.operations.len() as u128) << 32)));
                refund::begin(payment, id, *amount, String::new(), key, now)
            }
            Command::Told { dispute, status, amount } => {
                let notice = Notice {
                    processor_reference: format!("d{dispute}"),
                    status: *status,
                    amount: *amount,
                    reason: "fraudulent".into(),
                    evidence_due_at: None,
                };
                dispute::told(payment, &notice, dispute_id(*dispute), now)
            }
            Command::Evidence(name) => dispute::submit_evidence(payment, dispute_id(*name), "e".into(), now),
            Command::Accept(name) => dispute::accept(payment, dispute_id(*name), now),
            Command::Stop { review, reserved } => {
                let outcome = if *review { FraudOutcome::Review } else { FraudOutcome::Block };
                let fraud = fraud(outcome);
                let change = authorization::stopped_by_fraud(payment, attempt, fraud, *reserved, &TERMS, now);
                if change.is_ok() && *reserved {
                    self.ledger.post(&posting::reserve(&self.payment));
                }
                change
            }
            Command::RefuseByLedger => {
                authorization::refused_by_ledger(payment, attempt, fraud(FraudOutcome::Allow), now)
            }
            Command::Answer(_, outcome) => {
                self.reserve(number);
                answer::answered(payment, number, self.outcome(*outcome), &TERMS, now)
            }
            Command::Duplicate(_) => {
                self.reserve(number);
                late::duplicate_reference(payment, number, &TERMS, now)
            }
            Command::AskAgain(_, outcome) => {
                let unchanged = Change::of(payment.clone());
                let outcome = self.outcome(*outcome);
                Ok(late::asked_again(payment, number, &outcome, now)?.unwrap_or(unchanged))
            }
            Command::Return => refund::returned(payment, Failure::new("BANK_RETURN", "R01"), now),
            Command::Wait(_) => {
                let unchanged = Change::of(payment.clone());
                Ok(hold::expire(payment, &TERMS, now)?.unwrap_or(unchanged))
            }
        }
    }

    /// The books come before the processor, and again after a crash.
    fn reserve(&mut self, number: u32) {
        let begins = |operation: &Operation| {
            operation.status == OperationStatus::Pending
                && matches!(operation.kind, OperationKind::Authorize { .. })
        };
        if self.payment.operation(number).is_some_and(begins) {
            self.ledger.post(&posting::reserve(&self.payment));
        }
    }

    pub(crate) fn apply(&mut self, command: &Command, number: u32, key: &str) -> Result<(), Rejection> {
        let change = self.decide(command, number, key)?;
        self.take(&change);
        Ok(())
    }

    /// Writes down what a store would, and tells the ledger twice.
    fn take(&mut self, change: &Change) {
        let before = std::mem::replace(&mut self.payment, change.payment.clone());
        self.steps_are_of_the_tables(&before, change);
        let answers = change.answered.iter().map(|(waiting, refund)| {
            assert!(self.answered.insert(waiting.key.clone()), "{} is answered once", waiting.key);
            assert!(refund.is_none_or(|refund| change.payment.refund(refund).is_some()));
            waiting.key.clone()
        });
        self.said.answered = answers.collect();
        self.said.events = change.events.iter().map(|event| event.event_type).collect();
        self.said.inspections = change.inspections.len();
        let ordinals: Vec<u32> = change.postings.iter().map(|posting| posting.ordinal).collect();
        let expected: Vec<u32> = (before.postings + 1..=change.payment.postings).collect();
        assert_eq!(ordinals, expected, "postings are numbered without a gap");
        for posting in change.postings.iter().chain(&change.postings) {
            self.ledger.post(posting);
        }
    }

    /// What is written down is what is read.
    pub(crate) fn is_kept(&self) {
        let stored = serde_json::to_vec(&self.payment).unwrap();
        assert_eq!(serde_json::from_slice::<Payment>(&stored).unwrap(), self.payment);
    }

    fn steps_are_of_the_tables(&mut self, before: &Payment, change: &Change) {
        let numbers: Vec<i64> = change.events.iter().map(|event| event.sequence).collect();
        let expected: Vec<i64> = (before.sequence + 1..=change.payment.sequence).collect();
        assert_eq!(numbers, expected, "events are numbered without a gap");
        let mut status = before.status;
        for event in &change.events {
            assert_eq!(event.at, at(self.now));
            assert!(event.amount >= 0);
            self.steps.events.insert(event.event_type);
            let step = Event::ALL.into_iter().find(|step| step.name() == event.event_type);
            match step.and_then(|step| Some((step, transition::next(transition::PAYMENT, status, step)?))) {
                Some((step, to)) if to == event.status => {
                    self.steps.payment.insert((status, step));
                    status = to;
                }
                // Something that is no step of the payment.
                _ => assert_eq!(event.status, status, "{}", event.event_type),
            }
        }
        assert_eq!(status, change.payment.status);
        for (old, new) in before.operations.iter().zip(&change.payment.operations) {
            assert!(leads(transition::OPERATION, old.status, new.status), "{old:?} {new:?}");
            assert_eq!((old.number, &old.kind), (new.number, &new.kind));
            self.steps.operation.insert((old.status, new.status));
        }
        for (old, new) in before.disputes.iter().zip(&change.payment.disputes) {
            assert!(leads(transition::DISPUTE, old.status, new.status), "{old:?} {new:?}");
            self.steps.dispute.insert((old.status, new.status));
        }
        let numbers: Vec<u32> = change.payment.operations.iter().map(|operation| operation.number).collect();
        assert!(numbers.into_iter().eq(1..=u32::try_from(change.payment.operations.len()).unwrap()));
    }

    /// The domain and the rules see the same.
    pub(crate) fn agrees_with(&self, rules: &Rules) {
        let p = &self.payment;
        assert_eq!(p.status, rules.status);
        assert_eq!(self.said, rules.said);
        let operations: Vec<rules::Operation> = p.operations.iter().map(seen).collect();
        assert_eq!(operations, compared(&rules.operations));
        let disputes = p.disputes.iter().map(|dispute| (dispute.id, dispute.status, dispute.amount));
        let expected = rules.disputes.iter().map(|dispute| {
            let id = dispute_id(dispute.name);
            (id, dispute.status, dispute.amount)
        });
        assert!(disputes.eq(expected), "{:?} {:?}", p.disputes, rules.disputes);
        assert_eq!(
            (p.amount, p.amount_authorized, p.amount_captured, p.amount_capture_pending),
            (rules.amount, rules.authorized, rules.captured(), rules.capture_pending())
        );
        assert_eq!(
            (p.amount_refunded, p.amount_refund_pending, p.amount_disputed),
            (rules.refunded, rules.refund_pending(), rules.disputed())
        );
        assert_eq!((p.capture_closed, p.expires_at), (rules.closed, rules.expires.map(at)));
        assert_eq!(p.processor, Beginning::processor(rules.processor));
        self.money_holds();
        self.books_agree_with(rules);
    }

    fn money_holds(&self) {
        let p = &self.payment;
        let amounts =
            [p.amount_captured, p.amount_capture_pending, p.amount_refunded, p.amount_refund_pending];
        assert!(amounts.into_iter().chain([p.amount_disputed]).all(|amount| amount >= 0));
        assert!(p.amount_captured + p.amount_capture_pending <= p.amount_authorized);
        assert!(p.amount_authorized <= p.amount);
        assert!(p.amount_refunded + p.amount_refund_pending + p.amount_disputed <= p.amount_captured);
        assert!(p.status != Status::Failed || p.failure.is_some());
        assert_eq!(p.next_action.is_some(), p.status == Status::RequiresAction);
        // What is under way is looked at again; what is not, never.
        for open in p.open_operations() {
            let alone = Payment { operations: vec![open.clone()], expires_at: None, ..p.clone() };
            assert!(due::payment(&alone).is_some_and(|due| due > open.updated_at), "{open:?}");
        }
        let waits = p.expires_at.is_some() || p.open_operations().next().is_some();
        assert_eq!(due::payment(p).is_some(), waits);
    }

    fn books_agree_with(&self, rules: &Rules) {
        let reserved = match (rules.on_books, rules.authorized) {
            (false, _) => 0,
            (true, 0) => rules.amount,
            (true, authorized) => authorized - rules.captured(),
        };
        assert_eq!(self.ledger.pending(), reserved, "{:?}", rules.status);
        let sum = |wanted: fn(DisputeStatus) -> bool| -> i64 {
            let found = rules.disputes.iter().filter(|dispute| wanted(dispute.status));
            found.map(|dispute| dispute.amount).sum()
        };
        let kept = rules.captured() - rules.refunded;
        let balance = |account| self.ledger.balance(account);
        assert_eq!(balance(AccountCode::ProcessorClearing), kept - rules.disputed());
        assert_eq!(balance(AccountCode::Chargebacks), sum(DisputeStatus::is_open));
        let back = rules.refunded + rules.returned;
        let first = rules.beginning.amount;
        // Of the first so many minor units: tax half up, the fee down.
        let tax = |part: i64| (2 * rules.beginning.tax.unwrap_or(0) * part.min(first) + first) / (2 * first);
        let fee = |part: i64| rules.beginning.fee * part.min(first) / first;
        let (tax, fee) = (tax(rules.taken) - tax(back), fee(rules.taken) - fee(back));
        assert_eq!(-balance(AccountCode::TaxPayable), tax);
        assert_eq!(-balance(AccountCode::Fees), fee);
        let lost = sum(|status| status == DisputeStatus::Lost);
        assert_eq!(-balance(AccountCode::BillerPayable), kept - lost - tax - fee);
    }

    /// Nobody waits any more, nothing is held, and nothing is due.
    pub(crate) fn is_at_rest(&self, callers: &HashSet<String>) {
        assert_eq!(due::payment(&self.payment), None);
        assert_eq!(&self.answered, callers, "each caller is answered");
        assert_eq!(self.ledger.pending(), 0);
        for attempt in &self.payment.operations {
            let authorized = attempt.status == OperationStatus::Succeeded
                && matches!(attempt.kind, OperationKind::Authorize { .. });
            let undone = |other: &Operation| matches!(other.kind, OperationKind::Reverse { of, .. } if of == attempt.number);
            let own = self.payment.amount_authorized > 0 && Some(attempt) == self.payment.attempt();
            assert!(!authorized || own || self.payment.operations.iter().any(undone), "{attempt:?}");
        }
    }
}

/// What the rules say of operations, as far as it can be seen.
fn compared(operations: &[rules::Operation]) -> Vec<rules::Operation> {
    let seen = |operation: &rules::Operation| rules::Operation {
        doubted: operation.doubted && operation.status.is_open(),
        ..operation.clone()
    };
    operations.iter().map(seen).collect()
}

fn seen(operation: &Operation) -> rules::Operation {
    let kind = match &operation.kind {
        OperationKind::Authorize { .. } => Kind::Authorize,
        OperationKind::Increment { amount } => Kind::Increment(*amount),
        OperationKind::Extend => Kind::Extend,
        OperationKind::Capture { amount, last } => Kind::Capture { amount: *amount, last: *last },
        OperationKind::Void { cause } => Kind::Void { expired: *cause == VoidCause::Expired },
        OperationKind::Refund { amount, .. } => Kind::Refund(*amount),
        OperationKind::Reverse { of, captured } => {
            Kind::Reverse { of: *of as usize - 1, captured: *captured }
        }
    };
    rules::Operation {
        kind,
        status: operation.status,
        processor: operation.processor[1..].parse().unwrap(),
        waiting: operation.waiting.as_ref().map(|waiting| waiting.key.clone()),
        doubted: operation.is_doubted() && operation.status.is_open(),
    }
}
