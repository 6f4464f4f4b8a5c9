//! Clients that mean harm, byte by byte: what they begin and do not finish, ask for and do not take, or
//! begin only to give it up. Each is sent away, and others are served meanwhile.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

#[path = "support/h2.rs"]
mod h2;

use std::time::Duration;

use edge_gateway::EdgeConfig;
use support::{Edge, KEY};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
const ENHANCE_YOUR_CALM: u32 = 11;

async fn edge(change: impl FnOnce(&mut EdgeConfig) + 'static) -> Edge {
    Edge::start_with(|edge| edge.configure = Box::new(move |config, _| change(config))).await
}

async fn others_are_served(edge: &Edge) {
    assert_eq!(edge.get("/v1/payments").send().await.status, 200);
}

/// What the edge says until it closes the connection.
async fn last_words(stream: &mut TcpStream) -> String {
    let mut said = Vec::new();
    // A reset is an end, too.
    let reading = stream.read_to_end(&mut said);
    let _ = tokio::time::timeout(PATIENCE, reading).await.expect("the connection is closed");
    String::from_utf8_lossy(&said).into_owned()
}

async fn closed(stream: &mut TcpStream) -> (Vec<u8>, Option<u32>) {
    tokio::time::timeout(PATIENCE, h2::until_closed(stream)).await.expect("the connection is closed")
}

#[tokio::test]
async fn a_body_that_trickles_is_refused_long_before_the_deadline() {
    let edge = edge(|config| {
        config.header_timeout_ms = 100;
        config.patience.body_rate_min = 1_000;
    })
    .await;
    let mut stream = edge.connect().await;
    let head = format!(
        "POST /v1/payments HTTP/1.1\r\nhost: localhost\r\nauthorization: {KEY}\r\nidempotency-key: k\r\n\
         content-type: application/json\r\ncontent-length: 100000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    let trickling = tokio::spawn(async move {
        while writer.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let mut said = vec![0; 4_096];
    let length = tokio::time::timeout(PATIENCE, reader.read(&mut said)).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&said[..length]).into_owned();
    assert!(said.starts_with("HTTP/1.1 408") && said.contains("REQUEST_TIMEOUT"), "{said}");
    others_are_served(&edge).await;
    drop(reader);
    trickling.abort();
    edge.stop().await;
}

#[tokio::test]
async fn who_does_not_read_its_answers_is_closed() {
    let edge = edge(|config| config.patience.answer_timeout_ms = 200).await;
    let mut stream = edge.connect().await;
    // More than the sockets' buffers hold, however large.
    let asked = "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(1_000);
    let writing = tokio::time::timeout(PATIENCE, async {
        // It stops taking requests, too, and ends.
        while stream.write_all(asked.as_bytes()).await.is_ok() {}
    });
    writing.await.expect("the edge gave up");
    others_are_served(&edge).await;
    edge.stop().await;
}

