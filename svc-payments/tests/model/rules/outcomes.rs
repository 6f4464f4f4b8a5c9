//! The rules again: what a processor's answers mean.

use svc_payments::domain::transition::{OperationStatus as O, Status as S};

use super::{Kind, Operation, Rules, TRIES_MAX};
use crate::{beginning::TERMS, command::Outcome};

impl Rules {
    /// The processor says what became of an operation that is open.
    pub(super) fn answer(&mut self, at: usize, outcome: Outcome) -> bool {
        let kind = self.operations[at].kind;
        let of_amount = match kind {
            Kind::Authorize => Some(self.amount),
            Kind::Increment(amount) | Kind::Refund(amount) | Kind::Capture { amount, .. } => Some(amount),
            Kind::Extend | Kind::Void { .. } | Kind::Reverse { .. } => None,
        };
        let (outcome, wrong, said) = match outcome {
            Outcome::WrongAmount(said) if of_amount.is_some_and(|amount| amount != said) => {
                (outcome, true, said)
            }
            Outcome::WrongAmount(_) => (Outcome::Approved(None), false, 0),
            Outcome::WrongCurrency => (outcome, true, self.amount),
            other => (other, false, 0),
        };
        if !wrong {
            return self.settled(at, outcome);
        }
        // The first wrong answer is as good as none. Who says so again has done it.
        if !std::mem::replace(&mut self.operations[at].doubted, true) {
            self.said.inspections += 1;
            self.say("payment.processor_answer_refused");
            return self.settled(at, Outcome::Unanswered);
        }
        if kind != Kind::Authorize {
            return self.settled(at, Outcome::Unanswered);
        }
        self.settle(at, O::Failed);
        if !self.given_up() {
            self.on_books = true;
            self.expires = None;
            self.becomes(S::Failed, "payment.failed");
        }
        self.reverse(at, said);
        true
    }

    /// What an authorization did that nobody wants is undone: `said` was taken, if it takes at once.
    fn reverse(&mut self, of: usize, said: i64) {
        let captured = if self.beginning.automatic { said.max(0) } else { 0 };
        self.begin(Kind::Reverse { of, captured }, None);
        let last = self.operations.len() - 1;
        self.operations[last].processor = self.operations[of].processor;
    }

    fn settled(&mut self, at: usize, outcome: Outcome) -> bool {
        match self.operations[at].kind {
            Kind::Authorize => self.authorization(at, outcome),
            Kind::Refund(amount) => self.refund(at, amount, outcome),
            Kind::Reverse { .. } => self.reversal(at, outcome),
            _ => self.hold(at, outcome),
        }
        true
    }

    pub(super) fn authorization(&mut self, at: usize, outcome: Outcome) {
        let status = self.operations[at].status;
        let not_taken_on = matches!(status, O::Pending | O::Unknown);
        let alive = !self.given_up();
        self.on_books |= alive;
        match outcome {
            Outcome::Approved(_) if self.voiding() => self.settle(at, status),
            Outcome::Approved(valid) => {
                self.settle(at, O::Succeeded);
                if alive {
                    self.authorized(at, valid);
                } else {
                    self.say("payment.late_success");
                    self.reverse(at, self.amount);
                }
            }
            Outcome::ActionRequired if not_taken_on && alive => {
                self.settle(at, O::RequiresAction);
                self.expires = Some(self.now + TERMS.action_s);
                self.becomes(S::RequiresAction, "payment.requires_action");
            }
            Outcome::ActionRequired if not_taken_on => {
                self.settle(at, O::Failed);
                self.reverse(at, 0);
            }
            Outcome::Submitted if status != O::Submitted => {
                self.settle(at, O::Submitted);
                if alive {
                    self.expires = None;
                    self.becomes(S::Processing, "payment.submitted");
                }
            }
            Outcome::NotTaken if not_taken_on && alive && !self.fallbacks.is_empty() => {
                self.operations[at].status = O::Failed;
                let waiting = self.operations[at].waiting.take();
                self.becomes(S::Processing, "payment.attempt_failed");
                self.processor = self.fallbacks.remove(0);
                self.begin(Kind::Authorize, waiting);
            }
            Outcome::Unanswered if status == O::Pending => {
                self.settle(at, O::Unknown);
                self.becomes(S::Unknown, "payment.unknown");
            }
            Outcome::Unanswered | Outcome::ActionRequired | Outcome::Submitted => self.settle(at, status),
            _ => {
                self.settle(at, O::Failed);
                self.on_books = false;
                if alive {
                    self.expires = None;
                    self.becomes(S::Failed, "payment.failed");
                }
            }
        }
    }

    fn authorized(&mut self, at: usize, valid: Option<i64>) {
        self.fallbacks.clear();
        self.processor = self.operations[at].processor;
        self.authorized = self.amount;
        self.expires = Some(self.now + valid.unwrap_or(TERMS.authorized_s));
        self.becomes(S::Authorized, "payment.authorized");
        if self.beginning.automatic {
            self.taken = self.amount;
            self.close();
            self.becomes(S::Captured, "payment.captured");
        }
    }

    fn close(&mut self) {
        self.closed = true;
        self.expires = None;
        self.on_books = false;
    }

