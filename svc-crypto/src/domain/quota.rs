//! How many cards a workload may take out of the vault for one tenant.
//!
//! A token bucket for each workload and tenant, each kept as one number: when it is full again (generic cell rate
//! algorithm, ITU-T I.371). Pure: the time is passed in. Counted by one instance of the service alone and
//! forgotten with it: what it holds off is a stolen identity that reads out the vault, and not the last card.

use std::collections::HashMap;

use money::{TenantId, Timestamp};

const SECOND_NS: i64 = 1_000_000_000;
const MINUTE_NS: i64 = 60 * SECOND_NS;
/// How many buckets are kept. Those that are full again are dropped first; past that, newcomers share one.
const BUCKETS_MAX: usize = 10_000;

/// A card more than allowed was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no card more for {wait_s} s")]
pub struct Exceeded {
    /// After how many seconds there is one more, rounded up.
    pub wait_s: u32,
}

/// The buckets of all workloads and tenants.
#[derive(Debug)]
pub struct Quota {
    /// How long one card takes to be refilled; `None`: as many as they like.
    interval_ns: Option<i64>,
    capacity_ns: i64,
    buckets_max: usize,
    /// When each is full again, in nanoseconds.
    full_at: HashMap<String, HashMap<TenantId, i64>>,
    buckets: usize,
    shared_full_at: i64,
    /// When those that are full were last dropped.
    swept_at: i64,
}

impl Quota {
    /// So many cards a minute, and up to a minute's at once; 0: as many as they like.
    pub fn per_minute(cards: u32) -> Self {
        let interval_ns = (cards > 0).then(|| (MINUTE_NS / i64::from(cards)).max(1));
        Self {
            interval_ns,
            capacity_ns: interval_ns.unwrap_or_default() * i64::from(cards),
            buckets_max: BUCKETS_MAX,
            full_at: HashMap::new(),
            buckets: 0,
            shared_full_at: i64::MIN,
            swept_at: i64::MIN,
        }
    }

    /// Counts one card that this workload takes of this tenant's. What is refused is not counted.
    ///
    /// # Errors
    /// [`Exceeded`] if there is none left for now.
    pub fn take(&mut self, workload: &str, tenant: &TenantId, now: Timestamp) -> Result<(), Exceeded> {
        let Some(interval) = self.interval_ns else { return Ok(()) };
        let (now, capacity) = (now.as_nanos(), self.capacity_ns);
        let full_at = self.bucket(workload, tenant, now);
        // No bucket owes more than all it holds: where one does, the clock was set back.
        *full_at = (*full_at).clamp(now, now.saturating_add(capacity));
        let next = full_at.saturating_add(interval);
        let ahead = next.saturating_sub(now);
        if ahead > capacity {
            let wait_s = (ahead - capacity).unsigned_abs().div_ceil(SECOND_NS.unsigned_abs());
            return Err(Exceeded { wait_s: u32::try_from(wait_s).unwrap_or(u32::MAX) });
        }
        *full_at = next;
        Ok(())
    }

    fn bucket(&mut self, workload: &str, tenant: &TenantId, now: i64) -> &mut i64 {
        let known = self.full_at.get(workload).is_some_and(|tenants| tenants.contains_key(tenant));
        if !known {
            if self.buckets >= self.buckets_max && now.saturating_sub(self.swept_at) >= SECOND_NS {
                self.sweep(now);
            }
            if self.buckets >= self.buckets_max {
                return &mut self.shared_full_at;
            }
            self.buckets += 1;
        }
        let tenants = self.full_at.entry(workload.to_owned()).or_default();
        tenants.entry(tenant.clone()).or_insert(i64::MIN)
    }

