//! What the tests share: a publisher to an exchange of its own, and a second way to the broker that looks.

use std::time::Duration;

use bytes::Bytes;
use events::{Event, Outcome, Publisher as _, QueueConfig, RabbitMq, RabbitMqConfig};
use lapin::{
    Channel, Connection, ConnectionProperties, ExchangeKind,
    options::{ExchangeDeclareOptions, ExchangeDeleteOptions, QueueDeleteOptions},
    types::FieldTable,
};
use mesh::{Clock as _, Ids as _, RandomIds, SystemClock};
use money::EventId;
use tempfile::TempDir;

/// The URI of the broker that all tests share, with its password.
pub(crate) fn shared() -> String {
    let variable = "PAYMESH_TEST_RABBITMQ_URL";
    std::env::var(variable).unwrap_or_else(|_| {
        panic!("{variable} is not set; run `cargo xtask test`, or `cargo xtask servers -- cargo test`")
    })
}

/// Somebody else's way to the broker. lapin can wait for ever for a broker that refuses the connection.
pub(crate) async fn connect(uri: &str) -> Option<Connection> {
    let connecting = Connection::connect(uri, ConnectionProperties::default());
    tokio::time::timeout(Duration::from_secs(5), connecting).await.ok()?.ok()
}

/// An exchange and a queue of a test's own.
pub(crate) struct World {
    pub(crate) config: RabbitMqConfig,
    pub(crate) publisher: RabbitMq,
    /// Somebody else's.
    pub(crate) channel: Channel,
    connection: Connection,
    _files: TempDir,
}

impl World {
    /// A queue that is bound by these keys; none without one.
    pub(crate) async fn new(uri: &str, bindings: &[&str]) -> Self {
        Self::with(uri, bindings, |_| ()).await
    }

    /// The same with other settings.
    pub(crate) async fn with(uri: &str, bindings: &[&str], change: impl FnOnce(&mut RabbitMqConfig)) -> Self {
        let files = TempDir::new().unwrap();
        let (scheme, rest) = uri.split_once("://").unwrap();
        let (login, place) = rest.rsplit_once('@').unwrap();
        let (user, password) = login.split_once(':').unwrap();
        let password_file = files.path().join("password");
        std::fs::write(&password_file, format!("{password}\n")).unwrap();
        let name = format!("paymesh.test.{}", RandomIds.uuid_v7(SystemClock.now()).simple());
        let bindings: Vec<String> = bindings.iter().map(|&key| key.to_owned()).collect();
        let queue = QueueConfig { name: name.clone(), bindings };
        let mut config = RabbitMqConfig {
            url: format!("{scheme}://{user}@{place}"),
            password_file: Some(password_file),
            exchange: name,
            queues: if queue.bindings.is_empty() { Vec::new() } else { vec![queue] },
            ..RabbitMqConfig::default()
        };
        change(&mut config);
        let publisher = RabbitMq::new(&config).unwrap();
        let connection = connect(uri).await.expect("the broker answers");
        let channel = connection.create_channel().await.unwrap();
        Self { config, publisher, channel, connection, _files: files }
    }

    pub(crate) fn exchange(&self) -> &str {
        &self.config.exchange
    }

    /// The name of the queue is the exchange's.
    pub(crate) fn queue(&self) -> &str {
        &self.config.exchange
    }

    pub(crate) async fn publish(&self, batch: &[Event]) -> Vec<Outcome> {
        tokio::time::timeout(Duration::from_secs(60), self.publisher.publish(batch))
            .await
            .expect("an outcome")
    }

    /// Declares the exchange beforehand, of this kind.
    pub(crate) async fn declare_exchange(&self, kind: ExchangeKind) {
        let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let name = self.exchange().into();
        self.channel.exchange_declare(name, kind, options, FieldTable::default()).await.unwrap();
    }

    pub(crate) async fn delete_exchange(&self) {
        self.channel.exchange_delete(self.exchange().into(), ExchangeDeleteOptions::default()).await.unwrap();
    }

    /// Leaves the broker as it was.
    pub(crate) async fn end(self) {
        self.delete_exchange().await;
        self.channel.queue_delete(self.queue().into(), QueueDeleteOptions::default()).await.unwrap();
        self.connection.close(200, "OK".into()).await.unwrap();
    }
}

/// A new event.
pub(crate) fn event(subject: &str, sequence: u64, kind: &str) -> Event {
    let now = SystemClock.now();
    let body = Bytes::from(serde_json::json!({ "subject": subject, "sequence": sequence }).to_string());
    let id = EventId::new(RandomIds.uuid_v7(now));
    let stream = (subject.parse().unwrap(), sequence);
    Event::new(id, "acme".parse().unwrap(), stream, kind.parse().unwrap(), now, body).unwrap()
}

/// The first `count` events of a subject.
pub(crate) fn events(subject: &str, count: u64) -> Vec<Event> {
    (1..=count).map(|sequence| event(subject, sequence, "payment.captured")).collect()
}
