//! Answers that are streams, as clients see them: server-sent events and lines of JSON.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{sync::atomic::Ordering, time::Duration};

use http::Method;
use serde_json::{Value, json};
use support::{Edge, KEY, Open, Reply};

const PATIENCE: Duration = Duration::from_secs(20);

impl Edge {
    fn watch(&self, payment: &str) -> support::Builder {
        self.get(&format!("/v1/payments/{payment}/events:watch"))
    }

    fn events(&self, payment: &str) -> support::Builder {
        self.watch(payment).header("accept", "text/event-stream")
    }
}

fn header<'a>(open: &'a Open, name: &str) -> Option<&'a str> {
    open.headers.get(name).map(|value| value.to_str().unwrap())
}

/// The id and the data of an event.
fn event(text: &str) -> (&str, Value) {
    let (id, data) = text.strip_prefix("id: ").unwrap().split_once("\ndata: ").unwrap();
    (id, serde_json::from_str(data.strip_suffix("\n\n").unwrap()).unwrap())
}

#[tokio::test]
async fn events_come_with_their_ids_and_end() {
    for http2 in [false, true] {
        let edge = Edge::start_with(|options| options.http2 = http2).await;
        let mut open = edge.events("pay_ends").open().await;
        assert_eq!(open.status, 200);
        assert_eq!(header(&open, "content-type"), Some("text/event-stream"));
        assert_eq!(header(&open, "cache-control"), Some("no-store"));
        assert!(header(&open, "x-request-id").is_some() && header(&open, "content-length").is_none());
        for sequence in 1..=3 {
            let text = open.next("\n\n").await.unwrap();
            let (id, data) = event(&text);
            assert_eq!((id, &data["sequence"]), (sequence.to_string().as_str(), &json!(sequence)));
        }
        assert_eq!(open.next("\n").await, None, "the service's end is the body's");
        edge.stop().await;
    }
}

#[tokio::test]
async fn lines_come_to_those_who_do_not_ask_for_events() {
    let edge = Edge::start().await;
    let mut open = edge.watch("pay_ends").open().await;
    assert_eq!(header(&open, "content-type"), Some("application/x-ndjson"));
    for sequence in 1..=3 {
        let line: Value = serde_json::from_str(&open.next("\n").await.unwrap()).unwrap();
        assert_eq!(line["sequence"], json!(sequence));
    }
    assert_eq!(open.next("\n").await, None);
    edge.stop().await;
}

#[tokio::test]
async fn a_stream_is_taken_up_where_it_was_left() {
    let edge = Edge::start().await;
    let mut open = edge.get("/v1/payments/pay_ends/events:watch?after_sequence=1").open().await;
    assert!(open.next("\n").await.unwrap().contains("\"sequence\":2,"));
    // A browser asks for the same address again, with the header.
    let mut open = edge
        .get("/v1/payments/pay_ends/events:watch?after_sequence=1")
        .header("accept", "text/event-stream")
        .header("last-event-id", "2")
        .open()
        .await;
    let text = open.next("\n\n").await.unwrap();
    assert_eq!(event(&text).0, "3");
    assert_eq!(open.next("\n").await, None);
    let wrong = edge.events("pay_ends").header("last-event-id", "4242424242424242x").send().await;
    assert_eq!(wrong.status, 400);
    assert_eq!(wrong.json()["errors"], json!([{"field": "Last-Event-ID", "detail": "must be an integer"}]));
    edge.stop().await;
}

fn assert_problem(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status.as_u16(), status, "{}", reply.text());
    assert_eq!(reply.header("content-type"), Some("application/problem+json"));
    assert_eq!(reply.json()["code"], json!(code));
}

#[tokio::test]
async fn what_goes_wrong_before_the_first_message_is_a_problem_with_its_status() {
    let edge = Edge::start().await;
    assert_problem(&edge.events("pay_none").send().await, 404, "PAYMENT_NOT_FOUND");
    let without_key = edge.request(Method::GET, "/v1/payments/pay_ends/events:watch").send().await;
    assert_problem(&without_key, 401, "UNAUTHENTICATED");
    edge.stop().await;
}

#[tokio::test]
async fn the_requests_timeout_is_for_the_headers_alone() {
    let edge = Edge::start_with(|options| options.request_timeout_ms = 2_000).await;
    let mut open = edge.events("pay_idle").open().await;
    for _ in 0..3 {
        open.next("\n\n").await.unwrap();
    }
    // By the time that this one has run out, so would have the other's.
    assert_problem(&edge.events("pay_silent").send().await, 504, "DEADLINE_EXCEEDED");
    let going_on = tokio::time::timeout(Duration::from_millis(200), open.next("\n")).await;
    assert!(going_on.is_err(), "{going_on:?}");
    drop(open);
    edge.stop().await;
}

