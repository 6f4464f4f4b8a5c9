//! The rule of the adaptive limit: pure, one window of answers at a time.
//!
//! Two ideas make it. From CoDel (RFC 8289): a queue that comes and goes is a buffer and does no harm; one
//! that most answers of a whole window have waited in stands, and only makes everybody late. From Little's
//! law (L = λ·W): a server that answers λ a second and shall take W for each has λ·W at work; with a
//! standing queue λ is all that it can do, so the right limit is known at once and need not be searched
//! for. Without a standing queue the limit grows by its square root whenever it was used up, as in
//! Netflix's concurrency-limits (Gradient2), so that it follows a server that can do more again.
//!
//! W is the fastest answer known plus the queue that is allowed. The fastest is forgotten in time, but
//! only replaced by windows that used at most half of the limit: an overload, however long, does not
//! pass for the normal state.

use std::time::Duration;

/// After so long the fastest answer is learnt anew, as the work may have become slower for good.
const FASTEST_KEPT: Duration = Duration::from_secs(60);

/// Within what the limit moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Never below this: so few at once are no overload, however slow they are. At least 1.
    pub min: u32,
    /// Never above this.
    pub max: u32,
    /// How long a request may have to wait for others before new ones are refused.
    pub queue: Duration,
}

/// How a request came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Answered after this, with all of the work done.
    After(Duration),
    /// Given up after this, by its deadline or its caller: the work would have taken longer. How much is not
    /// known, so it is never the fastest.
    NotBefore(Duration),
    /// Answered without its work, such as refused: its time says nothing.
    Spared,
}

/// What was answered within some time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    /// All that came to an end.
    ended: u32,
    /// Of those, the ones whose time tells something.
    answers: u32,
    /// Of those, the ones that waited too long.
    slow: u32,
    fastest: Option<Duration>,
    /// The most that were in at once.
    peak: u32,
}

impl Window {
    /// Counts one that came to an end while so many were in; above `slow_from` it waited too long.
    pub fn count(&mut self, ended: Ended, in_flight: u32, slow_from: Option<Duration>) {
        self.ended = self.ended.saturating_add(1);
        self.peak = self.peak.max(in_flight);
        let is_slow = |took: Duration| slow_from.is_some_and(|slow_from| took > slow_from);
        let slow = match ended {
            Ended::After(took) => {
                self.fastest = Some(self.fastest.map_or(took, |fastest| fastest.min(took)));
                is_slow(took)
            }
            Ended::NotBefore(took) if is_slow(took) => true,
            // Whether it would have been in time is not known.
            Ended::NotBefore(_) | Ended::Spared => return,
        };
        self.answers = self.answers.saturating_add(1);
        self.slow = self.slow.saturating_add(u32::from(slow));
    }

    /// How many answers tell something.
    pub fn answers(&self) -> u32 {
        self.answers
    }

    /// Most have waited too long: not a burst, but a queue that stands.
    fn has_standing_queue(&self) -> bool {
        u64::from(self.slow) * 2 > u64::from(self.answers)
    }
}

/// The limit and what it has learnt.
#[derive(Debug, Clone)]
pub struct Rule {
    bounds: Bounds,
    limit: u32,
    /// The fastest answer known: what the work takes if nobody has to wait.
    fastest: Option<Duration>,
    /// The fastest of the windows without pressure since the last time that it was replaced.
    unpressed: Option<Duration>,
    unpressed_for: Duration,
}

impl Rule {
    /// Begins at the upper bound: nothing is refused before a queue was seen.
    pub fn new(bounds: Bounds) -> Self {
        let min = bounds.min.max(1);
        let bounds = Bounds { min, max: bounds.max.max(min), ..bounds };
        Self { bounds, limit: bounds.max, fastest: None, unpressed: None, unpressed_for: Duration::ZERO }
    }

    /// The most that may be in at once.
    pub fn limit(&self) -> u32 {
        self.limit
    }

    /// What takes longer than this has waited too long; `None` as long as nothing is known.
    pub fn slow_from(&self) -> Option<Duration> {
        self.fastest.map(|fastest| fastest.saturating_add(self.bounds.queue))
    }

    /// Draws the conclusions from a window of this length.
    pub fn judge(&mut self, window: Window, length: Duration) {
        self.learn(&window, length);
        let Some(slow_from) = self.slow_from() else { return };
        let limit = if window.has_standing_queue() {
            little(window.ended, length, slow_from).min(self.limit)
        } else if window.peak >= self.limit {
            self.limit.saturating_add(self.limit.isqrt())
        } else {
            self.limit
        };
        self.limit = limit.clamp(self.bounds.min, self.bounds.max);
    }

