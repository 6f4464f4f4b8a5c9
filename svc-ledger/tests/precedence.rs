//! The order of precedence: every result code of a transfer by a fault of its own, and every two faults that
//! can meet in one item. The answer is always the one with the lower number.

#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, sync::Arc};

use support::{account, account_id, at, given, pending, post_full, single, transfer_id, void};
use svc_ledger::domain::{
    Account, AccountFlags, Given, Kind, Known, NewTransfer, ReservationState, Transfer, TransferCode as C,
    TransferFlags as F, WorkingSet, execute,
};

/// Late enough for the longest timeout to reach beyond the end of time.
const NOW: i64 = 7_000_000_000_000_000_000;

/// So much that two sums of a legal account can overflow at once.
const MOST: i64 = i64::MAX - 5;

/// An item and all that it meets.
#[derive(Clone)]
struct World {
    item: NewTransfer,
    debit: Account,
    credit: Account,
    /// What is known of the item's own id.
    own: Option<Known>,
    /// What is known of transfer 101, the reservation that resolutions name.
    reservation: Option<(Transfer, ReservationState)>,
}

impl World {
    fn of(item: NewTransfer) -> Self {
        let reservation = Transfer { kind: Kind::Pending { timeout_s: 0 }, ..made(101) };
        Self {
            item,
            debit: account(1),
            credit: account(2),
            own: None,
            reservation: Some((reservation, ReservationState::Open)),
        }
    }

    fn taken(item: NewTransfer, own: Transfer) -> Self {
        Self { own: Some(Known::Made(Arc::new(own))), ..Self::of(item) }
    }

    fn answer(&self) -> C {
        let mut set = WorkingSet::new(at(NOW - 1));
        if let Some((reservation, state)) = &self.reservation {
            let amount = reservation.amount;
            let reservation = Arc::new(reservation.clone());
            let known = match reservation.kind {
                Kind::Pending { .. } => Known::Reserved(reservation, *state),
                _ => Known::Made(reservation),
            };
            set.add_transfer(transfer_id(101), known);
            // The accounts hold what is reserved, besides what a fault puts there.
            let (mut debit, mut credit) = (self.debit.clone(), self.credit.clone());
            if self.item.pending != Given::Nothing {
                debit.balances.debits_pending += amount;
                credit.balances.credits_pending += amount;
            }
            set.add_account(debit);
            set.add_account(credit);
        } else {
            set.add_account(self.debit.clone());
            set.add_account(self.credit.clone());
        }
        if let (Some(id), Some(own)) = (self.item.id.value(), &self.own) {
            set.add_transfer(*id, own.clone());
        }
        execute(std::slice::from_ref(&self.item), at(NOW), &mut set)[0].code
    }
}

/// 10 cents from 1 to 2, made long ago.
fn made(bits: u128) -> Transfer {
    Transfer {
        id: transfer_id(bits),
        timestamp: at(1_000),
        tenant: "acme".parse().unwrap(),
        kind: Kind::Single,
        modifiers: F::default(),
        debit: account_id(1),
        credit: account_id(2),
        amount: 10,
        requested: Some(10),
        ledger: "EUR".parse().unwrap(),
        code: "fee".parse().unwrap(),
        user_data: 0,
        reference: "".parse().unwrap(),
    }
}

/// A code, and what makes it the answer where nothing else is wrong.
type Fault = (C, fn(&mut World));

/// Of every item.
const ANY: [Fault; 3] = [
    (C::TimestampMustBeZero, |world| world.item.has_timestamp = true),
    (C::FlagsInvalid, |world| world.item.has_unknown_flags = true),
    (C::IdInvalid, |world| world.item.id = Given::Malformed),
];

/// Of an item whose id is taken, whatever took it.
const TAKEN: [Fault; 11] = [
    (C::ExistsWithDifferentTenant, |world| world.item.tenant = given("other")),
    (C::ExistsWithDifferentFlags, |world| world.item.flags = world.item.flags.with(F::CLOSING_DEBIT)),
    (C::ExistsWithDifferentPendingId, |world| world.item.pending = Given::Value(transfer_id(77))),
    (C::ExistsWithDifferentTimeout, |world| world.item.timeout_s += 1),
    (C::ExistsWithDifferentDebitAccountId, |world| world.item.debit = Given::Value(account_id(8))),
    (C::ExistsWithDifferentCreditAccountId, |world| world.item.credit = Given::Malformed),
    (C::ExistsWithDifferentAmount, |world| world.item.amount = -1),
    (C::ExistsWithDifferentUserData, |world| world.item.user_data = 1),
    (C::ExistsWithDifferentReference, |world| world.item.reference = None),
    (C::ExistsWithDifferentLedger, |world| world.item.ledger = given("USD")),
    (C::ExistsWithDifferentCode, |world| world.item.code = Given::Unlisted("tax".parse().unwrap())),
];

