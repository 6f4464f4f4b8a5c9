//! A commit is written as a whole, or not at all.

use super::*;
use crate::domain::{
    payment::{Finding, Inspection, event_type},
    transition::Status,
};

/// What was created is there as it was, after opening again too, and for its tenant only.
pub(crate) async fn a_payment_is_found_by_its_tenant(fixture: impl Fixture) {
    let store = fixture.open().await;
    let payment = created_as(&store, 1, wish("INV")).await;
    let expected = next(made(1, wish("INV"))).change;
    assert_eq!(payment, expected.payment);
    for store in [store.clone(), fixture.open().await] {
        assert_eq!(stored(&store, 1).await, payment);
        let (found, events) = store.events(tenant("acme"), id(1), ALL_EVENTS).await.unwrap().unwrap();
        assert_eq!((&found, &events), (&payment, &expected.events));
        let other = tenant("globex");
        assert_eq!(store.payment(other.clone(), id(1)).await.unwrap(), None);
        assert!(store.events(other.clone(), id(1), ALL_EVENTS).await.unwrap().is_none());
        let all = Filter { limit: 9, ..Filter::default() };
        assert!(store.payments(other.clone(), all).await.unwrap().is_empty());
        // Nor can another tenant's request change it.
        let mut of_other = Change::of(Payment { tenant: other, ..payment.clone() });
        of_other.record(event_type::INCREMENTED, 1, at(1));
        assert_eq!(store.commit(next(of_other), at(1)).await.unwrap(), Committed::Contended);
        assert_eq!(stored(&store, 1).await, payment);
    }
}

/// State, events, postings, inspections and key are one commit, and are there when the store is opened again.
pub(crate) async fn a_commit_is_written_as_a_whole(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    let claim = claim(Rpc::CapturePayment, "c", 1, &id(1));
    let begin = |payment| hold::begin_capture(payment, Some(60), false, "c", at(1));
    let begun =
        is_new(decide::begin(&store, &Lines::default(), claim.clone(), id(1), at(1), begin).await.unwrap());
    assert_eq!(stored(&store, 1).await, begun.change.payment);
    assert!(matches!(
        store.find_claim(claim.clone()).await.unwrap(),
        Some(crate::store::Known::Underway { subject }) if subject == id(1).to_string()
    ));
    let inspection = inspection("o");
    let settle = |payment| {
        let mut change = answer::answered(payment, 2, approved("c"), &TERMS, at(2))?;
        change.inspections.push(inspection.clone());
        Ok(change)
    };
    let settled = changed(&store, 1, 2, settle).await;
    assert_eq!(settled.change.postings.len(), 1);
    for store in [store.clone(), fixture.open().await] {
        assert_eq!(stored(&store, 1).await, settled.change.payment);
        assert_eq!(settled.change.payment.status, Status::PartiallyCaptured);
        let seen: Vec<_> =
            events(&store, 1).await.iter().map(|event| (event.sequence, event.event_type)).collect();
        assert_eq!(
            seen,
            [(1, "payment.created"), (2, "payment.authorized"), (3, "payment.partially_captured")]
        );
        assert_eq!(store.postings(tenant("acme"), id(1)).await.unwrap(), settled.change.postings);
        assert_eq!(store.inspections(9).await.unwrap(), std::slice::from_ref(&inspection));
        let answer = crate::answers::of(&settled.change).remove(0).1;
        let found = store.find_claim(claim.clone()).await.unwrap();
        assert_eq!(found, Some(crate::store::Known::Answered(answer)));
    }
}

pub(super) fn inspection(reference: &str) -> Inspection {
    let finding = Finding::Amount { asked: 1, said: 2 };
    Inspection { processor: "simulator".into(), reference: reference.into(), finding }
}

