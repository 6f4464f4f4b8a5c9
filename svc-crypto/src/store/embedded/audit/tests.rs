//! The audit log in SQLite: the contract, and every change of its file that a verification must find.

use std::path::PathBuf;

use proptest::prelude::*;

use super::*;
use crate::{
    domain::audit::{Offence, Verifier},
    store::contract::{audit_entry, audit_key, verified},
};

crate::store::contract::suite!(audit: |dir: &Path| {
    EmbeddedAuditLog::open(&dir.join("audit.db"), audit_key()).unwrap()
});

const RECORDS: u64 = 6;

/// A log that was closed, with one record of each kind, and its end.
async fn kept(dir: &Path) -> (PathBuf, Link) {
    let path = dir.join("audit.db");
    let log = EmbeddedAuditLog::open(&path, audit_key()).unwrap();
    let mut end = Link::START;
    for n in 0..RECORDS {
        let entries = vec![audit_entry(n)];
        end = log.append(entries, end, Timestamp::from_seconds(i64::try_from(n).unwrap())).await.unwrap();
    }
    (path, end)
}

/// Every single change of one field of one record. `?1` is the record.
const CHANGES: &[&str] = &[
    "at = at + 1",
    "at = at - 1",
    "workload = workload || 'x'",
    "workload = ''",
    "tenant = 'other'",
    "tenant = CASE tenant WHEN '' THEN 'acme' ELSE '' END",
    "key_name = key_name || 'x'",
    "token = token || '0'",
    "token = CASE token WHEN '' THEN '012345678901' ELSE '' END",
    "key_id = randomblob(16)",
    "key_id = CAST(key_id || x'00' AS BLOB)",
    "key_version = key_version + 1",
    "key_version = -1",
    "verb = CASE verb WHEN 1 THEN 2 ELSE 1 END",
    "verb = 255",
    "verb = 1000",
    "outcome = CASE outcome WHEN '' THEN 'INTERNAL' ELSE '' END",
    "outcome = outcome || ' '",
    "count = count + 1",
    "count = count + 4294967296",
    "bytes = bytes + 1",
    "bytes = -1",
    "hash = randomblob(32)",
    "hash = x''",
    "sequence = sequence + 100",
    "sequence = -1",
    "sequence = 0",
];

fn change(path: &Path, statement: &str) {
    Connection::open(path).unwrap().execute_batch(statement).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_single_change_of_any_record_is_found(
        place in 1..=RECORDS,
        what in proptest::sample::select(CHANGES),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let (path, end) = kept(dir.path()).await;
            change(&path, &format!("UPDATE record SET {what} WHERE sequence = {place}"));
            let log = EmbeddedAuditLog::open(&path, audit_key()).unwrap();
            assert!(verified(&log, audit_key(), &[end]).await.is_err(), "{what} of {place}");
        });
    }
}

#[tokio::test]
async fn each_kind_of_forgery_has_its_name() {
    let swap = "UPDATE record SET sequence = 100 WHERE sequence = 2;
        UPDATE record SET sequence = 2 WHERE sequence = 3; UPDATE record SET sequence = 3 WHERE sequence = 100";
    let double = "INSERT INTO record SELECT sequence + 1, at, workload, tenant, key_name, token, key_id,
        key_version, verb, outcome, count, bytes, hash FROM record WHERE sequence = 6";
    for (forgery, offence) in [
        ("DELETE FROM record WHERE sequence = 3", Offence::Gap { expected: 3, found: 4 }),
        ("UPDATE record SET count = 9 WHERE sequence = 3", Offence::Hash { sequence: 3 }),
        ("UPDATE record SET verb = 200 WHERE sequence = 3", Offence::Unreadable { sequence: 3 }),
        (swap, Offence::Hash { sequence: 2 }),
        (double, Offence::Hash { sequence: 7 }),
        ("DELETE FROM record WHERE sequence > 4", Offence::Cut { last: 4, known: 6 }),
        ("DELETE FROM record", Offence::Cut { last: 0, known: 6 }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let (path, end) = kept(dir.path()).await;
        change(&path, forgery);
        let log = EmbeddedAuditLog::open(&path, audit_key()).unwrap();
        assert_eq!(verified(&log, audit_key(), &[end]).await, Err(offence), "{forgery}");
    }
}

#[tokio::test]
async fn the_log_of_another_key_is_found_at_its_first_record() {
    let dir = tempfile::tempdir().unwrap();
    let (path, end) = kept(dir.path()).await;
    let other = ChainKey::new(&crate::domain::secret::KeyBytes::take(&mut [9; 32]));
    let log = EmbeddedAuditLog::open(&path, other.clone()).unwrap();
    assert_eq!(verified(&log, other, &[end]).await, Err(Offence::Hash { sequence: 1 }));
    assert_eq!(Verifier::new(audit_key(), []).end(), Link::START);
}
