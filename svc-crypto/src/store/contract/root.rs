//! Roots of trust, and what they wrap.

use mesh::StoreError;

use super::{at, key, root, tenant, wrapped_by};
use crate::{
    domain::{
        keys::{KeyName, Purpose, Slot},
        rooted::RootName,
    },
    store::{RootRecord, RootedError, RootedKey, Store},
};

pub(crate) async fn a_root_is_adopted_and_another_beside_it_until_it_is_settled<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let names = ["a", "b", "c"].map(root);
    let [a, b, c] = names.each_ref().map(RootName::id);
    let settle = async |name: usize| store.settle_root(names[name].clone()).await.unwrap();
    assert_eq!((store.root().await.unwrap(), settle(0).await), (None, None));
    let one = RootRecord { id: a, other: None };
    assert_eq!(store.adopt_root(a, None).await.unwrap(), one);
    assert_eq!(store.adopt_root(a, Some(c)).await.unwrap(), one);
    for before in [None, Some(b), Some(c)] {
        assert_eq!(
            store.adopt_root(b, before).await.unwrap(),
            one,
            "who does not know the first is not beside it"
        );
    }
    let two = RootRecord { id: a, other: Some(b) };
    assert_eq!(store.adopt_root(b, Some(a)).await.unwrap(), two);
    for known in [a, b, c] {
        for before in [a, b] {
            assert_eq!(store.adopt_root(known, Some(before)).await.unwrap(), two, "a third has to wait");
        }
    }
    drop(store);
    let store = open();
    let settle = async |name: usize| store.settle_root(names[name].clone()).await.unwrap();
    assert_eq!(store.root().await.unwrap(), Some(two));
    assert_eq!(settle(2).await, Some(two), "one that is not on record ends nothing");
    let settled = RootRecord { id: b, other: None };
    assert_eq!(settle(1).await, Some(settled));
    assert_eq!(settle(1).await, Some(settled));
    drop(store);
    assert_eq!(open().root().await.unwrap(), Some(settled));
}

/// Of a tenant and of the service.
fn slots_under_root() -> [Slot; 2] {
    [Slot::own(tenant("acme"), Purpose::TenantKek), Slot::of_service(Purpose::AuditChain)]
}

pub(crate) async fn what_a_root_wraps_is_kept_under_one_that_is_on_record_only<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let [a, b, c] = ["a", "b", "c"].map(root);
    let is_refused = |error: RootedError, by: &RootName| {
        assert!(matches!(&error, RootedError::NotOnRecord(name) if name == by), "{error}");
    };
    for slot in slots_under_root() {
        is_refused(store.make_key(slot, wrapped_by(&a, 1), at(1)).await.unwrap_err(), &a);
    }
    store.adopt_root(a.id(), None).await.unwrap();
    let [kek, chain] = slots_under_root();
    is_refused(store.make_key(kek.clone(), wrapped_by(&b, 1), at(1)).await.unwrap_err(), &b);
    let unreadable = store.make_key(kek.clone(), key(1, 1), at(1)).await.unwrap_err();
    assert!(matches!(unreadable, RootedError::Store(StoreError::Corrupt(_))), "{unreadable}");
    store.make_key(kek.clone(), wrapped_by(&a, 1), at(1)).await.unwrap();
    assert_eq!(store.key(kek.clone()).await.unwrap(), [wrapped_by(&a, 1)]);

    // Both are on record: either may be used.
    store.adopt_root(b.id(), Some(a.id())).await.unwrap();
    store.make_key(chain.clone(), wrapped_by(&b, 2), at(1)).await.unwrap();
    let from = |by: &RootName| RootedKey { slot: kek.clone(), key: wrapped_by(by, 1) };
    is_refused(store.rewrap_key(from(&a), wrapped_by(&c, 1).wrapped).await.unwrap_err(), &c);
    let both = Some(RootRecord { id: a.id(), other: Some(b.id()) });
    for name in [&a, &b] {
        assert_eq!(store.settle_root(name.clone()).await.unwrap(), both, "a key is under the other one");
    }
    assert!(store.rewrap_key(from(&a), wrapped_by(&b, 1).wrapped).await.unwrap());
    assert_eq!(store.settle_root(a.clone()).await.unwrap(), both);
    assert_eq!(
        store.settle_root(b.clone()).await.unwrap(),
        Some(RootRecord { id: b.id(), other: None }),
        "all are under it"
    );

    // Now the first is not needed, and nothing makes it needed again.
    is_refused(store.rewrap_key(from(&b), wrapped_by(&a, 1).wrapped).await.unwrap_err(), &a);
    let other = Slot::own(tenant("other"), Purpose::TenantKek);
    is_refused(store.make_key(other.clone(), wrapped_by(&a, 3), at(1)).await.unwrap_err(), &a);
    assert_eq!(store.key(other).await.unwrap(), []);
    drop(store);
    let store = open();
    assert_eq!(store.key(kek).await.unwrap(), [wrapped_by(&b, 1)]);
    assert_eq!(store.key(chain).await.unwrap(), [wrapped_by(&b, 2)]);
}

