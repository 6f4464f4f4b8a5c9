//! Each service's admin port: plain HTTP for whoever runs the service, not for callers of it.
//! `/metrics` (Prometheus text), `/healthz` (alive), `/readyz` (taking requests).

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{drain::Drain, metrics::Metrics, server};

/// Serves until `stopped`; a draining service is alive but not ready.
pub(crate) async fn serve(listener: TcpListener, metrics: Metrics, drain: Drain, stopped: Drain) {
    let metrics = Arc::new(metrics);
    while let Some(accepted) = stopped.unless_started(listener.accept()).await {
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                server::pause_after_failed_accept(&error).await;
                continue;
            }
        };
        let (metrics, drain, stopped) = (Arc::clone(&metrics), drain.clone(), stopped.clone());
        tokio::spawn(async move {
            let service = service_fn(|request| {
                let response = answer(&request, &metrics, &drain);
                async move { Ok::<_, Infallible>(response) }
            });
            let mut http1 = hyper::server::conn::http1::Builder::new();
            http1.timer(TokioTimer::new());
            let connection = http1.serve_connection(TokioIo::new(stream), service);
            let _ = stopped.unless_started(connection).await;
        });
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics, drain: &Drain) -> Response<Full<Bytes>> {
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") => (StatusCode::OK, metrics.text()),
        (&Method::GET, "/healthz") => (StatusCode::OK, "alive\n".to_owned()),
        (&Method::GET, "/readyz") if drain.has_started() => {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
        }
        (&Method::GET, "/readyz") => (StatusCode::OK, "ready\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "try /metrics, /healthz or /readyz\n".to_owned()),
    };
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
