//! svc-ledger in a process of its own, which is this program once more: so that its memory is its own, and it
//! can be killed.

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use mesh::Harness;
use svc_ledger::{Config, Ledger};
use tempfile::TempDir;

use super::peer::{Peer, SERVICE};
use super::workload::Accounts;
use crate::error::BenchError;
use crate::{cpu, disk, memory};

/// What the child says first.
const READY: &str = "ready at ";

/// The child's part: serves from `directory` until its standard input is closed, which is also when its parent
/// has gone.
pub(super) fn serve(directory: &Path) -> Result<(), BenchError> {
    let mut harness = Harness::new(directory)?;
    let runtime = mesh::run::runtime()?;
    let running = runtime.block_on(harness.start::<Ledger>(Config::default()))?;
    println!("{READY}{}", running.address);
    std::io::stdin().read_to_end(&mut Vec::new()).map_err(BenchError::io("standard input"))?;
    runtime.block_on(running.stop());
    Ok(())
}

/// A running ledger. Its data goes when it is dropped.
pub(super) struct Process {
    child: Child,
    pub(super) peer: Peer,
    directory: TempDir,
    log: String,
}

impl Process {
    /// Starts it in a directory below `parent`; it logs as `log` says.
    pub(super) fn start(parent: &Path, log: &str) -> Result<Self, BenchError> {
        let (directory, log) = (disk::directory_in(parent)?, log.to_owned());
        let (child, peer) = start(directory.path(), &log)?;
        Ok(Self { child, peer, directory, log })
    }

    /// Where it keeps its data.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.path().join(SERVICE)
    }

    /// Its memory.
    pub(super) fn memory(&self) -> String {
        memory::of(self.child.id())
    }

    /// The CPU time that it has used since it was started.
    pub(super) fn cpu(&self) -> Option<Duration> {
        cpu::used_by(self.child.id())
    }

    /// Kills it, and starts it anew on what it left: how long that took, until it has told of an account.
    pub(super) fn kill_and_restart(&mut self, accounts: &Accounts) -> Result<Duration, BenchError> {
        self.child.kill().map_err(BenchError::io("killing the ledger"))?;
        self.restart(accounts)
    }

    /// The same after an orderly end.
    pub(super) fn stop_and_restart(&mut self, accounts: &Accounts) -> Result<Duration, BenchError> {
        drop(self.child.stdin.take());
        self.restart(accounts)
    }

    fn restart(&mut self, accounts: &Accounts) -> Result<Duration, BenchError> {
        self.child.wait().map_err(BenchError::io("the end of the ledger"))?;
        let begun = Instant::now();
        (self.child, self.peer) = start(self.directory.path(), &self.log)?;
        self.peer.ask(accounts)?;
        Ok(begun.elapsed())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn start(directory: &Path, log: &str) -> Result<(Child, Peer), BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("the path of this program"))?;
    let mut child = Command::new(&program)
        .args(["ledger", "--log", log, "--serve"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(BenchError::io(program.display().to_string()))?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        BufReader::new(stdout).read_line(&mut said).map_err(BenchError::io("what the ledger says"))?;
    }
    let address = said.strip_prefix(READY).and_then(|address| address.trim().parse().ok());
    let Some(address) = address else {
        // It has said why on standard error, which is ours.
        let _ = child.kill();
        let _ = child.wait();
        return Err(BenchError::Ledger("it did not start".to_owned()));
    };
    let peer = Peer::new(&Harness::new(directory)?, address)?;
    Ok((child, peer))
}
