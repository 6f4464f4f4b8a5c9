//! Redis: where its program is, and how one of its own is started, with nothing on disk.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::host::{Host, random_hex, with_free_port};
use super::postgres::apt_get;
use super::{Server, Started, launch};
use crate::guard::Stop;
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
pub(super) struct Redis;

impl Server for Redis {
    fn name(&self) -> &'static str {
        "Redis"
    }

    fn variable(&self) -> &'static str {
        "PAYMESH_TEST_REDIS_URL"
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
        with_free_port(|port| start(programs, port, host))
    }

    fn start_docker(&self, _host: &Host) -> Result<Started, String> {
        let password = random_hex(16)?;
        with_free_port(|port| {
            let container = format!("paymesh-redis-{}", random_hex(8)?);
            let mut command = with_log_on_stderr(Path::new("docker"));
            command
                .args(["run", "--rm", "--name", &container])
                .args(["--publish", &format!("127.0.0.1:{port}:6379")])
                // By name only, so that the password is not in our list of processes.
                .args(["--env", "REDIS_PASSWORD"])
                .env("REDIS_PASSWORD", &password)
                .args([IMAGE, "sh", "-c", "exec redis-server --save '' --requirepass \"$REDIS_PASSWORD\""]);
            let stop = Stop { signal: "TERM", container: Some(container), ..Stop::default() };
            launch(command, &stop, address(&password, port), READY, |address| self.check(address))
        })
    }

    fn install_packages(&self) -> Result<(), String> {
        apt_get(&["update"])?;
        apt_get(&["install", "redis-server"])
    }

    fn check(&self, address: &str) -> Result<String, String> {
        let (place, password) = parse(address)?;
        ask(&place, password).map_err(|reason| format!("{place}: {reason}"))
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

fn start(programs: &Path, port: u16, host: &Host) -> Result<Started, String> {
    let directory = host.directory("redis")?;
    let started = random_hex(16).and_then(|password| {
        let file = directory.join("redis.conf");
        let settings = format!(
            "bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave \"\"\nappendonly no\ndir {}\n",
            directory.display()
        );
        host.write(&file, &settings)?;
        let shell = with_log_on_stderr(&programs.join(PROGRAM));
        let mut command = host.command(Path::new(shell.get_program()), &directory);
        command.args(shell.get_args()).arg(&file);
        let stop = Stop { signal: "TERM", directory: Some(directory.clone()), ..Stop::default() };
        launch(command, &stop, address(&password, port), READY, |address| Redis.check(address))
    });
    if started.is_err() {
        // Its guardian has removed it, unless not even that could be started.
        let _ = std::fs::remove_dir_all(&directory);
    }
    started
}

/// A shell that becomes the program, whose log is on standard output and wanted on standard error.
fn with_log_on_stderr(program: &Path) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "exec \"$0\" \"$@\" >&2"]).arg(program);
    command
}

fn address(password: &str, port: u16) -> String {
    format!("redis://:{password}@127.0.0.1:{port}")
}

/// `host:port` and the password of `redis://[user]:password@host[:port][/db]`.
fn parse(url: &str) -> Result<(String, Option<&str>), String> {
    let rest = url.strip_prefix("redis://").ok_or("the address must start with redis://")?;
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
    Ok((place, password.filter(|password| !password.is_empty())))
}

/// Says which Redis answers there.
fn ask(place: &str, password: Option<&str>) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let address = place.to_socket_addrs().map_err(said)?.next().ok_or("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(said)?;
    let login = password.map(|password| command(&["AUTH", password])).unwrap_or_default();
    stream.write_all((login + &command(&["INFO", "server"])).as_bytes()).map_err(said)?;
    let lines = BufReader::new(std::io::Read::take(stream, LINE_BYTES_MAX)).lines();
    for line in lines {
        let line = line.map_err(said)?;
        if let Some(version) = line.strip_prefix("redis_version:") {
            return Ok(format!("Redis {version} at {place}"));
        }
        if let Some(error) = line.strip_prefix('-') {
            return Err(error.to_owned());
        }
    }
    Err("it does not speak Redis".to_owned())
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
        assert_eq!(parse("redis://h"), Ok(("h:6379".to_owned(), None)));
        assert_eq!(parse("redis://:pw@h:1/0"), Ok(("h:1".to_owned(), Some("pw"))));
        assert_eq!(parse(&address("0a", 7)), Ok(("127.0.0.1:7".to_owned(), Some("0a"))));
        for wrong in ["", "rediss://h", "redis://", "redis://:pw@"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn commands_are_arrays_of_strings() {
        assert_eq!(command(&["AUTH", "pw"]), "*2\r\n$4\r\nAUTH\r\n$2\r\npw\r\n");
    }
}
