//! Stops what was started, whatever becomes of this process.
//!
//! Each guarded process gets a guardian: a small shell that waits on a pipe from this process. The
//! pipe ends when this process says so, or when it dies, by Ctrl-C, SIGTERM, a panic or SIGKILL, and
//! then the guardian stops the one process it was given, by its pid, and removes its directory. A
//! signal handler would cost unsafe code or a dependency, and would not survive SIGKILL. Between the
//! start of a process and that of its guardian there is about a millisecond in which nobody guards it.

use std::ffi::OsStr;
use std::io::{self, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// `$1` the target of kill (a pid, or minus a process group), `$2` the first signal, `$3` a directory
/// to remove or nothing, `$4` a container to remove or nothing.
///
/// Ten seconds after the first signal comes SIGKILL.
const GUARDIAN: &str = r#"
trap '' HUP INT TERM
# One that has ended and waits for its parent (a container's process 1 may never look) has ended.
alive() {
  kill -s 0 -- "$1" 2>/dev/null && ! grep -qs '^State:[[:space:]]*Z' "/proc/$1/status"
}
if read -r word && [ "$word" = done ]; then exit 0; fi
kill -s "$2" -- "$1" 2>/dev/null
tries=100
while [ "$tries" -gt 0 ] && alive "$1"; do
  tries=$((tries - 1))
  sleep 0.1
done
kill -s KILL -- "$1" 2>/dev/null
if [ -n "$4" ]; then docker rm --force "$4" >/dev/null 2>&1; fi
if [ -n "$3" ]; then rm -rf -- "$3"; fi
exit 0
"#;

/// How to stop a process, and what to clear away after it.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    /// The signal that asks it to end, such as `INT`.
    pub(crate) signal: &'static str,
    /// Whether the signal goes to the process group that the process leads.
    pub(crate) group: bool,
    /// A directory of its own, removed when it has ended.
    pub(crate) directory: Option<PathBuf>,
    /// A container of its own, removed when it has ended.
    pub(crate) container: Option<String>,
}

/// A child process with its guardian. Dropping it stops the child and waits for its end.
#[derive(Debug)]
pub(crate) struct Guarded {
    child: Child,
    guardian: Child,
}

impl Guarded {
    /// Starts `command` under a guardian.
    pub(crate) fn spawn(command: &mut Command, stop: &Stop) -> io::Result<Self> {
        if stop.group {
            command.process_group(0);
        }
        let mut child = command.spawn()?;
        let target = if stop.group { format!("-{}", child.id()) } else { child.id().to_string() };
        let guardian = guardian(&target, stop).stdin(Stdio::piped()).spawn();
        match guardian {
            Ok(guardian) => Ok(Self { child, guardian }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error)
            }
        }
    }

    /// The child, for its pipes and its pid.
    pub(crate) fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for the child to end by itself.
    pub(crate) fn wait(mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait()?;
        // The pid is free for others from here on: the guardian must not use it any more.
        if let Some(mut pipe) = self.guardian.stdin.take() {
            let _ = pipe.write_all(b"done\n");
        }
        let _ = self.guardian.wait();
        Ok(status)
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The end of the pipe is the guardian's sign. After `wait` both have ended, and this is nothing.
        drop(self.guardian.stdin.take());
        // Until it is waited for, the child's pid belongs to it, so the guardian cannot hit another.
        let _ = self.child.wait();
        let _ = self.guardian.wait();
    }
}

fn guardian(target: &str, stop: &Stop) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", GUARDIAN, "guardian", target, stop.signal])
        .arg(stop.directory.as_deref().map_or(OsStr::new(""), Path::as_os_str))
        .arg(stop.container.as_deref().unwrap_or(""))
        .current_dir("/")
        // Ctrl-C goes to the terminal's foreground group, and the guardian must outlive it.
        .process_group(0)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::process::ExitStatusExt as _;

    fn directory(name: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("xtask-guard-{}-{name}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        path
    }

    #[test]
    fn dropping_stops_the_child_and_removes_its_directory() {
        let path = directory("drop");
        let stop = Stop { signal: "TERM", directory: Some(path.clone()), ..Stop::default() };
        let mut guarded =
            Guarded::spawn(Command::new("sleep").arg("1000").stdout(Stdio::piped()), &stop).unwrap();
        let mut output = guarded.child().stdout.take().unwrap();
        drop(guarded);
        // The pipe of the child is at its end only when the child is.
        assert_eq!(output.read(&mut [0]).unwrap(), 0);
        assert!(!path.exists());
    }

    #[test]
    fn a_group_is_stopped_with_all_its_members() {
        let stop = Stop { signal: "TERM", group: true, ..Stop::default() };
        let mut guarded =
            Guarded::spawn(Command::new("sh").args(["-c", "sleep 1000; :"]).stdout(Stdio::piped()), &stop)
                .unwrap();
        let mut output = guarded.child().stdout.take().unwrap();
        drop(guarded);
        assert_eq!(output.read(&mut [0]).unwrap(), 0, "the grandchild holds the pipe as long as it lives");
    }

    #[test]
    fn a_child_that_ends_by_itself_is_left_alone() {
        let path = directory("wait");
        let stop = Stop { signal: "TERM", directory: Some(path.clone()), ..Stop::default() };
        let status =
            Guarded::spawn(Command::new("sh").args(["-c", "exit 7"]), &stop).unwrap().wait().unwrap();
        assert_eq!((status.code(), status.signal()), (Some(7), None));
        assert!(path.exists(), "`done` ends the guardian without a trace");
        std::fs::remove_dir(path).unwrap();
    }

    #[test]
    fn a_parent_killed_by_sigkill_takes_its_child_with_it() {
        let path = directory("killed");
        let mut child = Command::new("sleep").arg("1000").spawn().unwrap();
        // Another `sleep` plays the parent: it holds the only writing end of the guardian's pipe.
        let mut parent = Command::new("sleep").arg("1000").stdout(Stdio::piped()).spawn().unwrap();
        let stop = Stop { signal: "TERM", directory: Some(path.clone()), ..Stop::default() };
        let mut guardian =
            guardian(&child.id().to_string(), &stop).stdin(parent.stdout.take().unwrap()).spawn().unwrap();
        parent.kill().unwrap();
        assert_eq!(parent.wait().unwrap().signal(), Some(9));
        assert_eq!(child.wait().unwrap().signal(), Some(15));
        assert!(guardian.wait().unwrap().success());
        assert!(!path.exists());
    }
}
