//! What can be configured.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

impl Default for Config {
    fn default() -> Self {
        Self { root_key_file: None, keys_cached_max: 10_000 }
    }
}
