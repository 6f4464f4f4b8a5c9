//! Questions that cannot be understood are told the fields at fault; what is told of the past stays true.

use mesh::Clock as _;
use paymesh_proto::ledger::v1::{
    CreateAccountsRequest, CreateTransfersRequest, GetBalancesAsOfRequest, ListAccountBalancesRequest,
    ListAccountTransfersRequest, QueryAccountsRequest, QueryTransfersRequest, Transfer,
    WatchTransfersRequest, account::AccountFlag, transfer_result::Code,
};

use super::{A, Account, Reason, Setup, account, fault, id, invalid, setup, transfer};

const NONSENSE: &str = "no such thing";

fn sorted((reason, mut fields): (Reason, Vec<String>)) -> (Reason, Vec<String>) {
    fields.sort();
    (reason, fields)
}

#[tokio::test]
async fn a_query_names_every_field_at_fault() {
    let mut setup = setup().await;
    let (client, acme) = (&mut setup.client, &setup.acme);
    let wrong = QueryTransfersRequest {
        account_id: NONSENSE.into(),
        debit_account_id: NONSENSE.into(),
        credit_account_id: NONSENSE.into(),
        ledger: "eur".into(),
        code: "No Code".into(),
        flags: vec![2, 99],
        reference: Some("x".repeat(257)),
        amount_min: Some(2),
        amount_max: Some(1),
        pending_id: NONSENSE.into(),
        from_ns: -1,
        to_ns: -2,
        page_size: 1_001,
        page_token: NONSENSE.into(),
        ..QueryTransfersRequest::default()
    };
    let expected = invalid(&[
        "account_id",
        "amount_max",
        "code",
        "credit_account_id",
        "debit_account_id",
        "flags",
        "from_ns",
        "ledger",
        "page_size",
        "page_token",
        "pending_id",
        "reference",
        "to_ns",
    ]);
    assert_eq!(sorted(fault(client.query_transfers(acme.request(wrong)).await)), expected);

    let wrong = QueryAccountsRequest {
        ledger: "eur".into(),
        code: "No Code".into(),
        reference: Some("x".repeat(257)),
        from_ns: 2,
        to_ns: 1,
        page_size: -1,
        page_token: "0".repeat(32),
        ..QueryAccountsRequest::default()
    };
    let expected = invalid(&["code", "ledger", "page_size", "page_token", "reference", "to_ns"]);
    assert_eq!(sorted(fault(client.query_accounts(acme.request(wrong)).await)), expected);

    let answer = client.watch_transfers(acme.request(WatchTransfersRequest { from_ns: -1 })).await;
    assert_eq!(fault(answer), invalid(&["from_ns"]));
    setup.running.stop().await;
}

#[tokio::test]
async fn a_question_about_an_account_names_what_is_wrong_with_it() {
    let mut setup = setup().await;
    let (client, acme) = (&mut setup.client, &setup.acme);
    let kept = Account { flags: vec![AccountFlag::History.into()], ..account(&id(1), "cash") };
    client.create_accounts(acme.request(CreateAccountsRequest { accounts: vec![kept] })).await.unwrap();

    let wrong = ListAccountTransfersRequest {
        account_id: NONSENSE.into(),
        from_ns: -1,
        page_size: 101,
        page_token: NONSENSE.into(),
        ..ListAccountTransfersRequest::default()
    };
    let expected = invalid(&["from_ns", "page_size", "page_token"]);
    let answer = client.list_account_transfers(acme.request(wrong)).await;
    assert_eq!(sorted(fault(answer)), expected);
    for (account_id, expected) in [
        (NONSENSE.to_owned(), invalid(&["account_id"])),
        (String::new(), invalid(&["account_id"])),
        (id(77), (Reason::AccountNotFound, vec![])),
    ] {
        let wrong = ListAccountTransfersRequest { account_id, ..ListAccountTransfersRequest::default() };
        assert_eq!(fault(client.list_account_transfers(acme.request(wrong)).await), expected);
    }

    let list = |account_id: &str| ListAccountBalancesRequest {
        account_id: account_id.into(),
        ..ListAccountBalancesRequest::default()
    };
    let wrong = ListAccountBalancesRequest { from_ns: 5, to_ns: 4, page_size: -1, ..list(&id(1)) };
    let answer = client.list_account_balances(acme.request(wrong)).await;
    assert_eq!(sorted(fault(answer)), invalid(&["page_size", "to_ns"]));
    // A has no history.
    for account_id in [A, NONSENSE] {
        let answer = client.list_account_balances(acme.request(list(account_id))).await;
        assert_eq!(fault(answer), invalid(&["account_id"]));
    }
    client.list_account_balances(acme.request(list(&id(1)))).await.unwrap();

    let ids = |ids: &[&str]| ids.iter().map(ToString::to_string).collect::<Vec<_>>();
    let many = vec![id(1); 101];
    for (account_ids, timestamp_ns, field) in [
        (vec![], 5, "account_ids"),
        (many, 5, "account_ids"),
        (ids(&[&id(1)]), -1, "timestamp_ns"),
        (ids(&[&id(1), NONSENSE]), 5, "account_ids[1]"),
        (ids(&[A, &id(1)]), 5, "account_ids[0]"),
    ] {
        let wrong = GetBalancesAsOfRequest { account_ids, timestamp_ns };
        assert_eq!(fault(client.get_balances_as_of(acme.request(wrong)).await), invalid(&[field]));
    }
    setup.running.stop().await;
}

