//! Redis, with TLS or without: where its program is, and how one of its own is started, with nothing of its
//! data on disk.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::host::{Host, follow, random_hex, with_free_port};
use super::postgres::apt_get;
use super::{Server, Started, launch};
use crate::certificate::Certificate;
use crate::guard::{Guarded, Stop};
use crate::process::output_of;

/// The oldest version whose scripts may ask for the time and then write.
const VERSION_MIN: u32 = 5;
/// In its log once it takes connections.
const READY: &str = "Ready to accept connections";
/// The image, where Docker is used.
const IMAGE: &str = "redis:7-alpine";
/// Its program's name.
const PROGRAM: &str = "redis-server";
/// How long each step of the conversation may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longer than any line of an answer that we ask for.
const LINE_BYTES_MAX: u64 = 64 * 1024;

/// What edges share their limits through.
#[derive(Debug)]
pub(super) struct Redis {
    /// Whether it speaks TLS and nothing else.
    pub(super) tls: bool,
}

impl Server for Redis {
    fn name(&self) -> &'static str {
        if self.tls { "Redis over TLS" } else { "Redis" }
    }

    fn variable(&self) -> &'static str {
        if self.tls { "PAYMESH_TEST_REDIS_TLS_URL" } else { "PAYMESH_TEST_REDIS_URL" }
    }

    fn installations(&self) -> Vec<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = [PathBuf::from("/usr/local/bin"), PathBuf::from("/opt/homebrew/bin")];
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in std::env::split_paths(&path).chain(usual) {
            // Not the program behind a link: it is one for several names, and goes by the one it is called by.
            if !found.contains(&directory) && runs(&directory) {
                found.push(directory);
            }
        }
        found
    }

    fn start_installed(&self, programs: &Path, host: &Host) -> Result<Started, String> {
        with_free_port(|port| self.start(programs, port, host))
    }

    fn start_docker(&self, host: &Host) -> Result<Started, String> {
        let password = random_hex(16)?;
        with_free_port(|port| {
            let container = format!("paymesh-redis-{}", random_hex(8)?);
            let mut command = with_log_on_stderr(Path::new("docker"));
            command
                .args(["run", "--rm", "--name", &container])
                .args(["--publish", &format!("127.0.0.1:{port}:6379")])
                // By name only, so that the password is not in our list of processes.
                .args(["--env", "REDIS_PASSWORD"])
                .env("REDIS_PASSWORD", &password);
            let mut stop = Stop { signal: "TERM", container: Some(container), ..Stop::default() };
            let (mut options, mut ca) = ("", None);
            if self.tls {
                let directory = host.directory("redis")?;
                stop.directory = Some(directory.clone());
                let made = Certificate::make(&directory).map_err(|error| error.to_string())?;
                command.args(["--volume", &format!("{}:/tls:ro", directory.display())]);
                options = "--port 0 --tls-port 6379 --tls-auth-clients no --tls-cert-file /tls/server.pem \
                           --tls-key-file /tls/server.key --tls-ca-cert-file /tls/ca.pem";
                ca = Some(made.ca);
            }
            let serve = format!("exec redis-server --save '' --requirepass \"$REDIS_PASSWORD\" {options}");
            command.args([IMAGE, "sh", "-c", &serve]);
            let address = address(&password, port, ca.as_deref());
            launch(command, &stop, address, READY, |address| self.check(address))
        })
    }

    fn install_packages(&self) -> Result<(), String> {
        apt_get(&["update"])?;
        apt_get(&["install", "redis-server"])
    }

    fn check(&self, address: &str) -> Result<String, String> {
        let address = parse(address)?;
        if address.ca.is_some() != self.tls {
            let form = if self.tls { "rediss://host:port#/path/of/ca.pem" } else { "redis://host:port" };
            return Err(format!("the address must look like {form}"));
        }
        ask(&address).map_err(|reason| format!("{}: {reason}", address.place))
    }

    fn advice(&self) -> &'static str {
        "install Redis 5 or later (Debian: apt-get install redis-server; macOS: brew install redis) or start Docker"
    }
}

fn runs(directory: &Path) -> bool {
    output_of(Command::new(directory.join(PROGRAM)).arg("--version"))
        .and_then(|said| major(&said))
        .is_some_and(|version| version >= VERSION_MIN)
}

/// 7 of `Redis server v=7.0.15 sha=…`.
fn major(said: &str) -> Option<u32> {
    let version = said.split_whitespace().find_map(|word| word.strip_prefix("v="))?;
    version.split('.').next()?.parse().ok()
}

impl Redis {
    fn start(&self, programs: &Path, port: u16, host: &Host) -> Result<Started, String> {
        let directory = host.directory("redis")?;
        let started = self.start_in(&directory, programs, port, host);
        if started.is_err() {
            // Its guardian has removed it, unless not even that could be started.
            let _ = std::fs::remove_dir_all(&directory);
        }
        started
    }

    fn start_in(&self, directory: &Path, programs: &Path, port: u16, host: &Host) -> Result<Started, String> {
        let password = random_hex(16)?;
        let (mut listens, mut ca) = (format!("port {port}"), None);
        if self.tls {
            let made = Certificate::make(directory).map_err(|error| error.to_string())?;
            host.give(&made.key)?;
            listens = format!(
                "port 0\ntls-port {port}\ntls-auth-clients no\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}",
                made.cert.display(),
                made.key.display(),
                made.ca.display()
            );
            ca = Some(made.ca);
        }
        let file = directory.join("redis.conf");
        let settings = format!(
            "bind 127.0.0.1\n{listens}\nrequirepass {password}\nsave \"\"\nappendonly no\ndir {}\n",
            directory.display()
        );
        host.write(&file, &settings)?;
        let shell = with_log_on_stderr(&programs.join(PROGRAM));
        let mut command = host.command(Path::new(shell.get_program()), directory);
        command.args(shell.get_args()).arg(&file);
        let stop = Stop { signal: "TERM", directory: Some(directory.to_owned()), ..Stop::default() };
        let address = address(&password, port, ca.as_deref());
        launch(command, &stop, address, READY, |address| self.check(address))
    }
}

