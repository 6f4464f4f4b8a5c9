//! The gRPC face: the contract's messages in the words of the domain, and back. Decides nothing.

mod page;
mod wire;

use std::sync::Arc;

use mesh::{BatchError, Call, Clock, Fault, Reason, StoreError, Violations};
use paymesh_proto::ledger::v1 as proto;
use paymesh_proto::ledger::v1::{
    AuditRequest, AuditResponse, CreateAccountsRequest, CreateAccountsResponse, CreateTransfersRequest,
    CreateTransfersResponse, GetAccountRequest, GetTrialBalanceRequest, ListAccountsRequest,
    ListAccountsResponse, LookupAccountsRequest, LookupAccountsResponse, LookupTransfersRequest,
    LookupTransfersResponse, SetAccountLimitsRequest, SetAccountLimitsResponse,
    ledger_service_server::{LedgerService, LedgerServiceServer},
};
use tonic::{Request, Response, Status};

use crate::{
    config::Vocabulary,
    domain::{AccountId, BATCH_MAX, Code, TransferId},
    store::{AccountQuery, Store},
};

const PAGE_SIZE_DEFAULT: usize = 20;
const PAGE_SIZE_MAX: usize = 100;

/// A full batch with the longest texts is about 5 MiB; tonic's default limit is 4.
pub(crate) const MESSAGE_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// The ledger's RPCs over a store.
pub(crate) fn server<S: Store>(
    store: S,
    clock: Arc<dyn Clock>,
    words: Vocabulary,
) -> LedgerServiceServer<Rpc<S>> {
    LedgerServiceServer::new(Rpc { store, clock, words })
        .max_decoding_message_size(MESSAGE_BYTES_MAX as usize)
        .max_encoding_message_size(MESSAGE_BYTES_MAX as usize)
}

/// Answers the RPCs.
pub(crate) struct Rpc<S> {
    store: S,
    clock: Arc<dyn Clock>,
    words: Vocabulary,
}

fn bounded(field: &str, items: usize) -> Result<(), Fault> {
    if items <= BATCH_MAX {
        return Ok(());
    }
    Err(Fault::invalid(field, format!("must have at most {BATCH_MAX} items, and has {items}")))
}

#[tonic::async_trait]
impl<S: Store> LedgerService for Rpc<S> {
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
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let query = list_query(tenant, &request.into_inner())?;
        let limit = query.limit;
        // One more than asked says whether there is a next page.
        let asked = AccountQuery { limit: limit + 1, ..query.clone() };
        let mut accounts = self.store.list_accounts(asked).await.map_err(Fault::from)?;
        let has_more = accounts.len() > limit;
        accounts.truncate(limit);
        let next_page_token = match accounts.last() {
            Some(last) if has_more => page_of(&query).token(last.created_at),
            _ => String::new(),
        };
        let accounts = accounts.iter().map(|account| wire::account(account, &self.words.ledgers)).collect();
        Ok(Response::new(ListAccountsResponse { accounts, next_page_token }))
    }

    async fn get_account(
        &self,
        request: Request<GetAccountRequest>,
    ) -> Result<Response<proto::Account>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let id = AccountId::parse(&request.into_inner().id)
            .map_err(|error| Fault::invalid("id", error.to_string()))?;
        let found = self.store.accounts(tenant, vec![id]).await.map_err(Fault::from)?;
        let account = found
            .into_iter()
            .next()
            .ok_or_else(|| Fault::new(Reason::AccountNotFound, "There is no account with this id."))?;
        Ok(Response::new(wire::account(&account, &self.words.ledgers)))
    }

    async fn get_trial_balance(
        &self,
        request: Request<GetTrialBalanceRequest>,
    ) -> Result<Response<proto::TrialBalance>, Status> {
        let tenant = Call::of(&request)?.tenant()?.clone();
        let trial = self.store.trial_balance(tenant).await.map_err(Fault::from)?;
        Ok(Response::new(wire::trial_balance(&trial, &self.words.ledgers)?))
    }

    async fn audit(&self, _request: Request<AuditRequest>) -> Result<Response<AuditResponse>, Status> {
        let report = self.store.audit().await.map_err(audit_fault)?;
        Ok(Response::new(AuditResponse {
            ok: report.offences.is_empty(),
            accounts: report.accounts,
            transfers: report.transfers,
            offences: report.offences,
            done: true,
            ..AuditResponse::default()
        }))
    }
}

/// When to ask again while an audit is under way, in seconds.
const AUDIT_RETRY_AFTER_S: u32 = 10;

fn audit_fault(error: StoreError) -> Fault {
    match error {
        StoreError::Queue(BatchError::Full) => {
            Fault::new(Reason::Overloaded, "An audit is under way; try again when it is over.")
                .retry_after_s(AUDIT_RETRY_AFTER_S)
        }
        other => other.into(),
    }
}

fn page_of(query: &AccountQuery) -> page::Query<'_> {
    page::Query { tenant: &query.tenant, ledger: query.ledger, code: query.code.as_ref() }
}

fn list_query(tenant: money::TenantId, request: &ListAccountsRequest) -> Result<AccountQuery, Fault> {
    let mut violations = Violations::new();
    let limit = match usize::try_from(request.page_size) {
        Ok(0) => PAGE_SIZE_DEFAULT,
        Ok(size @ 1..=PAGE_SIZE_MAX) => size,
        _ => {
            let right = format!("must be from 1 to {PAGE_SIZE_MAX}, or 0 for {PAGE_SIZE_DEFAULT}");
            violations.add("page_size", right);
            PAGE_SIZE_DEFAULT
        }
    };
    let filter = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    let ledger = filter(&request.ledger)
        .and_then(|text| violations.check("ledger", text.parse::<crate::domain::LedgerCode>()));
    let code = filter(&request.code).and_then(|text| violations.check("code", text.parse::<Code>()));
    let mut query = AccountQuery { tenant, ledger, code, before: None, limit };
    if !request.page_token.is_empty() {
        query.before = violations.check("page_token", page_of(&query).position(&request.page_token));
    }
    violations.finish()?;
    Ok(query)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_audit_is_told_when_to_come_again() {
        let fault = audit_fault(StoreError::Queue(BatchError::Full));
        assert_eq!((fault.reason(), fault.retry_after()), (Reason::Overloaded, Some(AUDIT_RETRY_AFTER_S)));
        assert_eq!(audit_fault(StoreError::Queue(BatchError::Closed)).reason(), Reason::Unavailable);
    }
}
