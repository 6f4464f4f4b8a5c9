//! svc-ledger from outside: full batches, single transfers, a long history, many accounts.
//!
//! Client and service share the machine, and this process but for what is measured or killed as a process;
//! between them is mTLS, as between services. An answer is counted when it says that every transfer of the call was made, which the service says once they are on disk.

mod batch;
mod ground;
mod growth;
mod peer;
mod pgbench;
mod postgres;
mod process;
mod table;
mod unary;
mod workload;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use paymesh_proto::ledger::v1::TransferResult;
use paymesh_proto::ledger::v1::transfer_result::Code;
use svc_ledger::Config;

use crate::echo::{self, WARM_UP, telemetry, with_metadata};
use crate::error::BenchError;
use crate::ledger::ground::Ground;
use crate::ledger::table::{Table, Unit};
use crate::ledger::unary::Travel;
use crate::ledger::workload::Accounts;
use crate::load::Bound;
use crate::{cpu, disk, report};

/// The contract's most in one call.
const PER_CALL_MAX: u32 = 8_190;
/// How long a call may take. It is never reached by a ledger that works.
const DEADLINE: Duration = Duration::from_secs(60);

/// Full batches a second, at least: half of the 268,000 that TigerBeetle was measured to do at its best on
/// two cores, with one replica.
const BATCH_GOAL: f64 = 134_000.0;
/// Two hot accounts: no slower than many. Less than this part is more than the rounds differ by.
const HOT_GOAL: f64 = 1.0;
/// The least part of the unary echo limit that single transfers should reach.
const UNARY_GOAL: f64 = 0.6;

/// Measure svc-ledger: full batches, single transfers, a long history, many accounts
///
/// The service runs behind mTLS, its data in a directory of its own that is removed afterwards.
/// Every transfer must be answered CREATED, which is said once it is on disk. Beside each figure stands the p50
/// of fdatasync on that disk just before: disks have moods, so compare no figures across them.
///
/// Examples:
///   bench ledger                                          batches and single transfers, 10 s each
///   bench ledger --case batch --callers 1,2,4,8           how many callers are best
///   bench ledger --case batch,batch-hot --rounds 5        the ratio's median over five pairs
///   bench ledger --case unary,unary-coalesced             beside the echo limit of the same run
///   bench ledger --case history --million 20              does it slow down? how long is a restart?
///   bench ledger --case accounts --many 1000000           memory with a million accounts
///   cargo xtask servers --durable -- bench ledger --case postgres     on PostgreSQL, beside pgbench
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct LedgerArgs {
    /// What to measure, in this order
    #[arg(long = "case", value_enum, value_delimiter = ',', value_name = "CASES",
        default_values_t = [Case::Batch, Case::BatchHot, Case::Unary, Case::UnaryCoalesced, Case::UnaryHot])]
    cases: Vec<Case>,
    /// How long to measure each, in seconds, after a second of warm-up
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// This many transfers of each case instead (rounded up to full batches), all of which count; for `history`,
    /// instead of each million
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    transfers: Option<u64>,
    /// How often to measure each, in turn; the median of the rounds' ratios is reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Callers of full batches, each with one under way; several numbers are measured in turn
    #[arg(long, default_values_t = [4], value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    callers: Vec<u32>,
    /// Transfers in a full batch
    #[arg(long, default_value_t = PER_CALL_MAX, value_parser = clap::value_parser!(u32).range(1..=i64::from(PER_CALL_MAX)))]
    per_call: u32,
    /// Accounts that transfers are made between, where they are not hot
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    accounts: u32,
    /// Single transfers under way at once
    #[arg(long, default_value_t = 1_024, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// Connections that single transfers in RPCs of their own share
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Batches that a coalescing client has under way at once
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    batches: u32,
    /// Million transfers that `history` makes
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    million: u32,
    /// Accounts that `accounts` opens
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(2..=10_000_000))]
    many: u32,
    /// Where the ledger's directory is made; its disk is the one that is measured [default: beside this program]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// The server that `postgres` is measured on; it must be durable. What is made there is removed afterwards
    #[arg(long, env = "PAYMESH_TEST_POSTGRES_URL", hide_env_values = true, value_name = "URL")]
    postgres_url: Option<String>,
    /// Serve a ledger from this directory: what `history` and `accounts` start, to measure and to kill it
    #[arg(long, hide = true, value_name = "DIRECTORY")]
    serve: Option<PathBuf>,
    /// What the mesh's stack logs
    #[arg(long, default_value = "info")]
    log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// Full batches between --accounts accounts
    Batch,
    /// Full batches between two accounts
    BatchHot,
    /// One transfer per call, each an RPC of its own
    Unary,
    /// One transfer per call, gathered into batches by the client
    UnaryCoalesced,
    /// One transfer per call, each an RPC of its own, between two accounts
    UnaryHot,
    /// --million transfers: throughput and memory of each million, sizes on disk, and the restart
    History,
    /// Memory with --many accounts, and full batches between them
    Accounts,
    /// Full batches and single transfers on the PostgreSQL of --postgres-url, beside pgbench on the same server
    Postgres,
}

/// `bench ledger`.
pub(crate) fn run(args: &LedgerArgs) -> Result<(), BenchError> {
    let parent = match &args.data_dir {
        Some(directory) => directory.clone(),
        None => disk::beside_this_program()?,
    };
    let _telemetry = telemetry::start(&args.log)?;
    if let Some(directory) = &args.serve {
        return process::serve(directory);
    }
    let bench = Bench { args, parent, accounts: Accounts::new(args.accounts), hot: Accounts::new(2) };
    println!("svc-ledger behind mTLS in {}, every answer durable", bench.parent.display());
    let mut table = Table::default();
    for _ in 0..args.rounds {
        bench.round(&mut table)?;
    }
    bench.compare(&table);
    for case in &args.cases {
        match case {
            Case::History => growth::history(&bench)?,
            Case::Accounts => growth::accounts(&bench)?,
            _ => {}
        }
    }
    Ok(())
}