/// Of an item whose id is burned, by its own tenant or by another one.
const BURNED: [Fault; 2] = [
    (C::ExistsWithDifferentTenant, |world| world.own = Some(Known::Failed("other".parse().unwrap()))),
    (C::IdAlreadyFailed, |world| {
        world.item.tenant = given("acme");
        world.own = Some(Known::Failed("acme".parse().unwrap()));
    }),
];

/// Of every new item, by its fields alone.
const FIELDS: [Fault; 8] = [
    (C::FlagsAreMutuallyExclusive, |world| {
        world.item.flags = world.item.flags.with(F::POST_PENDING).with(F::VOID_PENDING);
    }),
    (C::TenantInvalid, |world| world.item.tenant = Given::Malformed),
    (C::AmountInvalid, |world| world.item.amount = -1),
    (C::DebitAccountIdInvalid, |world| world.item.debit = Given::Malformed),
    (C::CreditAccountIdInvalid, |world| world.item.credit = Given::Malformed),
    (C::ReferenceInvalid, |world| world.item.reference = None),
    (C::LedgerInvalid, |world| world.item.ledger = Given::Unlisted("EUR".parse().unwrap())),
    (C::Invalid, |world| world.item.code = Given::Unlisted("fee".parse().unwrap())),
];

const SAME_ACCOUNTS: Fault = (C::AccountsMustBeDifferent, |world| {
    world.item.debit = Given::Value(account_id(77));
    world.item.credit = Given::Value(account_id(77));
});

/// Of what is no reservation.
const NO_RESERVATION: [Fault; 1] =
    [(C::TimeoutReservedForPendingTransfer, |world| world.item.timeout_s = u32::MAX)];

/// Of a move at once or a reservation.
const BEGINNING: [Fault; 13] = [
    (C::PendingIdMustBeEmpty, |world| world.item.pending = Given::Malformed),
    (C::DebitAccountNotFound, |world| world.item.debit = Given::Value(account_id(78))),
    (C::CreditAccountNotFound, |world| world.item.credit = Given::Value(account_id(79))),
    (C::AccountsMustHaveTheSameLedger, |world| world.credit.ledger = "USD".parse().unwrap()),
    (C::TransferMustHaveTheSameLedgerAsAccounts, |world| world.item.ledger = given("JPY")),
    (C::DebitAccountAlreadyClosed, |world| world.debit.closed = true),
    (C::CreditAccountAlreadyClosed, |world| world.credit.closed = true),
    (C::OverflowsDebitsPosted, |world| world.debit.balances.debits_posted += 6),
    (C::OverflowsCreditsPosted, |world| world.credit.balances.credits_posted += 6),
    (C::OverflowsDebits, |world| overflow(&mut world.debit, true)),
    (C::OverflowsCredits, |world| overflow(&mut world.credit, false)),
    (C::ExceedsCredits, |world| {
        world.debit.flags = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        world.debit.limit = MOST - 1;
    }),
    (C::ExceedsDebits, |world| {
        world.credit.flags = AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS;
        world.credit.limit = MOST - 1;
    }),
];

/// Neither sum by itself, but both together.
fn overflow(account: &mut Account, debits: bool) {
    let balances = &mut account.balances;
    let (pending, posted) = if debits {
        (&mut balances.debits_pending, &mut balances.debits_posted)
    } else {
        (&mut balances.credits_pending, &mut balances.credits_posted)
    };
    *pending += 3;
    *posted += 3;
}

const MOVE: [Fault; 1] = [(C::ClosingTransferMustBePending, |world| {
    world.item.flags = world.item.flags.with(F::CLOSING_DEBIT);
})];

const RESERVE: [Fault; 3] = [
    (C::OverflowsDebitsPending, |world| world.debit.balances.debits_pending += 6),
    (C::OverflowsCreditsPending, |world| world.credit.balances.credits_pending += 6),
    (C::OverflowsTimeout, |world| world.item.timeout_s = u32::MAX),
];

