//! The echo limit: how many unary calls over mTLS this machine allows, bare and behind the mesh's stack.
//!
//! Both cases have the same client, messages and certificates, so their ratio is the price of the stack
//! and of the runtime that the mesh runs on.

mod client;
pub(crate) mod server;
pub(crate) mod telemetry;

use std::time::Duration;

use clap::{Args, ValueEnum};
use mesh::{Harness, SpiffeId, tls::Identity};

use crate::cpu;
use crate::error::BenchError;
use crate::load::Bound;
use crate::report::{self, Figures};

/// Measure unary gRPC calls over mTLS: the limit, and behind the mesh's stack
///
/// A message of 64 bytes, or as many as are asked for, is sent and comes back. `bare` is the fastest configuration known: the generated
/// service on hyper's HTTP/2, a current_thread runtime per core with SO_REUSEPORT, TCP_NODELAY and
/// mimalloc. `mesh` is the same service behind policy, metadata, deadline, span and metrics, on the
/// runtime of every service. Server and client share this machine.
#[derive(Debug, Clone, Args)]
pub(crate) struct EchoArgs {
    /// What to measure, in this order
    #[arg(long = "case", value_enum, value_delimiter = ',', value_name = "CASES",
        default_values_t = [Case::Bare, Case::Mesh, Case::BareMetadata, Case::MeshMetadata])]
    cases: Vec<Case>,
    /// How long to measure, in seconds, after a second of warm-up
    #[arg(long, default_value_t = 5, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=3_600))]
    duration: u64,
    /// How often to measure each, in turn; the median of the rounds' ratios is reported
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
enum Case {
    /// The limit
    Bare,
    /// The limit, with the metadata that a client of the mesh sends: tenant, request id, trace, deadline
    BareMetadata,
    /// Behind the mesh's own stack, on its runtime
    Mesh,
    /// The same, with the metadata
    MeshMetadata,
    /// Behind the mesh's own stack, on a runtime of one thread as `bare` has: the price of the stack alone
    MeshOneThread,
    /// The same, with the metadata
    MeshOneThreadMetadata,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::BareMetadata => "bare, metadata",
            Self::Mesh => "mesh",
            Self::MeshMetadata => "mesh, metadata",
            Self::MeshOneThread => "mesh on 1 thread",
            Self::MeshOneThreadMetadata => "mesh on 1 t., met.",
        }
    }

    fn has_metadata(self) -> bool {
        matches!(self, Self::BareMetadata | Self::MeshMetadata | Self::MeshOneThreadMetadata)
    }

    /// The case that shows what this one's stack costs, everything else being the same.
    fn limit(self) -> Option<Self> {
        match self {
            Self::Bare => None,
            Self::BareMetadata | Self::Mesh | Self::MeshOneThread => Some(Self::Bare),
            Self::MeshMetadata | Self::MeshOneThreadMetadata => Some(Self::BareMetadata),
        }
    }
}

pub(crate) const WARM_UP: Duration = Duration::from_secs(1);
/// The workload that echoes, and the one that calls it; the mesh's policy lets it.
pub(crate) const SERVER: &str = "echo";
pub(crate) const CALLER: &str = "operator";

pub(crate) use client::{Connection, EchoClient, PAYLOAD, Shape, connection, with_metadata};
pub(crate) use server::Bare;

/// A connection to an echo that runs in the harness.
pub(crate) async fn client_of(
    harness: &Harness,
    address: std::net::SocketAddr,
) -> Result<EchoClient, BenchError> {
    let caller = Identity::load(&harness.certificate(CALLER)?)?;
    client::connect(address, &caller.client_config(&SpiffeId::of(SERVER)?)?).await
}

/// `bench echo`.
pub(crate) fn run(args: &EchoArgs) -> Result<(), BenchError> {
    args.shape.check()?;
    let pki = Pki::create()?;
    let bound = Bound::Time { warm_up: WARM_UP, measured: Duration::from_secs(args.duration) };
    let _telemetry = telemetry::start(&args.log)?;
    println!("{}", args.shape);
    println!("{}", report::HEAD);
    let mut measured: Vec<(Case, Vec<Figures>)> = args.cases.iter().map(|case| (*case, Vec::new())).collect();
    for _ in 0..args.rounds {
        for (case, rounds) in &mut measured {
            let figures = measure(*case, &pki, &args.shape, bound)?;
            println!("{}", report::row(case.name(), &figures));
            rounds.push(figures);
        }
    }
    for (case, rounds) in &measured {
        if let Some((limit, of_limit)) = measured.iter().find(|(other, _)| Some(*other) == case.limit()) {
            println!("{} / {}: {}", case.name(), limit.name(), report::ratios(rounds, of_limit));
        }
    }
    Ok(())
}

