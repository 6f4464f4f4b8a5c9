//! What each session of the ledger is for, and what it is held to.

use std::time::Duration;

use deadpool_postgres::Pool;
use mesh::{
    StartError, StoreError,
    postgres::{self, ServerSettings, Session},
};
use tokio_postgres::Client;

use super::{Epoch, config::PostgresConfig};

pub(super) use mesh::postgres::{as_bigint, failed, from_bigint, pooled as reader, said, was_refused};

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Makes and changes tables.
    Migrate,
    /// Decides who leads.
    Lead,
    /// Writes as the leader of an epoch. Whoever takes over can tell these sessions by their name.
    Write(Epoch),
    /// Looks things up.
    Read,
    /// Reads all there is, which waits for nobody who looks things up, and takes as long as it takes.
    Load,
}

/// The server, as it is configured.
#[derive(Clone)]
pub(super) struct Server {
    postgres: postgres::Server,
    lease: Duration,
    query_timeout: Duration,
}

impl Server {
    /// Reads the files that the configuration names. Does not connect.
    pub(super) fn new(config: &PostgresConfig) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let postgres = postgres::Server::new(&ServerSettings {
            application: "paymesh-ledger",
            url: config.url.clone(),
            password_file: config.password_file.clone(),
            ca_file: config.ca_file.clone(),
            schema: config.schema.clone(),
            connect_timeout: config.connect_timeout(),
            silence_max: config.lease(),
            allow_unsynced_commits: config.allow_unsynced_commits,
        })?;
        Ok(Self { postgres, lease: config.lease(), query_timeout: config.query_timeout() })
    }

    /// Brings the schema up to date.
    pub(super) async fn migrate(&self, client: &mut Client, migrations: &[&str]) -> Result<(), StoreError> {
        postgres::migrate(&self.postgres, client, migrations).await
    }

    /// How long a leader that is not heard of keeps its place.
    pub(super) fn lease(&self) -> Duration {
        self.lease
    }

    /// The name of the sessions that write in an epoch.
    pub(super) fn writers(&self, epoch: Epoch) -> String {
        self.postgres.name_of(&self.session(Purpose::Write(epoch)))
    }

    /// Makes a connection. The session ends when the client is dropped.
    pub(super) async fn connect(&self, purpose: Purpose) -> Result<Client, StoreError> {
        self.postgres.connect(&self.session(purpose)).await
    }

    /// A connection that commits for the leader: what it says is committed is on the disk.
    pub(super) async fn connect_writer(&self, epoch: Epoch) -> Result<Client, StoreError> {
        let client = self.connect(Purpose::Write(epoch)).await?;
        self.pin_durability(&client).await?;
        Ok(client)
    }

    /// Refuses a server that may lose what it committed.
    pub(super) async fn pin_durability(&self, client: &Client) -> Result<(), StoreError> {
        self.postgres.pin_durability(client).await
    }

    /// Connections for lookups, made as they are needed.
    pub(super) fn pool(&self, size: usize) -> Result<Pool, StartError> {
        self.postgres.pool(&self.session(Purpose::Read), size, self.query_timeout)
    }

    fn session(&self, purpose: Purpose) -> Session {
        let lease_ms = self.lease.as_millis();
        let (name, setting) = match purpose {
            Purpose::Migrate | Purpose::Load => (String::new(), None),
            Purpose::Lead => (String::new(), Some(("lock_timeout", lease_ms / 5))),
            Purpose::Write(epoch) => {
                (epoch.to_string(), Some(("idle_in_transaction_session_timeout", lease_ms)))
            }
            Purpose::Read => (String::new(), Some(("statement_timeout", self.query_timeout.as_millis()))),
        };
        let settings = setting.into_iter().map(|(name, value)| (name, value.to_string())).collect();
        Session { name, settings }
    }
}
