//! The tables of the embedded store. Their constraints say again what the domain promises: a bug there stops here.

use super::before;
use crate::domain::transition::{self, Status};

/// The migrations, in order: the first three are those of the first program, whose files are converted.
pub(super) fn migrations() -> Vec<String> {
    let before = [before::PAYMENTS, mesh::idempotency::SCHEMA, before::UNDER_WAY_BY_ID];
    before.into_iter().map(str::to_owned).chain([payments()]).collect()
}

fn payments() -> String {
    format!(
        "CREATE TABLE payment (
    id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    version INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ({statuses})),
    reference TEXT NOT NULL,
    due_at INTEGER,
    amount INTEGER NOT NULL CHECK (amount > 0),
    amount_authorized INTEGER NOT NULL CHECK (amount_authorized BETWEEN 0 AND amount),
    amount_captured INTEGER NOT NULL CHECK (amount_captured >= 0),
    amount_capture_pending INTEGER NOT NULL
        CHECK (amount_capture_pending >= 0 AND amount_captured + amount_capture_pending <= amount_authorized),
    amount_refunded INTEGER NOT NULL CHECK (amount_refunded >= 0),
    amount_refund_pending INTEGER NOT NULL CHECK (amount_refund_pending >= 0),
    amount_disputed INTEGER NOT NULL
        CHECK (amount_disputed >= 0 AND amount_refunded + amount_refund_pending + amount_disputed <= amount_captured),
    processor TEXT NOT NULL,
    processor_reference TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX payment_by_tenant ON payment (tenant, id);
CREATE INDEX payment_by_status ON payment (tenant, status, id);
CREATE INDEX payment_by_reference ON payment (tenant, reference, id) WHERE reference <> '';
CREATE UNIQUE INDEX payment_by_processor ON payment (processor_reference, processor) WHERE processor_reference <> '';
CREATE INDEX payment_due ON payment (due_at) WHERE due_at IS NOT NULL;
CREATE TRIGGER payment_step BEFORE UPDATE OF status ON payment
WHEN OLD.status <> NEW.status AND (OLD.status || '>' || NEW.status) NOT IN ({steps})
BEGIN SELECT RAISE(ABORT, 'a payment cannot take this step'); END;
CREATE TABLE payment_metadata (
    tenant TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    payment BLOB NOT NULL,
    PRIMARY KEY (tenant, key, value, payment)
) STRICT, WITHOUT ROWID;
CREATE TABLE event (
    payment BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    type TEXT NOT NULL,
    status TEXT NOT NULL,
    amount INTEGER NOT NULL,
    at INTEGER NOT NULL,
    PRIMARY KEY (payment, sequence)
) STRICT, WITHOUT ROWID;
CREATE TABLE posting (
    payment BLOB NOT NULL,
    ordinal INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    due_at INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (payment, ordinal)
) STRICT, WITHOUT ROWID;
CREATE INDEX posting_due ON posting (due_at);
CREATE TABLE inspection (
    number INTEGER PRIMARY KEY,
    payment BLOB NOT NULL,
    at INTEGER NOT NULL,
    body BLOB NOT NULL
) STRICT",
        statuses = list(Status::ALL.into_iter().map(|status| status.name().to_owned())),
        steps = list(transition::reachable().into_iter().map(|(from, to)| format!("{}>{}", from.name(), to.name()))),
    )
}

fn list(words: impl Iterator<Item = String>) -> String {
    words.map(|word| format!("'{word}'")).collect::<Vec<_>>().join(", ")
}
