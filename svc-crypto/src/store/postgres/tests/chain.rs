//! The audit log: every change of its table that a verification must find, and replicas that append at once.

use std::time::Duration;

use money::Timestamp;
use tokio_postgres::Client;

use super::{PostgresAuditLog, client, config, log, open};
use crate::{
    domain::audit::{Link, Offence},
    store::{
        AuditLog as _,
        contract::{audit_entry, audit_key, verified},
    },
};

const RECORDS: u64 = 6;

fn at(n: u64) -> Timestamp {
    Timestamp::from_seconds(i64::try_from(n).unwrap())
}

/// A log with one record of each kind, and its end.
async fn kept(log: &PostgresAuditLog) -> Link {
    let mut end = Link::START;
    for n in 0..RECORDS {
        end = log.append(vec![audit_entry(n)], end, at(n)).await.unwrap();
    }
    end
}

/// Somebody who owns the table.
async fn forger(dir: &std::path::Path) -> Client {
    let client = client(&config(dir)).await;
    client.batch_execute("ALTER TABLE audit_record DISABLE TRIGGER append_only").await.unwrap();
    client
}

/// Every single change of one field of one record.
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
    "key_id = '\\x00112233445566778899aabbccddeeff'",
    "key_id = key_id || '\\x00'",
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
    "hash = sha256(hash)",
    "hash = ''",
    "sequence = sequence + 100",
];

#[tokio::test]
async fn any_single_change_of_any_record_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    let end = kept(&log).await;
    let forger = forger(dir.path()).await;
    let change = async |statement: &str| forger.batch_execute(statement).await.unwrap();
    change("CREATE TABLE unchanged AS SELECT * FROM audit_record").await;
    for place in 1..=RECORDS {
        for what in CHANGES {
            change(&format!("UPDATE audit_record SET {what} WHERE sequence = {place}")).await;
            assert!(verified(&log, audit_key(), &[end]).await.is_err(), "{what} of {place}");
            change("TRUNCATE audit_record; INSERT INTO audit_record SELECT * FROM unchanged").await;
        }
    }
    assert_eq!(verified(&log, audit_key(), &[end]).await, Ok(end));
}

#[tokio::test]
async fn each_kind_of_forgery_has_its_name() {
    let swap = "UPDATE audit_record SET sequence = 100 WHERE sequence = 2;
        UPDATE audit_record SET sequence = 2 WHERE sequence = 3;
        UPDATE audit_record SET sequence = 3 WHERE sequence = 100";
    let double =
        "INSERT INTO audit_record SELECT sequence + 1, at, workload, tenant, key_name, token, key_id,
        key_version, verb, outcome, count, bytes, hash FROM audit_record WHERE sequence = 6";
    for (forgery, offence) in [
        ("DELETE FROM audit_record WHERE sequence = 3", Offence::Gap { expected: 3, found: 4 }),
        ("UPDATE audit_record SET count = 9 WHERE sequence = 3", Offence::Hash { sequence: 3 }),
        ("UPDATE audit_record SET verb = 200 WHERE sequence = 3", Offence::Unreadable { sequence: 3 }),
        (swap, Offence::Hash { sequence: 2 }),
        (double, Offence::Hash { sequence: 7 }),
        ("DELETE FROM audit_record WHERE sequence > 4", Offence::Cut { last: 4, known: 6 }),
        ("TRUNCATE audit_record", Offence::Cut { last: 0, known: 6 }),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        let end = kept(&log).await;
        forger(dir.path()).await.batch_execute(forgery).await.unwrap();
        assert_eq!(verified(&log, audit_key(), &[end]).await, Err(offence), "{forgery}");
    }
}

#[tokio::test]
async fn nobody_changes_a_record_by_mistake() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    kept(&log).await;
    let client = client(&config(dir.path())).await;
    for mistake in ["DELETE FROM audit_record", "UPDATE audit_record SET count = 9", "TRUNCATE audit_record"]
    {
        client.batch_execute(mistake).await.unwrap_err();
    }
}

