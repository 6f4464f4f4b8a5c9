//! Many at once.

use tokio::task::JoinSet;

use super::*;

/// However many read one version and write, one of them is written, and nothing of the others.
pub(crate) async fn of_commits_of_one_version_one_is_written(fixture: impl Fixture) {
    const CROWD: i64 = 200;
    let store = fixture.open().await;
    let read = authorized(&store, 1).await;
    let mut tasks = JoinSet::new();
    for number in 1..=CROWD {
        let (store, read) = (store.clone(), read.clone());
        tasks.spawn(async move {
            let key = format!("c{number}");
            let mut change = hold::begin_capture(read, Some(1), false, &key, at(2)).unwrap();
            change.record("payment.captured", number, at(2));
            let claim = claim(Rpc::CapturePayment, &key, 1, &number);
            let committed = store.commit(Commit { claim: Some(claim.clone()), ..next(change) }, at(2)).await;
            (committed.unwrap(), store.find_claim(claim).await.unwrap().is_some(), number)
        });
    }
    let (written, contended): (Vec<_>, Vec<_>) =
        tasks.join_all().await.into_iter().partition(|(committed, _, _)| *committed != Committed::Contended);
    assert_eq!((written.len(), contended.len()), (1, 199));
    assert!(contended.iter().all(|(_, claimed, _)| !claimed), "nothing of the others is written");
    let (committed, claimed, number) = &written[0];
    assert_eq!((committed, *claimed), (&Committed::Done { earlier_postings: false }, true));
    let payment = stored(&store, 1).await;
    assert_eq!((payment.version, payment.amount_capture_pending), (read.version + 1, 1));
    assert_eq!(events(&store, 1).await.last().unwrap().amount, *number);
}

/// However many send the same request, one has an effect, and the others are told of it.
pub(crate) async fn duplicates_at_once_have_one_effect(fixture: impl Fixture) {
    const CROWD: u128 = 200;
    let store = fixture.open().await;
    let mut tasks = JoinSet::new();
    for number in 1..=CROWD {
        let store = store.clone();
        tasks.spawn(async move {
            // Each makes an id of its own.
            let claim = claim(Rpc::CreatePayment, "one", 1, &id(number));
            decide::create(&store, claim, made(number, wish("")), at(0)).await.unwrap()
        });
    }
    let begun = tasks.join_all().await;
    let payments = store.payments(tenant("acme"), Filter { limit: 300, ..Filter::default() }).await.unwrap();
    assert_eq!(payments.len(), 1);
    let only = payments[0].id;
    let new = |begun: &&Begun| matches!(begun, Begun::New(done) if done.change.payment.id == only);
    assert_eq!(begun.iter().filter(new).count(), 1);
    let told = |begun: &&Begun| matches!(begun, Begun::Underway { subject } if *subject == only.to_string());
    assert_eq!(begun.iter().filter(told).count(), 199);
}

/// However many begin at once, together they never promise more than was captured.
pub(crate) async fn refunds_at_once_never_exceed_the_captured(fixture: impl Fixture) {
    let store = fixture.open().await;
    authorized(&store, 1).await;
    capture(&store, 1, 2, 100).await;
    let mut tasks = JoinSet::new();
    for number in 1..=20 {
        let store = store.clone();
        tasks.spawn(async move { refund(&store, 1, number, 30).await });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    let exceeds = |outcome: &&Result<(), CommitError>| {
        let refused = Rejection::RefundExceedsCaptured { available: 10 };
        matches!(outcome, Err(CommitError::Rejected(why)) if *why == refused)
    };
    assert_eq!(outcomes.iter().filter(exceeds).count(), 17);
    assert_eq!(stored(&store, 1).await.amount_refund_pending, 90);
    let numbers: Vec<_> = events(&store, 1).await.iter().map(|event| event.sequence).collect();
    assert_eq!(numbers, (1..=6).collect::<Vec<_>>());
}

/// Of payments that are driven at once, each has what it would have alone.
pub(crate) async fn payments_at_once_do_not_disturb_each_other(fixture: impl Fixture) {
    const CROWD: u128 = 40;
    let store = fixture.open().await;
    let mut tasks = JoinSet::new();
    for number in 1..=CROWD {
        let store = store.clone();
        tasks.spawn(async move {
            authorized(&store, number).await;
            for second in 2..=5 {
                assert!(!capture(&store, number, second, 20).await.earlier_postings);
                let last = stored(&store, number).await.postings;
                store.postings_done(id(number), last).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    for number in 1..=CROWD {
        let payment = stored(&store, number).await;
        assert_eq!((payment.amount_captured, payment.postings, payment.version), (80, 4, 10));
        let sequences: Vec<_> = events(&store, number).await.iter().map(|event| event.sequence).collect();
        assert_eq!(sequences, (1..=6).collect::<Vec<_>>());
        assert!(store.postings(tenant("acme"), id(number)).await.unwrap().is_empty());
    }
}
