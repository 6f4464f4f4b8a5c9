//! Replicas of one service that do as they are told, and clients that call them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::uri::Scheme;
use mesh::{
    Call, Drain, Fault, Harness, IdempotencyKey, Launch, Metrics, Origin, Parts, RandomIds, Reason, Running,
    Service, ServiceContext, Settings, SpiffeId, StartError, SystemClock, Upstream, UpstreamParts,
    UpstreamSettings,
    client::{ClientMetrics, Connect, Connecting, Resolve, Resolving},
    server,
    testing::call_of,
    tls::Identity,
};
use paymesh_proto::{
    echo::v1::{
        BatchEchoMessage, EchoMessage,
        echo_service_client::EchoServiceClient,
        echo_service_server::{EchoService, EchoServiceServer},
    },
    payments::v1::{WatchPaymentEventsRequest, payment_service_client::PaymentServiceClient},
    tax::v1::{
        CalculateRequest, Calculation, GetCalculationRequest,
        tax_service_client::TaxServiceClient,
        tax_service_server::{TaxService, TaxServiceServer},
    },
};
use tokio::sync::watch;
use tonic::{Request, Response, Status};

const SERVICE: &str = "svc-replica";
const PATIENCE: Duration = Duration::from_secs(20);

/// What a replica does with a call.
#[derive(Debug, Clone, Default)]
pub(crate) enum Mode {
    #[default]
    Answers,
    /// UNAVAILABLE, with `grpc-retry-pushback-ms` where it is given.
    Unavailable(Option<&'static str>),
    /// UNAVAILABLE this many times, then it answers.
    UnavailableFirst(u32),
    /// INTERNAL.
    Broken,
    Hangs,
    /// Hangs with the next call, then answers.
    HangsOnce,
}

/// What a replica is told, and what it has seen.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) mode: Mutex<Mode>,
    pub(crate) calls: AtomicU32,
    /// Calls that were dropped before they were answered.
    pub(crate) given_up: AtomicU32,
    /// `grpc-timeout` of all calls that had it.
    pub(crate) timeouts: Mutex<Vec<String>>,
    /// `grpc-previous-rpc-attempts` of all calls that had it.
    pub(crate) attempts: Mutex<Vec<String>>,
    under_way: AtomicU32,
}

impl State {
    pub(crate) fn now(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    pub(crate) fn calls(&self) -> u32 {
        self.calls.load(Ordering::SeqCst)
    }

    pub(crate) fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::SeqCst)
    }

    async fn take<T>(&self, request: &Request<T>) -> Result<(), Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        for timeout in request.metadata().get_all("grpc-timeout") {
            self.timeouts.lock().unwrap().push(timeout.to_str().unwrap().to_owned());
        }
        if let Some(before) = request.metadata().get("grpc-previous-rpc-attempts") {
            self.attempts.lock().unwrap().push(before.to_str().unwrap().to_owned());
        }
        let mode = self.mode.lock().unwrap().clone();
        match mode {
            Mode::Answers | Mode::UnavailableFirst(0) => Ok(()),
            Mode::Unavailable(pushback) => {
                let mut status = Status::from(Fault::new(Reason::Unavailable, "Told to be."));
                if let Some(pushback) = pushback {
                    status.metadata_mut().insert("grpc-retry-pushback-ms", pushback.parse().unwrap());
                }
                Err(status)
            }
            Mode::Broken => Err(Status::internal("told to be")),
            Mode::UnavailableFirst(times) => {
                self.now(Mode::UnavailableFirst(times - 1));
                Err(Fault::new(Reason::Unavailable, "Told to be.").into())
            }
            Mode::Hangs | Mode::HangsOnce => {
                if matches!(mode, Mode::HangsOnce) {
                    self.now(Mode::Answers);
                }
                self.under_way.fetch_add(1, Ordering::SeqCst);
                let _given_up = GivenUp(self);
                std::future::pending().await
            }
        }
    }
}

