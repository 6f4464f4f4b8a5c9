//! What a transfer may do: reservations, chains, limits, balancing and closing.

use super::{
    NOW, SECOND, account_id, assert_sound, at, balances, codes, open, pending, post_full, post_part, single,
    tenant, transfer_id, void,
};
use crate::{
    domain::{
        AccountId, Balances, Given, LimitCode, NewLimit, NewTransfer, TransferCode as C, TransferFlags,
    },
    store::Store,
};

pub(crate) async fn a_reservation_is_resolved_at_most_once<S: Store>(store: S) {
    open(&store).await;
    let batch = vec![pending(1, 100, 0), pending(2, 30, 0)];
    assert_eq!(codes(&store, batch, NOW).await, [C::Created; 2]);
    let batch = vec![
        post_part(10, 1, 101),
        NewTransfer { amount: 99, ..void(11, 1) },
        post_part(12, 1, 60),
        post_full(13, 1),
        void(14, 1),
        post_part(12, 1, 60),
        post_part(12, 1, 61),
        void(15, 2),
        post_full(16, 2),
        void(15, 2),
        post_full(17, 12),
        post_full(18, 77),
    ];
    let expected = [
        C::ExceedsPendingTransferAmount,
        C::PendingTransferHasDifferentAmount,
        C::Created,
        C::PendingTransferAlreadyPosted,
        C::PendingTransferAlreadyPosted,
        C::Exists,
        C::ExistsWithDifferentAmount,
        C::Created,
        C::PendingTransferAlreadyVoided,
        C::Exists,
        C::PendingTransferNotPending,
        C::PendingTransferNotFound,
    ];
    assert_eq!(codes(&store, batch, NOW + SECOND).await, expected);
    // The rest of the part is free, and so is all of what was voided.
    assert_eq!(balances(&store, 1).await, Balances { debits_posted: 60, ..Balances::default() });
    assert_eq!(balances(&store, 2).await, Balances { credits_posted: 60, ..Balances::default() });
    assert_sound(&store).await;
}

fn linked(item: NewTransfer) -> NewTransfer {
    NewTransfer { flags: item.flags.with(TransferFlags::LINKED), ..item }
}

pub(crate) async fn a_chain_is_made_as_a_whole_or_not_at_all<S: Store>(store: S) {
    open(&store).await;
    let failing = || vec![linked(single(1, 1, 2, 10)), linked(single(2, 3, 2, 1)), single(3, 1, 2, 5)];
    let whole = || vec![linked(single(5, 1, 3, 8)), single(6, 3, 2, 8)];
    let unfinished = || vec![linked(single(7, 1, 2, 1)), linked(single(8, 1, 2, 1))];
    let batch = [failing(), vec![single(4, 1, 2, 100)], whole(), unfinished()].concat();
    let expected = [
        C::LinkedEventFailed,
        C::ExceedsCredits,
        C::LinkedEventFailed,
        C::Created,
        C::Created,
        C::Created,
        C::LinkedEventFailed,
        C::LinkedEventChainOpen,
    ];
    assert_eq!(codes(&store, batch, NOW).await, expected);
    // Sent again: what was made is there, and of what failed the item that failed.
    let batch = [failing(), whole(), vec![single(1, 1, 2, 10), single(7, 1, 2, 1)]].concat();
    let expected = [
        C::LinkedEventFailed,
        C::IdAlreadyFailed,
        C::LinkedEventFailed,
        C::Exists,
        C::Exists,
        C::Created,
        C::Created,
    ];
    assert_eq!(codes(&store, batch, NOW + SECOND).await, expected);
    assert_eq!(
        balances(&store, 3).await,
        Balances { debits_posted: 8, credits_posted: 8, ..Balances::default() }
    );
    assert_eq!(balances(&store, 2).await, Balances { credits_posted: 119, ..Balances::default() });
    assert_sound(&store).await;
}

fn limit(account: Given<AccountId>, limit: i64, expected: Option<i64>) -> NewLimit {
    NewLimit { account, tenant: Given::Value(tenant("acme")), limit, expected }
}

