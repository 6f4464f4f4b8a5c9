//! The ledger as a client has it: the RPCs of a running service as a store, which keeps every store's contract.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use mesh::{
    Clock, Harness, Parts, ServiceContext, StartError, clock::from_proto, service::Running, testing::call_of,
};
use money::{TenantId, Timestamp};
use paymesh_proto::ledger::v1::{self as proto, ledger_service_client::LedgerServiceClient};
use tonic::{Response, Status};

use super::{MESSAGE_BYTES_MAX, server};
use crate::{
    Config,
    domain::{
        Account, AccountFlags, AccountId, AccountResult, AuditReport, Balances, Given, Kind, LimitCode,
        LimitResult, NewAccount, NewLimit, NewTransfer, Transfer, TransferFlags, TransferId, TransferResult,
        TrialBalance, TrialLine,
    },
    engine::EngineError,
    store::{
        EmbeddedStore, Store, contract,
        ports::{AccountFilter, BalanceAt, BalanceFilter, Page, TransferFilter},
    },
};

/// What no parser takes.
const NONSENSE: &str = "no such thing";

/// The time that the last call brought along.
#[derive(Debug, Default)]
struct Told(AtomicI64);

impl Clock for Told {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// What the service is handed instead of a configuration.
#[derive(Default, serde::Deserialize)]
struct Handed {
    #[serde(skip)]
    store: Option<EmbeddedStore>,
    #[serde(skip)]
    clock: Arc<Told>,
}

/// The ledger without its worker, for which the tests stand in.
struct Served;

impl mesh::Service for Served {
    const NAME: &'static str = "svc-ledger";
    const MESSAGE_BYTES_MAX: u32 = MESSAGE_BYTES_MAX;
    type Config = Handed;

    async fn build(config: Handed, context: &ServiceContext) -> Result<Parts, StartError> {
        let settings = Config::default();
        let (store, words) = (config.store.unwrap(), settings.vocabulary()?);
        let served = server(store, config.clock, words, context.drain(), settings.feeds_max);
        Ok(Parts::new().serve(served))
    }
}

#[derive(Clone)]
struct Remote {
    client: LedgerServiceClient<mesh::Upstream>,
    clock: Arc<Told>,
    /// For the worker's part, which is no RPC.
    behind: EmbeddedStore,
}

/// The service on what is in a directory.
async fn serve(dir: &Path) -> (Remote, Running) {
    let (behind, clock) =
        (EmbeddedStore::open(&dir.join("ledger")).await.unwrap(), Arc::new(Told::default()));
    let mut harness = Harness::new(dir).unwrap();
    let handed = Handed { store: Some(behind.clone()), clock: Arc::clone(&clock) };
    let running = harness.start::<Served>(handed).await.unwrap();
    let client = LedgerServiceClient::new(harness.upstream("operator", &running).unwrap())
        .max_decoding_message_size(MESSAGE_BYTES_MAX as usize);
    (Remote { client, clock, behind }, running)
}

async fn fresh() -> (Remote, (Running, tempfile::TempDir)) {
    let dir = tempfile::tempdir().unwrap();
    let (remote, running) = serve(dir.path()).await;
    (remote, (running, dir))
}

contract::suite!(fresh().await);

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (remote, running) = serve(dir.path()).await;
    contract::before_a_restart(&remote).await;
    running.stop().await;
    remote.behind.close().await;
    let (remote, running) = serve(dir.path()).await;
    contract::after_a_restart(&remote).await;
    running.stop().await;
}

fn text<T>(given: &Given<T>, spell: impl FnOnce(&T) -> String) -> String {
    match given {
        Given::Nothing => String::new(),
        Given::Malformed => NONSENSE.to_owned(),
        Given::Unlisted(value) | Given::Value(value) => spell(value),
    }
}

/// Flag number n of the contract is bit n - 1.
fn numbers(bits: u8) -> Vec<i32> {
    (0..8).filter(|bit| bits >> bit & 1 == 1).map(|bit| bit + 1).collect()
}

fn bits(numbers: &[i32]) -> u8 {
    numbers.iter().fold(0, |bits, number| bits | 1 << (number - 1))
}

fn time(nanos: i64) -> Option<Timestamp> {
    (nanos != 0).then(|| Timestamp::from_nanos(nanos))
}

