//! A batch of commits is one transaction of two round trips: the first locks what the batch is about and reads it, the
//! second writes and commits.
//!
//! Order of locks: payments by id, then what processors call them, then keys in their own order. Whoever writes waits
//! only for somebody who is further on. Only a processor that gives two ids to two pairs of payments at once can break
//! that; the server ends such a deadlock, and it is done again.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use deadpool_postgres::{Object, Pool};
use mesh::{
    StoreError,
    idempotency::Scope,
    postgres::{failed, said, was_refused, within},
};
use tokio_postgres::{Error, Row, Statement, error::SqlState, types::ToSql};
use uuid::Uuid;

use super::{
    columns::{Columns, Item, Keys, Payments},
    deciding::{Found, OnRecord, Outcome, decide, unknown},
};
use crate::store::{CommitError, encoding::tenant};

/// How often a batch is done again because others were faster with the same keys.
const RACES_MAX: u32 = 16;
/// How often it is sent again where the connection was lost before COMMIT: a server that was restarted closed all.
const LOST_MAX: u32 = 2;
/// How soon it is looked again what became of a commit whose connection was lost.
const DOUBT_PAUSE: Duration = Duration::from_millis(50);
/// For how many times as long as a statement may take.
const DOUBT_TIMEOUTS: u32 = 3;

const LOOK_PAYMENTS: &str = "SELECT id, tenant, version, commits FROM payment WHERE id = ANY($1::uuid[])
    ORDER BY id FOR NO KEY UPDATE";
const LOOK_KEYS: &str = "SELECT k.place, i.fingerprint, i.subject, i.answer
    FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS k(tenant, rpc, key, place)
    JOIN idempotency AS i ON i.tenant = k.tenant AND i.rpc = k.rpc AND i.key = k.key";
const LOOK_POSTINGS: &str =
    "SELECT payment, min(ordinal) FROM posting WHERE payment = ANY($1::uuid[]) GROUP BY payment";

const CREATE: &str = "INSERT INTO payment (id, tenant, version, commits, status, reference, due_at, amount,
        amount_authorized, amount_captured, amount_capture_pending, amount_refunded, amount_refund_pending,
        amount_disputed, processor, processor_reference, body)
    SELECT id, tenant, version, ARRAY[written_by], status, reference, due_at, amount, authorized, captured,
        capture_pending, refunded, refund_pending, disputed, processor, processor_reference, body
    FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::bigint[],
        $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::bigint[], $15::text[],
        $16::text[], $17::bytea[])
    AS new(id, tenant, version, written_by, status, reference, due_at, amount, authorized, captured, capture_pending,
        refunded, refund_pending, disputed, processor, processor_reference, body)";
/// The rows are locked and of the version before.
const UPDATE: &str = "UPDATE payment AS p SET version = new.version,
        commits = (array_prepend(new.written_by, p.commits))[1:8], status = new.status, due_at = new.due_at,
        amount = new.amount, amount_authorized = new.authorized, amount_captured = new.captured,
        amount_capture_pending = new.capture_pending, amount_refunded = new.refunded,
        amount_refund_pending = new.refund_pending, amount_disputed = new.disputed, processor = new.processor,
        processor_reference = new.processor_reference, body = new.body
    FROM unnest($1::uuid[], $2::text[], $3::bigint[], $4::uuid[], $5::text[], $6::bigint[], $7::bigint[],
        $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::bigint[], $13::bigint[], $14::text[],
        $15::text[], $16::bytea[])
    AS new(id, tenant, version, written_by, status, due_at, amount, authorized, captured, capture_pending, refunded,
        refund_pending, disputed, processor, processor_reference, body)
    WHERE p.id = new.id AND p.tenant = new.tenant AND p.version = new.version - 1";
const METADATA: &str = "INSERT INTO payment_metadata (tenant, digest, payment)
    SELECT tenant, sha256(convert_to(key, 'UTF8') || '\\x00'::bytea || convert_to(value, 'UTF8')), payment
    FROM unnest($1::text[], $2::text[], $3::text[], $4::uuid[]) AS new(tenant, key, value, payment)";
const CLAIM: &str =
    "INSERT INTO idempotency (tenant, rpc, key, fingerprint, subject, answer, created_at, answered_at)
    SELECT tenant, rpc, key, fingerprint, subject, answer, at, CASE WHEN answer IS NOT NULL THEN at END
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::text[], $6::bytea[], $7::bigint[])
    AS new(tenant, rpc, key, fingerprint, subject, answer, at)";
