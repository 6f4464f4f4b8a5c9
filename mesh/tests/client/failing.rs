//! Servers that fail: what is tried again, what is left out, and what is not asked any more.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use mesh::{Fault, Reason};
use tonic::Code;

use crate::world::{Load, Mode, World, settings, until};

#[tokio::test]
async fn one_of_three_is_killed_under_load_and_no_read_fails() {
    let world = World::new();
    let (mut first, second, third) = (world.replica().await, world.replica().await, world.replica().await);
    let client = world.client(settings(), &[&first, &second, &third]);
    let load = Load::start(24, &client, |client| async move { client.read().await });
    load.goes_on_for(600).await;
    assert!([&first, &second, &third].iter().all(|replica| replica.state.calls() > 100), "all are used");
    first.kill();
    load.goes_on_for(600).await;
    load.must_have_succeeded().await;
}

#[tokio::test]
async fn a_dead_endpoint_is_left_out_and_comes_back() {
    let world = World::new();
    let (well, mut ill) = (world.replica().await, world.replica().await);
    let client = world.client(settings(), &[&well, &ill]);
    let load = Load::start(4, &client, |client| async move { client.read().await });
    until("both are used", || well.state.calls() > 100 && ill.state.calls() > 100).await;
    ill.kill();
    until("it is left out", || world.count("ejections_total") > 0).await;
    load.goes_on_for(200).await;
    let again = world.replica_at(ill.address, Arc::default()).await;
    until("it is used again", || again.state.calls() > 20).await;
    load.must_have_succeeded().await;
}

#[tokio::test]
async fn an_endpoint_that_answers_with_failures_is_left_out_for_a_while() {
    let world = World::new();
    let (well, ill) = (world.replica().await, world.replica().await);
    let mut settings = settings();
    settings.ejection.base_ms = 60_000;
    let client = world.client(settings, &[&well, &ill]);
    let load = Load::start(4, &client, |client| async move { client.read().await });
    // The calls so far have earned the retries that it will take.
    load.goes_on_for(200).await;
    ill.state.now(Mode::Unavailable(None));
    until("it is left out", || world.count("ejections_total") == 1).await;
    load.goes_on_for(20).await;
    let seen = ill.state.calls();
    load.goes_on_for(200).await;
    load.must_have_succeeded().await;
    assert_eq!(ill.state.calls(), seen, "nothing goes to it");
    well.state.now(Mode::Unavailable(None));
    for _ in 0..20 {
        let _ = client.read().await;
    }
    assert_eq!(world.count("ejections_total"), 1, "the last one is never left out");
}

#[tokio::test]
async fn retries_are_a_fifth_at_most_while_everything_fails() {
    let world = World::new();
    let replica = world.replica().await;
    replica.state.now(Mode::Unavailable(None));
    let mut settings = settings();
    settings.retry.budget_floor_per_s = 0;
    let client = world.client(settings, &[&replica]);
    for _ in 0..500 {
        assert_eq!(client.read().await.unwrap_err().code(), Code::Unavailable);
    }
    let calls = replica.state.calls();
    assert!((590..=600).contains(&calls), "{calls} attempts for 500 calls");
    assert_eq!(world.count("retries_total"), calls - 500);
}

