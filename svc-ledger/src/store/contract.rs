//! What every store keeps, whatever it is made of. A store's tests run [`suite!`] on it.

mod crowd;
mod questions;
mod restart;
mod rules;

use std::collections::BTreeSet;

use money::{TenantId, Timestamp};

use super::{
    Store,
    ports::{AccountFilter, Page, Period, TransferFilter, Window},
};
use crate::domain::{
    Account, AccountCode, AccountFlags, AccountId, Balances, Given, NewAccount, NewTransfer, Reference,
    Transfer, TransferCode as C, TransferFlags, TransferId, TransferResult,
};

pub(crate) use self::{
    crowd::of_a_crowd_with_retries_each_id_has_its_effect_once,
    questions::{
        a_full_batch_is_answered_and_found_as_a_whole, a_history_is_the_balances_after_each_movement,
        a_time_that_was_asked_about_is_closed, accounts_are_kept_and_found_as_they_were_sent,
        conditions_combine_freely, ids_stay_taken_when_only_the_index_knows_them,
    },
    restart::{after_a_restart, before_a_restart},
    rules::{
        a_balancing_transfer_moves_what_is_there, a_chain_is_made_as_a_whole_or_not_at_all,
        a_closed_account_takes_nothing_until_its_closing_ends, a_reservation_is_resolved_at_most_once,
        limits_count_what_is_reserved_and_can_be_moved,
    },
};

const SECOND: i64 = 1_000_000_000;
const NOW: i64 = 1_000 * SECOND;

fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn account_id(bits: u128) -> AccountId {
    AccountId::new(bits).unwrap()
}

fn transfer_id(bits: u128) -> TransferId {
    TransferId::new(bits).unwrap()
}

fn new_account(bits: u128, owner: &str, code: &str, flags: AccountFlags) -> NewAccount {
    NewAccount {
        id: Given::Value(account_id(bits)),
        tenant: Given::Value(tenant(owner)),
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value(code.parse().unwrap()),
        flags: Some(flags),
        user_data: 0,
        reference: Some(Reference::default()),
        limit: 0,
        has_balances: false,
        has_timestamp: false,
    }
}

fn single(bits: u128, debit: u128, credit: u128, amount: i64) -> NewTransfer {
    NewTransfer {
        id: Given::Value(transfer_id(bits)),
        tenant: Given::Value(tenant("acme")),
        flags: TransferFlags::default(),
        debit: Given::Value(account_id(debit)),
        credit: Given::Value(account_id(credit)),
        amount,
        post_full_amount: false,
        ledger: Given::Value("EUR".parse().unwrap()),
        code: Given::Value("fee".parse().unwrap()),
        pending: Given::Nothing,
        timeout_s: 0,
        user_data: 0,
        has_unknown_flags: false,
        has_timestamp: false,
        reference: "pay_1".parse().ok(),
    }
}

fn pending(bits: u128, amount: i64, timeout_s: u32) -> NewTransfer {
    NewTransfer { flags: TransferFlags::PENDING, timeout_s, ..single(bits, 1, 2, amount) }
}

fn post_part(bits: u128, of: u128, amount: i64) -> NewTransfer {
    NewTransfer { post_full_amount: false, amount, ..post_full(bits, of) }
}

fn void(bits: u128, of: u128) -> NewTransfer {
    NewTransfer { flags: TransferFlags::VOID_PENDING, post_full_amount: false, ..post_full(bits, of) }
}

fn post_full(bits: u128, of: u128) -> NewTransfer {
    NewTransfer {
        flags: TransferFlags::POST_PENDING,
        pending: Given::Value(transfer_id(of)),
        post_full_amount: true,
        ..single(bits, 1, 2, 0)
    }
}

async fn opened<S: Store>(store: &S, batch: Vec<NewAccount>, now: Timestamp) -> Vec<AccountCode> {
    store.open_accounts(batch, now).await.unwrap().into_iter().map(|result| result.code).collect()
}

/// Accounts 1, 2 and 3 of acme, 3 with limited debits, and 4 of other.
async fn open<S: Store>(store: &S) {
    let batch = vec![
        new_account(1, "acme", "clearing", AccountFlags::NONE),
        new_account(2, "acme", "payable", AccountFlags::NONE),
        new_account(3, "acme", "payable", AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS),
        new_account(4, "other", "clearing", AccountFlags::NONE),
    ];
    assert_eq!(opened(store, batch, at(10)).await, [AccountCode::Created; 4]);
}

