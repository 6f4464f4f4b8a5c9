//! The one place that says what may follow what: the tables of a payment, of what a processor is asked for, and of
//! a dispute. The guards, the store's own constraints, the diagrams in ARCHITECTURE.md and the model's tests are made
//! from them.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Written down; the caller has not yet said that it is to be carried out.
    RequiresConfirmation,
    /// Under way.
    Processing,
    /// The payer has to do something, such as 3-D Secure.
    RequiresAction,
    /// Held back for a person to look at.
    InReview,
    /// The processor did not say what became of the authorization; being asked until it is settled.
    Unknown,
    /// The money is reserved.
    Authorized,
    /// A part was taken.
    PartiallyCaptured,
    /// All was taken.
    Captured,
    /// Given up before capture.
    Canceled,
    /// Declined, blocked or refused.
    Failed,
    /// Nobody did in time what it waited for.
    Expired,
    /// All that was captured was given back.
    Refunded,
}

/// What happens to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// The caller wants it carried out.
    Confirmed,
    /// Fraud assessment held it back.
    ReviewOpened,
    /// A person let it go on.
    ReviewApproved,
    /// The payer has to do something.
    ActionRequired,
    /// The processor took it on, and says in hours or days what became of it.
    Submitted,
    /// A processor could not take it on; the next one is asked.
    AttemptFailed,
    /// Fraud assessment, a person, the processor or the ledger refused it.
    Failed,
    /// The processor did not answer.
    Unanswered,
    /// The processor reserved the money.
    Authorized,
    /// A part of the authorized money was taken.
    PartiallyCaptured,
    /// All of it was taken.
    Captured,
    /// What was not captured is released.
    RemainderReleased,
    /// It was given up, or the reservation was released.
    Canceled,
    /// It came to the end of its time.
    Expired,
    /// A part of the captured money was given back.
    PartiallyRefunded,
    /// All of it was given back.
    Refunded,
    /// The payer's bank took the money back (ACH return).
    Returned,
}

/// Where something that a processor was asked for stands: an authorization (an attempt), a capture, a refund, ….
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OperationStatus {
    /// On record; being asked for.
    Pending,
    /// Waits for the payer.
    RequiresAction,
    /// The processor took it on and says later what became of it (bank debits).
    Submitted,
    /// The processor did not answer; being asked until it is settled.
    Unknown,
    /// Done.
    Succeeded,
    /// Not done.
    Failed,
    /// Done, and undone by the payer's bank.
    Returned,
}

/// What happens to something that a processor was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OperationEvent {
    /// The payer has to do something first.
    ActionRequired,
    /// The processor took it on.
    Submitted,
    /// The processor did not answer.
    Unanswered,
    /// Done.
    Succeeded,
    /// Refused, never heard of, or given up.
    Failed,
    /// It turns out to be done although it counted as not done.
    SucceededLate,
    /// The payer's bank undid it.
    Returned,
}

/// Where a dispute stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DisputeStatus {
    /// Evidence can be given.
    Open,
    /// Evidence was given; the payer's bank decides.
    UnderReview,
    /// The money came back.
    Won,
    /// The money is gone.
    Lost,
}

/// What happens to a dispute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DisputeEvent {
    /// Evidence was given.
    EvidenceSubmitted,
    /// Decided for us.
    Won,
    /// Decided against us, or accepted.
    Lost,
}

/// A table: in this state, this event leads to that state.
pub type Table<S, E> = &'static [(S, E, S)];

use Event as E;
use OperationEvent as OE;
use OperationStatus as O;
use Status as S;

