//! Accepts connections, over mutual TLS or from the Linkerd proxy, and hands their requests to the stack, until told to drain.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use crate::{
    caller::Caller,
    drain::Drain,
    gathered::Gathered,
    linkerd::Linkerd,
    stack::{Connection, Stack},
    tls::{Identity, Peer},
    transport::Transport,
};

/// A peer that has not finished its handshake by then is dropped.
const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// How long requests under way may take to finish once draining has begun.
///
/// Longer than the edge lets any request take, so that none is cut off.
pub(crate) const DRAIN_DEADLINE: Duration = Duration::from_secs(35);
/// How long a peer may take nothing of what is there for it once draining has begun, if nothing else is under way on
/// its connection. Looked at now and then: it may have twice as long.
const UNTAKEN_DEADLINE: Duration = Duration::from_secs(5);
/// Requests in flight on one connection: above what a peer's client has, so that it never waits for it.
const CONCURRENT_STREAMS_MAX: u32 = 4_096;
/// Streams that a peer may reset before they were taken up, until its connection is closed with
/// ENHANCE_YOUR_CALM: the defence against rapid resets (CVE-2023-44487, RUSTSEC-2024-0003). A peer that gives up
/// a request has nearly always been read before.
const UNREAD_RESETS_MAX: usize = 64;
/// Streams that we reset for a peer's errors until its connection is closed likewise (CVE-2025-8671). h2 counts
/// them over the connection's whole life, and counts also what an honest peer cannot help: frames of requests
/// that were refused before their end and are forgotten by then (of the last second it remembers 50). A proxy
/// has everybody's calls on one connection, so it is as many as may be under way there: one burst of refusals
/// ends no connection, and whoever provokes them pays a frame for each.
const ERROR_RESETS_MAX: usize = CONCURRENT_STREAMS_MAX as usize;
/// A peer that is idle is asked for a sign of life so often, and is gone without one in so long.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// All of a request's metadata together: what the mesh itself sends is under 1 KiB.
const HEADER_BYTES_MAX: u32 = 16 * 1024;
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Serves until the drain begins, then lets requests under way finish. Each connection is accepted with
/// the certificates of its moment.
pub(crate) async fn serve(listener: TcpListener, transport: Transport, stack: Arc<Stack>, drain: Drain) {
    let connections = TaskTracker::new();
    while let Some(accepted) = drain.unless_started(listener.accept()).await {
        let (stream, address) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after_failed_accept(&error).await;
                continue;
            }
        };
        let (transport, stack, drain) = (transport.clone(), Arc::clone(&stack), drain.clone());
        connections.spawn(async move {
            let service = stack.service;
            match tokio::time::timeout(HANDSHAKE_DEADLINE, meet(&transport, stream, address)).await {
                Ok(Ok(Met::Native(stream, identity, peer, renewed))) => {
                    let caller = Caller::known(&stack.policies, peer.id().clone());
                    let parting = async {
                        let reason = peer.until_parting(identity, renewed).await.as_str();
                        tracing::info!(service, peer = %peer.id(), reason, "ending a connection");
                    };
                    converse(*stream, Connection::new(stack, caller), parting, address, &drain).await;
                }
                Ok(Ok(Met::Proxied(stream, linkerd))) => {
                    let caller = Caller::proxied(&stack.policies, linkerd);
                    let never = std::future::pending();
                    converse(stream, Connection::new(stack, caller), never, address, &drain).await;
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
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    connection: Connection,
    parting: impl Future<Output = ()>,
    address: SocketAddr,
    drain: &Drain,
) {
    let (service, turns) = (connection.service(), connection.turns());
    let connection = http2().serve_connection(TokioIo::new(Gathered::new(turns.seen_on(stream))), connection);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = &mut connection => Some(ended),
        () = drain.started() => None,
        () = parting => None,
    };
    let ended = if let Some(ended) = ended {
        Ok(ended)
    } else {
        connection.as_mut().graceful_shutdown();
        let untaken = async {
            drain.started().await;
            turns.left_untaken(UNTAKEN_DEADLINE).await;
        };
        tokio::select! {
            ended = tokio::time::timeout(DRAIN_DEADLINE, connection) => ended.map_err(|_elapsed| "it did not end in time"),
            () = untaken => Err("its peer takes nothing of what is there for it"),
        }
    };
    match ended {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(service, %address, %error, "a connection ended early"),
        Err(why) => {
            tracing::warn!(service, %address, why, "a connection was cut off");
        }
    }
}

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// Who has connected.
enum Met<'a> {
    /// A workload, over TLS of ours.
    Native(Box<TlsStream>, &'a Identity, Peer, tokio::sync::watch::Receiver<u64>),
    /// The proxy beside us.
    Proxied(TcpStream, &'a Linkerd),
}

async fn meet(transport: &Transport, stream: TcpStream, address: SocketAddr) -> std::io::Result<Met<'_>> {
    stream.set_nodelay(true)?;
    match transport {
        Transport::Native(identity) => {
            // Before the handshake: what changes during it is not missed.
            let renewed = identity.renewed();
            let stream = TlsAcceptor::from(identity.server_config()).accept(stream).await?;
            let peer = Peer::of(stream.get_ref().1).ok_or_else(|| {
                std::io::Error::other("the peer's certificate has no SPIFFE id of this mesh")
            })?;
            Ok(Met::Native(Box::new(stream), identity, peer, renewed))
        }
        Transport::Linkerd(linkerd) if linkerd.is_proxy(address, stream.local_addr()?) => {
            Ok(Met::Proxied(stream, linkerd))
        }
        Transport::Linkerd(_) => {
            Err(std::io::Error::other("it does not come from the Linkerd proxy beside this process"))
        }
    }
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
