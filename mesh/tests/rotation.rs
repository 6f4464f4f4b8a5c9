//! Certificates that change while the mesh runs: what is taken over, what is not, and that nobody notices.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use mesh::{
    Call, Clock as _, Drain, Launch, Parts, RandomIds, Running, Service, ServiceContext, Settings, SpiffeId,
    StartError, SystemClock, Upstream,
    pki::{
        CertificateAuthority, CertificateFiles, Lifetime, Validity, add_root, certificates, drop_old_roots,
        reissue, write_file,
    },
    testing::call_of,
    tls::{Identity, TlsError},
};
use paymesh_proto::echo::v1::{
    BatchEchoMessage, EchoMessage,
    echo_service_client::EchoServiceClient,
    echo_service_server::{EchoService, EchoServiceServer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinSet,
};
use tonic::{Request, Response, Status};

const LOOK_EVERY: Duration = Duration::from_millis(2);
const PATIENCE: Duration = Duration::from_secs(20);

struct Echo;

struct EchoHandler;

/// Told by a test that the answer it holds back may go.
static MAY_ANSWER: tokio::sync::Notify = tokio::sync::Notify::const_new();
/// Held by the test that has an answer held back.
static HOLDING_BACK: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tonic::async_trait]
impl EchoService for EchoHandler {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        Call::of(&request)?;
        if &*request.get_ref().payload == b"wait" {
            MAY_ANSWER.notified().await;
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
    type Config = ();

    async fn build((): (), _: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new().serve(EchoServiceServer::new(EchoHandler)))
    }
}

/// A CA, a server and a client, each following its files.
struct Ground {
    dir: tempfile::TempDir,
    server: Identity,
    client: Identity,
    running: Running,
    drain: Drain,
}

