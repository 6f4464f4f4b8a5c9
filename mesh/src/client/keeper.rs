//! What happens beside the calls: looking names up, making, replacing and ending connections.

use std::{io, net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
    time::Instant,
};

use super::{
    connect::{Established, establish},
    endpoint::{Endpoint, Open},
    pool::Pool,
    resolve::{Target, is_one_instance, select},
    settings::ms,
};

/// How often endpoints without enough connections are looked after when no call does.
const TICK: Duration = Duration::from_secs(1);
/// Lookups that are asked for are at least this far apart.
const LOOKUPS_APART: Duration = Duration::from_millis(250);
/// A connection that has lasted this long is one that works.
const PROVEN_AFTER: Duration = Duration::from_secs(1);
/// Between attempts to replace a connection that is still good.
const REPLACE_AGAIN: Duration = Duration::from_secs(2);

/// How a connection's task ended.
type Ended = Result<hyper::Result<()>, JoinError>;
type Minding = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Pool {
    /// Keeps endpoints and connections as they should be until the upstream is no longer used.
    pub(super) async fn keep(self: Arc<Self>) {
        let closed = self.closed.clone();
        closed.run_until_cancelled(self.keep_on()).await;
    }

    async fn keep_on(self: &Arc<Self>) {
        let interval = ms(self.settings.resolve_interval_ms).max(LOOKUPS_APART);
        loop {
            self.look_up().await;
            self.ensure_all();
            let looked_up = Instant::now();
            loop {
                tokio::select! {
                    () = tokio::time::sleep(TICK) => self.ensure_all(),
                    () = self.look_again.notified() => {
                        tokio::time::sleep_until(looked_up + LOOKUPS_APART).await;
                        break;
                    }
                    () = tokio::time::sleep_until(looked_up + interval) => break,
                }
            }
        }
    }

    fn ensure_all(self: &Arc<Self>) {
        for endpoint in self.endpoints.load().iter() {
            self.ensure(endpoint, false);
        }
    }

    async fn look_up(self: &Arc<Self>) {
        let Target::Named(host, port) = &self.target else { return };
        let began = Instant::now();
        let found = tokio::time::timeout(
            ms(self.settings.connect_timeout_ms.max(1)),
            self.resolver.resolve(Arc::clone(host), *port),
        );
        let found = found.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        match found {
            Ok(found) if !self.settings.replicated && !is_one_instance(&found) => {
                // Which of them holds what was begun nobody here can know: none is called.
                let is_news = !self.endpoints.load().is_empty() || self.looked_up().is_none();
                if is_news {
                    tracing::error!(
                        upstream = &*self.name,
                        addresses = found.len(),
                        "the name has several addresses and the service is not `replicated`: no call goes there"
                    );
                }
                self.use_addresses(&[]);
            }
            Ok(found) if !found.is_empty() => self.use_addresses(&found),
            // What was found before stays in use.
            Ok(_) => tracing::warn!(upstream = &*self.name, "the name has no address"),
            Err(error) => {
                tracing::warn!(upstream = &*self.name, %error, "the name could not be looked up");
            }
        }
        *self.looked_up() = Some(began);
        self.changed.notify_waiters();
    }

    fn use_addresses(&self, found: &[SocketAddr]) {
        let current = self.endpoints.load_full();
        let in_use: Vec<SocketAddr> = current.iter().map(|endpoint| endpoint.address).collect();
        let selected = select(&in_use, found, self.settings.endpoints_max as usize);
        if selected == in_use {
            return;
        }
        let now_ms = self.now_ms();
        let next: Vec<Arc<Endpoint>> = selected
            .iter()
            .map(|address| {
                let known = current.iter().find(|endpoint| endpoint.address == *address);
                known.cloned().unwrap_or_else(|| Arc::new(Endpoint::new(*address, now_ms)))
            })
            .collect();
        tracing::info!(upstream = &*self.name, addresses = next.len(), "the addresses have changed");
        self.endpoints.store(Arc::new(next));
        for endpoint in current.iter().filter(|endpoint| !selected.contains(&endpoint.address)) {
            endpoint.leave();
        }
    }

    /// Begins to make the connections that an endpoint lacks. `urgent`: calls are waiting.
    pub(super) fn ensure(self: &Arc<Self>, endpoint: &Arc<Endpoint>, urgent: bool) {
        if !endpoint.lacks(self.connections_target()) {
            return;
        }
        for _ in 0..endpoint.begin_making(self.connections_target(), urgent, Instant::now()) {
            tokio::spawn(Arc::clone(self).make(Arc::clone(endpoint)));
        }
    }

    async fn make(self: Arc<Self>, endpoint: Arc<Endpoint>) {
        // Taken before connecting: a change in between is then not missed.
        let renewed = self.connect.renewed();
        let Some(made) = self.closed.run_until_cancelled(self.establish(&endpoint)).await else { return };
        match made {
            Ok(established) => {
                let (open, minding) = self.adopt(&endpoint, established, renewed);
                if endpoint.made(open) {
                    tokio::spawn(minding);
                }
            }
            Err(error) => {
                let failures = endpoint.not_made(Instant::now(), &*self.dice);
                self.outcome(&endpoint, true);
                self.say_failed(&endpoint, failures, &error);
                self.look_again.notify_one();
            }
        }
        self.changed.notify_waiters();
    }

    async fn establish(&self, endpoint: &Endpoint) -> io::Result<Established> {
        establish(&*self.connect, endpoint.address, &self.settings, self.windows).await
    }

    /// The first failure is news, those after it are not.
    fn say_failed(&self, endpoint: &Endpoint, failures: u32, error: &io::Error) {
        let (upstream, address) = (&*self.name, endpoint.address);
        if failures == 1 {
            tracing::warn!(upstream, %address, %error, "a connection could not be made");
        } else {
            tracing::debug!(upstream, %address, failures, %error, "a connection could not be made");
        }
    }

    fn adopt(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        (sender, connection): Established,
        renewed: watch::Receiver<u64>,
    ) -> (Arc<Open>, Minding) {
        let open = Arc::new(Open::new(self.fresh_id(), sender));
        tracing::debug!(upstream = &*self.name, address = %endpoint.address, "a connection was made");
        // A task of its own: what minds the connection does not slow its traffic.
        let running = tokio::spawn(connection);
        let (pool, endpoint, id) = (Arc::clone(self), Arc::clone(endpoint), open.id);
        let minding: Minding = Box::pin(async move {
            pool.metrics.connections.inc();
            pool.mind(&endpoint, id, running, renewed).await;
            pool.metrics.connections.dec();
        });
        (open, minding)
    }

    /// Watches a connection until it has ended, and has another one in its place before it is too old.
    async fn mind(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        id: u64,
        mut running: JoinHandle<hyper::Result<()>>,
        renewed: watch::Receiver<u64>,
    ) {
        let began = Instant::now();
        let replaced = self.replace(endpoint, id, self.retire_at(began), renewed);
        tokio::pin!(replaced);
        let mut unproven = true;
        let ended = loop {
            tokio::select! {
                () = self.closed.cancelled() => break None,
                ended = &mut running => break Some(ended),
                () = &mut replaced => {
                    // Nothing new begins on it; it ends when its last call has.
                    tokio::select! {
                        () = self.closed.cancelled() => {}
                        _ = &mut running => {}
                    }
                    return;
                }
                () = tokio::time::sleep_until(began + PROVEN_AFTER), if unproven => {
                    endpoint.proven();
                    unproven = false;
                }
            }
        };
        endpoint.remove(id);
        let Some(ended) = ended else { return };
        let failures = if unproven { endpoint.made_in_vain(Instant::now(), &*self.dice) } else { 0 };
        self.say_ended(endpoint, ended, failures);
        self.changed.notify_waiters();
        if !endpoint.is_gone() {
            self.look_again.notify_one();
            self.ensure(endpoint, false);
        }
    }

    fn say_ended(&self, endpoint: &Endpoint, ended: Ended, failures: u32) {
        let (upstream, address) = (&*self.name, endpoint.address);
        match ended {
            Ok(Ok(())) => tracing::debug!(upstream, %address, "a connection has ended"),
            Ok(Err(error)) if failures > 1 => {
                tracing::debug!(upstream, %address, failures, %error, "a connection was lost again");
            }
            Ok(Err(error)) => tracing::info!(upstream, %address, %error, "a connection was lost"),
            Err(_) => tracing::error!(upstream, %address, "a connection's task panicked"),
        }
    }

    /// Returns once another connection has taken the place of this one.
    async fn replace(
        self: &Arc<Self>,
        endpoint: &Arc<Endpoint>,
        id: u64,
        retire_at: Option<Instant>,
        mut renewed: watch::Receiver<u64>,
    ) {
        let too_old = async {
            match retire_at {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let out_of_date = async {
            // Nobody is left who could renew anything: then nothing changes.
            if renewed.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = too_old => {}
            () = out_of_date => {}
        }
        loop {
            let renewed = self.connect.renewed();
            match self.establish(endpoint).await {
                Ok(established) => {
                    let (open, minding) = self.adopt(endpoint, established, renewed);
                    if endpoint.replace(id, open) {
                        tokio::spawn(minding);
                    }
                    return;
                }
                Err(error) => {
                    self.say_failed(endpoint, 1, &error);
                    tokio::time::sleep(REPLACE_AGAIN).await;
                }
            }
        }
    }

    /// Up to a fifth early, so that connections that were made together are not replaced together.
    fn retire_at(&self, now: Instant) -> Option<Instant> {
        let age_ms = u64::from(self.settings.connection_age_max_ms);
        let early_ms = self.dice.draw(age_ms / 5 + 1);
        (age_ms > 0).then(|| now + Duration::from_millis(age_ms - early_ms))
    }
}
