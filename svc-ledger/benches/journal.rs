//! How fast the journal is: sealing, opening, writing without a sync, replaying, and the steps of a disk.
//!
//! The files are below the target directory (so on a disk, not in memory) or in `LEDGER_BENCH_DIR`.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{
    hint::black_box,
    io::{self, IoSlice},
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use money::Timestamp;
use svc_ledger::{
    domain::{
        Account, AccountFlags, AccountId, BATCH_MAX, Balances, Event, Kind, Reference, Side, Transfer,
        TransferFlags, TransferId,
    },
    journal::{
        Chain, FileJournal, JournalKey, JournalReader, Link, Snapshots,
        files::{Disk, KeySource, SystemDisk},
    },
    store::ports::{Frame, Journal, Snapshot},
};

const NOW: i64 = 1_800_000_000_000_000_000;
const ACCOUNTS: u64 = 10_000;
const BATCHES: usize = 40;

fn key() -> JournalKey {
    JournalKey::take(&mut [1; 32])
}

/// Plain transfers between accounts at random: what the batch path seals.
fn transfers(rng: &mut Rng, count: usize, last: &mut i64) -> Vec<Event> {
    let side = |rng: &mut Rng, number| Side {
        number: Timestamp::from_nanos(NOW - i64::try_from(number).unwrap() * 1_000),
        after: Balances {
            debits_posted: rng.i64(0..100_000_000),
            credits_posted: rng.i64(0..100_000_000),
            ..Balances::default()
        },
        closed: false,
        has_history: false,
    };
    let mut one = || {
        *last += 1;
        let (debit, credit) = (rng.u64(1..=ACCOUNTS), rng.u64(1..=ACCOUNTS));
        let amount = rng.i64(1..100_000);
        let transfer = Transfer {
            id: TransferId::new((u128::from(last.unsigned_abs()) << 64) | u128::from(rng.u64(1..))).unwrap(),
            timestamp: Timestamp::from_nanos(*last),
            tenant: "acme".parse().unwrap(),
            kind: Kind::Single,
            modifiers: TransferFlags::default(),
            debit: AccountId::new(u128::from(debit) << 64).unwrap(),
            credit: AccountId::new(u128::from(credit) << 64).unwrap(),
            amount,
            requested: Some(amount),
            ledger: "EUR".parse().unwrap(),
            code: "payment".parse().unwrap(),
            user_data: 0,
            reference: Reference::default(),
        };
        Event::Made { transfer: Arc::new(transfer), debit: side(rng, debit), credit: side(rng, credit) }
    };
    (0..count).map(|_| one()).collect()
}

fn batches() -> Vec<Vec<Event>> {
    let (mut rng, mut last) = (Rng::with_seed(1), NOW);
    (0..BATCHES).map(|_| transfers(&mut rng, BATCH_MAX, &mut last)).collect()
}

fn sealed(batches: &[Vec<Event>]) -> Vec<Frame> {
    let mut chain = Chain::new(key(), Link::EMPTY);
    let mut buffer = Vec::new();
    batches.iter().map(|events| chain.seal(events, &mut buffer).unwrap()).collect()
}

fn directory() -> tempfile::TempDir {
    let place = std::env::var_os("LEDGER_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    tempfile::tempdir_in(place).unwrap()
}

/// The system's disk, but nothing is waited for.
#[derive(Debug)]
struct Unsynced;

impl Disk for Unsynced {
    type File = std::fs::File;

    fn create(&self, path: &Path) -> io::Result<Self::File> {
        SystemDisk.create(path)
    }

    fn open(&self, path: &Path) -> io::Result<Self::File> {
        SystemDisk.open(path)
    }

    fn write(&self, file: &mut Self::File, at: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        SystemDisk.write(file, at, pieces)
    }

    fn sync(&self, _: &Self::File) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        SystemDisk.truncate(path, bytes)
    }

    fn give_up(&self, path: &Path, error: &io::Error) {
        SystemDisk.give_up(path, error);
    }
}

fn append<D: Disk>(journal: &mut FileJournal<D>, frames: &[Frame]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for frame in frames {
            journal.append(std::slice::from_ref(frame)).await.unwrap();
        }
    });
}

