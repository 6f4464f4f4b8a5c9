//! How a consumer has the effect of each event once, though it may get it several times: it notes the event's id in
//! the transaction of the effect, in a table of its own database.

use std::future::{Future, ready};

use money::{EventId, Timestamp};
use rusqlite::Connection;
use tokio_postgres::GenericClient;

/// Notes which events were taken. What notes is within a transaction of the consumer's.
pub trait Seen {
    /// How the database fails.
    type Error;

    /// Notes the event; whether it is there for the first time. If it is not, its effect has been had, and the
    /// consumer does nothing. If the transaction is given up, so is the note.
    fn first_time(&mut self, event: EventId) -> impl Future<Output = Result<bool, Self::Error>> + Send;
}

/// The table in SQLite, for a consumer's migrations.
pub const SQLITE_TABLE: &str = "
CREATE TABLE seen_events (
  consumer TEXT NOT NULL,
  event_id BLOB NOT NULL,
  seen_at INTEGER NOT NULL, -- nanoseconds since the epoch
  PRIMARY KEY (consumer, event_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX seen_events_by_time ON seen_events (seen_at);
";

/// The table in PostgreSQL.
pub const POSTGRES_TABLE: &str = "
CREATE TABLE seen_events (
  consumer text NOT NULL,
  event_id uuid NOT NULL,
  seen_at bigint NOT NULL, -- nanoseconds since the epoch
  PRIMARY KEY (consumer, event_id)
);
CREATE INDEX seen_events_by_time ON seen_events (seen_at);
";

/// Forgets at most so many events at once, so that a transaction that forgets is short.
const FORGOTTEN_AT_ONCE: u32 = 10_000;

/// Notes in SQLite, in the transaction that the connection is in.
pub struct SqliteSeen<'a> {
    /// Where the table is.
    pub connection: &'a Connection,
    /// Who takes the event: several consumers may share a table.
    pub consumer: &'a str,
    /// Now.
    pub now: Timestamp,
}

impl SqliteSeen<'_> {
    /// As [`Seen::first_time`], for a job of the embedded store, which does not wait.
    ///
    /// # Errors
    /// SQLite's.
    pub fn note(&self, event: EventId) -> rusqlite::Result<bool> {
        let sql = "INSERT OR IGNORE INTO seen_events (consumer, event_id, seen_at) VALUES (?1, ?2, ?3)";
        let id = event.uuid().into_bytes();
        let noted = self.connection.prepare_cached(sql)?.execute((self.consumer, id, self.now.as_nanos()))?;
        Ok(noted == 1)
    }

    /// Forgets some of what was seen before `before`, and says how many. A duplicate that comes later than that has
    /// its effect again, so keep them for as long as a queue may hold a message, and then some.
    ///
    /// # Errors
    /// SQLite's.
    pub fn forget(&self, before: Timestamp) -> rusqlite::Result<usize> {
        let sql = "DELETE FROM seen_events WHERE (consumer, event_id) IN
                   (SELECT consumer, event_id FROM seen_events WHERE seen_at < ?1 LIMIT ?2)";
        self.connection.prepare_cached(sql)?.execute((before.as_nanos(), FORGOTTEN_AT_ONCE))
    }
}

impl Seen for SqliteSeen<'_> {
    type Error = rusqlite::Error;

    fn first_time(&mut self, event: EventId) -> impl Future<Output = rusqlite::Result<bool>> + Send {
        ready(self.note(event))
    }
}

/// Notes in PostgreSQL, in the transaction that the client is. Of two consumers that take the same event at once the
/// second waits for the first one's commit.
pub struct PostgresSeen<'a, C> {
    /// The transaction.
    pub transaction: &'a C,
    /// Who takes the event.
    pub consumer: &'a str,
    /// Now.
    pub now: Timestamp,
}

impl<C: GenericClient> PostgresSeen<'_, C> {
    /// As [`SqliteSeen::forget`].
    ///
    /// # Errors
    /// PostgreSQL's.
    pub async fn forget(&self, before: Timestamp) -> Result<u64, tokio_postgres::Error> {
        let sql = "DELETE FROM seen_events WHERE (consumer, event_id) IN
                   (SELECT consumer, event_id FROM seen_events WHERE seen_at < $1 LIMIT $2)";
        let most = i64::from(FORGOTTEN_AT_ONCE);
        self.transaction.execute(sql, &[&before.as_nanos(), &most]).await
    }
}

impl<C: GenericClient + Sync> Seen for PostgresSeen<'_, C> {
    type Error = tokio_postgres::Error;

    async fn first_time(&mut self, event: EventId) -> Result<bool, tokio_postgres::Error> {
        let sql = "INSERT INTO seen_events (consumer, event_id, seen_at) VALUES ($1, $2, $3)
                   ON CONFLICT DO NOTHING";
        let (id, now) = (event.uuid(), self.now.as_nanos());
        Ok(self.transaction.execute(sql, &[&self.consumer, &id, &now]).await? == 1)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn an_event_is_new_once_for_each_consumer_and_only_if_its_transaction_holds() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(SQLITE_TABLE).unwrap();
        let event = EventId::new(Uuid::from_u128(7));
        let given_up = connection.transaction().unwrap();
        let now = Timestamp::from_seconds(100);
        assert!(SqliteSeen { connection: &given_up, consumer: "a", now }.first_time(event).await.unwrap());
        given_up.rollback().unwrap();
        let mut a = SqliteSeen { connection: &connection, consumer: "a", now };
        assert!(a.first_time(event).await.unwrap());
        assert!(!a.first_time(event).await.unwrap());
        let b = SqliteSeen { consumer: "b", ..a };
        assert!(b.note(event).unwrap());
        let a = SqliteSeen { connection: &connection, consumer: "a", now };
        assert_eq!(a.forget(now).unwrap(), 0);
        assert_eq!(a.forget(Timestamp::from_seconds(101)).unwrap(), 2);
        assert!(a.note(event).unwrap(), "after so long it is new again");
    }
}