#[tokio::test]
async fn what_goes_wrong_afterwards_is_the_last_thing_said() {
    let edge = Edge::start().await;
    let mut open = edge.events("pay_breaks").open().await;
    for _ in 0..3 {
        open.next("\n\n").await.unwrap();
    }
    let last = open.next("\n\n").await.unwrap();
    let problem: Value = serde_json::from_str(last.strip_prefix("event: error\ndata: ").unwrap()).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&json!("UNAVAILABLE"), &json!(503)));
    assert_eq!(problem["request_id"].as_str(), header(&open, "x-request-id"));
    assert_eq!(open.next("\n").await, None);

    let mut open = edge.watch("pay_panics").open().await;
    for _ in 0..3 {
        open.next("\n").await.unwrap();
    }
    let last = open.next("\n").await.unwrap();
    assert!(!last.contains("10.0.0.1"), "{last}");
    let problem: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(problem["error"]["code"], json!("UNAVAILABLE"));
    assert_eq!(open.next("\n").await, None);
    edge.stop().await;
}

#[tokio::test]
async fn an_idle_stream_says_that_it_is_alive() {
    let edge = Edge::start_with(|options| options.stream_heartbeat_ms = 50).await;
    let mut open = edge.events("pay_idle").open().await;
    for _ in 0..3 {
        assert!(open.next("\n\n").await.unwrap().starts_with("id: "));
    }
    for _ in 0..3 {
        assert_eq!(open.next("\n\n").await.unwrap(), ":\n\n");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_client_who_goes_away_ends_the_rpc() {
    for http2 in [false, true] {
        let edge = Edge::start_with(|options| options.http2 = http2).await;
        let mut open = edge.events("pay_idle").open().await;
        open.next("\n\n").await.unwrap();
        drop(open);
        tokio::time::timeout(PATIENCE, edge.backend.cancelled.notified())
            .await
            .expect("the RPC is cancelled");
        // HEAD has no body, and wants no stream either.
        let head =
            edge.request(Method::HEAD, "/v1/payments/pay_idle/events:watch").header("authorization", KEY);
        assert_eq!(head.send().await.status, 200);
        tokio::time::timeout(PATIENCE, edge.backend.cancelled.notified())
            .await
            .expect("the RPC is cancelled");
        edge.stop().await;
    }
}

/// Who does not read gets no more than fits the buffers on the way.
#[tokio::test]
async fn a_slow_client_slows_the_service_down() {
    let edge = Edge::start().await;
    let mut open = edge.watch("pay_endless").open().await;
    open.next("\n").await.unwrap();
    let sent = || edge.backend.sent.load(Ordering::SeqCst);
    // Bounded polling: the number stops growing.
    let (mut before, mut still) = (sent(), 0);
    for _ in 0..400 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = sent();
        still = if now == before { still + 1 } else { 0 };
        before = now;
        if still == 50 {
            break;
        }
    }
    assert_eq!(still, 50, "it goes on and on: {before} messages of 16 KiB");
    for _ in 0..before + 10 {
        open.next("\n").await.unwrap();
    }
    assert!(sent() > before, "and it goes on when the client does");
    drop(open);
    edge.stop().await;
}

#[tokio::test]
async fn streams_are_bounded_in_number() {
    let edge = Edge::start_with(|options| options.streams_max = 1).await;
    let mut open = edge.events("pay_idle").open().await;
    open.next("\n\n").await.unwrap();
    let refused = edge.events("pay_idle").send().await;
    assert_eq!((refused.status.as_u16(), refused.header("retry-after")), (429, Some("5")));
    drop(open);
    // Its place is free again as soon as the edge hears of it.
    tokio::time::timeout(PATIENCE, edge.backend.cancelled.notified()).await.expect("the RPC is cancelled");
    let again = edge.events("pay_ends").open().await;
    assert_eq!(again.status, 200);
    drop(again);
    edge.stop().await;
}

#[tokio::test]
async fn one_tenant_cannot_take_all_streams() {
    let edge = Edge::start_with(|options| {
        options.configure = Box::new(|config, _| config.limits.tenant_streams_max = 1);
    })
    .await;
    let mut open = edge.events("pay_idle").open().await;
    open.next("\n\n").await.unwrap();
    assert_problem(&edge.events("pay_ends").send().await, 429, "OVERLOADED");
    let other = edge.request(Method::GET, "/v1/payments/pay_ends/events:watch");
    assert_eq!(other.header("authorization", "Bearer sk_other").send().await.status, 200);
    drop(open);
    tokio::time::timeout(PATIENCE, edge.backend.cancelled.notified()).await.expect("the RPC is cancelled");
    edge.stop().await;
}

#[tokio::test]
async fn streams_are_bounded_in_time() {
    let edge = Edge::start_with(|options| options.stream_duration_max_ms = 300).await;
    let mut open = edge.events("pay_idle").open().await;
    assert_eq!(open.status, 200);
    // Ended by its longest duration, and not by an error.
    while let Some(text) = open.next("\n\n").await {
        assert!(text.starts_with("id: "), "{text}");
    }
    edge.stop().await;
}

#[tokio::test]
async fn a_drain_ends_streams_cleanly_and_at_once() {
    let edge = Edge::start().await;
    let (mut events, mut lines) = (edge.events("pay_idle").open().await, edge.watch("pay_idle").open().await);
    events.next("\n\n").await.unwrap();
    lines.next("\n").await.unwrap();
    let reading = async {
        while events.next("\n").await.is_some() {}
        while lines.next("\n").await.is_some() {}
    };
    let stopping =
        async { tokio::time::timeout(PATIENCE, edge.stop()).await.expect("streams do not hold it up") };
    tokio::join!(reading, stopping);
}