fn seal_and_open(criterion: &mut Criterion) {
    let batches = batches();
    let frames = sealed(&batches);
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    println!("{} bytes per transfer", bytes / (BATCHES * BATCH_MAX));
    for (unit, throughput) in [
        ("transfers", Throughput::Elements((BATCHES * BATCH_MAX) as u64)),
        ("bytes", Throughput::Bytes(bytes as u64)),
    ] {
        let mut group = criterion.benchmark_group(format!("chain, {unit}"));
        group.throughput(throughput).sample_size(10);
        group.bench_function("seal", |bench| bench.iter(|| sealed(&batches).len()));
        group.bench_function("open", |bench| {
            bench.iter(|| {
                let mut chain = Chain::new(key(), Link::EMPTY);
                frames.iter().map(|frame| chain.open(&frame.bytes).unwrap().events.len()).sum::<usize>()
            });
        });
        group.bench_function("verify", |bench| {
            bench.iter(|| {
                let mut chain = Chain::new(key(), Link::EMPTY);
                frames.iter().map(|frame| chain.verify(&frame.bytes).unwrap().count).sum::<u32>()
            });
        });
        group.finish();
    }
}

fn files(criterion: &mut Criterion) {
    let batches = batches();
    let frames = sealed(&batches);
    let bytes: usize = frames.iter().map(|frame| frame.bytes.len()).sum();
    let place = directory();
    let transfers = Throughput::Elements((BATCHES * BATCH_MAX) as u64);
    let mut group = criterion.benchmark_group("files, transfers");
    group.throughput(transfers).sample_size(10);
    group.bench_function("seal and write, no sync", |bench| {
        bench.iter_custom(|rounds| {
            let mut total = std::time::Duration::ZERO;
            for _ in 0..rounds {
                let dir = tempfile::tempdir_in(place.path()).unwrap();
                let (mut journal, _) =
                    FileJournal::open_on(Unsynced, dir.path(), KeySource::Given(key()), 256 << 20).unwrap();
                let start = Instant::now();
                append(&mut journal, &sealed(&batches));
                total += start.elapsed();
            }
            total
        });
    });
    let dir = tempfile::tempdir_in(place.path()).unwrap();
    let (mut journal, _) =
        FileJournal::open_on(Unsynced, dir.path(), KeySource::Given(key()), 256 << 20).unwrap();
    append(&mut journal, &frames);
    let reader = JournalReader::new(dir.path(), key());
    group.bench_function(format!("replay {} MB", bytes / 1_000_000), |bench| {
        bench.iter(|| {
            let records = reader.replay_from(1, BATCHES as u64).unwrap();
            records.map(|record| black_box(record.unwrap()).events.len()).sum::<usize>()
        });
    });
    group.finish();
}

/// One million accounts.
fn snapshot(criterion: &mut Criterion) {
    let place = directory();
    let mut rng = Rng::with_seed(2);
    let mut account = |number: u64| Account {
        id: AccountId::new(u128::from(number + 1) << 64 | u128::from(rng.u64(..))).unwrap(),
        tenant: "acme".parse().unwrap(),
        ledger: "EUR".parse().unwrap(),
        code: "wallet".parse().unwrap(),
        flags: AccountFlags::NONE,
        user_data: 0,
        reference: Reference::default(),
        limit: 0,
        closed: false,
        balances: Balances {
            debits_posted: rng.i64(0..1 << 40),
            credits_posted: rng.i64(0..1 << 40),
            ..Balances::default()
        },
        created_at: Timestamp::from_nanos(NOW + i64::try_from(number).unwrap() * 1_000),
    };
    let accounts: Vec<Account> = (0..1_000_000).map(&mut account).collect();
    let kept = Snapshot {
        sequence: 1,
        hash: [1; 32],
        last: Timestamp::from_nanos(NOW),
        accounts,
        reservations: Vec::new(),
    };
    let snapshots = Snapshots::open(place.path(), key()).unwrap();
    let mut group = criterion.benchmark_group("snapshot of 1,000,000 accounts");
    group.throughput(Throughput::Elements(1_000_000)).sample_size(10);
    group.bench_function("keep, synced", |bench| bench.iter(|| snapshots.keep(&kept).unwrap()));
    let journal = Link { sequence: 1, hash: [1; 32], last: Timestamp::from_nanos(NOW) };
    group.bench_function("load", |bench| {
        bench.iter(|| snapshots.load(&journal).unwrap().unwrap().accounts.len());
    });
    group.finish();
}

criterion_group!(benches, seal_and_open, files, snapshot);
criterion_main!(benches);
