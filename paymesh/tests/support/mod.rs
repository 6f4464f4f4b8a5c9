//! What the black-box tests share: a mesh within the test's process, the paymesh binary as a child, an
//! HTTP client that can send anything, and the comparison of the books with the payments.

#![allow(dead_code)] // every test uses its own part

pub(crate) mod books;
pub(crate) mod process;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use paymesh::{
    Dev, DevOptions,
    args::ApiKey,
    describe::Description,
    rest::{Answer, Rest, RestError},
};
use serde_json::{Value, json};

/// Approves everything.
pub(crate) const VISA: &str = "4242424242424242";
/// Authorizes, and its answer never comes.
pub(crate) const SILENT: &str = "4000000000004087";

/// How long a processor call may take in these tests: the silent card is to be known as such soon.
const PROCESSOR_TIMEOUT_MS: u64 = 300;

/// A mesh of this process, in a directory of its own.
pub(crate) struct Mesh {
    pub(crate) dev: Dev,
    pub(crate) dir: tempfile::TempDir,
}

impl Mesh {
    pub(crate) async fn start() -> Self {
        Self::start_with(Vec::new()).await
    }

    /// With a key for each tenant named.
    pub(crate) async fn start_for(tenants: &[&str]) -> Self {
        Self::start_with(tenants.iter().map(|tenant| api_key(tenant)).collect()).await
    }

    async fn start_with(api_keys: Vec<ApiKey>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let dev = start_in(dir.path(), api_keys).await;
        Self { dev, dir }
    }

    pub(crate) fn rest(&self) -> Rest {
        Rest::new(self.dev.description())
    }

    pub(crate) fn rest_of(&self, tenant: &str) -> Rest {
        Rest::with_key(&self.dev.description().edge_url, &api_key(tenant).key)
    }

    pub(crate) fn url(&self) -> &str {
        &self.dev.description().edge_url
    }
}

pub(crate) async fn start_in(dir: &std::path::Path, api_keys: Vec<ApiKey>) -> Dev {
    let mut options = DevOptions { api_keys, ..DevOptions::on_free_ports(dir) };
    let timeout = &["svc-payments", "processors", "simulator", "timeout_ms"];
    options.sources.flag("the test", timeout, PROCESSOR_TIMEOUT_MS.to_string());
    // What guessing costs has tests of its own; here wrong credentials are only ever wrong.
    options.sources.flag("the test", &["edge-gateway", "auth", "throttle", "failures_free"], "1000000");
    Dev::start(options).await.unwrap()
}

pub(crate) fn api_key(tenant: &str) -> ApiKey {
    ApiKey { tenant: tenant.parse().unwrap(), key: format!("key-of-{tenant}") }
}

/// Sends what no well-behaved client would.
pub(crate) struct Http(Client<HttpConnector, Full<Bytes>>);

impl Http {
    pub(crate) fn new() -> Self {
        Self(Client::builder(TokioExecutor::new()).build(HttpConnector::new()))
    }

    pub(crate) async fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, RestError> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (head, body) = self.0.request(request.body(Full::new(body.into()))?).await?.into_parts();
        let bytes = body.collect().await?.to_bytes();
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, bytes, body })
    }
}

/// A card as `POST /v1/tokens` wants it.
pub(crate) fn card(number: &str) -> Value {
    // American Express has four digits.
    let cvc = if number.starts_with("37") { "1234" } else { "123" };
    json!({"card": {"number": number, "exp_month": 12, "exp_year": 2030, "cvc": cvc, "holder_name": "Ada Payer"}})
}

/// The answer, which must be a success.
pub(crate) fn ok(answer: Answer) -> Value {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.body
}

pub(crate) async fn get(rest: &Rest, path: &str) -> Value {
    ok(rest.get(path).await.unwrap())
}

pub(crate) async fn post(rest: &Rest, path: &str, key: &str, body: &Value) -> Value {
    ok(rest.post(path, Some(key), body).await.unwrap())
}

/// The id of a token for this card.
pub(crate) async fn token(rest: &Rest, number: &str) -> String {
    let answer = ok(rest.post("/v1/tokens", None, &card(number)).await.unwrap());
    answer["id"].as_str().unwrap().to_owned()
}

pub(crate) fn id_of(value: &Value) -> String {
    value["id"].as_str().unwrap().to_owned()
}

pub(crate) fn payment_body(token: &str, amount: i64, currency: &str, capture: &str) -> Value {
    json!({
        "amount": amount, "currency": currency, "payment_method": {"token": token},
        "capture_method": capture, "reference": "INV-1",
    })
}

/// Every payment that the query finds, page by page; newest first, none twice.
pub(crate) async fn all_payments(
    rest: &Rest,
    query: &str,
    page_size: usize,
) -> Result<Vec<Value>, RestError> {
    let (mut payments, mut page_token) = (Vec::<Value>::new(), String::new());
    loop {
        let path = format!("/v1/payments?page_size={page_size}&page_token={page_token}&{query}");
        let mut page = ok(rest.get(&path).await?);
        let listed = page["payments"].as_array_mut().map(std::mem::take).unwrap_or_default();
        assert!(listed.len() <= page_size, "a page is not longer than asked for");
        for payment in listed {
            if let Some(before) = payments.last() {
                assert!(before["id"].as_str() > payment["id"].as_str(), "newest first, none twice");
            }
            payments.push(payment);
        }
        page["next_page_token"].as_str().unwrap_or_default().clone_into(&mut page_token);
        if page_token.is_empty() {
            return Ok(payments);
        }
    }
}

/// What is wrong with a payment's events, if anything: they count 1, 2, 3, … up to its sequence.
pub(crate) fn check_events(payment: &Value, events: &Value) -> Result<(), String> {
    let events = events["events"].as_array().cloned().unwrap_or_default();
    let numbers: Vec<i64> = events.iter().filter_map(|event| event["sequence"].as_i64()).collect();
    let expected: Vec<i64> = (1..=payment["sequence"].as_i64().unwrap_or_default()).collect();
    if numbers != expected || events.is_empty() {
        return Err(format!("{}: events {numbers:?}, not {expected:?}", payment["id"]));
    }
    let last = events.last().map(|event| &event["status"]);
    if last != Some(&payment["status"]) {
        return Err(format!("{}: the last event says {last:?}", payment["id"]));
    }
    let mut ids: Vec<&str> = events.iter().filter_map(|event| event["id"].as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    if ids.len() != events.len() {
        return Err(format!("{}: two events have one id", payment["id"]));
    }
    Ok(())
}

pub(crate) fn describe(dir: &std::path::Path) -> Description {
    Description::read(dir).unwrap()
}

/// A seeded generator (splitmix64, Vigna 2015): the same seed makes the same run.
pub(crate) struct Rng(pub(crate) u64);

impl Rng {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1.
    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub(crate) fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).unwrap()
    }

    pub(crate) fn amount(&mut self, max: i64) -> i64 {
        1 + i64::try_from(self.below(max.unsigned_abs())).unwrap()
    }
}

/// The number with its check digit (ISO/IEC 7812-1, annex B).
pub(crate) fn with_check_digit(digits: &str) -> String {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, byte)| {
            let doubled = u32::from(byte - b'0') * if place % 2 == 0 { 2 } else { 1 };
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}