/// The limit alone, as the measure beside another figure of the same run.
pub(crate) fn limit(measured: Duration) -> Result<Figures, BenchError> {
    limit_of(&Shape::default(), Bound::Time { warm_up: WARM_UP, measured })
}

/// The same in another shape.
pub(crate) fn limit_of(shape: &Shape, bound: Bound) -> Result<Figures, BenchError> {
    shape.check()?;
    measure(Case::Bare, &Pki::create()?, shape, bound)
}

/// The limit, and the limit with the metadata that a client of the mesh sends.
pub(crate) fn limits_of(shape: &Shape, bound: Bound) -> Result<[Figures; 2], BenchError> {
    shape.check()?;
    let pki = Pki::create()?;
    Ok([measure(Case::Bare, &pki, shape, bound)?, measure(Case::BareMetadata, &pki, shape, bound)?])
}

/// The bare echo on one thread, and the way to it.
pub(crate) fn bare() -> Result<(Bare, Connections), BenchError> {
    let pki = Pki::create()?;
    let server = Bare::start(1, &pki.server()?.server_config())?;
    let tls = pki.caller()?.client_config(&SpiffeId::of(SERVER)?)?;
    let address = server.address();
    Ok((server, Connections { address, tls }))
}

/// Makes connections to an echo.
pub(crate) struct Connections {
    address: std::net::SocketAddr,
    tls: std::sync::Arc<tokio_rustls::rustls::ClientConfig>,
}

impl Connections {
    pub(crate) async fn connect(&self) -> Result<EchoClient, BenchError> {
        client::connect(self.address, &self.tls).await
    }
}

fn measure(case: Case, pki: &Pki, shape: &Shape, bound: Bound) -> Result<Figures, BenchError> {
    let metadata = case.has_metadata();
    let runtime = match case {
        Case::Bare | Case::BareMetadata => {
            let server = server::Bare::start(shape.server_threads(), &pki.server()?.server_config())?;
            return drive(server.address(), pki, shape, metadata, bound);
        }
        Case::Mesh | Case::MeshMetadata => mesh::run::runtime()?,
        Case::MeshOneThread | Case::MeshOneThreadMetadata => server::one_thread()?,
    };
    let server = server::BehindMesh::start(runtime, pki.directory.path())?;
    drive(server.address(), pki, shape, metadata, bound)
}

fn drive(
    address: std::net::SocketAddr,
    pki: &Pki,
    shape: &Shape,
    metadata: bool,
    bound: Bound,
) -> Result<Figures, BenchError> {
    let before = cpu::used_here();
    let tls = pki.caller()?.client_config(&SpiffeId::of(SERVER)?)?;
    let (mut figures, all) = client::drive(address, &tls, shape, metadata, bound)?;
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

    pub(crate) fn caller(&self) -> Result<Identity, BenchError> {
        Ok(Identity::load(&self.harness.certificate(CALLER)?)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_cases_echo_every_call_over_mtls() {
        let shape = Shape::default();
        let pki = Pki::create().unwrap();
        for case in Case::value_variants() {
            let figures = measure(*case, &pki, &shape, Bound::Count(1_000)).unwrap();
            assert_eq!(figures.latencies_us.len(), 1_000, "{case:?}");
        }
    }

    #[test]
    fn a_caller_that_policy_does_not_name_gets_no_echo_from_the_mesh() {
        let pki = Pki::create().unwrap();
        let runtime = mesh::run::runtime().unwrap();
        let server = server::BehindMesh::start(runtime, pki.directory.path()).unwrap();
        let stranger = Identity::load(&pki.harness.certificate("svc-tax").unwrap()).unwrap();
        let tls = stranger.client_config(&SpiffeId::of(SERVER).unwrap()).unwrap();
        let error =
            client::drive(server.address(), &tls, &Shape::default(), false, Bound::Count(10)).unwrap_err();
        assert!(matches!(error, BenchError::Echo(_)), "{error}");
    }
}
