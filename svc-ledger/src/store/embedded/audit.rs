//! The audit of what the tables hold: the journals in one order of time, then the accounts and reservations.

use std::{collections::HashMap, sync::Arc};

use mesh::store::StoreError;
use money::Timestamp;
use rusqlite::Connection;

use super::rows::{self, Key};
use crate::domain::{
    Account, AccountFlags, AccountId, AuditReport, Auditor, Balances, Event, Kind, Side, Transfer,
    TransferFlags,
};

/// Replays everything.
pub(super) fn audit(connection: &Connection) -> Result<AuditReport, StoreError> {
    let mut auditor = Auditor::new();
    let mut book = Book { connection, accounts: HashMap::new() };
    let mut statement = connection.prepare(
        "SELECT created_at, 0 FROM accounts UNION ALL SELECT timestamp, 1 FROM transfers
         UNION ALL SELECT timestamp, 2 FROM expiries UNION ALL SELECT timestamp, 3 FROM limits ORDER BY 1",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        match book.event(rows::timestamp(row, 0)?, row.get(1)?)? {
            Some(event) => auditor.event(&event),
            None => auditor.offence(|| "a row of the journal leads nowhere".to_owned()),
        }
    }

    let columns = rows::ACCOUNT_COLUMNS;
    let mut statement = connection.prepare(&format!("SELECT {columns} FROM accounts ORDER BY created_at"))?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        auditor.account(&rows::account(row)?);
    }

    let mut statement = connection.prepare(
        "SELECT t.id, r.state FROM reservations r JOIN transfers t ON t.timestamp = r.timestamp
         ORDER BY r.timestamp",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        auditor.reservation(rows::transfer_id(row, 0)?, rows::state(row, 1)?);
    }

    // An id that leads elsewhere would let its transfer be made a second time.
    let mut statement = connection.prepare(
        "SELECT t.id FROM transfers t
         WHERE t.timestamp IS NOT (SELECT i.timestamp FROM transfer_ids i WHERE i.id = t.id)
         ORDER BY t.timestamp",
    )?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let id = rows::transfer_id(row, 0)?;
        auditor.offence(|| format!("transfer {id} is not the one that its id leads to"));
    }
    Ok(auditor.finish())
}

/// Makes events of rows. The tables do not keep balances after each movement, so they are added up.
struct Book<'a> {
    connection: &'a Connection,
    accounts: HashMap<AccountId, Account>,
}

impl Book<'_> {
    fn event(&mut self, timestamp: Timestamp, journal: i64) -> Result<Option<Event>, StoreError> {
        match journal {
            0 => self.opened(timestamp).map(Some),
            1 => {
                let Some(transfer) = self.transfer("WHERE t.timestamp = ?1", timestamp.as_nanos())? else {
                    return Ok(None);
                };
                let reserved = match transfer.pending_id() {
                    Some(pending) => self.transfer(
                        "JOIN transfer_ids i ON i.timestamp = t.timestamp WHERE i.id = ?1",
                        Key::from(pending),
                    )?,
                    None => None,
                };
                let amount = transfer.amount;
                let (pending, posted) = match transfer.kind {
                    Kind::Single => (0, amount),
                    Kind::Pending { .. } => (amount, 0),
                    Kind::Post { .. } => (-reserved.as_ref().map_or(0, |of| of.amount), amount),
                    Kind::Void { .. } => (-reserved.as_ref().map_or(0, |of| of.amount), 0),
                };
                let closes = matches!(transfer.kind, Kind::Pending { .. });
                let of = reserved.as_ref().unwrap_or(&transfer);
                let [debit, credit] = self.moved(of, pending, posted, closes);
                Ok(Some(Event::Made { transfer: Arc::new(transfer), debit, credit }))
            }
            2 => {
                let reserved_at = self
                    .connection
                    .prepare_cached("SELECT pending FROM expiries WHERE timestamp = ?1")?
                    .query_row([timestamp.as_nanos()], |row| row.get::<_, i64>(0))?;
                let Some(pending) = self.transfer("WHERE t.timestamp = ?1", reserved_at)? else {
                    return Ok(None);
                };
                let [debit, credit] = self.moved(&pending, -pending.amount, 0, false);
                Ok(Some(Event::Expired { timestamp, pending: Arc::new(pending), debit, credit }))
            }
            _ => self.limited(timestamp),
        }
    }

    fn opened(&mut self, timestamp: Timestamp) -> Result<Event, StoreError> {
        let columns = rows::ACCOUNT_COLUMNS;
        let mut find = self
            .connection
            .prepare_cached(&format!("SELECT {columns}, opened_limit FROM accounts WHERE created_at = ?1"))?;
        let mut found = find.query([timestamp.as_nanos()])?;
        let row = found.next()?.ok_or_else(|| StoreError::Corrupt("an account is gone".into()))?;
        let stored = rows::account(row)?;
        let account = Account {
            limit: row.get(14)?,
            closed: stored.flags.contains(AccountFlags::CLOSED),
            balances: Balances::default(),
            ..stored
        };
        self.accounts.insert(account.id, account.clone());
        Ok(Event::Opened(Arc::new(account)))
    }

    fn limited(&self, timestamp: Timestamp) -> Result<Option<Event>, StoreError> {
        let (number, limit) = self
            .connection
            .prepare_cached("SELECT account, value FROM limits WHERE timestamp = ?1")?
            .query_row([timestamp.as_nanos()], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let number = Timestamp::from_nanos(number);
        let account = self.accounts.values().find(|account| account.created_at == number);
        Ok(account.map(|account| Event::Limited { timestamp, account: account.id, number, limit }))
    }

    fn transfer(&self, condition: &str, key: impl rusqlite::ToSql) -> Result<Option<Transfer>, StoreError> {
        let columns = rows::TRANSFER_COLUMNS;
        let mut find =
            self.connection.prepare_cached(&format!("SELECT {columns} FROM transfers t {condition}"))?;
        let mut found = find.query([key])?;
        found.next()?.map(rows::transfer).transpose()
    }

    fn moved(&mut self, of: &Transfer, pending: i64, posted: i64, closes: bool) -> [Side; 2] {
        let mut side = |id: AccountId, closing: TransferFlags, is_debit: bool| {
            let Some(account) = self.accounts.get_mut(&id) else {
                let number = Timestamp::EPOCH;
                return Side { number, after: Balances::default(), closed: false, has_history: false };
            };
            let balances = &mut account.balances;
            let (reserved, made) = if is_debit {
                (&mut balances.debits_pending, &mut balances.debits_posted)
            } else {
                (&mut balances.credits_pending, &mut balances.credits_posted)
            };
            *reserved = reserved.saturating_add(pending);
            *made = made.saturating_add(posted);
            if of.modifiers.contains(closing) {
                account.closed = closes;
            }
            Side {
                number: account.created_at,
                after: account.balances,
                closed: account.closed,
                has_history: account.flags.contains(AccountFlags::HISTORY),
            }
        };
        [
            side(of.debit, TransferFlags::CLOSING_DEBIT, true),
            side(of.credit, TransferFlags::CLOSING_CREDIT, false),
        ]
    }
}