impl Ground {
    async fn new(client_s: i64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let pki = dir.path().join("pki");
        let now = SystemClock.now();
        let authority = CertificateAuthority::create_in(&pki);
        let server = Identity::load(&authority.issue("svc-echo", now).unwrap()).unwrap();
        let validity = Validity { from_s: -300, until_s: client_s };
        let operator = SpiffeId::of("operator").unwrap();
        let client =
            Identity::load(&authority.issue_for("operator", &operator, now, validity).unwrap()).unwrap();
        let drain = Drain::new();
        for identity in [&server, &client] {
            tokio::spawn(identity.clone().keep(LOOK_EVERY, drain.clone()));
        }
        let free = || mesh::server::bind((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
        let launch = Launch {
            settings: Settings {
                data_dir: dir.path().join("data"),
                upstreams: std::collections::BTreeMap::new(),
                reflection: false,
                in_flight_max: 1_024,
                ..Settings::default()
            },
            transport: server.clone().into(),
            rpc: free(),
            admin: free(),
            clock: Arc::new(SystemClock),
            ids: Arc::new(RandomIds),
            drain: drain.clone(),
        };
        let running = mesh::start::<Echo>((), launch).await.unwrap();
        Self { dir, server, client, running, drain }
    }

    fn pki(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    fn upstream(&self) -> Upstream {
        let peer = SpiffeId::of("svc-echo").unwrap();
        Upstream::new(&self.client, &peer, &self.running.address.to_string()).unwrap()
    }

    /// Changes the files and waits until both ends have taken the change over.
    async fn change(&self, how: impl FnOnce(&Path)) {
        let mut renewed = [self.server.renewed(), self.client.renewed()];
        for one in &mut renewed {
            one.mark_unchanged();
        }
        how(&self.pki());
        for mut one in renewed {
            tokio::time::timeout(PATIENCE, one.changed()).await.expect("the change is taken over").unwrap();
        }
    }

    /// A connection of the client's, without anything of ours above HTTP/2.
    async fn connect(&self) -> (Sender, impl Future<Output = hyper::Result<()>> + use<>) {
        let config = self.client.client_config(&SpiffeId::of("svc-echo").unwrap()).unwrap();
        let stream = tokio::net::TcpStream::connect(self.running.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(config).connect(name, stream).await.unwrap();
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap()
    }

    /// A connection with a call under way that the server holds back; `ending` must make the server end
    /// the connection, and the call must be answered all the same.
    async fn ends_gracefully(&self, ending: impl AsyncFnOnce()) {
        let (mut sender, connection) = self.connect().await;
        let connection = tokio::spawn(connection);
        let answering = tokio::spawn(sender.send_request(echo_request(b"wait")));
        ending().await;
        tokio::time::timeout(PATIENCE, async {
            // Told to open no further stream (GOAWAY).
            while sender.send_request(echo_request(b"hello")).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("the server ends the connection");
        assert!(!answering.is_finished(), "the call under way is neither answered nor cut off");
        MAY_ANSWER.notify_one();
        let answer = answering.await.unwrap().unwrap().collect().await.unwrap();
        assert_eq!(answer.trailers().unwrap()["grpc-status"], "0");
        tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
    }
}

type Sender = hyper::client::conn::http2::SendRequest<Full<bytes::Bytes>>;

/// A gRPC request by hand: a frame is a flag, the length in four bytes, and the message.
fn echo_request(payload: &'static [u8]) -> http::Request<Full<bytes::Bytes>> {
    use prost::Message as _;
    let message = EchoMessage { payload: payload.into() };
    let encoded = message.encode_to_vec();
    let mut frame = vec![0, 0, 0, 0, u8::try_from(encoded.len()).unwrap()];
    frame.extend(encoded);
    let mut request = http::Request::post("http://svc-echo/paymesh.echo.v1.EchoService/Echo")
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Full::new(frame.into()))
        .unwrap();
    request.headers_mut().extend(call_of("acme").request(()).metadata().clone().into_headers());
    request
}

/// Makes the CA's directory; a short name for what every test begins with.
trait CreateIn: Sized {
    fn create_in(dir: &Path) -> Self;
}

impl CreateIn for CertificateAuthority {
    fn create_in(dir: &Path) -> Self {
        Self::create(dir, SystemClock.now(), Validity::CA).unwrap()
    }
}

async fn echo(upstream: Upstream) -> Result<(), Status> {
    let request = call_of("acme").request(EchoMessage { payload: b"hello"[..].into() });
    EchoServiceClient::new(upstream).echo(request).await.map(drop)
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what}"));
}

/// Callers that keep old connections for long, callers that follow renewals, and callers that connect
/// anew each time: none of them may see an error while everything is replaced under them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotation_under_load_fails_no_request() {
    let ground = Arc::new(Ground::new(30 * 86_400).await);
    let stop = Drain::new();
    let (kept, followed, fresh) = (Counts::default(), Counts::default(), Counts::default());
    let (current, following) = watch::channel(ground.upstream());
    let recycling = tokio::spawn({
        let (ground, stop) = (Arc::clone(&ground), stop.clone());
        async move {
            let mut renewed = ground.client.renewed();
            while stop.unless_started(renewed.changed()).await.is_some() {
                current.send_replace(ground.upstream());
            }
        }
    });
    let keep_old = Drain::new();
    let mut old_load = JoinSet::new();
    let mut load = JoinSet::new();
    let old = ground.upstream();
    for caller in 0..CALLERS {
        let (kept, keep_old, old) = (kept.clone(), keep_old.clone(), old.clone());
        old_load.spawn(async move {
            while !keep_old.has_started() {
                kept.count(caller, echo(old.clone()).await);
            }
        });
        let (followed, stop_followed, following) = (followed.clone(), stop.clone(), following.clone());
        load.spawn(async move {
            while !stop_followed.has_started() {
                let upstream = following.borrow().clone();
                followed.count(caller, echo(upstream).await);
            }
        });
        let (fresh, stop_fresh, ground) = (fresh.clone(), stop.clone(), Arc::clone(&ground));
        load.spawn(async move {
            while !stop_fresh.has_started() {
                fresh.count(caller, echo(ground.upstream()).await);
            }
        });
    }

    let now = || SystemClock.now();
    for _ in 0..3 {
        for counts in [&kept, &followed, &fresh] {
            counts.some_more().await;
        }
        let renew = |pki: &Path| {
            let authority = CertificateAuthority::open(pki).unwrap();
            for name in ["svc-echo", "operator"] {
                authority.renew(name, now(), None).unwrap();
            }
        };
        ground.change(renew).await;
    }
    // Connections that nobody recycles live through renewed leaves; a dropped root would end them.
    kept.some_more().await;
    keep_old.start();
    while old_load.join_next().await.is_some() {}
    for _ in 0..2 {
        ground.change(|pki| assert!(add_root(pki, now(), Validity::CA).unwrap())).await;
        followed.some_more().await;
        ground.change(|pki| drop(reissue(pki, now(), None).unwrap())).await;
        followed.some_more().await;
        fresh.some_more().await;
        ground.change(|pki| assert_eq!(drop_old_roots(pki, now()).unwrap(), 1)).await;
        followed.some_more().await;
        fresh.some_more().await;
    }
    stop.start();
    while load.join_next().await.is_some() {}
    recycling.await.unwrap();
    for (name, counts) in [("kept", kept), ("followed", followed), ("fresh", fresh)] {
        println!("{name}: {} calls", counts.all().iter().sum::<usize>());
        assert_eq!(*counts.failures.lock().unwrap(), Vec::<String>::new(), "{name}");
    }
}

/// How many callers of a kind there are.
const CALLERS: usize = 2;

#[derive(Clone, Default)]
struct Counts {
    done: Arc<[AtomicUsize; CALLERS]>,
    /// The first few are enough to tell what went wrong.
    failures: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Counts {
    fn count(&self, caller: usize, outcome: Result<(), Status>) {
        self.done[caller].fetch_add(1, Ordering::SeqCst);
        let mut failures = self.failures.lock().unwrap();
        match outcome {
            Err(status) if failures.len() < 3 => failures.push(format!("{status:?}")),
            _ => {}
        }
    }

    fn all(&self) -> [usize; CALLERS] {
        std::array::from_fn(|caller| self.done[caller].load(Ordering::SeqCst))
    }

    /// Waits until every caller has begun and ended calls since now.
    async fn some_more(&self) {
        let before = self.all();
        until("calls go on", || self.all().iter().zip(before).all(|(now, before)| *now >= before + 3)).await;
    }
}

#[tokio::test]
async fn a_client_whose_root_is_no_longer_trusted_is_sent_away_gracefully() {
    let _alone = HOLDING_BACK.lock().await;
    let ground = Ground::new(86_400).await;
    let now = || SystemClock.now();
    ground.change(|pki| assert!(add_root(pki, now(), Validity::CA).unwrap())).await;
    ground
        .ends_gracefully(async || {
            ground.change(|pki| drop(reissue(pki, now(), None).unwrap())).await;
            ground.change(|pki| assert_eq!(drop_old_roots(pki, now()).unwrap(), 1)).await;
        })
        .await;
    echo(ground.upstream()).await.unwrap();
    ground.drain.start();
}

/// As a handshake proves for one moment only, and a connection may live for weeks.
#[tokio::test]
async fn a_connection_does_not_outlive_its_client_certificate() {
    let _alone = HOLDING_BACK.lock().await;
    let ground = Ground::new(6).await;
    ground.ends_gracefully(async || {}).await;
    assert!(echo(ground.upstream()).await.is_err(), "expired, and not renewed");
    // The server's own certificate holds, and its metrics say for how long.
    let mut stream = tokio::net::TcpStream::connect(ground.running.admin_address).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let gauge = r#"paymesh_certificate_expires_in_seconds{service="svc-echo"} "#;
    let left_s: i64 = text.lines().find_map(|line| line.strip_prefix(gauge)).unwrap().parse().unwrap();
    assert!((29 * 86_400..=30 * 86_400).contains(&left_s), "{left_s}");
    ground.drain.start();
}

/// The files of one workload as a mounted Kubernetes secret has them: behind a link that is swapped.
fn mount(volume: &Path, version: &str, from: &CertificateFiles) -> CertificateFiles {
    let version_dir = volume.join(format!("..{version}"));
    fs::create_dir(&version_dir).unwrap();
    for (name, file) in [("ca.pem", &from.ca), ("tls.crt", &from.cert), ("tls.key", &from.key)] {
        fs::copy(file, version_dir.join(name)).unwrap();
        let link = volume.join(name);
        if !link.exists() {
            std::os::unix::fs::symlink(Path::new("..data").join(name), link).unwrap();
        }
    }
    let draft = volume.join("..data_tmp");
    std::os::unix::fs::symlink(&version_dir, &draft).unwrap();
    fs::rename(draft, volume.join("..data")).unwrap();
    CertificateFiles { ca: volume.join("ca.pem"), cert: volume.join("tls.crt"), key: volume.join("tls.key") }
}

fn not_after(files: &CertificateFiles) -> Lifetime {
    Lifetime::of(&certificates(&files.cert).unwrap()[0]).unwrap()
}

#[tokio::test]
async fn a_secret_that_is_swapped_by_its_link_is_taken_over() {
    let (dir, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let authority = CertificateAuthority::create_in(dir.path());
    let id = SpiffeId::of("svc-tax").unwrap();
    let issue = |days| authority.issue_for("svc-tax", &id, SystemClock.now(), Validity::days(days)).unwrap();
    let files = mount(volume.path(), "1", &issue(10));
    let identity = Identity::load(&files).unwrap();
    let (mut renewed, drain) = (identity.renewed(), Drain::new());
    let keeping = tokio::spawn(identity.clone().keep(LOOK_EVERY, drain.clone()));
    for (version, days) in [("2", 20), ("3", 30)] {
        mount(volume.path(), version, &issue(days));
        tokio::time::timeout(PATIENCE, renewed.changed()).await.unwrap().unwrap();
        assert_eq!(identity.lifetime(), not_after(&files));
    }
    assert_eq!(*renewed.borrow(), 2, "each swap is one renewal");
    drain.start();
    keeping.await.unwrap();
}

/// Written one after the other, at a pace at which every half of it is seen.
#[tokio::test]
async fn a_set_that_is_half_written_never_takes_effect() {
    let (dir, next, other) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = SystemClock.now();
    let files = CertificateAuthority::create_in(dir.path()).issue("svc-tax", now).unwrap();
    let new = CertificateAuthority::create_in(next.path()).issue("svc-tax", now).unwrap();
    let identity = Identity::load(&files).unwrap();
    let before = identity.server_config();
    let (mut renewed, drain) = (identity.renewed(), Drain::new());
    let keeping = tokio::spawn(identity.clone().keep(LOOK_EVERY, drain.clone()));
    // The certificate's first half, all of it, then the key; the CA bundle comes last.
    let text = |path: &Path| fs::read_to_string(path).unwrap();
    fs::write(&files.cert, &text(&new.cert)[..200]).unwrap();
    tokio::time::sleep(LOOK_EVERY * 10).await;
    fs::write(&files.cert, text(&new.cert)).unwrap();
    tokio::time::sleep(LOOK_EVERY * 10).await;
    write_file(&files.key, &text(&new.key), 0o600).unwrap();
    tokio::time::sleep(LOOK_EVERY * 10).await;
    assert!(Arc::ptr_eq(&before, &identity.server_config()), "halves were taken over");
    fs::write(&files.ca, text(&new.ca)).unwrap();
    tokio::time::timeout(PATIENCE, renewed.changed()).await.unwrap().unwrap();
    assert!(!Arc::ptr_eq(&before, &identity.server_config()));
    assert_eq!(*renewed.borrow(), 1);

    // A whole set, but of another workload, or one that is over: neither is taken.
    let kept = identity.server_config();
    let authority = CertificateAuthority::create_in(other.path());
    let id = SpiffeId::of("svc-tax").unwrap();
    let expired = Validity { from_s: -7_200, until_s: -3_600 };
    for wrong in [
        authority.issue("svc-fraud", now).unwrap(),
        authority.issue_for("svc-tax", &id, now, expired).unwrap(),
    ] {
        for (to, from) in [(&files.ca, wrong.ca), (&files.cert, wrong.cert), (&files.key, wrong.key)] {
            fs::copy(from, to).unwrap();
        }
        tokio::time::sleep(LOOK_EVERY * 10).await;
        assert!(Arc::ptr_eq(&kept, &identity.server_config()));
    }
    drain.start();
    keeping.await.unwrap();
}

#[test]
fn what_peers_would_refuse_is_not_loaded() {
    let (dir, strange) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let now = SystemClock.now();
    let authority = CertificateAuthority::create_in(dir.path());
    let stranger = CertificateAuthority::create_in(strange.path());
    let good = authority.issue("svc-tax", now).unwrap();
    Identity::load(&good).unwrap();
    let id = SpiffeId::of("svc-tax").unwrap();
    let dated = |file: &str, from_s, until_s| {
        authority.issue_for(file, &id, now, Validity { from_s, until_s }).unwrap()
    };
    let refused = |files: CertificateFiles| Identity::load(&files).unwrap_err();

    assert!(matches!(refused(dated("expired", -7_200, -3_600)), TlsError::Expired));
    assert!(matches!(refused(dated("early", 3_600, 7_200)), TlsError::NotYetValid));
    let foreign = CertificateFiles { ca: good.ca.clone(), ..stranger.issue("svc-tax", now).unwrap() };
    assert!(matches!(refused(foreign), TlsError::Config(_)));
    let other_key = authority.issue("svc-fraud", now).unwrap().key;
    let mismatched = refused(CertificateFiles { key: other_key, ..good.clone() });
    assert!(mismatched.to_string().contains("KeyMismatch"), "{mismatched}");
    for uris in [
        &["spiffe://elsewhere/ns/paymesh/sa/svc-tax"][..],
        &["spiffe://paymesh.local/ns/paymesh/sa/svc-tax", "spiffe://paymesh.local/ns/paymesh/sa/svc-fraud"],
        &[],
    ] {
        let files = by_hand(dir.path(), uris);
        assert!(matches!(refused(files), TlsError::NoIdentity), "{uris:?}");
    }
}

/// A certificate of a CA of its own with these URI SANs.
fn by_hand(dir: &Path, uris: &[&str]) -> CertificateFiles {
    let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let ca_key = rcgen::KeyPair::generate().unwrap();
    let root = ca.self_signed(&ca_key).unwrap();
    let mut leaf = rcgen::CertificateParams::new(Vec::new()).unwrap();
    leaf.subject_alt_names = uris.iter().map(|uri| rcgen::SanType::URI((*uri).try_into().unwrap())).collect();
    let key = rcgen::KeyPair::generate().unwrap();
    let cert = leaf.signed_by(&key, &rcgen::Issuer::new(ca, ca_key)).unwrap();
    let files = CertificateFiles {
        ca: dir.join("by-hand-ca.pem"),
        cert: dir.join("by-hand.pem"),
        key: dir.join("by-hand.key"),
    };
    fs::write(&files.ca, root.pem()).unwrap();
    fs::write(&files.cert, cert.pem()).unwrap();
    mesh::pki::write_file(&files.key, &key.serialize_pem(), 0o600).unwrap();
    files
}

#[test]
fn nothing_secret_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let files = CertificateAuthority::create_in(dir.path()).issue("svc-tax", SystemClock.now()).unwrap();
    let identity = Identity::load(&files).unwrap();
    let shown = format!("{identity:?} {:?}", identity.server_config());
    let key = fs::read_to_string(&files.key).unwrap();
    for line in key.lines().filter(|line| !line.contains("PRIVATE KEY")) {
        assert!(!shown.contains(line));
    }
    assert!(shown.contains("svc-tax") && !shown.to_lowercase().contains("pkcs8"), "{shown}");
    // A key file that is not one: the error names the file, and not what is in it.
    fs::write(&files.key, key.replace("PRIVATE KEY", "SECRET THING")).unwrap();
    let error = Identity::load(&files).unwrap_err();
    let (text, debug) = (error.to_string(), format!("{error:?}"));
    assert!(text.contains("svc-tax.key") && text.contains("no private key"), "{text}");
    for line in key.lines().filter(|line| line.len() > 20) {
        assert!(!text.contains(line) && !debug.contains(line));
    }
}
