//! How fast the embedded index takes up what happened, and whether that changes with what it holds already;
//! how long a call's ids take to look up, and questions.
//!
//! Prints a line per million transfers: in transfers a second, and, where the system tells (Linux), in
//! transfers a second of the thread's own time on a processor, which others on the machine do not change. In `LEDGER_BENCH_DIR`, or below the target directory, which is on a
//! disk. `INDEX_BENCH_MILLIONS` (2), `INDEX_BENCH_ACCOUNTS` (10,000), `INDEX_BENCH_BATCH` (32,760 events an
//! `apply`), `INDEX_BENCH_RANDOM_IDS` (0; 1: ids are noise), `INDEX_BENCH_REFERENCES` (1: each transfer has one
//! of its own) change what is measured.

#![allow(missing_docs, clippy::unwrap_used, clippy::float_arithmetic)] // a bench; its figures are rates

use std::{future::Future, path::PathBuf, pin::pin, sync::Arc, task, time::Instant};

use money::Timestamp;
use svc_ledger::{
    domain::{
        Account, AccountFlags, AccountId, BATCH_MAX, Balances, Code, Event, Kind, LedgerCode, Reference,
        Side, Transfer, TransferFlags, TransferId,
    },
    store::{
        ports::{BalanceFilter, Happened, Index, Period, TransferFilter, Window},
        sqlite_index::SqliteIndex,
    },
};

const START: i64 = 1_800_000_000_000_000_000;

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

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(format!("INDEX_BENCH_{name}")).map_or(default, |text| text.parse().unwrap())
}

/// Runs what does not wait.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut context = task::Context::from_waker(task::Waker::noop());
    match pin!(future).poll(&mut context) {
        task::Poll::Ready(value) => value,
        task::Poll::Pending => unreachable!("this blocks"),
    }
}

struct Load {
    numbers: Numbers,
    accounts: Vec<(AccountId, Timestamp)>,
    time: i64,
    sequence: u64,
    ids_are_noise: bool,
    has_references: bool,
    code: Code,
    ledger: LedgerCode,
}

impl Load {
    fn id(&mut self) -> TransferId {
        let noise = self.numbers.wide();
        let millis = u128::try_from(self.time / 1_000_000).unwrap();
        // As of a client that makes them in order: version 7 with a counter.
        let timed = (millis << 80)
            | (0x7 << 76)
            | u128::try_from(self.time % 1_000_000).unwrap() << 44
            | (noise >> 84);
        TransferId::new(if self.ids_are_noise { noise } else { timed }).unwrap()
    }

    fn record(&mut self, events: Vec<Event>) -> Happened {
        self.sequence += 1;
        Happened { sequence: self.sequence, hash: [7; 32], events: events.into() }
    }

    fn open(&mut self, count: usize) -> Happened {
        let events = (0..count).map(|_| {
            self.time += 1;
            let account = Account {
                id: AccountId::new(self.numbers.wide()).unwrap(),
                tenant: "acme".parse().unwrap(),
                ledger: self.ledger,
                code: self.code.clone(),
                flags: AccountFlags::NONE,
                user_data: 0,
                reference: Reference::default(),
                limit: 0,
                closed: false,
                balances: Balances::default(),
                created_at: Timestamp::from_nanos(self.time),
            };
            self.accounts.push((account.id, account.created_at));
            Event::Opened(Arc::new(account))
        });
        let events = events.collect();
        self.record(events)
    }

    /// A call of transfers, which follow each other by a nanosecond.
    fn call(&mut self, size: usize) -> Happened {
        self.time += 60_000_000;
        let tenant: money::TenantId = "acme".parse().unwrap();
        let empty = Reference::default();
        let mut events = Vec::with_capacity(size);
        for _ in 0..size {
            self.time += 1;
            let count = self.accounts.len() as u64;
            let debit = usize::try_from(self.numbers.next() % count).unwrap();
            let apart = 1 + usize::try_from(self.numbers.next() % (count - 1)).unwrap();
            let (debit, credit) =
                (self.accounts[debit], self.accounts[(debit + apart) % self.accounts.len()]);
            let amount = i64::try_from(self.numbers.next() % 100_000).unwrap();
            let reference = if self.has_references {
                format!("pay_{:032x}", self.numbers.wide()).parse().unwrap()
            } else {
                empty.clone()
            };
            let transfer = Transfer {
                id: self.id(),
                timestamp: Timestamp::from_nanos(self.time),
                tenant: tenant.clone(),
                kind: Kind::Single,
                modifiers: TransferFlags::default(),
                debit: debit.0,
                credit: credit.0,
                amount,
                requested: Some(amount),
                ledger: self.ledger,
                code: self.code.clone(),
                user_data: 0,
                reference,
            };
            let side =
                |number| Side { number, after: Balances::default(), closed: false, has_history: false };
            events.push(Event::Made {
                transfer: Arc::new(transfer),
                debit: side(debit.1),
                credit: side(credit.1),
            });
        }
        self.record(events)
    }
}

fn report_known(index: &SqliteIndex, what: &str, ids: &[TransferId]) {
    const ROUNDS: u32 = 20;
    let count = ids.len() as f64;
    let mut found = 0;
    let start = Instant::now();
    for _ in 0..ROUNDS {
        found = now(index.for_writes().known(ids.to_vec())).unwrap().len();
    }
    let nanos = start.elapsed().as_nanos() as f64 / f64::from(ROUNDS) / count;
    println!("known: {what}: {nanos:.1} ns an id, {found} found");
}

