//! A file as the first program wrote it, by its own SQL and bodies.

use mesh::idempotency;
use serde_json::{Value, json};

use super::*;
use crate::{
    domain::{answer, due::Terms, operation::ProcessorOutcome, operation::Rpc, payment::Change},
    store::{Claim, EmbeddedStore, Filter, Known, Lines, Page, Store as _, Work, decide},
};

const SECOND: i64 = 1_000_000_000;

fn id(number: u128) -> PaymentId {
    PaymentId::new(uuid::Uuid::from_u128(number << 64))
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_nanos(1_800_000_000 * SECOND + second * SECOND)
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

/// Its payment, of 100, as one that was just authorized; `but` says what is otherwise.
fn body(number: u128, but: &Value) -> Value {
    let mut body = json!({
        "id": id(number), "tenant": "acme", "status": "AUTHORIZED", "amount": 100, "amount_authorized": 100,
        "amount_captured": 0, "amount_refunded": 0, "amount_refund_pending": 0, "currency": "EUR",
        "token": TokenId::new(uuid::Uuid::from_u128(9)),
        "card": {"brand": "VISA", "bin": "424242", "last4": "4242", "fingerprint": "f"},
        "capture_method": "manual", "reference": "INV", "description": "ü", "metadata": {"a": "b"},
        "fraud": {"outcome": "allow", "score": 3, "reasons": []},
        "tax": {"calculation": [1, 2], "amount_tax": 20}, "failure": null, "processor": "simulator",
        "processor_reference": format!("sim_{}_1", id(number)), "created_at": at(0), "updated_at": at(1),
        "sequence": 2, "operation": null, "waiting": null, "inquiries": 0, "operation_number": 1,
    });
    body.as_object_mut().unwrap().extend(but.as_object().unwrap().clone());
    body
}

fn put(connection: &Connection, number: u128, body: &Value) {
    let text = |key: &str| body[key].as_str().unwrap().to_owned();
    let units = |key: &str| body[key].as_i64().unwrap();
    let insert =
        "INSERT INTO payments (tenant, id, status, reference, sequence, due_at, amount, amount_authorized,
        amount_captured, amount_refunded, amount_refund_pending, body)
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)";
    let due = (!body["operation"].is_null()).then_some(at(15).as_nanos());
    let values = params![
        text("tenant"),
        id(number).uuid().into_bytes(),
        text("status"),
        text("reference"),
        units("sequence"),
        due,
        units("amount"),
        units("amount_authorized"),
        units("amount_captured"),
        units("amount_refunded"),
        units("amount_refund_pending"),
        body.to_string().into_bytes(),
    ];
    connection.execute(insert, values).unwrap();
    let event =
        "INSERT INTO events (payment, sequence, type, status, amount, at) VALUES (?1, ?2, ?3, ?4, 100, ?5)";
    let second = ("payment.authorized", text("status"));
    for (sequence, (kind, status)) in [(1, ("payment.created", "PROCESSING".to_owned())), (2, second)] {
        let values = params![id(number).uuid().into_bytes(), sequence, kind, status, at(sequence).as_nanos()];
        connection.execute(event, values).unwrap();
    }
}

fn refund_id(number: u128) -> RefundId {
    RefundId::new(uuid::Uuid::from_u128(number))
}

fn put_refund(connection: &Connection, payment: u128, number: u128, status: &str, amount: i64) {
    let body = json!({
        "id": refund_id(number), "payment": id(payment), "tenant": "acme", "status": status, "amount": amount,
        "reason": "why", "failure": null, "key": format!("r{number}"), "inquiries": 1, "created_at": at(5),
        "updated_at": at(6),
    });
    let values = params![
        id(payment).uuid().into_bytes(),
        refund_id(number).uuid().into_bytes(),
        amount,
        body.to_string().into_bytes()
    ];
    let insert = "INSERT INTO refunds (payment, id, tenant, amount, body) VALUES (?1, ?2, 'acme', ?3, ?4)";
    connection.execute(insert, values).unwrap();
}

fn put_posting(connection: &Connection, payment: u128, transfer: u128, amount: i64) {
    let body = json!({
        "tenant": "acme", "currency": "EUR", "payment": id(payment),
        "transfers": [{"id": uuid::Uuid::from_u128(transfer), "kind": "plain", "debit": "biller_payable",
            "credit": "processor_clearing", "amount": amount, "code": "payment_refund"}],
    });
    let values = params![body.to_string().into_bytes(), at(7).as_nanos()];
    connection.execute("INSERT INTO postings (body, due_at) VALUES (?1, ?2)", values).unwrap();
}

