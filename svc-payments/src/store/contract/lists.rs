//! What is on record is found again.

use super::{commits::inspection, *};
use crate::domain::transition::Status;

fn numbers(payments: &[Payment]) -> Vec<u128> {
    payments.iter().map(|payment| payment.id.uuid().as_u128() >> 64).collect()
}

async fn list<S: Store>(store: &S, filter: Filter) -> Vec<u128> {
    numbers(&store.payments(tenant("acme"), filter).await.unwrap())
}

/// Newest first, page by page, whatever is added meanwhile.
pub(crate) async fn payments_are_listed_by_filter_and_page(fixture: impl Fixture) {
    let store = fixture.open().await;
    for number in 1..=6 {
        created_as(&store, number, wish(if number % 2 == 0 { "even" } else { "" })).await;
    }
    answered(&store, 4, 1, approved("r4")).await;
    let all = Filter { limit: 100, ..Filter::default() };
    assert_eq!(list(&store, all.clone()).await, [6, 5, 4, 3, 2, 1]);
    assert_eq!(list(&store, Filter { limit: 2, ..all.clone() }).await, [6, 5]);
    created(&store, 7).await;
    assert_eq!(list(&store, Filter { limit: 2, before: Some(id(5)), ..all.clone() }).await, [4, 3]);
    assert_eq!(list(&store, Filter { from: Some(id(6)), ..all.clone() }).await, [7, 6]);
    let between = Filter { from: Some(id(2)), before: Some(id(4)), ..all.clone() };
    assert_eq!(list(&store, between).await, [3, 2]);
    let even = Filter { reference: Some("even".into()), ..all.clone() };
    assert_eq!(list(&store, even.clone()).await, [6, 4, 2]);
    assert_eq!(list(&store, Filter { before: Some(id(6)), limit: 1, ..even }).await, [4]);
    assert_eq!(list(&store, Filter { reference: Some("odd".into()), ..all.clone() }).await, [0; 0]);
    let authorized = Filter { status: Some(Status::Authorized), ..all.clone() };
    assert_eq!(list(&store, authorized.clone()).await, [4]);
    assert_eq!(list(&store, Filter { reference: Some("even".into()), ..authorized }).await, [4]);
    // A state that it was in is not the state that it is in.
    let processing = Filter { status: Some(Status::Processing), ..all };
    assert_eq!(list(&store, processing).await, [7, 6, 5, 3, 2, 1]);
}

/// By amount and metadata, each alone and together, and only of the tenant.
pub(crate) async fn payments_are_found_by_what_they_carry(fixture: impl Fixture) {
    let store = fixture.open().await;
    for number in 1..=5_u8 {
        let metadata = [("order", number % 2), ("shop", 0), (if number == 3 { "%" } else { "x" }, number)];
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_string())).into();
        let wish = NewPayment { amount: i64::from(number) * 100, metadata, ..wish("") };
        created_as(&store, number.into(), wish).await;
    }
    let all = Filter { limit: 100, ..Filter::default() };
    let entry = |key: &str, value: &str| Some((key.to_owned(), value.to_owned()));
    assert_eq!(list(&store, Filter { amount_min: Some(300), ..all.clone() }).await, [5, 4, 3]);
    assert_eq!(list(&store, Filter { amount_max: Some(200), ..all.clone() }).await, [2, 1]);
    let between = Filter { amount_min: Some(200), amount_max: Some(400), ..all.clone() };
    assert_eq!(list(&store, between.clone()).await, [4, 3, 2]);
    let odd = Filter { metadata: entry("order", "1"), ..all.clone() };
    assert_eq!(list(&store, odd.clone()).await, [5, 3, 1]);
    assert_eq!(list(&store, Filter { metadata: odd.metadata.clone(), ..between }).await, [3]);
    assert_eq!(list(&store, Filter { before: Some(id(5)), limit: 1, ..odd.clone() }).await, [3]);
    assert_eq!(list(&store, Filter { metadata: entry("%", "3"), ..all.clone() }).await, [3]);
    for (key, value) in [("order", "2"), ("order", ""), ("%", "%"), ("1", "order")] {
        assert_eq!(list(&store, Filter { metadata: entry(key, value), ..all.clone() }).await, [0; 0]);
    }
    let others = store.payments(tenant("globex"), Filter { metadata: odd.metadata, ..all }).await.unwrap();
    assert!(others.is_empty());
    // What a payment carries is as it was given, also after a commit.
    answered(&store, 3, 1, approved("r3")).await;
    assert_eq!(list(&store, Filter { metadata: entry("%", "3"), limit: 9, ..Filter::default() }).await, [3]);
    assert_eq!(stored(&store, 3).await.metadata.len(), 3);
}

/// So many, the newest first.
pub(crate) async fn inspections_are_kept_newest_first(fixture: impl Fixture) {
    let store = fixture.open().await;
    assert!(store.inspections(9).await.unwrap().is_empty());
    created(&store, 1).await;
    for (second, references) in [(1, ["a", "b"]), (2, ["c", "d"])] {
        let decide = |payment| {
            let mut change = Change::of(payment);
            change.inspections.extend(references.map(inspection));
            Ok(change)
        };
        changed(&store, 1, second, decide).await;
    }
    let store = fixture.open().await;
    let newest = store.inspections(3).await.unwrap();
    assert_eq!(newest, ["d", "c", "b"].map(inspection));
    assert_eq!(store.inspections(9).await.unwrap().len(), 4);
}
