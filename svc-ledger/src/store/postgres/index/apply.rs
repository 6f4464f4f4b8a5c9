//! Takes records up, in one transaction with the watermark and a check of the epoch.

use std::pin::pin;

use mesh::StoreError;
use tokio_postgres::{
    Client, Transaction,
    binary_copy::BinaryCopyInWriter,
    types::{ToSql, Type},
};
use uuid::Uuid;

use super::{
    changes::{Changes, flags_of},
    rows::{ACCOUNT, ACCOUNT_TYPES, TRANSFER, TRANSFER_TYPES, account_uuid, state_number, transfer_uuid},
};
use crate::store::{
    ports::{Happened, Watermark},
    postgres::session::{as_bigint, failed, from_bigint},
};

/// Locked until the commit: a takeover, which changes the epoch here as well, waits for it or comes first.
const MARK: &str = "SELECT epoch, sequence, hash FROM watermark FOR UPDATE";

const MOVE_MARK: &str = "UPDATE watermark SET sequence = $1, hash = $2, last_event = greatest(last_event, $3)
    WHERE epoch = $4";

const SETTLE: &str = "UPDATE accounts SET debits_pending = new.dp, debits_posted = new.d,
        credits_pending = new.cp, credits_posted = new.c, closed = new.closed
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::boolean[])
        AS new (number, dp, d, cp, c, closed)
    WHERE accounts.number = new.number";

const LIMIT: &str = "UPDATE accounts SET overdraft = new.overdraft
    FROM unnest($1::bigint[], $2::bigint[]) AS new (number, overdraft) WHERE accounts.number = new.number";

const RESERVE: &str = "INSERT INTO reservations (id, state) SELECT * FROM unnest($1::uuid[], $2::smallint[])";

/// A reservation leaves the state of being open once.
const RESOLVE: &str = "UPDATE reservations SET state = new.state
    FROM unnest($1::uuid[], $2::smallint[]) AS new (id, state)
    WHERE reservations.id = new.id AND reservations.state = 0";

/// An id is either a transfer's or burned.
const BURN: &str = "INSERT INTO burned (id, tenant)
    SELECT id, tenant FROM unnest($1::uuid[], $2::text[]) AS new (id, tenant)
    WHERE NOT EXISTS (SELECT FROM transfers WHERE transfers.id = new.id)";

/// Postings of one piece at most, which is then far from too large for its page.
pub(super) const PIECE_MAX: usize = 128;

/// Takes up those of the records that are not held yet.
pub(super) async fn apply(client: &mut Client, epoch: i64, records: &[Happened]) -> Result<(), StoreError> {
    let transaction = client.transaction().await.map_err(failed)?;
    let held = mark(&transaction, epoch).await?;
    let new = what_follows(held, records)?;
    let Some(last) = new.last() else { return Ok(()) };
    let changes = Changes::of(new);
    write(&transaction, &changes).await?;
    let sequence = as_bigint(last.sequence)?;
    let last_event = changes.last.map_or(0, money::Timestamp::as_nanos);
    let hash = last.hash.as_slice();
    let moved = transaction.execute(MOVE_MARK, &[&sequence, &hash, &last_event, &epoch]).await;
    expect(moved.map_err(failed)?, 1, "the watermark")?;
    transaction.commit().await.map_err(failed)
}

async fn mark(transaction: &Transaction<'_>, epoch: i64) -> Result<Watermark, StoreError> {
    let row = transaction.query_one(MARK, &[]).await.map_err(failed)?;
    if row.get::<_, i64>(0) != epoch {
        return Err(StoreError::Server("another writer leads this ledger".to_owned()));
    }
    let hash = row.get::<_, &[u8]>(2).try_into();
    let hash = hash.map_err(|_| StoreError::Corrupt("the watermark's hash has a wrong length".to_owned()))?;
    Ok(Watermark { sequence: from_bigint(row.get(1))?, hash })
}