#[tokio::test]
async fn a_replica_that_appends_alone_notices_that_the_end_is_gone() {
    for forgery in ["sequence > 4", "sequence = 6", "true"] {
        let dir = tempfile::tempdir().unwrap();
        let log = log(dir.path());
        let end = kept(&log).await;
        let cut = format!("DELETE FROM audit_record WHERE {forgery}");
        forger(dir.path()).await.batch_execute(&cut).await.unwrap();
        for _ in 0..2 {
            let refused = log.append(vec![audit_entry(7)], end, at(7)).await;
            assert!(matches!(refused, Err(mesh::StoreError::Corrupt(_))), "{forgery}: {refused:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_append_at_once_make_one_chain_and_lose_nothing() {
    const REPLICAS: u64 = 3;
    const GROUPS: u64 = 60;
    let dir = tempfile::tempdir().unwrap();
    let logs: Vec<_> = (0..REPLICAS).map(|_| log(dir.path())).collect();
    let appending = logs.iter().cloned().zip(0..).map(|(log, replica)| {
        tokio::spawn(async move {
            let mut ends = vec![Link::START];
            for n in 0..GROUPS {
                // Each knows what it appended itself, as a recorder does. The clocks differ.
                let entries = vec![audit_entry(2), audit_entry(replica)];
                ends.push(log.append(entries, *ends.last().unwrap(), at(n * replica)).await.unwrap());
            }
            ends
        })
    });
    let mut known = Vec::new();
    for replica in appending.collect::<Vec<_>>() {
        known.extend(replica.await.unwrap());
    }
    let end = verified(&logs[0], audit_key(), &known).await.unwrap();
    assert_eq!(end.sequence, REPLICAS * GROUPS * 2);
    // The entries that name a key's version: number 2 of every group, and number 0 and 2 of two replicas.
    let used = logs[1].usage(uuid::Uuid::from_u128(1)).await.unwrap();
    let messages: u64 = used.iter().map(|used| used.messages).sum();
    let named = [2, 2, 2, 0, 2].map(audit_entry);
    let each = crate::store::rows::used(&named).iter().map(|used| used.messages).sum::<u64>();
    assert_eq!(messages, each * GROUPS);
}

#[tokio::test]
async fn a_replica_that_stands_still_in_its_turn_loses_it() {
    let dir = tempfile::tempdir().unwrap();
    let (log, still) = (log(dir.path()), log(dir.path()));
    let end = kept(&log).await;
    // Its session is held to the same as the one that appends.
    let client = still.server.connect(&still.session).await.unwrap();
    client.batch_execute("BEGIN").await.unwrap();
    client.query_one(super::super::audit::TURN, &[&still.lock]).await.unwrap();
    let appending = log.append(vec![audit_entry(7)], end, at(7));
    let end = tokio::time::timeout(Duration::from_secs(10), appending).await.unwrap().unwrap();
    assert_eq!(end.sequence, RECORDS + 1);
    client.batch_execute("COMMIT").await.unwrap_err();
}

#[tokio::test]
async fn a_session_that_ends_amid_an_append_leaves_all_or_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let log = log(dir.path());
    let mut end = kept(&log).await;
    let other = open(dir.path()).audit_log(audit_key());
    // One that appends alone, and one that has to take its turn.
    for log in [log, other] {
        let mut holder = client(&config(dir.path())).await;
        let held = holder.transaction().await.unwrap();
        held.query_one(super::super::audit::TURN, &[&log.lock]).await.unwrap();
        let (appends, known) = (log.clone(), end);
        let appending = tokio::spawn(async move { appends.append(vec![audit_entry(7)], known, at(7)).await });
        let terminate = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE application_name = $1 AND wait_event_type = 'Lock'";
        let name = log.server.name_of(&log.session);
        let killer = client(&config(dir.path())).await;
        let terminating = async {
            while killer.query_one(terminate, &[&name]).await.unwrap().get::<_, i64>(0) == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), terminating).await.unwrap();
        let ended = appending.await.unwrap();
        assert!(matches!(ended, Err(mesh::StoreError::Server(_))), "{ended:?}");
        held.commit().await.unwrap();
        assert_eq!(verified(&log, audit_key(), &[end]).await, Ok(end), "nothing of it is there");
        end = log.append(vec![audit_entry(7), audit_entry(2)], end, at(7)).await.unwrap();
        assert_eq!(verified(&log, audit_key(), &[end]).await, Ok(end));
    }
    assert_eq!(end.sequence, RECORDS + 4);
}
