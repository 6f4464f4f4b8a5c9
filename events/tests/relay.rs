//! The relay, with a store and a publisher that fail as they are told, on paused time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use events::{
    Backlog, BrokerError, Event, Outbox, Outcome, Pending, Position, PublishError, Publisher, Publishing,
    Relay, RelayConfig, Wake,
};
use mesh::{Drain, ManualClock, Metrics, StoreError};
use money::{EventId, Timestamp};
use proptest::prelude::*;
use tokio::time::{Instant, sleep, timeout};
use uuid::Uuid;

const NOON: Timestamp = Timestamp::from_seconds(1_800_000_000);

/// An outbox in memory. Cheap to clone; all clones are the same.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    events: BTreeMap<Position, Event>,
    written: HashMap<String, u64>,
    last: Position,
    /// How many of the next reads and marks fail.
    reads_fail: u32,
    marks_fail: u32,
    reads: u32,
}

impl Memory {
    fn write(&self, subject: &str) -> Event {
        let mut kept = self.0.lock().unwrap();
        let sequence = kept.written.entry(subject.to_owned()).or_default();
        *sequence += 1;
        let stream = (subject.parse().unwrap(), *sequence);
        let kind = if subject.starts_with("odd") { "odd.happened" } else { "payment.captured" };
        let id = EventId::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{stream:?}").as_bytes()));
        let (tenant, kind) = ("acme".parse().unwrap(), kind.parse().unwrap());
        let event = Event::new(id, tenant, stream, kind, NOON, Bytes::new()).unwrap();
        kept.last += 1;
        let last = kept.last;
        kept.events.insert(last, event.clone());
        event
    }

    fn is_empty(&self) -> bool {
        self.0.lock().unwrap().events.is_empty()
    }

    fn with<T>(&self, change: impl FnOnce(&mut Kept) -> T) -> T {
        change(&mut self.0.lock().unwrap())
    }
}

fn failing(left: &mut u32) -> Result<(), StoreError> {
    let fails = *left > 0;
    *left = left.saturating_sub(1);
    if fails { Err(StoreError::Server("away".into())) } else { Ok(()) }
}

impl Outbox for Memory {
    async fn unpublished(&self, after: Position, limit: usize) -> Result<Vec<Pending>, StoreError> {
        self.with(|kept| {
            kept.reads += 1;
            failing(&mut kept.reads_fail)?;
            let later = kept.events.range(after + 1..).take(limit);
            Ok(later.map(|(&position, event)| Pending { position, event: event.clone() }).collect())
        })
    }

    async fn mark_published(&self, positions: &[Position]) -> Result<(), StoreError> {
        self.with(|kept| {
            failing(&mut kept.marks_fail)?;
            kept.events.retain(|position, _| !positions.contains(position));
            Ok(())
        })
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let events = self.with(|kept| kept.events.len());
        let oldest = self.with(|kept| kept.events.values().next().map(Event::time));
        Ok(Backlog { events: events.try_into().unwrap(), oldest })
    }
}

/// Publishes to a list; what it answers is scripted by the batch, then by the type.
#[derive(Default)]
struct Double {
    published: Mutex<Vec<Event>>,
    /// One for each batch to come: the outcome of its items from this index on.
    script: Mutex<VecDeque<(usize, PublishError)>>,
    odd_is_unroutable: Mutex<bool>,
    batches: Mutex<Vec<(Instant, usize)>>,
    hangs: Mutex<bool>,
}

impl Publisher for Double {
    fn publish<'a>(&'a self, batch: &'a [Event]) -> Publishing<'a> {
        Box::pin(async move {
            self.batches.lock().unwrap().push((Instant::now(), batch.len()));
            sleep(Duration::from_millis(5)).await;
            if *self.hangs.lock().unwrap() {
                std::future::pending::<()>().await;
            }
            let fails = self.script.lock().unwrap().pop_front();
            let unroutable = *self.odd_is_unroutable.lock().unwrap();
            let outcome = |(index, event): (usize, &Event)| -> Outcome {
                match fails {
                    Some((from, error)) if index >= from => Err(error),
                    _ if unroutable && event.kind().as_str().starts_with("odd") => {
                        Err(PublishError::Unroutable)
                    }
                    _ => {
                        self.published.lock().unwrap().push(event.clone());
                        Ok(())
                    }
                }
            };
            batch.iter().enumerate().map(outcome).collect()
        })
    }
}

