//! Against a real server: `PAYMESH_TEST_POSTGRES_URL`. There is no skipping without it.

mod chain;
mod opening;
mod racing;
mod rotating;
mod stalling;

use std::{cell::RefCell, path::Path};

use mesh::{
    postgres::Session,
    testing::{postgres::Schema, way::Way},
};
use tokio_postgres::Client;

use super::{PostgresAuditLog, PostgresConfig, PostgresStore};
use crate::{
    domain::canonical,
    store::contract::{audit_key, suite},
};

suite!(|dir: &Path| open(dir));
suite!(audit: |dir: &Path| log(dir));

thread_local! {
    /// A schema for each directory, which goes away when the test's thread uses another one, or ends.
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

/// What the store of a directory is opened with.
fn config(dir: &Path) -> PostgresConfig {
    // What is random of the directory's name, in small letters.
    let name = canonical::hex(dir.file_name().unwrap().as_encoded_bytes());
    let name = format!("test_{}", &name[..name.len().min(24)]);
    let (url, password) = SCHEMA.with_borrow_mut(|schema| {
        if schema.as_ref().is_none_or(|schema| schema.name() != name) {
            *schema = Some(Schema::new(&name));
        }
        schema.as_ref().unwrap().url()
    });
    let password_file = dir.join("password");
    std::fs::write(&password_file, password).unwrap();
    PostgresConfig {
        url,
        password_file: Some(password_file),
        ca_file: None,
        schema: name,
        pool_max: 4,
        keys_trusted_for_ms: 1_000,
        connect_timeout_ms: 5_000,
        query_timeout_ms: 10_000,
        // The tests' server keeps nothing on disk.
        allow_unsynced_commits: true,
    }
}

/// A way to the server, and what the store is opened with by it.
async fn way(config: &PostgresConfig) -> (Way, PostgresConfig) {
    let address = SCHEMA.with_borrow(|schema| schema.as_ref().unwrap().address());
    let way = Way::to(&address).await.unwrap();
    let url = SCHEMA.with_borrow(|schema| schema.as_ref().unwrap().url_by(way.port()));
    (way, PostgresConfig { url, ..config.clone() })
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