/// What all cases share.
struct Bench<'a> {
    args: &'a LedgerArgs,
    parent: PathBuf,
    accounts: Accounts,
    hot: Accounts,
}

impl Bench<'_> {
    fn has(&self, cases: &[Case]) -> bool {
        self.args.cases.iter().any(|case| cases.contains(case))
    }

    /// Each case once, on a ledger of its own.
    fn round(&self, table: &mut Table) -> Result<(), BenchError> {
        if self.has(&[Case::Unary, Case::UnaryCoalesced, Case::UnaryHot]) {
            let shape = echo::Shape::of(self.args.connections, self.args.in_flight / self.args.connections);
            let limit = echo::limit_of(&shape, self.bound(1))?;
            table.add("echo limit", Unit { transfers: 1 }, limit, None);
        }
        let (files, callers) = (Config::default(), self.args.callers.as_slice());
        for case in &self.args.cases {
            match case {
                Case::Batch => self.batches(table, "batch", callers, &self.accounts, &files)?,
                Case::BatchHot => self.batches(table, "batch, hot", callers, &self.hot, &files)?,
                Case::Unary => self.single(table, "unary", &self.accounts, Travel::Alone, &files)?,
                Case::UnaryCoalesced => {
                    let travel = Travel::Coalesced(self.args.batches);
                    self.single(table, "unary, coalesced", &self.accounts, travel, &files)?;
                }
                Case::UnaryHot => self.single(table, "unary, hot", &self.hot, Travel::Alone, &files)?,
                Case::Postgres => postgres::round(self, table)?,
                Case::History | Case::Accounts => {}
            }
        }
        Ok(())
    }

    fn batches(
        &self,
        table: &mut Table,
        name: &str,
        callers: &[u32],
        accounts: &Accounts,
        config: &Config,
    ) -> Result<(), BenchError> {
        for callers in callers {
            let ground = Ground::start(&self.parent, config.clone(), accounts)?;
            let sync = disk::fdatasync_us(&ground.data_dir())?;
            let shape = batch::Shape { callers: *callers, per_call: self.args.per_call };
            let bound = self.bound(self.args.per_call);
            let before = cpu::used_here();
            let (mut figures, all) = batch::drive(&ground.peer, accounts, shape, bound, 0)?;
            figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
            ground.stop();
            table.add(
                &of_callers(name, *callers),
                Unit { transfers: self.args.per_call },
                figures,
                Some(&sync),
            );
        }
        Ok(())
    }

    fn single(
        &self,
        table: &mut Table,
        name: &str,
        accounts: &Accounts,
        travel: Travel,
        config: &Config,
    ) -> Result<(), BenchError> {
        let ground = Ground::start(&self.parent, config.clone(), accounts)?;
        let sync = disk::fdatasync_us(&ground.data_dir())?;
        let (connections, in_flight) = (self.args.connections, self.args.in_flight);
        let shape = unary::Shape { connections, in_flight, travel };
        let figures = unary::drive(&ground.peer, accounts, shape, self.bound(1))?;
        ground.stop();
        table.add(name, Unit { transfers: 1 }, figures, Some(&sync));
        Ok(())
    }

    /// Of calls with as many transfers.
    fn bound(&self, per_call: u32) -> Bound {
        match self.args.transfers {
            Some(transfers) => Bound::Count(transfers.div_ceil(u64::from(per_call))),
            None => Bound::Time { warm_up: WARM_UP, measured: Duration::from_secs(self.args.duration) },
        }
    }

    /// Each case beside its goal.
    fn compare(&self, table: &Table) {
        for callers in &self.args.callers {
            let (many, hot) = (of_callers("batch", *callers), of_callers("batch, hot", *callers));
            if let Some(rate) = table.best(&many) {
                println!("{many}: {rate:.0} transfers/s at best (goal: at least {BATCH_GOAL:.0})");
            }
            table.compare(&hot, &many, &format!(" (goal: no less than {HOT_GOAL:.1})"));
        }
        let goal = format!(" (goal: at least {UNARY_GOAL})");
        table.compare("unary", "echo limit", &goal);
        table.compare("unary, hot", "echo limit", &goal);
        table.compare("unary, coalesced", "echo limit", "");
        table.compare("unary, hot", "unary", &format!(" (goal: no less than {HOT_GOAL:.1})"));
        postgres::compare(self, table);
    }
}

fn of_callers(name: &str, callers: u32) -> String {
    format!("{name} x {callers}")
}

/// A request of the tenant that all cases share, with a client's metadata.
fn request<M>(message: M) -> Result<tonic::Request<M>, BenchError> {
    with_metadata(message, DEADLINE)
}

/// The runtime of all callers: one thread, as in the echo. The service has the rest of the machine.
fn caller() -> Result<tokio::runtime::Runtime, BenchError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::io("a runtime"))
}

/// A call counts only if all that it asked for was done.
fn all_created(results: &[TransferResult], asked: usize) -> Result<(), BenchError> {
    if results.len() != asked {
        return Err(BenchError::Ledger(format!("{asked} transfers had {} results", results.len())));
    }
    match results.iter().map(TransferResult::code).find(|code| *code != Code::Created) {
        Some(other) => Err(BenchError::Ledger(format!("a transfer was not made: {}", other.as_str_name()))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
