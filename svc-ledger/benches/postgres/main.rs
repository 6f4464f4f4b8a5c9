//! How fast the ledger's journal and index in PostgreSQL take up what they are given, how fast the disk is, and how
//! long it takes until another replica serves in the place of one that was killed.
//!
//! On a server whose commits are on the disk: `cargo xtask servers --durable -- cargo bench -p svc-ledger
//! --bench postgres`. `POSTGRES_BENCH_SECONDS` (5) is how long each case is measured, `POSTGRES_BENCH_MILLIONS`
//! (1) how many transfers the index is given, `POSTGRES_BENCH_DIR` (the system's temporary directory) a directory
//! on the server's disk. `POSTGRES_BENCH_TAKEOVER` measures takeovers instead, with so many accounts each, such as
//! `1000,100000,1000000`.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)] // a bench
#![allow(clippy::float_arithmetic, clippy::cast_possible_truncation)] // its figures are rates, its accounts chance

mod takeover;

use std::{
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use mesh::Drain;
use money::Timestamp;
use svc_ledger::{
    domain::{
        Account, AccountFlags, AccountId, BATCH_MAX, Balances, Event, Kind, Reference, Side, Transfer,
        TransferFlags, TransferId,
    },
    journal::{Chain, JournalKey, Link},
    store::{
        ports::{Happened, Index as _, Journal as _},
        postgres::{Postgres, PostgresConfig, Role},
    },
};

const START: i64 = 1_800_000_000_000_000_000;
const ACCOUNTS: u64 = 10_000;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(format!("POSTGRES_BENCH_{name}")).map_or(default, |text| text.parse().unwrap())
}

/// The server of the variable, without its password, which is in a file.
fn config(directory: &Path) -> PostgresConfig {
    let url = std::env::var("PAYMESH_TEST_POSTGRES_URL")
        .expect("run `cargo xtask servers --durable -- cargo bench -p svc-ledger --bench postgres`");
    let (user, rest) = url.split_once("://").unwrap().1.split_once(':').unwrap();
    let (password, host) = rest.rsplit_once('@').unwrap();
    let (password_file, key_file) = (directory.join("password"), directory.join("journal.key"));
    std::fs::write(&password_file, password).unwrap();
    std::fs::write(&key_file, [7; 32]).unwrap();
    let schema = format!("bench_{}", &uuid::Uuid::new_v4().simple().to_string()[..16]);
    PostgresConfig {
        url: format!("postgres://{user}@{host}?sslmode=disable"),
        password_file: Some(password_file),
        ca_file: None,
        key_file,
        name: "bench".to_owned(),
        address: String::new(),
        schema,
        pool_max: 4,
        lease_ms: setting("LEASE_MS", 5_000),
        connect_timeout_ms: 5_000,
        query_timeout_ms: 60_000,
        allow_unsynced_commits: std::env::var_os("POSTGRES_BENCH_UNSYNCED").is_some(),
    }
}

fn median(times: &mut [Duration]) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64() * 1e3
}

/// What one small write and its sync take, in the middle.
fn fsync_p50_ms(directory: &Path) -> f64 {
    let mut file = std::fs::File::create(directory.join("sync")).unwrap();
    let mut times = Vec::new();
    for _ in 0..200 {
        let began = Instant::now();
        file.write_all(&[1; 4_096]).unwrap();
        file.sync_data().unwrap();
        times.push(began.elapsed());
    }
    median(&mut times)
}

struct Load {
    chain: Chain,
    buffer: Vec<u8>,
    time: i64,
    id: u128,
}

impl Load {
    fn accounts(&mut self) -> Vec<Event> {
        let open = |place: u64| {
            self.time += 1;
            let account = Account {
                id: AccountId::new(u128::from(place) + 1).unwrap(),
                tenant: "acme".parse().unwrap(),
                ledger: "EUR".parse().unwrap(),
                code: "cash".parse().unwrap(),
                flags: AccountFlags::NONE,
                user_data: 0,
                reference: Reference::default(),
                limit: 0,
                closed: false,
                balances: Balances::default(),
                created_at: Timestamp::from_nanos(START + i64::try_from(place).unwrap()),
            };
            Event::Opened(Arc::new(account))
        };
        (0..ACCOUNTS).map(open).collect()
    }

