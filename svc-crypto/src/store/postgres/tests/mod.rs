//! Against a real server: `PAYMESH_TEST_POSTGRES_URL`. There is no skipping without it.

mod chain;
mod opening;
mod racing;

use std::{cell::RefCell, path::Path};

use mesh::postgres::Session;
use tokio_postgres::{Client, NoTls};

use super::{PostgresAuditLog, PostgresConfig, PostgresStore};
use crate::store::contract::{audit_key, suite};

const VARIABLE: &str = "PAYMESH_TEST_POSTGRES_URL";

suite!(|dir: &Path| open(dir));
suite!(audit: |dir: &Path| log(dir));

/// A schema for each directory, which goes away when the test's thread uses another one, or ends.
struct Schema(String);

impl Drop for Schema {
    fn drop(&mut self) {
        // What a failed test still holds is left to whoever throws the database away.
        let drop = format!("SET lock_timeout = '3s'; DROP SCHEMA IF EXISTS {} CASCADE", self.0);
        elsewhere(async move {
            let said = |error: tokio_postgres::Error| eprintln!("a schema stays: {error}");
            let (client, connection) = match tokio_postgres::connect(&url(), NoTls).await {
                Ok(connected) => connected,
                Err(error) => return said(error),
            };
            tokio::spawn(connection);
            client.batch_execute(&drop).await.unwrap_or_else(said);
        });
    }
}

thread_local! {
    static SCHEMA: RefCell<Option<Schema>> = const { RefCell::new(None) };
}

/// On a runtime of its own, waited for.
fn elsewhere<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(work)
    };
    std::thread::spawn(run).join().unwrap()
}

fn url() -> String {
    std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set; run `cargo xtask test`, or `cargo xtask servers -- cargo test`")
    })
}

/// What the store of a directory is opened with.
fn config(dir: &Path) -> PostgresConfig {
    let url = url();
    let (scheme, rest) = url.split_once("://").unwrap();
    let (credential, host) = rest.rsplit_once('@').unwrap();
    let (user, password) = credential.split_once(':').unwrap();
    let password_file = dir.join("password");
    std::fs::write(&password_file, password).unwrap();
    let name = dir.file_name().unwrap().as_encoded_bytes();
    let name: String = name.iter().map(|byte| format!("{byte:02x}")).collect();
    let config = PostgresConfig {
        url: format!("{scheme}://{user}@{host}?sslmode=disable"),
        password_file: Some(password_file),
        ca_file: None,
        schema: format!("test_{}", &name[..name.len().min(24)]),
        pool_max: 4,
        keys_trusted_for_ms: 1_000,
        connect_timeout_ms: 5_000,
        query_timeout_ms: 10_000,
        // The tests' server keeps nothing on disk.
        allow_unsynced_commits: true,
    };
    SCHEMA.with_borrow_mut(|schema| {
        if schema.as_ref().is_none_or(|Schema(known)| *known != config.schema) {
            *schema = Some(Schema(config.schema.clone()));
        }
    });
    config
}

/// The store of a directory.
fn open(dir: &Path) -> PostgresStore {
    let config = config(dir);
    let migrated = config.clone();
    elsewhere(async move { PostgresStore::open(&migrated).await.map(drop) }).unwrap();
    PostgresStore::new(&config).unwrap()
}

/// The audit log of a directory.
fn log(dir: &Path) -> PostgresAuditLog {
    open(dir).audit_log(audit_key())
}

/// A session in the schema, with nothing else set.
async fn client(config: &PostgresConfig) -> Client {
    PostgresStore::new(config).unwrap().server.connect(&Session::default()).await.unwrap()
}
