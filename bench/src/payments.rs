//! Payments through the REST edge: the whole way, from a customer's request to a durable posting.

mod edge;
mod target;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::slice::from_ref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::error::BenchError;
use crate::interrupt::Signals;
use crate::load::{Bound, Pace, Run};
use crate::payments::edge::{Connection, Edge};
use crate::payments::target::Target;
use crate::report::{self, Figures};
use crate::{cpu, disk, echo};

/// Drive payments through the REST edge, beside the echo limit of the same run
///
/// Starts `paymesh dev` in a directory of its own, or takes one that runs: --dev-json, or --edge-url
/// with --api-key. Only loopback: this is a load generator. Tokens are made first; each payment has its
/// own idempotency key, and each answer must be CAPTURED (or AUTHORIZED, with --capture manual).
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("running").args(["edge_url", "dev_json"]))]
pub(crate) struct PaymentsArgs {
    /// The edge of a mesh that runs, such as http://127.0.0.1:8080
    #[arg(long, requires = "api_key", value_name = "URL")]
    edge_url: Option<String>,
    /// Its API key
    #[arg(long, env = "PAYMESH_API_KEY", hide_env_values = true, value_name = "KEY")]
    api_key: Option<String>,
    /// The dev.json of a mesh that runs: edge, key and data directory are read from it
    #[arg(long, value_name = "PATH")]
    dev_json: Option<PathBuf>,
    /// Where a mesh started here keeps its data; its disk is the one that is measured [default: a
    /// directory beside this program, removed afterwards]
    #[arg(long, value_name = "DIRECTORY", conflicts_with = "running")]
    data_dir: Option<PathBuf>,
    /// Connections; in the closed model, each has one payment under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    connections: u32,
    /// The open model: payments due each second, latencies counted from when they were due
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// How long to measure, in seconds, after the warm-up
    #[arg(long, default_value_t = 10, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// Time before that, in seconds, that does not count
    #[arg(long, default_value_t = 2, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(0..=600))]
    warm_up: u64,
    /// This many payments instead, all of which count
    #[arg(long, conflicts_with_all = ["duration", "warm_up"])]
    count: Option<NonZeroU64>,
    /// Whether payments are captured at once
    #[arg(long, value_enum, default_value_t = Capture::Automatic)]
    capture: Capture,
    /// How long to measure the echo limit, in seconds; 0 to leave it out
    #[arg(long, default_value_t = 5, value_name = "SECONDS")]
    echo: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Capture {
    /// Authorized and captured: two steps in the ledger
    Automatic,
    /// Authorized only
    Manual,
}

impl Capture {
    const fn method(self) -> &'static str {
        match self {
            Self::Automatic => "AUTOMATIC",
            Self::Manual => "MANUAL",
        }
    }

    /// The state that a payment on an approving card ends in.
    const fn expected(self) -> &'static str {
        match self {
            Self::Automatic => "CAPTURED",
            Self::Manual => "AUTHORIZED",
        }
    }
}

/// A run with more failures than this has nothing to measure, and ends.
const FAILURES_MAX: u64 = 100;

impl PaymentsArgs {
    fn plan(&self) -> Plan {
        let (warm_up, measured) = (Duration::from_secs(self.warm_up), Duration::from_secs(self.duration));
        Plan {
            capture: self.capture,
            bound: self.count.map_or(Bound::Time { warm_up, measured }, |count| Bound::Count(count.get())),
            pace: self.rate.map_or(Pace::Closed, Pace::Open),
            connections: self.connections,
        }
    }
}

