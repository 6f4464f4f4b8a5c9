//! SoftHSM 2: a PKCS#11 module in software. Nothing runs: the tests load the module, and find their tokens by a
//! configuration in a directory of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::host::Host;
use super::postgres::apt_get;
use super::{Server, Started, launch};
use crate::guard::Stop;

/// The module's file name.
const MODULE: &str = "libsofthsm2.so";
/// Where packages put it.
const USUAL: [&str; 5] = [
    "/usr/lib/softhsm",
    "/usr/lib/x86_64-linux-gnu/softhsm",
    "/usr/lib/aarch64-linux-gnu/softhsm",
    "/usr/lib64/softhsm",
    "/opt/homebrew/lib/softhsm",
];
/// What the line of the configuration begins with that says where the module is; to SoftHSM a comment.
const NAMES_MODULE: &str = "# module = ";
/// What the keeper of the directory says first.
const READY: &str = "ready";

/// What keeps keys in the tests.
#[derive(Debug)]
pub(super) struct SoftHsm;

impl Server for SoftHsm {
    fn name(&self) -> &'static str {
        "SoftHSM"
    }

    /// SoftHSM's own variable: its configuration, with the module in a comment.
    fn variable(&self) -> &'static str {
        "SOFTHSM2_CONF"
    }

    fn installations(&self) -> Vec<PathBuf> {
        USUAL.map(PathBuf::from).into_iter().filter(|directory| directory.join(MODULE).is_file()).collect()
    }

    fn start_installed(&self, programs: &Path, host: &Host) -> Result<Started, String> {
        let directory = host.directory("softhsm")?;
        let said = |error: std::io::Error| error.to_string();
        let (tokens, file) = (directory.join("tokens"), directory.join("softhsm2.conf"));
        let settings = format!(
            "{NAMES_MODULE}{}\ndirectories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            programs.join(MODULE).display(),
            tokens.display()
        );
        std::fs::create_dir(&tokens).and_then(|()| std::fs::write(&file, settings)).map_err(said)?;
        // It keeps nothing but the directory, which goes when it does.
        let mut keeper = Command::new("/bin/sh");
        keeper.args(["-c", "echo ready >&2; while :; do sleep 3600; done"]);
        let stop = Stop { signal: "KILL", group: true, directory: Some(directory), ..Stop::default() };
        launch(keeper, &stop, file.display().to_string(), READY, |address| self.check(address))
    }

    fn start_docker(&self, _host: &Host) -> Result<Started, String> {
        Err("its module is loaded into the tests".to_owned())
    }

    fn install_packages(&self) -> Result<(), String> {
        apt_get(&["update"])?;
        apt_get(&["install", "softhsm2"])
    }

    fn check(&self, address: &str) -> Result<String, String> {
        let settings = std::fs::read_to_string(address).map_err(|error| format!("{address}: {error}"))?;
        let module =
            module(&settings).ok_or(format!("{address}: has no line that begins with {NAMES_MODULE:?}"))?;
        if Path::new(module).is_file() {
            Ok(module.to_owned())
        } else {
            Err(format!("{module}: is not there"))
        }
    }

    fn advice(&self) -> &'static str {
        "install SoftHSM 2 (Debian: apt-get install softhsm2; macOS: brew install softhsm)"
    }
}

fn module(settings: &str) -> Option<&str> {
    settings.lines().find_map(|line| line.strip_prefix(NAMES_MODULE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_module_is_named_in_a_comment() {
        assert_eq!(module("a = b\n# module = /lib/x.so\n"), Some("/lib/x.so"));
        assert_eq!(module("directories.tokendir = /x\n"), None);
        assert!(SoftHsm.check("/nonexistent").is_err());
    }
}
