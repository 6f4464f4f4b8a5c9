//! The mesh is killed at random moments, again and again, under load: nothing that was acknowledged may
//! be lost, and nothing may happen twice.
//!
//! `PAYMESH_KILLS` says how often, `PAYMESH_SEED` repeats a run's choices, `PAYMESH_BIN` names another
//! binary than the one that cargo built for the tests.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod check;
mod client;
mod record;
#[path = "../support/mod.rs"]
mod support;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use client::World;
use paymesh::rest::Rest;
use support::{Rng, process::Process};

const KEY: &str = "key-of-the-killed";
const KILLS_DEFAULT: u64 = 15;
/// After so many kills everything is compared with everything.
const CALM_EVERY: u64 = 20;

fn from_env(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// When a life of the mesh ends.
#[derive(Debug)]
enum Moment {
    /// While it starts, so long after it was spawned.
    Starting(Duration),
    /// After so many answers.
    Answers(u64),
    /// So long after the load began.
    Loaded(Duration),
    /// So long after it was told to stop, under load.
    Draining(Duration),
}

impl Moment {
    fn draw(rng: &mut Rng, start: Duration) -> Self {
        match rng.below(12) {
            0..2 => {
                let longest = u64::try_from(start.as_micros()).unwrap();
                Self::Starting(Duration::from_micros(rng.below(longest)))
            }
            2 => Self::Draining(Duration::from_micros(rng.below(60_000))),
            3..9 => Self::Answers(1 + rng.below(250)),
            _ => Self::Loaded(Duration::from_micros(rng.below(400_000))),
        }
    }
}

fn spawn(data_dir: &Path, log: &Path) -> Process {
    Process::spawn(data_dir, log, &["--edge-addr", "127.0.0.1:0", "--api-key", KEY])
}

struct Run {
    dir: tempfile::TempDir,
    world: Arc<World>,
    rng: Rng,
    /// How long the latest start took.
    start: Duration,
}

impl Run {
    fn new(seed: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self { dir, world: Arc::default(), rng: Rng(seed), start: Duration::from_millis(300) }
    }

    fn start(&self) -> Process {
        spawn(&self.dir.path().join("data"), &self.dir.path().join("log"))
    }

    /// One life: start, compare, load, kill. False if it was told to stop and was faster.
    async fn life(&mut self, moment: Moment) -> bool {
        let began = Instant::now();
        let mut process = self.start();
        if let Moment::Starting(after) = moment {
            tokio::time::sleep(after).await;
            return process.kill();
        }
        let rest = Rest::new(&process.ready().await);
        self.start = began.elapsed();
        self.world.check(&rest, &mut self.rng, false).await;
        let mut clients = self.world.clients(&rest, &mut self.rng);
        match moment {
            Moment::Answers(count) => self.answers(count).await,
            Moment::Starting(after) | Moment::Loaded(after) => tokio::time::sleep(after).await,
            Moment::Draining(after) => {
                self.answers(30).await;
                process.signal("TERM");
                tokio::time::sleep(after).await;
            }
        }
        let killed = process.kill();
        self.world.stop.store(true, Ordering::SeqCst);
        while clients.join_next().await.is_some() {}
        killed
    }

    async fn answers(&self, count: u64) {
        let waiting = async {
            loop {
                let answered = self.world.answered.notified();
                if self.world.answers.load(Ordering::SeqCst) >= count {
                    return;
                }
                answered.await;
            }
        };
        tokio::time::timeout(support::process::PATIENCE, waiting).await.expect("the mesh goes on answering");
    }

    /// A life without load: everything under way is brought to its end and compared; then an orderly stop.
    async fn calm(&mut self, silent: bool) {
        let mut process = self.start();
        let rest = Rest::new(&process.ready().await);
        let data_dir = self.dir.path().join("data");
        self.world.settle_unanswered(&rest).await;
        self.world.check(&rest, &mut self.rng, true).await;
        let found = self.world.check_when_calm(&rest, &data_dir, silent).await;
        process.signal("TERM");
        assert_eq!(process.ended().await.code(), Some(0), "{}", process.said());
        let mut record = self.world.record.lock().unwrap();
        check::check_processor(&mut record, &found, &data_dir);
    }

    /// Prints what was found, and fails if it was anything.
    fn report(&self, kills: u64) {
        let record = self.world.record.lock().unwrap();
        let (lost, double, wrong) = (record.lost.len(), record.double.len(), record.wrong.len());
        record.print_faults();
        let (acknowledged, refused) = (record.acknowledged.len(), record.refused);
        println!("{kills} kills, {acknowledged} acknowledged, {lost} lost, {double} double");
        println!("({} payments, {refused} refused, {wrong} otherwise wrong)", record.payments.len());
        if lost + double + wrong > 0 {
            let said = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            let end = said.char_indices().rev().nth(20_000).map_or(0, |(at, _)| at);
            println!("the mesh said at last:\n{}", &said[end..]);
        }
        assert_eq!((lost, double, wrong), (0, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_happens_twice_when_the_mesh_is_killed() {
    let kills = from_env("PAYMESH_KILLS").unwrap_or(KILLS_DEFAULT);
    // Random by default; what it was is printed, so that a run can be repeated.
    let seed = from_env("PAYMESH_SEED").unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
    println!("PAYMESH_SEED={seed} PAYMESH_KILLS={kills}");
    let mut run = Run::new(seed);
    {
        let mut process = run.start();
        let rest = Rest::new(&process.ready().await);
        run.world.make_silent_token(&rest).await;
        process.kill();
    }
    let mut killed = 1;
    while killed < kills {
        let moment = Moment::draw(&mut run.rng, run.start);
        if !run.life(moment).await {
            continue;
        }
        killed += 1;
        if killed % CALM_EVERY == 0 {
            run.calm(false).await;
            let record = run.world.record.lock().unwrap();
            let (acknowledged, faults) = (record.acknowledged.len(), record.faults());
            println!("{killed} kills, {acknowledged} acknowledged, {faults} faults so far");
            record.print_faults();
        }
    }
    // In a long run the card that never answers gets the time to settle.
    run.calm(kills >= 100).await;
    run.report(killed);
}

/// What the run above relies on: that it would notice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_lost_or_doubled_is_noticed() {
    let mut run = Run::new(5);
    run.life(Moment::Answers(80)).await;
    run.calm(false).await;
    assert_eq!(run.world.record.lock().unwrap().faults(), 0);
    let open = |file: &str| rusqlite::Connection::open(run.dir.path().join("data/svc-payments").join(file));
    let payments = open("payments.db").unwrap();
    // One payment is gone, another one does not know its request any more, and a third was charged again.
    let gone = "DELETE FROM payment WHERE id = (SELECT min(id) FROM payment)";
    assert_eq!(payments.execute(gone, []).unwrap(), 1);
    let forgotten = "DELETE FROM idempotency WHERE rpc = 'CreatePayment' AND subject = (SELECT max(subject) FROM idempotency WHERE rpc = 'CreatePayment')";
    assert_eq!(payments.execute(forgotten, []).unwrap(), 1);
    payments.close().unwrap();
    let journal = open("simulator.db").unwrap();
    let again = "INSERT INTO journal SELECT reference || '9', kind, of, amount, outcome, answers, at FROM journal
                 WHERE kind = 'sale' AND reference = (SELECT max(reference) FROM journal WHERE kind = 'sale')";
    assert_eq!(journal.execute(again, []).unwrap(), 1);
    journal.close().unwrap();

    let mut process = run.start();
    let rest = Rest::new(&process.ready().await);
    run.world.check(&rest, &mut run.rng, true).await;
    let found = check::listed(&rest).await;
    process.kill();
    let mut record = run.world.record.lock().unwrap();
    assert!(record.lost.iter().any(|what| what.contains("is not there")), "{:?}", record.lost);
    assert!(record.double.iter().any(|what| what.contains("became")), "{:?}", record.double);
    check::check_processor(&mut record, &found, &run.dir.path().join("data"));
    assert!(record.double.iter().any(|what| what.contains("authorized")), "{:?}", record.double);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_start_that_was_killed_is_no_obstacle_to_the_next() {
    let mut rng = Rng(from_env("PAYMESH_SEED").unwrap_or(7));
    for _ in 0..from_env("PAYMESH_KILLS").unwrap_or(12) / 2 {
        let run = Run::new(0);
        for _ in 0..2 {
            let mut process = run.start();
            tokio::time::sleep(Duration::from_micros(rng.below(250_000))).await;
            process.kill();
        }
        let mut process = run.start();
        let rest = Rest::new(&process.ready().await);
        support::token(&rest, support::VISA).await;
        process.kill();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signal_drains_and_loses_nothing() {
    let mut run = Run::new(11);
    for signal in ["TERM", "INT"] {
        let mut process = run.start();
        let rest = Rest::new(&process.ready().await);
        let mut clients = run.world.clients(&rest, &mut run.rng);
        run.answers(60).await;
        process.signal(signal);
        let status = process.ended().await;
        assert_eq!(status.code(), Some(0), "SIG{signal}: {}", process.said());
        run.world.stop.store(true, Ordering::SeqCst);
        while clients.join_next().await.is_some() {}
        assert!(process.said().contains("draining"), "{}", process.said());
    }
    run.calm(false).await;
    run.report(0);
}

#[tokio::test]
async fn an_address_in_use_is_said_and_ends_with_1() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut process =
        Process::spawn(&dir.path().join("data"), &dir.path().join("log"), &["--edge-addr", &address]);
    assert_eq!(process.ended().await.code(), Some(1));
    let said = process.said();
    assert!(said.contains(&address) && said.contains("--edge-addr"), "{said}");
    assert_eq!(said.lines().count(), 1, "one clear line: {said}");
}

#[tokio::test]
async fn a_second_mesh_on_the_same_directory_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (data_dir, log) = (dir.path().join("data"), dir.path().join("log"));
    let mut first = spawn(&data_dir, &log);
    let description = first.ready().await;
    let second_log = dir.path().join("second");
    let arguments = ["dev", "--data-dir", data_dir.to_str().unwrap(), "--edge-addr", "127.0.0.1:0"];
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_paymesh"))
        .args(arguments)
        .stderr(std::fs::File::create(&second_log).unwrap())
        .status()
        .unwrap();
    assert_eq!(second.code(), Some(1));
    let said = std::fs::read_to_string(&second_log).unwrap();
    assert!(said.contains("another paymesh is running on") && said.contains("--data-dir"), "{said}");
    // The first one is none the worse for it.
    let rest = Rest::new(&description);
    support::token(&rest, support::VISA).await;
    assert_eq!(support::describe(&data_dir).edge_url, description.edge_url);
    first.kill();
}
