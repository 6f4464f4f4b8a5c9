//! What every store of deliveries does. Each test is given a store without endpoints and deliveries.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use money::{EventId, Timestamp, WebhookDeliveryId, WebhookEndpointId};
use uuid::Uuid;

use super::{Fixture, PlainSealer, at};
use crate::{
    WebhookSecret,
    deliveries::{Job, Recorded, Room},
    domain::{
        attempt::{ATTEMPTS_KEPT, Outcome},
        delivery::{Delivery, Report, State},
        endpoint::{DisabledReason, Endpoint, Update},
        event::EventFilter,
        url::EndpointUrl,
    },
    sealing::{SealedFor, Sealer as _},
};

const FIVE_DAYS_S: u32 = 5 * 86_400;
/// How long the leases are held here, in seconds.
const LEASE_S: i64 = 60;

/// The number of an endpoint in these tests, as its id.
pub fn endpoint_id(number: u128) -> WebhookEndpointId {
    WebhookEndpointId::new(Uuid::from_u128(number))
}

/// The number of a delivery in these tests, as its id.
pub fn delivery_id(number: u128) -> WebhookDeliveryId {
    WebhookDeliveryId::new(Uuid::from_u128(number))
}

/// An enabled endpoint that wants everything, with a secret of 24 bytes of `number`.
pub async fn add_endpoint(store: &impl Fixture, number: u8, url: &str) {
    let id = endpoint_id(number.into());
    let tenant = "acme".parse().unwrap();
    let secret = WebhookSecret::of(vec![number; 24]).unwrap();
    let sealed = PlainSealer.seal(SealedFor { tenant: &tenant, endpoint: id }, &secret).await.unwrap();
    let filter = EventFilter::new(vec!["*".into()]).unwrap();
    let url = EndpointUrl::parse(url).unwrap();
    let endpoint = Endpoint::new(id, tenant, url, filter, String::new(), sealed, Timestamp::EPOCH).unwrap();
    store.put_endpoint(endpoint).await;
}

