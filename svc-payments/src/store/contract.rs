//! What every store promises, as one suite: `contract::suite!(fixture)` stamps it over an implementation.

use std::collections::BTreeMap;

use mesh::idempotency::{Reuse, Scope};
use money::{PaymentId, RefundId, TenantId, Timestamp, TokenId};
use uuid::Uuid;

use super::{Begun, Claim, CommitError, Committed, Decision, Filter, Page, Store, Work};
use crate::domain::{
    authorization, capture,
    card::CardSummary,
    create::{self, Found, NewPayment},
    operation::{ProcessorOutcome, Rpc},
    payment::{CaptureMethod, Change, Payment, Rejection},
    refund,
    transition::Status,
};
use crate::processor::WebhookSubject;

const ALL: Page<RefundId> = Page { after: None, limit: 100 };
const ALL_EVENTS: Page<i64> = Page { after: None, limit: 100 };

/// A place where a store's state lives; opening again finds what was there.
pub(crate) trait Fixture {
    /// The store under test.
    type Store: Store;

    /// Opens the store.
    fn open(&self) -> Self::Store;
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second)
}

fn id(number: u128) -> PaymentId {
    PaymentId::new(Uuid::from_u128(number << 64))
}

fn claim(rpc: Rpc, key: &str, fingerprint: u8, subject: &impl ToString) -> Claim {
    let scope = Scope { tenant: tenant("acme"), rpc: rpc.name(), key: key.parse().unwrap() };
    Claim { scope, fingerprint: [fingerprint; 32], subject: subject.to_string() }
}

fn new(number: u128, reference: &str) -> Change {
    let token = TokenId::new(Uuid::from_u128(9));
    let new = NewPayment {
        amount: 100,
        currency: "EUR".parse().unwrap(),
        token: token.into(),
        capture_method: CaptureMethod::Manual,
        reference: reference.into(),
        description: "ü".into(),
        metadata: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    };
    let card = CardSummary {
        brand: "VISA".into(),
        bin: "424242".into(),
        last4: "4242".into(),
        fingerprint: "f".into(),
    };
    let found = Found { token, card, tax: None, processor: "simulator".into() };
    create::create(new, found, id(number), tenant("acme"), &format!("k{number}"), at(0))
}

fn approved() -> ProcessorOutcome {
    ProcessorOutcome::Approved { reference: "r".into() }
}

fn is_new(begun: Begun) -> Committed {
    match begun {
        Begun::New(committed) => *committed,
        other => panic!("must be new: {other:?}"),
    }
}

async fn created<S: Store>(store: &S, number: u128, reference: &str) -> Payment {
    let claim = claim(Rpc::CreatePayment, &format!("k{number}"), 1, &id(number));
    let begun = store.create(claim, new(number, reference), at(0)).await.unwrap();
    is_new(begun).decision.change.payment
}

async fn settled<S: Store, D>(store: &S, number: u128, decide: D) -> Committed
where
    D: FnOnce(Payment) -> Result<Change, Rejection> + Send + 'static,
{
    let decide = move |payment, _| Ok(Decision::of(decide(payment)?));
    store.settle(tenant("acme"), id(number), None, at(1), decide).await.unwrap()
}

async fn captured<S: Store>(store: &S, number: u128) -> Committed {
    created(store, number, "").await;
    settled(store, number, |p| authorization::answered(p, None, approved(), at(1))).await;
    settled(store, number, |p| capture::begin_capture(p, None, "c")).await;
    settled(store, number, |p| capture::answered(p, approved(), at(1))).await
}

async fn stored<S: Store>(store: &S, number: u128) -> Payment {
    store.payment(tenant("acme"), id(number)).await.unwrap().unwrap()
}

/// Begins a refund of `amount`, as the handler does.
async fn refunded<S: Store>(store: &S, payment: u128, number: u128, amount: i64) -> Result<(), CommitError> {
    let refund = RefundId::new(Uuid::from_u128(number));
    let claim = claim(Rpc::CreateRefund, &format!("r{number}"), 1, &refund);
    let decide = move |payment: Payment| {
        let (change, refund) = refund::begin(payment, refund, Some(amount), String::new(), "r", at(2))?;
        Ok(Decision { change, refund: Some(refund), answer: None })
    };
    store.begin(claim, id(payment), at(2), decide).await.map(|begun| drop(is_new(begun)))
}

