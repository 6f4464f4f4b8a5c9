//! The one table of a payment's life: which event may happen in which state, and what state follows.
//! The guard, the tests and the diagram in ARCHITECTURE.md are made from it.

use serde::{Deserialize, Serialize};

/// Where a payment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// Under way.
    Processing,
    /// Held back for a person to look at.
    InReview,
    /// The processor did not answer; being asked until it is settled.
    Unknown,
    /// The money is reserved.
    Authorized,
    /// A part was taken, the rest released.
    PartiallyCaptured,
    /// All was taken.
    Captured,
    /// Given up before capture.
    Canceled,
    /// Declined, blocked or refused.
    Failed,
    /// All that was captured was given back.
    Refunded,
}

/// What happens to a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Event {
    /// Fraud assessment held it back.
    ReviewOpened,
    /// Fraud assessment, the processor or the ledger refused it.
    Failed,
    /// The processor did not answer.
    Unanswered,
    /// The processor reserved the money.
    Authorized,
    /// The processor took all of the authorized money.
    Captured,
    /// The processor took a part of it and released the rest.
    PartiallyCaptured,
    /// The processor refused the capture or the void: the reservation stands.
    OperationRefused,
    /// The reservation was released, or the payment never reached the processor.
    Canceled,
    /// A part of the captured money was given back.
    PartiallyRefunded,
    /// All of it was given back.
    Refunded,
}

use Event as E;
use Status as S;

/// Every legal step: in this state, this event leads to that state.
pub const TRANSITIONS: &[(Status, Event, Status)] = &[
    (S::Processing, E::ReviewOpened, S::InReview),
    (S::Processing, E::Failed, S::Failed),
    (S::Processing, E::Unanswered, S::Unknown),
    (S::Processing, E::Authorized, S::Authorized),
    (S::InReview, E::Canceled, S::Canceled),
    (S::Unknown, E::Failed, S::Failed),
    (S::Unknown, E::Authorized, S::Authorized),
    (S::Unknown, E::Captured, S::Captured),
    (S::Unknown, E::PartiallyCaptured, S::PartiallyCaptured),
    (S::Unknown, E::OperationRefused, S::Authorized),
    (S::Unknown, E::Canceled, S::Canceled),
    (S::Authorized, E::Unanswered, S::Unknown),
    (S::Authorized, E::Captured, S::Captured),
    (S::Authorized, E::PartiallyCaptured, S::PartiallyCaptured),
    (S::Authorized, E::OperationRefused, S::Authorized),
    (S::Authorized, E::Canceled, S::Canceled),
    (S::PartiallyCaptured, E::PartiallyRefunded, S::PartiallyCaptured),
    (S::PartiallyCaptured, E::Refunded, S::Refunded),
    (S::Captured, E::PartiallyRefunded, S::Captured),
    (S::Captured, E::Refunded, S::Refunded),
];

/// The state after the event, or `None` where the table has no such step.
pub fn next(from: Status, event: Event) -> Option<Status> {
    TRANSITIONS.iter().find(|(state, what, _)| *state == from && *what == event).map(|(_, _, to)| *to)
}

impl Status {
    /// Every state, in the order of the contract.
    pub const ALL: [Self; 9] = [
        S::Processing,
        S::InReview,
        S::Unknown,
        S::Authorized,
        S::PartiallyCaptured,
        S::Captured,
        S::Canceled,
        S::Failed,
        S::Refunded,
    ];

    /// The name, as in the contract.
    pub const fn name(self) -> &'static str {
        match self {
            S::Processing => "PROCESSING",
            S::InReview => "IN_REVIEW",
            S::Unknown => "UNKNOWN",
            S::Authorized => "AUTHORIZED",
            S::PartiallyCaptured => "PARTIALLY_CAPTURED",
            S::Captured => "CAPTURED",
            S::Canceled => "CANCELED",
            S::Failed => "FAILED",
            S::Refunded => "REFUNDED",
        }
    }

    /// The name that the event into this state has for the outside.
    pub const fn event_type(self) -> &'static str {
        match self {
            S::Processing => "payment.created",
            S::InReview => "payment.in_review",
            S::Unknown => "payment.unknown",
            S::Authorized => "payment.authorized",
            S::PartiallyCaptured => "payment.partially_captured",
            S::Captured => "payment.captured",
            S::Canceled => "payment.canceled",
            S::Failed => "payment.failed",
            S::Refunded => "payment.refunded",
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_step_is_said_once_and_no_end_is_left() {
        let mut said = HashSet::new();
        for (from, event, _) in TRANSITIONS {
            assert!(said.insert((from, event)), "{from:?} {event:?} is said twice");
            assert!(!matches!(from, S::Canceled | S::Failed | S::Refunded), "{from:?} is an end");
        }
    }

    #[test]
    fn every_state_is_reached_and_unknown_always_has_a_way_out() {
        let mut reached = HashSet::from([S::Processing]);
        loop {
            let before = reached.len();
            for (from, _, to) in TRANSITIONS {
                if reached.contains(from) {
                    reached.insert(*to);
                }
            }
            if reached.len() == before {
                break;
            }
        }
        assert_eq!(reached.len(), Status::ALL.len());
        assert!(TRANSITIONS.iter().any(|(from, _, to)| *from == S::Unknown && *to != S::Unknown));
    }

    /// The diagram for people shows the steps between two states that the table has, and no other.
    #[test]
    fn the_diagram_is_the_table() {
        let diagram = include_str!("../../../ARCHITECTURE.md");
        let drawn: HashSet<(&str, &str)> = diagram
            .lines()
            .filter_map(|line| line.trim().split_once(" --> "))
            .map(|(from, to)| (from, to.split(':').next().unwrap_or_default()))
            .filter(|(from, _)| *from != "[*]")
            .collect();
        let known: HashSet<(&str, &str)> = TRANSITIONS
            .iter()
            .filter(|(from, _, to)| from != to)
            .map(|(from, _, to)| (from.name(), to.name()))
            .collect();
        assert_eq!(drawn, known);
    }
}
