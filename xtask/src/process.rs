//! Where the workspace is, and how `cargo` and other programs are run from here.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::error::Error;
use crate::guard::{Guarded, Stop};

/// How long the output of a command that has ended may take to be read to its end.
const REST_OF_OUTPUT: Duration = Duration::from_secs(2);

/// The workspace's root: the directory that holds this crate's.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// `cargo`, the one that runs this task, in the root and with a clean environment.
///
/// `cargo run` describes *this* crate to its child in variables. Handed on, they would differ from
/// what a plain `cargo test` sees, and build scripts that watch them would run again each time.
pub(crate) fn cargo() -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.current_dir(root()).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(describes_this_crate) {
            command.env_remove(name);
        }
    }
    command
}

fn describes_this_crate(variable: &str) -> bool {
    variable.starts_with("CARGO_PKG_")
        || matches!(
            variable,
            "CARGO"
                | "CARGO_MANIFEST_DIR"
                | "CARGO_MANIFEST_PATH"
                | "CARGO_CRATE_NAME"
                | "CARGO_BIN_NAME"
                | "CARGO_PRIMARY_PACKAGE"
                | "OUT_DIR"
        )
}

/// Runs a command to its end, with its output where ours goes. `Ok(false)` when it failed.
///
/// It leads a process group of its own, so that all of it is stopped when this process is.
pub(crate) fn succeeds(command: &mut Command) -> Result<bool, Error> {
    let doing = format!("run `{}`", shown(command));
    let stop = Stop { signal: "TERM", group: true, ..Stop::default() };
    let status = Guarded::spawn(command, &stop).and_then(Guarded::wait).map_err(Error::io(doing))?;
    Ok(status.success())
}

/// As [`succeeds`]; `watch` also sees each line that goes to the standard output.
pub(crate) fn succeeds_watched(
    command: &mut Command,
    mut watch: impl FnMut(&str) + Send + 'static,
) -> Result<bool, Error> {
    let doing = format!("run `{}`", shown(command));
    let stop = Stop { signal: "TERM", group: true, ..Stop::default() };
    let mut child =
        Guarded::spawn(command.stdout(Stdio::piped()), &stop).map_err(Error::io(doing.as_str()))?;
    let output = child.child().stdout.take();
    let (sender, all_read) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _sender = sender;
        let Some(mut output) = output.map(BufReader::new) else { return };
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            watch(String::from_utf8_lossy(&line).trim_end());
            // A closed output is not the command's failure.
            let _ = std::io::stdout().write_all(&line);
            line.clear();
        }
    });
    let status = child.wait().map_err(Error::io(doing))?;
    // The end of the output, or of our patience with something left behind that holds it open.
    let _ = all_read.recv_timeout(REST_OF_OUTPUT);
    Ok(status.success())
}

/// What a short command prints to its standard output; nothing when it cannot be run or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a short command can be run and succeeds; its output is not shown.
pub(crate) fn answers(command: &mut Command) -> bool {
    output_of(command).is_some()
}

/// Whether a command succeeds within a time; it is killed when that is over. Its output is not shown.
pub(crate) fn answers_within(command: &mut Command, limit: Duration) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return false };
    let output = child.stdout.take();
    let (sender, ended) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        let _sender = sender;
        let _ = output.map(|mut output| std::io::copy(&mut output, &mut std::io::sink()));
    });
    // Nothing is sent: the channel closes with the output, that is, when the command has ended.
    if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        let _ = child.kill();
    }
    child.wait().is_ok_and(|status| status.success())
}

/// The command as one would type it, its environment left out.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(|part| part.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        assert!(manifest.contains("[workspace]"));
    }

    #[test]
    fn settings_stay_and_descriptions_go() {
        for variable in ["CARGO_PKG_NAME", "CARGO_MANIFEST_DIR", "OUT_DIR"] {
            assert!(describes_this_crate(variable), "{variable}");
        }
        for variable in ["CARGO_HOME", "CARGO_TARGET_DIR", "CARGO_NET_OFFLINE", "RUSTFLAGS", "PATH"] {
            assert!(!describes_this_crate(variable), "{variable}");
        }
    }

    #[test]
    fn a_command_that_does_not_answer_in_time_is_killed() {
        assert!(answers_within(&mut Command::new("true"), Duration::from_secs(60)));
        assert!(!answers_within(&mut Command::new("false"), Duration::from_secs(60)));
        assert!(!answers_within(&mut Command::new("/nonexistent/program"), Duration::from_secs(60)));
        // It would hold this test up for a quarter of an hour.
        assert!(!answers_within(Command::new("sleep").arg("1000"), Duration::from_millis(1)));
    }

    #[test]
    fn every_line_of_a_watched_command_is_seen() {
        let (sender, lines) = mpsc::channel();
        let mut command = Command::new("sh");
        command.args(["-c", "echo one; echo two; exit 3"]);
        assert!(!succeeds_watched(&mut command, move |line| sender.send(line.to_owned()).unwrap()).unwrap());
        assert_eq!(lines.iter().collect::<Vec<_>>(), ["one", "two"]);
    }

    #[test]
    fn a_failing_command_is_told_from_one_that_cannot_run() {
        assert!(!succeeds(Command::new("sh").args(["-c", "exit 3"])).unwrap());
        let error = succeeds(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
