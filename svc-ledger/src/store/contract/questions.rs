//! What is found of what was made: histories, filters, and ids that only the index still knows.

use super::{
    NOW, SECOND, account_id, all_pages, any_transfer, assert_sound, at, balances, codes, new_account, open,
    pending, post_full, post_part, single, tenant, transfer_id, void,
};
use crate::{
    domain::{
        AccountCode, AccountFlags, BATCH_MAX, Balances, Given, NewAccount, NewTransfer, Transfer,
        TransferCode as C, TransferFlags, TransferResult,
    },
    store::{
        Store,
        ports::{AccountFilter, BalanceAt, BalanceFilter, Page, Period, TransferFilter, Window},
    },
};

/// Random filters on one ledger, which differ in nothing from run to run.
const FILTERS: usize = 60;

pub(crate) async fn a_history_is_the_balances_after_each_movement<S: Store>(store: S) {
    open(&store).await;
    let kept = vec![new_account(11, "acme", "clearing", AccountFlags::HISTORY)];
    store.open_accounts(kept, at(20)).await.unwrap();
    let of_kept = |item: NewTransfer| NewTransfer { debit: Given::Value(account_id(11)), ..item };
    let batch = [single(1, 1, 2, 10), pending(2, 5, 10), pending(3, 7, 0), post_part(4, 3, 4)].map(of_kept);
    assert_eq!(codes(&store, batch.to_vec(), NOW).await, [C::Created; 4]);
    assert_eq!(store.expire(at(NOW + 20 * SECOND)).await.unwrap(), 1);
    let expected: Vec<_> =
        [(NOW, 0, 10), (NOW + 1, 5, 10), (NOW + 2, 12, 10), (NOW + 3, 5, 14), (NOW + 20 * SECOND, 0, 14)]
            .map(|(nanos, debits_pending, debits_posted)| BalanceAt {
                timestamp: at(nanos),
                balances: Balances { debits_pending, debits_posted, ..Balances::default() },
            })
            .to_vec();

    let filter = |to: i64, newest_first, limit| BalanceFilter {
        tenant: tenant("acme"),
        account: account_id(11),
        period: Period { from: at(0), to: at(to) },
        window: Window { newest_first, limit },
    };
    // Page by page, from the oldest.
    let mut ask = filter(i64::MAX, false, 2);
    let mut found = Vec::new();
    loop {
        let Page { items, resume } = store.find_balances(ask.clone()).await.unwrap();
        found.extend(items);
        let Some(resume) = resume else { break };
        assert!(resume > ask.period.from);
        ask.period.from = resume;
    }
    assert_eq!(found, expected);
    // As of each of the times, and just before it.
    for (index, at) in expected.iter().enumerate() {
        for (to, last) in
            [(at.timestamp.as_nanos(), Some(index)), (at.timestamp.as_nanos() - 1, index.checked_sub(1))]
        {
            let page = store.find_balances(filter(to, true, 1)).await.unwrap();
            assert_eq!(page.items.first(), last.map(|last| &expected[last]), "as of {to}");
        }
    }
    assert_sound(&store).await;
}

pub(crate) async fn accounts_are_kept_and_found_as_they_were_sent<S: Store>(store: S) {
    let flags = AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS.with(AccountFlags::HISTORY);
    let batch: Vec<_> = (1..=8_u8)
        .map(|number| NewAccount {
            ledger: Given::Value(if number < 5 { "EUR" } else { "JPY" }.parse().unwrap()),
            user_data: i64::from(number % 3) - 1,
            reference: ["", "wallet"][usize::from(number % 2)].parse().ok(),
            limit: i64::from(number),
            ..new_account(number.into(), "acme", "cash", flags)
        })
        .collect();
    let results = store.open_accounts(batch.clone(), at(NOW)).await.unwrap();
    assert!(results.iter().all(|result| result.code == AccountCode::Created));
    let found = store.accounts(tenant("acme"), (1..=8).map(account_id).collect()).await.unwrap();
    assert_eq!(found.len(), 8);
    for (index, (found, sent)) in found.iter().zip(&batch).enumerate() {
        assert_eq!((Some(&found.id), Some(&found.tenant)), (sent.id.value(), sent.tenant.value()));
        assert_eq!((Some(&found.ledger), Some(&found.code)), (sent.ledger.value(), sent.code.value()));
        assert_eq!((found.flags, found.user_data, found.limit), (flags, sent.user_data, sent.limit));
        assert_eq!(Some(&found.reference), sent.reference.as_ref());
        assert_eq!((found.closed, found.balances), (false, Balances::default()));
        assert_eq!(Some(found.created_at), results[index].timestamp);
    }
    for user_data in [None, Some(-1), Some(1)] {
        for reference in [None, Some(""), Some("wallet")] {
            for ledger in [None, Some("EUR"), Some("JPY")] {
                let filter = AccountFilter {
                    tenant: tenant("acme"),
                    period: Period { from: at(NOW + 1), to: at(NOW + 6) },
                    ledger: ledger.map(|code| code.parse().unwrap()),
                    code: Some("cash".parse().unwrap()),
                    reference: reference.map(|text| text.parse().unwrap()),
                    user_data,
                    window: Window { newest_first: false, limit: 100 },
                };
                let expected = found[1..7].iter().filter(|account| {
                    filter.ledger.is_none_or(|ledger| ledger == account.ledger)
                        && filter.reference.as_ref().is_none_or(|text| *text == account.reference)
                        && user_data.is_none_or(|number| number == account.user_data)
                });
                let expected: Vec<_> = expected.cloned().collect();
                let page = store.find_accounts(filter).await.unwrap();
                assert_eq!(page.items, expected, "{user_data:?} {reference:?} {ledger:?}");
            }
        }
    }
}

