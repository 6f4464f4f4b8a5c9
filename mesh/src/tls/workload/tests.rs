//! Against a stand-in agent that speaks the same wire form over a real socket.

use std::{
    convert::Infallible,
    path::Path,
    pin::Pin,
    task::{Context, Poll},
};

use hyper_util::rt::TokioExecutor;
use tokio::{net::UnixListener, sync::mpsc, task::JoinHandle};
use tonic::codegen::tokio_stream::Stream;

use super::*;
use crate::{
    pki::{BUNDLE, CertificateAuthority, CertificateFiles, Validity, add_root, certificates, reissue},
    tls::Identity,
};

const PATIENCE: Duration = Duration::from_secs(20);

/// An agent for tests: answers one stream after the other with what it is told to.
struct Agent {
    answers: mpsc::UnboundedSender<Result<X509SvidResponse, Status>>,
    accepting: JoinHandle<()>,
}

struct Answers(mpsc::UnboundedReceiver<Result<X509SvidResponse, Status>>);

impl Stream for Answers {
    type Item = Result<X509SvidResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context)
    }
}

struct Fetch(Option<Answers>);

impl tonic::server::ServerStreamingService<X509SvidRequest> for Fetch {
    type Response = X509SvidResponse;
    type ResponseStream = Answers;
    type Future = std::future::Ready<Result<tonic::Response<Answers>, Status>>;

    fn call(&mut self, request: Request<X509SvidRequest>) -> Self::Future {
        let header = request.metadata().get("workload.spiffe.io").is_some_and(|value| value == "true");
        std::future::ready(match self.0.take() {
            _ if !header => Err(Status::invalid_argument("the security header is missing")),
            Some(answers) => Ok(tonic::Response::new(answers)),
            None => Err(Status::permission_denied("no identity issued")),
        })
    }
}

impl Agent {
    /// Listens for one connection. Without an answer to give, it denies that it knows the workload.
    fn listen(socket: &Path, knows: bool) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (answers, to_send) = mpsc::unbounded_channel();
        let accepting = tokio::spawn(async move {
            let (stream, _) = listener.accept().await.unwrap();
            let fetch = std::sync::Mutex::new(knows.then_some(Answers(to_send)));
            let service = hyper::service::service_fn(|request: http::Request<hyper::body::Incoming>| {
                assert_eq!(request.uri().path(), wire::PATH);
                let answers = fetch.lock().unwrap().take();
                async move {
                    let codec = tonic_prost::ProstCodec::<X509SvidResponse, X509SvidRequest>::default();
                    let mut grpc = tonic::server::Grpc::new(codec);
                    Ok::<_, Infallible>(grpc.server_streaming(Fetch(answers), request).await)
                }
            });
            let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            let _ = http2.serve_connection(TokioIo::new(stream), service).await;
        });
        Self { answers, accepting }
    }

    fn send(&self, answer: X509SvidResponse) {
        self.answers.send(Ok(answer)).unwrap();
    }
}

/// What an agent would send for these files.
fn svid(files: &CertificateFiles) -> X509Svid {
    let all = |path: &Path| certificates(path).unwrap().iter().flat_map(|one| one.to_vec()).collect();
    let key = rcgen::KeyPair::from_pem(&std::fs::read_to_string(&files.key).unwrap()).unwrap();
    let id = crate::pki::spiffe_id(&certificates(&files.cert).unwrap()[0]).unwrap();
    X509Svid {
        spiffe_id: id.to_string(),
        chain: all(&files.cert),
        key: key.serialize_der(),
        bundle: all(&files.ca),
    }
}

fn answer(svids: Vec<X509Svid>) -> X509SvidResponse {
    X509SvidResponse { svids }
}

