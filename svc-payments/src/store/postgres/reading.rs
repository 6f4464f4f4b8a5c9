//! What is asked for. Each answer is of one moment.

use deadpool_postgres::Object;
use mesh::StoreError;
use money::{PaymentId, TenantId, Timestamp};
use tokio_postgres::types::ToSql;

use super::rows;
use crate::{
    domain::{
        payment::{Inspection, Payment, Recorded},
        posting::Posting,
        transition::Status,
    },
    store::{
        Filter, Page,
        encoding::{at_most, decode, known_status, known_type, tenant},
    },
};

pub(super) async fn payment(
    client: &Object,
    tenant: &TenantId,
    id: PaymentId,
) -> Result<Option<Payment>, StoreError> {
    let statement = "SELECT body FROM payment WHERE id = $1 AND tenant = $2";
    let found = rows(client, statement, &[&id.uuid(), &tenant.as_str()]).await?;
    found.first().map(|row| decode(row.get(0))).transpose()
}

pub(super) async fn by_processor_reference(
    client: &Object,
    processor: &str,
    reference: &str,
) -> Result<Option<(TenantId, PaymentId)>, StoreError> {
    let statement = "SELECT tenant, id FROM payment
        WHERE processor_reference = $1 AND processor = $2 AND processor_reference <> ''";
    let found = rows(client, statement, &[&reference, &processor]).await?;
    found.first().map(|row| Ok((tenant(row.get(0))?, PaymentId::new(row.get(1))))).transpose()
}

pub(super) async fn postings(client: &Object, payment: PaymentId) -> Result<Vec<Posting>, StoreError> {
    let statement = "SELECT body FROM posting WHERE payment = $1 ORDER BY ordinal";
    rows(client, statement, &[&payment.uuid()]).await?.iter().map(|row| decode(row.get(0))).collect()
}

pub(super) async fn inspections(client: &Object, limit: usize) -> Result<Vec<Inspection>, StoreError> {
    let statement = "SELECT body FROM inspection ORDER BY number DESC LIMIT $1";
    rows(client, statement, &[&at_most(limit)]).await?.iter().map(|row| decode(row.get(0))).collect()
}

/// The conditions of a list, and their values.
struct Where<'a> {
    statement: String,
    values: Vec<&'a (dyn ToSql + Sync)>,
}

impl<'a> Where<'a> {
    /// `?` in the condition is the value's place.
    fn only(&mut self, condition: &str, value: &'a (dyn ToSql + Sync)) {
        self.values.push(value);
        self.statement.push_str(&condition.replace('?', &format!("${}", self.values.len())));
    }
}

pub(super) async fn payments(
    client: &Object,
    tenant: &TenantId,
    filter: &Filter,
) -> Result<Vec<Payment>, StoreError> {
    let (tenant, status) = (tenant.as_str(), filter.status.map(Status::name));
    let (from, before) = (filter.from.map(|id| id.uuid()), filter.before.map(|id| id.uuid()));
    let limit = at_most(filter.limit);
    let mut list = Where { statement: "SELECT body FROM payment".to_owned(), values: Vec::new() };
    list.only(" WHERE tenant = ?", &tenant);
    if let Some(status) = &status {
        list.only(" AND status = ?", status);
    }
    if let Some(reference) = &filter.reference {
        // The first half lets the partial index be used.
        list.only(" AND reference <> '' AND reference = ?", reference);
    }
    if let Some(least) = &filter.amount_min {
        list.only(" AND amount >= ?", least);
    }
    if let Some(most) = &filter.amount_max {
        list.only(" AND amount <= ?", most);
    }
    if let Some(from) = &from {
        list.only(" AND id >= ?", from);
    }
    if let Some(before) = &before {
        list.only(" AND id < ?", before);
    }
    if let Some((key, value)) = &filter.metadata {
        list.only(" AND id IN (SELECT payment FROM payment_metadata WHERE tenant = ?", &tenant);
        list.only(" AND digest = sha256(convert_to(?::text, 'UTF8') || '\\x00'::bytea", key);
        list.only(" || convert_to(?::text, 'UTF8')))", value);
    }
    list.only(" ORDER BY id DESC LIMIT ?", &limit);
    rows(client, &list.statement, &list.values).await?.iter().map(|row| decode(row.get(0))).collect()
}

/// The payment itself has no number among its events.
pub(super) async fn events(
    client: &Object,
    tenant: &TenantId,
    payment: PaymentId,
    page: Page<i64>,
) -> Result<Option<(Payment, Vec<Recorded>)>, StoreError> {
    let statement =
        "SELECT 0::bigint AS number, '' AS type, '' AS status, 0::bigint AS amount, 0::bigint AS at, body
            FROM payment WHERE id = $1 AND tenant = $2
        UNION ALL (SELECT sequence, type, status, amount, at, NULL FROM event
            WHERE payment = $1 AND sequence > $3 ORDER BY sequence LIMIT $4)
        ORDER BY number";
    let (id, tenant, after) = (payment.uuid(), tenant.as_str(), page.after.unwrap_or(0));
    let found = rows(client, statement, &[&id, &tenant, &after, &at_most(page.limit)]).await?;
    let Some((first, events)) = found.split_first() else { return Ok(None) };
    let Some(body) = first.get::<_, Option<&[u8]>>(5) else { return Ok(None) };
    let recorded = |row: &tokio_postgres::Row| {
        Ok(Recorded {
            sequence: row.get(0),
            event_type: known_type(row.get(1))?,
            status: known_status(row.get(2))?,
            amount: row.get(3),
            at: Timestamp::from_nanos(row.get(4)),
        })
    };
    let events = events.iter().map(recorded).collect::<Result<_, StoreError>>()?;
    Ok(Some((decode(body)?, events)))
}
