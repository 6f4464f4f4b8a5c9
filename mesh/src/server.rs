//! Accepts mTLS connections and hands their requests to the stack, until told to drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    drain::Drain,
    identity::SpiffeId,
    stack::{Connection, Stack},
    tls::{Identity, Parting, Peer},
};

/// A peer that has not finished its handshake by then is dropped.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long requests under way may take to finish once draining has begun.
///
/// Longer than the edge lets any request take, so that none is cut off.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(35);
/// Requests in flight on one connection: above what a peer's client has, so that it never waits for it.
const CONCURRENT_STREAMS_MAX: u32 = 4_096;
/// Streams that a peer may reset before they were taken up, and such that we reset for its errors, until its
/// connection is closed with ENHANCE_YOUR_CALM: the defence against rapid resets (CVE-2023-44487,
/// RUSTSEC-2024-0003). A peer that gives up a request has nearly always been read before.
const UNREAD_RESETS_MAX: usize = 64;
const ERROR_RESETS_MAX: usize = 256;
/// A peer that is idle is asked for a sign of life so often, and is gone without one in so long.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// All of a request's metadata together: what the mesh itself sends is under 1 KiB.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves until the drain begins, then lets requests under way finish. Each connection is accepted with
/// the certificates of its moment.
pub(crate) async fn serve(listener: TcpListener, identity: Identity, stack: Arc<Stack>, drain: Drain) {
    let connections = TaskTracker::new();
    while let Some(accepted) = drain.unless_started(listener.accept()).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after_failed_accept(&error).await;
                continue;
            }
        };
        let (identity, stack, drain) = (identity.clone(), Arc::clone(&stack), drain.clone());
        connections.spawn(async move {
            let service = stack.service;
            let renewed = identity.renewed();
            match tokio::time::timeout(HANDSHAKE_DEADLINE, handshake(&identity, stream)).await {
                Ok(Ok((stream, peer))) => {
                    if let Err(error) =
                        converse(stream, stack, peer.until_parting(&identity, renewed), peer.id(), &drain)
                            .await
                    {
                        tracing::debug!(service, %address, %error, "a connection ended early");
                    }
                }
                Ok(Err(error)) => tracing::warn!(service, %address, %error, "a connection was refused"),
                Err(_elapsed) => tracing::warn!(service, %address, "a handshake took too long"),
            }
        });
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(DRAIN_DEADLINE, connections.wait()).await.is_err() {
        tracing::warn!(
            service = stack.service,
            "requests were still under way when the drain's deadline passed"
        );
    }
}

/// Serves a connection until its client leaves, the drain begins or the peer may no longer stay. In the
/// last two cases the client is told to open no further streams (GOAWAY, RFC 9113, section 6.8), and what
/// is under way may finish.
async fn converse(
    stream: TlsStream,
    stack: Arc<Stack>,
    parting: impl Future<Output = Parting>,
    peer: &SpiffeId,
    drain: &Drain,
) -> hyper::Result<()> {
    let service = stack.service;
    let connection = http2().serve_connection(TokioIo::new(stream), Connection::new(stack, peer.clone()));
    tokio::pin!(connection);
    tokio::select! {
        ended = &mut connection => return ended,
        () = drain.started() => {}
        parting = parting => {
            tracing::info!(service, %peer, reason = parting.as_str(), "ending a connection");
        }
    }
    connection.as_mut().graceful_shutdown();
    match tokio::time::timeout(DRAIN_DEADLINE, connection).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            tracing::warn!(service, %peer, "a connection did not end in time and was cut off");
            Ok(())
        }
    }
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

async fn handshake(identity: &Identity, stream: TcpStream) -> std::io::Result<(TlsStream, Peer)> {
    stream.set_nodelay(true)?;
    let stream = TlsAcceptor::from(identity.server_config()).accept(stream).await?;
    let peer = Peer::of(stream.get_ref().1)
        .ok_or_else(|| std::io::Error::other("the peer's certificate has no SPIFFE id of this mesh"))?;
    Ok((stream, peer))
}

fn http2() -> hyper::server::conn::http2::Builder<TokioExecutor> {
    let mut builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .max_pending_accept_reset_streams(UNREAD_RESETS_MAX)
        .max_local_error_reset_streams(ERROR_RESETS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX);
    builder
}

/// Out of file descriptors, or the peer is gone already: neither ends a service, nor may it spin.
pub async fn pause_after_failed_accept(error: &std::io::Error) {
    tracing::warn!(%error, "a connection could not be accepted");
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// Binds a listener; port 0 takes a free one.
pub fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = match address {
        SocketAddr::V4(_) => tokio::net::TcpSocket::new_v4()?,
        SocketAddr::V6(_) => tokio::net::TcpSocket::new_v6()?,
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1_024)
}
