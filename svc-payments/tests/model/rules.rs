//! The rules of a payment's life, said as plainly as they can be: from the contract, not from the code. What is pending
//! is counted from what is open, instead of being kept.

mod outcomes;

use money::AMOUNT_MAX;
use svc_payments::domain::transition::{DisputeStatus, OperationStatus as O, Status as S};

use crate::{
    beginning::{Beginning, TERMS},
    command::{Command, Outcome, Which},
};

/// What is asked of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Authorize,
    Increment(i64),
    Extend,
    Capture { amount: i64, last: bool },
    Void { expired: bool },
    Refund(i64),
    Reverse { of: usize, captured: i64 },
}

/// Something that a processor was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    pub(crate) status: O,
    pub(crate) processor: usize,
    /// Whoever waits for it.
    pub(crate) waiting: Option<String>,
    /// Its processor gave an answer that cannot be right.
    pub(crate) doubted: bool,
}

/// A dispute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dispute {
    pub(crate) name: usize,
    pub(crate) status: DisputeStatus,
    pub(crate) amount: i64,
}

/// What must become known with a step.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) events: Vec<&'static str>,
    pub(crate) answered: Vec<String>,
    pub(crate) inspections: usize,
}

/// A payment, by the rules.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) beginning: Beginning,
    pub(crate) status: S,
    pub(crate) amount: i64,
    pub(crate) authorized: i64,
    /// Everything that was ever captured.
    pub(crate) taken: i64,
    pub(crate) refunded: i64,
    /// What the payer's bank took back by a return.
    pub(crate) returned: i64,
    pub(crate) closed: bool,
    pub(crate) processor: usize,
    pub(crate) fallbacks: Vec<usize>,
    /// From the first operation on.
    pub(crate) operations: Vec<Operation>,
    pub(crate) disputes: Vec<Dispute>,
    pub(crate) expires: Option<i64>,
    /// Whether something is reserved on the books.
    pub(crate) on_books: bool,
    pub(crate) now: i64,
    pub(crate) said: Said,
}

/// How many operations callers can begin.
const BEGUN_MAX: usize = 70;
/// How often a processor is asked for what nobody else would ask for again.
const TRIES_MAX: usize = 8;

impl Rules {
    pub(crate) fn new(beginning: &Beginning) -> Self {
        let mut rules = Self {
            beginning: beginning.clone(),
            status: S::RequiresConfirmation,
            amount: beginning.amount,
            authorized: 0,
            taken: 0,
            refunded: 0,
            returned: 0,
            closed: false,
            processor: 0,
            fallbacks: (1..beginning.processors).collect(),
            operations: Vec::new(),
            disputes: Vec::new(),
            expires: Some(TERMS.unconfirmed_s),
            on_books: false,
            now: 0,
            said: Said { events: vec!["payment.created"], ..Said::default() },
        };
        if beginning.confirm {
            rules.status = S::Processing;
            rules.expires = None;
            rules.begin(Kind::Authorize, Some("k0".into()));
        } else {
            rules.said.answered.push("k0".into());
        }
        rules
    }

    /// What is captured now.
    pub(crate) fn captured(&self) -> i64 {
        self.taken - self.returned
    }

    fn open_sum(&self, amount: impl Fn(Kind) -> i64) -> i64 {
        let open = self.operations.iter().filter(|operation| operation.status.is_open());
        open.map(|operation| amount(operation.kind)).sum()
    }

    pub(crate) fn capture_pending(&self) -> i64 {
        self.open_sum(|kind| if let Kind::Capture { amount, .. } = kind { amount } else { 0 })
    }

    pub(crate) fn refund_pending(&self) -> i64 {
        self.open_sum(|kind| if let Kind::Refund(amount) = kind { amount } else { 0 })
    }

    pub(crate) fn disputed(&self) -> i64 {
        let gone = self.disputes.iter().filter(|dispute| dispute.status != DisputeStatus::Won);
        gone.map(|dispute| dispute.amount).sum()
    }

    pub(crate) fn refundable(&self) -> i64 {
        self.captured() - self.refunded - self.refund_pending() - self.disputed()
    }

    pub(crate) fn given_up(&self) -> bool {
        matches!(self.status, S::Canceled | S::Failed | S::Expired)
    }

    fn is_open(&self, kind: impl Fn(Kind) -> bool) -> bool {
        self.operations.iter().any(|operation| operation.status.is_open() && kind(operation.kind))
    }

    fn voiding(&self) -> bool {
        self.is_open(|kind| matches!(kind, Kind::Void { .. }))
    }

    /// The attempt, while it is not through.
    fn attempt_under_way(&self) -> Option<usize> {
        let attempt = self.operations.iter().rposition(|operation| operation.kind == Kind::Authorize)?;
        self.operations[attempt].status.is_open().then_some(attempt)
    }

    /// Money is held, and nothing is under way that must be alone.
    fn holds(&self) -> bool {
        let alone =
            |kind| matches!(kind, Kind::Authorize | Kind::Increment(_) | Kind::Extend | Kind::Void { .. });
        matches!(self.status, S::Authorized | S::PartiallyCaptured | S::Refunded)
            && !self.closed
            && !self.is_open(alone)
    }

