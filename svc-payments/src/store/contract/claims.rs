//! A request's key has one effect and one answer.

use mesh::idempotency::Reuse;

use super::*;
use crate::{domain::transition::Status, store::Known};

fn answers(scope: &Scope, bytes: &[u8]) -> Vec<(Scope, Vec<u8>)> {
    vec![(scope.clone(), bytes.to_vec())]
}

/// A key is new once; then it says what it made, and once there is an answer, that answer for good.
pub(crate) async fn a_key_has_one_effect_and_one_answer(fixture: impl Fixture) {
    let store = fixture.open().await;
    created(&store, 1).await;
    let first = creation(1);
    // The same request again makes nothing, whatever id it would have had.
    let again = Claim { subject: id(2).to_string(), ..first.clone() };
    match decide::create(&store, again, made(2, wish("")), at(0)).await.unwrap() {
        Begun::Underway { subject } => assert_eq!(subject, id(1).to_string()),
        other => panic!("must be under way: {other:?}"),
    }
    assert_eq!(store.payment(tenant("acme"), id(2)).await.unwrap(), None);
    let other_request = Claim { fingerprint: [2; 32], ..first.clone() };
    let reused = decide::create(&store, other_request.clone(), made(2, wish("")), at(0)).await;
    assert!(matches!(reused, Err(CommitError::Key(Reuse::OtherRequest))));

    for answer in ["first", "second"] {
        let change = Change::of(stored(&store, 1).await);
        let commit = Commit { answers: answers(&first.scope, answer.as_bytes()), ..next(change) };
        assert!(matches!(store.commit(commit, at(1)).await.unwrap(), Committed::Done { .. }));
    }
    for store in [store.clone(), fixture.open().await] {
        let found = store.find_claim(first.clone()).await.unwrap();
        assert_eq!(found, Some(Known::Answered(b"first".to_vec())));
        let begun = decide::create(&store, first.clone(), made(2, wish("")), at(0)).await.unwrap();
        assert!(matches!(begun, Begun::Answered(answer) if answer == b"first"));
        let reused = store.find_claim(other_request.clone()).await;
        assert!(matches!(reused, Err(CommitError::Key(Reuse::OtherRequest))));
        // The same key of another RPC, or tenant, is another key.
        assert_eq!(store.find_claim(claim(Rpc::CapturePayment, "k1", 1, &id(1))).await.unwrap(), None);
        let mut globex = first.clone();
        globex.scope.tenant = tenant("globex");
        assert_eq!(store.find_claim(globex).await.unwrap(), None);
    }
}

/// What needs no processor is begun and answered at once.
pub(crate) async fn a_key_is_answered_with_the_commit_that_claims_it(fixture: impl Fixture) {
    let store = fixture.open().await;
    let wish = NewPayment { confirm: false, ..wish("") };
    let payment = created_as(&store, 1, wish).await;
    let answer = crate::convert::encode_payment(&payment);
    for store in [store.clone(), fixture.open().await] {
        let found = store.find_claim(creation(1)).await.unwrap();
        assert_eq!(found, Some(Known::Answered(answer.clone())));
    }
}

/// Whether it is answered or not, a request that is known changes nothing.
pub(crate) async fn a_claim_that_is_known_writes_nothing(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    let known = claim(Rpc::CapturePayment, "c", 1, &id(1));
    let begin = |payment| hold::begin_capture(payment, Some(10), false, "c", at(1));
    is_new(decide::begin(&store, &Lines::default(), known.clone(), id(1), at(1), begin).await.unwrap());
    let before = everything(&store, 1).await;
    let again = decide::begin(&store, &Lines::default(), known.clone(), id(1), at(2), begin).await.unwrap();
    assert!(matches!(again, Begun::Underway { .. }), "{again:?}");
    // So it is for a commit of the right version, and of a wrong one.
    for version in [0, 7] {
        let mut payment = stored(&store, 1).await;
        payment.version += version;
        let mut change = Change::of(payment);
        change.record("payment.captured", 1, at(3));
        let commit = Commit { claim: Some(known.clone()), ..next(change) };
        let committed = store.commit(commit, at(3)).await.unwrap();
        assert_eq!(committed, Committed::Underway { subject: id(1).to_string() });
    }
    assert_eq!(everything(&store, 1).await, before);
    let settled = answered(&store, 1, 4, approved("c")).await;
    let answer = crate::answers::of(&settled.change).remove(0).1;
    let before = everything(&store, 1).await;
    let commit = Commit { claim: Some(known), ..next(Change::of(stored(&store, 1).await)) };
    assert_eq!(store.commit(commit, at(5)).await.unwrap(), Committed::Answered(answer));
    assert_eq!(everything(&store, 1).await, before);
}

