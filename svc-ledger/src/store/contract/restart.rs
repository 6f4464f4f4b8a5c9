//! What is there when a store begins anew on what it kept.

use super::{
    NOW, SECOND, account_id, assert_sound, at, balances, codes, new_account, open, pending, post_full,
    post_part, single, tenant,
};
use crate::{
    domain::{AccountFlags, Balances, Given, NewLimit, NewTransfer, TransferCode as C, TransferResult},
    store::Store,
};

fn made(nanos: i64, code: C) -> TransferResult {
    TransferResult { code, timestamp: Some(at(nanos)) }
}

/// Two reservations of which one is posted in part, one that has a timeout, and an id that is burned.
fn batch() -> Vec<NewTransfer> {
    vec![
        pending(1, 100, 0),
        pending(2, 50, 10),
        single(3, 1, 2, 7),
        single(4, 3, 2, 1),
        pending(5, 9, 0),
        post_part(6, 1, 60),
    ]
}

/// The time that was asked about last, of which nothing else tells.
const CLOSED: i64 = NOW + SECOND / 2;

/// What is done before the store is stopped.
pub(crate) async fn before_a_restart<S: Store>(store: &S) {
    open(store).await;
    let results = store.transfer(batch(), at(NOW)).await.unwrap();
    let expected = [
        made(NOW, C::Created),
        made(NOW + 1, C::Created),
        made(NOW + 2, C::Created),
        C::ExceedsCredits.into(),
        made(NOW + 3, C::Created),
        made(NOW + 4, C::Created),
    ];
    assert_eq!(results, expected);
    let limit = NewLimit {
        account: Given::Value(account_id(3)),
        tenant: Given::Value(tenant("acme")),
        limit: 5,
        expected: Some(0),
    };
    store.set_limits(vec![limit], at(NOW)).await.unwrap();
    assert!(store.close_until(at(CLOSED), at(CLOSED)).await.unwrap());
}

/// What must be there when it runs again.
pub(crate) async fn after_a_restart<S: Store>(store: &S) {
    // The clock is set back; what was said of the past stays true.
    let opened = store
        .open_accounts(vec![new_account(99, "acme", "payable", AccountFlags::NONE)], at(NOW))
        .await
        .unwrap();
    assert!(opened[0].timestamp > Some(at(CLOSED)), "an answer about the past is final over a restart, too");
    let expected = Balances { debits_pending: 50 + 9, debits_posted: 7 + 60, ..Balances::default() };
    assert_eq!(balances(store, 1).await, expected);
    let again = store.transfer(batch(), at(NOW + SECOND)).await.unwrap();
    let expected = [
        made(NOW, C::Exists),
        made(NOW + 1, C::Exists),
        made(NOW + 2, C::Exists),
        C::IdAlreadyFailed.into(),
        made(NOW + 3, C::Exists),
        made(NOW + 4, C::Exists),
    ];
    assert_eq!(again, expected);
    let batch = vec![post_full(10, 1), post_part(11, 5, 4), single(12, 3, 2, 6), single(13, 3, 2, 5)];
    let expected = [C::PendingTransferAlreadyPosted, C::Created, C::ExceedsCredits, C::Created];
    assert_eq!(codes(store, batch, NOW + 2 * SECOND).await, expected);
    // The clock is set back; the ledger's time is not.
    let late = store.transfer(vec![single(14, 1, 2, 1)], at(5)).await.unwrap();
    assert!(late[0].timestamp > Some(at(NOW + 2 * SECOND)), "times increase over a restart, too");
    assert_eq!(store.expire(at(NOW + 60 * SECOND)).await.unwrap(), 1);
    let expected = Balances { debits_posted: 7 + 60 + 4 + 1, ..Balances::default() };
    assert_eq!(balances(store, 1).await, expected);
    assert_sound(store).await;
}
