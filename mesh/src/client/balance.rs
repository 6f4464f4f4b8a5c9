//! Which endpoint the next call goes to: the better of two drawn by chance (power of two choices), where
//! better means fewer calls in flight times a shorter expected latency.
//!
//! Pure: chance and time are handed in.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::random::Dice;

/// What a new endpoint is taken to need, so that it is neither flooded nor left out.
const LATENCY_UNKNOWN: Duration = Duration::from_millis(1);
/// No endpoint counts as faster than this: below it, calls in flight alone decide.
const LATENCY_MIN: Duration = Duration::from_micros(100);
/// A latency that was seen counts half after this time, so that an endpoint that was slow once is tried again.
const HALF_LIFE: Duration = Duration::from_secs(2);
/// How much a new sample weighs: 1 in this many.
const WEIGHT: u64 = 8;

/// Chooses among `count` endpoints. `usable` says which may be taken, `load` which is better (less).
/// `None` if none is usable.
pub(super) fn choose(
    count: usize,
    dice: &dyn Dice,
    usable: impl Fn(usize) -> bool,
    load: impl Fn(usize) -> u64,
) -> Option<usize> {
    let better = |a: usize, b: usize| if load(b) < load(a) { b } else { a };
    let draw = |below: usize| usize::try_from(dice.draw(below as u64)).unwrap_or_default();
    if count <= 1 {
        return (count == 1 && usable(0)).then_some(0);
    }
    let first = draw(count);
    let second = (first + 1 + draw(count - 1)) % count;
    match (usable(first), usable(second)) {
        (true, true) => return Some(better(first, second)),
        // With two endpoints these were all.
        (true, false) if count == 2 => return Some(first),
        (false, true) if count == 2 => return Some(second),
        (false, false) if count == 2 => return None,
        _ => {}
    }
    // Rare: some are not usable. Two are drawn from those that are.
    let candidates: Vec<usize> = (0..count).filter(|at| usable(*at)).collect();
    match candidates.len() {
        0 => None,
        1 => candidates.first().copied(),
        several => {
            let first = draw(several);
            let second = (first + 1 + draw(several - 1)) % several;
            Some(better(*candidates.get(first)?, *candidates.get(second)?))
        }
    }
}

/// The expected latency of an endpoint: an exponentially weighted average that is forgotten over time.
#[derive(Debug)]
pub(super) struct Latency {
    nanos: AtomicU64,
    /// When it was seen, in milliseconds of the caller's own count.
    seen_ms: AtomicU64,
}

impl Latency {
    pub(super) fn new(now_ms: u64) -> Self {
        Self { nanos: AtomicU64::new(nanos(LATENCY_UNKNOWN)), seen_ms: AtomicU64::new(now_ms) }
    }

    /// An answer took this long. Two at once may lose one of them: an average does not mind.
    pub(super) fn observe(&self, took: Duration, now_ms: u64) {
        self.mix(self.expected_nanos(now_ms), nanos(took), now_ms);
    }

    /// There was no answer in this time, or one that cost no work: slower than expected is news, faster is
    /// not, and keeps the expectation as it is.
    pub(super) fn observe_at_least(&self, waited: Duration, now_ms: u64) {
        let expected = self.expected_nanos(now_ms);
        self.mix(expected, nanos(waited).max(expected), now_ms);
    }

    /// Into what is expected now and not into what once was: what has been forgotten stays so.
    fn mix(&self, expected: u64, sample: u64, now_ms: u64) {
        let next = expected - expected / WEIGHT + sample / WEIGHT;
        self.nanos.store(next, Ordering::Relaxed);
        self.seen_ms.store(now_ms, Ordering::Relaxed);
    }

    /// What is expected now, in nanoseconds.
    pub(super) fn expected_nanos(&self, now_ms: u64) -> u64 {
        let since_ms = now_ms.saturating_sub(self.seen_ms.load(Ordering::Relaxed));
        let halvings = since_ms / (nanos(HALF_LIFE) / 1_000_000);
        let average = self.nanos.load(Ordering::Relaxed);
        average.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0).max(nanos(LATENCY_MIN))
    }
}

