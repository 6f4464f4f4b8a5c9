//! What every store promises of the audit log.

use std::borrow::Cow;

use mesh::{SpiffeId, StoreError};
use money::{Timestamp, TokenRef};
use uuid::Uuid;

use super::{at, tenant, token};
use crate::{
    domain::{
        algorithm::Verb,
        audit::{Act, ChainKey, Entry, Link, Offence, Outcome, Subject, Verifier},
        envelope::KeyRef,
        keys::KeyName,
        secret::KeyBytes,
    },
    store::{AuditLog, Usage},
};

pub(crate) fn audit_key() -> ChainKey {
    ChainKey::new(&KeyBytes::take(&mut [5; 32]))
}

/// Entries of every shape, the same for the same number.
pub(crate) fn audit_entry(n: u64) -> Entry {
    let outcome = if n % 3 == 2 { Outcome::Refused(Cow::Borrowed("KEY_NOT_FOUND")) } else { Outcome::Done };
    let subject = match n % 4 {
        0 => Subject::Key(KeyName::parse("orders").unwrap()),
        1 => Subject::Token(TokenRef::Opaque(token(n.into()))),
        _ => Subject::None,
    };
    let act = Act {
        workload: SpiffeId::of(if n.is_multiple_of(2) { "svc-payments" } else { "operator" }).unwrap(),
        tenant: (n % 5 != 4).then(|| tenant("acme")),
        subject,
        key: n.is_multiple_of(2).then(|| KeyRef { id: Uuid::from_u128(1), version: 1 }),
        verb: Verb::ALL[usize::try_from(n).unwrap() % Verb::ALL.len()],
        outcome,
    };
    Entry { act, count: 1, bytes: n }
}

fn done(verb: Verb, version: u32, count: u32, bytes: u64) -> Entry {
    let key = Some(KeyRef { id: Uuid::from_u128(1), version });
    let act = Act { key, verb, outcome: Outcome::Done, ..audit_entry(0).act };
    Entry { act, count, bytes }
}

/// Checks all that a log holds, in pages.
pub(crate) async fn verified<L: AuditLog>(log: &L, key: ChainKey, known: &[Link]) -> Result<Link, Offence> {
    let mut verifier = Verifier::new(key, known.iter().copied());
    loop {
        let found = log.records(verifier.end().sequence, 4).await.unwrap();
        if found.is_empty() {
            return verifier.finish().map(|()| verifier.end());
        }
        for found in found {
            verifier.check(found.sequence, found.chained.as_ref())?;
        }
    }
}

pub(crate) async fn what_is_appended_is_one_chain<L: AuditLog>(open: impl Fn() -> L) {
    let log = open();
    assert_eq!(log.end(Link::START).await.unwrap(), Link::START);
    assert_eq!(log.records(0, 10).await.unwrap(), []);
    let first = log.append((0..5).map(audit_entry).collect(), Link::START, at(3)).await.unwrap();
    // The clock went back, and stood still.
    let second = log.append((5..40).map(audit_entry).collect(), first, at(2)).await.unwrap();
    assert_eq!(log.append(Vec::new(), second, at(4)).await.unwrap(), second);
    drop(log);

    let log = open();
    assert_eq!((first.sequence, second.sequence), (5, 40));
    assert_eq!(log.end(second).await.unwrap(), second);
    assert_eq!(verified(&log, audit_key(), &[first, second]).await, Ok(second));
    let records: Vec<_> =
        log.records(0, 100).await.unwrap().into_iter().map(|found| found.chained.unwrap().record).collect();
    assert!(records.iter().map(|record| &record.entry).eq(&(0..40).map(audit_entry).collect::<Vec<_>>()));
    assert!(records.iter().all(|record| record.at == at(3)));
}

