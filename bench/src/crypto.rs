//! svc-crypto from outside: single encryptions, batches, streams, a coalescing client, and encryption on the spot.
//!
//! Client and service share the machine and this process; between them is mTLS, as between services. Every answer
//! is given when its record is in the audit log, on disk.

mod allocations;
mod ground;
mod keys;
mod local;
mod stream;
mod unary;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use paymesh_proto::crypto::v1::operation::Verb;
use paymesh_proto::crypto::v1::outcome::Result as Outcome;
use paymesh_proto::crypto::v1::{EncryptRequest, EncryptResponse, Operation};

use crate::crypto::ground::Ground;
use crate::crypto::unary::Travel;
use crate::echo::{self, WARM_UP, telemetry};
use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};
use crate::{cpu, disk};

/// How long a call may take. It is never reached by a service that works.
const DEADLINE: Duration = Duration::from_secs(60);
/// The service's most in one call.
const PER_CALL_MAX: u32 = 1_024;
/// The key that everything is encrypted under.
const KEY: &str = "payments.bench";
/// What it is bound to.
const AAD: &[u8] = b"bench/field/1";

/// Measure svc-crypto: single encryptions, batches, streams, and encryption on the spot
///
/// The service runs behind mTLS, its data in a directory of its own that is removed afterwards. Every answer is given
/// when its record is in the audit log on disk; beside each round stands the p50 of fdatasync on that disk.
///
/// Examples:
///   bench crypto                                          all cases, 5 s each
///   bench crypto --case unary --rounds 5                  beside the echo limit of the same run
///   bench crypto --case batch --callers 1,2,4,8           how many callers are best
///   bench crypto --case keys                              memory with 10,000 keys of 10 versions
#[derive(Debug, Clone, Args)]
#[command(verbatim_doc_comment)]
pub(crate) struct CryptoArgs {
    /// What to measure, in this order
    #[arg(long = "case", value_enum, value_delimiter = ',', value_name = "CASES",
        default_values_t = [Case::Unary, Case::Coalesced, Case::Batch, Case::Stream, Case::Local])]
    cases: Vec<Case>,
    /// How long to measure each, in seconds, after a second of warm-up
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// This many calls of each case instead, all of which count (not of `local` and `keys`)
    #[arg(long, conflicts_with = "duration", value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    calls: Option<u64>,
    /// How often to measure each, in turn; the median of the rounds' ratios is reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Bytes in a plaintext of `unary`; several are measured in turn
    #[arg(long, default_values_t = [64, 1_024], value_delimiter = ',', value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    bytes: Vec<u32>,
    /// Single encryptions under way at once
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// Connections that single encryptions share
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Callers of batches, each with one under way, and of streams; several numbers are measured in turn
    #[arg(long, default_values_t = [4], value_delimiter = ',', value_parser = clap::value_parser!(u32).range(1..=256))]
    callers: Vec<u32>,
    /// Encryptions of 64 bytes in a batch, and in a message of a stream
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=i64::from(PER_CALL_MAX)))]
    per_call: u32,
    /// Messages that a stream has under way
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    window: u32,
    /// Bytes in a plaintext of `local`
    #[arg(long, default_value_t = 16_384, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
    local_bytes: u32,
    /// Keys that `keys` makes
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    keys: u32,
    /// Versions of each
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    versions: u32,
    /// Where the service's directory is made; its disk is the one that is measured [default: beside this program]
    #[arg(long, value_name = "DIRECTORY")]
    data_dir: Option<PathBuf>,
    /// What the mesh's stack logs
    #[arg(long, default_value = "info")]
    log: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    /// One encryption a call, each an RPC of its own, beside the echo of as many bytes
    Unary,
    /// One encryption a call, gathered into batches by the client crate
    Coalesced,
    /// --per-call encryptions a call
    Batch,
    /// The same over bidirectional streams
    Stream,
    /// Encryption in the client with a cached data key, beside bare ring, both on one thread
    Local,
    /// Memory and calls with --keys keys of --versions versions
    Keys,
    /// How often memory is asked for in a call (needs a program that counts: `--features allocations`)
    Allocations,
}

