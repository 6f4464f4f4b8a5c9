//! Taking up records: everything of an `apply` in one transaction, with the watermark.

use std::sync::{Arc, PoisonError};

use mesh::store::StoreError;
use money::TenantId;
use rusqlite::{CachedStatement, Connection, ErrorCode, Transaction, TransactionBehavior, params};

use super::{
    Shared,
    body::{self, Movement, Spelling},
    corrupt, lock,
    posting::{self, Entry},
    view::{Generation, Tail, View},
    words::Words,
};
use crate::{
    domain::{Account, AccountFlags, Code, Event, Kind, LedgerCode, ReservationState, TransferId},
    store::ports::{Happened, Watermark},
};

/// An id, most significant byte first, so that ids that begin with the time sort by it.
type Id = [u8; 16];

fn refused(why: String) -> StoreError {
    StoreError::Commit(why)
}

/// Takes up what follows.
pub(super) fn apply(shared: &Shared, records: &[Happened]) -> Result<(), StoreError> {
    let mut connection = lock(&shared.writer);
    let before = Arc::clone(&shared.view.read().unwrap_or_else(PoisonError::into_inner));
    let records = following(before.watermark, records)?;
    let Some(last) = records.last() else { return Ok(()) };
    let watermark = Watermark { sequence: last.sequence, hash: last.hash };

    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut after = View { watermark, ..View::clone(&before) };
    let words = Arc::clone(&before.words);
    let mut batch = Batch { words, latest_time: before.latest_time(), ..Batch::default() };
    {
        let mut tables = Tables::prepare(&transaction)?;
        for event in records.iter().flat_map(|record| record.events.iter()) {
            tables.event(event, &mut batch)?;
        }
        tables.finish(&mut batch)?;
    }
    put_words(&transaction, &before.words, &batch.words)?;
    transaction
        .prepare_cached("UPDATE watermark SET sequence = ?1, hash = ?2")?
        .execute(params![watermark.sequence.cast_signed(), watermark.hash])?;
    after.words = batch.words;
    if let Some(span) = batch.span {
        after.tail.add(span, batch.count, batch.entries);
    }
    if after.tail.count >= shared.tuning.generation {
        close_generation(&transaction, &mut after)?;
    }
    publish(shared, transaction, after)?;
    copy_log(&connection, shared.tuning.log_pages)
}

/// Those that are not held yet.
fn following(held: Watermark, records: &[Happened]) -> Result<&[Happened], StoreError> {
    let first = records.first().map_or(0, |record| record.sequence);
    for (next, record) in (first..).zip(records) {
        if record.sequence != next {
            return Err(refused(format!("record {} comes where {next} belongs", record.sequence)));
        }
        if record.sequence == held.sequence && record.hash != held.hash {
            return Err(refused(format!("record {next} is another than the one the index holds")));
        }
    }
    let fresh = records.partition_point(|record| record.sequence <= held.sequence);
    match records.get(fresh) {
        Some(first) if first.sequence != held.sequence + 1 => Err(refused(format!(
            "record {} does not follow {}, the last that the index holds",
            first.sequence, held.sequence
        ))),
        _ => Ok(&records[fresh..]),
    }
}

/// Makes a commit visible.
fn publish(shared: &Shared, transaction: Transaction<'_>, after: View) -> Result<(), StoreError> {
    // Before the commit: whoever reads without the view may not meet a word that it does not know.
    *shared.words.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after.words);
    let mut view = shared.view.write().unwrap_or_else(PoisonError::into_inner);
    transaction.commit()?;
    *view = Arc::new(after);
    Ok(())
}

/// Copies the log into the file when it has grown. A failed sync is an error here: after it nobody knows
/// what of the file is on the disk.
fn copy_log(connection: &Connection, most: i64) -> Result<(), StoreError> {
    let pages = |mode: &str| {
        connection
            .prepare_cached(&format!("PRAGMA wal_checkpoint({mode})"))?
            .query_row([], |row| Ok(row.get::<_, i64>(1)? - row.get::<_, i64>(2)?))
    };
    // Pages that questions still read are copied another time.
    if pages("NOOP")? > most {
        pages("PASSIVE")?;
    }
    Ok(())
}

