//! A writer is killed while it answers: nothing that it answered is lost, and the next one goes on.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use mesh::Drain;
use money::{TenantId, Timestamp};
use tokio::{sync::oneshot, time::timeout};

use super::{Fixture, PATIENCE};
use crate::{
    domain::{
        AccountFlags, AccountId, Given, NewAccount, NewTransfer, Reference, TransferCode, TransferFlags,
        TransferId,
    },
    engine::{Beginning, Engine},
    store::{
        ports::{Frame, Index as _, Journal, JournalError},
        postgres::{Postgres, PostgresConfig, PostgresIndex, PostgresJournal, Role},
        recovery::RecoveryError,
    },
};

/// What the child is told: how to reach the ledger, and where its ids begin.
const CONFIG: &str = "PAYMESH_TEST_KILLED_WRITER";
const FIRST: &str = "PAYMESH_TEST_KILLED_WRITER_FIRST";
/// Set: the writer answers before it has written.
const EARLY: &str = "PAYMESH_TEST_KILLED_WRITER_EARLY";
const ROUNDS: u128 = 3;
const IDS_OF_A_ROUND: u128 = 1_000_000;
pub(super) const NOW: Timestamp = Timestamp::from_nanos(1_800_000_000_000_000_000);

pub(super) fn acme() -> TenantId {
    "acme".parse().unwrap()
}

pub(super) fn account(bits: u128) -> NewAccount {
    NewAccount {
        id: Given::Value(AccountId::new(bits).unwrap()),
        tenant: Given::Value(acme()),
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("cash".parse().unwrap()),
        flags: Some(AccountFlags::HISTORY),
        user_data: 0,
        reference: Some(Reference::default()),
        limit: 0,
        has_balances: false,
        has_timestamp: false,
    }
}

pub(super) fn transfer(bits: u128) -> NewTransfer {
    NewTransfer {
        id: Given::Value(TransferId::new(bits).unwrap()),
        tenant: Given::Value(acme()),
        flags: TransferFlags::default(),
        has_unknown_flags: false,
        has_timestamp: false,
        debit: Given::Value(AccountId::new(1).unwrap()),
        credit: Given::Value(AccountId::new(2).unwrap()),
        amount: 1,
        post_full_amount: false,
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("fee".parse().unwrap()),
        pending: Given::Nothing,
        timeout_s: 0,
        user_data: 0,
        reference: Some(Reference::default()),
    }
}

/// Says of each frame that it is written, and writes it some frames later.
struct Early(PostgresJournal, Vec<Frame>);

impl Journal for Early {
    async fn append(&mut self, frames: &[Frame]) -> Result<(), JournalError> {
        self.1.extend_from_slice(frames);
        let late: Vec<Frame> = self.1.drain(..self.1.len().saturating_sub(5)).collect();
        self.0.append(&late).await
    }
}

/// Leads, as soon as it can, and begins with what is stored.
pub(super) async fn lead(
    config: &PostgresConfig,
) -> (Postgres, Result<Beginning<PostgresJournal, PostgresIndex>, RecoveryError>, oneshot::Sender<()>) {
    let (postgres, leadership) = Postgres::open(config).await.unwrap();
    let (leave, left) = oneshot::channel::<()>();
    tokio::spawn(leadership.keep(Drain::new(), async { drop(left.await) }));
    let mut role = postgres.role();
    let leading = role.wait_for(|role| matches!(role, Role::Leading { .. }));
    let role = timeout(PATIENCE, leading).await.unwrap().unwrap().clone();
    let Role::Leading { epoch } = role else { unreachable!() };
    let beginning = postgres.begin(epoch, false).await;
    (postgres, beginning, leave)
}