/// Whoever read a version that is not the last, or none that there was, writes nothing.
pub(crate) async fn a_commit_of_another_version_writes_nothing(fixture: impl Fixture) {
    let store = fixture.open().await;
    let read = created(&store, 1).await;
    let change = |payment: &Payment| {
        let mut change = answer::answered(payment.clone(), 1, approved("r"), &TERMS, at(1)).unwrap();
        change.inspections.push(inspection("o"));
        let posting = crate::domain::posting::reserve(&change.payment);
        change.post(posting);
        change
    };
    let done = store.commit(next(change(&read)), at(1)).await.unwrap();
    assert_eq!(done, Committed::Done { earlier_postings: false });
    let before = everything(&store, 1).await;
    let ahead = Payment { version: 7, ..read.clone() };
    let nowhere = Payment { id: id(2), ..read.clone() };
    for other in [&read, &ahead, &nowhere] {
        let contended = store.commit(next(change(other)), at(2)).await.unwrap();
        assert_eq!(contended, Committed::Contended, "version {}", other.version);
    }
    assert_eq!(everything(&store, 1).await, before);
    assert!(store.postings(tenant("acme"), id(2)).await.unwrap().is_empty());
    assert_eq!(store.payment(tenant("acme"), id(2)).await.unwrap(), None);
}

/// Two payments never have one id; the second leaves nothing.
pub(crate) async fn an_id_is_taken_once(fixture: impl Fixture) {
    let store = fixture.open().await;
    created(&store, 1).await;
    let before = everything(&store, 1).await;
    let other = claim(Rpc::CreatePayment, "other", 1, &id(1));
    let twice = decide::create(&store, other.clone(), made(1, wish("again")), at(5)).await;
    assert!(matches!(twice, Err(CommitError::Store(_))), "{twice:?}");
    assert!(store.find_claim(other).await.unwrap().is_none());
    assert_eq!(everything(&store, 1).await, before);
}

/// A page is by the events' own numbers, which have no gap.
pub(crate) async fn events_are_gapless_and_paged(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    for (second, amount) in [(2, 10), (3, 20), (4, 30)] {
        capture(&store, 1, second, amount).await;
    }
    let all = events(&store, 1).await;
    assert_eq!(all.iter().map(|event| event.sequence).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    assert_eq!(all.last().unwrap().sequence, stored(&store, 1).await.sequence);
    for (after, limit, expected) in [
        (None, 2, &all[..2]),
        (Some(0), 2, &all[..2]),
        (Some(2), 2, &all[2..4]),
        (Some(4), 9, &all[4..]),
        (Some(5), 9, &all[5..]),
    ] {
        let (_, page) = store.events(tenant("acme"), id(1), Page { after, limit }).await.unwrap().unwrap();
        assert_eq!(page, expected, "after {after:?}");
    }
    assert!(store.events(tenant("acme"), id(2), ALL_EVENTS).await.unwrap().is_none());
}

async fn ordinals<S: Store>(store: &S, number: u128) -> Vec<u32> {
    let postings = store.postings(tenant("acme"), id(number)).await.unwrap();
    postings.iter().map(|posting| posting.ordinal).collect()
}

/// The ledger is told in order; whoever adds to what it has not confirmed is told so.
pub(crate) async fn postings_are_told_in_order_and_crossed_off_by_number(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    let first = capture(&store, 1, 2, 10).await;
    assert!(!first.earlier_postings);
    assert!(capture(&store, 1, 3, 20).await.earlier_postings);
    let third = capture(&store, 1, 4, 30).await;
    assert!(third.earlier_postings);
    authorized(&store, 2).await;
    assert!(!capture(&store, 2, 2, 10).await.earlier_postings, "another payment's are its own");
    assert_eq!(ordinals(&store, 1).await, [1, 2, 3]);
    store.postings_done(id(1), 2).await.unwrap();
    for store in [store.clone(), fixture.open().await] {
        assert_eq!(ordinals(&store, 1).await, [3]);
        assert_eq!(store.postings(tenant("acme"), id(1)).await.unwrap(), third.change.postings);
        assert_eq!(ordinals(&store, 2).await, [1]);
    }
    // Crossed off twice is crossed off.
    store.postings_done(id(1), 2).await.unwrap();
    store.postings_done(id(1), 3).await.unwrap();
    store.postings_done(id(3), 1).await.unwrap();
    assert_eq!(ordinals(&store, 1).await, [0; 0]);
    assert!(!capture(&store, 1, 5, 10).await.earlier_postings);
    assert_eq!(ordinals(&store, 1).await, [4]);
}
