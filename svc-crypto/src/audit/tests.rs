//! The recorder on a planted log: groups, deadlines, and what happens to a log that stalls or fails.

use std::sync::{
    Mutex,
    atomic::{AtomicBool, Ordering},
};

use mesh::{ManualClock, StoreError};
use money::Timestamp;
use tokio::sync::Notify;
use uuid::Uuid;

use super::*;
use crate::{
    domain::algorithm::Verb,
    store::{Found, Usage, contract::audit_entry},
};

const DEADLINE: Duration = Duration::from_secs(2);

/// Keeps what it is told, as soon and as well as the test lets it.
#[derive(Clone, Default)]
struct Planted(Arc<Inside>);

#[derive(Default)]
struct Inside {
    groups: Mutex<Vec<Vec<Entry>>>,
    stalled: AtomicBool,
    failing: AtomicBool,
    go_on: Notify,
}

impl Planted {
    fn groups(&self) -> Vec<Vec<Entry>> {
        self.0.groups.lock().unwrap().clone()
    }

    async fn until_groups(&self, count: usize) {
        while self.groups().len() < count {
            tokio::task::yield_now().await;
        }
    }

    fn recorder(&self) -> (Recorder, watch::Receiver<Link>) {
        let clock = Arc::new(ManualClock::new(Timestamp::EPOCH));
        Recorder::start(self.clone(), Link::START, clock, DEADLINE, &Metrics::new("svc-crypto")).unwrap()
    }
}

impl AuditLog for Planted {
    async fn append(&self, entries: Vec<Entry>, known: Link, _now: Timestamp) -> Result<Link, StoreError> {
        let count = entries.len() as u64;
        self.0.groups.lock().unwrap().push(entries);
        if self.0.stalled.load(Ordering::SeqCst) {
            self.0.go_on.notified().await;
        }
        if self.0.failing.load(Ordering::SeqCst) {
            return Err(StoreError::Commit("planted".into()));
        }
        Ok(Link { sequence: known.sequence + count, hash: [1; 32] })
    }

    async fn end(&self, known: Link) -> Result<Link, StoreError> {
        Ok(known)
    }

    async fn records(&self, _after: u64, _limit: usize) -> Result<Vec<Found>, StoreError> {
        Ok(Vec::new())
    }

    async fn last_before(&self, _time: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn usage(&self, _key: Uuid) -> Result<Vec<Usage>, StoreError> {
        Ok(Vec::new())
    }
}

fn is_refused(kept: Result<(), Fault>) -> bool {
    kept.is_err_and(|fault| {
        fault.reason() == Reason::Unavailable && fault.message().starts_with("The audit log did not take")
    })
}

#[tokio::test]
async fn what_arrives_while_a_group_is_kept_is_the_next_with_equal_entries_added_up() {
    let log = Planted::default();
    log.0.stalled.store(true, Ordering::SeqCst);
    let (recorder, end) = log.recorder();
    let first = recorder.submit(audit_entry(0));
    log.until_groups(1).await;
    let rest: Vec<_> = (0..50).map(|_| recorder.submit(audit_entry(2))).collect();
    let batch = recorder.submit(vec![audit_entry(2), audit_entry(3), audit_entry(2)]);
    log.0.stalled.store(false, Ordering::SeqCst);
    log.0.go_on.notify_one();
    first.await.unwrap();
    batch.await.unwrap();
    for kept in rest {
        kept.await.unwrap();
    }
    recorder.submit(Vec::new()).await.unwrap();
    let merged = Entry { count: 52, bytes: 104, ..audit_entry(2) };
    assert_eq!(log.groups(), [vec![audit_entry(0)], vec![merged, audit_entry(3)]]);
    assert_eq!(end.borrow().sequence, 3);
}

#[tokio::test]
async fn an_entry_is_kept_also_where_its_caller_has_gone_away() {
    let log = Planted::default();
    let (recorder, _end) = log.recorder();
    // Not even polled once.
    drop(recorder.submit(audit_entry(1)));
    log.until_groups(1).await;
    assert_eq!(log.groups(), [vec![audit_entry(1)]]);
}

#[tokio::test(start_paused = true)]
async fn a_log_that_stalls_fails_every_call_by_its_deadline_and_a_full_queue_at_once() {
    let log = Planted::default();
    log.0.stalled.store(true, Ordering::SeqCst);
    let (recorder, _end) = log.recorder();
    let began = Instant::now();
    let kept = recorder.submit(audit_entry(0));
    log.until_groups(1).await;
    let waiting: Vec<_> = (0..QUEUE_MAX).map(|_| recorder.submit(audit_entry(1))).collect();
    assert!(is_refused(recorder.submit(audit_entry(2)).await));
    assert_eq!(began.elapsed(), Duration::ZERO, "refused at once");
    assert!(is_refused(kept.await));
    // Timers go by the millisecond.
    assert!((DEADLINE..DEADLINE + Duration::from_millis(2)).contains(&began.elapsed()));
    for kept in waiting {
        assert!(is_refused(kept.await));
    }
    // When it comes back, what was handed in is kept all the same.
    tokio::time::resume();
    log.0.stalled.store(false, Ordering::SeqCst);
    log.0.go_on.notify_one();
    log.until_groups(2).await;
    recorder.submit(Entry { count: 1, ..audit_entry(3) }).await.unwrap();
    let kept: u32 = log.groups().iter().flatten().map(|entry| entry.count).sum();
    assert_eq!(kept as usize, QUEUE_MAX + 2);
}

#[tokio::test]
async fn a_log_that_fails_fails_the_calls_and_is_asked_again() {
    let log = Planted::default();
    log.0.failing.store(true, Ordering::SeqCst);
    let (recorder, end) = log.recorder();
    assert!(is_refused(recorder.submit(audit_entry(0)).await));
    assert_eq!(*end.borrow(), Link::START);
    log.0.failing.store(false, Ordering::SeqCst);
    recorder.submit(audit_entry(0)).await.unwrap();
    assert_eq!(end.borrow().sequence, 1);
}

#[test]
fn outcomes_are_named_by_their_reason() {
    let refused: Result<(), Fault> = Err(Fault::new(Reason::DecryptionFailed, "It does not open."));
    assert_eq!(outcome_of(&refused).as_str(), "DECRYPTION_FAILED");
    assert_eq!(outcome_of(&Ok(Verb::Sign)), Outcome::Done);
}