    /// Captures, increments, extensions and voids.
    fn hold(&mut self, at: usize, outcome: Outcome) {
        let Operation { kind, status, .. } = self.operations[at].clone();
        match outcome {
            Outcome::Approved(_) | Outcome::Submitted => {
                let valid = if let Outcome::Approved(valid) = outcome { valid } else { None };
                self.settle(at, O::Succeeded);
                self.done(kind, valid);
            }
            Outcome::Unanswered if status == O::Pending => {
                self.settle(at, O::Unknown);
                self.say("payment.operation_unknown");
            }
            Outcome::Unanswered => self.settle(at, status),
            _ => {
                let tried_in_vain = matches!(outcome, Outcome::NotTaken | Outcome::NeverHeardOf);
                let expired = kind == Kind::Void { expired: true };
                if expired && self.attempt_under_way().is_none() && !tried_in_vain {
                    // What is over for us is over for the processor, and that is what it says.
                    self.settle(at, O::Succeeded);
                    self.done(kind, None);
                    return;
                }
                self.settle(at, O::Failed);
                if self.given_up() {
                    return;
                }
                self.say("payment.operation_refused");
                if expired && self.status != S::Processing {
                    let tries = self.tries(kind);
                    let pause = (0..tries - 1).fold(60, |pause: i64, _| (pause * 2).min(3_600));
                    self.expires = Some(self.now + pause);
                }
            }
        }
    }

    fn done(&mut self, kind: Kind, valid: Option<i64>) {
        match kind {
            Kind::Capture { amount, last } => {
                self.taken += amount;
                let whole = self.captured() == self.authorized;
                if whole {
                    self.becomes(S::Captured, "payment.captured");
                } else {
                    self.becomes(S::PartiallyCaptured, "payment.partially_captured");
                }
                if whole || last {
                    self.close();
                }
            }
            Kind::Increment(amount) => {
                self.amount += amount;
                self.authorized += amount;
                self.say("payment.authorization_incremented");
            }
            Kind::Extend => {
                self.expires = Some(self.now + valid.unwrap_or(TERMS.authorized_s));
                self.say("payment.authorization_extended");
            }
            // It came to its end meanwhile.
            Kind::Void { .. } if self.given_up() => {}
            Kind::Void { expired } => self.released(expired),
            _ => unreachable!(),
        }
    }

    pub(super) fn released(&mut self, expired: bool) {
        if let Some(at) = self.attempt_under_way() {
            self.settle(at, O::Failed);
        }
        match (self.status, expired) {
            (S::PartiallyCaptured | S::Refunded, _) => self.say("payment.remainder_released"),
            (_, true) => self.becomes(S::Expired, "payment.expired"),
            (_, false) => self.becomes(S::Canceled, "payment.canceled"),
        }
        let captured = !self.given_up();
        self.close();
        self.closed = captured;
    }

    fn refund(&mut self, at: usize, amount: i64, outcome: Outcome) {
        let status = self.operations[at].status;
        match outcome {
            Outcome::Approved(_) | Outcome::Submitted => {
                self.settle(at, O::Succeeded);
                self.refunded += amount;
                if !self.given_up() && self.refunded == self.captured() {
                    self.becomes(S::Refunded, "payment.refunded");
                } else {
                    self.say("payment.partially_refunded");
                }
            }
            Outcome::Unanswered if status == O::Pending => {
                self.settle(at, O::Unknown);
                self.say("refund.unknown");
            }
            Outcome::Unanswered => self.settle(at, status),
            _ => {
                self.settle(at, O::Failed);
                self.say("refund.failed");
                self.freed(amount);
            }
        }
    }

    fn reversal(&mut self, at: usize, outcome: Outcome) {
        let Operation { kind, status, processor, .. } = self.operations[at].clone();
        match outcome {
            Outcome::Approved(_) | Outcome::Submitted => {
                self.settle(at, O::Succeeded);
                self.say("payment.late_success_reversed");
            }
            Outcome::Unanswered => {
                let unknown = if status == O::Pending { O::Unknown } else { status };
                return self.settle(at, unknown);
            }
            Outcome::NotTaken | Outcome::NeverHeardOf if self.tries(kind) < TRIES_MAX => {
                self.settle(at, O::Failed);
                self.begin(kind, None);
                let last = self.operations.len() - 1;
                self.operations[last].processor = processor;
                return;
            }
            _ => {
                self.settle(at, O::Failed);
                self.said.inspections += 1;
                self.say("payment.operation_refused");
            }
        }
        if self.given_up() {
            self.on_books = false;
        }
    }

    /// Always legal.
    pub(super) fn ask_again(&mut self, at: usize, outcome: Outcome) -> bool {
        let said = match outcome {
            // Attempts come before anything is reserved in addition.
            Outcome::Approved(_) | Outcome::WrongCurrency => self.beginning.amount,
            Outcome::WrongAmount(said) => said,
            _ => return true,
        };
        let Operation { kind, status, .. } = self.operations[at].clone();
        let undone = self.operations.iter().any(|other| {
            matches!(other.kind, Kind::Reverse { of, .. } if of == at) && other.status != O::Failed
        });
        if kind == Kind::Authorize && status == O::Failed && !undone {
            self.operations[at].status = O::Succeeded;
            self.say("payment.late_success");
            self.reverse(at, said);
        }
        true
    }
}