/// The records after what is held. They follow it and one another, or nothing is taken.
fn what_follows(held: Watermark, records: &[Happened]) -> Result<&[Happened], StoreError> {
    let gap = || StoreError::Corrupt("the records do not follow what the index holds".to_owned());
    let known = records.iter().take_while(|record| record.sequence <= held.sequence).count();
    let (known, new) = records.split_at(known);
    if known.iter().any(|record| record.sequence == held.sequence && record.hash != held.hash) {
        return Err(StoreError::Corrupt("the index holds another record in that place".to_owned()));
    }
    let follows = new.iter().zip(held.sequence + 1..).all(|(record, place)| record.sequence == place);
    if follows { Ok(new) } else { Err(gap()) }
}

fn expect(changed: u64, wanted: usize, what: &str) -> Result<(), StoreError> {
    if changed == wanted as u64 {
        Ok(())
    } else {
        Err(StoreError::Corrupt(format!("{what}: {changed} rows instead of {wanted} were changed")))
    }
}

async fn write(transaction: &Transaction<'_>, changes: &Changes) -> Result<(), StoreError> {
    open(transaction, changes).await?;
    settle(transaction, changes).await?;
    copy_transfers(transaction, changes).await?;
    copy_postings(transaction, changes).await?;
    copy_history(transaction, changes).await?;
    for (statement, rows) in [(RESERVE, &changes.reserved), (RESOLVE, &changes.resolved)] {
        if !rows.is_empty() {
            let ids: Vec<Uuid> = rows.iter().map(|(id, _)| transfer_uuid(*id)).collect();
            let states: Vec<i16> = rows.iter().map(|(_, state)| state_number(*state)).collect();
            let changed = transaction.execute(statement, &[&ids, &states]).await.map_err(failed)?;
            expect(changed, rows.len(), "reservations")?;
        }
    }
    if !changes.burned.is_empty() {
        let ids: Vec<Uuid> = changes.burned.iter().map(|(id, _)| transfer_uuid(*id)).collect();
        let tenants: Vec<&str> = changes.burned.iter().map(|(_, tenant)| tenant.as_str()).collect();
        let burned = transaction.execute(BURN, &[&ids, &tenants]).await.map_err(failed)?;
        expect(burned, ids.len(), "burned ids")?;
    }
    Ok(())
}

async fn settle(transaction: &Transaction<'_>, changes: &Changes) -> Result<(), StoreError> {
    let (mut numbers, mut closed) = (Vec::new(), Vec::new());
    let (mut pending, mut posted) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    let (mut limited, mut limits) = (Vec::new(), Vec::new());
    for (number, standing) in &changes.standings {
        if let Some((balances, is_closed)) = standing.moved {
            numbers.push(number.as_nanos());
            pending.0.push(balances.debits_pending);
            posted.0.push(balances.debits_posted);
            pending.1.push(balances.credits_pending);
            posted.1.push(balances.credits_posted);
            closed.push(is_closed);
        }
        if let Some(limit) = standing.limit {
            limited.push(number.as_nanos());
            limits.push(limit);
        }
    }
    if !numbers.is_empty() {
        let rows: [&(dyn ToSql + Sync); 6] =
            [&numbers, &pending.0, &posted.0, &pending.1, &posted.1, &closed];
        expect(transaction.execute(SETTLE, &rows).await.map_err(failed)?, numbers.len(), "accounts")?;
    }
    if !limited.is_empty() {
        let changed = transaction.execute(LIMIT, &[&limited, &limits]).await.map_err(failed)?;
        expect(changed, limited.len(), "limits of accounts")?;
    }
    Ok(())
}

