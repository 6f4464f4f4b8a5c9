//! The limiter before a simulated server in virtual time: a few workers, a queue, callers with deadlines.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Limiter, Permit,
    window::{Bounds, Ended},
};

const WORKERS: usize = 8;
const WORK: Duration = Duration::from_millis(8);
/// What the workers can do in a second.
const CAPACITY: u64 = 1_000;
/// A caller's patience; a later answer is worth nothing, and is worked out all the same.
const DEADLINE: Duration = Duration::from_secs(1);
const BOUNDS: Bounds = Bounds { min: 16, max: 8_192, queue: Duration::from_millis(250) };

struct Server {
    limiter: Arc<Limiter>,
    queue: VecDeque<(Instant, Permit)>,
    at_work: VecDeque<(Instant, Instant, Permit)>,
    in_time: u64,
    refused: u64,
}

impl Server {
    fn new(bounds: Bounds) -> Self {
        let limiter = Arc::new(Limiter::new(bounds));
        Self { limiter, queue: VecDeque::new(), at_work: VecDeque::new(), in_time: 0, refused: 0 }
    }

    /// Lets time pass until `now`: who is done is answered, who waits is taken up.
    fn run_until(&mut self, now: Instant) {
        while let Some((done, _, _)) = self.at_work.front().filter(|(done, _, _)| *done <= now) {
            let done = *done;
            if let Some((_, came, permit)) = self.at_work.pop_front() {
                let took = done - came;
                self.in_time += u64::from(took <= DEADLINE);
                permit.ended(Ended::After(took), done);
            }
            self.take_up(done);
        }
    }

    fn take_up(&mut self, now: Instant) {
        while self.at_work.len() < WORKERS {
            let Some((came, permit)) = self.queue.pop_front() else { return };
            self.at_work.push_back((now + WORK, came, permit));
        }
    }

    /// Requests come evenly, `rate` a second; returns how many were answered in time.
    fn load(&mut self, from: Instant, seconds: u64, rate: u64) -> u64 {
        let before = self.in_time;
        for number in 0..seconds * rate {
            let now = from + Duration::from_nanos(number * 1_000_000_000 / rate);
            self.run_until(now);
            match self.limiter.enter() {
                Some(permit) => self.queue.push_back((now, permit)),
                None => self.refused += 1,
            }
            self.take_up(now);
        }
        self.in_time - before
    }
}

#[test]
fn at_three_times_its_capacity_a_server_does_nearly_all_it_can() {
    let start = Instant::now();
    let mut server = Server::new(BOUNDS);
    let at_capacity = server.load(start, 10, CAPACITY);
    assert_eq!(server.refused, 0, "nothing is refused as long as there is no queue");
    let overloaded = server.load(start + Duration::from_secs(10), 20, 3 * CAPACITY) / 2;
    assert!(overloaded * 100 >= at_capacity * 90, "{overloaded} of {at_capacity}");
    // And it is over when the load is.
    let refused = server.refused;
    let after = server.load(start + Duration::from_secs(30), 10, CAPACITY * 9 / 10);
    assert!(after * 100 >= at_capacity * 88, "{after}");
    assert!(server.refused - refused < 50, "{}", server.refused - refused);
}

/// What the limiter is for: with the upper bound alone, everything is answered, and all of it too late.
#[test]
fn without_a_limit_the_same_load_is_answered_too_late() {
    let start = Instant::now();
    let open = Bounds { min: BOUNDS.max, ..BOUNDS };
    let mut server = Server::new(open);
    server.load(start, 10, CAPACITY);
    let overloaded = server.load(start + Duration::from_secs(10), 20, 3 * CAPACITY) / 2;
    assert!(overloaded < CAPACITY, "{overloaded}");
}
