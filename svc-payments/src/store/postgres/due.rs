//! What is under way. Whoever takes something up holds it until the time that it says: no other replica is given it.

use deadpool_postgres::Object;
use mesh::StoreError;
use money::{PaymentId, TenantId, Timestamp};

use super::rows;
use crate::store::{
    Work,
    encoding::{at_most, tenant},
};

/// Passes over what another replica is taking.
const TAKE_PAYMENTS: &str = "WITH due AS (
        SELECT id, due_at FROM payment WHERE due_at <= $1 ORDER BY due_at LIMIT $3 FOR NO KEY UPDATE SKIP LOCKED)
    UPDATE payment AS p SET due_at = $2 FROM due WHERE p.id = due.id RETURNING due.due_at, p.tenant, p.id";
const TAKE_POSTINGS: &str = "WITH due AS (
        SELECT payment, ordinal, due_at FROM posting AS p WHERE due_at <= $1
            AND NOT EXISTS (SELECT FROM posting AS e WHERE e.payment = p.payment AND e.ordinal < p.ordinal)
        ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED)
    UPDATE posting AS p SET due_at = $2 FROM due WHERE p.payment = due.payment AND p.ordinal = due.ordinal
    RETURNING due.due_at, p.tenant, p.payment";

/// What is due of a payment.
type Kind = fn(TenantId, PaymentId) -> Work;

pub(super) async fn take(
    client: &Object,
    now: Timestamp,
    until: Timestamp,
    limit: usize,
) -> Result<Vec<Work>, StoreError> {
    let kinds: [(&str, Kind); 2] = [(TAKE_PAYMENTS, Work::Payment), (TAKE_POSTINGS, Work::Postings)];
    let mut taken = Vec::new();
    for (statement, of) in kinds {
        let values = (now.as_nanos(), until.as_nanos(), at_most(limit));
        let mut found = rows(client, statement, &[&values.0, &values.1, &values.2]).await?;
        found.sort_by_key(|row| row.get::<_, i64>(0));
        for row in found {
            taken.push(of(tenant(row.get(1))?, PaymentId::new(row.get(2))));
        }
    }
    Ok(taken)
}

/// Moves the time that something is due, but never forward what was moved further back meanwhile.
pub(super) async fn put_off(client: &Object, work: &Work, until: Timestamp) -> Result<(), StoreError> {
    let (statement, id) = match work {
        Work::Payment(_, id) => ("UPDATE payment SET due_at = $2 WHERE id = $1 AND due_at < $2", id),
        // The others are not due before the first.
        Work::Postings(_, id) => (
            "UPDATE posting SET due_at = $2 WHERE payment = $1 AND due_at < $2
                AND ordinal = (SELECT min(ordinal) FROM posting WHERE payment = $1)",
            id,
        ),
    };
    rows(client, statement, &[&id.uuid(), &until.as_nanos()]).await.map(drop)
}

pub(super) async fn make_due(
    client: &Object,
    payment: PaymentId,
    now: Timestamp,
) -> Result<Option<TenantId>, StoreError> {
    let statement =
        "UPDATE payment SET due_at = least(coalesce(due_at, $2), $2) WHERE id = $1 RETURNING tenant";
    let found = rows(client, statement, &[&payment.uuid(), &now.as_nanos()]).await?;
    found.first().map(|row| tenant(row.get(0))).transpose()
}