/// A delivery to an endpoint that is there, due at a second.
pub async fn add_delivery(store: &impl Fixture, number: u128, endpoint: u8, due: i64) {
    let endpoint = store.endpoint(endpoint_id(endpoint.into())).await;
    let event = EventId::new(Uuid::from_u128(number));
    let kind = "payment.captured".parse().unwrap();
    let delivery = Delivery::new(delivery_id(number), &endpoint, event, kind, at(due));
    store.put_delivery(delivery, Bytes::from(format!(r#"{{"number":{number}}}"#))).await;
}

fn room(most: usize, per_endpoint: usize) -> Room {
    Room { most, per_endpoint, left: HashMap::new() }
}

fn report(second: i64, status: u16) -> Report {
    Report {
        at: at(second),
        ended_at: at(second),
        outcome: Outcome::Answered(status),
        retry_after_s: None,
        answer: "answer".to_owned(),
        revision: 0,
        chance: 0,
    }
}

async fn take(store: &impl Fixture, room: &Room, second: i64) -> Vec<Job> {
    store.take(room, at(second), at(second + LEASE_S)).await.unwrap().jobs
}

async fn take_one(store: &impl Fixture, second: i64) -> Job {
    let mut jobs = take(store, &room(9, 9), second).await;
    assert_eq!(jobs.len(), 1);
    jobs.remove(0)
}

fn numbers(jobs: &[Job]) -> Vec<u128> {
    jobs.iter().map(|job| job.delivery.id.uuid().as_u128()).collect()
}

const URL: &str = "https://example.com/hook";

/// What is due is taken, the longest due first, once, and with all that belongs to it.
pub async fn takes_what_is_due_once<F: Fixture>(store: F) {
    add_endpoint(&store, 1, URL).await;
    for (number, due) in [(1, 30), (2, 10), (3, 20), (4, 41)] {
        add_delivery(&store, number, 1, due).await;
    }
    assert!(take(&store, &room(9, 9), 9).await.is_empty());
    let taken = store.take(&room(2, 9), at(40), at(100)).await.unwrap();
    assert_eq!(numbers(&taken.jobs), [2, 3]);
    let job = &taken.jobs[0];
    assert_eq!((job.delivery.state, job.lease.delivery), (State::Pending, delivery_id(2)));
    assert_eq!(
        (&job.body[..], &job.endpoint),
        (&br#"{"number":2}"#[..], &store.endpoint(endpoint_id(1)).await)
    );
    assert_ne!(job.lease, taken.jobs[1].lease);
    let rest = store.take(&room(9, 9), at(40), at(100)).await.unwrap();
    assert_eq!((numbers(&rest.jobs), rest.next_at), (vec![1], Some(at(41))));
    let none = store.take(&room(9, 9), at(40), at(100)).await.unwrap();
    assert_eq!((none.jobs.len(), none.next_at), (0, Some(at(41))));
}

/// No endpoint gets more than there is room for, and a full one does not stand in another one's way.
pub async fn keeps_to_the_room<F: Fixture>(store: F) {
    for endpoint in 1..=3 {
        add_endpoint(&store, endpoint, URL).await;
    }
    for number in 0..30_u8 {
        add_delivery(&store, number.into(), 1 + number % 3, number.into()).await;
    }
    let left = [(endpoint_id(1), 0), (endpoint_id(2), 1)].into();
    let jobs = take(&store, &Room { most: 9, per_endpoint: 4, left }, 100).await;
    assert_eq!(numbers(&jobs), [1, 2, 5, 8, 11]);
    let jobs = take(&store, &room(3, 2), 100).await;
    assert_eq!(numbers(&jobs), [0, 3, 4]);
    assert!(take(&store, &room(0, 2), 100).await.is_empty());
}

/// Who does not report in time loses the delivery to the next, and cannot report any more.
pub async fn a_lease_ends<F: Fixture>(store: F) {
    add_endpoint(&store, 1, URL).await;
    add_delivery(&store, 1, 1, 0).await;
    let first = take_one(&store, 0).await;
    let none = store.take(&room(9, 9), at(LEASE_S - 1), at(999)).await.unwrap();
    assert_eq!((none.jobs.len(), none.next_at), (0, Some(at(LEASE_S))));
    let second = take_one(&store, LEASE_S).await;
    assert_eq!(first.delivery, second.delivery, "the same id, and not counted");
    assert_ne!(first.lease, second.lease);
    assert_eq!(store.record(first.lease, &report(61, 200), FIVE_DAYS_S).await.unwrap(), Recorded::Late);
    store.put_back(first.lease, at(0)).await.unwrap();
    assert!(take(&store, &room(9, 9), 62).await.is_empty(), "the second one still has it");
    let recorded = store.record(second.lease, &report(999, 200), FIVE_DAYS_S).await.unwrap();
    assert_eq!(recorded, Recorded::Yes { disabled: None }, "nobody else has taken it");
    assert_eq!(store.record(second.lease, &report(999, 500), FIVE_DAYS_S).await.unwrap(), Recorded::Late);
    let (delivery, attempts) = store.delivery(delivery_id(1)).await;
    assert_eq!((delivery.state, delivery.due_at, attempts.len()), (State::Delivered, None, 1));
}

/// A failure makes the delivery due again by the schedule, and is in its log, which is bounded.
pub async fn a_failure_is_tried_again<F: Fixture>(store: F) {
    add_endpoint(&store, 1, URL).await;
    add_delivery(&store, 1, 1, 0).await;
    let job = take_one(&store, 0).await;
    store.record(job.lease, &report(1, 503), FIVE_DAYS_S).await.unwrap();
    let none = store.take(&room(9, 9), at(5), at(65)).await.unwrap();
    assert_eq!((none.jobs.len(), none.next_at), (0, Some(at(6))));
    let (delivery, attempts) = store.delivery(delivery_id(1)).await;
    assert_eq!((delivery.state, delivery.attempts, delivery.due_at), (State::Pending, 1, Some(at(6))));
    assert_eq!((attempts.len(), attempts[0].number, attempts[0].answer.as_str()), (1, 1, "answer"));
    assert_eq!(store.endpoint(endpoint_id(1)).await.failing_since, Some(at(1)));
    for second in 1..=60 {
        let (mut delivery, _) = store.delivery(delivery_id(1)).await;
        delivery.resend(at(second * 100));
        store.put_delivery(delivery, Bytes::new()).await;
        let job = take_one(&store, second * 100).await;
        store.record(job.lease, &report(second * 100, 500), FIVE_DAYS_S).await.unwrap();
    }
    let (delivery, attempts) = store.delivery(delivery_id(1)).await;
    let kept: Vec<u32> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!((delivery.attempts, kept), (61, (12..=61).collect()));
    assert_eq!(attempts.len(), ATTEMPTS_KEPT);
}

/// 410 disables the endpoint and cancels what is pending for it, and nothing else.
pub async fn gone_cancels_what_is_pending<F: Fixture>(store: F) {
    add_endpoint(&store, 1, URL).await;
    add_endpoint(&store, 2, URL).await;
    for (number, endpoint) in [(1, 1), (2, 1), (3, 2)] {
        add_delivery(&store, number, endpoint, 0).await;
    }
    let jobs = take(&store, &room(9, 9), 0).await;
    add_delivery(&store, 4, 1, 500).await;
    let recorded = store.record(jobs[0].lease, &report(1, 410), FIVE_DAYS_S).await.unwrap();
    assert_eq!(recorded, Recorded::Yes { disabled: Some(DisabledReason::Gone) });
    let endpoint = store.endpoint(endpoint_id(1)).await;
    assert_eq!(endpoint.disabled.map(|disabled| disabled.reason), Some(DisabledReason::Gone));
    for (number, state) in
        [(1, State::Canceled), (2, State::Canceled), (3, State::Pending), (4, State::Canceled)]
    {
        assert_eq!(store.delivery(delivery_id(number)).await.0.state, state, "{number}");
    }
    // The one that was under way arrived all the same.
    let late = store.record(jobs[1].lease, &report(2, 200), FIVE_DAYS_S).await.unwrap();
    assert_eq!(late, Recorded::Yes { disabled: None });
    assert_eq!(store.delivery(delivery_id(2)).await.0.state, State::Delivered);
    assert!(store.endpoint(endpoint_id(1)).await.disabled.is_some());
    store.record(jobs[2].lease, &report(2, 200), FIVE_DAYS_S).await.unwrap();
    assert!(take(&store, &room(9, 9), 1_000).await.is_empty());
}

/// Nothing is taken for an endpoint that is disabled or gone: it is canceled.
pub async fn a_disabled_endpoint_gets_nothing<F: Fixture>(store: F) {
    add_endpoint(&store, 1, URL).await;
    add_endpoint(&store, 2, URL).await;
    add_delivery(&store, 1, 1, 0).await;
    add_delivery(&store, 2, 2, 0).await;
    let mut endpoint = store.endpoint(endpoint_id(1)).await;
    endpoint.update(Update { enabled: Some(false), ..Update::default() }, at(1)).unwrap();
    store.put_endpoint(endpoint).await;
    store.remove_endpoint(endpoint_id(2)).await;
    assert!(take(&store, &room(9, 9), 2).await.is_empty());
    for number in [1, 2] {
        let (delivery, attempts) = store.delivery(delivery_id(number)).await;
        assert_eq!((delivery.state, delivery.due_at, attempts.len()), (State::Canceled, None, 0));
    }
}

/// What is put back is due when it is said, and is where it was in the schedule.
pub async fn what_is_put_back_is_not_counted<F: Fixture>(store: F) {
    add_endpoint(&store, 1, URL).await;
    add_delivery(&store, 1, 1, 0).await;
    let job = take_one(&store, 0).await;
    store.put_back(job.lease, at(30)).await.unwrap();
    let none = store.take(&room(9, 9), at(29), at(99)).await.unwrap();
    assert_eq!((none.jobs.len(), none.next_at), (0, Some(at(30))));
    let again = take_one(&store, 30).await;
    assert_eq!((again.delivery.attempts, again.delivery.scheduled), (0, 0));
    assert_ne!(again.lease, job.lease);
}

/// Several that take at once never get the same.
pub async fn takers_get_different_deliveries<F: Fixture>(store: F) {
    let store = std::sync::Arc::new(store);
    for endpoint in 1..=4 {
        add_endpoint(&*store, endpoint, URL).await;
    }
    for number in 0..80_u8 {
        add_delivery(&*store, number.into(), 1 + number % 4, 0).await;
    }
    let mut takers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let store = std::sync::Arc::clone(&store);
        takers.spawn(async move {
            let mut all = Vec::new();
            for _ in 0..10 {
                all.extend(numbers(&take(&*store, &room(3, 3), 1).await));
            }
            all
        });
    }
    let all = takers.join_all().await.concat();
    let different: HashSet<u128> = all.iter().copied().collect();
    assert_eq!((all.len(), different.len()), (80, 80));
}
