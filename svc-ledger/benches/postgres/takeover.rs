//! A leader is killed as a process, idle or amid full batches; when the next one leads, and when it serves.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mesh::{Clock as _, Drain, SystemClock};
use money::{TenantId, Timestamp};
use svc_ledger::{
    domain::{
        AccountFlags, AccountId, BATCH_MAX, Given, NewAccount, NewTransfer, Reference, TransferFlags,
        TransferId,
    },
    engine::Engine,
    store::{
        Led as _, Store as _,
        postgres::{PostgresConfig, PostgresIndex, PostgresStore, Role},
    },
};

/// Set in the process that is killed: how it reaches the ledger, and its load.
pub(super) const LEADER: &str = "POSTGRES_BENCH_LEADER";
/// Set where it makes transfers all the time.
const BUSY: &str = "POSTGRES_BENCH_BUSY";
/// What it says when it is ready to be killed.
const READY: &str = "ready";
/// Of so many accounts one has an open reservation.
const RESERVED_OF: u64 = 10;
/// How long it is under load before it is killed.
const LOADED_FOR: Duration = Duration::from_secs(5);
const ROUNDS: usize = 3;
const NOW: Timestamp = Timestamp::from_nanos(super::START);

fn tenant() -> TenantId {
    "acme".parse().unwrap()
}

fn account_id(place: u64) -> AccountId {
    AccountId::new(u128::from(place) + 1).unwrap()
}

fn account(place: u64) -> NewAccount {
    NewAccount {
        id: Given::Value(account_id(place)),
        tenant: Given::Value(tenant()),
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("cash".parse().unwrap()),
        flags: Some(AccountFlags::NONE),
        user_data: 0,
        reference: Some(Reference::default()),
        limit: 0,
        has_balances: false,
        has_timestamp: false,
    }
}

fn transfer(id: u128, accounts: u64, flags: TransferFlags) -> NewTransfer {
    let debit = fastrand::u64(0..accounts);
    NewTransfer {
        id: Given::Value(TransferId::new(id).unwrap()),
        tenant: Given::Value(tenant()),
        flags,
        has_unknown_flags: false,
        has_timestamp: false,
        debit: Given::Value(account_id(debit)),
        credit: Given::Value(account_id((debit + fastrand::u64(1..accounts)) % accounts)),
        amount: 1,
        post_full_amount: false,
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("fee".parse().unwrap()),
        pending: Given::Nothing,
        timeout_s: 0,
        user_data: 0,
        reference: Some(Reference::default()),
    }
}

/// In the order of time, as those of version 7.
fn ids() -> impl Iterator<Item = u128> {
    let now = u128::try_from(SystemClock.now().as_nanos()).unwrap();
    (0x0190 << 112) + (now << 40)..
}

/// A replica that runs until this process ends.
async fn replica(config: &PostgresConfig, name: &str) -> PostgresStore {
    let config = PostgresConfig { name: name.to_owned(), ..config.clone() };
    let (store, replica) = PostgresStore::open(&config).await.unwrap();
    tokio::spawn(replica.run(Drain::new()));
    store
}

