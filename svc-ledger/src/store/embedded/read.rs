//! The jobs that read. Each sees one consistent, durable state.

use mesh::store::StoreError;
use money::{TenantId, Timestamp};
use rusqlite::{Connection, params, params_from_iter, types::Value};

use super::rows::{self, Key};
use crate::{
    domain::{Account, AccountId, LedgerCode, Transfer, TransferId, TrialBalance},
    store::AccountQuery,
};

/// Whether any reservation has lapsed.
pub(super) fn is_any_due(connection: &Connection, now: Timestamp) -> Result<bool, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT EXISTS (SELECT 1 FROM reservations WHERE expires_at <= ?1)")?;
    Ok(statement.query_row([now.as_nanos()], |row| row.get(0))?)
}

/// Accounts by id.
pub(super) fn accounts(
    connection: &Connection,
    tenant: &TenantId,
    ids: &[AccountId],
) -> Result<Vec<Account>, StoreError> {
    let columns = rows::ACCOUNT_COLUMNS;
    let mut statement = connection
        .prepare_cached(&format!("SELECT {columns} FROM accounts WHERE id = ?1 AND tenant = ?2"))?;
    let mut accounts = Vec::new();
    for id in ids {
        let mut found = statement.query(params![Key::from(*id), tenant.as_str()])?;
        if let Some(row) = found.next()? {
            accounts.push(rows::account(row)?);
        }
    }
    Ok(accounts)
}

/// Transfers by id.
pub(super) fn transfers(
    connection: &Connection,
    tenant: &TenantId,
    ids: &[TransferId],
) -> Result<Vec<Transfer>, StoreError> {
    let columns = rows::TRANSFER_COLUMNS;
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {columns} FROM transfer_ids i JOIN transfers t ON t.timestamp = i.timestamp
         WHERE i.id = ?1 AND t.tenant = ?2"
    ))?;
    let mut transfers = Vec::new();
    for id in ids {
        let mut found = statement.query(params![Key::from(*id), tenant.as_str()])?;
        if let Some(row) = found.next()? {
            transfers.push(rows::transfer(row)?);
        }
    }
    Ok(transfers)
}

/// A page of a tenant's accounts, newest first.
pub(super) fn list_accounts(
    connection: &Connection,
    query: &AccountQuery,
) -> Result<Vec<Account>, StoreError> {
    let columns = rows::ACCOUNT_COLUMNS;
    let mut text = format!("SELECT {columns} FROM accounts WHERE tenant = ?");
    let mut values = vec![Value::from(query.tenant.as_str().to_owned())];
    if let Some(code) = &query.code {
        text.push_str(" AND code = ?");
        values.push(code.as_str().to_owned().into());
    }
    if let Some(ledger) = &query.ledger {
        text.push_str(" AND ledger = ?");
        values.push(ledger.as_str().to_owned().into());
    }
    if let Some(before) = query.before {
        text.push_str(" AND created_at < ?");
        values.push(before.as_nanos().into());
    }
    text.push_str(" ORDER BY created_at DESC LIMIT ?");
    values.push(i64::try_from(query.limit).unwrap_or(i64::MAX).into());
    let mut statement = connection.prepare_cached(&text)?;
    let mut found = statement.query(params_from_iter(values))?;
    let mut accounts = Vec::new();
    while let Some(row) = found.next()? {
        accounts.push(rows::account(row)?);
    }
    Ok(accounts)
}

/// Sums over a tenant's accounts. Added up here, because the engine's `sum` fails beyond 64 bits.
pub(super) fn trial_balance(connection: &Connection, tenant: &TenantId) -> Result<TrialBalance, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT ledger, debits_pending, debits_posted, credits_pending, credits_posted
         FROM accounts WHERE tenant = ?1",
    )?;
    let mut found = statement.query([tenant.as_str()])?;
    let mut trial = TrialBalance::default();
    while let Some(row) = found.next()? {
        let ledger: LedgerCode = rows::parsed(row, 0, "ledger")?;
        trial.add(ledger, &rows::balances(row, 1)?);
    }
    Ok(trial)
}
