//! The two servers that are compared.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use mesh::{Drain, Harness, Parts, Service, ServiceContext, StartError};
use paymesh_proto::echo::v1::echo_service_server::{EchoService, EchoServiceServer};
use paymesh_proto::echo::v1::{BatchEchoMessage, EchoMessage};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tonic::{Request, Response, Status};

use super::SERVER;
use crate::error::BenchError;

/// As the mesh's own server has it; below what a client has in flight, throughput falls.
const CONCURRENT_STREAMS_MAX: u32 = 4_096;

#[derive(Debug)]
struct Echo;

#[tonic::async_trait]
impl EchoService for Echo {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn batch_echo(
        &self,
        request: Request<BatchEchoMessage>,
    ) -> Result<Response<BatchEchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

/// The generated service on hyper's HTTP/2, one runtime per thread. Stops when dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    address: SocketAddr,
    drain: Drain,
    threads: Vec<JoinHandle<()>>,
}

impl Bare {
    /// Starts as many threads, all accepting on the same port.
    pub(super) fn start(threads: usize, tls: &Arc<ServerConfig>) -> Result<Self, BenchError> {
        let mut server = Self {
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            drain: Drain::new(),
            threads: Vec::with_capacity(threads),
        };
        for _ in 0..threads {
            let (bound, report) = mpsc::channel();
            let (address, tls, drain) = (server.address, Arc::clone(tls), server.drain.clone());
            server.threads.push(std::thread::spawn(move || serve_thread(address, tls, &drain, &bound)));
            // The first takes a free port, and the others the same.
            server.address = report.recv().map_err(|_| BenchError::Panicked)??;
        }
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        self.drain.start();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

type Bound = mpsc::Sender<Result<SocketAddr, BenchError>>;

fn serve_thread(address: SocketAddr, tls: Arc<ServerConfig>, drain: &Drain, bound: &Bound) {
    let runtime = match one_thread() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = bound.send(Err(error));
            return;
        }
    };
    runtime.block_on(async {
        let listening = listen(address).and_then(|listener| Ok((listener.local_addr()?, listener)));
        match listening {
            Ok((address, listener)) => {
                let _ = bound.send(Ok(address));
                accept(&listener, &TlsAcceptor::from(tls), drain).await;
            }
            Err(error) => {
                let _ = bound.send(Err(BenchError::io("a port for the echo")(error)));
            }
        }
    });
}

fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseport(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}

async fn accept(listener: &TcpListener, acceptor: &TlsAcceptor, drain: &Drain) {
    while let Some(Ok((stream, _))) = drain.unless_started(listener.accept()).await {
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            // A connection that fails here fails at the client too, which reports it.
            let Ok(()) = stream.set_nodelay(true) else { return };
            let Ok(stream) = acceptor.accept(stream).await else { return };
            let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
                .serve_connection(
                    TokioIo::new(stream),
                    TowerToHyperService::new(EchoServiceServer::new(Echo)),
                )
                .await;
        });
    }
}

/// The echo as a service of the mesh.
#[derive(Debug)]
struct EchoOfMesh;

impl Service for EchoOfMesh {
    const NAME: &'static str = SERVER;
    type Config = ();

    async fn build((): (), _context: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new().serve(EchoServiceServer::new(Echo)))
    }
}

/// The echo behind the mesh's stack. Stops when dropped.
pub(crate) struct BehindMesh {
    address: SocketAddr,
    stop: Drain,
    thread: Option<JoinHandle<()>>,
}

impl BehindMesh {
    /// Starts it on a runtime, with certificates of the CA in `directory`.
    pub(crate) fn start(runtime: Runtime, directory: &Path) -> Result<Self, BenchError> {
        let running = runtime.block_on(async { Harness::new(directory)?.start::<EchoOfMesh>(()).await })?;
        let (address, stop) = (running.address, Drain::new());
        let stopping = stop.clone();
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                stopping.started().await;
                running.stop().await;
            });
        });
        Ok(Self { address, stop, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for BehindMesh {
    fn drop(&mut self) {
        self.stop.start();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A runtime of one thread, as each thread of the bare server has.
pub(super) fn one_thread() -> Result<Runtime, BenchError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(BenchError::io("a runtime"))
}
