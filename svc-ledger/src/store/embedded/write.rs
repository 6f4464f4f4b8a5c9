//! The jobs that write: load what is touched, have it executed, write what changed.

use std::{collections::BTreeMap, sync::Arc};

use mesh::store::StoreError;
use money::Timestamp;
use rusqlite::{CachedStatement, Connection, params};
use tokio::sync::OwnedSemaphorePermit;

use super::rows::{self, Key};
use crate::{
    domain::{
        Account, AccountId, AccountResult, Event, Kind, Known, LimitResult, NewAccount, NewLimit,
        NewTransfer, ReservationState, Side, Touched, Transfer, TransferId, TransferResult, WorkingSet,
        execute, expire, open_accounts as open,
    },
    store::EXPIRE_MAX,
};

/// Opens accounts.
pub(super) fn open_accounts(
    connection: &Connection,
    batch: &[NewAccount],
    now: Timestamp,
) -> Result<Vec<AccountResult>, StoreError> {
    let mut find = AccountById::prepare(connection)?;
    let mut set = WorkingSet::new(last_timestamp(connection)?);
    for id in batch.iter().filter_map(|item| item.id.value()) {
        if let Some(account) = find.get(*id)? {
            set.add_account(account);
        }
    }
    let results = open(batch, now, &mut set);
    let mut insert = connection.prepare_cached(
        "INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, 0, 0, 0, ?7, ?8, ?9, ?9, ?10)",
    )?;
    for event in set.take_events() {
        let Event::Opened(account) = event else { continue };
        insert.execute(params![
            account.created_at.as_nanos(),
            Key::from(account.id),
            account.tenant.as_str(),
            account.ledger.as_str(),
            account.code.as_str(),
            account.flags.bits(),
            account.user_data,
            account.reference.as_str(),
            account.limit,
            account.closed,
        ])?;
    }
    Ok(results)
}

/// Sets limits.
pub(super) fn set_limits(
    connection: &Connection,
    batch: &[NewLimit],
    now: Timestamp,
) -> Result<Vec<LimitResult>, StoreError> {
    let mut set = WorkingSet::new(last_timestamp(connection)?);
    let accounts = batch.iter().filter_map(|item| item.account.value()).copied().collect();
    load(connection, Touched { transfers: Vec::new(), accounts }, &mut set)?;
    let results = crate::domain::set_limits(batch, now, &mut set);
    persist(connection, &mut set)?;
    Ok(results)
}

/// One call's transfers, and the time of the call.
pub(super) struct Batch {
    pub(super) items: Vec<NewTransfer>,
    pub(super) now: Timestamp,
    /// Its place among the waiting, given back when it is done, whether or not its caller still waits.
    pub(super) _admitted: OwnedSemaphorePermit,
}

/// Releases what has lapsed, then executes the batches one after the other on one working set: what
/// several touch is read once and written once. Chains do not reach from one batch into the next.
pub(super) fn transfer(
    connection: &Connection,
    batches: &[Batch],
) -> Result<Vec<Vec<TransferResult>>, StoreError> {
    // The ledger's time only runs forward: that of the latest call holds for all.
    let now = batches.iter().map(|batch| batch.now).max().unwrap_or(Timestamp::EPOCH);
    let mut set = WorkingSet::new(last_timestamp(connection)?);
    let mut touched = Touched::by(batches.iter().flat_map(|batch| &batch.items));
    let due = due(connection, set.next_timestamp(now))?;
    touched.transfers.extend(&due);
    load(connection, touched, &mut set)?;
    expire(&due, now, &mut set);
    let results = batches.iter().map(|batch| execute(&batch.items, now, &mut set)).collect();
    persist(connection, &mut set)?;
    Ok(results)
}

/// Releases what has lapsed.
pub(super) fn expire_due(connection: &Connection, now: Timestamp) -> Result<usize, StoreError> {
    let mut set = WorkingSet::new(last_timestamp(connection)?);
    let due = due(connection, set.next_timestamp(now))?;
    load(connection, Touched { transfers: due.clone(), accounts: Vec::new() }, &mut set)?;
    let released = expire(&due, now, &mut set);
    persist(connection, &mut set)?;
    Ok(released)
}

