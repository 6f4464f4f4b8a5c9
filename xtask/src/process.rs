//! Where the workspace is, and how `cargo` and other programs are run from here.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::error::Error;
use crate::guard::{Guarded, Stop};

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

/// What a short command prints to its standard output; nothing when it cannot be run or fails.
pub(crate) fn output_of(command: &mut Command) -> Option<String> {
    let output = command.stdin(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a short command can be run and succeeds; its output is not shown.
pub(crate) fn answers(command: &mut Command) -> bool {
    output_of(command).is_some()
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
    fn a_failing_command_is_told_from_one_that_cannot_run() {
        assert!(!succeeds(Command::new("sh").args(["-c", "exit 3"])).unwrap());
        let error = succeeds(&mut Command::new("/nonexistent/program")).unwrap_err();
        assert!(matches!(error, Error::Io { .. }), "{error}");
    }
}