impl Double {
    fn published(&self) -> Vec<Event> {
        self.published.lock().unwrap().clone()
    }

    fn batches(&self) -> usize {
        self.batches.lock().unwrap().len()
    }
}

struct World {
    outbox: Memory,
    publisher: Arc<Double>,
    wake: Wake,
    drain: Drain,
    metrics: Metrics,
    relay: tokio::task::JoinHandle<()>,
}

fn start(outbox: Memory, config: RelayConfig) -> World {
    let (publisher, wake, drain) = (Arc::new(Double::default()), Wake::new(), Drain::new());
    let metrics = Metrics::new("svc-test");
    let clock = Arc::new(ManualClock::new(NOON.checked_add_seconds(60).unwrap()));
    let relay = Relay::new(outbox.clone(), publisher.clone(), wake.clone(), clock, config, &metrics);
    let relay = tokio::spawn(relay.run(drain.clone()));
    World { outbox, publisher, wake, drain, metrics, relay }
}

impl World {
    fn write(&self, subject: &str) -> Event {
        let event = self.outbox.write(subject);
        self.wake.wake();
        event
    }

    async fn until_empty(&self) {
        let empty = async {
            while !self.outbox.is_empty() {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(Duration::from_secs(600), empty).await.expect("all is published");
    }

    async fn stop(self) {
        self.drain.start();
        timeout(Duration::from_secs(5), self.relay).await.expect("it stops").unwrap();
    }
}

/// Each subject's events in the order of their sequence, none left out, once repetitions are.
fn assert_in_order(published: &[Event]) {
    let mut last: HashMap<String, u64> = HashMap::new();
    for event in published {
        let last = last.entry(event.subject().to_string()).or_default();
        assert!(event.sequence() <= *last + 1, "{event:?} after {last}");
        *last = (*last).max(event.sequence());
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_written_is_published_at_once_and_what_others_wrote_at_the_next_poll() {
    let world = start(Memory::default(), RelayConfig::default());
    sleep(Duration::from_millis(300)).await;
    let (event, began) = (world.write("a"), Instant::now());
    world.until_empty().await;
    assert!(began.elapsed() < Duration::from_millis(10));
    world.outbox.write("a");
    world.until_empty().await;
    assert!(began.elapsed() <= Duration::from_millis(1_020));
    assert_eq!(world.publisher.published().len(), 2);
    assert_eq!(world.publisher.published()[0], event);
    let reads = world.outbox.with(|kept| kept.reads);
    sleep(Duration::from_secs(60)).await;
    assert!(world.outbox.with(|kept| kept.reads) <= reads + 61, "an idle relay only polls");
    assert!(world.metrics.text().contains(r#"paymesh_events_published_total{service="svc-test"} 2"#));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_broker_that_is_away_is_asked_ever_more_seldom_and_nothing_is_lost() {
    let outbox = Memory::default();
    for _ in 0..10 {
        outbox.write("a");
        outbox.write("b");
    }
    let world = start(outbox, RelayConfig { batch_max: 4, ..RelayConfig::default() });
    let away = PublishError::Unavailable(BrokerError::Unreachable);
    *world.publisher.script.lock().unwrap() = std::iter::repeat_n((0, away), 12).collect();
    for _ in 0..30_000 {
        // What is written meanwhile is no reason to ask again.
        world.wake.wake();
        sleep(Duration::from_millis(1)).await;
    }
    assert!(world.publisher.batches() < 12, "{} attempts in 30 s", world.publisher.batches());
    let text = world.metrics.text();
    assert!(text.contains("paymesh_events_backlog{service=\"svc-test\"} 20"), "{text}");
    assert!(text.contains("paymesh_events_lag_seconds{service=\"svc-test\"} 60.0"), "{text}");
    assert!(text.contains("reason=\"unavailable\""), "{text}");
    world.until_empty().await;
    assert_eq!(world.publisher.published().len(), 20);
    assert_in_order(&world.publisher.published());
    sleep(Duration::from_secs(1)).await;
    assert!(world.metrics.text().contains("paymesh_events_backlog{service=\"svc-test\"} 0"));
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_no_queue_wants_holds_up_its_own_subject_and_no_other() {
    let outbox = Memory::default();
    for _ in 0..5 {
        outbox.write("odd");
    }
    outbox.write("a");
    let world = start(outbox, RelayConfig { batch_max: 2, ..RelayConfig::default() });
    *world.publisher.odd_is_unroutable.lock().unwrap() = true;
    for _ in 0..20 {
        let event = world.write("a");
        sleep(Duration::from_millis(20)).await;
        assert_eq!(world.publisher.published().last(), Some(&event), "others go on without delay");
    }
    assert_eq!(world.publisher.published().len(), 21);
    *world.publisher.odd_is_unroutable.lock().unwrap() = false;
    world.until_empty().await;
    assert_eq!(world.publisher.published().len(), 26);
    assert_in_order(&world.publisher.published());
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_leads_to_repetitions_and_to_no_loss() {
    let outbox = Memory::default();
    for _ in 0..10 {
        outbox.write("a");
    }
    outbox.with(|kept| (kept.reads_fail, kept.marks_fail) = (3, 3));
    let world = start(outbox, RelayConfig { batch_max: 3, ..RelayConfig::default() });
    world.until_empty().await;
    let published = world.publisher.published();
    assert_eq!(
        published.len(),
        10 + 3 * 3,
        "the first batch was published once for each mark that failed, too"
    );
    assert_in_order(&published);
    world.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_lets_a_batch_finish_but_does_not_wait_for_a_broker_that_hangs() {
    let world = start(Memory::default(), RelayConfig { batch_max: 1, ..RelayConfig::default() });
    sleep(Duration::from_millis(1)).await;
    world.write("a");
    world.write("a");
    sleep(Duration::from_millis(2)).await;
    assert_eq!(world.publisher.batches(), 1, "one is under way");
    let (outbox, publisher) = (world.outbox.clone(), world.publisher.clone());
    world.stop().await;
    assert_eq!((publisher.published().len(), outbox.with(|kept| kept.events.len())), (1, 1));

    let world = start(outbox, RelayConfig::default());
    *world.publisher.hangs.lock().unwrap() = true;
    sleep(Duration::from_millis(100)).await;
    let (outbox, began) = (world.outbox.clone(), Instant::now());
    world.stop().await;
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert!(!outbox.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever fails when, everything is published in the end, and in order.
    #[test]
    fn everything_is_published_in_order_whatever_fails(
        subjects in proptest::collection::vec(0_u8..5, 1..60),
        script in proptest::collection::vec((0_usize..8, 0_u8..4), 0..20),
        store in proptest::collection::vec((0_u32..2, 0_u32..2), 0..4),
        batch_max in 1_usize..9,
    ) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async move {
            let world = start(Memory::default(), RelayConfig { batch_max, ..RelayConfig::default() });
            let error = |kind| match kind {
                0 => PublishError::Refused,
                1 => PublishError::Unroutable,
                2 => PublishError::Unconfirmed(BrokerError::Lost),
                _ => PublishError::Unavailable(BrokerError::Unreachable),
            };
            *world.publisher.script.lock().unwrap() =
                script.into_iter().map(|(from, kind)| (from, error(kind))).collect();
            let mut store = store.into_iter();
            for (index, subject) in subjects.iter().enumerate() {
                world.write(&format!("s{subject}"));
                if index % 7 == 0 {
                    let (reads, marks) = store.next().unwrap_or_default();
                    world.outbox.with(|kept| (kept.reads_fail, kept.marks_fail) = (reads, marks));
                    sleep(Duration::from_millis(40)).await;
                }
            }
            world.until_empty().await;
            let published = world.publisher.published();
            assert_in_order(&published);
            let mut each: Vec<EventId> = published.iter().map(Event::id).collect();
            each.sort();
            each.dedup();
            assert_eq!(each.len(), subjects.len());
            world.stop().await;
        });
    }
}