pub(crate) async fn limits_count_what_is_reserved_and_can_be_moved<S: Store>(store: S) {
    open(&store).await;
    let of = |bits| Given::Value(account_id(bits));
    let batch = vec![
        limit(of(3), 50, Some(0)),
        limit(of(3), 50, Some(7)),
        limit(of(3), 60, Some(7)),
        limit(of(3), -1, None),
        limit(of(1), 5, None),
        limit(of(77), 5, None),
        limit(of(4), 5, None),
        limit(Given::Malformed, 5, None),
    ];
    let results = store.set_limits(batch, at(NOW)).await.unwrap();
    let told: Vec<_> = results.iter().map(|result| (result.code, result.limit)).collect();
    let expected = [
        (LimitCode::Changed, Some(50)),
        (LimitCode::Unchanged, Some(50)),
        (LimitCode::LimitDiffers, Some(50)),
        (LimitCode::LimitInvalid, None),
        (LimitCode::AccountHasNoLimit, None),
        (LimitCode::AccountNotFound, None),
        (LimitCode::AccountNotFound, None),
        (LimitCode::IdInvalid, None),
    ];
    assert_eq!(told, expected);
    assert_eq!(results[0].timestamp, Some(at(NOW)));
    assert!(results[1..].iter().all(|result| result.timestamp.is_none()));

    let reserve = NewTransfer { flags: TransferFlags::PENDING, ..single(1, 3, 2, 30) };
    let batch = vec![reserve, single(2, 3, 2, 21), single(3, 3, 2, 20)];
    assert_eq!(codes(&store, batch, NOW + SECOND).await, [C::Created, C::ExceedsCredits, C::Created]);
    // Below what is used: that stays, and nothing adds to it.
    store.set_limits(vec![limit(of(3), 40, None)], at(NOW + SECOND)).await.unwrap();
    let batch = vec![single(4, 3, 2, 1), single(5, 3, 2, 0)];
    assert_eq!(codes(&store, batch, NOW + SECOND).await, [C::ExceedsCredits, C::Created]);
    let found = store.accounts(tenant("acme"), vec![account_id(3)]).await.unwrap();
    assert_eq!(found[0].limit, 40);
    let expected = Balances { debits_pending: 30, debits_posted: 20, ..Balances::default() };
    assert_eq!(found[0].balances, expected);
    assert_sound(&store).await;
}

pub(crate) async fn a_balancing_transfer_moves_what_is_there<S: Store>(store: S) {
    open(&store).await;
    let balancing =
        |bits, amount| NewTransfer { flags: TransferFlags::BALANCING_DEBIT, ..single(bits, 3, 2, amount) };
    let batch = vec![
        single(1, 1, 3, 70),
        balancing(2, 50),
        balancing(3, 100),
        balancing(4, 10),
        // What it was asked to move is what is compared.
        balancing(3, 100),
        balancing(3, 20),
    ];
    let expected = [C::Created, C::Created, C::Created, C::Created, C::Exists, C::ExistsWithDifferentAmount];
    assert_eq!(codes(&store, batch, NOW).await, expected);
    let ids = vec![transfer_id(2), transfer_id(3), transfer_id(4)];
    let found = store.transfers(tenant("acme"), ids).await.unwrap();
    assert_eq!(found.iter().map(|transfer| transfer.amount).collect::<Vec<_>>(), [50, 20, 0]);
    assert_eq!(
        balances(&store, 3).await,
        Balances { debits_posted: 70, credits_posted: 70, ..Balances::default() }
    );
    assert_sound(&store).await;
}

async fn is_closed<S: Store>(store: &S, bits: u128) -> bool {
    store.accounts(tenant("acme"), vec![account_id(bits)]).await.unwrap()[0].closed
}

pub(crate) async fn a_closed_account_takes_nothing_until_its_closing_ends<S: Store>(store: S) {
    open(&store).await;
    let closing = TransferFlags::PENDING.with(TransferFlags::CLOSING_DEBIT);
    let close = |bits, timeout_s| NewTransfer { flags: closing, timeout_s, ..single(bits, 3, 2, 0) };
    let reopen = |bits, of| NewTransfer { debit: Given::Nothing, credit: Given::Nothing, ..void(bits, of) };
    let batch = vec![
        NewTransfer { flags: TransferFlags::CLOSING_DEBIT, ..single(1, 3, 2, 0) },
        close(2, 0),
        single(3, 1, 3, 5),
        close(4, 0),
    ];
    let expected = [
        C::ClosingTransferMustBePending,
        C::Created,
        C::CreditAccountAlreadyClosed,
        C::DebitAccountAlreadyClosed,
    ];
    assert_eq!(codes(&store, batch, NOW).await, expected);
    assert!(is_closed(&store, 3).await);
    let batch = vec![reopen(5, 2), single(3, 1, 3, 5), single(6, 1, 3, 5)];
    assert_eq!(codes(&store, batch, NOW).await, [C::Created, C::IdAlreadyFailed, C::Created]);
    assert!(!is_closed(&store, 3).await);

    // A closing lapses as every reservation does, closed account or not.
    assert_eq!(codes(&store, vec![close(7, 10)], NOW + SECOND).await, [C::Created]);
    assert!(is_closed(&store, 3).await);
    assert_eq!(store.expire(at(NOW + 20 * SECOND)).await.unwrap(), 1);
    assert!(!is_closed(&store, 3).await);
    let batch = vec![reopen(8, 7), single(9, 1, 3, 5)];
    assert_eq!(codes(&store, batch, NOW + 20 * SECOND).await, [C::PendingTransferExpired, C::Created]);
    assert_sound(&store).await;
}
