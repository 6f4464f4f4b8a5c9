//! The service behind the mesh's real mTLS stack.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test says what it expects by failing

mod checks;
mod feed;
mod queries;
mod streams;

use std::sync::Arc;

use mesh::{Call, Fault, Harness, ManualClock, Reason, service::Running, testing::call_of};
use money::Timestamp;
use paymesh_proto::ledger::v1::{
    Account, AccountLimit, AuditRequest, AuditResponse, CreateAccountsRequest, CreateTransfersRequest,
    GetAccountRequest, GetTrialBalanceRequest, ListAccountsRequest, LookupAccountsRequest,
    LookupTransfersRequest, SetAccountLimitsRequest, Transfer, account::AccountFlag,
    account_limit_result::Code as LimitCode, account_result::Code as AccountCode,
    ledger_service_client::LedgerServiceClient, transfer::TransferFlag, transfer_result::Code,
};
use svc_ledger::{Config, Ledger, domain::BATCH_MAX};
use tonic::{Response, Status};

type Client = LedgerServiceClient<mesh::Upstream>;

const A: &str = "018f0000-0000-7000-8000-00000000000a";
const B: &str = "018f0000-0000-7000-8000-00000000000b";

struct Setup {
    client: Client,
    acme: Call,
    clock: Arc<ManualClock>,
    running: Running,
    dir: tempfile::TempDir,
}

/// A running ledger with the accounts A and B of acme.
async fn setup() -> Setup {
    setup_with(Config::default()).await
}

async fn setup_with(config: Config) -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1_800_000_000)));
    let mut harness = Harness::with_clock(dir.path(), clock.clone()).unwrap();
    let running = harness.start::<Ledger>(config).await.unwrap();
    let mut client = LedgerServiceClient::new(harness.upstream("operator", &running).unwrap());
    let acme = call_of("acme");
    let accounts = vec![account(A, "clearing"), account(B, "payable")];
    let answer = client.create_accounts(acme.request(CreateAccountsRequest { accounts })).await.unwrap();
    let codes: Vec<_> =
        answer.into_inner().results.iter().map(paymesh_proto::ledger::v1::AccountResult::code).collect();
    assert_eq!(codes, [AccountCode::Created; 2]);
    Setup { client, acme, clock, running, dir }
}

fn account(id: &str, code: &str) -> Account {
    Account { id: id.into(), ledger: "EUR".into(), code: code.into(), ..Account::default() }
}

fn transfer(id: &str, amount: i64) -> Transfer {
    Transfer {
        id: id.into(),
        debit_account_id: A.into(),
        credit_account_id: B.into(),
        amount,
        ledger: "EUR".into(),
        code: "payment_authorization".into(),
        reference: "pay_1".into(),
        ..Transfer::default()
    }
}

fn id(number: u32) -> String {
    format!("018f0000-0000-7000-8001-{number:012x}")
}

async fn make(setup: &mut Setup, transfers: Vec<Transfer>) -> Vec<Code> {
    let request = setup.acme.request(CreateTransfersRequest { transfers });
    let answer = setup.client.create_transfers(request).await.unwrap().into_inner();
    answer.results.iter().map(paymesh_proto::ledger::v1::TransferResult::code).collect()
}

async fn balances(setup: &mut Setup, id: &str) -> [i64; 4] {
    let request = setup.acme.request(GetAccountRequest { id: id.into() });
    let account = setup.client.get_account(request).await.unwrap().into_inner();
    [account.debits_pending, account.debits_posted, account.credits_pending, account.credits_posted]
}

fn fault<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> (Reason, Vec<String>) {
    let fault = Fault::from_status(&answer.unwrap_err());
    let fields = fault.violations().iter().map(|violation| violation.field.clone()).collect();
    (fault.reason(), fields)
}

fn invalid(fields: &[&str]) -> (Reason, Vec<String>) {
    (Reason::InvalidRequest, fields.iter().map(ToString::to_string).collect())
}

/// The audit's last word.
async fn audited(setup: &mut Setup) -> AuditResponse {
    let mut said = setup.client.audit(setup.acme.request(AuditRequest {})).await.unwrap().into_inner();
    let mut last = None;
    while let Some(next) = said.message().await.unwrap() {
        last = Some(next);
    }
    last.unwrap()
}

