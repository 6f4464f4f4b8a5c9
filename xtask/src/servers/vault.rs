//! A server with the transit engine: built from the Go modules that `xtask/vault` names, and started over TLS with all
//! of it in memory.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::go::{self, GoProgram};
use super::host::{Host, with_free_port};
use super::{Server, Started, launch};
use crate::certificate::Certificate;
use crate::guard::Stop;

/// Says that it takes requests.
const READY: &str = "ready";
/// What the server writes for who asks it everything.
const ROOT_TOKEN: &str = "root-token";

const PROGRAM: GoProgram = GoProgram {
    name: "vault",
    files: &["go.sum", "main.go"],
    what: "Vault's transit engine, once: takes five minutes or so",
};

/// What wraps keys elsewhere.
#[derive(Debug)]
pub(super) struct Vault;

impl Server for Vault {
    fn name(&self) -> &'static str {
        "Vault (transit)"
    }

    /// `https://localhost:<port>#<directory>`, with `ca.pem`, `root-token` and `unseal-key` (base64) in the directory.
    fn variable(&self) -> &'static str {
        "PAYMESH_TEST_VAULT_URL"
    }

    fn installations(&self) -> Vec<PathBuf> {
        PROGRAM.installations()
    }

    fn can_install(&self, host: &Host) -> bool {
        GoProgram::can_install(host)
    }

    fn start_installed(&self, programs: &Path, host: &Host) -> Result<Started, String> {
        with_free_port(|port| {
            let directory = host.directory("vault")?;
            let started = start(programs, port, &directory);
            if started.is_err() {
                let _ = std::fs::remove_dir_all(&directory);
            }
            started
        })
    }

    fn start_docker(&self, _host: &Host) -> Result<Started, String> {
        Err("its container keeps its files to itself".to_owned())
    }

    fn install_packages(&self) -> Result<(), String> {
        PROGRAM.install()
    }

    fn check(&self, address: &str) -> Result<String, String> {
        let (url, directory) = address.split_once('#').ok_or("its address names no directory after a #")?;
        let directory = Path::new(directory);
        for name in ["ca.pem", ROOT_TOKEN, "unseal-key"] {
            if !directory.join(name).is_file() {
                return Err(format!("{name} is not in {}", directory.display()));
            }
        }
        if url.starts_with("https://") {
            Ok(url.to_owned())
        } else {
            Err("its address must begin with https://".into())
        }
    }

    fn advice(&self) -> &'static str {
        go::ADVICE
    }
}

fn start(programs: &Path, port: u16, directory: &Path) -> Result<Started, String> {
    let made = Certificate::make(directory).map_err(|error| error.to_string())?;
    let stop = Stop { signal: "TERM", directory: Some(directory.to_owned()), ..Stop::default() };
    let mut command = Command::new(programs.join("vault"));
    command.arg(format!("127.0.0.1:{port}")).args([&made.cert, &made.key]).arg(directory);
    command.current_dir(directory);
    let address = format!("https://localhost:{port}#{}", directory.display());
    launch(command, &stop, address, READY, |address| Vault.check(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_directory_with_what_tests_need() {
        assert!(Vault.check("https://localhost:1").unwrap_err().contains('#'));
        assert!(Vault.check("https://localhost:1#/nonexistent").unwrap_err().contains("ca.pem"));
    }
}
