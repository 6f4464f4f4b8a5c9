//! The dispatcher over deliveries in memory, with a sender that does what it is told, in paused time.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use mesh::{Clock, Drain, Metrics, client::Dice};
use money::Timestamp;
use tokio::{task::JoinHandle, time::Instant};
use webhooks::{
    Dispatcher, Sealed, Sealer, Sender, Wake, WebhookConfig, WebhookSecret,
    dispatcher::Tools,
    domain::{
        attempt::{AttemptError, Outcome},
        delivery::State,
        endpoint::{DisabledReason, Update},
    },
    sealing::{SealError, SealedFor},
    sender::{Message, Sent},
    testing::{
        Fixture as _, MemoryDeliveries, PlainSealer,
        contract::{add_delivery, add_endpoint, delivery_id, endpoint_id},
    },
};

/// The paused time of the runtime, from the epoch.
#[derive(Clone)]
struct Paused(Instant);

impl Clock for Paused {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(i64::try_from(self.0.elapsed().as_nanos()).unwrap())
    }
}

struct NoChance;

impl Dice for NoChance {
    fn draw(&self, _: u64) -> u64 {
        0
    }
}

/// An attempt as it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    second: u64,
    host: String,
    id: String,
    timestamp: String,
    signature: String,
}

type Answering = Box<dyn Fn(&str, usize) -> (Duration, Outcome) + Send + Sync>;

/// Answers by the host and by how many attempts there were before.
#[derive(Clone)]
struct Script {
    clock: Paused,
    made: Arc<Mutex<Vec<Made>>>,
    answering: Arc<Answering>,
}

impl Sender for Script {
    async fn send(&self, message: Message<'_>) -> Sent {
        let host = message.url.uri().host().unwrap().to_owned();
        let made = Made {
            second: self.clock.0.elapsed().as_secs(),
            host: host.clone(),
            id: message.id.to_owned(),
            timestamp: message.timestamp.to_owned(),
            signature: message.signature.to_owned(),
        };
        let before = {
            let mut all = self.made.lock().unwrap();
            all.push(made);
            all.len() - 1
        };
        let (takes, outcome) = (self.answering)(&host, before);
        tokio::time::sleep(takes).await;
        Sent { outcome, retry_after_s: None, answer: String::new() }
    }
}

/// A sealer that may be away.
#[derive(Default)]
struct Away(AtomicBool);

impl Sealer for Away {
    async fn seal(&self, whose: SealedFor<'_>, secret: &WebhookSecret) -> Result<Sealed, SealError> {
        PlainSealer.seal(whose, secret).await
    }

    async fn open(&self, whose: SealedFor<'_>, sealed: &Sealed) -> Result<WebhookSecret, SealError> {
        if self.0.load(Ordering::SeqCst) {
            return Err(SealError::Unavailable);
        }
        PlainSealer.open(whose, sealed).await
    }
}

/// A store, what works on it, and what was sent.
struct Bench {
    store: Arc<MemoryDeliveries>,
    sealer: Arc<Away>,
    clock: Paused,
    script: Script,
    config: WebhookConfig,
    metrics: Metrics,
    wake: Wake,
    drain: Drain,
}

impl Bench {
    fn new(answering: impl Fn(&str, usize) -> (Duration, Outcome) + Send + Sync + 'static) -> Self {
        let clock = Paused(Instant::now());
        let script =
            Script { clock: clock.clone(), made: Arc::default(), answering: Arc::new(Box::new(answering)) };
        Self {
            store: Arc::default(),
            sealer: Arc::default(),
            clock,
            script,
            // A week: whatever happens sooner was known to be due.
            config: WebhookConfig { poll_interval_ms: 604_800_000, ..WebhookConfig::default() },
            metrics: Metrics::new("svc-test"),
            wake: Wake::default(),
            drain: Drain::new(),
        }
    }

    fn start(&self) -> JoinHandle<()> {
        let tools = Tools {
            clock: Arc::new(self.clock.clone()),
            dice: Arc::new(NoChance),
            metrics: self.metrics.clone(),
            wake: self.wake.clone(),
        };
        let (store, sealer) = (Arc::clone(&self.store), Arc::clone(&self.sealer));
        let dispatcher = Dispatcher::new(&self.config, store, self.script.clone(), sealer, tools);
        tokio::spawn(dispatcher.run(self.drain.clone()))
    }