#[tokio::test]
async fn a_payment_is_reserved_posted_in_part_and_shows_in_every_view() {
    let mut setup = setup().await;
    let reserve =
        Transfer { flags: vec![TransferFlag::Pending.into()], timeout_s: 3_600, ..transfer(&id(1), 1_000) };
    let post = Transfer {
        id: id(2),
        pending_id: id(1),
        amount: 700,
        flags: vec![TransferFlag::PostPending.into()],
        ..Transfer::default()
    };
    assert_eq!(make(&mut setup, vec![reserve.clone()]).await, [Code::Created]);
    assert_eq!(balances(&mut setup, A).await, [1_000, 0, 0, 0]);
    assert_eq!(
        make(&mut setup, vec![post.clone(), reserve, post]).await,
        [Code::Created, Code::Exists, Code::Exists]
    );
    assert_eq!(balances(&mut setup, A).await, [0, 700, 0, 0]);
    assert_eq!(balances(&mut setup, B).await, [0, 0, 0, 700]);

    let request = setup.acme.request(LookupTransfersRequest { ids: vec![id(2), id(9), id(1)] });
    let found = setup.client.lookup_transfers(request).await.unwrap().into_inner().transfers;
    assert_eq!(found.len(), 2);
    assert_eq!((found[0].amount, &*found[0].debit_account_id, &*found[0].pending_id), (700, A, &*id(1)));
    assert_eq!((found[1].timeout_s, &*found[1].reference, &*found[1].tenant), (3_600, "pay_1", "acme"));
    assert!(found[0].timestamp_ns > found[1].timestamp_ns);

    let request = setup.acme.request(GetTrialBalanceRequest {});
    let lines = setup.client.get_trial_balance(request).await.unwrap().into_inner().lines;
    assert_eq!(lines.len(), 1);
    assert_eq!((lines[0].debits_posted, lines[0].credits_posted, lines[0].difference), (700, 700, 0));

    let audit = audited(&mut setup).await;
    assert!(audit.ok, "{:?}", audit.offences);
    assert_eq!((audit.accounts, audit.transfers), (2, 2));
    setup.running.stop().await;
}

#[tokio::test]
async fn another_tenant_sees_nothing_and_moves_nothing() {
    let mut setup = setup().await;
    assert_eq!(make(&mut setup, vec![transfer(&id(1), 5)]).await, [Code::Created]);
    let other = call_of("other");
    let client = &mut setup.client;

    let answer = client.get_account(other.request(GetAccountRequest { id: A.into() })).await;
    assert_eq!(fault(answer), (Reason::AccountNotFound, vec![]));
    let ids = vec![A.to_owned(), B.to_owned()];
    let answer = client.lookup_accounts(other.request(LookupAccountsRequest { ids })).await.unwrap();
    assert_eq!(answer.into_inner().accounts, []);
    let answer = client.lookup_transfers(other.request(LookupTransfersRequest { ids: vec![id(1)] })).await;
    assert_eq!(answer.unwrap().into_inner().transfers, []);
    let answer = client.list_accounts(other.request(ListAccountsRequest::default())).await.unwrap();
    assert_eq!(answer.into_inner().accounts, []);
    let answer = client.get_trial_balance(other.request(GetTrialBalanceRequest {})).await.unwrap();
    assert_eq!(answer.into_inner().lines, []);

    let transfers = vec![transfer(&id(2), 5), transfer(&id(1), 6)];
    let answer = client.create_transfers(other.request(CreateTransfersRequest { transfers })).await.unwrap();
    let codes: Vec<_> =
        answer.into_inner().results.iter().map(paymesh_proto::ledger::v1::TransferResult::code).collect();
    assert_eq!(codes, [Code::DebitAccountNotFound, Code::ExistsWithDifferentTenant]);
    assert_eq!(balances(&mut setup, A).await, [0, 5, 0, 0]);
    setup.running.stop().await;
}

