//! `cargo xtask servers`: finds or starts the servers that tests need.
//!
//! What a server is, is said in one place each ([`Server`]); where it comes from is the same for all
//! and decided here. Everything started is stopped when this process ends, however it ends.

mod ach;
mod collector;
mod go;
mod host;
mod postgres;
mod rabbitmq;
mod redis;
mod softhsm;
mod vault;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::guard::{Guarded, Stop};
use host::Host;
pub(crate) use host::free_ports;
use postgres::apt_get;

/// Find or start the servers that tests need
///
/// For each server, the first of these that holds:
///   environment  its variable is set: that server is used as it is, and must answer
///   installed    its programs are installed: started on a free port, in a directory of its own
///   docker       Docker runs here: started in a container
///   packages     nothing is installed: apt-get (Debian, as root) or, for the collector, Vault and ACH, Go; then started
/// A started server is stopped by its pid, and its directory removed, when this command ends, by
/// itself, by Ctrl-C, or killed.
///
/// Variables: PAYMESH_TEST_POSTGRES_URL (PostgreSQL 13 or later, such as
/// postgres://user:password@127.0.0.1:5432/postgres; tests make and drop tables there),
/// PAYMESH_TEST_REDIS_URL (Redis 5 or later, such as redis://:password@127.0.0.1:6379; tests keep keys that
/// begin with `paymesh:test:` there, and flush its scripts),
/// PAYMESH_TEST_REDIS_TLS_URL (the same over TLS, and the file of its CA, such as
/// rediss://:password@localhost:6380#/tmp/ca.pem),
/// PAYMESH_TEST_RABBITMQ_URL (RabbitMQ 3.10 or later, such as amqp://user:password@127.0.0.1:5672/%2f; tests make
/// exchanges and queues there whose names begin with `paymesh.test.`),
/// PAYMESH_TEST_OTEL_COLLECTOR (an OpenTelemetry collector and the file that its file exporter writes,
/// such as <http://127.0.0.1:4317#/tmp/otlp.jsonl>),
/// SOFTHSM2_CONF (SoftHSM's configuration, with a comment that says where its module is, such as
/// `# module = /usr/lib/softhsm/libsofthsm2.so`; tests make tokens there),
/// PAYMESH_TEST_VAULT_URL (HashiCorp Vault or OpenBao over TLS, and a directory with ca.pem, root-token and
/// unseal-key, such as <https://localhost:8200#/tmp/vault>; tests make mounts, policies and tokens there, and seal it),
/// PAYMESH_TEST_ACH (the program of `xtask/ach`, by its path).
#[derive(Debug, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct ServersArgs {
    /// Use only this source, whatever else there is
    #[arg(long, value_enum)]
    from: Option<Source>,
    /// PostgreSQL as it should be where it is measured: what it says is committed is on disk
    #[arg(long)]
    durable: bool,
    /// A command to run with the variables set; without one, they are printed for a shell and the
    /// servers run until Ctrl-C
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// Where a server comes from, in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Source {
    Environment,
    Installed,
    Docker,
    Packages,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Environment => "environment",
            Self::Installed => "installed",
            Self::Docker => "Docker",
            Self::Packages => "packages",
        })
    }
}

/// What is known about this machine when the source of a server is chosen.
///
/// Whether Docker runs is not among it: its daemon is asked only when the plan comes to it.
#[derive(Debug, Clone, Copy, Default)]
struct Facts {
    /// The server's variable is set.
    variable: bool,
    /// Its programs were found.
    installed: bool,
    /// What installs it is here.
    packages: bool,
}

/// The sources to try, in order; the next one only when the one before fails.
///
/// A variable that is set is a decision: if its server does not answer, the run fails, instead of
/// quietly testing against another one. Packages are for a machine without the server: where it is
/// installed and fails, apt-get would change the system without touching the reason.
fn plan(facts: Facts, only: Option<Source>) -> Vec<Source> {
    if let Some(source) = only {
        return vec![source];
    }
    if facts.variable {
        return vec![Source::Environment];
    }
    let packages = !facts.installed && facts.packages;
    [(Source::Installed, facts.installed), (Source::Docker, true), (Source::Packages, packages)]
        .into_iter()
        .filter_map(|(source, holds)| holds.then_some(source))
        .collect()
}

