//! Questions that cannot be understood: each is told the fields at fault.

use paymesh_proto::ledger::v1::{
    CreateAccountsRequest, GetBalancesAsOfRequest, ListAccountBalancesRequest, ListAccountTransfersRequest,
    QueryAccountsRequest, QueryTransfersRequest, WatchTransfersRequest, account::AccountFlag,
};

use super::{A, Account, Reason, account, fault, id, invalid, setup};

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