async fn codes<S: Store>(store: &S, batch: Vec<NewTransfer>, nanos: i64) -> Vec<C> {
    store.transfer(batch, at(nanos)).await.unwrap().into_iter().map(|result| result.code).collect()
}

async fn balances<S: Store>(store: &S, bits: u128) -> Balances {
    let found = store.accounts(tenant("acme"), vec![account_id(bits)]).await.unwrap();
    found[0].balances
}

async fn assert_sound<S: Store>(store: &S) {
    let report = store.audit().await.unwrap();
    assert_eq!(report.offences, Vec::<String>::new());
    let trial = store.trial_balance(tenant("acme")).await.unwrap();
    assert!(trial.lines.values().all(|line| line.difference() == 0));
}

pub(crate) async fn accounts_are_opened_once<S: Store>(store: S) {
    open(&store).await;
    let again = vec![
        new_account(1, "acme", "clearing", AccountFlags::NONE),
        new_account(1, "acme", "payable", AccountFlags::NONE),
        new_account(4, "acme", "clearing", AccountFlags::NONE),
        new_account(5, "acme", "clearing", AccountFlags::NONE),
        new_account(5, "acme", "clearing", AccountFlags::NONE),
    ];
    let results = opened(&store, again, at(5)).await;
    let expected = [
        AccountCode::Exists,
        AccountCode::ExistsWithDifferentCode,
        AccountCode::ExistsWithDifferentTenant,
        AccountCode::Created,
        AccountCode::Exists,
    ];
    assert_eq!(results, expected);
    let found = store.accounts(tenant("acme"), vec![account_id(5), account_id(1)]).await.unwrap();
    assert!(found[0].created_at > found[1].created_at, "times increase, though the clock was set back");
    assert_eq!(store.open_accounts(Vec::new(), at(NOW)).await.unwrap(), []);
}

pub(crate) async fn a_batch_is_answered_item_by_item_and_again_after_that<S: Store>(store: S) {
    open(&store).await;
    let batch = || {
        vec![
            single(1, 1, 2, 100),
            NewTransfer { amount: -1, ..single(2, 1, 2, 0) },
            single(3, 3, 2, 1),
            pending(4, 50, 0),
            post_full(5, 4),
        ]
    };
    let first = store.transfer(batch(), at(NOW)).await.unwrap();
    let made = |nanos, code| TransferResult { code, timestamp: Some(at(nanos)) };
    let expected = [
        made(NOW, C::Created),
        C::AmountInvalid.into(),
        C::ExceedsCredits.into(),
        made(NOW + 1, C::Created),
        made(NOW + 2, C::Created),
    ];
    assert_eq!(first, expected);
    let again = store.transfer(batch(), at(NOW + SECOND)).await.unwrap();
    let expected = [
        made(NOW, C::Exists),
        C::AmountInvalid.into(),
        C::IdAlreadyFailed.into(),
        made(NOW + 1, C::Exists),
        made(NOW + 2, C::Exists),
    ];
    assert_eq!(again, expected);
    assert_eq!(balances(&store, 1).await, Balances { debits_posted: 150, ..Balances::default() });
    assert_eq!(balances(&store, 2).await, Balances { credits_posted: 150, ..Balances::default() });
    assert_eq!(store.transfer(Vec::new(), at(NOW)).await.unwrap(), []);
    assert_sound(&store).await;
}

pub(crate) async fn what_is_looked_up_comes_in_the_order_asked_and_is_the_tenants<S: Store>(store: S) {
    open(&store).await;
    codes(&store, vec![single(1, 1, 2, 7), pending(2, 8, 60)], NOW).await;
    let ids = vec![account_id(4), account_id(2), account_id(77), account_id(1), account_id(2)];
    let found = store.accounts(tenant("acme"), ids).await.unwrap();
    assert_eq!(found.iter().map(|a| a.id.bits()).collect::<Vec<_>>(), [2, 1, 2]);

    let ids = vec![transfer_id(2), transfer_id(77), transfer_id(1)];
    let found = store.transfers(tenant("acme"), ids.clone()).await.unwrap();
    assert_eq!(found.iter().map(|t| t.id.bits()).collect::<Vec<_>>(), [2, 1]);
    assert_eq!((found[0].timeout_s(), found[1].reference.as_str(), found[1].amount), (60, "pay_1", 7));
    assert_eq!(store.transfers(tenant("other"), ids).await.unwrap(), []);
}

