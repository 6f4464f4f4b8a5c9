//! What a service is to the mesh, and what the mesh is to a service.

use std::{
    collections::BTreeMap,
    future::Future,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::{net::TcpListener, task::JoinSet};
use tonic_health::pb::health_server::HealthServer;

use crate::{
    admin,
    admission::Admission,
    client::{ClientMetrics, Upstream, UpstreamParts, UpstreamSettings, Windows},
    clock::{Clock, Ids},
    drain::Drain,
    fault::Fault,
    identity::{SpiffeId, SpiffeIdError},
    limit::window::Bounds,
    metrics::Metrics,
    panic_guard,
    policy::{Policies, PolicyConfig},
    refusals::Refusals,
    routes::{Handler, Routes, Stages},
    server,
    stack::Stack,
    store::StoreError,
    tls::{self, TlsError},
    transport::Transport,
};

/// Why a service did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has a value that cannot be.
    #[error("configuration: {0}")]
    Config(String),
    /// The configuration does not fit what can be configured.
    #[error("configuration:\n  {0}")]
    Problems(#[from] crate::config::Problems),
    /// Certificates or keys are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A name makes no SPIFFE id.
    #[error(transparent)]
    Identity(#[from] SpiffeIdError),
    /// Another process has the data directory.
    #[error("another process is running on {}: stop it, or choose another data directory", .0.display())]
    InUse(PathBuf),
    /// Work that should have gone on ended by itself; the log says which.
    #[error("a part of {0} failed, so it was stopped")]
    Failed(&'static str),
    /// A file, a socket or a thread could not be had.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl StartError {
    /// For `map_err`: says what was tried.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// A service: a name, a configuration, and how to build it.
pub trait Service: Sized + Send + 'static {
    /// Its name, which is also its workload identity and its key in the configuration.
    const NAME: &'static str;
    /// The largest message that its requests can need, in bytes. The generated servers' own limit is 4 MiB;
    /// a service that says more here raises it there, too.
    const MESSAGE_BYTES_MAX: u32 = 4 * 1024 * 1024;
    /// Its own part of the configuration.
    type Config: DeserializeOwned + Default + Send + 'static;

    /// Opens what it needs and says what it serves.
    fn build(
        config: Self::Config,
        context: &ServiceContext,
    ) -> impl Future<Output = Result<Parts, StartError>> + Send;

    /// What is wrong with a configuration beyond its types, as a sentence that names the setting: what
    /// `build` would refuse. For `paymesh config check`, which starts nothing.
    fn check(config: &Self::Config) -> Result<(), String> {
        let _ = config;
        Ok(())
    }

    /// The services that this one cannot start without an address of.
    fn upstreams(config: &Self::Config) -> Vec<String> {
        let _ = config;
        Vec::new()
    }
}

type Worker = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a service consists of once built.
#[derive(Default)]
pub struct Parts {
    routes: Routes,
    names: Vec<&'static str>,
    workers: Vec<(&'static str, Worker)>,
    later: Option<Later>,
}

/// What a service has to wait for before it can serve all that it should.
struct Later {
    services: &'static [&'static str],
    refusal: fn() -> Fault,
    parts: Pin<Box<dyn Future<Output = Result<Parts, StartError>> + Send>>,
}

impl Parts {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Serves a gRPC service; its health is reported under its name.
    #[must_use]
    pub fn serve<S: Handler>(mut self, service: S) -> Self {
        self.routes.add(service);
        self.names.push(S::NAME);
        self
    }

    /// Runs a background duty. It ends by itself soon after the drain begins.
    #[must_use]
    pub fn worker(mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) -> Self {
        self.workers.push((name, Box::pin(work)));
        self
    }

    /// Serves these gRPC services only once `parts` are there, and runs their workers. Until then the process is
    /// not ready, its health is NOT_SERVING, and callers of those services are refused with `refusal`. If `parts`
    /// fails, so does the service. What `parts` itself would have served later is not served.
    #[must_use]
    pub fn later(
        mut self,
        services: &'static [&'static str],
        refusal: fn() -> Fault,
        parts: impl Future<Output = Result<Self, StartError>> + Send + 'static,
    ) -> Self {
        self.later = Some(Later { services, refusal, parts: Box::pin(parts) });
        self
    }
}

/// What every service is configured with, whatever it does.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The directory of the service's state, which one process at a time has. It is made where it is not.
    #[schemars(extend("x-required" = true), example = "data/svc-ledger")]
    pub data_dir: PathBuf,
    /// Where the other services are: name → `host:port`. Only those that a service calls are needed.
    pub upstreams: BTreeMap<String, String>,
    /// Who may call what.
    pub policy: PolicyConfig,
    /// Whether RPCs can be discovered by tools (grpc.reflection.v1), as far as policy allows.
    pub reflection: bool,
    /// How calls to the other services are made.
    pub client: UpstreamSettings,
    /// As `client`, for single services by name; what is left out has its default, not what `client` says.
    pub clients: BTreeMap<String, UpstreamSettings>,
    /// The most RPCs worked on at once, open streams among them; more are refused with RESOURCE_EXHAUSTED. The
    /// hard bound: with `queue_max_ms` a busy service refuses earlier.
    #[schemars(range(min = 1))]
    pub in_flight_max: u32,
    /// How long, in milliseconds, most requests of an RPC may wait for others before new ones are refused
    /// with RESOURCE_EXHAUSTED. How many that are is found out while working; up to 128 of an RPC are always
    /// let in. 0 leaves only `in_flight_max`, which alone holds for streams and for RPCs that wait on a third
    /// party, such as a processor, whatever is said here.
    pub queue_max_ms: u32,
    /// The largest message that is read of a request, in bytes; a larger one is refused with
    /// RESOURCE_EXHAUSTED before it is read. A service never reads more than it was built for, whatever is
    /// said here; see [`Service::MESSAGE_BYTES_MAX`].
    #[schemars(range(min = 1))]
    pub message_bytes_max: u32,
}

/// So few of an RPC at once are no overload, however slow they are.
const UNLIMITED_IN_FLIGHT: u32 = 128;

impl Default for Settings {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::new(),
            upstreams: BTreeMap::new(),
            policy: PolicyConfig::default(),
            reflection: false,
            client: UpstreamSettings::default(),
            clients: BTreeMap::new(),
            in_flight_max: 8_192,
            queue_max_ms: 500,
            message_bytes_max: 8 * 1024 * 1024,
        }
    }
}

