//! How one connection is made: TCP, and who is at its other end. The rest of the client does not know.

use std::{io, net::SocketAddr, pin::Pin, time::Duration};

use http::uri::Scheme;
use hyper::client::conn::http2::{Builder, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::watch,
};
use tokio_rustls::TlsConnector;

use super::{
    body::RequestBody,
    settings::{UpstreamSettings, ms},
};
use crate::{gathered::Gathered, identity::SpiffeId, tls::Identity};

/// What HTTP/2 runs over.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// A connection being made.
pub type Connecting = Pin<Box<dyn Future<Output = io::Result<Box<dyn Wire>>> + Send>>;

/// Makes connections to a service.
pub trait Connect: Send + Sync + 'static {
    /// Makes one to this address, the peer's identity checked.
    fn connect(&self, address: SocketAddr) -> Connecting;

    /// What requests over it call themselves: `https` where it is encrypted here.
    fn scheme(&self) -> Scheme;

    /// Changes when connections made so far should be replaced, as those of an old certificate.
    fn renewed(&self) -> watch::Receiver<u64>;
}

/// Mutual TLS to exactly one workload.
pub(super) struct MutualTls {
    identity: Identity,
    peer: SpiffeId,
}

impl MutualTls {
    pub(super) fn new(identity: &Identity, peer: &SpiffeId) -> Self {
        Self { identity: identity.clone(), peer: peer.clone() }
    }
}

impl Connect for MutualTls {
    fn connect(&self, address: SocketAddr) -> Connecting {
        // Asked for each time: certificates are renewed.
        let config = self.identity.client_config(&self.peer);
        Box::pin(async move {
            let config = config.map_err(io::Error::other)?;
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            // Who the peer is, its certificate says; see `PeerVerifier`.
            let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn scheme(&self) -> Scheme {
        Scheme::HTTPS
    }

    fn renewed(&self) -> watch::Receiver<u64> {
        self.identity.renewed()
    }
}

/// In clear to the Linkerd proxy beside us, which takes the connection on its way out, does mutual TLS and
/// knows by its own discovery whom it may meet at that address.
pub(super) struct Clear {
    /// Nothing is ever renewed: the certificates are the proxy's.
    renewed: watch::Sender<u64>,
}

impl Clear {
    pub(super) fn new() -> Self {
        Self { renewed: watch::Sender::new(0) }
    }
}

impl Connect for Clear {
    fn connect(&self, address: SocketAddr) -> Connecting {
        Box::pin(async move {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Wire>)
        })
    }

    fn scheme(&self) -> Scheme {
        Scheme::HTTP
    }

    fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }
}

type Io = TokioIo<Gathered<Box<dyn Wire>>>;
/// The two ends of a connection: where requests go in, and what must be polled.
pub(super) type Established = (SendRequest<RequestBody>, Connection<Io, RequestBody, TokioExecutor>);

/// How much of answers a peer may send before it was read here, in bytes (RFC 9113, section 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    /// Of one answer.
    pub stream: u32,
    /// Of all answers on one connection.
    pub connection: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self { stream: 1024 * 1024, connection: 4 * 1024 * 1024 }
    }
}

impl Windows {
    /// For up to `streams_max` answers that may be left unread: even all of them at once leave room for one
    /// more on their connection.
    pub fn for_streams(streams_max: usize) -> Self {
        const STREAM: u32 = 64 * 1024;
        /// The largest that there is (RFC 9113, section 6.9.1).
        const LARGEST: u32 = i32::MAX.unsigned_abs();
        let streams = u32::try_from(streams_max).unwrap_or(u32::MAX).saturating_add(1);
        Self { stream: STREAM, connection: streams.saturating_mul(STREAM).min(LARGEST) }
    }
}

/// Makes a connection and opens HTTP/2 on it.
pub(super) async fn establish(
    connect: &dyn Connect,
    address: SocketAddr,
    settings: &UpstreamSettings,
    windows: Windows,
) -> io::Result<Established> {
    let connecting = async {
        let io = TokioIo::new(Gathered::new(connect.connect(address).await?));
        http2(settings, windows).handshake(io).await.map_err(io::Error::other)
    };
    let timeout = ms(settings.connect_timeout_ms.max(1));
    tokio::time::timeout(timeout, connecting).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn http2(settings: &UpstreamSettings, windows: Windows) -> Builder<TokioExecutor> {
    let mut builder = Builder::new(TokioExecutor::new());
    let interval = Some(ms(settings.keepalive_interval_ms)).filter(|interval| *interval > Duration::ZERO);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(windows.stream)
        .initial_connection_window_size(windows.connection)
        .max_header_list_size(16 * 1024)
        .keep_alive_interval(interval)
        .keep_alive_timeout(ms(settings.keepalive_timeout_ms.max(1)))
        // A peer that is gone without a word is noticed before the next call needs it.
        .keep_alive_while_idle(true);
    builder
}