/// Forgets everything.
pub(super) fn clear(shared: &Shared) -> Result<(), StoreError> {
    let mut connection = lock(&shared.writer);
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    transaction.execute_batch(
        "DELETE FROM words; DELETE FROM accounts; DELETE FROM movements; DELETE FROM ids;
         DELETE FROM resolutions; DELETE FROM generations; DELETE FROM postings;
         UPDATE watermark SET sequence = 0, hash = zeroblob(32)",
    )?;
    publish(shared, transaction, View::default())?;
    copy_log(&connection, 0)
}

fn put_words(connection: &Connection, before: &Words, after: &Words) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached("INSERT INTO words VALUES (?1, ?2)")?;
    for (number, text) in after.since(before.len()) {
        insert.execute(params![number, text])?;
    }
    Ok(())
}

/// Writes down the postings of the open generation, and opens the next.
fn close_generation(connection: &Connection, view: &mut View) -> Result<(), StoreError> {
    let Tail { span: Some((first, last)), count, runs } = std::mem::take(&mut view.tail) else {
        return Ok(());
    };
    let ordinal = view.generations.last().map_or(0, |generation| generation.ordinal + 1);
    let mut insert = connection.prepare_cached("INSERT INTO postings VALUES (?1, ?2)")?;
    posting::put_blocks(ordinal, first, &posting::merge_all(runs), |place, block| {
        Ok(insert.execute(params![place, block]).map(drop)?)
    })?;
    connection.prepare_cached("INSERT INTO generations VALUES (?1, ?2, ?3, ?4)")?.execute(params![
        ordinal,
        first,
        last,
        u32::try_from(count).unwrap_or(u32::MAX)
    ])?;
    Arc::make_mut(&mut view.generations).push(Generation { ordinal, first, last, count });
    Ok(())
}

/// What is gathered of an `apply` before it is written.
#[derive(Default)]
struct Batch {
    words: Arc<Words>,
    latest: Option<(TenantId, LedgerCode, Code, Spelling)>,
    /// Of the latest movement: times only run forward, and the lists count on it.
    latest_time: Option<i64>,
    span: Option<(i64, i64)>,
    count: usize,
    entries: Vec<Entry>,
    ids: Vec<(Id, i64)>,
    resolutions: Vec<(Id, i64, i64)>,
    body: Vec<u8>,
}

impl Batch {
    fn word(&mut self, text: &str) -> Result<u32, StoreError> {
        match self.words.number(text) {
            Some(number) => Ok(number),
            None => Arc::make_mut(&mut self.words).push(text).ok_or_else(|| refused("too many words".into())),
        }
    }

    /// The numbers of a transfer's texts, which are mostly those of the transfer before.
    fn spelling(
        &mut self,
        tenant: &TenantId,
        ledger: LedgerCode,
        code: &Code,
    ) -> Result<Spelling, StoreError> {
        if let Some((same_tenant, same_ledger, same_code, spelling)) = &self.latest
            && same_tenant == tenant
            && *same_ledger == ledger
            && same_code == code
        {
            return Ok(*spelling);
        }
        let tenant_word = self.word(tenant.as_str())?;
        let ledger_word = self.word(ledger.as_str())?;
        let spelling = Spelling { tenant: tenant_word, ledger: ledger_word, code: self.word(code.as_str())? };
        self.latest = Some((tenant.clone(), ledger, code.clone(), spelling));
        Ok(spelling)
    }

    fn resolved(&mut self, reservation: TransferId, timestamp: i64, state: ReservationState) {
        self.resolutions.push((reservation.bits().to_be_bytes(), timestamp, state_number(state)));
    }
}

/// One prepared statement per table.
struct Tables<'a> {
    account: CachedStatement<'a>,
    movement: CachedStatement<'a>,
    id: CachedStatement<'a>,
    resolution: CachedStatement<'a>,
}

