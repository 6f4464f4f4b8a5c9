//! What the domain promises, the store itself insists on.

use super::*;
use crate::domain::transition::{self, Status};

/// A commit that the domain would not make, with a claim and an event.
fn forged(payment: Payment) -> Commit {
    let mut change = Change::of(payment);
    change.record("payment.captured", 1, at(9));
    Commit { claim: Some(claim(Rpc::CapturePayment, "forged", 1, &id(1))), ..next(change) }
}

async fn must_refuse<S: Store>(store: &S, commit: Commit, what: &str) {
    let before = everything(store, 1).await;
    let refused = store.commit(commit, at(9)).await;
    assert!(matches!(refused, Err(CommitError::Store(_))), "{what}: {refused:?}");
    assert_eq!(everything(store, 1).await, before, "{what}");
    let key = claim(Rpc::CapturePayment, "forged", 1, &id(1));
    assert_eq!(store.find_claim(key).await.unwrap(), None, "{what}");
}

/// Captured is never more than authorized, nor refunded and disputed more than captured.
pub(crate) async fn money_that_does_not_add_up_is_refused(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    capture(&store, 1, 2, 60).await;
    let wrong: [fn(&mut Payment); 13] = [
        |p| p.amount = 0,
        |p| p.amount_authorized = p.amount + 1,
        |p| p.amount_authorized = p.amount_captured - 1,
        |p| p.amount_captured = p.amount_authorized + 1,
        |p| p.amount_capture_pending = p.amount_authorized - p.amount_captured + 1,
        |p| p.amount_capture_pending = -1,
        |p| p.amount_captured = -1,
        |p| p.amount_refunded = p.amount_captured + 1,
        |p| p.amount_refunded = -1,
        |p| p.amount_refund_pending = p.amount_captured + 1,
        |p| p.amount_refund_pending = -1,
        |p| p.amount_disputed = p.amount_captured + 1,
        |p| (p.amount_refunded, p.amount_refund_pending, p.amount_disputed) = (20, 20, 21),
    ];
    for (number, break_it) in wrong.into_iter().enumerate() {
        let mut payment = stored(&store, 1).await;
        break_it(&mut payment);
        must_refuse(&store, forged(payment), &format!("number {number}")).await;
    }
    // To the last unit it is taken.
    let mut payment = stored(&store, 1).await;
    payment.amount_capture_pending = payment.amount_authorized - payment.amount_captured;
    (payment.amount_refunded, payment.amount_refund_pending, payment.amount_disputed) = (20, 20, 20);
    let taken = store.commit(forged(payment), at(9)).await.unwrap();
    assert!(matches!(taken, Committed::Done { .. }));
}

/// Every pair of states that the transition table does not connect is refused, and every one that it does is taken.
pub(crate) async fn a_step_that_is_not_in_the_table_is_refused(fixture: impl Fixture) {
    let store = fixture.open().await;
    let legal = transition::reachable();
    let mut refused = 0;
    for (number, from) in (1..).zip(Status::ALL) {
        let mut change = made(number, wish(""));
        change.payment.status = from;
        store.commit(next(change), at(0)).await.unwrap();
        for to in Status::ALL.into_iter().filter(|to| from != *to && !legal.contains(&(from, *to))) {
            let commit = next(Change::of(Payment { status: to, ..stored(&store, number).await }));
            let outcome = store.commit(commit, at(1)).await;
            assert!(matches!(outcome, Err(CommitError::Store(_))), "{from:?} to {to:?}: {outcome:?}");
            assert_eq!(stored(&store, number).await.status, from);
            refused += 1;
        }
    }
    assert!(refused > 40, "{refused}");
    for (number, (from, to)) in (100..).zip(legal) {
        let mut change = made(number, wish(""));
        change.payment.status = from;
        store.commit(next(change), at(0)).await.unwrap();
        let commit = next(Change::of(Payment { status: to, ..stored(&store, number).await }));
        assert!(matches!(store.commit(commit, at(1)).await.unwrap(), Committed::Done { .. }));
    }
}

/// Nor is what was written down of a payment written over.
pub(crate) async fn an_events_number_is_taken_once(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    capture(&store, 1, 2, 60).await;
    let mut payment = stored(&store, 1).await;
    payment.sequence -= 1;
    must_refuse(&store, forged(payment), "an event's number").await;
    let mut commit = forged(stored(&store, 1).await);
    commit.change.postings = store.postings(tenant("acme"), id(1)).await.unwrap();
    must_refuse(&store, commit, "a posting's ordinal").await;
}

/// What a processor calls two payments by the same name is refused for the second, as a whole.
pub(crate) async fn a_processors_id_stands_for_one_payment(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    let found = async |processor: &str, reference: &str| {
        store.by_processor_reference(processor.into(), reference.into()).await.unwrap()
    };
    assert_eq!(found("simulator", "r1").await, Some((tenant("acme"), id(1))));
    assert_eq!(found("other", "r1").await, None);
    assert_eq!(found("simulator", "r2").await, None);
    // Those without one are many, and none of them is found.
    created(&store, 2).await;
    created(&store, 3).await;
    assert_eq!(found("simulator", "").await, None);

    let before = everything(&store, 2).await;
    let read = stored(&store, 2).await;
    let change = answer::answered(read, 1, approved("r1"), &TERMS, at(2)).unwrap();
    let key = claim(Rpc::ConfirmPayment, "dup", 1, &id(2));
    let commit = Commit { claim: Some(key.clone()), ..next(change) };
    let refused = store.commit(commit, at(2)).await;
    assert!(matches!(refused, Err(CommitError::DuplicateReference)), "{refused:?}");
    assert_eq!(everything(&store, 2).await, before);
    assert_eq!(store.find_claim(key).await.unwrap(), None);
    assert_eq!(found("simulator", "r1").await, Some((tenant("acme"), id(1))));
    // Another processor may use the same name.
    let change = |payment: Payment| {
        let mut change = answer::answered(payment, 1, approved("r1"), &TERMS, at(2))?;
        change.payment.processor = "other".into();
        Ok(change)
    };
    changed(&store, 3, 2, change).await;
    assert_eq!(found("other", "r1").await, Some((tenant("acme"), id(3))));
}