/// Of a post or a void.
const RESOLUTION: [Fault; 13] = [
    (C::PendingIdInvalid, |world| world.item.pending = Given::Nothing),
    (C::PendingIdMustBeDifferent, |world| world.item.pending = world.item.id),
    (C::PendingTransferNotFound, |world| world.reservation = None),
    (C::PendingTransferNotPending, |world| {
        if let Some((transfer, _)) = &mut world.reservation {
            transfer.kind = Kind::Single;
        }
    }),
    (C::PendingTransferHasDifferentDebitAccountId, |world| world.item.debit = Given::Value(account_id(8))),
    (C::PendingTransferHasDifferentCreditAccountId, |world| world.item.credit = Given::Value(account_id(9))),
    (C::PendingTransferHasDifferentLedger, |world| world.item.ledger = given("USD")),
    (C::PendingTransferHasDifferentCode, |world| world.item.code = given("tax")),
    (C::ExceedsPendingTransferAmount, |world| world.item.amount = 11),
    (C::PendingTransferAlreadyPosted, |world| stand(world, ReservationState::Posted)),
    (C::PendingTransferAlreadyVoided, |world| stand(world, ReservationState::Voided)),
    (C::PendingTransferExpired, |world| stand(world, ReservationState::Expired)),
    (C::PendingTransferExpired, |world| {
        if let Some((Transfer { kind: Kind::Pending { timeout_s }, .. }, _)) = &mut world.reservation {
            *timeout_s = 1;
        }
    }),
];

fn stand(world: &mut World, state: ReservationState) {
    if let Some((_, now)) = &mut world.reservation {
        *now = state;
    }
}

const POST: [Fault; 2] = [
    (C::DebitAccountAlreadyClosed, |world| world.debit.closed = true),
    (C::CreditAccountAlreadyClosed, |world| world.credit.closed = true),
];

const VOID: [Fault; 1] = [(C::PendingTransferHasDifferentAmount, |world| world.item.amount = 9)];

/// Tries each fault alone, and each two of them: first the later one is made, then the earlier one, so that
/// where both would set the same field the earlier has it.
fn check(name: &str, world: &World, without: C, parts: &[&[Fault]], seen: &mut BTreeSet<i32>) {
    assert_eq!(world.answer(), without, "{name}");
    seen.insert(without.into());
    let mut faults = parts.concat();
    faults.sort_by_key(|(code, _)| i32::from(*code));
    for (index, (code, spoil)) in faults.iter().enumerate() {
        let mut alone = world.clone();
        spoil(&mut alone);
        assert_eq!(alone.answer(), *code, "{name}: {code:?} alone");
        for (later, spoil_first) in &faults[index + 1..] {
            let mut both = world.clone();
            spoil_first(&mut both);
            spoil(&mut both);
            assert_eq!(both.answer(), *code, "{name}: {code:?} and {later:?}");
        }
        seen.insert((*code).into());
    }
}

#[test]
fn of_any_two_faults_the_earlier_is_the_answer() {
    let seen = &mut BTreeSet::new();
    let of_new: [&[Fault]; 3] = [&ANY, &BURNED, &FIELDS];
    let with = |more: &[&'static [Fault]]| [&of_new, more].concat();

    let most =
        |item: NewTransfer| World { reservation: None, ..World::of(NewTransfer { amount: MOST, ..item }) };
    let single_faults = with(&[&NO_RESERVATION, &BEGINNING, &MOVE, &[SAME_ACCOUNTS]]);
    check("a move", &most(single(1)), C::Created, &single_faults, seen);
    let reserve_faults = with(&[&BEGINNING, &RESERVE, &[SAME_ACCOUNTS]]);
    check("a reservation", &most(pending(1, 0)), C::Created, &reserve_faults, seen);

    let post_faults = with(&[&NO_RESERVATION, &RESOLUTION, &POST, &[SAME_ACCOUNTS]]);
    let post = NewTransfer { post_full_amount: false, amount: 10, ..post_full(1, 101) };
    check("a post", &World::of(post), C::Created, &post_faults, seen);
    let void_faults = with(&[&NO_RESERVATION, &RESOLUTION, &VOID, &[SAME_ACCOUNTS]]);
    check("a void", &World::of(void(1, 101)), C::Created, &void_faults, seen);

    let taken: [&[Fault]; 2] = [&ANY, &TAKEN];
    check("a move again", &World::taken(single(1), made(1)), C::Exists, &taken, seen);
    let resolved = |kind| Transfer { kind, amount: 10, requested: Some(10), ..made(1) };
    let own = resolved(Kind::Post { pending: transfer_id(101) });
    let post = NewTransfer { post_full_amount: false, amount: 10, ..post_full(1, 101) };
    check("a post again", &World::taken(post, own), C::Exists, &taken, seen);
    let own = resolved(Kind::Void { pending: transfer_id(101) });
    check("a void again", &World::taken(void(1, 101), own), C::Exists, &taken, seen);

    let all: BTreeSet<i32> =
        (C::Created as i32..=C::ExceedsDebits as i32).filter(|code| !of_chains(*code)).collect();
    assert_eq!(*seen, all, "each code but those of chains has its fault");
}

/// Those have tests of their own: they are about more than one item.
fn of_chains(code: i32) -> bool {
    code == C::LinkedEventFailed as i32 || code == C::LinkedEventChainOpen as i32
}
