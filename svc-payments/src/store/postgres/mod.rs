//! Payments in PostgreSQL, for any number of replicas.
//!
//! - `columns`, `deciding`, `batch`: commits, many in one transaction, each with an outcome of its own.
//! - `due`: what is under way, taken up by one replica at a time.
//! - `reading`: what is asked for.
//! - `config`: the way to the server, over [`mesh::postgres`].
//!
//! All transactions are READ COMMITTED; what must not have changed is locked or said in the statement that writes.

mod batch;
mod columns;
mod config;
mod deciding;
mod due;
mod reading;
#[cfg(test)]
mod tests;

use std::time::Duration;

use deadpool_postgres::{Object, Pool};
use mesh::{
    BatchLimits, Batcher, StartError, StoreError, idempotency,
    postgres::{Server, ServerSettings, Session, failed, migrate, within},
};
use money::{PaymentId, TenantId, Timestamp};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Claim, Commit, CommitError, Committed, Filter, Known, Page, Store, Work};
use crate::domain::{
    payment::{Inspection, Payment, Recorded},
    posting::Posting,
    transition::{self, Status},
};

pub use self::config::PostgresConfig;

/// Applied in order, each once and each in a transaction of its own. One that was released never changes.
const MIGRATIONS: &[&str] = &[include_str!("schema/001_payments.sql"), mesh::postgres::idempotency::SCHEMA];

/// How many batches of commits are under way at once: while one waits for the disk, the next is made.
const BATCHES: usize = 2;
/// The most commits in one batch.
const BATCH_MAX: usize = 256;

/// Keeps payments in one schema. Cheap to clone.
#[derive(Clone)]
pub struct PostgresStore {
    pool: Pool,
    timeout: Duration,
    commits: Batcher<columns::Item, deciding::Outcome>,
    confirmed: Batcher<(Uuid, u32), Result<(), StoreError>>,
}

impl PostgresStore {
    /// Connects, and brings the schema up to date.
    ///
    /// # Errors
    /// A setting that is wrong, a server that cannot be reached or may lose what it commits, and a schema that a
    /// newer program has migrated.
    pub async fn open(config: &PostgresConfig) -> Result<Self, StartError> {
        config.check().map_err(StartError::Config)?;
        let server = Server::new(&ServerSettings {
            application: "paymesh-payments",
            url: config.url.clone(),
            password_file: config.password_file.clone(),
            ca_file: config.ca_file.clone(),
            schema: config.schema.clone(),
            connect_timeout: config.connect_timeout(),
            silence_max: config.query_timeout(),
            allow_unsynced_commits: config.allow_unsynced_commits,
        })?;
        let mut client = server.connect(&Session::default()).await?;
        server.pin_durability(&client).await?;
        migrate(&server, &mut client, MIGRATIONS).await?;
        add_steps(&client).await?;
        Self::with(&server, config)
    }

    fn with(server: &Server, config: &PostgresConfig) -> Result<Self, StartError> {
        let timeout = config.query_timeout();
        let most = timeout.as_millis().to_string();
        let settings =
            vec![("statement_timeout", most.clone()), ("idle_in_transaction_session_timeout", most)];
        let session = Session { name: String::new(), settings: settings.clone() };
        let pool = server.pool_of_writers(&session, config.pool_max, timeout)?;
        // Each row is found by its key, however small the server believes a table to be.
        let by_key = ["enable_seqscan", "enable_hashjoin", "enable_mergejoin", "jit"];
        let settings = settings.into_iter().chain(by_key.map(|name| (name, "off".to_owned()))).collect();
        let session = Session { name: "batches".to_owned(), settings };
        let batches = server.pool_of_writers(&session, BATCHES + 1, timeout)?;
        let limits = BatchLimits { items_max: BATCH_MAX, ..BatchLimits::default() };
        let of_commits = batches.clone();
        let commits = Batcher::on_task(limits, BATCHES, move |items| {
            let pool = of_commits.clone();
            // Boxed, as a batch is a large future.
            Box::pin(async move { batch::carry_out(&pool, timeout, items).await })
        });
        let confirmed = Batcher::on_task(limits, 1, move |done| {
            let pool = batches.clone();
            async move { batch::postings_done(&pool, timeout, done).await }
        });
        Ok(Self { pool, timeout, commits, confirmed })
    }

