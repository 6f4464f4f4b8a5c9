//! Takes HTTP connections (1.1, and 2 by ALPN or with prior knowledge), with TLS or without, and lets
//! them finish when draining.
//!
//! What a client may cost is bounded here: connections altogether and by address, the time until the first
//! request, the size of its head, streams at once, requests given up, answers not taken.

pub(crate) mod config;
mod connection;
mod crowd;
mod paced;
pub(crate) mod tls;
mod watch;

use std::{
    net::IpAddr,
    sync::{Arc, Once},
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioTimer},
    server::conn::auto,
};
use mesh::{Drain, Watched};
use rustls::ServerConfig;
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::gateway::{Gateway, Peer};
use config::PatienceConfig;
use crowd::Crowd;

/// How long requests under way may take to finish once draining has begun.
///
/// Longer than any request may take, so that none is cut off.
const DRAIN_DEADLINE: Duration = Duration::from_secs(35);
const CONCURRENT_STREAMS_MAX: u32 = 256;
/// What is read of a head before it is refused without a word. The gateway refuses less with a problem.
const HEAD_BYTES_MAX: u32 = 64 * 1024;
/// Streams that a client reset before they were looked at, and that we reset for its errors, each at once.
const RESETS_PENDING_MAX: usize = 20;
const RESETS_FOR_ERRORS_MAX: usize = 128;

/// How much the server takes from clients, and how long it waits for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a handshake, for a request's head, and for a connection's first request.
    header_timeout: Duration,
    connections_per_address_max: usize,
    /// For how long answers may wait for the client.
    turn: Duration,
    answer_rate_min: u32,
    quiet_turns_max: usize,
    resets_max: u32,
    stream_duration_max: Duration,
}

impl Patience {
    pub(crate) fn new(
        header_timeout: Duration,
        connections_per_address_max: usize,
        stream_duration_max: Duration,
        config: &PatienceConfig,
    ) -> Self {
        let turn_ms = config.answer_timeout_ms.max(1);
        Self {
            header_timeout,
            connections_per_address_max,
            turn: Duration::from_millis(turn_ms),
            answer_rate_min: config.answer_rate_min,
            quiet_turns_max: usize::try_from(config.idle_timeout_ms / turn_ms).unwrap_or(usize::MAX),
            resets_max: config.resets_max,
            stream_duration_max,
        }
    }

    /// What a client must take of an answer in this time.
    fn bytes_in(&self, time: Duration) -> usize {
        let bytes = u128::from(self.answer_rate_min.max(1)) * time.as_millis() / 1_000;
        usize::try_from(bytes).unwrap_or(usize::MAX).max(1)
    }
}

/// What all listeners of the edge share.
pub(crate) struct Server {
    gateway: Arc<Gateway>,
    protocols: Protocols,
    patience: Patience,
    crowd: Arc<Crowd>,
    /// That clients cannot be told apart was said.
    hidden: Once,
}

impl Server {
    pub(crate) fn new(gateway: Arc<Gateway>, patience: Patience) -> Arc<Self> {
        let protocols = Protocols::new(patience.header_timeout);
        Arc::new(Self { gateway, protocols, patience, crowd: Arc::default(), hidden: Once::new() })
    }

