//! PostgreSQL: where its programs are, and how a cluster of its own is made and started.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::host::{Host, random_hex, with_free_port};
use super::wire::Address;
use super::{Server, Started, launch};
use crate::guard::{Guarded, Stop};
use crate::process::output_of;

/// The oldest version that the stores are written for.
const VERSION_MIN: u32 = 13;
/// The superuser of a cluster that we made, and its only one.
const USER: &str = "paymesh";
/// In its log once it takes connections. Its language is fixed by `initdb --locale=C`.
const READY: &str = "database system is ready to accept connections";
/// The image, where Docker is used.
const IMAGE: &str = "postgres:17-alpine";
/// The fast shutdown: open sessions are ended.
const SIGNAL: &str = "INT";
/// Debian starts a cluster of its own on installation unless this file says not to.
const DEBIAN_CLUSTER_CONFIG: &str = "/etc/postgresql-common/createcluster.conf";

/// The SQL store's server.
#[derive(Debug)]
pub(super) struct Postgres {
    /// As it should be where it is measured: what it says is committed is on disk. Tests need no such thing.
    pub(super) durable: bool,
}

impl Server for Postgres {
    fn name(&self) -> &'static str {
        "PostgreSQL"
    }

    fn variable(&self) -> &'static str {
        "PAYMESH_TEST_POSTGRES_URL"
    }

    fn installations(&self) -> Vec<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut found: Vec<PathBuf> = Vec::new();
        let debian = versions_below(Path::new("/usr/lib/postgresql"));
        for directory in std::env::split_paths(&path).chain(debian).chain([PathBuf::from("/usr/local/bin")]) {
            // A link in the PATH and what it points to are one installation.
            let Ok(program) = directory.join("postgres").canonicalize() else { continue };
            let Some(directory) = program.parent().map(Path::to_path_buf) else { continue };
            if !found.contains(&directory) && runs(&directory) {
                found.push(directory);
            }
        }
        found
    }

    fn start_installed(&self, programs: &Path, host: &Host) -> Result<Started, String> {
        let mut cluster = Some(Cluster::make(programs, host)?);
        with_free_port(|port| {
            // A server that fails takes its cluster with it.
            let cluster = cluster.take().map_or_else(|| Cluster::make(programs, host), Ok)?;
            start(self, programs, &cluster, port, host)
        })
    }

    fn start_docker(&self, _host: &Host) -> Result<Started, String> {
        let password = random_hex(16)?;
        with_free_port(|port| {
            let container = format!("paymesh-postgres-{}", random_hex(8)?);
            let mut command = Command::new("docker");
            command
                .args(["run", "--rm", "--name", &container, "--stop-signal", "SIGINT"])
                .args(["--publish", &format!("127.0.0.1:{port}:5432")])
                // By name only, so that the password is not in the list of processes.
                .args(["--env", "POSTGRES_USER", "--env", "POSTGRES_PASSWORD", "--env", "POSTGRES_DB"])
                .env("POSTGRES_USER", USER)
                .env("POSTGRES_PASSWORD", &password)
                .env("POSTGRES_DB", "postgres")
                .arg(IMAGE)
                .args(self.settings());
            let stop = Stop { signal: SIGNAL, container: Some(container), ..Stop::default() };
            launch(command, &stop, address(&password, port), READY, |address| self.check(address))
        })
    }

    fn install_packages(&self) -> Result<(), String> {
        apt_get(&["update"])?;
        apt_get(&["install", "postgresql-common"])?;
        keep_debian_from_starting_a_cluster()?;
        apt_get(&["install", "postgresql"])
    }

    fn check(&self, address: &str) -> Result<String, String> {
        Address::parse(address)?.probe()
    }

    fn advice(&self) -> &'static str {
        "install PostgreSQL 13 or later (Debian: apt-get install postgresql; macOS: brew install postgresql) or start Docker"
    }
}

/// `<parent>/<version>/bin`, newest first.
fn versions_below(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    let mut versions: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin"))))
        .collect();
    versions.sort_by_key(|(version, _)| std::cmp::Reverse(*version));
    versions.into_iter().map(|(_, path)| path).collect()
}

/// Whether both programs are there, run, and are new enough. A wrapper may be neither.
fn runs(directory: &Path) -> bool {
    ["initdb", "postgres"].iter().all(|program| {
        output_of(Command::new(directory.join(program)).arg("--version"))
            .and_then(|said| major(&said))
            .is_some_and(|version| version >= VERSION_MIN)
    })
}

