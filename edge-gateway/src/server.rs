//! Takes HTTP connections (1.1 and 2 with prior knowledge), and lets them finish when draining.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use mesh::Drain;
use tokio::{net::TcpListener, sync::Semaphore};

use crate::gateway::Gateway;

/// How long requests under way may take to finish once draining has begun.
///
/// Longer than any request may take, so that none is cut off.
const DRAIN_DEADLINE: Duration = Duration::from_secs(35);
const CONCURRENT_STREAMS_MAX: u32 = 256;
const HEADER_BYTES_MAX: u32 = 32 * 1024;

/// How much the server takes from clients, and how long it waits for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For a request's headers, and for a connection's first request.
    pub(crate) header_timeout: Duration,
    /// The most connections at once; further ones wait to be accepted.
    pub(crate) connections_max: usize,
}

/// Serves until the drain begins, then lets requests under way finish.
pub(crate) async fn serve(listener: TcpListener, gateway: Arc<Gateway>, patience: Patience, drain: Drain) {
    let builder = Arc::new(builder(patience.header_timeout));
    let places = Arc::new(Semaphore::new(patience.connections_max));
    let connections = GracefulShutdown::new();
    while let Some(Ok(place)) = drain.unless_started(Arc::clone(&places).acquire_owned()).await {
        let (stream, address) = match drain.unless_started(listener.accept()).await {
            Some(Ok(accepted)) => accepted,
            Some(Err(error)) => {
                mesh::server::pause_after_failed_accept(&error).await;
                continue;
            }
            None => break,
        };
        // Without it small answers wait for the client's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let (builder, gateway, drain) = (Arc::clone(&builder), Arc::clone(&gateway), drain.clone());
        let watcher = connections.watcher();
        tokio::spawn(async move {
            let _place = place;
            let requested = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&requested);
            let service = service_fn(move |request| {
                seen.store(true, Ordering::Relaxed);
                let gateway = Arc::clone(&gateway);
                async move {
                    let answered = mesh::panic_guard::guard(gateway.answer(request, address.ip())).await;
                    Ok::<_, Infallible>(answered.unwrap_or_else(|_panic| gateway.broken()))
                }
            });
            let connection = watcher.watch(builder.serve_connection(TokioIo::new(stream), service));
            tokio::select! {
                ended = connection => {
                    if let Err(error) = ended {
                        tracing::debug!(error, "a connection ended early");
                    }
                }
                () = without_request(&requested, tokio::time::sleep(patience.header_timeout)) => {
                    tracing::debug!("a connection without a request was closed");
                }
                () = without_request(&requested, drain.started()) => {}
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_DEADLINE, connections.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the drain's deadline passed");
    }
}

/// Ends when `waited` does, if there was no request by then; otherwise never. The protocol's own timers
/// only start once it is known which protocol it is.
async fn without_request(requested: &AtomicBool, waited: impl Future<Output = ()>) {
    waited.await;
    if requested.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn builder(header_timeout: Duration) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(header_timeout)
        .max_buf_size(64 * 1024)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(CONCURRENT_STREAMS_MAX)
        .max_header_list_size(HEADER_BYTES_MAX)
        .keep_alive_interval(Duration::from_secs(20))
        .keep_alive_timeout(Duration::from_secs(10));
    builder
}
