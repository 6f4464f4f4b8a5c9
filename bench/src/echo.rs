//! The echo limit: how many unary calls over mTLS this machine allows, bare and behind the mesh's stack.
//!
//! Both cases have the same client, messages and certificates, so their ratio is the price of the stack
//! and of the runtime that the mesh runs on.

pub(crate) mod client;
pub(crate) mod server;

use std::time::Duration;

use clap::{Args, ValueEnum};
use mesh::{Harness, SpiffeId, tls::Identity};

use crate::cpu;
use crate::echo::client::{Peers, Shape, Via};
use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};

/// Measure unary gRPC calls over mTLS: the limit, and behind the mesh's stack
///
/// A 64-byte message is sent and comes back. `bare` is the fastest configuration known: the generated
/// service on hyper's HTTP/2, a current_thread runtime per core with SO_REUSEPORT, TCP_NODELAY and
/// mimalloc. `mesh` is the same service behind policy, metadata, deadline, span and metrics, on the
/// runtime of every service. Server and client share this machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct EchoArgs {
    /// What to measure
    #[arg(long, value_enum, default_value_t = Stack::Both)]
    stack: Stack,
    /// How long to measure, in seconds, after a second of warm-up
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// How often to measure each, in turn; the median round is reported
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// What the mesh's stack logs: `info` as a service does, `warn` as `paymesh dev` does. Each call has a
    /// span either way.
    #[arg(long, default_value = "info")]
    log: String,
    /// What the client calls through; more than one are measured in turn
    #[arg(long, value_enum, num_args = 1.., default_values_t = [Via::Connection])]
    via: Vec<Via>,
    #[command(flatten)]
    shape: Shape,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Stack {
    /// The limit
    Bare,
    /// Behind the mesh's own stack, on its runtime
    Mesh,
    /// Both, and their ratio
    Both,
}

pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
/// The workload that echoes, and the one that calls it; the mesh's policy lets it.
const SERVER: &str = "echo";
const CALLER: &str = "operator";

/// `bench echo`.
pub(crate) fn run(args: &EchoArgs) -> Result<(), BenchError> {
    args.shape.check()?;
    let pki = Pki::create()?;
    let bound = Bound::Time { warm_up: WARM_UP, measured: Duration::from_secs(args.duration) };
    let _telemetry = if args.stack == Stack::Bare { None } else { Some(server::telemetry(&args.log)?) };
    println!("{}", args.shape);
    println!("{}", report::HEAD);
    let (mut bare, mut behind_mesh) = (Vec::new(), Vec::new());
    for _ in 0..args.rounds {
        for via in &args.via {
            if args.stack != Stack::Mesh {
                let figures = measure_bare(&pki, *via, &args.shape, bound)?;
                println!("{}", report::row(&format!("bare{}", via.name()), &figures));
                bare.push((*via, figures));
            }
            if args.stack != Stack::Bare {
                let figures = measure_mesh(&pki, *via, &args.shape, bound)?;
                println!("{}", report::row(&format!("mesh{}", via.name()), &figures));
                behind_mesh.push((*via, figures));
            }
        }
    }
    for via in &args.via {
        let of = |all: &[(Via, Figures)]| {
            report::median(
                all.iter().filter(|(of, _)| of == via).map(|(_, figures)| figures.clone()).collect(),
            )
        };
        if let (Some(bare), Some(behind_mesh)) = (of(&bare), of(&behind_mesh)) {
            println!("mesh / bare{}: {}", via.name(), report::ratio(&behind_mesh, &bare));
        }
    }
    Ok(())
}

/// The limit alone, as the measure beside another figure of the same run.
pub(crate) fn limit(measured: Duration) -> Result<Figures, BenchError> {
    let shape = Shape::default();
    measure_bare(&Pki::create()?, Via::Connection, &shape, Bound::Time { warm_up: WARM_UP, measured })
}

fn measure_bare(pki: &Pki, via: Via, shape: &Shape, bound: Bound) -> Result<Figures, BenchError> {
    let server = server::Bare::start(shape.server_threads(), &pki.server()?.server_config()?)?;
    measure(server.address(), pki, via, shape, bound)
}

fn measure_mesh(pki: &Pki, via: Via, shape: &Shape, bound: Bound) -> Result<Figures, BenchError> {
    let server = server::BehindMesh::start(pki.directory.path())?;
    let figures = measure(server.address(), pki, via, shape, bound)?;
    server.stop();
    Ok(figures)
}

fn measure(
    address: std::net::SocketAddr,
    pki: &Pki,
    via: Via,
    shape: &Shape,
    bound: Bound,
) -> Result<Figures, BenchError> {
    let before = cpu::used_here();
    let (mut figures, all) = client::drive(&pki.peers(address)?, via, shape, bound)?;
    figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
    Ok(figures)
}

/// A CA and its certificates, for as long as the measurement takes.
pub(crate) struct Pki {
    pub(crate) directory: tempfile::TempDir,
    harness: Harness,
}

impl Pki {
    pub(crate) fn create() -> Result<Self, BenchError> {
        let directory = tempfile::tempdir().map_err(BenchError::io("a temporary directory"))?;
        let harness = Harness::new(directory.path())?;
        Ok(Self { directory, harness })
    }

    fn server(&self) -> Result<Identity, BenchError> {
        Ok(Identity::load(&self.harness.certificate(SERVER)?)?)
    }

    pub(crate) fn peers(&self, address: std::net::SocketAddr) -> Result<Peers, BenchError> {
        let caller = Identity::load(&self.harness.certificate(CALLER)?)?;
        Ok(Peers { caller, server: SpiffeId::of(SERVER)?, address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stacks_echo_every_call_over_mtls() {
        let shape = Shape::default();
        let pki = Pki::create().unwrap();
        for via in [Via::Connection, Via::Channel, Via::Upstream] {
            for measure in [measure_bare, measure_mesh] {
                let figures = measure(&pki, via, &shape, Bound::Count(1_000)).unwrap();
                assert_eq!(figures.latencies_us.len(), 1_000);
            }
        }
    }

    #[test]
    fn a_caller_that_policy_does_not_name_gets_no_echo_from_the_mesh() {
        let pki = Pki::create().unwrap();
        let server = server::BehindMesh::start(pki.directory.path()).unwrap();
        let stranger = Identity::load(&pki.harness.certificate("svc-tax").unwrap()).unwrap();
        let peers = Peers { caller: stranger, ..pki.peers(server.address()).unwrap() };
        let error = client::drive(&peers, Via::Connection, &Shape::default(), Bound::Count(10)).unwrap_err();
        assert!(matches!(error, BenchError::Echo(_)), "{error}");
    }
}
