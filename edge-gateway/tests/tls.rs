//! TLS as clients see it: versions and protocols, certificates that change, sessions that are taken up again.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use edge_gateway::{EdgeConfig, TlsConfig};
use mesh::{
    Clock as _, SpiffeId, SystemClock,
    pki::{CertificateFiles, Validity},
};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use support::Edge;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Where the certificate is, and an edge that uses it.
async fn with_tls() -> (Edge, CertificateFiles) {
    with_tls_and(|_| {}).await
}

async fn with_tls_and(change: impl FnOnce(&mut EdgeConfig) + 'static) -> (Edge, CertificateFiles) {
    let (sender, receiver) = std::sync::mpsc::channel();
    let edge = Edge::start_with(|edge| {
        edge.configure = Box::new(move |config: &mut EdgeConfig, harness: &mesh::Harness| {
            let files = harness.certificate("edge-outside").unwrap();
            config.https = Some(TlsConfig {
                cert_file: files.cert.clone(),
                key_file: files.key.clone(),
                reload_s: 1,
                plain_listen: None,
                plain_connections_max: 1,
            });
            change(config);
            sender.send(files).unwrap();
        });
    })
    .await;
    (edge, receiver.recv().unwrap())
}

/// What a client learns of a connection: version, protocol, certificate, and the answer to a request.
struct Seen {
    version: ProtocolVersion,
    protocol: Option<Vec<u8>>,
    certificate: Vec<u8>,
    /// Whether the session was taken up from before.
    handshake: HandshakeKind,
    answer: String,
}

/// A client that keeps its sessions, and trusts these CAs.
fn client(cas: &[&Path], version: &'static SupportedProtocolVersion, protocol: &[u8]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for ca in cas {
        roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    config.enable_early_data = true;
    Arc::new(config)
}

fn name() -> ServerName<'static> {
    ServerName::try_from("localhost").unwrap()
}

async fn connect(address: SocketAddr, client: &Arc<ClientConfig>) -> std::io::Result<Seen> {
    let stream = tokio::net::TcpStream::connect(address).await?;
    let mut stream = tokio_rustls::TlsConnector::from(Arc::clone(client)).connect(name(), stream).await?;
    let session = stream.get_ref().1;
    let (version, protocol) = (session.protocol_version().unwrap(), session.alpn_protocol().map(Vec::from));
    let certificate = session.peer_certificates().unwrap()[0].to_vec();
    let handshake = session.handshake_kind().unwrap();
    let mut answer = Vec::new();
    if protocol.as_deref() == Some(b"http/1.1") {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        stream.read_to_end(&mut answer).await?;
    }
    Ok(Seen { version, protocol, certificate, handshake, answer: String::from_utf8(answer).unwrap() })
}

/// The certificate that a client gets who was never here.
async fn certificate(edge: &Edge, files: &CertificateFiles) -> Vec<u8> {
    connect(edge.address(), &client(&[&files.ca], &TLS13, b"http/1.1")).await.unwrap().certificate
}

/// Puts another pair in the place of the edge's, and waits until it is used.
async fn renew(edge: &Edge, files: &CertificateFiles) {
    let fresh = edge.certificate("edge-renewed");
    std::fs::copy(&fresh.cert, &files.cert).unwrap();
    std::fs::copy(&fresh.key, &files.key).unwrap();
    let renewed = CertificateDer::from_pem_file(&fresh.cert).unwrap().to_vec();
    let taken_over = async {
        while certificate(edge, files).await != renewed {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken_over).await.expect("the new certificate is used");
}

#[tokio::test]
async fn tls_speaks_both_versions_and_both_protocols() {
    let (edge, files) = with_tls().await;
    for (version, named) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let with = |protocol: &[u8]| client(&[&files.ca], version, protocol);
        let seen = connect(edge.address(), &with(b"http/1.1")).await.unwrap();
        assert_eq!((seen.version, seen.protocol.as_deref()), (named, Some(&b"http/1.1"[..])));
        assert!(seen.answer.contains("alive"), "{}", seen.answer);
        assert!(seen.answer.contains("strict-transport-security: max-age=31536000"), "{}", seen.answer);
        let seen = connect(edge.address(), &with(b"h2")).await.unwrap();
        assert_eq!(seen.protocol.as_deref(), Some(&b"h2"[..]));
        assert!(connect(edge.address(), &with(b"spdy/3")).await.is_err());
    }
    edge.stop().await;
}