/// A kind of server: what is particular to it, and nothing about where it comes from.
trait Server {
    /// Its name for people.
    fn name(&self) -> &'static str;
    /// The environment variable that holds its address, for us and for the tests.
    fn variable(&self) -> &'static str;
    /// Directories of programs that might run it, best first.
    fn installations(&self) -> Vec<PathBuf>;
    /// Whether [`Server::install_packages`] may help.
    fn can_install(&self, host: &Host) -> bool {
        host.installs_packages()
    }
    /// Starts it with the programs in one of those directories.
    fn start_installed(&self, programs: &std::path::Path, host: &Host) -> Result<Started, String>;
    /// Starts it in a container.
    fn start_docker(&self, host: &Host) -> Result<Started, String>;
    /// Installs it from packages, without starting anything.
    fn install_packages(&self) -> Result<(), String>;
    /// Connects to it and says what answered.
    fn check(&self, address: &str) -> Result<String, String>;
    /// What to install where none of the sources holds.
    fn advice(&self) -> &'static str;
}

/// A server process that answers, with its address.
struct Started {
    address: String,
    process: Option<Guarded>,
    /// Speaks up when the process closes its log, that is, when it ends.
    ended: Option<mpsc::Receiver<()>>,
}

/// Installs a system's package, where that can be done here; whoever needs it looks whether it is there.
pub(crate) fn install_package(name: &str) {
    if !Host::look().installs_packages() {
        return;
    }
    let installed = apt_get(&["update"]).and_then(|()| apt_get(&["install", name]));
    if let Err(reason) = installed {
        eprintln!("── servers: {reason}");
    }
}

/// A server that is ready to be used. Dropping it stops what was started for it.
pub(crate) struct Ready {
    /// The variable that tests read.
    pub(crate) variable: &'static str,
    /// Its value.
    pub(crate) address: String,
    started: Started,
}

/// Every server that tests need, in the order in which they are started.
fn servers(durable: bool) -> [&'static dyn Server; 8] {
    let postgres =
        if durable { &postgres::Postgres { durable: true } } else { &postgres::Postgres { durable: false } };
    [
        postgres,
        &redis::Redis { tls: false },
        &redis::Redis { tls: true },
        &rabbitmq::RabbitMq,
        &collector::Collector,
        &softhsm::SoftHsm,
        &vault::Vault,
        &ach::Ach,
    ]
}

/// Finds or starts all of them.
pub(crate) fn obtain_all(only: Option<&ServersArgs>) -> Result<Vec<Ready>, Error> {
    let host = Host::look();
    let durable = only.is_some_and(|args| args.durable);
    servers(durable)
        .into_iter()
        .map(|server| obtain(server, &host, only.and_then(|args| args.from)))
        .collect()
}

fn obtain(server: &dyn Server, host: &Host, only: Option<Source>) -> Result<Ready, Error> {
    let variable = std::env::var(server.variable()).ok().filter(|value| !value.is_empty());
    let facts = Facts {
        variable: variable.is_some(),
        installed: !server.installations().is_empty(),
        packages: server.can_install(host),
    };
    let mut failures = Vec::new();
    let plan = plan(facts, only);
    let tried = Facts { installed: facts.installed && plan.contains(&Source::Installed), ..facts };
    for source in plan {
        let result = match source {
            Source::Environment => variable
                .clone()
                .map(|address| Started { address, process: None, ended: None })
                .ok_or_else(|| format!("{} is not set", server.variable())),
            Source::Installed => start_first(server, host),
            Source::Docker => host::docker_runs().and_then(|()| server.start_docker(host)),
            Source::Packages => server.install_packages().and_then(|()| start_first(server, host)),
        };
        match result.and_then(|started| Ok((server.check(&started.address)?, started))) {
            Ok((what, started)) => {
                eprintln!("── servers: {} ({source}): {what}", server.name());
                return Ok(Ready { variable: server.variable(), address: started.address.clone(), started });
            }
            Err(reason) => {
                eprintln!("── servers: {} ({source}) does not work: {reason}", server.name());
                failures.push(format!("{source}: {reason}"));
            }
        }
    }
    Err(Error::Server(no_server(server, tried, &failures)))
}

fn no_server(server: &dyn Server, facts: Facts, failures: &[String]) -> String {
    let (name, variable) = (server.name(), server.variable());
    let tried = failures.join("; ");
    // To be told to install what is installed helps nobody: there, the reason is what counts.
    if facts.variable {
        format!("no {name} for the tests (tried {tried}): start the one that {variable} names, or unset it")
    } else if facts.installed {
        format!(
            "no {name} for the tests, though it is installed (tried {tried}): mend the installation, or set {variable} to one that is running"
        )
    } else {
        format!(
            "no {name} for the tests (tried {tried}): {}, or set {variable} to one that is running",
            server.advice()
        )
    }
}

fn start_first(server: &dyn Server, host: &Host) -> Result<Started, String> {
    let mut failures = Vec::new();
    for programs in server.installations() {
        match server.start_installed(&programs, host) {
            Ok(started) => return Ok(started),
            Err(reason) => failures.push(format!("{}: {reason}", programs.display())),
        }
    }
    Err(if failures.is_empty() { "not found".to_owned() } else { failures.join("; ") })
}