/// A shell that becomes the program, whose log is on standard output and wanted on standard error.
pub(super) fn with_log_on_stderr(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" \"$@\" >&2"]).arg(program);
    command
}

fn address(password: &str, port: u16, ca: Option<&Path>) -> String {
    match ca {
        None => format!("redis://:{password}@127.0.0.1:{port}"),
        Some(ca) => format!("rediss://:{password}@localhost:{port}#{}", ca.display()),
    }
}

/// What `redis://[user]:password@host[:port][/db]` says, or the same as `rediss://…#/path/of/ca.pem`.
#[derive(Debug, PartialEq, Eq)]
struct Address<'a> {
    /// `host:port`.
    place: String,
    password: Option<&'a str>,
    /// The CA's file, where it speaks TLS.
    ca: Option<&'a str>,
}

fn parse(url: &str) -> Result<Address<'_>, String> {
    let (url, ca) = url.split_once('#').map_or((url, None), |(url, ca)| (url, Some(ca)));
    let scheme = if ca.is_some() { "rediss://" } else { "redis://" };
    let rest = url.strip_prefix(scheme).ok_or_else(|| format!("the address must start with {scheme}"))?;
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let (login, place) = match authority.rsplit_once('@') {
        Some((login, place)) => (Some(login), place),
        None => (None, authority),
    };
    if place.is_empty() {
        return Err("the address must name a host".to_owned());
    }
    let password = login.map(|login| login.split_once(':').map_or("", |(_user, password)| password));
    let place = if place.contains(':') { place.to_owned() } else { format!("{place}:6379") };
    Ok(Address { place, password: password.filter(|password| !password.is_empty()), ca })
}

/// Says which Redis answers there.
fn ask(address: &Address<'_>) -> Result<String, String> {
    let login = address.password.map(|password| command(&["AUTH", password])).unwrap_or_default();
    let question = login + &command(&["INFO", "server"]) + &command(&["QUIT"]);
    let mut lines = match address.ca {
        None => plain_lines(&address.place, &question)?,
        Some(ca) => tls_lines(&address.place, ca, &question)?,
    };
    let told = lines.find_map(|line| {
        let version = line.strip_prefix("redis_version:");
        let version = version.map(|version| Ok(format!("Redis {version} at {}", address.place)));
        version.or_else(|| Some(Err(line.strip_prefix('-')?.to_owned())))
    });
    told.unwrap_or_else(|| Err("it does not speak Redis".to_owned()))
}

type Lines = Box<dyn Iterator<Item = String>>;

fn plain_lines(place: &str, question: &str) -> Result<Lines, String> {
    let said = |error: std::io::Error| error.to_string();
    let address = place.to_socket_addrs().map_err(said)?.next().ok_or("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(said)?;
    stream.write_all(question.as_bytes()).map_err(said)?;
    let lines = BufReader::new(std::io::Read::take(stream, LINE_BYTES_MAX)).lines();
    Ok(Box::new(lines.map_while(Result::ok)))
}

/// The same through openssl, as nothing here speaks TLS.
fn tls_lines(place: &str, ca: &str, question: &str) -> Result<Lines, String> {
    let said = |error: std::io::Error| error.to_string();
    let mut command = with_log_on_stderr(Path::new("openssl"));
    command.args(["s_client", "-quiet", "-verify_return_error", "-CAfile", ca, "-connect", place]);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let stop = Stop { signal: "TERM", ..Stop::default() };
    let mut client = Guarded::spawn(&mut command, &stop).map_err(said)?;
    let mut input = client.child().stdin.take().ok_or("it has no input")?;
    let (lines, _ended) = follow(client.child().stderr.take().ok_or("its output cannot be read")?);
    input.write_all(question.as_bytes()).map_err(said)?;
    let deadline = Instant::now() + PATIENCE;
    Ok(Box::new(std::iter::from_fn(move || {
        // Kept until the last line was read.
        let _kept = (&client, &input);
        lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).ok()
    })))
}

/// A command as Redis reads it (RESP): an array of strings with their lengths.
fn command(words: &[&str]) -> String {
    let mut text = vec![format!("*{}", words.len())];
    for word in words {
        text.extend([format!("${}", word.len()), (*word).to_owned()]);
    }
    text.join("\r\n") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_from_what_the_program_says() {
        assert_eq!(major("Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64"), Some(7));
        assert_eq!(major("command not found"), None);
        assert!(!runs(Path::new("/nonexistent")));
    }

    #[test]
    fn addresses_are_taken_apart() {
        let plain = |place: &str, password| Address { place: place.to_owned(), password, ca: None };
        assert_eq!(parse("redis://h"), Ok(plain("h:6379", None)));
        assert_eq!(parse("redis://:pw@h:1/0"), Ok(plain("h:1", Some("pw"))));
        assert_eq!(parse(&address("0a", 7, None)), Ok(plain("127.0.0.1:7", Some("0a"))));
        let with_tls = address("0a", 7, Some(Path::new("/tmp/ca.pem")));
        let expected = Address { ca: Some("/tmp/ca.pem"), ..plain("localhost:7", Some("0a")) };
        assert_eq!(parse(&with_tls), Ok(expected));
        for wrong in ["", "rediss://h", "redis://h#/tmp/ca.pem", "redis://", "redis://:pw@"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        assert_eq!(command(&["AUTH", "pw"]), "*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n");
    }
}
