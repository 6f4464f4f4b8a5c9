//! Takes HTTP connections (1.1 and 2 with prior knowledge), and lets them finish when draining.

use std::{convert::Infallible, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use mesh::Drain;
use tokio::net::TcpListener;

use crate::gateway::Gateway;

/// How long requests under way may take to finish once draining has begun.
const DRAIN_DEADLINE: Duration = Duration::from_secs(20);
const CONCURRENT_STREAMS_MAX: u32 = 256;
const HEADER_BYTES_MAX: u32 = 32 * 1024;

/// Serves until the drain begins, then lets requests under way finish.
pub(crate) async fn serve(
    listener: TcpListener,
    gateway: Arc<Gateway>,
    header_timeout: Duration,
    drain: Drain,
) {
    let builder = Arc::new(builder(header_timeout));
    let connections = GracefulShutdown::new();
    while let Some(accepted) = drain.unless_started(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, or the client is gone already: neither ends the edge.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            }
        };
        // Without it small answers wait for the client's acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        let (builder, gateway, watcher) = (Arc::clone(&builder), Arc::clone(&gateway), connections.watcher());
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let gateway = Arc::clone(&gateway);
                async move {
                    let answered = mesh::panic_guard::guard(gateway.answer(request)).await;
                    Ok::<_, Infallible>(answered.unwrap_or_else(|_panic| gateway.broken()))
                }
            });
            let connection = builder.serve_connection(TokioIo::new(stream), service);
            if let Err(error) = watcher.watch(connection).await {
                tracing::debug!(error, "a connection ended early");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_DEADLINE, connections.shutdown()).await.is_err() {
        tracing::warn!("requests were still under way when the drain's deadline passed");
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
