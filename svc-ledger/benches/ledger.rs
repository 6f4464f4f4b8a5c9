//! How fast the ledger is: the pure core, and the embedded store with its commit.
//!
//! The core is measured on a working set that holds all accounts; what a batch made is thrown away.
//! The store is measured from call to durable answer, in transfers per second, in a directory below
//! the target directory (so on a disk, not in memory) or in `LEDGER_BENCH_DIR`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{hint::black_box, path::PathBuf, time::Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use money::Timestamp;
use svc_ledger::{
    domain::{
        Account, AccountFlags, AccountId, BATCH_MAX, Balances, Given, NewAccount, NewTransfer, Reference,
        TransferCode, TransferFlags, TransferId, WorkingSet, execute,
    },
    store::{EmbeddedStore, Store},
};

const ACCOUNTS: u128 = 10_000;
const NOW: i64 = 1_800_000_000_000_000_000;

/// A fixed sequence of numbers that look random (splitmix64).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn wide(&mut self) -> u128 {
        (u128::from(self.next()) << 64) | u128::from(self.next())
    }
}

/// How clients make transfer ids.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ids {
    /// They begin with the time, as a UUIDv7 does.
    Timed,
    /// Nothing but noise.
    Random,
}

/// Makes transfers between accounts 1 to `accounts`.
struct Workload {
    numbers: Numbers,
    accounts: u128,
    ids: Ids,
    made: u128,
    template: NewTransfer,
}

impl Workload {
    fn new(accounts: u128, ids: Ids) -> Self {
        let template = NewTransfer {
            id: Given::Nothing,
            tenant: Given::Value("acme".parse().unwrap()),
            flags: TransferFlags::default(),
            debit: Given::Nothing,
            credit: Given::Nothing,
            amount: 1,
            post_full_amount: false,
            ledger: Given::Value("EUR".parse().unwrap()),
            code: Given::Value("payment_authorization".parse().unwrap()),
            pending: Given::Nothing,
            timeout_s: 0,
            user_data: 0,
            has_unknown_flags: false,
            has_timestamp: false,
            reference: "pay_018f00000000700080000000000000aa".parse().ok(),
        };
        Self { numbers: Numbers(7), accounts, ids, made: 0, template }
    }

    fn account(&mut self) -> u128 {
        1 + u128::from(self.numbers.next()) % self.accounts
    }

    fn transfer(&mut self) -> NewTransfer {
        let debit = self.account();
        let credit = match self.account() {
            same if same == debit => 1 + debit % self.accounts,
            other => other,
        };
        self.made += 1;
        let noise = self.numbers.wide();
        let id = match self.ids {
            Ids::Random => noise,
            // 16 ids per millisecond.
            Ids::Timed => ((1_800_000_000_000 + self.made / 16) << 80) | (noise >> 48),
        };
        NewTransfer {
            id: Given::Value(TransferId::new(id).unwrap()),
            debit: Given::Value(AccountId::new(debit).unwrap()),
            credit: Given::Value(AccountId::new(credit).unwrap()),
            ..self.template.clone()
        }
    }

    fn batch(&mut self, size: usize) -> Vec<NewTransfer> {
        (0..size).map(|_| self.transfer()).collect()
    }
}

fn working_set(accounts: u128) -> WorkingSet {
    let mut set = WorkingSet::new(Timestamp::from_nanos(NOW - 1));
    for bits in 1..=accounts {
        set.add_account(Account {
            id: AccountId::new(bits).unwrap(),
            tenant: "acme".parse().unwrap(),
            ledger: "EUR".parse().unwrap(),
            code: "clearing".parse().unwrap(),
            flags: AccountFlags::NONE,
            user_data: 0,
            reference: Reference::default(),
            limit: 0,
            closed: false,
            balances: Balances::default(),
            created_at: Timestamp::from_nanos(i64::try_from(bits).unwrap()),
        });
    }
    set
}

fn core(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    for accounts in [ACCOUNTS, 2] {
        let empty = working_set(accounts);
        for size in [1, BATCH_MAX] {
            let batch = Workload::new(accounts, Ids::Timed).batch(size);
            let now = Timestamp::from_nanos(NOW);
            group.throughput(Throughput::Elements(u64::try_from(size).unwrap()));
            let id = BenchmarkId::new(format!("batch of {size}"), format!("{accounts} accounts"));
            group.bench_function(id, |bencher| {
                bencher.iter_batched_ref(
                    || empty.clone(),
                    |set| {
                        let results = execute(black_box(&batch), now, set);
                        assert!(results.iter().all(|result| result.code == TransferCode::Created));
                        results
                    },
                    BatchSize::LargeInput,
                );
            });
        }
    }
    group.finish();
}