    fn transfers(&mut self, count: usize) -> Vec<Event> {
        let side = |place: u64| Side {
            number: Timestamp::from_nanos(START + i64::try_from(place).unwrap()),
            after: Balances::default(),
            closed: false,
            has_history: false,
        };
        let make = |_| {
            self.time += 1;
            self.id += 1;
            // Two of them, not alike, spread over all.
            let debit = (self.id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as u64 % ACCOUNTS;
            let credit = (debit + 1 + self.id as u64 % (ACCOUNTS - 1)) % ACCOUNTS;
            let transfer = Transfer {
                // In the order of time, as those of version 7.
                id: TransferId::new(
                    (0x0190 << 112) + (self.id << 64) + (self.id.wrapping_mul(0x9e37_79b9) & 0xffff_ffff),
                )
                .unwrap(),
                timestamp: Timestamp::from_nanos(START + self.time),
                tenant: "acme".parse().unwrap(),
                kind: Kind::Single,
                modifiers: TransferFlags::default(),
                debit: AccountId::new(u128::from(debit) + 1).unwrap(),
                credit: AccountId::new(u128::from(credit) + 1).unwrap(),
                amount: 100,
                requested: Some(100),
                ledger: "EUR".parse().unwrap(),
                code: "payment".parse().unwrap(),
                user_data: 0,
                reference: Reference::default(),
            };
            Event::Made { transfer: Arc::new(transfer), debit: side(debit), credit: side(credit) }
        };
        (0..count).map(make).collect()
    }
}

#[tokio::main]
async fn main() {
    if let Ok(config) = std::env::var(takeover::LEADER) {
        return takeover::lead_until_killed(&config).await;
    }
    if let Ok(sizes) = std::env::var("POSTGRES_BENCH_TAKEOVER") {
        return takeover::measure(sizes.split(',').map(|accounts| accounts.parse().unwrap())).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let disk = std::env::var("POSTGRES_BENCH_DIR").map_or_else(|_| tempfile::tempdir(), tempfile::tempdir_in);
    let disk = disk.unwrap();
    let config = config(directory.path());
    let (postgres, leadership) = Postgres::open(&config).await.unwrap();
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let keeping = tokio::spawn(leadership.keep(Drain::new(), async { drop(left.await) }));
    let mut role = postgres.role();
    let role = role.wait_for(|role| matches!(role, Role::Leading { .. })).await.unwrap().clone();
    let Role::Leading { epoch } = role else { return };

    let key = JournalKey::read(&config.key_file).unwrap();
    let mut load = Load { chain: Chain::new(key, Link::EMPTY), buffer: Vec::new(), time: 1_000_000, id: 0 };
    let mut journal = postgres.journal(epoch).await.unwrap();
    let measured = Duration::from_secs(setting("SECONDS", 5));
    println!("fsync p50 {:.2} ms", fsync_p50_ms(disk.path()));
    for (frames, transfers) in [(1, BATCH_MAX), (1, 1), (1, 32), (1, 256), (8, 32)] {
        let (mut times, mut bytes) = (Vec::new(), 0);
        let until = Instant::now() + measured;
        let mut appending = Duration::ZERO;
        while Instant::now() < until {
            let group: Vec<_> = (0..frames)
                .map(|_| {
                    let events = load.transfers(transfers);
                    load.chain.seal(&events, &mut load.buffer).unwrap()
                })
                .collect();
            bytes += group.iter().map(|frame| frame.bytes.len()).sum::<usize>();
            let began = Instant::now();
            journal.append(&group).await.unwrap();
            times.push(began.elapsed());
            appending += began.elapsed();
        }
        let appends = times.len() as f64;
        let seconds = appending.as_secs_f64();
        println!(
            "append of {frames} x {transfers} transfers: {:>7.0} appends/s, {:>8.0} transfers/s, p50 {:.2} ms, {:.1} MB/s, fsync p50 {:.2} ms",
            appends / seconds,
            appends * (frames * transfers) as f64 / seconds,
            median(&mut times),
            bytes as f64 / seconds / 1e6,
            fsync_p50_ms(disk.path()),
        );
    }

    let index = postgres.index(epoch).unwrap();
    let mut sequence = 0;
    let mut record = |events: Vec<Event>| {
        sequence += 1;
        Happened { sequence, hash: [1; 32], events: events.into() }
    };
    index.apply(vec![record(load.accounts())]).await.unwrap();
    let steps = usize::try_from(setting("MILLIONS", 1)).unwrap() * 1_000_000 / (4 * BATCH_MAX);
    let (mut applied, mut applying) = (0, Duration::ZERO);
    for step in 1..=steps {
        let records: Vec<_> = (0..4).map(|_| record(load.transfers(BATCH_MAX))).collect();
        let began = Instant::now();
        index.apply(records).await.unwrap();
        applying += began.elapsed();
        applied += 4 * BATCH_MAX;
        if step % 10 == 0 || step == steps {
            let began = Instant::now();
            let new: Vec<TransferId> = (1..=8_190).map(|n| TransferId::new(u128::MAX - n).unwrap()).collect();
            assert!(index.known(new).await.unwrap().is_empty());
            println!(
                "index after {applied}: {:>7.0} transfers applied/s; a call's new ids looked up in {:.1} ms",
                applied as f64 / applying.as_secs_f64(),
                began.elapsed().as_secs_f64() * 1e3,
            );
        }
    }
    let began = Instant::now();
    let snapshot = postgres.snapshot().await.unwrap();
    println!("snapshot of {} accounts in {:.2} s", snapshot.accounts.len(), began.elapsed().as_secs_f64());
    leave.send(()).unwrap();
    keeping.await.unwrap();
}
