//! What is counted on the calling side, per upstream. The labels are made once, not with each call.

use std::{
    sync::{Arc, OnceLock, atomic::AtomicI64},
    time::Duration,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};
use tonic::Code;

use super::breaker::State;
use crate::metrics::{
    Metrics,
    red::{BUCKETS, CODES},
};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    upstream: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CodeLabels {
    upstream: Arc<str>,
    code: &'static str,
}

type Durations = Family<Labels, Histogram, fn() -> Histogram>;
type Level = Gauge<i64, AtomicI64>;

/// The metrics of all upstreams of a service. Cheap to clone.
#[derive(Clone)]
pub struct ClientMetrics {
    requests: Family<CodeLabels, Counter>,
    durations: Durations,
    retries: Family<Labels, Counter>,
    hedges: Family<Labels, Counter>,
    ejections: Family<Labels, Counter>,
    breaker: Family<Labels, Level>,
    connections: Family<Labels, Level>,
}

impl Default for ClientMetrics {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            durations: Durations::new_with_constructor(|| Histogram::new(BUCKETS)),
            retries: Family::default(),
            hedges: Family::default(),
            ejections: Family::default(),
            breaker: Family::default(),
            connections: Family::default(),
        }
    }
}

impl ClientMetrics {
    /// Metrics that appear among those of a service.
    pub fn registered(metrics: &Metrics) -> Self {
        let own = Self::default();
        let put = |name: &str, help: &str, metric: Family<Labels, Counter>| {
            metrics.register(&format!("rpc_client_{name}"), help, metric);
        };
        put("retries", "Attempts made again after a failure", own.retries.clone());
        put("hedges", "Second attempts begun while the first was under way", own.hedges.clone());
        put("ejections", "Endpoints left out for failing", own.ejections.clone());
        metrics.register("rpc_client_requests", "Calls made, by gRPC code", own.requests.clone());
        let help = "Time from call to answer, retries included";
        metrics.register("rpc_client_duration_seconds", help, own.durations.clone());
        let help = "0 closed, 1 half open, 2 open: no call is let through";
        metrics.register("rpc_client_breaker_state", help, own.breaker.clone());
        metrics.register("rpc_client_connections", "Connections that are open", own.connections.clone());
        own
    }

    pub(super) fn of(&self, upstream: &Arc<str>) -> UpstreamMetrics {
        let labels = Labels { upstream: Arc::clone(upstream) };
        UpstreamMetrics {
            upstream: Arc::clone(upstream),
            codes: std::array::from_fn(|_| OnceLock::new()),
            requests: self.requests.clone(),
            duration: self.durations.get_or_create(&labels).clone(),
            retries: self.retries.get_or_create(&labels).clone(),
            hedges: self.hedges.get_or_create(&labels).clone(),
            ejections: self.ejections.get_or_create(&labels).clone(),
            breaker: self.breaker.get_or_create(&labels).clone(),
            connections: self.connections.get_or_create(&labels).clone(),
        }
    }
}

/// The metrics of one upstream, found once.
pub(super) struct UpstreamMetrics {
    upstream: Arc<str>,
    /// By code; a series begins with its first call.
    codes: [OnceLock<Counter>; CODES.len()],
    requests: Family<CodeLabels, Counter>,
    duration: Histogram,
    pub(super) retries: Counter,
    pub(super) hedges: Counter,
    pub(super) ejections: Counter,
    breaker: Level,
    pub(super) connections: Level,
}

impl UpstreamMetrics {
    /// A call is over.
    pub(super) fn ended(&self, code: Code, took: Duration) {
        self.counted(code);
        self.duration.observe(took.as_secs_f64());
    }

    /// Counts a call by its code alone: one that was refused here took no time.
    pub(super) fn counted(&self, code: Code) {
        if let (Some(place), Some((_, name))) = (self.codes.get(code as usize), CODES.get(code as usize)) {
            place
                .get_or_init(|| {
                    let labels = CodeLabels { upstream: Arc::clone(&self.upstream), code: name };
                    self.requests.get_or_create(&labels).clone()
                })
                .inc();
        }
    }

    pub(super) fn breaker_is(&self, state: State) {
        self.breaker.set(match state {
            State::Closed => 0,
            State::HalfOpen => 1,
            State::Open => 2,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_shows_in_the_services_text() {
        let metrics = Metrics::new("svc-test");
        let upstream = ClientMetrics::registered(&metrics).of(&"svc-ledger".into());
        upstream.ended(Code::Unavailable, Duration::from_millis(2));
        upstream.ended(Code::Unavailable, Duration::from_millis(2));
        upstream.retries.inc();
        upstream.breaker_is(State::Open);
        let text = metrics.text();
        for line in [
            r#"paymesh_rpc_client_requests_total{service="svc-test",upstream="svc-ledger",code="UNAVAILABLE"} 2"#,
            r#"paymesh_rpc_client_retries_total{service="svc-test",upstream="svc-ledger"} 1"#,
            r#"paymesh_rpc_client_breaker_state{service="svc-test",upstream="svc-ledger"} 2"#,
            r#"paymesh_rpc_client_duration_seconds_count{service="svc-test",upstream="svc-ledger"} 2"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