#[tokio::test]
async fn certificates_and_bundles_are_followed_over_lost_streams() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, socket) = (dir.path().join("pki"), dir.path().join("agent.sock"));
    let now = SystemClock.now();
    let authority = CertificateAuthority::create(&pki, now, Validity::CA).unwrap();
    let files = authority.issue("svc-tax", now).unwrap();
    let other = authority.issue("svc-fraud", now).unwrap();
    let endpoint = format!("unix://{}", socket.display());

    // The agent does not know the workload yet, then it does, and the workload's second id is ours.
    let denying = Agent::listen(&socket, false);
    let starting = tokio::spawn({
        let endpoint = endpoint.clone();
        async move { Identity::from_workload_api(&endpoint).await }
    });
    tokio::time::timeout(PATIENCE, denying.accepting).await.unwrap().unwrap();
    let agent = Agent::listen(&socket, true);
    let mut elsewhere = svid(&other);
    elsewhere.spiffe_id = "spiffe://elsewhere/x".to_owned();
    agent.send(answer(vec![elsewhere, svid(&files)]));
    let identity = tokio::time::timeout(PATIENCE, starting).await.unwrap().unwrap().unwrap();
    assert_eq!(identity.id().name(), "svc-tax");

    // From here on it is followed. The same again is no renewal.
    agent.accepting.abort();
    let agent = Agent::listen(&socket, true);
    let (mut renewed, drain) = (identity.renewed(), Drain::new());
    let keeping = tokio::spawn(identity.clone().keep(Duration::from_secs(3_600), drain.clone()));
    agent.send(answer(vec![svid(&files)]));
    let id = identity.id().clone();
    agent.send(answer(vec![svid(&authority.issue_for("svc-tax", &id, now, Validity::days(7)).unwrap())]));
    tokio::time::timeout(PATIENCE, renewed.changed()).await.unwrap().unwrap();
    assert_eq!(identity.lifetime().left_s(now), 7 * 86_400);
    assert_eq!(*renewed.borrow_and_update(), 1);

    // What cannot be used is not: another workload, a foreign key, an expired certificate, no SVID at all.
    let expired = Validity { from_s: -7_200, until_s: -3_600 };
    let over = authority.issue_for("over", &id, now, expired).unwrap();
    let mut foreign_key = svid(&files);
    foreign_key.key = svid(&other).key.clone();
    for wrong in [vec![svid(&other)], vec![foreign_key], vec![svid(&over)], vec![]] {
        agent.send(answer(wrong));
    }
    // The bundle of a CA that is being replaced, and then the stream is lost.
    add_root(&pki, now, Validity::CA).unwrap();
    agent.send(answer(vec![svid(&files)]));
    tokio::time::timeout(PATIENCE, renewed.changed()).await.unwrap().unwrap();
    assert_eq!(*renewed.borrow_and_update(), 2, "nothing of the others was taken");
    agent.accepting.abort();
    let agent = Agent::listen(&socket, true);
    reissue(&pki, now, None).unwrap();
    agent.send(answer(vec![svid(&files)]));
    tokio::time::timeout(PATIENCE, renewed.changed()).await.unwrap().unwrap();
    assert!(identity.trusts_client(&certificates(&files.cert).unwrap(), now));
    assert_eq!(certificates(&pki.join(BUNDLE)).unwrap().len(), 2);
    drain.start();
    keeping.await.unwrap();
}

/// The agent's clock is ahead: what it sends is right a moment later, and it is not sent again.
#[tokio::test]
async fn what_cannot_be_used_yet_is_looked_at_again() {
    let dir = tempfile::tempdir().unwrap();
    let (pki, socket) = (dir.path().join("pki"), dir.path().join("agent.sock"));
    let now = SystemClock.now();
    let authority = CertificateAuthority::create(&pki, now, Validity::CA).unwrap();
    let files = authority.issue("svc-tax", now).unwrap();
    let agent = Agent::listen(&socket, true);
    agent.send(answer(vec![svid(&files)]));
    let endpoint = format!("unix://{}", socket.display());
    let identity = Identity::from_workload_api(&endpoint).await.unwrap();
    agent.accepting.abort();
    let agent = Agent::listen(&socket, true);
    let (mut renewed, drain) = (identity.renewed(), Drain::new());
    let keeping = tokio::spawn(identity.clone().keep(Duration::from_secs(3_600), drain.clone()));
    let early = Validity { from_s: 2, until_s: 86_400 };
    let id = identity.id().clone();
    agent.send(answer(vec![svid(&authority.issue_for("svc-tax", &id, SystemClock.now(), early).unwrap())]));
    tokio::time::timeout(PATIENCE, renewed.changed()).await.unwrap().unwrap();
    assert!(identity.lifetime().left_s(now) > 86_000);
    drain.start();
    keeping.await.unwrap();
}

#[test]
fn only_unix_sockets_are_endpoints() {
    for right in ["unix:///run/spire/agent.sock", "unix:/run/spire/agent.sock"] {
        assert_eq!(WorkloadApi::at(right).unwrap().socket, Path::new("/run/spire/agent.sock"));
    }
    for wrong in ["", "/run/spire/agent.sock", "unix:agent.sock", "tcp://127.0.0.1:8081", "unix://"] {
        assert!(matches!(WorkloadApi::at(wrong), Err(TlsError::Endpoint)), "{wrong}");
    }
}

#[test]
fn a_key_is_not_shown() {
    let mut svid = X509Svid::default();
    svid.spiffe_id = "spiffe://x".to_owned();
    svid.key = vec![42; 8];
    assert_eq!(format!("{:?}", answer(vec![svid])), "X509SvidResponse { svids: [X509Svid(spiffe://x)] }");
}