const ANSWER: &str = "UPDATE idempotency AS i SET answer = new.answer, answered_at = new.at
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::bigint[]) AS new(tenant, rpc, key, answer, at)
    WHERE i.tenant = new.tenant AND i.rpc = new.rpc AND i.key = new.key AND i.answer IS NULL";
const EVENTS: &str = "INSERT INTO event (payment, sequence, type, status, amount, at)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::bigint[], $6::bigint[])";
const POSTINGS: &str = "INSERT INTO posting (payment, ordinal, tenant, due_at, body)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::bigint[], $5::bytea[])";
const INSPECTIONS: &str = "INSERT INTO inspection (payment, at, body)
    SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::bytea[])";

/// Why a batch was not carried out.
enum Failure {
    /// The server refused it: nothing was done.
    Refused(Error),
    /// The connection was lost, or could not be had. The text holds no value of a statement.
    Lost(String),
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Lost(error.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        if was_refused(&error) { Self::Refused(error) } else { Self::Lost(said(&error)) }
    }
}

/// Carries out commits, each with an outcome of its own: what is refused of one takes no other with it.
pub(super) async fn carry_out(pool: &Pool, most: Duration, items: Vec<Item>) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(items.len());
    let mut rest = vec![items.as_slice()];
    while let Some(batch) = rest.pop() {
        match together(pool, most, batch).await {
            Ok(done) => outcomes.extend(done),
            // One of them is refused: the halves are done one after the other, down to that one.
            Err(_) if batch.len() > 1 => {
                let (first, second) = batch.split_at(batch.len() / 2);
                rest.extend([second, first]);
            }
            Err(error) => outcomes.push(Err(refusal(&error))),
        }
    }
    outcomes
}

/// The outcome of each, or why the server refused them.
async fn together(pool: &Pool, most: Duration, items: &[Item]) -> Result<Vec<Outcome>, Error> {
    let began = tokio::time::Instant::now();
    let (mut in_doubt, mut races, mut lost) = (false, 0, 0);
    loop {
        let committing = AtomicBool::new(false);
        let trying = within(pool, most, async |client| attempt(client, items, in_doubt, &committing).await);
        let said = match trying.await {
            Ok(outcomes) => return Ok(outcomes),
            Err(Failure::Refused(error)) if races < RACES_MAX && is_race(&error) => {
                races += 1;
                continue;
            }
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Lost(said)) => said,
        };
        in_doubt |= committing.load(Ordering::Relaxed);
        lost += 1;
        if in_doubt && began.elapsed() < most * DOUBT_TIMEOUTS {
            // It says itself which commits it was of, so sending it again finds out, and does it if it was not done.
            tokio::time::sleep(DOUBT_PAUSE).await;
        } else if in_doubt {
            return Ok(items.iter().map(|_| Err(unknown(&said))).collect());
        } else if lost >= LOST_MAX {
            return Ok(items.iter().map(|_| Err(StoreError::Server(said.clone()).into())).collect());
        }
    }
}

/// Others had the same keys or ids on the way; now that they are done it can be seen what they wrote.
fn is_race(error: &Error) -> bool {
    let Some(refusal) = error.as_db_error() else { return false };
    let same_key = *refusal.code() == SqlState::UNIQUE_VIOLATION
        && matches!(refusal.constraint(), Some("idempotency_pkey" | "payment_pkey"));
    same_key
        || [SqlState::T_R_DEADLOCK_DETECTED, SqlState::T_R_SERIALIZATION_FAILURE].contains(refusal.code())
}

/// What a single commit was refused for.
fn refusal(error: &Error) -> CommitError {
    let Some(refusal) = error.as_db_error() else { return StoreError::Server(said(error)).into() };
    match refusal.constraint() {
        Some("payment_by_processor") => CommitError::DuplicateReference,
        _ if refusal.code().code().starts_with("23") => StoreError::Commit(said(error)).into(),
        _ => StoreError::Server(said(error)).into(),
    }
}

struct Statements {
    look: [Statement; 3],
    write: [Statement; 8],
}

/// Prepares them where the connection has not yet: after that, nothing is waited for here.
async fn statements(client: &Object) -> Result<Statements, Error> {
    let prepared = async |statement| client.prepare_cached(statement).await;
    Ok(Statements {
        look: [prepared(LOOK_PAYMENTS).await?, prepared(LOOK_KEYS).await?, prepared(LOOK_POSTINGS).await?],
        write: [
            prepared(UPDATE).await?,
            prepared(CREATE).await?,
            prepared(METADATA).await?,
            prepared(CLAIM).await?,
            prepared(ANSWER).await?,
            prepared(EVENTS).await?,
            prepared(POSTINGS).await?,
            prepared(INSPECTIONS).await?,
        ],
    })
}

