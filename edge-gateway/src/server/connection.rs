//! One connection, from its first byte to its last.

use std::{convert::Infallible, pin::pin, sync::Arc, time::Duration};

use http::Request;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use mesh::{Drain, Gathered};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::{Instant, Interval, MissedTickBehavior},
};
use tokio_rustls::TlsAcceptor;

use super::{Builder, Server, paced::Paced, watch::Watch};
use crate::gateway::Peer;

/// How long a client that was told to go may take to hear of it.
const FAREWELL: Duration = Duration::from_secs(1);
/// How much longer than its longest duration a stream may go on: it ends by itself, if it is asked for more.
const STREAM_GRACE: Duration = Duration::from_secs(5);
/// For how long an answer may wait for the client while the edge drains.
const DRAINING_TURN: Duration = Duration::from_secs(5);

/// Serves a connection without TLS.
pub(super) async fn plain(server: &Server, stream: TcpStream, peer: Peer, drain: Drain) {
    serve(server, server.protocols.agreed(None), server.paced(stream), peer, drain).await;
}

/// Serves a connection with TLS.
pub(super) async fn tls(server: &Server, acceptor: TlsAcceptor, stream: TcpStream, peer: Peer, drain: Drain) {
    let handshake = acceptor.accept(server.paced(stream));
    let handshake = tokio::time::timeout(server.patience.header_timeout, handshake);
    match drain.unless_started(handshake).await {
        Some(Ok(Ok(stream))) => {
            let protocol = server.protocols.agreed(stream.get_ref().1.alpn_protocol());
            serve(server, protocol, stream, peer, drain).await;
        }
        Some(Ok(Err(error))) => tracing::debug!(%error, "a handshake failed"),
        Some(Err(_elapsed)) => tracing::debug!("a handshake took too long"),
        None => {}
    }
}

async fn serve<T>(server: &Server, protocol: &Builder, stream: T, peer: Peer, drain: Drain)
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let patience = &server.patience;
    let watch = Watch::new(patience.resets_max, patience.bytes_in(patience.turn));
    let service = service_fn(|request: Request<Incoming>| {
        let under_way = watch.begin();
        let gateway = Arc::clone(&server.gateway);
        let stream_lasts = patience.stream_duration_max + STREAM_GRACE;
        async move {
            let answered = mesh::panic_guard::guard(gateway.answer(request, peer)).await;
            let answer = answered.unwrap_or_else(|_panic| gateway.broken(peer));
            let stream_end = || Instant::now().into_std() + stream_lasts;
            Ok::<_, Infallible>(answer.map(|body| under_way.answered(body, stream_end)))
        }
    });
    let mut connection = pin!(protocol.serve_connection(TokioIo::new(Gathered::new(stream)), service));
    let mut first_request = pin!(tokio::time::sleep(patience.header_timeout));
    let mut farewell = pin!(tokio::time::sleep(patience.header_timeout));
    let mut turns = every(patience.turn);
    let (mut began, mut draining, mut going, mut abused) = (false, false, false, false);
    loop {
        tokio::select! {
            biased;
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::debug!(error, "a connection ended early");
                }
                return;
            }
            // The protocol's own timers only start once it is known which protocol it is.
            () = first_request.as_mut(), if !began => {
                if !watch.has_requested() {
                    tracing::debug!("a connection without a request was closed");
                    return;
                }
                began = true;
            }
            () = drain.started(), if !draining => {
                if !watch.has_requested() {
                    return;
                }
                connection.as_mut().graceful_shutdown();
                draining = true;
                // Who takes nothing does not hold the drain up.
                let turn = patience.turn.min(DRAINING_TURN);
                watch.set_bytes_per_turn(patience.bytes_in(turn));
                turns = every(turn);
            }
            () = watch.abused.notified(), if !abused => {
                tracing::debug!("a client gave up too many requests");
                connection.as_mut().graceful_shutdown();
                farewell.as_mut().reset(Instant::now() + FAREWELL);
                (going, abused) = (true, true);
            }
            () = farewell.as_mut(), if going => {
                // Who was idle may have asked once more before it heard.
                if abused || watch.quiet_turns() > 0 {
                    return;
                }
                farewell.as_mut().reset(Instant::now() + FAREWELL);
            }
            _ = turns.tick() => {
                // One user's answer does not cost all others theirs.
                let waits_for_many = peer.is_proxy && !draining;
                if watch.turn(Instant::now().into_std(), waits_for_many) {
                    tracing::debug!("a client did not take its answers");
                    return;
                }
                if watch.quiet_turns() > patience.quiet_turns_max && !going {
                    connection.as_mut().graceful_shutdown();
                    farewell.as_mut().reset(Instant::now() + FAREWELL);
                    going = true;
                }
            }
        }
    }
}

fn every(turn: Duration) -> Interval {
    let mut turns = tokio::time::interval_at(Instant::now() + turn, turn);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

impl Server {
    fn paced(&self, stream: TcpStream) -> Paced<TcpStream> {
        Paced::new(stream, self.patience.turn, self.patience.answer_rate_min)
    }
}
