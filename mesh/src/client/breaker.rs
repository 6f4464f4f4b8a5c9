//! The breaker of an upstream: while most calls fail none is let through, so that the failing service can
//! recover and callers learn at once.
//!
//! Pure: the time is handed in, and the only changes are those of the table `TRANSITIONS`.

use std::time::Duration;

use tokio::time::Instant;

use super::settings::{BreakerSettings, doubled, ms};

/// What the breaker does with calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Lets all through.
    Closed,
    /// Lets a few through, to see.
    HalfOpen,
    /// Lets none through.
    Open,
}

/// What changes the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    TooManyFailed,
    WaitIsOver,
    TrialFailed,
    /// Trials that take this long tell nothing: others are let through beside them.
    TrialsHang,
    TrialsSucceeded,
}

/// Every change there is.
pub(super) const TRANSITIONS: [(State, Cause, State); 5] = [
    (State::Closed, Cause::TooManyFailed, State::Open),
    (State::Open, Cause::WaitIsOver, State::HalfOpen),
    (State::HalfOpen, Cause::TrialFailed, State::Open),
    (State::HalfOpen, Cause::TrialsHang, State::HalfOpen),
    (State::HalfOpen, Cause::TrialsSucceeded, State::Closed),
];

/// Let through; to be given back with the outcome. Of another term it says nothing about this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    term: u64,
}

/// How a call that was let through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The service did its work; a refusal is its work too.
    Succeeded,
    /// It did not.
    Failed,
    /// The caller gave up, or the call never got as far as the service: it says nothing.
    Nothing,
}

/// A breaker. Its owner hands it the time.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    state: State,
    /// Counts the changes of state.
    term: u64,
    /// When the state, or in `Closed` the window, began.
    since: Instant,
    /// In `Closed`: of the window. In `HalfOpen`: trials under way and succeeded.
    calls: u32,
    failed: u32,
    /// How often it has opened since it was last closed.
    openings: u32,
}

impl Breaker {
    /// A breaker that lets all through.
    pub fn new(settings: &BreakerSettings, now: Instant) -> Self {
        let settings = settings.clone();
        Self { settings, state: State::Closed, term: 0, since: now, calls: 0, failed: 0, openings: 0 }
    }

    /// What it does with calls now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Asks to let a call through; refused with the time after which asking again makes sense.
    pub fn admit(&mut self, now: Instant) -> Result<Pass, Duration> {
        let over = self.since + self.wait();
        if self.state == State::Open && now >= over {
            self.change(Cause::WaitIsOver, now);
        }
        if self.state == State::HalfOpen && self.calls >= self.trials() && now >= over {
            self.change(Cause::TrialsHang, now);
        }
        match self.state {
            State::Closed => {}
            State::Open => return Err(over.saturating_duration_since(now)),
            State::HalfOpen if self.calls >= self.trials() => return Err(ms(self.settings.open_ms)),
            State::HalfOpen => self.calls += 1,
        }
        Ok(Pass { term: self.term })
    }

    /// Says how a call ended. Outcomes of calls that were let through in an earlier state do not count.
    pub fn ended(&mut self, pass: Pass, outcome: Outcome, now: Instant) {
        if pass.term != self.term {
            return;
        }
        match (self.state, outcome) {
            (State::Closed, Outcome::Succeeded | Outcome::Failed) => self.count(outcome, now),
            (State::HalfOpen, Outcome::Failed) => self.change(Cause::TrialFailed, now),
            (State::HalfOpen, Outcome::Succeeded) => {
                // `failed` counts down to the close: what is left of the trials.
                self.calls = self.calls.saturating_sub(1);
                self.failed = self.failed.saturating_sub(1);
                if self.failed == 0 {
                    self.change(Cause::TrialsSucceeded, now);
                }
            }
            (State::HalfOpen, Outcome::Nothing) => self.calls = self.calls.saturating_sub(1),
            // No pass is given while open.
            (State::Open, _) | (State::Closed, Outcome::Nothing) => {}
        }
    }

    fn count(&mut self, outcome: Outcome, now: Instant) {
        if now >= self.since + ms(self.settings.window_ms) {
            (self.since, self.calls, self.failed) = (now, 0, 0);
        }
        self.calls = self.calls.saturating_add(1);
        if outcome == Outcome::Succeeded {
            return;
        }
        self.failed = self.failed.saturating_add(1);
        let limit = u64::from(self.settings.failed_percent);
        let enough = self.calls >= self.settings.calls_min.max(1);
        if limit > 0 && enough && u64::from(self.failed) * 100 >= u64::from(self.calls) * limit {
            self.change(Cause::TooManyFailed, now);
        }
    }

    fn change(&mut self, cause: Cause, now: Instant) {
        let found = TRANSITIONS.iter().find(|(from, by, _)| (*from, *by) == (self.state, cause));
        let Some((_, _, to)) = found else { return };
        self.openings = match to {
            State::Open => self.openings.saturating_add(1),
            State::HalfOpen => self.openings,
            State::Closed => 0,
        };
        (self.state, self.term, self.since) = (*to, self.term + 1, now);
        (self.calls, self.failed) = (0, if *to == State::HalfOpen { self.trials() } else { 0 });
    }

