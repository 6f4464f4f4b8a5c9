//! The ledger in PostgreSQL: one schema is one ledger.
//!
//! - `journal`: the frames, as a table. Each append checks the epoch in its own transaction.
//! - `index`: the tables that lookups read, and with them the accounts' balances, behind a watermark.
//! - `snapshot`: accounts and open reservations at the watermark, for a new leader.
//! - `takeover`: from those and the journal to what an engine begins with.
//! - `replica`: has an engine while it leads, and names the leader while it does not.
//! - `archive`: the journal, read beside its writer.
//! - `leader`, `leadership`: which replica writes. A lease says when another one may take over; the epoch
//!   makes it safe. `place`: whether this one may answer, and who may instead.
//! - `session`, `config`: the way to the server, over [`mesh::postgres`].
//!
//! All transactions are READ COMMITTED. Of the two rows that fence, `leadership` is locked before `watermark`.

mod archive;
mod config;
mod index;
mod journal;
mod leader;
mod leadership;
mod place;
mod replica;
mod session;
mod snapshot;
mod takeover;
#[cfg(test)]
mod tests;

use deadpool_postgres::{Object, Pool};
use mesh::{StartError, StoreError};
use tokio::sync::watch;

use self::{
    leadership::Member,
    place::Place,
    session::{Purpose, Server, failed},
};
use super::ports::{Frame, JournalError, Sequence, Snapshot};
use crate::journal::{JournalKey, key::KeyId};

pub use self::{
    archive::PostgresPages,
    config::PostgresConfig,
    index::PostgresIndex,
    journal::PostgresJournal,
    leader::{Epoch, Role},
    leadership::{Leadership, Lease},
    replica::{PostgresStore, Replica},
};

/// Applied in order, each once and each in a transaction of its own. One that was released never changes.
const MIGRATIONS: &[&str] = &[include_str!("schema/001_ledger.sql")];

/// A ledger in PostgreSQL, as one replica sees it. Cheap to clone.
#[derive(Clone)]
pub struct Postgres {
    server: Server,
    pool: Pool,
    role: watch::Receiver<Role>,
    lease: Lease,
    given_up: watch::Sender<Epoch>,
    key: JournalKey,
}

impl Postgres {
    /// Connects, brings the schema up to date and compares the journal's key with the one that the first
    /// replica ever had. Nobody leads here before [`Leadership::keep`] runs.
    pub async fn open(config: &PostgresConfig) -> Result<(Self, Leadership), StartError> {
        let key = JournalKey::read(&config.key_file)
            .map_err(|error| StartError::Config(format!("postgres.key_file: {error}")))?;
        let server = Server::new(config)?;
        let mut client = server.connect(Purpose::Migrate).await?;
        server.pin_durability(&client).await?;
        server.migrate(&mut client, MIGRATIONS).await?;
        if !is_key(&client, key.id()).await? {
            return Err(StartError::Config(
                "postgres.key_file: this ledger's journal was begun with another key".to_owned(),
            ));
        }
        let pool = server.pool(config.pool_max)?;
        let member = Member { name: config.name.clone(), address: config.address.clone() };
        let leadership = Leadership::new(server.clone(), member);
        let (role, lease, given_up) = (leadership.role(), leadership.lease(), leadership.given_up());
        Ok((Self { server, pool, role, lease, given_up, key }, leadership))
    }

    /// Who leads. Whoever is told [`Role::Leading`] reads the state first, and then writes in that epoch;
    /// whoever is told otherwise stops at once and refuses what it is asked.
    pub fn role(&self) -> watch::Receiver<Role> {
        self.role.clone()
    }

    /// Whether this replica leads at this very moment.
    pub fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Gives an epoch up, to lead again in a later one: after an append whose outcome is not known, what is
    /// still under way must not come through later.
    pub fn give_up(&self, epoch: Epoch) {
        self.given_up.send_replace(epoch);
    }

    /// Whether an epoch is the last one that began, as the server says; `false` where it does not say.
    async fn is_led_in(&self, epoch: Epoch) -> bool {
        let seen = match self.reader().await {
            Ok(client) => leadership::look(&client).await,
            Err(error) => Err(error),
        };
        seen.is_ok_and(|seen| seen.epoch == epoch)
    }

    /// The journal, to write in the epoch that this replica leads.
    pub async fn journal(&self, epoch: Epoch) -> Result<PostgresJournal, StoreError> {
        PostgresJournal::open(&self.server, epoch, self.place()).await
    }

    fn place(&self) -> Place {
        Place::new(self.lease(), self.role())
    }

    /// The index, to bring along in the epoch that this replica leads.
    pub fn index(&self, epoch: Epoch) -> Result<PostgresIndex, StoreError> {
        PostgresIndex::new(self.server.clone(), self.pool.clone(), epoch)
    }

    /// The state at the index's watermark. What the journal has after it happened later.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        snapshot::load(&self.server).await
    }

    /// The frames that follow a record, a page of them; none at the journal's end.
    pub async fn frames_after(&self, after: Sequence) -> Result<Vec<Frame>, JournalError> {
        let client = self.reader().await.map_err(|error| JournalError::Failed(error.to_string()))?;
        journal::read(&client, after).await
    }

    /// The last record's place; 0 for the empty journal.
    pub async fn head(&self) -> Result<Sequence, StoreError> {
        journal::head(&*self.reader().await?).await
    }

    async fn reader(&self) -> Result<Object, StoreError> {
        session::reader(&self.pool).await
    }
}

async fn is_key(client: &tokio_postgres::Client, key: KeyId) -> Result<bool, StoreError> {
    let mine = key.as_slice();
    let insert = "INSERT INTO cluster (key_id) VALUES ($1) ON CONFLICT DO NOTHING";
    client.execute(insert, &[&mine]).await.map_err(failed)?;
    let row = client.query_one("SELECT key_id FROM cluster", &[]).await.map_err(failed)?;
    Ok(row.get::<_, &[u8]>(0) == mine)
}