#[tokio::test]
async fn an_item_may_name_its_tenant_and_bad_items_have_codes_of_their_own() {
    let mut setup = setup().await;
    let named = |tenant: &str, number| Transfer { tenant: tenant.into(), ..transfer(&id(number), 1) };
    let transfers = vec![
        named("acme", 1),
        named("other", 2),
        named("Not A Tenant", 3),
        Transfer { id: "nonsense".into(), ..transfer("", 1) },
        Transfer { debit_account_id: "nonsense".into(), ..transfer(&id(4), 1) },
        Transfer { ledger: "eur".into(), ..transfer(&id(5), 1) },
        Transfer { code: "No Code".into(), ..transfer(&id(6), 1) },
        Transfer { pending_id: "nonsense".into(), ..transfer(&id(7), 1) },
        Transfer { code: "no_such_code".into(), ..transfer(&id(8), 1) },
        Transfer { ledger: "BTC".into(), ..transfer(&id(9), 1) },
        Transfer { flags: vec![99], ..transfer(&id(10), 1) },
        Transfer { reference: "x".repeat(257), ..transfer(&id(11), 1) },
        Transfer { timestamp_ns: 1, ..transfer(&id(12), 1) },
        Transfer { id: "ffffffff-ffff-ffff-ffff-ffffffffffff".into(), ..transfer("", 1) },
    ];
    let expected = [
        Code::Created,
        Code::DebitAccountNotFound,
        Code::TenantInvalid,
        Code::IdInvalid,
        Code::DebitAccountIdInvalid,
        Code::LedgerInvalid,
        Code::Invalid,
        Code::PendingIdMustBeEmpty,
        Code::Invalid,
        Code::LedgerInvalid,
        Code::FlagsInvalid,
        Code::ReferenceInvalid,
        Code::TimestampMustBeZero,
        Code::IdInvalid,
    ];
    assert_eq!(make(&mut setup, transfers).await, expected);

    let both =
        vec![AccountFlag::DebitsMustNotExceedCredits.into(), AccountFlag::CreditsMustNotExceedDebits.into()];
    let accounts = vec![
        Account { debits_posted: 1, ..account(&id(1), "cash") },
        Account { flags: both, ..account(&id(1), "cash") },
        account("nonsense", "cash"),
        Account { tenant: "Not A Tenant".into(), ..account(&id(1), "cash") },
        account(&id(1), "no_such_code"),
        Account { flags: vec![99], ..account(&id(1), "cash") },
        Account { exponent: 3, ..account(&id(1), "cash") },
        Account { created_at: Some(mesh::clock::to_proto(Timestamp::EPOCH)), ..account(&id(1), "cash") },
        Account { limit: 5, ..account(&id(1), "cash") },
    ];
    let request = setup.acme.request(CreateAccountsRequest { accounts });
    let answer = setup.client.create_accounts(request).await.unwrap().into_inner();
    let codes: Vec<_> = answer.results.iter().map(paymesh_proto::ledger::v1::AccountResult::code).collect();
    let expected = [
        AccountCode::BalanceMustBeZero,
        AccountCode::FlagsAreMutuallyExclusive,
        AccountCode::IdInvalid,
        AccountCode::TenantInvalid,
        AccountCode::Invalid,
        AccountCode::FlagsInvalid,
        AccountCode::LedgerInvalid,
        AccountCode::TimestampMustBeZero,
        AccountCode::LimitInvalid,
    ];
    assert_eq!(codes, expected);
    setup.running.stop().await;
}

#[tokio::test]
async fn a_call_that_cannot_be_understood_is_refused_by_the_field() {
    let mut setup = setup().await;
    let Setup { client, acme, .. } = &mut setup;
    let too_many = BATCH_MAX + 1;

    let transfers = vec![Transfer::default(); too_many];
    let answer = client.create_transfers(acme.request(CreateTransfersRequest { transfers })).await;
    assert_eq!(fault(answer), invalid(&["transfers"]));
    let accounts = vec![Account::default(); too_many];
    let answer = client.create_accounts(acme.request(CreateAccountsRequest { accounts })).await;
    assert_eq!(fault(answer), invalid(&["accounts"]));
    let ids = vec![A.to_owned(); too_many];
    let answer = client.lookup_accounts(acme.request(LookupAccountsRequest { ids: ids.clone() })).await;
    assert_eq!(fault(answer), invalid(&["ids"]));
    let answer = client.lookup_transfers(acme.request(LookupTransfersRequest { ids })).await;
    assert_eq!(fault(answer), invalid(&["ids"]));

    let ids = vec![A.to_owned(), "nonsense".to_owned(), String::new()];
    let answer = client.lookup_accounts(acme.request(LookupAccountsRequest { ids })).await;
    assert_eq!(fault(answer), invalid(&["ids[1]", "ids[2]"]));
    let answer = client.get_account(acme.request(GetAccountRequest { id: "nonsense".into() })).await;
    assert_eq!(fault(answer), invalid(&["id"]));
    let answer = client.get_account(acme.request(GetAccountRequest { id: id(77) })).await;
    assert_eq!(fault(answer), (Reason::AccountNotFound, vec![]));

    let limits = vec![AccountLimit::default(); too_many];
    let answer = client.set_account_limits(acme.request(SetAccountLimitsRequest { limits })).await;
    assert_eq!(fault(answer), invalid(&["limits"]));
    let ids = vec!["nonsense".to_owned(); 100];
    let answer = client.lookup_accounts(acme.request(LookupAccountsRequest { ids })).await;
    assert_eq!(fault(answer).1.len(), 16, "an answer stays small");
    setup.running.stop().await;
}

