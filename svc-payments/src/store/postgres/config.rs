//! How the server is reached.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps payments in PostgreSQL (13 or later) instead of a file of this service's own. Any number of replicas may share
/// one schema, and all of them serve.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The server and the database, such as `postgres://paymesh@db.internal:5432/payments`, without a
    /// password. `sslmode`: `verify-full` (the default; `require` and `verify-ca` mean the same: a certificate
    /// is always checked, with its name), `prefer` (in clear where the server has no TLS) or `disable`.
    #[schemars(example = "postgres://paymesh@db.internal:5432/payments")]
    pub url: String,
    /// A file with the password. Default: none is sent.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A file with the certificates (PEM) of the CA that the server's certificate comes from; without it no
    /// server is trusted, which leaves `prefer` and `disable`. Default: none.
    #[schemars(extend("x-file" = "public"))]
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The schema that holds what this service keeps and nothing else: up to 32 of a-z, 0-9 and '_', the first a
    /// letter. It is made where it is missing. Default: `paymesh_payments`.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// The most connections at once, beside three of this replica's own, over which batches are written. Default: 8.
    #[schemars(range(min = 1, max = 1_000))]
    #[serde(default = "default_pool_max")]
    pub pool_max: usize,
    /// How long a connection may take to be made, in milliseconds. Default: 5000.
    #[schemars(range(min = 1, max = 600_000))]
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How long a statement may take, and wait for a connection, in milliseconds. When the connection is lost in the
    /// midst of a commit, it is found out for up to three times as long whether it was done. Default: 5000.
    #[schemars(range(min = 1, max = 600_000))]
    #[serde(default = "default_query_timeout_ms")]
    pub query_timeout_ms: u64,
    /// Starts also where the server may lose what it said it had committed (`fsync` or `synchronous_commit`
    /// is off): for tests only, as a payment that was answered for can then be lost, and be charged twice.
    /// Default: false.
    #[serde(default)]
    pub allow_unsynced_commits: bool,
}

fn default_schema() -> String {
    "paymesh_payments".to_owned()
}

const fn default_pool_max() -> usize {
    8
}

const fn default_connect_timeout_ms() -> u64 {
    5_000
}

const fn default_query_timeout_ms() -> u64 {
    5_000
}

impl PostgresConfig {
    /// What is wrong with it that can be seen without a file or the server.
    ///
    /// # Errors
    /// Which setting it is, and what would be right.
    pub fn check(&self) -> Result<(), String> {
        mesh::postgres::check(&self.url, &self.schema)?;
        mesh::postgres::in_ranges(&[
            ("pool_max", self.pool_max as u64, 1, 1_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 1, 600_000),
            ("query_timeout_ms", self.query_timeout_ms, 1, 600_000),
        ])
    }

    pub(super) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }

    pub(super) fn query_timeout(&self) -> Duration {
        Duration::from_millis(self.query_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_the_name_of_its_setting() {
        type Spoil = fn(&mut PostgresConfig);
        let good: PostgresConfig =
            serde_json::from_str(r#"{"url": "postgres://paymesh@localhost/payments"}"#).unwrap();
        assert_eq!(good.check(), Ok(()));
        assert!(!good.allow_unsynced_commits);
        let cases: [(&str, Spoil); 4] = [
            ("postgres.url", |c| c.url = "mysql://x".to_owned()),
            ("postgres.schema", |c| c.schema = "a b; DROP".to_owned()),
            ("postgres.pool_max", |c| c.pool_max = 0),
            ("postgres.query_timeout_ms", |c| c.query_timeout_ms = 0),
        ];
        for (key, spoil) in cases {
            let mut config = good.clone();
            spoil(&mut config);
            let said = config.check().unwrap_err();
            assert!(said.contains(key), "{key}: {said}");
        }
        assert!(serde_json::from_str::<PostgresConfig>(r#"{"url": "x", "password": "x"}"#).is_err());
    }
}
