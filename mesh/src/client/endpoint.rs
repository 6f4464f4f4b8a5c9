//! One address of a service: its open connections, its load, its health.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use hyper::client::conn::http2::SendRequest;
use tokio::time::Instant;

use super::{
    balance::{Latency, load},
    body::RequestBody,
    outlier::Health,
    random::Dice,
    settings::{doubled, ms},
};

/// The wait after the first connection that could not be made, in milliseconds; doubles each time.
const CONNECT_BACKOFF_MS: u32 = 20;
/// The longest wait while calls are waiting for a connection, in milliseconds.
const CONNECT_BACKOFF_MAX_URGENT_MS: u32 = 250;
/// The longest wait otherwise, in milliseconds.
const CONNECT_BACKOFF_MAX_MS: u32 = 5_000;

/// A wait is up to this much shorter by chance, in percent: clients that lost a server together do not come
/// back together.
const CONNECT_BACKOFF_EARLY_PERCENT: u64 = 20;

/// A connection that calls can be made on.
pub(super) struct Open {
    pub(super) id: u64,
    sender: SendRequest<RequestBody>,
    in_flight: AtomicU32,
}

impl Open {
    pub(super) fn new(id: u64, sender: SendRequest<RequestBody>) -> Self {
        Self { id, sender, in_flight: AtomicU32::new(0) }
    }

    pub(super) fn sender(&self) -> SendRequest<RequestBody> {
        self.sender.clone()
    }
}

/// Connections being made, and how that went before.
#[derive(Debug, Default)]
struct Making {
    under_way: u32,
    failures: u32,
    failed_at: Option<Instant>,
    /// How much of the wait is left out after this failure, in percent.
    early_percent: u32,
}

impl Making {
    fn failed(&mut self, now: Instant, dice: &dyn Dice) -> u32 {
        self.early_percent = u32::try_from(dice.draw(CONNECT_BACKOFF_EARLY_PERCENT + 1)).unwrap_or_default();
        self.failures = self.failures.saturating_add(1);
        self.failed_at = Some(now);
        self.failures
    }
}

pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    /// Newest last.
    connections: ArcSwap<Vec<Arc<Open>>>,
    making: Mutex<Making>,
    in_flight: AtomicU32,
    latency: Latency,
    health: Mutex<Health>,
    /// Whether there were failures since the last success: a success is then of interest.
    troubled: AtomicBool,
    /// In milliseconds of the pool's count; 0 when it is not left out.
    ejected_until_ms: AtomicU64,
    /// No longer among the service's addresses.
    gone: AtomicBool,
}

impl Endpoint {
    pub(super) fn new(address: SocketAddr, now_ms: u64) -> Self {
        Self {
            address,
            connections: ArcSwap::default(),
            making: Mutex::default(),
            in_flight: AtomicU32::new(0),
            latency: Latency::new(now_ms),
            health: Mutex::default(),
            troubled: AtomicBool::new(false),
            ejected_until_ms: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        }
    }

    /// The open connection with the fewest calls in flight.
    pub(super) fn least_loaded(&self) -> Option<Arc<Open>> {
        let connections = self.connections.load();
        let open = connections.iter().filter(|open| !open.sender.is_closed());
        open.min_by_key(|open| open.in_flight.load(Ordering::Relaxed)).cloned()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.connections.load().iter().any(|open| !open.sender.is_closed())
    }

    pub(super) fn is_ejected(&self, now_ms: u64) -> bool {
        now_ms < self.ejected_until_ms.load(Ordering::Relaxed)
    }

    pub(super) fn load(&self, now_ms: u64) -> u64 {
        load(self.in_flight.load(Ordering::Relaxed), self.latency.expected_nanos(now_ms))
    }

    pub(super) fn begin(&self, open: &Open) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        open.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn end(&self, open: &Open) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        open.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn observe(&self, took: Duration, now_ms: u64) {
        self.latency.observe(took, now_ms);
    }

    pub(super) fn observe_at_least(&self, waited: Duration, now_ms: u64) {
        self.latency.observe_at_least(waited, now_ms);
    }

    pub(super) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_troubled(&self) -> bool {
        self.troubled.load(Ordering::Relaxed)
    }

    pub(super) fn set_troubled(&self, troubled: bool) {
        self.troubled.store(troubled, Ordering::Relaxed);
    }

    pub(super) fn eject_until(&self, until_ms: u64) {
        self.ejected_until_ms.store(until_ms, Ordering::Relaxed);
    }

    /// Its name has lost this address: calls under way finish, nothing new begins.
    pub(super) fn leave(&self) {
        // Else a connection that is being put in or taken out would come back after it.
        let _making = self.making();
        self.gone.store(true, Ordering::Relaxed);
        self.connections.store(Arc::default());
    }

    pub(super) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Fewer connections than there should be, those being made not counted.
    pub(super) fn lacks(&self, target: u32) -> bool {
        self.count_open() < target
    }

    fn count_open(&self) -> u32 {
        let connections = self.connections.load();
        let open = connections.iter().filter(|open| !open.sender.is_closed()).count();
        u32::try_from(open).unwrap_or(u32::MAX)
    }

