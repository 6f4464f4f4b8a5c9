//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use mesh::config::{ConfigArgs, HELP};
use money::TenantId;

use crate::certs::CertsArgs;

/// A payment mesh: invoices in, balanced ledger postings out, every hop over mTLS gRPC.
///
/// Without a command, `paymesh dev` is run: the whole mesh in one process, nothing else to install.
#[derive(Debug, Parser)]
#[command(version, args_conflicts_with_subcommands = true, after_help = EXAMPLES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The options of `dev`, which is what runs without a command.
    #[command(flatten)]
    pub dev: DevArgs,
}

const EXAMPLES: &str = "Examples:
  paymesh                                   start the whole mesh and print a curl line to paste
  paymesh dev --demo                        the same, and drive some hundred payments through it
  paymesh dev --edge-addr 127.0.0.1:0       let the system choose the port (see dev.json)
  paymesh dev --api-key acme:secret-1       a key of your own for the tenant acme
  paymesh certs init                        a CA for services in processes of their own
  paymesh audit                             prove that the running mesh's ledger is whole
  paymesh crypto audit verify               prove that the log of what was done with keys and cards is whole
  paymesh policy show                       who may call which RPC
  paymesh config example > paymesh.toml     a file with every setting, to start from
  paymesh config check --config paymesh.toml
  paymesh config explain edge-gateway.header_timeout_ms
  paymesh serve svc-ledger --config paymesh.toml
                                            one service in a process of its own
  paymesh keys create --help                make an API key for the edge";

const POLICY: &str = "A policy file says which workload may call which RPC; what it does not grant is denied:

  [[grant]]
  workload = \"svc-payments\"           # the last part of the SPIFFE id
  rpcs = [
    \"paymesh.ledger.v1.LedgerService/CreateTransfers\",
    \"paymesh.fraud.v1.FraudService/*\",  # all RPCs of a service
  ]
  # reveals_cardholder_data = true     # only for workloads that may see card numbers or plaintext

A service reads the file that its setting mesh.settings.policy.file names, again whenever it changes and
without a restart; a file that cannot be used is logged and changes nothing. Without a file the built-in
table decides. To try another one first, name it in mesh.settings.policy.dry_run_file: it decides nothing, and
each difference is logged and counted in paymesh_policy_dry_run_differences_total.

Examples:
  paymesh policy show                            the built-in table, as a matrix
  paymesh policy show --toml > policy.toml       the same as a file to start from
  paymesh policy check policy.toml               is it right, and what does it change?
  paymesh policy show --file policy.toml --json  for tools";

/// What paymesh can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the whole mesh in this process, on embedded stores.
    #[command(after_help = EXAMPLES)]
    Dev(DevArgs),
    /// Run one service in this process, as it is configured.
    #[command(after_help = HELP)]
    Serve(ServeArgs),
    /// Check, explain or begin a configuration; starts nothing.
    #[command(subcommand, after_help = HELP)]
    Config(ConfigCommand),
    /// Check a policy file, or show who may call what.
    Policy(PolicyArgs),
    /// Have the ledger of a running mesh replay all it has and compare it with its balances.
    Audit(AuditArgs),
    /// Ask svc-crypto: its audit log.
    #[command(subcommand)]
    Crypto(crate::crypto::args::CryptoCommand),
    /// Make, renew and replace the certificates that workloads know each other by.
    Certs(CertsArgs),
    /// Make, list, rotate and revoke the API keys that the edge accepts.
    Keys(crate::keys::args::KeysArgs),
}

/// Options of `paymesh dev`.
#[derive(Debug, Clone, Args)]
pub struct DevArgs {
    /// Where certificates, state and dev.json are kept. A second start finds everything as it was.
    #[arg(long, default_value = ".paymesh", env = "PAYMESH_DATA_DIR")]
    pub data_dir: PathBuf,
    /// Where the REST edge listens; port 0 takes a free one [default: 127.0.0.1:8080]. Short for
    /// --set edge-gateway.listen=…
    #[arg(long)]
    pub edge_addr: Option<SocketAddr>,
    /// An API key, as KEY (tenant `dev`) or TENANT:KEY; may be given several times. Without it one is
    /// made at the first start and kept.
    #[arg(long = "api-key", env = "PAYMESH_API_KEY", value_name = "[TENANT:]KEY", value_parser = parse_key, hide_env_values = true)]
    pub api_keys: Vec<ApiKey>,
    /// The port of a service's RPCs, as NAME=PORT (`svc-ledger=4101`); others get free ones. Short for
    /// --set NAME.rpc_listen=127.0.0.1:PORT
    #[arg(long = "port", value_name = "NAME=PORT", value_parser = parse_port)]
    pub ports: Vec<(String, u16)>,
    /// Drive some hundred varied payments through the REST edge and print what happened.
    #[arg(long)]
    pub demo: bool,
    /// Which log events are written: a level, or `target=level` pairs [default: warn]. Short for
    /// --set mesh.telemetry.log=…
    #[arg(long)]
    pub log: Option<String>,
    /// Where an OpenTelemetry collector takes OTLP over gRPC, such as <http://127.0.0.1:4317>. Short for
    /// --set mesh.telemetry.otlp_endpoint=…
    #[arg(long)]
    pub otlp_endpoint: Option<String>,
    /// File and settings.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// An API key and the tenant that it speaks for. The key is not shown in `Debug`.
#[derive(Clone)]
pub struct ApiKey {
    /// The tenant.
    pub tenant: TenantId,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ApiKey({})", self.tenant)
    }
}

