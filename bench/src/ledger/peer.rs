//! The ways to call a ledger, wherever it runs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::Uri;
use mesh::tls::Identity;
use mesh::{Harness, SpiffeId, Upstream};
use paymesh_proto::ledger::v1::account_result;
use paymesh_proto::ledger::v1::ledger_service_client::LedgerServiceClient;
use paymesh_proto::ledger::v1::{AccountResult, CreateAccountsRequest, LookupAccountsRequest};
use tokio_rustls::rustls::ClientConfig;
use tonic::Code;

use super::workload::Accounts;
use super::{PER_CALL_MAX, caller, request};
use crate::echo::{CALLER, Connection, connection};
use crate::error::BenchError;

/// The workload that is measured.
pub(super) const SERVICE: &str = "svc-ledger";

/// How long a ledger may take until it answers.
const READY_MAX: Duration = Duration::from_secs(120);
const ASK_EVERY: Duration = Duration::from_millis(20);

/// A ledger's address, and who calls it.
pub(super) struct Peer {
    address: SocketAddr,
    service: SpiffeId,
    caller: Identity,
    tls: Arc<ClientConfig>,
}

impl Peer {
    /// A caller with a certificate of the harness.
    pub(super) fn new(harness: &Harness, address: SocketAddr) -> Result<Self, BenchError> {
        let (caller, service) = (Identity::load(&harness.certificate(CALLER)?)?, SpiffeId::of(SERVICE)?);
        let tls = caller.client_config(&service)?;
        Ok(Self { address, service, caller, tls })
    }

    /// A way to call it as services do. Within the runtime that is to own its connections.
    pub(super) fn client(&self) -> Result<LedgerServiceClient<Upstream>, BenchError> {
        let upstream = Upstream::new(&self.caller, &self.service, &self.address.to_string())?;
        Ok(LedgerServiceClient::new(upstream))
    }

    /// One connection, made as the echo's are, so that what is compared has the same client.
    pub(super) async fn connect(&self) -> Result<LedgerServiceClient<Connection>, BenchError> {
        let connection = connection(self.address, &self.tls).await?;
        Ok(LedgerServiceClient::with_origin(connection, Uri::from_static("http://ledger")))
    }

    /// Opens the accounts, once the ledger answers.
    pub(super) fn open(&self, accounts: &Accounts) -> Result<(), BenchError> {
        caller()?.block_on(async {
            let mut client = self.client()?;
            told(&mut client, accounts).await?;
            for accounts in accounts.to_open(PER_CALL_MAX as usize) {
                let answer = client.create_accounts(request(CreateAccountsRequest { accounts })?).await?;
                let results = answer.into_inner().results;
                let mut codes = results.iter().map(AccountResult::code);
                if let Some(other) = codes.find(|code| *code != account_result::Code::Created) {
                    let why = format!("an account was not opened: {}", other.as_str_name());
                    return Err(BenchError::Ledger(why));
                }
            }
            Ok(())
        })
    }

    /// Asks for one of the accounts until the ledger answers; it must be there.
    pub(super) fn ask(&self, accounts: &Accounts) -> Result<(), BenchError> {
        match caller()?.block_on(async { told(&mut self.client()?, accounts).await })? {
            0 => Err(BenchError::Ledger("an account is gone".to_owned())),
            _ => Ok(()),
        }
    }
}

/// How many of the first of the accounts there are: none or one. A ledger on PostgreSQL serves once it leads.
async fn told(client: &mut LedgerServiceClient<Upstream>, accounts: &Accounts) -> Result<usize, BenchError> {
    let deadline = Instant::now() + READY_MAX;
    loop {
        match client.lookup_accounts(request(LookupAccountsRequest { ids: accounts.first() })?).await {
            Err(status) if status.code() == Code::Unavailable && Instant::now() < deadline => {
                tokio::time::sleep(ASK_EVERY).await;
            }
            answer => return Ok(answer?.into_inner().accounts.len()),
        }
    }
}
