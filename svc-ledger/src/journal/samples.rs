//! Events for tests: any that the domain has, from a seed.

use std::sync::Arc;

use fastrand::Rng;
use money::Timestamp;

use crate::domain::{
    Account, AccountFlags, AccountId, Balances, Event, Kind, Side, Transfer, TransferFlags, TransferId,
};

/// A key that is no secret.
pub(crate) fn key(byte: u8) -> super::JournalKey {
    super::JournalKey::take(&mut [byte; 32])
}

/// Some events of every kind, with times that increase.
pub(crate) fn events(rng: &mut Rng, count: usize, last: &mut i64) -> Vec<Event> {
    (0..count).map(|_| event(rng, last)).collect()
}

/// One event, later than the last.
pub(crate) fn event(rng: &mut Rng, last: &mut i64) -> Event {
    *last += 1 + rng.i64(0..3) * 1_000;
    let timestamp = Timestamp::from_nanos(*last);
    match rng.u8(0..9) {
        0 => Event::Opened(Arc::new(account(rng, timestamp))),
        1 => {
            let made = Timestamp::from_nanos(number(rng));
            let pending = Arc::new(transfer(rng, made));
            Event::Expired { timestamp, pending, debit: side(rng), credit: side(rng) }
        }
        2 => Event::Burned { tenant: tenant(rng).parse().unwrap(), id: transfer_id(rng) },
        3 => Event::Limited {
            timestamp,
            account: account_id(rng),
            number: Timestamp::from_nanos(number(rng)),
            limit: number(rng),
        },
        4 => Event::TimesClosed { until: Timestamp::from_nanos(*last + rng.i64(..) % 1_000_000_000) },
        _ => {
            Event::Made { transfer: Arc::new(transfer(rng, timestamp)), debit: side(rng), credit: side(rng) }
        }
    }
}

/// Any account.
pub(crate) fn account(rng: &mut Rng, created_at: Timestamp) -> Account {
    Account {
        id: account_id(rng),
        tenant: tenant(rng).parse().unwrap(),
        ledger: ledger(rng).parse().unwrap(),
        code: code(rng).parse().unwrap(),
        flags: AccountFlags::from_bits(rng.u8(0..16)).unwrap(),
        user_data: number(rng),
        reference: reference(rng).parse().unwrap(),
        limit: number(rng),
        closed: rng.bool(),
        balances: if rng.bool() { Balances::default() } else { balances(rng) },
        created_at,
    }
}

/// Any transfer.
pub(crate) fn transfer(rng: &mut Rng, timestamp: Timestamp) -> Transfer {
    let kind = match rng.u8(0..4) {
        0 => Kind::Single,
        1 => Kind::Pending { timeout_s: rng.u32(..) >> rng.u32(0..32) },
        2 => Kind::Post { pending: transfer_id(rng) },
        _ => Kind::Void { pending: transfer_id(rng) },
    };
    let amount = number(rng);
    let requested = match rng.u8(0..3) {
        0 => None,
        1 => Some(amount),
        _ => Some(number(rng)),
    };
    Transfer {
        id: transfer_id(rng),
        timestamp,
        tenant: tenant(rng).parse().unwrap(),
        kind,
        modifiers: TransferFlags::from_bits(rng.u8(..)),
        debit: account_id(rng),
        credit: account_id(rng),
        amount,
        requested,
        ledger: ledger(rng).parse().unwrap(),
        code: code(rng).parse().unwrap(),
        user_data: number(rng),
        reference: reference(rng).parse().unwrap(),
    }
}

fn side(rng: &mut Rng) -> Side {
    let number = Timestamp::from_nanos(number(rng));
    Side { number, after: balances(rng), closed: rng.bool(), has_history: rng.bool() }
}

fn balances(rng: &mut Rng) -> Balances {
    Balances {
        debits_pending: number(rng),
        debits_posted: number(rng),
        credits_pending: number(rng),
        credits_posted: number(rng),
    }
}