async fn due<S: Store>(store: &S, now: Timestamp) -> Vec<String> {
    let name = |work: &Work| match work {
        Work::Payment(tenant, id) => format!("{tenant} {id}"),
        Work::Refund(tenant, payment, id) => format!("{tenant} {payment} {id}"),
        Work::Posting(_, posting) => format!("{} posting of {}", posting.tenant, posting.payment),
    };
    store.due(now, 100).await.unwrap().iter().map(name).collect()
}

/// What was created is there as it was, after opening again too, and for its tenant only.
pub(crate) async fn a_payment_is_found_by_its_tenant(fixture: impl Fixture) {
    let store = fixture.open();
    let payment = created(&store, 1, "INV").await;
    assert_eq!(payment, new(1, "INV").payment);
    for store in [store.clone(), fixture.open()] {
        assert_eq!(stored(&store, 1).await, payment);
        let (found, events) = store.events(tenant("acme"), id(1), ALL_EVENTS).await.unwrap().unwrap();
        assert_eq!((found, events), (payment.clone(), new(1, "INV").events));
        let other = tenant("globex");
        assert_eq!(store.payment(other.clone(), id(1)).await.unwrap(), None);
        assert_eq!(store.refunds(other.clone(), id(1), ALL).await.unwrap(), None);
        assert!(store.events(other.clone(), id(1), ALL_EVENTS).await.unwrap().is_none());
        assert!(
            store.payments(other.clone(), Filter { limit: 9, ..Filter::default() }).await.unwrap().is_empty()
        );
        let settled = store.settle(other, id(1), None, at(1), |p, _| Ok(Decision::of(Change::of(p)))).await;
        assert!(matches!(settled, Err(CommitError::PaymentNotFound)));
    }
}

/// A key is new once; then it says what it made, and once there is an answer, that answer for good.
pub(crate) async fn a_key_has_one_effect_and_one_answer(fixture: impl Fixture) {
    let store = fixture.open();
    created(&store, 1, "").await;
    let first = claim(Rpc::CreatePayment, "k1", 1, &id(1));
    // The same request again makes nothing, whatever id it would have had.
    let again = Claim { subject: id(2).to_string(), ..first.clone() };
    match store.create(again, new(2, ""), at(0)).await.unwrap() {
        Begun::Underway { subject } => assert_eq!(subject, id(1).to_string()),
        other => panic!("must be under way: {other:?}"),
    }
    assert_eq!(store.payment(tenant("acme"), id(2)).await.unwrap(), None);
    let other_request = Claim { fingerprint: [2; 32], ..first.clone() };
    let reused = store.create(other_request.clone(), new(2, ""), at(0)).await;
    assert!(matches!(reused, Err(CommitError::Key(Reuse::OtherRequest))));

    let (first_scope, second_scope) = (first.scope.clone(), first.scope.clone());
    for (scope, answer) in [(first_scope, b"first".to_vec()), (second_scope, b"second".to_vec())] {
        let decide =
            |p, _| Ok(Decision { change: Change::of(p), refund: None, answer: Some((scope, answer)) });
        store.settle(tenant("acme"), id(1), None, at(1), decide).await.unwrap();
    }
    for store in [store.clone(), fixture.open()] {
        let found = store.find_claim(first.clone()).await.unwrap();
        assert!(matches!(found, Some(Begun::Answered(answer)) if answer == b"first"));
        let begun = store.create(first.clone(), new(2, ""), at(0)).await.unwrap();
        assert!(matches!(begun, Begun::Answered(answer) if answer == b"first"));
        assert!(matches!(
            store.find_claim(other_request.clone()).await,
            Err(CommitError::Key(Reuse::OtherRequest))
        ));
        // The same key of another RPC is another key.
        let other = claim(Rpc::CapturePayment, "k1", 1, &id(1));
        assert!(store.find_claim(other).await.unwrap().is_none());
    }
}

