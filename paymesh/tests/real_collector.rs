//! A payment's traces, logs and metrics as a real OpenTelemetry collector understood them. It writes what
//! it received to a file; `cargo xtask test` starts it and says where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{collections::BTreeSet, time::Duration};

use http::Method;
use serde_json::{Value, json};
use support::{Http, id_of, ok, payment_body, process::Process};

const VARIABLE: &str = "PAYMESH_TEST_OTEL_COLLECTOR";
const CARD: &str = "4242424242424242";
const SERVICES: [&str; 4] = ["svc-payments", "svc-fraud", "svc-crypto", "svc-ledger"];

/// Every object below `value` that is an entry of a list of this name.
fn entries<'v>(value: &'v Value, list: &str, found: &mut Vec<&'v Value>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                if let (true, Some(items)) = (name == list, member.as_array()) {
                    found.extend(items);
                }
                entries(member, list, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| entries(item, list, found)),
        _ => {}
    }
}

fn attribute<'v>(entry: &'v Value, key: &str) -> Option<&'v str> {
    let attributes = entry["attributes"].as_array()?;
    let found = attributes.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str()
}

/// What the collector has written so far.
struct Received(Vec<Value>);

impl Received {
    fn read(file: &str) -> Self {
        let text = std::fs::read_to_string(file).unwrap();
        Self(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    fn all(&self, list: &str) -> Vec<&Value> {
        let mut found = Vec::new();
        self.0.iter().for_each(|line| entries(line, list, &mut found));
        found
    }

    /// The services that have a span in the trace.
    fn services_in(&self, trace: &str) -> BTreeSet<&str> {
        let spans = self.all("spans").into_iter().filter(|span| span["traceId"] == trace);
        spans.filter_map(|span| attribute(span, "service")).collect()
    }

    fn logs_in(&self, trace: &str) -> usize {
        self.all("logRecords").iter().filter(|log| log["traceId"] == trace).count()
    }

    /// The services that counted requests.
    fn counting(&self) -> BTreeSet<&str> {
        let metrics = self.all("metrics").into_iter().filter(|m| m["name"] == "rpc.server.requests");
        let points = metrics.filter_map(|metric| metric["sum"]["dataPoints"].as_array()).flatten();
        points.filter_map(|point| attribute(point, "paymesh.service")).collect()
    }

    fn is_complete(&self, trace: &str) -> bool {
        let (spans, counting) = (self.services_in(trace), self.counting());
        SERVICES.iter().all(|service| spans.contains(service) && counting.contains(service))
            && self.logs_in(trace) >= SERVICES.len()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_collector_understands_traces_logs_and_metrics() {
    let collector = std::env::var(VARIABLE).unwrap_or_else(|_| {
        panic!("{VARIABLE} is not set: run `cargo xtask test`, or `cargo xtask servers -- cargo test …`")
    });
    let (endpoint, file) = collector.split_once('#').unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, log) = (dir.path().join("data"), dir.path().join("log"));
    let key = "collector-key-1";
    let arguments =
        ["--edge-addr", "127.0.0.1:0", "--api-key", key, "--log", "debug", "--otlp-endpoint", endpoint];
    let mut process = Process::spawn(&data_dir, &log, &arguments);
    let mesh = process.ready().await;
    let http = Http::new();
    // The collector may have the traces of other runs in its file.
    let mut traces = std::iter::repeat_with(|| uuid::Uuid::new_v4().simple().to_string());
    // What could be a card number is not taken over.
    let trace = traces.find(|trace| mesh::call::is_outside_request_id(trace)).unwrap();
    let (authorization, parent) = (format!("Bearer {key}"), format!("00-{trace}-b7ad6b7169203331-01"));
    let headers = [
        ("authorization", authorization.as_str()),
        ("traceparent", parent.as_str()),
        ("content-type", "application/json"),
        ("idempotency-key", "one"),
    ];
    let card = json!({"card": {"number": CARD, "exp_month": 11, "exp_year": 2031, "cvc": "931"}});
    let url = |path: &str| format!("{}{path}", mesh.edge_url);
    let answer = http.send(Method::POST, &url("/v1/tokens"), &headers, card.to_string()).await.unwrap();
    let body = payment_body(&id_of(&ok(answer)), 1_000, "EUR", "AUTOMATIC").to_string();
    let answer = http.send(Method::POST, &url("/v1/payments"), &headers, body).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());

    let arrived = async {
        while !Received::read(file).is_complete(&trace) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), arrived).await.is_err() {
        let received = Received::read(file);
        let (spans, counting) = (received.services_in(&trace), received.counting());
        panic!("spans of {spans:?}, requests of {counting:?}, {} logs", received.logs_in(&trace));
    }
    let text = std::fs::read_to_string(file).unwrap();
    assert!(!text.contains(CARD) && !text.contains(key), "neither cards nor keys are sent");
}
