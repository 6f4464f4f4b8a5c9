//! The audit log of the running service: what is in it, who may see it, and what it finds.

use std::{fs, path::Path, time::Duration};

use crate::common::{NOW, World, call, card, reason};
use mesh::{Fault, Reason, clock};
use paymesh_proto::crypto::v1::{
    AuditRecord, BatchDetokenizeRequest, BatchGetTokensRequest, DetokenizeRequest, GetTokenRequest,
    ListAuditRecordsRequest, VerifyAuditLogRequest, VerifyAuditLogResponse, batch_get_tokens_request,
};
use rusqlite::Connection;
use svc_crypto::{Crypto, audit::verify_stopped, config::Config, domain::audit::Offence};

const VISA: &str = "4242424242424242";

fn file(dir: &Path) -> std::path::PathBuf {
    dir.join("svc-crypto/audit.db")
}

fn detokenize(token: &str) -> DetokenizeRequest {
    DetokenizeRequest { token: token.into(), ..Default::default() }
}

async fn listed(world: &World, request: ListAuditRecordsRequest) -> Vec<AuditRecord> {
    let (mut all, mut token) = (Vec::new(), String::new());
    loop {
        let request = ListAuditRecordsRequest { page_token: token, ..request.clone() };
        let page = world.audit("operator").list_audit_records(call("acme", request)).await.unwrap();
        let page = page.into_inner();
        all.extend(page.records);
        token = page.next_page_token;
        if token.is_empty() {
            return all;
        }
    }
}

async fn verified(world: &World, known_end: &str) -> VerifyAuditLogResponse {
    let request = VerifyAuditLogRequest { known_end: known_end.into() };
    let mut said =
        world.audit("operator").verify_audit_log(call("acme", request)).await.unwrap().into_inner();
    loop {
        let said = said.message().await.unwrap().unwrap();
        if said.done {
            return said;
        }
    }
}

#[tokio::test]
async fn every_verb_leaves_who_what_and_what_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let token = world.tokenize("acme", card(VISA)).await.unwrap().into_inner().id;
    world.tokenize("acme", card("4242424242424241")).await.unwrap_err();
    let mut payments = world.vault("svc-payments");
    payments.detokenize(call("acme", detokenize(&token))).await.unwrap();
    payments.detokenize(call("other", detokenize(&token))).await.unwrap_err();
    payments.get_token(call("acme", GetTokenRequest { id: token.clone() })).await.unwrap();
    payments.get_token(GetTokenRequest { id: token.clone() }).await.unwrap_err();
    let items = [&*token, "tok_x", &*token, "tok_y"].map(detokenize).to_vec();
    payments.batch_detokenize(call("acme", BatchDetokenizeRequest { items })).await.unwrap();
    let items = [&*token, "tok_x", &*token];
    let items = items.map(|id| batch_get_tokens_request::Item { id: id.into(), tenant: String::new() });
    payments.batch_get_tokens(call("acme", BatchGetTokensRequest { items: items.into() })).await.unwrap();
    let items = vec![detokenize(&token); 1_025];
    payments.batch_detokenize(call("acme", BatchDetokenizeRequest { items })).await.unwrap_err();

    let records = listed(&world, ListAuditRecordsRequest { page_size: 2, ..Default::default() }).await;
    let told: Vec<_> = records
        .iter()
        .map(|record| {
            let AuditRecord { workload, tenant, token, verb, reason, count, .. } = record;
            (&**workload, &**tenant, &**verb, &**token, &**reason, *count)
        })
        .collect();
    assert_eq!(
        told,
        [
            ("edge-gateway", "acme", "tokenize", &*token, "", 1),
            ("edge-gateway", "acme", "tokenize", "", "INVALID_REQUEST", 1),
            ("svc-payments", "acme", "detokenize", &*token, "", 1),
            ("svc-payments", "other", "detokenize", &*token, "TOKEN_NOT_FOUND", 1),
            ("svc-payments", "acme", "get_token", &*token, "", 1),
            ("svc-payments", "", "get_token", &*token, "TENANT_REQUIRED", 1),
            // Of many the cards that were given out are named, and the others counted.
            ("svc-payments", "acme", "detokenize", &*token, "", 2),
            ("svc-payments", "acme", "detokenize", "", "TOKEN_NOT_FOUND", 2),
            ("svc-payments", "acme", "get_token", "", "", 2),
            ("svc-payments", "acme", "get_token", "", "TOKEN_NOT_FOUND", 1),
            ("svc-payments", "acme", "detokenize", "", "INVALID_REQUEST", 1_025),
        ]
    );
    assert!(records.iter().map(|record| record.sequence).eq(1..=11));
    assert!(records.iter().all(|record| record.at == Some(clock::to_proto(NOW))));
    let said = verified(&world, "").await;
    assert_eq!((said.records, said.records_total, &*said.offence), (11, 11, ""));
    world.service.stop().await;
}

