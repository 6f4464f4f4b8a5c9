//! Each service's admin port: plain HTTP for whoever runs the service, not for callers of it.
//! `/metrics` (Prometheus text), `/healthz` (alive), `/readyz` (taking requests).

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
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
    let open_metrics = asks_for_open_metrics(request.headers());
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") if open_metrics => (StatusCode::OK, metrics.open_metrics()),
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
    let kind = match request.uri().path() {
        "/metrics" if open_metrics => OPEN_METRICS,
        _ => "text/plain; version=0.0.4; charset=utf-8",
    };
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Whoever names it can read it, whatever else can be read, too; it has the exemplars.
fn asks_for_open_metrics(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|accept| accept.split(','))
        .any(|kind| kind.split(';').next().is_some_and(|kind| kind.trim() == "application/openmetrics-text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_who_ask_for_it() {
        let asks = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, header::HeaderValue::from_static(accept));
            asks_for_open_metrics(&headers)
        };
        // As Prometheus sends it.
        assert!(asks("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3"));
        assert!(asks("text/plain, application/openmetrics-text"));
        for other in ["*/*", "text/plain;version=0.0.4", "application/openmetrics-textual"] {
            assert!(!asks(other), "{other}");
        }
        assert!(!asks_for_open_metrics(&HeaderMap::new()));
    }
}
