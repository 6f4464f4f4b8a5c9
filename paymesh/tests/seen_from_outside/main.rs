//! What the mesh shows of itself: logs, traces and metrics that belong together over all hops, and never
//! a card number, a verification code, a holder's name or an API key in any of them, nor in a file.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod canary;
mod collector;
mod image;
mod memory;
#[path = "../support/mod.rs"]
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use canary::{Canary, code_found_in, hex, searchable};
use collector::{Collector, service_of};
use http::Method;
use paymesh::{describe::Description, rest::Answer};
use serde_json::{Value, json};
use support::{Http, id_of, ok, payment_body, process::Process, with_check_digit};

const API_KEY: &str = "canary-key-Xq81zP";
const HOLDER: &str = "Zephyrina Quillfeather";
/// Codes that were sent; Amex has four digits.
const CODES: [&str; 2] = ["931", "7316"];

const TEST_CARDS: [&str; 14] = [
    "4242424242424242",
    "5555555555554444",
    "378282246310005",
    "6011111111111117",
    "4000000000000002",
    "4000000000009995",
    "4000000000009987",
    "4000000000009979",
    "4000000000000069",
    "4000000000000127",
    "4000000000000119",
    "4100000000000019",
    "4000000000009235",
    "4000000000004087",
];

/// Numbers that nobody else has, valid ones and one that is not.
fn canary_cards() -> [String; 4] {
    ["455673778231904", "231478263591747", "37637289150263", "621094829371150"].map(with_check_digit)
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";
const REQUEST: &str = "canary-request-1";
const SERVICES: [&str; 4] = ["svc-payments", "svc-fraud", "svc-crypto", "svc-ledger"];

fn code_of(number: &str) -> &'static str {
    CODES[usize::from(number.starts_with("37"))]
}

fn canary_card(number: &str) -> Value {
    json!({"card": {"number": number, "exp_month": 11, "exp_year": 2031, "cvc": code_of(number), "holder_name": HOLDER}})
}

/// A client that sends what it is told, with the right key unless told otherwise.
struct Sender {
    http: Http,
    url: String,
    sent: u32,
    /// Every answer, to be searched as well.
    answers: Vec<u8>,
}

impl Sender {
    async fn with(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: String) -> Answer {
        self.sent += 1;
        let (url, key) = (format!("{}{path}", self.url), format!("key-{}", self.sent));
        let mut all = vec![("content-type", "application/json"), ("idempotency-key", key.as_str())];
        all.extend_from_slice(headers);
        let answer = self.http.send(method, &url, &all, body).await.unwrap();
        self.answers.extend_from_slice(&answer.bytes);
        answer
    }

    async fn send(&mut self, method: Method, path: &str, body: impl ToString) -> Answer {
        let authorization = format!("Bearer {API_KEY}");
        self.with(method, path, &[("authorization", &authorization)], body.to_string()).await
    }

    async fn post(&mut self, path: &str, body: impl ToString) -> Answer {
        self.send(Method::POST, path, body).await
    }

    /// A payment's whole life with this card, as far as it goes.
    async fn live(&mut self, number: &str) {
        let token = id_of(&ok(self.post("/v1/tokens", canary_card(number)).await));
        self.send(Method::GET, &format!("/v1/tokens/{token}"), "").await;
        for capture in ["MANUAL", "AUTOMATIC"] {
            let payment = ok(self.post("/v1/payments", payment_body(&token, 1_000, "EUR", capture)).await);
            let path = format!("/v1/payments/{}", id_of(&payment));
            self.post(&format!("{path}/capture"), json!({"amount": 900})).await;
            self.post(&format!("{path}/refunds"), json!({"amount": 100})).await;
            self.post(&format!("{path}/cancel"), json!({})).await;
            self.send(Method::GET, &format!("{path}/events"), "").await;
        }
    }

