//! The broker with TLS.

use std::{fs, path::Path};

use events::{BrokerError, PublishError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::{
    broker::Broker,
    world::{World, events},
};

/// An authority, as PEM in `ca.pem`, and a certificate of it for `localhost`.
fn certificates(directory: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    fs::write(directory.join("ca.pem"), ca.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(ca, key);
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(["localhost".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
    fs::write(directory.join("server.pem"), certificate.pem()).unwrap();
    fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_is_who_its_authority_says() {
    let broker = Broker::start(certificates).await;
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    let with = |host: &'static str, ca: &Path| {
        let (ca, port, uri) = (ca.join("ca.pem"), broker.tls_port(), broker.uri());
        async move {
            let world = World::with(&uri, &["#"], |config| {
                config.url = format!("amqps://paymesh@{host}:{port}/%2f");
                config.ca_file = Some(ca);
            });
            let world = world.await;
            world.publish(&events("pay_1", 3)).await
        }
    };
    assert_eq!(with("localhost", broker.path()).await, [Ok(()); 3]);
    let refused = Err(PublishError::Unavailable(BrokerError::Tls));
    assert_eq!(with("localhost", other.path()).await, [refused; 3], "another authority");
    assert_eq!(with("127.0.0.1", broker.path()).await, [refused; 3], "another name");
}
