//! A second reader and writer of ACH files: built from the Go modules that `xtask/ach` names. Nothing runs: the tests
//! call the program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::go::{self, GoProgram};
use super::host::Host;
use super::{Server, Started};

const PROGRAM: GoProgram =
    GoProgram { name: "ach", files: &["go.sum", "main.go"], what: "moov-io/ach's reader and writer, once" };

/// What reads our ACH files, and writes some of its own.
#[derive(Debug)]
pub(super) struct Ach;

impl Server for Ach {
    fn name(&self) -> &'static str {
        "moov-io/ach"
    }

    /// The program's path.
    fn variable(&self) -> &'static str {
        "PAYMESH_TEST_ACH"
    }

    fn installations(&self) -> Vec<PathBuf> {
        PROGRAM.installations()
    }

    fn can_install(&self, host: &Host) -> bool {
        GoProgram::can_install(host)
    }

    fn start_installed(&self, programs: &Path, _host: &Host) -> Result<Started, String> {
        let address = programs.join(PROGRAM.name).display().to_string();
        Ok(Started { address, process: None, ended: None })
    }

    fn start_docker(&self, _host: &Host) -> Result<Started, String> {
        Err("the tests call it as a program".to_owned())
    }

    fn install_packages(&self) -> Result<(), String> {
        PROGRAM.install()
    }

    fn check(&self, address: &str) -> Result<String, String> {
        let said = Command::new(address).arg("changes").stdin(Stdio::null()).output();
        match said {
            Ok(output) if output.status.success() => Ok(address.to_owned()),
            Ok(output) => Err(format!("{address}: {}", output.status)),
            Err(error) => Err(format!("{address}: {error}")),
        }
    }

    fn advice(&self) -> &'static str {
        go::ADVICE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_is_not_there_is_told() {
        assert!(Ach.check("/nonexistent/ach").unwrap_err().contains("/nonexistent/ach"));
    }
}