/// What the domain refuses leaves nothing behind, not even the key.
pub(crate) async fn a_rejection_leaves_nothing(fixture: impl Fixture) {
    let store = fixture.open();
    let before = created(&store, 1, "").await;
    let claim = claim(Rpc::CapturePayment, "c", 1, &id(1));
    let capture = |p| capture::begin_capture(p, None, "c").map(Decision::of);
    let refused = store.begin(claim.clone(), id(1), at(1), capture).await;
    assert!(matches!(
        refused,
        Err(CommitError::Rejected(Rejection::State { status: Status::Processing, .. }))
    ));
    assert!(store.find_claim(claim.clone()).await.unwrap().is_none());
    assert_eq!(stored(&store, 1).await, before);
    let unknown = store.begin(claim, id(7), at(1), capture).await;
    assert!(matches!(unknown, Err(CommitError::PaymentNotFound)));
}

/// State, events, postings and key are one commit.
pub(crate) async fn a_decision_is_written_as_a_whole(fixture: impl Fixture) {
    let store = fixture.open();
    created(&store, 1, "").await;
    settled(&store, 1, |p| authorization::answered(p, None, approved(), at(1))).await;
    let claim = claim(Rpc::CapturePayment, "c", 1, &id(1));
    let capture = |p| capture::begin_capture(p, Some(60), "c").map(Decision::of);
    let begun = is_new(store.begin(claim.clone(), id(1), at(1), capture).await.unwrap());
    assert_eq!(stored(&store, 1).await, begun.decision.change.payment);
    assert!(matches!(store.find_claim(claim).await.unwrap(), Some(Begun::Underway { .. })));
    let settled = settled(&store, 1, |p| capture::answered(p, approved(), at(1))).await;
    assert_eq!(settled.postings.len(), 1);
    for store in [store.clone(), fixture.open()] {
        let (payment, events) = store.events(tenant("acme"), id(1), ALL_EVENTS).await.unwrap().unwrap();
        assert_eq!((payment.status, payment.amount_captured), (Status::PartiallyCaptured, 60));
        let seen: Vec<_> = events.iter().map(|event| (event.sequence, event.event_type)).collect();
        assert_eq!(
            seen,
            [(1, "payment.created"), (2, "payment.authorized"), (3, "payment.partially_captured")]
        );
        assert_eq!(due(&store, at(60)).await, [format!("acme posting of {}", id(1))]);
    }
}

/// What the domain promises, the store itself insists on.
pub(crate) async fn money_that_does_not_add_up_is_refused(fixture: impl Fixture) {
    let store = fixture.open();
    captured(&store, 1).await;
    let before = stored(&store, 1).await;
    let wrong: [fn(&mut Payment); 6] = [
        |p| p.amount_captured = p.amount_authorized + 1,
        |p| p.amount_authorized = p.amount + 1,
        |p| p.amount_refunded = p.amount_captured + 1,
        |p| p.amount_refund_pending = p.amount_captured + 1,
        |p| p.amount_refund_pending = -1,
        |p| p.amount_refunded = -1,
    ];
    for break_it in wrong {
        let decide = move |mut payment: Payment, _| {
            break_it(&mut payment);
            let mut change = Change::of(payment);
            change.record("payment.captured", 1, at(2));
            Ok(Decision::of(change))
        };
        let refused = store.settle(tenant("acme"), id(1), None, at(2), decide).await;
        assert!(matches!(refused, Err(CommitError::Store(_))), "{refused:?}");
    }
    // An event's number is taken once.
    let decide = |mut payment: Payment, _| {
        payment.sequence -= 1;
        let mut change = Change::of(payment);
        change.record("payment.captured", 1, at(2));
        Ok(Decision::of(change))
    };
    let refused = store.settle(tenant("acme"), id(1), None, at(2), decide).await;
    assert!(matches!(refused, Err(CommitError::Store(_))));
    assert_eq!(stored(&store, 1).await, before);
    assert_eq!(store.events(tenant("acme"), id(1), ALL_EVENTS).await.unwrap().unwrap().1.len(), 3);
    // And a payment's id.
    let twice = store.create(claim(Rpc::CreatePayment, "other", 1, &id(1)), new(1, ""), at(0)).await;
    assert!(matches!(twice, Err(CommitError::Store(_))));
    let refused_key = store.find_claim(claim(Rpc::CreatePayment, "other", 1, &id(1))).await.unwrap();
    assert!(refused_key.is_none());
}