async fn attempt(
    client: &Object,
    items: &[Item],
    in_doubt: bool,
    committing: &AtomicBool,
) -> Result<Vec<Outcome>, Failure> {
    let statements = statements(client).await?;
    let on_record = match look(client, &statements, items).await {
        Ok(on_record) => on_record,
        Err(failure) => {
            // What was begun does not stay open; where that fails the connection is closed.
            client.batch_execute("ROLLBACK").await?;
            return Err(failure);
        }
    };
    let (outcomes, writes) = decide(items, &on_record, in_doubt);
    if writes.is_empty() {
        client.batch_execute("ROLLBACK").await?;
        return Ok(outcomes);
    }
    let columns = Columns::of(&writes);
    committing.store(true, Ordering::Relaxed);
    match write(client, &statements, &columns).await {
        Err(Failure::Refused(error)) => {
            committing.store(false, Ordering::Relaxed);
            Err(Failure::Refused(error))
        }
        Err(lost) => Err(lost),
        Ok(updated) if updated == columns.updated.ids.len() as u64 => Ok(outcomes),
        // Nothing that was locked can have changed.
        Ok(_) => Err(Failure::Lost("fewer payments were changed than were locked".to_owned())),
    }
}

/// Locks the payments, and reads what is on record of everything.
async fn look<'a>(
    client: &Object,
    statements: &Statements,
    items: &'a [Item],
) -> Result<OnRecord<'a>, Failure> {
    let mut ids: Vec<Uuid> = items.iter().map(|item| item.payment().id.uuid()).collect();
    ids.sort_unstable();
    ids.dedup();
    let adding = items.iter().filter(|item| !item.is_new_payment() && item.first_ordinal().is_some());
    let adding: Vec<Uuid> = adding.map(|item| item.payment().id.uuid()).collect();
    let scopes: Vec<&Scope> =
        items.iter().filter_map(|item| item.commit.claim.as_ref()).map(|claim| &claim.scope).collect();
    let mut keys = Keys::default();
    for scope in &scopes {
        keys.tenants.push(scope.tenant.as_str());
        keys.rpcs.push(scope.rpc);
        keys.names.push(scope.key.as_str());
    }
    let [payments, claims, postings] = &statements.look;
    let key_values: [&(dyn ToSql + Sync); 3] = [&keys.tenants, &keys.rpcs, &keys.names];
    let (id_values, adding_values): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 1]) =
        ([&ids], [&adding]);
    // Sent in this order, and waited for together.
    let (begun, payments, claims, postings) = tokio::join!(
        client.batch_execute("BEGIN"),
        client.query(payments, &id_values),
        rows_if(!scopes.is_empty(), client, claims, &key_values),
        rows_if(!adding.is_empty(), client, postings, &adding_values),
    );
    begun?;
    let mut on_record = OnRecord::default();
    for row in payments? {
        let tenant = tenant(row.get(1))?;
        on_record.payments.insert(row.get(0), Found { tenant, version: row.get(2), commits: row.get(3) });
    }
    for row in claims? {
        let place = usize::try_from(row.get::<_, i64>("place") - 1).ok();
        if let Some(scope) = place.and_then(|place| scopes.get(place)) {
            on_record.claims.insert(scope, row);
        }
    }
    on_record.postings = postings?.iter().map(|row| (row.get(0), row.get(1))).collect::<HashMap<_, _>>();
    Ok(on_record)
}