/// The tenant of keys that name none.
pub const DEV_TENANT: &str = "dev";

fn parse_key(text: &str) -> Result<ApiKey, String> {
    let (tenant, key) = text.split_once(':').unwrap_or((DEV_TENANT, text));
    let legal = (8..=200).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic());
    if !legal {
        return Err("a key must be 8 to 200 visible ASCII characters".into());
    }
    let tenant = tenant.parse().map_err(|error| format!("the tenant {error}"))?;
    Ok(ApiKey { tenant, key: key.to_owned() })
}

fn parse_port(text: &str) -> Result<(String, u16), String> {
    let (name, port) = text.split_once('=').ok_or("must be NAME=PORT, such as svc-ledger=4101")?;
    let known = crate::dev::SERVICES;
    if !known.contains(&name) {
        return Err(format!("there is no service {name}; there are {}", known.join(", ")));
    }
    Ok((name.to_owned(), port.parse().map_err(|_| "the port must be 0 to 65535")?))
}

/// Options of `paymesh serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// The service: svc-crypto, svc-ledger, svc-payments, svc-fraud, svc-tax or edge-gateway.
    pub service: String,
    /// File and settings.
    #[command(flatten)]
    pub config: ConfigArgs,
}

/// What `paymesh config` can do.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read everything and say what is wrong with it: keys, types, ranges, files, upstreams, addresses.
    /// Exits with 0 if all is well and with 1 if not.
    Check {
        /// The service; without it, all that have a table of their own, or all where none has.
        service: Option<String>,
        /// File and settings.
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// List every setting with its type, value, where the value came from, and what it is for.
    Explain {
        /// A setting or a table, such as edge-gateway.header_timeout_ms; without it, all of them.
        path: Option<String>,
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// File and settings.
        #[command(flatten)]
        config: ConfigArgs,
    },
    /// Print a file with every setting, to start from.
    Example,
}

/// Options of `paymesh policy`.
#[derive(Debug, Args)]
#[command(after_help = POLICY)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// What can be done with a policy.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Say whether a policy file can be used, and in what it differs from the built-in table.
    #[command(after_help = POLICY)]
    Check {
        /// The policy file (TOML).
        file: PathBuf,
    },
    /// Show who may call what: the built-in table, or a policy file.
    #[command(after_help = POLICY)]
    Show {
        /// A policy file (TOML) instead of the built-in table.
        #[arg(long)]
        file: Option<PathBuf>,
        /// As JSON: {"mode": ..., "grant": [{"workload": ..., "rpcs": [...]}]}.
        #[arg(long, conflicts_with = "toml")]
        json: bool,
        /// As a policy file, one line for each RPC.
        #[arg(long)]
        toml: bool,
    },
}

/// Options of `paymesh audit`.
#[derive(Debug, Args)]
pub struct AuditArgs {
    /// The data directory of the running mesh, with its dev.json.
    #[arg(long, default_value = ".paymesh", env = "PAYMESH_DATA_DIR")]
    pub data_dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dev_is_what_runs_without_a_command() {
        let cli = Cli::try_parse_from(["paymesh", "--demo", "--api-key", "acme:secret-1"]).unwrap();
        assert!(cli.command.is_none() && cli.dev.demo);
        assert_eq!(cli.dev.api_keys[0].tenant.as_str(), "acme");
        assert!(!format!("{cli:?}").contains("secret-1"), "a key is not shown");
    }

    #[test]
    fn bad_options_say_what_would_be_right() {
        for (option, value, told) in [
            ("--port", "svc-x=1", "there is no service svc-x"),
            ("--port", "svc-ledger", "NAME=PORT"),
            ("--api-key", "short", "8 to 200"),
            ("--api-key", "A/B:secret-1", "a-z"),
        ] {
            let error = Cli::try_parse_from(["paymesh", option, value]).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
