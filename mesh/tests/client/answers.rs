//! Answers of proxies, and of servers that end in the middle: what they say about the service.

use std::time::{Duration, Instant};

use mesh::{Fault, Reason, UpstreamSettings};
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

/// The first attempt is lost on its way back, the service goes on with it, and the second one meets it.
#[tokio::test]
async fn a_retry_that_meets_its_own_first_attempt_waits_for_it() {
    let in_progress = || {
        let fault = Fault::new(Reason::IdempotencyInProgress, "Being worked on.").retry_after_s(1);
        Answer::Status(fault.into())
    };
    let world = World::new();
    let server = Raw::start(move |n| match n {
        0 => Answer::Lost,
        1 | 2 => in_progress(),
        _ => Answer::Echo,
    });
    let server = server.await;
    let client = server.client(&world, settings());
    // Its own answer is told as it is: somebody else's request is in the way.
    let other = Raw::start(move |_| in_progress()).await;
    let status = other.client(&world, settings()).write_with_key().await.unwrap_err();
    assert_eq!(Fault::from_status(&status).reason(), Reason::IdempotencyInProgress);
    assert_eq!(other.calls(), 1);
    let began = Instant::now();
    client.write_with_key().await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "asked again when it said: {:?}", began.elapsed());
    assert_eq!(server.calls(), 4);
}

#[tokio::test]
async fn a_retry_that_meets_its_first_attempt_and_has_no_time_left_says_ask_again() {
    let world = World::new();
    let server = Raw::start(|n| match n {
        0 => Answer::Status(Status::unavailable("gone in a moment")),
        _ => Answer::Status(Fault::new(Reason::IdempotencyInProgress, "Still.").retry_after_s(60).into()),
    });
    let server = server.await;
    let client = server.client(&world, settings());
    let status = client.write_with_key_within(Duration::from_secs(30)).await.unwrap_err();
    let fault = Fault::from_status(&status);
    assert_eq!((fault.reason(), fault.retry_after()), (Reason::Unavailable, Some(1)));
    assert_eq!(server.calls(), 2);
}

#[tokio::test]
async fn what_was_not_looked_at_is_sent_again_once_whatever_the_budget() {
    let world = World::new();
    let server = Raw::start(|n| if n % 2 == 0 { Answer::Refused } else { Answer::Echo }).await;
    let mut settings = settings();
    settings.retry.retries_max = 0;
    settings.retry.budget_floor_per_s = 0;
    settings.retry.budget_percent = 0;
    let client = server.client(&world, settings.clone());
    for calls in 1..=20 {
        client.write().await.unwrap();
        assert_eq!(server.calls(), 2 * calls);
    }
    assert_eq!(world.count("retries_total"), 0);
    let never = Raw::start(|_| Answer::Refused).await;
    assert_eq!(never.client(&world, settings).write().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(never.calls(), 2);
}

/// Of a stream that goes on until its time is over nobody can say that it failed; of one message, that it
/// should have come.
#[tokio::test]
async fn the_end_of_a_streams_time_is_no_failure() {
    for (streams, state) in [(true, 0), (false, OPEN)] {
        let world = World::new();
        let server = Raw::start(|_| Answer::Headers).await;
        let client = server.client(&world, strict());
        for _ in 0..5 {
            let within = Duration::from_millis(150);
            let call = if streams {
                client.watch_within(within).await
            } else {
                client.read_within(Some(within)).await
            };
            assert_eq!(call.unwrap_err().code(), Code::DeadlineExceeded);
        }
        assert_eq!((server.calls(), world.count("breaker_state")), (5, state));
    }
}

#[tokio::test]
async fn a_proxy_that_answers_for_a_dead_service_opens_the_breaker() {
    let refused = || Status::unavailable("connection refused");
    for answer in [
        Answer::Http(503),
        Answer::Http(502),
        Answer::Linkerd(refused()),
        Answer::Linkerd(Status::deadline_exceeded("logical service: service in fail-fast")),
        Answer::Status(refused()),
        Answer::Status(Status::deadline_exceeded("service in fail-fast")),
        Answer::Reset(h2::Reason::INTERNAL_ERROR),
        Answer::Reset(h2::Reason::NO_ERROR),
    ] {
        let world = World::new();
        let server = Raw::start(move |_| answer.clone()).await;
        let client = server.client(&world, strict());
        unavailable(&client, 5).await;
        assert_eq!((server.calls(), world.count("breaker_state")), (5, OPEN));
    }
    let own = || Fault::new(Reason::Unavailable, "The store is away.");
    let world = World::new();
    let server = Raw::start(move |_| Answer::Status(own().into())).await;
    let client = server.client(&world, strict());
    unavailable(&client, 20).await;
    assert_eq!((server.calls(), world.count("breaker_state")), (20, 0), "it is there and says so itself");
}

/// A proxy whose service is killed, restarted or not there yet: it answers in the service's place, or resets
/// what was under way.
#[tokio::test]
async fn what_a_proxy_has_lost_is_tried_again_where_it_may_be() {
    for lost in [
        Answer::Status(Status::unavailable("connection refused")),
        Answer::Linkerd(Status::deadline_exceeded("service in fail-fast")),
        Answer::Status(Status::deadline_exceeded("service in fail-fast")),
        Answer::Reset(h2::Reason::INTERNAL_ERROR),
        Answer::Reset(h2::Reason::NO_ERROR),
    ] {
        let world = World::new();
        let server = Raw::start(move |n| if n % 2 == 0 { lost.clone() } else { Answer::Echo }).await;
        let client = server.client(&world, settings());
        client.read().await.unwrap();
        assert_eq!(server.calls(), 2);
        // It may have been carried out, and may not be twice.
        let fault = Fault::from_status(&client.write().await.unwrap_err());
        assert_eq!((fault.reason(), fault.retry_after()), (Reason::Unavailable, Some(1)));
        assert_eq!(server.calls(), 3);
    }
}