/// The key is free for whoever reads the payment again.
pub(crate) async fn a_claim_with_a_contended_commit_is_not_kept(fixture: impl Fixture) {
    let store = fixture.open().await;
    let read = authorized(&store, 1).await;
    capture(&store, 1, 2, 10).await;
    let before = everything(&store, 1).await;
    let late = claim(Rpc::CapturePayment, "late", 1, &id(1));
    let change = hold::begin_capture(read, Some(90), false, "late", at(3)).unwrap();
    let commit =
        Commit { claim: Some(late.clone()), answers: answers(&late.scope, b"never"), ..next(change) };
    assert_eq!(store.commit(commit, at(3)).await.unwrap(), Committed::Contended);
    assert_eq!(everything(&store, 1).await, before);
    assert_eq!(store.find_claim(late.clone()).await.unwrap(), None);
    let begin = |payment| hold::begin_capture(payment, Some(90), false, "late", at(3));
    is_new(decide::begin(&store, &Lines::default(), late.clone(), id(1), at(3), begin).await.unwrap());
    assert!(matches!(store.find_claim(late).await.unwrap(), Some(Known::Underway { .. })));
}

/// What the domain refuses leaves nothing behind, not even the key.
pub(crate) async fn a_rejection_leaves_nothing(fixture: impl Fixture) {
    let store = fixture.open().await;
    let before = created(&store, 1).await;
    let claim = claim(Rpc::CapturePayment, "c", 1, &id(1));
    let begin = |payment| hold::begin_capture(payment, None, false, "c", at(1));
    let refused = decide::begin(&store, &Lines::default(), claim.clone(), id(1), at(1), begin).await;
    assert!(matches!(
        refused,
        Err(CommitError::Rejected(Rejection::State { status: Status::Processing, .. }))
    ));
    assert_eq!(store.find_claim(claim.clone()).await.unwrap(), None);
    assert_eq!(stored(&store, 1).await, before);
    let unknown = decide::begin(&store, &Lines::default(), claim, id(7), at(1), begin).await;
    assert!(matches!(unknown, Err(CommitError::PaymentNotFound)));
}

/// A request that was answered gets its answer, also where the same could not be asked for any more.
pub(crate) async fn an_answer_outlives_what_the_payment_became(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    let claim = claim(Rpc::CapturePayment, "c", 1, &id(1));
    let begin = |payment| hold::begin_capture(payment, Some(100), false, "c", at(2));
    is_new(decide::begin(&store, &Lines::default(), claim.clone(), id(1), at(2), begin).await.unwrap());
    let settled = answered(&store, 1, 3, approved("c")).await;
    assert_eq!(settled.change.payment.status, Status::Captured);
    let answer = crate::answers::of(&settled.change).remove(0).1;
    let again = decide::begin(&store, &Lines::default(), claim.clone(), id(1), at(4), begin).await.unwrap();
    assert!(matches!(again, Begun::Answered(replayed) if replayed == answer));
    let other_request = Claim { fingerprint: [2; 32], ..claim };
    let reused = decide::begin(&store, &Lines::default(), other_request, id(1), at(4), begin).await;
    assert!(matches!(reused, Err(CommitError::Key(Reuse::OtherRequest))));
}
