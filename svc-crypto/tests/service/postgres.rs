//! What a service on PostgreSQL is configured with: a schema for each test, in the server that tests get.

use std::path::Path;

use mesh::testing::postgres::Schema;
use svc_crypto::{config::Config, store::PostgresConfig};

/// A schema, and the files that go with it.
pub(crate) struct Database {
    pub(crate) schema: Schema,
    dir: tempfile::TempDir,
}

impl Database {
    /// An empty one, and a root key for all replicas.
    pub(crate) fn new() -> Self {
        let name = format!("test_{}", &uuid::Uuid::new_v4().simple().to_string()[..20]);
        let database = Self { schema: Schema::new(&name), dir: tempfile::tempdir().unwrap() };
        std::fs::write(database.path("root.key"), [7; 32]).unwrap();
        std::fs::write(database.path("password"), database.schema.url().1).unwrap();
        database
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    /// What a replica is started with.
    pub(crate) fn config(&self) -> Config {
        self.config_with(&self.path("root.key"), self.schema.url().0)
    }

    /// The same with another root key.
    pub(crate) fn config_of_another_root(&self) -> Config {
        std::fs::write(self.path("other.key"), [8; 32]).unwrap();
        self.config_with(&self.path("other.key"), self.schema.url().0)
    }

    /// The same by a way on this port.
    pub(crate) fn config_by(&self, port: u16) -> Config {
        self.config_with(&self.path("root.key"), self.schema.url_by(port))
    }

    fn config_with(&self, root: &Path, url: String) -> Config {
        let postgres = PostgresConfig {
            url,
            password_file: Some(self.path("password")),
            ca_file: None,
            schema: self.schema.name().to_owned(),
            pool_max: 4,
            keys_trusted_for_ms: 1_000,
            // A machine that is busy with other tests is no reason to fail.
            connect_timeout_ms: 30_000,
            query_timeout_ms: 30_000,
            // The tests' server keeps nothing on disk.
            allow_unsynced_commits: true,
        };
        Config {
            root_key_file: Some(root.to_owned()),
            postgres: Some(postgres),
            audit_deadline_ms: 30_000,
            ..Config::default()
        }
    }
}