/// The time of the ledger's last event. Read from the journals' ends instead of being kept beside
/// them: it cannot disagree with them, and costs no write.
fn last_timestamp(connection: &Connection) -> Result<Timestamp, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT max(coalesce((SELECT max(timestamp) FROM transfers), 0),
                    coalesce((SELECT max(timestamp) FROM expiries), 0),
                    coalesce((SELECT max(timestamp) FROM limits), 0),
                    coalesce((SELECT max(created_at) FROM accounts), 0))",
    )?;
    Ok(Timestamp::from_nanos(statement.query_row([], |row| row.get(0))?))
}

fn due(connection: &Connection, now: Timestamp) -> Result<Vec<TransferId>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT t.id FROM reservations r JOIN transfers t ON t.timestamp = r.timestamp
         WHERE r.expires_at <= ?1 ORDER BY r.expires_at, r.timestamp LIMIT ?2",
    )?;
    let limit = i64::try_from(EXPIRE_MAX).unwrap_or(i64::MAX);
    let mut found = statement.query(params![now.as_nanos(), limit])?;
    let mut due = Vec::new();
    while let Some(row) = found.next()? {
        due.push(rows::transfer_id(row, 0)?);
    }
    Ok(due)
}

struct AccountById<'a>(CachedStatement<'a>);

impl<'a> AccountById<'a> {
    fn prepare(connection: &'a Connection) -> Result<Self, StoreError> {
        let columns = rows::ACCOUNT_COLUMNS;
        Ok(Self(connection.prepare_cached(&format!("SELECT {columns} FROM accounts WHERE id = ?1"))?))
    }

    fn get(&mut self, id: AccountId) -> Result<Option<Account>, StoreError> {
        let mut found = self.0.query([Key::from(id)])?;
        found.next()?.map(rows::account).transpose()
    }
}

/// Brings into the set what is touched.
fn load(connection: &Connection, touched: Touched, set: &mut WorkingSet) -> Result<(), StoreError> {
    let columns = rows::TRANSFER_COLUMNS;
    // Most ids are new: the joins are only walked for those that are not.
    let mut find = connection.prepare_cached(&format!(
        "SELECT {columns}, r.state FROM transfer_ids i
         LEFT JOIN transfers t ON t.timestamp = i.timestamp
         LEFT JOIN reservations r ON r.timestamp = i.timestamp
         WHERE i.id = ?1"
    ))?;
    let mut accounts = touched.accounts;
    for id in touched.transfers {
        let mut found = find.query([Key::from(id)])?;
        let Some(row) = found.next()? else { continue };
        let is_burned = row.get_ref(0)? == rusqlite::types::ValueRef::Null;
        let known = if is_burned {
            Known::Failed
        } else {
            let transfer = Arc::new(rows::transfer(row)?);
            if matches!(transfer.kind, Kind::Pending { .. }) {
                accounts.extend([transfer.debit, transfer.credit]);
                Known::Reserved(transfer, rows::state(row, 15)?)
            } else {
                Known::Made(transfer)
            }
        };
        set.add_transfer(id, known);
    }
    accounts.sort_unstable();
    accounts.dedup();
    let mut find = AccountById::prepare(connection)?;
    for id in accounts {
        if let Some(account) = find.get(id)? {
            set.add_account(account);
        }
    }
    Ok(())
}

/// Writes down what the set's log says: one row per transfer, one update per touched account.
fn persist(connection: &Connection, set: &mut WorkingSet) -> Result<(), StoreError> {
    let events = set.take_events();
    if events.is_empty() {
        return Ok(());
    }
    let mut writer = Writer::prepare(connection)?;
    let mut touched = BTreeMap::new();
    for event in &events {
        match event {
            Event::Made { transfer, debit, credit } => {
                writer.made(transfer, set)?;
                touched.extend([debit, credit].map(|side| (side.number, side)));
            }
            Event::Expired { timestamp, pending, debit, credit } => {
                writer.expired(*timestamp, pending)?;
                touched.extend([debit, credit].map(|side| (side.number, side)));
            }
            Event::Burned { id, .. } => writer.burned(*id)?,
            Event::Limited { timestamp, number, limit, .. } => {
                writer.limited(*timestamp, *number, *limit)?;
            }
            Event::Opened(_) => {}
        }
    }
    // Each account as its last movement left it.
    for side in touched.values() {
        writer.balances(side)?;
    }
    Ok(())
}

struct Writer<'a> {
    transfer: CachedStatement<'a>,
    id: CachedStatement<'a>,
    reserve: CachedStatement<'a>,
    resolve: CachedStatement<'a>,
    expiry: CachedStatement<'a>,
    account: CachedStatement<'a>,
    limit: CachedStatement<'a>,
    limited: CachedStatement<'a>,
}

