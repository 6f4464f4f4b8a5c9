//! The broker is killed, started again and stopped under load.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use events::{Backlog, Event, Outbox, Pending, Position, Relay, RelayConfig, Wake, rabbitmq::event_of};
use lapin::options::BasicAckOptions;
use mesh::{Drain, Metrics, StoreError, SystemClock};
use money::EventId;
use tokio::time::{sleep, timeout};

use crate::{
    broker::Broker,
    consumer::{Effects, Incoming},
    world::{World, event},
};

const SUBJECTS: u64 = 20;

/// An outbox in memory, which remembers what it was told is published.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    waiting: BTreeMap<Position, Event>,
    sequences: HashMap<u64, u64>,
    last: Position,
    published: HashSet<EventId>,
}

impl Memory {
    fn write(&self, subject: u64) {
        let mut kept = self.0.lock().unwrap();
        let sequence = kept.sequences.entry(subject).or_default();
        *sequence += 1;
        let event = event(&format!("pay_{subject}"), *sequence, "payment.captured");
        kept.last += 1;
        let last = kept.last;
        kept.waiting.insert(last, event);
    }

    fn published(&self) -> usize {
        self.0.lock().unwrap().published.len()
    }
}

impl Outbox for Memory {
    async fn unpublished(&self, after: Position, limit: usize) -> Result<Vec<Pending>, StoreError> {
        let kept = self.0.lock().unwrap();
        let later = kept.waiting.range(after + 1..).take(limit);
        Ok(later.map(|(&position, event)| Pending { position, event: event.clone() }).collect())
    }

    async fn mark_published(&self, positions: &[Position]) -> Result<(), StoreError> {
        let mut kept = self.0.lock().unwrap();
        for position in positions {
            if let Some(event) = kept.waiting.remove(position) {
                kept.published.insert(event.id());
            }
        }
        Ok(())
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        Ok(Backlog { events: self.0.lock().unwrap().waiting.len().try_into().unwrap(), oldest: None })
    }
}

/// Consumes until this many effects were had, however often the connection is lost.
async fn consume(uri: String, queue: String, effects_expected: usize) -> (Effects, usize) {
    let (mut effects, mut had, mut deliveries) = (Effects::new(), 0, 0);
    while had < effects_expected {
        let Some(mut incoming) = Incoming::of(&uri, &queue).await else {
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        while had < effects_expected {
            let Ok(delivery) = incoming.next().await else { break };
            deliveries += 1;
            had += usize::from(effects.take(&event_of(&delivery).unwrap()).await);
            if delivery.ack(BasicAckOptions::default()).await.is_err() {
                break;
            }
        }
    }
    (effects, deliveries)
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let holding = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(Duration::from_secs(120), holding).await.unwrap_or_else(|_| panic!("{what}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_acknowledged_is_lost_when_the_broker_is_killed_or_hangs_under_load() {
    let mut broker = Broker::start(|_| ()).await;
    let world = World::with(&broker.uri(), &["payment.#"], |config| {
        config.in_flight_max = 64;
        config.batch_timeout_ms = 2_000;
        config.connect_timeout_ms = 2_000;
    })
    .await;
    // RabbitMQ 3.10 has the names of its quorum queues on disk only after a clean stop, or after minutes: killed before
    // that, it comes back with a queue that never has a leader.
    assert_eq!(world.publish(&[event("first", 1, "payment.captured")]).await, [Ok(())]);
    broker.stop();
    broker.start_again().await;

    let (outbox, wake, drain) = (Memory::default(), Wake::new(), Drain::new());
    let (clock, config, metrics) = (
        Arc::new(SystemClock),
        RelayConfig { retry_ms_max: 500, ..RelayConfig::default() },
        Metrics::new("test"),
    );
    let publisher = Arc::new(world.publisher.clone());
    let relay = Relay::new(outbox.clone(), publisher, wake.clone(), clock, config, &metrics);
    let relay = tokio::spawn(relay.run(drain.clone()));

    let load = tokio::spawn({
        let (outbox, wake, drain) = (outbox.clone(), wake.clone(), drain.clone());
        async move {
            let mut written = 0_usize;
            while !drain.has_started() {
                for subject in 0..SUBJECTS {
                    outbox.write(subject);
                    written += 1;
                }
                wake.wake();
                sleep(Duration::from_millis(100)).await;
            }
            written
        }
    });
    let stop_load = drain.clone();
    for round in 1..=3 {
        let before = outbox.published();
        until("events are published", || outbox.published() > before + 300).await;
        if round == 2 {
            broker.signal("STOP");
            sleep(Duration::from_secs(3)).await;
            broker.signal("CONT");
        } else {
            broker.kill();
            broker.start_again().await;
        }
    }
    let before = outbox.published();
    until("events are published again", || outbox.published() > before + 300).await;
    stop_load.start();
    let written = load.await.unwrap();
    relay.await.unwrap();

    // What is left is taken up by the next one.
    let drain = Drain::new();
    let (clock, publisher) = (Arc::new(SystemClock), Arc::new(world.publisher.clone()));
    let relay =
        Relay::new(outbox.clone(), publisher, wake, clock, RelayConfig::default(), &Metrics::new("test"));
    let relay = tokio::spawn(relay.run(drain.clone()));
    until("all is published", || outbox.published() == written).await;
    drain.start();
    relay.await.unwrap();

    // Killed once more, with nothing under way: what was acknowledged is there.
    broker.kill();
    broker.start_again().await;
    let consuming = consume(broker.uri(), world.queue().to_owned(), written + 1);
    let (effects, deliveries) = timeout(Duration::from_secs(120), consuming).await.expect("all arrive");
    for subject in 0..SUBJECTS {
        let had = effects.of(&format!("pay_{subject}"));
        let expected: Vec<u64> = (1..=u64::try_from(had.len()).unwrap()).collect();
        assert_eq!(had, expected, "of subject {subject}, in their order");
    }
    println!("{written} events, {deliveries} deliveries");
}