pub(crate) async fn pages_run_from_the_newest_and_stay_put_under_inserts<S: Store>(store: S) {
    let batch = (1..=9).map(|bits| {
        let code = if bits % 3 == 0 { "payable" } else { "clearing" };
        let mut account = new_account(bits, "acme", code, AccountFlags::NONE);
        if bits % 2 == 0 {
            account.ledger = Given::Value("USD".parse().unwrap());
        }
        account
    });
    store.open_accounts(batch.collect(), at(NOW)).await.unwrap();
    store
        .open_accounts(vec![new_account(50, "other", "clearing", AccountFlags::NONE)], at(NOW))
        .await
        .unwrap();
    let ever = Period { from: at(0), to: at(i64::MAX) };
    let window = Window { newest_first: true, limit: 4 };
    let all = AccountFilter::any(tenant("acme"), ever, window);
    let bits = |page: &Page<Account>| page.items.iter().map(|a| a.id.bits()).collect::<Vec<_>>();

    let first = store.find_accounts(all.clone()).await.unwrap();
    assert_eq!(bits(&first), [9, 8, 7, 6]);
    let newcomer = vec![new_account(51, "acme", "clearing", AccountFlags::NONE)];
    store.open_accounts(newcomer, at(1)).await.unwrap();
    let period = Period { to: first.resume.unwrap(), ..ever };
    let next = AccountFilter { period, ..all.clone() };
    assert_eq!(bits(&store.find_accounts(next).await.unwrap()), [5, 4, 3, 2]);

    let payable = AccountFilter { code: Some("payable".parse().unwrap()), ..all.clone() };
    assert_eq!(bits(&store.find_accounts(payable.clone()).await.unwrap()), [9, 6, 3]);
    let dollars = AccountFilter { ledger: Some("USD".parse().unwrap()), ..payable };
    assert_eq!(bits(&store.find_accounts(dollars).await.unwrap()), [6]);
    let dollars = AccountFilter { ledger: Some("USD".parse().unwrap()), ..all };
    assert_eq!(bits(&store.find_accounts(dollars).await.unwrap()), [8, 6, 4, 2]);
}

pub(crate) async fn reservations_lapse_by_a_sweep_and_before_a_batch<S: Store>(store: S) {
    open(&store).await;
    let batch = vec![pending(1, 5, 10), pending(2, 6, 20), pending(3, 7, 0)];
    assert_eq!(codes(&store, batch, NOW).await, [C::Created; 3]);
    assert_eq!(store.expire(at(NOW + 10 * SECOND - 1)).await.unwrap(), 0);
    assert_eq!(store.expire(at(NOW + 10 * SECOND)).await.unwrap(), 1);
    assert_eq!(store.expire(at(NOW + 10 * SECOND)).await.unwrap(), 0);
    assert_eq!(balances(&store, 1).await.debits_pending, 13);

    // Another transfer comes after the second has lapsed: it is released in the same commit.
    let results = codes(&store, vec![single(9, 1, 2, 1), post_full(10, 2)], NOW + 30 * SECOND).await;
    assert_eq!(results, [C::Created, C::PendingTransferExpired]);
    assert_eq!(
        balances(&store, 1).await,
        Balances { debits_pending: 7, debits_posted: 1, ..Balances::default() }
    );
    assert_eq!(codes(&store, vec![post_full(11, 3)], NOW + 40 * SECOND).await, [C::Created]);
    assert_sound(&store).await;
}

pub(crate) async fn of_many_at_once_one_resolves_and_limits_hold<S: Store>(store: S) {
    open(&store).await;
    codes(&store, vec![pending(1, 5, 0), single(2, 1, 3, 10)], NOW).await;
    let tasks: Vec<_> = (100..132_u128)
        .map(|bits| {
            let store = store.clone();
            tokio::spawn(async move {
                let batch = vec![post_full(bits, 1), single(3, 1, 2, 1), single(bits + 100, 3, 2, 1)];
                store.transfer(batch, at(NOW)).await.unwrap()
            })
        })
        .collect();
    let mut results = Vec::new();
    for task in tasks {
        results.push(task.await.unwrap());
    }
    let count = |item: usize, code| results.iter().filter(|results| results[item].code == code).count();
    assert_eq!((count(0, C::Created), count(0, C::PendingTransferAlreadyPosted)), (1, 31));
    assert_eq!((count(1, C::Created), count(1, C::Exists)), (1, 31));
    assert_eq!((count(2, C::Created), count(2, C::ExceedsCredits)), (10, 22));
    let times: BTreeSet<_> =
        results.iter().flatten().filter(|r| r.code == C::Created).map(|r| r.timestamp).collect();
    assert_eq!(times.len(), 12, "each transfer has a time of its own");
    assert_sound(&store).await;
}

