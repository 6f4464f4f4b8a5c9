//! Signed requests, for keys that demand them.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_gateway::auth::{
    SignatureAlgorithm,
    config::{Scheme, SignatureConfig},
    keys::SignatureRecord,
};
use http::StatusCode;
use ring::{
    digest::{SHA256, digest},
    hmac,
    rand::SystemRandom,
    signature::{Ed25519KeyPair, KeyPair as _},
};

use super::*;

const BODY: &str = r#"{"amount":1050,"currency":"EUR","payment_method":{"token":"tok_1"}}"#;

fn rule(algorithm: SignatureAlgorithm, public_key: Option<String>) -> SignatureRecord {
    SignatureRecord { algorithm, public_key }
}

async fn edge_of(world: &World) -> Edge {
    world
        .edge(|auth| auth.signatures = SignatureConfig { scheme: Scheme::Http, ..SignatureConfig::default() })
        .await
}

/// A POST of a payment, signed by whatever `sign` is.
async fn post(
    edge: &Edge,
    fresh: &FreshKey,
    nonce: &str,
    body: &str,
    sign: impl FnOnce(&[u8]) -> Vec<u8>,
) -> Reply {
    let content_digest = format!("sha-256=:{}:", STANDARD.encode(digest(&SHA256, BODY.as_bytes())));
    let parameters = format!(
        r#"("@method" "@target-uri" "content-digest" "idempotency-key");created={NOW};keyid="{}";nonce="{nonce}""#,
        fresh.record.id
    );
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": http://{}/v1/payments\n\"content-digest\": {content_digest}\n\
         \"idempotency-key\": k-1\n\"@signature-params\": {parameters}",
        edge.address()
    );
    let signature = STANDARD.encode(sign(base.as_bytes()));
    edge.request(http::Method::POST, "/v1/payments")
        .header("authorization", &format!("Bearer {}", &*fresh.key))
        .header("content-type", "application/json")
        .header("content-digest", &content_digest)
        .header("idempotency-key", "k-1")
        .header("signature-input", &format!("sig1={parameters}"))
        .header("signature", &format!("sig1=:{signature}:"))
        .body(body.to_owned())
        .await
}

#[tokio::test]
async fn a_key_that_demands_signatures_is_worth_nothing_without() {
    let mut world = World::new();
    let fresh = world.create(&["*"], |key| key.signature = Some(rule(SignatureAlgorithm::HmacSha256, None)));
    let edge = edge_of(&world).await;
    let reply = list(&edge, &fresh.key).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::UNAUTHORIZED, "SIGNATURE_INVALID".into()));
    let secret = STANDARD.decode(fresh.signing_secret.as_ref().unwrap().as_bytes()).unwrap();
    let sign = |base: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), base).as_ref().to_vec();
    let reply = post(&edge, &fresh, "nonce-01", BODY, sign).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let replayed = post(&edge, &fresh, "nonce-01", BODY, sign).await;
    assert!(detail(&replayed).contains("nonce was used"), "{}", replayed.text());
    let changed = post(&edge, &fresh, "nonce-02", &BODY.replace("1050", "9050"), sign).await;
    assert_eq!((changed.status, code(&changed)), (StatusCode::UNAUTHORIZED, "SIGNATURE_INVALID".into()));
    assert!(detail(&changed).contains("body"), "{}", changed.text());
    let forged = post(&edge, &fresh, "nonce-03", BODY, |_| vec![0; 32]).await;
    assert!(detail(&forged).contains("not this request's"), "{}", forged.text());
    let reply = post(&edge, &fresh, "nonce-03", BODY, sign).await;
    assert_eq!(reply.status, StatusCode::OK, "a forged request uses up no nonce");
    world.clock.advance_seconds(301);
    assert!(detail(&post(&edge, &fresh, "nonce-04", BODY, sign).await).contains("too long ago"));
    edge.stop().await;
}

/// From its first moment to its last, with parts of seconds.
#[tokio::test]
async fn a_nonce_is_not_taken_again_for_as_long_as_its_signature_is() {
    let mut world = World::new();
    let fresh = world.create(&["*"], |key| key.signature = Some(rule(SignatureAlgorithm::HmacSha256, None)));
    let edge = edge_of(&world).await;
    let secret = STANDARD.decode(fresh.signing_secret.as_ref().unwrap().as_bytes()).unwrap();
    let sign = |base: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &secret), base).as_ref().to_vec();
    world.clock.advance_seconds(-300);
    let first = post(&edge, &fresh, "nonce-01", BODY, sign).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.text());
    world.clock.advance_seconds(600);
    world.clock.advance_nanos(900_000_000);
    let last = post(&edge, &fresh, "nonce-01", BODY, sign).await;
    assert!(detail(&last).contains("nonce was used"), "{}", last.text());
    edge.stop().await;
}

#[tokio::test]
async fn a_public_key_is_enough_to_check_a_signature() {
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let spki = [b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00", pair.public_key().as_ref()].concat();
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(spki));
    let mut world = World::new();
    let record = rule(SignatureAlgorithm::Ed25519, Some(pem));
    let fresh = world.create(&["*"], |key| key.signature = Some(record));
    assert!(fresh.signing_secret.is_none());
    let edge = edge_of(&world).await;
    let sign = |base: &[u8]| pair.sign(base).as_ref().to_vec();
    let reply = post(&edge, &fresh, "nonce-01", BODY, sign).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    // Keys that demand nothing go on as before.
    assert_eq!(list(&edge, "sk_test").await.status, StatusCode::OK);
    edge.stop().await;
}
