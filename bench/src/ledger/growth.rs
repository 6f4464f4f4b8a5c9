//! What a ledger costs as it grows: with its history, and with its accounts. Here it is a process of its own.
#![allow(clippy::float_arithmetic, reason = "rates and sizes for people; no amount is computed here")]

use std::time::Duration;

use super::Bench;
use super::batch::{self, Shape};
use super::process::Process;
use super::workload::Accounts;
use crate::disk;
use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};

const MILLION: u64 = 1_000_000;
/// Of the first million's throughput, the last one should have at least this part.
const LAST_MILLION_GOAL: f64 = 0.8;
/// In memory with a million accounts, at most.
const MEMORY_GOAL: &str = "2 GiB with a million accounts";
/// From the start to the first answer, at most.
const RESTART_GOAL: Duration = Duration::from_secs(10);

/// Makes millions of transfers, then ends the ledger and starts it anew, with and without warning.
pub(super) fn history(bench: &Bench<'_>) -> Result<(), BenchError> {
    let mut ledger = Process::start(&bench.parent, &bench.args.log)?;
    ledger.peer.open(&bench.accounts)?;
    println!("history: {} accounts, {}", bench.accounts.len(), ledger.memory());
    let shape = shape(bench);
    let transfers = bench.args.transfers.unwrap_or(MILLION);
    let bound = Bound::Count(transfers.div_ceil(u64::from(shape.per_call)));
    let mut parts = Vec::new();
    for part in 1..=bench.args.million {
        let sync = disk::fdatasync_us(&ledger.data_dir())?;
        let figures = drive(&ledger, &bench.accounts, shape, bound, u64::from(part))?;
        let (text, sync) = (said(&figures, shape), report::ms_at(&sync, 0.5));
        println!("{part:4} x {transfers}: {text}, fdatasync p50 {sync}, {}", ledger.memory());
        parts.push(figures);
    }
    if let [first, .., last] = &parts[..] {
        let ratio = report::ratios(std::slice::from_ref(last), std::slice::from_ref(first));
        println!("the last / the first: {ratio} (goal: at least {LAST_MILLION_GOAL})");
    }
    print_sizes(&ledger);
    restart(&mut ledger, &bench.accounts)?;
    let figures = drive(&ledger, &bench.accounts, shape, Bound::Count(10), 0)?;
    println!("after that: {}", said(&figures, shape));
    Ok(())
}

/// Opens many accounts and makes transfers between them.
pub(super) fn accounts(bench: &Bench<'_>) -> Result<(), BenchError> {
    let accounts = Accounts::new(bench.args.many);
    let mut ledger = Process::start(&bench.parent, &bench.args.log)?;
    println!("accounts: with none, {}", ledger.memory());
    ledger.peer.open(&accounts)?;
    println!("{} opened: {}", accounts.len(), ledger.memory());
    let shape = shape(bench);
    let sync = disk::fdatasync_us(&ledger.data_dir())?;
    let figures = drive(&ledger, &accounts, shape, bench.bound(shape.per_call), 0)?;
    let (text, sync) = (said(&figures, shape), report::ms_at(&sync, 0.5));
    println!("{text}, fdatasync p50 {sync}; {} (goal: under {MEMORY_GOAL})", ledger.memory());
    print_sizes(&ledger);
    restart(&mut ledger, &accounts)
}

/// With the CPU time of the ledger alone: others on the machine slow it down, but hardly add to that.
fn drive(
    ledger: &Process,
    accounts: &Accounts,
    shape: Shape,
    bound: Bound,
    seed: u64,
) -> Result<Figures, BenchError> {
    let before = ledger.cpu();
    let (mut figures, all) = batch::drive(&ledger.peer, accounts, shape, bound, seed)?;
    figures.cpu_per_request = report::per_request(before, ledger.cpu(), all);
    Ok(figures)
}

fn restart(ledger: &mut Process, accounts: &Accounts) -> Result<(), BenchError> {
    let goal = RESTART_GOAL.as_secs();
    let killed = ledger.kill_and_restart(accounts)?;
    println!(
        "killed; started anew, until an account is told: {:.2} s (goal: under {goal}), {}, {}",
        killed.as_secs_f64(),
        cpu(ledger),
        ledger.memory()
    );
    let stopped = ledger.stop_and_restart(accounts)?;
    println!("stopped; started anew: {:.2} s, {}, {}", stopped.as_secs_f64(), cpu(ledger), ledger.memory());
    Ok(())
}

/// What the start itself took, on a machine with nothing else to do or not.
fn cpu(ledger: &Process) -> String {
    ledger.cpu().map_or_else(String::new, |cpu| format!("of CPU time {:.2} s", cpu.as_secs_f64()))
}

/// The callers given first.
fn shape(bench: &Bench<'_>) -> Shape {
    Shape { callers: bench.args.callers.first().copied().unwrap_or(1), per_call: bench.args.per_call }
}

fn said(figures: &Figures, shape: Shape) -> String {
    let rate = report::grouped(figures.rate() * f64::from(shape.per_call));
    let (p50, p99) = (report::ms_at(&figures.latencies_us, 0.5), report::ms_at(&figures.latencies_us, 0.99));
    let cpu = figures.cpu_per_request.map_or_else(String::new, |cpu| {
        format!(", CPU {:.2} µs/transfer", cpu.as_secs_f64() * 1e6 / f64::from(shape.per_call))
    });
    format!("{rate} transfers/s, batch p50 {p50}, p99 {p99}{cpu}")
}

fn print_sizes(ledger: &Process) {
    let sizes = disk::sizes(&ledger.data_dir());
    let text: Vec<_> = sizes
        .iter()
        .filter(|(_, bytes)| **bytes > 0)
        .map(|(name, bytes)| format!("{name} {:.1} MiB", *bytes as f64 / f64::from(1 << 20)))
        .collect();
    println!("on disk: {}", text.join(", "));
}