/// Of any size and sign, the ends of the range and zero among them.
fn number(rng: &mut Rng) -> i64 {
    match rng.u8(0..16) {
        0 => 0,
        1 => i64::MIN,
        2 => i64::MAX,
        _ => rng.i64(..) >> rng.u32(0..64),
    }
}

fn account_id(rng: &mut Rng) -> AccountId {
    AccountId::new(rng.u128(1..u128::MAX)).unwrap()
}

fn transfer_id(rng: &mut Rng) -> TransferId {
    TransferId::new(rng.u128(1..u128::MAX)).unwrap()
}

fn tenant(rng: &mut Rng) -> &'static str {
    ["acme", "globex-eu", "initech"][rng.usize(0..3)]
}

fn ledger(rng: &mut Rng) -> &'static str {
    ["EUR", "USD", "POINTS22"][rng.usize(0..3)]
}

fn code(rng: &mut Rng) -> &'static str {
    ["fee", "processor_clearing"][rng.usize(0..2)]
}

fn reference(rng: &mut Rng) -> String {
    if rng.bool() { String::new() } else { "ü".repeat(rng.usize(0..=128)) }
}

/// One event of each kind, plain ones, as docs/ledger-journal.md shows them.
pub(crate) fn golden() -> Vec<Event> {
    let noon = 1_800_000_000_000_000_000;
    let at = |nanos: i64| Timestamp::from_nanos(noon + nanos);
    let account_id = |bits| AccountId::new(bits).unwrap();
    let transfer_id = |bits| TransferId::new(bits).unwrap();
    let account = Account {
        id: account_id(0xa1),
        tenant: "acme".parse().unwrap(),
        ledger: "EUR".parse().unwrap(),
        code: "cash".parse().unwrap(),
        flags: AccountFlags::HISTORY,
        user_data: -2,
        reference: "till 7".parse().unwrap(),
        limit: 500,
        closed: false,
        balances: Balances::default(),
        created_at: at(0),
    };
    let reservation = Transfer {
        id: transfer_id(0xb1),
        timestamp: at(10),
        tenant: "acme".parse().unwrap(),
        kind: Kind::Pending { timeout_s: 60 },
        modifiers: TransferFlags::LINKED,
        debit: account_id(0xa1),
        credit: account_id(0xa2),
        amount: 300,
        requested: Some(300),
        ledger: "EUR".parse().unwrap(),
        code: "sale".parse().unwrap(),
        user_data: 0,
        reference: "".parse().unwrap(),
    };
    let side = |number: i64, debits_pending, credits_pending, has_history| Side {
        number: at(number),
        after: Balances { debits_pending, credits_pending, ..Balances::default() },
        closed: false,
        has_history,
    };
    let pending = Arc::new(reservation);
    vec![
        Event::Opened(Arc::new(account)),
        Event::Made {
            transfer: pending.clone(),
            debit: side(0, 300, 0, true),
            credit: side(-5, 0, 300, false),
        },
        Event::Expired {
            timestamp: at(60_000_000_010),
            pending,
            debit: side(0, 0, 0, true),
            credit: side(-5, 0, 0, false),
        },
        Event::Burned { tenant: "acme".parse().unwrap(), id: transfer_id(0xb2) },
        Event::Limited { timestamp: at(60_000_000_011), account: account_id(0xa1), number: at(0), limit: 0 },
    ]
}

/// What comes second there: the one event that the first version did not have.
pub(crate) fn golden_of_version_2() -> Vec<Event> {
    vec![Event::TimesClosed { until: Timestamp::from_nanos(1_800_000_062_000_000_000) }]
}

/// The bytes of an example in docs/ledger-journal.md: [`golden`] as record 1, [`golden_of_version_2`] as record 2, with
/// the key 00 01 … 1f.
pub(crate) fn golden_record(sequence: usize) -> Vec<u8> {
    let document = include_str!("../../../docs/ledger-journal.md");
    let block = document.split("```hex").nth(sequence).unwrap().split("```").next().unwrap();
    let digits: Vec<u32> = block
        .lines()
        .flat_map(|line| line.split('|').next().unwrap().chars())
        .filter_map(|digit| digit.to_digit(16))
        .collect();
    digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).unwrap()).collect()
}
