//! Rows of the embedded store: how payments, events and postings are written and read.

use mesh::StoreError;
use money::{PaymentId, TenantId, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension as _, params};

use super::{
    CommitError, Page,
    encoding::{at_most, decode, encode, known_status, known_type},
};
use crate::domain::{
    due,
    payment::{Inspection, Payment, Recorded},
    posting::Posting,
};

fn nanos(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_nanos)
}

pub(super) fn payment_id(bytes: [u8; 16]) -> PaymentId {
    PaymentId::new(uuid::Uuid::from_bytes(bytes))
}

pub(super) fn payment(
    connection: &Connection,
    tenant: &TenantId,
    id: PaymentId,
) -> Result<Option<Payment>, StoreError> {
    let mut select = connection.prepare_cached("SELECT body FROM payment WHERE id = ?1 AND tenant = ?2")?;
    let body: Option<Vec<u8>> =
        select.query_row(params![id.uuid().as_bytes(), tenant.as_str()], |row| row.get(0)).optional()?;
    body.map(|body| decode(&body)).transpose()
}

/// Puts a new payment on record.
pub(super) fn insert_payment(connection: &Connection, p: &Payment) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO payment (id, tenant, version, status, due_at, amount, amount_authorized, amount_captured,
            amount_capture_pending, amount_refunded, amount_refund_pending, amount_disputed, processor,
            processor_reference, body, reference)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)",
    )?;
    insert.execute(params![
        p.id.uuid().as_bytes(),
        p.tenant.as_str(),
        p.version,
        p.status.name(),
        nanos(due::payment(p)),
        p.amount,
        p.amount_authorized,
        p.amount_captured,
        p.amount_capture_pending,
        p.amount_refunded,
        p.amount_refund_pending,
        p.amount_disputed,
        p.processor,
        p.processor_reference,
        encode(p)?,
        p.reference,
    ])?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO payment_metadata (tenant, key, value, payment) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for (key, value) in &p.metadata {
        insert.execute(params![p.tenant.as_str(), key, value, p.id.uuid().as_bytes()])?;
    }
    Ok(())
}

/// Whether the payment was of the version before, and is of this one now.
pub(super) fn update_payment(connection: &Connection, p: &Payment) -> Result<bool, CommitError> {
    let mut update = connection
        .prepare_cached(
            "UPDATE payment SET version = ?3, status = ?4, due_at = ?5, amount = ?6, amount_authorized = ?7,
                amount_captured = ?8, amount_capture_pending = ?9, amount_refunded = ?10, amount_refund_pending = ?11,
                amount_disputed = ?12, processor = ?13, processor_reference = ?14, body = ?15
             WHERE id = ?1 AND tenant = ?2 AND version = ?3 - 1",
        )
        .map_err(StoreError::from)?;
    let updated = update.execute(params![
        p.id.uuid().as_bytes(),
        p.tenant.as_str(),
        p.version,
        p.status.name(),
        nanos(due::payment(p)),
        p.amount,
        p.amount_authorized,
        p.amount_captured,
        p.amount_capture_pending,
        p.amount_refunded,
        p.amount_refund_pending,
        p.amount_disputed,
        p.processor,
        p.processor_reference,
        encode(p)?,
    ]);
    match updated {
        Ok(rows) => Ok(rows > 0),
        // The only unique thing that an update changes.
        Err(rusqlite::Error::SqliteFailure(failure, _))
            if failure.extended_code == rusqlite::ffi::SQLITE_CONSTRAINT_UNIQUE =>
        {
            debug_assert_eq!(failure.code, ErrorCode::ConstraintViolation);
            Err(CommitError::DuplicateReference)
        }
        Err(error) => Err(StoreError::from(error).into()),
    }
}

pub(super) fn insert_events(
    connection: &Connection,
    payment: PaymentId,
    events: &[Recorded],
) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO event (payment, sequence, type, status, amount, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for event in events {
        let (name, at) = (event.status.name(), event.at.as_nanos());
        let id = payment.uuid();
        insert.execute(params![id.as_bytes(), event.sequence, event.event_type, name, event.amount, at])?;
    }
    Ok(())
}

pub(super) fn events(
    connection: &Connection,
    payment: PaymentId,
    page: Page<i64>,
) -> Result<Vec<Recorded>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT sequence, type, status, amount, at FROM event
         WHERE payment = ?1 AND sequence > ?2 ORDER BY sequence LIMIT ?3",
    )?;
    let (id, after) = (payment.uuid(), page.after.unwrap_or(0));
    let rows = select.query_map(params![id.as_bytes(), after, at_most(page.limit)], |row| {
        Ok((row.get(0)?, row.get::<_, String>(1)?, row.get::<_, String>(2)?, row.get(3)?, row.get(4)?))
    })?;
    rows.map(|row| {
        let (sequence, event_type, status, amount, at) = row?;
        Ok(Recorded {
            sequence,
            event_type: known_type(&event_type)?,
            status: known_status(&status)?,
            amount,
            at: Timestamp::from_nanos(at),
        })
    })
    .collect()
}

pub(super) fn insert_postings(
    connection: &Connection,
    postings: &[Posting],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO posting (payment, ordinal, tenant, due_at, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let due_at = due::posting(now).as_nanos();
    for posting in postings {
        let (payment, tenant) = (posting.payment.uuid(), posting.tenant.as_str());
        insert.execute(params![payment.as_bytes(), posting.ordinal, tenant, due_at, encode(posting)?])?;
    }
    Ok(())
}

/// Whether the ledger still has to confirm something of a payment.
pub(super) fn has_postings(connection: &Connection, payment: PaymentId) -> Result<bool, StoreError> {
    let mut select = connection.prepare_cached("SELECT 1 FROM posting WHERE payment = ?1 LIMIT 1")?;
    Ok(select.exists([payment.uuid().as_bytes()])?)
}

pub(super) fn postings(connection: &Connection, payment: PaymentId) -> Result<Vec<Posting>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT body FROM posting WHERE payment = ?1 ORDER BY ordinal")?;
    let rows = select.query_map([payment.uuid().as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|body| decode(&body?)).collect()
}

pub(super) fn delete_postings(
    connection: &Connection,
    payment: PaymentId,
    ordinal: u32,
) -> Result<(), StoreError> {
    let mut delete = connection.prepare_cached("DELETE FROM posting WHERE payment = ?1 AND ordinal <= ?2")?;
    delete.execute(params![payment.uuid().as_bytes(), ordinal])?;
    Ok(())
}

pub(super) fn insert_inspections(
    connection: &Connection,
    payment: PaymentId,
    inspections: &[Inspection],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut insert =
        connection.prepare_cached("INSERT INTO inspection (payment, at, body) VALUES (?1, ?2, ?3)")?;
    for inspection in inspections {
        insert.execute(params![payment.uuid().as_bytes(), now.as_nanos(), encode(inspection)?])?;
    }
    Ok(())
}

pub(super) fn inspections(connection: &Connection, limit: usize) -> Result<Vec<Inspection>, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT body FROM inspection ORDER BY number DESC LIMIT ?1")?;
    let rows = select.query_map([at_most(limit)], |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|body| decode(&body?)).collect()
}
