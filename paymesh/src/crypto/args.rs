//! The options of `paymesh crypto`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use edge_gateway::auth::keys::Time;
use mesh::config::ConfigArgs;
use svc_crypto::domain::audit::Link;

const EXAMPLES: &str = "Examples:
  paymesh crypto audit verify                         of a running mesh
  paymesh crypto audit verify --known-end 812:9f2c…   and that it still holds what an earlier check told
  paymesh crypto audit verify --offline               of one that is stopped, with --config as it was started with
  paymesh crypto audit list --verb detokenize --from 2026-11-21T00:00:00Z
  paymesh crypto audit list --tenant acme --refused

The log's format, and what its verification finds: docs/crypto-audit.md.";

/// What `paymesh crypto` can do.
#[derive(Debug, Subcommand)]
pub enum CryptoCommand {
    /// Verify or list the audit log: who did what with which key or card.
    #[command(subcommand, after_help = EXAMPLES)]
    Audit(AuditCommand),
    /// The root of trust: what wraps all keys.
    #[command(subcommand, after_help = ROOT_EXAMPLES)]
    Root(RootCommand),
}

const ROOT_EXAMPLES: &str = "Examples:
  paymesh crypto root status                          who wrapped how many keys, and which roots are needed
  paymesh crypto root rotate                          wraps every key under the root in use; may be broken off
  paymesh crypto root split --shares 5 --threshold 3 --root-key-file root.key
  paymesh crypto root unseal < share                  gives a share to a service that is sealed
  paymesh crypto root unseal --address 10.0.0.7:7001 < share       to this replica

Which roots there are, and how one is replaced: docs/crypto-roots.md.";

/// What can be done with the root of trust.
#[derive(Debug, Subcommand)]
pub enum RootCommand {
    /// Say which root is in use, which wrapped what is on record, and whether another is still needed. Exits with
    /// 1 where the vault is sealed.
    Status(Replica),
    /// Wrap every key anew that is not wrapped under the root in use and the newest version of its key. May be
    /// broken off, and asked for again.
    Rotate(Replica),
    /// Split a root key into shares and print them, one to a line, after the key's id. Asks no service.
    Split(SplitArgs),
    /// Give one share, from the standard input, to a service that is sealed.
    Unseal(Replica),
}

/// Options of `paymesh crypto root split`.
#[derive(Debug, Args)]
pub struct SplitArgs {
    /// The root key to split: 32 bytes.
    #[arg(long, value_name = "FILE", required_unless_present = "new", conflicts_with = "new")]
    pub root_key_file: Option<PathBuf>,
    /// Split a key that is made for it and that nobody has.
    #[arg(long)]
    pub new: bool,
    /// How many shares.
    #[arg(long, value_name = "N")]
    pub shares: u8,
    /// How many of them put the key together.
    #[arg(long, value_name = "K")]
    pub threshold: u8,
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

/// Which replica of which mesh.
#[derive(Debug, Args)]
pub struct Replica {
    /// Which mesh.
    #[command(flatten)]
    pub mesh: Mesh,
    /// The address of svc-crypto's RPC port, where there are several replicas: each is unsealed by itself. Absent: the
    /// one of dev.json.
    #[arg(long, value_name = "HOST:PORT")]
    pub address: Option<String>,
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
    /// Read the files of svc-crypto, of a mesh that is stopped, and change nothing in them.
    #[arg(long)]
    pub offline: bool,
    /// With --offline: how the service is configured, laid over what `paymesh dev` starts from. The root of trust that
    /// is named there unwraps the log's key.
    #[command(flatten)]
    pub config: ConfigArgs,
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
