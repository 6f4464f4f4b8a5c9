//! Calls to another service: found by name, balanced over all its addresses, made again where that is
//! safe, and refused at once while the service fails.
//!
//! A call passes through, in this order: the limit on calls under way and the breaker (`breaker`), its
//! deadline, then for each attempt the choice of an endpoint (`balance`, `outlier`), one of its
//! connections (`endpoint`, `keeper`), and where it fails the decision to try again (`retry`,
//! `budget`). Which RPC may be made twice, the contract says (`contract`).

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{
    Request, Response, Uri,
    uri::{Authority, PathAndQuery},
};
use tokio::time::Instant;
use tokio_util::sync::DropGuard;
use tonic::{Status, body::Body};
use tower::Service;

use crate::{
    identity::SpiffeId,
    tls::{Identity, TlsError},
    transport::Transport,
};

mod answer;
mod balance;
mod body;
pub mod breaker;
mod budget;
mod connect;
mod contract;
mod endpoint;
mod exchange;
mod failure;
mod keeper;
mod metrics;
mod outlier;
mod pool;
mod random;
mod resolve;
mod retry;
mod said;
mod settings;

pub use answer::AnswerBody;
pub use connect::{Connect, Connecting, Windows, Wire};
pub use metrics::ClientMetrics;
pub use random::{Dice, ThreadDice};
pub use resolve::{Resolve, Resolving, SystemResolver};
pub use settings::{BreakerSettings, EjectionSettings, RetrySettings, UpstreamSettings};

use self::{
    breaker::{Breaker, Outcome, Pass},
    budget::Budget,
    connect::{Clear, MutualTls},
    pool::{Pool, PoolParts},
    resolve::Target,
};

/// The largest answer that is read, in bytes. The largest legal page of payments is well below it.
pub const ANSWER_BYTES_MAX: usize = 32 * 1024 * 1024;

/// A way to call one service. Cheap to clone; give it to a generated client. Its connections end with its
/// last clone.
#[derive(Clone)]
pub struct Upstream {
    shared: Arc<Shared>,
}

/// What all clones share.
struct Shared {
    pool: Arc<Pool>,
    authority: Authority,
    breaker: Mutex<Breaker>,
    budget: Budget,
    in_flight: AtomicU32,
    _ends_the_pool: DropGuard,
}

/// What an [`Upstream`] is made of, where the usual is not wanted.
pub struct UpstreamParts {
    /// How it behaves.
    pub settings: UpstreamSettings,
    /// How a connection is made.
    pub connect: Arc<dyn Connect>,
    /// How names become addresses.
    pub resolver: Arc<dyn Resolve>,
    /// Where its chance comes from.
    pub dice: Arc<dyn Dice>,
    /// Where it counts.
    pub metrics: ClientMetrics,
    /// How much of answers is sent to it before it has read them.
    pub windows: Windows,
    /// What it is for, where there is another one to the same service: part of its name in metrics and logs.
    pub purpose: Option<&'static str>,
}

impl UpstreamParts {
    /// The usual: mutual TLS to exactly the workload `peer`, the system's resolver.
    pub fn mutual_tls(identity: &Identity, peer: &SpiffeId) -> Result<Self, TlsError> {
        Self::over(&identity.clone().into(), peer)
    }

    /// The usual, over whatever the calling workload meets others by.
    pub fn over(transport: &Transport, peer: &SpiffeId) -> Result<Self, TlsError> {
        let connect: Arc<dyn Connect> = match transport {
            Transport::Native(identity) => {
                // What cannot be used for a connection is said now and not with the first call.
                identity.client_config(peer)?;
                Arc::new(MutualTls::new(identity, peer))
            }
            Transport::Linkerd(_) => Arc::new(Clear::new()),
        };
        Ok(Self {
            settings: UpstreamSettings::default(),
            connect,
            resolver: Arc::new(SystemResolver),
            dice: Arc::new(ThreadDice),
            metrics: ClientMetrics::default(),
            windows: Windows::default(),
            purpose: None,
        })
    }
}

