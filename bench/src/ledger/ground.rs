//! svc-ledger within this process, with a CA and a directory of its own.

use std::path::{Path, PathBuf};

use mesh::{Harness, Running};
use svc_ledger::{Config, Ledger};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::peer::{Peer, SERVICE};
use super::workload::Accounts;
use crate::disk;
use crate::error::BenchError;

/// A running ledger. Its data goes when it is dropped.
pub(super) struct Ground {
    /// The service's own.
    runtime: Runtime,
    running: Running,
    pub(super) peer: Peer,
    directory: TempDir,
}

impl Ground {
    /// Starts it in a directory below `parent`, with accounts that are open.
    pub(super) fn start(parent: &Path, config: Config, accounts: &Accounts) -> Result<Self, BenchError> {
        let directory = disk::directory_in(parent)?;
        let mut harness = Harness::new(directory.path())?;
        let runtime = mesh::run::runtime()?;
        let running = runtime.block_on(harness.start::<Ledger>(config))?;
        let peer = Peer::new(&harness, running.address)?;
        peer.open(accounts)?;
        Ok(Self { runtime, running, peer, directory })
    }

    /// Where it keeps its data.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.path().join(SERVICE)
    }

    /// Stops it in order.
    pub(super) fn stop(self) {
        self.runtime.block_on(self.running.stop());
    }
}
