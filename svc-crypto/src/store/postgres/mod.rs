//! Keys, cards and the audit log in PostgreSQL, for any number of replicas.
//!
//! - `named`, `own`, `root`, `cards`, `idempotency`, `imports`: the tables, each with what is asked of it.
//! - `audit`: the log, one chain that all replicas append to.
//! - `config`: the way to the server, over [`mesh::postgres`].
//!
//! All transactions are READ COMMITTED: what must be unique, or must not have changed, is said in the statement that
//! writes. Rows are locked in this order: `root`, `last_change`, `named_key`, `key` (within one statement);
//! `card_index`, `card`, `digit_token`, `idempotency`.

mod audit;
mod cards;
mod config;
mod idempotency;
mod imports;
mod named;
mod own;
mod root;
#[cfg(test)]
mod tests;

use std::time::Duration;

use deadpool_postgres::{GenericClient, Object, Pool};
use mesh::{
    StartError, StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
    postgres::{Server, ServerSettings, Session, failed, migrate, within},
};
use money::{TenantId, Timestamp, TokenRef};
use tokio_postgres::{Row, types::ToSql};
use uuid::Uuid;

use super::{
    Change, Deletion, Kept, Put, PutCard, PutError, RootRecord, RootedError, RootedKey, Store, StoredCard,
};
use crate::domain::{
    audit::ChainKey,
    key::Key,
    keys::{KeyName, Slot, WrappedKey},
    rooted::RootName,
};

pub use self::{audit::PostgresAuditLog, config::PostgresConfig};

/// Applied in order, each once and each in a transaction of its own. One that was released never changes.
const MIGRATIONS: &[&str] = &[
    include_str!("schema/001_crypto.sql"),
    include_str!("schema/002_roots.sql"),
    include_str!("schema/003_imports.sql"),
];

/// Keeps keys and cards in one schema. Cheap to clone.
#[derive(Clone)]
pub struct PostgresStore {
    server: Server,
    pool: Pool,
    /// One connection, for whoever follows changes: waits for nobody who looks things up.
    following: Pool,
    timeout: Duration,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// A setting that is wrong, a server that cannot be reached or may lose what it commits, and a schema that a
    /// newer program has migrated.
    pub async fn open(config: &PostgresConfig) -> Result<Self, StartError> {
        let store = Self::new(config)?;
        let mut client = store.server.connect(&Session::default()).await?;
        store.server.pin_durability(&client).await?;
        migrate(&store.server, &mut client, MIGRATIONS).await?;
        Ok(store)
    }

    /// Does not connect.
    fn new(config: &PostgresConfig) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let server = Server::new(&ServerSettings {
            application: "paymesh-crypto",
            url: config.url.clone(),
            password_file: config.password_file.clone(),
            ca_file: config.ca_file.clone(),
            schema: config.schema.clone(),
            connect_timeout: config.connect_timeout(),
            silence_max: config.query_timeout(),
            allow_unsynced_commits: config.allow_unsynced_commits,
        })?;
        let (timeout, trusted) = (config.query_timeout(), config.keys_trusted_for());
        let settings = |most: u128| Session {
            name: String::new(),
            settings: vec![
                ("statement_timeout", most.to_string()),
                ("idle_in_transaction_session_timeout", most.to_string()),
            ],
        };
        let pool = server.pool_of_writers(&settings(timeout.as_millis()), config.pool_max, timeout)?;
        let following = server.pool(&settings(trusted.as_millis()), 1, trusted)?;
        Ok(Self { server, pool, following, timeout })
    }

    /// The audit log in the same schema. Its hashes are made with `key`.
    pub fn audit_log(&self, key: ChainKey) -> PostgresAuditLog {
        PostgresAuditLog::new(self.server.clone(), self.pool.clone(), key, self.timeout)
    }

    /// Deletes answers to idempotency keys that were kept for long enough, and says how many; and imports whose time is
    /// over.
    ///
    /// # Errors
    /// [`StoreError::Server`].
    pub async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.with(async |client| {
            imports::prune(client, now).await?;
            mesh::postgres::idempotency::prune(client, now).await
        })
        .await
    }

    /// On a connection of the pool.
    async fn with<T, E: From<StoreError>>(
        &self,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, E>,
    ) -> Result<T, E> {
        within(&self.pool, self.timeout, work).await
    }

    /// On the connection that waits for nobody else.
    async fn following<T>(
        &self,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        within(&self.following, self.timeout, work).await
    }
}

