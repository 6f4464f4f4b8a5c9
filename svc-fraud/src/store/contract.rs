//! What every store promises, as one suite: `contract::suite!(fixture)` stamps it over an implementation.

use std::future::Future;

use money::{PaymentId, Timestamp};
use uuid::Uuid;

use super::Store;
use crate::domain::{Assessment, Card, Outcome, RuleSet, RulesText, Subject};

/// A place where a store's state lives; opening again finds what was there.
pub(crate) trait Fixture: Send + Sync {
    /// The store under test.
    type Store: Store;

    /// Opens the store with [`rules`], as of `now`.
    fn open(&self, now: Timestamp) -> impl Future<Output = Self::Store> + Send;
}

/// Three payments of a card within an hour are allowed, whatever comes after is reviewed; one card is
/// exempt; amounts above 1,000 are blocked.
pub(crate) fn rules() -> RuleSet {
    let text: RulesText = toml::from_str(
        r#"
        review_score_min = 65
        block_score_min = 90
        [lists.friends]
        fingerprints = ["friend"]
        [[rules]]
        name = "friend"
        action = "allow"
        when = { card_in = "friends" }
        [[rules]]
        name = "often"
        action = "review"
        when = { velocity = { of = "card", window_s = 3600, count_over = 2 } }
        [[rules]]
        name = "much"
        action = "block"
        when = { amount_over = { EUR = 1_000 } }
        "#,
    )
    .unwrap();
    RuleSet::compile(&text).unwrap()
}

/// A time in tests.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds)
}

/// The payment of this number, by this card, of 1.00 EUR.
pub(crate) fn subject(tenant: &str, payment: u64, fingerprint: &str) -> Subject {
    Subject {
        tenant: tenant.parse().unwrap(),
        payment_id: PaymentId::new(Uuid::from_u128(payment.into())),
        amount: 100,
        currency: "EUR".parse().unwrap(),
        card: Card {
            fingerprint: fingerprint.parse().unwrap(),
            bin: "400000".parse().unwrap(),
            last4: "0002".parse().unwrap(),
        },
    }
}

async fn one(store: &impl Store, subject: Subject, now: Timestamp) -> Assessment {
    let mut answers = store.assess(vec![subject], now).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

async fn outcome(store: &impl Store, subject: Subject, now: Timestamp) -> Outcome {
    one(store, subject, now).await.outcome
}

/// Asking again gives the first answer, whatever else is said of the payment, and counts once.
pub(crate) async fn first_answer_stays(fixture: impl Fixture) {
    let store = fixture.open(at(0)).await;
    let large = Subject { amount: 1_001, ..subject("acme", 1, "card") };
    let first = one(&store, large.clone(), at(0)).await;
    assert_eq!((first.outcome, first.score), (Outcome::Block, 90));
    assert_eq!(first.reasons.iter().map(|r| &**r).collect::<Vec<_>>(), ["much"]);
    for second in 1..10 {
        assert_eq!(one(&store, large.clone(), at(second)).await, first);
        assert_eq!(one(&store, subject("acme", 1, "card"), at(second)).await, first);
    }
    assert_eq!(outcome(&store, subject("acme", 2, "card"), at(20)).await, Outcome::Allow, "it counted once");
}

/// The items of a batch are answered in order, see those before them, and a double gets the same answer.
pub(crate) async fn batch_is_in_order(fixture: impl Fixture) {
    let store = fixture.open(at(0)).await;
    let numbers = [1, 2, 2, 3, 4, 1];
    let batch = numbers.iter().map(|n| subject("acme", *n, "card")).collect();
    let answers = store.assess(batch, at(0)).await.unwrap();
    let outcomes: Vec<_> = answers.iter().map(|a| a.outcome).collect();
    let expected =
        [Outcome::Allow, Outcome::Allow, Outcome::Allow, Outcome::Allow, Outcome::Review, Outcome::Allow];
    assert_eq!(outcomes, expected);
    assert!(store.assess(vec![], at(0)).await.unwrap().is_empty());
}

/// No tenant sees another's payments or uses up another's limits.
pub(crate) async fn tenants_are_apart(fixture: impl Fixture) {
    let store = fixture.open(at(0)).await;
    for n in 1..=4 {
        outcome(&store, subject("acme", n, "card"), at(0)).await;
    }
    assert_eq!(outcome(&store, subject("acme", 4, "card"), at(1)).await, Outcome::Review);
    assert_eq!(outcome(&store, subject("globex", 4, "card"), at(1)).await, Outcome::Allow);
}

/// What was answered is there after opening again: the assessments and the counts.
pub(crate) async fn nothing_is_lost_by_opening_again(fixture: impl Fixture) {
    let store = fixture.open(at(0)).await;
    let mut first = Vec::new();
    for n in 1..=3 {
        first.push(one(&store, subject("acme", n, "card"), at(0)).await);
    }
    drop(store);
    let store = fixture.open(at(60)).await;
    for (n, answer) in (1..).zip(&first) {
        assert_eq!(one(&store, subject("acme", n, "card"), at(60)).await, *answer);
    }
    assert_eq!(outcome(&store, subject("acme", 4, "card"), at(60)).await, Outcome::Review);
    drop(store);
    let store = fixture.open(at(4_000)).await;
    assert_eq!(outcome(&store, subject("acme", 5, "card"), at(4_000)).await, Outcome::Allow, "an hour later");
}

/// However many come at once, exactly as many pass as the rules let.
pub(crate) async fn concurrent_payments_do_not_slip_past_a_limit(fixture: impl Fixture) {
    let store = fixture.open(at(0)).await;
    let tasks = (0..64).map(|n| {
        let store = store.clone();
        tokio::spawn(async move { outcome(&store, subject("acme", n, "card"), at(0)).await })
    });
    let mut allowed = 0;
    for task in tasks.collect::<Vec<_>>() {
        allowed += usize::from(task.await.unwrap() == Outcome::Allow);
    }
    assert_eq!(allowed, 3);
}

/// An exempt card is neither judged by what it does nor counted.
pub(crate) async fn exempt_cards_are_not_counted(fixture: impl Fixture) {
    let store = fixture.open(at(0)).await;
    for n in 0..20 {
        let large = Subject { amount: 5_000, ..subject("acme", n, "friend") };
        assert_eq!(outcome(&store, large, at(0)).await, Outcome::Allow);
    }
    drop(store);
    let store = fixture.open(at(1)).await;
    assert_eq!(outcome(&store, subject("acme", 99, "friend"), at(1)).await, Outcome::Allow);
}

macro_rules! suite {
    ($fixture:expr) => {
        $crate::store::contract::suite!(@ $fixture,
            first_answer_stays,
            batch_is_in_order,
            tenants_are_apart,
            nothing_is_lost_by_opening_again,
            concurrent_payments_do_not_slip_past_a_limit,
            exempt_cards_are_not_counted,
        );
    };
    (@ $fixture:expr, $($name:ident,)+) => {$(
        #[tokio::test]
        async fn $name() {
            $crate::store::contract::$name($fixture).await;
        }
    )+};
}
pub(crate) use suite;
