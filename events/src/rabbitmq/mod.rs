//! The publisher to RabbitMQ, over AMQP 0-9-1.
//!
//! An event counts as published when the broker has confirmed it, which for a quorum queue is when most of its
//! replicas have it on disk, **and** has not returned it: without `mandatory`, what no queue wants is dropped and
//! confirmed. A connection that failed, or was given up with something under way, is not used again.

mod link;
mod socket;
mod url;
mod wire;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use mesh::StartError;
use tokio::{
    sync::Mutex,
    time::{Instant, sleep_until, timeout_at},
};

use self::link::{Link, Target};
pub use self::{
    url::check,
    wire::{WireError, event_of},
};
use crate::{
    backoff::Backoff,
    config::RabbitMqConfig,
    event::Event,
    publish::{BrokerError, Outcome, PublishError, Publisher, Publishing, hold_back},
};

/// The wait after the first connection that failed, and the longest one.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));

/// Publishes to a RabbitMQ broker. Cheap to clone; all clones share one connection, which is made when something is
/// to be published.
#[derive(Clone)]
pub struct RabbitMq(Arc<Inner>);

struct Inner {
    target: Target,
    password_file: PathBuf,
    in_flight_max: usize,
    batch_timeout: Duration,
    connect_timeout: Duration,
    /// One batch at a time.
    turn: Mutex<State>,
}

struct State {
    link: Option<Link>,
    backoff: Backoff,
    /// Not before this a connection is tried again, and why.
    failed: Option<(Instant, BrokerError)>,
}

impl RabbitMq {
    /// Reads the CA's file. Does not connect.
    ///
    /// # Errors
    /// Which setting is wrong, and what would be right.
    pub fn new(config: &RabbitMqConfig) -> Result<Self, StartError> {
        url::check(config).map_err(StartError::Config)?;
        let url = url::parse(&config.url).map_err(StartError::Config)?;
        let tls =
            config.ca_file.as_deref().filter(|_| url.tls).map(mesh::outbound::client_config).transpose()?;
        let target = Target {
            url,
            tls,
            heartbeat_s: config.heartbeat_s,
            exchange: config.exchange.clone(),
            queues: config.queues.clone(),
        };
        let state = State { link: None, backoff: Backoff::new(RECONNECT.0, RECONNECT.1), failed: None };
        Ok(Self(Arc::new(Inner {
            target,
            password_file: config.password_file.clone().unwrap_or_default(),
            in_flight_max: config.in_flight_max.max(1),
            batch_timeout: Duration::from_millis(config.batch_timeout_ms.into()),
            connect_timeout: Duration::from_millis(config.connect_timeout_ms.into()),
            turn: Mutex::new(state),
        })))
    }
}

impl Publisher for RabbitMq {
    fn publish<'a>(&'a self, batch: &'a [Event]) -> Publishing<'a> {
        Box::pin(async move {
            let mut outcomes = self.0.publish(batch).await;
            hold_back(batch, &mut outcomes);
            outcomes
        })
    }
}

impl Inner {
    async fn publish(&self, batch: &[Event]) -> Vec<Outcome> {
        let deadline = Instant::now() + self.batch_timeout;
        let mut outcomes = Vec::with_capacity(batch.len());
        let rest = |mut outcomes: Vec<Outcome>, error| {
            outcomes.resize(batch.len(), Err(PublishError::Unavailable(error)));
            outcomes
        };
        let Ok(mut state) = timeout_at(deadline, self.turn.lock()).await else {
            return rest(outcomes, BrokerError::Deadline);
        };
        for chunk in batch.chunks(self.in_flight_max) {
            // Taken out while it is used: if this is given up half-way, so is the link.
            let link = match self.link(&mut state, deadline).await {
                Ok(link) => link,
                Err(error) => return rest(outcomes, error),
            };
            let (published, is_well) = link.publish(&self.target.exchange, chunk, deadline).await;
            let failed = published.iter().find_map(|outcome| outcome.err());
            outcomes.extend(published);
            if is_well {
                state.link = Some(link);
            } else {
                tracing::warn!(
                    error = failed.map(tracing::field::display),
                    "the connection to the broker is given up"
                );
            }
            // What comes after a failure may be of the same subject: it is not sent before it.
            if failed.is_some() && outcomes.len() < batch.len() {
                outcomes.resize(batch.len(), Err(PublishError::Behind));
            }
        }
        outcomes
    }

    /// The link, or a new one. It is tried once, and not before the time for it has come.
    async fn link(&self, state: &mut State, deadline: Instant) -> Result<Link, BrokerError> {
        if let Some(link) = state.link.take().filter(Link::is_open) {
            return Ok(link);
        }
        if let Some((at, error)) = state.failed {
            if at >= deadline {
                return Err(error);
            }
            sleep_until(at).await;
        }
        let until = deadline.min(Instant::now() + self.connect_timeout);
        let made = timeout_at(until, self.connect()).await.unwrap_or(Err(BrokerError::Deadline));
        match &made {
            Ok(_) => {
                tracing::info!("connected to the broker of events");
                state.backoff.succeeded();
                state.failed = None;
            }
            Err(error) => {
                if state.failed.is_none_or(|(_, before)| before != *error) {
                    tracing::warn!(%error, "no connection to the broker of events");
                }
                state.failed = Some((Instant::now() + state.backoff.failed(), *error));
            }
        }
        made
    }

    async fn connect(&self) -> Result<Link, BrokerError> {
        let file = self.password_file.clone();
        let read = tokio::task::spawn_blocking(move || std::fs::read_to_string(file)).await;
        let password = read.ok().and_then(Result::ok).ok_or(BrokerError::PasswordFile)?;
        Link::make(&self.target, password.trim_end().to_owned()).await
    }
}

impl fmt::Debug for RabbitMq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RabbitMq").field("exchange", &self.0.target.exchange).finish_non_exhaustive()
    }
}
