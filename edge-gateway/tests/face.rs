//! The edge as an HTTP server, whatever it is asked for: sizes, pages of other origins, conditional reads,
//! compression.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::io::Write as _;

use flate2::{Compression, write::GzEncoder};
use http::Method;
use serde_json::json;
use support::{Edge, KEY};

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
