//! How many requests are worked on at once, found out while working: an adaptive concurrency limit.
//!
//! A server that takes all that comes answers everything too late once more comes than it can do. One that
//! refuses early what would only wait answers the rest in time. How much it can do is not configured: the
//! rule in [`window`] reads it from the answers. Knows nothing of gRPC or HTTP; the server stack has one
//! for each RPC, and whoever takes requests in another way can have his own.

pub mod window;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use window::{Bounds, Ended, Rule, Window};

/// A window is judged when it is so old, and has [`WINDOW_ANSWERS`] or is [`WINDOW_LONGEST`] old.
const WINDOW: Duration = Duration::from_millis(100);
const WINDOW_LONGEST: Duration = Duration::from_secs(1);
/// Fewer answers say little.
const WINDOW_ANSWERS: u32 = 10;

/// Admits as many requests as can be answered in time. Share it by `Arc`.
#[derive(Debug)]
pub struct Limiter {
    limit: AtomicU32,
    in_flight: AtomicU32,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rule: Rule,
    began: Option<Instant>,
    window: Window,
}

impl Limiter {
    /// A limit within bounds. It begins wide open.
    pub fn new(bounds: Bounds) -> Self {
        let rule = Rule::new(bounds);
        Self {
            limit: AtomicU32::new(rule.limit()),
            in_flight: AtomicU32::new(0),
            state: Mutex::new(State { rule, began: None, window: Window::default() }),
        }
    }

    /// The most requests that are worked on at once, as of now.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Whether a request has come to its end yet.
    pub fn is_used(&self) -> bool {
        self.state.lock().is_ok_and(|state| state.began.is_some())
    }

    /// Lets a request in; `None` if as many as can be are in already.
    pub fn enter(self: &Arc<Self>) -> Option<Permit> {
        let others = self.in_flight.fetch_add(1, Ordering::Relaxed);
        let permit = Permit { limiter: Arc::clone(self), in_flight: others.saturating_add(1) };
        // If not, the permit is dropped, which takes the count back.
        (others < self.limit()).then_some(permit)
    }

    fn count(&self, ended: Ended, in_flight: u32, now: Instant) {
        // Nothing in here panics, so the lock is never poisoned.
        let Ok(mut state) = self.state.lock() else { return };
        let State { rule, began, window } = &mut *state;
        let age = now.saturating_duration_since(*began.get_or_insert(now));
        window.count(ended, in_flight, rule.slow_from());
        if age >= WINDOW && (window.answers() >= WINDOW_ANSWERS || age >= WINDOW_LONGEST) {
            rule.judge(std::mem::take(window), age);
            *began = Some(now);
            self.limit.store(rule.limit(), Ordering::Relaxed);
        }
    }
}

/// One request that was let in. It is out when this is dropped.
#[derive(Debug)]
pub struct Permit {
    limiter: Arc<Limiter>,
    /// How many were in when it came, itself included.
    in_flight: u32,
}

impl Permit {
    /// The request came to this end; the limit learns from it.
    pub fn ended(self, how: Ended, now: Instant) {
        self.limiter.count(how, self.in_flight, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.limiter.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod simulation;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_is_counted_and_what_is_dropped_is_out() {
        let bounds = Bounds { min: 1, max: 2, queue: Duration::from_millis(100) };
        let limiter = Arc::new(Limiter::new(bounds));
        let (first, second) = (limiter.enter().unwrap(), limiter.enter().unwrap());
        assert!(limiter.enter().is_none() && limiter.enter().is_none());
        drop(first);
        let third = limiter.enter().unwrap();
        assert!(limiter.enter().is_none());
        let now = Instant::now();
        second.ended(Ended::After(Duration::from_millis(1)), now);
        third.ended(Ended::Spared, now);
        assert!(limiter.enter().is_some());
        assert_eq!(limiter.in_flight.load(Ordering::Relaxed), 0);
    }
}