pub(crate) async fn an_append_that_does_not_find_what_was_kept_is_refused<L: AuditLog>(open: impl Fn() -> L) {
    let log = open();
    let first = log.append(vec![audit_entry(1)], Link::START, at(1)).await.unwrap();
    let second = log.append(vec![audit_entry(2)], first, at(2)).await.unwrap();
    // Whoever knows less may append: another replica has.
    let third = log.append(vec![audit_entry(3)], first, at(3)).await.unwrap();
    for known in [
        Link { sequence: 4, ..third },
        Link { hash: second.hash, ..third },
        Link { hash: third.hash, ..second },
    ] {
        assert!(matches!(log.end(known).await, Err(StoreError::Corrupt(_))), "{known:?}");
        let refused = log.append(vec![audit_entry(4)], known, at(4)).await;
        assert!(matches!(refused, Err(StoreError::Corrupt(_))), "{known:?}");
    }
    assert_eq!(log.end(third).await.unwrap(), third, "nothing was kept");
}

pub(crate) async fn what_is_done_with_a_key_is_counted_with_its_record<L: AuditLog>(open: impl Fn() -> L) {
    let log = open();
    let key = Uuid::from_u128(1);
    assert_eq!(log.usage(key).await.unwrap(), []);
    let mut refused = done(Verb::Decrypt, 2, 50, 50);
    refused.act.outcome = Outcome::Refused(Cow::Borrowed("DECRYPTION_FAILED"));
    let entries = vec![
        done(Verb::Encrypt, 2, 1, 10),
        done(Verb::Decrypt, 1, 2, 20),
        done(Verb::Sign, 2, 3, 30),
        done(Verb::RotateKey, 2, 1, 0),
        refused,
    ];
    let end = log.append(entries, Link::START, at(1)).await.unwrap();
    let mut other = done(Verb::Encrypt, 2, 9, 9);
    other.act.key = Some(KeyRef { id: Uuid::from_u128(2), version: 2 });
    log.append(vec![done(Verb::Encrypt, 2, 1, 1), other], end, at(1)).await.unwrap();
    // What is refused is not counted.
    let unknown = Link { sequence: 99, ..end };
    assert!(log.append(vec![done(Verb::Encrypt, 2, 1, 1)], unknown, at(1)).await.is_err());
    drop(log);
    let used = |version, messages, bytes| Usage { key, version, messages, bytes };
    assert_eq!(open().usage(key).await.unwrap(), [used(1, 2, 20), used(2, 5, 41)]);
}

pub(crate) async fn records_are_found_by_number_and_time<L: AuditLog>(open: impl Fn() -> L) {
    let log = open();
    assert_eq!(log.last_before(at(100)).await.unwrap(), 0);
    let mut end = Link::START;
    for second in [1, 1, 2, 5, 5, 5, 9] {
        end = log.append(vec![audit_entry(7)], end, at(second)).await.unwrap();
    }
    for (time, expected) in [(0, 0), (1, 0), (2, 2), (3, 3), (5, 3), (6, 6), (9, 6), (10, 7)] {
        assert_eq!(log.last_before(at(time)).await.unwrap(), expected, "{time}");
    }
    assert_eq!(log.last_before(Timestamp::from_nanos(i64::MIN)).await.unwrap(), 0);
    let numbers = |after, limit| {
        let log = log.clone();
        async move {
            log.records(after, limit).await.unwrap().iter().map(|found| found.sequence).collect::<Vec<_>>()
        }
    };
    assert_eq!(numbers(0, 3).await, [1, 2, 3]);
    assert_eq!(numbers(5, 3).await, [6, 7]);
    assert!(numbers(7, 3).await.is_empty());
}

pub(crate) async fn appends_at_once_make_one_chain<L: AuditLog>(open: impl Fn() -> L) {
    let log = open();
    let appends = (0..32).map(|n| {
        let log = log.clone();
        tokio::spawn(async move {
            log.append(vec![audit_entry(n), audit_entry(n)], Link::START, at(1)).await.unwrap()
        })
    });
    let mut ends = Vec::new();
    for append in appends.collect::<Vec<_>>() {
        ends.push(append.await.unwrap());
    }
    assert_eq!(verified(&log, audit_key(), &ends).await.unwrap().sequence, 64);
}
