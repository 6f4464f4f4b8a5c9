//! The echo limit: how many unary calls over mTLS this machine allows, bare and behind the mesh's stack.
//!
//! Both cases have the same client, messages and certificates, so their ratio is the price of the stack
//! and of the runtime that the mesh runs on.

mod client;
mod server;

use std::time::Duration;

use clap::{Args, ValueEnum};
use mesh::{Harness, SpiffeId, tls::Identity};

use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};
use crate::{cpu, echo::client::Shape};

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

const WARM_UP: Duration = Duration::from_secs(1);
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
        if args.stack != Stack::Mesh {
            let figures = measure_bare(&pki, &args.shape, bound)?;
            println!("{}", report::row("bare", &figures));
            bare.push(figures);
        }
        if args.stack != Stack::Bare {
            let figures = measure_mesh(&pki, &args.shape, bound)?;
            println!("{}", report::row("mesh", &figures));
            behind_mesh.push(figures);
        }
    }
    if let (Some(bare), Some(behind_mesh)) = (report::median(bare), report::median(behind_mesh)) {
        println!("mesh / bare: {}", report::ratio(&behind_mesh, &bare));
    }
    Ok(())
}

/// The limit alone, as the measure beside another figure of the same run.
pub(crate) fn limit(measured: Duration) -> Result<Figures, BenchError> {
    let shape = Shape::default();
    measure_bare(&Pki::create()?, &shape, Bound::Time { warm_up: WARM_UP, measured })
}

fn measure_bare(pki: &Pki, shape: &Shape, bound: Bound) -> Result<Figures, BenchError> {
    let server = server::Bare::start(shape.server_threads(), &pki.server()?.server_config())?;
    measure(server.address(), pki, shape, bound)
}

fn measure_mesh(pki: &Pki, shape: &Shape, bound: Bound) -> Result<Figures, BenchError> {
    let server = server::BehindMesh::start(pki.directory.path())?;
    let figures = measure(server.address(), pki, shape, bound)?;
    server.stop();
    Ok(figures)
}

fn measure(
    address: std::net::SocketAddr,
    pki: &Pki,
    shape: &Shape,
    bound: Bound,
) -> Result<Figures, BenchError> {
    let before = cpu::used_here();
    let tls = pki.caller()?.client_config(&SpiffeId::of(SERVER)?)?;
    let (mut figures, all) = client::drive(address, &tls, shape, bound)?;
    figures.cpu_per_request = report::per_request(before, cpu::used_here(), all);
    Ok(figures)
}

/// A CA and its certificates, for as long as the measurement takes.
struct Pki {
    directory: tempfile::TempDir,
    harness: Harness,
}

impl Pki {
    fn create() -> Result<Self, BenchError> {
        let directory = tempfile::tempdir().map_err(BenchError::io("a temporary directory"))?;
        let harness = Harness::new(directory.path())?;
        Ok(Self { directory, harness })
    }

    fn server(&self) -> Result<Identity, BenchError> {
        Ok(Identity::load(&self.harness.certificate(SERVER)?)?)
    }

    fn caller(&self) -> Result<Identity, BenchError> {
        Ok(Identity::load(&self.harness.certificate(CALLER)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_stacks_echo_every_call_over_mtls() {
        let shape = Shape::default();
        let pki = Pki::create().unwrap();
        for measure in [measure_bare, measure_mesh] {
            let figures = measure(&pki, &shape, Bound::Count(1_000)).unwrap();
            assert_eq!(figures.latencies_us.len(), 1_000);
        }
    }

    #[test]
    fn a_caller_that_policy_does_not_name_gets_no_echo_from_the_mesh() {
        let pki = Pki::create().unwrap();
        let server = server::BehindMesh::start(pki.directory.path()).unwrap();
        let stranger = Identity::load(&pki.harness.certificate("svc-tax").unwrap()).unwrap();
        let tls = stranger.client_config(&SpiffeId::of(SERVER).unwrap()).unwrap();
        let error = client::drive(server.address(), &tls, &Shape::default(), Bound::Count(10)).unwrap_err();
        assert!(matches!(error, BenchError::Echo(_)), "{error}");
    }
}
