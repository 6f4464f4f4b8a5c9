//! `dev.json`: what a running mesh tells tools and scripts about itself.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// The content of `<data-dir>/dev.json`.
#[derive(Clone, Serialize, Deserialize)]
pub struct Description {
    /// The REST edge, such as `http://127.0.0.1:8080`.
    pub edge_url: String,
    /// A key for it.
    pub api_key: String,
    /// Where each service takes RPCs.
    pub services: BTreeMap<String, String>,
    /// Where each service answers `/metrics` and probes.
    pub admin: BTreeMap<String, String>,
    /// Certificates to call services with.
    pub pki: Pki,
}

/// Certificates as PEM files.
#[derive(Clone, Serialize, Deserialize)]
pub struct Pki {
    /// Who is trusted.
    pub ca: PathBuf,
    /// The operator's certificate.
    pub operator_cert: PathBuf,
    /// The operator's private key.
    pub operator_key: PathBuf,
}

impl Description {
    /// The file's name within the data directory.
    pub const FILE: &'static str = "dev.json";

    /// Reads the file of a data directory.
    pub fn read(data_dir: &Path) -> std::io::Result<Self> {
        let text = fs::read(data_dir.join(Self::FILE))?;
        serde_json::from_slice(&text).map_err(std::io::Error::other)
    }

    /// Replaces the file in one step. It holds a key, so only its owner may read it.
    pub fn write(&self, data_dir: &Path) -> std::io::Result<()> {
        let text = format!("{}\n", serde_json::to_string_pretty(self)?);
        mesh::pki::write_file(&data_dir.join(Self::FILE), &text, 0o600).map_err(std::io::Error::other)
    }
}
