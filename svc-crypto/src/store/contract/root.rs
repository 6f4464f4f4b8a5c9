//! Roots of trust, and what they wrap.

use uuid::Uuid;

use super::{at, key, tenant};
use crate::{
    domain::keys::{KeyName, Purpose, Slot},
    store::{RootRecord, RootedKey, Store},
};

pub(crate) async fn a_root_is_adopted_and_another_beside_it_until_it_is_settled<S: Store>(
    open: impl Fn() -> S,
) {
    let store = open();
    let [a, b, c] = [1, 2, 3].map(Uuid::from_u128);
    assert_eq!((store.root().await.unwrap(), store.settle_root(a).await.unwrap()), (None, None));
    let one = RootRecord { id: a, other: None };
    assert_eq!(store.adopt_root(a).await.unwrap(), one);
    assert_eq!(store.adopt_root(a).await.unwrap(), one);
    let two = RootRecord { id: a, other: Some(b) };
    assert_eq!(store.adopt_root(b).await.unwrap(), two);
    for known in [a, b, c] {
        assert_eq!(store.adopt_root(known).await.unwrap(), two, "a third has to wait");
    }
    drop(store);
    let store = open();
    assert_eq!(store.root().await.unwrap(), Some(two));
    assert_eq!(store.settle_root(c).await.unwrap(), Some(two), "one that is not on record ends nothing");
    let settled = RootRecord { id: b, other: None };
    assert_eq!(store.settle_root(b).await.unwrap(), Some(settled));
    assert_eq!(store.settle_root(b).await.unwrap(), Some(settled));
    drop(store);
    assert_eq!(open().root().await.unwrap(), Some(settled));
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
    for (n, slot) in (1..).zip(&slots) {
        store.make_key(slot.clone(), key(n, 1), at(1)).await.unwrap();
    }
    assert_eq!(store.key(chain.clone()).await.unwrap(), [key(5, 1)]);
    drop(store);
    let store = open();
    let expected = [(&slots[4], 5), (&slots[1], 2), (&slots[5], 6), (&slots[0], 1)]
        .map(|(slot, n)| RootedKey { slot: slot.clone(), key: key(n, 1) });
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
    let slots = [Slot::own(tenant("acme"), Purpose::TenantKek), Slot::of_service(Purpose::AuditChain)];
    for slot in slots {
        let from = RootedKey { slot: slot.clone(), key: key(1, 1) };
        assert!(!store.rewrap_key(from.clone(), vec![2]).await.unwrap(), "there is none yet");
        store.make_key(slot.clone(), key(1, 1), at(1)).await.unwrap();
        let (a, b) = tokio::join!(
            store.rewrap_key(from.clone(), vec![2; 9]),
            store.rewrap_key(from.clone(), vec![3; 9])
        );
        assert_ne!(a.unwrap(), b.unwrap(), "one of two wins");
        let now = store.key(slot.clone()).await.unwrap();
        assert!(now[0].wrapped == [2; 9] || now[0].wrapped == [3; 9]);
        assert_eq!(now[0].reference, from.key.reference);
        assert!(!store.rewrap_key(from, vec![4]).await.unwrap());
        assert_eq!(store.key(slot).await.unwrap(), now);
    }
}
