//! What is under way is taken up by one at a time, and is never forgotten.

use super::*;
use crate::store::Work;

const ENOUGH: usize = 100;

fn payment(number: u128) -> Work {
    Work::Payment(tenant("acme"), id(number))
}

fn postings(number: u128) -> Work {
    Work::Postings(tenant("acme"), id(number))
}

async fn take<S: Store>(store: &S, now: i64, until: i64) -> Vec<Work> {
    store.take_due(at(now), at(until), ENOUGH).await.unwrap()
}

/// A payment that was captured at 2 s, with a posting, and nothing else under way.
async fn with_posting<S: Store>(store: &S, number: u128) {
    authorized(store, number).await;
    capture(store, number, 2, 100).await;
}

/// A request has 15 seconds to finish by itself, a posting 5; the longest due comes first.
pub(crate) async fn what_is_under_way_becomes_due(fixture: impl Fixture) {
    let store = fixture.open().await;
    with_posting(&store, 1).await;
    created(&store, 2).await;
    created(&store, 3).await;
    answered(&store, 3, 1, ProcessorOutcome::Unanswered).await;
    assert!(take(&store, 1, 1_000).await.is_empty());
    // What has an unknown outcome is asked about after one second.
    assert_eq!(take(&store, 2, 30).await, [payment(3)]);
    assert!(take(&store, 6, 1_000).await.is_empty());
    let store = fixture.open().await;
    assert_eq!(take(&store, 7, 40).await, [postings(1)]);
    assert!(take(&store, 14, 1_000).await.is_empty());
    assert_eq!(take(&store, 15, 35).await, [payment(2)]);
    // Oldest first, so many of each kind.
    assert_eq!(store.take_due(at(50), at(90), 1).await.unwrap(), [payment(3), postings(1)]);
    assert_eq!(take(&store, 50, 90).await, [payment(2)]);
    assert_eq!(take(&store, 90, 91).await.len(), 3);
}

/// Nobody else is given what was taken, also on a store that was opened after it, until the time that was said.
pub(crate) async fn what_is_taken_is_nobody_elses_until_its_lease_ends(fixture: impl Fixture) {
    let store = fixture.open().await;
    for number in 1..=20 {
        created(&store, number).await;
    }
    with_posting(&store, 21).await;
    capture_again(&store).await;
    let other = fixture.open().await;
    let (mine, theirs) = tokio::join!(take(&store, 60, 90), take(&other, 60, 90));
    let mut taken = [mine, theirs].concat();
    assert_eq!(taken.len(), 22, "each once");
    taken.sort_by_key(|work| format!("{work:?}"));
    taken.dedup();
    assert_eq!(taken.len(), 22);
    assert!(take(&other, 89, 1_000).await.is_empty());
    assert_eq!(take(&other, 90, 1_000).await.len(), 22);
}

/// A payment with two postings is due once.
async fn capture_again<S: Store>(store: &S) {
    authorized(store, 22).await;
    capture(store, 22, 2, 10).await;
    capture(store, 22, 3, 10).await;
}

/// What cannot be done now does not keep others from their turn.
pub(crate) async fn what_is_put_off_is_due_later_and_never_sooner(fixture: impl Fixture) {
    let store = fixture.open().await;
    created(&store, 1).await;
    with_posting(&store, 2).await;
    assert_eq!(take(&store, 20, 21).await, [payment(1), postings(2)]);
    for until in [30, 25] {
        store.put_off(payment(1), at(until)).await.unwrap();
        store.put_off(postings(2), at(until)).await.unwrap();
    }
    assert!(take(&store, 29, 1_000).await.is_empty());
    assert_eq!(take(&store, 30, 31).await.len(), 2);
    // What is put off and is none is none.
    store.put_off(payment(7), at(1)).await.unwrap();
    store.put_off(postings(7), at(1)).await.unwrap();
    assert_eq!(take(&store, 40, 41).await.len(), 2);
}

/// Putting off what is settled does not make it due, nor does a lease that ends.
pub(crate) async fn what_is_settled_is_not_due(fixture: impl Fixture) {
    let store = fixture.open().await;
    created(&store, 1).await;
    with_posting(&store, 2).await;
    let taken = take(&store, 20, 30).await;
    assert_eq!(taken, [payment(1), postings(2)]);
    store.postings_done(id(2), 1).await.unwrap();
    let released = answered(&store, 1, 21, declined()).await;
    let last = released.change.postings.last().unwrap().ordinal;
    store.postings_done(id(1), last).await.unwrap();
    for work in taken {
        store.put_off(work, at(40)).await.unwrap();
    }
    store.make_all_due(at(50)).await.unwrap();
    assert!(take(&store, 100_000, 100_001).await.is_empty());
}

/// News of a payment make it due at once, whatever state it is in; the tenant is told.
pub(crate) async fn what_somebody_has_news_of_is_due_at_once(fixture: impl Fixture) {
    let store = fixture.open().await;
    with_posting(&store, 1).await;
    store.postings_done(id(1), 1).await.unwrap();
    created(&store, 2).await;
    created(&store, 3).await;
    for number in [1, 2] {
        assert_eq!(store.make_due(id(number), at(5)).await.unwrap(), Some(tenant("acme")));
        // Never later than it was.
        assert_eq!(store.make_due(id(number), at(9)).await.unwrap(), Some(tenant("acme")));
    }
    assert_eq!(store.make_due(id(7), at(5)).await.unwrap(), None);
    assert!(take(&store, 4, 100).await.is_empty());
    let mut taken = take(&store, 5, 100).await;
    taken.sort_by_key(|work| format!("{work:?}"));
    assert_eq!(taken, [payment(1), payment(2)]);
    // Also what somebody has taken up.
    store.make_due(id(2), at(6)).await.unwrap();
    assert_eq!(take(&store, 6, 100).await, [payment(2)]);
    assert_eq!(stored(&store, 1).await.version, 4, "no commit of the payment");
}

/// After a crash nobody waits for leases that nobody holds; where others may hold them, they are kept.
pub(crate) async fn a_start_makes_all_due_where_nobody_else_can_be_at_it<F: Fixture>(fixture: F) {
    let store = fixture.open().await;
    created(&store, 1).await;
    with_posting(&store, 2).await;
    assert_eq!(take(&store, 20, 90).await.len(), 2);
    let store = fixture.open().await;
    store.make_all_due(at(21)).await.unwrap();
    let expected = if F::ALONE { 2 } else { 0 };
    assert_eq!(take(&store, 21, 90).await.len(), expected);
    assert_eq!(take(&store, 90, 91).await.len(), 2);
}
