//! Sends what is due, for as long as the service runs.
//!
//! Promised: each webhook is sent at least once, and again until its endpoint confirms it or the schedule ends.
//! Not promised: that an endpoint gets its webhooks in order, or each only once.

use std::{collections::HashMap, sync::Arc, time::Duration};

use mesh::{Clock, Drain, Metrics, client::Dice};
use money::WebhookEndpointId;
use tokio::{
    sync::Notify,
    task::{Id, JoinSet},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    WebhookSecret,
    config::WebhookConfig,
    deliveries::{Deliveries, Job, Recorded, Room, Taken},
    domain::{delivery::Report, signing::sign_with_all},
    metrics::DispatchMetrics,
    sealing::{SealError, SealedFor, Sealer},
    sender::{Message, Sender},
};

/// A lease is held for so much longer than an attempt may take: for its secrets before, and its record after it.
const LEASE_MARGIN: Duration = Duration::from_secs(60);
/// How long the secrets of a delivery are waited for, and how long it is then put off.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
const PUT_OFF_S: i64 = 30;
/// How often a report is offered to the store, and the first pause between; each is twice as long as the one before.
const RECORD_TRIES: u32 = 6;
const RECORD_PAUSE: Duration = Duration::from_millis(100);
/// How soon the store is asked again after it failed: from, to.
const FAILED_PAUSE: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// The store is asked for due work no more often than so, unless something happens.
const ASKED_AGAIN: Duration = Duration::from_millis(10);

/// Tells a dispatcher that there is something to send. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Deliveries have become due: to be called after the commit that made them.
    pub fn wake(&self) {
        self.0.notify_one();
    }
}

/// What a dispatcher works with.
pub struct Tools {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Spreads attempts.
    pub dice: Arc<dyn Dice>,
    /// Where it counts.
    pub metrics: Metrics,
    /// By which it is told of new deliveries.
    pub wake: Wake,
}

/// Sends what is due.
pub struct Dispatcher<D, S, K> {
    deliveries: Arc<D>,
    sender: S,
    sealer: Arc<K>,
    clock: Arc<dyn Clock>,
    dice: Arc<dyn Dice>,
    metrics: DispatchMetrics,
    wake: Wake,
    most: usize,
    per_endpoint: usize,
    disable_after_s: u32,
    poll: Duration,
    lease: Duration,
}

impl<D: Deliveries, S: Sender, K: Sealer> Dispatcher<D, S, K> {
    /// A dispatcher of these deliveries.
    pub fn new(config: &WebhookConfig, deliveries: Arc<D>, sender: S, sealer: Arc<K>, tools: Tools) -> Self {
        let Tools { clock, dice, metrics, wake } = tools;
        let size = |size: u32| usize::try_from(size.max(1)).unwrap_or(usize::MAX);
        Self {
            deliveries,
            sender,
            sealer,
            clock,
            dice,
            metrics: DispatchMetrics::new(&metrics),
            wake,
            most: size(config.concurrency_max),
            per_endpoint: size(config.concurrency_per_endpoint_max),
            disable_after_s: config.disable_after_s,
            poll: Duration::from_millis(config.poll_interval_ms.max(1)),
            lease: config.attempt_timeout() + LEASE_MARGIN,
        }
    }

    /// Runs until the drain begins, then finishes what is under way: which takes no longer than an attempt may.
    pub async fn run(self, drain: Drain) {
        let this = Arc::new(self);
        let mut attempts = JoinSet::new();
        let mut endpoints: HashMap<Id, WebhookEndpointId> = HashMap::new();
        let mut failed_pause = FAILED_PAUSE.0;
        while !drain.has_started() {
            let room = this.room(&endpoints);
            let full = room.most == 0;
            let mut failed = false;
            let mut ask_at = Instant::now() + this.poll;
            if !full {
                match this.take(&room).await {
                    Ok(taken) => {
                        failed_pause = FAILED_PAUSE.0;
                        ask_at = ask_at.min(this.next_ask(&taken));
                        for job in taken.jobs {
                            let endpoint = job.endpoint.id;
                            let attempt = attempts.spawn(Arc::clone(&this).attempt(job));
                            endpoints.insert(attempt.id(), endpoint);
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "due webhooks could not be read");
                        failed = true;
                        ask_at = Instant::now() + failed_pause;
                        failed_pause = (failed_pause * 2).min(FAILED_PAUSE.1);
                    }
                }
            }
            let full = endpoints.len() >= this.most;
            let mut waiting = true;
            while waiting {
                tokio::select! {
                    () = drain.started() => waiting = false,
                    () = sleep_until(ask_at), if !full => waiting = false,
                    // A store that fails is not asked any sooner for being told of new work.
                    () = this.wake.0.notified(), if !full && !failed => waiting = false,
                    Some(ended) = attempts.join_next_with_id() => {
                        endpoints.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
                        waiting = failed;
                    }
                }
            }
            while let Some(ended) = attempts.try_join_next_with_id() {
                endpoints.remove(&ended.map_or_else(|error| error.id(), |(id, ())| id));
            }
        }
        while attempts.join_next().await.is_some() {}
    }