async fn report_questions(index: &SqliteIndex, load: &Load) {
    let newest = Window { newest_first: true, limit: 100 };
    let any = TransferFilter::any(Some("acme".parse().unwrap()), Period::EVER, newest);
    let (a, b) = (load.accounts[17].0, load.accounts[4_711].0);
    let oldest = Window { newest_first: false, limit: 100 };
    let cases = [
        ("newest 100 of an account", TransferFilter { account: Some(a), ..any.clone() }),
        ("oldest 100 of an account", TransferFilter { account: Some(a), window: oldest, ..any.clone() }),
        ("all between two accounts", TransferFilter { debit: Some(a), credit: Some(b), ..any.clone() }),
        ("newest 100 of the tenant", any.clone()),
        (
            "a reference nobody has",
            TransferFilter { reference: Some("none".parse().unwrap()), ..any.clone() },
        ),
        ("an amount nobody has, one call", TransferFilter { amount_min: Some(i64::MAX), ..any }),
    ];
    for (what, filter) in cases {
        let start = Instant::now();
        let page = index.transfers(filter).await.unwrap();
        let millis = start.elapsed().as_secs_f64() * 1e3;
        println!(
            "question: {what}: {millis:.2} ms, {} found, more: {}",
            page.items.len(),
            page.resume.is_some()
        );
    }
    let filter =
        BalanceFilter { tenant: "acme".parse().unwrap(), account: a, period: Period::EVER, window: oldest };
    let start = Instant::now();
    index.balances(filter).await.unwrap();
    println!("question: balances of an account without: {:.2} ms", start.elapsed().as_secs_f64() * 1e3);
}

/// The seconds that this thread has had a processor; 0 where the system does not tell.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos: f64 = text.split_whitespace().next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0.0);
    nanos / 1e9
}

fn bytes_on_disk(path: &std::path::Path) -> u64 {
    let files = path.parent().unwrap().read_dir().unwrap();
    files.map(|file| file.unwrap().metadata().unwrap().len()).sum()
}

fn main() {
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let root = std::env::var_os("LEDGER_BENCH_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), PathBuf::from);
    let dir = tempfile::tempdir_in(root).unwrap();
    let path = dir.path().join("index.db");
    let index = SqliteIndex::open(&path).unwrap();
    let mut load = Load {
        numbers: Numbers(7),
        accounts: Vec::new(),
        time: START,
        sequence: 0,
        ids_are_noise: setting("RANDOM_IDS", 0) == 1,
        has_references: setting("REFERENCES", 1) == 1,
        code: "payment".parse().unwrap(),
        ledger: "EUR".parse().unwrap(),
    };
    let accounts = usize::try_from(setting("ACCOUNTS", 10_000)).unwrap();
    let record = load.open(accounts);
    let start = Instant::now();
    now(index.apply(vec![record])).unwrap();
    println!("{accounts} accounts: {:.0} ms", start.elapsed().as_secs_f64() * 1e3);

    let calls = usize::try_from(setting("BATCH", 4 * BATCH_MAX as u64)).unwrap().div_ceil(BATCH_MAX);
    let millions = setting("MILLIONS", 2);
    let mut held = Vec::new();
    let (mut done, mut spent, mut on_processor, mut longest) = (0_u64, 0.0, 0.0, 0.0_f64);
    for million in 1..=millions {
        let (before, on_processor_before, done_before) = (spent, on_processor, done);
        while done < million * 1_000_000 {
            let records: Vec<Happened> = (0..calls).map(|_| load.call(BATCH_MAX)).collect();
            if let Event::Made { transfer, .. } = &records[0].events[0] {
                held.push(transfer.id);
            }
            let (start, start_on_processor) = (Instant::now(), processor_seconds());
            now(index.apply(records)).unwrap();
            let took = start.elapsed().as_secs_f64();
            spent += took;
            on_processor += processor_seconds() - start_on_processor;
            longest = longest.max(took);
            done += (calls * BATCH_MAX) as u64;
        }
        let made = (done - done_before) as f64;
        let rate = made / (spent - before);
        let own = made / (on_processor - on_processor_before);
        let size = bytes_on_disk(&path) as f64 / 1e9;
        println!(
            "million {million}: {rate:.0} transfers/s, {own:.0} of own time, longest apply so far {:.0} ms, \
             {size:.2} GB on disk",
            longest * 1e3
        );
    }
    let (done, rates) = (done as f64, [spent, on_processor]);
    println!("all: {:.0} transfers/s, {:.0} of own time", done / rates[0], done / rates[1]);

    let new: Vec<TransferId> = (0..BATCH_MAX)
        .map(|_| {
            load.time += 1;
            load.id()
        })
        .collect();
    report_known(&index, "8,190 new as the load's", &new);
    let span = u64::try_from((load.time - START) / 1_000_000).unwrap();
    let between = |numbers: &mut Numbers| {
        let millis = START.unsigned_abs() / 1_000_000 + numbers.next() % span;
        (u128::from(millis) << 80) | (0x7 << 76) | (numbers.wide() >> 52)
    };
    let between: Vec<TransferId> =
        (0..BATCH_MAX).map(|_| TransferId::new(between(&mut load.numbers)).unwrap()).collect();
    report_known(&index, "8,190 new ones among those held", &between);
    held.truncate(BATCH_MAX);
    report_known(&index, "held ones from all over", &held);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(report_questions(&index, &load));
    drop(index);
    let start = Instant::now();
    let index = SqliteIndex::open(&path).unwrap();
    println!(
        "opening again: {:.0} ms, {} records",
        start.elapsed().as_secs_f64() * 1e3,
        now(index.applied()).unwrap().sequence
    );
}