    fn say(&mut self, event: &'static str) {
        self.said.events.push(event);
    }

    fn becomes(&mut self, status: S, event: &'static str) {
        self.status = status;
        self.say(event);
    }

    fn begin(&mut self, kind: Kind, waiting: Option<String>) {
        let (status, processor) = (O::Pending, self.processor);
        self.operations.push(Operation { kind, status, processor, waiting, doubted: false });
    }

    /// A caller begins something, if there is room for it.
    fn call(&mut self, kind: Kind, key: &str) -> bool {
        let room = self.operations.len() < BEGUN_MAX;
        if room {
            self.begin(kind, Some(key.into()));
        }
        room
    }

    fn settle(&mut self, at: usize, status: O) {
        self.operations[at].status = status;
        if let Some(waiting) = self.operations[at].waiting.take() {
            self.said.answered.push(waiting);
        }
    }

    /// What was promised elsewhere when the bank took everything back is taken, too.
    fn freed(&mut self, amount: i64) {
        if self.given_up() {
            self.returned += amount;
        }
    }

    /// Whether the command is legal; if so, it is carried out.
    pub(crate) fn apply(&mut self, command: &Command, key: &str) -> bool {
        self.said = Said::default();
        match command {
            Command::Confirm => {
                let legal = self.status == S::RequiresConfirmation;
                if legal {
                    self.becomes(S::Processing, "payment.confirmed");
                    self.expires = None;
                    self.begin(Kind::Authorize, Some(key.into()));
                }
                legal
            }
            Command::Review { approve } => self.review(*approve, key),
            Command::Capture { amount, last } => self.capture(*amount, *last, key),
            Command::Increment(amount) => {
                let legal = self.holds() && self.capture_pending() == 0 && self.amount + amount <= AMOUNT_MAX;
                legal && self.call(Kind::Increment(*amount), key)
            }
            Command::Extend => self.holds() && self.capture_pending() == 0 && self.call(Kind::Extend, key),
            Command::Cancel => self.cancel(key),
            Command::Refund(amount) => {
                // What was never captured has nothing to give back, so no state needs to be named.
                let amount = amount.unwrap_or(self.refundable());
                let legal = amount > 0 && amount <= self.refundable() && self.call(Kind::Refund(amount), key);
                if legal {
                    self.say("refund.created");
                }
                legal
            }
            Command::Told { dispute, status, amount } => self.told(*dispute, *status, *amount),
            Command::Evidence(name) => {
                let at = self.disputes.iter().position(|dispute| dispute.name == *name);
                let at = at.filter(|at| self.disputes[*at].status == DisputeStatus::Open);
                at.is_some_and(|at| self.under_review(at))
            }
            Command::Accept(name) => {
                let at = self.disputes.iter().position(|dispute| dispute.name == *name);
                at.is_some_and(|at| self.decide(at, DisputeStatus::Lost))
            }
            Command::Stop { review, .. } => self.stop(*review),
            Command::RefuseByLedger => {
                let legal = self.beginning_attempt().is_some_and(|at| {
                    self.settle(at, O::Failed);
                    true
                });
                if legal {
                    self.on_books = false;
                    self.becomes(S::Failed, "payment.failed");
                }
                legal
            }
            Command::Answer(which, outcome) => {
                let found = self.find(*which).filter(|at| self.operations[*at].status.is_open());
                found.is_some_and(|at| self.answer(at, *outcome))
            }
            Command::Duplicate(which) => {
                let found = self.find(*which).filter(|at| self.operations[*at].status.is_open());
                let found = found.filter(|at| self.operations[*at].kind == Kind::Authorize);
                found.is_some_and(|at| {
                    let doubted = std::mem::replace(&mut self.operations[at].doubted, true);
                    self.authorization(at, Outcome::Unanswered);
                    if !doubted {
                        self.said.inspections += 1;
                        self.say("payment.processor_answer_refused");
                    }
                    true
                })
            }
            Command::AskAgain(which, outcome) => {
                self.find(*which).is_none_or(|at| self.ask_again(at, *outcome))
            }
            Command::Return => self.returned_by_bank(),
            Command::Wait(_) => self.time_over(),
        }
    }

    pub(crate) fn find(&self, which: Which) -> Option<usize> {
        let open = |at: &usize| self.operations[*at].status.is_open();
        let candidates: Vec<usize> = match which {
            Which::Open(_) => (0..self.operations.len()).filter(open).collect(),
            Which::Any(_) => (0..self.operations.len()).collect(),
        };
        let (Which::Open(n) | Which::Any(n)) = which;
        (!candidates.is_empty()).then(|| candidates[n % candidates.len()])
    }

    fn review(&mut self, approve: bool, key: &str) -> bool {
        if self.status != S::InReview {
            return false;
        }
        self.expires = None;
        if approve {
            self.becomes(S::Processing, "payment.review_approved");
            self.begin(Kind::Authorize, Some(key.into()));
        } else {
            self.becomes(S::Failed, "payment.failed");
            self.said.answered.push(key.into());
        }
        true
    }

