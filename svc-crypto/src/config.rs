//! What can be configured.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::operations::DataKeyLimits;

/// What svc-crypto alone has. Holds no secret: the root key is named by its file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A file with the root key, 32 bytes: a mounted secret. Absent: `root.key` in the data directory,
    /// made at the first start.
    #[schemars(example = "secrets/root.key")]
    pub root_key_file: Option<PathBuf>,
    /// How many tenants' vault keys and how many named keys are kept expanded in memory, each.
    #[schemars(range(min = 1))]
    pub keys_cached_max: usize,
    /// How long a named key is kept expanded, in seconds, before it is read from the store again.
    #[schemars(range(min = 1))]
    pub keys_cached_for_s: u64,
    /// After how many seconds without use a named key is let go of; at the latest after twice as many.
    #[schemars(range(min = 1))]
    pub keys_idle_for_s: u64,
    /// A file that says which workload may do what with which keys, read again whenever it changes
    /// (docs/crypto-grants.toml). Absent: svc-payments uses keys whose names begin with `payments.`, and an
    /// operator manages all keys.
    #[schemars(example = "crypto-grants.toml")]
    pub grants_file: Option<PathBuf>,
    /// How long a caller may keep a data key's plaintext, in seconds.
    #[schemars(range(min = 1))]
    pub data_key_ttl_s: u64,
    /// The most messages that a caller may encrypt with one data key.
    #[schemars(range(min = 1))]
    pub data_key_messages_max: u64,
    /// The most bytes that a caller may encrypt with one data key.
    #[schemars(range(min = 1))]
    pub data_key_bytes_max: u64,
}

impl Config {
    /// [`Config::keys_cached_for_s`].
    pub fn keys_cached_for(&self) -> Duration {
        Duration::from_secs(self.keys_cached_for_s)
    }

    /// [`Config::keys_idle_for_s`].
    pub fn keys_idle_for(&self) -> Duration {
        Duration::from_secs(self.keys_idle_for_s)
    }

    /// What is said with every data key.
    pub fn data_key_limits(&self) -> DataKeyLimits {
        DataKeyLimits {
            ttl: Duration::from_secs(self.data_key_ttl_s),
            messages_max: self.data_key_messages_max,
            bytes_max: self.data_key_bytes_max,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            root_key_file: None,
            keys_cached_max: 10_000,
            keys_cached_for_s: 300,
            keys_idle_for_s: 600,
            grants_file: None,
            data_key_ttl_s: 300,
            data_key_messages_max: 1 << 20,
            data_key_bytes_max: 1 << 30,
        }
    }
}