/// A text is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be host:port, such as svc-ledger.paymesh.svc:50051")]
pub struct AddressError;

impl Upstream {
    /// Calls the workload `peer` at `address` (`host:port`) as `identity`. Connects when first used.
    pub fn new(identity: &Identity, peer: &SpiffeId, address: &str) -> Result<Self, TlsError> {
        Self::of(peer, address, UpstreamParts::mutual_tls(identity, peer)?)
            .map_err(|error| TlsError::Address(error.to_string()))
    }

    /// Calls the workload `peer` at `address` (`host:port`) with these parts.
    pub fn of(peer: &SpiffeId, address: &str, parts: UpstreamParts) -> Result<Self, AddressError> {
        let UpstreamParts { settings, connect, resolver, dice, metrics, windows, purpose } = parts;
        let name: Arc<str> = match purpose {
            Some(purpose) => format!("{}/{purpose}", peer.name()).into(),
            None => peer.name().into(),
        };
        let target = Target::read(address).ok_or(AddressError)?;
        let breaker = Breaker::new(&settings.breaker, Instant::now());
        let budget = Budget::new(&settings.retry);
        let metrics = metrics.of(&name);
        metrics.breaker_is(breaker.state());
        let pool = Pool::new(PoolParts { name, target, connect, resolver, dice, settings, metrics, windows });
        let pool = Arc::new(pool);
        // For the peer's logs. Who the peer is, its certificate says.
        let authority = peer.name().parse().unwrap_or_else(|_| Authority::from_static("upstream"));
        let shared = Shared {
            _ends_the_pool: pool.closed.clone().drop_guard(),
            pool,
            authority,
            breaker: Mutex::new(breaker),
            budget,
            in_flight: AtomicU32::new(0),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Begins to connect, if that is configured, and does not wait. Must be called within a runtime.
    pub fn warm_up(&self) {
        if self.shared.pool.settings.warm_up {
            self.shared.pool.start();
        }
    }
}

impl Service<Request<Body>> for Upstream {
    type Response = Response<AnswerBody>;
    type Error = Status;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    /// Always: a call waits for its connection itself, within its deadline.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.shared.pool.start();
        Box::pin(exchange::call(Arc::clone(&self.shared), request))
    }
}

impl Shared {
    /// Counts a call as under way; false if there are too many. Each is to be given back with `leave`.
    fn enter(&self) -> bool {
        let most = self.pool.settings.in_flight_max.max(1);
        let entered = self.in_flight.fetch_add(1, Ordering::Relaxed) < most;
        if !entered {
            self.leave();
        }
        entered
    }

    fn leave(&self) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
    }

    fn admit(&self, now: Instant) -> Result<Pass, Duration> {
        self.with_breaker(|breaker| breaker.admit(now))
    }

    fn ended(&self, pass: Pass, outcome: Outcome, now: Instant) {
        self.with_breaker(|breaker| breaker.ended(pass, outcome, now));
    }

    fn with_breaker<T>(&self, work: impl FnOnce(&mut Breaker) -> T) -> T {
        let mut breaker = self.breaker.lock().unwrap_or_else(PoisonError::into_inner);
        let before = breaker.state();
        let done = work(&mut breaker);
        let state = breaker.state();
        if state != before {
            self.pool.metrics.breaker_is(state);
            tracing::warn!(upstream = &*self.pool.name, from = ?before, to = ?state, "the breaker changed");
        }
        done
    }

    /// The request's path, at this upstream.
    fn uri(&self, path: &Uri) -> Uri {
        let path = path.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let uri = Uri::builder()
            .scheme(self.pool.connect.scheme())
            .authority(self.authority.clone())
            .path_and_query(path);
        // Three parts that are valid each make a valid whole.
        uri.build().unwrap_or_default()
    }
}
