//! Telemetry as a service has it, with somebody who takes what is exported and throws it away.

use std::convert::Infallible;
use std::net::Ipv4Addr;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::telemetry::{Telemetry, TelemetryConfig};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use crate::error::BenchError;

/// Of how many thousand calls how many are traced.
const SAMPLE_PER_MILLE: u16 = 10;

/// Logging and exporting, as long as it is held.
pub(crate) struct Exporting {
    _telemetry: Telemetry,
    _runtime: Runtime,
}

/// Logs as the process of a service does, records one trace in a hundred, and exports it and the metrics.
pub(crate) fn start(log: &str) -> Result<Exporting, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .map_err(BenchError::io("a runtime"))?;
    let telemetry = runtime.block_on(async {
        let failed = || BenchError::io("a port for what is exported");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed())?;
        let address = listener.local_addr().map_err(failed())?;
        tokio::spawn(collect(listener));
        let config = TelemetryConfig {
            // What is said once at the start is not wanted between the rows of the table.
            log: format!("{log},mesh::service=warn"),
            otlp_endpoint: Some(format!("http://{address}")),
            sample_per_mille: SAMPLE_PER_MILLE,
            ..TelemetryConfig::default()
        };
        Telemetry::start(&config, "bench").map_err(|error| BenchError::Arguments(error.to_string()))
    })?;
    Ok(Exporting { _telemetry: telemetry, _runtime: runtime })
}

async fn collect(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service_fn(|request| async { take(request).await })),
        );
    }
}

/// Reads a request to its end and answers it with an empty message and OK.
async fn take(
    request: Request<Incoming>,
) -> Result<Response<impl Body<Data = Bytes, Error = Infallible>>, Infallible> {
    let _ = request.into_body().collect().await;
    let ok = async {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Some(Ok(trailers))
    };
    let mut response = Response::new(Full::from(&[0; 5][..]).with_trailers(ok));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    Ok(response)
}
