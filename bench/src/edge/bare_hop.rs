//! The least that a hop costs here: HTTP in, mTLS gRPC out, and nothing done in between.
//!
//! hyper's server passes each body on as the message of a unary call to the bare echo, and its answer back,
//! on the runtime and with as many connections as the edge has. No key, route, JSON, limit, deadline or
//! metric: what the edge takes beyond this is its own.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use mesh::Drain;
use paymesh_proto::echo::v1::EchoMessage;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::echo::{self, Bare, EchoClient};
use crate::error::BenchError;

/// As many as the mesh's client makes to one address.
const CONNECTIONS: usize = 2;

/// A hop and the echo behind it. Stops when dropped.
pub(super) struct BareHop {
    pub(super) url: String,
    stop: Drain,
    runtime: Option<Runtime>,
    _echo: Bare,
}

impl BareHop {
    pub(super) fn start() -> Result<Self, BenchError> {
        let (bare, connections) = echo::bare()?;
        let (runtime, stop) = (mesh::run::runtime()?, Drain::new());
        let url = runtime.block_on(async {
            let mut clients = Vec::new();
            for _ in 0..CONNECTIONS {
                clients.push(connections.connect().await?);
            }
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await;
            let listener = listener.map_err(BenchError::io("a port for the hop"))?;
            let address: SocketAddr = listener.local_addr().map_err(BenchError::io("the hop's address"))?;
            tokio::spawn(accept(listener, clients.into(), stop.clone()));
            Ok::<_, BenchError>(format!("http://{address}"))
        })?;
        Ok(Self { url, stop, runtime: Some(runtime), _echo: bare })
    }
}

impl Drop for BareHop {
    fn drop(&mut self) {
        self.stop.start();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn accept(listener: TcpListener, clients: Arc<[EchoClient]>, stop: Drain) {
    let turn = AtomicUsize::new(0);
    while let Some(Ok((stream, _))) = stop.unless_started(listener.accept()).await {
        let client = clients[turn.fetch_add(1, Ordering::Relaxed) % clients.len()].clone();
        tokio::spawn(async move {
            // A connection that fails here fails at the client too, which reports it.
            let Ok(()) = stream.set_nodelay(true) else { return };
            let service = service_fn(move |request| pass_on(client.clone(), request));
            let _ = auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

async fn pass_on(
    mut client: EchoClient,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = match request.into_body().collect().await {
        Ok(body) => client.echo(EchoMessage { payload: body.to_bytes() }).await.ok(),
        Err(_) => None,
    };
    let mut response = Response::new(Full::default());
    match answer {
        Some(answer) => *response.body_mut() = Full::from(answer.into_inner().payload),
        None => *response.status_mut() = StatusCode::BAD_GATEWAY,
    }
    Ok(response)
}
