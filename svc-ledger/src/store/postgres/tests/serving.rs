//! A replica as those see it who ask it: it answers while it leads, and names the leader while it does not.

use std::time::Duration;

use mesh::Drain;
use tokio::{task::JoinHandle, time::timeout};

use super::{
    Fixture, PATIENCE,
    killing::{NOW, account, acme, transfer},
};
use crate::{
    domain::{AccountId, NewTransfer, TransferCode, TransferFlags, TransferId},
    engine::{Engine, EngineError},
    store::{
        Led as _, contract,
        postgres::{PostgresConfig, PostgresIndex, PostgresStore},
    },
};

pub(super) struct Served {
    pub(super) store: PostgresStore,
    pub(super) drain: Drain,
    running: JoinHandle<()>,
}

impl Served {
    pub(super) async fn start(fixture: &Fixture, name: &str) -> Self {
        let config = PostgresConfig {
            name: name.to_owned(),
            address: format!("{name}.test:1"),
            ..fixture.config.clone()
        };
        let (store, replica) = PostgresStore::open(&config).await.unwrap();
        let drain = Drain::new();
        let running = tokio::spawn(replica.run(drain.clone()));
        Self { store, drain, running }
    }

    pub(super) async fn until_it_leads(&self) -> Engine<PostgresIndex> {
        let leads = async {
            loop {
                if let Ok(engine) = self.store.engine() {
                    return engine;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, leads).await.expect("it leads")
    }

    pub(super) async fn until_told(&self, leader: &str) {
        let told = async {
            while self.store.engine().err() != Some(EngineError::NotLeader { leader: leader.to_owned() }) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, told).await.expect("it names the leader");
    }

    pub(super) async fn leave(self) {
        self.drain.start();
        timeout(PATIENCE, self.running).await.expect("it ends").unwrap();
    }
}

/// A ledger that is served, as every store is.
async fn fresh() -> (PostgresStore, (Served, Fixture)) {
    let mut fixture = Fixture::new().await;
    // What is tested has nothing to do with it, and a busy machine does not lose its place.
    fixture.config.lease_ms = 20_000;
    let served = Served::start(&fixture, "first").await;
    served.until_it_leads().await;
    (served.store.clone(), (served, fixture))
}

crate::store::contract::suite!(fresh().await);

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart() {
    let fixture = Fixture::new().await;
    let first = Served::start(&fixture, "first").await;
    first.until_it_leads().await;
    contract::before_a_restart(&first.store).await;
    first.leave().await;
    let second = Served::start(&fixture, "second").await;
    second.until_it_leads().await;
    contract::after_a_restart(&second.store).await;
    second.leave().await;
}

pub(super) async fn make(engine: &Engine<PostgresIndex>, id: u128) {
    let results = engine.transfer(vec![transfer(id)], NOW).await.unwrap();
    assert_eq!(results[0].code, TransferCode::Created);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_the_leader_and_takes_over_when_it_leaves() {
    let fixture = Fixture::new().await;
    let first = Served::start(&fixture, "first").await;
    let engine = first.until_it_leads().await;
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    make(&engine, 10).await;
    let second = Served::start(&fixture, "second").await;
    second.until_told("first at first.test:1").await;

    // A call that is under way when it is told to leave is answered first.
    let last = tokio::spawn(async move { make(&engine, 11).await });
    let follower = first.store.clone();
    first.leave().await;
    timeout(PATIENCE, last).await.unwrap().unwrap();
    assert!(matches!(follower.engine(), Err(EngineError::NotLeader { .. })));

    let engine = second.until_it_leads().await;
    let ids = [10, 11].map(|id| TransferId::new(id).unwrap()).to_vec();
    assert_eq!(engine.transfers(acme(), ids).await.unwrap().len(), 2);
    make(&engine, 12).await;
    drop(engine);
    second.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_unknown_outcome_the_ledger_is_read_anew_in_a_later_epoch() {
    let fixture = Fixture::new().await;
    let served = Served::start(&fixture, "first").await;
    let engine = served.until_it_leads().await;
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    make(&engine, 10).await;
    // An append waits; then its session is gone.
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("INSERT INTO journal VALUES (3, 99, decode(repeat('00', 32), 'hex'), '')", &[])
        .await
        .unwrap();
    let caller = engine.clone();
    let waiting = tokio::spawn(async move { caller.transfer(vec![transfer(11)], NOW).await });
    fixture.until_blocked(1).await;
    let writers = fixture.server().writers(1);
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    fixture.admin.query_one(ended, &[&writers]).await.unwrap();
    let told = timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(matches!(told, Err(EngineError::Journal(_))), "{told:?}");
    hold.rollback().await.unwrap();
    drop(engine);

    let later = async {
        while fixture.count("SELECT CASE WHEN released THEN 0 ELSE epoch END FROM leadership").await < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, later).await.expect("a later epoch");
    let engine = served.until_it_leads().await;
    // It was not written, so it can be made; what was answered before is there.
    make(&engine, 11).await;
    let accounts = engine.accounts(acme(), vec![AccountId::new(1).unwrap()]).await.unwrap();
    assert_eq!(accounts[0].balances.debits_posted, 2);
    assert_eq!(fixture.frames().await, [(1, 1), (2, 1), (3, 2)]);
    drop(engine);
    served.leave().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_journal_is_not_served() {
    let fixture = Fixture::new().await;
    let served = Served::start(&fixture, "first").await;
    let engine = served.until_it_leads().await;
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    for id in 10..14 {
        make(&engine, id).await;
    }
    engine.index().await.unwrap();
    drop(engine);
    served.leave().await;
    // What no session of ours can do: a bit of a record, and the watermark before it.
    fixture
        .run(
            "ALTER TABLE journal DISABLE TRIGGER append_only;
             UPDATE journal SET frame = set_byte(frame, 100, get_byte(frame, 100) # 1)
                WHERE sequence = (SELECT sequence FROM watermark)",
        )
        .await;
    let served = Served::start(&fixture, "second").await;
    timeout(PATIENCE, served.running).await.expect("it ends by itself").unwrap();
    assert!(served.store.engine().is_err());
    assert_eq!(fixture.count("SELECT count(*) FROM leadership WHERE released").await, 1);
}

/// Nothing protects these tables from whoever owns them; they change all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn balances_and_reservations_that_were_changed_by_hand_are_not_served() {
    let fixture = Fixture::new().await;
    let served = Served::start(&fixture, "first").await;
    let engine = served.until_it_leads().await;
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    make(&engine, 10).await;
    let pending = NewTransfer { flags: TransferFlags::PENDING, ..transfer(11) };
    assert_eq!(engine.transfer(vec![pending], NOW).await.unwrap()[0].code, TransferCode::Created);
    engine.index().await.unwrap();
    drop(engine);
    served.leave().await;
    let both = "debits_pending = debits_pending + 1, credits_pending = credits_pending + 1";
    for (change, back) in [
        (
            "UPDATE accounts SET debits_posted = debits_posted + 1",
            "UPDATE accounts SET debits_posted = debits_posted - 1",
        ),
        (
            &*format!("UPDATE accounts SET {both}"),
            &*format!("UPDATE accounts SET {}", both.replace('+', "-")),
        ),
        ("UPDATE reservations SET state = 1", "UPDATE reservations SET state = 0"),
    ] {
        fixture.run(change).await;
        let served = Served::start(&fixture, "second").await;
        timeout(PATIENCE, served.running).await.expect("it ends by itself").unwrap();
        fixture.run(back).await;
    }
    let served = Served::start(&fixture, "second").await;
    make(&served.until_it_leads().await, 12).await;
    served.leave().await;
}
