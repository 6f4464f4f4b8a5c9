//! Rows of the embedded store: how payments, refunds, events and postings are written and read.

use mesh::StoreError;
use money::{PaymentId, RefundId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::Page;
use super::Work;
use crate::domain::{
    due,
    payment::{Payment, Recorded},
    posting::Posting,
    refund::Refund,
    transition::Status,
};
use crate::processor::WebhookSubject;

/// The constraints say again what the domain promises: a bug there stops here.
pub(super) const SCHEMA: &str = "
CREATE TABLE payments (
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    status TEXT NOT NULL,
    reference TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    due_at INTEGER,
    amount INTEGER NOT NULL CHECK (amount > 0),
    amount_authorized INTEGER NOT NULL CHECK (amount_authorized BETWEEN 0 AND amount),
    amount_captured INTEGER NOT NULL CHECK (amount_captured BETWEEN 0 AND amount_authorized),
    amount_refunded INTEGER NOT NULL CHECK (amount_refunded >= 0),
    amount_refund_pending INTEGER NOT NULL
        CHECK (amount_refund_pending >= 0 AND amount_refunded + amount_refund_pending <= amount_captured),
    body BLOB NOT NULL,
    PRIMARY KEY (tenant, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX payments_by_status ON payments (tenant, status, id);
CREATE INDEX payments_by_reference ON payments (tenant, reference, id) WHERE reference <> '';
CREATE INDEX payments_due ON payments (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE events (
    payment BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (payment, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE refunds (
    payment BLOB NOT NULL,
    id BLOB NOT NULL,
    tenant TEXT NOT NULL,
    due_at INTEGER,
    amount INTEGER NOT NULL CHECK (amount > 0),
    body BLOB NOT NULL,
    PRIMARY KEY (payment, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX refunds_due ON refunds (due_at) WHERE due_at IS NOT NULL;
CREATE TABLE postings (
    number INTEGER PRIMARY KEY,
    body BLOB NOT NULL,
    due_at INTEGER NOT NULL
) STRICT;
CREATE INDEX postings_due ON postings (due_at)";

/// For those who know an id and no tenant. Small: what is settled is not in it.
pub(super) const UNDER_WAY_BY_ID: &str = "
CREATE INDEX payments_under_way ON payments (id) WHERE due_at IS NOT NULL;
CREATE INDEX refunds_under_way ON refunds (id) WHERE due_at IS NOT NULL";

fn encode<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn decode<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, StoreError> {
    serde_json::from_slice(body).map_err(|error| StoreError::Corrupt(error.to_string()))
}

fn nanos(time: Option<Timestamp>) -> Option<i64> {
    time.map(Timestamp::as_nanos)
}

pub(super) fn payment(
    connection: &Connection,
    tenant: &TenantId,
    id: PaymentId,
) -> Result<Option<Payment>, StoreError> {
    let mut select = connection.prepare_cached("SELECT body FROM payments WHERE tenant = ?1 AND id = ?2")?;
    let body: Option<Vec<u8>> =
        select.query_row(params![tenant.as_str(), id.uuid().as_bytes()], |row| row.get(0)).optional()?;
    body.map(|body| decode(&body)).transpose()
}

pub(super) fn insert_payment(connection: &Connection, p: &Payment, now: Timestamp) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO payments (tenant, id, status, reference, sequence, due_at, amount, amount_authorized,
            amount_captured, amount_refunded, amount_refund_pending, body)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)",
    )?;
    insert.execute(params![
        p.tenant.as_str(),
        p.id.uuid().as_bytes(),
        p.status.name(),
        p.reference,
        p.sequence,
        nanos(due::payment(p, now)),
        p.amount,
        p.amount_authorized,
        p.amount_captured,
        p.amount_refunded,
        p.amount_refund_pending,
        encode(p)?,
    ])?;
    Ok(())
}

pub(super) fn update_payment(connection: &Connection, p: &Payment, now: Timestamp) -> Result<(), StoreError> {
    let mut update = connection.prepare_cached(
        "UPDATE payments SET status = ?3, sequence = ?4, due_at = ?5, amount_authorized = ?6,
            amount_captured = ?7, amount_refunded = ?8, amount_refund_pending = ?9, body = ?10
         WHERE tenant = ?1 AND id = ?2",
    )?;
    update.execute(params![
        p.tenant.as_str(),
        p.id.uuid().as_bytes(),
        p.status.name(),
        p.sequence,
        nanos(due::payment(p, now)),
        p.amount_authorized,
        p.amount_captured,
        p.amount_refunded,
        p.amount_refund_pending,
        encode(p)?,
    ])?;
    Ok(())
}

pub(super) fn insert_events(
    connection: &Connection,
    payment: PaymentId,
    events: &[Recorded],
) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO events (payment, sequence, type, status, amount, at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for event in events {
        let (name, at) = (event.status.name(), event.at.as_nanos());
        let id = payment.uuid();
        insert.execute(params![id.as_bytes(), event.sequence, event.event_type, name, event.amount, at])?;
    }
    Ok(())
}

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

pub(super) fn events(
    connection: &Connection,
    payment: PaymentId,
    page: Page<i64>,
) -> Result<Vec<Recorded>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT sequence, type, status, amount, at FROM events
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

fn known_status(name: &str) -> Result<Status, StoreError> {
    let unknown = || StoreError::Corrupt(format!("a payment has the unknown status {name}"));
    Status::ALL.into_iter().find(|status| status.name() == name).ok_or_else(unknown)
}

fn known_type(name: &str) -> Result<&'static str, StoreError> {
    let others = [
        "payment.operation_refused",
        "payment.partially_refunded",
        "refund.created",
        "refund.failed",
        "refund.unknown",
    ];
    let unknown = || StoreError::Corrupt(format!("an event has the unknown type {name}"));
    Status::ALL
        .map(Status::event_type)
        .into_iter()
        .chain(others)
        .find(|known| *known == name)
        .ok_or_else(unknown)
}

pub(super) fn refund(
    connection: &Connection,
    payment: PaymentId,
    id: RefundId,
) -> Result<Option<Refund>, StoreError> {
    let mut select = connection.prepare_cached("SELECT body FROM refunds WHERE payment = ?1 AND id = ?2")?;
    let body: Option<Vec<u8>> = select
        .query_row(params![payment.uuid().as_bytes(), id.uuid().as_bytes()], |row| row.get(0))
        .optional()?;
    body.map(|body| decode(&body)).transpose()
}

pub(super) fn refunds(
    connection: &Connection,
    payment: PaymentId,
    page: Page<RefundId>,
) -> Result<Vec<Refund>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT body FROM refunds WHERE payment = ?1 AND id < ?2 ORDER BY id DESC LIMIT ?3",
    )?;
    // No UUIDv7 is as high as the highest UUID.
    let (id, before) = (payment.uuid(), page.after.map_or(uuid::Uuid::max(), |after| after.uuid()));
    let values = params![id.as_bytes(), before.as_bytes(), at_most(page.limit)];
    let rows = select.query_map(values, |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|body| decode(&body?)).collect()
}

pub(super) fn put_refund(connection: &Connection, r: &Refund, now: Timestamp) -> Result<(), StoreError> {
    let mut put = connection.prepare_cached(
        "INSERT INTO refunds (payment, id, tenant, due_at, amount, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (payment, id) DO UPDATE SET due_at = excluded.due_at, body = excluded.body",
    )?;
    let (payment, id, due_at) = (r.payment.uuid(), r.id.uuid(), nanos(due::refund(r, now)));
    put.execute(params![payment.as_bytes(), id.as_bytes(), r.tenant.as_str(), due_at, r.amount, encode(r)?])?;
    Ok(())
}

pub(super) fn insert_posting(
    connection: &Connection,
    posting: &Posting,
    now: Timestamp,
) -> Result<i64, StoreError> {
    let mut insert = connection.prepare_cached("INSERT INTO postings (body, due_at) VALUES (?1, ?2)")?;
    Ok(insert.insert(params![encode(posting)?, due::posting(now).as_nanos()])?)
}

pub(super) fn delete_postings(connection: &Connection, numbers: &[i64]) -> Result<(), StoreError> {
    let mut delete = connection.prepare_cached("DELETE FROM postings WHERE number = ?1")?;
    for number in numbers {
        delete.execute([number])?;
    }
    Ok(())
}

pub(super) fn due_postings(
    connection: &Connection,
    now: Timestamp,
    limit: usize,
) -> Result<Vec<(i64, Posting)>, StoreError> {
    let mut select = connection
        .prepare_cached("SELECT number, body FROM postings WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2")?;
    let rows = select
        .query_map(params![now.as_nanos(), i64::try_from(limit).unwrap_or(i64::MAX)], |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
        })?;
    rows.map(|row| row.map_err(StoreError::from).and_then(|(number, body)| Ok((number, decode(&body)?))))
        .collect()
}

/// Moves the time that something is due, but never forward what was moved further back meanwhile.
pub(super) fn put_off(connection: &Connection, work: &Work, until: Timestamp) -> Result<(), StoreError> {
    let until = until.as_nanos();
    match work {
        Work::Payment(tenant, id) => connection
            .prepare_cached("UPDATE payments SET due_at = ?3 WHERE tenant = ?1 AND id = ?2 AND due_at < ?3")?
            .execute(params![tenant.as_str(), id.uuid().as_bytes(), until])?,
        Work::Refund(_, payment, id) => connection
            .prepare_cached("UPDATE refunds SET due_at = ?3 WHERE payment = ?1 AND id = ?2 AND due_at < ?3")?
            .execute(params![payment.uuid().as_bytes(), id.uuid().as_bytes(), until])?,
        Work::Posting(number, _) => connection
            .prepare_cached("UPDATE postings SET due_at = ?2 WHERE number = ?1 AND due_at < ?2")?
            .execute([*number, until])?,
    };
    Ok(())
}

/// Makes everything due that is under way.
pub(super) fn make_all_due(connection: &Connection, now: Timestamp) -> Result<(), StoreError> {
    for table in ["payments", "refunds", "postings"] {
        let update = format!("UPDATE {table} SET due_at = ?1 WHERE due_at > ?1");
        connection.prepare_cached(&update)?.execute([now.as_nanos()])?;
    }
    Ok(())
}

/// Makes one thing due that is under way.
pub(super) fn make_due(
    connection: &Connection,
    subject: WebhookSubject,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (table, id) = match subject {
        WebhookSubject::Payment(id) => ("payments", id.uuid()),
        WebhookSubject::Refund(id) => ("refunds", id.uuid()),
        WebhookSubject::Other => return Ok(()),
    };
    let update = format!("UPDATE {table} SET due_at = ?2 WHERE id = ?1 AND due_at > ?2");
    connection.prepare_cached(&update)?.execute(params![id.as_bytes(), now.as_nanos()])?;
    Ok(())
}

/// Ids of a tenant's thing, as they are stored.
pub(super) fn id_of(bytes: [u8; 16]) -> uuid::Uuid {
    uuid::Uuid::from_bytes(bytes)
}

pub(super) fn tenant_of(name: &str) -> Result<TenantId, StoreError> {
    name.parse().map_err(|_| StoreError::Corrupt("a row has a tenant that cannot be".into()))
}

pub(super) fn decode_payment(body: &[u8]) -> Result<Payment, StoreError> {
    decode(body)
}