/// Every legal step of a payment.
pub const PAYMENT: Table<Status, Event> = &[
    (S::RequiresConfirmation, E::Confirmed, S::Processing),
    (S::RequiresConfirmation, E::Canceled, S::Canceled),
    (S::RequiresConfirmation, E::Expired, S::Expired),
    (S::Processing, E::ReviewOpened, S::InReview),
    (S::Processing, E::ActionRequired, S::RequiresAction),
    (S::Processing, E::Submitted, S::Processing),
    (S::Processing, E::AttemptFailed, S::Processing),
    (S::Processing, E::Unanswered, S::Unknown),
    (S::Processing, E::Authorized, S::Authorized),
    (S::Processing, E::Failed, S::Failed),
    (S::Processing, E::Canceled, S::Canceled),
    // What the payer did in the last moment was submitted while it was being released.
    (S::Processing, E::Expired, S::Expired),
    (S::InReview, E::ReviewApproved, S::Processing),
    (S::InReview, E::Failed, S::Failed),
    (S::InReview, E::Canceled, S::Canceled),
    (S::InReview, E::Expired, S::Expired),
    (S::RequiresAction, E::Submitted, S::Processing),
    (S::RequiresAction, E::Authorized, S::Authorized),
    (S::RequiresAction, E::Failed, S::Failed),
    (S::RequiresAction, E::Canceled, S::Canceled),
    (S::RequiresAction, E::Expired, S::Expired),
    (S::Unknown, E::ActionRequired, S::RequiresAction),
    (S::Unknown, E::Submitted, S::Processing),
    (S::Unknown, E::AttemptFailed, S::Processing),
    (S::Unknown, E::Authorized, S::Authorized),
    (S::Unknown, E::Failed, S::Failed),
    (S::Unknown, E::Canceled, S::Canceled),
    (S::Authorized, E::PartiallyCaptured, S::PartiallyCaptured),
    (S::Authorized, E::Captured, S::Captured),
    (S::Authorized, E::Canceled, S::Canceled),
    (S::Authorized, E::Expired, S::Expired),
    (S::PartiallyCaptured, E::PartiallyCaptured, S::PartiallyCaptured),
    (S::PartiallyCaptured, E::Captured, S::Captured),
    (S::PartiallyCaptured, E::RemainderReleased, S::PartiallyCaptured),
    (S::PartiallyCaptured, E::PartiallyRefunded, S::PartiallyCaptured),
    (S::PartiallyCaptured, E::Refunded, S::Refunded),
    (S::Captured, E::PartiallyRefunded, S::Captured),
    (S::Captured, E::Refunded, S::Refunded),
    (S::Captured, E::Returned, S::Failed),
    // Nothing is left that could be taken back.
    (S::Refunded, E::Returned, S::Refunded),
    // A part that is captured after everything before it was given back.
    (S::Refunded, E::PartiallyCaptured, S::PartiallyCaptured),
    (S::Refunded, E::Captured, S::Captured),
    (S::Refunded, E::RemainderReleased, S::Refunded),
];

/// Every legal step of something that a processor was asked for.
pub const OPERATION: Table<OperationStatus, OperationEvent> = &[
    (O::Pending, OE::ActionRequired, O::RequiresAction),
    (O::Pending, OE::Submitted, O::Submitted),
    (O::Pending, OE::Unanswered, O::Unknown),
    (O::Pending, OE::Succeeded, O::Succeeded),
    (O::Pending, OE::Failed, O::Failed),
    (O::Unknown, OE::ActionRequired, O::RequiresAction),
    (O::Unknown, OE::Submitted, O::Submitted),
    (O::Unknown, OE::Succeeded, O::Succeeded),
    (O::Unknown, OE::Failed, O::Failed),
    (O::RequiresAction, OE::Submitted, O::Submitted),
    (O::RequiresAction, OE::Succeeded, O::Succeeded),
    (O::RequiresAction, OE::Failed, O::Failed),
    (O::Submitted, OE::Succeeded, O::Succeeded),
    (O::Submitted, OE::Failed, O::Failed),
    (O::Succeeded, OE::Returned, O::Returned),
    (O::Failed, OE::SucceededLate, O::Succeeded),
];