fn answered<T>(answer: Result<Response<T>, Status>) -> Result<T, EngineError> {
    answer.map(Response::into_inner).map_err(|status| EngineError::Index(status.to_string()))
}

fn account_asked(account: NewAccount) -> proto::Account {
    proto::Account {
        id: text(&account.id, ToString::to_string),
        tenant: text(&account.tenant, ToString::to_string),
        ledger: text(&account.ledger, ToString::to_string),
        code: text(&account.code, |code| code.as_str().to_owned()),
        flags: account.flags.map_or_else(|| vec![99], |flags| numbers(flags.bits())),
        user_data: account.user_data,
        reference: account.reference.map_or_else(|| "x".repeat(257), |text| text.as_str().to_owned()),
        limit: account.limit,
        debits_posted: i64::from(account.has_balances),
        created_at: account.has_timestamp.then(Default::default),
        ..proto::Account::default()
    }
}

fn account_told(account: &proto::Account) -> Account {
    let flags = AccountFlags::from_bits(bits(&account.flags)).unwrap();
    Account {
        id: AccountId::parse(&account.id).unwrap(),
        tenant: account.tenant.parse().unwrap(),
        ledger: account.ledger.parse().unwrap(),
        code: account.code.parse().unwrap(),
        flags: flags.without(AccountFlags::CLOSED),
        user_data: account.user_data,
        reference: account.reference.parse().unwrap(),
        limit: account.limit,
        closed: flags.contains(AccountFlags::CLOSED),
        balances: Balances {
            debits_pending: account.debits_pending,
            debits_posted: account.debits_posted,
            credits_pending: account.credits_pending,
            credits_posted: account.credits_posted,
        },
        created_at: from_proto(account.created_at.as_ref().unwrap()).unwrap(),
    }
}

fn transfer_asked(transfer: NewTransfer) -> proto::Transfer {
    let mut flags = numbers(transfer.flags.bits());
    flags.extend(transfer.has_unknown_flags.then_some(99));
    proto::Transfer {
        id: text(&transfer.id, ToString::to_string),
        tenant: text(&transfer.tenant, ToString::to_string),
        debit_account_id: text(&transfer.debit, ToString::to_string),
        credit_account_id: text(&transfer.credit, ToString::to_string),
        amount: transfer.amount,
        post_full_amount: transfer.post_full_amount,
        ledger: text(&transfer.ledger, ToString::to_string),
        code: text(&transfer.code, |code| code.as_str().to_owned()),
        flags,
        pending_id: text(&transfer.pending, ToString::to_string),
        timeout_s: transfer.timeout_s,
        user_data: transfer.user_data,
        reference: transfer.reference.map_or_else(|| "x".repeat(257), |text| text.as_str().to_owned()),
        timestamp_ns: i64::from(transfer.has_timestamp),
    }
}

fn transfer_told(transfer: &proto::Transfer) -> Transfer {
    let flags = TransferFlags::from_bits(bits(&transfer.flags));
    let pending = TransferId::parse(&transfer.pending_id);
    let kind = match flags.bits() & TransferFlags::KINDS.bits() {
        0 => Kind::Single,
        2 => Kind::Pending { timeout_s: transfer.timeout_s },
        4 => Kind::Post { pending: pending.unwrap() },
        _ => Kind::Void { pending: pending.unwrap() },
    };
    Transfer {
        id: TransferId::parse(&transfer.id).unwrap(),
        timestamp: Timestamp::from_nanos(transfer.timestamp_ns),
        tenant: transfer.tenant.parse().unwrap(),
        kind,
        modifiers: flags.without(TransferFlags::KINDS),
        debit: AccountId::parse(&transfer.debit_account_id).unwrap(),
        credit: AccountId::parse(&transfer.credit_account_id).unwrap(),
        amount: transfer.amount,
        // Not told.
        requested: None,
        ledger: transfer.ledger.parse().unwrap(),
        code: transfer.code.parse().unwrap(),
        user_data: transfer.user_data,
        reference: transfer.reference.parse().unwrap(),
    }
}

fn spelled<T: ToString>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// Zero for none.
fn bound(to: Timestamp) -> i64 {
    Some(to.as_nanos()).filter(|to| *to != i64::MAX).unwrap_or_default()
}

fn size(limit: usize) -> i32 {
    i32::try_from(limit).unwrap()
}