impl<'a> Writer<'a> {
    fn prepare(connection: &'a Connection) -> Result<Self, StoreError> {
        Ok(Self {
            transfer: connection.prepare_cached(
                "INSERT INTO transfers VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
            )?,
            id: connection.prepare_cached("INSERT INTO transfer_ids VALUES (?1, ?2)")?,
            reserve: connection.prepare_cached("INSERT INTO reservations VALUES (?1, 0, ?2)")?,
            // The condition is the store's own guard: a reservation leaves the open state once.
            resolve: connection.prepare_cached(
                "UPDATE reservations SET state = ?2, expires_at = NULL WHERE timestamp = ?1 AND state = 0",
            )?,
            expiry: connection.prepare_cached("INSERT INTO expiries VALUES (?1, ?2)")?,
            account: connection.prepare_cached(
                "UPDATE accounts SET debits_pending = ?2, debits_posted = ?3,
                 credits_pending = ?4, credits_posted = ?5, closed = ?6 WHERE created_at = ?1",
            )?,
            limit: connection.prepare_cached("INSERT INTO limits VALUES (?1, ?2, ?3)")?,
            limited: connection
                .prepare_cached("UPDATE accounts SET current_limit = ?2 WHERE created_at = ?1")?,
        })
    }

    fn made(&mut self, transfer: &Transfer, set: &WorkingSet) -> Result<(), StoreError> {
        let timestamp = transfer.timestamp.as_nanos();
        self.transfer.execute(params![
            timestamp,
            Key::from(transfer.id),
            transfer.tenant.as_str(),
            rows::kind_number(transfer.kind),
            transfer.modifiers.bits(),
            Key::from(transfer.debit),
            Key::from(transfer.credit),
            transfer.amount,
            transfer.ledger.as_str(),
            transfer.code.as_str(),
            transfer.pending_id().map(Key::from),
            transfer.timeout_s(),
            transfer.reference.as_str(),
            transfer.requested,
            transfer.user_data,
        ])?;
        self.id.execute(params![Key::from(transfer.id), timestamp])?;
        match transfer.kind {
            Kind::Single => Ok(()),
            Kind::Pending { .. } => {
                let expires_at = transfer.expires_at().map(Timestamp::as_nanos);
                self.reserve.execute(params![timestamp, expires_at])?;
                Ok(())
            }
            Kind::Post { pending } => self.resolved(set, pending, ReservationState::Posted),
            Kind::Void { pending } => self.resolved(set, pending, ReservationState::Voided),
        }
    }

    fn resolved(
        &mut self,
        set: &WorkingSet,
        pending: TransferId,
        state: ReservationState,
    ) -> Result<(), StoreError> {
        let Some(Known::Reserved(pending, _)) = set.known(pending) else {
            return Err(StoreError::Corrupt(format!("{pending} was resolved and is not known")));
        };
        let updated =
            self.resolve.execute(params![pending.timestamp.as_nanos(), rows::state_number(state)])?;
        if updated == 1 {
            Ok(())
        } else {
            Err(StoreError::Corrupt(format!("reservation {} was not open in the store", pending.id)))
        }
    }

    fn expired(&mut self, timestamp: Timestamp, pending: &Transfer) -> Result<(), StoreError> {
        let reserved_at = pending.timestamp.as_nanos();
        self.expiry.execute([timestamp.as_nanos(), reserved_at])?;
        self.resolve.execute([reserved_at, rows::state_number(ReservationState::Expired)])?;
        Ok(())
    }

    fn burned(&mut self, id: TransferId) -> Result<(), StoreError> {
        self.id.execute(params![Key::from(id), None::<i64>])?;
        Ok(())
    }

    fn balances(&mut self, side: &Side) -> Result<(), StoreError> {
        let balances = side.after;
        self.account.execute([
            side.number.as_nanos(),
            balances.debits_pending,
            balances.debits_posted,
            balances.credits_pending,
            balances.credits_posted,
            side.closed.into(),
        ])?;
        Ok(())
    }

    fn limited(&mut self, timestamp: Timestamp, number: Timestamp, limit: i64) -> Result<(), StoreError> {
        self.limit.execute([timestamp.as_nanos(), number.as_nanos(), limit])?;
        self.limited.execute([number.as_nanos(), limit])?;
        Ok(())
    }
}
