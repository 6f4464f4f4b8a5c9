//! The load: a few connections with many calls in flight on each, on current_thread runtimes.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use clap::{Args, ValueEnum};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{SpiffeId, Upstream, UpstreamParts, UpstreamSettings, tls::Identity};
use paymesh_proto::echo::v1::EchoMessage;
use paymesh_proto::echo::v1::echo_service_client::EchoServiceClient;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::body::Body;
use tonic::client::GrpcService;
use tonic::codegen::StdError;
use tonic::transport::{Channel, Endpoint};

use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::Figures;

/// The size of the message that is echoed.
pub(crate) const PAYLOAD: &[u8; 64] = &[0xa5; 64];

/// The most calls in flight: within what the mesh's harness admits at once.
const IN_FLIGHT_MAX: u32 = 1_024;

/// How the load is laid out.
#[derive(Debug, Clone, Args)]
pub(crate) struct Shape {
    /// Connections
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// Calls in flight on each connection
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_024))]
    in_flight: u32,
    /// Threads of the client, and of the bare server, each with a runtime of its own [default: half of
    /// the cores each]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    threads: Option<u32>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { connections: 4, in_flight: 64, threads: None }
    }
}

impl Shape {
    /// Refuses what the mesh's own load limit would refuse.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        let all = self.connections.saturating_mul(self.in_flight);
        if all <= IN_FLIGHT_MAX {
            return Ok(());
        }
        Err(BenchError::Arguments(format!("{all} calls in flight are more than {IN_FLIGHT_MAX}")))
    }

    fn threads(&self) -> u32 {
        let half_of_the_cores = || {
            let cores = std::thread::available_parallelism().map_or(2, usize::from);
            u32::try_from(cores / 2).unwrap_or(1).max(1)
        };
        self.threads.unwrap_or_else(half_of_the_cores)
    }

    /// Threads of the bare server.
    pub(super) fn server_threads(&self) -> usize {
        self.threads() as usize
    }

    /// How many connections each client thread makes; a thread without one is not started.
    fn connections_per_thread(&self) -> Vec<u32> {
        let threads = self.threads().min(self.connections);
        (0..threads)
            .map(|at| self.connections / threads + u32::from(at < self.connections % threads))
            .collect()
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "unary echo of {} bytes over mTLS, {} connections x {} in flight, {} client threads",
            PAYLOAD.len(),
            self.connections,
            self.in_flight,
            self.connections_per_thread().len()
        )
    }
}

/// What the client makes its calls through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Via {
    /// hyper's connections alone: the least there is
    Connection,
    /// tonic's Channel, one per connection
    Channel,
    /// The mesh's client: balanced, with deadline, retry budget, breaker and metrics
    Upstream,
}

impl Via {
    /// For the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Connection => "",
            Self::Channel => " via channel",
            Self::Upstream => " via upstream",
        }
    }
}

/// Who calls whom.
#[derive(Clone)]
pub(crate) struct Peers {
    pub(crate) caller: Identity,
    pub(crate) server: SpiffeId,
    pub(crate) address: SocketAddr,
}

impl Peers {
    fn tls(&self) -> Result<Arc<ClientConfig>, BenchError> {
        Ok(self.caller.client_config(&self.server)?)
    }

    /// The mesh's client with this many connections.
    pub(crate) fn upstream(&self, connections: u32) -> Result<Upstream, BenchError> {
        let settings =
            UpstreamSettings { connections_per_endpoint: connections, ..UpstreamSettings::default() };
        let parts = UpstreamParts { settings, ..UpstreamParts::mutual_tls(&self.caller, &self.server)? };
        Upstream::of(&self.server, &self.address.to_string(), parts)
            .map_err(|error| BenchError::Echo(error.to_string()))
    }
}

/// Drives the load; answers with the figures, and with the number of all calls made.
pub(super) fn drive(
    peers: &Peers,
    via: Via,
    shape: &Shape,
    bound: Bound,
) -> Result<(Figures, u64), BenchError> {
    let shares = shape.connections_per_thread();
    let results: Vec<Result<(Figures, u64), BenchError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter()
            .map(|connections| {
                let bound = share(bound, *connections, shape.connections);
                scope.spawn(move || drive_thread(peers, via, *connections, shape.in_flight, bound))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or(Err(BenchError::Panicked))).collect()
    });
    let mut sum: Option<(Figures, u64)> = None;
    for result in results {
        let (figures, all) = result?;
        match &mut sum {
            Some((merged, total)) => {
                merged.merge(&figures);
                *total += all;
            }
            None => sum = Some((figures, all)),
        }
    }
    sum.ok_or(BenchError::Panicked)
}

