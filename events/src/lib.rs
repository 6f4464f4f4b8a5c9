//! How events leave a service: from an outbox, which the service's store keeps in the same commit as the state that
//! they tell of, by a [`Relay`] to a [`Publisher`], which is RabbitMQ or, where none is configured, a bus within the
//! process. What is promised to those who take them, and how they should, is `docs/events.md`.
//!
//! An event is delivered at least once; each subject's events are published in the order of their sequence. Whoever
//! takes them has each effect once by noting the event's id in the transaction of the effect ([`Seen`]).
//!
//! Knows no service, no event's contents and no store.

pub mod backoff;
pub mod bus;
pub mod config;
pub mod event;
pub mod outbox;
pub mod publish;
pub mod rabbitmq;
pub mod relay;
pub mod seen;

mod metrics;

pub use bus::{Bus, Missed, Subscription};
pub use config::{EventsConfig, QueueConfig, RabbitMqConfig, RelayConfig};
pub use event::{ContentType, Event, EventError, EventType, Subject};
pub use outbox::{Backlog, Outbox, Pending, Position, Wake};
pub use publish::{BrokerError, Outcome, PublishError, Publisher, Publishing};
pub use rabbitmq::RabbitMq;
pub use relay::Relay;
pub use seen::{PostgresSeen, Seen, SqliteSeen};