struct GivenUp<'a>(&'a State);

impl Drop for GivenUp<'_> {
    fn drop(&mut self) {
        self.0.given_up.fetch_add(1, Ordering::SeqCst);
        self.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

#[derive(Clone)]
struct Handler(Arc<State>);

#[tonic::async_trait]
impl EchoService for Handler {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        self.0.take(&request).await?;
        Ok(Response::new(request.into_inner()))
    }

    async fn batch_echo(
        &self,
        request: Request<BatchEchoMessage>,
    ) -> Result<Response<BatchEchoMessage>, Status> {
        self.0.take(&request).await?;
        Ok(Response::new(request.into_inner()))
    }
}

#[tonic::async_trait]
impl TaxService for Handler {
    async fn calculate(&self, request: Request<CalculateRequest>) -> Result<Response<Calculation>, Status> {
        self.0.take(&request).await?;
        Ok(Response::new(Calculation::default()))
    }

    async fn get_calculation(
        &self,
        request: Request<GetCalculationRequest>,
    ) -> Result<Response<Calculation>, Status> {
        self.0.take(&request).await?;
        Ok(Response::new(Calculation::default()))
    }
}

#[derive(Default, serde::Deserialize)]
struct Config {
    #[serde(skip)]
    state: Arc<State>,
}

struct Replicated;

impl Service for Replicated {
    const NAME: &'static str = SERVICE;
    type Config = Config;

    async fn build(config: Config, _: &ServiceContext) -> Result<Parts, StartError> {
        let handler = Handler(config.state);
        Ok(Parts::new().serve(EchoServiceServer::new(handler.clone())).serve(TaxServiceServer::new(handler)))
    }
}

/// One server of the service, on a runtime of its own so that it can be killed.
pub(crate) struct Replica {
    pub(crate) address: SocketAddr,
    pub(crate) state: Arc<State>,
    runtime: Option<tokio::runtime::Runtime>,
    running: Option<Running>,
}

impl Replica {
    /// Ends at once, with its connections.
    pub(crate) fn kill(&mut self) {
        drop(self.running.take());
        self.runtime.take().unwrap().shutdown_background();
    }

