//! Every result code of a transfer: its cause, what it leaves behind, and the pairs whose precedence
//! is easy to get wrong.

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use money::Timestamp;
use support::{
    SECOND, account, account_id, at, given, linked, pending, post, post_full, single, transfer_id, void,
};
use svc_ledger::domain::{
    AccountFlags, Balances, Given, Known, NewTransfer, TransferCode as C, TransferFlags, TransferResult,
    WorkingSet, execute, expire,
};

const NOW: i64 = 1_000 * SECOND;

/// Accounts 1 and 2: acme EUR. 3: acme EUR, debits limited. 4: acme USD. 5: other EUR. 6: acme EUR,
/// credits limited. 7: acme EUR, full to the brim. 8: acme EUR.
fn ledger() -> WorkingSet {
    let mut set = WorkingSet::new(at(8));
    for bits in 1..=8 {
        let mut account = account(bits);
        match bits {
            3 => account.flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS,
            4 => account.ledger = "USD".parse().unwrap(),
            5 => account.tenant = "other".parse().unwrap(),
            6 => account.flags = AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS,
            7 => {
                account.balances = Balances {
                    debits_posted: i64::MAX - 5,
                    credits_posted: i64::MAX - 5,
                    ..Balances::default()
                };
            }
            _ => {}
        }
        set.add_account(account);
    }
    set
}

fn run(set: &mut WorkingSet, batch: &[NewTransfer]) -> Vec<C> {
    execute(batch, at(NOW), set).into_iter().map(|result| result.code).collect()
}

fn one(set: &mut WorkingSet, item: &NewTransfer) -> C {
    run(set, std::slice::from_ref(item))[0]
}

/// Made beforehand: 100 single with a reference, 101 pending open, 102 pending posted by 103,
/// 104 pending voided by 105, 106 pending that lapses, 107 of tenant other, 108 pending of USD accounts.
fn history() -> WorkingSet {
    let mut set = ledger();
    let mut usd = account(9);
    usd.ledger = "USD".parse().unwrap();
    set.add_account(usd);
    let mut foreign = account(10);
    foreign.tenant = "other".parse().unwrap();
    set.add_account(foreign);
    let batch = [
        NewTransfer { reference: "pay_1".parse().unwrap(), ..single(100) },
        pending(101, 0),
        pending(102, 0),
        post(103, 102, 4),
        pending(104, 0),
        void(105, 104),
        pending(106, 1),
        NewTransfer { tenant: given("other"), debit: id(5), credit: id(10), ..pending(107, 0) },
        NewTransfer { debit: id(4), credit: id(9), ledger: given("USD"), ..pending(108, 0) },
    ];
    let results = execute(&batch, at(NOW - 10 * SECOND), &mut set);
    assert!(results.iter().all(|result| result.code == C::Created), "{results:?}");
    set
}

fn id(bits: u128) -> Given<svc_ledger::domain::AccountId> {
    Given::Value(account_id(bits))
}

