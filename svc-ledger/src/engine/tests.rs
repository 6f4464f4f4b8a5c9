//! The engine over a journal and an index that fail and wait on command.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use mesh::store::StoreError;
use money::{TenantId, Timestamp};
use tokio::sync::Semaphore;

use super::{Beginning, Engine, EngineError};
use crate::{
    domain::{
        Account, AccountFlags, AccountId, Book, Given, Known, NewAccount, NewTransfer, Reference, Transfer,
        TransferCode as C, TransferFlags, TransferId,
    },
    journal::{Chain, JournalKey, Link},
    store::{
        index_contract::plain::Plain,
        ports::{
            AccountFilter, BalanceAt, BalanceFilter, Frame, Happened, Index, Journal, JournalError, Page,
            TransferFilter, Watermark,
        },
    },
};

const NOW: Timestamp = Timestamp::from_nanos(1_800_000_000_000_000_000);

/// A journal whose every step waits for a permit.
#[derive(Clone)]
struct Slow {
    steps: Arc<Semaphore>,
    written: Arc<Mutex<Vec<Vec<Frame>>>>,
    fails: Arc<AtomicUsize>,
    /// Somebody else may have written.
    replaced: Arc<AtomicBool>,
}

impl Slow {
    fn new(permits: usize) -> Self {
        let steps = Arc::new(Semaphore::new(permits));
        Self {
            steps,
            written: Arc::default(),
            fails: Arc::new(AtomicUsize::new(usize::MAX)),
            replaced: Arc::default(),
        }
    }

    fn go(&self, steps: usize) {
        self.steps.add_permits(steps);
    }

    fn steps_written(&self) -> usize {
        self.written.lock().unwrap().len()
    }
}

impl Journal for Slow {
    async fn append(&mut self, frames: &[Frame]) -> Result<(), JournalError> {
        self.steps.acquire().await.unwrap().forget();
        if self.steps_written() >= self.fails.load(Ordering::SeqCst) {
            return Err(JournalError::Unknown("the line is dead".into()));
        }
        self.written.lock().unwrap().push(frames.to_vec());
        Ok(())
    }

    fn confirm(&self) -> Result<(), JournalError> {
        if self.replaced.load(Ordering::SeqCst) {
            return Err(JournalError::Fenced { leader: "second".to_owned() });
        }
        Ok(())
    }
}

/// The plainest index, whose every step waits for a permit and may fail.
#[derive(Clone)]
struct Listed {
    plain: Arc<Mutex<Plain>>,
    steps: Arc<Semaphore>,
    failures: Arc<AtomicUsize>,
    /// No lookup by id is answered.
    unreachable: Arc<AtomicBool>,
    /// Steps that wait for a permit.
    waiting: Arc<AtomicUsize>,
    /// What is looked up by id is damaged.
    damaged: Arc<AtomicBool>,
    /// What is damaged is made anew at a start.
    made_anew: Arc<AtomicBool>,
}

impl Listed {
    fn new(permits: usize) -> Self {
        let steps = Arc::new(Semaphore::new(permits));
        Self {
            plain: Arc::default(),
            steps,
            failures: Arc::default(),
            unreachable: Arc::default(),
            waiting: Arc::default(),
            damaged: Arc::default(),
            made_anew: Arc::default(),
        }
    }
}

impl Listed {
    fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }
}

fn whole<T>(items: Vec<T>) -> Page<T> {
    Page { items, resume: None }
}

impl Index for Listed {
    fn give_up(&self) -> bool {
        self.made_anew.load(Ordering::SeqCst)
    }

    async fn applied(&self) -> Result<Watermark, StoreError> {
        Ok(self.plain.lock().unwrap().watermark)
    }