    /// Ends in order.
    pub(crate) async fn stop(mut self) {
        let (runtime, running) = (self.runtime.take().unwrap(), self.running.take().unwrap());
        runtime.spawn(running.stop()).await.unwrap();
        runtime.shutdown_background();
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

pub(crate) struct World {
    dir: tempfile::TempDir,
    harness: Harness,
    started: AtomicU32,
    pub(crate) metrics: Metrics,
    client_metrics: ClientMetrics,
}

impl World {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let harness = Harness::new(dir.path()).unwrap();
        let metrics = Metrics::new("test");
        let client_metrics = ClientMetrics::registered(&metrics);
        Self { dir, harness, started: AtomicU32::new(0), metrics, client_metrics }
    }

    pub(crate) async fn replica(&self) -> Replica {
        self.replica_at((Ipv4Addr::LOCALHOST, 0).into(), Arc::default()).await
    }

    pub(crate) async fn replica_at(&self, address: SocketAddr, state: Arc<State>) -> Replica {
        let number = self.started.fetch_add(1, Ordering::SeqCst);
        let data_dir = self.dir.path().join(format!("replica-{number}"));
        let identity = Identity::load(&self.harness.certificate(SERVICE).unwrap()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let config = Config { state: Arc::clone(&state) };
        let starting = runtime.spawn(start(config, data_dir, identity, address));
        let running = starting.await.unwrap();
        Replica { address: running.address, state, runtime: Some(runtime), running: Some(running) }
    }

    pub(crate) fn parts(&self, settings: UpstreamSettings) -> UpstreamParts {
        let identity = Identity::load(&self.harness.certificate("operator").unwrap()).unwrap();
        let usual = UpstreamParts::mutual_tls(&identity, &SpiffeId::of(SERVICE).unwrap()).unwrap();
        UpstreamParts { settings, metrics: self.client_metrics.clone(), ..usual }
    }

    /// A client that finds the service under a name, at these addresses until they are changed.
    pub(crate) fn client(&self, settings: UpstreamSettings, at: &[&Replica]) -> Client {
        Self::client_with(self.parts(settings), at)
    }

    pub(crate) fn client_with(parts: UpstreamParts, at: &[&Replica]) -> Client {
        let names = Arc::new(Names(Mutex::new(at.iter().map(|replica| replica.address).collect())));
        let parts = UpstreamParts { resolver: Arc::clone(&names) as Arc<dyn Resolve>, ..parts };
        let upstream = Upstream::of(&SpiffeId::of(SERVICE).unwrap(), "replica.test:1", parts).unwrap();
        Client { upstream, names }
    }

    /// The value of a client metric, such as `retries_total`.
    pub(crate) fn count(&self, metric: &str) -> u32 {
        let text = self.metrics.text();
        let start = format!("paymesh_rpc_client_{metric}{{");
        let line = text.lines().find(|line| line.starts_with(&start));
        line.and_then(|line| line.rsplit_once(' ')).map_or(0, |(_, value)| value.parse().unwrap())
    }
}

async fn start(
    config: Config,
    data_dir: std::path::PathBuf,
    identity: Identity,
    address: SocketAddr,
) -> Running {
    let mut settings: Settings = toml::from_str("data_dir = \"\"").unwrap();
    settings.data_dir = data_dir;
    let launch = Launch {
        settings,
        transport: identity.into(),
        rpc: server::bind(address).unwrap(),
        admin: server::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap(),
        clock: Arc::new(SystemClock),
        ids: Arc::new(RandomIds),
        drain: Drain::new(),
    };
    mesh::start::<Replicated>(config, launch).await.unwrap()
}

/// A name whose addresses a test sets.
pub(crate) struct Names(Mutex<Vec<SocketAddr>>);

impl Names {
    pub(crate) fn now(&self, at: &[&Replica]) {
        *self.0.lock().unwrap() = at.iter().map(|replica| replica.address).collect();
    }
}

impl Resolve for Names {
    fn resolve(&self, host: Arc<str>, port: u16) -> Resolving {
        assert_eq!((&*host, port), ("replica.test", 1));
        let found = self.0.lock().unwrap().clone();
        Box::pin(async move { Ok(found) })
    }
}

/// Connects as another does, counts, and says when connections should be replaced.
pub(crate) struct Counted {
    inner: Arc<dyn Connect>,
    pub(crate) made: AtomicU32,
    pub(crate) renewed: watch::Sender<u64>,
}

impl Counted {
    pub(crate) fn put_into(parts: UpstreamParts) -> (UpstreamParts, Arc<Self>) {
        let (made, renewed) = (AtomicU32::new(0), watch::Sender::new(0));
        let counted = Arc::new(Self { inner: parts.connect, made, renewed });
        (UpstreamParts { connect: Arc::clone(&counted) as Arc<dyn Connect>, ..parts }, counted)
    }

    pub(crate) fn made(&self) -> u32 {
        self.made.load(Ordering::SeqCst)
    }
}

impl Connect for Counted {
    fn connect(&self, address: SocketAddr) -> Connecting {
        self.made.fetch_add(1, Ordering::SeqCst);
        self.inner.connect(address)
    }

    fn scheme(&self) -> Scheme {
        self.inner.scheme()
    }

    fn renewed(&self) -> watch::Receiver<u64> {
        self.renewed.subscribe()
    }
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) upstream: Upstream,
    pub(crate) names: Arc<Names>,
}

impl Client {
    /// A read.
    pub(crate) async fn read(&self) -> Result<(), Status> {
        self.read_within(None).await
    }