    fn trials(&self) -> u32 {
        self.settings.trials.max(1)
    }

    fn wait(&self) -> Duration {
        let times = self.openings.saturating_sub(1);
        doubled(ms(self.settings.open_ms), times, ms(self.settings.open_max_ms))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings() -> BreakerSettings {
        BreakerSettings {
            failed_percent: 50,
            calls_min: 4,
            window_ms: 1_000,
            open_ms: 100,
            open_max_ms: 400,
            trials: 2,
        }
    }

    fn call(breaker: &mut Breaker, outcome: Outcome, now: Instant) {
        let pass = breaker.admit(now).unwrap();
        breaker.ended(pass, outcome, now);
    }

    #[test]
    fn it_opens_on_a_share_waits_longer_each_time_and_closes_after_trials() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(&settings(), now);
        for outcome in [Outcome::Failed, Outcome::Succeeded, Outcome::Failed] {
            call(&mut breaker, outcome, now);
        }
        assert_eq!(breaker.state(), State::Closed, "three calls are too few");
        let late = breaker.admit(now).unwrap();
        call(&mut breaker, Outcome::Failed, now);
        assert_eq!(breaker.admit(now), Err(ms(100)));
        for wait in [100, 200, 400, 400] {
            assert_eq!(breaker.admit(now), Err(ms(wait)));
            now += ms(wait);
            let (one, two) = (breaker.admit(now).unwrap(), breaker.admit(now).unwrap());
            assert!(breaker.admit(now).is_err(), "two trials at once, no more");
            breaker.ended(late, Outcome::Failed, now);
            assert_eq!(breaker.state(), State::HalfOpen, "an old call says nothing");
            breaker.ended(one, Outcome::Succeeded, now);
            breaker.ended(two, Outcome::Failed, now);
            assert_eq!(breaker.state(), State::Open);
        }
        now += ms(400);
        for _ in 0..2 {
            let gone = breaker.admit(now).unwrap();
            breaker.ended(gone, Outcome::Nothing, now);
            call(&mut breaker, Outcome::Succeeded, now);
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn trials_that_never_end_do_not_keep_it_half_open() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(&settings(), now);
        (0..4).for_each(|_| call(&mut breaker, Outcome::Failed, now));
        now += ms(100);
        let _hanging = (breaker.admit(now).unwrap(), breaker.admit(now).unwrap());
        assert!(breaker.admit(now + ms(99)).is_err());
        now += ms(100);
        (0..2).for_each(|_| call(&mut breaker, Outcome::Succeeded, now));
        assert_eq!(breaker.state(), State::Closed);
    }

    #[test]
    fn failures_of_another_window_do_not_count() {
        let mut now = Instant::now();
        let mut breaker = Breaker::new(&settings(), now);
        for _ in 0..20 {
            call(&mut breaker, Outcome::Failed, now);
            now += ms(400);
        }
        assert_eq!(breaker.state(), State::Closed);
    }

    proptest! {
        /// Whatever happens: only listed changes; while open nothing passes; never more
        /// trials at once than allowed; and once all succeed it closes.
        #[test]
        fn only_listed_changes_happen(steps in prop::collection::vec((0_u8..4, 0_u64..300), 1..300)) {
            let mut now = Instant::now();
            let mut breaker = Breaker::new(&settings(), now);
            let mut under_way: Vec<Pass> = Vec::new();
            for (step, wait) in steps {
                now += Duration::from_millis(wait);
                let before = (breaker.state(), breaker.term);
                let admitted = match (step, under_way.pop()) {
                    (1, Some(pass)) => { breaker.ended(pass, Outcome::Succeeded, now); None }
                    (2, Some(pass)) => { breaker.ended(pass, Outcome::Failed, now); None }
                    (3, Some(pass)) => { breaker.ended(pass, Outcome::Nothing, now); None }
                    (_, pass) => { under_way.extend(pass); breaker.admit(now).ok() }
                };
                prop_assert!(breaker.term - before.1 <= 1, "one change a step");
                if breaker.term != before.1 {
                    let known = TRANSITIONS.iter().any(|(from, _, to)| (*from, *to) == (before.0, breaker.state()));
                    prop_assert!(known, "{before:?} to {:?}", breaker.state());
                }
                if let Some(pass) = admitted {
                    prop_assert!(breaker.state() != State::Open);
                    under_way.push(pass);
                    let trials = under_way.iter().filter(|other| other.term == pass.term).count();
                    prop_assert!(breaker.state() == State::Closed || trials <= 2, "{trials}");
                }
            }
            for pass in under_way {
                breaker.ended(pass, Outcome::Nothing, now);
            }
            for _ in 0..2 {
                now += Duration::from_secs(1);
                call(&mut breaker, Outcome::Succeeded, now);
            }
            prop_assert_eq!(breaker.state(), State::Closed);
        }
    }
}