    fn made(&self) -> Vec<Made> {
        self.script.made.lock().unwrap().clone()
    }

    fn seconds(&self) -> Vec<u64> {
        self.made().iter().map(|made| made.second).collect()
    }

    async fn state(&self, number: u128) -> State {
        self.store.delivery(delivery_id(number)).await.0.state
    }

    async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }
}

const OK: Outcome = Outcome::Answered(200);
const BAD: Outcome = Outcome::Answered(500);
const AT_ONCE: Duration = Duration::ZERO;
const DAY_S: u64 = 86_400;

#[tokio::test(start_paused = true)]
async fn ten_attempts_are_made_at_the_second_and_nothing_is_asked_in_between() {
    let bench = Bench::new(|_, _| (AT_ONCE, BAD));
    add_endpoint(&*bench.store, 1, "https://bad.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    bench.start();
    bench.pass(5 * DAY_S).await;
    let expected = [0, 5, 305, 2_105, 9_305, 27_305, 63_305, 113_705, 185_705, 272_105];
    assert_eq!(bench.seconds(), expected);
    let made = bench.made();
    assert!(made.iter().all(|attempt| attempt.id == made[0].id), "one id");
    let stamps: Vec<u64> = made.iter().map(|attempt| attempt.timestamp.parse().unwrap()).collect();
    assert_eq!(stamps, expected, "each with its own time");
    let (delivery, attempts) = bench.store.delivery(delivery_id(1)).await;
    assert_eq!((delivery.state, attempts.len()), (State::Failed, 10));
    assert!(bench.store.takes() <= 25, "asked {} times", bench.store.takes());
    let text = bench.metrics.text();
    assert!(
        text.contains(r#"paymesh_webhook_attempts_total{service="svc-test",outcome="REFUSED"} 10"#),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_new_delivery_is_sent_as_soon_as_it_is_told_of() {
    let bench = Bench::new(|_, _| (AT_ONCE, OK));
    add_endpoint(&*bench.store, 1, "https://ok.example/").await;
    bench.start();
    bench.pass(100).await;
    assert_eq!(bench.store.takes(), 1, "an idle dispatcher asks for nothing");
    add_delivery(&*bench.store, 1, 1, 100).await;
    bench.wake.wake();
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((bench.seconds(), bench.state(1).await), (vec![100], State::Delivered));
}

#[tokio::test(start_paused = true)]
async fn what_another_replica_left_behind_is_found_by_asking() {
    let mut bench = Bench::new(|_, _| (AT_ONCE, OK));
    bench.config.poll_interval_ms = 10_000;
    add_endpoint(&*bench.store, 1, "https://ok.example/").await;
    bench.start();
    bench.pass(11).await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    bench.pass(10).await;
    assert_eq!(bench.seconds(), [20]);
}

#[tokio::test(start_paused = true)]
async fn a_slow_endpoint_holds_nobody_else_up() {
    let mut bench = Bench::new(|host, _| {
        if host == "slow.example" {
            (Duration::from_secs(15), Outcome::Failed(AttemptError::Time))
        } else {
            (AT_ONCE, OK)
        }
    });
    (bench.config.concurrency_max, bench.config.concurrency_per_endpoint_max) = (8, 2);
    add_endpoint(&*bench.store, 1, "https://slow.example/").await;
    add_endpoint(&*bench.store, 2, "https://ok.example/").await;
    for number in 0..100 {
        add_delivery(&*bench.store, number, 1, 0).await;
    }
    for number in 100..200 {
        add_delivery(&*bench.store, number, 2, 0).await;
    }
    bench.start();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let made = bench.made();
    let to = |host: &str| made.iter().filter(|attempt| attempt.host == host).count();
    assert_eq!((to("slow.example"), to("ok.example")), (2, 100));
    assert!(bench.metrics.text().contains(r#"paymesh_webhook_under_way{service="svc-test"} 2"#));
}

#[tokio::test(start_paused = true)]
async fn no_more_are_under_way_than_there_is_room_for() {
    let mut bench = Bench::new(|_, _| (Duration::from_secs(10), OK));
    (bench.config.concurrency_max, bench.config.concurrency_per_endpoint_max) = (5, 2);
    for endpoint in 1..=4 {
        add_endpoint(&*bench.store, endpoint, "https://slow.example/").await;
        for number in 0..5 {
            add_delivery(&*bench.store, u128::from(endpoint) * 10 + number, endpoint, 0).await;
        }
    }
    bench.start();
    let mut before = 0;
    for _ in 0..4 {
        bench.pass(10).await;
        let made = bench.made().len();
        assert!(made - before <= 5, "{made} after {before}");
        before = made;
    }
    bench.pass(100).await;
    assert_eq!(bench.made().len(), 20);
}

/// What a crash after sending and before recording leaves behind is the same as a store that does not take the report.
#[tokio::test(start_paused = true)]
async fn what_was_sent_and_not_recorded_is_sent_again_with_the_same_id() {
    let bench = Bench::new(|_, _| (AT_ONCE, OK));
    add_endpoint(&*bench.store, 1, "https://ok.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    bench.store.fail_records(u64::MAX);
    let crashing = bench.start();
    bench.pass(1).await;
    crashing.abort();
    assert!(crashing.await.is_err());
    bench.store.fail_records(0);
    assert_eq!((bench.made().len(), bench.state(1).await), (1, State::Pending));
    bench.start();
    bench.pass(60).await;
    assert_eq!(bench.made().len(), 1, "it is still held by who is no more");
    bench.pass(60).await;
    let made = bench.made();
    assert_eq!((made.len(), &made[0].id), (2, &made[1].id));
    let (delivery, attempts) = bench.store.delivery(delivery_id(1)).await;
    assert_eq!((delivery.state, attempts.len()), (State::Delivered, 1));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_for_a_moment_loses_no_report() {
    let bench = Bench::new(|_, _| (AT_ONCE, OK));
    add_endpoint(&*bench.store, 1, "https://ok.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    bench.store.fail_records(5);
    bench.start();
    bench.pass(10).await;
    assert_eq!((bench.made().len(), bench.state(1).await), (1, State::Delivered));
}

#[tokio::test(start_paused = true)]
async fn a_drain_finishes_what_is_under_way_and_begins_nothing() {
    let bench = Bench::new(|_, _| (Duration::from_secs(10), OK));
    add_endpoint(&*bench.store, 1, "https://slow.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    let running = bench.start();
    bench.pass(1).await;
    add_delivery(&*bench.store, 2, 1, 0).await;
    bench.drain.start();
    bench.wake.wake();
    running.await.unwrap();
    assert_eq!(bench.clock.0.elapsed().as_secs(), 10);
    assert_eq!((bench.state(1).await, bench.state(2).await), (State::Delivered, State::Pending));
    assert_eq!(bench.made().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn without_its_secret_nothing_is_sent_and_nothing_counted() {
    let bench = Bench::new(|_, _| (AT_ONCE, OK));
    add_endpoint(&*bench.store, 1, "https://ok.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    bench.sealer.0.store(true, Ordering::SeqCst);
    bench.start();
    bench.pass(100).await;
    assert_eq!((bench.made().len(), bench.store.delivery(delivery_id(1)).await.0.attempts), (0, 0));
    bench.sealer.0.store(false, Ordering::SeqCst);
    bench.pass(30).await;
    assert_eq!((bench.made().len(), bench.state(1).await), (1, State::Delivered));
}

#[tokio::test(start_paused = true)]
async fn gone_disables_the_endpoint_and_nothing_more_is_sent_there() {
    let mut bench = Bench::new(|_, _| (AT_ONCE, Outcome::Answered(410)));
    bench.config.concurrency_per_endpoint_max = 1;
    add_endpoint(&*bench.store, 1, "https://gone.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    add_delivery(&*bench.store, 2, 1, 1).await;
    bench.start();
    bench.pass(DAY_S).await;
    assert_eq!(bench.made().len(), 1);
    assert_eq!((bench.state(1).await, bench.state(2).await), (State::Canceled, State::Canceled));
    let disabled = bench.store.endpoint(endpoint_id(1)).await.disabled.unwrap();
    assert_eq!(disabled.reason, DisabledReason::Gone);
    assert!(bench.metrics.text().contains(r#"endpoints_disabled_total{service="svc-test",reason="GONE"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_fails_for_days_is_disabled() {
    let bench = Bench::new(|_, _| (AT_ONCE, Outcome::Failed(AttemptError::Connect)));
    add_endpoint(&*bench.store, 1, "https://dead.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    add_delivery(&*bench.store, 2, 1, i64::try_from(2 * DAY_S).unwrap()).await;
    bench.start();
    bench.pass(4 * DAY_S).await;
    assert_eq!(bench.state(1).await, State::Failed);
    assert!(bench.store.endpoint(endpoint_id(1)).await.disabled.is_none(), "not for five days yet");
    bench.pass(2 * DAY_S).await;
    assert_eq!(bench.state(2).await, State::Failed);
    let disabled = bench.store.endpoint(endpoint_id(1)).await.disabled.unwrap();
    assert_eq!(disabled.reason, DisabledReason::Failing);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_secret_signs_along_until_it_expires() {
    let bench = Bench::new(|_, _| (AT_ONCE, OK));
    add_endpoint(&*bench.store, 1, "https://ok.example/").await;
    let (tenant, id) = ("acme".parse().unwrap(), endpoint_id(1));
    let new = WebhookSecret::of(vec![9; 24]).unwrap();
    let sealed = PlainSealer.seal(SealedFor { tenant: &tenant, endpoint: id }, &new).await.unwrap();
    let mut endpoint = bench.store.endpoint(id).await;
    endpoint.secrets.rotate(sealed, Timestamp::EPOCH, 100).unwrap();
    bench.store.put_endpoint(endpoint).await;
    for (number, due) in [(1, 99), (2, 100)] {
        add_delivery(&*bench.store, number, 1, due).await;
    }
    bench.start();
    bench.pass(200).await;
    let signed = |secret: &WebhookSecret, made: &Made, number: u32| {
        secret.sign(&made.id, &made.timestamp, format!(r#"{{"number":{number}}}"#).as_bytes())
    };
    let (made, old) = (bench.made(), WebhookSecret::of(vec![1; 24]).unwrap());
    let both = format!("{} {}", signed(&new, &made[0], 1), signed(&old, &made[0], 1));
    assert_eq!(made[0].signature, both, "the newest first");
    assert_eq!(made[1].signature, signed(&new, &made[1], 2));
}

#[tokio::test(start_paused = true)]
async fn sent_again_by_hand_it_has_the_same_id() {
    let bench = Bench::new(|_, _| (AT_ONCE, OK));
    add_endpoint(&*bench.store, 1, "https://ok.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    bench.start();
    bench.pass(10).await;
    let (mut delivery, _) = bench.store.delivery(delivery_id(1)).await;
    delivery.resend(bench.clock.now());
    bench.store.put_delivery(delivery, bytes::Bytes::new()).await;
    bench.wake.wake();
    bench.pass(1).await;
    let made = bench.made();
    assert_eq!((made.len(), &made[0].id, bench.state(1).await), (2, &made[1].id, State::Delivered));
    assert_eq!(bench.store.delivery(delivery_id(1)).await.1.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_endpoint_is_sent_nothing() {
    let bench = Bench::new(|_, _| (AT_ONCE, BAD));
    add_endpoint(&*bench.store, 1, "https://bad.example/").await;
    add_delivery(&*bench.store, 1, 1, 0).await;
    bench.start();
    bench.pass(1).await;
    let mut endpoint = bench.store.endpoint(endpoint_id(1)).await;
    endpoint.update(Update { enabled: Some(false), ..Update::default() }, bench.clock.now()).unwrap();
    bench.store.put_endpoint(endpoint).await;
    bench.pass(DAY_S).await;
    assert_eq!((bench.made().len(), bench.state(1).await), (1, State::Canceled));
}
