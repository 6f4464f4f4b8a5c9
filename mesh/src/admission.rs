//! How many requests of each RPC are let in at once.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, gauge::ConstGauge},
};

use crate::{
    fault::{Fault, Reason},
    limit::{Limiter, Permit, window::Bounds},
    policy::Rpc,
};

/// What holds for each RPC, by [`Rpc::index`].
pub(crate) struct Admission(Box<[Bound]>);

enum Bound {
    /// Always let in: whoever asks how a busy service is must get an answer.
    None,
    /// Only so many of all RPCs together. For streams, and for what waits on third parties: how long they take
    /// says nothing of how busy the service is.
    Together,
    /// As above, and as many of this RPC as can be answered in time: what is fast in one is slow in another.
    Adaptive(Arc<Limiter>),
}

impl Admission {
    pub(crate) fn new(bounds: Bounds) -> Self {
        let bound = |rpc: Rpc| match rpc {
            rpc if rpc.is_standard() => Bound::None,
            rpc if rpc.streams() || rpc.waits_on_third_party() => Bound::Together,
            _ => Bound::Adaptive(Arc::new(Limiter::new(bounds))),
        };
        Self(Rpc::all().map(bound).collect())
    }

    /// Lets a request in, which is one of `in_flight`, or refuses it.
    pub(crate) fn enter(
        &self,
        rpc: Rpc,
        in_flight: i64,
        in_flight_max: u32,
    ) -> Result<Option<Permit>, Fault> {
        let is_within = in_flight <= i64::from(in_flight_max);
        let entered = match self.0.get(rpc.index()) {
            None | Some(Bound::None) => Some(None),
            Some(Bound::Together) => is_within.then_some(None),
            Some(Bound::Adaptive(limiter)) => limiter.enter().filter(|_| is_within).map(Some),
        };
        entered.ok_or_else(|| {
            Fault::new(Reason::Overloaded, "Too many requests are under way.").retry_after_s(1)
        })
    }
}

/// The adaptive limits as metrics, of those RPCs that were called.
impl Collector for Admission {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let help = "RPCs worked on at once, at most, as found out while working";
        let mut family = encoder.encode_descriptor("rpc_server_limit", help, None, MetricType::Gauge)?;
        for (rpc, bound) in Rpc::all().zip(&self.0) {
            if let Bound::Adaptive(limiter) = bound
                && limiter.is_used()
            {
                let labels = [("rpc", rpc.name())];
                ConstGauge::new(i64::from(limiter.limit())).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{limit::window::Ended, metrics::Metrics};

    const MAX: u32 = 1_000;
    const BOUNDS: Bounds = Bounds { min: 128, max: MAX, queue: Duration::from_millis(500) };

    fn rpc(name: &str) -> Rpc {
        Rpc::of_path(&format!("/paymesh.{name}")).unwrap()
    }

    /// Some quick answers, such as replays of earlier ones, then ten seconds of 500 at a time that take a
    /// second each, with quick ones among them. Returns how many are let in afterwards.
    fn let_in_after_a_slow_dependency(rpc: Rpc) -> usize {
        let admission = Admission::new(BOUNDS);
        let start = Instant::now();
        let enter = |in_flight| admission.enter(rpc, in_flight, MAX);
        let end = |permit: Option<Permit>, took, at| {
            if let Some(permit) = permit {
                permit.ended(Ended::After(took), at);
            }
        };
        for number in 0..20 {
            end(enter(1).unwrap(), Duration::from_millis(1), start + Duration::from_millis(number * 10));
        }
        for second in 1..=10 {
            let at = start + Duration::from_secs(second);
            let entered: Vec<_> = (0..500).filter_map(|_| enter(500).ok()).collect();
            for (number, permit) in entered.into_iter().enumerate() {
                let took = Duration::from_millis(if number % 10 == 0 { 1 } else { 1_000 });
                end(permit, took, at + Duration::from_millis(number as u64));
            }
        }
        let entered: Vec<_> = (1..=i64::from(MAX)).filter_map(|in_flight| enter(in_flight).ok()).collect();
        entered.len()
    }

    #[test]
    fn a_slow_third_party_is_no_queue_but_anything_else_slow_is() {
        let max = MAX as usize;
        assert_eq!(let_in_after_a_slow_dependency(rpc("payments.v1.PaymentService/CreatePayment")), max);
        let own = let_in_after_a_slow_dependency(rpc("tax.v1.TaxService/Calculate"));
        assert!(own < max, "the same times are a queue where the work is our own: {own}");
    }

    #[test]
    fn the_limit_of_each_rpc_that_was_called_is_a_metric() {
        let (metrics, admission) = (Metrics::new("svc-test"), Arc::new(Admission::new(BOUNDS)));
        metrics.register_collector(Arc::clone(&admission));
        assert!(!metrics.text().contains("rpc_server_limit{"), "{}", metrics.text());
        let permit = admission.enter(rpc("tax.v1.TaxService/Calculate"), 1, MAX).unwrap().unwrap();
        permit.ended(Ended::Spared, Instant::now());
        let line = "paymesh_rpc_server_limit{service=\"svc-test\",rpc=\"paymesh.tax.v1.TaxService/Calculate\"} 1000\n";
        assert!(metrics.text().contains(line), "{}", metrics.text());
        assert_eq!(metrics.text().matches("rpc_server_limit{").count(), 1);
    }

    #[test]
    fn all_but_health_and_reflection_are_bounded_together() {
        let admission = Admission::new(BOUNDS);
        for rpc in Rpc::all() {
            assert!(admission.enter(rpc, i64::from(MAX), MAX).is_ok(), "{rpc}");
            assert_eq!(
                admission.enter(rpc, i64::from(MAX) + 1, MAX).is_ok(),
                rpc.name().starts_with("grpc."),
                "{rpc}"
            );
        }
    }
}
