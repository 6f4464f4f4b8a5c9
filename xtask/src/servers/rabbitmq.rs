//! RabbitMQ: where its programs are, and how one of its own is started by `xtask/rabbitmq/start`, which the tests
//! that kill theirs use as well.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::host::{Host, free_ports, random_hex, with_free_port};
use super::postgres::apt_get;
use super::redis::with_log_on_stderr;
use super::{Server, Started, launch};
use crate::guard::Stop;

/// Becomes the server.
const START: &str = include_str!("../../rabbitmq/start");
/// In its log once it takes connections.
const READY: &str = "Server startup complete";
/// The image, where Docker is used.
const IMAGE: &str = "rabbitmq:4-alpine";
/// The user of one that we started, and its only one.
const USER: &str = "paymesh";
/// How long each step of the conversation may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// What a client of AMQP 0-9-1 begins with (section 4.2.2 of its specification).
const HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";
/// The server's first frame: a method, on channel 0 (section 4.2.3).
const METHOD: &[u8] = &[1, 0, 0];
/// Longer than the frame in which it introduces itself.
const FRAME_BYTES_MAX: usize = 4_096;

/// The broker of events.
#[derive(Debug)]
pub(super) struct RabbitMq;

impl Server for RabbitMq {
    fn name(&self) -> &'static str {
        "RabbitMQ"
    }

    fn variable(&self) -> &'static str {
        "PAYMESH_TEST_RABBITMQ_URL"
    }

    fn installations(&self) -> Vec<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let usual = ["/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin"].map(PathBuf::from);
        let mut found: Vec<PathBuf> = Vec::new();
        for directory in usual.into_iter().chain(std::env::split_paths(&path)) {
            // Debian's program in the PATH is another one: it takes nobody but its own user.
            let whole = ["rabbitmq-server", "rabbitmq-env"].iter().all(|name| directory.join(name).is_file());
            if whole && !found.contains(&directory) {
                found.push(directory);
            }
        }
        found
    }

    fn start_installed(&self, programs: &Path, host: &Host) -> Result<Started, String> {
        with_free_port(|port| {
            let directory = host.directory("rabbitmq")?;
            let started = start(&directory, programs, port, host);
            if started.is_err() {
                // Its guardian has removed it, unless not even that could be started.
                let _ = std::fs::remove_dir_all(&directory);
            }
            started
        })
    }

    fn start_docker(&self, _host: &Host) -> Result<Started, String> {
        let password = random_hex(16)?;
        with_free_port(|port| {
            let container = format!("paymesh-rabbitmq-{}", random_hex(8)?);
            let mut command = with_log_on_stderr(Path::new("docker"));
            command
                .args(["run", "--rm", "--name", &container])
                .args(["--publish", &format!("127.0.0.1:{port}:5672")])
                // By name only, so that the password is not in the list of processes.
                .args(["--env", "RABBITMQ_DEFAULT_USER", "--env", "RABBITMQ_DEFAULT_PASS"])
                .env("RABBITMQ_DEFAULT_USER", USER)
                .env("RABBITMQ_DEFAULT_PASS", &password)
                .arg(IMAGE);
            let stop = Stop { signal: "TERM", container: Some(container), ..Stop::default() };
            launch(command, &stop, address(&password, port), READY, |address| self.check(address))
        })
    }

    fn install_packages(&self) -> Result<(), String> {
        apt_get(&["update"])?;
        apt_get(&["install", "rabbitmq-server"])
    }

    fn check(&self, address: &str) -> Result<String, String> {
        let place = place(address)?;
        ask(place).map_err(|reason| format!("{place}: {reason}"))
    }

    fn advice(&self) -> &'static str {
        "install RabbitMQ 3.10 or later (Debian: apt-get install rabbitmq-server; macOS: brew install rabbitmq) or start Docker"
    }
}

fn start(directory: &Path, programs: &Path, port: u16, host: &Host) -> Result<Started, String> {
    let [epmd, nodes] = free_ports()?;
    let password = random_hex(16)?;
    host.write(&directory.join("password"), &password)?;
    // Its own copy: the workspace may be where the server's user has no access.
    let script = directory.join("start");
    host.write(&script, START)?;
    let mut command = host.command(Path::new("/bin/sh"), directory);
    command.arg(script).arg(directory).arg(programs);
    command.args([port, epmd, nodes].map(|port| port.to_string()));
    // Nothing of it is needed afterwards.
    let stop = Stop { signal: "KILL", group: true, directory: Some(directory.to_owned()), ..Stop::default() };
    launch(command, &stop, address(&password, port), READY, |address| RabbitMq.check(address))
}

fn address(password: &str, port: u16) -> String {
    format!("amqp://{USER}:{password}@127.0.0.1:{port}/%2f")
}

/// `host:port` of `amqp://user:password@host:port/vhost`.
fn place(url: &str) -> Result<&str, String> {
    let rest = url.strip_prefix("amqp://").ok_or("the address must start with amqp://")?;
    let authority = rest.split(['/', '?']).next().unwrap_or(rest);
    let (login, place) = authority.rsplit_once('@').ok_or("the address must name a user and a password")?;
    if login.contains(':') && place.contains(':') {
        Ok(place)
    } else {
        Err("the address must look like amqp://user:password@host:port/%2f".to_owned())
    }
}

/// Says which broker answers there.
fn ask(place: &str) -> Result<String, String> {
    let said = |error: std::io::Error| error.to_string();
    let address = place.to_socket_addrs().map_err(said)?.next().ok_or("the name has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(said)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(said)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(said)?;
    stream.write_all(HEADER).map_err(said)?;
    let mut head = [0; 7];
    stream.read_exact(&mut head).map_err(said)?;
    let length = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !head.starts_with(METHOD) || length > FRAME_BYTES_MAX {
        return Err("it does not speak AMQP 0-9-1".to_owned());
    }
    let mut frame = vec![0; length];
    stream.read_exact(&mut frame).map_err(said)?;
    let version = version(&frame).ok_or("it does not say its version")?;
    Ok(format!("RabbitMQ {version} at {place}"))
}

/// The value of `version` in the server's properties: a long string, `S` and its length before it.
fn version(frame: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = frame.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let (length, rest) = frame.get(at..)?.split_first_chunk()?;
    let text = rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    String::from_utf8(text.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_apart() {
        assert_eq!(place(&address("0a", 7)), Ok("127.0.0.1:7"));
        for wrong in ["", "amqps://u:p@h:1/", "amqp://h:1/", "amqp://u@h:1", "amqp://u:p@h/"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_version_is_read_from_its_introduction() {
        let frame = b"..\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8rest";
        assert_eq!(version(frame).as_deref(), Some("3.10.8"));
        assert_eq!(version(b"\x07versionS\0\0\xff\xff1"), None);
        assert_eq!(version(b"none"), None);
    }
}
