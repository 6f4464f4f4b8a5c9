//! The configuration of the whole mesh, and `paymesh config`.

use std::process::ExitCode;

use mesh::config::{ConfigArgs, Entry, Loaded, Problems, Sources, Tree};

use crate::{args::ConfigCommand, dev::SERVICES};

/// What the example's values are shown to come from.
const EXAMPLE: &str = "the example";

/// Every setting of every service.
pub fn tree() -> Tree {
    Tree::new()
        .with::<svc_crypto::Crypto>()
        .with::<svc_ledger::Ledger>()
        .with::<svc_fraud::Fraud>()
        .with::<svc_tax::Tax>()
        .with::<svc_payments::Payments>()
        .with::<edge_gateway::Edge>()
}

/// Reads what the command line names.
pub fn load(args: &ConfigArgs) -> Result<Loaded, Problems> {
    tree().load(&Sources::of(args))
}

/// `paymesh config …`: what it prints, and how it exits.
pub fn run(command: &ConfigCommand) -> Result<(String, ExitCode), Box<dyn std::error::Error>> {
    match command {
        ConfigCommand::Check { service, config } => Ok(match check(service.as_deref(), config) {
            Ok(text) => (text, ExitCode::SUCCESS),
            Err(Problems(all)) => {
                let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
                let noun = if lines.len() == 1 { "problem" } else { "problems" };
                (format!("{}\n{} {noun}", lines.join("\n"), lines.len()), ExitCode::FAILURE)
            }
        }),
        ConfigCommand::Explain { path, json, config } => {
            let entries = load(config)?.explain(path.as_deref())?;
            let text = match entries.as_slice() {
                entries if *json => serde_json::to_string_pretty(entries)?,
                [only] => only.full(),
                entries => entries.iter().map(Entry::short).collect::<Vec<_>>().join("\n"),
            };
            Ok((text, ExitCode::SUCCESS))
        }
        ConfigCommand::Example => Ok((example()?, ExitCode::SUCCESS)),
    }
}

fn check(service: Option<&str>, args: &ConfigArgs) -> Result<String, Problems> {
    let loaded = load(args)?;
    let services = match service {
        Some(service) => vec![service],
        None if loaded.named().is_empty() => SERVICES.to_vec(),
        None => loaded.named(),
    };
    let mut lines = vec!["ok".to_owned()];
    for checked in loaded.check(&services)? {
        let listens: Vec<String> = checked.listens.iter().map(|(_, address)| address.to_string()).collect();
        let (service, files) = (checked.service, checked.files);
        lines.push(format!("  {service:<13} listens on {}; {files} files are there", listens.join(", ")));
    }
    Ok(lines.join("\n"))
}

/// The example file: the whole mesh on one machine.
pub fn example() -> Result<String, Problems> {
    let mut sources = Sources::default();
    for (name, number) in SERVICES.into_iter().zip(1_u16..) {
        let mut say = |path: &[&str], value: String| {
            sources.supply(EXAMPLE, &[&[name], path].concat(), value);
        };
        say(&["rpc_listen"], format!("127.0.0.1:{}", 7_100 + number));
        say(&["admin_listen"], format!("127.0.0.1:{}", 9_100 + number));
        say(&["identity", "ca"], "pki/ca.pem".to_owned());
        say(&["identity", "cert"], format!("pki/{name}.pem"));
        say(&["identity", "key"], format!("pki/{name}.key"));
        say(&["settings", "data_dir"], format!("data/{name}"));
        if name.starts_with("svc-") {
            let address = format!("127.0.0.1:{}", 7_100 + number);
            sources.supply(EXAMPLE, &["mesh", "settings", "upstreams", name], address);
        }
    }
    let text = tree().load(&sources)?.example();
    Ok(format!("{PREFACE}\n{text}"))
}

const PREFACE: &str = "\
# The whole mesh in one file, with every setting: `paymesh config example` prints it.
#
# `#key = value` is a setting that is not set: the value is its default, or an example where it says so.
# Every value can also be given as a variable, PAYMESH_SVC_LEDGER__SETTINGS__IN_FLIGHT_MAX=100, or as a
# flag, --set svc-ledger.settings.in_flight_max=100. Later wins: default, file, environment, flags.
# Paths are relative to the directory that a process runs in. Secrets are files, never values.
# `paymesh config check --config FILE` says what is wrong, `paymesh config explain PATH` what a setting does.
";
