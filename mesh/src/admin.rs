//! Each service's admin port: plain HTTP for whoever runs the service, not for callers of it.
//! `/metrics` (Prometheus text), `/healthz` (alive), `/readyz` (taking requests), `/log` (the log's filter:
//! GET shows it, PUT changes it; from this machine only).

use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;

use crate::{
    drain::Drain,
    log_filter::{FILTER_BYTES_MAX, HOLD_S_MAX, LogFilter},
    metrics::Metrics,
    routes::Stages,
    server,
};

/// Serves until `stopped`; a service that drains, or does not serve everything yet, is alive but not ready.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Metrics,
    routes: Arc<Stages>,
    drain: Drain,
    stopped: Drain,
) {
    let metrics = Arc::new(metrics);
    while let Some(accepted) = stopped.unless_started(listener.accept()).await {
        let (stream, peer) = match accepted {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                server::pause_after_failed_accept(&error).await;
                continue;
            }
        };
        let (metrics, drain, stopped) = (Arc::clone(&metrics), drain.clone(), stopped.clone());
        let routes = Arc::clone(&routes);
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| async {
                let response = if request.uri().path() == "/log" {
                    log(request, peer, LogFilter::of_the_process()).await
                } else {
                    answer(&request, &metrics, &routes, &drain)
                };
                Ok::<_, Infallible>(response)
            });
            let mut http1 = hyper::server::conn::http1::Builder::new();
            http1.timer(TokioTimer::new());
            let connection = http1.serve_connection(TokioIo::new(stream), service);
            let _ = stopped.unless_started(connection).await;
        });
    }
}

fn answer(
    request: &Request<Incoming>,
    metrics: &Metrics,
    routes: &Stages,
    drain: &Drain,
) -> Response<Full<Bytes>> {
    let open_metrics = asks_for_open_metrics(request.headers());
    let (status, body) = match (request.method(), request.uri().path()) {
        (&Method::GET, "/metrics") if open_metrics => (StatusCode::OK, metrics.open_metrics()),
        (&Method::GET, "/metrics") => (StatusCode::OK, metrics.text()),
        (&Method::GET, "/healthz") => (StatusCode::OK, "alive\n".to_owned()),
        (&Method::GET, "/readyz") if drain.has_started() => {
            (StatusCode::SERVICE_UNAVAILABLE, "draining\n".to_owned())
        }
        (&Method::GET, "/readyz") if !routes.is_ready() => {
            (StatusCode::SERVICE_UNAVAILABLE, "waiting\n".to_owned())
        }
        (&Method::GET, "/readyz") => (StatusCode::OK, "ready\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "try /metrics, /healthz, /readyz or /log\n".to_owned()),
    };
    let mut response = text(status, body);
    if open_metrics && request.uri().path() == "/metrics" {
        response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(OPEN_METRICS));
    }
    response
}

/// The log's filter. Whoever is not on this machine may ask for probes and metrics, and for nothing that
/// changes what the service does; nor may a page in a browser that runs on it.
async fn log<B>(request: Request<B>, peer: IpAddr, filter: Option<LogFilter>) -> Response<Full<Bytes>>
where
    B: hyper::body::Body<Data: Send, Error: Into<Box<dyn std::error::Error + Send + Sync>>>,
{
    if !peer.to_canonical().is_loopback() || request.headers().contains_key(header::ORIGIN) {
        return text(StatusCode::FORBIDDEN, "only from this machine\n".to_owned());
    }
    let Some(filter) = filter else {
        return text(StatusCode::NOT_FOUND, "this process writes no log\n".to_owned());
    };
    if request.method() == Method::PUT {
        let hold = match hold(request.uri().query()) {
            Ok(hold) => hold,
            Err(wrong) => return text(StatusCode::BAD_REQUEST, wrong),
        };
        let body = Limited::new(request.into_body(), FILTER_BYTES_MAX).collect().await;
        let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        // What is too long or no text is as good as none: the filter says what it wants.
        if let Err(error) = filter.set(std::str::from_utf8(&body).unwrap_or_default(), hold) {
            return text(StatusCode::BAD_REQUEST, format!("{error}\n"));
        }
    } else if request.method() != Method::GET {
        return text(StatusCode::METHOD_NOT_ALLOWED, "GET or PUT\n".to_owned());
    }
    let (now, then) = filter.current();
    text(StatusCode::OK, then.map_or_else(|| format!("{now}\n"), |then| format!("{now}\nthen {then}\n")))
}

/// How long the filter is to hold: `for_s` of the query.
fn hold(query: Option<&str>) -> Result<Option<Duration>, String> {
    let Some(query) = query else { return Ok(None) };
    let seconds = query.strip_prefix("for_s=").and_then(|seconds| seconds.parse().ok());
    match seconds.filter(|seconds| (1..=HOLD_S_MAX).contains(seconds)) {
        Some(seconds) => Ok(Some(Duration::from_secs(seconds))),
        None => Err(format!("the query may be for_s=SECONDS, 1 to {HOLD_S_MAX}\n")),
    }
}

fn text(status: StatusCode, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(body));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
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
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    async fn asked(request: Request<Full<Bytes>>, peer: IpAddr, filter: &LogFilter) -> (u16, String) {
        let response = log(request, peer, Some(filter.clone())).await;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn request(method: &Method, uri: &str, body: &str) -> Request<Full<Bytes>> {
        Request::builder().method(method).uri(uri).body(Full::from(body.to_owned())).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_filter_is_shown_and_changed_from_this_machine() {
        let filter = LogFilter::new("info", Vec::new());
        assert_eq!(asked(request(&Method::GET, "/log", ""), HERE, &filter).await, (200, "info\n".into()));
        let put = request(&Method::PUT, "/log?for_s=5", "info,mesh=debug\n");
        let mapped = IpAddr::V6(Ipv4Addr::LOCALHOST.to_ipv6_mapped());
        let said = asked(put, mapped, &filter).await;
        assert_eq!(said, (200, "info,mesh=debug\nthen info\n".into()));
        tokio::time::sleep(Duration::from_secs(6)).await;
        let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
        assert_eq!(asked(request(&Method::GET, "/log", ""), v6, &filter).await, (200, "info\n".into()));
    }

    #[tokio::test]
    async fn nobody_else_changes_it_and_wrong_ones_are_refused() {
        let filter = LogFilter::new("info", Vec::new());
        let elsewhere = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1));
        for method in [Method::GET, Method::PUT] {
            assert_eq!(asked(request(&method, "/log", "debug"), elsewhere, &filter).await.0, 403);
        }
        let mut of_a_page = request(&Method::PUT, "/log", "debug");
        of_a_page.headers_mut().insert(header::ORIGIN, header::HeaderValue::from_static("http://evil.test"));
        assert_eq!(asked(of_a_page, HERE, &filter).await.0, 403);
        for (uri, body) in [
            ("/log", ""),
            ("/log", &"x".repeat(5_000)),
            ("/log?for_s=0", "debug"),
            ("/log?for_s=86401", "debug"),
            ("/log?for=5", "debug"),
        ] {
            let (status, said) = asked(request(&Method::PUT, uri, body), HERE, &filter).await;
            assert_eq!(status, 400, "{uri} {said}");
        }
        assert_eq!(asked(request(&Method::DELETE, "/log", ""), HERE, &filter).await.0, 405);
        assert_eq!(filter.current().0, "info");
    }

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