pub(crate) async fn a_trial_balance_is_of_one_tenant<S: Store>(store: S) {
    open(&store).await;
    codes(&store, vec![single(1, 1, 2, 30), pending(2, 12, 0)], NOW).await;
    let trial = store.trial_balance(tenant("acme")).await.unwrap();
    let line = trial.lines[&"EUR".parse().unwrap()];
    assert_eq!((line.accounts, line.debits_posted, line.credits_posted, line.difference()), (3, 30, 30, 0));
    assert_eq!((line.debits_pending, line.credits_pending), (12, 12));
    let trial = store.trial_balance(tenant("other")).await.unwrap();
    assert_eq!(trial.lines[&"EUR".parse().unwrap()].debits_posted, 0);
    assert_eq!(store.trial_balance(tenant("nobody")).await.unwrap().lines.len(), 0);
    let report = store.audit().await.unwrap();
    assert_eq!((report.accounts, report.transfers), (4, 2));

    // More than one account could have.
    let most = i64::MAX - 50;
    assert_eq!(codes(&store, vec![single(3, 1, 2, most), single(4, 2, 3, most)], NOW).await, [C::Created; 2]);
    let line = store.trial_balance(tenant("acme")).await.unwrap().lines[&"EUR".parse().unwrap()];
    let expected = 2 * i128::from(most) + 30;
    assert_eq!((line.debits_posted, line.credits_posted, line.debits_pending), (expected, expected, 12));
    assert_sound(&store).await;
}

/// Transfers of acme at any time, newest first.
fn any_transfer(limit: usize) -> TransferFilter {
    let since = Period { from: at(0), to: at(i64::MAX) };
    TransferFilter::any(Some(tenant("acme")), since, Window { newest_first: true, limit })
}

/// All pages of a question.
async fn all_pages<S: Store>(store: &S, mut filter: TransferFilter) -> Vec<Transfer> {
    let mut found = Vec::new();
    loop {
        let Page { items, resume } = store.find_transfers(filter.clone()).await.unwrap();
        assert!(items.len() <= filter.window.limit);
        found.extend(items);
        let Some(resume) = resume else { return found };
        if filter.window.newest_first {
            assert!(resume < filter.period.to, "a page goes on further on");
            filter.period.to = resume;
        } else {
            assert!(resume > filter.period.from, "a page goes on further on");
            filter.period.from = resume;
        }
    }
}

/// Stamps the suite over a store; `$fresh` gives an empty one and whatever must outlive it.
macro_rules! suite {
    ($fresh:expr; $($test:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let (store, _guard) = $fresh;
            $crate::store::contract::$test(store).await;
        }
    )+};
    ($fresh:expr) => {
        $crate::store::contract::suite! {
            $fresh;
            accounts_are_opened_once,
            a_batch_is_answered_item_by_item_and_again_after_that,
            what_is_looked_up_comes_in_the_order_asked_and_is_the_tenants,
            pages_run_from_the_newest_and_stay_put_under_inserts,
            reservations_lapse_by_a_sweep_and_before_a_batch,
            of_many_at_once_one_resolves_and_limits_hold,
            a_trial_balance_is_of_one_tenant,
            a_time_that_was_asked_about_is_closed,
            a_reservation_is_resolved_at_most_once,
            a_chain_is_made_as_a_whole_or_not_at_all,
            limits_count_what_is_reserved_and_can_be_moved,
            a_balancing_transfer_moves_what_is_there,
            a_closed_account_takes_nothing_until_its_closing_ends,
            a_history_is_the_balances_after_each_movement,
            accounts_are_kept_and_found_as_they_were_sent,
            conditions_combine_freely,
            ids_stay_taken_when_only_the_index_knows_them,
            a_full_batch_is_answered_and_found_as_a_whole,
            of_a_crowd_with_retries_each_id_has_its_effect_once,
        }
    };
}
pub(crate) use suite;
