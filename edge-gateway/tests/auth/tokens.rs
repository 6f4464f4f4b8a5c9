//! Access tokens of an OpenID Connect provider that runs here.

use edge_gateway::auth::config::IssuerConfig;
use http::StatusCode;
use ring::hmac;
use serde_json::{Value, json};

use super::{
    issuer::{Key, Provider, encode},
    *,
};

fn config(provider: &Provider) -> IssuerConfig {
    IssuerConfig {
        name: "one".into(),
        issuer: provider.url(),
        audiences: vec!["paymesh".into()],
        refetch_interval_s: 0,
        ..IssuerConfig::default()
    }
}

async fn edge_of(world: &World, issuer: IssuerConfig) -> Edge {
    world.edge(|auth| auth.issuers = vec![issuer]).await
}

fn claims(provider: &Provider) -> Value {
    json!({
        "iss": provider.url(), "aud": ["paymesh"], "sub": "someone@example.com", "client_id": "app",
        "tenant": "acme", "scope": "openid payments:read", "iat": NOW, "exp": NOW + 300, "jti": "1",
    })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

#[tokio::test]
async fn a_token_speaks_for_its_tenant_within_its_scopes() {
    let key = Key::es256("a");
    let provider = Provider::start(&[&key]).await;
    let world = World::new();
    let edge = edge_of(&world, config(&provider)).await;
    let token = key.sign(&json!({}), &claims(&provider));
    let reply = list(&edge, &token).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.json()["payments"][0]["metadata"]["tenant"], "acme");
    let poor = key.sign(&json!({}), &with(claims(&provider), "scope", json!("tax:read")));
    assert_eq!(code(&list(&edge, &poor).await), "SCOPE_MISSING");
    let ed25519 = Key::ed25519("b");
    provider.publish(&[&key, &ed25519]);
    assert_eq!(list(&edge, &ed25519.sign(&json!({}), &claims(&provider))).await.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn what_is_not_right_is_refused() {
    let (key, stranger) = (Key::es256("a"), Key::es256("a"));
    let provider = Provider::start(&[&key]).await;
    let world = World::new();
    let edge = edge_of(&world, config(&provider)).await;
    let usual = claims(&provider);
    let right = key.sign(&json!({}), &usual);
    assert_eq!(list(&edge, &right).await.status, StatusCode::OK);
    let unsigned = format!("{}.{}.", encode(r#"{"alg":"none","typ":"at+jwt"}"#), encode(usual.to_string()));
    // Signed by HMAC with what everybody knows: the public key.
    let hs256 = {
        let header = encode(r#"{"alg":"HS256","kid":"a","typ":"at+jwt"}"#);
        let signed = format!("{header}.{}", encode(usual.to_string()));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"public"), signed.as_bytes());
        format!("{signed}.{}", encode(tag.as_ref()))
    };
    let sign = |name, value| key.sign(&json!({}), &with(usual.clone(), name, value));
    for (told, token) in [
        ("algorithm", unsigned),
        ("algorithm", hs256),
        ("algorithm", key.sign(&json!({"alg": "EdDSA"}), &usual)),
        ("algorithm", key.sign(&json!({"alg": "RS256"}), &usual)),
        ("signature", stranger.sign(&json!({}), &usual)),
        ("extension", key.sign(&json!({"crit": ["b64"], "b64": false}), &usual)),
        ("typ", key.sign(&json!({"typ": "JWT"}), &usual)),
        ("issuer", sign("iss", json!("https://id.example.com"))),
        ("audience", sign("aud", json!("other"))),
        ("expired", sign("exp", json!(NOW - 30))),
        ("yet", sign("nbf", json!(NOW + 31))),
        ("tenant", sign("tenant", json!(null))),
        ("large", sign("padding", json!("x".repeat(9_000)))),
        ("JWT", "a.b.c".to_owned()),
    ] {
        let reply = list(&edge, &token).await;
        assert_eq!(reply.status, StatusCode::UNAUTHORIZED, "{told}: {}", reply.text());
        assert!(detail(&reply).contains(told), "{told}: {}", detail(&reply));
        assert!(reply.header("www-authenticate").unwrap().ends_with("error=\"invalid_token\""));
    }
    // Within the clocks' skew it is still right.
    assert_eq!(list(&edge, &sign("exp", json!(NOW - 29))).await.status, StatusCode::OK);
    world.clock.advance_seconds(400);
    assert!(detail(&list(&edge, &right).await).contains("expired"));
    edge.stop().await;
}

#[tokio::test]
async fn rotated_keys_are_found_and_removed_ones_are_forgotten() {
    let (old, young) = (Key::es256("old"), Key::ed25519("young"));
    let provider = Provider::start(&[&old]).await;
    let world = World::new();
    let edge = edge_of(&world, config(&provider)).await;
    let [before, after] = [&old, &young].map(|key| key.sign(&json!({}), &claims(&provider)));
    assert_eq!(list(&edge, &before).await.status, StatusCode::OK);
    assert_eq!(list(&edge, &after).await.status, StatusCode::UNAUTHORIZED);
    provider.publish(&[&young]);
    assert_eq!(list(&edge, &after).await.status, StatusCode::OK, "a miss has the keys fetched");
    assert_eq!(list(&edge, &before).await.status, StatusCode::UNAUTHORIZED);
    edge.stop().await;
}

#[tokio::test]
async fn unknown_keys_have_the_issuer_asked_once_per_interval_however_many_there_are() {
    let (key, other) = (Key::es256("a"), Key::es256("b"));
    let provider = Provider::start(&[&key]).await;
    let world = World::new();
    let edge = edge_of(&world, IssuerConfig { refetch_interval_s: 3_600, ..config(&provider) }).await;
    let right = key.sign(&json!({}), &claims(&provider));
    assert_eq!(list(&edge, &right).await.status, StatusCode::OK);
    let unknown = other.sign(&json!({}), &claims(&provider));
    let asked: Vec<_> = (0..20).map(|_| list(&edge, &unknown)).collect();
    let waiting = asked.into_iter().map(|asking| async { asking.await.status });
    for status in join_all(waiting).await {
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(provider.key_requests(), 1, "the first time, and not again within the interval");
    edge.stop().await;
}

/// Otherwise anybody who knows the issuer's name could keep its keys from being fetched, time and again.
#[tokio::test]
async fn who_goes_away_while_keys_are_fetched_does_not_stop_it() {
    let (key, other) = (Key::es256("a"), Key::es256("b"));
    let provider = Provider::start(&[&key]).await;
    let world = World::new();
    let edge = edge_of(&world, IssuerConfig { refetch_interval_s: 1, ..config(&provider) }).await;
    assert_eq!(list(&edge, &key.sign(&json!({}), &claims(&provider))).await.status, StatusCode::OK);
    provider.publish(&[&key, &other]);
    provider.hold_keys();
    let token = other.sign(&json!({}), &claims(&provider));
    let asking = async {
        loop {
            // Until the interval has passed it is refused; then its request waits for the keys.
            list(&edge, &token).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        () = asking => {}
        () = provider.asked() => {}
    }
    // The request is given up with its future. The edge has heard of it when it has answered these.
    for _ in 0..3 {
        assert_eq!(list(&edge, "sk_test").await.status, StatusCode::OK);
    }
    provider.let_keys_go();
    assert_eq!(list(&edge, &token).await.status, StatusCode::OK, "the keys were fetched all the same");
    edge.stop().await;
}

/// All at once.
async fn join_all<T>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, output) in futures.iter_mut().zip(&mut outputs) {
            if output.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(context)
            {
                *output = Some(value);
            }
        }
        if outputs.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    outputs.into_iter().map(Option::unwrap).collect()
}

#[tokio::test]
async fn an_issuer_that_is_down_is_no_outage_until_its_keys_are_too_old() {
    let key = Key::es256("a");
    let provider = Provider::start(&[&key]).await;
    let world = World::new();
    let token = key.sign(&json!({}), &claims(&provider));
    provider.go_down(true);
    let stale = IssuerConfig { refresh_s: 0, stale_max_s: 0, ..config(&provider) };
    let edge = edge_of(&world, stale).await;
    let reply = list(&edge, &token).await;
    assert_eq!((reply.status, reply.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("1")));
    assert_eq!(list(&edge, "sk_test").await.status, StatusCode::OK, "keys do not need it");
    edge.stop().await;
    provider.go_down(false);
    let edge = edge_of(&world, IssuerConfig { refresh_s: 0, ..config(&provider) }).await;
    assert_eq!(list(&edge, &token).await.status, StatusCode::OK);
    provider.go_down(true);
    let unknown = Key::es256("b").sign(&json!({}), &claims(&provider));
    assert_eq!(list(&edge, &unknown).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(list(&edge, &token).await.status, StatusCode::OK, "the keys in hand are still good");
    edge.stop().await;
}

#[tokio::test]
async fn a_discovery_document_leads_nowhere_else() {
    let key = Key::es256("a");
    let (provider, other) = (Provider::start(&[&key]).await, Provider::start(&[&key]).await);
    let world = World::new();
    let token = key.sign(&json!({}), &claims(&provider));
    let port = other.url().replace("127.0.0.1", "localhost");
    for change in [
        json!({"issuer": other.url()}),
        json!({"jwks_uri": format!("{port}/keys")}),
        json!({"jwks_uri": "http://169.254.169.254/latest"}),
        json!({"jwks_uri": "file:///etc/passwd"}),
        json!({"jwks_uri": null}),
    ] {
        provider.discover(change.clone());
        let edge = edge_of(&world, config(&provider)).await;
        assert_eq!(list(&edge, &token).await.status, StatusCode::SERVICE_UNAVAILABLE, "{change}");
        edge.stop().await;
    }
    assert_eq!((provider.key_requests(), other.key_requests()), (0, 0));
    // A host that the configuration names is asked.
    provider.discover(json!({"jwks_uri": format!("{port}/keys")}));
    let edge =
        edge_of(&world, IssuerConfig { jwks_host: Some("localhost".into()), ..config(&provider) }).await;
    assert_eq!(list(&edge, &token).await.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn an_issuer_is_believed_over_https_if_its_certificate_is_trusted() {
    let key = Key::es256("a");
    let (provider, certificate) = Provider::start_https(&[&key]).await;
    let (_, stranger) = Provider::start_https(&[&key]).await;
    let world = World::new();
    let token = key.sign(&json!({}), &claims(&provider));
    for (authorities, status) in [(certificate, StatusCode::OK), (stranger, StatusCode::SERVICE_UNAVAILABLE)]
    {
        let ca_file = world.path("authorities.pem");
        std::fs::write(&ca_file, authorities).unwrap();
        let edge = edge_of(&world, IssuerConfig { ca_file, ..config(&provider) }).await;
        assert_eq!(list(&edge, &token).await.status, status);
        edge.stop().await;
    }
}