/// A file of the first program, closed.
fn file(dir: &std::path::Path) -> std::path::PathBuf {
    let path = dir.join("payments.db");
    let connection = Connection::open(&path).unwrap();
    for migration in [PAYMENTS, idempotency::SCHEMA, UNDER_WAY_BY_ID] {
        connection.execute_batch(migration).unwrap();
    }
    connection.pragma_update(None, "user_version", 3).unwrap();
    let waiting = |rpc: &str, key: &str| json!({"rpc": rpc, "key": key});
    let pending = json!({"status": "PROCESSING", "amount_authorized": 0, "processor_reference": "", "sequence": 2,
        "operation": {"kind": "authorize"}, "waiting": waiting("CreatePayment", "k1"), "fraud": null});
    put(&connection, 1, &body(1, &pending));
    let unknown = json!({"status": "UNKNOWN", "amount_authorized": 0, "processor_reference": "", "inquiries": 2,
        "operation": {"kind": "authorize"}});
    put(&connection, 2, &body(2, &unknown));
    put(&connection, 3, &body(3, &json!({})));
    let capturing = json!({"status": "UNKNOWN", "operation": {"kind": "capture", "amount": 60}, "inquiries": 1,
        "operation_number": 3});
    put(&connection, 4, &body(4, &capturing));
    let voiding = json!({"operation": {"kind": "void", "reason": "no"}, "operation_number": 2,
        "waiting": waiting("CancelPayment", "v5")});
    put(&connection, 5, &body(5, &voiding));
    let refunded = json!({"status": "PARTIALLY_CAPTURED", "amount_captured": 80, "amount_refunded": 10,
        "amount_refund_pending": 50, "operation_number": 2});
    put(&connection, 6, &body(6, &refunded));
    for (number, status, amount) in
        [(1, "succeeded", 10), (2, "failed", 5), (3, "unknown", 20), (4, "pending", 30)]
    {
        put_refund(&connection, 6, number, status, amount);
    }
    for (payment, transfer) in [(6, 1), (3, 2), (6, 3)] {
        put_posting(&connection, payment, transfer, 10);
    }
    let failure = json!({"code": "CARD_DECLINED", "decline_code": "", "message": "no"});
    let failed =
        json!({"status": "FAILED", "amount_authorized": 0, "processor_reference": "", "failure": failure});
    put(&connection, 7, &body(7, &failed));
    let canceled = json!({"status": "CANCELED", "operation_number": 2});
    put(&connection, 8, &body(8, &canceled));
    put(&connection, 9, &body(9, &json!({"operation_number": 4})));
    let scope = claim("k1").scope;
    idempotency::begin(&connection, &scope, &[1; 32], &id(1).to_string(), at(0)).unwrap();
    path
}

fn claim(key: &str) -> Claim {
    let scope =
        idempotency::Scope { tenant: acme(), rpc: Rpc::CreatePayment.name(), key: key.parse().unwrap() };
    Claim { scope, fingerprint: [1; 32], subject: String::new() }
}

/// Number, kind, state and processor's name of each operation.
fn operations(payment: &Payment) -> Vec<(u32, &'static str, OperationStatus, i64)> {
    let kind = |operation: &Operation| match operation.kind {
        OperationKind::Authorize { .. } => "authorize",
        OperationKind::Capture { .. } => "capture",
        OperationKind::Void { .. } => "void",
        OperationKind::Refund { .. } => "refund",
        _ => "other",
    };
    let operations = payment.operations.iter();
    operations.map(|found| (found.number, kind(found), found.status, found.amount())).collect()
}