#[test]
fn every_code_has_its_cause_in_the_order_of_precedence() {
    let pending_id = |bits| Given::Value(transfer_id(bits));
    let both = TransferFlags::PENDING.with(TransferFlags::POST_PENDING);
    let malformed = || NewTransfer {
        id: Given::Value(transfer_id(1)),
        tenant: Given::Malformed,
        flags: both,
        debit: Given::Malformed,
        credit: Given::Malformed,
        amount: -1,
        post_full_amount: true,
        ledger: Given::Malformed,
        code: Given::Malformed,
        pending: Given::Malformed,
        timeout_s: 1,
        reference: "x".parse().unwrap(),
    };
    let original = || NewTransfer { reference: "pay_1".parse().unwrap(), ..single(100) };
    let cases: Vec<(&str, NewTransfer, C)> = vec![
        // The id, and what is known of it.
        ("no id", NewTransfer { id: Given::Nothing, ..malformed() }, C::IdInvalid),
        ("malformed id", NewTransfer { id: Given::Malformed, ..malformed() }, C::IdInvalid),
        (
            "other flags, else all wrong",
            NewTransfer { id: pending_id(100), tenant: given("acme"), ..malformed() },
            C::ExistsWithDifferentFlags,
        ),
        (
            "other pending id",
            NewTransfer { pending: pending_id(101), timeout_s: 1, ..original() },
            C::ExistsWithDifferentPendingId,
        ),
        ("other pending id of a post", post(103, 101, 5), C::ExistsWithDifferentPendingId),
        (
            "other timeout",
            NewTransfer { timeout_s: 1, debit: id(8), ..original() },
            C::ExistsWithDifferentTimeout,
        ),
        ("other timeout of a pending", pending(106, 2), C::ExistsWithDifferentTimeout),
        (
            "other debit",
            NewTransfer { debit: id(8), credit: id(7), ..original() },
            C::ExistsWithDifferentDebitAccountId,
        ),
        (
            "no debit",
            NewTransfer { debit: Given::Nothing, ..original() },
            C::ExistsWithDifferentDebitAccountId,
        ),
        (
            "other debit of a post",
            NewTransfer { debit: id(8), ..post(103, 102, 4) },
            C::ExistsWithDifferentDebitAccountId,
        ),
        (
            "other credit",
            NewTransfer { credit: id(8), amount: 11, ..original() },
            C::ExistsWithDifferentCreditAccountId,
        ),
        (
            "other amount",
            NewTransfer { amount: 11, reference: "y".parse().unwrap(), ..original() },
            C::ExistsWithDifferentAmount,
        ),
        (
            "full amount asked for",
            NewTransfer { post_full_amount: true, ..original() },
            C::ExistsWithDifferentAmount,
        ),
        ("the full amount of a part posted", post_full(103, 102), C::ExistsWithDifferentAmount),
        ("a part of a void", NewTransfer { amount: 9, ..void(105, 104) }, C::ExistsWithDifferentAmount),
        (
            "other reference",
            NewTransfer { reference: "y".parse().unwrap(), ledger: given("USD"), ..original() },
            C::ExistsWithDifferentReference,
        ),
        (
            "other ledger",
            NewTransfer { ledger: given("USD"), code: given("tax"), ..original() },
            C::ExistsWithDifferentLedger,
        ),
        ("other code", NewTransfer { code: given("tax"), ..original() }, C::ExistsWithDifferentCode),
        (
            "other tenant, else all wrong: nothing more is said",
            NewTransfer { id: pending_id(100), tenant: given("other"), ..malformed() },
            C::ExistsWithDifferentTenant,
        ),
        (
            "other tenant alone",
            NewTransfer { tenant: given("other"), ..original() },
            C::ExistsWithDifferentTenant,
        ),
        ("replay", original(), C::Exists),
        ("replay of a post", post(103, 102, 4), C::Exists),
        (
            "replay of a post, spelled out",
            NewTransfer { debit: id(1), code: given("fee"), ..post(103, 102, 4) },
            C::Exists,
        ),
        ("replay of a void, spelled out", NewTransfer { amount: 10, ..void(105, 104) }, C::Exists),
        // The fields by themselves.
        ("two kinds", malformed(), C::FlagsAreMutuallyExclusive),
        (
            "post and void",
            NewTransfer { flags: TransferFlags::POST_PENDING.with(TransferFlags::VOID_PENDING), ..single(1) },
            C::FlagsAreMutuallyExclusive,
        ),
        (
            "malformed tenant",
            NewTransfer { flags: TransferFlags::default(), ..malformed() },
            C::TenantInvalid,
        ),
        ("no tenant", NewTransfer { tenant: Given::Nothing, amount: -1, ..single(1) }, C::TenantInvalid),
        (
            "negative amount",
            NewTransfer { amount: -1, debit: Given::Malformed, ..single(1) },
            C::AmountInvalid,
        ),
        ("full amount of no post", NewTransfer { post_full_amount: true, ..single(1) }, C::AmountInvalid),
        ("full amount and an amount", NewTransfer { amount: 3, ..post_full(1, 101) }, C::AmountInvalid),
        (
            "malformed debit",
            NewTransfer { debit: Given::Malformed, credit: Given::Malformed, ..single(1) },
            C::DebitAccountIdInvalid,
        ),
        ("no debit", NewTransfer { debit: Given::Nothing, ..single(1) }, C::DebitAccountIdInvalid),
        (
            "malformed debit of a post",
            NewTransfer { debit: Given::Malformed, ..post_full(1, 101) },
            C::DebitAccountIdInvalid,
        ),
        (
            "malformed credit",
            NewTransfer { credit: Given::Malformed, pending: Given::Malformed, ..single(1) },
            C::CreditAccountIdInvalid,
        ),
        ("no credit", NewTransfer { credit: Given::Nothing, ..pending(1, 0) }, C::CreditAccountIdInvalid),
        (
            "same account",
            NewTransfer { credit: id(1), pending: Given::Malformed, ..single(1) },
            C::AccountsMustBeDifferent,
        ),
        (
            "same unknown account",
            NewTransfer { debit: id(77), credit: id(77), ..single(1) },
            C::AccountsMustBeDifferent,
        ),
        (
            "pending id of no post",
            NewTransfer { pending: pending_id(101), timeout_s: 1, ..single(1) },
            C::PendingIdMustBeEmpty,
        ),
        (
            "no pending id",
            NewTransfer { pending: Given::Nothing, timeout_s: 1, ..post_full(1, 101) },
            C::PendingIdInvalid,
        ),
        (
            "malformed pending id",
            NewTransfer { pending: Given::Malformed, ..void(1, 101) },
            C::PendingIdInvalid,
        ),
        ("its own pending id", NewTransfer { timeout_s: 1, ..void(1, 1) }, C::PendingIdMustBeDifferent),
        (
            "timeout of no pending",
            NewTransfer { timeout_s: 1, ledger: Given::Malformed, ..single(1) },
            C::TimeoutReservedForPendingTransfer,
        ),
        (
            "malformed ledger",
            NewTransfer { ledger: Given::Malformed, code: Given::Malformed, ..single(1) },
            C::LedgerInvalid,
        ),
        ("no ledger", NewTransfer { ledger: Given::Nothing, ..single(1) }, C::LedgerInvalid),
        (
            "malformed ledger of a void",
            NewTransfer { ledger: Given::Malformed, ..void(1, 77) },
            C::LedgerInvalid,
        ),
        ("malformed code", NewTransfer { code: Given::Malformed, debit: id(77), ..single(1) }, C::Invalid),
        ("no code", NewTransfer { code: Given::Nothing, ..single(1) }, C::Invalid),
        // What it refers to.
        (
            "unknown debit",
            NewTransfer { debit: id(77), credit: id(78), ..single(1) },
            C::DebitAccountNotFound,
        ),
        ("another tenant's debit", NewTransfer { debit: id(5), ..single(1) }, C::DebitAccountNotFound),
        (
            "unknown credit",
            NewTransfer { credit: id(78), ledger: given("JPY"), ..single(1) },
            C::CreditAccountNotFound,
        ),
        ("another tenant's credit", NewTransfer { credit: id(5), ..single(1) }, C::CreditAccountNotFound),
        (
            "two currencies",
            NewTransfer { credit: id(4), ledger: given("JPY"), ..single(1) },
            C::AccountsMustHaveTheSameLedger,
        ),
        (
            "third ledger",
            NewTransfer { ledger: given("JPY"), debit: id(7), ..single(1) },
            C::TransferMustHaveTheSameLedgerAsAccounts,
        ),
        ("unknown pending", NewTransfer { debit: id(8), ..post_full(1, 77) }, C::PendingTransferNotFound),
        ("another tenant's pending", post_full(1, 107), C::PendingTransferNotFound),
        (
            "a single as pending",
            NewTransfer { debit: id(8), ..post_full(1, 100) },
            C::PendingTransferNotPending,
        ),
        ("a post as pending", void(1, 103), C::PendingTransferNotPending),
        (
            "pending of another debit",
            NewTransfer { debit: id(8), credit: id(7), ..post_full(1, 101) },
            C::PendingTransferHasDifferentDebitAccountId,
        ),
        (
            "pending of another credit",
            NewTransfer { credit: id(8), ledger: given("USD"), ..post_full(1, 101) },
            C::PendingTransferHasDifferentCreditAccountId,
        ),
        (
            "pending of another ledger",
            NewTransfer { ledger: given("USD"), code: given("tax"), ..post_full(1, 101) },
            C::PendingTransferHasDifferentLedger,
        ),
        (
            "pending of another code",
            NewTransfer { code: given("tax"), ..post(1, 101, 11) },
            C::PendingTransferHasDifferentCode,
        ),
        ("more than reserved", post(1, 101, 11), C::ExceedsPendingTransferAmount),
        ("more than reserved of one posted", post(1, 102, 11), C::ExceedsPendingTransferAmount),
        ("void of more", NewTransfer { amount: 11, ..void(1, 101) }, C::ExceedsPendingTransferAmount),
        ("void of a part", NewTransfer { amount: 9, ..void(1, 104) }, C::PendingTransferHasDifferentAmount),
        ("posted before", post_full(1, 102), C::PendingTransferAlreadyPosted),
        ("posted before, now void", void(1, 102), C::PendingTransferAlreadyPosted),
        ("voided before", void(1, 104), C::PendingTransferAlreadyVoided),
        ("lapsed", post_full(1, 106), C::PendingTransferExpired),
        // The balances.
        (
            "overflow on the debit side",
            NewTransfer { debit: id(7), credit: id(6), timeout_s: u32::MAX, ..pending(1, 0) },
            C::OverflowsBalance,
        ),
        (
            "overflow on the credit side",
            NewTransfer { debit: id(3), credit: id(7), ..single(1) },
            C::OverflowsBalance,
        ),
        (
            "more than the credits",
            NewTransfer { debit: id(3), credit: id(6), ..single(1) },
            C::ExceedsCredits,
        ),
        ("more reserved than the credits", NewTransfer { debit: id(3), ..pending(1, 0) }, C::ExceedsCredits),
        ("more than the debits", NewTransfer { credit: id(6), ..single(1) }, C::ExceedsDebits),
        // And what is right.
        ("nothing moved", NewTransfer { amount: 0, debit: id(3), credit: id(6), ..single(1) }, C::Created),
        ("up to the brim", NewTransfer { amount: 5, debit: id(7), ..single(1) }, C::Created),
        ("nothing posted of a pending", post(1, 101, 0), C::Created),
        ("a void that names the whole", NewTransfer { amount: 10, ..void(1, 101) }, C::Created),
    ];
    for (name, item, code) in cases {
        let mut set = history();
        assert_eq!(one(&mut set, &item), code, "{name}");
    }
}

