//! The token bucket as one number (generic cell rate algorithm, ITU-T I.371): when it will be full again.
//! Pure: the time is passed in, in nanoseconds since any fixed instant.

use std::num::NonZeroU32;

const SECOND_NS: u64 = 1_000_000_000;

/// So many requests at once, refilled evenly over the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    requests: u64,
    window_s: u64,
    interval_ns: u64,
}

/// What a bucket said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the request may go on. If so, it has been counted.
    pub allowed: bool,
    /// How many more requests there are at this moment.
    pub remaining: u64,
    /// How long until there is one more.
    pub wait_ns: u64,
}

impl Quota {
    /// A bucket that holds so many requests and is refilled in so many seconds.
    pub fn new(requests: NonZeroU32, window_s: NonZeroU32) -> Self {
        let (requests, window_s) = (u64::from(requests.get()), u64::from(window_s.get()));
        // At most 2^32 requests in at least a second: never 0.
        let interval_ns = (window_s * SECOND_NS / requests).max(1);
        Self { requests, window_s, interval_ns }
    }

    /// How many requests fit in at once.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// How long an empty bucket takes to be full again, in seconds.
    pub(crate) fn window_s(&self) -> u64 {
        self.window_s
    }

    /// How long one request takes to be refilled.
    pub(crate) fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// How far ahead of now the bucket's number may be.
    pub(crate) fn capacity_ns(&self) -> u64 {
        self.interval_ns * self.requests
    }

    /// Takes one request from the bucket that is full at `full_at`. The second value is the bucket's new
    /// number; a refused request leaves it as it was.
    pub(crate) fn take(&self, full_at: u64, now: u64) -> (Verdict, u64) {
        let next = full_at.max(now).saturating_add(self.interval_ns);
        let ahead = next - now;
        if ahead > self.capacity_ns() {
            return (self.refused(ahead), full_at);
        }
        (self.left(ahead), next)
    }

    /// A refusal, where this request would have made the bucket full `ahead_ns` from now.
    pub(crate) fn refused(&self, ahead_ns: u64) -> Verdict {
        let wait_ns = ahead_ns.saturating_sub(self.capacity_ns()).max(1);
        Verdict { allowed: false, remaining: 0, wait_ns }
    }

    /// What there is in a bucket that is full `ahead_ns` from now.
    pub(crate) fn left(&self, ahead_ns: u64) -> Verdict {
        let free = self.capacity_ns().saturating_sub(ahead_ns);
        let remaining = free / self.interval_ns;
        Verdict { allowed: true, remaining, wait_ns: self.interval_ns - free % self.interval_ns }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn quota(requests: u32, window_s: u32) -> Quota {
        Quota::new(NonZeroU32::new(requests).unwrap(), NonZeroU32::new(window_s).unwrap())
    }

    #[test]
    fn a_burst_goes_through_and_then_one_per_interval() {
        let quota = quota(3, 6);
        let mut full_at = 0;
        for remaining in [2, 1, 0] {
            let (verdict, next) = quota.take(full_at, 100);
            assert_eq!((verdict.allowed, verdict.remaining), (true, remaining));
            assert_eq!(verdict.wait_ns, 2 * SECOND_NS);
            full_at = next;
        }
        let (verdict, unchanged) = quota.take(full_at, 100);
        assert_eq!(verdict, Verdict { allowed: false, remaining: 0, wait_ns: 2 * SECOND_NS });
        assert_eq!(unchanged, full_at, "a refusal costs nothing");
        assert!(!quota.take(full_at, 100 + 2 * SECOND_NS - 1).0.allowed);
        let (verdict, full_at) = quota.take(full_at, 100 + 2 * SECOND_NS);
        assert_eq!((verdict.allowed, verdict.remaining), (true, 0));
        let long_after = quota.take(full_at, 1_000 * SECOND_NS).0;
        assert_eq!((long_after.allowed, long_after.remaining), (true, 2), "a full bucket, and no more");
    }

    proptest! {
        /// Whatever the arrivals, no window of any length lets through more than a burst and what is
        /// refilled meanwhile; and who waits as long as told to is let in.
        #[test]
        fn never_more_than_the_burst_and_the_refill(
            requests in 1_u32..50,
            window_s in 1_u32..100,
            gaps in proptest::collection::vec(0_u64..3_000_000_000, 1..200),
        ) {
            let quota = quota(requests, window_s);
            let (mut now, mut full_at, mut taken) = (0, 0, Vec::new());
            for gap in gaps {
                now += gap;
                let (verdict, next) = quota.take(full_at, now);
                full_at = next;
                if verdict.allowed {
                    taken.push(now);
                } else {
                    prop_assert!(quota.take(full_at, now + verdict.wait_ns).0.allowed);
                }
            }
            for (first, began) in taken.iter().enumerate() {
                for (last, ended) in taken.iter().enumerate().skip(first) {
                    let refilled = (ended - began) / quota.interval_ns();
                    prop_assert!((last - first) as u64 <= quota.requests() + refilled);
                }
            }
        }
    }
}
