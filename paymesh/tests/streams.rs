//! What is more than one request and one answer, over the whole mesh: a watched payment, a webhook, and
//! the documentation page.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use mesh::Clock as _;
use serde_json::{Value, json};
use support::{Http, Mesh, SILENT, VISA, get, payment_body, post, token};
use webhooks::WebhookSecret;

const PATIENCE: Duration = Duration::from_secs(30);

struct Events {
    body: Incoming,
    read: String,
}

impl Events {
    async fn open(mesh: &Mesh, path: &str, last: Option<&str>) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
        let key = &mesh.dev.description().api_key;
        let mut request = Request::builder()
            .uri(format!("{}{path}", mesh.url()))
            .header("authorization", format!("Bearer {key}"))
            .header("accept", "text/event-stream");
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = client.request(request.body(Empty::new()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { body: answer.into_body(), read: String::new() }
    }

    /// The next event's id and data; nothing at the end.
    async fn next(&mut self) -> Option<(String, Value)> {
        loop {
            if let Some(at) = self.read.find("\n\n") {
                let rest = self.read.split_off(at + 2);
                let event = std::mem::replace(&mut self.read, rest);
                let (id, data) = event.strip_prefix("id: ")?.split_once("\ndata: ")?;
                return Some((id.to_owned(), serde_json::from_str(data).unwrap()));
            }
            let frame = tokio::time::timeout(PATIENCE, self.body.frame()).await.expect("goes on or ends")?;
            self.read.push_str(std::str::from_utf8(frame.unwrap().data_ref().unwrap()).unwrap());
        }
    }
}

#[tokio::test]
async fn a_payment_is_watched_from_its_creation_to_its_refund() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let token = token(&rest, VISA).await;
    let payment = post(&rest, "/v1/payments", "k", &payment_body(&token, 1_000, "EUR", "MANUAL")).await;
    let id = payment["id"].as_str().unwrap();
    let path = format!("/v1/payments/{id}/events:watch");
    let mut events = Events::open(&mesh, &path, None).await;
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(events.next().await.unwrap());
    }
    post(&rest, &format!("/v1/payments/{id}/capture"), "c", &json!({})).await;
    post(&rest, &format!("/v1/payments/{id}/refunds"), "r", &json!({"amount": 300})).await;
    let listed = get(&rest, &format!("/v1/payments/{id}/events")).await;
    let listed = listed["events"].as_array().unwrap();
    while seen.len() < listed.len() {
        seen.push(events.next().await.unwrap());
    }
    let data: Vec<&Value> = seen.iter().map(|(_, data)| data).collect();
    assert_eq!(data, listed.iter().collect::<Vec<_>>(), "as they are listed");
    let ids: Vec<String> = seen.iter().map(|(id, _)| id.clone()).collect();
    assert_eq!(ids, (1..=listed.len()).map(|number| number.to_string()).collect::<Vec<_>>());
    // Another one takes it up after the third.
    let mut resumed = Events::open(&mesh, &path, Some("3")).await;
    assert_eq!(resumed.next().await.as_ref(), seen.get(3));
    let missing = rest.get("/v1/payments/pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b/events:watch").await.unwrap();
    assert_eq!((missing.status, &missing.body["code"]), (404, &json!("PAYMENT_NOT_FOUND")));
    let stop = async { mesh.dev.stop().await };
    let ends = async { while events.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, async { tokio::join!(stop, ends) })
        .await
        .expect("a stream holds nobody up");
}

#[tokio::test]
async fn a_webhook_goes_from_the_edge_to_the_processors_check() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let token = token(&rest, SILENT).await;
    let payment = post(&rest, "/v1/payments", "k", &payment_body(&token, 1_000, "EUR", "AUTOMATIC")).await;
    assert_eq!(payment["status"], "UNKNOWN");
    let secret = mesh.dir.path().join("svc-payments/simulator-webhook-secret");
    let secret = WebhookSecret::read(&secret).unwrap();
    let body = format!(
        "{{ \"type\": \"x\",\n  \"data\": {{\"reference\": \"{}_1\"}} }}\n",
        payment["id"].as_str().unwrap()
    );
    let time = mesh::SystemClock.now().as_seconds().to_string();
    let signature = secret.sign("msg_1", &time, body.as_bytes());
    let send = async |path: &str, signature: &str, body: &str| {
        let headers = [
            ("webhook-id", "msg_1"),
            ("webhook-timestamp", time.as_str()),
            ("webhook-signature", signature),
            ("content-type", "application/json"),
        ];
        let url = format!("{}/v1/webhooks/{path}", mesh.url());
        Http::new().send(Method::POST, &url, &headers, body.to_owned()).await.unwrap()
    };
    let taken = send("simulator", &signature, &body).await;
    assert_eq!((taken.status, taken.body), (200, json!({})));
    for (path, signature, body, status, code) in [
        ("simulator", "v1,AAAA", body.as_str(), 401, "WEBHOOK_SIGNATURE_INVALID"),
        // One white space less is another message.
        ("simulator", &signature, body.trim_end(), 401, "WEBHOOK_SIGNATURE_INVALID"),
        ("nobody", &signature, &body, 404, "PROCESSOR_NOT_FOUND"),
    ] {
        let refused = send(path, signature, body).await;
        assert_eq!((refused.status, &refused.body["code"]), (status, &json!(code)));
    }
    mesh.dev.stop().await;
}

#[tokio::test]
async fn the_documentation_needs_no_key_and_nobody_else() {
    let mesh = Mesh::start().await;
    for (path, kind) in [
        ("/docs", "text/html; charset=utf-8"),
        ("/docs/app.js", "text/javascript; charset=utf-8"),
        ("/docs/style.css", "text/css; charset=utf-8"),
    ] {
        let url = format!("{}{path}", mesh.url());
        let answer = Http::new().send(Method::GET, &url, &[], "").await.unwrap();
        assert_eq!((answer.status, answer.headers["content-type"].to_str().unwrap()), (200, kind));
        assert!(
            answer.headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'")
        );
        let post = Http::new().send(Method::POST, &url, &[], "").await.unwrap();
        assert_eq!(post.status, 405);
    }
    mesh.dev.stop().await;
}