#[test]
fn a_timeout_beyond_the_range_of_time_is_refused_before_the_limits() {
    let mut set = ledger();
    let item = NewTransfer { debit: id(3), ..pending(1, u32::MAX) };
    let late = Timestamp::from_nanos(i64::MAX - 10);
    assert_eq!(execute(std::slice::from_ref(&item), late, &mut set)[0].code, C::OverflowsTimeout);
    assert_eq!(execute(&[item], at(NOW), &mut set)[0].code, C::ExceedsCredits, "the id was not burned");
}

#[test]
fn exists_answers_with_the_original_time_and_all_other_failures_with_none() {
    let mut set = ledger();
    let first = execute(&[single(1), single(2)], at(NOW), &mut set);
    assert_eq!(first[0], TransferResult { code: C::Created, timestamp: Some(at(NOW)) });
    assert_eq!(first[1], TransferResult { code: C::Created, timestamp: Some(at(NOW + 1)) });
    let again = execute(&[single(2), linked(single(1))], at(NOW + SECOND), &mut set);
    assert_eq!(again[0], TransferResult { code: C::Exists, timestamp: Some(at(NOW + 1)) });
    assert_eq!(again[1], TransferResult { code: C::LinkedEventChainOpen, timestamp: None });
}

#[test]
fn times_increase_even_where_the_clock_was_set_back() {
    let mut set = ledger();
    let results = execute(&[single(1)], at(NOW), &mut set);
    assert_eq!(results[0].timestamp, Some(at(NOW)));
    let results = execute(&[single(2)], at(5), &mut set);
    assert_eq!(results[0].timestamp, Some(at(NOW + 1)));
}

