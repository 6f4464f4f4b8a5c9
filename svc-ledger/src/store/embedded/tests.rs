//! The contract on the embedded store, and what is its own: files, tampering, bounds.

use std::path::Path;

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
        currency: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("cash".parse().unwrap()),
        flags: Some(crate::domain::AccountFlags::None),
        balances_are_zero: true,
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
        currency: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("fee".parse().unwrap()),
        pending,
        timeout_s: 0,
        reference: crate::domain::Reference::default(),
    }
}

/// Two accounts, a single transfer, a pending one and its post.
async fn filled(path: &Path) -> EmbeddedStore {
    let store = EmbeddedStore::open(path).unwrap();
    let opened = store.open_accounts(vec![account(1), account(2)], at(1)).await.unwrap();
    assert_eq!(opened, [AccountCode::Created; 2]);
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
        ("DELETE FROM transfers WHERE timestamp = 102", "is stored as Posted and replays as Some(Open)"),
        ("UPDATE reservations SET state = 0", "is stored as Open and replays as Some(Posted)"),
        ("DELETE FROM reservations", "0 reservations are stored, 1 replay"),
        ("DELETE FROM transfer_ids WHERE timestamp = 100", "is not the one that its id leads to"),
        ("INSERT INTO expiries VALUES (500, 101)", "lapsed and was Posted already"),
        (
            "INSERT INTO transfers SELECT 500, randomblob(16), tenant, kind, linked, debit, credit, amount,
             currency, code, pending_id, timeout_s, reference FROM transfers WHERE timestamp = 102",
            "which was Posted already",
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
    assert_eq!(opened, [AccountCode::Created]);
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
