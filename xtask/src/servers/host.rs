//! This machine, as far as servers care: users, ports, directories, Docker, the package manager.

use std::collections::VecDeque;
use std::fs::{self, DirBuilder};
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStderr, Command};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use crate::process::{answers, answers_within, output_of};

/// How long a server may take until it is ready. A container's image may have to be fetched first.
const START_MAX: Duration = Duration::from_secs(120);
/// How long Docker's daemon may take to say that it is there.
const DOCKER_ANSWERS_MAX: Duration = Duration::from_secs(5);
/// How many lines of its log are shown when it does not get ready.
const LAST_WORDS: usize = 3;

/// What was found out about this machine.
#[derive(Debug)]
pub(super) struct Host {
    root: bool,
    /// The user and group that a server runs as when we are root, which several servers refuse.
    unprivileged: Option<(u32, u32)>,
}

impl Host {
    /// Looks at the machine once.
    pub(super) fn look() -> Self {
        let root = id(&["-u"]) == Some(0);
        Self { root, unprivileged: root.then(unprivileged_user).flatten() }
    }

    /// Whether packages can be installed: root on Debian or what is made from it.
    pub(super) fn installs_packages(&self) -> bool {
        self.root
            && Path::new("/etc/debian_version").exists()
            && answers(Command::new("apt-get").arg("--version"))
    }

    /// A new directory that only the server's user can enter.
    pub(super) fn directory(&self, name: &str) -> Result<PathBuf, String> {
        let path = std::env::temp_dir().join(format!("paymesh-{name}-{}", random_hex(8)?));
        let said = |error: std::io::Error| format!("could not make {}: {error}", path.display());
        DirBuilder::new().mode(0o700).create(&path).map_err(said)?;
        self.give(&path)?;
        Ok(path)
    }

    /// Writes a file that belongs to the server's user.
    pub(super) fn write(&self, path: &Path, text: &str) -> Result<(), String> {
        fs::write(path, text).map_err(|error| format!("could not write {}: {error}", path.display()))?;
        self.give(path)
    }

    /// Makes a file or directory the server's user's.
    pub(super) fn give(&self, path: &Path) -> Result<(), String> {
        self.unprivileged.map_or(Ok(()), |(user, group)| {
            chown(path, Some(user), Some(group))
                .map_err(|error| format!("could not give {} to user {user}: {error}", path.display()))
        })
    }

    /// A command that runs as the server's user, in its directory.
    pub(super) fn command(&self, program: &Path, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(directory).env("HOME", directory);
        if let Some((user, group)) = self.unprivileged {
            command.uid(user).gid(group);
        }
        command
    }
}

/// Whether Docker's daemon answers; if not, why not.
pub(super) fn docker_runs() -> Result<(), String> {
    if answers_within(Command::new("docker").arg("info"), DOCKER_ANSWERS_MAX) {
        Ok(())
    } else if answers_within(Command::new("docker").arg("--version"), DOCKER_ANSWERS_MAX) {
        Err(format!("its daemon does not answer, not within {} s", DOCKER_ANSWERS_MAX.as_secs()))
    } else {
        Err("it is not installed, or does not run".to_owned())
    }
}

/// `id` of coreutils: the standard library does not say who we are.
fn id(arguments: &[&str]) -> Option<u32> {
    output_of(Command::new("id").args(arguments))?.trim().parse().ok()
}

/// The database's own user where there is one, else the one that owns nothing.
fn unprivileged_user() -> Option<(u32, u32)> {
    ["postgres", "nobody"].iter().find_map(|name| Some((id(&["-u", name])?, id(&["-g", name])?)))
}

/// A port that nothing listens on at the moment.
fn free_port() -> Result<u16, String> {
    free_ports().map(|[port]| port)
}

/// Different ports that nothing listens on at the moment.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], String> {
    let said = |error: std::io::Error| format!("no free port: {error}");
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(said)?;
        *port = listener.local_addr().map_err(said)?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Starts a server on a free port, and once more on another when it does not get ready: between our
