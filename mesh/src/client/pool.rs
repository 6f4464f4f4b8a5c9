//! The endpoints of an upstream: found, connected to, chosen among, left out, drained.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use arc_swap::ArcSwap;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    balance,
    connect::{Connect, Windows},
    endpoint::{Endpoint, Open},
    metrics::UpstreamMetrics,
    outlier::ejected_max,
    random::Dice,
    resolve::{Resolve, Target},
    settings::UpstreamSettings,
};

pub(super) struct Pool {
    pub(super) name: Arc<str>,
    pub(super) target: Target,
    pub(super) connect: Arc<dyn Connect>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) dice: Arc<dyn Dice>,
    pub(super) settings: UpstreamSettings,
    pub(super) metrics: UpstreamMetrics,
    pub(super) windows: Windows,
    pub(super) endpoints: ArcSwap<Vec<Arc<Endpoint>>>,
    /// Woken whenever a connection was made or could not be, and when addresses change.
    pub(super) changed: Notify,
    /// Asks for the name to be looked up again.
    pub(super) look_again: Notify,
    /// When the last lookup of the name that is over began.
    pub(super) looked_up: Mutex<Option<Instant>>,
    /// Cancelled when the last handle of the upstream is gone.
    pub(super) closed: CancellationToken,
    began: Instant,
    started: AtomicBool,
    next_id: AtomicU64,
    /// Taken while an endpoint is being left out, so that two at once do not go over the limit.
    ejecting: Mutex<()>,
}

/// What a pool is made of.
pub(super) struct PoolParts {
    pub(super) name: Arc<str>,
    pub(super) target: Target,
    pub(super) connect: Arc<dyn Connect>,
    pub(super) resolver: Arc<dyn Resolve>,
    pub(super) dice: Arc<dyn Dice>,
    pub(super) settings: UpstreamSettings,
    pub(super) metrics: UpstreamMetrics,
    pub(super) windows: Windows,
}

/// Where an attempt goes.
pub(super) struct Picked {
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) open: Arc<Open>,
}

impl Pool {
    pub(super) fn new(parts: PoolParts) -> Self {
        let PoolParts { name, target, connect, resolver, dice, settings, metrics, windows } = parts;
        let endpoints = match &target {
            Target::Fixed(address) => vec![Arc::new(Endpoint::new(*address, 0))],
            Target::Named(..) => Vec::new(),
        };
        Self {
            name,
            target,
            connect,
            resolver,
            dice,
            settings,
            metrics,
            windows,
            endpoints: ArcSwap::from_pointee(endpoints),
            changed: Notify::new(),
            look_again: Notify::new(),
            looked_up: Mutex::default(),
            closed: CancellationToken::new(),
            began: Instant::now(),
            started: AtomicBool::new(false),
            next_id: AtomicU64::new(0),
            ejecting: Mutex::new(()),
        }
    }

    /// Begins to keep itself. Within a runtime; only the first time has an effect.
    pub(super) fn start(self: &Arc<Self>) {
        if !self.started.load(Ordering::Relaxed) && !self.started.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).keep());
        }
    }

    /// The pool's own count of time.
    pub(super) fn now_ms(&self) -> u64 {
        self.ms_of(Instant::now())
    }

    fn ms_of(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }

    pub(super) fn fresh_id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn connections_target(&self) -> u32 {
        self.settings.connections_per_endpoint.max(1)
    }

    /// Where the next attempt goes; waits for a connection only where there is none at all. `avoid` is the
    /// endpoint that has just failed the call. `None` when no connection can be had now, at none of the
    /// addresses that the name has since: all that were known may have been replaced by others.
    pub(super) async fn acquire(self: &Arc<Self>, avoid: Option<&Arc<Endpoint>>) -> Option<Picked> {
        if let Some(picked) = self.pick(avoid) {
            return Some(picked);
        }
        let asked = Instant::now();
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // Registered before looking, so that no change in between is missed.
            changed.as_mut().enable();
            if let Some(picked) = self.pick(avoid) {
                return Some(picked);
            }
            if !self.connect_now() && !self.look_up_since(asked) {
                return None;
            }
            changed.await;
        }
    }

    fn pick(self: &Arc<Self>, avoid: Option<&Arc<Endpoint>>) -> Option<Picked> {
        let endpoints = self.endpoints.load();
        let now_ms = self.now_ms();
        let at = |at: usize| endpoints.get(at);
        let ready = |i: usize| at(i).is_some_and(|e| e.is_ready());
        let well = |i: usize| at(i).is_some_and(|e| !e.is_ejected(now_ms));
        let other = |i: usize| at(i).is_some_and(|e| avoid.is_none_or(|avoid| !Arc::ptr_eq(e, avoid)));
        let load = |i: usize| at(i).map_or(u64::MAX, |e| e.load(now_ms));
        let choose =
            |usable: &dyn Fn(usize) -> bool| balance::choose(endpoints.len(), &*self.dice, usable, load);
        let chosen = choose(&|i| ready(i) && well(i) && other(i))
            .or_else(|| choose(&|i| ready(i) && well(i)))
            // One that fails is better than none.
            .or_else(|| choose(&ready))?;
        let endpoint = endpoints.get(chosen)?;
        let open = endpoint.least_loaded()?;
        if endpoint.lacks(self.connections_target()) {
            // Calls go on over what there is.
            self.ensure(endpoint, false);
        }
        Some(Picked { endpoint: Arc::clone(endpoint), open })
    }

    /// Begins to connect to all endpoints; false when nothing is under way that could make one ready.
    fn connect_now(self: &Arc<Self>) -> bool {
        let endpoints = self.endpoints.load();
        for endpoint in endpoints.iter() {
            self.ensure(endpoint, true);
        }
        endpoints.iter().any(|endpoint| endpoint.is_making() || endpoint.is_ready())
    }

    /// Has the name looked up if that was not done since `asked`; false when it was, or there is no name.
    fn look_up_since(&self, asked: Instant) -> bool {
        let is_known = self.looked_up().is_some_and(|began| began >= asked);
        if is_known || matches!(self.target, Target::Fixed(_)) {
            return false;
        }
        self.look_again.notify_one();
        true
    }

    pub(super) fn looked_up(&self) -> MutexGuard<'_, Option<Instant>> {
        self.looked_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says how an attempt at an endpoint ended.
    pub(super) fn outcome(&self, endpoint: &Endpoint, failed: bool) {
        let (now, settings) = (Instant::now(), &self.settings.ejection);
        if !failed {
            if endpoint.is_troubled() {
                endpoint.set_troubled(false);
                endpoint.health().succeeded(now, settings);
            }
            return;
        }
        let _one_at_a_time = self.ejecting.lock().unwrap_or_else(PoisonError::into_inner);
        let (endpoints, now_ms) = (self.endpoints.load(), self.ms_of(now));
        let ejected = endpoints.iter().filter(|endpoint| endpoint.is_ejected(now_ms)).count();
        let may_eject = ejected < ejected_max(endpoints.len(), settings);
        endpoint.set_troubled(true);
        if let Some(until) = endpoint.health().failed(now, settings, may_eject) {
            endpoint.eject_until(self.ms_of(until));
            self.metrics.ejections.inc();
            let for_ms = until.duration_since(now).as_millis();
            tracing::warn!(upstream = &*self.name, address = %endpoint.address, for_ms, "an endpoint that keeps failing is left out");
        }
    }
}
