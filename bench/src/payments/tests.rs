//! The load generator against an edge that answers as told, so that what it counts can be known.

use std::collections::BTreeSet;
use std::convert::Infallible;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::*;

/// What the edge was asked.
#[derive(Debug, Default)]
struct Asked {
    keys: BTreeSet<String>,
    payments: Vec<Value>,
    unauthorized: u64,
}

type Script = fn(u64) -> (u16, Value);

async fn edge(script: Script) -> (Edge, Arc<Mutex<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::new(Mutex::new(Asked::default()));
    let shared = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let asked = Arc::clone(&shared);
            let service = service_fn(move |request| answer(request, Arc::clone(&asked), script));
            tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    });
    (Edge::new(&url, "sk_test").unwrap(), asked)
}

async fn answer(
    request: Request<Incoming>,
    asked: Arc<Mutex<Asked>>,
    script: Script,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body: Value = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    let mut asked = asked.lock().unwrap();
    if head.headers.get("authorization").is_none_or(|value| value != "Bearer sk_test") {
        asked.unauthorized += 1;
    }
    asked.keys.insert(head.headers["idempotency-key"].to_str().unwrap().to_owned());
    let (status, answer) = if head.uri.path() == "/v1/tokens" {
        (201, json!({"id": format!("tok_{}", body["card"]["number"].as_str().unwrap())}))
    } else {
        asked.payments.push(body);
        script(asked.payments.len() as u64)
    };
    let mut response = Response::new(Full::from(answer.to_string()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap();
    Ok(response)
}

fn plan(count: u64, pace: Pace) -> Plan {
    Plan { capture: Capture::Automatic, bound: Bound::Count(count), pace, connections: 8 }
}

fn captured(_: u64) -> (u16, Value) {
    (201, json!({"id": "pay_1", "status": "CAPTURED", "amount": 100}))
}

#[tokio::test]
async fn every_payment_has_a_key_of_its_own_and_is_counted() {
    let (edge, asked) = edge(captured).await;
    let outcome = drive(&edge, plan(200, Pace::Closed)).await.unwrap();
    assert_eq!((outcome.all, outcome.figures.latencies_us.len()), (200, 200));
    assert_eq!(outcome.counted(), "200 x CAPTURED");
    assert!(outcome.verdict(Capture::Automatic).is_ok());

    let asked = asked.lock().unwrap();
    assert_eq!((asked.payments.len(), asked.unauthorized), (200, 0));
    assert_eq!(asked.keys.len(), 200 + 4, "four tokens, and no key twice");
    let tokens: BTreeSet<_> =
        asked.payments.iter().map(|payment| payment["payment_method"]["token"].to_string()).collect();
    assert_eq!(tokens.len(), 4);
    let references: BTreeSet<_> =
        asked.payments.iter().map(|payment| payment["reference"].to_string()).collect();
    assert_eq!(references.len(), 200);
}

#[tokio::test]
async fn the_open_model_sends_each_payment_once() {
    let (edge, asked) = edge(captured).await;
    let outcome = drive(&edge, plan(100, Pace::Open(10_000))).await.unwrap();
    assert_eq!((outcome.all, asked.lock().unwrap().payments.len()), (100, 100));
}

#[tokio::test]
async fn a_run_with_any_other_answer_fails_and_says_which() {
    let (edge, _) = edge(|number| match number {
        50 => (201, json!({"status": "FAILED", "failure": {"code": "CARD_DECLINED"}})),
        60 => (429, json!({"code": "RATE_LIMITED", "detail": "Slow down."})),
        _ => captured(number),
    })
    .await;
    let outcome = drive(&edge, plan(100, Pace::Closed)).await.unwrap();
    assert_eq!(outcome.all, 98);
    let error = outcome.verdict(Capture::Automatic).unwrap_err().to_string();
    assert!(
        error.contains("1 x FAILED (CARD_DECLINED)") && error.contains("1 x 429 RATE_LIMITED"),
        "{error}"
    );
}

#[tokio::test]
async fn a_run_of_failures_ends_early() {
    let (edge, asked) = edge(|_| (503, json!({"code": "UNAVAILABLE"}))).await;
    let error = drive(&edge, plan(1_000_000, Pace::Closed)).await.unwrap_err().to_string();
    assert!(error.contains("503 UNAVAILABLE"), "{error}");
    assert!(asked.lock().unwrap().payments.len() as u64 <= FAILURES_MAX + 16);
}

#[tokio::test]
async fn nothing_captured_is_no_success() {
    let (edge, _) = edge(|_| (201, json!({"status": "AUTHORIZED"}))).await;
    let outcome = drive(&edge, plan(10, Pace::Closed)).await.unwrap();
    assert!(outcome.verdict(Capture::Automatic).is_err());
}
