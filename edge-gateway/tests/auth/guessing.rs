//! What guessing costs.

use std::net::{IpAddr, Ipv4Addr};

use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

use super::*;

fn throttle() -> ThrottleConfig {
    ThrottleConfig { failures_free: 3, delay_s: 4, delay_max_s: 60, half_life_s: 1_000, entries_max: 1_000 }
}

/// Asks from another address of the loopback.
async fn list_from(edge: &Edge, address: Ipv4Addr, credential: &str) -> StatusCode {
    let mut connector = HttpConnector::new();
    connector.set_local_address(Some(IpAddr::V4(address)));
    let client = Client::builder(TokioExecutor::new()).build(connector);
    let request = Request::get(format!("http://{}/v1/payments", edge.address()))
        .header("authorization", format!("Bearer {credential}"))
        .body(Empty::<bytes::Bytes>::new());
    client.request(request.unwrap()).await.unwrap().status()
}

async fn metrics(edge: &Edge) -> String {
    let client = Client::builder(TokioExecutor::new()).build_http();
    let request =
        Request::get(format!("http://{}/metrics", edge.admin_address())).body(Empty::<bytes::Bytes>::new());
    let body = client.request(request.unwrap()).await.unwrap().into_body().collect().await.unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

#[tokio::test]
async fn an_address_that_guesses_is_refused_for_longer_each_time_and_no_other_is() {
    let mut world = World::new();
    let fresh = world.create(&["*"], |_| {});
    let guess = world.create(&["*"], |_| {}).key;
    world.file = KeyFile::parse(&world.file.to_text().unwrap()).unwrap();
    // A guess at the secret of a key that exists: a key that was replaced without an overlap.
    world.file.rotate(&guess[4..20], 0, &world.pepper(), world.clock.now()).unwrap();
    world.write();
    let edge = world.edge(|auth| auth.throttle = throttle()).await;
    for _ in 0..3 {
        assert_eq!(list(&edge, &guess).await.status, StatusCode::UNAUTHORIZED);
    }
    let reply = list(&edge, &guess).await;
    assert_eq!((reply.status, code(&reply)), (StatusCode::TOO_MANY_REQUESTS, "TOO_MANY_ATTEMPTS".into()));
    assert_eq!(reply.header("retry-after"), Some("4"));
    // From there nothing is looked at, and from elsewhere everything is as it was, for this key too.
    assert_eq!(list(&edge, &fresh.key).await.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(list_from(&edge, Ipv4Addr::new(127, 0, 0, 2), &fresh.key).await, StatusCode::OK);
    world.clock.advance_seconds(4);
    assert_eq!(list(&edge, &fresh.key).await.status, StatusCode::OK);
    assert_eq!(list(&edge, &guess).await.header("retry-after"), Some("8"));
    let text = metrics(&edge).await;
    let count = |start: &str, label: &str| {
        let line = text.lines().find(|line| line.starts_with(start) && line.contains(label));
        line.and_then(|line| line.rsplit_once(' ')).map(|(_, value)| value.to_owned())
    };
    assert_eq!(
        count("paymesh_edge_auth_failures_total", "reason=\"unknown\"").as_deref(),
        Some("5"),
        "{text}"
    );
    assert_eq!(count("paymesh_edge_auth_throttled_total", "").as_deref(), Some("1"));
    edge.stop().await;
}

#[tokio::test]
async fn many_addresses_that_guess_at_one_key_do_not_lock_its_holder_out() {
    let mut world = World::new();
    let old = world.create(&["*"], |_| {});
    let young = world.file.rotate(&old.record.id, 0, &world.pepper(), world.clock.now()).unwrap();
    world.write();
    let edge = world.edge(|auth| auth.throttle = throttle()).await;
    let mut answers = Vec::new();
    for last in 2..8 {
        answers.push(list_from(&edge, Ipv4Addr::new(127, 0, 0, last), &old.key).await.as_u16());
    }
    assert_eq!(answers, [401, 401, 401, 429, 429, 429], "wrong answers become costlier");
    assert_eq!(list(&edge, &young.key).await.status, StatusCode::OK, "from an address that was never seen");
    assert_eq!(list_from(&edge, Ipv4Addr::new(127, 0, 0, 7), &young.key).await, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn who_comes_without_a_credential_or_with_an_expired_one_is_no_guesser() {
    let mut world = World::new();
    let fresh = world.create(&["*"], |_| {});
    world.file.revoke(&fresh.record.id, mesh::Clock::now(&*world.clock)).unwrap();
    world.write();
    let edge = world.edge(|auth| auth.throttle = throttle()).await;
    for _ in 0..8 {
        assert_eq!(list(&edge, &fresh.key).await.status, StatusCode::UNAUTHORIZED);
        assert_eq!(
            edge.request(http::Method::GET, "/v1/payments").send().await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(list(&edge, "sk_other").await.status, StatusCode::OK);
    edge.stop().await;
}
