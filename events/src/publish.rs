//! What a publisher is, and how it can fail. Knows no broker.

use std::{collections::HashSet, future::Future, pin::Pin};

use crate::event::Event;

/// What became of each event of a batch, in the batch's order.
pub type Publishing<'a> = Pin<Box<dyn Future<Output = Vec<Outcome>> + Send + 'a>>;

/// What became of one event.
pub type Outcome = Result<(), PublishError>;

/// Takes events to those who want them.
pub trait Publisher: Send + Sync + 'static {
    /// Publishes events, and says of each what became of it: as many outcomes as events, in their order.
    ///
    /// An event is published when it is as safe as the publisher can make it; one that failed may have been
    /// published nevertheless. Where one failed, none of the same subject after it counts as published. It takes
    /// bounded time. Given up half-way, any of them may have been published.
    fn publish<'a>(&'a self, batch: &'a [Event]) -> Publishing<'a>;
}

/// Why an event is not known to be published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The broker has no queue that wants events of this type.
    #[error("no queue is bound to the exchange for events of this type")]
    Unroutable,
    /// The broker did not take it: a queue is full, or has failed.
    #[error("the broker refused it")]
    Refused,
    /// It was sent, or part of it was, and the broker has not confirmed it.
    #[error("the broker has not confirmed it: {0}")]
    Unconfirmed(BrokerError),
    /// It was not sent, as there is no broker to be had.
    #[error("it was not sent: {0}")]
    Unavailable(BrokerError),
    /// An earlier one of its subject is not published.
    #[error("an earlier event of its subject is not published")]
    Behind,
}

impl PublishError {
    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unroutable => "unroutable",
            Self::Refused => "refused",
            Self::Unconfirmed(_) => "unconfirmed",
            Self::Unavailable(_) => "unavailable",
            Self::Behind => "behind",
        }
    }

    /// Whether it is about the broker and not about this event: others would fare no better.
    pub fn is_of_the_broker(self) -> bool {
        matches!(self, Self::Unconfirmed(_) | Self::Unavailable(_))
    }
}

/// What is wrong with the broker, or between it and us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BrokerError {
    /// Nobody is there.
    #[error("the host in rabbitmq.url cannot be reached")]
    Unreachable,
    /// No TLS, or with somebody else.
    #[error(
        "TLS failed: the certificate must be of an authority in rabbitmq.ca_file and for the host in rabbitmq.url"
    )]
    Tls,
    /// The password cannot be read.
    #[error("rabbitmq.password_file cannot be read, or holds no text")]
    PasswordFile,
    /// It does not let us in.
    #[error("the broker refused the login: look at the user in rabbitmq.url and at rabbitmq.password_file")]
    Credentials,
    /// There is no such virtual host, or not for us.
    #[error("the broker has no virtual host as named in rabbitmq.url, or not for this user")]
    VirtualHost,
    /// It does not let us do this.
    #[error(
        "the broker does not let this user declare the exchange and the queues, or write to the exchange"
    )]
    Permission,
    /// There is another of that name.
    #[error(
        "the exchange or a queue exists and is of another kind than configured: delete it, or choose another name"
    )]
    Topology,
    /// The connection ended.
    #[error("the connection to the broker was lost")]
    Lost,
    /// No answer in time.
    #[error("the broker did not answer in time")]
    Deadline,
    /// The broker takes nothing at present.
    #[error("the broker takes no messages at present, as its memory or disk is low")]
    Blocked,
    /// It says what it should not.
    #[error("the broker does not speak AMQP 0-9-1 as expected")]
    Protocol,
}

/// Has those wait that come after one of their subject which failed.
pub(crate) fn hold_back(batch: &[Event], outcomes: &mut [Outcome]) {
    let mut failed = HashSet::new();
    for (event, outcome) in batch.iter().zip(outcomes) {
        if outcome.is_err() {
            failed.insert(event.stream());
        } else if !failed.is_empty() && failed.contains(&event.stream()) {
            *outcome = Err(PublishError::Behind);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::event;

    #[test]
    fn after_a_failure_none_of_the_same_subject_counts() {
        let batch = [event("a", 1), event("b", 1), event("a", 2), event("b", 2), event("a", 3)];
        let refused = Err(PublishError::Refused);
        let mut outcomes = [Ok(()), Ok(()), refused, Ok(()), Ok(())];
        hold_back(&batch, &mut outcomes);
        assert_eq!(outcomes, [Ok(()), Ok(()), refused, Ok(()), Err(PublishError::Behind)]);
        let mut all_well = [Ok(()); 5];
        hold_back(&batch, &mut all_well);
        assert_eq!(all_well, [Ok(()); 5]);
    }
}