    /// Deletes answers to idempotency keys that were kept for long enough, and says how many.
    ///
    /// # Errors
    /// [`StoreError::Server`].
    pub async fn prune(&self, now: Timestamp) -> Result<usize, StoreError> {
        self.with_client(async |client| mesh::postgres::idempotency::prune(client, now).await).await
    }

    /// On a connection of the pool.
    async fn with_client<T, E: From<StoreError>>(
        &self,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, E>,
    ) -> Result<T, E> {
        within(&self.pool, self.timeout, work).await
    }
}

/// Lets payments take the steps that this program knows, and begin in any state. Those of an older or newer one stay.
async fn add_steps(client: &Client) -> Result<(), StoreError> {
    let begins = Status::ALL.into_iter().map(|status| ("", status.name()));
    let steps = transition::reachable().into_iter().map(|(from, to)| (from.name(), to.name()));
    let (was, becomes): (Vec<&str>, Vec<&str>) = begins.chain(steps).unzip();
    let add =
        "INSERT INTO payment_step (was, becomes) SELECT * FROM unnest($1::text[], $2::text[]) ORDER BY 1, 2
        ON CONFLICT DO NOTHING";
    client.execute(add, &[&was, &becomes]).await.map(drop).map_err(failed)
}

impl Store for PostgresStore {
    async fn commit(&self, commit: Commit, now: Timestamp) -> Result<Committed, CommitError> {
        let item = columns::Item::new(commit, now)?;
        self.commits.call(item).await.map_err(StoreError::from)?
    }

    async fn find_claim(&self, claim: Claim) -> Result<Option<Known>, CommitError> {
        let found = async |client: &mut Object| {
            mesh::postgres::idempotency::find(&*client, &claim.scope, &claim.fingerprint).await
        };
        Ok(match self.with_client(found).await? {
            None | Some(idempotency::Known::New) => None,
            Some(idempotency::Known::Underway { subject }) => Some(Known::Underway { subject }),
            Some(idempotency::Known::Answered(answer)) => Some(Known::Answered(answer)),
        })
    }

    async fn postings(&self, _: TenantId, payment: PaymentId) -> Result<Vec<Posting>, StoreError> {
        self.with_client(async |client| reading::postings(client, payment).await).await
    }

    async fn postings_done(&self, payment: PaymentId, ordinal: u32) -> Result<(), StoreError> {
        self.confirmed.call((payment.uuid(), ordinal)).await?
    }

    async fn take_due(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Work>, StoreError> {
        self.with_client(async |client| due::take(client, now, until, limit).await).await
    }

    async fn put_off(&self, work: Work, until: Timestamp) -> Result<(), StoreError> {
        self.with_client(async |client| due::put_off(client, &work, until).await).await
    }

    /// Nothing: others may be at it, and what a crash of this replica left is due when its leases end.
    async fn make_all_due(&self, _: Timestamp) -> Result<(), StoreError> {
        Ok(())
    }

    async fn make_due(&self, payment: PaymentId, now: Timestamp) -> Result<Option<TenantId>, StoreError> {
        self.with_client(async |client| due::make_due(client, payment, now).await).await
    }

    async fn by_processor_reference(
        &self,
        processor: String,
        reference: String,
    ) -> Result<Option<(TenantId, PaymentId)>, StoreError> {
        if reference.is_empty() {
            return Ok(None);
        }
        let find =
            async |client: &mut Object| reading::by_processor_reference(client, &processor, &reference).await;
        self.with_client(find).await
    }

    async fn payment(&self, tenant: TenantId, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.with_client(async |client| reading::payment(client, &tenant, id).await).await
    }

    async fn payments(&self, tenant: TenantId, filter: Filter) -> Result<Vec<Payment>, StoreError> {
        self.with_client(async |client| reading::payments(client, &tenant, &filter).await).await
    }

    async fn events(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        page: Page<i64>,
    ) -> Result<Option<(Payment, Vec<Recorded>)>, StoreError> {
        self.with_client(async |client| reading::events(client, &tenant, payment, page).await).await
    }

    async fn inspections(&self, limit: usize) -> Result<Vec<Inspection>, StoreError> {
        self.with_client(async |client| reading::inspections(client, limit).await).await
    }
}

type Values<'a> = [&'a (dyn tokio_postgres::types::ToSql + Sync)];

async fn rows(
    client: &Object,
    statement: &str,
    values: &Values<'_>,
) -> Result<Vec<tokio_postgres::Row>, StoreError> {
    let statement = client.prepare_cached(statement).await.map_err(failed)?;
    client.query(&statement, values).await.map_err(failed)
}