/// `bench crypto`.
pub(crate) fn run(args: &CryptoArgs) -> Result<(), BenchError> {
    let parent = match &args.data_dir {
        Some(directory) => directory.clone(),
        None => disk::beside_this_program()?,
    };
    let _telemetry = telemetry::start(&args.log)?;
    let mut bench = Bench { args, parent, rows: Vec::new() };
    println!("svc-crypto behind mTLS in {}, every answer on record first", bench.parent.display());
    println!("{HEAD}");
    for _ in 0..args.rounds {
        bench.round()?;
    }
    bench.compare();
    Ok(())
}

/// What all cases share, and what they came to.
struct Bench<'a> {
    args: &'a CryptoArgs,
    parent: PathBuf,
    rows: Vec<(String, u32, Figures)>,
}

impl Bench<'_> {
    /// Each case once.
    fn round(&mut self) -> Result<(), BenchError> {
        for case in &self.args.cases {
            match case {
                Case::Unary => self.unary()?,
                Case::Coalesced => self.coalesced()?,
                Case::Batch => self.batches("batch", unary::drive_batches)?,
                Case::Stream => self.batches("stream", stream::drive)?,
                Case::Local => local::compare(&self.parent, self.args.local_bytes, self.args.duration)?,
                Case::Allocations => {
                    let ground = Ground::start(&self.parent)?;
                    allocations::measure(&ground, self.args.per_call)?;
                    ground.stop();
                }
                Case::Keys => keys::measure(&self.parent, self.args.keys, self.args.versions)?,
            }
        }
        Ok(())
    }

    fn unary(&mut self) -> Result<(), BenchError> {
        let (connections, in_flight) = (self.args.connections, self.args.in_flight);
        for bytes in &self.args.bytes {
            let shape = echo::Shape::of(connections, (in_flight / connections).max(1));
            let [bare, metadata] = echo::limits_of(&shape.with_payload(*bytes), self.bound())?;
            self.add(format!("echo of {bytes}"), 1, bare);
            self.add(format!("echo of {bytes}, metadata"), 1, metadata);
            self.single(format!("unary of {bytes}"), *bytes, Travel::Alone(connections))?;
        }
        Ok(())
    }

    fn coalesced(&mut self) -> Result<(), BenchError> {
        self.single("coalesced".to_owned(), 64, Travel::Coalesced)
    }

    fn single(&mut self, name: String, bytes: u32, travel: Travel) -> Result<(), BenchError> {
        let ground = Ground::start(&self.parent)?;
        let before = cpu::used_here();
        let (mut figures, all) = unary::drive(&ground, bytes, self.args.in_flight, travel, self.bound())?;
        figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
        ground.stop();
        self.add(name, 1, figures);
        Ok(())
    }

    fn batches(&mut self, name: &str, drive: Drive) -> Result<(), BenchError> {
        for callers in &self.args.callers {
            let ground = Ground::start(&self.parent)?;
            let shape =
                BatchShape { callers: *callers, per_call: self.args.per_call, window: self.args.window };
            let before = cpu::used_here();
            let (mut figures, all) = drive(&ground, shape, self.bound())?;
            figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
            ground.stop();
            self.add(format!("{name} x {callers}"), self.args.per_call, figures);
        }
        Ok(())
    }

    fn add(&mut self, name: String, per_call: u32, figures: Figures) {
        println!("{}", line(&name, per_call, &figures));
        self.rows.push((name, per_call, figures));
    }

    fn bound(&self) -> Bound {
        match self.args.calls {
            Some(calls) => Bound::Count(calls),
            None => Bound::Time { warm_up: WARM_UP, measured: Duration::from_secs(self.args.duration) },
        }
    }

    fn of(&self, name: &str) -> Vec<Figures> {
        self.rows.iter().filter(|(other, ..)| other == name).map(|(.., figures)| figures.clone()).collect()
    }

    /// Each case beside its goal.
    fn compare(&self) {
        for bytes in &self.args.bytes {
            let unary = self.of(&format!("unary of {bytes}"));
            for limit in [format!("echo of {bytes}"), format!("echo of {bytes}, metadata")] {
                let of_limit = self.of(&limit);
                if !unary.is_empty() && !of_limit.is_empty() {
                    println!(
                        "unary of {bytes} / {limit}: {} (goal: at least 0.9)",
                        report::ratios(&unary, &of_limit)
                    );
                }
            }
        }
        for (name, goal) in [("batch", 600_000), ("stream", 800_000)] {
            let rates = self.rows.iter().filter(|(row, ..)| row.starts_with(name)).map(rate_of);
            if let Some(best) = rates.max_by(f64::total_cmp) {
                println!("{name}: {} encryptions/s at best (goal: at least {goal})", report::grouped(best));
            }
        }
    }
}