#[tokio::test]
async fn idle_connections_from_outside_do_not_keep_probes_out() {
    // An address of the loopback that nobody else uses.
    let plain = std::net::TcpListener::bind("127.0.83.7:0").unwrap().local_addr().unwrap();
    let (edge, _files) = with_tls_and(move |config| {
        config.connections_max = 1;
        config.https.as_mut().unwrap().plain_listen = Some(plain);
    })
    .await;
    let idle = edge.connect().await;
    let probing = async {
        let mut stream = tokio::net::TcpStream::connect(plain).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), probing).await.expect("it is answered");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(idle);
    edge.stop().await;
}

#[tokio::test]
async fn a_new_certificate_is_used_once_it_fits_its_key() {
    let (edge, files) = with_tls().await;
    let first = certificate(&edge, &files).await;
    // Half of another pair is not used.
    std::fs::copy(edge.certificate("edge-half").cert, &files.cert).unwrap();
    assert_eq!(certificate(&edge, &files).await, first);
    renew(&edge, &files).await;
    assert_ne!(certificate(&edge, &files).await, first);
    edge.stop().await;
}

#[tokio::test]
async fn an_edge_does_not_start_with_a_certificate_that_is_not_valid_now() {
    let dir = tempfile::tempdir().unwrap();
    let mut harness = mesh::Harness::new(dir.path()).unwrap();
    let id = SpiffeId::of("edge-outside").unwrap();
    for validity in [Validity { from_s: -7_200, until_s: -3_600 }, Validity { from_s: 3_600, until_s: 7_200 }]
    {
        let now = SystemClock.now();
        let files = harness.authority().issue_for("edge-outside", &id, now, validity).unwrap();
        let https = TlsConfig {
            cert_file: files.cert,
            key_file: files.key,
            reload_s: 1,
            plain_listen: None,
            plain_connections_max: 1,
        };
        for name in ["svc-payments", "svc-crypto", "svc-ledger", "svc-tax"] {
            harness.add_upstream(name, "127.0.0.1:1");
        }
        let config = EdgeConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            https: Some(https),
            api_keys: vec![edge_gateway::ApiKeyConfig::of_key("acme".parse().unwrap(), "test", "sk_test")],
            ..EdgeConfig::default()
        };
        let refused = harness.start::<edge_gateway::Edge>(config).await.err().unwrap().to_string();
        assert!(refused.contains("holds a certificate that"), "{refused}");
    }
}

#[tokio::test]
async fn a_session_is_taken_up_again_also_across_a_new_certificate() {
    let (edge, files) = with_tls().await;
    let clients = [&TLS13, &TLS12].map(|version| client(&[&files.ca], version, b"http/1.1"));
    let mut known = Vec::new();
    for client in &clients {
        let (first, again) =
            (connect(edge.address(), client).await.unwrap(), connect(edge.address(), client).await.unwrap());
        assert_eq!((first.handshake, again.handshake), (HandshakeKind::Full, HandshakeKind::Resumed));
        assert!(again.answer.contains("alive"), "{}", again.answer);
        known.push(first.certificate);
    }
    renew(&edge, &files).await;
    for (client, known) in clients.iter().zip(known) {
        let later = connect(edge.address(), client).await.unwrap();
        assert_eq!((later.handshake, later.certificate), (HandshakeKind::Resumed, known));
        assert!(later.answer.contains("alive"), "{}", later.answer);
    }
    edge.stop().await;
}

#[tokio::test]
async fn another_edge_begins_a_session_anew() {
    let ((one, files), (other, others)) = (with_tls().await, with_tls().await);
    for version in [&TLS13, &TLS12] {
        let client = client(&[&files.ca, &others.ca], version, b"http/1.1");
        connect(one.address(), &client).await.unwrap();
        // The client has a ticket for this name, which only the edge that gave it can read.
        let seen = connect(other.address(), &client).await.unwrap();
        assert_eq!(seen.handshake, HandshakeKind::Full);
        assert!(seen.answer.contains("alive"), "{}", seen.answer);
    }
    one.stop().await;
    other.stop().await;
}

/// Early data could be sent once more by whoever saw it (RFC 8446, section 8).
#[tokio::test]
async fn no_session_may_begin_with_early_data() {
    let (edge, files) = with_tls().await;
    let client = client(&[&files.ca], &TLS13, b"http/1.1");
    connect(edge.address(), &client).await.unwrap();
    let mut next = ClientConnection::new(Arc::clone(&client), name()).unwrap();
    assert!(next.early_data().is_none());
    assert_eq!(connect(edge.address(), &client).await.unwrap().handshake, HandshakeKind::Resumed);
    edge.stop().await;
}
