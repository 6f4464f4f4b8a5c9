//! Answers of proxies, and of servers that end in the middle: what they say about the service.

use mesh::UpstreamSettings;
use tonic::{Code, Status};

use crate::{
    raw::{Answer, Raw},
    world::{Client, World, settings, until},
};

const OPEN: u32 = 2;

/// One try a call, and a breaker that needs five.
fn strict() -> UpstreamSettings {
    let mut settings = settings();
    settings.retry.retries_max = 0;
    settings.breaker.failed_percent = 60;
    settings.breaker.calls_min = 5;
    settings.breaker.open_ms = 60_000;
    settings.connections_per_endpoint = 8;
    settings
}

async fn unavailable(client: &Client, times: u32) {
    for _ in 0..times {
        assert_eq!(client.read().await.unwrap_err().code(), Code::Unavailable);
    }
}

#[tokio::test]
async fn connections_that_are_lost_in_the_middle_of_an_answer_open_the_breaker() {
    let world = World::new();
    let server = Raw::start(|_| Answer::Half).await;
    let client = server.client(&world, UpstreamSettings { warm_up: true, ..strict() });
    client.upstream.warm_up();
    until("all are connected", || world.count("connections") == 8).await;
    // Each costs one connection; there is one for each.
    unavailable(&client, 5).await;
    assert_eq!((server.calls(), world.count("breaker_state")), (5, OPEN));
}

#[tokio::test]
async fn a_proxy_that_answers_for_a_dead_service_opens_the_breaker() {
    let refused = || Status::unavailable("connection refused");
    for answer in [Answer::Http(503), Answer::Http(502), Answer::Linkerd(refused())] {
        let world = World::new();
        let server = Raw::start(move |_| answer.clone()).await;
        let client = server.client(&world, strict());
        unavailable(&client, 5).await;
        assert_eq!((server.calls(), world.count("breaker_state")), (5, OPEN));
    }
    let world = World::new();
    let server = Raw::start(move |_| Answer::Status(refused())).await;
    let client = server.client(&world, strict());
    unavailable(&client, 20).await;
    assert_eq!((server.calls(), world.count("breaker_state")), (20, 0), "it is there and says so itself");
}
