//! Rows of the tables in the words of the domain, and back.

use std::str::FromStr;

use mesh::StoreError;
use money::Timestamp;
use tokio_postgres::{Row, types::Type};
use uuid::Uuid;

use super::changes::account_flags;
use crate::domain::{
    Account, AccountId, Balances, Kind, Reference, ReservationState, Transfer, TransferFlags, TransferId,
};

/// The columns of a transfer, in the order in which they are read and written.
pub(in crate::store::postgres) const TRANSFER: &str = "at, id, debit, credit, amount, requested, user_data, pending, \
    timeout_s, flags, tenant, ledger, code, reference";

pub(super) const TRANSFER_TYPES: [Type; 14] = [
    Type::INT8,
    Type::UUID,
    Type::UUID,
    Type::UUID,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::UUID,
    Type::INT8,
    Type::INT2,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::BYTEA,
];

/// The columns of an account, in the order in which they are read and written.
pub(in crate::store::postgres) const ACCOUNT: &str = "number, id, tenant, ledger, code, flags, user_data, reference, \
    overdraft, closed, debits_pending, debits_posted, credits_pending, credits_posted";

pub(super) const ACCOUNT_TYPES: [Type; 14] = [
    Type::INT8,
    Type::UUID,
    Type::TEXT,
    Type::TEXT,
    Type::TEXT,
    Type::INT2,
    Type::INT8,
    Type::BYTEA,
    Type::INT8,
    Type::BOOL,
    Type::INT8,
    Type::INT8,
    Type::INT8,
    Type::INT8,
];

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("{what} in PostgreSQL cannot be read"))
}

/// A text that the ledger wrote, and can therefore read.
pub(super) fn parsed<T: FromStr>(row: &Row, column: usize, what: &str) -> Result<T, StoreError> {
    row.get::<_, &str>(column).parse().map_err(|_| corrupt(what))
}

fn reference(row: &Row, column: usize) -> Result<Reference, StoreError> {
    let text = std::str::from_utf8(row.get(column)).map_err(|_| corrupt("a reference"))?;
    text.parse().map_err(|_| corrupt("a reference"))
}

/// An account's id as the server keeps it.
pub(super) fn account_uuid(id: AccountId) -> Uuid {
    Uuid::from_u128(id.bits())
}

/// A transfer's id as the server keeps it.
pub(super) fn transfer_uuid(id: TransferId) -> Uuid {
    Uuid::from_u128(id.bits())
}

pub(super) fn account_id(id: Uuid) -> Result<AccountId, StoreError> {
    AccountId::new(id.as_u128()).map_err(|_| corrupt("an account's id"))
}

pub(super) fn transfer_id(id: Uuid) -> Result<TransferId, StoreError> {
    TransferId::new(id.as_u128()).map_err(|_| corrupt("a transfer's id"))
}

/// Reads the columns of [`TRANSFER`].
pub(in crate::store::postgres) fn transfer(row: &Row, first: usize) -> Result<Transfer, StoreError> {
    let flags = u8::try_from(row.get::<_, i16>(first + 9)).map_err(|_| corrupt("a transfer's flags"))?;
    let flags = TransferFlags::from_bits(flags);
    let pending = row.get::<_, Option<Uuid>>(first + 7).map(transfer_id).transpose()?;
    let has = |kind| flags.contains(kind);
    let kind = match pending {
        Some(pending) if has(TransferFlags::POST_PENDING) => Kind::Post { pending },
        Some(pending) if has(TransferFlags::VOID_PENDING) => Kind::Void { pending },
        None if has(TransferFlags::PENDING) => Kind::Pending {
            timeout_s: u32::try_from(row.get::<_, i64>(first + 8)).map_err(|_| corrupt("a timeout"))?,
        },
        None => Kind::Single,
        Some(_) => return Err(corrupt("a transfer's flags")),
    };
    Ok(Transfer {
        id: transfer_id(row.get(first + 1))?,
        timestamp: Timestamp::from_nanos(row.get(first)),
        tenant: parsed(row, first + 10, "a tenant")?,
        kind,
        modifiers: flags.without(TransferFlags::KINDS),
        debit: account_id(row.get(first + 2))?,
        credit: account_id(row.get(first + 3))?,
        amount: row.get(first + 4),
        requested: row.get(first + 5),
        ledger: parsed(row, first + 11, "a ledger")?,
        code: parsed(row, first + 12, "a code")?,
        user_data: row.get(first + 6),
        reference: reference(row, first + 13)?,
    })
}

/// Reads the columns of [`ACCOUNT`].
pub(in crate::store::postgres) fn account(row: &Row) -> Result<Account, StoreError> {
    Ok(Account {
        id: account_id(row.get(1))?,
        tenant: parsed(row, 2, "a tenant")?,
        ledger: parsed(row, 3, "a ledger")?,
        code: parsed(row, 4, "a code")?,
        flags: account_flags(row.get(5)).ok_or_else(|| corrupt("an account's flags"))?,
        user_data: row.get(6),
        reference: reference(row, 7)?,
        limit: row.get(8),
        closed: row.get(9),
        balances: balances(row, 10),
        created_at: Timestamp::from_nanos(row.get(0)),
    })
}

/// Reads four columns of balances.
pub(super) fn balances(row: &Row, first: usize) -> Balances {
    Balances {
        debits_pending: row.get(first),
        debits_posted: row.get(first + 1),
        credits_pending: row.get(first + 2),
        credits_posted: row.get(first + 3),
    }
}

pub(super) const fn state_number(state: ReservationState) -> i16 {
    match state {
        ReservationState::Open => 0,
        ReservationState::Posted => 1,
        ReservationState::Voided => 2,
        ReservationState::Expired => 3,
    }
}

pub(super) fn state(number: i16) -> Result<ReservationState, StoreError> {
    match number {
        0 => Ok(ReservationState::Open),
        1 => Ok(ReservationState::Posted),
        2 => Ok(ReservationState::Voided),
        3 => Ok(ReservationState::Expired),
        _ => Err(corrupt("a reservation's state")),
    }
}
