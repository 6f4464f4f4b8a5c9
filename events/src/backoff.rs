//! How long to wait before the next attempt: ever longer, and not in step with others.

use std::time::Duration;

/// Counts failures. Pure but for the chance in what it waits.
#[derive(Debug, Clone)]
pub struct Backoff {
    least: Duration,
    most: Duration,
    failures: u32,
}

impl Backoff {
    /// Waits about `least` after the first failure, twice as long after each further one, and never longer than
    /// `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most, failures: 0 }
    }

    /// It has failed: how long to wait. From half of the full time to all of it, by chance.
    pub fn failed(&mut self) -> Duration {
        let full = self.least.saturating_mul(1 << self.failures.min(20)).min(self.most);
        self.failures = self.failures.saturating_add(1);
        let nanos = u64::try_from(full.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(fastrand::u64(nanos / 2..=nanos))
    }

    /// It has succeeded.
    pub fn succeeded(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_each_time_up_to_a_bound_and_begins_anew_after_a_success() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1_000));
        for full in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.failed();
            assert!((ms(full / 2)..=ms(full)).contains(&wait), "{wait:?} of {full}");
        }
        for _ in 0..100 {
            assert!(backoff.failed() <= ms(1_000));
        }
        backoff.succeeded();
        assert!(backoff.failed() <= ms(100));
    }
}
