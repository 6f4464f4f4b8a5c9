//! What is counted of sending.

use std::sync::atomic::{AtomicI64, AtomicU64};

use mesh::Metrics;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
};

use crate::domain::{
    attempt::{Outcome, Verdict},
    endpoint::DisabledReason,
};

/// Upper bounds of how long attempts take, in seconds.
const SECONDS: [f64; 10] = [0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

/// The metrics of one dispatcher. No label comes from outside.
#[derive(Debug)]
pub(crate) struct DispatchMetrics {
    attempts: Family<OutcomeLabel, Counter<u64, AtomicU64>>,
    seconds: Histogram,
    disabled: Family<ReasonLabel, Counter<u64, AtomicU64>>,
    pub(crate) under_way: Gauge<i64, AtomicI64>,
    /// Reports on deliveries that somebody else had by then.
    pub(crate) late: Counter<u64, AtomicU64>,
    /// Reports that the store did not take: the webhook is sent again.
    pub(crate) unrecorded: Counter<u64, AtomicU64>,
    /// Deliveries put off as their secrets were not at hand.
    pub(crate) unsigned: Counter<u64, AtomicU64>,
}

impl DispatchMetrics {
    pub(crate) fn new(metrics: &Metrics) -> Self {
        let attempts = Family::default();
        metrics.register("webhook_attempts", "Attempts to deliver webhooks", attempts.clone());
        let seconds = Histogram::new(SECONDS);
        metrics.register("webhook_attempt_seconds", "How long attempts took", seconds.clone());
        let disabled = Family::default();
        metrics.register("webhook_endpoints_disabled", "Endpoints disabled by attempts", disabled.clone());
        let under_way = Gauge::default();
        metrics.register("webhook_under_way", "Attempts under way", under_way.clone());
        let late = metrics.counter("webhook_reports_late", "Attempts that ended after their lease");
        let unrecorded = metrics.counter("webhook_reports_lost", "Attempts that could not be recorded");
        let unsigned = metrics.counter("webhook_unsigned", "Deliveries put off for want of their secrets");
        Self { attempts, seconds, disabled, under_way, late, unrecorded, unsigned }
    }

    pub(crate) fn attempted(&self, outcome: Outcome, took_seconds: f64) {
        let name = match (outcome.verdict(), outcome) {
            (Verdict::Delivered, _) => "DELIVERED",
            (Verdict::Gone, _) => "GONE",
            (Verdict::Failed, Outcome::Answered(_)) => "REFUSED",
            (Verdict::Failed, Outcome::Failed(error)) => error.name(),
        };
        self.attempts.get_or_create(&OutcomeLabel { outcome: name }).inc();
        self.seconds.observe(took_seconds);
    }

    pub(crate) fn disabled(&self, reason: DisabledReason) {
        self.disabled.get_or_create(&ReasonLabel { reason: reason.name() }).inc();
    }
}
