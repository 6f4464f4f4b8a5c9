//! Against a real server: `PAYMESH_TEST_POSTGRES_URL`. There is no skipping without it.

mod lost;
mod racing;

use mesh::testing::postgres::Schema;

use super::{PostgresConfig, PostgresStore};
use crate::store::contract::{Fixture, suite};

suite!(InSchema::new());

/// A schema of its own, which goes away with this.
struct InSchema {
    schema: Schema,
    directory: tempfile::TempDir,
}

impl InSchema {
    fn new() -> Self {
        let name = format!("test_{}", &uuid::Uuid::new_v4().simple().to_string()[..20]);
        Self { schema: Schema::new(&name), directory: tempfile::tempdir().unwrap() }
    }

    fn config(&self) -> PostgresConfig {
        let (url, password) = self.schema.url();
        let password_file = self.directory.path().join("password");
        std::fs::write(&password_file, password).unwrap();
        PostgresConfig {
            url,
            password_file: Some(password_file),
            ca_file: None,
            schema: self.schema.name().to_owned(),
            pool_max: 4,
            connect_timeout_ms: 5_000,
            query_timeout_ms: 10_000,
            // The tests' server keeps nothing on disk.
            allow_unsynced_commits: true,
        }
    }
}

impl Fixture for InSchema {
    type Store = PostgresStore;
    const ALONE: bool = false;

    async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.config()).await.unwrap()
    }
}
