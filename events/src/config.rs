//! What can be configured of how events leave a service.

use std::{path::PathBuf, sync::Arc, time::Duration};

use mesh::StartError;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    bus::Bus,
    publish::Publisher,
    rabbitmq::{self, RabbitMq},
};

/// How events leave a service (docs/events.md).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventsConfig {
    /// The broker that takes the events. Absent: they go to whoever listens within the process, and no further.
    pub rabbitmq: Option<RabbitMqConfig>,
    /// Without a broker: how many events a listener within the process may be behind before it misses some.
    /// Default 4096.
    #[schemars(range(min = 1, max = 1_048_576))]
    pub listener_backlog_max: usize,
    /// How the outbox is emptied.
    pub relay: RelayConfig,
}

/// How an outbox is emptied.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RelayConfig {
    /// How many events are published at once. Default 256.
    #[schemars(range(min = 1, max = 10_000))]
    pub batch_max: usize,
    /// How often the outbox is looked at, in milliseconds, when nothing was written by this process. What was is
    /// published at once. Default 1000.
    #[schemars(range(min = 1, max = 60_000))]
    pub poll_ms: u32,
    /// How long to wait at most, in milliseconds, before what failed is tried again; after the first failure it is a
    /// tenth of a second. Default 10000.
    #[schemars(range(min = 100, max = 3_600_000))]
    pub retry_ms_max: u32,
}

/// A RabbitMQ broker, over AMQP 0-9-1.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitMqConfig {
    /// The broker, the user and the virtual host, without the password. `amqp` instead of `amqps` does without TLS.
    /// A virtual host `/` is written `%2f`, which is also what is meant where there is none.
    #[schemars(extend("x-required" = true), example = "amqps://paymesh@rabbitmq.internal:5671/paymesh")]
    pub url: String,
    /// A file with the password. It is read for each connection, so that it may be replaced.
    #[schemars(example = "secrets/rabbitmq-password")]
    pub password_file: Option<PathBuf>,
    /// The certificates of those who are trusted to say who the broker is, PEM. Needed for `amqps`.
    #[schemars(extend("x-file" = "public"), example = "pki/rabbitmq-ca.pem")]
    pub ca_file: Option<PathBuf>,
    /// The exchange: durable, of the type topic. An event's type is its routing key. It is declared with every
    /// connection. Default paymesh.events.
    pub exchange: String,
    /// Queues that are declared and bound with every connection, durable and replicated (quorum queues). Others may
    /// bind queues of their own. An event that no queue wants is not published, and waits.
    pub queues: Vec<QueueConfig>,
    /// How many messages are sent before the first of them is confirmed. Default 256.
    #[schemars(range(min = 1, max = 10_000))]
    pub in_flight_max: usize,
    /// How long a batch may take until the broker has confirmed it, in milliseconds, connecting included. What is
    /// not confirmed by then is sent again. Default 10000.
    #[schemars(range(min = 100, max = 600_000))]
    pub batch_timeout_ms: u32,
    /// How long a connection may take to be made, in milliseconds, the queues included. Default 5000.
    #[schemars(range(min = 100, max = 600_000))]
    pub connect_timeout_ms: u32,
    /// How often broker and service show each other that they are alive, in seconds; after twice as long without a
    /// sign the connection is given up. Default 10.
    #[schemars(range(min = 1, max = 600))]
    pub heartbeat_s: u16,
}

/// A queue for one kind of consumer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueueConfig {
    /// Its name.
    #[schemars(extend("x-required" = true), example = &"notifications")]
    pub name: String,
    /// Which events it gets, by their type: `*` stands for one word, `#` for any number of words. All that match one
    /// of these.
    #[schemars(example = "payment.#")]
    pub bindings: Vec<String>,
}

/// Where events go.
#[derive(Debug, Clone)]
pub enum Way {
    /// To whoever listens within the process.
    Process(Bus),
    /// To a broker.
    RabbitMq(RabbitMq),
}

impl Way {
    /// What takes them there.
    pub fn publisher(&self) -> Arc<dyn Publisher> {
        match self {
            Self::Process(bus) => Arc::new(bus.clone()),
            Self::RabbitMq(broker) => Arc::new(broker.clone()),
        }
    }
}

impl EventsConfig {
    /// What is wrong that can be seen without files and without the broker.
    ///
    /// # Errors
    /// A sentence that names the setting and says what would be right.
    pub fn check(&self) -> Result<(), String> {
        self.rabbitmq.as_ref().map_or(Ok(()), rabbitmq::check)
    }

    /// Opens the configured way. Reads the CA's file; does not connect.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn open(&self) -> Result<Way, StartError> {
        match &self.rabbitmq {
            Some(config) => RabbitMq::new(config).map(Way::RabbitMq),
            None => Ok(Way::Process(Bus::new(self.listener_backlog_max))),
        }
    }
}

impl RelayConfig {
    /// [`RelayConfig::poll_ms`].
    pub fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms.max(1).into())
    }

    /// [`RelayConfig::retry_ms_max`].
    pub fn retry_max(&self) -> Duration {
        Duration::from_millis(self.retry_ms_max.into())
    }
}

impl Default for EventsConfig {
    fn default() -> Self {
        Self { rabbitmq: None, listener_backlog_max: 4_096, relay: RelayConfig::default() }
    }
}

impl Default for RelayConfig {
    fn default() -> Self {
        Self { batch_max: 256, poll_ms: 1_000, retry_ms_max: 10_000 }
    }
}

impl Default for RabbitMqConfig {
    fn default() -> Self {
        Self {
            url: String::new(),
            password_file: None,
            ca_file: None,
            exchange: "paymesh.events".to_owned(),
            queues: Vec::new(),
            in_flight_max: 256,
            batch_timeout_ms: 10_000,
            connect_timeout_ms: 5_000,
            heartbeat_s: 10,
        }
    }
}
