//! The retry budget: retries and hedges are a share of the calls, so that a service that fails is not
//! asked several times as much as one that works.
//!
//! Pure: the time is handed in.

use std::sync::atomic::{AtomicU64, Ordering};

use super::settings::RetrySettings;

/// One retry, in the budget's own small change.
const RETRY: u64 = 1_000;
/// No more than this many retries are saved up.
const SAVED_MAX: u64 = 200 * RETRY;

/// What is left for retries. Shared by all calls to an upstream.
#[derive(Debug)]
pub(super) struct Budget {
    per_call: u64,
    floor_per_s: u64,
    saved: AtomicU64,
    /// What the floor has not yet given out of the current second: its number times 2^16 and the count.
    floor: AtomicU64,
}

impl Budget {
    pub(super) fn new(settings: &RetrySettings) -> Self {
        Self {
            per_call: u64::from(settings.budget_percent) * RETRY / 100,
            floor_per_s: u64::from(settings.budget_floor_per_s).min(u16::MAX.into()),
            saved: AtomicU64::new(0),
            floor: AtomicU64::new(0),
        }
    }

    /// A call begins: it earns its share of a retry.
    pub(super) fn earn(&self) {
        // Two at once may go over the most by one share each.
        if self.saved.load(Ordering::Relaxed) < SAVED_MAX {
            self.saved.fetch_add(self.per_call, Ordering::Relaxed);
        }
    }

    /// Takes one retry out; false when there is none. `now_ms` is the caller's own count of time.
    pub(super) fn spend(&self, now_ms: u64) -> bool {
        let from_share = self
            .saved
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |saved| saved.checked_sub(RETRY))
            .is_ok();
        from_share || self.spend_floor(now_ms / 1_000 + 1)
    }

    fn spend_floor(&self, second: u64) -> bool {
        self.floor
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |floor| {
                let spent = if floor >> 16 == second { floor & 0xffff } else { 0 };
                (spent < self.floor_per_s).then_some(second << 16 | (spent + 1))
            })
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(budget_percent: u32, budget_floor_per_s: u32) -> Budget {
        Budget::new(&RetrySettings { budget_percent, budget_floor_per_s, ..RetrySettings::default() })
    }

    #[test]
    fn retries_are_a_share_of_the_calls() {
        let budget = budget(20, 0);
        assert!(!budget.spend(0), "nothing is earned yet");
        let spent = (0..1_000).filter(|_| {
            budget.earn();
            budget.spend(0)
        });
        assert_eq!(spent.count(), 200);
    }

    #[test]
    fn the_floor_is_per_second() {
        let budget = budget(0, 3);
        let spent = |at_ms| (0..10).filter(|_| budget.spend(at_ms)).count();
        assert_eq!([spent(0), spent(999), spent(1_000), spent(5_500)], [3, 0, 3, 3]);
    }

    #[test]
    fn little_is_saved_up() {
        let budget = budget(100, 0);
        (0..100_000).for_each(|_| budget.earn());
        assert_eq!((0..1_000).filter(|_| budget.spend(0)).count(), 200);
    }
}