/// look and its own, anything may have taken the port.
pub(super) fn with_free_port<T>(mut start: impl FnMut(u16) -> Result<T, String>) -> Result<T, String> {
    let first = free_port()?;
    start(first).or_else(|reason| {
        // Held while the next is chosen, so that it is another one.
        let _held = TcpListener::bind((Ipv4Addr::LOCALHOST, first));
        let second = free_port()?;
        eprintln!("── servers: not started on port {first}: {reason}; once more on {second}");
        start(second)
    })
}

/// `bytes` random bytes in hex, from the system.
pub(super) fn random_hex(bytes: usize) -> Result<String, String> {
    use std::fmt::Write as _;
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut random))
        .map_err(|error| format!("no randomness: {error}"))?;
    Ok(random.iter().fold(String::new(), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    }))
}

/// Reads a log to its end on a thread of its own, so that its writer never waits for us.
///
/// The second channel closes at the end of the log.
pub(super) fn follow(log: ChildStderr) -> (Receiver<String>, Receiver<()>) {
    let (line_sender, lines) = mpsc::channel();
    let (end_sender, ended) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).split(b'\n').map_while(Result::ok) {
            let _ = line_sender.send(String::from_utf8_lossy(&line).into_owned());
        }
        drop(end_sender);
    });
    (lines, ended)
}

/// Waits for a line that contains `ready` and for which `check` holds.
pub(super) fn wait_for(
    lines: &Receiver<String>,
    ready: &str,
    check: impl Fn() -> bool,
) -> Result<(), String> {
    let deadline = Instant::now() + START_MAX;
    let mut last_words = VecDeque::new();
    let why = loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(ready) && check() => return Ok(()),
            Ok(line) if line.trim().is_empty() => {}
            Ok(line) => {
                last_words.push_back(line);
                if last_words.len() > LAST_WORDS {
                    last_words.pop_front();
                }
            }
            Err(RecvTimeoutError::Timeout) => break format!("not ready after {} s", START_MAX.as_secs()),
            Err(RecvTimeoutError::Disconnected) => break "it ended".to_owned(),
        }
    };
    Err(format!("{why}; it last said: {}", Vec::from(last_words).join(" / ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_needs_the_line_and_the_check() {
        let (sender, lines) = mpsc::channel();
        for line in ["starting", "ready to accept", "restarting", "ready to accept"] {
            sender.send(line.to_owned()).unwrap();
        }
        let asked = std::cell::Cell::new(0);
        // The container of PostgreSQL says it twice: the first is its initialization, not reachable.
        wait_for(&lines, "ready to accept", || {
            asked.set(asked.get() + 1);
            asked.get() == 2
        })
        .unwrap();
        assert_eq!(asked.get(), 2);
    }

    #[test]
    fn a_server_that_ends_tells_its_last_words() {
        let (sender, lines) = mpsc::channel();
        sender.send("FATAL: data directory is broken".to_owned()).unwrap();
        drop(sender);
        let error = wait_for(&lines, "ready", || true).unwrap_err();
        assert!(error.ends_with("FATAL: data directory is broken"), "{error}");
    }

    #[test]
    fn a_server_that_does_not_start_gets_one_other_port() {
        let mut ports = Vec::new();
        let started = with_free_port(|port| {
            ports.push(port);
            if ports.len() == 2 { Ok(port) } else { Err("address already in use".to_owned()) }
        });
        assert_eq!(started, Ok(ports[1]));
        assert_ne!(ports[0], ports[1]);

        let mut attempts = 0;
        let failed = with_free_port(|_| {
            attempts += 1;
            Err::<(), _>(format!("failure {attempts}"))
        });
        assert_eq!(failed, Err("failure 2".to_owned()));
    }

    #[test]
    fn a_directory_is_new_and_private() {
        use std::os::unix::fs::MetadataExt as _;
        let host = Host { root: false, unprivileged: None };
        let (first, second) = (host.directory("test").unwrap(), host.directory("test").unwrap());
        assert_ne!(first, second);
        assert_eq!(fs::metadata(&first).unwrap().mode() & 0o777, 0o700);
        fs::remove_dir(first).unwrap();
        fs::remove_dir(second).unwrap();
    }
}