    async fn apply(&self, records: Vec<Happened>) -> Result<(), StoreError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.steps.acquire().await.unwrap().forget();
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        if self.failures.load(Ordering::SeqCst) > 0 {
            self.failures.fetch_sub(1, Ordering::SeqCst);
            self.steps.add_permits(1);
            return Err(StoreError::Commit("the disk is full".into()));
        }
        let mut plain = self.plain.lock().unwrap();
        for record in &records {
            plain.apply(record);
        }
        Ok(())
    }

    async fn known(&self, ids: Vec<TransferId>) -> Result<Vec<(TransferId, Known)>, StoreError> {
        if self.unreachable.load(Ordering::SeqCst) {
            return Err(StoreError::Server("it does not answer".into()));
        }
        if self.damaged.load(Ordering::SeqCst) {
            return Err(StoreError::Corrupt("a page is torn".into()));
        }
        let plain = self.plain.lock().unwrap();
        Ok(ids.into_iter().filter_map(|id| Some((id, plain.known(id)?))).collect())
    }

    async fn transfers(&self, filter: TransferFilter) -> Result<Page<Transfer>, StoreError> {
        Ok(whole(self.plain.lock().unwrap().transfers(&filter)))
    }

    async fn accounts(&self, filter: AccountFilter) -> Result<Page<AccountId>, StoreError> {
        Ok(whole(self.plain.lock().unwrap().accounts(&filter)))
    }

    async fn balances(&self, filter: BalanceFilter) -> Result<Page<BalanceAt>, StoreError> {
        Ok(whole(self.plain.lock().unwrap().balances(&filter)))
    }
}

fn start(journal: &Slow, index: &Listed) -> Engine<Listed> {
    let chain = Chain::new(JournalKey::take(&mut [7; 32]), Link::EMPTY);
    let beginning = Beginning {
        book: Book::default(),
        chain,
        journal: journal.clone(),
        index: index.clone(),
        unindexed: Vec::new(),
    };
    Engine::start(beginning).unwrap()
}

fn acme() -> TenantId {
    "acme".parse().unwrap()
}

fn account_id(bits: u128) -> AccountId {
    AccountId::new(bits).unwrap()
}

fn account(bits: u128) -> NewAccount {
    NewAccount {
        id: Given::Value(account_id(bits)),
        tenant: Given::Value(acme()),
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("cash".parse().unwrap()),
        flags: Some(AccountFlags::NONE),
        user_data: 0,
        reference: Some(Reference::default()),
        limit: 0,
        has_balances: false,
        has_timestamp: false,
    }
}

fn transfer(bits: u128, amount: i64) -> NewTransfer {
    NewTransfer {
        id: Given::Value(TransferId::new(bits).unwrap()),
        tenant: Given::Value(acme()),
        flags: TransferFlags::default(),
        debit: Given::Value(account_id(1)),
        credit: Given::Value(account_id(2)),
        amount,
        post_full_amount: false,
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("fee".parse().unwrap()),
        pending: Given::Nothing,
        timeout_s: 0,
        user_data: 0,
        has_unknown_flags: false,
        has_timestamp: false,
        reference: "pay_1".parse().ok(),
    }
}

async fn debited(engine: &Engine<Listed>) -> i64 {
    let found: Vec<Account> = engine.accounts(acme(), vec![account_id(1)]).await.unwrap();
    found[0].balances.debits_posted
}

/// Polls until it holds; a test that waits for ever is ended by the one who runs it.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn nothing_is_answered_before_it_is_durable() {
    let (journal, index) = (Slow::new(1), Listed::new(100));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    let made = tokio::spawn({
        let engine = engine.clone();
        async move { engine.transfer(vec![transfer(7, 5)], NOW).await }
    });
    // A read that comes after it may see it only once it is durable.
    let read = tokio::spawn({
        let engine = engine.clone();
        async move { while debited(&engine).await == 0 {} }
    });
    for _ in 0..50 {
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!made.is_finished() && !read.is_finished());
    }
    journal.go(1);
    assert_eq!(made.await.unwrap().unwrap()[0].code, C::Created);
    read.await.unwrap();
    assert_eq!(debited(&engine).await, 5);
}