    fn capture(&mut self, amount: Option<i64>, last: bool, key: &str) -> bool {
        let others = self.capture_pending();
        let available = self.authorized - self.captured() - others;
        let amount = amount.unwrap_or(available);
        // After the last one nothing can be captured, and nothing that is promised already may be released by it.
        let last = if amount == available { others == 0 } else { last };
        self.holds()
            && !self.is_open(|kind| matches!(kind, Kind::Capture { last: true, .. }))
            && (1..=available).contains(&amount)
            && (!last || others == 0)
            && self.call(Kind::Capture { amount, last }, key)
    }

    fn cancel(&mut self, key: &str) -> bool {
        match self.status {
            S::RequiresConfirmation | S::InReview | S::Unknown => {
                self.expires = None;
                self.becomes(S::Canceled, "payment.canceled");
                self.said.answered.push(key.into());
                true
            }
            S::RequiresAction | S::Processing => {
                let taken_on = self
                    .attempt_under_way()
                    .is_some_and(|at| matches!(self.operations[at].status, O::RequiresAction | O::Submitted));
                taken_on && !self.voiding() && self.call(Kind::Void { expired: false }, key)
            }
            _ => self.holds() && self.capture_pending() == 0 && self.call(Kind::Void { expired: false }, key),
        }
    }

    fn beginning_attempt(&self) -> Option<usize> {
        let pending = self.attempt_under_way().filter(|at| self.operations[*at].status == O::Pending);
        pending.filter(|_| self.status == S::Processing)
    }

    fn stop(&mut self, review: bool) -> bool {
        let Some(at) = self.beginning_attempt() else { return false };
        self.settle(at, O::Failed);
        self.on_books = false;
        if review {
            self.expires = Some(self.now + TERMS.review_s);
            self.becomes(S::InReview, "payment.in_review");
        } else {
            self.becomes(S::Failed, "payment.failed");
        }
        true
    }

    fn told(&mut self, name: usize, status: DisputeStatus, amount: i64) -> bool {
        let known = self.disputes.iter().position(|dispute| dispute.name == name);
        let at = match known {
            Some(at) => at,
            None if matches!(self.status, S::Captured | S::PartiallyCaptured | S::Refunded) => {
                // Only what is still ours can be taken from us.
                let amount = amount.max(0).min(self.refundable());
                self.disputes.push(Dispute { name, status: DisputeStatus::Open, amount });
                self.say("dispute.opened");
                self.disputes.len() - 1
            }
            None => return false,
        };
        match status {
            DisputeStatus::UnderReview if self.disputes[at].status == DisputeStatus::Open => {
                self.under_review(at);
            }
            DisputeStatus::Open | DisputeStatus::UnderReview => {}
            decided => {
                self.decide(at, decided);
            }
        }
        true
    }

    fn under_review(&mut self, at: usize) -> bool {
        self.disputes[at].status = DisputeStatus::UnderReview;
        self.say("dispute.under_review");
        true
    }

    fn decide(&mut self, at: usize, decision: DisputeStatus) -> bool {
        let open = self.disputes[at].status.is_open();
        if open {
            self.disputes[at].status = decision;
            if decision == DisputeStatus::Won {
                self.say("dispute.won");
                self.freed(self.disputes[at].amount);
            } else {
                self.say("dispute.lost");
            }
        }
        open
    }

    fn returned_by_bank(&mut self) -> bool {
        let attempt = self.operations.iter().rposition(|operation| operation.kind == Kind::Authorize);
        let paid = attempt.filter(|at| self.operations[*at].status == O::Succeeded);
        let Some(at) = paid.filter(|_| self.closed) else { return false };
        let left = self.refundable();
        match self.status {
            S::Captured => self.becomes(S::Failed, "payment.returned"),
            S::Refunded => self.say("payment.returned"),
            _ => return false,
        }
        self.operations[at].status = O::Returned;
        self.returned += left;
        true
    }

    /// Always legal.
    fn time_over(&mut self) -> bool {
        if self.expires.is_none_or(|at| at > self.now) {
            return true;
        }
        self.expires = None;
        let tried = self.tries(Kind::Void { expired: true });
        match self.status {
            S::RequiresConfirmation | S::InReview => self.becomes(S::Expired, "payment.expired"),
            S::RequiresAction if self.voiding() => self.expires = Some(self.now + 60),
            S::RequiresAction if tried == TRIES_MAX => self.becomes(S::Expired, "payment.expired"),
            S::RequiresAction => self.begin(Kind::Void { expired: true }, None),
            S::Authorized | S::PartiallyCaptured | S::Refunded => {
                if !self.holds() || self.capture_pending() > 0 {
                    self.expires = Some(self.now + 60);
                } else if tried == TRIES_MAX {
                    self.released(true);
                } else {
                    self.begin(Kind::Void { expired: true }, None);
                }
            }
            _ => {}
        }
        true
    }

    fn tries(&self, kind: Kind) -> usize {
        self.operations.iter().filter(|operation| operation.kind == kind).count()
    }
}
