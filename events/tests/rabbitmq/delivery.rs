//! What is published, and what is not.

use std::{collections::HashSet, time::Duration};

use events::{BrokerError, Event, PublishError, Publisher as _, rabbitmq::event_of};
use lapin::{
    ExchangeKind,
    options::{BasicAckOptions, BasicNackOptions, QueueBindOptions, QueueDeclareOptions},
    types::{AMQPValue, FieldTable},
};
use mesh::{telemetry::shows_no_message, testing::log::Lines};
use tokio::time::timeout;
use tracing_subscriber::{
    Layer as _,
    filter::{FilterExt as _, FilterFn, LevelFilter},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

use crate::{
    consumer::{Effects, Incoming},
    world::{World, event, events, shared},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_confirmed_arrives_whole_and_in_order() {
    let world = World::with(&shared(), &["payment.#"], |config| config.in_flight_max = 16).await;
    let batch = events("pay_1", 200);
    assert_eq!(world.publish(&batch).await, vec![Ok(()); 200]);
    let mut incoming = Incoming::of(&shared(), world.queue()).await.unwrap();
    for event in batch {
        assert_eq!(incoming.event().await, event);
    }
    // A queue of the other kind would be refused.
    let declare = |kind: &str| {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString(kind.into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        world.channel.queue_declare(world.queue().into(), options, arguments)
    };
    assert!(declare("quorum").await.is_ok());
    world.end().await;
}

/// With many in flight the broker confirms several at once, and what came back is to be told from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_queue_wants_is_reported_and_not_counted_and_nor_is_what_comes_after_it() {
    let world = World::new(&shared(), &["payment.*"]).await;
    // The queue is there once something was published.
    assert_eq!(world.publish(&events("first", 1)).await, [Ok(())]);
    let mut incoming = Incoming::of(&shared(), world.queue()).await.unwrap();
    assert_eq!(incoming.event().await.subject().as_str(), "first");
    for round in 0..20 {
        let subject = |index: u64| format!("pay_{round}_{}", index % 10);
        let kind = |index: u64| if index % 7 == 3 { "odd.happened" } else { "payment.captured" };
        let batch: Vec<Event> = (0..100).map(|i| event(&subject(i), i / 10 + 1, kind(i))).collect();
        let outcomes = world.publish(&batch).await;
        let mut failed = HashSet::new();
        for (event, outcome) in batch.iter().zip(outcomes) {
            let expected = if event.kind().as_str() == "odd.happened" {
                Err(PublishError::Unroutable)
            } else if failed.contains(event.subject()) {
                Err(PublishError::Behind)
            } else {
                Ok(())
            };
            assert_eq!(outcome, expected, "{event:?}");
            if outcome.is_err() {
                failed.insert(event.subject().clone());
            }
        }
        for event in batch.iter().filter(|event| event.kind().as_str() == "payment.captured") {
            assert_eq!(&incoming.event().await, event);
        }
    }
    world.end().await;
}

/// lapin's threads log to the process's subscriber, which is this test's for all tests here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_came_back_is_not_shown_in_the_log() {
    let lines = Lines::default();
    let layer = tracing_subscriber::fmt::layer().with_writer(lines.clone()).with_ansi(false);
    let filter = LevelFilter::INFO.and(FilterFn::new(shows_no_message));
    tracing_subscriber::registry().with(layer.with_filter(filter)).init();
    let world = World::new(&shared(), &["payment.#"]).await;
    let outcomes =
        world.publish(&[event("a", 1, "odd.happened"), event("pay_seen", 1, "payment.captured")]).await;
    assert_eq!(outcomes, [Err(PublishError::Unroutable), Ok(())]);
    // Something was, and no body.
    let lines = lines.read().join("\n");
    assert!(lines.contains("connected to the broker"), "{lines}");
    assert!(!lines.contains("Server returned us a message") && !lines.contains("odd.happened"), "{lines}");
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_full_queue_refuses_is_reported() {
    let world = World::new(&shared(), &[]).await;
    world.declare_exchange(ExchangeKind::Topic).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(2));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let (name, options) =
        (world.queue(), QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() });
    world.channel.queue_declare(name.into(), options, arguments).await.unwrap();
    let (key, options) = ("#".into(), QueueBindOptions::default());
    world
        .channel
        .queue_bind(name.into(), world.exchange().into(), key, options, FieldTable::default())
        .await
        .unwrap();
    assert_eq!(world.publish(&events("pay_1", 2)).await, [Ok(()), Ok(())]);
    let (other, later) = (event("pay_2", 1, "payment.failed"), event("pay_2", 2, "payment.failed"));
    let refused = world.publish(&[other, later]).await;
    assert!(refused.iter().all(|outcome| *outcome == Err(PublishError::Refused)), "{refused:?}");
    world.end().await;
}

