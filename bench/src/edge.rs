//! The edge's hop: REST in, mTLS gRPC out, beside the echo limit and beside the same call without the edge.
//!
//! What is behind the edge answers at once, so that the hop itself is what is measured.

mod bare_hop;
mod client;
pub(crate) mod stand_in;

use std::time::Duration;

use clap::Args;
use edge_gateway::{ApiKeyConfig, Edge, EdgeConfig};
use http::Version;
use mesh::{Harness, Running, StartError};
use tempfile::TempDir;

use crate::echo;
use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};
use crate::{
    cpu,
    edge::{
        bare_hop::BareHop,
        client::Case,
        stand_in::{Capacity, Payments},
    },
};

/// The least part of the echo limit that the hop should reach.
const RATIO_MIN: f64 = 0.4;
/// The most that the hop should add to a call at p50 when nothing else is under way.
const ADDED_MAX: Duration = Duration::from_micros(150);
const WARM_UP: Duration = Duration::from_secs(1);
pub(crate) const API_KEY: &str = "bench-key-for-the-edge";

/// Measure the edge's hop: REST in, mTLS gRPC out
///
/// Payments are created at the edge, over HTTP/1.1 and over HTTP/2, and answered at once by a stand-in for svc-payments
/// behind mTLS: what is left is the edge itself, with key, limits, JSON both ways, and the call. Beside it
/// in the same run: the echo limit; a bare hop, which passes a body on to the bare echo and does nothing
/// else, as the limit of what any hop can do; and the edge's call made directly, without the edge.
#[derive(Debug, Args)]
pub(crate) struct EdgeArgs {
    /// How long to measure each case, in seconds, after a second of warm-up
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// How often to measure each, in turn; the median of the rounds' ratios is reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Connections over HTTP/1.1; each has one request under way
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4_096))]
    connections: u32,
    /// Requests under way over HTTP/2, on four connections as in the echo
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=800))]
    in_flight: u32,
}

/// `bench edge`.
pub(crate) fn run(args: &EdgeArgs) -> Result<(), BenchError> {
    let measured = Duration::from_secs(args.duration);
    println!("POST /v1/payments at the edge, answered at once by a stand-in behind mTLS");
    println!("{}", report::HEAD);
    let (mut limits, mut direct_idle, mut hop_idle) = (vec![], vec![], vec![]);
    let ways = [("", Version::HTTP_11, args.connections), (", HTTP/2", Version::HTTP_2, args.in_flight)];
    let mut hops = ways.map(|way| (way, vec![], vec![]));
    let bound = Bound::Time { warm_up: WARM_UP, measured };
    let note = |name: &str, figures: Figures, rounds: &mut Vec<Figures>| {
        println!("{}", report::row(name, &figures));
        rounds.push(figures);
    };
    for _ in 0..args.rounds {
        note("echo limit (bare)", echo::limit(measured)?, &mut limits);
        let bare_hop = BareHop::start()?;
        for ((name, version, in_flight), bare, _) in &mut hops {
            let figures = rest(&bare_hop.url, *version, *in_flight, bound)?;
            note(&format!("bare hop{name}"), figures, bare);
        }
        drop(bare_hop);
        let ground = Ground::start(Capacity::default(), EdgeConfig::default())?;
        for ((name, version, in_flight), _, edge) in &mut hops {
            let figures = rest(&ground.url, *version, *in_flight, bound)?;
            note(&format!("edge{name}"), figures, edge);
        }
        note("direct, one at a time", ground.direct(1, bound)?, &mut direct_idle);
        note("edge, one at a time", rest(&ground.url, Version::HTTP_11, 1, bound)?, &mut hop_idle);
        ground.stop();
    }
    for ((name, ..), bare, edge) in &hops {
        println!("edge{name} / echo limit: {} (goal: at least {RATIO_MIN})", report::ratio(edge, &limits));
        println!("bare hop{name} / echo limit: {}", report::ratio(bare, &limits));
        println!("edge{name} / bare hop{name}: {}", report::ratios(edge, bare));
    }
    if let Some(added) = report::added_p50(&hop_idle, &direct_idle) {
        println!("added when idle, p50: {} µs (goal: under {})", added.as_micros(), ADDED_MAX.as_micros());
    }
    Ok(())
}

/// Drives a hop over REST.
fn rest(url: &str, version: Version, in_flight: u32, bound: Bound) -> Result<Figures, BenchError> {
    metered(|| client::drive(&Case::Rest { url, api_key: API_KEY, version }, in_flight, bound))
}

/// With the CPU time of all that runs here.
fn metered(drive: impl FnOnce() -> Result<(Figures, u64), BenchError>) -> Result<Figures, BenchError> {
    let before = cpu::used_here();
    let (mut figures, all) = drive()?;
    figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
    Ok(figures)
}

/// A running edge and the stand-in behind it, on the mesh's own runtime.
pub(crate) struct Ground {
    runtime: tokio::runtime::Runtime,
    harness: Harness,
    stand_in: Running,
    edge: Running,
    pub(crate) url: String,
    _directory: TempDir,
}

impl Ground {
    pub(crate) fn start(capacity: Capacity, config: EdgeConfig) -> Result<Self, BenchError> {
        let directory = tempfile::tempdir().map_err(BenchError::io("a temporary directory"))?;
        let mut harness = Harness::new(directory.path())?;
        let runtime = mesh::run::runtime()?;
        let (stand_in, edge, url, harness) = runtime.block_on(async {
            let stand_in = harness.start::<Payments>(capacity).await?;
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
                ..config
            };
            let edge = harness.start::<Edge>(config).await?;
            Ok::<_, StartError>((stand_in, edge, format!("http://{address}"), harness))
        })?;
        Ok(Self { runtime, harness, stand_in, edge, url, _directory: directory })
    }

    /// Makes the edge's own call without it.
    fn direct(&self, connections: u32, bound: Bound) -> Result<Figures, BenchError> {
        // Its connections are the runtime's, as those of a service are.
        let _within = self.runtime.enter();
        let upstream = self.harness.upstream("edge-gateway", &self.stand_in)?;
        metered(|| client::drive(&Case::Direct(upstream), connections, bound))
    }

    pub(crate) fn stop(self) {
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
    fn all_ways_lead_to_an_answer() {
        let (ground, bare_hop, bound) = (
            Ground::start(Capacity::default(), EdgeConfig::default()).unwrap(),
            BareHop::start().unwrap(),
            Bound::Count(100),
        );
        let figures = ground.direct(2, bound).unwrap();
        assert_eq!(figures.latencies_us.len(), 100);
        for version in [Version::HTTP_11, Version::HTTP_2] {
            for url in [&ground.url, &bare_hop.url] {
                let figures = rest(url, version, 6, bound).unwrap();
                assert_eq!(figures.latencies_us.len(), 100, "{url} {version:?}");
            }
        }
        ground.stop();
    }
}