/// Every legal step of a dispute.
pub const DISPUTE: Table<DisputeStatus, DisputeEvent> = &[
    (DisputeStatus::Open, DisputeEvent::EvidenceSubmitted, DisputeStatus::UnderReview),
    (DisputeStatus::Open, DisputeEvent::Won, DisputeStatus::Won),
    (DisputeStatus::Open, DisputeEvent::Lost, DisputeStatus::Lost),
    (DisputeStatus::UnderReview, DisputeEvent::Won, DisputeStatus::Won),
    (DisputeStatus::UnderReview, DisputeEvent::Lost, DisputeStatus::Lost),
];

/// The state after the event, or `None` where the table has no such step.
pub fn next<S: Copy + PartialEq, E: Copy + PartialEq>(table: &[(S, E, S)], from: S, event: E) -> Option<S> {
    table.iter().find(|(state, what, _)| *state == from && *what == event).map(|(_, _, to)| *to)
}

/// What can become of a payment in one commit, which may take several steps: pairs of different states, for the
/// constraint of a store.
pub fn reachable() -> BTreeSet<(Status, Status)> {
    let mut pairs: BTreeSet<_> =
        PAYMENT.iter().filter(|(from, _, to)| from != to).map(|(from, _, to)| (*from, *to)).collect();
    loop {
        let longer: BTreeSet<_> = pairs
            .iter()
            .flat_map(|(from, via)| {
                pairs.iter().filter(move |(next, _)| next == via).map(|(_, to)| (*from, *to))
            })
            .filter(|(from, to)| from != to)
            .collect();
        let before = pairs.len();
        pairs.extend(longer);
        if pairs.len() == before {
            return pairs;
        }
    }
}

impl Status {
    /// Every state, in the order of a payment's life.
    pub const ALL: [Self; 12] = [
        S::RequiresConfirmation,
        S::Processing,
        S::RequiresAction,
        S::InReview,
        S::Unknown,
        S::Authorized,
        S::PartiallyCaptured,
        S::Captured,
        S::Canceled,
        S::Failed,
        S::Expired,
        S::Refunded,
    ];

    /// The name, as in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            S::RequiresConfirmation => "REQUIRES_CONFIRMATION",
            S::Processing => "PROCESSING",
            S::RequiresAction => "REQUIRES_ACTION",
            S::InReview => "IN_REVIEW",
            S::Unknown => "UNKNOWN",
            S::Authorized => "AUTHORIZED",
            S::PartiallyCaptured => "PARTIALLY_CAPTURED",
            S::Captured => "CAPTURED",
            S::Canceled => "CANCELED",
            S::Failed => "FAILED",
            S::Expired => "EXPIRED",
            S::Refunded => "REFUNDED",
        }
    }

    /// Whether no money is, or is going to be, the payer's loss.
    pub const fn is_given_up(self) -> bool {
        matches!(self, S::Canceled | S::Failed | S::Expired)
    }
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 17] = [
        E::Confirmed,
        E::ReviewOpened,
        E::ReviewApproved,
        E::ActionRequired,
        E::Submitted,
        E::AttemptFailed,
        E::Failed,
        E::Unanswered,
        E::Authorized,
        E::PartiallyCaptured,
        E::Captured,
        E::RemainderReleased,
        E::Canceled,
        E::Expired,
        E::PartiallyRefunded,
        E::Refunded,
        E::Returned,
    ];

    /// The name that the event has for the outside.
    pub const fn name(self) -> &'static str {
        match self {
            E::Confirmed => "payment.confirmed",
            E::ReviewOpened => "payment.in_review",
            E::ReviewApproved => "payment.review_approved",
            E::ActionRequired => "payment.requires_action",
            E::Submitted => "payment.submitted",
            E::AttemptFailed => "payment.attempt_failed",
            E::Failed => "payment.failed",
            E::Unanswered => "payment.unknown",
            E::Authorized => "payment.authorized",
            E::PartiallyCaptured => "payment.partially_captured",
            E::Captured => "payment.captured",
            E::RemainderReleased => "payment.remainder_released",
            E::Canceled => "payment.canceled",
            E::Expired => "payment.expired",
            E::PartiallyRefunded => "payment.partially_refunded",
            E::Refunded => "payment.refunded",
            E::Returned => "payment.returned",
        }
    }
}

