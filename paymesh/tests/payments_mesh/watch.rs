//! Watching a payment: every event once and in order, whatever happens meanwhile, and not for ever.

use std::time::{Duration, Instant};

use mesh::{Call, Fault, Origin, Reason};
use paymesh_proto::payments::v1::{PaymentEvent, WatchPaymentEventsRequest, payment::CaptureMethod};
use svc_payments::config::Config;
use tonic::Streaming;

use crate::{
    gate::PATIENCE,
    world::{Edge, VISA, World, call, config, order},
};

async fn watch(edge: &Edge, id: &str, after: i64) -> Result<Streaming<PaymentEvent>, Fault> {
    watch_for(edge, call(""), id, after).await
}

async fn watch_for(edge: &Edge, call: Call, id: &str, after: i64) -> Result<Streaming<PaymentEvent>, Fault> {
    let request = WatchPaymentEventsRequest { payment_id: id.into(), after_sequence: after };
    let watching = edge.client().watch_payment_events(call.forward(request)).await;
    watching.map(tonic::Response::into_inner).map_err(|status| Fault::from_status(&status))
}

/// The next event, or the stream's end.
async fn next(events: &mut Streaming<PaymentEvent>) -> Option<PaymentEvent> {
    let next = tokio::time::timeout(PATIENCE, events.message()).await;
    next.expect("the stream goes on or ends").unwrap()
}

/// Reads up to and with the event of this number; each number once, in order.
async fn read_to(events: &mut Streaming<PaymentEvent>, from: i64, to: i64) {
    for sequence in from..=to {
        assert_eq!(next(events).await.unwrap().sequence, sequence);
    }
}

#[tokio::test]
async fn what_was_and_what_comes_each_once_and_in_order() {
    let (world, payments, edge) = World::with_payments().await;
    let token = world.token(VISA).await;
    let id = edge.create("k", &order(&token, CaptureMethod::Manual)).await.unwrap().message.id;
    let mut from_start = watch(&edge, &id, 0).await.unwrap();
    let first = next(&mut from_start).await.unwrap();
    assert_eq!(
        (first.sequence, first.r#type.as_str(), first.payment_id.as_str()),
        (1, "payment.created", &*id)
    );
    read_to(&mut from_start, 2, 2).await;
    let mut from_now = watch(&edge, &id, 2).await.unwrap();
    edge.capture("c", &id, None).await.unwrap();
    read_to(&mut from_start, 3, 3).await;
    read_to(&mut from_now, 3, 3).await;

    // Many events at once, and watchers who come and go in between.
    let refunds = async {
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..40 {
            let (edge, id) = (edge.clone(), id.clone());
            tasks.spawn(async move { edge.refund(&format!("r{number}"), &id, Some(100)).await.unwrap() });
        }
        tasks.join_all().await;
    };
    let last = 3 + 80;
    let coming_and_going = async {
        for from in [0, 1, 10, 50] {
            let mut events = watch(&edge, &id, from).await.unwrap();
            read_to(&mut events, from + 1, last).await;
        }
    };
    tokio::join!(
        refunds,
        read_to(&mut from_start, 4, last),
        read_to(&mut from_now, 4, last),
        coming_and_going
    );
    let listed = edge.get(&id).await;
    assert_eq!(listed.sequence, last);

    // A service that stops ends its streams; no error, nothing held up.
    let stopping = Instant::now();
    let ends = async { assert_eq!(next(&mut from_start).await, None) };
    tokio::join!(payments.stop(), ends);
    assert!(stopping.elapsed() < PATIENCE);
}

#[tokio::test]
async fn only_ones_own_payments_and_only_so_many_at_once() {
    let mut world = World::new().await;
    let bounded = Config { watchers_max: 3, watchers_per_tenant_max: 2, ..config() };
    let (_payments, edge) = world.start_payments(bounded).await;
    let token = world.token(VISA).await;
    let id = edge.create("k", &order(&token, CaptureMethod::Manual)).await.unwrap().message.id;
    let reason =
        |watching: Result<Streaming<PaymentEvent>, Fault>| watching.map(drop).map_err(|fault| fault.reason());
    for unknown in ["pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b", "x", ""] {
        assert_eq!(reason(watch(&edge, unknown, 0).await), Err(Reason::PaymentNotFound));
    }
    let stranger = mesh::testing::call_of("globex");
    assert_eq!(reason(watch_for(&edge, stranger, &id, 0).await), Err(Reason::PaymentNotFound));
    assert_eq!(reason(watch(&edge, &id, -1).await), Err(Reason::InvalidRequest));

    let first = watch(&edge, &id, 0).await.unwrap();
    let _second = watch(&edge, &id, 0).await.unwrap();
    assert_eq!(reason(watch(&edge, &id, 0).await), Err(Reason::Overloaded));
    // Who goes away makes room, as soon as the service hears of it.
    drop(first);
    let again = crate::gate::until("a place", async || watch(&edge, &id, 0).await.ok()).await;
    drop(again);
}

#[tokio::test]
async fn a_stream_ends_with_its_callers_deadline_and_after_its_time() {
    let mut world = World::new().await;
    let (payments, edge) = world.start_payments(config()).await;
    let token = world.token(VISA).await;
    let id = edge.create("k", &order(&token, CaptureMethod::Manual)).await.unwrap().message.id;
    let plain = call("");
    let hurried = Call::start(Origin {
        peer: plain.peer().clone(),
        tenant: plain.tenant().ok().cloned(),
        request_id: plain.request_id().clone(),
        trace: plain.trace(),
        deadline: Some(Instant::now() + Duration::from_secs(2)),
        idempotency_key: None,
    });
    let mut events = watch_for(&edge, hurried, &id, 2).await.unwrap();
    // The watcher has an hour. Service and client both keep the deadline; whichever is first ends it.
    let ended = tokio::time::timeout(PATIENCE, events.message()).await.expect("the stream ends");
    assert!(!matches!(ended, Ok(Some(_))), "with the caller's deadline");
    payments.stop().await;
    let brief = Config { watch_duration_max_ms: 200, ..config() };
    let (_payments, edge) = world.start_payments(brief).await;
    let mut events = watch(&edge, &id, 2).await.unwrap();
    assert_eq!(next(&mut events).await, None, "after the time that a watcher has");
}
