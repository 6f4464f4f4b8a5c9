//! Calls to another service: mTLS to exactly that workload, over a few connections that are made when
//! first needed and made again when lost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{
    body::Body,
    transport::{Channel, Endpoint, channel::ResponseFuture},
};
use tower::Service;

use crate::{
    identity::SpiffeId,
    tls::{Identity, TlsError},
};

const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// One connection is one lock and one core's worth of HTTP/2: two let both ends use two cores.
const CONNECTIONS: usize = 2;

/// A way to call one service. Cheap to clone; give it to a generated client.
#[derive(Clone)]
pub struct Upstream {
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    /// The channel that `poll_ready` was asked for.
    ready: Channel,
}

impl Upstream {
    /// Calls the workload `peer` at `address` (`host:port`) as `identity`. Connects when first used.
    pub fn new(identity: &Identity, peer: &SpiffeId, address: &str) -> Result<Self, TlsError> {
        let tls = identity.client_config(peer)?;
        // The authority is for the peer's logs; who the peer is, its certificate says.
        let uri = Uri::builder()
            .scheme("http")
            .authority(peer.name())
            .path_and_query("/")
            .build()
            .map_err(|_| TlsError::NoIdentity)?;
        let channels: Arc<[Channel]> = (0..CONNECTIONS)
            .map(|_| {
                let (tls, address) = (Arc::clone(&tls), Arc::<str>::from(address));
                endpoint(uri.clone()).connect_with_connector_lazy(tower::service_fn(move |_: Uri| {
                    connect(Arc::clone(&tls), Arc::clone(&address))
                }))
            })
            .collect();
        let ready = channels[0].clone();
        Ok(Self { channels, next: Arc::new(AtomicUsize::new(0)), ready })
    }
}

fn endpoint(uri: Uri) -> Endpoint {
    Endpoint::from(uri)
        .tcp_nodelay(true)
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(4 * 1024 * 1024)
        .http2_keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10))
        .buffer_size(4_096)
}

type TlsStream = tokio_rustls::client::TlsStream<TcpStream>;

async fn connect(tls: Arc<ClientConfig>, address: Arc<str>) -> std::io::Result<TokioIo<TlsStream>> {
    let connecting = async {
        let stream = TcpStream::connect(&*address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(std::io::Error::other)?;
        TlsConnector::from(tls).connect(name, stream).await
    };
    let stream = tokio::time::timeout(CONNECT_DEADLINE, connecting)
        .await
        .map_err(|_| std::io::Error::from(std::io::ErrorKind::TimedOut))??;
    Ok(TokioIo::new(stream))
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.ready.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = self.ready.call(request);
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        if let Some(channel) = self.channels.get(turn % self.channels.len()) {
            self.ready = channel.clone();
        }
        answer
    }
}
