//! Files of the first program that kept payments: an operation of a payment stood in the payment, refunds in a table of
//! their own, and what the ledger had to be told had no order. What is there is converted when the file is opened.

use mesh::StoreError;
use money::{Currency, PaymentId, RefundId, TenantId, Timestamp, TokenId};
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use serde::Deserialize;

use super::{encoding, rows};
use crate::domain::{
    method::{CardSummary, Method},
    operation::{Failure, Operation, OperationKind, VoidCause, Waiting},
    payment::{CaptureMethod, Fraud, Initiator, Payment, Tax},
    posting::Posting,
    transition::{OperationStatus, Status},
};

/// The first migration.
pub(super) const PAYMENTS: &str = "
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

/// The third one.
pub(super) const UNDER_WAY_BY_ID: &str = "
CREATE INDEX payments_under_way ON payments (id) WHERE due_at IS NOT NULL;
CREATE INDEX refunds_under_way ON refunds (id) WHERE due_at IS NOT NULL";

/// Its payment.
#[derive(Deserialize)]
struct Before {
    id: PaymentId,
    tenant: TenantId,
    status: Status,
    amount: i64,
    amount_authorized: i64,
    amount_captured: i64,
    amount_refunded: i64,
    amount_refund_pending: i64,
    currency: Currency,
    token: TokenId,
    card: CardSummary,
    capture_method: CaptureMethod,
    reference: String,
    description: String,
    metadata: std::collections::BTreeMap<String, String>,
    fraud: Option<Fraud>,
    tax: Option<Tax>,
    failure: Option<Failure>,
    processor: String,
    processor_reference: String,
    created_at: Timestamp,
    updated_at: Timestamp,
    sequence: i64,
    operation: Option<Doing>,
    waiting: Option<Waiting>,
    inquiries: u32,
    operation_number: u32,
}

/// What it had under way at its processor.
#[derive(Clone, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum Doing {
    Authorize,
    Capture { amount: i64 },
    Void { reason: String },
}