/// However many begin at once, together they never promise more than was captured.
pub(crate) async fn refunds_at_once_never_exceed_the_captured(fixture: impl Fixture) {
    let store = fixture.open();
    captured(&store, 1).await;
    let mut tasks = tokio::task::JoinSet::new();
    for number in 1..=20 {
        let store = store.clone();
        tasks.spawn(async move { refunded(&store, 1, number, 30).await });
    }
    let outcomes = tasks.join_all().await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    let exceeds = |outcome: &Result<(), CommitError>| {
        matches!(
            outcome,
            Err(CommitError::Rejected(Rejection::RefundExceedsCaptured { available: 10 | 40 | 70 }))
        )
    };
    assert_eq!(outcomes.iter().filter(|outcome| exceeds(outcome)).count(), 17);
    assert_eq!(stored(&store, 1).await.amount_refund_pending, 90);
    let refunds = store.refunds(tenant("acme"), id(1), ALL).await.unwrap().unwrap();
    assert_eq!(refunds.len(), 3);
    assert!(refunds.is_sorted_by_key(|refund| std::cmp::Reverse(refund.id)), "newest first");
    let page = Page { after: Some(refunds[0].id), limit: 1 };
    assert_eq!(store.refunds(tenant("acme"), id(1), page).await.unwrap().unwrap(), refunds[1..2]);
    let page = Page { after: Some(1), limit: 2 };
    let (_, events) = store.events(tenant("acme"), id(1), page).await.unwrap().unwrap();
    assert_eq!(events.iter().map(|event| event.sequence).collect::<Vec<_>>(), [2, 3]);

    // One of them is settled; the others stay as they are.
    let chosen = refunds[1].id;
    let decide = move |payment, refund: Option<refund::Refund>| {
        let (change, refund) = refund::answered(payment, refund.unwrap(), approved(), at(3))?;
        Ok(Decision { change, refund: Some(refund), answer: None })
    };
    store.settle(tenant("acme"), id(1), Some(chosen), at(3), decide).await.unwrap();
    let (payment, refund) = store.refund(tenant("acme"), id(1), chosen).await.unwrap().unwrap();
    assert_eq!((payment.amount_refunded, payment.amount_refund_pending, refund.is_open()), (30, 60, false));
    assert!(store.refund(tenant("globex"), id(1), chosen).await.unwrap().is_none());
    assert!(store.refund(tenant("acme"), id(2), chosen).await.unwrap().is_none());
}

/// What is under way becomes due, can be put off, and is due at once when everything is made so.
pub(crate) async fn what_is_under_way_becomes_due(fixture: impl Fixture) {
    let store = fixture.open();
    let committed = captured(&store, 1).await;
    created(&store, 2, "").await;
    refunded(&store, 1, 5, 10).await.unwrap();
    let (payment, posting) = (format!("acme {}", id(2)), format!("acme posting of {}", id(1)));
    let refund = format!("acme {} {}", id(1), RefundId::new(Uuid::from_u128(5)));
    // A request has 15 seconds to finish by itself, a posting 5.
    assert!(due(&store, at(5)).await.is_empty());
    for second in [6, 14] {
        assert_eq!(due(&store, at(second)).await, std::slice::from_ref(&posting));
    }
    assert_eq!(due(&store, at(20)).await, [payment.clone(), refund.clone(), posting.clone()]);
    assert_eq!(store.due(at(20), 1).await.unwrap().len(), 3, "so much of each kind");

    for work in store.due(at(20), 100).await.unwrap() {
        store.put_off(work.clone(), at(30)).await.unwrap();
        // Only later, never sooner.
        store.put_off(work, at(25)).await.unwrap();
    }
    assert!(due(&store, at(29)).await.is_empty());
    assert_eq!(due(&store, at(30)).await.len(), 3);
    let store = fixture.open();
    store.make_all_due(at(7)).await.unwrap();
    assert_eq!(due(&store, at(7)).await, [payment, refund.clone(), posting]);

    // What is settled is not due any more, and putting it off does not make it so.
    let work = store.due(at(7), 100).await.unwrap();
    store.postings_done(committed.postings.iter().map(|(number, _)| *number).collect()).await.unwrap();
    let declined = |p| authorization::answered(p, None, ProcessorOutcome::NeverHeardOf, at(8));
    let released = settled(&store, 2, declined).await;
    store.postings_done(released.postings.iter().map(|(number, _)| *number).collect()).await.unwrap();
    for work in work {
        store.put_off(work, at(9)).await.unwrap();
    }
    store.make_all_due(at(9)).await.unwrap();
    assert_eq!(due(&store, at(1_000)).await, [refund]);
}

