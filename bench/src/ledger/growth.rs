//! What a ledger costs as it grows: with its history, and with its accounts.
#![allow(clippy::float_arithmetic, reason = "rates and sizes for people; no amount is computed here")]

use std::time::Duration;

use svc_ledger::Config;

use super::Bench;
use super::batch::{self, Shape};
use super::ground::Ground;
use super::workload::Accounts;
use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};
use crate::{disk, memory};

const MILLION: u64 = 1_000_000;
/// Of the first million's throughput, the last one should have at least this part.
const LAST_MILLION_GOAL: f64 = 0.8;
/// In memory with a million accounts, at most.
const MEMORY_GOAL: &str = "2 GiB with a million accounts";
/// From the start to the first answer, at most.
const RESTART_GOAL: Duration = Duration::from_secs(10);

/// Makes millions of transfers, then stops the ledger and starts it anew.
pub(super) fn history(bench: &Bench<'_>) -> Result<(), BenchError> {
    let ground = Ground::with_accounts(&bench.parent, Config::default(), &bench.accounts)?;
    println!("history: {} accounts, {}", bench.accounts.len(), memory());
    let shape = shape(bench);
    let bound = Bound::Count(MILLION.div_ceil(u64::from(shape.per_call)));
    let (mut first, mut last) = (None, None);
    for million in 1..=bench.args.million {
        let sync = disk::fdatasync_us(&ground.data_dir())?;
        let figures = batch::drive(&ground, &bench.accounts, shape, bound, u64::from(million))?;
        println!(
            "million {million:4}: {}, fdatasync p50 {}, {}",
            said(&figures, shape),
            report::ms_at(&sync, 0.5),
            memory()
        );
        first.get_or_insert_with(|| figures.clone());
        last = Some(figures);
    }
    if let (Some(first), Some(last)) = (first, last) {
        let ratio = report::ratio(&[last], &[first]);
        println!("last million / first: {ratio} (goal: at least {LAST_MILLION_GOAL})");
    }
    print_sizes(&ground);
    let (ground, stopped_in, started_in) = ground.restart(&bench.accounts)?;
    println!(
        "stopped in {:.2} s; started anew, until an account is answered: {:.2} s (goal: under {}); {}",
        stopped_in.as_secs_f64(),
        started_in.as_secs_f64(),
        RESTART_GOAL.as_secs(),
        memory()
    );
    let figures = batch::drive(&ground, &bench.accounts, shape, Bound::Count(10), 0)?;
    println!("after that: {}", said(&figures, shape));
    print_sizes(&ground);
    ground.stop();
    Ok(())
}

/// Opens many accounts and makes transfers between them.
pub(super) fn accounts(bench: &Bench<'_>) -> Result<(), BenchError> {
    let accounts = Accounts::new(bench.args.many);
    println!(
        "accounts: before the service, with the {} ids that the client keeps: {}",
        accounts.len(),
        memory()
    );
    let ground = Ground::with_accounts(&bench.parent, Config::default(), &accounts)?;
    println!("all opened: {}", memory());
    let shape = shape(bench);
    let sync = disk::fdatasync_us(&ground.data_dir())?;
    let figures = batch::drive(&ground, &accounts, shape, bench.bound(shape.per_call), 0)?;
    println!(
        "{}, fdatasync p50 {}; {} (goal: under {MEMORY_GOAL})",
        said(&figures, shape),
        report::ms_at(&sync, 0.5),
        memory()
    );
    print_sizes(&ground);
    let (ground, _, started_in) = ground.restart(&accounts)?;
    println!("started anew in {:.2} s (goal: under {})", started_in.as_secs_f64(), RESTART_GOAL.as_secs());
    ground.stop();
    Ok(())
}

/// The callers given first.
fn shape(bench: &Bench<'_>) -> Shape {
    Shape { callers: bench.args.callers.first().copied().unwrap_or(1), per_call: bench.args.per_call }
}

fn said(figures: &Figures, shape: Shape) -> String {
    let rate = report::grouped(figures.rate() * f64::from(shape.per_call));
    let (p50, p99) = (report::ms_at(&figures.latencies_us, 0.5), report::ms_at(&figures.latencies_us, 0.99));
    format!("{rate} transfers/s, batch p50 {p50}, p99 {p99}")
}

/// What this process has in memory: the service's and the clients'.
fn memory() -> String {
    let mebibytes =
        |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), |bytes| (bytes >> 20).to_string());
    format!(
        "{} MiB in memory, at most {} so far",
        mebibytes(memory::resident()),
        mebibytes(memory::resident_max())
    )
}

fn print_sizes(ground: &Ground) {
    let sizes = disk::sizes(&ground.data_dir());
    let text: Vec<_> = sizes
        .iter()
        .filter(|(_, bytes)| **bytes > 0)
        .map(|(name, bytes)| format!("{name} {:.1} MiB", *bytes as f64 / f64::from(1 << 20)))
        .collect();
    println!("on disk: {}", text.join(", "));
}
