//! The flags that everything has which reads a configuration.

use std::path::PathBuf;

use super::text::split_path;

/// What `--help` says of configuration.
pub const HELP: &str = "\
Configuration, later wins: built-in defaults, file, environment, flags.
  file         --config paymesh.toml (or PAYMESH_CONFIG): [mesh] for all services,
               [svc-ledger] and so on for one
  environment  PAYMESH_<TABLE>__<KEY>, `__` between levels and `_` for `-`:
               PAYMESH_SVC_LEDGER__SETTINGS__IN_FLIGHT_MAX=100
  flags        --set svc-ledger.settings.in_flight_max=100
Values have the type of their setting; arrays and tables are written as in TOML.
`paymesh config explain` lists every setting, `paymesh config check` checks them,
`paymesh config example` prints a file to start from.";

/// Where configuration comes from.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct ConfigArgs {
    /// The configuration file (TOML): of the whole mesh, or of a part of it.
    #[arg(long, env = "PAYMESH_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Sets one value over file and environment, such as svc-ledger.settings.in_flight_max=100; may be
    /// given several times.
    #[arg(long = "set", value_name = "PATH=VALUE", value_parser = assignment)]
    pub set: Vec<Assignment>,
}

/// `path=value`. The value is not shown in `Debug`: who gives a secret by mistake should not read it again.
#[derive(Clone)]
pub struct Assignment {
    pub(super) path: Vec<String>,
    pub(super) text: String,
}

impl std::fmt::Debug for Assignment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Assignment({})", self.path.join("."))
    }
}

fn assignment(text: &str) -> Result<Assignment, String> {
    let wrong = "must be PATH=VALUE, such as svc-ledger.settings.in_flight_max=100";
    let (path, text) = text.split_once('=').ok_or(wrong)?;
    let path = split_path(path.trim()).ok_or(wrong)?;
    Ok(Assignment { path, text: text.to_owned() })
}
