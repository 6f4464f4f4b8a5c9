//! The edge as its clients see it: HTTP in, and behind it a stand-in for svc-payments that is reached
//! over the real mTLS stack and tells what it was called with.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

mod support;

use http::{Method, StatusCode};
use serde_json::{Value, json};
use support::{Edge, KEY, Reply};

fn payment() -> Value {
    json!({"amount": 1050, "currency": "EUR", "payment_method": {"token": "tok_1"}, "reference": "INV-1"})
}

fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    let body = reply.json();
    assert_eq!((&body["code"], &body["status"]), (&json!(code), &json!(status)), "{body}");
    let slug = code.to_ascii_lowercase().replace('_', "-");
    assert_eq!(body["type"], json!(format!("/problems/{slug}")));
    assert_eq!(body["request_id"].as_str(), reply.header("x-request-id"));
    for member in ["title", "detail"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member}");
    }
}

fn fields(reply: &Reply) -> Vec<String> {
    let body = reply.json();
    let errors = body["errors"].as_array().unwrap();
    errors.iter().map(|error| error["field"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_payment_goes_through_with_what_belongs_to_it() {
    let edge = Edge::start().await;
    let reply = edge
        .post("/v1/payments")
        .header("idempotency-key", "key-1")
        .header("x-request-id", "req-77")
        .header("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
        // None of these may reach the mesh.
        .header("paymesh-tenant", "globex")
        .header("x-paymesh-tenant", "globex")
        .header("l5d-client-id", "svc-payments")
        .json(&payment())
        .await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(reply.header("x-request-id"), Some("req-77"));
    assert_eq!(reply.header("idempotency-replayed"), None);
    let body = reply.json();
    assert_eq!((&body["amount"], &body["amount_refunded"]), (&json!(1050), &json!(0)));
    assert_eq!(
        (&body["status"], &body["created_at"]),
        (&json!("AUTHORIZED"), &json!("2026-01-31T12:00:00Z"))
    );
    assert_eq!(body.get("failure"), None);
    let seen = &body["metadata"];
    assert_eq!(seen["tenant"], json!("acme"));
    assert_eq!(seen["peer"], json!("edge-gateway"));
    assert_eq!(seen["request_id"], json!("req-77"));
    assert_eq!(seen["idempotency_key"], json!("key-1"));
    assert_eq!(seen["trace_id"], json!("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(seen["has_deadline"], json!("true"));
    assert_eq!(seen["foreign"], json!(""), "metadata that nobody named");
    edge.stop().await;
}

#[tokio::test]
async fn faults_of_services_become_problems() {
    let edge = Edge::start().await;
    let post = |reference: &'static str| {
        let mut body = payment();
        body["reference"] = json!(reference);
        let request = edge.post("/v1/payments").header("idempotency-key", "k");
        async move { request.json(&body).await }
    };
    let busy = post("busy").await;
    assert_problem(&busy, 409, "IDEMPOTENCY_IN_PROGRESS");
    assert_eq!(busy.header("retry-after"), Some("2"));
    let invalid = post("invalid").await;
    assert_problem(&invalid, 400, "INVALID_REQUEST");
    assert_eq!(fields(&invalid), ["amount"]);
    assert_problem(&post("foreign").await, 503, "UNAVAILABLE");
    let replayed = post("replayed").await;
    assert_eq!((replayed.status.as_u16(), replayed.header("idempotency-replayed")), (200, Some("true")));
    assert_problem(&edge.get("/v1/payments/pay_none").send().await, 404, "PAYMENT_NOT_FOUND");
    assert_problem(&edge.get("/v1/tokens/tok_1").send().await, 503, "UNAVAILABLE");
    edge.stop().await;
}

#[tokio::test]
async fn without_a_known_key_nothing_is_told() {
    let edge = Edge::start().await;
    for (path, authorization) in [
        ("/v1/payments", None),
        ("/v1/payments", Some("Bearer wrong")),
        ("/v1/payments", Some("Basic c2tfdGVzdA==")),
        ("/v1/there-is-no-such-path", None),
    ] {
        let mut request = edge.request(Method::GET, path);
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let reply = request.send().await;
        assert_problem(&reply, 401, "UNAUTHENTICATED");
        assert!(reply.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")));
    }
    let other =
        edge.request(Method::GET, "/v1/payments").header("authorization", "Bearer sk_other").send().await;
    assert_eq!(other.json()["payments"][0]["metadata"]["tenant"], json!("globex"));
    edge.stop().await;
}

#[tokio::test]
async fn paths_and_methods_that_are_not() {
    let edge = Edge::start().await;
    assert_problem(&edge.get("/v1/nothing").send().await, 404, "ROUTE_NOT_FOUND");
    assert_problem(&edge.get("/v1/payments/").send().await, 404, "ROUTE_NOT_FOUND");
    assert_problem(&edge.request(Method::GET, "/").send().await, 404, "ROUTE_NOT_FOUND");
    let reply = edge.request(Method::DELETE, "/v1/payments").header("authorization", KEY).send().await;
    assert_problem(&reply, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(reply.header("allow"), Some("GET, POST, HEAD"));
    let reply = edge.request(Method::POST, "/healthz").send().await;
    assert_problem(&reply, 405, "METHOD_NOT_ALLOWED");
    assert_eq!(reply.header("allow"), Some("GET, HEAD"));
    edge.stop().await;
}

#[tokio::test]
async fn bad_bodies_are_refused_by_name_and_not_quoted() {
    let edge = Edge::start().await;
    let canary = "4242424242424242";
    let cases: &[(&str, u16, &str, &[&str])] = &[
        (
            r#"{"amount":10.5,"currency":"EUR","payment_method":{"token":"t"}}"#,
            400,
            "INVALID_REQUEST",
            &["amount"],
        ),
        (
            r#"{"amount":"12x4242424242424242","currency":"EUR","payment_method":{"token":"t"}}"#,
            400,
            "INVALID_REQUEST",
            &["amount"],
        ),
        (
            r#"{"amount":99999999999999999999,"currency":"EUR","payment_method":{"token":"t"}}"#,
            400,
            "INVALID_REQUEST",
            &["amount"],
        ),
        (
            r#"{"amount":1,"currency":4242424242424242,"payment_method":{"token":"t"}}"#,
            400,
            "INVALID_REQUEST",
            &["currency"],
        ),
        (
            r#"{"amuont":1,"currency":"EUR","payment_method":{"token":"t"}}"#,
            400,
            "INVALID_REQUEST",
            &["amuont", "amount"],
        ),
        (
            r#"{"amount":1,"amount":2,"currency":"EUR","payment_method":{"token":"t"}}"#,
            400,
            "INVALID_REQUEST",
            &["amount"],
        ),
        (
            r#"{"amount":1,"currency":"EUR","payment_method":{}}"#,
            400,
            "INVALID_REQUEST",
            &["payment_method.token"],
        ),
        (
            r#"{"amount":1,"currency":"EUR","payment_method":{"token":"t"},"capture_method":"NOW"}"#,
            400,
            "INVALID_REQUEST",
            &["capture_method"],
        ),
        (
            r#"{"amount":1,"currency":"EUR","payment_method":{"token":"t"},"tax":{"lines":[{"amount":1},{"amount":"x"}]}}"#,
            400,
            "INVALID_REQUEST",
            &["tax.lines[1].amount"],
        ),
        ("{}", 400, "INVALID_REQUEST", &["amount", "currency", "payment_method"]),
        ("", 400, "INVALID_REQUEST", &["amount", "currency", "payment_method"]),
        (r#"{"number":4242424242424242x}"#, 400, "BODY_MALFORMED", &["body"]),
        ("4242424242424242", 400, "INVALID_REQUEST", &["body"]),
        ("{} 4242424242424242", 400, "BODY_MALFORMED", &["body"]),
    ];
    for (body, status, code, expected) in cases {
        let reply = edge.post("/v1/payments").header("idempotency-key", "k").body((*body).to_owned()).await;
        assert_problem(&reply, *status, code);
        assert_eq!(fields(&reply), *expected, "{body}");
        assert!(!reply.text().contains(canary), "{}", reply.text());
    }
    let not_utf8 =
        edge.post("/v1/payments").header("idempotency-key", "k").body(b"{\"\xff\":1}".to_vec()).await;
    assert_problem(&not_utf8, 400, "BODY_MALFORMED");
    let form = edge
        .request(Method::POST, "/v1/payments")
        .header("authorization", KEY)
        .header("idempotency-key", "k")
        .header("content-type", "application/x-www-form-urlencoded")
        .body("amount=1".to_owned())
        .await;
    assert_problem(&form, 415, "UNSUPPORTED_MEDIA_TYPE");
    edge.stop().await;
}

#[tokio::test]
async fn a_post_that_moves_money_needs_a_key() {
    let edge = Edge::start().await;
    let missing = edge.post("/v1/payments").json(&payment()).await;
    assert_problem(&missing, 400, "IDEMPOTENCY_KEY_REQUIRED");
    assert_eq!(fields(&missing), ["Idempotency-Key"]);
    for wrong in ["", "a b", &"x".repeat(256), "ключ"] {
        let reply = edge.post("/v1/payments").header("idempotency-key", wrong).json(&payment()).await;
        assert_problem(&reply, 400, "IDEMPOTENCY_KEY_INVALID");
        assert_eq!(fields(&reply), ["Idempotency-Key"]);
    }
    let longest = "x".repeat(255);
    let reply = edge.post("/v1/payments").header("idempotency-key", &longest).json(&payment()).await;
    assert_eq!(reply.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_with_and_without_a_length() {
    let edge = Edge::start().await;
    let large = vec![b' '; 1024 * 1024 + 1];
    let reply = edge.post("/v1/payments").header("idempotency-key", "k").body(large.clone()).await;
    assert_problem(&reply, 413, "BODY_TOO_LARGE");
    let reply = edge.post("/v1/payments").header("idempotency-key", "k").chunked(large).await;
    assert_problem(&reply, 413, "BODY_TOO_LARGE");
    let mut fits = serde_json::to_vec(&payment()).unwrap();
    fits.resize(1024 * 1024, b' ');
    let reply = edge.post("/v1/payments").header("idempotency-key", "k").chunked(fits).await;
    assert_eq!(reply.status, StatusCode::OK);
    edge.stop().await;
}

#[tokio::test]
async fn query_parameters_and_lists() {
    let edge = Edge::start().await;
    let reply = edge.get("/v1/payments?page_size=2&status=CAPTURED&reference=a%20b").send().await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let body = reply.json();
    assert_eq!(body["next_page_token"], json!(""));
    assert_eq!(body["payments"][0]["reference"], json!("2/CAPTURED/a b"));
    let wrong = edge.get("/v1/payments?page_size=two&colour=red").send().await;
    assert_problem(&wrong, 400, "INVALID_REQUEST");
    assert_eq!(fields(&wrong), ["page_size", "colour"]);
    let body_on_get = edge.get("/v1/payments").body("{}".to_owned()).await;
    assert_problem(&body_on_get, 400, "BODY_MALFORMED");
    edge.stop().await;
}

#[tokio::test]
async fn documents_need_no_key() {
    let edge = Edge::start().await;
    let health = edge.request(Method::GET, "/healthz").send().await;
    assert_eq!((health.status, health.text().as_str()), (StatusCode::OK, "alive\n"));
    let openapi = edge.request(Method::GET, "/openapi.json").send().await;
    assert_eq!(openapi.json()["openapi"], json!("3.1.0"));
    let page = edge.request(Method::GET, "/problems/idempotency-key-reused").send().await;
    assert!(page.text().contains("IDEMPOTENCY_KEY_REUSED"));
    assert_problem(&edge.request(Method::GET, "/problems/none").send().await, 404, "ROUTE_NOT_FOUND");
    let ready = edge.request(Method::GET, "/readyz").send().await;
    assert_eq!(ready.status, StatusCode::SERVICE_UNAVAILABLE);
    let missing: Vec<Value> =
        ready.json()["not_serving"].as_array().unwrap().iter().map(|one| one["service"].clone()).collect();
    assert_eq!(missing, ["svc-crypto", "svc-ledger", "svc-tax"], "the stand-in svc-payments is ready");
    edge.stop().await;
}

#[tokio::test]
async fn ready_once_every_service_serves() {
    let edge = Edge::start_with(|edge| edge.all_services = true).await;
    let ready = edge.request(Method::GET, "/readyz").send().await;
    assert_eq!((ready.status, ready.json()), (StatusCode::OK, json!({"status": "ready", "not_serving": []})));
    edge.stop().await;
}

#[tokio::test]
async fn head_is_get_without_a_body_and_request_ids_are_made_when_unfit() {
    let edge = Edge::start().await;
    let reply = edge.request(Method::HEAD, "/v1/payments").header("authorization", KEY).send().await;
    assert_eq!((reply.status, reply.text().as_str()), (StatusCode::OK, ""));
    assert!(reply.header("content-length").is_some_and(|length| length != "0"));
    let unfit = edge.get("/v1/payments").header("x-request-id", "a b<script>").send().await;
    let id = unfit.header("x-request-id").unwrap();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    edge.stop().await;
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_a_504() {
    let edge = Edge::start_with(|edge| edge.request_timeout_ms = 50).await;
    let mut body = payment();
    body["reference"] = json!("never");
    let reply = edge.post("/v1/payments").header("idempotency-key", "k").json(&body).await;
    assert_problem(&reply, 504, "DEADLINE_EXCEEDED");
    edge.stop().await;
}

#[tokio::test]
async fn http2_works_as_http1_does() {
    let edge = Edge::start_with(|edge| edge.http2 = true).await;
    let reply = edge.post("/v1/payments").header("idempotency-key", "k").json(&payment()).await;
    assert_eq!((reply.status, &reply.json()["amount"]), (StatusCode::OK, &json!(1050)));
    edge.stop().await;
}

#[tokio::test]
async fn draining_finishes_what_was_begun() {
    let edge = Edge::start().await;
    let mut body = payment();
    body["reference"] = json!("wait");
    let request = edge.post("/v1/payments").header("idempotency-key", "k");
    let under_way = tokio::spawn(async move { request.json(&body).await });
    edge.backend.arrived.notified().await;
    let backend = std::sync::Arc::clone(&edge.backend);
    // The first is polled first: the drain has begun when the stand-in goes on.
    let ((), reply) = tokio::join!(edge.stop(), async {
        backend.go_on.notify_one();
        under_way.await.unwrap()
    });
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
}

/// Nothing, the beginning of HTTP/1.1 and the beginning of HTTP/2: whoever asks for nothing is sent away,
/// and then there is a place for others again.
#[tokio::test]
async fn silent_connections_do_not_keep_others_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let edge = Edge::start_with(|edge| {
        edge.header_timeout_ms = 100;
        edge.connections_max = 3;
    })
    .await;
    let mut silent = Vec::new();
    for beginning in ["", "GET /hea", "PRI * HTTP/2"] {
        let mut connection = edge.connect().await;
        connection.write_all(beginning.as_bytes()).await.unwrap();
        silent.push(connection);
    }
    // Every place is taken: this waits until one of them is free again.
    assert_eq!(edge.get("/healthz").send().await.status, StatusCode::OK);
    for mut connection in silent {
        // Closed by the edge, with or without a word.
        let mut said = Vec::new();
        let _ = connection.read_to_end(&mut said).await;
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_silent_connection_does_not_hold_up_the_drain() {
    let edge = Edge::start().await;
    let silent = edge.connect().await;
    // The drain's own deadline is far away: without the guard this would not end in the test's patience.
    tokio::time::timeout(std::time::Duration::from_secs(5), edge.stop()).await.unwrap();
    drop(silent);
}