    /// How many connections to begin to make now. Each is to be reported as [`Endpoint::made`] or
    /// [`Endpoint::not_made`]. `urgent`: calls are waiting.
    pub(super) fn begin_making(&self, target: u32, urgent: bool, now: Instant) -> u32 {
        let mut making = self.making();
        if self.is_gone() {
            return 0;
        }
        let most = if urgent { CONNECT_BACKOFF_MAX_URGENT_MS } else { CONNECT_BACKOFF_MAX_MS };
        let wait = doubled(ms(CONNECT_BACKOFF_MS), making.failures.saturating_sub(1), ms(most));
        let wait = wait * (100 - making.early_percent.min(100)) / 100;
        if making.failed_at.is_some_and(|failed_at| now < failed_at + wait) {
            return 0;
        }
        let open = self.count_open();
        // After a failure one is enough to see whether it works again.
        let target = if making.failures > 0 { target.min(open + 1) } else { target };
        let missing = target.saturating_sub(open).saturating_sub(making.under_way);
        making.under_way += missing;
        missing
    }

    pub(super) fn is_making(&self) -> bool {
        self.making().under_way > 0
    }

    /// A connection was made. False if it is too late for one.
    pub(super) fn made(&self, open: Arc<Open>) -> bool {
        let mut making = self.making();
        making.under_way = making.under_way.saturating_sub(1);
        self.put(open, None)
    }

    /// A connection could not be made; returns how often in a row.
    pub(super) fn not_made(&self, now: Instant, dice: &dyn Dice) -> u32 {
        let mut making = self.making();
        making.under_way = making.under_way.saturating_sub(1);
        making.failed(now, dice)
    }

    /// A connection was made, and lost before it had proven good: a server that refuses a client does that.
    pub(super) fn made_in_vain(&self, now: Instant, dice: &dyn Dice) -> u32 {
        self.making().failed(now, dice)
    }

    /// A connection has lasted: what failed before is forgotten.
    pub(super) fn proven(&self) {
        let mut making = self.making();
        (making.failures, making.failed_at) = (0, None);
    }

    /// Puts a new connection in the place of an old one, whose calls go on.
    pub(super) fn replace(&self, old: u64, open: Arc<Open>) -> bool {
        let _making = self.making();
        self.put(open, Some(old))
    }

    /// A connection has ended.
    pub(super) fn remove(&self, id: u64) {
        let _making = self.making();
        let rest = self.connections.load().iter().filter(|open| open.id != id).cloned().collect();
        self.connections.store(Arc::new(rest));
    }

    /// Under the lock, so that two do not overwrite each other.
    fn put(&self, open: Arc<Open>, instead_of: Option<u64>) -> bool {
        if self.is_gone() {
            return false;
        }
        let kept = self.connections.load();
        let kept = kept.iter().filter(|open| Some(open.id) != instead_of).cloned();
        let all: Vec<Arc<Open>> = kept.chain([open]).collect();
        self.connections.store(Arc::new(all));
        true
    }

    fn making(&self) -> MutexGuard<'_, Making> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Least;
    impl Dice for Least {
        fn draw(&self, _: u64) -> u64 {
            0
        }
    }

    struct Most;
    impl Dice for Most {
        fn draw(&self, below: u64) -> u64 {
            below - 1
        }
    }

    #[test]
    fn the_wait_after_a_failure_is_shorter_by_chance() {
        let now = Instant::now();
        let endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0);
        assert_eq!(endpoint.begin_making(1, true, now), 1);
        endpoint.not_made(now, &Most);
        assert_eq!(endpoint.begin_making(1, true, now + ms(15)), 0);
        assert_eq!(endpoint.begin_making(1, true, now + ms(16)), 1, "a fifth less than 20 ms");
    }

    #[test]
    fn connections_are_made_up_to_the_target_and_rarely_after_failures() {
        let mut now = Instant::now();
        let endpoint = Endpoint::new(([127, 0, 0, 1], 1).into(), 0);
        assert_eq!(endpoint.begin_making(2, true, now), 2);
        assert_eq!(endpoint.begin_making(2, true, now), 0, "both are under way");
        assert_eq!((endpoint.not_made(now, &Least), endpoint.not_made(now, &Least)), (1, 2));
        assert!(!endpoint.is_making() && !endpoint.is_ready() && endpoint.lacks(2));
        assert_eq!(endpoint.begin_making(2, true, now + ms(39)), 0);
        now += ms(40);
        assert_eq!(endpoint.begin_making(2, true, now), 1, "one, to see whether it works");
        for _ in 0..20 {
            endpoint.not_made(now, &Least);
        }
        assert_eq!(endpoint.begin_making(2, true, now + ms(249)), 0);
        assert_eq!(endpoint.begin_making(2, false, now + ms(4_999)), 0);
        assert_eq!(endpoint.begin_making(2, false, now + ms(5_000)), 1);
        endpoint.proven();
        assert_eq!(endpoint.begin_making(2, true, now), 1, "the other one is under way since");
        endpoint.leave();
        assert_eq!(endpoint.begin_making(2, true, now + ms(60_000)), 0);
    }
}
