//! A consumer as a service would write one: it notes the event and has its effect in one transaction, and then
//! acknowledges the message. The effect is a line in a ledger of its own.

use std::{future::poll_fn, pin::Pin, time::Duration};

use events::{Event, Seen as _, SqliteSeen, rabbitmq::event_of, seen::SQLITE_TABLE};
use futures_core::Stream as _;
use lapin::{
    Channel, Connection, Consumer,
    message::Delivery,
    options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions},
    types::FieldTable,
};
use mesh::{Clock as _, SystemClock};
use tokio::time::timeout;

use crate::world::connect;

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where effects are.
pub(crate) struct Effects(rusqlite::Connection);

impl Effects {
    pub(crate) fn new() -> Self {
        let database = rusqlite::Connection::open_in_memory().unwrap();
        database.execute_batch(SQLITE_TABLE).unwrap();
        let sql = "CREATE TABLE effects (subject TEXT NOT NULL, sequence INTEGER NOT NULL) STRICT";
        database.execute_batch(sql).unwrap();
        Self(database)
    }

    /// Has the effect, unless it was had; whether it was now.
    pub(crate) async fn take(&mut self, event: &Event) -> bool {
        let transaction = self.0.transaction().unwrap();
        let mut seen = SqliteSeen { connection: &transaction, consumer: "test", now: SystemClock.now() };
        let is_new = seen.first_time(event.id()).await.unwrap();
        if is_new {
            let sequence = i64::try_from(event.sequence()).unwrap();
            let effect = (event.subject().as_str(), sequence);
            transaction.execute("INSERT INTO effects VALUES (?1, ?2)", effect).unwrap();
        }
        transaction.commit().unwrap();
        is_new
    }

    /// The sequences of a subject in the order of their effects.
    pub(crate) fn of(&self, subject: &str) -> Vec<u64> {
        let sql = "SELECT sequence FROM effects WHERE subject = ?1 ORDER BY rowid";
        let mut statement = self.0.prepare(sql).unwrap();
        let sequences = statement.query_map([subject], |row| row.get::<_, i64>(0)).unwrap();
        sequences.map(|sequence| sequence.unwrap().try_into().unwrap()).collect()
    }
}

/// Messages of a queue, as they come.
pub(crate) struct Incoming {
    consumer: Consumer,
    /// Ends with it.
    _channel: Channel,
    _connection: Connection,
}

impl Incoming {
    pub(crate) async fn of(uri: &str, queue: &str) -> Option<Self> {
        let connection = connect(uri).await?;
        let channel = connection.create_channel().await.ok()?;
        channel.basic_qos(64, BasicQosOptions::default()).await.ok()?;
        let options = BasicConsumeOptions::default();
        let consumer =
            channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.ok()?;
        Some(Self { consumer, _channel: channel, _connection: connection })
    }

    /// The next message; an error once the connection is gone, or if there is none for long.
    pub(crate) async fn next(&mut self) -> Result<Delivery, String> {
        let next = timeout(PATIENCE, poll_fn(|context| Pin::new(&mut self.consumer).poll_next(context)));
        let next = next.await.map_err(|_| "no message".to_owned())?.ok_or("the queue is gone")?;
        next.map_err(|error| error.to_string())
    }

    /// The next event, acknowledged.
    pub(crate) async fn event(&mut self) -> Event {
        let delivery = self.next().await.unwrap();
        delivery.ack(BasicAckOptions::default()).await.unwrap();
        event_of(&delivery).unwrap()
    }
}