/// Its refund.
#[derive(Deserialize)]
struct Refund {
    id: RefundId,
    status: RefundStatus,
    amount: i64,
    reason: String,
    failure: Option<Failure>,
    key: String,
    inquiries: u32,
    created_at: Timestamp,
    updated_at: Timestamp,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum RefundStatus {
    Pending,
    Succeeded,
    Failed,
    Unknown,
}

/// Converts what such a file holds, all or nothing, and drops its tables. Does nothing in a file that has none of them.
pub(super) fn convert(connection: &mut Connection) -> Result<(), StoreError> {
    let has = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'payments'";
    if connection.query_row(has, [], |_| Ok(())).optional()?.is_none() {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let converted = convert_payments(&transaction)?;
    transaction.execute_batch(
        "INSERT INTO event (payment, sequence, type, status, amount, at)
            SELECT payment, sequence, type, status, amount, at FROM events;
         DROP TABLE payments; DROP TABLE refunds; DROP TABLE events; DROP TABLE postings",
    )?;
    transaction.commit()?;
    if converted > 0 {
        tracing::info!(payments = converted, "the file of payments was converted");
    }
    Ok(())
}

fn convert_payments(connection: &Connection) -> Result<u64, StoreError> {
    // Found by payment below, which the old table had no way to.
    connection.execute_batch("CREATE TEMP TABLE told (payment BLOB NOT NULL, number INTEGER NOT NULL, body BLOB NOT NULL, due_at INTEGER NOT NULL)")?;
    let mut postings = connection.prepare("SELECT number, body, due_at FROM postings ORDER BY number")?;
    let mut found = postings.query([])?;
    let mut keep = connection.prepare("INSERT INTO told VALUES (?1, ?2, ?3, ?4)")?;
    while let Some(row) = found.next()? {
        let body: Vec<u8> = row.get(1)?;
        let posting: Posting = encoding::decode(&body)?;
        keep.execute(params![
            posting.payment.uuid().as_bytes(),
            row.get::<_, i64>(0)?,
            body,
            row.get::<_, i64>(2)?
        ])?;
    }
    connection.execute_batch("CREATE INDEX temp.told_by_payment ON told (payment, number)")?;
    let mut payments = connection.prepare("SELECT body FROM payments")?;
    let mut bodies = payments.query([])?;
    let mut converted = 0;
    while let Some(row) = bodies.next()? {
        let before: Before = encoding::decode(&row.get::<_, Vec<u8>>(0)?)?;
        let refunds = refunds_of(connection, before.id)?;
        let mut payment = payment_of(before, refunds);
        payment.postings = convert_postings(connection, payment.id)?;
        rows::insert_payment(connection, &payment)?;
        converted += 1;
    }
    drop((bodies, found));
    connection.execute_batch("DROP TABLE temp.told")?;
    Ok(converted)
}

/// In the order in which they were begun: their ids begin with the time.
fn refunds_of(connection: &Connection, payment: PaymentId) -> Result<Vec<Refund>, StoreError> {
    let mut select = connection.prepare_cached("SELECT body FROM refunds WHERE payment = ?1 ORDER BY id")?;
    let bodies = select.query_map([payment.uuid().as_bytes()], |row| row.get::<_, Vec<u8>>(0))?;
    bodies.map(|body| encoding::decode(&body?)).collect()
}

/// Numbers what the ledger has not confirmed, and says how much it is.
fn convert_postings(connection: &Connection, payment: PaymentId) -> Result<u32, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT body, due_at FROM told WHERE payment = ?1 ORDER BY number")?;
    let mut insert = connection.prepare_cached(
        "INSERT INTO posting (payment, ordinal, tenant, due_at, body) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    let id = payment.uuid();
    let mut found = select.query([id.as_bytes()])?;
    let mut ordinal = 0;
    while let Some(row) = found.next()? {
        ordinal += 1;
        let mut posting: Posting = encoding::decode(&row.get::<_, Vec<u8>>(0)?)?;
        posting.ordinal = ordinal;
        let (tenant, body) = (posting.tenant.as_str(), encoding::encode(&posting)?);
        insert.execute(params![id.as_bytes(), ordinal, tenant, row.get::<_, i64>(1)?, body])?;
    }
    Ok(ordinal)
}

fn payment_of(before: Before, refunds: Vec<Refund>) -> Payment {
    let operations = operations_of(&before, refunds);
    let capture_pending = match before.operation {
        Some(Doing::Capture { amount }) => amount,
        _ => 0,
    };
    let authorized = before.amount_authorized > 0;
    let status = match before.status {
        // It was of a capture or a void: the reservation stands until that is known.
        Status::Unknown if authorized => Status::Authorized,
        other => other,
    };
    Payment {
        id: before.id,
        tenant: before.tenant,
        status,
        amount: before.amount,
        amount_at_first: before.amount,
        amount_authorized: before.amount_authorized,
        amount_captured: before.amount_captured,
        amount_capture_pending: capture_pending,
        amount_refunded: before.amount_refunded,
        amount_refund_pending: before.amount_refund_pending,
        amount_disputed: 0,
        convenience_fee: 0,
        currency: before.currency,
        method: Method::Card { token: before.token, card: before.card, saved: None },
        capture_method: before.capture_method,
        // One capture took what it took and released the rest.
        capture_closed: before.amount_captured > 0,
        initiator: Initiator::Customer,
        mandate: None,
        reference: before.reference,
        description: before.description,
        metadata: before.metadata,
        fraud: before.fraud,
        tax: before.tax,
        failure: before.failure,
        next_action: None,
        fallbacks: Vec::new(),
        processor: before.processor,
        processor_reference: before.processor_reference,
        network_transaction_id: String::new(),
        created_at: before.created_at,
        updated_at: before.updated_at,
        expires_at: None,
        sequence: before.sequence,
        version: 1,
        reserved: matches!(status, Status::Authorized | Status::Unknown),
        reservation: 1,
        postings: 0,
        operations,
        disputes: Vec::new(),
    }
}

/// The authorization, what came last of captures and voids, and the refunds. What is open keeps its number, and with it
/// the reference that its processor knows it by.
fn operations_of(before: &Before, refunds: Vec<Refund>) -> Vec<Operation> {
    let operation = |number, kind, status| Operation {
        number,
        kind,
        status,
        processor: before.processor.clone(),
        processor_reference: String::new(),
        failure: None,
        waiting: None,
        inquiries: 0,
        asked_at: None,
        created_at: before.created_at,
        updated_at: before.updated_at,
    };
    let under_way = |number, kind| {
        let unknown = before.status == Status::Unknown;
        let status = if unknown { OperationStatus::Unknown } else { OperationStatus::Pending };
        let (waiting, inquiries) = (before.waiting.clone(), before.inquiries);
        Operation { waiting, inquiries, ..operation(number, kind, status) }
    };
    let (amount, authorized) = (before.amount, before.amount_authorized > 0);
    let capture = before.capture_method == CaptureMethod::Automatic;
    let attempt = OperationKind::Authorize { amount, capture };
    let mut operations = vec![match &before.operation {
        Some(Doing::Authorize) => under_way(1, attempt),
        _ if authorized => Operation {
            processor_reference: before.processor_reference.clone(),
            ..operation(1, attempt, OperationStatus::Succeeded)
        },
        _ => Operation { failure: before.failure.clone(), ..operation(1, attempt, OperationStatus::Failed) },
    }];
    let last = before.operation_number;
    match &before.operation {
        Some(Doing::Capture { amount }) => {
            operations.push(under_way(last, OperationKind::Capture { amount: *amount, last: true }));
        }
        Some(Doing::Void { reason }) => {
            let cause = VoidCause::Canceled(reason.clone());
            operations.push(under_way(last, OperationKind::Void { cause }));
        }
        // Its number is taken at the processor, whatever it was.
        Some(Doing::Authorize) | None if last > 1 => {
            let capture = OperationKind::Capture { amount: before.amount_captured, last: true };
            let void = OperationKind::Void { cause: VoidCause::Canceled(String::new()) };
            operations.push(match before.status {
                Status::Canceled => operation(last, void, OperationStatus::Succeeded),
                _ if before.amount_captured > 0 => operation(last, capture, OperationStatus::Succeeded),
                _ => Operation {
                    failure: before.failure.clone(),
                    ..operation(last, void, OperationStatus::Failed)
                },
            });
        }
        Some(Doing::Authorize) | None => {}
    }
    let numbers = last.max(1).saturating_add(1)..;
    operations.extend(numbers.zip(refunds).map(|(number, refund)| refunded(before, number, refund)));
    operations
}

/// The processor knows a refund by its id, not by its number. So one that is open is asked about under that name, and
/// never asked for again under another.
fn refunded(before: &Before, number: u32, refund: Refund) -> Operation {
    let status = match refund.status {
        RefundStatus::Pending | RefundStatus::Unknown => OperationStatus::Unknown,
        RefundStatus::Succeeded => OperationStatus::Succeeded,
        RefundStatus::Failed => OperationStatus::Failed,
    };
    let waiting = Waiting { rpc: crate::domain::operation::Rpc::CreateRefund, key: refund.key };
    Operation {
        number,
        kind: OperationKind::Refund { id: refund.id, amount: refund.amount, reason: refund.reason },
        status,
        processor: before.processor.clone(),
        processor_reference: if status.is_open() { refund.id.to_string() } else { String::new() },
        failure: refund.failure,
        waiting: status.is_open().then_some(waiting),
        inquiries: refund.inquiries,
        asked_at: None,
        created_at: refund.created_at,
        updated_at: refund.updated_at,
    }
}

#[cfg(test)]
mod tests;