/// `cargo xtask servers`.
pub(crate) fn run(args: &ServersArgs) -> Result<(), Error> {
    let servers = obtain_all(Some(args))?;
    let Some((program, rest)) = args.command.split_first() else {
        return hold(servers);
    };
    let mut command = Command::new(program);
    command.args(rest).envs(servers.iter().map(|server| (server.variable, &server.address)));
    // In our own process group, unlike the steps of a test: it may be a `psql` that owns the terminal.
    let stop = Stop { signal: "TERM", ..Stop::default() };
    let status = Guarded::spawn(&mut command, &stop)
        .and_then(Guarded::wait)
        .map_err(Error::io(format!("run `{program}`")))?;
    drop(servers);
    match status.code() {
        Some(0) => Ok(()),
        Some(code) => Err(Error::Exit(u8::try_from(code).unwrap_or(1))),
        None => Err(Error::Exit(1)),
    }
}

/// Prints the variables for a shell, and stays as long as there is something of ours to keep running.
fn hold(mut servers: Vec<Ready>) -> Result<(), Error> {
    for server in &servers {
        println!("export {}={}", server.variable, quoted(&server.address));
    }
    let watched = servers.iter_mut().find_map(|server| server.started.ended.take());
    let Some(ended) = watched else { return Ok(()) };
    eprintln!(
        "── servers: running until Ctrl-C; run `cargo xtask servers -- <command>` to have them for one command"
    );
    let _ = ended.recv();
    Err(Error::Server("a server ended by itself".to_owned()))
}

/// For `eval` in a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

/// Starts a server process, and waits until it says that it is ready.
///
/// `ready` is a part of the line on its standard error that says so; each time it appears, `check`
/// has the last word.
fn launch(
    mut command: Command,
    stop: &Stop,
    address: String,
    ready: &str,
    check: impl Fn(&str) -> Result<String, String>,
) -> Result<Started, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Guarded::spawn(&mut command, stop).map_err(|error| error.to_string())?;
    let stderr = process.child().stderr.take().ok_or("its log cannot be read")?;
    let (lines, ended) = host::follow(stderr);
    // Where that fails, dropping the process stops it and removes what is its own.
    host::wait_for(&lines, ready, || check(&address).is_ok())?;
    Ok(Started { address, process: Some(process), ended: Some(ended) })
}

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The address holds a password.
        f.debug_struct("Started").field("process", &self.process).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Facts = Facts { variable: true, installed: true, packages: true };

    #[test]
    fn a_set_variable_is_the_only_source() {
        assert_eq!(plan(ALL, None), [Source::Environment]);
    }

    #[test]
    fn sources_are_tried_from_the_nearest_to_the_farthest() {
        let facts = Facts { installed: false, variable: false, ..ALL };
        assert_eq!(plan(facts, None), [Source::Docker, Source::Packages]);
        assert_eq!(plan(Facts::default(), None), [Source::Docker]);
    }

    #[test]
    fn packages_are_left_alone_where_the_server_is_installed() {
        let facts = Facts { variable: false, ..ALL };
        assert_eq!(plan(facts, None), [Source::Installed, Source::Docker]);
    }

    #[test]
    fn an_installed_server_that_fails_is_told_with_its_reason_and_not_to_be_installed() {
        let facts = Facts { variable: false, ..ALL };
        let text = no_server(
            &postgres::Postgres { durable: false },
            facts,
            &["installed: initdb failed: no space".to_owned()],
        );
        assert!(text.contains("though it is installed") && text.contains("no space"), "{text}");
        assert!(!text.contains("apt-get") && text.contains("PAYMESH_TEST_POSTGRES_URL"), "{text}");
    }

    #[test]
    fn a_machine_with_nothing_gets_one_line_of_advice() {
        let docker = "Docker: it is not installed".to_owned();
        let text = no_server(&postgres::Postgres { durable: false }, Facts::default(), &[docker]);
        assert!(!text.contains('\n'), "{text}");
        assert!(text.contains("install PostgreSQL") && text.contains("PAYMESH_TEST_POSTGRES_URL"), "{text}");
    }

    #[test]
    fn a_source_that_was_asked_for_is_the_only_one() {
        assert_eq!(plan(ALL, Some(Source::Packages)), [Source::Packages]);
        assert_eq!(plan(Facts::default(), Some(Source::Docker)), [Source::Docker]);
    }

    #[test]
    fn what_is_printed_can_be_evaluated_by_a_shell() {
        assert_eq!(quoted("postgres://a:b@c/d"), "'postgres://a:b@c/d'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
