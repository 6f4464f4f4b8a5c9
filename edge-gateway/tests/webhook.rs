//! Webhooks on their way in: the bytes as they were sent, the headers that may pass, and no credential.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use http::Method;
use serde_json::json;
use support::Edge;

#[tokio::test]
async fn the_bytes_arrive_exactly_and_no_credential_is_asked_for() {
    let edge = Edge::start().await;
    // No JSON, no UTF-8, and with white space that a parser would lose.
    let body = b"{ \"a\" : 1,\r\n\t\"b\":\xff\x00 }\n\n".to_vec();
    let reply = edge
        .request(Method::POST, "/v1/webhooks/simul%61tor")
        .header("content-type", "application/json; charset=utf-8")
        .header("webhook-id", "msg_1")
        .header("webhook-signature", "v1,a")
        .header("webhook-signature", "v1,b")
        .header("X-Processor-Thing", "Kept As It Is")
        // None of these is for svc-payments.
        .header("authorization", "Bearer sk_test")
        .header("cookie", "session=1")
        .header("x-forwarded-for", "10.0.0.1")
        .header("paymesh-tenant", "acme")
        .header("l5d-client-id", "svc-ledger")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        .body(body.clone())
        .await;
    assert_eq!((reply.status.as_u16(), reply.json()), (200, json!({})), "{}", reply.text());
    let (has_tenant, webhook) = edge.backend.webhook.lock().unwrap().take().unwrap();
    assert!(!has_tenant, "nobody is spoken for");
    let http_body = webhook.body.unwrap();
    assert_eq!(
        (http_body.data.to_vec(), http_body.content_type.as_str()),
        (body, "application/json; charset=utf-8")
    );
    assert_eq!(webhook.processor, "simulator");
    let headers: Vec<_> =
        webhook.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(
        headers,
        [
            ("content-type", "application/json; charset=utf-8"),
            ("webhook-id", "msg_1"),
            ("webhook-signature", "v1,a, v1,b"),
            ("x-processor-thing", "Kept As It Is"),
        ]
    );
    edge.stop().await;
}

#[tokio::test]
async fn the_answer_is_the_services_and_the_size_is_bounded() {
    let edge = Edge::start().await;
    let post = |path: &str| edge.request(Method::POST, path);
    let unknown = post("/v1/webhooks/unknown").body("{}").await;
    assert_eq!((unknown.status.as_u16(), &unknown.json()["code"]), (404, &json!("PROCESSOR_NOT_FOUND")));
    let unsigned = post("/v1/webhooks/unsigned").body("{}").await;
    assert_eq!(
        (unsigned.status.as_u16(), &unsigned.json()["code"]),
        (401, &json!("WEBHOOK_SIGNATURE_INVALID"))
    );
    assert!(unsigned.header("www-authenticate").is_some_and(|value| !value.contains("Bearer")));
    for (size, status) in [(0, 200), (256 * 1024, 200), (256 * 1024 + 1, 413)] {
        let reply = post("/v1/webhooks/simulator").body(vec![b'x'; size]).await;
        assert_eq!(reply.status.as_u16(), status, "{size}");
        let reply = post("/v1/webhooks/simulator").chunked(vec![b'x'; size]).await;
        assert_eq!(reply.status.as_u16(), status, "{size} in chunks");
    }
    // Only this RPC needs no credential; beside it everything does.
    for (method, path) in [
        (Method::GET, "/v1/webhooks/simulator"),
        (Method::POST, "/v1/webhooks"),
        (Method::POST, "/v1/webhooks/a/b"),
        (Method::POST, "/v1/payments"),
    ] {
        assert_eq!(edge.request(method, path).body("{}").await.status, 401, "{path}");
    }
    let mut many = post("/v1/webhooks/simulator");
    for number in 0..65 {
        many = many.header(&format!("x-{number}"), "1");
    }
    let many = many.body("{}").await;
    assert_eq!((many.status.as_u16(), &many.json()["errors"][0]["field"]), (400, &json!("headers")));
    edge.stop().await;
}