#[tokio::test]
async fn a_full_batch_with_the_longest_texts_is_taken() {
    let mut config = Config::default();
    config.transfer_codes.insert("c".repeat(64), "to be long".into());
    let mut setup = setup_with(config).await;
    let transfers = (0..BATCH_MAX)
        .map(|number| Transfer {
            reference: "r".repeat(256),
            code: "c".repeat(64),
            tenant: "acme".into(),
            ..transfer(&id(u32::try_from(number).unwrap()), 1)
        })
        .collect();
    let codes = make(&mut setup, transfers).await;
    assert_eq!(codes.len(), BATCH_MAX);
    assert!(codes.iter().all(|code| *code == Code::Created));
    let total = i64::try_from(BATCH_MAX).unwrap();
    assert_eq!(balances(&mut setup, B).await, [0, 0, 0, total]);
    setup.running.stop().await;
}

#[tokio::test]
async fn accounts_are_listed_in_pages_with_tokens_of_their_query() {
    let mut setup = setup().await;
    let accounts = (0..25).map(|number| account(&id(number), "cash")).collect();
    setup.client.create_accounts(setup.acme.request(CreateAccountsRequest { accounts })).await.unwrap();
    let Setup { client, acme, .. } = &mut setup;

    let mut ids = Vec::new();
    let mut request = ListAccountsRequest { page_size: 10, ..ListAccountsRequest::default() };
    loop {
        let page = client.list_accounts(acme.request(request.clone())).await.unwrap().into_inner();
        ids.extend(page.accounts.into_iter().map(|account| account.id));
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    let mut expected: Vec<_> = (0..25).rev().map(id).collect();
    expected.extend([B.to_owned(), A.to_owned()]);
    assert_eq!(ids, expected);

    let list = |request: ListAccountsRequest| acme.request(request);
    let all = ListAccountsRequest::default();
    let page = client.list_accounts(list(all.clone())).await.unwrap().into_inner();
    assert_eq!(page.accounts.len(), 20, "the default");
    let token = page.next_page_token;
    let page =
        client.list_accounts(list(ListAccountsRequest { code: "payable".into(), ..all.clone() })).await;
    assert_eq!(page.unwrap().into_inner().accounts[0].id, B);

    for page_size in [-1, 101] {
        let answer = client.list_accounts(list(ListAccountsRequest { page_size, ..all.clone() })).await;
        assert_eq!(fault(answer), invalid(&["page_size"]));
    }
    let wrong = ListAccountsRequest { ledger: "eur".into(), code: "No Code".into(), ..all.clone() };
    assert_eq!(fault(client.list_accounts(list(wrong)).await), invalid(&["ledger", "code"]));
    for (page_token, code) in [("nonsense", ""), (&*token, "cash")] {
        let wrong = ListAccountsRequest { page_token: page_token.into(), code: code.into(), ..all.clone() };
        assert_eq!(fault(client.list_accounts(list(wrong)).await), invalid(&["page_token"]));
    }
    setup.running.stop().await;
}

#[tokio::test]
async fn a_lapsed_reservation_is_released_on_server_time() {
    let mut setup = setup().await;
    let reserve =
        Transfer { flags: vec![TransferFlag::Pending.into()], timeout_s: 60, ..transfer(&id(1), 1_000) };
    assert_eq!(make(&mut setup, vec![reserve]).await, [Code::Created]);
    // The reservation came some nanoseconds after the clock, which stands still.
    setup.clock.advance_seconds(61);
    let void = Transfer {
        id: id(2),
        pending_id: id(1),
        flags: vec![TransferFlag::VoidPending.into()],
        ..Transfer::default()
    };
    assert_eq!(make(&mut setup, vec![void]).await, [Code::PendingTransferExpired]);
    assert_eq!(balances(&mut setup, A).await, [0; 4]);
    setup.running.stop().await;
}

#[tokio::test]
async fn an_idle_ledger_releases_what_has_lapsed_by_itself() {
    let mut setup = setup_with(Config { expiry_interval_ms: 1, ..Config::default() }).await;
    let reserve =
        Transfer { flags: vec![TransferFlag::Pending.into()], timeout_s: 60, ..transfer(&id(1), 1_000) };
    assert_eq!(make(&mut setup, vec![reserve]).await, [Code::Created]);
    assert_eq!(balances(&mut setup, A).await, [1_000, 0, 0, 0]);
    setup.clock.advance_seconds(61);
    let mut reads = 0;
    while balances(&mut setup, A).await != [0; 4] {
        reads += 1;
        assert!(reads < 100_000, "still reserved");
    }
    let audit = audited(&mut setup).await;
    assert!(audit.ok, "{:?}", audit.offences);
    setup.running.stop().await;
}

#[tokio::test]
async fn an_asset_of_the_configuration_is_a_ledger_with_a_limit_and_a_closing() {
    let config = Config { assets: [("BTC".to_owned(), 8)].into(), ..Config::default() };
    let mut setup = setup_with(config).await;
    let account = |number, flags: &[AccountFlag]| Account {
        ledger: "BTC".into(),
        exponent: 8,
        flags: flags.iter().map(|flag| (*flag).into()).collect(),
        user_data: -7,
        reference: "wallet".into(),
        ..account(&id(number), "customer_deposits")
    };
    let limited = Account { limit: 5, ..account(1, &[AccountFlag::DebitsMustNotExceedCredits]) };
    let accounts = vec![limited.clone(), account(2, &[AccountFlag::History]), limited];
    let request = setup.acme.request(CreateAccountsRequest { accounts });
    let results = setup.client.create_accounts(request).await.unwrap().into_inner().results;
    let codes: Vec<_> = results.iter().map(paymesh_proto::ledger::v1::AccountResult::code).collect();
    assert_eq!(codes, [AccountCode::Created, AccountCode::Created, AccountCode::Exists]);
    assert_eq!(results[2].timestamp_ns, results[0].timestamp_ns, "the original time");

    let limits = [(1, 9, Some(5)), (1, 9, Some(5)), (1, 8, Some(5)), (2, 9, None), (3, 9, None)];
    let limits = limits.map(|(number, limit, expected_limit)| AccountLimit {
        account_id: id(number),
        limit,
        expected_limit,
        tenant: String::new(),
    });
    let request = setup.acme.request(SetAccountLimitsRequest { limits: limits.to_vec() });
    let results = setup.client.set_account_limits(request).await.unwrap().into_inner().results;
    let told: Vec<_> = results.iter().map(|r| (r.code(), r.limit, r.timestamp_ns != 0)).collect();
    let expected = [
        (LimitCode::Changed, 9, true),
        (LimitCode::Unchanged, 9, false),
        (LimitCode::LimitDiffers, 9, false),
        (LimitCode::AccountHasNoLimit, 0, false),
        (LimitCode::AccountNotFound, 0, false),
    ];
    assert_eq!(told, expected);

    let transfer = |number, flags: &[TransferFlag]| Transfer {
        debit_account_id: id(1),
        credit_account_id: id(2),
        ledger: "BTC".into(),
        flags: flags.iter().map(|flag| (*flag).into()).collect(),
        user_data: 3,
        ..transfer(&id(number), 100)
    };
    let batch = vec![
        transfer(10, &[TransferFlag::BalancingDebit]),
        transfer(11, &[TransferFlag::BalancingDebit, TransferFlag::Pending, TransferFlag::ClosingDebit]),
        transfer(12, &[]),
    ];
    let codes = make(&mut setup, batch).await;
    assert_eq!(codes, [Code::Created, Code::Created, Code::DebitAccountAlreadyClosed]);
    let request = setup.acme.request(LookupTransfersRequest { ids: vec![id(10), id(11)] });
    let found = setup.client.lookup_transfers(request).await.unwrap().into_inner().transfers;
    assert_eq!((found[0].amount, found[0].user_data, found[1].amount), (9, 3, 0));
    assert_eq!(found[1].flags, [2, 5, 7]);
    let request = setup.acme.request(GetAccountRequest { id: id(1) });
    let found = setup.client.get_account(request).await.unwrap().into_inner();
    assert_eq!((found.limit, found.exponent, found.user_data, &*found.reference), (9, 8, -7, "wallet"));
    assert_eq!(found.flags, [1, 4], "closed now");
    let audit = audited(&mut setup).await;
    assert!(audit.ok && audit.done, "{:?}", audit.offences);
    setup.running.stop().await;
}