impl Settings {
    fn bounds(&self) -> Bounds {
        let max = self.in_flight_max;
        let min = if self.queue_max_ms == 0 { max } else { UNLIMITED_IN_FLIGHT.min(max) };
        Bounds { min, max, queue: Duration::from_millis(self.queue_max_ms.into()) }
    }
}

/// What the mesh gives to a service while it is being built.
#[derive(Clone)]
pub struct ServiceContext {
    settings: Settings,
    transport: Transport,
    metrics: Metrics,
    client_metrics: ClientMetrics,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    drain: Drain,
}

impl ServiceContext {
    /// The directory for the service's state; it exists.
    pub fn data_dir(&self) -> &Path {
        &self.settings.data_dir
    }

    /// Who this service is.
    pub fn identity(&self) -> &SpiffeId {
        self.transport.id()
    }

    /// Where to count things.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Where the time comes from.
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock)
    }

    /// Where fresh ids come from.
    pub fn ids(&self) -> Arc<dyn Ids> {
        Arc::clone(&self.ids)
    }

    /// Says when to stop.
    pub fn drain(&self) -> Drain {
        self.drain.clone()
    }

    /// A way to call the service of this name.
    pub fn upstream(&self, name: &str) -> Result<Upstream, StartError> {
        self.upstream_with(name, None)
    }

    /// The same for calls whose answers are streams, up to `streams_max` at once, that may be left unread for
    /// a while: over connections of their own, on which no stream that is not read holds up the others.
    /// Counted as `<name>/streams`.
    pub fn upstream_for_streams(&self, name: &str, streams_max: usize) -> Result<Upstream, StartError> {
        self.upstream_with(name, Some(streams_max))
    }

    fn upstream_with(&self, name: &str, streams_max: Option<usize>) -> Result<Upstream, StartError> {
        let address = self.settings.upstreams.get(name).ok_or_else(|| {
            StartError::Config(format!(
                "upstreams.{name} is missing: give the address of {name} as host:port"
            ))
        })?;
        let peer = SpiffeId::of(name)?;
        let settings = self.settings.clients.get(name).unwrap_or(&self.settings.client).clone();
        let metrics = self.client_metrics.clone();
        let mut parts = UpstreamParts { settings, metrics, ..UpstreamParts::over(&self.transport, &peer)? };
        if let Some(streams_max) = streams_max {
            parts.windows = Windows::for_streams(streams_max);
            parts.purpose = Some("streams");
        }
        let upstream = Upstream::of(&peer, address, parts)
            .map_err(|error| StartError::Config(format!("upstreams.{name}: {error}")))?;
        upstream.warm_up();
        Ok(upstream)
    }
}

