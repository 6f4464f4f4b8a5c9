//! The load: a few connections with many calls in flight on each, on current_thread runtimes.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2::{Builder, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{Call, Clock as _, Ids as _, Origin, RandomIds, SpiffeId, SystemClock};
use paymesh_proto::echo::v1::EchoMessage;
use paymesh_proto::echo::v1::echo_service_client::EchoServiceClient;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::body::Body;

use crate::error::BenchError;
use crate::load::{Bound, Pace, Run};
use crate::report::Figures;

/// The size of the message that is echoed.
pub(crate) const PAYLOAD: &[u8; PAYLOAD_BYTES as usize] = &[0xa5; PAYLOAD_BYTES as usize];
const PAYLOAD_BYTES: u32 = 64;

/// Of a call with metadata; it is never reached.
const DEADLINE: Duration = Duration::from_secs(10);

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
    /// Bytes in a message
    #[arg(long, default_value_t = PAYLOAD_BYTES, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(0..=1_048_576))]
    payload: u32,
}

impl Default for Shape {
    fn default() -> Self {
        Self { connections: 4, in_flight: 64, threads: None, payload: PAYLOAD_BYTES }
    }
}

impl Shape {
    /// This many calls in flight on each of as many connections.
    pub(crate) const fn of(connections: u32, in_flight: u32) -> Self {
        Self { connections, in_flight, threads: None, payload: PAYLOAD_BYTES }
    }

    /// With messages of so many bytes.
    pub(crate) const fn with_payload(self, payload: u32) -> Self {
        Self { payload, ..self }
    }

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
            self.payload,
            self.connections,
            self.in_flight,
            self.connections_per_thread().len()
        )
    }
}

/// Drives the load; answers with the figures, and with the number of all calls made.
pub(super) fn drive(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
    shape: &Shape,
    metadata: bool,
    bound: Bound,
) -> Result<(Figures, u64), BenchError> {
    let shares = shape.connections_per_thread();
    let results: Vec<Result<(Figures, u64), BenchError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = shares
            .iter()
            .map(|connections| {
                let bound = share(bound, *connections, shape.connections);
                let (in_flight, payload) = (shape.in_flight, vec![0xa5; shape.payload as usize].into());
                let clients = Clients { address, tls, connections: *connections, in_flight, payload };
                scope.spawn(move || clients.drive(metadata, bound))
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

/// One thread's clients.
struct Clients<'a> {
    address: SocketAddr,
    tls: &'a Arc<ClientConfig>,
    connections: u32,
    in_flight: u32,
    payload: Bytes,
}

impl Clients<'_> {
    fn drive(&self, metadata: bool, bound: Bound) -> Result<(Figures, u64), BenchError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(BenchError::io("a runtime"))?;
        runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..self.connections {
                clients.push(connect(self.address, self.tls).await?);
            }
            let run = Arc::new(Run::new(bound, Pace::Closed, Instant::now()));
            let mut workers = JoinSet::new();
            for client in clients {
                for _ in 0..self.in_flight {
                    workers.spawn(work(client.clone(), self.payload.clone(), metadata, Arc::clone(&run)));
                }
            }
            while let Some(ended) = workers.join_next().await {
                ended.map_err(|_| BenchError::Panicked)??;
            }
            Ok((run.figures(), run.all()))
        })
    }
}

/// A request as a client of the mesh makes it: tenant, request id, trace and deadline are of its own, and
/// one trace in a hundred is recorded.
pub(crate) fn with_metadata<M>(message: M, timeout: Duration) -> Result<tonic::Request<M>, BenchError> {
    let fresh = RandomIds.uuid_v7(SystemClock.now());
    let call = Call::start(Origin {
        peer: SpiffeId::of(super::CALLER)?,
        tenant: "acme".parse().ok(),
        request_id: fresh.simple().to_string().into(),
        trace: mesh::telemetry::start_trace(fresh),
        deadline: Instant::now().checked_add(timeout),
        idempotency_key: None,
    });
    Ok(call.request(message))
}

async fn work(
    mut client: EchoClient,
    payload: Bytes,
    metadata: bool,
    run: Arc<Run>,
) -> Result<(), BenchError> {
    while let Some((_, due)) = run.next(Instant::now()) {
        let message = EchoMessage { payload: payload.clone() };
        let request = if metadata { with_metadata(message, DEADLINE)? } else { tonic::Request::new(message) };
        let answer = client.echo(request).await.map_err(|status| BenchError::Echo(status.to_string()))?;
        if answer.into_inner().payload != payload {
            return Err(BenchError::Echo("the answer is not what was sent".to_owned()));
        }
        run.answered(due, Instant::now());
    }
    Ok(())
}

/// One connection to the echo.
pub(crate) type EchoClient = EchoServiceClient<Connection>;

pub(super) async fn connect(address: SocketAddr, tls: &Arc<ClientConfig>) -> Result<EchoClient, BenchError> {
    Ok(EchoServiceClient::with_origin(connection(address, tls).await?, Uri::from_static("http://echo")))
}

/// One connection over mTLS, which ends with the runtime.
pub(crate) async fn connection(
    address: SocketAddr,
    tls: &Arc<ClientConfig>,
) -> Result<Connection, BenchError> {
    let failed = || BenchError::io(format!("connecting to {address}"));
    let stream = TcpStream::connect(address).await.map_err(failed())?;
    stream.set_nodelay(true).map_err(failed())?;
    let name = ServerName::try_from("localhost").map_err(|error| BenchError::Echo(error.to_string()))?;
    let stream = TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(failed())?;
    let (sender, connection) = Builder::new(TokioExecutor::new())
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| BenchError::Echo(error.to_string()))?;
    tokio::spawn(connection);
    Ok(Connection(sender))
}

/// hyper's HTTP/2 connection as the generated client wants it, without a channel's buffer and worker.
#[derive(Clone)]
pub(crate) struct Connection(SendRequest<Body>);

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
        let shape = |connections, threads| Shape { threads: Some(threads), ..Shape::of(connections, 1) };
        assert_eq!(shape(4, 1).connections_per_thread(), [4]);
        assert_eq!(shape(7, 3).connections_per_thread(), [3, 2, 2]);
        assert_eq!(shape(2, 8).connections_per_thread(), [1, 1]);
    }

    #[test]
    fn more_calls_than_the_mesh_admits_are_refused_before_the_run() {
        let shape = |in_flight| Shape::of(4, in_flight);
        assert!(shape(256).check().is_ok());
        assert!(shape(257).check().is_err());
    }
}
