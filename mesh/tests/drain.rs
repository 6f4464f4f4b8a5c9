//! A replica that is drained under load: nobody's call fails, and none is carried out twice.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    net::SocketAddr,
    os::unix::fs::symlink,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh::{
    Harness, Parts, Running, Service, ServiceContext, SpiffeId, StartError, Upstream,
    client::{Resolve, Resolving, UpstreamParts, UpstreamSettings},
    testing::call_of,
    tls::Identity,
};
use paymesh_proto::echo::v1::{
    BatchEchoMessage, EchoMessage,
    echo_service_client::EchoServiceClient,
    echo_service_server::{EchoService, EchoServiceServer},
};
use tokio::{sync::Semaphore, task::JoinSet};
use tonic::{Request, Response, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// What one call costs its handler: long enough that some are always under way.
const WORK: Duration = Duration::from_millis(2);
const CALLERS: usize = 16;
const DRAINS: u32 = 6;
/// Calls answered between two drains.
const BETWEEN: u64 = 300;

/// What all replicas of a test count and wait for.
#[derive(Default)]
struct Ground {
    handled: AtomicU64,
    /// Calls that say `hold` wait for it.
    held: Option<Arc<Semaphore>>,
    holding: AtomicU64,
}

struct Echo;

struct EchoHandler(Arc<Ground>);

#[derive(Clone, Default, serde::Deserialize)]
struct EchoConfig {
    #[serde(skip)]
    ground: Arc<Ground>,
}

#[tonic::async_trait]
impl EchoService for EchoHandler {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        self.0.handled.fetch_add(1, Ordering::SeqCst);
        match (&self.0.held, &*request.get_ref().payload) {
            (Some(held), b"hold") => {
                self.0.holding.fetch_add(1, Ordering::SeqCst);
                drop(held.acquire().await.unwrap());
            }
            _ => tokio::time::sleep(WORK).await,
        }
        Ok(Response::new(request.into_inner()))
    }

    async fn batch_echo(
        &self,
        request: Request<BatchEchoMessage>,
    ) -> Result<Response<BatchEchoMessage>, Status> {
        Ok(Response::new(request.into_inner()))
    }
}

impl Service for Echo {
    const NAME: &'static str = "svc-echo";
    type Config = EchoConfig;

    async fn build(config: EchoConfig, _: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new().serve(EchoServiceServer::new(EchoHandler(config.ground))))
    }
}

/// A name whose addresses a test sets, as DNS does for the pods of a headless service.
#[derive(Clone, Default)]
struct Names {
    addresses: Arc<Mutex<Vec<SocketAddr>>>,
    /// How long an answer takes.
    takes: Duration,
}

impl Names {
    fn now(&self, replicas: &[&Running]) {
        *self.addresses.lock().unwrap() = replicas.iter().map(|replica| replica.address).collect();
    }
}

impl Resolve for Names {
    fn resolve(&self, _: Arc<str>, _: u16) -> Resolving {
        let names = self.clone();
        Box::pin(async move {
            tokio::time::sleep(names.takes).await;
            Ok(names.addresses.lock().unwrap().clone())
        })
    }
}

/// One more replica: a directory of its own, the CA of all.
async fn replica(root: &Path, number: u32, ground: &Arc<Ground>) -> Running {
    let dir = root.join(number.to_string());
    std::fs::create_dir(&dir).unwrap();
    symlink(root.join("pki"), dir.join("pki")).unwrap();
    let mut harness = Harness::new(&dir).unwrap();
    harness.start::<Echo>(EchoConfig { ground: Arc::clone(ground) }).await.unwrap()
}

fn upstream(harness: &Harness, names: &Names, resolve_interval_ms: u32) -> Upstream {
    let identity = Identity::load(&harness.certificate("operator").unwrap()).unwrap();
    let peer = SpiffeId::of(Echo::NAME).unwrap();
    let settings = UpstreamSettings { replicated: true, resolve_interval_ms, ..UpstreamSettings::default() };
    let resolver = Arc::new(names.clone());
    let parts = UpstreamParts { settings, resolver, ..UpstreamParts::mutual_tls(&identity, &peer).unwrap() };
    Upstream::of(&peer, "svc-echo.test:1", parts).unwrap()
}

