//! What the relay counts.

use std::{sync::atomic::AtomicU64, time::Duration};

use mesh::Metrics;
use prometheus_client::metrics::{counter::Counter, family::Family, gauge::Gauge};

use crate::publish::PublishError;

type Reason = [(&'static str, &'static str); 1];

/// A relay's metrics; the names get the prefix `paymesh_`.
pub(crate) struct RelayMetrics {
    published: Counter,
    failed: Family<Reason, Counter>,
    backlog: Gauge<i64>,
    lag: Gauge<f64, AtomicU64>,
}

impl RelayMetrics {
    pub(crate) fn register(metrics: &Metrics) -> Self {
        let this = Self {
            published: Counter::default(),
            failed: Family::default(),
            backlog: Gauge::default(),
            lag: Gauge::default(),
        };
        metrics.register(
            "events_published",
            "Events that were published and marked so",
            this.published.clone(),
        );
        metrics.register(
            "events_failed",
            "Attempts to publish an event that failed, by reason; each is made again",
            this.failed.clone(),
        );
        metrics.register("events_backlog", "Events that wait to be published", this.backlog.clone());
        metrics.register("events_lag_seconds", "Age of the oldest event that waits", this.lag.clone());
        this
    }

    pub(crate) fn published(&self, events: usize) {
        self.published.inc_by(events.try_into().unwrap_or(u64::MAX));
    }

    pub(crate) fn failed(&self, error: PublishError) {
        self.failed.get_or_create(&[("reason", error.name())]).inc();
    }

    pub(crate) fn waiting(&self, events: u64, age: Duration) {
        self.backlog.set(events.try_into().unwrap_or(i64::MAX));
        self.lag.set(age.as_secs_f64());
    }
}
