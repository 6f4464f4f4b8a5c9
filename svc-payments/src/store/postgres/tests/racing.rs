//! Two replicas that write the same at once.

use std::time::Duration;

use tokio::task::JoinSet;

use super::InSchema;
use crate::{
    domain::{hold, operation::Rpc, payment::Change},
    store::{
        Begun, Commit, CommitError, Committed, Filter, Store as _,
        contract::{
            Fixture as _, answered, approved, at, authorized, claim, created, creation, events, id, made,
            next, stored, tenant, wish,
        },
        decide,
    },
};

#[tokio::test]
async fn of_commits_of_one_version_by_two_replicas_one_is_written() {
    let fixture = InSchema::new();
    let stores = [fixture.open().await, fixture.open().await];
    authorized(&stores[0], 1).await;
    for round in 1..=20 {
        let read = stored(&stores[0], 1).await;
        let mut tasks = JoinSet::new();
        for number in 0..8 {
            let (store, mut change) = (stores[number % 2].clone(), Change::of(read.clone()));
            let number = i64::try_from(number).unwrap();
            change.record("payment.captured", number, at(round));
            let claim = claim(Rpc::CapturePayment, &format!("{round} {number}").replace(' ', "-"), 1, &id(1));
            let commit = Commit { claim: Some(claim), ..next(change) };
            tasks.spawn(async move { store.commit(commit, at(round)).await.unwrap() });
        }
        let outcomes = tasks.join_all().await;
        let contended = outcomes.iter().filter(|outcome| **outcome == Committed::Contended).count();
        assert_eq!(contended, 7, "{outcomes:?}");
        assert_eq!(stored(&stores[1], 1).await.version, read.version + 1);
    }
    let sequences: Vec<_> = events(&stores[0], 1).await.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=22).collect::<Vec<_>>());
}

#[tokio::test]
async fn duplicates_at_two_replicas_have_one_effect() {
    let fixture = InSchema::new();
    let stores = [fixture.open().await, fixture.open().await];
    let mut tasks = JoinSet::new();
    for number in 0..200_u128 {
        let store = stores[usize::try_from(number % 2).unwrap()].clone();
        tasks.spawn(async move {
            // Ten requests, each twenty times, in another order at each replica.
            let request = if number % 2 == 0 { number / 2 % 10 } else { 9 - number / 2 % 10 };
            let claim = claim(Rpc::CreatePayment, &format!("request-{request}"), 1, &id(number + 1));
            decide::create(&store, claim, made(number + 1, wish("")), at(0)).await.unwrap()
        });
    }
    let begun = tasks.join_all().await;
    assert_eq!(begun.iter().filter(|begun| matches!(begun, Begun::New(_))).count(), 10);
    let all = Filter { limit: 300, ..Filter::default() };
    assert_eq!(stores[0].payments(tenant("acme"), all).await.unwrap().len(), 10);
}

/// Batches that hold the same payments in opposite order do not wait for one another.
#[tokio::test]
async fn crowds_that_meet_from_both_ends_come_through() {
    let fixture = InSchema::new();
    let stores = [fixture.open().await, fixture.open().await];
    for number in 1..=30 {
        created(&stores[0], number).await;
    }
    let mut tasks = JoinSet::new();
    for round in 0..10 {
        for number in 1..=30_u128 {
            let (place, number) = if round % 2 == 0 { (0, number) } else { (1, 31 - number) };
            let store = stores[place].clone();
            tasks.spawn(async move {
                let change = Change::of(stored(&store, number).await);
                let key = claim(Rpc::CapturePayment, &format!("k{}", number % 7), 1, &id(number));
                let claim = (number % 3 == 0).then_some(key);
                store.commit(Commit { claim, ..next(change) }, at(1)).await.unwrap();
                store.postings_done(id(31 - number), 1).await.unwrap();
            });
        }
    }
    tokio::time::timeout(Duration::from_secs(60), tasks.join_all()).await.expect("no deadlock");
}

/// What one commit is refused for is no other's matter, though they are one transaction.
#[tokio::test]
async fn what_is_refused_of_one_takes_no_other_with_it() {
    let fixture = InSchema::new();
    let store = fixture.open().await;
    for number in 1..=40 {
        created(&store, number).await;
    }
    answered(&store, 1, 1, approved("taken")).await;
    let mut tasks = JoinSet::new();
    for number in 2..=40_u128 {
        let store = store.clone();
        tasks.spawn(async move {
            let mut change = Change::of(stored(&store, number).await);
            match number % 4 {
                0 => change.payment.processor_reference = "taken".into(),
                1 => change.payment.amount_captured = 1,
                _ => {}
            }
            (number % 4, store.commit(next(change), at(1)).await)
        });
    }
    for (kind, outcome) in tasks.join_all().await {
        match kind {
            0 => assert!(matches!(outcome, Err(CommitError::DuplicateReference)), "{outcome:?}"),
            1 => assert!(
                matches!(outcome, Err(CommitError::Store(mesh::StoreError::Commit(_)))),
                "{outcome:?}"
            ),
            _ => assert!(matches!(outcome, Ok(Committed::Done { .. })), "{outcome:?}"),
        }
    }
}

/// Each record goes once, by whichever replica comes first; what is under way stays.
#[tokio::test]
async fn old_answers_are_pruned_by_replicas_at_once() {
    let fixture = InSchema::new();
    let stores = [fixture.open().await, fixture.open().await];
    for number in 1..=6 {
        created(&stores[0], number).await;
    }
    for number in 1..=4 {
        answered(&stores[0], number, 1, approved(&format!("r{number}"))).await;
    }
    let late = at(mesh::idempotency::KEPT_S + 1);
    assert_eq!(stores[0].prune(late).await.unwrap(), 0, "kept for a day");
    let late = at(mesh::idempotency::KEPT_S + 2);
    let (one, other) = tokio::join!(stores[0].prune(late), stores[1].prune(late));
    assert_eq!(one.unwrap() + other.unwrap(), 4);
    for number in 1..=6 {
        let found = stores[1].find_claim(creation(number)).await.unwrap();
        assert_eq!(found.is_some(), number > 4, "{number}");
    }
    // A capture of what is gone is a new request.
    let begin = |payment| hold::begin_capture(payment, None, false, "k", at(2));
    let claim = claim(Rpc::CapturePayment, "k", 1, &id(1));
    let lines = crate::store::Lines::default();
    assert!(matches!(
        decide::begin(&stores[0], &lines, claim, id(1), at(2), begin).await.unwrap(),
        Begun::New(_)
    ));
}