/// Polls until it holds, for ten seconds at most.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let polling = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), polling).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_are_drained_one_after_the_other_and_no_call_fails() {
    let root = tempfile::tempdir().unwrap();
    let harness = Harness::new(root.path()).unwrap();
    let (ground, names) = (Arc::new(Ground::default()), Names::default());
    let mut replicas = Vec::new();
    for number in 0..2 {
        replicas.push(replica(root.path(), number, &ground).await);
    }
    names.now(&replicas.iter().collect::<Vec<_>>());

    let (upstream, stop, answered) =
        (upstream(&harness, &names, 50), Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (mut client, stop, answered) =
            (EchoServiceClient::new(upstream.clone()), Arc::clone(&stop), Arc::clone(&answered));
        callers.spawn(async move {
            let mut failures = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                match client.echo(call_of("acme").request(EchoMessage::default())).await {
                    Ok(_) => drop(answered.fetch_add(1, Ordering::SeqCst)),
                    Err(status) => failures.push(status),
                }
            }
            failures
        });
    }

    for number in 2..2 + DRAINS {
        let before = answered.load(Ordering::SeqCst);
        until("calls are answered", || answered.load(Ordering::SeqCst) >= before + BETWEEN).await;
        // As in a rolling update: the new replica is there, the old one is told to stop, and its address
        // goes from the name only afterwards.
        let old = replicas.remove(0);
        replicas.push(replica(root.path(), number, &ground).await);
        names.now(&replicas.iter().chain([&old]).collect::<Vec<_>>());
        old.stop().await;
        names.now(&replicas.iter().collect::<Vec<_>>());
    }
    stop.store(true, Ordering::SeqCst);
    let failures: Vec<Status> = callers.join_all().await.into_iter().flatten().collect();
    let answered = answered.load(Ordering::SeqCst);
    assert!(failures.is_empty(), "{} of {answered} calls failed: {:?}", failures.len(), failures.first());
    assert!(answered >= BETWEEN * u64::from(DRAINS));
    assert_eq!(ground.handled.load(Ordering::SeqCst), answered, "each call was carried out once");
}

/// All addresses that the client knows are gone, and it cannot know the new one before its name is looked up.
#[tokio::test]
async fn calls_wait_for_the_name_when_all_replicas_were_replaced_since() {
    let root = tempfile::tempdir().unwrap();
    let harness = Harness::new(root.path()).unwrap();
    let ground = Arc::new(Ground::default());
    // Longer than all retries together.
    let names = Names { takes: Duration::from_millis(500), ..Names::default() };
    let old = replica(root.path(), 0, &ground).await;
    names.now(&[&old]);
    let upstream = upstream(&harness, &names, 60_000);
    let mut client = EchoServiceClient::new(upstream);
    client.echo(call_of("acme").request(EchoMessage::default())).await.unwrap();

    let new = replica(root.path(), 1, &ground).await;
    names.now(&[&new]);
    old.stop().await;
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = client.clone();
        callers.spawn(async move { client.echo(call_of("acme").request(EchoMessage::default())).await });
    }
    for outcome in callers.join_all().await {
        outcome.unwrap();
    }
    assert_eq!(ground.handled.load(Ordering::SeqCst), CALLERS as u64 + 1, "each call was carried out once");
}

#[tokio::test]
async fn the_only_replica_finishes_what_is_under_way_and_says_that_it_goes() {
    let root = tempfile::tempdir().unwrap();
    let harness = Harness::new(root.path()).unwrap();
    let held = Arc::new(Semaphore::new(0));
    let ground = Arc::new(Ground { held: Some(Arc::clone(&held)), ..Ground::default() });
    let running = replica(root.path(), 0, &ground).await;
    let names = Names::default();
    names.now(&[&running]);
    let upstream = upstream(&harness, &names, 50);

    let mut health = HealthClient::new(upstream.clone());
    let mut watching =
        health.watch(call_of("acme").request(HealthCheckRequest::default())).await.unwrap().into_inner();
    let first = watching.message().await.unwrap().unwrap();
    assert_eq!(first.status(), ServingStatus::Serving);

    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let mut client = EchoServiceClient::new(upstream.clone());
        callers.spawn(async move {
            let request = call_of("acme").request(EchoMessage { payload: b"hold"[..].into() });
            client.echo(request).await.map(|_| ())
        });
    }
    until("all calls are under way", || ground.holding.load(Ordering::SeqCst) == CALLERS as u64).await;
    let stopping = tokio::spawn(running.stop());
    let next = watching.message().await.unwrap().unwrap();
    assert_eq!(next.status(), ServingStatus::NotServing);
    drop(watching);
    assert!(!stopping.is_finished(), "it waits for what is under way");
    held.add_permits(CALLERS);
    for outcome in callers.join_all().await {
        outcome.unwrap();
    }
    tokio::time::timeout(Duration::from_secs(10), stopping).await.unwrap().unwrap();
    assert_eq!(ground.handled.load(Ordering::SeqCst), CALLERS as u64);
}
