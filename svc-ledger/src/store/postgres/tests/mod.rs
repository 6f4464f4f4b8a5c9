//! Against a real server: `PAYMESH_TEST_POSTGRES_URL`. There is no skipping without it.

mod draining;
mod fencing;
mod indexing;
mod interrupted;
mod killing;
mod opening;
mod overtaken;
mod protection;
mod racing;
mod reading;
mod serving;
mod unknown;

use std::{sync::Arc, time::Duration};

use tokio_postgres::Client;

use super::{
    Epoch, Postgres, PostgresConfig, PostgresJournal,
    journal::APPEND,
    leadership::{Leadership, Member, look, take},
    place::Place,
    session::{Purpose, Server, failed},
};
use crate::store::ports::Frame;

const VARIABLE: &str = "PAYMESH_TEST_POSTGRES_URL";
/// Far more than any step needs; only a wrong test waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// A schema of its own, which goes away with it.
pub(super) struct Fixture {
    pub(super) config: PostgresConfig,
    admin: Client,
    directory: tempfile::TempDir,
}

impl Fixture {
    /// An empty ledger that nobody leads.
    pub(super) async fn new() -> Self {
        let fixture = Self::without_schema().await;
        fixture.open("first").await;
        fixture
    }

    async fn without_schema() -> Self {
        let url = std::env::var(VARIABLE).unwrap_or_else(|_| {
            panic!("{VARIABLE} is not set; run `cargo xtask test`, or `cargo xtask servers -- cargo test`")
        });
        let (url, password) = without_password(&url);
        let directory = tempfile::tempdir().unwrap();
        let password_file = directory.path().join("password");
        std::fs::write(&password_file, format!("{password}\n")).unwrap();
        let key_file = directory.path().join("journal.key");
        std::fs::write(&key_file, [7; 32]).unwrap();
        let schema = format!("test_{}", &uuid::Uuid::new_v4().simple().to_string()[..20]);
        let config = PostgresConfig {
            url: format!("{url}?sslmode=disable"),
            password_file: Some(password_file),
            ca_file: None,
            key_file,
            name: "first".to_owned(),
            address: String::new(),
            schema,
            pool_max: 4,
            lease_ms: 2_500,
            connect_timeout_ms: 5_000,
            query_timeout_ms: 10_000,
            // The tests' server keeps nothing on disk.
            allow_unsynced_commits: true,
        };
        let admin = Server::new(&config).unwrap().connect(Purpose::Migrate).await.unwrap();
        Self { config, admin, directory }
    }

    /// A replica of that name.
    pub(super) async fn open(&self, name: &str) -> (Postgres, Leadership) {
        let config = PostgresConfig {
            name: name.to_owned(),
            address: format!("{name}.test:1"),
            ..self.config.clone()
        };
        Postgres::open(&config).await.unwrap()
    }

    /// The same server by another way, a proxy's.
    fn at(&self, port: u16) -> Server {
        Server::new(&self.config_at(port)).unwrap()
    }

    fn config_at(&self, port: u16) -> PostgresConfig {
        let (_, rest) = self.config.url.rsplit_once('@').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        let (user, _) = self.config.url.rsplit_once('@').unwrap();
        let url = format!("{user}@127.0.0.1:{port}/{database}");
        PostgresConfig { url, ..self.config.clone() }
    }

    pub(super) fn server(&self) -> Server {
        Server::new(&self.config).unwrap()
    }

    /// Takes over, whether or not the lease of the one before has ended.
    pub(super) async fn take_over(&self, name: &str) -> Epoch {
        self.end_lease().await;
        self.take_over_ended(name).await
    }

    /// Takes over from a leader whose lease has ended.
    async fn take_over_ended(&self, name: &str) -> Epoch {
        let client = self.server().connect(Purpose::Lead).await.unwrap();
        let of = look(&client).await.unwrap().epoch;
        let member = Member { name: name.to_owned(), address: format!("{name}.test:1") };
        take(&client, &self.server(), &member, of).await.unwrap().unwrap()
    }

    async fn end_lease(&self) {
        self.run("UPDATE leadership SET lease_until = clock_timestamp()").await;
    }

    async fn journal(&self, epoch: Epoch) -> PostgresJournal {
        self.journal_with(epoch, APPEND).await
    }

    async fn journal_with(&self, epoch: Epoch, append: &str) -> PostgresJournal {
        PostgresJournal::open_with(&self.server(), epoch, Place::of_a_follower(), append).await.unwrap()
    }

    /// A client without any of our settings but the schema.
    async fn client(&self) -> Client {
        let url = std::env::var(VARIABLE).unwrap();
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(&format!("SET search_path = {}", self.config.schema)).await.unwrap();
        client
    }

    async fn run(&self, statements: &str) {
        self.admin.batch_execute(statements).await.unwrap();
    }

    async fn count(&self, query: &str) -> i64 {
        self.admin.query_one(query, &[]).await.unwrap().get(0)
    }

    /// Sequence and epoch of each frame in the journal.
    async fn frames(&self) -> Vec<(i64, i64)> {
        let rows = self.admin.query("SELECT sequence, epoch FROM journal ORDER BY 1", &[]).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    }

    /// Waits until that many sessions of the schema wait for a lock.
    async fn until_blocked(&self, sessions: i64) {
        let query = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'
                AND application_name LIKE 'paymesh-ledger {}%'",
            self.config.schema
        );
        let blocked = async {
            while self.count(&query).await < sessions {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(PATIENCE, blocked).await.expect("a session waits for a lock");
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        let (server, schema) = (self.server(), self.config.schema.clone());
        let dropping = async move {
            let client = server.connect(Purpose::Migrate).await?;
            // What a failed test still holds is left to whoever throws the database away.
            let drop = format!("SET lock_timeout = '3s'; DROP SCHEMA IF EXISTS {schema} CASCADE");
            client.batch_execute(&drop).await.map_err(failed)
        };
        // A runtime of its own: the test's does not run while this one waits.
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(dropping)
        };
        if let Ok(Err(error)) = std::thread::spawn(work).join() {
            eprintln!("the schema {} stays: {error}", self.config.schema);
        }
    }
}

/// The URL without its password, and the password.
fn without_password(url: &str) -> (String, String) {
    let (scheme, rest) = url.split_once("://").unwrap();
    let (credential, host) = rest.rsplit_once('@').unwrap();
    let (user, password) = credential.split_once(':').unwrap();
    (format!("{scheme}://{user}@{host}"), password.to_owned())
}

/// A frame as far as the journal looks into it.
fn frame(sequence: u64) -> Frame {
    let bytes: Arc<[u8]> = format!("frame {sequence}").into_bytes().into();
    Frame { sequence, hash: [sequence.to_le_bytes()[0]; 32], bytes }
}
