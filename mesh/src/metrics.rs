//! What is counted: rate, errors and duration per RPC (RED), as Prometheus text and over OTLP.

use std::{
    sync::{Arc, Mutex, atomic::AtomicU64},
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter as OtelCounter, Histogram as OtelHistogram},
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Metric, Registry},
};
use tonic::Code;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RpcLabels {
    rpc: Arc<str>,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    rpc: Arc<str>,
}

/// Upper bounds in seconds: 50 µs to 10 s.
pub(crate) const BUCKETS: [f64; 14] =
    [0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

type Durations = Family<DurationLabels, Histogram, fn() -> Histogram>;

/// One service's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    requests: Family<RpcLabels, Counter>,
    durations: Durations,
    in_flight: Gauge<i64, std::sync::atomic::AtomicI64>,
    otel_requests: OtelCounter<u64>,
    otel_durations: OtelHistogram<f64>,
    service: &'static str,
}

impl Metrics {
    /// The metrics of a service.
    pub fn new(service: &'static str) -> Self {
        let labels = [("service".into(), service.into())];
        let mut registry = Registry::with_prefix_and_labels("paymesh", labels.into_iter());
        let requests = Family::default();
        let durations = Durations::new_with_constructor(|| Histogram::new(BUCKETS));
        let in_flight = Gauge::default();
        registry.register("rpc_server_requests", "RPCs answered, by gRPC code", requests.clone());
        registry.register("rpc_server_duration_seconds", "Time from request to answer", durations.clone());
        registry.register("rpc_server_in_flight", "RPCs being worked on", in_flight.clone());
        let meter = global::meter(service);
        let otel_requests = meter.u64_counter("rpc.server.requests").build();
        let otel_durations = meter
            .f64_histogram("rpc.server.duration")
            .with_unit("s")
            .with_boundaries(BUCKETS.to_vec())
            .build();
        let registry = Mutex::new(registry);
        Self(Arc::new(Inner {
            registry,
            requests,
            durations,
            in_flight,
            otel_requests,
            otel_durations,
            service,
        }))
    }

    /// Adds a metric of the service's own; its name gets the prefix `paymesh_`.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        if let Ok(mut registry) = self.0.registry.lock() {
            registry.register(name, help, metric);
        }
    }

    /// A new counter of the service's own.
    pub fn counter(&self, name: &str, help: &str) -> Counter<u64, AtomicU64> {
        let counter = Counter::default();
        self.register(name, help, counter.clone());
        counter
    }

    /// The Prometheus text of everything counted.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.0.registry.lock() {
            // Writing to a String does not fail.
            let _ = encode(&mut text, &registry);
        }
        text
    }

    /// An RPC has begun; returns how many are under way, this one included.
    pub(crate) fn begin(&self) -> i64 {
        self.0.in_flight.inc() + 1
    }

    /// An RPC is over, one way or another.
    pub(crate) fn end(&self) {
        self.0.in_flight.dec();
    }

    /// An RPC was answered.
    pub(crate) fn answered(&self, rpc: &Arc<str>, code: Code, took: Duration) {
        let code = code_name(code);
        self.0.requests.get_or_create(&RpcLabels { rpc: Arc::clone(rpc), code }).inc();
        self.0.durations.get_or_create(&DurationLabels { rpc: Arc::clone(rpc) }).observe(took.as_secs_f64());
        if crate::telemetry::is_exporting() {
            let name = KeyValue::new("rpc.method", Arc::clone(rpc));
            let service = KeyValue::new("paymesh.service", self.0.service);
            self.0.otel_durations.record(took.as_secs_f64(), &[name.clone(), service.clone()]);
            self.0.otel_requests.add(1, &[name, service, KeyValue::new("rpc.grpc.status_code", code)]);
        }
    }
}

pub(crate) fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answered_rpc_shows_in_the_text() {
        let metrics = Metrics::new("svc-test");
        metrics.answered(&"a.B/C".into(), Code::NotFound, Duration::from_millis(3));
        let text = metrics.text();
        let line = r#"paymesh_rpc_server_requests_total{service="svc-test",rpc="a.B/C",code="NOT_FOUND"} 1"#;
        assert!(text.contains(line), "{text}");
    }
}
