//! The edge's hop: REST in, mTLS gRPC out, beside the echo limit and beside the same call without the edge.
//!
//! What is behind the edge answers at once, so that the hop itself is what is measured.

mod client;
mod stand_in;

use std::time::Duration;

use clap::Args;
use edge_gateway::{ApiKeyConfig, Edge, EdgeConfig};
use mesh::{Harness, Running, StartError};
use tempfile::TempDir;

use crate::echo;
use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};
use crate::{cpu, edge::client::Case};

/// The least part of the echo limit that the hop should reach.
const RATIO_MIN: f64 = 0.4;
/// The most that the hop should add to a call at p50 when nothing else is under way.
const ADDED_MAX: Duration = Duration::from_micros(150);
const WARM_UP: Duration = Duration::from_secs(1);
const API_KEY: &str = "bench-key-for-the-edge";

/// Measure the edge's hop: REST in, mTLS gRPC out
///
/// Payments are created at the edge over HTTP/1.1 and answered at once by a stand-in for svc-payments
/// behind mTLS: what is left is the edge itself, with key, limits, JSON both ways, and the call. Beside it
/// in the same run: the echo limit, and the same call made directly, without the edge.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// How long to measure each case, in seconds, after a second of warm-up
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// How often to measure each, in turn; the median round is reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Connections to the edge; each has one request under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    connections: u32,
}

/// `bench edge`.
pub(crate) fn run(args: &EdgeArgs) -> Result<(), BenchError> {
    let measured = Duration::from_secs(args.duration);
    println!("POST /v1/payments at the edge (HTTP/1.1), answered at once by a stand-in behind mTLS");
    println!("{}", report::HEAD);
    let (mut limits, mut hops, mut direct_idle, mut hop_idle) = (vec![], vec![], vec![], vec![]);
    for _ in 0..args.rounds {
        let limit = echo::limit(measured)?;
        println!("{}", report::row("echo limit (bare)", &limit));
        limits.push(limit);
        let ground = Ground::start()?;
        let bound = Bound::Time { warm_up: WARM_UP, measured };
        let cases = [
            ("edge", Case::Edge, args.connections, &mut hops),
            ("direct, one at a time", Case::Direct, 1, &mut direct_idle),
            ("edge, one at a time", Case::Edge, 1, &mut hop_idle),
        ];
        for (name, case, connections, rounds) in cases {
            let figures = ground.measure(case, connections, bound)?;
            println!("{}", report::row(name, &figures));
            rounds.push(figures);
        }
        ground.stop();
    }
    if let (Some(limit), Some(hop)) = (report::median(limits), report::median(hops)) {
        println!("edge / echo limit: {} (goal: at least {RATIO_MIN})", report::ratio(&hop, &limit));
    }
    if let (Some(direct), Some(hop)) = (report::median(direct_idle), report::median(hop_idle)) {
        let added = p50(&hop).saturating_sub(p50(&direct));
        println!("added when idle, p50: {} µs (goal: under {})", added.as_micros(), ADDED_MAX.as_micros());
    }
    Ok(())
}

fn p50(figures: &Figures) -> Duration {
    Duration::from_micros(figures.latencies_us.value_at_quantile(0.5))
}

/// A running edge and the stand-in behind it, on the mesh's own runtime.
struct Ground {
    runtime: tokio::runtime::Runtime,
    harness: Harness,
    stand_in: Running,
    edge: Running,
    url: String,
    _directory: TempDir,
}

impl Ground {
    fn start() -> Result<Self, BenchError> {
        let directory = tempfile::tempdir().map_err(BenchError::io("a temporary directory"))?;
        let mut harness = Harness::new(directory.path())?;
        let runtime = mesh::run::runtime()?;
        let (stand_in, edge, url, harness) = runtime.block_on(async {
            let stand_in = harness.start::<stand_in::Payments>(()).await?;
            for absent in ["svc-crypto", "svc-ledger", "svc-tax"] {
                harness.add_upstream(absent, "127.0.0.1:9");
            }
            let listener =
                mesh::server::bind(([127, 0, 0, 1], 0).into()).map_err(StartError::io("a free port"))?;
            let address = listener.local_addr().map_err(StartError::io("the edge's address"))?;
            let tenant = "bench".parse().map_err(|_| StartError::Config("the tenant".to_owned()))?;
            let config = EdgeConfig {
                listener: Some(listener),
                api_keys: vec![ApiKeyConfig::of_key(tenant, "bench", API_KEY)],
                ..EdgeConfig::default()
            };
            let edge = harness.start::<Edge>(config).await?;
            Ok::<_, StartError>((stand_in, edge, format!("http://{address}"), harness))
        })?;
        Ok(Self { runtime, harness, stand_in, edge, url, _directory: directory })
    }

    fn measure(&self, case: Case, connections: u32, bound: Bound) -> Result<Figures, BenchError> {
        // Its connections are the runtime's, as those of a service are.
        let _within = self.runtime.enter();
        let upstream = self.harness.upstream("edge-gateway", &self.stand_in)?;
        let before = cpu::used_here();
        let (mut figures, all) = client::drive(case, &self.url, API_KEY, upstream, connections, bound)?;
        figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
        Ok(figures)
    }

    fn stop(self) {
        self.runtime.block_on(async {
            self.edge.stop().await;
            self.stand_in.stop().await;
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_lead_to_the_stand_in() {
        let ground = Ground::start().unwrap();
        for case in [Case::Edge, Case::Direct] {
            let figures = ground.measure(case, 2, Bound::Count(100)).unwrap();
            assert_eq!(figures.latencies_us.len(), 100, "{case:?}");
        }
        ground.stop();
    }
}