pub(crate) async fn what_a_root_wraps_is_listed_once_and_in_order<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let chain = Slot::of_service(Purpose::AuditChain);
    let slots = [
        Slot::own(tenant("b"), Purpose::TenantKek),
        Slot::own(tenant("a"), Purpose::TenantKek),
        Slot::own(tenant("a"), Purpose::Card),
        Slot::named(tenant("a"), Purpose::Data, KeyName::parse("k").unwrap()),
        chain.clone(),
        Slot::own(tenant("a-2"), Purpose::TenantKek),
    ];
    let by = root("a");
    store.adopt_root(by.id(), None).await.unwrap();
    for (n, slot) in (1..).zip(&slots) {
        store.make_key(slot.clone(), wrapped_by(&by, n), at(1)).await.unwrap();
    }
    assert_eq!(store.key(chain.clone()).await.unwrap(), [wrapped_by(&by, 5)]);
    drop(store);
    let store = open();
    let expected = [(&slots[4], 5), (&slots[1], 2), (&slots[5], 6), (&slots[0], 1)]
        .map(|(slot, n)| RootedKey { slot: slot.clone(), key: wrapped_by(&by, n) });
    for limit in [1, 2, 100] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.keys_under_root(after, limit).await.unwrap();
            assert!(page.len() <= limit);
            after = page.last().cloned();
            if after.is_none() {
                break;
            }
            found.extend(page);
        }
        assert_eq!(found, expected, "{limit} at a time");
    }
}

pub(crate) async fn a_key_is_wrapped_anew_only_where_nobody_else_did<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let by = root("a");
    store.adopt_root(by.id(), None).await.unwrap();
    for slot in slots_under_root() {
        let from = RootedKey { slot: slot.clone(), key: wrapped_by(&by, 1) };
        let [two, three, four] = [2, 3, 4].map(|n| wrapped_by(&by, n).wrapped);
        assert!(!store.rewrap_key(from.clone(), two.clone()).await.unwrap(), "there is none yet");
        store.make_key(slot.clone(), wrapped_by(&by, 1), at(1)).await.unwrap();
        let (a, b) = tokio::join!(
            store.rewrap_key(from.clone(), two.clone()),
            store.rewrap_key(from.clone(), three.clone())
        );
        assert_ne!(a.unwrap(), b.unwrap(), "one of two wins");
        let now = store.key(slot.clone()).await.unwrap();
        assert!(now[0].wrapped == two || now[0].wrapped == three);
        assert_eq!(now[0].reference, from.key.reference);
        assert!(!store.rewrap_key(from, four).await.unwrap());
        assert_eq!(store.key(slot).await.unwrap(), now);
    }
}
