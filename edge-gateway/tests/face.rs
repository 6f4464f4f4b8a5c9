//! The edge as an HTTP server, whatever it is asked for: TLS, sizes, pages of other origins, conditional
//! reads, compression.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{io::Write as _, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use edge_gateway::{EdgeConfig, TlsConfig};
use flate2::{Compression, write::GzEncoder};
use http::Method;
use mesh::pki::CertificateFiles;
use rustls::{
    ClientConfig, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use serde_json::json;
use support::{Edge, KEY};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
    packed.write_all(bytes).unwrap();
    packed.finish().unwrap()
}

fn code(reply: &support::Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn reads_are_conditional_and_packed() {
    let edge = Edge::start().await;
    let document = || edge.request(Method::GET, "/openapi.json");
    let plain = document().send().await;
    let packed = document().header("accept-encoding", "gzip").send().await;
    assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), (None, Some("gzip")));
    let length = |reply: &support::Reply| reply.header("content-length").unwrap().parse::<usize>().unwrap();
    assert!(length(&packed) * 3 < length(&plain), "{} of {}", length(&packed), length(&plain));
    let tag = packed.header("etag").unwrap().to_owned();
    assert_ne!(plain.header("etag"), Some(&*tag));
    let again = document().header("accept-encoding", "gzip").header("if-none-match", &tag).send().await;
    assert_eq!((again.status.as_u16(), again.header("etag")), (304, Some(&*tag)));
    assert_eq!(again.text(), "");
    let head = edge.request(Method::HEAD, "/openapi.json").header("accept-encoding", "gzip").send().await;
    assert_eq!((head.header("etag"), length(&head)), (Some(&*tag), length(&packed)));
    let head = edge.request(Method::HEAD, "/openapi.json").header("if-none-match", "*").send().await;
    assert_eq!((head.status.as_u16(), head.header("content-length")), (304, None));

    let payments = edge.get("/v1/payments").send().await;
    assert_eq!(payments.header("cache-control"), Some("no-store"));
    assert!(payments.header("etag").is_some());
    let created = edge.post("/v1/payments").header("idempotency-key", "k");
    let created =
        created.json(&json!({"amount": 1, "currency": "EUR", "payment_method": {"token": "t"}})).await;
    assert_eq!((created.status.as_u16(), created.header("etag")), (200, None));
    edge.stop().await;
}

#[tokio::test]
async fn a_packed_body_is_taken_and_a_bomb_is_not() {
    let edge = Edge::start().await;
    let post = |coding: &str, body: Vec<u8>| {
        edge.post("/v1/payments").header("idempotency-key", "k").header("content-encoding", coding).body(body)
    };
    let body = json!({"amount": 77, "currency": "EUR", "payment_method": {"token": "t"}}).to_string();
    let taken = post("gzip", gzip(body.as_bytes())).await;
    assert_eq!((taken.status.as_u16(), &taken.json()["amount"]), (200, &json!(77)));
    let bomb = gzip(&vec![b' '; 16 * 1024 * 1024]);
    assert!(bomb.len() < 1024 * 1024);
    assert_eq!(code(&post("gzip", bomb).await), (413, "BODY_TOO_LARGE".to_owned()));
    assert_eq!(code(&post("gzip", body.clone().into()).await), (400, "BODY_MALFORMED".to_owned()));
    let unknown = post("br", body.into()).await;
    assert_eq!(code(&unknown), (415, "UNSUPPORTED_MEDIA_TYPE".to_owned()));
    assert_eq!(unknown.header("accept-encoding"), Some("gzip"));
    edge.stop().await;
}

#[tokio::test]
async fn long_heads_are_refused_with_a_problem() {
    let edge = Edge::start().await;
    let long = edge.get(&format!("/v1/payments?reference={}", "a".repeat(9_000))).send().await;
    assert_eq!(code(&long), (414, "URI_TOO_LONG".to_owned()));
    let large = edge.get("/v1/payments").header("x-a", &"a".repeat(33_000)).send().await;
    assert_eq!(code(&large), (431, "HEADERS_TOO_LARGE".to_owned()));
    edge.stop().await;
}