/// How batches are sent.
#[derive(Debug, Clone, Copy)]
struct BatchShape {
    callers: u32,
    per_call: u32,
    /// Messages that a stream has under way.
    window: u32,
}

/// Figures of calls, and the number of all that were answered.
type Drive = fn(&Ground, BatchShape, Bound) -> Result<(Figures, u64), BenchError>;

const HEAD: &str =
    "case                     encryptions/s      calls/s    p50 ms    p99 ms  CPU µs/encryption";

#[allow(clippy::float_arithmetic, reason = "rates for people; no amount is computed here")]
fn rate_of((_, per_call, figures): &(String, u32, Figures)) -> f64 {
    figures.rate() * f64::from(*per_call)
}

#[allow(clippy::float_arithmetic, reason = "rates for people; no amount is computed here")]
fn line(name: &str, per_call: u32, figures: &Figures) -> String {
    let ms = |quantile| figures.latencies_us.value_at_quantile(quantile) as f64 / 1_000.0;
    let cpu = figures.cpu_per_request.map_or_else(
        || "-".to_owned(),
        |cpu| format!("{:.2}", cpu.as_nanos() as f64 / 1_000.0 / f64::from(per_call)),
    );
    format!(
        "{name:24} {encryptions:>13} {calls:>12} {p50:9.2} {p99:9.2} {cpu:>18}",
        encryptions = report::grouped(figures.rate() * f64::from(per_call)),
        calls = report::grouped(figures.rate()),
        p50 = ms(0.5),
        p99 = ms(0.99),
    )
}

fn encrypt(plaintext: &Bytes) -> EncryptRequest {
    EncryptRequest {
        key_name: KEY.to_owned(),
        plaintext: plaintext.clone(),
        aad: Bytes::from_static(AAD),
        key_version: 0,
    }
}

fn operation(plaintext: &Bytes) -> Operation {
    Operation { verb: Some(Verb::Encrypt(encrypt(plaintext))), tenant: String::new() }
}

/// A call counts only if it was done: an envelope is longer than what is in it.
fn is_sealed(outcome: Option<&Outcome>, bytes: usize) -> Result<(), BenchError> {
    match outcome {
        Some(Outcome::Encrypted(answer)) => answered(answer, bytes),
        other => Err(BenchError::Crypto(format!("it was not encrypted: {other:?}"))),
    }
}

fn answered(answer: &EncryptResponse, bytes: usize) -> Result<(), BenchError> {
    if answer.ciphertext.len() > bytes {
        Ok(())
    } else {
        Err(BenchError::Crypto("the answer is no envelope".to_owned()))
    }
}

/// The runtime of all callers: one thread, as in the echo. The service has the rest of the machine.
fn caller() -> Result<tokio::runtime::Runtime, BenchError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::io("a runtime"))
}

#[cfg(test)]
mod tests;