fn directory() -> PathBuf {
    std::env::var_os("LEDGER_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from)
}

/// The time of a sync of one page: what every durable figure stands beside.
fn print_sync_time() {
    use std::io::Write as _;
    let path = directory().join("sync-probe");
    let mut file = std::fs::File::create(&path).unwrap();
    let mut micros: Vec<u128> = (0..200)
        .map(|_| {
            file.write_all(&[0x5a; 4_096]).unwrap();
            let began = Instant::now();
            file.sync_data().unwrap();
            began.elapsed().as_micros()
        })
        .collect();
    micros.sort_unstable();
    println!("store: fdatasync of 4 KiB appended, p50 {} us, p99 {} us", micros[100], micros[198]);
    std::fs::remove_file(path).unwrap();
}

async fn opened(store: &EmbeddedStore) {
    let accounts: Vec<NewAccount> = (1..=ACCOUNTS)
        .map(|bits| NewAccount {
            id: Given::Value(AccountId::new(bits).unwrap()),
            tenant: Given::Value("acme".parse().unwrap()),
            ledger: Given::Value("EUR".parse().unwrap()),
            code: Given::Value("clearing".parse().unwrap()),
            flags: Some(AccountFlags::NONE),
            user_data: 0,
            reference: Some(Reference::default()),
            limit: 0,
            has_balances: false,
            has_timestamp: false,
        })
        .collect();
    for batch in accounts.chunks(BATCH_MAX) {
        store.open_accounts(batch.to_vec(), Timestamp::from_nanos(NOW)).await.unwrap();
    }
}

/// `calls` calls of `size` transfers each, `in_flight` at once; prints the rate and the latencies.
async fn drive(
    name: &str,
    store: &EmbeddedStore,
    workload: &mut Workload,
    size: usize,
    in_flight: usize,
    calls: usize,
) {
    let mut lanes: Vec<Vec<Vec<NewTransfer>>> = vec![Vec::new(); in_flight];
    for call in 0..calls {
        lanes[call % in_flight].push(workload.batch(size));
    }
    let began = Instant::now();
    let tasks: Vec<_> = lanes
        .into_iter()
        .map(|batches| {
            let store = store.clone();
            tokio::spawn(async move {
                let mut micros = Vec::with_capacity(batches.len());
                for batch in batches {
                    let began = Instant::now();
                    let results = store.transfer(batch, Timestamp::from_nanos(NOW)).await.unwrap();
                    micros.push(began.elapsed().as_micros());
                    assert!(results.iter().all(|result| result.code == TransferCode::Created));
                }
                micros
            })
        })
        .collect();
    let mut micros = Vec::new();
    for task in tasks {
        micros.extend(task.await.unwrap());
    }
    let elapsed = began.elapsed();
    micros.sort_unstable();
    let at = |percent: usize| micros[(micros.len() * percent / 100).min(micros.len() - 1)];
    let transfers = u128::try_from(size * calls).unwrap();
    let rate = transfers * 1_000_000 / elapsed.as_micros().max(1);
    println!(
        "store: {name}: {size} per call, {in_flight} at once: {rate} transfers/s, call p50 {} us, p99 {} us",
        at(50),
        at(99)
    );
}

/// Not by criterion: the store grows, so that no two samples would measure the same thing.
fn store(_: &mut Criterion) {
    print_sync_time();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for (name, accounts, ids) in [
        ("10,000 accounts, timed ids", ACCOUNTS, Ids::Timed),
        ("2 accounts, timed ids", 2, Ids::Timed),
        ("10,000 accounts, random ids", ACCOUNTS, Ids::Random),
    ] {
        let dir = tempfile::tempdir_in(directory()).unwrap();
        runtime.block_on(async {
            let store = EmbeddedStore::open(dir.path()).await.unwrap();
            opened(&store).await;
            let mut workload = Workload::new(accounts, ids);
            drive(name, &store, &mut workload, 1, 1, 1_000).await;
            drive(name, &store, &mut workload, 1, 32, 16_000).await;
            drive(name, &store, &mut workload, 1, 512, 64_000).await;
            drive(name, &store, &mut workload, 100, 32, 3_200).await;
            drive(name, &store, &mut workload, BATCH_MAX, 1, 60).await;
            drive(name, &store, &mut workload, 1, 512, 64_000).await;
            let began = Instant::now();
            let report = store.audit().await.unwrap();
            assert!(report.offences.is_empty());
            println!(
                "store: {name}: audit of {} transfers in {} ms",
                report.transfers,
                began.elapsed().as_millis()
            );
        });
    }
}

criterion_group!(benches, core, store);
criterion_main!(benches);
