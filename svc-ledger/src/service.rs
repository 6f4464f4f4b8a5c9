//! The gRPC face: the contract's messages in the words of the domain, and back. Decides nothing.

mod checks;
#[cfg(test)]
pub(crate) mod draining;
mod feeds;
mod page;
mod queries;
#[cfg(test)]
mod remote;
mod streams;
mod wire;

use std::sync::Arc;

use mesh::{Call, Clock, Drain, Fault};
use money::Timestamp;
use paymesh_proto::ledger::v1 as proto;
use paymesh_proto::ledger::v1::{
    AuditRequest, AuditResponse, CreateAccountsRequest, CreateAccountsResponse, CreateTransfersRequest,
    CreateTransfersResponse, GetTrialBalanceRequest, LookupAccountsRequest, LookupAccountsResponse,
    LookupTransfersRequest, LookupTransfersResponse, SetAccountLimitsRequest, SetAccountLimitsResponse,
    ledger_service_server::{LedgerService, LedgerServiceServer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::{Request, Response, Status, Streaming};

use self::{feeds::Places, queries::Questions, streams::Messages};
use crate::{
    config::Vocabulary,
    domain::{AccountId, BATCH_MAX, TransferId},
    engine::EngineError,
    store::{Led, Pinned, Store},
};

/// A full batch with the longest texts is about 5 MiB; tonic's default limit is 4.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// The ledger's RPCs over a store.
pub(crate) fn server<S: Led>(
    store: S,
    clock: Arc<dyn Clock>,
    words: Vocabulary,
    drain: Drain,
    feeds_max: u32,
) -> LedgerServiceServer<Rpc<S>> {
    LedgerServiceServer::new(Rpc {
        store,
        clock,
        words: Arc::new(words),
        drain,
        feeds: Places::new(feeds_max),
        checking: Arc::new(Semaphore::new(1)),
    })
    .max_decoding_message_size(MESSAGE_BYTES_MAX as usize)
    .max_encoding_message_size(MESSAGE_BYTES_MAX as usize)
}

/// Answers the RPCs.
#[derive(Clone)]
pub(crate) struct Rpc<S> {
    store: S,
    clock: Arc<dyn Clock>,
    words: Arc<Vocabulary>,
    /// With it, streams end.
    drain: Drain,
    feeds: Places,
    /// An audit or a verification reads everything there is: one at a time.
    checking: Arc<Semaphore>,
}

impl<S> Rpc<S> {
    fn turn(&self) -> Result<OwnedSemaphorePermit, Fault> {
        Arc::clone(&self.checking).try_acquire_owned().map_err(|_| EngineError::Busy.into())
    }
}

impl<S: Led> Rpc<S> {
    fn questions<T>(&self, request: &Request<T>) -> Result<Questions<'_, Pinned<S>>, Fault> {
        let tenant = Call::of(request)?.tenant()?.clone();
        let store = Pinned::on(&self.store)?;
        Ok(Questions { store, ledgers: &self.words.ledgers, tenant, now: self.clock.now() })
    }
}

fn bounded(field: &str, items: usize) -> Result<(), Fault> {
    if items <= BATCH_MAX {
        return Ok(());
    }
    Err(Fault::invalid(field, format!("must have at most {BATCH_MAX} items, and has {items}")))
}

#[tonic::async_trait]
impl<S: Led> LedgerService for Rpc<S> {
    async fn create_accounts(
        &self,
        request: Request<CreateAccountsRequest>,
    ) -> Result<Response<CreateAccountsResponse>, Status> {
        let call = Call::of(&request)?;
        let accounts = request.into_inner().accounts;
        bounded("accounts", accounts.len())?;
        let batch = wire::new_accounts(&call, &self.words, accounts)?;
        let results = self.store.open_accounts(batch, self.clock.now()).await.map_err(Fault::from)?;
        let results = results.into_iter().map(wire::account_result).collect();
        Ok(Response::new(CreateAccountsResponse { results }))
    }

    async fn create_transfers(
        &self,
        request: Request<CreateTransfersRequest>,
    ) -> Result<Response<CreateTransfersResponse>, Status> {
        let call = Call::of(&request)?;
        let transfers = request.into_inner().transfers;
        bounded("transfers", transfers.len())?;
        let batch = wire::new_transfers(&call, &self.words, transfers)?;
        let results = self.store.transfer(batch, self.clock.now()).await.map_err(Fault::from)?;
        let results = results.into_iter().map(wire::transfer_result).collect();
        Ok(Response::new(CreateTransfersResponse { results }))
    }

    async fn set_account_limits(
        &self,
        request: Request<SetAccountLimitsRequest>,
    ) -> Result<Response<SetAccountLimitsResponse>, Status> {
        let call = Call::of(&request)?;
        let limits = request.into_inner().limits;
        bounded("limits", limits.len())?;
        let batch = wire::new_limits(&call, limits)?;
        let results = self.store.set_limits(batch, self.clock.now()).await.map_err(Fault::from)?;
        let results = results.into_iter().map(wire::limit_result).collect();
        Ok(Response::new(SetAccountLimitsResponse { results }))
    }

    async fn lookup_accounts(
        &self,
        request: Request<LookupAccountsRequest>,
    ) -> Result<Response<LookupAccountsResponse>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let ids = request.into_inner().ids;
        bounded("ids", ids.len())?;
        let ids = wire::ids(ids, AccountId::parse)?;
        let accounts = self.store.accounts(tenant, ids).await.map_err(Fault::from)?;
        let accounts = accounts.iter().map(|account| wire::account(account, &self.words.ledgers)).collect();
        Ok(Response::new(LookupAccountsResponse { accounts }))
    }

    async fn lookup_transfers(
        &self,
        request: Request<LookupTransfersRequest>,
    ) -> Result<Response<LookupTransfersResponse>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let ids = request.into_inner().ids;
        bounded("ids", ids.len())?;
        let ids = wire::ids(ids, TransferId::parse)?;
        let transfers = self.store.transfers(tenant, ids).await.map_err(Fault::from)?;
        let transfers = transfers.iter().map(wire::transfer).collect();
        Ok(Response::new(LookupTransfersResponse { transfers }))
    }

    async fn list_accounts(
        &self,
        request: Request<proto::ListAccountsRequest>,
    ) -> Result<Response<proto::ListAccountsResponse>, Status> {
        let questions = self.questions(&request)?;
        Ok(Response::new(questions.list_accounts(request.into_inner()).await?))
    }

    async fn query_accounts(
        &self,
        request: Request<proto::QueryAccountsRequest>,
    ) -> Result<Response<proto::QueryAccountsResponse>, Status> {
        let questions = self.questions(&request)?;
        Ok(Response::new(questions.query_accounts(request.into_inner()).await?))
    }

    async fn get_account(
        &self,
        request: Request<proto::GetAccountRequest>,
    ) -> Result<Response<proto::Account>, Status> {
        let questions = self.questions(&request)?;
        Ok(Response::new(questions.get_account(request.into_inner()).await?))
    }

    async fn list_account_transfers(
        &self,
        request: Request<proto::ListAccountTransfersRequest>,
    ) -> Result<Response<proto::ListAccountTransfersResponse>, Status> {
        let questions = self.questions(&request)?;
        Ok(Response::new(questions.list_account_transfers(request.into_inner()).await?))
    }

    async fn list_account_balances(
        &self,
        request: Request<proto::ListAccountBalancesRequest>,
    ) -> Result<Response<proto::ListAccountBalancesResponse>, Status> {
        let questions = self.questions(&request)?;
        Ok(Response::new(questions.list_account_balances(request.into_inner()).await?))
    }

    async fn get_balances_as_of(
        &self,
        request: Request<proto::GetBalancesAsOfRequest>,
    ) -> Result<Response<proto::GetBalancesAsOfResponse>, Status> {
        let questions = self.questions(&request)?;
        Ok(Response::new(questions.balances_as_of(request.into_inner()).await?))
    }

    async fn query_transfers(
        &self,
        request: Request<proto::QueryTransfersRequest>,
    ) -> Result<Response<proto::QueryTransfersResponse>, Status> {
        let questions = self.questions(&request)?;
        Ok(Response::new(questions.query_transfers(request.into_inner()).await?))
    }

    type StreamTransfersStream = Messages<proto::StreamTransfersResponse>;

    async fn stream_transfers(
        &self,
        request: Request<Streaming<proto::StreamTransfersRequest>>,
    ) -> Result<Response<Self::StreamTransfersStream>, Status> {
        let call = Call::of(&request)?;
        Ok(Response::new(self.transfers_streamed(call, request.into_inner())))
    }

    type WatchTransfersStream = Messages<proto::WatchTransfersResponse>;

    async fn watch_transfers(
        &self,
        request: Request<proto::WatchTransfersRequest>,
    ) -> Result<Response<Self::WatchTransfersStream>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let from = request.into_inner().from_ns;
        if from < 0 {
            return Err(Fault::invalid("from_ns", "must not be negative").into());
        }
        Ok(Response::new(self.watched(tenant, Timestamp::from_nanos(from))?))
    }

    type ExportJournalStream = Messages<proto::ExportJournalResponse>;

    async fn export_journal(
        &self,
        request: Request<proto::ExportJournalRequest>,
    ) -> Result<Response<Self::ExportJournalStream>, Status> {
        Ok(Response::new(self.exported(request.get_ref())?))
    }

    type VerifyJournalStream = Messages<proto::VerifyJournalResponse>;

    async fn verify_journal(
        &self,
        request: Request<proto::VerifyJournalRequest>,
    ) -> Result<Response<Self::VerifyJournalStream>, Status> {
        let turn = self.turn()?;
        Ok(Response::new(self.verified(request.into_inner(), turn)?))
    }

    type AuditStream = Messages<AuditResponse>;

    async fn audit(&self, _request: Request<AuditRequest>) -> Result<Response<Self::AuditStream>, Status> {
        // A follower says so before it begins.
        self.store.engine().map_err(Fault::from)?;
        Ok(Response::new(self.audited(self.turn()?)))
    }

    async fn get_trial_balance(
        &self,
        request: Request<GetTrialBalanceRequest>,
    ) -> Result<Response<proto::TrialBalance>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let trial = self.store.trial_balance(tenant).await.map_err(Fault::from)?;
        Ok(Response::new(wire::trial_balance(&trial, &self.words.ledgers)))
    }
}