    pub(crate) async fn read_within(&self, timeout: Option<Duration>) -> Result<(), Status> {
        let message = EchoMessage { payload: b"hello".as_slice().into() };
        let mut request = call_of("acme").request(message.clone());
        if let Some(timeout) = timeout {
            request.set_timeout(timeout);
        }
        let answer = EchoServiceClient::new(self.upstream.clone()).echo(request).await?;
        assert_eq!(answer.into_inner(), message);
        Ok(())
    }

    /// A stream of answers, to its end.
    pub(crate) async fn watch_within(&self, timeout: Duration) -> Result<(), Status> {
        let mut request = call_of("acme").request(WatchPaymentEventsRequest::default());
        request.set_timeout(timeout);
        let mut client = PaymentServiceClient::new(self.upstream.clone());
        let mut events = client.watch_payment_events(request).await?.into_inner();
        while events.message().await?.is_some() {}
        Ok(())
    }

    /// A write that must not be made twice.
    pub(crate) async fn write(&self) -> Result<(), Status> {
        let request = call_of("acme").request(CalculateRequest::default());
        TaxServiceClient::new(self.upstream.clone()).calculate(request).await.map(drop)
    }

    /// The same write under an idempotency key.
    pub(crate) async fn write_with_key(&self) -> Result<(), Status> {
        self.write_with_key_within(Duration::from_secs(60)).await
    }

    pub(crate) async fn write_with_key_within(&self, timeout: Duration) -> Result<(), Status> {
        let call = call_of("acme");
        let key: IdempotencyKey = "key-1".parse().unwrap();
        let origin = Origin {
            peer: call.peer().clone(),
            tenant: Some(call.tenant().unwrap().clone()),
            request_id: Arc::clone(call.request_id()),
            trace: call.trace(),
            deadline: None,
            idempotency_key: Some(key),
        };
        let mut request = Call::start(origin).forward(CalculateRequest::default());
        request.set_timeout(timeout);
        TaxServiceClient::new(self.upstream.clone()).calculate(request).await.map(drop)
    }
}

/// Calls made by many at once until told to stop.
pub(crate) struct Load {
    stop: Drain,
    pub(crate) done: Arc<AtomicU64>,
    callers: tokio::task::JoinSet<Result<(), Status>>,
}

impl Load {
    pub(crate) fn start<F>(callers: u32, client: &Client, call: fn(Client) -> F) -> Self
    where
        F: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let (stop, done) = (Drain::new(), Arc::new(AtomicU64::new(0)));
        let mut load = Self { stop, done, callers: tokio::task::JoinSet::new() };
        for _ in 0..callers {
            let (client, stop, done) = (client.clone(), load.stop.clone(), Arc::clone(&load.done));
            load.callers.spawn(async move {
                while !stop.has_started() {
                    call(client.clone()).await?;
                    done.fetch_add(1, Ordering::SeqCst);
                }
                Ok(())
            });
        }
        load
    }

    /// Waits until this many more calls were made.
    pub(crate) async fn goes_on_for(&self, calls: u64) {
        let enough = self.done.load(Ordering::SeqCst) + calls;
        until("the load goes on", || self.done.load(Ordering::SeqCst) >= enough).await;
    }

    /// Ends the load; fails if any call did.
    pub(crate) async fn must_have_succeeded(mut self) {
        self.stop.start();
        while let Some(ended) = self.callers.join_next().await {
            ended.unwrap().unwrap();
        }
    }
}

/// Waits until a condition holds; fails after a while.
pub(crate) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "in vain: {what}");
}

/// Settings for tests of one thing: no breaker, short waits.
pub(crate) fn settings() -> UpstreamSettings {
    let mut settings = UpstreamSettings { replicated: true, ..UpstreamSettings::default() };
    settings.breaker.failed_percent = 0;
    settings.resolve_interval_ms = 250;
    settings.retry.backoff_base_ms = 2;
    settings.ejection.base_ms = 300;
    settings
}
