//! When a request is sent, and whether it counts.
//!
//! Two models. *Closed*: each worker sends its next request when its last one is answered; a slow server
//! slows the load down. *Open*: requests are due at fixed times, whatever became of those before, as real
//! customers come; the latency counts from when the request was due, so a stall shows in every request
//! that had to wait for it, and nothing is left out (coordinated omission).

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::report::{self, Figures};

/// How long a run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// This many requests, all of which count.
    Count(u64),
    /// Some time that does not count, until caches and windows have settled, then the time that does.
    Time {
        /// Does not count.
        warm_up: Duration,
        /// Counts.
        measured: Duration,
    },
}

/// How fast requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// As fast as they are answered.
    Closed,
    /// This many a second, due at even distances.
    Open(u32),
}

/// One run, shared by its workers.
#[derive(Debug)]
pub(crate) struct Run {
    pace: Pace,
    bound: Bound,
    start: Instant,
    /// From when requests count.
    begin: Instant,
    tickets: AtomicU64,
    measured: Mutex<Measured>,
}

#[derive(Debug)]
struct Measured {
    latencies_us: Histogram<u64>,
    last: Instant,
    all: u64,
}

impl Run {
    /// A run that starts at `start`.
    pub(crate) fn new(bound: Bound, pace: Pace, start: Instant) -> Self {
        let begin = match bound {
            Bound::Count(_) => start,
            Bound::Time { warm_up, .. } => start + warm_up,
        };
        let measured = Measured { latencies_us: report::histogram(), last: begin, all: 0 };
        Self { pace, bound, start, begin, tickets: AtomicU64::new(0), measured: Mutex::new(measured) }
    }

    /// The next request: its number, and when it is due. Nothing when the run is over.
    pub(crate) fn next(&self, now: Instant) -> Option<(u64, Instant)> {
        let ticket = self.tickets.fetch_add(1, Ordering::Relaxed);
        let due = match self.pace {
            Pace::Closed => now,
            Pace::Open(rate) => self.start + due_after(ticket, rate),
        };
        let over = match self.bound {
            Bound::Count(count) => ticket >= count,
            Bound::Time { measured, .. } => due >= self.begin + measured,
        };
        (!over).then_some((ticket, due))
    }

    /// A request that was due at `due` was answered at `answered`.
    pub(crate) fn answered(&self, due: Instant, answered: Instant) {
        let mut measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        measured.all += 1;
        if self.counts(due, answered) {
            measured.last = measured.last.max(answered);
            report::add(&mut measured.latencies_us, answered.saturating_duration_since(due));
        }
    }

    fn counts(&self, due: Instant, answered: Instant) -> bool {
        let Bound::Time { measured, .. } = self.bound else { return true };
        match self.pace {
            // What was answered within the time is the throughput of that time.
            Pace::Closed => answered >= self.begin && answered < self.begin + measured,
            // Each request that was due within the time counts, however late its answer.
            Pace::Open(_) => due >= self.begin,
        }
    }

    /// How many requests were answered, whether they count or not.
    pub(crate) fn all(&self) -> u64 {
        self.measured.lock().unwrap_or_else(PoisonError::into_inner).all
    }

    /// What was measured.
    pub(crate) fn figures(&self) -> Figures {
        let measured = self.measured.lock().unwrap_or_else(PoisonError::into_inner);
        let until_last = measured.last.saturating_duration_since(self.begin);
        let time = match (self.bound, self.pace) {
            (Bound::Time { measured, .. }, Pace::Closed) => measured,
            (Bound::Time { measured, .. }, Pace::Open(_)) => until_last.max(measured),
            (Bound::Count(_), _) => until_last,
        };
        Figures { latencies_us: measured.latencies_us.clone(), time, cpu_per_request: None }
    }
}

/// When a request is due after the start, at `rate` a second.
fn due_after(ticket: u64, rate: u32) -> Duration {
    let rate = u64::from(rate.max(1));
    let rest_ns = (ticket % rate) * 1_000_000_000 / rate;
    Duration::from_secs(ticket / rate) + Duration::from_nanos(rest_ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_count_is_exact_and_all_of_it_counts() {
        let start = Instant::now();
        let run = Run::new(Bound::Count(3), Pace::Closed, start);
        for number in 0..3 {
            let (ticket, due) = run.next(start + MS * number).unwrap();
            assert_eq!((ticket, due), (u64::from(number), start + MS * number));
            run.answered(due, due + MS);
        }
        assert_eq!(run.next(start), None);
        let figures = run.figures();
        assert_eq!((figures.latencies_us.len(), figures.time), (3, MS * 3));
    }

    #[test]
    fn only_answers_within_the_measured_time_count_in_the_closed_model() {
        let start = Instant::now();
        let bound = Bound::Time { warm_up: MS * 10, measured: MS * 20 };
        let run = Run::new(bound, Pace::Closed, start);
        run.answered(start, start + MS * 9);
        run.answered(start + MS * 9, start + MS * 10);
        run.answered(start + MS * 28, start + MS * 29);
        run.answered(start + MS * 29, start + MS * 30);
        assert!(run.next(start + MS * 29).is_some());
        assert!(run.next(start + MS * 30).is_none());
        let figures = run.figures();
        assert_eq!((figures.latencies_us.len(), figures.time, run.all()), (2, MS * 20, 4));
    }

    #[test]
    fn due_times_do_not_drift() {
        assert_eq!(due_after(0, 3), Duration::ZERO);
        assert_eq!(due_after(3, 3), Duration::from_secs(1));
        assert_eq!(due_after(3_000_000, 3), Duration::from_secs(1_000_000));
        assert_eq!(due_after(1, 1_000), MS);
    }

    #[test]
    fn a_stall_shows_in_every_request_that_was_due_meanwhile() {
        let start = Instant::now();
        let bound = Bound::Time { warm_up: Duration::ZERO, measured: MS * 10 };
        let run = Run::new(bound, Pace::Open(1_000), start);
        // The server hangs for 100 ms, and the only worker with it: ten requests are due in that time.
        let mut now = start + MS * 100;
        while let Some((_, due)) = run.next(now) {
            run.answered(due, now);
            now += Duration::from_micros(10);
        }
        let figures = run.figures();
        assert_eq!(figures.latencies_us.len(), 10);
        assert!(figures.latencies_us.min() >= 90_000, "{}", figures.latencies_us.min());
        assert!(figures.time >= MS * 100);
    }
}