async fn open(transaction: &Transaction<'_>, changes: &Changes) -> Result<(), StoreError> {
    if changes.opened.is_empty() {
        return Ok(());
    }
    let statement = format!("COPY accounts ({ACCOUNT}) FROM STDIN (FORMAT binary)");
    let sink = transaction.copy_in(&statement).await.map_err(failed)?;
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &ACCOUNT_TYPES));
    for account in &changes.opened {
        let row: [&(dyn ToSql + Sync); 14] = [
            &account.created_at.as_nanos(),
            &account_uuid(account.id),
            &account.tenant.as_str(),
            &account.ledger.as_str(),
            &account.code.as_str(),
            &flags_of(account),
            &account.user_data,
            &account.reference.as_str().as_bytes(),
            &account.limit,
            &account.closed,
            &account.balances.debits_pending,
            &account.balances.debits_posted,
            &account.balances.credits_pending,
            &account.balances.credits_posted,
        ];
        rows.as_mut().write(&row).await.map_err(failed)?;
    }
    rows.finish().await.map(drop).map_err(failed)
}

async fn copy_transfers(transaction: &Transaction<'_>, changes: &Changes) -> Result<(), StoreError> {
    if changes.transfers.is_empty() {
        return Ok(());
    }
    let statement = format!("COPY transfers ({TRANSFER}) FROM STDIN (FORMAT binary)");
    let sink = transaction.copy_in(&statement).await.map_err(failed)?;
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &TRANSFER_TYPES));
    for transfer in &changes.transfers {
        let row: [&(dyn ToSql + Sync); 14] = [
            &transfer.timestamp.as_nanos(),
            &transfer_uuid(transfer.id),
            &account_uuid(transfer.debit),
            &account_uuid(transfer.credit),
            &transfer.amount,
            &transfer.requested,
            &transfer.user_data,
            &transfer.pending_id().map(transfer_uuid),
            &i64::from(transfer.timeout_s()),
            &i16::from(transfer.flags().bits()),
            &transfer.tenant.as_str(),
            &transfer.ledger.as_str(),
            &transfer.code.as_str(),
            &transfer.reference.as_str().as_bytes(),
        ];
        rows.as_mut().write(&row).await.map_err(failed)?;
    }
    rows.finish().await.map(drop).map_err(failed)
}

async fn copy_postings(transaction: &Transaction<'_>, changes: &Changes) -> Result<(), StoreError> {
    if changes.postings.is_empty() {
        return Ok(());
    }
    let statement = "COPY postings (account, until, at) FROM STDIN (FORMAT binary)";
    let sink = transaction.copy_in(statement).await.map_err(failed)?;
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &[Type::UUID, Type::INT8, Type::INT8_ARRAY]));
    // In the order of the index, whose pages are then each visited once.
    let mut postings: Vec<_> = changes.postings.iter().collect();
    postings.sort_unstable_by_key(|(account, _)| **account);
    for (account, times) in postings {
        for piece in times.chunks(PIECE_MAX) {
            let until = piece.last().copied().unwrap_or_default();
            rows.as_mut().write(&[&account_uuid(*account), &until, &piece]).await.map_err(failed)?;
        }
    }
    rows.finish().await.map(drop).map_err(failed)
}

async fn copy_history(transaction: &Transaction<'_>, changes: &Changes) -> Result<(), StoreError> {
    if changes.history.is_empty() {
        return Ok(());
    }
    let statement =
        "COPY history (account, at, debits_pending, debits_posted, credits_pending, credits_posted)
        FROM STDIN (FORMAT binary)";
    let sink = transaction.copy_in(statement).await.map_err(failed)?;
    let mut rows = pin!(BinaryCopyInWriter::new(sink, &[const { Type::INT8 }; 6]));
    for moment in &changes.history {
        let row: [&(dyn ToSql + Sync); 6] = [
            &moment.account.as_nanos(),
            &moment.at.as_nanos(),
            &moment.balances.debits_pending,
            &moment.balances.debits_posted,
            &moment.balances.credits_pending,
            &moment.balances.credits_posted,
        ];
        rows.as_mut().write(&row).await.map_err(failed)?;
    }
    rows.finish().await.map(drop).map_err(failed)
}