    fn room(&self, under_way: &HashMap<Id, WebhookEndpointId>) -> Room {
        let mut left = HashMap::new();
        for endpoint in under_way.values() {
            let left = left.entry(*endpoint).or_insert(self.per_endpoint);
            *left = left.saturating_sub(1);
        }
        Room { most: self.most.saturating_sub(under_way.len()), per_endpoint: self.per_endpoint, left }
    }

    async fn take(&self, room: &Room) -> Result<Taken, mesh::StoreError> {
        let now = self.clock.now();
        let lease = i64::try_from(self.lease.as_nanos()).unwrap_or(i64::MAX);
        let until = now.checked_add_nanos(lease).unwrap_or(now);
        self.deliveries.take(room, now, until).await
    }

    /// When what was not taken is due.
    fn next_ask(&self, taken: &Taken) -> Instant {
        let now = Instant::now();
        let nanos = taken.next_at.map_or(i64::MAX, |next| next.nanos_since(self.clock.now()));
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0)).max(ASKED_AGAIN);
        now.checked_add(wait).unwrap_or(now + self.poll)
    }

    async fn attempt(self: Arc<Self>, job: Job) {
        self.metrics.under_way.inc();
        let _under_way = OnDrop(|| {
            self.metrics.under_way.dec();
        });
        match timeout(OPEN_TIMEOUT, self.open(&job)).await.unwrap_or(Err(SealError::Unavailable)) {
            Ok(secrets) => {
                let report = self.send(&job, &secrets).await;
                self.record(&job, &report).await;
            }
            Err(error) => self.put_off(&job, error).await,
        }
    }

    /// The secrets that sign now.
    async fn open(&self, job: &Job) -> Result<Vec<WebhookSecret>, SealError> {
        let endpoint = &job.endpoint;
        let whose = SealedFor { tenant: &endpoint.tenant, endpoint: endpoint.id };
        let mut secrets = Vec::new();
        for sealed in endpoint.secrets.signing(self.clock.now()) {
            secrets.push(self.sealer.open(whose, sealed).await?);
        }
        Ok(secrets)
    }

    async fn put_off(&self, job: &Job, error: SealError) {
        tracing::warn!(endpoint = %job.endpoint.id, %error, "a webhook was put off");
        self.metrics.unsigned.inc();
        let now = self.clock.now();
        let due_at = now.checked_add_seconds(PUT_OFF_S).unwrap_or(now);
        // Otherwise the lease ends by itself.
        if let Err(error) = self.deliveries.put_back(job.lease, due_at).await {
            tracing::warn!(%error, "a webhook could not be put off");
        }
    }

    async fn send(&self, job: &Job, secrets: &[WebhookSecret]) -> Report {
        let (at, began) = (self.clock.now(), Instant::now());
        let (id, timestamp) = (job.delivery.event.to_string(), at.as_seconds().to_string());
        let signature = sign_with_all(secrets, &id, &timestamp, &job.body);
        let message = Message {
            url: &job.endpoint.url,
            id: &id,
            timestamp: &timestamp,
            signature: &signature,
            body: job.body.clone(),
        };
        let sent = self.sender.send(message).await;
        self.metrics.attempted(sent.outcome, began.elapsed().as_secs_f64());
        Report {
            at,
            ended_at: self.clock.now(),
            outcome: sent.outcome,
            retry_after_s: sent.retry_after_s,
            answer: sent.answer,
            revision: job.endpoint.revision,
            chance: u32::try_from(self.dice.draw(1 << 32)).unwrap_or(u32::MAX),
        }
    }

    async fn record(&self, job: &Job, report: &Report) {
        let mut pause = RECORD_PAUSE;
        for tries_left in (0..RECORD_TRIES).rev() {
            match self.deliveries.record(job.lease, report, self.disable_after_s).await {
                Ok(Recorded::Yes { disabled: Some(reason) }) => {
                    self.metrics.disabled(reason);
                    let (endpoint, reason) = (job.endpoint.id, reason.name());
                    tracing::info!(%endpoint, reason, "a webhook endpoint was disabled");
                    return;
                }
                Ok(Recorded::Yes { disabled: None }) => return,
                Ok(Recorded::Late) => {
                    self.metrics.late.inc();
                    return;
                }
                Err(error) if tries_left == 0 => {
                    self.metrics.unrecorded.inc();
                    tracing::warn!(%error, delivery = %job.delivery.id, "an attempt was not recorded: it is made again");
                }
                Err(_) => {
                    sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }
}

/// Also when what it is in is given up, or panics.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}