/// Everything that [`start`] needs beside the service itself.
pub struct Launch {
    /// What every service is configured with.
    pub settings: Settings,
    /// Who the workload is, and how it meets others.
    pub transport: Transport,
    /// Where RPCs are taken, already bound.
    pub rpc: TcpListener,
    /// Where `/metrics` and probes are answered, already bound.
    pub admin: TcpListener,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
    /// Where fresh ids come from.
    pub ids: Arc<dyn Ids>,
    /// Says when to stop.
    pub drain: Drain,
}

/// A service that was started.
pub struct Running {
    /// Its name.
    pub name: &'static str,
    /// Where it takes RPCs.
    pub address: SocketAddr,
    /// Where it answers `/metrics` and probes.
    pub admin_address: SocketAddr,
    drain: Drain,
    failed: Drain,
    tasks: JoinSet<()>,
    /// Held as long as the service runs.
    _lock: std::fs::File,
}

impl Running {
    /// Waits until the service has failed: until work that should go on has ended by itself.
    pub fn failed(&self) -> impl Future<Output = ()> + Send + 'static {
        let failed = self.failed.clone();
        async move { failed.started().await }
    }

    /// Tells the service to stop and waits until it has finished what it had begun.
    pub async fn stop(self) {
        self.drain.start();
        self.finished().await;
    }

    /// Waits until the service has stopped. Whatever has not finished by the drain's deadline is cut off.
    pub async fn finished(mut self) {
        self.drain.started().await;
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // The server's own deadline comes first; this one is for workers that do not listen.
        if tokio::time::timeout(server::DRAIN_DEADLINE * 2, all).await.is_err() {
            tracing::warn!(service = self.name, "background work did not end in time and was cut off");
        }
    }
}

/// Starts a service: opens its state, then takes RPCs.
pub async fn start<S: Service>(config: S::Config, launch: Launch) -> Result<Running, StartError> {
    let Launch { settings, transport, rpc, admin, clock, ids, drain } = launch;
    // What is in it is for this service's eyes alone.
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&settings.data_dir);
    made.map_err(StartError::io(format!("the data directory {}", settings.data_dir.display())))?;
    let lock = lock(&settings.data_dir)?;
    if transport.id().name() != S::NAME {
        let text = format!(
            "mesh.identity: the certificate is that of {}, not of {}",
            transport.id().name(),
            S::NAME
        );
        return Err(StartError::Config(text));
    }
    let address = rpc.local_addr().map_err(StartError::io("the RPC listener"))?;
    let admin_address = admin.local_addr().map_err(StartError::io("the admin listener"))?;
    let metrics = Metrics::new(S::NAME);
    // Before anything is opened: who may call is not found out to be wrong when all else is done.
    let policies = Policies::load(&settings.policy, &metrics);
    let policies = policies.map_err(|error| StartError::Config(error.to_string()))?;
    let reload = Duration::from_millis(settings.policy.reload_ms.max(1));
    let accepting = transport.clone();
    let context = ServiceContext {
        settings,
        transport,
        client_metrics: ClientMetrics::registered(&metrics),
        metrics: metrics.clone(),
        clock: Arc::clone(&clock),
        ids: Arc::clone(&ids),
        drain: drain.clone(),
    };
    let Parts { routes, mut names, workers, later } = S::build(config, &context).await?;

    let (health, health_service) = tonic_health::server::health_reporter();
    for name in &names {
        health.set_service_status(*name, tonic_health::ServingStatus::Serving).await;
    }
    let (awaited, parts) = later
        .map_or((None, None), |later| (Some((later.services.to_vec(), later.refusal)), Some(later.parts)));
    // Those whose health changes when what is awaited has come.
    let waiting: Vec<&'static str> =
        std::iter::once("").chain(awaited.iter().flat_map(|(services, _)| services.clone())).collect();
    let begins_as = match awaited {
        None => tonic_health::ServingStatus::Serving,
        Some(_) => tonic_health::ServingStatus::NotServing,
    };
    for name in &waiting {
        health.set_service_status(*name, begins_as).await;
    }
    names.extend(waiting.iter().filter(|name| !name.is_empty()));
    let mut routes = routes;
    routes.add::<HealthServer<_>>(health_service);
    if context.settings.reflection {
        routes.add(reflection()?);
    }
    let parting = Drain::new();
    let admission = Arc::new(Admission::new(context.settings.bounds()));
    metrics.register_collector(Arc::clone(&admission));
    let routes = Arc::new(Stages::new(routes, awaited));
    let stack = Arc::new(Stack {
        service: S::NAME,
        routes: Arc::clone(&routes),
        policies: policies.clone(),
        metrics: metrics.clone(),
        clock,
        ids,
        in_flight_max: context.settings.in_flight_max,
        admission: Arc::clone(&admission),
        message_bytes_max: context.settings.message_bytes_max.min(S::MESSAGE_BYTES_MAX),
        refusals: Refusals::default(),
        parting: parting.clone(),
    });

    let (mut tasks, failed) = (JoinSet::new(), Drain::new());
    let mut workers = workers;
    workers.push(("policy", Box::pin(policies.keep(reload, drain.clone()))));
    if let Some(parts) = parts {
        let (routes, health) = (Arc::clone(&routes), health.clone());
        let opening = open(S::NAME, parts, routes, health, waiting, drain.clone(), failed.clone());
        workers.push(("opening", Box::pin(opening)));
    }
    for (name, worker) in workers {
        tasks.spawn(supervise(S::NAME, name, worker, drain.clone(), failed.clone()));
    }
    if let Transport::Native(identity) = &accepting {
        let keeping = identity.clone().keep(tls::LOOK_EVERY, drain.clone());
        tasks.spawn(supervise(S::NAME, "identity", Box::pin(keeping), drain.clone(), failed.clone()));
        metrics.register(
            "certificate_expires_in_seconds",
            "Time until the workload's certificate expires",
            identity.expiry_gauge(),
        );
    }
    let stopped = Drain::new();
    let admin = admin::serve(admin, metrics.clone(), routes, drain.clone(), stopped.clone());
    tasks.spawn(supervise(S::NAME, "admin", Box::pin(admin), drain.clone(), failed.clone()));
    let serving = server::serve(rpc, accepting, stack, drain.clone());
    let (draining, stops) = (drain.clone(), stopped.start_on_drop());
    let serving = async move {
        let _stops = stops;
        let not_serving = async {
            draining.started().await;
            for name in std::iter::once("").chain(names) {
                health.set_service_status(name, tonic_health::ServingStatus::NotServing).await;
            }
            parting.start();
        };
        tokio::join!(serving, not_serving);
    };
    tasks.spawn(supervise(S::NAME, "server", Box::pin(serving), drain.clone(), failed.clone()));
    tracing::info!(service = S::NAME, %address, %admin_address, "serving");
    Ok(Running { name: S::NAME, address, admin_address, drain, failed, tasks, _lock: lock })
}