/// A batch that is given up leaves confirmations behind, which are not to be taken for another's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_given_up_does_not_disturb_the_next() {
    let world = World::new(&shared(), &["payment.#"]).await;
    assert_eq!(world.publish(&events("pay_0", 1)).await, [Ok(())]);
    for round in 1..=60 {
        let kind = |i: u64| if i.is_multiple_of(2) { "odd.happened" } else { "payment.captured" };
        let given_up: Vec<Event> = (1..=100).map(|i| event(&format!("x{i}"), 1, kind(i))).collect();
        let time = Duration::from_micros(round * 200);
        let _ = timeout(time, world.publisher.publish(&given_up)).await;
        let batch =
            [event("a", 1, "payment.captured"), event("b", 1, "odd.happened"), event("c", 1, "payment.a")];
        assert_eq!(world.publish(&batch).await, [Ok(()), Err(PublishError::Unroutable), Ok(())], "{round}");
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exchange_that_was_deleted_is_declared_again_and_one_of_another_kind_is_told() {
    let world = World::new(&shared(), &["#"]).await;
    assert_eq!(world.publish(&events("pay_1", 1)).await, [Ok(())]);
    world.delete_exchange().await;
    let lost = world.publish(&events("pay_1", 3)).await;
    assert!(lost.iter().all(Result::is_err), "{lost:?}");
    assert_eq!(world.publish(&events("pay_1", 3)).await, [Ok(()); 3]);
    world.end().await;

    let world = World::new(&shared(), &["#"]).await;
    world.declare_exchange(ExchangeKind::Fanout).await;
    let wrong = Err(PublishError::Unavailable(BrokerError::Topology));
    assert_eq!(world.publish(&events("pay_1", 2)).await, [wrong; 2]);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_has_each_effect_once_whatever_is_repeated_or_overtakes() {
    let world = World::new(&shared(), &["payment.#"]).await;
    let batch = events("pay_1", 40);
    assert!(world.publish(&batch).await.iter().all(Result::is_ok));
    // Published again by somebody who was not told that they were, in another order.
    let again: Vec<Event> = batch.iter().rev().cloned().collect();
    assert!(world.publish(&again).await.iter().all(Result::is_ok));
    let (mut effects, mut new) = (Effects::new(), 0);
    let mut incoming = Incoming::of(&shared(), world.queue()).await.unwrap();
    let (mut given_back, mut deliveries) = (HashSet::new(), 0);
    while deliveries < 80 {
        let delivery = incoming.next().await.unwrap();
        let event = event_of(&delivery).unwrap();
        // Every third is given back once after its effect, as if the consumer had died before it could acknowledge.
        let is_given_back = event.sequence().is_multiple_of(3) && given_back.insert(event.id());
        new += u32::from(effects.take(&event).await);
        if is_given_back {
            delivery.nack(BasicNackOptions { requeue: true, multiple: false }).await.unwrap();
        } else {
            delivery.ack(BasicAckOptions::default()).await.unwrap();
            deliveries += 1;
        }
    }
    let mut had = effects.of("pay_1");
    had.sort_unstable();
    assert_eq!((new, had), (40, (1..=40).collect::<Vec<u64>>()));
    world.end().await;
}
