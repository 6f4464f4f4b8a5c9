//! The contract on the embedded store, and what is its own: files, tampering, bounds.

use std::{future::poll_fn, path::Path, task::Poll, time::Duration};

use super::*;
use crate::{
    domain::{AccountCode, Given, TransferCode, TransferFlags},
    store::contract::suite,
};

fn fresh() -> (EmbeddedStore, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (EmbeddedStore::open(&dir.path().join("ledger.db")).unwrap(), dir)
}

suite!(fresh());

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn account(bits: u128) -> NewAccount {
    NewAccount {
        id: Given::Value(AccountId::new(bits).unwrap()),
        tenant: Given::Value("acme".parse().unwrap()),
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("cash".parse().unwrap()),
        flags: Some(crate::domain::AccountFlags::NONE),
        user_data: 0,
        reference: Some(crate::domain::Reference::default()),
        limit: 0,
        has_balances: false,
        has_timestamp: false,
    }
}

fn transfer(bits: u128, flags: TransferFlags, pending: Given<TransferId>) -> NewTransfer {
    NewTransfer {
        id: Given::Value(TransferId::new(bits).unwrap()),
        tenant: Given::Value("acme".parse().unwrap()),
        flags,
        debit: Given::Value(AccountId::new(1).unwrap()),
        credit: Given::Value(AccountId::new(2).unwrap()),
        amount: 10,
        post_full_amount: false,
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("fee".parse().unwrap()),
        pending,
        timeout_s: 0,
        user_data: 0,
        has_unknown_flags: false,
        has_timestamp: false,
        reference: Some(crate::domain::Reference::default()),
    }
}

/// Two accounts, a single transfer, a pending one and its post.
async fn filled(path: &Path) -> EmbeddedStore {
    let store = EmbeddedStore::open(path).unwrap();
    let opened = store.open_accounts(vec![account(1), account(2)], at(1)).await.unwrap();
    assert!(opened.iter().all(|result| result.code == AccountCode::Created));
    let batch = vec![
        transfer(1, TransferFlags::default(), Given::Nothing),
        transfer(2, TransferFlags::PENDING, Given::Nothing),
        transfer(3, TransferFlags::POST_PENDING, Given::Value(TransferId::new(2).unwrap())),
    ];
    let results = store.transfer(batch, at(100)).await.unwrap();
    assert!(results.iter().all(|result| result.code == TransferCode::Created));
    store
}

#[tokio::test]
async fn what_was_answered_is_there_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    drop(filled(&path).await);
    let store = EmbeddedStore::open(&path).unwrap();
    let batch = vec![
        transfer(1, TransferFlags::default(), Given::Nothing),
        transfer(4, TransferFlags::default(), Given::Nothing),
    ];
    let results = store.transfer(batch, at(50)).await.unwrap();
    assert_eq!(results[0], TransferResult { code: TransferCode::Exists, timestamp: Some(at(100)) });
    assert_eq!(results[1], TransferResult { code: TransferCode::Created, timestamp: Some(at(103)) });
    assert_eq!(store.audit().await.unwrap().offences, Vec::<String>::new());
}

#[tokio::test]
async fn the_audit_finds_what_was_tampered_with() {
    let tampering = [
        ("UPDATE accounts SET debits_posted = 21 WHERE debits_posted = 20", "replays to"),
        ("UPDATE accounts SET debits_posted = 21 WHERE debits_posted = 20", "EUR: 21 debits and 20 credits"),
        ("UPDATE transfers SET amount = 9 WHERE timestamp = 100", "replays to"),
        ("DELETE FROM transfers WHERE timestamp = 102", "is stored as Posted and replays as open"),
        ("UPDATE reservations SET state = 0", "is stored as Open and replays as resolved"),
        ("UPDATE accounts SET closed = 1 WHERE created_at = 1", "is stored with closed true and replays to false"),
        ("UPDATE accounts SET current_limit = 7 WHERE created_at = 1", "is stored with the limit 7 and replays to 0"),
        ("DELETE FROM transfer_ids WHERE timestamp = 100", "is not the one that its id leads to"),
        ("INSERT INTO expiries VALUES (500, 101)", "lapsed, which is no open reservation"),
        (
            "INSERT INTO transfers SELECT 500, randomblob(16), tenant, kind, linked, debit, credit, amount,
             ledger, code, pending_id, timeout_s, reference, requested, user_data FROM transfers WHERE timestamp = 102",
            "which is no open reservation",
        ),
    ];
    for (statement, offence) in tampering {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.db");
        let store = filled(&path).await;
        let changed = rusqlite::Connection::open(&path).unwrap().execute(statement, []).unwrap();
        assert_eq!(changed, 1, "{statement}");
        let offences = store.audit().await.unwrap().offences;
        assert!(offences.iter().any(|found| found.contains(offence)), "{statement}: {offences:?}");
    }
}

#[tokio::test]
async fn what_is_resolved_is_no_longer_looked_for() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = filled(&path).await;
    let timed = |bits| NewTransfer { timeout_s: 1, ..transfer(bits, TransferFlags::PENDING, Given::Nothing) };
    let post = transfer(12, TransferFlags::POST_PENDING, Given::Value(TransferId::new(10).unwrap()));
    store.transfer(vec![timed(10), timed(11), post], at(1_000)).await.unwrap();
    assert_eq!(store.expire(at(2_000_000_000)).await.unwrap(), 1);
    let due: i64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT count(*) FROM reservations WHERE expires_at IS NOT NULL", [], |row| row.get(0))
        .unwrap();
    assert_eq!(due, 0);
}

