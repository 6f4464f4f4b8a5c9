//! What can be configured.

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{operations::DataKeyLimits, root::RootConfig, store::PostgresConfig};

/// What svc-crypto alone has. Holds no secret: the root key is named by its file.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A file with the root key, 32 bytes: a mounted secret. Absent, and no other root given: `root.key` in the data
    /// directory, made at the first start.
    #[schemars(example = "secrets/root.key")]
    pub root_key_file: Option<PathBuf>,
    /// The root of trust, where it is no file: what wraps tenants' keys.
    pub root: RootConfig,
    /// The file of the root key from before, while tenants' keys are wrapped anew under another root
    /// (docs/crypto-roots.md). What it wrapped is unwrapped with it; nothing new is wrapped.
    #[schemars(example = "secrets/root-before.key")]
    pub previous_root_key_file: Option<PathBuf>,
    /// The same, where the root from before is no file.
    pub previous_root: RootConfig,
    /// How long a root of trust may take to wrap or unwrap a key, in milliseconds. Default 5000.
    #[schemars(range(min = 1))]
    pub root_timeout_ms: u32,
    /// How long a tenant's key-encryption key is held in memory, in seconds, without the root of trust having
    /// unwrapped it anew. That is attempted at half of the time: so long, at least, a root that is away does not
    /// disturb tenants that were served before. One that refuses does at once. Default 7200.
    #[schemars(range(min = 2))]
    pub tenant_keys_held_for_s: u64,
    /// Where keys, cards and the audit log are kept when it is not in this service's own directory. With it, several
    /// replicas may run and all serve; they need the same root key (docs/crypto-postgres.md).
    pub postgres: Option<PostgresConfig>,
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
    /// How many cards a workload may have out of the vault for one tenant, per minute; up to a minute's may be
    /// asked for at once. Items of a batch count singly, and so do tokens that are not found. What is more is
    /// refused with DETOKENIZE_QUOTA. It bounds what a stolen identity can take; a payment that is refused waits.
    /// 0 for as many as they like. Default 60000.
    pub detokenize_per_minute: u32,
    /// How long a card's verification code is held in memory for its authorization, in seconds. It is never
    /// written, is given once, and is lost at a restart; of several replicas only the one that took it gives it.
    /// 0: none is held. Default 900.
    #[schemars(range(max = 3600))]
    pub cvc_held_s: u32,
    /// How many verification codes are held at most; beyond that the oldest are forgotten. 0: none is held.
    /// Default 65536.
    #[schemars(range(max = 1_048_576))]
    pub cvc_held_max: usize,
    /// How long an answer may wait, in milliseconds, until the audit log has kept what was done. After that the
    /// call fails with UNAVAILABLE, and nothing is given out.
    #[schemars(range(min = 1))]
    pub audit_deadline_ms: u32,
}

impl Config {
    /// [`Config::keys_cached_for_s`].
    pub fn keys_cached_for(&self) -> Duration {
        Duration::from_secs(self.keys_cached_for_s)
    }

    /// Whether there is one root, and at most one from before.
    pub fn check_roots(&self) -> Result<(), String> {
        self.root.check("root", self.root_key_file.as_deref())?;
        self.previous_root.check("previous_root", self.previous_root_key_file.as_deref())
    }

    /// [`Config::tenant_keys_held_for_s`].
    pub fn tenant_keys_held_for(&self) -> Duration {
        Duration::from_secs(self.tenant_keys_held_for_s)
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
            root: RootConfig::default(),
            previous_root_key_file: None,
            previous_root: RootConfig::default(),
            root_timeout_ms: 5_000,
            tenant_keys_held_for_s: 7_200,
            postgres: None,
            keys_cached_max: 10_000,
            keys_cached_for_s: 300,
            keys_idle_for_s: 600,
            grants_file: None,
            data_key_ttl_s: 300,
            data_key_messages_max: 1 << 20,
            data_key_bytes_max: 1 << 30,
            detokenize_per_minute: 60_000,
            cvc_held_s: 900,
            cvc_held_max: 65_536,
            audit_deadline_ms: 2_000,
        }
    }
}
