//! How the server is reached, and what this replica is called.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The longest name of a replica, in bytes.
const NAME_LENGTH_MAX: usize = 253;

/// Keeps the ledger in PostgreSQL (13 or later) instead of files of its own. Replicas share one schema: one
/// of them leads, the others answer UNAVAILABLE with its name until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// The server and the database, such as `postgres://paymesh@db.internal:5432/ledger`, without a
    /// password. `sslmode`: `verify-full` (the default; `require` and `verify-ca` mean the same: a certificate
    /// is always checked, with its name), `prefer` (in clear where the server has no TLS) or `disable`.
    #[schemars(example = "postgres://paymesh@db.internal:5432/ledger")]
    pub url: String,
    /// A file with the password. Default: none is sent.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// A file with the certificates (PEM) of the CA that the server's certificate comes from; without it no
    /// server is trusted, which leaves `prefer` and `disable`. Default: none.
    #[schemars(extend("x-file" = "public"))]
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// A file with the journal's key, 32 bytes, the same for all replicas. A journal that was begun with
    /// another key is refused.
    pub key_file: PathBuf,
    /// What this replica is called, unlike every other one: a pod's name, for example. Callers of the others
    /// are told it while it leads.
    #[schemars(example = "svc-ledger-0")]
    pub name: String,
    /// Where callers reach this replica, as they are told by the others. Default: not told.
    #[serde(default)]
    pub address: String,
    /// The schema that holds this ledger and nothing else: up to 32 of a-z, 0-9 and '_', the first a letter.
    /// It is made where it is missing. Default: `paymesh_ledger`.
    #[serde(default = "default_schema")]
    pub schema: String,
    /// The most connections for lookups at once, beside those that the leader has for itself: four, and one more
    /// while it begins. Default: 8.
    #[schemars(range(min = 1, max = 1_000))]
    #[serde(default = "default_pool_max")]
    pub pool_max: usize,
    /// How long a leader that is not heard of keeps its place, in milliseconds; a fifth of it is how often it
    /// is heard of. Another one leads when this has passed since it was last heard of, or up to 1.4 times as long
    /// where a lock is left behind, and serves once it has read all accounts. Default: 5000.
    #[schemars(range(min = 500, max = 600_000))]
    #[serde(default = "default_lease_ms")]
    pub lease_ms: u64,
    /// How long a connection may take to be made, in milliseconds. Default: 5000.
    #[schemars(range(min = 1, max = 600_000))]
    #[serde(default = "default_connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// How long a lookup may take, and wait for a connection, in milliseconds. Default: 10000.
    #[schemars(range(min = 1, max = 600_000))]
    #[serde(default = "default_query_timeout_ms")]
    pub query_timeout_ms: u64,
    /// Starts also where the server may lose what it said it had committed (`fsync` or `synchronous_commit`
    /// is off): for tests only, as acknowledged transfers can then be lost. Default: false.
    #[serde(default)]
    pub allow_unsynced_commits: bool,
}

fn default_schema() -> String {
    "paymesh_ledger".to_owned()
}

const fn default_pool_max() -> usize {
    8
}

const fn default_lease_ms() -> u64 {
    5_000
}

const fn default_connect_timeout_ms() -> u64 {
    5_000
}

const fn default_query_timeout_ms() -> u64 {
    10_000
}

impl PostgresConfig {
    /// What is wrong with it that can be seen without a file or the server.
    pub fn check(&self) -> Result<(), String> {
        mesh::postgres::check(&self.url, &self.schema)?;
        for (key, text) in [("name", &self.name), ("address", &self.address)] {
            if text.len() > NAME_LENGTH_MAX || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(format!(
                    "postgres.{key} must be at most {NAME_LENGTH_MAX} visible ASCII characters"
                ));
            }
        }
        if self.name.is_empty() {
            return Err("postgres.name must name this replica, unlike every other one".to_owned());
        }
        mesh::postgres::in_ranges(&[
            ("pool_max", self.pool_max as u64, 1, 1_000),
            ("lease_ms", self.lease_ms, 500, 600_000),
            ("connect_timeout_ms", self.connect_timeout_ms, 1, 600_000),
            ("query_timeout_ms", self.query_timeout_ms, 1, 600_000),
        ])
    }

    pub(super) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms)
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

    fn config() -> PostgresConfig {
        let text = r#"
            url = "postgres://paymesh@localhost/ledger?sslmode=disable"
            key_file = "journal.key"
            name = "svc-ledger-0"
        "#;
        toml::from_str(text).unwrap()
    }

    #[test]
    fn what_has_a_default_may_be_left_out_and_what_is_unknown_may_not_be_there() {
        let config = config();
        assert_eq!(config.check(), Ok(()));
        assert_eq!((config.schema.as_str(), config.lease_ms), ("paymesh_ledger", 5_000));
        assert!(!config.allow_unsynced_commits);
        assert!(toml::from_str::<PostgresConfig>("password = 'x'").is_err());
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_name_of_its_setting() {
        type Spoil = fn(&mut PostgresConfig);
        let cases: [(&str, Spoil); 9] = [
            ("url", |c| c.url = "mysql://x".to_owned()),
            ("postgres.schema", |c| c.schema = String::new()),
            ("postgres.schema", |c| c.schema = "a b; DROP".to_owned()),
            ("postgres.schema", |c| c.schema = "pg_temp".to_owned()),
            ("postgres.schema", |c| c.schema = "x".repeat(33)),
            ("postgres.name", |c| c.name = String::new()),
            ("postgres.address", |c| c.address = "a\nb".to_owned()),
            ("postgres.pool_max", |c| c.pool_max = 0),
            ("postgres.lease_ms", |c| c.lease_ms = 499),
        ];
        for (key, spoil) in cases {
            let mut config = config();
            spoil(&mut config);
            let said = config.check().unwrap_err();
            assert!(said.contains(key), "{key}: {said}");
        }
    }
}
