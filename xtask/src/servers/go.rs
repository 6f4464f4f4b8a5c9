//! Programs that are built from Go modules: where to, with what, and how Go is had.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::host::Host;
use super::postgres::apt_get;
use crate::process::{answers, output_of, root};

/// Before it, `go` does not fetch the toolchain that a module asks for.
const GO_MINOR_MIN: u32 = 21;

/// What to do where Go cannot be had.
pub(super) const ADVICE: &str =
    "install Go 1.21 or later (Debian: apt-get install golang-go), from which it is built";

/// A program of the modules in `xtask/<name>`, which is called `name` itself.
pub(super) struct GoProgram {
    pub(super) name: &'static str,
    /// The files of the modules' directory that it is built anew for.
    pub(super) files: &'static [&'static str],
    /// What is built, and how long that takes.
    pub(super) what: &'static str,
}

impl GoProgram {
    /// Where it is built to, apart for each set of modules.
    pub(super) fn directory(&self) -> PathBuf {
        let mut hasher = DefaultHasher::new();
        for file in self.files {
            std::fs::read(self.modules().join(file)).unwrap_or_default().hash(&mut hasher);
        }
        let target =
            std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from);
        target.join("tools").join(format!("{}-{:016x}", self.name, hasher.finish()))
    }

    /// That, where it has been built.
    pub(super) fn installations(&self) -> Vec<PathBuf> {
        let built = self.directory();
        if built.join(self.name).is_file() { vec![built] } else { Vec::new() }
    }

    /// Whether it can be built.
    pub(super) fn can_install(host: &Host) -> bool {
        go_is_new_enough() || host.installs_packages()
    }

    /// Builds it, with Go installed first where need be.
    pub(super) fn install(&self) -> Result<(), String> {
        if !go_is_new_enough() {
            apt_get(&["update"])?;
            apt_get(&["install", "golang-go"])?;
        }
        let mut command = Command::new("go");
        command.args(["build", "-trimpath", "-o"]).arg(self.directory().join(self.name)).arg(".");
        command.current_dir(self.modules()).stdin(Stdio::null()).stdout(std::io::stderr());
        eprintln!("── servers: building {}", self.what);
        match command.status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("go build: {status}")),
            Err(error) => Err(format!("go build: {error}")),
        }
    }

    fn modules(&self) -> PathBuf {
        root().join("xtask").join(self.name)
    }
}

fn go_is_new_enough() -> bool {
    answers(Command::new("go").arg("version"))
        && output_of(Command::new("go").arg("version"))
            .and_then(|said| go_minor(&said))
            .is_some_and(|minor| minor >= GO_MINOR_MIN)
}

/// 26 of `go version go1.26.8 linux/amd64`.
fn go_minor(said: &str) -> Option<u32> {
    let version = said.split_whitespace().nth(2)?.strip_prefix("go1.")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_of_go_is_read() {
        assert_eq!(go_minor("go version go1.26.8 linux/amd64"), Some(26));
        assert_eq!(go_minor("go version go1.19 linux/arm64"), Some(19));
        assert_eq!(go_minor("command not found"), None);
    }
}