/// The first number of `initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split("(PostgreSQL) ").nth(1)?;
    let digits = number.split(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// A cluster in a directory of its own, made but not started.
struct Cluster {
    directory: PathBuf,
    /// The superuser's.
    password: String,
}

impl Cluster {
    fn make(programs: &Path, host: &Host) -> Result<Self, String> {
        let directory = host.directory("postgres")?;
        let made = initialize(programs, &directory, host);
        if made.is_err() {
            let _ = std::fs::remove_dir_all(&directory);
        }
        Ok(Self { password: made?, directory })
    }
}

/// Makes a cluster below `directory` and answers with its superuser's password.
///
/// It takes a second or two, and its guardian removes the directory if we are killed meanwhile.
fn initialize(programs: &Path, directory: &Path, host: &Host) -> Result<String, String> {
    let password = random_hex(16)?;
    let file = directory.join("password");
    host.write(&file, &password)?;
    let mut command = host.command(&programs.join("initdb"), directory);
    command
        .args(["--username", USER, "--auth", "scram-sha-256", "--encoding", "UTF8", "--locale", "C"])
        .arg("--no-sync")
        .arg("--pwfile")
        .arg(&file)
        .arg("--pgdata")
        .arg(directory.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let stop =
        Stop { signal: "TERM", group: true, directory: Some(directory.to_path_buf()), ..Stop::default() };
    let failed = |error: std::io::Error| format!("initdb does not run: {error}");
    let mut initdb = Guarded::spawn(&mut command, &stop).map_err(failed)?;
    let mut said = Vec::new();
    if let Some(mut log) = initdb.child().stderr.take() {
        log.read_to_end(&mut said).map_err(failed)?;
    }
    if initdb.wait().map_err(failed)?.success() {
        Ok(password)
    } else {
        Err(format!("initdb failed: {}", reason(&String::from_utf8_lossy(&said))))
    }
}

/// The line of `initdb`'s words that says why: the last ones may only tell that it tidies up.
fn reason(said: &str) -> &str {
    let mut lines = said.lines().map(str::trim).filter(|line| !line.is_empty());
    let telling = lines.clone().find(|line| line.contains("error:") || line.contains("FATAL:"));
    telling.or_else(|| lines.next_back()).unwrap_or("it did not say why")
}

fn start(
    server: &Postgres,
    programs: &Path,
    cluster: &Cluster,
    port: u16,
    host: &Host,
) -> Result<Started, String> {
    let directory = &cluster.directory;
    let mut command = host.command(&programs.join("postgres"), directory);
    command
        .arg("-D")
        .arg(directory.join("data"))
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="])
        .args(server.settings());
    let stop = Stop { signal: SIGNAL, directory: Some(directory.clone()), ..Stop::default() };
    let address = address(&cluster.password, port);
    let started = launch(command, &stop, address, READY, |address| server.check(address));
    if started.is_err() {
        // Its guardian has removed it, unless not even that could be started.
        let _ = std::fs::remove_dir_all(directory);
    }
    started
}

impl Postgres {
    fn settings(&self) -> &'static [&'static str] {
        if self.durable { DURABLE } else { FOR_TESTS }
    }
}

/// Nothing in this cluster outlives its process, so nothing need be on disk.
const FOR_TESTS: &[&str] = &[
    "-c",
    "fsync=off",
    "-c",
    "synchronous_commit=off",
    "-c",
    "full_page_writes=off",
    "-c",
    "max_connections=200",
];

/// As somebody who knows it would set it up on a small machine: its defaults are for a tiny one.
const DURABLE: &[&str] =
    &["-c", "fsync=on", "-c", "shared_buffers=1GB", "-c", "max_wal_size=4GB", "-c", "max_connections=200"];

fn address(password: &str, port: u16) -> String {
    format!("postgres://{USER}:{password}@127.0.0.1:{port}/postgres")
}

pub(super) fn apt_get(arguments: &[&str]) -> Result<(), String> {
    let mut command = Command::new("apt-get");
    command.args(["--quiet", "--yes", "--no-install-recommends"]).args(arguments);
    // In the runlevel for one user, what is installed does not start a service of its own (invoke-rc.d).
    command.env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1").stdin(Stdio::null());
    // Its words go to standard error: standard output is for what a shell evaluates.
    command.stdout(std::io::stderr());
    let doing = format!("apt-get {}", arguments.join(" "));
    eprintln!("── servers: {doing}");
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{doing}: {status}")),
        Err(error) => Err(format!("{doing}: {error}")),
    }
}

fn keep_debian_from_starting_a_cluster() -> Result<(), String> {
    let said = |error: std::io::Error| format!("{DEBIAN_CLUSTER_CONFIG}: {error}");
    let config = std::fs::read_to_string(DEBIAN_CLUSTER_CONFIG).map_err(said)?;
    match without_main_cluster(&config) {
        Some(config) => std::fs::write(DEBIAN_CLUSTER_CONFIG, config).map_err(said),
        None => Ok(()),
    }
}

/// The configuration with `create_main_cluster = false`; nothing when somebody has decided already.
fn without_main_cluster(config: &str) -> Option<String> {
    let decided = config.lines().any(|line| line.trim_start().starts_with("create_main_cluster"));
    (!decided).then(|| format!("{}\ncreate_main_cluster = false\n", config.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_programs_say() {
        assert_eq!(major("initdb (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some(15));
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("wrapper: not installed"), None);
    }

    #[test]
    fn a_directory_without_programs_does_not_run() {
        assert!(!runs(Path::new("/nonexistent")));
    }

    #[test]
    fn initdb_is_quoted_where_it_says_why() {
        let said = "initdb: error: could not create directory \"data\": No space left on device\ninitdb: removing contents of data directory\n\n";
        assert!(reason(said).ends_with("No space left on device"));
        assert_eq!(reason("Segmentation fault\n"), "Segmentation fault");
        assert_eq!(reason("\n"), "it did not say why");
    }

    #[test]
    fn debian_is_told_once_not_to_start_a_cluster() {
        let shipped = "# Create a \"main\" cluster when a new postgresql-x.y server package is installed\n#create_main_cluster = true\n";
        let changed = without_main_cluster(shipped).unwrap();
        assert!(changed.ends_with("\ncreate_main_cluster = false\n"), "{changed}");
        assert_eq!(without_main_cluster(&changed), None);
        assert_eq!(without_main_cluster("create_main_cluster = true\n"), None);
    }

    #[test]
    fn the_address_of_a_started_server_can_be_read_back() {
        assert!(Address::parse(&address("0123abcd", 5432)).is_ok());
    }
}