/// A thread's part of a count; time is for all.
fn share(bound: Bound, connections: u32, of: u32) -> Bound {
    match bound {
        Bound::Count(count) => Bound::Count(count * u64::from(connections) / u64::from(of)),
        time @ Bound::Time { .. } => time,
    }
}

fn drive_thread(
    peers: &Peers,
    via: Via,
    connections: u32,
    in_flight: u32,
    bound: Bound,
) -> Result<(Figures, u64), BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(BenchError::io("a runtime"))?;
    runtime.block_on(async {
        let tls = peers.tls()?;
        match via {
            Via::Connection => {
                let mut clients = Vec::new();
                for _ in 0..connections {
                    clients.push(connect(peers.address, &tls).await?);
                }
                load(clients, in_flight, bound).await
            }
            Via::Channel => {
                let channel = |_| EchoServiceClient::new(channel(peers.address, &tls));
                load((0..connections).map(channel).collect(), in_flight, bound).await
            }
            Via::Upstream => {
                let client = EchoServiceClient::new(peers.upstream(connections)?);
                load(vec![client; connections as usize], in_flight, bound).await
            }
        }
    })
}

async fn load<S>(
    clients: Vec<EchoServiceClient<S>>,
    in_flight: u32,
    bound: Bound,
) -> Result<(Figures, u64), BenchError>
where
    S: GrpcService<Body, Error: Into<StdError>, Future: Send> + Clone + Send + 'static,
    S::ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
    let mut workers = JoinSet::new();
    for client in clients {
        for _ in 0..in_flight {
            workers.spawn(work(client.clone(), Arc::clone(&run)));
        }
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|_| BenchError::Panicked)??;
    }
    Ok((run.figures(), run.all()))
}

async fn work<S>(mut client: EchoServiceClient<S>, run: Arc<Run>) -> Result<(), BenchError>
where
    S: GrpcService<Body, Error: Into<StdError>>,
    S::ResponseBody: hyper::body::Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
{
    let payload = Bytes::from_static(PAYLOAD);
    while let Some((_, due)) = run.next(Instant::now()) {
        let answer = client
            .echo(EchoMessage { payload: payload.clone() })
            .await
            .map_err(|status| BenchError::Echo(status.to_string()))?;
        if answer.into_inner().payload != payload {
            return Err(BenchError::Echo("the answer is not what was sent".to_owned()));
        }
        run.answered(due, Instant::now());
    }
    Ok(())
}

async fn connect(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<EchoServiceClient<Connection>, BenchError> {
    let stream = secure(address, Arc::clone(tls))
        .await
        .map_err(BenchError::io(format!("connecting to the echo at {address}")))?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| BenchError::Echo(error.to_string()))?;
    tokio::spawn(connection);
    Ok(EchoServiceClient::with_origin(Connection(sender), Uri::from_static("http://echo")))
}

fn channel(address: SocketAddr, tls: &Arc<ClientConfig>) -> Channel {
    let tls = Arc::clone(tls);
    let connector = tower::service_fn(move |_: Uri| {
        let tls = Arc::clone(&tls);
        async move { secure(address, tls).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://echo").buffer_size(4_096).connect_with_connector_lazy(connector)
}

async fn secure(
    address: SocketAddr,
    tls: Arc<ClientConfig>,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
    TlsConnector::from(tls).connect(name, stream).await
}

/// hyper's HTTP/2 connection as the generated client wants it, without a channel's buffer and worker.
#[derive(Clone)]
struct Connection(SendRequest<Body>);

impl tower::Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_dealt_out_evenly() {
        let shape = |connections, threads| Shape { connections, in_flight: 1, threads: Some(threads) };
        assert_eq!(shape(4, 1).connections_per_thread(), [4]);
        assert_eq!(shape(7, 3).connections_per_thread(), [3, 2, 2]);
        assert_eq!(shape(2, 8).connections_per_thread(), [1, 1]);
    }

    #[test]
    fn more_calls_than_the_mesh_admits_are_refused_before_the_run() {
        let shape = |in_flight| Shape { connections: 4, in_flight, threads: None };
        assert!(shape(256).check().is_ok());
        assert!(shape(257).check().is_err());
    }
}