#[tokio::test]
async fn a_write_without_a_key_is_never_sent_twice() {
    let world = World::new();
    let (mut first, second) = (world.replica().await, world.replica().await);
    let client = world.client(settings(), &[&first]);
    first.state.now(Mode::Unavailable(None));
    for _ in 0..50 {
        assert_eq!(client.write().await.unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!(first.state.calls(), 50);
    // The connection is lost while the server works on it: nobody knows what became of it.
    first.state.now(Mode::Hangs);
    let caller = tokio::spawn({
        let client = client.clone();
        async move { client.write().await }
    });
    until("the server works on it", || first.state.under_way() == 1).await;
    client.names.now(&[&first, &second]);
    first.kill();
    assert_eq!(caller.await.unwrap().unwrap_err().code(), Code::Unavailable);
    assert_eq!((first.state.calls(), second.state.calls()), (51, 0));
    // With no connection left there, the next one goes where it can.
    while client.read().await.is_err() {}
    let seen = second.state.calls();
    client.write().await.unwrap();
    assert_eq!(second.state.calls(), seen + 1);
}

#[tokio::test]
async fn a_write_with_a_key_is_sent_again() {
    let world = World::new();
    let replica = world.replica().await;
    let client = world.client(settings(), &[&replica]);
    replica.state.now(Mode::UnavailableFirst(2));
    client.write_with_key().await.unwrap();
    assert_eq!(replica.state.calls(), 3);
    assert_eq!(*replica.state.attempts.lock().unwrap(), ["1", "2"]);
    assert_eq!(replica.state.timeouts.lock().unwrap().len(), 3, "one each");
    replica.state.now(Mode::UnavailableFirst(3));
    assert_eq!(client.write_with_key().await.unwrap_err().code(), Code::Unavailable, "two retries at most");
}

#[tokio::test]
async fn the_servers_wish_to_be_left_alone_is_respected() {
    let world = World::new();
    let replica = world.replica().await;
    let client = world.client(settings(), &[&replica]);
    replica.state.now(Mode::Unavailable(Some("-1")));
    assert_eq!(client.read().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(replica.state.calls(), 1);
    replica.state.now(Mode::Unavailable(Some("150")));
    let began = Instant::now();
    assert_eq!(client.read().await.unwrap_err().code(), Code::Unavailable);
    assert!(began.elapsed() >= Duration::from_millis(300), "two waits of 150 ms: {:?}", began.elapsed());
    assert_eq!(replica.state.calls(), 4);
    // Nobody waits for what would come too late.
    replica.state.now(Mode::Unavailable(Some("60000")));
    let calling = client.read_within(Some(Duration::from_secs(30)));
    assert_eq!(calling.await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(replica.state.calls(), 5);
}

#[tokio::test]
async fn the_breaker_opens_refuses_at_once_and_closes_again() {
    let world = World::new();
    let replica = world.replica().await;
    let mut settings = settings();
    settings.retry.retries_max = 0;
    settings.breaker.failed_percent = 50;
    settings.breaker.calls_min = 10;
    settings.breaker.open_ms = 1_500;
    let client = world.client(settings, &[&replica]);
    // That what is behind it is away, says a service that is well.
    replica.state.now(Mode::Unavailable(None));
    for _ in 0..20 {
        assert_eq!(client.read().await.unwrap_err().code(), Code::Unavailable);
    }
    assert_eq!((world.count("breaker_state"), replica.state.calls()), (0, 20));
    replica.state.now(Mode::Broken);
    while world.count("breaker_state") == 0 {
        assert_eq!(client.read().await.unwrap_err().code(), Code::Internal);
    }
    let calls = replica.state.calls();
    assert!(calls <= 60, "{calls}");
    assert_eq!((world.count("breaker_state"), replica.state.calls()), (2, calls));
    let fault = Fault::from_status(&client.read().await.unwrap_err());
    assert_eq!(fault.reason(), Reason::Unavailable);
    assert!(fault.retry_after().is_some());
    assert_eq!(replica.state.calls(), calls, "it was not asked");
    replica.state.now(Mode::Answers);
    let began = Instant::now();
    while client.read().await.is_err() {
        assert!(began.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    client.read().await.unwrap();
    client.read().await.unwrap();
    assert_eq!(world.count("breaker_state"), 0);
}

#[tokio::test]
async fn a_slow_read_is_hedged_and_the_slow_one_is_cancelled() {
    let world = World::new();
    let first = world.replica().await;
    // Told as one, as nobody knows which of them is asked first.
    let second = world.replica_at(([127, 0, 0, 1], 0).into(), Arc::clone(&first.state)).await;
    let mut settings = settings();
    settings.hedge_after_ms = 20;
    settings.retry.budget_percent = 100;
    let client = world.client(settings, &[&first, &second]);
    client.read().await.unwrap();
    until("both are connected", || world.count("connections") == 4).await;
    for _ in 0..5 {
        first.state.now(Mode::HangsOnce);
        tokio::time::timeout(Duration::from_secs(10), client.read()).await.unwrap().unwrap();
    }
    assert!(world.count("hedges_total") >= 5);
    until("the slow ones are cancelled", || first.state.under_way() == 0).await;
    assert_eq!(first.state.given_up.load(Ordering::SeqCst), 5);
}