impl<'a> Tables<'a> {
    fn prepare(connection: &'a Connection) -> Result<Self, StoreError> {
        Ok(Self {
            account: connection
                .prepare_cached("INSERT INTO accounts VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?,
            movement: connection.prepare_cached("INSERT INTO movements VALUES (?1, ?2)")?,
            id: connection.prepare_cached("INSERT INTO ids VALUES (?1, ?2)")?,
            resolution: connection.prepare_cached("INSERT INTO resolutions VALUES (?1, ?2, ?3)")?,
        })
    }

    fn event(&mut self, event: &Event, batch: &mut Batch) -> Result<(), StoreError> {
        match event {
            Event::Opened(account) => self.opened(account, batch),
            Event::Made { transfer, debit, credit } => {
                let timestamp = transfer.timestamp.as_nanos();
                batch.ids.push((transfer.id.bits().to_be_bytes(), timestamp));
                match transfer.kind {
                    Kind::Single | Kind::Pending { .. } => {}
                    Kind::Post { pending } => batch.resolved(pending, timestamp, ReservationState::Posted),
                    Kind::Void { pending } => batch.resolved(pending, timestamp, ReservationState::Voided),
                }
                let words = batch.spelling(&transfer.tenant, transfer.ledger, &transfer.code)?;
                self.moved(timestamp, &Movement::made(transfer, words, debit, credit), batch)
            }
            Event::Expired { timestamp, pending, debit, credit } => {
                let timestamp = timestamp.as_nanos();
                batch.resolved(pending.id, timestamp, ReservationState::Expired);
                self.moved(timestamp, &Movement::expired(debit, credit), batch)
            }
            Event::Burned { tenant, id } => {
                let owner = batch.word(tenant.as_str())?;
                batch.ids.push((id.bits().to_be_bytes(), burned_by(owner)));
                Ok(())
            }
            Event::Limited { .. } | Event::TimesClosed { .. } => Ok(()),
        }
    }

    fn moved(
        &mut self,
        timestamp: i64,
        movement: &Movement<'_>,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        if batch.latest_time.is_some_and(|latest| latest >= timestamp) {
            return Err(StoreError::Corrupt("a movement comes before one that is held".into()));
        }
        batch.latest_time = Some(timestamp);
        posting::put_entries(&mut batch.entries, timestamp, movement);
        batch.body.clear();
        body::put(&mut batch.body, movement);
        self.movement.execute(params![timestamp, batch.body]).map_err(constrained)?;
        batch.span = Some((batch.span.map_or(timestamp, |(first, _)| first), timestamp));
        batch.count += 1;
        Ok(())
    }

    fn opened(&mut self, account: &Account, batch: &mut Batch) -> Result<(), StoreError> {
        let spelling = batch.spelling(&account.tenant, account.ledger, &account.code)?;
        self.account
            .execute(params![
                account.created_at.as_nanos(),
                account.id.bits().to_be_bytes(),
                spelling.tenant,
                spelling.ledger,
                spelling.code,
                account.user_data,
                account.flags.contains(AccountFlags::HISTORY),
                account.reference.as_str(),
            ])
            .map_err(constrained)?;
        Ok(())
    }

    /// Writes what was gathered, in the order of its keys: neighbours share a page.
    fn finish(&mut self, batch: &mut Batch) -> Result<(), StoreError> {
        batch.ids.sort_unstable();
        for (id, timestamp) in &batch.ids {
            self.id.execute(params![id, timestamp]).map_err(constrained)?;
        }
        batch.resolutions.sort_unstable();
        for (reservation, timestamp, state) in &batch.resolutions {
            self.resolution.execute(params![reservation, timestamp, state]).map_err(constrained)?;
        }
        Ok(())
    }
}

/// The engine takes no id and no time twice, and records come verified and in their order: it is the index that is
/// not as it was left.
fn constrained(error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::ConstraintViolation) => {
            StoreError::Corrupt(format!("a record contradicts the index: {error}"))
        }
        _ => error.into(),
    }
}

/// What stands in the place of a time for an id that was burned: no time of a transfer is negative.
fn burned_by(owner: u32) -> i64 {
    -1 - i64::from(owner)
}

/// The tenant's word, where this stands for a burned id.
pub(super) fn owner_of_burned(timestamp: i64) -> Option<u32> {
    u32::try_from(-1 - timestamp).ok()
}

fn state_number(state: ReservationState) -> i64 {
    match state {
        ReservationState::Open => 0,
        ReservationState::Posted => 1,
        ReservationState::Voided => 2,
        ReservationState::Expired => 3,
    }
}

/// The state of a number.
pub(super) fn state(number: i64) -> Result<ReservationState, StoreError> {
    match number {
        1 => Ok(ReservationState::Posted),
        2 => Ok(ReservationState::Voided),
        3 => Ok(ReservationState::Expired),
        _ => Err(corrupt("state of a reservation")),
    }
}