    /// Takes up to `connections_max` connections at once, which are this listener's alone, and serves until the
    /// drain begins, then lets requests under way finish.
    pub(crate) async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<Watched<ServerConfig>>,
        connections_max: usize,
        drain: Drain,
    ) {
        let places = Arc::new(Semaphore::new(connections_max.min(Semaphore::MAX_PERMITS)));
        let connections = TaskTracker::new();
        while let Some(Ok(place)) = drain.unless_started(Arc::clone(&places).acquire_owned()).await {
            let (stream, address) = match drain.unless_started(listener.accept()).await {
                Some(Ok(accepted)) => accepted,
                Some(Err(error)) => {
                    mesh::server::pause_after_failed_accept(&error).await;
                    continue;
                }
                None => break,
            };
            let address = address.ip();
            let is_proxy = self.gateway.limiter.proxies.trusts(address);
            if !is_proxy && stream.local_addr().is_ok_and(|local| is_own(address, local.ip())) {
                self.hidden.call_once(warn_of_hidden_clients);
            }
            let peer = Peer { address, secure: tls.is_some(), is_proxy };
            // A proxy speaks for many.
            let max = if is_proxy { usize::MAX } else { self.patience.connections_per_address_max };
            let Some(member) = self.crowd.join(address, max) else {
                tracing::debug!("an address has too many connections: one was closed");
                continue;
            };
            // Without it small answers wait for the client's acknowledgement of the one before.
            let _ = stream.set_nodelay(true);
            // The certificate of this moment.
            let acceptor = tls.as_ref().map(|tls| TlsAcceptor::from(tls.current()));
            let (server, drain) = (Arc::clone(&self), drain.clone());
            connections.spawn(async move {
                match acceptor {
                    Some(acceptor) => connection::tls(&server, acceptor, stream, peer, drain).await,
                    None => connection::plain(&server, stream, peer, drain).await,
                }
                drop((place, member));
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(DRAIN_DEADLINE, connections.wait()).await.is_err() {
            tracing::warn!("requests were still under way when the drain's deadline passed");
        }
    }
}

/// Whether who connects has the very address that it connects to. So does the inbound proxy of a Linkerd pod, for
/// everybody; by loopback come clients that are no proxy.
fn is_own(peer: IpAddr, local: IpAddr) -> bool {
    let peer = peer.to_canonical();
    peer == local.to_canonical() && !peer.is_loopback()
}

fn warn_of_hidden_clients() {
    tracing::warn!(
        "clients come from this machine's own address, as through a Linkerd proxy: they cannot be told apart, \
         and what is limited or refused by address is for all of them; keep the proxy off this port \
         (config.linkerd.io/skip-inbound-ports), or see limits.trusted_proxies"
    );
}

type Builder = auto::Builder<TokioExecutor>;

/// How connections are served, by the protocol that was agreed on.
struct Protocols {
    http1: Builder,
    http2: Builder,
    /// Told by how the client begins: HTTP/2 with prior knowledge (RFC 9113, section 3.3), or HTTP/1.1.
    either: Builder,
}

impl Protocols {
    fn new(header_timeout: Duration) -> Self {
        let builder = || builder(header_timeout);
        Self { http1: builder().http1_only(), http2: builder().http2_only(), either: builder() }
    }

    /// What ALPN came to; a client without it speaks HTTP/1.1 or says so by how it begins.
    fn agreed(&self, alpn: Option<&[u8]>) -> &Builder {
        match alpn {
            Some(b"h2") => &self.http2,
            Some(b"http/1.1") => &self.http1,
            _ => &self.either,
        }
    }
}

fn builder(header_timeout: Duration) -> Builder {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(HEAD_BYTES_MAX as usize)
        // A head and its body leave in one, the body uncopied, whatever the stream says of itself.
        .writev(true)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX)
        .max_pending_accept_reset_streams(RESETS_PENDING_MAX)
        .max_local_error_reset_streams(RESETS_FOR_ERRORS_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use bytes::Bytes;
    use http::{Request, Response};
    use http_body_util::Full;
    use hyper::{body::Incoming, service::service_fn};
    use hyper_util::rt::TokioIo;
    use mesh::{Gathered, testing::writes::Writes};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Whether it was agreed on, or told by how the client begins.
    #[tokio::test]
    async fn over_http1_a_head_and_its_body_are_one_write_of_two_pieces() {
        const BODY: usize = 2_000;
        let protocols = Protocols::new(Duration::from_secs(10));
        for alpn in [None, Some(b"http/1.1".as_slice())] {
            let (mut client, server) = tokio::io::duplex(64 * 1024);
            let (server, account) = Writes::new(server);
            let service = service_fn(async |_: Request<Incoming>| {
                Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(&[b'a'; BODY]))))
            });
            client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            let io = TokioIo::new(Gathered::new(server));
            protocols.agreed(alpn).serve_connection(io, service).await.unwrap();
            let mut said = String::new();
            client.read_to_string(&mut said).await.unwrap();
            assert!(said.starts_with("HTTP/1.1 200") && said.ends_with(&"a".repeat(BODY)), "{said}");
            assert_eq!(account.take(), [[said.len() - BODY, BODY]]);
        }
    }
}