#[tokio::test]
async fn a_time_is_closed_for_good_before_anything_is_said_of_it() {
    let (journal, index) = (Slow::new(0), Listed::new(100));
    let engine = start(&journal, &index);
    let close = |nanos: i64| {
        let (engine, time) = (engine.clone(), Timestamp::from_nanos(NOW.as_nanos() + nanos));
        tokio::spawn(async move { engine.close_until(time, time).await })
    };
    let closing = close(0);
    for _ in 0..50 {
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!closing.is_finished(), "nothing is durable yet");
    }
    journal.go(1);
    assert_eq!(closing.await.unwrap(), Ok(true));
    // There is no permit for another step, and none is needed.
    assert_eq!(close(1_000).await.unwrap(), Ok(true));
    assert_eq!(journal.steps_written(), 1);
}

#[tokio::test]
async fn what_arrives_while_a_commit_is_under_way_shares_the_next() {
    let (journal, index) = (Slow::new(1), Listed::new(100));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    let calls: Vec<_> = (10..74)
        .map(|id| {
            let engine = engine.clone();
            tokio::spawn(async move { engine.transfer(vec![transfer(id, 1)], NOW).await })
        })
        .collect();
    until(|| engine.0.waiting.available_permits() == super::ITEMS_WAITING_MAX).await;
    journal.go(64);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap()[0].code, C::Created);
    }
    // The accounts, the first of the calls, one frame that waited, and the rest: a handful of steps, not 65.
    assert!(journal.steps_written() < 10, "{} steps", journal.steps_written());
    assert_eq!(debited(&engine).await, 64);
}

#[tokio::test]
async fn a_journal_that_fails_stops_the_engine_and_nobody_is_told_yes() {
    let (journal, index) = (Slow::new(1), Listed::new(100));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    journal.fails.store(1, Ordering::SeqCst);
    journal.go(100);
    let failed = engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap_err();
    assert!(matches!(failed, EngineError::Journal(_)), "{failed:?}");
    assert!(matches!(engine.stopped().await, EngineError::Journal(_)));
    let later = engine.accounts(acme(), vec![account_id(1)]).await.unwrap_err();
    assert!(matches!(later, EngineError::Unread(_)), "{later:?}");
    assert_eq!(journal.steps_written(), 1);
}

#[tokio::test]
async fn what_the_index_has_not_taken_up_is_known_and_what_it_has_is_forgotten() {
    let (journal, index) = (Slow::new(100), Listed::new(0));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap();
    assert_eq!(engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap()[0].code, C::Exists);
    let seven = TransferId::new(7).unwrap();
    let found = engine.transfers(acme(), vec![seven]).await.unwrap();
    assert_eq!(found[0].amount, 5);

    index.steps.add_permits(100);
    engine.index().await.unwrap();
    // The next group forgets what the index holds, and looks it up there.
    assert_eq!(engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap()[0].code, C::Exists);
    let held = engine.read(Vec::new(), move |book| book.transfers(&[seven])).await.unwrap();
    assert_eq!(held, [None]);
    assert_eq!(engine.transfers(acme(), vec![seven]).await.unwrap(), found);
}