impl Store for PostgresStore {
    async fn root(&self) -> Result<Option<RootRecord>, StoreError> {
        self.with(async |client| root::select(client).await).await
    }

    async fn adopt_root(&self, id: Uuid, before: Option<Uuid>) -> Result<RootRecord, StoreError> {
        self.with(async |client| root::adopt(client, id, before).await).await
    }

    async fn settle_root(&self, root: RootName) -> Result<Option<RootRecord>, StoreError> {
        self.with(async |client| root::settle(client, &root).await).await
    }

    async fn keys_under_root(
        &self,
        after: Option<RootedKey>,
        limit: usize,
    ) -> Result<Vec<RootedKey>, StoreError> {
        self.with(async |client| root::keys(client, after.as_ref(), limit).await).await
    }

    async fn rewrap_key(&self, from: RootedKey, wrapped: Vec<u8>) -> Result<bool, RootedError> {
        self.with(async |client| root::rewrap(client, &from, &wrapped).await).await
    }

    async fn named_key(&self, tenant: TenantId, name: KeyName) -> Result<Option<Key>, StoreError> {
        self.with(async |client| named::select(client, &tenant, &name).await).await
    }

    async fn revision(&self, tenant: TenantId, name: KeyName) -> Result<Option<u64>, StoreError> {
        self.with(async |client| named::revision(client, &tenant, &name).await).await
    }

    async fn named_keys(
        &self,
        tenant: TenantId,
        after: Option<KeyName>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        self.with(async |client| named::list(client, &tenant, after.as_ref(), limit).await).await
    }

    async fn keep_key(&self, key: Key) -> Result<Kept, StoreError> {
        self.with(async |client| named::keep(client, &key).await).await
    }

    async fn keys_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>, StoreError> {
        self.with(async |client| named::due(client, now, limit).await).await
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.following(async |client| named::changes(client, after, limit).await).await
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        self.following(async |client| named::last_change(client).await).await
    }

    async fn session(&self) -> Result<u64, StoreError> {
        self.following(async |client| named::session(client).await).await
    }

    async fn key(&self, slot: Slot) -> Result<Vec<WrappedKey>, StoreError> {
        self.with(async |client| own::select(client, &slot).await).await
    }

    async fn make_key(
        &self,
        slot: Slot,
        first: WrappedKey,
        now: Timestamp,
    ) -> Result<Vec<WrappedKey>, RootedError> {
        self.with(async |client| own::make(client, &slot, &first, now).await).await
    }

    async fn put_card(&self, put: PutCard) -> Result<Put, PutError> {
        self.with(async |client| cards::put(client, put).await).await
    }

    async fn replay(&self, scope: Scope, fingerprint: Fingerprint) -> Result<Option<Vec<u8>>, Reuse> {
        self.with(async |client| idempotency::find(client, &scope, &fingerprint).await).await
    }

    async fn cards(&self, ids: Vec<(TenantId, TokenRef)>) -> Result<Vec<Option<StoredCard>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.with(async |client| cards::select(client, &ids).await).await
    }

    async fn delete_cards(
        &self,
        ids: Vec<(TenantId, TokenRef)>,
        now: Timestamp,
    ) -> Result<Vec<Deletion>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        self.with(async |client| cards::delete(client, &ids, now).await).await
    }
}

type Values<'a> = [&'a (dyn ToSql + Sync)];

async fn rows(
    client: &impl GenericClient,
    statement: &str,
    values: &Values<'_>,
) -> Result<Vec<Row>, StoreError> {
    let statement = client.prepare_cached(statement).await.map_err(failed)?;
    client.query(&statement, values).await.map_err(failed)
}

/// The only row that there can be, if it is there.
async fn row(
    client: &impl GenericClient,
    statement: &str,
    values: &Values<'_>,
) -> Result<Option<Row>, StoreError> {
    let statement = client.prepare_cached(statement).await.map_err(failed)?;
    client.query_opt(&statement, values).await.map_err(failed)
}

/// How many rows were changed.
async fn execute(
    client: &impl GenericClient,
    statement: &str,
    values: &Values<'_>,
) -> Result<u64, StoreError> {
    let statement = client.prepare_cached(statement).await.map_err(failed)?;
    client.execute(&statement, values).await.map_err(failed)
}

/// How many rows are asked for.
fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
