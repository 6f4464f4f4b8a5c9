//! A leader is replaced while its indexer is in the middle of a transaction: what it had begun is there once, or
//! the next leader does it, and nothing is there twice.

use tokio::time::timeout;

use super::{
    Fixture, PATIENCE,
    killing::{NOW, account, acme, lead, transfer},
    serving::make,
};
use crate::{
    domain::{AccountId, TransferCode, TransferId},
    engine::{Engine, EngineError},
};

/// What becomes of the old leader's transaction.
#[derive(Clone, Copy, PartialEq)]
enum Then {
    /// The new leader waits, and it is committed.
    Commits,
    /// The new leader does not wait for so long, and ends its session. Its own indexer has to do it again.
    IsEnded,
}

async fn is_replaced(then: Then) {
    let mut fixture = Fixture::new().await;
    let epoch = fixture.take_over("first").await;
    let (postgres, _) = fixture.open("first").await;
    let old = Engine::start(postgres.begin(epoch, false).await.unwrap()).unwrap();
    old.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    for id in 10..14 {
        make(&old, id).await;
    }
    old.index().await.unwrap();

    // An id that is neither there nor not: the indexer, who wants to write it, waits, and has the watermark.
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    let insert =
        "INSERT INTO transfers VALUES (1, $1, $1, $1, 1, 1, 0, NULL, 0, 0, 'acme', 'EUR', 'fee', '')";
    hold.execute(insert, &[&uuid::Uuid::from_u128(14)]).await.unwrap();
    make(&old, 14).await;
    fixture.until_blocked(1).await;
    // These it has not begun with.
    make(&old, 15).await;
    make(&old, 16).await;

    // How long a takeover waits for a lock is a part of the lease.
    fixture.config.lease_ms = if then == Then::Commits { 100_000 } else { 10_000 };
    fixture.end_lease().await;
    let config =
        crate::store::postgres::PostgresConfig { name: "second".to_owned(), ..fixture.config.clone() };
    let leading = tokio::spawn(async move { lead(&config).await });
    let mut hold = Some(hold);
    if then == Then::Commits {
        fixture.until_blocked(2).await;
        hold.take().unwrap().rollback().await.unwrap();
    }
    let (_postgres, beginning, _leave) = timeout(PATIENCE, leading).await.unwrap().unwrap();
    let new = Engine::start(beginning.unwrap()).unwrap();
    // It serves, and knows what its indexer has still to do, although that one waits as well.
    let retried = new.transfer(vec![transfer(14)], NOW).await.unwrap();
    assert_eq!(retried[0].code, TransferCode::Exists);
    make(&new, 17).await;
    if let Some(hold) = hold {
        hold.rollback().await.unwrap();
    }
    let late = old.transfer(vec![transfer(18)], NOW).await;
    // Where its sessions were ended, it cannot know.
    let fenced = EngineError::NotLeader { leader: "second".to_owned() };
    assert!(if then == Then::Commits { late == Err(fenced) } else { late.is_err() }, "{late:?}");

    let ids: Vec<TransferId> = (10..=18).map(|id| TransferId::new(id).unwrap()).collect();
    assert_eq!(new.transfers(acme(), ids).await.unwrap().len(), 8);
    let both = [1, 2].map(|bits| AccountId::new(bits).unwrap()).to_vec();
    let accounts = new.accounts(acme(), both).await.unwrap();
    assert_eq!((accounts[0].balances.debits_posted, accounts[1].balances.credits_posted), (8, 8));
    new.index().await.unwrap();
    for (query, expected) in [
        ("SELECT count(*) FROM transfers", 8),
        ("SELECT sum(cardinality(at))::bigint FROM postings", 16),
        ("SELECT count(*) FROM history", 16),
        ("SELECT sum(debits_posted)::bigint FROM accounts", 8),
        ("SELECT sum(credits_posted)::bigint FROM accounts", 8),
        ("SELECT max(sequence) FROM journal", 9),
        ("SELECT sequence FROM watermark", 9),
        ("SELECT epoch FROM watermark", 2),
    ] {
        assert_eq!(fixture.count(query).await, expected, "{query}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_indexer_commits_during_a_takeover_is_taken_up_once() {
    is_replaced(Then::Commits).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_indexer_could_not_commit_before_a_takeover_is_taken_up_by_the_next_leader() {
    is_replaced(Then::IsEnded).await;
}