#[tokio::test]
async fn an_index_that_fails_is_tried_again() {
    let (journal, index) = (Slow::new(100), Listed::new(100));
    let engine = start(&journal, &index);
    index.failures.store(1, Ordering::SeqCst);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    let index = engine.index().await.unwrap();
    assert_eq!(index.applied().await.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_lookup_that_fails_fails_only_the_calls_that_need_it() {
    let (journal, index) = (Slow::new(100), Listed::new(0));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap();
    index.unreachable.store(true, Ordering::SeqCst);
    // All are in the queue before the first is waited for. The index has not taken 7 up yet.
    let in_need = engine.submit(vec![transfer(8, 1)], NOW).unwrap();
    let mixed = engine.submit(vec![transfer(7, 5), transfer(9, 1)], NOW).unwrap();
    let retried = engine.submit(vec![transfer(7, 5)], NOW).unwrap();
    let opened = engine.open_accounts(vec![account(3)], NOW);
    let (in_need, mixed, retried, opened, read) =
        tokio::join!(in_need, mixed, retried, opened, debited(&engine));
    for failed in [in_need, mixed] {
        assert!(matches!(failed, Err(EngineError::Index(_))), "{failed:?}");
    }
    assert_eq!(retried.unwrap()[0].code, C::Exists);
    opened.unwrap();
    assert_eq!(read, 5);

    index.unreachable.store(false, Ordering::SeqCst);
    assert_eq!(engine.transfer(vec![transfer(8, 1)], NOW).await.unwrap()[0].code, C::Created);
    assert_eq!(debited(&engine).await, 6, "of what was refused nothing was done");
}

#[tokio::test]
async fn what_needs_no_record_is_answered_only_while_nobody_else_can_have_written() {
    let (journal, index) = (Slow::new(100), Listed::new(100));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap();
    journal.replaced.store(true, Ordering::SeqCst);
    let replaced = EngineError::NotLeader { leader: "second".to_owned() };
    assert_eq!(engine.accounts(acme(), vec![account_id(1)]).await.unwrap_err(), replaced);
    // That it exists is read from memory; another one might say that of what is new here.
    assert_eq!(engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap_err(), replaced);
    // What is written asks the journal by being written.
    assert_eq!(engine.transfer(vec![transfer(8, 1)], NOW).await.unwrap()[0].code, C::Created);
}

#[tokio::test]
async fn damage_that_stays_is_told_and_ends_only_an_engine_whose_next_start_mends_it() {
    let (journal, index) = (Slow::new(100), Listed::new(100));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    index.damaged.store(true, Ordering::SeqCst);
    let told = engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap_err();
    assert!(matches!(told, EngineError::Damaged(_)), "{told:?}");
    let seven = || vec![TransferId::new(7).unwrap()];
    let told = engine.transfers(acme(), seven()).await.unwrap_err();
    assert!(matches!(told, EngineError::Damaged(_)), "{told:?}");
    assert_eq!(debited(&engine).await, 0, "all else goes on");

    // Whether a call that writes comes upon it, or one that reads.
    for writes in [true, false] {
        let (journal, index) = (Slow::new(100), Listed::new(100));
        let engine = start(&journal, &index);
        engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
        index.made_anew.store(true, Ordering::SeqCst);
        index.damaged.store(true, Ordering::SeqCst);
        let told = if writes {
            engine.transfer(vec![transfer(7, 5)], NOW).await.unwrap_err()
        } else {
            engine.transfers(acme(), seven()).await.unwrap_err()
        };
        assert!(matches!(told, EngineError::Index(_)), "{told:?}");
        assert_eq!(engine.stopped().await, told);
        let later = engine.accounts(acme(), vec![account_id(1)]).await.unwrap_err();
        assert_eq!(later, told, "nothing more is served");
        assert_eq!(engine.index().await.err(), Some(told));
    }
}

#[tokio::test]
async fn an_end_does_not_wait_for_an_index_that_is_far_behind() {
    let (journal, index) = (Slow::new(100), Listed::new(0));
    let engine = start(&journal, &index);
    engine.open_accounts(vec![account(1), account(2)], NOW).await.unwrap();
    // The index is at the first record; all others are behind it.
    until(|| index.waiting() == 1).await;
    for id in 10..20 {
        engine.transfer(vec![transfer(id, 1)], NOW).await.unwrap();
    }
    let durable = engine.durable();
    let closing = tokio::spawn(engine.close());
    // Then the executor and the committer are gone.
    until(|| durable.has_changed().is_err()).await;
    assert_eq!(*durable.borrow(), 11);
    index.steps.add_permits(1);
    tokio::time::timeout(Duration::from_secs(30), closing).await.expect("it ends").unwrap();
    assert_eq!(index.applied().await.unwrap().sequence, 1, "the journal has the rest");
}
