//! The whole way: from a store's delivery over the dispatcher and TLS to a receiver, and back into the store.

use std::sync::Arc;

use mesh::{Drain, Metrics, SystemClock, client::ThreadDice};
use money::Timestamp;
use webhooks::{
    Dispatcher, HttpSender, Wake, WebhookSecret,
    dispatcher::Tools,
    domain::delivery::State,
    testing::{
        Fixture as _, MemoryDeliveries, PlainSealer,
        contract::{add_delivery, add_endpoint, delivery_id, endpoint_id},
    },
};

use super::{Names, config};
use crate::receiver::{Came, Does, HOST, PATIENCE, Receiver};

/// Delivers one webhook; what came, and the store.
async fn deliver(does: Does) -> (Came, Arc<MemoryDeliveries>) {
    let receiver = Receiver::start(does).await;
    let (config, clock) = (config(&receiver), Arc::new(SystemClock));
    let sender = HttpSender::new(&config, Names::answering(&[&["127.0.0.1"]]), clock.clone()).unwrap();
    let (store, drain) = (Arc::new(MemoryDeliveries::default()), Drain::new());
    add_endpoint(&*store, 1, &format!("https://{HOST}:{}/hook", receiver.address.port())).await;
    add_delivery(&*store, 1, 1, 0).await;
    let (metrics, wake) = (Metrics::new("svc-test"), Wake::default());
    let tools = Tools { clock, dice: Arc::new(ThreadDice), metrics, wake };
    let dispatcher = Dispatcher::new(&config, Arc::clone(&store), sender, Arc::new(PlainSealer), tools);
    let running = tokio::spawn(dispatcher.run(drain.clone()));
    let attempted = async {
        while store.delivery(delivery_id(1)).await.1.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, attempted).await.expect("an attempt is recorded");
    drain.start();
    running.await.unwrap();
    let [came] = <[_; 1]>::try_from(receiver.came()).ok().unwrap();
    (came, store)
}

#[tokio::test]
async fn a_delivery_is_signed_sent_and_recorded() {
    let (came, store) = deliver(Does::Answers(201, &[], "thanks")).await;
    let (delivery, attempts) = store.delivery(delivery_id(1)).await;
    assert_eq!((delivery.state, attempts[0].answer.as_str()), (State::Delivered, "thanks"));
    assert_eq!(came.headers["webhook-id"], delivery.event.to_string());
    let sent_at = Timestamp::from_seconds(came.headers["webhook-timestamp"].parse().unwrap());
    assert_eq!(sent_at.as_seconds(), attempts[0].at.as_seconds());
    let secret = WebhookSecret::of(vec![1; 24]).unwrap();
    assert_eq!(secret.verify(&came.headers, &came.body, sent_at), Ok(()));
}

#[tokio::test]
async fn an_endpoint_that_is_gone_is_disabled() {
    let (_, store) = deliver(Does::Answers(410, &[], "")).await;
    assert_eq!(store.delivery(delivery_id(1)).await.0.state, State::Canceled);
    assert!(store.endpoint(endpoint_id(1)).await.disabled.is_some());
}

#[tokio::test]
async fn a_receiver_puts_the_next_attempt_off() {
    let (_, store) = deliver(Does::Answers(503, &[("retry-after", "3600")], "")).await;
    let (delivery, attempts) = store.delivery(delivery_id(1)).await;
    let wait = delivery.due_at.unwrap().nanos_since(attempts[0].at) / 1_000_000_000;
    assert!((3_600..3_700).contains(&wait), "{wait}");
}