    fn learn(&mut self, window: &Window, length: Duration) {
        let faster =
            |known: Option<Duration>, new: Duration| known.map_or(Some(new), |known| Some(new.min(known)));
        let Some(fastest) = window.fastest else { return };
        self.fastest = faster(self.fastest, fastest);
        if window.peak > self.limit / 2 {
            return;
        }
        self.unpressed = faster(self.unpressed, fastest);
        self.unpressed_for = self.unpressed_for.saturating_add(length);
        if self.unpressed_for >= FASTEST_KEPT {
            self.fastest = self.unpressed.take();
            self.unpressed_for = Duration::ZERO;
        }
    }
}

/// How many are at work if so many end within `length` and each takes `time`.
fn little(ended: u32, length: Duration, time: Duration) -> u32 {
    let at_work = u128::from(ended) * time.as_nanos() / length.as_nanos().max(1);
    u32::try_from(at_work).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds { min: 8, max: 1_000, queue: Duration::from_millis(100) };
    const LENGTH: Duration = Duration::from_millis(100);

    fn window(rule: &Rule, answers: u32, took_ms: u64, in_flight: u32) -> Window {
        let mut window = Window::default();
        for _ in 0..answers {
            window.count(Ended::After(Duration::from_millis(took_ms)), in_flight, rule.slow_from());
        }
        window
    }

    fn judged(rule: &mut Rule, answers: u32, took_ms: u64, in_flight: u32) -> u32 {
        rule.judge(window(rule, answers, took_ms, in_flight), LENGTH);
        rule.limit()
    }

    #[test]
    fn a_standing_queue_sets_the_limit_that_the_throughput_allows() {
        let mut rule = Rule::new(BOUNDS);
        assert_eq!(judged(&mut rule, 20, 10, 5), 1_000, "no queue, no limit");
        // 50 in 100 ms are 500 a second; at 10 + 100 ms each that is 55 at once, at the first sight.
        assert_eq!(judged(&mut rule, 50, 900, 800), 55);
        assert_eq!(judged(&mut rule, 50, 500, 55), 55, "the backlog that drains is no reason for less");
        assert_eq!(judged(&mut rule, 50, 105, 55), 62, "used up without a standing queue: a little more");
        assert_eq!(judged(&mut rule, 50, 60, 30), 62, "not used up: as it is");
    }

    #[test]
    fn a_burst_that_most_did_not_wait_in_changes_nothing() {
        let mut rule = Rule::new(BOUNDS);
        judged(&mut rule, 20, 10, 5);
        let mut burst = window(&rule, 60, 10, 400);
        for _ in 0..59 {
            burst.count(Ended::After(Duration::from_millis(900)), 400, rule.slow_from());
        }
        rule.judge(burst, LENGTH);
        assert_eq!(rule.limit(), 1_000);
    }

    #[test]
    fn an_overload_does_not_pass_for_the_normal_state_but_slower_work_does() {
        let mut rule = Rule::new(BOUNDS);
        judged(&mut rule, 20, 10, 5);
        for _ in 0..10_000 {
            judged(&mut rule, 50, 109, 1_000);
        }
        assert_eq!(rule.slow_from(), Some(Duration::from_millis(110)));
        // The work itself has become slower; few are at it. Two times of forgetting are sure to be enough.
        for _ in 0..1_300 {
            judged(&mut rule, 10, 300, 1);
        }
        assert_eq!(rule.slow_from(), Some(Duration::from_millis(400)));
    }

    #[test]
    fn what_was_given_up_is_never_the_fastest_and_tells_of_a_queue_only_when_it_was_slow() {
        let given_up = |rule: &Rule, took_ms| {
            let mut window = Window::default();
            for _ in 0..50 {
                window.count(Ended::NotBefore(Duration::from_millis(took_ms)), 800, rule.slow_from());
            }
            window
        };
        let mut rule = Rule::new(BOUNDS);
        rule.judge(given_up(&rule, 1), LENGTH);
        assert_eq!((rule.slow_from(), rule.limit()), (None, 1_000));
        judged(&mut rule, 20, 10, 5);
        rule.judge(given_up(&rule, 1), LENGTH);
        assert_eq!(rule.slow_from(), Some(Duration::from_millis(110)), "callers who left at once");
        assert_eq!(rule.limit(), 1_000);
        rule.judge(given_up(&rule, 900), LENGTH);
        assert_eq!((rule.slow_from(), rule.limit()), (Some(Duration::from_millis(110)), 55));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_limit_stays_within_its_bounds(
            windows in prop::collection::vec((0_u32..100, 0_u64..5_000, 0_u32..2_000, 1_u64..1_000), 1..60)
        ) {
            let mut rule = Rule::new(BOUNDS);
            for (answers, took_ms, in_flight, length_ms) in windows {
                let before = rule.limit();
                let window = window(&rule, answers, took_ms, in_flight);
                rule.judge(window, Duration::from_millis(length_ms));
                prop_assert!((BOUNDS.min..=BOUNDS.max).contains(&rule.limit()));
                prop_assert!(!window.has_standing_queue() || rule.limit() <= before);
            }
        }
    }
}
