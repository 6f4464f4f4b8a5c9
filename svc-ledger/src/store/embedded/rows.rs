//! Rows and values: how accounts and transfers are spelled in the tables.

use mesh::store::StoreError;
use money::Timestamp;
use rusqlite::{Row, ToSql, types::ToSqlOutput};

use crate::domain::{
    Account, AccountFlags, AccountId, Balances, Kind, Reference, ReservationState, Transfer, TransferFlags,
    TransferId,
};

/// The columns that [`account`] reads, in order.
pub(super) const ACCOUNT_COLUMNS: &str = "created_at, id, tenant, ledger, code, flags, \
     debits_pending, debits_posted, credits_pending, credits_posted, user_data, reference, current_limit, \
     closed";

/// The columns of `transfers t` that [`transfer`] reads, in order.
pub(super) const TRANSFER_COLUMNS: &str = "t.timestamp, t.id, t.tenant, t.kind, t.linked, t.debit, t.credit, \
     t.amount, t.ledger, t.code, t.pending_id, t.timeout_s, t.reference, t.requested, t.user_data";

/// An id as a key: 16 bytes, most significant first, so that ids that begin with the time sort by it.
pub(super) struct Key([u8; 16]);

impl From<AccountId> for Key {
    fn from(id: AccountId) -> Self {
        Self(id.bits().to_be_bytes())
    }
}

impl From<TransferId> for Key {
    fn from(id: TransferId) -> Self {
        Self(id.bits().to_be_bytes())
    }
}

impl ToSql for Key {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        self.0.as_slice().to_sql()
    }
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("the ledger holds a {what} that it cannot have written"))
}

fn bits(row: &Row<'_>, column: usize) -> Result<u128, StoreError> {
    row.get(column).map(u128::from_be_bytes).map_err(StoreError::from)
}

fn account_id(row: &Row<'_>, column: usize) -> Result<AccountId, StoreError> {
    AccountId::new(bits(row, column)?).map_err(|_| corrupt("account id"))
}

/// A transfer id in a column.
pub(super) fn transfer_id(row: &Row<'_>, column: usize) -> Result<TransferId, StoreError> {
    TransferId::new(bits(row, column)?).map_err(|_| corrupt("transfer id"))
}

/// A text in a column, parsed.
pub(super) fn parsed<T: std::str::FromStr>(
    row: &Row<'_>,
    column: usize,
    what: &str,
) -> Result<T, StoreError> {
    let text = row.get_ref(column)?.as_str().map_err(|_| corrupt(what))?;
    text.parse().map_err(|_| corrupt(what))
}

/// A point in time in a column.
pub(super) fn timestamp(row: &Row<'_>, column: usize) -> Result<Timestamp, StoreError> {
    Ok(Timestamp::from_nanos(row.get(column)?))
}

/// An account, of the columns [`ACCOUNT_COLUMNS`].
pub(super) fn account(row: &Row<'_>) -> Result<Account, StoreError> {
    Ok(Account {
        created_at: timestamp(row, 0)?,
        id: account_id(row, 1)?,
        tenant: parsed(row, 2, "tenant")?,
        ledger: parsed(row, 3, "ledger")?,
        code: parsed(row, 4, "code")?,
        flags: account_flags(row.get(5)?)?,
        user_data: row.get(10)?,
        reference: parsed(row, 11, "reference")?,
        limit: row.get(12)?,
        closed: row.get(13)?,
        balances: balances(row, 6)?,
    })
}

/// The four sums, from this column on.
pub(super) fn balances(row: &Row<'_>, first: usize) -> Result<Balances, StoreError> {
    Ok(Balances {
        debits_pending: row.get(first)?,
        debits_posted: row.get(first + 1)?,
        credits_pending: row.get(first + 2)?,
        credits_posted: row.get(first + 3)?,
    })
}

/// A transfer, of the columns [`TRANSFER_COLUMNS`].
pub(super) fn transfer(row: &Row<'_>) -> Result<Transfer, StoreError> {
    let pending = match row.get_ref(10)? {
        rusqlite::types::ValueRef::Null => None,
        _ => Some(transfer_id(row, 10)?),
    };
    let kind = match (row.get(3)?, pending) {
        (0_i64, None) => Kind::Single,
        (1, None) => Kind::Pending { timeout_s: row.get(11)? },
        (2, Some(pending)) => Kind::Post { pending },
        (3, Some(pending)) => Kind::Void { pending },
        _ => return Err(corrupt("kind of transfer")),
    };
    Ok(Transfer {
        timestamp: timestamp(row, 0)?,
        id: transfer_id(row, 1)?,
        tenant: parsed(row, 2, "tenant")?,
        kind,
        modifiers: TransferFlags::from_bits(row.get(4)?),
        debit: account_id(row, 5)?,
        credit: account_id(row, 6)?,
        amount: row.get(7)?,
        requested: row.get(13)?,
        ledger: parsed(row, 8, "ledger")?,
        code: parsed(row, 9, "code")?,
        user_data: row.get(14)?,
        reference: parsed::<Reference>(row, 12, "reference")?,
    })
}

/// The number of a kind of transfer.
pub(super) fn kind_number(kind: Kind) -> i64 {
    match kind {
        Kind::Single => 0,
        Kind::Pending { .. } => 1,
        Kind::Post { .. } => 2,
        Kind::Void { .. } => 3,
    }
}

fn account_flags(bits: u8) -> Result<AccountFlags, StoreError> {
    AccountFlags::from_bits(bits).ok_or_else(|| corrupt("flag of an account"))
}

/// The number of a reservation's state.
pub(super) fn state_number(state: ReservationState) -> i64 {
    match state {
        ReservationState::Open => 0,
        ReservationState::Posted => 1,
        ReservationState::Voided => 2,
        ReservationState::Expired => 3,
    }
}

/// A reservation's state in a column.
pub(super) fn state(row: &Row<'_>, column: usize) -> Result<ReservationState, StoreError> {
    match row.get(column)? {
        0_i64 => Ok(ReservationState::Open),
        1 => Ok(ReservationState::Posted),
        2 => Ok(ReservationState::Voided),
        3 => Ok(ReservationState::Expired),
        _ => Err(corrupt("state of a reservation")),
    }
}