/// A token begins with the time at which the next page does.
fn resume(token: &str) -> Option<Timestamp> {
    token.get(..16).map(|nanos| Timestamp::from_nanos(i64::from_str_radix(nanos, 16).unwrap()))
}

impl Remote {
    fn at(&self, now: Timestamp) -> LedgerServiceClient<mesh::Upstream> {
        self.clock.0.store(now.as_nanos(), Ordering::SeqCst);
        self.client.clone()
    }
}

fn request<T>(tenant: &TenantId, message: T) -> tonic::Request<T> {
    call_of(tenant.as_str()).request(message)
}

/// Whose call it is that brings a batch; each item names its own tenant.
fn batch<T>(message: T) -> tonic::Request<T> {
    call_of("acme").request(message)
}

impl Store for Remote {
    async fn open_accounts(
        &self,
        accounts: Vec<NewAccount>,
        now: Timestamp,
    ) -> Result<Vec<AccountResult>, EngineError> {
        let accounts = accounts.into_iter().map(account_asked).collect();
        let request = batch(proto::CreateAccountsRequest { accounts });
        let results = answered(self.at(now).create_accounts(request).await)?.results;
        let told =
            |r: proto::AccountResult| AccountResult { code: r.code(), timestamp: time(r.timestamp_ns) };
        Ok(results.into_iter().map(told).collect())
    }

    async fn transfer(
        &self,
        transfers: Vec<NewTransfer>,
        now: Timestamp,
    ) -> Result<Vec<TransferResult>, EngineError> {
        let transfers = transfers.into_iter().map(transfer_asked).collect();
        let request = batch(proto::CreateTransfersRequest { transfers });
        let results = answered(self.at(now).create_transfers(request).await)?.results;
        let told =
            |r: proto::TransferResult| TransferResult { code: r.code(), timestamp: time(r.timestamp_ns) };
        Ok(results.into_iter().map(told).collect())
    }

    async fn set_limits(
        &self,
        limits: Vec<NewLimit>,
        now: Timestamp,
    ) -> Result<Vec<LimitResult>, EngineError> {
        let asked = |limit: NewLimit| proto::AccountLimit {
            account_id: text(&limit.account, ToString::to_string),
            limit: limit.limit,
            expected_limit: limit.expected,
            tenant: text(&limit.tenant, ToString::to_string),
        };
        let limits = limits.into_iter().map(asked).collect();
        let request = batch(proto::SetAccountLimitsRequest { limits });
        let results = answered(self.at(now).set_account_limits(request).await)?.results;
        let told = |result: proto::AccountLimitResult| {
            let has_one =
                matches!(result.code(), LimitCode::Changed | LimitCode::Unchanged | LimitCode::LimitDiffers);
            LimitResult {
                code: result.code(),
                limit: has_one.then_some(result.limit),
                timestamp: time(result.timestamp_ns),
            }
        };
        Ok(results.into_iter().map(told).collect())
    }

    async fn expire(&self, now: Timestamp) -> Result<usize, EngineError> {
        self.behind.expire(now).await
    }

    async fn close_until(&self, time: Timestamp, now: Timestamp) -> Result<bool, EngineError> {
        self.behind.close_until(time, now).await
    }

    async fn accounts(&self, tenant: TenantId, ids: Vec<AccountId>) -> Result<Vec<Account>, EngineError> {
        let ids = ids.iter().map(ToString::to_string).collect();
        let request = request(&tenant, proto::LookupAccountsRequest { ids });
        let found = answered(self.client.clone().lookup_accounts(request).await)?;
        Ok(found.accounts.iter().map(account_told).collect())
    }

    async fn transfers(&self, tenant: TenantId, ids: Vec<TransferId>) -> Result<Vec<Transfer>, EngineError> {
        let ids = ids.iter().map(ToString::to_string).collect();
        let request = request(&tenant, proto::LookupTransfersRequest { ids });
        let found = answered(self.client.clone().lookup_transfers(request).await)?;
        Ok(found.transfers.iter().map(transfer_told).collect())
    }

    async fn find_accounts(&self, filter: AccountFilter) -> Result<Page<Account>, EngineError> {
        let query = proto::QueryAccountsRequest {
            ledger: spelled(filter.ledger),
            code: filter.code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
            reference: filter.reference.map(|reference| reference.as_str().to_owned()),
            user_data: filter.user_data,
            from_ns: filter.period.from.as_nanos(),
            to_ns: bound(filter.period.to),
            oldest_first: !filter.window.newest_first,
            page_size: size(filter.window.limit),
            page_token: String::new(),
        };
        let found = answered(self.client.clone().query_accounts(request(&filter.tenant, query)).await)?;
        let items = found.accounts.iter().map(account_told).collect();
        Ok(Page { items, resume: resume(&found.next_page_token) })
    }