/// It gives all the room there is for them, so that they wait for its socket alone.
#[tokio::test]
async fn who_does_not_read_its_answers_over_http2_is_closed() {
    let edge = edge(|config| config.patience.answer_timeout_ms = 200).await;
    let mut stream = h2::open(edge.connect().await, &h2::LARGEST_WINDOW).await;
    let room = [0x7f, 0xfe, 0, 0];
    stream.write_all(&h2::frame(h2::WINDOW_UPDATE, 0, 0, &room)).await.unwrap();
    let headers = h2::block(&h2::request("GET", "/openapi.json"));
    // As many as may be under way at once, and more than the sockets' buffers hold.
    for n in 0..250 {
        let asked = h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 2 * n + 1, &headers);
        stream.write_all(&asked).await.unwrap();
    }
    let noticing = tokio::time::timeout(PATIENCE, async {
        // To what is closed nothing can be written, after the first.
        while stream.write_all(&h2::frame(h2::WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    noticing.await.expect("the edge gave up");
    others_are_served(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn who_gives_no_window_for_its_answers_is_closed() {
    let edge = edge(|config| config.patience.answer_timeout_ms = 200).await;
    let mut stream = h2::open(edge.connect().await, &h2::NO_WINDOW).await;
    let headers = h2::block(&h2::request("GET", "/v1/payments"));
    stream.write_all(&h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 1, &headers)).await.unwrap();
    let (kinds, _) = closed(&mut stream).await;
    assert!(kinds.contains(&h2::HEADERS) && !kinds.contains(&h2::DATA), "{kinds:?}");
    others_are_served(&edge).await;
    edge.stop().await;
}

/// The beginning of a stream for the tenant `acme`, on an HTTP/2 connection.
fn watching(payment: &str, stream: u32) -> Vec<u8> {
    let path = format!("/v1/payments/{payment}/events:watch");
    let headers = h2::block(&h2::request("GET", &path));
    h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, stream, &headers)
}

#[tokio::test]
async fn who_gives_no_window_for_a_stream_is_closed_and_its_place_is_free() {
    let edge = Edge::start_with(|edge| {
        edge.streams_max = 1;
        edge.configure = Box::new(|config, _| config.patience.answer_timeout_ms = 200);
    })
    .await;
    for payment in ["pay_idle", "pay_endless"] {
        let mut stream = h2::open(edge.connect().await, &h2::NO_WINDOW).await;
        stream.write_all(&watching(payment, 1)).await.unwrap();
        let (kinds, _) = closed(&mut stream).await;
        assert!(kinds.contains(&h2::HEADERS) && !kinds.contains(&h2::DATA), "{kinds:?}");
        let cancelled = tokio::time::timeout(PATIENCE, edge.backend.cancelled.notified());
        cancelled.await.expect("the RPC is cancelled");
    }
    others_are_served(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn who_takes_an_answer_byte_by_byte_is_closed() {
    let edge = edge(|config| config.patience.answer_timeout_ms = 200).await;
    let mut stream = h2::open(edge.connect().await, &h2::ONE_BYTE_WINDOW).await;
    let headers = h2::block(&h2::request("GET", "/v1/payments"));
    stream.write_all(&h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 1, &headers)).await.unwrap();
    let (kinds, _) = closed(&mut stream).await;
    let data: Vec<_> = kinds.iter().filter(|kind| **kind == h2::DATA).collect();
    assert_eq!(data.len(), 1, "{kinds:?}");
    others_are_served(&edge).await;
    edge.stop().await;
}

/// Messages that wait for a client are held back by their own stream's window alone.
#[tokio::test]
async fn streams_that_are_not_taken_hold_up_nobody_else() {
    let edge = edge(|_| {}).await;
    let mut stalled = h2::open(edge.connect().await, &h2::NO_WINDOW).await;
    for n in 0..40 {
        stalled.write_all(&watching("pay_endless", 2 * n + 1)).await.unwrap();
    }
    let sent = || edge.backend.sent.load(std::sync::atomic::Ordering::SeqCst);
    // Bounded polling: the services have sent all that there is room for.
    let (mut before, mut still) = (0, 0);
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let now = sent();
        still = if now == before && now > 0 { still + 1 } else { 0 };
        before = now;
        if still == 20 {
            break;
        }
    }
    assert_eq!(still, 20, "it goes on and on: {before} messages of 16 KiB");
    let served = async {
        others_are_served(&edge).await;
        let other = edge.request(http::Method::GET, "/v1/payments/pay_ends/events:watch");
        assert_eq!(other.header("authorization", "Bearer sk_other").send().await.text().lines().count(), 3);
    };
    tokio::time::timeout(Duration::from_secs(10), served).await.expect("nobody waits");
    drop(stalled);
    edge.stop().await;
}

/// Other users' answers come over the same connection.
#[tokio::test]
async fn a_trusted_proxy_that_gives_no_window_is_closed_only_when_the_edge_drains() {
    let edge = edge(|config| {
        config.patience.answer_timeout_ms = 20;
        config.limits.trusted_proxies = vec!["127.0.0.0/8".to_owned()];
    })
    .await;
    let mut proxy = h2::open(edge.connect().await, &h2::NO_WINDOW).await;
    let headers = h2::block(&h2::request("GET", "/v1/payments"));
    for id in [1, 3] {
        let asked = h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, id, &headers);
        proxy.write_all(&asked).await.unwrap();
        while h2::next(&mut proxy).await.expect("a frame").0 != h2::HEADERS {}
    }
    // Many turns: anybody else is closed after two.
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.write_all(&h2::frame(h2::WINDOW_UPDATE, 0, 3, &[0, 0, 255, 255])).await.unwrap();
    while h2::next(&mut proxy).await.expect("the connection goes on").0 != h2::DATA {}
    tokio::time::timeout(PATIENCE, edge.stop()).await.expect("it is cut off");
}

/// A drain takes up to 35 seconds for who makes progress.
#[tokio::test]
async fn who_takes_nothing_does_not_hold_a_drain_up() {
    let edge = edge(|_| {}).await;
    let mut stalled = h2::open(edge.connect().await, &h2::NO_WINDOW).await;
    stalled.write_all(&watching("pay_endless", 1)).await.unwrap();
    let mut kinds = Vec::new();
    while !kinds.contains(&h2::HEADERS) {
        kinds.push(h2::next(&mut stalled).await.expect("a frame").0);
    }
    tokio::time::timeout(PATIENCE, edge.stop()).await.expect("it is cut off");
    drop(stalled);
}

/// CVE-2023-44487 as a flood: all of it before the edge has looked at the first one.
#[tokio::test]
async fn a_flood_of_resets_is_cut_off() {
    let edge = edge(|_| {}).await;
    let mut stream = h2::open(edge.connect().await, &[]).await;
    let headers = h2::block(&h2::request("GET", "/v1/payments"));
    let flood: Vec<u8> = (0..2_000_u32)
        .flat_map(|n| {
            let stream = 2 * n + 1;
            let begun = h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, stream, &headers);
            [begun, h2::frame(h2::RST_STREAM, 0, stream, &h2::CANCEL)].concat()
        })
        .collect();
    let _ = stream.write_all(&flood).await;
    let (_, code) = closed(&mut stream).await;
    assert_eq!(code, Some(ENHANCE_YOUR_CALM));
    others_are_served(&edge).await;
    edge.stop().await;
}

/// The same, slowly: each request is being worked on when it is given up.
#[tokio::test]
async fn a_client_that_gives_up_all_it_begins_is_cut_off() {
    let edge = edge(|config| config.patience.resets_max = 5).await;
    let mut stream = h2::open(edge.connect().await, &[]).await;
    let mut fields = h2::request("POST", "/v1/payments");
    fields.extend([("idempotency-key", "k"), ("content-type", "application/json")]);
    let headers = h2::block(&fields);
    let body = br#"{"amount":1,"currency":"EUR","payment_method":{"token":"t"},"reference":"wait"}"#;
    for n in 0..6_u32 {
        let id = 2 * n + 1;
        stream.write_all(&h2::frame(h2::HEADERS, h2::END_HEADERS, id, &headers)).await.unwrap();
        stream.write_all(&h2::frame(h2::DATA, h2::END_STREAM, id, body)).await.unwrap();
        tokio::time::timeout(PATIENCE, edge.backend.arrived.notified()).await.unwrap();
        stream.write_all(&h2::frame(h2::RST_STREAM, 0, id, &h2::CANCEL)).await.unwrap();
    }
    let (kinds, code) = closed(&mut stream).await;
    assert!(kinds.contains(&h2::GOAWAY), "{kinds:?}");
    assert_eq!(code, Some(0), "it is told to go, and then cut off");
    others_are_served(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn a_head_without_end_is_cut_off() {
    let edge = edge(|_| {}).await;
    let mut stream = h2::open(edge.connect().await, &[]).await;
    let begun = h2::block(&h2::request("GET", "/v1/payments"));
    stream.write_all(&h2::frame(h2::HEADERS, h2::END_STREAM, 1, &begun)).await.unwrap();
    let more = h2::frame(h2::CONTINUATION, 0, 1, &h2::block(&[("x-a", "a")]));
    let (mut reader, mut writer) = stream.into_split();
    let flooding = async { while writer.write_all(&more.repeat(100)).await.is_ok() {} };
    let reading = async {
        let mut said = Vec::new();
        let _ = reader.read_to_end(&mut said).await;
    };
    let both = async { tokio::join!(flooding, reading) };
    tokio::time::timeout(PATIENCE, both).await.expect("the connection is closed");
    others_are_served(&edge).await;
    edge.stop().await;
}

#[tokio::test]
async fn one_address_has_so_many_connections_and_no_more() {
    let edge = edge(|config| config.limits.connections_per_address_max = 2).await;
    let held = [edge.connect().await, edge.connect().await];
    let mut third = edge.connect().await;
    assert_eq!(last_words(&mut third).await, "");
    drop(held);
    // Their places are free as soon as the edge has seen them go.
    let served = async {
        loop {
            let mut stream = edge.connect().await;
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
            if last_words(&mut stream).await.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, served).await.unwrap();
    edge.stop().await;
}

#[tokio::test]
async fn a_connection_that_is_not_used_any_more_is_closed() {
    let edge = edge(|config| {
        config.patience.answer_timeout_ms = 50;
        config.patience.idle_timeout_ms = 100;
    })
    .await;
    let mut stream = h2::open(edge.connect().await, &[]).await;
    let headers = h2::block(&h2::request("GET", "/v1/payments"));
    stream.write_all(&h2::frame(h2::HEADERS, h2::END_STREAM | h2::END_HEADERS, 1, &headers)).await.unwrap();
    let mut kinds = Vec::new();
    // Told to go; it may stay until it has answered the ping that comes with it.
    let told = async {
        while !kinds.contains(&h2::GOAWAY) {
            kinds.push(h2::next(&mut stream).await.expect("a frame").0);
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    assert!(kinds.contains(&h2::DATA), "it was served before: {kinds:?}");
    drop(stream);
    edge.stop().await;
}
