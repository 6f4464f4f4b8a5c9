//! TLS to the server: a proxy that has it stands before the tests' server, which has none.

use std::sync::Arc;

use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::Fixture;
use crate::store::postgres::{
    PostgresConfig,
    session::{Purpose, Server},
};

/// Answers the request for TLS (PostgreSQL's SSLRequest), and passes on what comes within it.
async fn proxy(fixture: &Fixture, certificate: &rcgen::CertifiedKey<rcgen::KeyPair>) -> u16 {
    let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.cert.der().clone()], key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (_, host) = fixture.config.url.rsplit_once('@').unwrap();
    let server = host.split_once('/').unwrap().0.to_owned();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (acceptor, server) = (acceptor.clone(), server.clone());
            tokio::spawn(async move {
                let mut request = [0; 8];
                client.read_exact(&mut request).await.unwrap();
                assert_eq!(request, [0, 0, 0, 8, 4, 210, 22, 47], "it asks for TLS first");
                client.write_all(b"S").await.unwrap();
                // A client that does not trust us goes.
                let Ok(mut client) = acceptor.accept(client).await else { return };
                let mut server = TcpStream::connect(server).await.unwrap();
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_certificate_is_checked_with_its_name() {
    let fixture = Fixture::new().await;
    let named = |name: &str| rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    let (right, misnamed, other) = (named("localhost"), named("elsewhere.test"), named("localhost"));
    let (_, rest) = fixture.config.url.rsplit_once('@').unwrap();
    let database = rest.split_once('/').unwrap().1.split_once('?').unwrap().0.to_owned();
    let user = fixture.config.url.rsplit_once('@').unwrap().0.to_owned();
    let ca_file = fixture.directory.path().join("ca.pem");
    let connect = async |port: u16, mode: &str, trusted: Option<&rcgen::CertifiedKey<rcgen::KeyPair>>| {
        let ca_file = trusted.map(|certificate| {
            std::fs::write(&ca_file, certificate.cert.pem()).unwrap();
            ca_file.clone()
        });
        let url = format!("{user}@localhost:{port}/{database}?sslmode={mode}");
        let server = Server::new(&PostgresConfig { url, ca_file, ..fixture.config.clone() });
        let server = server.map_err(|error| error.to_string())?;
        server.connect(Purpose::Lead).await.map(drop).map_err(|error| error.to_string())
    };

    let port = proxy(&fixture, &right).await;
    for mode in ["verify-full", "verify-ca", "require", "prefer"] {
        connect(port, mode, Some(&right)).await.unwrap();
        let untrusted = connect(port, mode, Some(&other)).await.unwrap_err();
        assert!(untrusted.contains("certificate"), "{mode}: {untrusted}");
    }
    let unknown = connect(port, "verify-full", None).await.unwrap_err();
    assert!(unknown.contains("ca_file"), "{unknown}");
    connect(port, "prefer", None).await.unwrap_err();
    let port = proxy(&fixture, &misnamed).await;
    let wrong = connect(port, "require", Some(&misnamed)).await.unwrap_err();
    assert!(wrong.contains("certificate"), "{wrong}");

    // A server without TLS, which the tests' is: only where the URL allows it.
    let plain: u16 = rest.split_once('/').unwrap().0.rsplit_once(':').unwrap().1.parse().unwrap();
    connect(plain, "prefer", Some(&right)).await.unwrap();
    connect(plain, "disable", None).await.unwrap();
    connect(plain, "require", Some(&right)).await.unwrap_err();

    std::fs::write(&ca_file, "no certificate").unwrap();
    let config = PostgresConfig { ca_file: Some(ca_file.clone()), ..fixture.config.clone() };
    let refused = Server::new(&config).err().unwrap().to_string();
    assert!(refused.contains("ca_file"), "{refused}");
}