/// Waits for what is served later, serves it, and stays as long as its workers do.
async fn open(
    service: &'static str,
    parts: Pin<Box<dyn Future<Output = Result<Parts, StartError>> + Send>>,
    routes: Arc<Stages>,
    health: tonic_health::server::HealthReporter,
    waiting: Vec<&'static str>,
    drain: Drain,
    failed: Drain,
) {
    let Some(parts) = drain.unless_started(parts).await else { return };
    let parts = match parts {
        Ok(parts) => parts,
        Err(error) => {
            tracing::error!(service, %error, "what was waited for cannot be used");
            return;
        }
    };
    let mut tasks = JoinSet::new();
    for (name, worker) in parts.workers {
        tasks.spawn(supervise(service, name, worker, drain.clone(), failed.clone()));
    }
    routes.open(parts.routes);
    // What is waited for at the end may itself wait until no handler is left.
    drop(routes);
    for name in waiting {
        // In a drain that has begun meanwhile, this does not come last.
        if !drain.has_started() {
            health.set_service_status(name, tonic_health::ServingStatus::Serving).await;
        }
    }
    tracing::info!(service, "serving what was waited for");
    drain.started().await;
    while tasks.join_next().await.is_some() {}
}

/// Work that ends, or panics, before anyone told it to is a failure of the whole service: it stops taking
/// requests, so that whoever supervises the process can start it afresh.
async fn supervise(service: &'static str, name: &'static str, work: Worker, drain: Drain, failed: Drain) {
    let outcome = panic_guard::guard(work).await;
    if drain.has_started() && outcome.is_ok() {
        tracing::debug!(service, work = name, "work ended");
        return;
    }
    tracing::error!(
        service,
        work = name,
        panicked = outcome.is_err(),
        "work ended too early: stopping the service"
    );
    failed.start();
    drain.start();
}

/// Takes a data directory for this process, for as long as the file is held: two would each believe that
/// they alone do what is due there.
pub fn lock(data_dir: &Path) -> Result<std::fs::File, StartError> {
    let path = data_dir.join("lock");
    let file = std::fs::File::create(&path).map_err(StartError::io(path.display().to_string()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(_) => Err(StartError::InUse(data_dir.to_owned())),
    }
}

fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    StartError,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(paymesh_proto::DESCRIPTOR_SET)
        .build_v1()
        .map_err(|error| StartError::Config(format!("reflection: {error}")))
}
