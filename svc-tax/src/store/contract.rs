//! What every store promises, as one suite: `contract::suite!(fixture)` stamps it over an implementation.

use mesh::idempotency::{Reuse, Scope};
use money::{CalculationId, TenantId, Timestamp};
use uuid::Uuid;

use super::{Kept, Key, Store};
use crate::domain::{Calculation, Category, Computation, LineResult, Subtotal};

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

fn calculation(number: u128) -> Calculation {
    let (category, rate) = (Category::Reduced, "13.5".parse().unwrap());
    Calculation {
        id: CalculationId::new(Uuid::from_u128(number)),
        currency: "EUR".parse().unwrap(),
        created_at: Timestamp::from_nanos(1_800_000_000_123_456_789),
        computation: Computation {
            jurisdiction: "FI".into(),
            subtotals: vec![Subtotal { category, rate, amount_net: 200, amount_tax: 27 }],
            lines: vec![LineResult {
                reference: "L ü".into(),
                amount_net: 200,
                amount_tax: 27,
                category,
                rate,
            }],
        },
    }
}

fn key(tenant_name: &str, key: &str, fingerprint: u8) -> Key {
    let scope = Scope { tenant: tenant(tenant_name), rpc: "Calculate", key: key.parse().unwrap() };
    Key { scope, fingerprint: [fingerprint; 32] }
}

/// What was kept is found, as it was, after opening again too, and by its tenant only.
pub(crate) async fn what_is_kept_is_found_by_its_tenant(fixture: impl Fixture) {
    let store = fixture.open();
    let kept = store.keep(tenant("acme"), calculation(1), None).await.unwrap();
    assert_eq!(kept, Kept::New(calculation(1)));
    for store in [store.clone(), fixture.open()] {
        assert_eq!(store.find(tenant("acme"), calculation(1).id).await.unwrap(), Some(calculation(1)));
        assert_eq!(store.find(tenant("globex"), calculation(1).id).await.unwrap(), None);
        assert_eq!(store.find(tenant("acme"), calculation(2).id).await.unwrap(), None);
    }
}

/// A key gives its first calculation again, and keeps nothing the second time.
pub(crate) async fn a_key_gives_its_first_calculation(fixture: impl Fixture) {
    let store = fixture.open();
    let first = store.keep(tenant("acme"), calculation(1), Some(key("acme", "k", 1))).await.unwrap();
    assert_eq!(first, Kept::New(calculation(1)));
    for store in [store.clone(), fixture.open()] {
        let again = store.keep(tenant("acme"), calculation(2), Some(key("acme", "k", 1))).await.unwrap();
        assert_eq!(again, Kept::Replayed(calculation(1)));
        assert_eq!(store.find(tenant("acme"), calculation(2).id).await.unwrap(), None);
    }
}

/// A key's first calculation can be asked for, and asking does not use the key up.
pub(crate) async fn a_key_is_looked_up_without_being_used(fixture: impl Fixture) {
    let store = fixture.open();
    assert_eq!(store.replay(key("acme", "k", 1)).await.unwrap(), None);
    let first = store.keep(tenant("acme"), calculation(1), Some(key("acme", "k", 1))).await.unwrap();
    assert_eq!(first, Kept::New(calculation(1)));
    for store in [store, fixture.open()] {
        assert_eq!(store.replay(key("acme", "k", 1)).await.unwrap(), Some(calculation(1)));
        assert_eq!(store.replay(key("globex", "k", 1)).await.unwrap(), None);
        assert!(matches!(store.replay(key("acme", "k", 2)).await, Err(Reuse::OtherRequest)));
    }
}

/// A key is refused for another request, and free for another tenant.
pub(crate) async fn a_key_is_for_one_request_of_one_tenant(fixture: impl Fixture) {
    let store = fixture.open();
    store.keep(tenant("acme"), calculation(1), Some(key("acme", "k", 1))).await.unwrap();
    let other = store.keep(tenant("acme"), calculation(2), Some(key("acme", "k", 2))).await;
    assert!(matches!(other, Err(Reuse::OtherRequest)), "{other:?}");
    assert_eq!(store.find(tenant("acme"), calculation(2).id).await.unwrap(), None);
    let foreign = store.keep(tenant("globex"), calculation(3), Some(key("globex", "k", 2))).await.unwrap();
    assert_eq!(foreign, Kept::New(calculation(3)));
}

/// However many come with one key at once, one is kept.
pub(crate) async fn concurrent_requests_with_one_key_keep_one(fixture: impl Fixture) {
    let store = fixture.open();
    let tasks = (1..=32).map(|number| {
        let store = store.clone();
        tokio::spawn(async move {
            store.keep(tenant("acme"), calculation(number), Some(key("acme", "k", 1))).await.unwrap()
        })
    });
    let (mut new, mut ids) = (0, std::collections::HashSet::new());
    for task in tasks.collect::<Vec<_>>() {
        let (Kept::New(calculation) | Kept::Replayed(calculation)) = match task.await.unwrap() {
            kept @ Kept::New(_) => {
                new += 1;
                kept
            }
            kept @ Kept::Replayed(_) => kept,
        };
        ids.insert(calculation.id);
    }
    assert_eq!((new, ids.len()), (1, 1));
}

macro_rules! suite {
    ($fixture:expr) => {
        $crate::store::contract::suite!(@ $fixture,
            what_is_kept_is_found_by_its_tenant,
            a_key_gives_its_first_calculation,
            a_key_is_looked_up_without_being_used,
            a_key_is_for_one_request_of_one_tenant,
            concurrent_requests_with_one_key_keep_one,
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
