//! What a policy on trial would decide otherwise: counted always, logged once a minute for each caller and
//! RPC.

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::Instant,
};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
};

use super::{Rpc, Verdict};
use crate::{identity::SpiffeId, metrics::Metrics, seldom::Seldom};

/// Only workloads that one of the two policies names can differ, so the series are bounded by them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    workload: Arc<str>,
    rpc: &'static str,
    would: &'static str,
}

/// Where differences are told. Cheap to clone.
#[derive(Clone)]
pub(super) struct Differences(Arc<Told>);

struct Told {
    counted: Family<Labels, Counter<u64, AtomicU64>>,
    logged: Seldom<(SpiffeId, Rpc)>,
}

impl Differences {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counted = Family::default();
        metrics.register(
            "policy_dry_run_differences",
            "Calls that the policy on trial would decide otherwise, by what it would do",
            counted.clone(),
        );
        Self(Arc::new(Told { counted, logged: Seldom::default() }))
    }

    /// Counts a decision if the two policies differ in it; true if it was logged too.
    pub(super) fn note(&self, peer: &SpiffeId, verdict: Verdict, now: Instant) -> bool {
        let Some(rpc) = verdict.rpc.filter(|_| verdict.allowed != verdict.trial) else { return false };
        let would = if verdict.trial { "allow" } else { "deny" };
        let labels = Labels { workload: peer.name().into(), rpc: rpc.name(), would };
        self.0.counted.get_or_create(&labels).inc();
        let Some(unsaid) = self.0.logged.note((peer.clone(), rpc), now) else { return false };
        tracing::warn!(%peer, rpc = rpc.name(), would, unsaid, "the policy on trial would decide otherwise");
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn every_difference_is_counted_and_one_a_minute_is_logged() {
        let metrics = Metrics::new("svc-test");
        let differences = Differences::new(&metrics);
        let (tax, fraud) = (SpiffeId::of("svc-tax").unwrap(), SpiffeId::of("svc-fraud").unwrap());
        let rpc = Rpc::of_path("/grpc.health.v1.Health/Check");
        let verdict = |allowed, trial| Verdict { rpc, allowed, trial };
        let began = Instant::now();
        assert!(!differences.note(&tax, verdict(true, true), began), "no difference");
        assert!(differences.note(&tax, verdict(true, false), began));
        assert!(!differences.note(&tax, verdict(true, false), began + Duration::from_secs(59)));
        assert!(differences.note(&fraud, verdict(false, true), began));
        assert!(differences.note(&tax, verdict(true, false), began + Duration::from_secs(60)));
        let text = metrics.text();
        for (workload, would, count) in [("svc-tax", "deny", 3), ("svc-fraud", "allow", 1)] {
            let rpc = "grpc.health.v1.Health/Check";
            let labels = format!(r#"workload="{workload}",rpc="{rpc}",would="{would}"}} {count}"#);
            assert!(text.contains(&labels), "{text}");
        }
    }
}