/// What a webhook names is due at once, and nothing else; what is settled stays so.
pub(crate) async fn what_is_asked_for_is_due_at_once(fixture: impl Fixture) {
    let store = fixture.open();
    captured(&store, 1).await;
    refunded(&store, 1, 5, 10).await.unwrap();
    created(&store, 2, "").await;
    created(&store, 3, "").await;
    store.make_due(WebhookSubject::Payment(id(2)), at(1)).await.unwrap();
    assert_eq!(due(&store, at(1)).await, [format!("acme {}", id(2))]);
    let refund = RefundId::new(Uuid::from_u128(5));
    for subject in [WebhookSubject::Refund(refund), WebhookSubject::Payment(id(1)), WebhookSubject::Other] {
        store.make_due(subject, at(2)).await.unwrap();
    }
    let expected = [format!("acme {}", id(2)), format!("acme {} {refund}", id(1))];
    assert_eq!(due(&store, at(2)).await, expected);
    // Never later than it was.
    store.make_due(WebhookSubject::Payment(id(2)), at(9)).await.unwrap();
    assert_eq!(due(&store, at(2)).await, expected);
}

/// Newest first, page by page, whatever is added meanwhile.
pub(crate) async fn payments_are_listed_by_filter_and_page(fixture: impl Fixture) {
    let store = fixture.open();
    for number in 1..=6 {
        created(&store, number, if number % 2 == 0 { "even" } else { "" }).await;
    }
    settled(&store, 4, |p| authorization::answered(p, None, approved(), at(1))).await;
    let list = async |filter: Filter| {
        let payments = store.payments(tenant("acme"), filter).await.unwrap();
        payments.iter().map(|payment| payment.id.uuid().as_u128() >> 64).collect::<Vec<_>>()
    };
    let all = Filter { limit: 100, ..Filter::default() };
    assert_eq!(list(all.clone()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(list(Filter { limit: 2, ..all.clone() }).await, [6, 5]);
    created(&store, 7, "").await;
    assert_eq!(list(Filter { limit: 2, before: Some(id(5)), ..all.clone() }).await, [4, 3]);
    let even = Filter { reference: Some("even".into()), ..all.clone() };
    assert_eq!(list(even.clone()).await, [6, 4, 2]);
    assert_eq!(list(Filter { before: Some(id(6)), limit: 1, ..even.clone() }).await, [4]);
    let authorized = Filter { status: Some(Status::Authorized), ..all.clone() };
    assert_eq!(list(authorized.clone()).await, [4]);
    assert_eq!(list(Filter { reference: Some("even".into()), ..authorized }).await, [4]);
    assert_eq!(list(Filter { reference: Some("odd".into()), ..all }).await, [0; 0]);
}

/// Stamps the suite over the fixture that the expression makes.
macro_rules! suite {
    ($fixture:expr) => {
        $crate::store::contract::suite!($fixture =>
            a_payment_is_found_by_its_tenant,
            a_key_has_one_effect_and_one_answer,
            a_rejection_leaves_nothing,
            a_decision_is_written_as_a_whole,
            money_that_does_not_add_up_is_refused,
            refunds_at_once_never_exceed_the_captured,
            what_is_under_way_becomes_due,
            what_is_asked_for_is_due_at_once,
            payments_are_listed_by_filter_and_page,
        );
    };
    ($fixture:expr => $($test:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::store::contract::$test($fixture).await;
            }
        )*
    };
}
pub(crate) use suite;