/// `bench payments`.
pub(crate) fn run(args: &PaymentsArgs) -> Result<(), BenchError> {
    // Alone on the machine: before the mesh is started, or while it is idle.
    let limit = match args.echo {
        0 => None,
        seconds => {
            eprintln!("measuring the echo limit ...");
            Some(echo::limit(Duration::from_secs(seconds))?)
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("a runtime"))?;
    eprintln!("starting the mesh, or finding it ...");
    // From here on there is something to clear away, so a signal ends the run instead of the process.
    let mut signals = runtime.block_on(async { Signals::catch() })?;
    let target = runtime.block_on(signals.unless_any(Target::find_or_start(args)))?;
    let outcome = runtime.block_on(signals.unless_any(measure(&target, args.plan())));
    // In order, also after a failure; dropping it instead would kill it.
    let stopped = runtime.block_on(signals.unless_any(target.stop()));
    let (outcome, sync) = outcome?;
    print(args.plan(), &outcome, limit.as_ref(), sync.as_ref());
    stopped?;
    outcome.verdict(args.capture)
}

/// The payments, and what the disk under them takes.
async fn measure(target: &Target, plan: Plan) -> Result<(Outcome, Option<Histogram<u64>>), BenchError> {
    let sync = target.data_dir().map(disk::fdatasync_us).transpose()?;
    eprintln!("making payments ...");
    let before = target.pid().and_then(cpu::used_by);
    let mut outcome = drive(&target.edge, plan).await?;
    let after = target.pid().and_then(cpu::used_by);
    outcome.figures.cpu_per_request = report::per_request(before, after, outcome.all);
    Ok((outcome, sync))
}

fn print(plan: Plan, outcome: &Outcome, limit: Option<&Figures>, sync: Option<&Histogram<u64>>) {
    let model = match plan.pace {
        Pace::Closed => "closed model".to_owned(),
        Pace::Open(rate) => format!("open model, {rate} due a second"),
    };
    println!("payments through the edge (HTTP/1.1), {} connections, {model}", plan.connections);
    println!("{}", report::HEAD);
    println!("{}", report::row("payments", &outcome.figures));
    if let Some(limit) = limit {
        println!("{}", report::row("echo limit (bare)", limit));
        println!("payments / echo limit: {}", report::ratio(from_ref(&outcome.figures), from_ref(limit)));
    }
    if let Some(sync) = sync {
        let (p50, p99) = (report::ms_at(sync, 0.5), report::ms_at(sync, 0.99));
        println!("fdatasync of 4 KiB on the data directory's disk: p50 {p50}, p99 {p99}");
    }
    println!("answers: {}", outcome.counted());
}

/// What came of a run.
#[derive(Debug)]
struct Outcome {
    figures: Figures,
    /// Answers that were as expected, whether they count for the figures or not.
    all: u64,
    /// Every kind of answer with how often it came.
    answers: BTreeMap<String, u64>,
}

impl Outcome {
    fn counted(&self) -> String {
        let kinds: Vec<_> = self.answers.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }
    }

    /// A run in which any payment ended otherwise is a failed run, whatever its figures.
    fn verdict(&self, capture: Capture) -> Result<(), BenchError> {
        let expected = capture.expected();
        if self.all > 0 && self.answers.keys().all(|kind| kind == expected) {
            return Ok(());
        }
        Err(BenchError::Edge(format!(
            "every payment should be {expected}, but the answers were: {}",
            self.counted()
        )))
    }
}

/// What is asked of a run.
#[derive(Debug, Clone, Copy)]
struct Plan {
    capture: Capture,
    bound: Bound,
    pace: Pace,
    connections: u32,
}

/// Makes tokens and connections, none of which is measured, and then the payments.
async fn drive(edge: &Edge, plan: Plan) -> Result<Outcome, BenchError> {
    let mut first = edge.connect().await?;
    let tokens = first.make_tokens().await?;
    let mut connections = vec![first];
    while connections.len() < plan.connections as usize {
        connections.push(edge.connect().await?);
    }
    let load = Arc::new(Load {
        edge: edge.clone(),
        tokens,
        capture: plan.capture,
        run: Run::new(plan.bound, plan.pace, Instant::now()),
        answers: Mutex::default(),
    });
    let mut workers = JoinSet::new();
    for connection in connections {
        workers.spawn(Arc::clone(&load).work(connection));
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|_| BenchError::Panicked)??;
    }
    let answers = load.answers.lock().unwrap_or_else(PoisonError::into_inner).clone();
    Ok(Outcome { figures: load.run.figures(), all: load.run.all(), answers })
}

/// What all workers of a run share.
struct Load {
    edge: Edge,
    /// At least one.
    tokens: Vec<String>,
    capture: Capture,
    run: Run,
    answers: Mutex<BTreeMap<String, u64>>,
}

impl Load {
    async fn work(self: Arc<Self>, mut connection: Connection) -> Result<(), BenchError> {
        while let Some((number, due)) = self.run.next(Instant::now()) {
            tokio::time::sleep_until(due.into()).await;
            let turn = usize::try_from(number).unwrap_or(0) % self.tokens.len();
            let token = &self.tokens[turn];
            match connection.pay(number, token, self.capture.method()).await {
                Ok(status) if status == self.capture.expected() => {
                    self.run.answered(due, Instant::now());
                    self.count(status);
                }
                Ok(other) => self.fail(other)?,
                Err(error) => {
                    self.fail(error.to_string())?;
                    connection = self.edge.connect().await?;
                }
            }
        }
        Ok(())
    }

    fn count(&self, kind: String) {
        *self.answers.lock().unwrap_or_else(PoisonError::into_inner).entry(kind).or_default() += 1;
    }

    fn fail(&self, kind: String) -> Result<(), BenchError> {
        self.count(kind);
        let expected = self.capture.expected();
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let failures: u64 =
            answers.iter().filter(|(kind, _)| *kind != expected).map(|(_, count)| *count).sum();
        if failures <= FAILURES_MAX {
            return Ok(());
        }
        let kinds: Vec<_> = answers.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        Err(BenchError::Edge(format!("more than {FAILURES_MAX} payments failed: {}", kinds.join(", "))))
    }
}

#[cfg(test)]
mod tests;