/// Calls are gathered into one job; a row that one of them cannot read fails that one only.
#[tokio::test]
async fn a_call_that_fails_takes_no_other_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = filled(&path).await;
    let opened = store.open_accounts(vec![account(3)], at(1)).await.unwrap();
    assert_eq!(opened[0].code, AccountCode::Created);
    let spoiled = rusqlite::Connection::open(&path)
        .unwrap()
        .execute("UPDATE accounts SET flags = 99 WHERE id = ?1", [3_u128.to_be_bytes().as_slice()])
        .unwrap();
    assert_eq!(spoiled, 1);
    let calls: Vec<_> = (100..164_u128)
        .map(|bits| {
            let store = store.clone();
            let mut item = transfer(bits, TransferFlags::default(), Given::Nothing);
            if bits % 8 == 0 {
                item.debit = Given::Value(AccountId::new(3).unwrap());
            }
            tokio::spawn(async move { store.transfer(vec![item], at(1_000)).await })
        })
        .collect();
    for (bits, call) in (100..164_u128).zip(calls) {
        match call.await.unwrap() {
            Ok(results) => assert_eq!((results[0].code, bits % 8 == 0), (TransferCode::Created, false)),
            Err(error) => {
                assert!(matches!(error, StoreError::Corrupt(_)) && bits % 8 == 0, "{bits}: {error}");
            }
        }
    }
}

#[tokio::test]
async fn more_than_the_writer_can_take_soon_is_refused() {
    let (store, _dir) = fresh();
    let held = store.admit(ITEMS_WAITING_MAX).unwrap();
    let batch = vec![transfer(1, TransferFlags::default(), Given::Nothing)];
    let refused = store.transfer(batch.clone(), at(100)).await;
    assert!(matches!(refused, Err(StoreError::Queue(BatchError::Full))));
    drop(held);
    assert_eq!(store.transfer(batch, at(100)).await.unwrap()[0].code, TransferCode::DebitAccountNotFound);
}

/// Calls that are carried out as three jobs: the second is full by itself.
fn three_jobs(store: &EmbeddedStore) -> Vec<Batch> {
    let call = |range: std::ops::Range<u128>| Batch {
        items: range.map(|bits| transfer(bits, TransferFlags::default(), Given::Nothing)).collect(),
        now: at(1_000),
        _admitted: store.admit(1).unwrap(),
    };
    let full = 1_000..1_000 + BATCH_MAX as u128;
    vec![call(100..101), call(101..102), call(102..103), call(full), call(103..104)]
}

fn all_failed_to_commit(answers: &[Answer]) -> bool {
    answers.len() == 5 && answers.iter().all(|answer| matches!(answer, Err(StoreError::Commit(_))))
}

fn all_created(answers: &[Answer]) -> bool {
    let created = |results: &Vec<TransferResult>| results.iter().all(|r| r.code == TransferCode::Created);
    answers.len() == 5 && answers.iter().all(|answer| answer.as_ref().is_ok_and(created))
}

/// While another holds the file, each try would wait for it again: all calls fail with the first.
#[tokio::test]
async fn a_locked_file_fails_all_calls() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = filled(&path).await;
    let give_up_at_once =
        |connection: &Connection| Ok::<_, StoreError>(connection.busy_timeout(Duration::ZERO)?);
    store.engine.write(give_up_at_once).await.unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let answers = carry_out(store.engine.clone(), three_jobs(&store)).await;
    assert!(all_failed_to_commit(&answers), "{answers:?}");
    other.execute_batch("ROLLBACK").unwrap();
    let answers = carry_out(store.engine.clone(), three_jobs(&store)).await;
    assert!(all_created(&answers), "nothing was done before: {answers:?}");
}

/// One commit that fails is tried once, and no other after it: each of the other calls would succeed
/// if it were tried, in the same job or in a later one.
#[tokio::test]
async fn after_a_failed_commit_nothing_more_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("ledger.db");
    let store = filled(&path).await;
    let other = Connection::open(&path).unwrap();
    // COMMIT fails once transfer 101 was inserted.
    let doom = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
        CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
        CREATE TRIGGER doom AFTER INSERT ON transfers WHEN NEW.id = X'00000000000000000000000000000065'
            BEGIN INSERT INTO child VALUES (7); END";
    other.execute_batch(doom).unwrap();
    let answers = carry_out(store.engine.clone(), three_jobs(&store)).await;
    assert!(all_failed_to_commit(&answers), "{answers:?}");
    other.execute_batch("DROP TRIGGER doom").unwrap();
    let answers = carry_out(store.engine.clone(), three_jobs(&store)).await;
    assert!(all_created(&answers), "nothing was done before: {answers:?}");
}

/// An audit whose caller went away goes on, and until it is over there is no other.
#[test]
fn there_is_one_audit_at_a_time() {
    // With its one blocking thread held, an audit that was asked for cannot begin.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    runtime.block_on(async {
        let (store, _dir) = fresh();
        let (release, held) = std::sync::mpsc::channel::<()>();
        let holder = tokio::task::spawn_blocking(move || held.recv());
        {
            let mut first = std::pin::pin!(store.audit());
            let polled = poll_fn(|context| Poll::Ready(first.as_mut().poll(context).is_ready())).await;
            assert!(!polled);
        }
        assert!(matches!(store.audit().await, Err(StoreError::Queue(BatchError::Full))));
        release.send(()).unwrap();
        holder.await.unwrap().unwrap();
        while store.auditing.available_permits() == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(store.audit().await.unwrap().offences, Vec::<String>::new());
    });
}
