//! Any sequence of commands, legal or not, and of outcomes, in any order, on a payment: the domain against a reference
//! model written from the rules, not from the code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod beginning;
mod command;
mod edges;
mod ledger;
mod real;
mod rules;

use std::{cell::RefCell, collections::HashSet};

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};
use svc_payments::domain::{
    due,
    payment::event_type,
    transition::{self, Event},
};

use crate::{
    beginning::{Beginning, at},
    command::{Command, Outcome, Which},
    real::{Real, Steps},
    rules::Rules,
};

/// So often a processor may say nothing of use, before it says yes or no.
const PATIENCE: usize = 40;

struct Life {
    rules: Rules,
    real: Real,
    callers: HashSet<String>,
    commands: usize,
}

impl Life {
    fn begin(beginning: &Beginning) -> Self {
        let (rules, real) = (Rules::new(beginning), Real::new(beginning));
        real.agrees_with(&rules);
        Self { rules, real, callers: HashSet::from(["k0".to_owned()]), commands: 0 }
    }

    /// Tries a command: refused exactly when the rules refuse it, and then nothing has changed.
    fn try_out(&mut self, command: &Command) {
        self.commands += 1;
        let key = format!("k{}", self.commands);
        let number = match command {
            Command::Answer(which, _) | Command::Duplicate(which) | Command::AskAgain(which, _) => {
                self.rules.find(*which).map_or(0, |at| u32::try_from(at + 1).unwrap())
            }
            _ => 0,
        };
        // Only authorizations have ids that must be nobody else's.
        if matches!(command, Command::Duplicate(_)) && !self.is_attempt(number) {
            return;
        }
        if let Command::Wait(seconds) = command {
            let left = self.rules.expires.map_or(0, |expires| (expires - self.rules.now).max(0));
            let seconds = seconds.unwrap_or(left);
            self.real.now += seconds;
            self.rules.now += seconds;
        }
        let before = self.real.payment.clone();
        let mut rules = self.rules.clone();
        let expected = rules.apply(command, &key);
        let done = self.real.apply(command, number, &key);
        assert_eq!(done.is_ok(), expected, "{command:?}: {done:?} in {:#?}", self.rules);
        if !expected {
            assert_eq!(self.real.payment, before);
            return;
        }
        self.rules = rules;
        let calls = matches!(
            command,
            Command::Confirm
                | Command::Review { .. }
                | Command::Capture { .. }
                | Command::Increment(_)
                | Command::Extend
                | Command::Cancel
                | Command::Refund(_)
        );
        if calls {
            self.callers.insert(key);
        }
        self.real.agrees_with(&self.rules);
    }

    fn is_attempt(&self, number: u32) -> bool {
        use svc_payments::domain::operation::OperationKind::Authorize;
        let operation = self.real.payment.operation(number);
        operation.is_some_and(|operation| matches!(operation.kind, Authorize { .. }))
    }

    /// What is due is done, as the background does it, until nothing is.
    fn come_to_rest(&mut self, outcomes: &[Outcome]) {
        let mut said = outcomes.iter();
        for _ in 0..10 * PATIENCE {
            let Some(due) = due::payment(&self.real.payment) else {
                self.real.is_at_rest(&self.callers);
                return;
            };
            let seconds = (due.as_seconds() - at(self.real.now).as_seconds()).max(0);
            self.try_out(&Command::Wait(Some(seconds)));
            for number in due::operations(&self.real.payment, at(self.real.now)) {
                let outcome = match said.next() {
                    Some(outcome) => *outcome,
                    None if number % 3 == 0 => Outcome::Declined,
                    None => Outcome::Approved(None),
                };
                let at = usize::try_from(number - 1).unwrap();
                // It may have come to its end with another one.
                if self.rules.operations[at].status.is_open() {
                    self.try_out(&Command::Answer(Which::Any(at), outcome));
                }
            }
        }
        panic!("it never comes to rest: {:#?}", self.real.payment);
    }
}

fn live((beginning, commands, outcomes): (Beginning, Vec<Command>, Vec<Outcome>)) -> Steps {
    let mut life = Life::begin(&beginning);
    for command in &commands {
        life.try_out(command);
    }
    life.real.is_kept();
    life.come_to_rest(&outcomes);
    life.real.is_kept();
    life.real.steps
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_domain_does_what_the_rules_say(life in command::life()) {
        live(life);
    }
}

/// What chance rarely tells.
fn stories() -> [(Beginning, Vec<Command>); 4] {
    let answer = |place, outcome| Command::Answer(Which::Open(place), outcome);
    let yes = || answer(0, Outcome::Approved(None));
    let capture = |amount, last| Command::Capture { amount, last };
    [
        // The payer acts in the last moment.
        (
            Beginning::plain(100),
            vec![
                answer(0, Outcome::ActionRequired),
                Command::Wait(None),
                answer(0, Outcome::Submitted),
                answer(1, Outcome::Approved(None)),
            ],
        ),
        // The rest is captured after everything before it was given back.
        (
            Beginning::plain(100),
            vec![
                yes(),
                capture(Some(40), false),
                yes(),
                Command::Refund(None),
                yes(),
                capture(None, true),
                yes(),
            ],
        ),
        // A person lets it go on after what had been reserved was released.
        (
            Beginning::plain(100),
            vec![
                Command::Stop { review: true, reserved: true },
                Command::Review { approve: true },
                yes(),
                capture(None, true),
                yes(),
            ],
        ),
        // A bank debit is returned when all of it was given back.
        (
            Beginning { automatic: true, ..Beginning::plain(100) },
            vec![answer(0, Outcome::Submitted), yes(), Command::Refund(None), yes(), Command::Return],
        ),
    ]
}

/// The model comes everywhere: every step of the tables is taken, and everything that can be told is told.
#[test]
fn every_step_is_taken() {
    let config = ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let taken = RefCell::new(Steps::default());
    TestRunner::new_with_rng(config, rng)
        .run(&command::life(), |life| {
            taken.borrow_mut().extend(live(life));
            Ok(())
        })
        .unwrap();
    let mut taken = taken.into_inner();
    for (beginning, commands) in stories() {
        taken.extend(live((beginning, commands, Vec::new())));
    }
    let missed: Vec<_> = transition::PAYMENT
        .iter()
        .filter(|(from, event, _)| !taken.payment.contains(&(*from, *event)))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
    let missed: Vec<_> = transition::OPERATION
        .iter()
        .filter(|(from, _, to)| !taken.operation.contains(&(*from, *to)))
        .collect();
    assert!(missed.is_empty(), "{missed:?}");
    assert!(transition::DISPUTE.iter().all(|(from, _, to)| taken.dispute.contains(&(*from, *to))));
    let names = event_type::ALL.into_iter().chain(Event::ALL.map(Event::name));
    let missed: Vec<_> = names.filter(|name| !taken.events.contains(name)).collect();
    assert!(missed.is_empty(), "{missed:?}");
}