    async fn find_transfers(&self, filter: TransferFilter) -> Result<Page<Transfer>, EngineError> {
        let query = proto::QueryTransfersRequest {
            account_id: spelled(filter.account),
            debit_account_id: spelled(filter.debit),
            credit_account_id: spelled(filter.credit),
            ledger: spelled(filter.ledger),
            code: filter.code.map(|code| code.as_str().to_owned()).unwrap_or_default(),
            flags: numbers(filter.flags.bits()),
            reference: filter.reference.map(|reference| reference.as_str().to_owned()),
            user_data: filter.user_data,
            amount_min: filter.amount_min,
            amount_max: filter.amount_max,
            pending_id: spelled(filter.pending),
            from_ns: filter.period.from.as_nanos(),
            to_ns: bound(filter.period.to),
            oldest_first: !filter.window.newest_first,
            page_size: size(filter.window.limit),
            page_token: String::new(),
        };
        let request = request(&filter.tenant.unwrap(), query);
        let found = answered(self.client.clone().query_transfers(request).await)?;
        let items = found.transfers.iter().map(transfer_told).collect();
        Ok(Page { items, resume: resume(&found.next_page_token) })
    }

    async fn find_balances(&self, filter: BalanceFilter) -> Result<Page<BalanceAt>, EngineError> {
        let query = proto::ListAccountBalancesRequest {
            account_id: filter.account.to_string(),
            from_ns: filter.period.from.as_nanos(),
            to_ns: bound(filter.period.to),
            oldest_first: !filter.window.newest_first,
            page_size: size(filter.window.limit),
            page_token: String::new(),
        };
        let request = request(&filter.tenant, query);
        let found = answered(self.client.clone().list_account_balances(request).await)?;
        let told = |at: proto::AccountBalance| BalanceAt {
            timestamp: Timestamp::from_nanos(at.timestamp_ns),
            balances: Balances {
                debits_pending: at.debits_pending,
                debits_posted: at.debits_posted,
                credits_pending: at.credits_pending,
                credits_posted: at.credits_posted,
            },
        };
        let items = found.balances.into_iter().map(told).collect();
        Ok(Page { items, resume: resume(&found.next_page_token) })
    }

    async fn trial_balance(&self, tenant: TenantId) -> Result<TrialBalance, EngineError> {
        let request = request(&tenant, proto::GetTrialBalanceRequest {});
        let lines = answered(self.client.clone().get_trial_balance(request).await)?.lines;
        let told = |line: proto::trial_balance::Line| {
            let narrow = line.exact.is_none();
            let exact = line.exact.unwrap_or_else(|| proto::trial_balance::Exact {
                debits_pending: line.debits_pending.to_string(),
                debits_posted: line.debits_posted.to_string(),
                credits_pending: line.credits_pending.to_string(),
                credits_posted: line.credits_posted.to_string(),
                difference: line.difference.to_string(),
            });
            let told = TrialLine {
                debits_pending: exact.debits_pending.parse().unwrap(),
                debits_posted: exact.debits_posted.parse().unwrap(),
                credits_pending: exact.credits_pending.parse().unwrap(),
                credits_posted: exact.credits_posted.parse().unwrap(),
                accounts: line.accounts,
            };
            assert_eq!(exact.difference, told.difference().to_string());
            assert_eq!(narrow, i64::try_from(told.debits_posted.max(told.credits_posted)).is_ok());
            (line.ledger.parse().unwrap(), told)
        };
        Ok(TrialBalance { lines: lines.into_iter().map(told).collect() })
    }

    async fn audit(&self) -> Result<AuditReport, EngineError> {
        let mut said = answered(self.client.clone().audit(batch(proto::AuditRequest {})).await)?;
        let mut last = None;
        while let Some(next) = answered(said.message().await.map(Response::new))? {
            last = Some(next);
        }
        let proto::AuditResponse { accounts, transfers, offences, done, .. } = last.unwrap();
        assert!(done);
        Ok(AuditReport { accounts, transfers, offences })
    }
}