async fn rows_if(
    needed: bool,
    client: &Object,
    statement: &Statement,
    values: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Error> {
    if needed { client.query(statement, values).await } else { Ok(Vec::new()) }
}

async fn execute_if(
    needed: bool,
    client: &Object,
    statement: &Statement,
    values: &[&(dyn ToSql + Sync)],
) -> Result<u64, Error> {
    if needed { client.execute(statement, values).await } else { Ok(0) }
}

/// Writes and commits. How many payments were changed. If one statement is refused, so are all after it, and COMMIT
/// rolls back.
async fn write(client: &Object, statements: &Statements, columns: &Columns<'_>) -> Result<u64, Failure> {
    let [update, create, metadata, claim, answer, events, postings, inspections] = &statements.write;
    let updated_values = values_of_update(&columns.updated);
    let created_values = values_of_create(&columns.created);
    let (entries, new, kept) = (&columns.metadata, &columns.claims, &columns.answers);
    let (said, told, odd) = (&columns.events, &columns.postings, &columns.inspections);
    let metadata_values: [&(dyn ToSql + Sync); 4] =
        [&entries.words, &entries.names, &entries.values, &entries.payments];
    let claim_values: [&(dyn ToSql + Sync); 7] =
        [&new.tenants, &new.rpcs, &new.names, &new.fingerprints, &new.subjects, &new.answers, &new.at];
    let answer_values: [&(dyn ToSql + Sync); 5] =
        [&kept.tenants, &kept.rpcs, &kept.names, &kept.answers, &kept.at];
    let event_values: [&(dyn ToSql + Sync); 6] =
        [&said.payments, &said.numbers, &said.words, &said.names, &said.amounts, &said.at];
    let posting_values: [&(dyn ToSql + Sync); 5] =
        [&told.payments, &told.numbers, &told.words, &told.at, &told.bodies];
    let inspection_values: [&(dyn ToSql + Sync); 3] = [&odd.payments, &odd.at, &odd.bodies];
    // Sent in this order, and waited for together.
    let done = tokio::join!(
        execute_if(!columns.updated.ids.is_empty(), client, update, &updated_values),
        execute_if(!columns.created.ids.is_empty(), client, create, &created_values),
        execute_if(!entries.payments.is_empty(), client, metadata, &metadata_values),
        execute_if(!new.names.is_empty(), client, claim, &claim_values),
        execute_if(!kept.names.is_empty(), client, answer, &answer_values),
        execute_if(!said.payments.is_empty(), client, events, &event_values),
        execute_if(!told.payments.is_empty(), client, postings, &posting_values),
        execute_if(!odd.payments.is_empty(), client, inspections, &inspection_values),
        client.batch_execute("COMMIT"),
    );
    // The first that fails says why; those after it only that the transaction is over.
    let updated = done.0?;
    done.1.and(done.2).and(done.3).and(done.4).and(done.5).and(done.6).and(done.7)?;
    done.8?;
    Ok(updated)
}

fn values_of_update<'a>(rows: &'a Payments<'_>) -> [&'a (dyn ToSql + Sync); 16] {
    let Payments { ids, tenants, versions, commits, statuses, due, amounts, authorized, captured, .. } = rows;
    let Payments { capture_pending, refunded, refund_pending, disputed, processors, .. } = rows;
    [
        ids,
        tenants,
        versions,
        commits,
        statuses,
        due,
        amounts,
        authorized,
        captured,
        capture_pending,
        refunded,
        refund_pending,
        disputed,
        processors,
        &rows.processor_references,
        &rows.bodies,
    ]
}

fn values_of_create<'a>(rows: &'a Payments<'_>) -> [&'a (dyn ToSql + Sync); 17] {
    let Payments { ids, tenants, versions, commits, statuses, references, due, amounts, .. } = rows;
    let Payments { authorized, captured, capture_pending, refunded, refund_pending, disputed, .. } = rows;
    [
        ids,
        tenants,
        versions,
        commits,
        statuses,
        references,
        due,
        amounts,
        authorized,
        captured,
        capture_pending,
        refunded,
        refund_pending,
        disputed,
        &rows.processors,
        &rows.processor_references,
        &rows.bodies,
    ]
}

/// The ledger has confirmed these payments' postings up to these ordinals.
pub(super) async fn postings_done(
    pool: &Pool,
    most: Duration,
    done: Vec<(Uuid, u32)>,
) -> Vec<Result<(), StoreError>> {
    let deleting = within(pool, most, async |client| {
        let (payments, ordinals): (Vec<Uuid>, Vec<i64>) =
            done.iter().map(|(payment, ordinal)| (*payment, i64::from(*ordinal))).unzip();
        // Locked in one order, as two may cross off the same.
        let statement = "DELETE FROM posting WHERE (payment, ordinal) IN (
                SELECT p.payment, p.ordinal FROM unnest($1::uuid[], $2::bigint[]) AS done(payment, ordinal)
                JOIN posting AS p ON p.payment = done.payment AND p.ordinal <= done.ordinal
                ORDER BY p.payment, p.ordinal FOR UPDATE OF p)";
        let statement = client.prepare_cached(statement).await.map_err(failed)?;
        client.execute(&statement, &[&payments, &ordinals]).await.map_err(failed)
    });
    let outcome: Result<u64, StoreError> = deleting.await;
    let each = |_: &(Uuid, u32)| match &outcome {
        Ok(_) => Ok(()),
        Err(error) => Err(StoreError::Server(error.to_string())),
    };
    done.iter().map(each).collect()
}
