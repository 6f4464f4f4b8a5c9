//! svc-ledger with a CA and a directory of its own, and ways to call it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use mesh::tls::Identity;
use mesh::{Harness, Running, SpiffeId, Upstream};
use paymesh_proto::ledger::v1::account_result::Code;
use paymesh_proto::ledger::v1::ledger_service_client::LedgerServiceClient;
use paymesh_proto::ledger::v1::{AccountResult, CreateAccountsRequest, LookupAccountsRequest};
use svc_ledger::{Config, Ledger};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_rustls::rustls::ClientConfig;

use super::workload::Accounts;
use super::{PER_CALL_MAX, request};
use crate::disk;
use crate::echo::{CALLER, Connection, connection};
use crate::error::BenchError;

const SERVICE: &str = "svc-ledger";

/// A running ledger. Its data goes when it is dropped.
pub(super) struct Ground {
    /// The service's own; what it is given runs on.
    runtime: Runtime,
    harness: Harness,
    running: Running,
    config: Config,
    directory: TempDir,
}

impl Ground {
    /// Starts it in a directory below `parent`.
    pub(super) fn start(parent: &Path, config: Config) -> Result<Self, BenchError> {
        let directory = disk::directory_in(parent)?;
        let mut harness = Harness::new(directory.path())?;
        let runtime = mesh::run::runtime()?;
        let running = runtime.block_on(harness.start::<Ledger>(config.clone()))?;
        Ok(Self { runtime, harness, running, config, directory })
    }

    /// With accounts that are open.
    pub(super) fn with_accounts(
        parent: &Path,
        config: Config,
        accounts: &Accounts,
    ) -> Result<Self, BenchError> {
        let ground = Self::start(parent, config)?;
        ground.open(accounts)?;
        Ok(ground)
    }

    /// Where it keeps its data.
    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.path().join(SERVICE)
    }

    /// A way to call it as services do. Within the runtime that is to own its connections.
    pub(super) fn client(&self) -> Result<LedgerServiceClient<Upstream>, BenchError> {
        Ok(LedgerServiceClient::new(self.harness.upstream(CALLER, &self.running)?))
    }

    /// What connections to it are made with.
    pub(super) fn way(&self) -> Result<Way, BenchError> {
        let caller = Identity::load(&self.harness.certificate(CALLER)?)?;
        Ok(Way { address: self.running.address, tls: caller.client_config(&SpiffeId::of(SERVICE)?)? })
    }

    /// Opens the accounts.
    pub(super) fn open(&self, accounts: &Accounts) -> Result<(), BenchError> {
        self.runtime.block_on(async {
            let mut client = self.client()?;
            for accounts in accounts.to_open(PER_CALL_MAX as usize) {
                let answer = client.create_accounts(request(CreateAccountsRequest { accounts })?).await?;
                let results = answer.into_inner().results;
                if let Some(other) =
                    results.iter().map(AccountResult::code).find(|code| *code != Code::Created)
                {
                    return Err(BenchError::Ledger(format!(
                        "an account was not opened: {}",
                        other.as_str_name()
                    )));
                }
            }
            Ok(())
        })
    }

    /// Stops the service in order and starts it anew on the same data: how long each took, the latter until
    /// it has answered a question about an account.
    pub(super) fn restart(self, accounts: &Accounts) -> Result<(Self, Duration, Duration), BenchError> {
        let Self { runtime, mut harness, running, config, directory } = self;
        let begun = Instant::now();
        runtime.block_on(running.stop());
        let (stopped_in, begun) = (begun.elapsed(), Instant::now());
        let running = runtime.block_on(harness.start::<Ledger>(config.clone()))?;
        let ground = Self { runtime, harness, running, config, directory };
        let ids = accounts.first();
        let answer = ground.runtime.block_on(async {
            Ok::<_, BenchError>(
                ground.client()?.lookup_accounts(request(LookupAccountsRequest { ids })?).await?,
            )
        })?;
        if answer.into_inner().accounts.is_empty() {
            return Err(BenchError::Ledger("an account is gone after the restart".to_owned()));
        }
        Ok((ground, stopped_in, begun.elapsed()))
    }

    /// Stops it in order.
    pub(super) fn stop(self) {
        self.runtime.block_on(self.running.stop());
    }
}

/// Where the ledger is, and who calls it.
pub(super) struct Way {
    address: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Way {
    /// One connection, made as the echo's are, so that what is compared has the same client.
    pub(super) async fn connect(&self) -> Result<LedgerServiceClient<Connection>, BenchError> {
        let connection = connection(self.address, &self.tls).await?;
        Ok(LedgerServiceClient::with_origin(connection, Uri::from_static("http://ledger")))
    }
}