#[tokio::test]
async fn a_page_of_a_named_origin_may_call_without_a_cookie() {
    let edge = Edge::start_with(|edge| {
        edge.configure = Box::new(|config, _| {
            config.http.cors.origins = vec!["https://shop.example".to_owned()];
        });
    })
    .await;
    let asked = edge
        .request(Method::OPTIONS, "/v1/payments")
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,idempotency-key")
        .send()
        .await;
    assert_eq!(asked.status, 204, "before authentication");
    assert_eq!(asked.header("access-control-allow-origin"), Some("https://shop.example"));
    assert_eq!(asked.header("access-control-allow-credentials"), None);
    let read = edge.get("/v1/payments").header("origin", "https://shop.example").send().await;
    assert_eq!(read.header("access-control-allow-origin"), Some("https://shop.example"));
    assert!(read.header("access-control-expose-headers").unwrap().contains("ratelimit"));
    let refused =
        edge.request(Method::GET, "/v1/payments").header("origin", "https://shop.example").send().await;
    assert_eq!(refused.status, 401);
    assert!(refused.header("access-control-allow-origin").is_some(), "the page may read why");
    let stranger = edge.get("/v1/payments").header("origin", "https://evil.example").send().await;
    assert_eq!((stranger.status.as_u16(), stranger.header("access-control-allow-origin")), (200, None));
    assert_eq!(stranger.header("vary"), Some("Origin"));
    edge.stop().await;
}

#[tokio::test]
async fn options_tells_the_methods_to_who_may_know() {
    let edge = Edge::start().await;
    let asked = edge.request(Method::OPTIONS, "/v1/payments").header("authorization", KEY).send().await;
    assert_eq!((asked.status.as_u16(), asked.header("allow")), (204, Some("GET, POST, HEAD")));
    assert_eq!(edge.request(Method::OPTIONS, "/v1/payments").send().await.status, 401);
    edge.stop().await;
}

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
    answer: String,
}

async fn connect(
    address: SocketAddr,
    ca: &Path,
    version: &'static SupportedProtocolVersion,
    protocol: &[u8],
) -> std::io::Result<Seen> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(ca).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[version]).unwrap();
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = tokio::net::TcpStream::connect(address).await?;
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
    let session = stream.get_ref().1;
    let (version, protocol) = (session.protocol_version().unwrap(), session.alpn_protocol().map(Vec::from));
    let certificate = session.peer_certificates().unwrap()[0].to_vec();
    let mut answer = Vec::new();
    if protocol.as_deref() == Some(b"http/1.1") {
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await?;
        stream.read_to_end(&mut answer).await?;
    }
    Ok(Seen { version, protocol, certificate, answer: String::from_utf8(answer).unwrap() })
}

#[tokio::test]
async fn tls_speaks_both_versions_and_both_protocols() {
    let (edge, files) = with_tls().await;
    for (version, named) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let seen = connect(edge.address(), &files.ca, version, b"http/1.1").await.unwrap();
        assert_eq!((seen.version, seen.protocol.as_deref()), (named, Some(&b"http/1.1"[..])));
        assert!(seen.answer.contains("alive"), "{}", seen.answer);
        assert!(seen.answer.contains("strict-transport-security: max-age=31536000"), "{}", seen.answer);
        let seen = connect(edge.address(), &files.ca, version, b"h2").await.unwrap();
        assert_eq!(seen.protocol.as_deref(), Some(&b"h2"[..]));
    }
    assert!(connect(edge.address(), &files.ca, &TLS13, b"spdy/3").await.is_err());
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
    let certificate =
        || async { connect(edge.address(), &files.ca, &TLS13, b"http/1.1").await.unwrap().certificate };
    let first = certificate().await;
    // Another pair of the same CA; half of it is not used.
    let fresh = edge.certificate("edge-renewed");
    std::fs::copy(&fresh.cert, &files.cert).unwrap();
    assert_eq!(certificate().await, first);
    std::fs::copy(&fresh.key, &files.key).unwrap();
    let renewed = CertificateDer::from_pem_file(&fresh.cert).unwrap().to_vec();
    let taken_over = async {
        while certificate().await != renewed {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), taken_over).await.expect("the new certificate is used");
    assert_ne!(first, renewed);
    edge.stop().await;
}