fn passes(filter: &TransferFilter, transfer: &Transfer) -> bool {
    fn is<T: PartialEq>(wanted: Option<&T>, value: &T) -> bool {
        wanted.is_none_or(|wanted| wanted == value)
    }
    let period = filter.period;
    (period.from..=period.to).contains(&transfer.timestamp)
        && filter.account.is_none_or(|id| id == transfer.debit || id == transfer.credit)
        && is(filter.debit.as_ref(), &transfer.debit)
        && is(filter.credit.as_ref(), &transfer.credit)
        && is(filter.ledger.as_ref(), &transfer.ledger)
        && is(filter.code.as_ref(), &transfer.code)
        && transfer.flags().contains(filter.flags)
        && is(filter.reference.as_ref(), &transfer.reference)
        && is(filter.user_data.as_ref(), &transfer.user_data)
        && filter.amount_min.is_none_or(|least| transfer.amount >= least)
        && filter.amount_max.is_none_or(|most| transfer.amount <= most)
        && filter.pending.is_none_or(|id| transfer.pending_id() == Some(id))
}

/// A third of the possible conditions, as they come.
fn random_filter(random: &mut fastrand::Rng) -> TransferFilter {
    fn one<T: Copy>(random: &mut fastrand::Rng, of: &[T]) -> Option<T> {
        if random.u8(..3) > 0 { None } else { random.choice(of).copied() }
    }
    let accounts = [1, 2, 3].map(account_id);
    let kinds = [TransferFlags::PENDING, TransferFlags::POST_PENDING, TransferFlags::LINKED];
    let period = Period {
        from: at(one(random, &[NOW + 10, NOW + 30]).unwrap_or_default()),
        to: at(one(random, &[NOW + 30, NOW + 60]).unwrap_or(i64::MAX)),
    };
    let limit = one(random, &[1, 3]).unwrap_or(7);
    TransferFilter {
        period,
        account: one(random, &accounts),
        debit: one(random, &accounts),
        credit: one(random, &accounts),
        ledger: one(random, &["EUR", "USD"]).map(|code| code.parse().unwrap()),
        code: one(random, &["fee", "deposit"]).map(|code| code.parse().unwrap()),
        flags: one(random, &kinds).unwrap_or_default(),
        reference: one(random, &["", "pay_0", "pay_1"]).map(|text| text.parse().unwrap()),
        user_data: one(random, &[0, -1, 2]),
        amount_min: one(random, &[0, 5, 9]),
        amount_max: one(random, &[9, 12]),
        pending: one(random, &[1, 7, 13].map(transfer_id)),
        window: Window { newest_first: random.bool(), limit },
        ..any_transfer(1)
    }
}

pub(crate) async fn conditions_combine_freely<S: Store>(store: S) {
    open(&store).await;
    let batch: Vec<_> = (1..=72_u128)
        .map(|bits| {
            let item = match bits % 6 {
                1 => pending(bits, 20, 0),
                2 => post_part(bits, bits - 1, 9),
                3 => single(bits, 2, 1, 5),
                4 => single(bits, 1, 3, 12),
                5 => NewTransfer { flags: TransferFlags::LINKED, ..single(bits, 3, 2, 5) },
                _ => single(bits, 3, 2, 7),
            };
            NewTransfer {
                code: Given::Value(if bits % 12 < 6 { "fee" } else { "deposit" }.parse().unwrap()),
                reference: ["", "pay_0", "pay_1"][usize::try_from(bits % 3).unwrap()].parse().ok(),
                user_data: [0, -1, 2, 3][usize::try_from(bits % 4).unwrap()],
                ..item
            }
        })
        .collect();
    let ids = (1..=72).map(transfer_id).collect();
    assert_eq!(codes(&store, batch.clone(), NOW).await, [C::Created; 72]);
    let made = store.transfers(tenant("acme"), ids).await.unwrap();
    assert_eq!(made.len(), 72);
    for (made, sent) in made.iter().zip(&batch) {
        assert_eq!(Some(&made.id), sent.id.value());
        assert_eq!((Some(&made.debit), Some(&made.credit)), (sent.debit.value(), sent.credit.value()));
        assert_eq!((made.flags(), made.pending_id().as_ref()), (sent.flags, sent.pending.value()));
        assert_eq!((made.amount, made.user_data), (sent.amount, sent.user_data));
        assert_eq!((Some(&made.code), Some(&made.ledger)), (sent.code.value(), sent.ledger.value()));
        assert_eq!(Some(&made.reference), sent.reference.as_ref());
    }

    let mut random = fastrand::Rng::with_seed(7);
    let mut answered = 0;
    for _ in 0..FILTERS {
        let filter = random_filter(&mut random);
        let mut expected: Vec<_> =
            made.iter().filter(|transfer| passes(&filter, transfer)).map(|transfer| transfer.id).collect();
        if filter.window.newest_first {
            expected.reverse();
        }
        answered += usize::from(!expected.is_empty());
        let found = all_pages(&store, filter.clone()).await;
        assert_eq!(found.iter().map(|transfer| transfer.id).collect::<Vec<_>>(), expected, "{filter:?}");
    }
    assert!(answered > FILTERS / 6, "only {answered} of the questions have an answer");
}

