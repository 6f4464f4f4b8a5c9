//! Connections that are lost in the midst of commits: what was answered is there, and nothing is there twice.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use mesh::postgres::{Server, ServerSettings, Session};
use tokio::task::JoinSet;

use super::{super::batch, super::columns::Item, super::deciding::REMEMBERED, InSchema};
use crate::{
    domain::payment::Change,
    store::{
        Commit, CommitError, Committed, Store as _,
        contract::{Fixture as _, at, authorized, created, creation, events, id, made, next, stored, wish},
    },
};

const MOST: Duration = Duration::from_secs(10);

fn pool(fixture: &InSchema) -> deadpool_postgres::Pool {
    let config = fixture.config();
    let server = Server::new(&ServerSettings {
        application: "paymesh-payments",
        url: config.url.clone(),
        password_file: config.password_file.clone(),
        ca_file: None,
        schema: config.schema.clone(),
        connect_timeout: MOST,
        silence_max: MOST,
        allow_unsynced_commits: true,
    });
    server.unwrap().pool(&Session::default(), 1, MOST).unwrap()
}

/// A commit whose answer was lost is sent again: it is found by its id, however it is asked about.
#[tokio::test]
async fn a_commit_that_is_sent_again_is_found_and_not_done_twice() {
    let fixture = InSchema::new();
    let (store, pool) = (fixture.open().await, pool(&fixture));
    let create = Commit { claim: Some(creation(1)), ..next(made(1, wish(""))) };
    let create = Item::new(create, at(0)).unwrap();
    let mut change = Change::of(create.commit.change.payment.clone());
    change.record("payment.captured", 7, at(1));
    let update = Item::new(next(change), at(1)).unwrap();
    for item in [create, update] {
        for _ in 0..3 {
            let outcome = batch::carry_out(&pool, MOST, vec![item.clone()]).await.remove(0);
            assert_eq!(outcome.unwrap(), Committed::Done { earlier_postings: false });
        }
        // Also when others wrote after it.
        for _ in 0..REMEMBERED - 2 {
            let same = Change::of(stored(&store, 1).await);
            if item.payment().version == 1 {
                break;
            }
            store.commit(next(same), at(2)).await.unwrap();
        }
        let outcome = batch::carry_out(&pool, MOST, vec![item]).await.remove(0);
        assert_eq!(outcome.unwrap(), Committed::Done { earlier_postings: false });
    }
    assert_eq!(events(&store, 1).await.len(), 2);
    // Another commit of the same version is another one.
    let mut change = Change::of(stored(&store, 1).await);
    change.payment.version -= 1;
    let other = Item::new(next(change), at(1)).unwrap();
    let outcome = batch::carry_out(&pool, MOST, vec![other]).await.remove(0);
    assert_eq!(outcome.unwrap(), Committed::Contended);
}

/// Every session is ended again and again while commits are under way.
#[tokio::test]
async fn what_is_answered_is_there_once_while_sessions_are_killed() {
    const PAYMENTS: u128 = 8;
    const COMMITS: i64 = 60;
    const BETWEEN: i64 = 20;
    let fixture = InSchema::new();
    let store = fixture.open().await;
    for number in 1..=PAYMENTS {
        authorized(&store, number).await;
    }
    let progress = Arc::new(AtomicI64::new(0));
    let killer = fixture.schema.client().await;
    let (name, seen) = (format!("paymesh-payments {}%", fixture.schema.name()), Arc::clone(&progress));
    let all = i64::try_from(PAYMENTS).unwrap() * COMMITS;
    let killing = tokio::spawn(async move {
        let (mut killed, mut killed_at) = (0, 0);
        while killed_at < all {
            // Something is committed between two, however slow the machine is.
            while seen.load(Ordering::Relaxed) < killed_at + BETWEEN {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            killed_at += BETWEEN;
            let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name LIKE $1";
            killed += killer.query_one(kill, &[&name]).await.unwrap().get::<_, i64>(0);
        }
        killed
    });
    let mut tasks = JoinSet::new();
    for number in 1..=PAYMENTS {
        let (store, progress) = (store.clone(), Arc::clone(&progress));
        tasks.spawn(async move {
            let mut read = self::read(&store, number).await;
            let (mut answered, mut unanswered) = (0, 0);
            while answered < COMMITS {
                let mut change = Change::of(read.clone());
                change.record("payment.captured", answered + 1, at(answered));
                let commit = next(change);
                let next = commit.change.payment.clone();
                match store.commit(commit, at(answered)).await {
                    Ok(Committed::Done { .. }) => {
                        (answered, read) = (answered + 1, next);
                        progress.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(CommitError::Store(_)) => {
                        // Nobody said what became of it: what is on record does.
                        unanswered += 1;
                        let found = self::read(&store, number).await;
                        if found.version == next.version {
                            (answered, read) = (answered + 1, next);
                        }
                        assert_eq!(found.version, read.version, "one commit, or none");
                    }
                    // Nobody else writes: it would be its own.
                    other => panic!("{other:?}"),
                }
            }
            unanswered
        });
    }
    let unanswered: i64 = tasks.join_all().await.into_iter().sum();
    progress.store(all, Ordering::Relaxed);
    let killed = killing.await.unwrap();
    assert!(killed > 10, "{killed} sessions were ended, {unanswered} commits were not answered");
    for number in 1..=PAYMENTS {
        // What is under way at the last session does not disturb this.
        let amounts: Vec<_> = loop {
            let page = crate::store::Page { after: Some(2), limit: 100 };
            match store.events("acme".parse().unwrap(), id(number), page).await {
                Ok(found) => break found.unwrap().1.iter().map(|event| event.amount).collect(),
                Err(_) => tokio::task::yield_now().await,
            }
        };
        assert_eq!(amounts, (1..=COMMITS).collect::<Vec<_>>(), "each once, in order");
    }
}

/// As it is on record, however often the session is ended meanwhile.
async fn read(store: &super::PostgresStore, number: u128) -> crate::domain::payment::Payment {
    loop {
        match store.payment("acme".parse().unwrap(), id(number)).await {
            Ok(found) => return found.unwrap(),
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Whichever piece of a commit is the last that arrives, it is done or it is not, and that is what is said.
#[tokio::test]
async fn a_connection_that_stands_still_leaves_a_commit_done_or_not() {
    let fixture = InSchema::new();
    let way = mesh::testing::way::Way::to(&fixture.schema.address()).await.unwrap();
    let direct = fixture.open().await;
    let config = super::PostgresConfig {
        url: fixture.schema.url_by(way.port()),
        query_timeout_ms: 2_000,
        ..fixture.config()
    };
    let store = super::PostgresStore::open(&config).await.unwrap();
    created(&store, 1).await;
    for pieces in 0..6 {
        let read = stored(&direct, 1).await;
        let mut change = Change::of(read.clone());
        change.record("payment.captured", pieces, at(1));
        way.stand_still_after(usize::try_from(pieces).unwrap());
        let outcome = store.commit(next(change), at(1)).await;
        way.stand_still();
        let found = stored(&direct, 1).await;
        match outcome {
            Ok(Committed::Done { .. }) => assert_eq!(found.version, read.version + 1),
            Err(CommitError::Store(_)) => assert_eq!(found.version, read.version),
            other => panic!("{other:?}"),
        }
    }
    let sequences: Vec<_> = events(&direct, 1).await.iter().map(|event| event.sequence).collect();
    assert_eq!(sequences, (1..=stored(&direct, 1).await.sequence).collect::<Vec<_>>());
}