#[test]
fn causes_that_may_pass_burn_the_id_and_others_do_not() {
    let burning = [
        NewTransfer { debit: id(77), ..single(1) },
        NewTransfer { credit: id(77), ..single(1) },
        post_full(1, 77),
        NewTransfer { debit: id(3), ..single(1) },
        NewTransfer { credit: id(6), ..single(1) },
    ];
    for item in burning {
        let mut set = history();
        assert_ne!(one(&mut set, &item), C::Created);
        assert_eq!(one(&mut set, &single(1)), C::IdAlreadyFailed, "{item:?}");
        assert_eq!(one(&mut set, &NewTransfer { amount: -1, ..single(1) }), C::IdAlreadyFailed);
    }
    let sparing = [
        NewTransfer { amount: -1, ..single(1) },
        NewTransfer { credit: id(4), ..single(1) },
        NewTransfer { credit: id(7), ..single(1) },
        post_full(1, 102),
        post_full(1, 106),
        post(1, 101, 11),
    ];
    for item in sparing {
        let mut set = history();
        assert_ne!(one(&mut set, &item), C::Created);
        assert_eq!(one(&mut set, &single(1)), C::Created, "{item:?}");
    }
}

#[test]
fn a_chain_is_made_wholly_or_not_at_all() {
    use C::{Created, DebitAccountNotFound, LinkedEventFailed as Failed};
    let mut set = ledger();
    let broken = NewTransfer { debit: id(77), ..single(3) };
    let batch = [linked(single(1)), linked(single(2)), linked(broken), single(4), single(5)];
    assert_eq!(run(&mut set, &batch), [Failed, Failed, DebitAccountNotFound, Failed, Created]);
    assert_eq!(
        set.account(account_id(1)).unwrap().balances.debits_posted,
        10,
        "only the one outside the chain"
    );
    // Only the id of the item that failed is burned.
    let mended = [linked(single(1)), linked(single(2)), single(4), single(3)];
    assert_eq!(run(&mut set, &mended), [Created, Created, Created, C::IdAlreadyFailed]);
}