pub(crate) async fn ids_stay_taken_when_only_the_index_knows_them<S: Store>(store: S) {
    open(&store).await;
    let batch = vec![single(1, 1, 2, 10), single(2, 3, 2, 1), pending(3, 8, 0), pending(4, 9, 0)];
    let expected = [C::Created, C::ExceedsCredits, C::Created, C::Created];
    assert_eq!(codes(&store, batch, NOW).await, expected);
    // An answer to this means that the index has it all, so that the next call need not have it in memory.
    assert_eq!(all_pages(&store, any_transfer(10)).await.len(), 3);

    let batch = vec![
        single(1, 1, 2, 10),
        single(1, 1, 2, 11),
        single(2, 3, 2, 1),
        pending(3, 8, 0),
        post_part(5, 3, 2),
        void(6, 4),
    ];
    let results = store.transfer(batch, at(NOW + SECOND)).await.unwrap();
    let made = |nanos, code| TransferResult { code, timestamp: Some(at(nanos)) };
    let expected = [
        made(NOW, C::Exists),
        C::ExistsWithDifferentAmount.into(),
        C::IdAlreadyFailed.into(),
        made(NOW + 1, C::Exists),
        made(NOW + SECOND, C::Created),
        made(NOW + SECOND + 1, C::Created),
    ];
    assert_eq!(results, expected);

    assert_eq!(all_pages(&store, any_transfer(2)).await.len(), 5);
    let batch = vec![void(7, 3), post_full(8, 4), post_part(5, 3, 2)];
    let expected = [C::PendingTransferAlreadyPosted, C::PendingTransferAlreadyVoided, C::Exists];
    assert_eq!(codes(&store, batch, NOW + 2 * SECOND).await, expected);
    assert_eq!(balances(&store, 1).await, Balances { debits_posted: 12, ..Balances::default() });
    assert_sound(&store).await;
}

pub(crate) async fn a_full_batch_is_answered_and_found_as_a_whole<S: Store>(store: S) {
    open(&store).await;
    let numbers = || 1..=u128::try_from(BATCH_MAX).unwrap();
    let batch = || numbers().map(|bits| single(bits, 1, 2, 1)).collect::<Vec<_>>();
    for (now, code) in [(NOW, C::Created), (NOW + SECOND, C::Exists)] {
        let results = store.transfer(batch(), at(now)).await.unwrap();
        assert_eq!(results.len(), BATCH_MAX);
        for (result, nanos) in results.iter().zip(NOW..) {
            assert_eq!(*result, TransferResult { code, timestamp: Some(at(nanos)) });
        }
    }
    let ids: Vec<_> = numbers().rev().map(transfer_id).collect();
    let found = store.transfers(tenant("acme"), ids.clone()).await.unwrap();
    assert!(found.iter().map(|transfer| transfer.id).eq(ids.iter().copied()));
    let found = all_pages(&store, any_transfer(1_000)).await;
    assert!(found.iter().map(|transfer| transfer.id).eq(ids));
    let total = i64::try_from(BATCH_MAX).unwrap();
    assert_eq!(balances(&store, 2).await, Balances { credits_posted: total, ..Balances::default() });
    assert_sound(&store).await;
}

pub(crate) async fn a_time_that_was_asked_about_is_closed<S: Store>(store: S) {
    open(&store).await;
    assert!(store.close_until(at(NOW), at(NOW)).await.unwrap());
    assert!(!store.close_until(at(NOW + 1), at(NOW)).await.unwrap(), "it has not come");
    let made = store.transfer(vec![single(1, 1, 2, 5)], at(NOW)).await.unwrap()[0].timestamp;
    assert_eq!(made, Some(at(NOW + 1)));
    assert!(store.close_until(at(NOW + 1), at(NOW)).await.unwrap(), "something happened then");
    let made = store.transfer(vec![single(2, 1, 2, 5)], at(NOW - SECOND)).await.unwrap()[0].timestamp;
    assert_eq!(made, Some(at(NOW + 2)), "the clock was set back");
    assert_sound(&store).await;
}
