//! Builders that the tests share.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used)] // each test binary uses a part

pub mod model;

use money::Timestamp;
use svc_ledger::domain::{
    Account, AccountFlags, AccountId, Balances, Given, NewAccount, NewTransfer, Reference, TransferFlags,
    TransferId,
};

pub const SECOND: i64 = 1_000_000_000;

pub fn at(nanos: i64) -> Timestamp {
    Timestamp::from_nanos(nanos)
}

pub fn account_id(bits: u128) -> AccountId {
    AccountId::new(bits).unwrap()
}

pub fn transfer_id(bits: u128) -> TransferId {
    TransferId::new(bits).unwrap()
}

pub fn given<T: std::str::FromStr>(text: &str) -> Given<T> {
    Given::parse(text, str::parse)
}

/// An account of `acme` in EUR without a limit.
pub fn account(bits: u128) -> Account {
    Account {
        id: account_id(bits),
        tenant: "acme".parse().unwrap(),
        ledger: "EUR".parse().unwrap(),
        code: "cash".parse().unwrap(),
        flags: AccountFlags::NONE,
        user_data: 0,
        reference: Reference::default(),
        limit: 0,
        closed: false,
        balances: Balances::default(),
        created_at: at(i64::try_from(bits).unwrap()),
    }
}

pub fn new_account(account: &Account) -> NewAccount {
    NewAccount {
        id: Given::Value(account.id),
        tenant: Given::Value(account.tenant.clone()),
        ledger: Given::Value(account.ledger),
        code: Given::Value(account.code.clone()),
        flags: Some(account.flags),
        user_data: account.user_data,
        reference: Some(account.reference.clone()),
        limit: account.limit,
        has_balances: false,
        has_timestamp: false,
    }
}

/// 10 EUR cents from account 1 to account 2 of `acme`.
pub fn single(bits: u128) -> NewTransfer {
    NewTransfer {
        id: Given::Value(transfer_id(bits)),
        tenant: given("acme"),
        flags: TransferFlags::default(),
        debit: Given::Value(account_id(1)),
        credit: Given::Value(account_id(2)),
        amount: 10,
        post_full_amount: false,
        ledger: given("EUR"),
        code: given("fee"),
        pending: Given::Nothing,
        timeout_s: 0,
        user_data: 0,
        has_unknown_flags: false,
        has_timestamp: false,
        reference: Some(Reference::default()),
    }
}

pub fn pending(bits: u128, timeout_s: u32) -> NewTransfer {
    NewTransfer { flags: TransferFlags::PENDING, timeout_s, ..single(bits) }
}

pub fn post(bits: u128, of: u128, amount: i64) -> NewTransfer {
    NewTransfer { amount, flags: TransferFlags::POST_PENDING, ..resolution(bits, of) }
}

pub fn post_full(bits: u128, of: u128) -> NewTransfer {
    NewTransfer { post_full_amount: true, ..post(bits, of, 0) }
}

pub fn void(bits: u128, of: u128) -> NewTransfer {
    NewTransfer { flags: TransferFlags::VOID_PENDING, ..resolution(bits, of) }
}

fn resolution(bits: u128, of: u128) -> NewTransfer {
    NewTransfer {
        pending: Given::Value(transfer_id(of)),
        debit: Given::Nothing,
        credit: Given::Nothing,
        ledger: Given::Nothing,
        code: Given::Nothing,
        amount: 0,
        ..single(bits)
    }
}

pub fn linked(item: NewTransfer) -> NewTransfer {
    NewTransfer { flags: item.flags.with(TransferFlags::LINKED), ..item }
}