#[tokio::test]
async fn a_list_is_of_what_was_asked_for_and_for_operators_only() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    let token = world.tokenize("acme", card(VISA)).await.unwrap().into_inner().id;
    world.tokenize("other", card(VISA)).await.unwrap();
    world.clock.advance_seconds(10);
    world.tokenize("acme", card("1")).await.unwrap_err();
    world.vault("svc-payments").detokenize(call("acme", detokenize(&token))).await.unwrap();
    let all = ListAuditRecordsRequest::default();
    let later = NOW.checked_add_seconds(5).map(clock::to_proto);
    let queries = [
        (all.clone(), vec![1, 2, 3, 4]),
        (ListAuditRecordsRequest { tenant: "acme".into(), ..all.clone() }, vec![1, 3, 4]),
        (ListAuditRecordsRequest { token, ..all.clone() }, vec![1, 4]),
        (ListAuditRecordsRequest { verb: "detokenize".into(), ..all.clone() }, vec![4]),
        (ListAuditRecordsRequest { workload: "edge-gateway".into(), ..all.clone() }, vec![1, 2, 3]),
        (ListAuditRecordsRequest { refused: true, ..all.clone() }, vec![3]),
        (ListAuditRecordsRequest { from: later, ..all.clone() }, vec![3, 4]),
        (ListAuditRecordsRequest { until: later, ..all.clone() }, vec![1, 2]),
        (ListAuditRecordsRequest { key_name: "orders".into(), ..all.clone() }, vec![]),
    ];
    for (request, expected) in queries {
        for page_size in [0, 1, 3] {
            let found = listed(&world, ListAuditRecordsRequest { page_size, ..request.clone() }).await;
            let found: Vec<_> = found.iter().map(|record| record.sequence).collect();
            assert_eq!(found, expected, "{request:?}");
        }
    }
    let wrong = ListAuditRecordsRequest {
        page_size: -1,
        page_token: "x".into(),
        tenant: "A B".into(),
        key_name: "A B".into(),
        token: "4242".into(),
        verb: "steal".into(),
        workload: "A B".into(),
        ..all.clone()
    };
    let refused = world.audit("operator").list_audit_records(call("acme", wrong)).await.unwrap_err();
    let fault = Fault::from_status(&refused);
    let fields: Vec<_> = fault.violations().iter().map(|violation| &*violation.field).collect();
    assert_eq!(fields, ["tenant", "key_name", "token", "verb", "workload", "page_token", "page_size"]);
    for caller in ["edge-gateway", "svc-payments", "svc-crypto", "stranger"] {
        let mut audit = world.audit(caller);
        assert_eq!(
            reason(audit.list_audit_records(call("acme", all.clone())).await),
            Reason::PermissionDenied
        );
        let request = VerifyAuditLogRequest::default();
        assert_eq!(reason(audit.verify_audit_log(call("acme", request)).await), Reason::PermissionDenied);
    }
    world.service.stop().await;
}

#[tokio::test]
async fn a_log_that_stalls_holds_every_answer_back_and_fails_by_the_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start_with(dir.path(), Config { audit_deadline_ms: 200, ..Config::default() }).await;
    let token = world.tokenize("acme", card(VISA)).await.unwrap().into_inner().id;
    let mut payments = world.vault("svc-payments");
    // Nobody else can write while this goes on.
    let stalling = Connection::open(file(dir.path())).unwrap();
    stalling.execute_batch("BEGIN IMMEDIATE").unwrap();
    let calls = async {
        for _ in 0..2 {
            let refused = payments.detokenize(call("acme", detokenize(&token))).await;
            let fault = Fault::from_status(&refused.unwrap_err());
            assert_eq!(fault.reason(), Reason::Unavailable);
            assert!(fault.message().starts_with("The audit log did not take"), "{fault}");
        }
        let refused = world.tokenize("acme", card("4242424242424241")).await;
        assert_eq!(reason(refused), Reason::Unavailable, "what is refused leaves a record, too");
    };
    tokio::time::timeout(Duration::from_secs(20), calls).await.expect("fails and does not hang");
    stalling.execute_batch("ROLLBACK").unwrap();
    let came_back = async { while payments.detokenize(call("acme", detokenize(&token))).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), came_back).await.expect("it goes on when the log does");
    assert_eq!(verified(&world, "").await.offence, "");
    world.service.stop().await;
}