/// The load of an endpoint with `in_flight` calls: less is better.
pub(super) fn load(in_flight: u32, expected_nanos: u64) -> u64 {
    (u64::from(in_flight) + 1).saturating_mul(expected_nanos)
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::client::random::ThreadDice;

    fn shares(calls: u32, loads: &[u64], usable: &[bool]) -> Vec<u32> {
        let mut shares = vec![0; loads.len()];
        for _ in 0..calls {
            let at = choose(loads.len(), &ThreadDice, |at| usable[at], |at| loads[at]).unwrap();
            shares[at] += 1;
        }
        shares
    }

    #[test]
    fn equals_get_equal_shares_and_the_worst_of_many_gets_none() {
        for share in shares(40_000, &[1, 1, 1, 1], &[true; 4]) {
            assert!((9_000..11_000).contains(&share), "{share}");
        }
        // Of two distinct ones the worst is never the better.
        assert_eq!(shares(10_000, &[1, 2, 3, 9], &[true; 4])[3], 0);
    }

    #[test]
    fn calls_in_flight_even_out_by_themselves() {
        let in_flight: Vec<Cell<u32>> = (0..10).map(|_| Cell::new(0)).collect();
        for _ in 0..10_000 {
            let at = choose(10, &ThreadDice, |_| true, |at| load(in_flight[at].get(), 1_000)).unwrap();
            in_flight[at].set(in_flight[at].get() + 1);
        }
        let (least, most) = (in_flight.iter().min().unwrap().get(), in_flight.iter().max().unwrap().get());
        // By plain chance the spread would be about 200 (ln ln n against sqrt n).
        assert!(most - least < 20, "{least} to {most}");
    }

    #[test]
    fn only_usable_ones_are_chosen() {
        let usable = [false, true, false, false, true];
        let shares = shares(10_000, &[1; 5], &usable);
        assert_eq!((shares[0], shares[2], shares[3]), (0, 0, 0));
        assert!((4_500..5_500).contains(&shares[1]), "{shares:?}");
        for count in 0..5 {
            assert_eq!(choose(count, &ThreadDice, |_| false, |_| 1), None);
        }
        assert_eq!(choose(2, &ThreadDice, |at| at == 1, |_| 1), Some(1));
        assert_eq!(choose(1, &ThreadDice, |_| true, |_| 1), Some(0));
    }

    #[test]
    fn latency_follows_what_is_seen_and_is_forgotten() {
        let latency = Latency::new(0);
        for _ in 0..100 {
            latency.observe(Duration::from_millis(80), 0);
        }
        let slow = latency.expected_nanos(0);
        assert!((75_000_000..=80_000_000).contains(&slow), "{slow}");
        assert_eq!(latency.expected_nanos(2_000), slow / 2);
        assert_eq!(latency.expected_nanos(u64::MAX), nanos(LATENCY_MIN));
        assert!(load(0, slow) > load(9, nanos(LATENCY_UNKNOWN)));
    }

    #[test]
    fn what_was_forgotten_does_not_come_back() {
        let latency = Latency::new(0);
        (0..100).for_each(|_| latency.observe(Duration::from_secs(4), 0));
        let minute = 60_000;
        assert_eq!(latency.expected_nanos(minute), nanos(LATENCY_MIN));
        latency.observe(Duration::from_millis(1), minute);
        assert!(latency.expected_nanos(minute) < 1_000_000, "{}", latency.expected_nanos(minute));
    }

    #[test]
    fn one_that_refuses_at_once_is_not_taken_for_fast() {
        let latency = Latency::new(0);
        (0..100).for_each(|_| latency.observe(Duration::from_millis(80), 0));
        let known = latency.expected_nanos(0);
        for now_ms in (0..60_000).step_by(100) {
            latency.observe_at_least(Duration::from_micros(50), now_ms);
        }
        assert!(latency.expected_nanos(60_000).abs_diff(known) < 100, "as slow as before");
        latency.observe_at_least(Duration::from_secs(2), 60_000);
        assert!(latency.expected_nanos(60_000) > 2 * known, "slower is news");
    }
}