    /// Whatever can be wrong with a request that has this number in it.
    async fn fail(&mut self, number: &str) {
        let code = code_of(number);
        for body in [
            format!(r#"{{"card": {{"number": "{number}", "cvc": "{code}", "#),
            format!(r#"{{"card": {{"number": {number}, "cvc": {code}, "exp_month": 1, "exp_year": 2031}}}}"#),
            format!(r#"{{"card": "{number}"}}"#),
            format!(r#"{{"{number}": {{"cvc": "{code}"}}}}"#),
            format!(
                r#"{{"card": {{"number": "{number}9", "cvc": "{code}", "exp_month": 13, "exp_year": 2019}}}}"#
            ),
            format!(
                r#"{{"card": {{"number": "x{number}", "cvc": "{code}x", "exp_month": 1, "exp_year": 2031, "holder_name": "{HOLDER}\u0007"}}}}"#
            ),
            format!(r#"{{"card": {{"number": "{number}", "pan_{number}": "{code}"}}}}"#),
            format!("card={number}&cvc={code}"),
            number.to_owned(),
            format!(r#"{{"card": {{"number": "{number}", "holder_name": "{}"}}}}"#, HOLDER.repeat(60_000)),
        ] {
            let answer = self.post("/v1/tokens", body).await;
            assert!((400..500).contains(&answer.status), "{}", answer.body);
        }
        let method =
            |token: &str| json!({"amount": 1, "currency": "EUR", "payment_method": {"token": token}});
        let mut metadata = method("tok_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b");
        metadata["metadata"][number] = json!("x".repeat(501));
        for body in [
            method(number),
            json!({"amount": number, "currency": number, "payment_method": {"token": "x"}}),
            json!({"amount": 1, "currency": "EUR", "payment_method": {"card": {"number": number, "cvc": code}}}),
            json!({"amount": 1, "currency": "EUR", "payment_method": {"token": "x"}, "capture_method": number}),
            metadata,
        ] {
            let answer = self.post("/v1/payments", body).await;
            assert!((400..500).contains(&answer.status), "{}", answer.body);
        }
        for path in [
            format!("/v1/tokens/{number}"),
            format!("/v1/payments/{number}"),
            format!("/v1/payments/pay_{number}/refunds"),
            format!("/v1/payments?page_token={number}"),
            format!("/v1/payments?card={number}&cvc={code}"),
            format!("/v1/payments?{number}={code}"),
            format!("/v1/payments?status={number}"),
            format!("/v1/ledger/accounts/{number}"),
            format!("/v1/ledger/accounts?currency={number}&code={number}"),
            format!("/{number}"),
            format!("/v1/{number}?cvc={code}"),
        ] {
            for method in [Method::GET, Method::DELETE] {
                let answer = self.send(method, &path, "").await;
                assert!((400..500).contains(&answer.status), "{path}: {}", answer.body);
            }
        }
        let card = canary_card(number).to_string();
        for authorization in [format!("Bearer {number}"), format!("Basic {number}"), number.to_owned()] {
            let headers = [("authorization", authorization.as_str())];
            let answer = self.with(Method::POST, "/v1/tokens", &headers, card.clone()).await;
            assert_eq!(answer.status, 401);
        }
    }
}

/// Every file below the directory.
fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The Prometheus text of every service.
async fn metrics(http: &Http, mesh: &Description) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::new();
    for (service, address) in &mesh.admin {
        let answer = http.send(Method::GET, &format!("http://{address}/metrics"), &[], "").await.unwrap();
        assert_eq!(answer.status, 200, "{service}");
        texts.insert(service.clone(), String::from_utf8(answer.bytes.to_vec()).unwrap());
    }
    texts
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_card_number_and_no_code_is_anywhere_but_in_memory() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, log) = (dir.path().join("data"), dir.path().join("log"));
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let mut arguments = vec![
        "--edge-addr",
        "127.0.0.1:0",
        "--api-key",
        API_KEY,
        "--log",
        "debug",
        "--otlp-endpoint",
        &endpoint,
    ];
    // Wrong credentials are to be read each time, not refused unread.
    arguments.extend(["--set", "edge-gateway.auth.throttle.failures_free=1000"]);
    let mut process = Process::spawn(&data_dir, &log, &arguments);
    let mesh = process.ready().await;
    let mut sender = Sender { http: Http::new(), url: mesh.edge_url.clone(), sent: 0, answers: Vec::new() };
    let cards = canary_cards();
    for number in TEST_CARDS.into_iter().chain(cards.iter().map(String::as_str)) {
        sender.live(number).await;
    }
    let last = cards[0].clone();
    let mistyped = format!("{}{}", &last[..15], (last.as_bytes()[15] - b'0' + 1) % 10);
    for number in [TEST_CARDS[0], TEST_CARDS[2], &cards[1], &mistyped] {
        sender.fail(number).await;
    }
    let prometheus = metrics(&sender.http, &mesh).await;

    // While it runs, and again after the orderly stop that writes the last of it.
    let mut canaries: Vec<Canary> = TEST_CARDS.iter().map(|number| Canary::new(number, number)).collect();
    canaries.extend(cards.iter().chain([&mistyped]).map(|number| Canary::new(number, number)));
    canaries.push(Canary::new("the holder", HOLDER));
    let key = Canary::new("the API key", API_KEY);
    let mut found = Vec::new();
    let mut search = |place: &str, bytes: &[u8]| {
        let text = &searchable(bytes);
        found.extend(canaries.iter().flat_map(|canary| canary.found_in(place, text)));
        found.extend(code_found_in(place, text, &CODES));
        // Its owner may read it there.
        if !place.ends_with("dev.json") && place != "standard output" {
            found.extend(key.found_in(place, text));
        }
    };
    let search_files = |search: &mut dyn FnMut(&str, &[u8])| {
        let mut paths = Vec::new();
        files(&data_dir, &mut paths);
        assert!(paths.len() > 20, "{paths:?}");
        for path in paths {
            // A file of SQLite may go away in between.
            let Ok(content) = std::fs::read(&path) else { continue };
            search(&path.display().to_string(), &content);
        }
    };
    search_files(&mut search);
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());
    search_files(&mut search);
    let said = process.said();
    let (logged, printed): (Vec<&str>, Vec<&str>) = said.lines().partition(|line| line.starts_with('{'));
    assert!(logged.len() > 500, "the log is at debug");
    search("the log", logged.join("\n").as_bytes());
    search(
        "standard output",
        printed.iter().map(|line| line.replace("4242424242424242", "")).collect::<String>().as_bytes(),
    );
    search("OTLP", &collector.bytes());
    assert!(collector.spans().len() > 100 && collector.logs().len() > 500);
    assert!(!collector.counted("rpc.server.requests").is_empty());
    for (service, text) in &prometheus {
        search(service, text.as_bytes());
    }
    search("the answers", &sender.answers);
    found.sort();
    found.dedup();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Where a line of the log comes from, and the ids that it carries.
fn origin(line: &Value) -> Option<(String, String, String)> {
    let text = |name: &str| line[name].as_str().or(line["span"][name].as_str()).map(str::to_owned);
    let service = match line["span"]["name"].as_str() {
        Some("edge") => "edge".to_owned(),
        _ => text("service")?,
    };
    Some((service, text("request_id")?, text("trace_id")?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_payment_can_be_followed_over_all_hops() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, log) = (dir.path().join("data"), dir.path().join("log"));
    let collector = Collector::default();
    let endpoint = collector.start().await;
    let arguments =
        ["--edge-addr", "127.0.0.1:0", "--api-key", API_KEY, "--log", "debug", "--otlp-endpoint", &endpoint];
    let mut process = Process::spawn(&data_dir, &log, &arguments);
    let mesh = process.ready().await;
    let mut sender = Sender { http: Http::new(), url: mesh.edge_url.clone(), sent: 0, answers: Vec::new() };
    let token = id_of(&ok(sender.post("/v1/tokens", canary_card(TEST_CARDS[0])).await));
    let (authorization, parent) = (format!("Bearer {API_KEY}"), format!("00-{TRACE}-{SPAN}-01"));
    let headers = [
        ("authorization", authorization.as_str()),
        ("traceparent", parent.as_str()),
        ("x-request-id", REQUEST),
    ];
    let body = payment_body(&token, 1_000, "EUR", "AUTOMATIC").to_string();
    let answer = sender.with(Method::POST, "/v1/payments", &headers, body.clone()).await;
    assert_eq!((answer.status, answer.headers["x-request-id"].to_str().unwrap()), (200, REQUEST));
    // Another one begins its trace at the edge.
    let headers = [("authorization", authorization.as_str()), ("x-request-id", "canary-request-2")];
    assert_eq!(sender.with(Method::POST, "/v1/payments", &headers, body).await.status, 200);
    let prometheus = metrics(&sender.http, &mesh).await;
    process.signal("TERM");
    assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());

    // Logs: the same two ids everywhere.
    let said = process.said();
    let lines: Vec<Value> = said
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let origins: BTreeSet<_> = lines.iter().filter_map(origin).collect();
    for service in SERVICES.into_iter().chain(["edge"]) {
        let wanted = (service.to_owned(), REQUEST.to_owned(), TRACE.to_owned());
        assert!(origins.contains(&wanted), "no line of {service} has both ids");
    }
    let second: BTreeMap<_, BTreeSet<_>> = origins
        .iter()
        .filter(|(_, request, _)| request == "canary-request-2")
        .fold(BTreeMap::new(), |mut traces, (service, _, trace)| {
            traces.entry(trace).or_insert_with(BTreeSet::new).insert(service.as_str());
            traces
        });
    assert_eq!(second.len(), 1, "one request is one trace: {second:?}");

    // Traces: every hop in one trace, each below the one that called it, the first below the caller's.
    let spans = collector.spans();
    for trace in [TRACE, second.keys().next().unwrap().as_str()] {
        let ours: Vec<_> = spans.iter().filter(|span| hex(&span.trace_id) == trace).collect();
        let ids: BTreeSet<String> = ours.iter().map(|span| hex(&span.span_id)).collect();
        let services: BTreeSet<String> = ours.iter().map(|span| service_of(span)).collect();
        assert!(SERVICES.iter().all(|service| services.contains(*service)), "{trace}: {services:?}");
        assert!(ours.iter().any(|span| span.name == "edge"), "{trace}: the edge has a span in it");
        let payments = ours.iter().find(|span| span.name == "rpc" && service_of(span) == "svc-payments");
        let payments = hex(&payments.unwrap().span_id);
        for span in &ours {
            let (parent, service) = (hex(&span.parent_span_id), service_of(span));
            match service.as_str() {
                // Only the first of the two traces began before the edge.
                "" => assert!(trace != TRACE || parent == SPAN, "{trace}: the edge is below {parent}"),
                "svc-payments" => assert!(ids.contains(&parent), "{trace}: {service} is below {parent}"),
                _ => assert_eq!(parent, payments, "{trace}: {service} is called by svc-payments"),
            }
        }
    }

    // The same logs over OTLP, tied to the traces.
    for trace in [TRACE, second.keys().next().unwrap().as_str()] {
        let of_trace = collector.logs().iter().filter(|log| hex(&log.trace_id) == trace).count();
        assert!(of_trace >= SERVICES.len(), "{trace}: {of_trace} logs");
    }

    // Metrics, pushed and pulled.
    let counted = collector.counted("rpc.server.requests");
    for service in SERVICES {
        assert!(counted.iter().any(|name| name == service), "{service}: {counted:?}");
        let line = format!("paymesh_rpc_server_requests_total{{service=\"{service}\"");
        assert!(prometheus[service].contains(&line), "{service}: {}", prometheus[service]);
    }
    for (service, text) in &prometheus {
        // Nobody calls the edge over gRPC; its own requests are those over HTTP.
        let name = if service == "edge-gateway" { "edge_requests" } else { "rpc_server_requests" };
        assert!(text.contains(&format!("paymesh_{name}_total{{service=\"{service}\"")), "{service}: {text}");
    }
    assert_eq!(prometheus.len(), 6);
}
