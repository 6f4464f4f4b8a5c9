//! What is counted: rate, errors and duration per RPC (RED), as Prometheus text and over OTLP.

pub(crate) mod red;
mod text;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64},
    },
    time::Duration,
};

use prometheus_client::{
    collector::Collector,
    encoding::text::encode,
    metrics::{counter::Counter, gauge::Gauge},
    registry::{Metric, Registry},
};
use tonic::Code;

use crate::policy::Rpc;
use red::Red;

/// One service's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Mutex<Registry>,
    red: Arc<Red>,
    in_flight: Gauge<i64, AtomicI64>,
    /// Those of them that are streams.
    streams: Gauge<i64, AtomicI64>,
}

impl Metrics {
    /// The metrics of a service.
    pub fn new(service: &'static str) -> Self {
        let labels = [("service".into(), service.into())];
        let mut registry = Registry::with_prefix_and_labels("paymesh", labels.into_iter());
        let red = Red::register(service, &mut registry);
        let (in_flight, streams) = (Gauge::default(), Gauge::default());
        registry.register("rpc_server_in_flight", "RPCs being worked on", in_flight.clone());
        registry.register("rpc_server_streams", "Streams of answers that are open", streams.clone());
        Self(Arc::new(Inner { registry: Mutex::new(registry), red, in_flight, streams }))
    }

    /// Adds a metric of the service's own; its name gets the prefix `paymesh_`.
    pub fn register(&self, name: &str, help: &str, metric: impl Metric) {
        if let Ok(mut registry) = self.0.registry.lock() {
            registry.register(name, help, metric);
        }
    }

    /// Adds what is only asked for when metrics are.
    pub(crate) fn register_collector(&self, collector: impl Collector) {
        if let Ok(mut registry) = self.0.registry.lock() {
            registry.register_collector(Box::new(collector));
        }
    }

    /// A new counter of the service's own.
    pub fn counter(&self, name: &str, help: &str) -> Counter<u64, AtomicU64> {
        let counter = Counter::default();
        self.register(name, help, counter.clone());
        counter
    }

    /// Everything counted, with exemplars, as OpenMetrics 1.0.
    pub fn open_metrics(&self) -> String {
        let mut text = String::new();
        if let Ok(registry) = self.0.registry.lock() {
            // Writing to a String does not fail.
            let _ = encode(&mut text, &registry);
        }
        text
    }

    /// Everything counted, as Prometheus text 0.0.4.
    pub fn text(&self) -> String {
        text::prometheus(&self.open_metrics())
    }

    /// An RPC has begun; returns how many of its kind are under way, this one included: streams, most of
    /// which wait for something to happen, take no place from the others.
    pub(crate) fn begin(&self, streams: bool) -> i64 {
        let in_flight = self.0.in_flight.inc() + 1;
        if streams { self.0.streams.inc() + 1 } else { in_flight - self.0.streams.get() }
    }

    /// An RPC is over, one way or another.
    pub(crate) fn end(&self, streams: bool) {
        if streams {
            self.0.streams.dec();
        }
        self.0.in_flight.dec();
    }

    /// An RPC was answered; `None` is one that the contract does not have. The trace is given where it is
    /// recorded, as an example of those that took so long.
    pub(crate) fn answered(&self, rpc: Option<Rpc>, code: Code, took: Duration, trace_id: Option<u128>) {
        self.0.red.answered(rpc, code, took, trace_id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Option<Rpc> {
        Rpc::of_path("/grpc.health.v1.Health/Check")
    }

    #[test]
    fn an_answered_rpc_shows_in_the_text() {
        let metrics = Metrics::new("svc-test");
        metrics.answered(health(), Code::NotFound, Duration::from_millis(3), None);
        metrics.answered(None, Code::PermissionDenied, Duration::from_millis(3), None);
        for text in [metrics.text(), metrics.open_metrics()] {
            for (rpc, code) in
                [("grpc.health.v1.Health/Check", "NOT_FOUND"), ("unknown", "PERMISSION_DENIED")]
            {
                let labels = format!(r#"{{service="svc-test",rpc="{rpc}",code="{code}"}}"#);
                assert!(text.contains(&format!("paymesh_rpc_server_requests_total{labels} 1")), "{text}");
            }
            assert_eq!(text.matches("requests_total{").count(), 2, "only what was seen is a series: {text}");
        }
    }

    #[test]
    fn a_recorded_trace_is_an_example_in_open_metrics_only() {
        let metrics = Metrics::new("svc-test");
        metrics.answered(health(), Code::Ok, Duration::from_millis(3), Some(0xabc));
        let example = "# {trace_id=\"00000000000000000000000000000abc\"} 0.003";
        assert!(metrics.open_metrics().contains(example), "{}", metrics.open_metrics());
        assert!(!metrics.text().contains("trace_id"), "{}", metrics.text());
        assert!(metrics.text().contains("le=\"0.005\""));
    }
}