#[test]
fn an_open_chain_is_not_even_tried() {
    use C::{Created, LinkedEventChainOpen as Open, LinkedEventFailed as Failed};
    let mut set = ledger();
    let broken = NewTransfer { debit: id(77), ..single(2) };
    let batch = [single(1), linked(broken), linked(single(3))];
    assert_eq!(run(&mut set, &batch), [Created, Failed, Open]);
    assert_eq!(run(&mut set, &[single(2), single(3)]), [Created, Created], "no id was burned");
    assert_eq!(run(&mut set, &[linked(single(9))]), [Open]);
}

#[test]
fn a_chain_sent_again_answers_as_a_replay_only_if_it_was_made_as_a_whole() {
    use C::{Created, Exists, LinkedEventFailed as Failed};
    let mut set = ledger();
    let chain = [linked(single(1)), single(2)];
    assert_eq!(run(&mut set, &chain), [Created, Created]);
    assert_eq!(run(&mut set, &chain), [Exists, Exists]);
    assert_eq!(run(&mut set, &[linked(single(1)), single(3)]), [Exists, Failed]);
    assert_eq!(run(&mut set, &[linked(single(4)), single(2)]), [Failed, Exists]);
    assert_eq!(run(&mut set, &[linked(single(2)), single(5)]), [C::ExistsWithDifferentFlags, Failed]);
    assert_eq!(run(&mut set, &[single(3), single(4)]), [Created, Created]);
}

#[test]
fn a_chain_may_reserve_and_resolve_and_its_rollback_restores_the_reservation() {
    use C::{Created, LinkedEventFailed as Failed};
    let mut set = ledger();
    assert_eq!(run(&mut set, &[linked(pending(1, 0)), post(2, 1, 7)]), [Created, Created]);
    assert_eq!(one(&mut set, &pending(3, 0)), Created);
    let before = set.account(account_id(1)).unwrap().balances;
    let broken = NewTransfer { amount: -1, ..single(5) };
    assert_eq!(run(&mut set, &[linked(void(4, 3)), broken]), [Failed, C::AmountInvalid]);
    assert_eq!(set.account(account_id(1)).unwrap().balances, before);
    assert_eq!(one(&mut set, &void(4, 3)), Created);
    let balances = set.account(account_id(1)).unwrap().balances;
    assert_eq!((balances.debits_pending, balances.debits_posted), (0, 7));
    let balances = set.account(account_id(2)).unwrap().balances;
    assert_eq!((balances.credits_pending, balances.credits_posted), (0, 7));
}

#[test]
fn limits_count_what_is_reserved_and_a_release_makes_room() {
    let mut set = ledger();
    let fund = NewTransfer { debit: id(1), credit: id(3), amount: 20, ..single(1) };
    let spend = |bits, timeout_s| NewTransfer { debit: id(3), amount: 15, ..pending(bits, timeout_s) };
    assert_eq!(run(&mut set, &[fund, spend(2, 1), spend(3, 0)]), [C::Created, C::Created, C::ExceedsCredits]);
    assert_eq!(expire(&[transfer_id(2)], at(NOW), &mut set), 0, "not before its time");
    assert_eq!(expire(&[transfer_id(2)], at(NOW + 2 * SECOND), &mut set), 1);
    assert_eq!(expire(&[transfer_id(2)], at(NOW + 3 * SECOND), &mut set), 0, "once");
    assert!(matches!(set.known(transfer_id(2)), Some(Known::Reserved(..))));
    assert_eq!(one(&mut set, &spend(4, 0)), C::Created);
}

#[test]
fn a_reservation_lapses_at_its_second_and_not_before() {
    for (nanos, code) in [(SECOND - 1, C::Created), (SECOND, C::PendingTransferExpired)] {
        let mut set = ledger();
        assert_eq!(one(&mut set, &pending(1, 1)), C::Created);
        assert_eq!(execute(&[post_full(2, 1)], at(NOW + nanos), &mut set)[0].code, code);
    }
}
