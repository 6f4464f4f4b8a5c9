//! What reads may cost writers, and what they are told when the leadership ends while they wait.

use std::{
    fmt::Debug,
    future::{Future, ready},
    time::Duration,
};

use mesh::{Fault, Reason};
use money::Timestamp;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    Fixture, PATIENCE,
    killing::{NOW, account, acme, lead, transfer},
    serving::{Served, make},
};
use crate::{
    domain::{AccountId, TransferId},
    engine::{Engine, EngineError},
    store::{
        Led as _, Pinned, Store as _,
        index_contract::any,
        ports::{AccountFilter, BalanceFilter, Period, Window},
        postgres::PostgresStore,
    },
};

/// A call that is under way, and its answer as text.
type Begun = JoinHandle<Result<String, EngineError>>;

/// A call that has been put into its queue when this returns, and waits.
async fn begun<T: Debug, F>(store: &PostgresStore, call: impl FnOnce(PostgresStore) -> F) -> Begun
where
    F: Future<Output = Result<T, EngineError>> + Send + 'static,
{
    let call = call(store.clone());
    let mut call = Box::pin(async { call.await.map(|answer| format!("{answer:?}")) });
    tokio::select! {
        biased;
        answer = &mut call => panic!("it did not wait: {answer:?}"),
        () = ready(()) => tokio::spawn(call),
    }
}

async fn told(call: Begun) -> Result<String, EngineError> {
    timeout(PATIENCE, call).await.expect("it is answered").unwrap()
}

fn first() -> AccountId {
    AccountId::new(1).unwrap()
}

/// So long that a busy machine does not lose its place.
const LEASE_MS: u64 = 10_000;
const PERIOD: Period = Period { from: Timestamp::EPOCH, to: Timestamp::from_nanos(i64::MAX) };
const WINDOW: Window = Window { newest_first: false, limit: 10 };

/// Every question that there is about what the ledger holds.
async fn every_read(store: &PostgresStore) -> Vec<Begun> {
    let (ledger, code, reference, user_data) = (None, None, None, None);
    let accounts =
        AccountFilter { tenant: acme(), period: PERIOD, ledger, code, reference, user_data, window: WINDOW };
    let balances = BalanceFilter { tenant: acme(), account: first(), period: PERIOD, window: WINDOW };
    vec![
        begun(store, |store| async move { store.accounts(acme(), vec![first()]).await }).await,
        begun(
            store,
            |store| async move { store.transfers(acme(), vec![TransferId::new(10).unwrap()]).await },
        )
        .await,
        begun(store, |store| async move { store.trial_balance(acme()).await }).await,
        begun(store, |store| async move { store.find_accounts(accounts).await }).await,
        begun(store, |store| async move { store.find_transfers(any("acme")).await }).await,
        begun(store, |store| async move { store.find_balances(balances).await }).await,
    ]
}

async fn retried(store: &PostgresStore) -> Begun {
    begun(store, |store| async move { store.transfer(vec![transfer(10)], NOW).await }).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_do_not_wait_for_who_reads() {
    let fixture = Fixture::new().await;
    let (postgres, beginning, _leave) = lead(&fixture.config).await;
    let engine = Engine::start(beginning.unwrap()).unwrap();
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    // As if each were at a long question.
    let mut held = Vec::new();
    for _ in 0..fixture.config.pool_max {
        held.push(postgres.reader().await.unwrap());
    }
    // Ids that the ledger does not know are looked up.
    make(&engine, 10).await;
    make(&engine, 11).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_waits_while_another_one_takes_over_is_not_answered_from_old_memory() {
    let mut fixture = Fixture::new().await;
    fixture.config.lease_ms = LEASE_MS;
    let served = Served::start(&fixture, "first").await;
    let engine = served.until_it_leads().await;
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    make(&engine, 10).await;
    engine.index().await.unwrap();
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("LOCK TABLE accounts, transfers, postings, history, burned", &[]).await.unwrap();
    // The executor looks up what it no longer has in memory, and what is asked of it later waits behind.
    let retried = retried(&served.store).await;
    fixture.until_blocked(1).await;
    let mut waiting = every_read(&served.store).await;
    waiting.push(retried);
    fixture.until_blocked(4).await;

    fixture
        .run("UPDATE leadership SET epoch = epoch + 1, leader = 'forced', address = '', lease_until = clock_timestamp() + interval '1 hour'")
        .await;
    served.until_told("forced").await;
    hold.rollback().await.unwrap();
    for (place, call) in waiting.into_iter().enumerate() {
        let told = told(call).await;
        assert_eq!(told, Err(EngineError::NotLeader { leader: "forced".to_owned() }), "call {place}");
        let fault = Fault::from(told.unwrap_err());
        assert_eq!(fault.reason(), Reason::Unavailable);
        assert!(fault.message().contains("forced"), "{}", fault.message());
    }
    drop(engine);
    served.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_waits_over_an_epoch_is_not_answered_although_the_replica_leads_again() {
    let mut fixture = Fixture::new().await;
    fixture.config.lease_ms = LEASE_MS;
    let served = Served::start(&fixture, "first").await;
    let engine = served.until_it_leads().await;
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    make(&engine, 10).await;
    engine.index().await.unwrap();
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    // Nothing that a new leader reads.
    hold.execute("LOCK TABLE burned", &[]).await.unwrap();
    let retried = retried(&served.store).await;
    fixture.until_blocked(1).await;
    let read = begun(&served.store, |store| async move { store.accounts(acme(), vec![first()]).await }).await;

    served.store.postgres.give_up(1);
    let again = async {
        while !served.store.lead().is_ok_and(|(_, epoch)| epoch > 1) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, again).await.expect("it leads again");
    hold.rollback().await.unwrap();
    for call in [retried, read] {
        let told = told(call).await;
        assert!(matches!(told, Err(EngineError::NotLeader { .. })), "{told:?}");
    }
    let again = served.store.accounts(acme(), vec![first()]).await.unwrap();
    assert_eq!(again[0].balances.debits_posted, 1);
    drop(engine);
    served.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_when_a_replica_is_told_to_stop_is_answered() {
    let mut fixture = Fixture::new().await;
    fixture.config.lease_ms = LEASE_MS;
    let served = Served::start(&fixture, "first").await;
    let engine = served.until_it_leads().await;
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    make(&engine, 10).await;
    engine.index().await.unwrap();
    drop(engine);
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("LOCK TABLE transfers", &[]).await.unwrap();
    let waiting = begun(&served.store, |store| async move { store.find_transfers(any("acme")).await }).await;
    fixture.until_blocked(1).await;
    // One that has several steps, and is between two of them.
    let question = Pinned::on(&served.store).unwrap();

    served.drain.start();
    let told_to_stop = async {
        while served.store.lead().is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, told_to_stop).await.expect("nothing new is begun");
    hold.rollback().await.unwrap();
    let found = told(waiting).await.unwrap();
    assert!(found.contains("amount: 1"), "{found}");
    assert_eq!(question.accounts(acme(), vec![first()]).await.unwrap()[0].balances.debits_posted, 1);
    assert_eq!(question.find_transfers(any("acme")).await.unwrap().items.len(), 1);
    let lease = served.store.postgres.lease();
    assert_eq!(lease.epoch(), Some(1), "the place is kept until the last is answered");
    drop(question);
    served.leave().await;
    assert_eq!(lease.epoch(), None);
}