/// The child: without the variable it is no test of anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writer_that_is_killed() {
    let Ok(config) = std::env::var(CONFIG) else { return };
    let config: PostgresConfig = serde_json::from_str(&config).unwrap();
    let first: u128 = std::env::var(FIRST).unwrap().parse().unwrap();
    let (_postgres, beginning, _leave) = lead(&config).await;
    let Beginning { book, chain, journal, index, unindexed } = beginning.unwrap();
    let engine = if std::env::var_os(EARLY).is_some() {
        let journal = Early(journal, Vec::new());
        Engine::start(Beginning { book, chain, journal, index, unindexed }).unwrap()
    } else {
        Engine::start(Beginning { book, chain, journal, index, unindexed }).unwrap()
    };
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    let callers = (0..8_u128).map(|caller| {
        let engine = engine.clone();
        tokio::spawn(async move {
            for id in (first + caller..).step_by(8) {
                let results = engine.transfer(vec![transfer(id)], NOW).await.unwrap();
                assert_eq!(results[0].code, TransferCode::Created);
                // One write per line, so that lines are whole up to the last.
                std::io::stderr().write_all(format!("answered {id}\n").as_bytes()).unwrap();
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs the child until it has answered so many, kills it, and says which it had answered.
fn answered_until_killed(config: &PostgresConfig, first: u128, answers: usize, early: bool) -> HashSet<u128> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "store::postgres::tests::killing::writer_that_is_killed", "--nocapture"])
        .env(CONFIG, serde_json::to_string(config).unwrap())
        .env(FIRST, first.to_string())
        .envs(early.then_some((EARLY, "1")))
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = Killed(command.spawn().unwrap());
    let lines = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let mut answered = HashSet::new();
    let mut said = Vec::new();
    for line in lines {
        let line = line.unwrap();
        match line.strip_prefix("answered ") {
            Some(id) => drop(answered.insert(id.parse().unwrap())),
            None => said.push(line),
        }
        if answered.len() == answers {
            child.0.kill().unwrap();
        }
    }
    assert!(answered.len() >= answers, "the writer ended by itself: {said:?}");
    answered
}

/// A writer is killed, another takes over; what it finds wrong.
async fn round(
    fixture: &Fixture,
    round: u128,
    early: bool,
    answered: &mut HashSet<u128>,
) -> Result<(), String> {
    let (config, first) = (fixture.config.clone(), round * IDS_OF_A_ROUND);
    let child = move || answered_until_killed(&config, first, 300, early);
    answered.extend(tokio::task::spawn_blocking(child).await.unwrap());
    let killed_at = Instant::now();
    let (postgres, beginning, leave) = lead(&fixture.config).await;
    let took = killed_at.elapsed();
    eprintln!("taken over and read {took:?} after the kill; the lease is {} ms", fixture.config.lease_ms);
    assert!(took < Duration::from_millis(fixture.config.lease_ms * 14 / 10 + 5_000), "{took:?}");
    let engine = Engine::start(beginning.map_err(|error| error.to_string())?).unwrap();

    let ids: Vec<TransferId> = answered.iter().map(|id| TransferId::new(*id).unwrap()).collect();
    let found = engine.transfers(acme(), ids).await.unwrap().len();
    if found != answered.len() {
        return Err(format!("{} of {} answered ones are lost", answered.len() - found, answered.len()));
    }
    // Accounts, journal and index say the same.
    let both = [1, 2].map(|bits| AccountId::new(bits).unwrap()).to_vec();
    let accounts = engine.accounts(acme(), both).await.unwrap();
    let moved = accounts[0].balances.debits_posted;
    assert_eq!(moved, accounts[1].balances.credits_posted);
    let index = engine.index().await.unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM transfers").await, moved);
    let head = postgres.head().await.unwrap();
    assert_eq!(index.applied().await.unwrap().sequence, head);
    // The next one goes on, and what was answered is answered so again.
    let again = *answered.iter().next().unwrap();
    let results = engine.transfer(vec![transfer(again), transfer(round)], NOW).await.unwrap();
    assert_eq!(results[0].code, TransferCode::Exists);
    assert_eq!(results[1].code, TransferCode::Created);
    answered.insert(round);
    engine.close().await;
    // It leaves in peace, so that the next child need not wait.
    leave.send(()).unwrap();
    let free = async {
        while fixture.count("SELECT count(*) FROM leadership WHERE released").await == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, free).await.unwrap();
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_was_answered_is_lost_when_the_writer_is_killed() {
    let fixture = Fixture::new().await;
    let mut answered = HashSet::new();
    for number in 1..=ROUNDS {
        round(&fixture, number, false, &mut answered).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_answers_too_early_is_found_out() {
    let fixture = Fixture::new().await;
    round(&fixture, 1, true, &mut HashSet::new()).await.unwrap_err();
}
