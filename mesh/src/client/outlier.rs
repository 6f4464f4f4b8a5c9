//! Which endpoints are left out because they keep failing (outlier ejection).
//!
//! Pure: the time is handed in.

use std::time::Duration;

use tokio::time::Instant;
use tonic::Code;

use super::settings::{EjectionSettings, doubled, ms};

/// The codes that say that the service failed, and not that it refused: Linkerd's failure class without
/// PERMISSION_DENIED, which is an answer of our own policy.
pub(super) fn is_failure(code: Code) -> bool {
    matches!(
        code,
        Code::DataLoss | Code::DeadlineExceeded | Code::Internal | Code::Unavailable | Code::Unknown
    )
}

/// How many of `count` endpoints may be left out at once: never all.
pub(super) fn ejected_max(count: usize, settings: &EjectionSettings) -> usize {
    let share = count * settings.share_max_percent.min(100) as usize / 100;
    share.min(count.saturating_sub(1))
}

/// What is known of one endpoint's failures.
#[derive(Debug, Default)]
pub(super) struct Health {
    in_a_row: u32,
    /// How often it was left out without having been well for long in between.
    ejections: u32,
    until: Option<Instant>,
}

impl Health {
    pub(super) fn succeeded(&mut self, now: Instant, settings: &EjectionSettings) {
        self.in_a_row = 0;
        self.forget(now, settings);
    }

    /// Not left out for as long as it may be at most: what was is forgotten.
    fn forget(&mut self, now: Instant, settings: &EjectionSettings) {
        if self.until.is_some_and(|until| now >= until + ms(settings.max_ms)) {
            (self.ejections, self.until) = (0, None);
        }
    }

    /// A failure. Returns until when the endpoint is to be left out, if this was one too many and
    /// `may_eject`.
    pub(super) fn failed(
        &mut self,
        now: Instant,
        settings: &EjectionSettings,
        may_eject: bool,
    ) -> Option<Instant> {
        // Here as well: while it is well nobody asks, so its first failure since may be the next thing heard.
        self.forget(now, settings);
        self.in_a_row = self.in_a_row.saturating_add(1);
        let enough = settings.consecutive_failures > 0 && self.in_a_row >= settings.consecutive_failures;
        if !enough || !may_eject || self.is_ejected(now) {
            return None;
        }
        let until = now + self.next_time(settings);
        self.ejections = self.ejections.saturating_add(1);
        // When it comes back it has the same number of failures to spend.
        self.in_a_row = 0;
        self.until = Some(until);
        self.until
    }

    pub(super) fn is_ejected(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    fn next_time(&self, settings: &EjectionSettings) -> Duration {
        doubled(ms(settings.base_ms), self.ejections, ms(settings.max_ms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> EjectionSettings {
        EjectionSettings { consecutive_failures: 3, base_ms: 100, max_ms: 1_000, share_max_percent: 50 }
    }

    #[test]
    fn failures_in_a_row_eject_for_longer_each_time() {
        let (mut now, settings) = (Instant::now(), settings());
        let mut health = Health::default();
        for wait in [100, 200, 400, 800, 1_000, 1_000] {
            assert_eq!(health.failed(now, &settings, true), None);
            assert_eq!(health.failed(now, &settings, true), None);
            assert_eq!(health.failed(now, &settings, true), Some(now + ms(wait)));
            assert!(health.is_ejected(now));
            now += ms(wait);
            assert!(!health.is_ejected(now));
        }
        now += ms(1_000);
        health.succeeded(now, &settings);
        (0..2).for_each(|_| assert_eq!(health.failed(now, &settings, true), None));
        assert_eq!(health.failed(now, &settings, true), Some(now + ms(100)), "well for long: from the start");
    }

    #[test]
    fn ejections_of_long_ago_are_forgotten_also_when_a_failure_is_the_first_thing_heard() {
        let (mut now, settings) = (Instant::now(), settings());
        let mut health = Health::default();
        for wait in [100, 200] {
            (0..2).for_each(|_| assert_eq!(health.failed(now, &settings, true), None));
            assert_eq!(health.failed(now, &settings, true), Some(now + ms(wait)));
            now += ms(wait);
        }
        // The first success is told, those after it are not.
        health.succeeded(now, &settings);
        now += ms(1_000);
        (0..2).for_each(|_| assert_eq!(health.failed(now, &settings, true), None));
        assert_eq!(health.failed(now, &settings, true), Some(now + ms(100)));
    }

    #[test]
    fn a_success_in_between_starts_the_count_again() {
        let (now, settings) = (Instant::now(), settings());
        let mut health = Health::default();
        for _ in 0..10 {
            assert_eq!(health.failed(now, &settings, true), None);
            assert_eq!(health.failed(now, &settings, true), None);
            health.succeeded(now, &settings);
        }
    }

    #[test]
    fn never_all_are_left_out() {
        let settings = settings();
        let most: Vec<usize> = (0..6).map(|count| ejected_max(count, &settings)).collect();
        assert_eq!(most, [0, 0, 1, 1, 2, 2]);
        assert_eq!(ejected_max(3, &EjectionSettings { share_max_percent: 100, ..settings }), 2);
        let mut health = Health::default();
        (0..10).for_each(|_| assert_eq!(health.failed(Instant::now(), &settings_off(), true), None));
    }

    fn settings_off() -> EjectionSettings {
        EjectionSettings { consecutive_failures: 0, ..settings() }
    }
}