    /// Drops the buckets that are full: they are as good as new.
    fn sweep(&mut self, now: i64) {
        self.swept_at = now;
        self.full_at.retain(|_, tenants| {
            tenants.retain(|_, full_at| *full_at > now);
            !tenants.is_empty()
        });
        self.buckets = self.full_at.values().map(HashMap::len).sum();
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn tenant(name: &str) -> TenantId {
        name.parse().unwrap()
    }

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    #[test]
    fn a_minutes_cards_at_once_and_then_one_at_a_time() {
        let (mut quota, acme) = (Quota::per_minute(6), tenant("acme"));
        let mut take = |now| quota.take("svc-payments", &acme, at(now));
        for _ in 0..6 {
            assert_eq!(take(0), Ok(()));
        }
        assert_eq!(take(0), Err(Exceeded { wait_s: 10 }));
        assert_eq!(take(10 * SECOND_NS - 1), Err(Exceeded { wait_s: 1 }));
        assert_eq!(take(10 * SECOND_NS), Ok(()), "a refusal costs nothing");
        assert_eq!(take(10 * SECOND_NS), Err(Exceeded { wait_s: 10 }));
    }

    #[test]
    fn workloads_and_tenants_have_buckets_of_their_own() {
        let (mut quota, acme, other) = (Quota::per_minute(1), tenant("acme"), tenant("other"));
        for (workload, of) in [("a", &acme), ("a", &other), ("b", &acme), ("b", &other)] {
            assert_eq!(quota.take(workload, of, at(0)), Ok(()));
            assert_eq!(quota.take(workload, of, at(0)), Err(Exceeded { wait_s: 60 }));
        }
    }

    #[test]
    fn none_is_none() {
        let (mut quota, acme) = (Quota::per_minute(0), tenant("acme"));
        assert!((0..100_000).all(|_| quota.take("a", &acme, at(0)).is_ok()));
        assert!(quota.full_at.is_empty());
    }

    #[test]
    fn a_clock_set_back_owes_a_minute_at_most() {
        let (mut quota, acme) = (Quota::per_minute(1), tenant("acme"));
        assert_eq!(quota.take("a", &acme, at(1_000 * MINUTE_NS)), Ok(()));
        assert_eq!(quota.take("a", &acme, at(0)), Err(Exceeded { wait_s: 60 }));
        assert_eq!(quota.take("a", &acme, at(MINUTE_NS)), Ok(()));
    }

    #[test]
    fn inventing_tenants_neither_grows_without_bound_nor_resets_anybody() {
        let mut quota = Quota { buckets_max: 10, ..Quota::per_minute(1) };
        for n in 0..10 {
            assert_eq!(quota.take("a", &tenant(&format!("t{n}")), at(0)), Ok(()));
        }
        assert_eq!(quota.take("a", &tenant("late"), at(0)), Ok(()), "from the one that newcomers share");
        assert_eq!(quota.take("a", &tenant("later"), at(0)), Err(Exceeded { wait_s: 60 }));
        assert_eq!(quota.take("a", &tenant("t0"), at(0)), Err(Exceeded { wait_s: 60 }));
        assert_eq!(quota.buckets, 10);
        // Once they are full again they make room.
        assert_eq!(quota.take("a", &tenant("later"), at(MINUTE_NS)), Ok(()));
        assert_eq!((quota.buckets, quota.full_at["a"].len()), (1, 1));
    }

    proptest! {
        /// Whatever the arrivals, no stretch of time of any length gives more than a minute's cards and what is
        /// refilled meanwhile; and who waits as long as told is given one.
        #[test]
        fn never_more_than_a_burst_and_the_refill(cards in 1_u32..200, gaps in vec(0_i64..2 * SECOND_NS, 1..300)) {
            let (mut quota, acme) = (Quota::per_minute(cards), tenant("acme"));
            let (mut now, mut given) = (0, Vec::new());
            for gap in gaps {
                now += gap;
                match quota.take("a", &acme, at(now)) {
                    Ok(()) => given.push(now),
                    Err(Exceeded { wait_s }) => {
                        now += i64::from(wait_s) * SECOND_NS;
                        prop_assert_eq!(quota.take("a", &acme, at(now)), Ok(()));
                        given.push(now);
                    }
                }
            }
            let interval = MINUTE_NS / i64::from(cards);
            for (n, first) in given.iter().enumerate() {
                for (count, last) in (1_i64..).zip(&given[n..]) {
                    prop_assert!(count <= i64::from(cards) + (last - first) / interval);
                }
            }
        }
    }
}
