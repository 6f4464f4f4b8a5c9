//! Who gets in: every hop is TLS 1.3 with a known client certificate, and every RPC is granted by name.

#![allow(clippy::unwrap_used, clippy::panic)] // a test says what it expects by failing

use std::{sync::Arc, time::Duration};

use mesh::{
    Call, Fault, Harness, Parts, Reason, Running, Service, ServiceContext, StartError, Upstream,
    clock::{Clock as _, SystemClock},
    identity::SpiffeId,
    pki::{CertificateAuthority, Validity},
    testing::call_of,
    tls::Identity,
};
use paymesh_proto::echo::v1::{
    BatchEchoMessage, EchoMessage,
    echo_service_client::EchoServiceClient,
    echo_service_server::{EchoService, EchoServiceServer},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{Code, Request, Response, Status};

struct Echo;

struct EchoHandler;

/// Told by a test that the worker is to end before its time.
static WORKER_MAY_END: tokio::sync::Notify = tokio::sync::Notify::const_new();

#[tonic::async_trait]
impl EchoService for EchoHandler {
    async fn echo(&self, request: Request<EchoMessage>) -> Result<Response<EchoMessage>, Status> {
        let call = Call::of(&request)?;
        match &*request.get_ref().payload {
            b"end" => {
                WORKER_MAY_END.notify_one();
                Ok(Response::new(request.into_inner()))
            }
            b"panic" => panic!("planted, with 4242424242424242 in it"),
            b"never" => std::future::pending().await,
            b"tenant" => Ok(Response::new(EchoMessage { payload: call.tenant()?.to_string().into() })),
            _ => Ok(Response::new(request.into_inner())),
        }
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

/// As [`Echo`], with background work that ends when told to.
struct Mortal;

impl Service for Mortal {
    const NAME: &'static str = "svc-mortal";
    type Config = ();

    async fn build((): (), _: &ServiceContext) -> Result<Parts, StartError> {
        Ok(Parts::new()
            .serve(EchoServiceServer::new(EchoHandler))
            .worker("mortal", async { WORKER_MAY_END.notified().await }))
    }
}

async fn started() -> (tempfile::TempDir, Harness, Running) {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap();
    let running = harness.start::<Echo>(()).await.unwrap();
    (dir, harness, running)
}

async fn echo(upstream: Upstream, payload: &'static [u8]) -> Result<Vec<u8>, Status> {
    let request = call_of("acme").request(EchoMessage { payload: payload.into() });
    EchoServiceClient::new(upstream).echo(request).await.map(|r| r.into_inner().payload.to_vec())
}

/// A call with an identity that is not the harness's own: why it failed. A refused handshake never
/// reaches a handler or the policy, so it is the transport's error and carries no reason of ours.
async fn refused(running: &Running, identity: Identity) -> Reason {
    let peer = SpiffeId::of(running.name).unwrap();
    let upstream = Upstream::new(&identity, &peer, &running.address.to_string()).unwrap();
    let status = echo(upstream, b"hello").await.unwrap_err();
    assert!(matches!(status.code(), Code::Unavailable | Code::Unknown), "{status:?}");
    Fault::from_status(&status).reason()
}

#[tokio::test]
async fn a_granted_identity_gets_in_and_its_metadata_arrives() {
    let (_dir, harness, running) = started().await;
    let upstream = harness.upstream("operator", &running).unwrap();
    assert_eq!(echo(upstream.clone(), b"hello").await.unwrap(), b"hello");
    assert_eq!(echo(upstream, b"tenant").await.unwrap(), b"acme");
    running.stop().await;
}

#[tokio::test]
async fn plaintext_is_refused() {
    let (_dir, _harness, running) = started().await;
    let mut stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
    // The HTTP/2 preface and an empty SETTINGS frame, as a client with prior knowledge sends them.
    let _ = stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    // At most a TLS alert (content type 21): never an HTTP/2 frame.
    assert!(answer.is_empty() || answer[0] == 21, "{answer:?}");
}

#[tokio::test]
async fn an_unknown_ca_is_refused() {
    let (dir, harness, running) = started().await;
    let now = SystemClock.now();
    let stranger = CertificateAuthority::open_or_create(&dir.path().join("stranger"), now).unwrap();
    let mut files = stranger.issue("operator", now).unwrap();
    // The stranger trusts our server; it is our server that must not trust the stranger.
    files.ca = harness.certificate("operator").unwrap().ca;
    assert_eq!(refused(&running, Identity::load_unchecked(&files).unwrap()).await, Reason::Unavailable);
}

#[tokio::test]
async fn a_server_of_an_unknown_ca_or_of_another_name_is_refused_by_the_client() {
    let (dir, harness, running) = started().await;
    let now = SystemClock.now();
    let other = CertificateAuthority::open_or_create(&dir.path().join("other"), now).unwrap();
    let mut files = harness.certificate("operator").unwrap();
    let address = running.address.to_string();
    let as_operator = Identity::load(&files).unwrap();
    let not_echo = Upstream::new(&as_operator, &SpiffeId::of("svc-crypto").unwrap(), &address).unwrap();
    assert_eq!(echo(not_echo, b"hello").await.unwrap_err().code(), Code::Unavailable);
    files.ca = other.issue("operator", now).unwrap().ca;
    assert_eq!(refused(&running, Identity::load_unchecked(&files).unwrap()).await, Reason::Unavailable);
}

#[tokio::test]
async fn an_expired_or_not_yet_valid_certificate_is_refused() {
    let (_dir, harness, running) = started().await;
    let operator = SpiffeId::of("operator").unwrap();
    for (file, from_s, until_s) in [("expired", -7_200, -3_600), ("early", 3_600, 7_200)] {
        let validity = Validity { from_s, until_s };
        let files = harness.authority().issue_for(file, &operator, SystemClock.now(), validity).unwrap();
        assert_eq!(
            refused(&running, Identity::load_unchecked(&files).unwrap()).await,
            Reason::Unavailable,
            "{file}"
        );
    }
}

/// A TLS client of the right CA, with or without a certificate and with the versions given.
async fn handshake(
    ca: &std::path::Path,
    running: &Running,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<usize> {
    use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = tokio::net::TcpStream::connect(running.address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?;
    stream.read(&mut [0; 64]).await
}

#[tokio::test]
async fn no_client_certificate_and_tls_1_2_are_refused() {
    let (_dir, harness, running) = started().await;
    let ca = harness.certificate("operator").unwrap().ca;
    // In TLS 1.3 the client learns of the refusal with its first read.
    let no_certificate = handshake(&ca, &running, &[&rustls::version::TLS13]).await.unwrap_err();
    assert!(no_certificate.to_string().contains("CertificateRequired"), "{no_certificate}");
    let old = handshake(&ca, &running, &[&rustls::version::TLS12]).await.unwrap_err();
    assert!(old.to_string().contains("ProtocolVersion"), "{old}");
}

#[tokio::test]
async fn an_identity_without_permission_is_denied_with_a_reason() {
    let (_dir, harness, running) = started().await;
    for name in ["svc-tax", "edge-gateway", "stranger"] {
        let status = echo(harness.upstream(name, &running).unwrap(), b"hello").await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{name}");
        assert_eq!(Fault::from_status(&status).reason(), Reason::PermissionDenied, "{name}");
    }
}

#[tokio::test]
async fn a_panic_costs_its_own_request_and_leaks_nothing() {
    let (_dir, harness, running) = started().await;
    let upstream = harness.upstream("operator", &running).unwrap();
    let status = echo(upstream.clone(), b"panic").await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::Internal);
    assert!(!status.message().contains("4242"));
    assert_eq!(echo(upstream, b"hello").await.unwrap(), b"hello");
}

#[tokio::test]
async fn a_deadline_is_kept() {
    let (_dir, harness, running) = started().await;
    let mut client = EchoServiceClient::new(harness.upstream("operator", &running).unwrap());
    let mut request = call_of("acme").request(EchoMessage { payload: b"never"[..].into() });
    request.set_timeout(Duration::from_millis(50));
    let status = client.echo(request).await.unwrap_err();
    // Whichever end sees it first.
    assert_eq!(Fault::from_status(&status).reason(), Reason::DeadlineExceeded, "{status:?}");
}

#[tokio::test]
async fn draining_finishes_what_was_begun_and_takes_nothing_new() {
    let (_dir, harness, running) = started().await;
    let upstream = harness.upstream("operator", &running).unwrap();
    assert_eq!(echo(upstream.clone(), b"hello").await.unwrap(), b"hello");
    running.stop().await;
    assert_eq!(echo(upstream, b"hello").await.unwrap_err().code(), Code::Unavailable);
}

/// rustls resumes without looking at the certificate's dates again, so nothing may be resumed.
#[tokio::test]
async fn no_session_is_resumed() {
    let (_dir, harness, running) = started().await;
    let identity = Identity::load(&harness.certificate("operator").unwrap()).unwrap();
    let mut config = (*identity.client_config(&SpiffeId::of(running.name).unwrap()).unwrap()).clone();
    // A client that would resume if it were let.
    config.resumption = rustls::client::Resumption::in_memory_sessions(8);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    for _ in 0..3 {
        let stream = tokio::net::TcpStream::connect(running.address).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
        let mut stream = connector.connect(name, stream).await.unwrap();
        stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
        assert!(stream.read(&mut [0; 64]).await.unwrap() > 0);
        assert_eq!(stream.get_ref().1.handshake_kind(), Some(rustls::HandshakeKind::Full));
    }
}

#[tokio::test]
async fn a_service_whose_work_ends_too_early_stops_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = Harness::new(dir.path()).unwrap();
    let running = harness.start::<Mortal>(()).await.unwrap();
    let failed = running.failed();
    assert_eq!(echo(harness.upstream("operator", &running).unwrap(), b"end").await.unwrap(), b"end");
    failed.await;
    running.finished().await;
}

#[tokio::test]
async fn one_data_directory_is_for_one_process() {
    let (_dir, mut harness, running) = started().await;
    assert!(matches!(harness.start::<Echo>(()).await, Err(StartError::InUse(_))));
    running.stop().await;
    harness.start::<Echo>(()).await.unwrap();
}
