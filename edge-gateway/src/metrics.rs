//! What the edge counts: requests by RPC and HTTP status, their duration, how many are under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use mesh::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};

/// Upper bounds in seconds: 100 µs to 30 s.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    rpc: Arc<str>,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    rpc: Arc<str>,
}

/// The edge's own metrics.
#[derive(Debug)]
pub(crate) struct EdgeMetrics {
    requests: Family<RequestLabels, Counter>,
    durations: Family<DurationLabels, Histogram, fn() -> Histogram>,
    in_flight: AtomicUsize,
}

impl EdgeMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let requests = Family::default();
        let durations = Family::new_with_constructor((|| Histogram::new(BUCKETS)) as fn() -> Histogram);
        metrics.register("edge_requests", "HTTP requests answered, by RPC and status", requests.clone());
        metrics.register("edge_duration_seconds", "Time from request to answer", durations.clone());
        Self { requests, durations, in_flight: AtomicUsize::new(0) }
    }

    /// A request was answered. `rpc` is a name of the contract, or `none` where no route was found:
    /// callers cannot invent series.
    pub(crate) fn answered(&self, rpc: &Arc<str>, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { rpc: Arc::clone(rpc), status }).inc();
        self.durations.get_or_create(&DurationLabels { rpc: Arc::clone(rpc) }).observe(took.as_secs_f64());
    }

    /// A request is under way until the guard is dropped.
    pub(crate) fn begin(&self) -> UnderWay<'_> {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        UnderWay { metrics: self, others }
    }
}

/// Counts a request as under way, also when its client goes away in the middle.
pub(crate) struct UnderWay<'a> {
    metrics: &'a EdgeMetrics,
    /// How many there were before this one.
    pub(crate) others: usize,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