#[tokio::test]
async fn what_the_first_program_kept_is_there_and_goes_on() {
    use OperationStatus::{Failed, Pending, Succeeded, Unknown};
    let dir = tempfile::tempdir().unwrap();
    let path = file(dir.path());
    for _ in 0..2 {
        // The second time nothing is converted any more.
        let store = EmbeddedStore::open(&path).unwrap();
        let all = Filter { limit: 100, ..Filter::default() };
        assert_eq!(store.payments(acme(), all).await.unwrap().len(), 9);
        let expected: [(u128, Status, &[_]); 9] = [
            (1, Status::Processing, &[(1, "authorize", Pending, 100)]),
            (2, Status::Unknown, &[(1, "authorize", Unknown, 100)]),
            (3, Status::Authorized, &[(1, "authorize", Succeeded, 100)]),
            (4, Status::Authorized, &[(1, "authorize", Succeeded, 100), (3, "capture", Unknown, 60)]),
            (5, Status::Authorized, &[(1, "authorize", Succeeded, 100), (2, "void", Pending, 0)]),
            (
                6,
                Status::PartiallyCaptured,
                &[
                    (1, "authorize", Succeeded, 100),
                    (2, "capture", Succeeded, 80),
                    (3, "refund", Succeeded, 10),
                    (4, "refund", Failed, 5),
                    (5, "refund", Unknown, 20),
                    (6, "refund", Unknown, 30),
                ],
            ),
            (7, Status::Failed, &[(1, "authorize", Failed, 100)]),
            (8, Status::Canceled, &[(1, "authorize", Succeeded, 100), (2, "void", Succeeded, 0)]),
            (9, Status::Authorized, &[(1, "authorize", Succeeded, 100), (4, "void", Failed, 0)]),
        ];
        for (number, status, found) in expected {
            let payment = store.payment(acme(), id(number)).await.unwrap().unwrap();
            assert_eq!((payment.status, operations(&payment).as_slice()), (status, found), "{number}");
            let page = Page { after: None, limit: 9 };
            let (_, events) = store.events(acme(), id(number), page).await.unwrap().unwrap();
            assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2]);
            assert_eq!((payment.sequence, payment.created_at, payment.updated_at), (2, at(0), at(1)));
            assert_eq!(payment.metadata["a"], "b");
        }
    }
    let tables: i64 = Connection::open(&path)
        .unwrap()
        .query_row(
            "SELECT count(*) FROM sqlite_schema WHERE name IN ('payments', 'refunds', 'events', 'postings')",
            [],
            |row| row.get(0),
        )
        .unwrap();
    assert_eq!(tables, 0);
}

#[tokio::test]
async fn what_was_open_is_due_and_settles() {
    let dir = tempfile::tempdir().unwrap();
    let store = EmbeddedStore::open(&file(dir.path())).unwrap();
    let work = store.take_due(at(1_000), at(2_000), 100).await.unwrap();
    let due = [1, 2, 4, 5, 6].map(|number| Work::Payment(acme(), id(number)));
    let postings = [3, 6].map(|number| Work::Postings(acme(), id(number)));
    assert_eq!(work.len(), due.len() + postings.len());
    assert!(due.iter().chain(&postings).all(|expected| work.contains(expected)), "{work:?}");

    let terms = Terms { unconfirmed_s: 1, action_s: 1, review_s: 1, authorized_s: 1 };
    let approved =
        |name: &str| ProcessorOutcome::Approved(crate::domain::operation::Approval::as_asked(name));
    let settle = async |number: u128, operation: u32| {
        let read = store.payment(acme(), id(number)).await.unwrap().unwrap();
        let name = format!("sim_{number}_{operation}");
        let decide = |payment| answer::answered(payment, operation, approved(&name), &terms, at(20));
        decide::change(&store, &Lines::default(), read, at(20), decide).await.unwrap().change
    };
    // The caller who waits is answered under the key from before.
    let known = store.find_claim(claim("k1")).await.unwrap();
    assert_eq!(known, Some(Known::Underway { subject: id(1).to_string() }));
    assert_eq!(settle(1, 1).await.payment.status, Status::Authorized);
    assert!(matches!(store.find_claim(claim("k1")).await.unwrap(), Some(Known::Answered(_))));
    assert_eq!(settle(2, 1).await.payment.status, Status::Authorized);
    let Change { payment, postings, .. } = settle(4, 3).await;
    assert_eq!((payment.status, payment.amount_captured), (Status::PartiallyCaptured, 60));
    // The reservation from before is resolved under the ids from before.
    let Some(crate::domain::posting::TransferKind::Post { pending_id }) =
        postings[0].transfers.first().map(|transfer| transfer.kind)
    else {
        panic!("a capture posts: {postings:?}")
    };
    assert_eq!(pending_id.as_u128(), id(4).uuid().as_u128() ^ (0x5a_u128 << 48) ^ 1);
    assert_eq!(settle(5, 2).await.payment.status, Status::Canceled);

    let told = store.postings(acme(), id(6)).await.unwrap();
    let told: Vec<_> =
        told.iter().map(|posting| (posting.ordinal, posting.transfers[0].id.as_u128())).collect();
    assert_eq!(told, [(1, 1), (2, 3)], "in the order from before");
    let open = store.payment(acme(), id(6)).await.unwrap().unwrap();
    let names: Vec<_> = open.open_operations().map(|open| open.processor_reference.clone()).collect();
    assert_eq!(names, [3, 4].map(|number| refund_id(number).to_string()), "as the processor knows them");
    settle(6, 5).await;
    let change = settle(6, 6).await;
    assert_eq!((change.payment.amount_refunded, change.payment.amount_refund_pending), (60, 0));
    assert_eq!(change.postings[0].ordinal, 4);
    store.postings_done(id(6), 2).await.unwrap();
    assert_eq!(store.postings(acme(), id(6)).await.unwrap().len(), 2);
}