impl OperationStatus {
    /// Whether the processor still has to say what became of it.
    pub const fn is_open(self) -> bool {
        matches!(self, O::Pending | O::RequiresAction | O::Submitted | O::Unknown)
    }
}

impl DisputeStatus {
    /// Whether it is not decided.
    pub const fn is_open(self) -> bool {
        matches!(self, DisputeStatus::Open | DisputeStatus::UnderReview)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, fmt::Debug, hash::Hash};

    use super::*;

    fn said_once<S: Copy + Eq + Hash + Debug, E: Copy + Eq + Hash + Debug>(table: &[(S, E, S)]) {
        let mut said = HashSet::new();
        for (from, event, _) in table {
            assert!(said.insert((from, event)), "{from:?} {event:?} is said twice");
        }
    }

    #[test]
    fn a_step_is_said_once_and_what_is_given_up_stays_so() {
        said_once(PAYMENT);
        said_once(OPERATION);
        said_once(DISPUTE);
        assert!(PAYMENT.iter().all(|(from, _, _)| !from.is_given_up()));
    }

    #[test]
    fn every_state_is_reached_and_what_waits_has_a_way_out() {
        let pairs = reachable();
        for status in Status::ALL {
            let begins = matches!(status, S::RequiresConfirmation | S::Processing);
            assert!(begins || pairs.contains(&(S::Processing, status)), "{status:?} is never reached");
            let waits =
                !matches!(status, S::PartiallyCaptured | S::Captured | S::Refunded) && !status.is_given_up();
            let ends = [S::Captured, S::Failed, S::Canceled].map(|end| pairs.contains(&(status, end)));
            assert!(!waits || ends.contains(&true), "{status:?} has no way out");
        }
        for status in [O::Pending, O::RequiresAction, O::Submitted, O::Unknown] {
            for end in [OE::Succeeded, OE::Failed] {
                assert!(next(OPERATION, status, end).is_some(), "{status:?} has no {end:?}");
            }
        }
    }

    /// What a state is called in diagrams, as everywhere outside.
    fn name(state: impl Serialize) -> String {
        serde_json::to_value(state).unwrap().as_str().unwrap().to_owned()
    }

    /// The diagrams for people show the steps between two states that the tables have, and no other. Each follows the
    /// words that say what it is of.
    #[test]
    fn the_diagrams_are_the_tables() {
        fn compare<S: Copy + PartialEq + Serialize, E>(words: &str, table: Table<S, E>) {
            let page = include_str!("../../../ARCHITECTURE.md");
            let after = page.split_once(&format!("{words}:\n\n```mermaid\n")).expect(words).1;
            let drawn: Vec<(String, String)> = after
                .lines()
                .take_while(|line| !line.starts_with("```"))
                .filter_map(|line| line.trim().split_once(" --> "))
                .filter(|(from, _)| *from != "[*]")
                .map(|(from, to)| (from.to_owned(), to.split(':').next().unwrap_or_default().to_owned()))
                .collect();
            let said: HashSet<(String, String)> = table
                .iter()
                .filter(|(from, _, to)| from != to)
                .map(|(from, _, to)| (name(from), name(to)))
                .collect();
            assert_eq!(drawn.iter().cloned().collect::<HashSet<_>>(), said, "{words}");
            assert_eq!(drawn.len(), said.len(), "{words}: a step is drawn twice");
        }
        compare("A payment", PAYMENT);
        compare("An operation", OPERATION);
        compare("A dispute", DISPUTE);
        for status in Status::ALL {
            assert_eq!(name(status), status.name());
        }
    }
}
