//! How much a client may ask for, as it sees it; alone and shared through a real Redis, which
//! `cargo xtask test` starts.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{
    net::{IpAddr, UdpSocket},
    num::NonZeroU32,
    time::Instant,
};

use edge_gateway::{EdgeConfig, LimitsConfig, QuotaConfig, RedisConfig, WhenUnreachable};
use http::Method;
use mesh::testing::log::Lines;
use serde_json::json;
use support::{Edge, Reply};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

fn quota(requests: u32, window_s: u32) -> QuotaConfig {
    QuotaConfig { requests: NonZeroU32::new(requests).unwrap(), window_s: NonZeroU32::new(window_s).unwrap() }
}

async fn limited(limits: LimitsConfig) -> Edge {
    Edge::start_with(|edge| {
        edge.configure = Box::new(move |config: &mut EdgeConfig, _| config.limits = limits);
    })
    .await
}

fn code(reply: &Reply) -> (u16, String) {
    (reply.status.as_u16(), reply.json()["code"].as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn answers_say_what_is_left_and_refusals_when_to_come_back() {
    let edge = limited(LimitsConfig {
        tenant: Some(quota(100, 60)),
        credential: Some(quota(2, 3_600)),
        ..LimitsConfig::default()
    })
    .await;
    let first = edge.get("/v1/payments").send().await;
    assert_eq!(first.status, 200);
    assert_eq!(first.header("ratelimit-policy"), Some(r#""tenant";q=100;w=60, "credential";q=2;w=3600"#));
    assert_eq!(first.header("ratelimit"), Some(r#""tenant";r=99;t=1, "credential";r=1;t=1800"#));
    edge.get("/v1/payments").send().await;
    let refused = edge.get("/v1/payments").send().await;
    assert_eq!(code(&refused), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(refused.header("content-type"), Some("application/problem+json"));
    let wait: u32 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1_700..=1_800).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").unwrap().ends_with(&format!(r#""credential";r=0;t={wait}"#)));
    let other = edge.request(Method::GET, "/v1/payments").header("authorization", "Bearer sk_other");
    assert_eq!(other.send().await.status, 200);
    assert_eq!(edge.request(Method::GET, "/healthz").send().await.header("ratelimit"), None);
    edge.stop().await;
}

#[tokio::test]
async fn an_address_is_limited_whoever_it_says_it_is() {
    let edge = limited(LimitsConfig {
        address: Some(quota(2, 3_600)),
        trusted_proxies: vec!["127.0.0.0/8".to_owned()],
        ..LimitsConfig::default()
    })
    .await;
    let from = |forwarded: &'static str| {
        edge.request(Method::GET, "/v1/payments").header("x-forwarded-for", forwarded).send()
    };
    for _ in 0..2 {
        assert_eq!(from("203.0.113.1").await.status, 401, "without a key, and counted");
    }
    // What a client puts in front of what the proxy adds makes no other client of it.
    assert_eq!(code(&from("198.51.100.7, 203.0.113.1").await), (429, "RATE_LIMITED".to_owned()));
    assert_eq!(from("203.0.113.2").await.status, 401);
    edge.stop().await;
}

/// Somebody who shows no credential, and does not send what it promises.
/// As everybody does behind a Linkerd proxy, which connects from the pod's own address.
#[tokio::test]
async fn clients_that_cannot_be_told_apart_leave_one_line_in_the_log() {
    // Connecting a UDP socket sends nothing; it only chooses the source address. TEST-NET-1, RFC 5737.
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    socket.connect("192.0.2.1:9").expect("this machine has no route, so no address of its own");
    let own = socket.local_addr().unwrap().ip();
    let loopback = IpAddr::from([127, 0, 0, 1]);
    for (address, trusted, lines) in
        [(own, vec![], 1), (own, vec![format!("{own}/32")], 0), (loopback, vec![], 0)]
    {
        let (log, _guard) = Lines::of_this_thread();
        let listener = mesh::server::bind((address, 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        let edge = Edge::start_with(|edge| {
            edge.configure = Box::new(move |config: &mut EdgeConfig, _| {
                config.listener = Some(listener);
                config.limits.trusted_proxies = trusted;
            });
        })
        .await;
        for _ in 0..3 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 404"), "{answer:?}");
        }
        let told = log.read().iter().filter(|line| line.contains("cannot be told apart")).count();
        assert_eq!(told, lines, "{address}");
        edge.stop().await;
    }
}

async fn dawdle(edge: &Edge) -> tokio::net::TcpStream {
    use tokio::io::AsyncWriteExt as _;
    let mut stream = edge.connect().await;
    let head = b"POST /v1/webhooks/simulator HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n";
    stream.write_all(head).await.unwrap();
    stream
}

#[tokio::test]
async fn strangers_of_one_address_cannot_take_all_places() {
    let edge = limited(LimitsConfig { address_in_flight_max: 1, ..LimitsConfig::default() }).await;
    let first = dawdle(&edge).await;
    // Bounded polling: the first one is being waited for.
    let full = async {
        while edge.get("/v1/payments").send().await.status != 429 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), full).await.expect("its place is taken");
    let refused = edge.get("/v1/payments").send().await;
    assert_eq!((code(&refused), refused.header("retry-after")), ((429, "OVERLOADED".to_owned()), Some("1")));
    assert_eq!(edge.request(Method::GET, "/healthz").send().await.status, 200, "probes need none");
    drop(first);
    let free = async {
        while edge.get("/v1/payments").send().await.status != 200 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(5), free).await.expect("its place is free again");
    edge.stop().await;
}

/// Who is known holds a place of its tenant's, and none of its address's.
#[tokio::test]
async fn who_is_known_takes_no_place_of_its_address() {
    let edge = limited(LimitsConfig { address_in_flight_max: 1, ..LimitsConfig::default() }).await;
    let waits =
        json!({"amount": 1, "currency": "EUR", "payment_method": {"token": "t"}, "reference": "wait"});
    let request = edge.post("/v1/payments").header("idempotency-key", "k");
    let under_way = tokio::spawn(async move { request.json(&waits).await });
    edge.backend.arrived.notified().await;
    assert_eq!(edge.get("/v1/payments").send().await.status, 200);
    edge.backend.go_on.notify_one();
    assert_eq!(under_way.await.unwrap().status, 200);
    edge.stop().await;
}

#[tokio::test]
async fn a_tenant_cannot_take_all_places_and_is_told_at_once() {
    let edge = limited(LimitsConfig { tenant_in_flight_max: 1, ..LimitsConfig::default() }).await;
    let waits =
        json!({"amount": 1, "currency": "EUR", "payment_method": {"token": "t"}, "reference": "wait"});
    let request = edge.post("/v1/payments").header("idempotency-key", "k");
    let under_way = tokio::spawn(async move { request.json(&waits).await });
    edge.backend.arrived.notified().await;
    let began = Instant::now();
    let shed = edge.get("/v1/payments").send().await;
    assert_eq!(code(&shed), (429, "OVERLOADED".to_owned()));
    assert_eq!(shed.header("retry-after"), Some("1"));
    assert!(began.elapsed().as_millis() < 500, "{:?}", began.elapsed());
    let other = edge.request(Method::GET, "/v1/payments").header("authorization", "Bearer sk_other");
    assert_eq!(other.send().await.status, 200, "another tenant has its own");
    edge.backend.go_on.notify_one();
    assert_eq!(under_way.await.unwrap().status, 200);
    assert_eq!(edge.get("/v1/payments").send().await.status, 200);
    edge.stop().await;
}

fn redis_url() -> String {
    std::env::var("PAYMESH_TEST_REDIS_URL").expect("PAYMESH_TEST_REDIS_URL: run `cargo xtask test`")
}

/// Limits shared under a prefix of this test's own.
fn shared(
    dir: &std::path::Path,
    url: &str,
    requests: u32,
    when_unreachable: WhenUnreachable,
) -> LimitsConfig {
    let url_file = dir.join("url");
    // Of TLS, its CA's file comes behind the URL.
    let (url, ca_file) = url.split_once('#').map_or((url, None), |(url, ca)| (url, Some(ca.into())));
    std::fs::write(&url_file, format!("{url}\n")).unwrap();
    let redis = RedisConfig {
        url_file,
        ca_file,
        timeout_ms: 2_000,
        key_prefix: format!("paymesh:test:{}:", dir.display()),
        when_unreachable,
    };
    LimitsConfig {
        tenant: Some(quota(1_000, 3_600)),
        credential: Some(quota(requests, 3_600)),
        redis: Some(redis),
        ..LimitsConfig::default()
    }
}

#[tokio::test]
async fn edges_share_their_limits_and_forget_nothing_with_the_script() {
    let dir = tempfile::tempdir().unwrap();
    let limits = shared(dir.path(), &redis_url(), 6, WhenUnreachable::Refuse);
    let (one, other) = (limited(limits.clone()).await, limited(limits).await);
    let mut remaining = Vec::new();
    for edge in [&one, &other, &one, &other] {
        let reply = edge.get("/v1/payments").send().await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        remaining.push(reply.header("ratelimit").unwrap().split(";r=").nth(2).unwrap()[..1].to_owned());
    }
    assert_eq!(remaining, ["5", "4", "3", "2"], "one bucket for both");
    // A Redis that was restarted, or failed over, does not have the script any more.
    let client = redis::Client::open(redis_url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut connection).await.unwrap();
    assert_eq!(other.get("/v1/payments").send().await.status, 200);
    assert_eq!(one.get("/v1/payments").send().await.status, 200);
    for edge in [&one, &other] {
        let refused = edge.get("/v1/payments").send().await;
        assert_eq!(code(&refused), (429, "RATE_LIMITED".to_owned()));
        assert!(
            refused.header("ratelimit").unwrap().contains(r#""tenant";r=994"#),
            "a refusal costs nothing"
        );
    }
    one.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn redis_is_spoken_to_over_tls_and_only_with_the_ca_that_is_configured() {
    let url = std::env::var("PAYMESH_TEST_REDIS_TLS_URL");
    let url = url.expect("PAYMESH_TEST_REDIS_TLS_URL: run `cargo xtask test`");
    let dir = tempfile::tempdir().unwrap();
    let limits = shared(dir.path(), &url, 2, WhenUnreachable::Refuse);
    let (one, other) = (limited(limits.clone()).await, limited(limits.clone()).await);
    for (edge, status) in [(&one, 200), (&other, 200), (&one, 429), (&other, 429)] {
        let reply = edge.get("/v1/payments").send().await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    let mut redis = limits.redis.clone().unwrap();
    // Another CA, and those of the system.
    for ca_file in [Some(one.certificate("somebody").ca), None] {
        redis.ca_file = ca_file;
        let edge = limited(LimitsConfig { redis: Some(redis.clone()), ..limits.clone() }).await;
        assert_eq!(code(&edge.get("/v1/payments").send().await), (503, "UNAVAILABLE".to_owned()));
        edge.stop().await;
    }
    one.stop().await;
    other.stop().await;
    // Without TLS on our side there is nothing to talk about.
    let plain = url.replacen("rediss://", "redis://", 1);
    let edge =
        limited(shared(dir.path(), plain.split('#').next().unwrap(), 2, WhenUnreachable::Refuse)).await;
    assert_eq!(code(&edge.get("/v1/payments").send().await), (503, "UNAVAILABLE".to_owned()));
    edge.stop().await;
}

#[tokio::test]
async fn many_at_once_get_exactly_what_there_is() {
    let dir = tempfile::tempdir().unwrap();
    let edge = limited(shared(dir.path(), &redis_url(), 40, WhenUnreachable::Refuse)).await;
    let mut asking = tokio::task::JoinSet::new();
    for _ in 0..100 {
        asking.spawn(edge.get("/v1/payments").send());
    }
    let statuses: Vec<u16> = asking.join_all().await.iter().map(|reply| reply.status.as_u16()).collect();
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    assert_eq!((count(200), count(429)), (40, 60));
    edge.stop().await;
}

#[tokio::test]
async fn without_redis_each_edge_counts_alone_or_refuses_as_configured() {
    let dir = tempfile::tempdir().unwrap();
    // Port 1 of the loopback has no listener.
    let nowhere = "redis://127.0.0.1:1";
    let edge = limited(shared(dir.path(), nowhere, 2, WhenUnreachable::Local)).await;
    for status in [200, 200, 429] {
        assert_eq!(edge.get("/v1/payments").send().await.status, status);
    }
    edge.stop().await;
    let edge = limited(shared(dir.path(), nowhere, 2, WhenUnreachable::Refuse)).await;
    let refused = edge.get("/v1/payments").send().await;
    assert_eq!(code(&refused), (503, "UNAVAILABLE".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("1"));
    edge.stop().await;
}
