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

/// The largest answer that is read, in bytes. The largest legal page of payments is well below it.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A way to call one service. Cheap to clone; give it to a generated client.
pub struct Upstream {
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    /// The channel that `poll_ready` was asked for.
    ready: Channel,
}

/// Each clone takes the next connection: callers clone for a call, so calls are spread over all of them.
impl Clone for Upstream {
    fn clone(&self) -> Self {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let ready = self.channels.get(turn % self.channels.len()).unwrap_or(&self.ready).clone();
        Self { channels: Arc::clone(&self.channels), next: Arc::clone(&self.next), ready }
    }
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
        self.ready.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::{Clock as _, SystemClock},
        pki::CertificateAuthority,
    };

    #[tokio::test]
    async fn calls_of_clones_are_spread_over_the_connections() {
        let dir = tempfile::tempdir().unwrap();
        let authority = CertificateAuthority::open_or_create(dir.path(), SystemClock.now()).unwrap();
        let identity = Identity::load(&authority.issue("operator", SystemClock.now()).unwrap()).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let upstream = Upstream::new(&identity, &SpiffeId::of("svc-ledger").unwrap(), &address).unwrap();
        let calls: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut clone = upstream.clone();
                tokio::spawn(async move {
                    std::future::poll_fn(|context| clone.poll_ready(context)).await.unwrap();
                    let _ = clone.call(Request::new(Body::empty())).await;
                })
            })
            .collect();
        // Held open and never answered, so each call needs a connection of its own.
        let mut accepted = Vec::new();
        while accepted.len() < CONNECTIONS {
            accepted.push(tokio::time::timeout(CONNECT_DEADLINE, listener.accept()).await.unwrap().unwrap());
        }
        for call in calls {
            call.abort();
        }
    }
}
