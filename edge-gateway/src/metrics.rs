//! What the edge counts: requests by RPC and HTTP status, their duration, how many are under way.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use http::StatusCode;
use mesh::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, histogram::Histogram},
};

/// Upper bounds in seconds: 100 µs to 30 s.
const BUCKETS: [f64; 14] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0, 30.0];

/// What requests count as that got no answer, as the connection or the stream had ended before, whoever ended
/// it: no status of HTTP, and never sent.
const NO_ANSWER: u16 = 499;

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
    fn answered(&self, rpc: &Arc<str>, status: u16, took: Duration) {
        self.requests.get_or_create(&RequestLabels { rpc: Arc::clone(rpc), status }).inc();
        self.durations.get_or_create(&DurationLabels { rpc: Arc::clone(rpc) }).observe(took.as_secs_f64());
    }

    /// A request is under way until the guard is dropped, since `began`. Unless it is `counted`, the others do
    /// not see it. Its name is known later.
    pub(crate) fn begin(&self, counted: bool, name: &Arc<str>, began: Instant) -> UnderWay<'_> {
        let others = if counted { self.in_flight.fetch_add(1, Ordering::Relaxed) } else { 0 };
        UnderWay { metrics: self, others, rpc: Arc::clone(name), counted, began, is_answered: false }
    }
}

/// A request under way, also when its connection ends in the middle.
pub(crate) struct UnderWay<'a> {
    metrics: &'a EdgeMetrics,
    /// How many there were before this one.
    pub(crate) others: usize,
    /// What it is counted as.
    pub(crate) rpc: Arc<str>,
    counted: bool,
    began: Instant,
    is_answered: bool,
}

impl UnderWay<'_> {
    /// There is an answer.
    pub(crate) fn answered(mut self, request_id: &str, status: StatusCode) {
        self.is_answered = true;
        let (took_us, rpc, status) = (self.ended(status.as_u16()), &*self.rpc, status.as_u16());
        if status >= 500 {
            tracing::warn!(request_id, rpc, status, took_us, "a request failed");
        } else {
            tracing::debug!(request_id, rpc, status, took_us, "a request was answered");
        }
    }

    /// Counts it, and says how long it took, in microseconds.
    fn ended(&self, status: u16) -> u64 {
        let took = self.began.elapsed();
        self.metrics.answered(&self.rpc, status, took);
        u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.counted {
            self.metrics.in_flight.fetch_sub(1, Ordering::Relaxed);
        }
        if self.is_answered {
            return;
        }
        if std::thread::panicking() {
            self.ended(StatusCode::INTERNAL_SERVER_ERROR.as_u16());
            return;
        }
        let (took_us, rpc) = (self.ended(NO_ANSWER), &*self.rpc);
        tracing::debug!(rpc, status = NO_ANSWER, took_us, "a request ended without an answer");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_take_no_place_and_who_gets_no_answer_is_counted() {
        let registry = Metrics::new("edge");
        let metrics = EdgeMetrics::new(&registry);
        let (none, now) = (Arc::from("none"), Instant::now());
        let _probe = metrics.begin(false, &none, now);
        let first = metrics.begin(true, &none, now);
        let mut second = metrics.begin(true, &none, now);
        assert_eq!((first.others, second.others), (0, 1));
        second.rpc = "Pay/Get".into();
        drop(second);
        first.answered("r", StatusCode::OK);
        assert_eq!(metrics.begin(true, &none, now).others, 0);
        let text = registry.text();
        for (rpc, status) in [("Pay/Get", 499), ("none", 200), ("none", 499)] {
            let line =
                format!(r#"paymesh_edge_requests_total{{service="edge",rpc="{rpc}",status="{status}"}} 1"#);
            assert!(text.contains(&line), "{text}");
        }
    }
}