async fn until_it_serves(store: &PostgresStore) -> Engine<PostgresIndex> {
    loop {
        if let Ok(engine) = store.engine() {
            return engine;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The process that is killed.
pub(super) async fn lead_until_killed(config: &str) {
    let (config, accounts): (PostgresConfig, u64) = serde_json::from_str(config).unwrap();
    let store = replica(&config, "killed").await;
    let engine = until_it_serves(&store).await;
    if std::env::var_os(BUSY).is_some() {
        let callers = (0..4_u128).map(|caller| {
            let engine = engine.clone();
            async move {
                let mut ids = ids().map(|id| id + (caller << 36));
                loop {
                    let batch: Vec<_> = ids.by_ref().take(BATCH_MAX).collect();
                    let make = |id| transfer(id, accounts, TransferFlags::default());
                    engine.transfer(batch.into_iter().map(make).collect(), NOW).await.unwrap();
                }
            }
        });
        callers.for_each(|caller| drop(tokio::spawn(caller)));
        tokio::time::sleep(LOADED_FOR).await;
    }
    println!("{READY}");
    std::future::pending::<()>().await;
}

/// Ends with it.
struct Leader(Child);

impl Drop for Leader {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Leader {
    fn start(config: &PostgresConfig, accounts: u64, busy: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(LEADER, serde_json::to_string(&(config, accounts)).unwrap())
            .envs(busy.then_some((BUSY, "1")))
            .stdout(Stdio::piped());
        let mut leader = Self(command.spawn().unwrap());
        let lines = BufReader::new(leader.0.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == READY), "the leader ended by itself");
        leader
    }
}

/// Opens the accounts, and reservations between them, and leaves.
async fn fill(config: &PostgresConfig, accounts: u64) {
    let config = PostgresConfig { name: "filler".to_owned(), ..config.clone() };
    let (store, replica) = PostgresStore::open(&config).await.unwrap();
    let drain = Drain::new();
    let running = tokio::spawn(replica.run(drain.clone()));
    let engine = until_it_serves(&store).await;
    let places: Vec<u64> = (0..accounts).collect();
    for batch in places.chunks(BATCH_MAX) {
        engine.open_accounts(batch.iter().map(|place| account(*place)).collect(), NOW).await.unwrap();
    }
    let reserved: Vec<u128> = ids().take(usize::try_from(accounts / RESERVED_OF).unwrap()).collect();
    for batch in reserved.chunks(BATCH_MAX) {
        let make = |id: &u128| transfer(*id, accounts, TransferFlags::PENDING);
        engine.transfer(batch.iter().map(make).collect(), NOW).await.unwrap();
    }
    engine.index().await.unwrap();
    drop(engine);
    drain.start();
    running.await.unwrap();
}

/// Measures with each number of accounts.
pub(super) async fn measure(sizes: impl Iterator<Item = u64>) {
    for accounts in sizes {
        let directory = tempfile::tempdir().unwrap();
        let config = super::config(directory.path());
        let began = Instant::now();
        fill(&config, accounts).await;
        println!("{accounts} accounts, {} reserved, in {:?}", accounts / RESERVED_OF, began.elapsed());
        for busy in [false, true] {
            for _ in 0..ROUNDS {
                takeover(&config, accounts, busy).await;
            }
        }
    }
}

async fn takeover(config: &PostgresConfig, accounts: u64, busy: bool) {
    let starting = config.clone();
    let start = move || Leader::start(&starting, accounts, busy);
    let mut leader = tokio::task::spawn_blocking(start).await.unwrap();
    let config = PostgresConfig { name: "next".to_owned(), ..config.clone() };
    let (store, replica) = PostgresStore::open(&config).await.unwrap();
    let mut role = store.archive().role();
    let drain = Drain::new();
    let running = tokio::spawn(replica.run(drain.clone()));
    role.wait_for(|role| matches!(role, Role::Following { leader, .. } if leader == "killed")).await.unwrap();
    leader.0.kill().unwrap();
    let killed_at = Instant::now();
    role.wait_for(|role| matches!(role, Role::Leading { .. })).await.unwrap();
    let led = killed_at.elapsed();
    let engine = until_it_serves(&store).await;
    let served = killed_at.elapsed();
    let found = engine.accounts(tenant(), vec![account_id(0)]).await.unwrap();
    assert_eq!(found.len(), 1);
    let id = ids().next().unwrap();
    let written = store.transfer(vec![transfer(id, accounts, TransferFlags::default())], NOW).await;
    assert_eq!(written.unwrap().len(), 1);
    let load = if busy { "amid full batches" } else { "idle" };
    println!(
        "{accounts} accounts, lease {} ms, killed {load}: leads after {:.2} s, serves after {:.2} s, has written after {:.2} s",
        config.lease_ms,
        led.as_secs_f64(),
        served.as_secs_f64(),
        killed_at.elapsed().as_secs_f64(),
    );
    drop(engine);
    drain.start();
    running.await.unwrap();
}