/// What is told of a time is not changed by what happens later, also where the clock stands still or is set back.
#[tokio::test]
async fn what_was_told_of_a_time_that_has_come_stays_true() {
    let mut setup = setup().await;
    let history =
        |number| Account { flags: vec![AccountFlag::History.into()], ..account(&id(number), "cash") };
    let accounts = vec![history(1), history(2)];
    let request = setup.acme.request(CreateAccountsRequest { accounts });
    setup.client.create_accounts(request).await.unwrap();
    let between = |number, amount| Transfer {
        debit_account_id: id(1),
        credit_account_id: id(2),
        ..transfer(&id(number), amount)
    };
    for round in 0..4_u32 {
        setup.clock.advance_seconds(1);
        let now = setup.clock.now().as_nanos();
        let before = told(&mut setup, now).await;
        assert_eq!(before.0, i64::from(round) * 7);
        let transfers = vec![between(100 + round, 7)];
        let made = setup.acme.request(CreateTransfersRequest { transfers });
        let made = setup.client.create_transfers(made).await.unwrap().into_inner().results[0];
        assert_eq!((made.code(), made.timestamp_ns > now), (Code::Created, true));
        assert_eq!(told(&mut setup, now).await, before);
        assert_eq!(told(&mut setup, made.timestamp_ns).await.0, i64::from(round + 1) * 7);
    }
    setup.running.stop().await;
}

/// Debits of account 1 as of a time, and how much every kind of question finds up to it.
async fn told(setup: &mut Setup, at: i64) -> (i64, [usize; 4]) {
    let (client, acme) = (&mut setup.client, &setup.acme);
    let request = GetBalancesAsOfRequest { account_ids: vec![id(1)], timestamp_ns: at };
    let debits = client.get_balances_as_of(acme.request(request)).await.unwrap().into_inner().balances[0];
    let request = QueryTransfersRequest { to_ns: at, ..QueryTransfersRequest::default() };
    let made = client.query_transfers(acme.request(request)).await.unwrap().into_inner().transfers.len();
    let request = QueryAccountsRequest { to_ns: at, ..QueryAccountsRequest::default() };
    let opened = client.query_accounts(acme.request(request)).await.unwrap().into_inner().accounts.len();
    let request = ListAccountTransfersRequest { account_id: id(1), to_ns: at, ..Default::default() };
    let listed =
        client.list_account_transfers(acme.request(request)).await.unwrap().into_inner().transfers.len();
    let request = ListAccountBalancesRequest { account_id: id(1), to_ns: at, ..Default::default() };
    let balances =
        client.list_account_balances(acme.request(request)).await.unwrap().into_inner().balances.len();
    (debits.debits_posted, [made, opened, listed, balances])
}

#[tokio::test]
async fn of_a_time_that_has_not_come_nothing_is_told() {
    let mut setup = setup().await;
    let kept = Account { flags: vec![AccountFlag::History.into()], ..account(&id(1), "cash") };
    let request = setup.acme.request(CreateAccountsRequest { accounts: vec![kept] });
    let opened = setup.client.create_accounts(request).await.unwrap().into_inner().results[0].timestamp_ns;
    assert!(opened > setup.clock.now().as_nanos(), "the third of its nanosecond");
    told(&mut setup, opened).await;

    let (client, acme, to_ns) = (&mut setup.client, &setup.acme, opened + 1);
    let request = GetBalancesAsOfRequest { account_ids: vec![id(1)], timestamp_ns: to_ns };
    assert_eq!(fault(client.get_balances_as_of(acme.request(request)).await), invalid(&["timestamp_ns"]));
    let request = QueryTransfersRequest { to_ns, ..Default::default() };
    assert_eq!(fault(client.query_transfers(acme.request(request)).await), invalid(&["to_ns"]));
    let request = QueryAccountsRequest { to_ns, ..Default::default() };
    assert_eq!(fault(client.query_accounts(acme.request(request)).await), invalid(&["to_ns"]));
    let request = ListAccountTransfersRequest { account_id: id(1), to_ns, ..Default::default() };
    assert_eq!(fault(client.list_account_transfers(acme.request(request)).await), invalid(&["to_ns"]));
    let request = ListAccountBalancesRequest { account_id: id(1), to_ns, ..Default::default() };
    assert_eq!(fault(client.list_account_balances(acme.request(request)).await), invalid(&["to_ns"]));
    setup.running.stop().await;
}