#[tokio::test]
async fn a_log_that_is_cut_under_the_running_service_takes_no_more_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    for _ in 0..4 {
        world.tokenize("acme", card(VISA)).await.unwrap();
    }
    let end = verified(&world, "").await.end;
    assert_eq!(verified(&world, &end).await.offence, "");
    let other = format!("2:{}", "00".repeat(32));
    let rewritten = verified(&world, &other).await;
    assert!(rewritten.offence.contains("record 2 is another one"), "{}", rewritten.offence);
    assert_eq!(rewritten.records, 1);
    let changing = Connection::open(file(dir.path())).unwrap();
    changing.execute_batch("UPDATE record SET tenant = 'other' WHERE sequence = 3").unwrap();
    let changed = verified(&world, "").await;
    assert!(changed.offence.starts_with("record 3 does not have the hash"), "{}", changed.offence);
    changing.execute_batch("UPDATE record SET tenant = 'acme' WHERE sequence = 3").unwrap();
    changing.execute_batch("DELETE FROM record WHERE sequence > 2").unwrap();
    drop(changing);

    assert_eq!(reason(world.tokenize("acme", card(VISA)).await), Reason::Unavailable);
    let cut = verified(&world, "").await;
    assert_eq!(cut.offence, Offence::Cut { last: 2, known: 4 }.to_string());
    world.service.stop().await;
}

#[tokio::test]
async fn a_log_that_is_cut_while_the_service_is_stopped_keeps_it_from_starting() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    for _ in 0..4 {
        world.tokenize("acme", card(VISA)).await.unwrap();
    }
    let data = dir.path().join("svc-crypto");
    let running = verify_stopped(&data, &Config::default(), None, |_| true).await.unwrap_err().to_string();
    assert!(running.contains("another process is running"), "{running}");
    world.service.stop().await;

    let (end, offence) = verify_stopped(&data, &Config::default(), None, |_| true).await.unwrap();
    assert_eq!((end.sequence, offence), (4, None));
    assert_eq!(fs::read_to_string(data.join("audit.head")).unwrap(), format!("{end}\n"));
    let cutting = Connection::open(file(dir.path())).unwrap();
    cutting.execute_batch("DELETE FROM record WHERE sequence > 2").unwrap();
    drop(cutting);
    let (_, offence) = verify_stopped(&data, &Config::default(), None, |_| true).await.unwrap();
    assert_eq!(offence, Some(Offence::Cut { last: 2, known: 4 }));
    let mut harness = mesh::Harness::new(dir.path()).unwrap();
    let refused = harness.start::<Crypto>(Config::default()).await.err().unwrap().to_string();
    assert!(
        refused.contains("does not hold record 4") && refused.contains("ends with record 2"),
        "{refused}"
    );

    // Without that file nobody can tell, but for whoever noted the end elsewhere.
    fs::remove_file(data.join("audit.head")).unwrap();
    assert_eq!(verify_stopped(&data, &Config::default(), None, |_| true).await.unwrap().1, None);
    let (_, offence) = verify_stopped(&data, &Config::default(), Some(end), |_| true).await.unwrap();
    assert_eq!(offence, Some(Offence::Cut { last: 2, known: 4 }));

    // A log goes with the root that wraps its key.
    let other = dir.path().join("other.key");
    fs::write(&other, [7; 32]).unwrap();
    let config = Config { root_key_file: Some(other), ..Config::default() };
    let refused = verify_stopped(&data, &config, None, |_| true).await.unwrap_err().to_string();
    assert!(refused.contains("which is not configured"), "{refused}");
}

#[tokio::test]
async fn a_log_is_not_gone_on_with_under_another_key_than_it_was_begun_with() {
    let dir = tempfile::tempdir().unwrap();
    let world = World::start(dir.path()).await;
    for _ in 0..2 {
        world.tokenize("acme", card(VISA)).await.unwrap();
    }
    world.service.stop().await;
    let data = dir.path().join("svc-crypto");
    // The store and its root are lost, the log is not: a new store would have a new key for the chain.
    for lost in ["crypto.db", "crypto.db-wal", "crypto.db-shm", "root.key"] {
        let _ = fs::remove_file(data.join(lost));
    }
    let mut harness = mesh::Harness::new(dir.path()).unwrap();
    let refused = harness.start::<Crypto>(Config::default()).await.err().unwrap().to_string();
    assert!(refused.contains("chained with another key"), "{refused}");
    for begun in ["audit.db", "audit.db-wal", "audit.db-shm", "audit.head"] {
        let _ = fs::remove_file(data.join(begun));
    }
    let world = World::start(dir.path()).await;
    world.tokenize("acme", card(VISA)).await.unwrap();
    world.service.stop().await;
}
