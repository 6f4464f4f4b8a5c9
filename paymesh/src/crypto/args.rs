//! The options of `paymesh crypto`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use edge_gateway::auth::keys::Time;
use svc_crypto::domain::audit::Link;

const EXAMPLES: &str = "Examples:
  paymesh crypto audit verify                         of a running mesh
  paymesh crypto audit verify --known-end 812:9f2c…   and that it still holds what an earlier check told
  paymesh crypto audit verify --offline               of one that is stopped
  paymesh crypto audit list --verb detokenize --from 2026-11-21T00:00:00Z
  paymesh crypto audit list --tenant acme --refused

The log's format, and what its verification finds: docs/crypto-audit.md.";

/// What `paymesh crypto` can do.
#[derive(Debug, Subcommand)]
pub enum CryptoCommand {
    /// Verify or list the audit log: who did what with which key or card.
    #[command(subcommand, after_help = EXAMPLES)]
    Audit(AuditCommand),
}

/// What can be done with the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Check that no record was changed, dropped, doubled, moved or cut off. Exits with 0 if all is well and
    /// with 1 if not.
    #[command(after_help = EXAMPLES)]
    Verify(VerifyArgs),
    /// List records, oldest first, one to a line: number, time, workload, tenant, verb, key or card, key's id and
    /// version, outcome, count, bytes.
    #[command(after_help = EXAMPLES)]
    List(ListArgs),
}

/// Which mesh.
#[derive(Debug, Args)]
pub struct Mesh {
    /// The data directory of the mesh, with its dev.json.
    #[arg(long, default_value = ".paymesh", env = "PAYMESH_DATA_DIR")]
    pub data_dir: PathBuf,
}

/// Options of `paymesh crypto audit verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Which mesh.
    #[command(flatten)]
    pub mesh: Mesh,
    /// A place that the log is known to have had: the end that an earlier check told, or that was logged.
    #[arg(long, value_name = "NUMBER:HASH")]
    pub known_end: Option<Link>,
    /// Read the files of svc-crypto in the data directory, of a mesh that is stopped.
    #[arg(long)]
    pub offline: bool,
    /// With --offline: the root key, where it is not in the data directory.
    #[arg(long, value_name = "FILE", requires = "offline")]
    pub root_key_file: Option<PathBuf>,
}

/// Options of `paymesh crypto audit list`.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Which mesh.
    #[command(flatten)]
    pub mesh: Mesh,
    /// Only this tenant's.
    #[arg(long)]
    pub tenant: Option<String>,
    /// Only those of the tenants' keys of this name.
    #[arg(long, value_name = "NAME")]
    pub key: Option<String>,
    /// Only those of this card.
    #[arg(long)]
    pub token: Option<String>,
    /// Only this verb, such as `encrypt` or `detokenize`.
    #[arg(long)]
    pub verb: Option<String>,
    /// Only what this workload asked for, such as `svc-payments`.
    #[arg(long)]
    pub workload: Option<String>,
    /// Only what was refused.
    #[arg(long)]
    pub refused: bool,
    /// Kept at this time or later, such as 2026-11-21T12:00:00Z.
    #[arg(long, value_name = "TIME")]
    pub from: Option<Time>,
    /// Kept before this time.
    #[arg(long, value_name = "TIME")]
    pub until: Option<Time>,
    /// The most records.
    #[arg(long, default_value_t = 1_000)]
    pub limit: usize,
}
