//! What can be configured.

use std::path::PathBuf;

use serde::Deserialize;

/// This service's part of the configuration. Holds no secret: the root key is named by its file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A file with the root key, 32 bytes: a mounted secret. Absent: `root.key` in the data directory,
    /// made at the first start.
    pub root_key_file: Option<PathBuf>,
    /// How many tenants' vault keys and how many named keys are kept expanded in memory, each.
    pub keys_cached_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { root_key_file: None, keys_cached_max: 10_000 }
    }
}
