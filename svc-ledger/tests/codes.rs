//! What transfers do, one by one and in chains, and what refused ones leave behind. (Which of two causes is
//! the answer is in `precedence.rs`.)

#![allow(clippy::unwrap_used, clippy::panic)]

mod support;

use money::Timestamp;
use support::{
    SECOND, account, account_id, at, given, linked, pending, post, post_full, single, transfer_id, void,
};
use svc_ledger::domain::{
    AccountFlags, Balances, Given, Known, LimitCode, NewLimit, NewTransfer, TransferCode as C,
    TransferFlags as F, TransferResult, WorkingSet, execute, expire, set_limits,
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

const FAILED: C = C::IdAlreadyFailed;

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
        NewTransfer { reference: "pay_1".parse().ok(), ..single(100) },
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
fn a_replay_may_be_spelled_otherwise_and_another_transfer_may_not() {
    let original = || NewTransfer { reference: "pay_1".parse().ok(), ..single(100) };
    let cases: Vec<(&str, NewTransfer, C)> = vec![
        ("as it was", original(), C::Exists),
        ("the whole asked for", NewTransfer { post_full_amount: true, ..original() }, DIFFERENT_AMOUNT),
        (
            "no debit",
            NewTransfer { debit: Given::Nothing, ..original() },
            C::ExistsWithDifferentDebitAccountId,
        ),
        ("a timeout of a reservation", pending(106, 2), C::ExistsWithDifferentTimeout),
        ("a code that is listed no more", NewTransfer { code: unlisted("fee"), ..original() }, C::Exists),
        ("a post", post(103, 102, 4), C::Exists),
        ("a post of the whole", post_full(103, 102), DIFFERENT_AMOUNT),
        ("a post of another", post(103, 101, 4), C::ExistsWithDifferentPendingId),
        (
            "a post, spelled out",
            NewTransfer { debit: id(1), code: given("fee"), ..post(103, 102, 4) },
            C::Exists,
        ),
        ("a void", void(105, 104), C::Exists),
        ("a void, spelled out", NewTransfer { amount: 10, ..void(105, 104) }, C::Exists),
        ("a void of a part", NewTransfer { amount: 9, ..void(105, 104) }, DIFFERENT_AMOUNT),
        (
            "another tenant's",
            NewTransfer { tenant: given("other"), ..original() },
            C::ExistsWithDifferentTenant,
        ),
        (
            "another tenant's, all else wrong: nothing more is said",
            NewTransfer { tenant: given("other"), flags: F::PENDING, amount: -1, ..original() },
            C::ExistsWithDifferentTenant,
        ),
    ];
    for (name, item, code) in cases {
        assert_eq!(one(&mut history(), &item), code, "{name}");
    }
}

#[test]
fn what_a_request_leaves_out_or_gets_wrong_has_a_code() {
    let post_and_void = F::POST_PENDING.with(F::VOID_PENDING);
    let cases: Vec<(&str, NewTransfer, C)> = vec![
        ("no id", NewTransfer { id: Given::Nothing, ..single(1) }, C::IdInvalid),
        ("no tenant", NewTransfer { tenant: Given::Nothing, ..single(1) }, C::TenantInvalid),
        ("no debit", NewTransfer { debit: Given::Nothing, ..single(1) }, C::DebitAccountIdInvalid),
        ("no credit", NewTransfer { credit: Given::Nothing, ..pending(1, 0) }, C::CreditAccountIdInvalid),
        ("no ledger", NewTransfer { ledger: Given::Nothing, ..single(1) }, C::LedgerInvalid),
        ("no code", NewTransfer { code: Given::Nothing, ..single(1) }, C::Invalid),
        ("a malformed debit of a post", malformed_debit(post_full(1, 101)), C::DebitAccountIdInvalid),
        ("post and void", NewTransfer { flags: post_and_void, ..single(1) }, EXCLUSIVE),
        ("a balancing post", with(F::BALANCING_DEBIT, post_full(1, 101)), EXCLUSIVE),
        ("a closing void", with(F::CLOSING_CREDIT, void(1, 101)), EXCLUSIVE),
        ("closing at once", with(F::CLOSING_CREDIT, single(1)), C::ClosingTransferMustBePending),
        ("the whole of no post", NewTransfer { post_full_amount: true, ..single(1) }, C::AmountInvalid),
        ("the whole and an amount", NewTransfer { amount: 3, ..post_full(1, 101) }, C::AmountInvalid),
        ("another tenant's debit", NewTransfer { debit: id(5), ..single(1) }, C::DebitAccountNotFound),
        ("another tenant's credit", NewTransfer { credit: id(5), ..single(1) }, C::CreditAccountNotFound),
        ("another tenant's reservation", post_full(1, 107), C::PendingTransferNotFound),
        ("a move as a reservation", post_full(1, 100), C::PendingTransferNotPending),
        ("a post as a reservation", void(1, 103), C::PendingTransferNotPending),
        ("more than reserved, of one posted", post(1, 102, 11), C::ExceedsPendingTransferAmount),
        ("posted before, now void", void(1, 102), C::PendingTransferAlreadyPosted),
        ("nothing moved", NewTransfer { amount: 0, debit: id(3), credit: id(6), ..single(1) }, C::Created),
        ("up to the brim", NewTransfer { amount: 5, debit: id(7), ..single(1) }, C::Created),
        ("over the brim", NewTransfer { amount: 6, debit: id(7), ..single(1) }, C::OverflowsDebitsPosted),
        ("nothing posted of a reservation", post(1, 101, 0), C::Created),
        ("a void that names the whole", NewTransfer { amount: 10, ..void(1, 101) }, C::Created),
    ];
    for (name, item, code) in cases {
        assert_eq!(one(&mut history(), &item), code, "{name}");
    }
}

const EXCLUSIVE: C = C::FlagsAreMutuallyExclusive;
const DIFFERENT_AMOUNT: C = C::ExistsWithDifferentAmount;

fn with(flags: F, item: NewTransfer) -> NewTransfer {
    NewTransfer { flags: item.flags.with(flags), ..item }
}

fn malformed_debit(item: NewTransfer) -> NewTransfer {
    NewTransfer { debit: Given::Malformed, ..item }
}

fn unlisted<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> Given<T> {
    Given::Unlisted(text.parse().unwrap())
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
    let closed = |set: &mut WorkingSet, flag| {
        let close = NewTransfer { amount: 0, ..with(flag, pending(900, 0)) };
        assert_eq!(one(set, &close), C::Created);
    };
    for (flag, code) in
        [(F::CLOSING_DEBIT, C::DebitAccountAlreadyClosed), (F::CLOSING_CREDIT, C::CreditAccountAlreadyClosed)]
    {
        let mut set = history();
        closed(&mut set, flag);
        assert_eq!(run(&mut set, &[single(1), post_full(2, 101)]), [code, code]);
        assert_eq!(
            run(&mut set, &[void(3, 900), single(1), post_full(2, 101)]),
            [C::Created, FAILED, FAILED]
        );
    }
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
    // Nobody else is told what became of an id, no more than of one that was made.
    let mut set = history();
    assert_ne!(one(&mut set, &NewTransfer { debit: id(77), ..single(1) }), C::Created);
    for taken in [1, 101] {
        let foreign = NewTransfer { tenant: given("other"), ..single(taken) };
        assert_eq!(one(&mut set, &foreign), C::ExistsWithDifferentTenant);
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

#[test]
fn balancing_moves_what_is_there_and_at_most_the_amount() {
    let mut set = ledger();
    let fund = |bits, amount| NewTransfer { debit: id(1), credit: id(3), amount, ..single(bits) };
    let drain = |bits| NewTransfer { debit: id(3), credit: id(8), amount: 30, ..single(bits) };
    let moved = |set: &WorkingSet, bits| match set.known(transfer_id(bits)) {
        Some(Known::Made(transfer) | Known::Reserved(transfer, _)) => (transfer.amount, transfer.requested),
        other => panic!("{other:?}"),
    };
    assert_eq!(run(&mut set, &[fund(1, 20), with(F::BALANCING_DEBIT, drain(2))]), [C::Created; 2]);
    assert_eq!(moved(&set, 2), (20, Some(30)));
    // Sent again it is the same, though nothing is left to move; with another amount it is not.
    assert_eq!(one(&mut set, &with(F::BALANCING_DEBIT, drain(2))), C::Exists);
    let other = NewTransfer { amount: 20, ..with(F::BALANCING_DEBIT, drain(2)) };
    assert_eq!(one(&mut set, &other), DIFFERENT_AMOUNT);
    assert_eq!(one(&mut set, &with(F::BALANCING_DEBIT, drain(3))), C::Created);
    assert_eq!(moved(&set, 3), (0, Some(30)));
    // What is reserved is not there; a limit is.
    assert_eq!(
        run(&mut set, &[fund(4, 20), NewTransfer { amount: 15, ..with(F::PENDING, drain(5)) }]),
        [C::Created; 2]
    );
    assert_eq!(one(&mut set, &with(F::BALANCING_DEBIT.with(F::PENDING), drain(6))), C::Created);
    assert_eq!(moved(&set, 6), (5, Some(30)));
    let limit = NewLimit { account: id(3), tenant: given("acme"), limit: 7, expected: None };
    assert_eq!(set_limits(&[limit], at(NOW), &mut set)[0].code, LimitCode::Changed);
    assert_eq!(one(&mut set, &with(F::BALANCING_DEBIT, drain(7))), C::Created);
    assert_eq!(moved(&set, 7), (7, Some(30)));
    // The other side: account 8 was credited 20 + 7, so that much can be debited of it again, and account 1
    // owes the 40 it was debited.
    let back = NewTransfer { debit: id(8), credit: id(1), amount: 100, ..single(8) };
    assert_eq!(one(&mut set, &with(F::BALANCING_CREDIT.with(F::BALANCING_DEBIT), back.clone())), C::Created);
    assert_eq!(moved(&set, 8), (27, Some(100)));
    let rest = NewTransfer { id: Given::Value(transfer_id(9)), debit: id(2), ..back };
    assert_eq!(one(&mut set, &with(F::BALANCING_CREDIT, rest)), C::Created);
    assert_eq!(moved(&set, 9), (13, Some(100)));
}

#[test]
fn a_closed_account_takes_nothing_but_voids_until_what_closed_it_is_gone() {
    let mut set = ledger();
    let close = NewTransfer { amount: 0, ..with(F::CLOSING_DEBIT, pending(10, 5)) };
    assert_eq!(run(&mut set, &[pending(1, 0), pending(2, 1), close]), [C::Created; 3]);
    assert!(set.account(account_id(1)).unwrap().closed && !set.account(account_id(2)).unwrap().closed);
    let refused = [
        single(3),
        NewTransfer { debit: id(2), credit: id(1), ..single(4) },
        post_full(5, 1),
        post_full(6, 10),
        with(F::CLOSING_DEBIT, pending(7, 0)),
    ];
    let codes = run(&mut set, &refused);
    let debit = C::DebitAccountAlreadyClosed;
    assert_eq!(codes, [debit, C::CreditAccountAlreadyClosed, debit, debit, debit]);
    // A void of another reservation, and a lapse, leave it closed.
    assert_eq!(one(&mut set, &void(8, 1)), C::Created);
    assert_eq!(expire(&[transfer_id(2)], at(NOW + 3 * SECOND), &mut set), 1);
    assert!(set.account(account_id(1)).unwrap().closed);
    assert_eq!(set.account(account_id(1)).unwrap().balances, Balances::default());
    // The lapse of what closed it opens it.
    assert_eq!(expire(&[transfer_id(10)], at(NOW + 9 * SECOND), &mut set), 1);
    assert!(!set.account(account_id(1)).unwrap().closed);
    assert_eq!(one(&mut set, &single(9)), C::Created);
}

#[test]
fn the_rollback_of_a_chain_takes_closings_and_openings_back() {
    let mut set = ledger();
    let close = |bits| NewTransfer { amount: 0, ..with(F::CLOSING_CREDIT, pending(bits, 0)) };
    let broken = NewTransfer { amount: -1, ..single(99) };
    assert_eq!(run(&mut set, &[linked(close(1)), broken.clone()]), [C::LinkedEventFailed, C::AmountInvalid]);
    assert!(!set.account(account_id(2)).unwrap().closed);
    let close = close(2);
    assert_eq!(one(&mut set, &close), C::Created);
    assert_eq!(run(&mut set, &[linked(void(3, 2)), broken]), [C::LinkedEventFailed, C::AmountInvalid]);
    assert!(set.account(account_id(2)).unwrap().closed);
    assert_eq!(run(&mut set, &[linked(void(3, 2)), single(4)]), [C::Created; 2]);
    assert_eq!(set.take_events().len(), 3, "what was rolled back did not happen");
}

#[test]
fn a_lowered_limit_undoes_nothing_and_refuses_only_what_adds() {
    let mut set = ledger();
    let limit = |limit, expected| NewLimit { account: id(3), tenant: given("acme"), limit, expected };
    let set_one = |set: &mut WorkingSet, item: NewLimit| {
        let result = set_limits(&[item], at(NOW), set)[0];
        (result.code, result.limit)
    };
    let spend = |bits, amount| NewTransfer { debit: id(3), amount, ..single(bits) };
    assert_eq!(set_one(&mut set, limit(50, Some(0))), (LimitCode::Changed, Some(50)));
    assert_eq!(set_one(&mut set, limit(50, Some(0))), (LimitCode::Unchanged, Some(50)));
    assert_eq!(set_one(&mut set, limit(60, Some(0))), (LimitCode::LimitDiffers, Some(50)));
    let reserve = |bits, amount| with(F::PENDING, spend(bits, amount));
    assert_eq!(
        run(&mut set, &[reserve(1, 30), spend(2, 20), spend(3, 1)]),
        [C::Created, C::Created, C::ExceedsCredits]
    );
    assert_eq!(set_one(&mut set, limit(10, None)), (LimitCode::Changed, Some(10)));
    // Beyond its limit by 40: posting adds nothing to both sums, neither does nothing, nor money that comes in.
    let income = NewTransfer { debit: id(1), credit: id(3), ..single(5) };
    let batch = [post_full(4, 1), spend(6, 0), income, with(F::BALANCING_DEBIT, spend(7, 9)), spend(8, 1)];
    let expected = [C::Created, C::Created, C::Created, C::Created, C::ExceedsCredits];
    assert_eq!(run(&mut set, &batch), expected);
    assert_eq!(set.account(account_id(3)).unwrap().balances.debits_posted, 50);
}

#[test]
fn of_two_faults_of_a_limit_the_earlier_is_the_answer() {
    type Fault = (LimitCode, fn(&mut NewLimit));
    let faults: [Fault; 7] = [
        (LimitCode::IdInvalid, |item| item.account = Given::Malformed),
        (LimitCode::TenantInvalid, |item| item.tenant = Given::Nothing),
        (LimitCode::LimitInvalid, |item| item.limit = -1),
        (LimitCode::AccountNotFound, |item| item.account = Given::Value(account_id(77))),
        (LimitCode::AccountHasNoLimit, |item| item.account = Given::Value(account_id(1))),
        (LimitCode::Unchanged, |item| item.limit = 0),
        (LimitCode::LimitDiffers, |item| item.expected = Some(9)),
    ];
    for (index, (code, spoil)) in faults.iter().enumerate() {
        for (later, spoil_first) in &faults[index..] {
            let mut set = ledger();
            let mut item = NewLimit { account: id(3), tenant: given("acme"), limit: 5, expected: Some(0) };
            spoil_first(&mut item);
            spoil(&mut item);
            let result = set_limits(&[item], at(NOW), &mut set)[0];
            assert_eq!((result.code, result.timestamp), (*code, None), "with {later:?}");
            assert_eq!(set.take_events(), []);
        }
    }
    let foreign = NewLimit { account: id(3), tenant: given("other"), limit: 5, expected: None };
    assert_eq!(set_limits(&[foreign], at(NOW), &mut ledger())[0].code, LimitCode::AccountNotFound);
}
