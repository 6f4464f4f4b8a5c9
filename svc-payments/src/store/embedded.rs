//! The embedded store: each method is one job of the group commit.

use mesh::{Embedded, StoreError, idempotency};
use money::{PaymentId, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, params, params_from_iter, types::Value};

use super::{
    Claim, Commit, CommitError, Committed, Filter, Known, Page, Store, Work, before, encoding, rows, schema,
};
use crate::domain::{
    payment::{Inspection, Payment, Recorded},
    posting::Posting,
};

/// Payments in SQLite.
#[derive(Clone)]
pub struct EmbeddedStore(Embedded);

impl EmbeddedStore {
    /// Opens or creates the store's file.
    pub fn open(path: &std::path::Path) -> Result<Self, StoreError> {
        let migrations = schema::migrations();
        let migrations: Vec<&str> = migrations.iter().map(String::as_str).collect();
        let engine = Embedded::open(path, &migrations)?;
        // Nobody uses the engine yet.
        before::convert(&mut Connection::open(path)?)?;
        Ok(Self(engine))
    }

    /// The engine beneath, for background duties of the mesh.
    pub fn engine(&self) -> Embedded {
        self.0.clone()
    }
}

fn known(connection: &Connection, claim: &Claim) -> Result<Option<Known>, CommitError> {
    Ok(match idempotency::find(connection, &claim.scope, &claim.fingerprint)? {
        None | Some(idempotency::Known::New) => None,
        Some(idempotency::Known::Underway { subject }) => Some(Known::Underway { subject }),
        Some(idempotency::Known::Answered(answer)) => Some(Known::Answered(answer)),
    })
}

fn commit(connection: &Connection, commit: &Commit, now: Timestamp) -> Result<Committed, CommitError> {
    let Commit { claim, change, answers } = commit;
    if let Some(claim) = claim {
        match known(connection, claim)? {
            Some(Known::Underway { subject }) => return Ok(Committed::Underway { subject }),
            Some(Known::Answered(answer)) => return Ok(Committed::Answered(answer)),
            None => {}
        }
    }
    let payment = &change.payment;
    let mut earlier_postings = false;
    if payment.version == 1 {
        rows::insert_payment(connection, payment)?;
    } else {
        if !rows::update_payment(connection, payment)? {
            return Ok(Committed::Contended);
        }
        if !change.postings.is_empty() {
            earlier_postings = rows::has_postings(connection, payment.id)?;
        }
    }
    if let Some(claim) = claim {
        idempotency::begin(connection, &claim.scope, &claim.fingerprint, &claim.subject, now)?;
    }
    rows::insert_events(connection, payment.id, &change.events)?;
    rows::insert_postings(connection, &change.postings, now)?;
    rows::insert_inspections(connection, payment.id, &change.inspections, now)?;
    for (scope, answer) in answers {
        idempotency::finish(connection, scope, answer, now)?;
    }
    Ok(Committed::Done { earlier_postings })
}

impl Store for EmbeddedStore {
    async fn commit(&self, write: Commit, now: Timestamp) -> Result<Committed, CommitError> {
        self.0.write(move |connection| commit(connection, &write, now)).await
    }

    async fn find_claim(&self, claim: Claim) -> Result<Option<Known>, CommitError> {
        self.0.read(move |connection| known(connection, &claim)).await
    }

    async fn postings(&self, _: TenantId, payment: PaymentId) -> Result<Vec<Posting>, StoreError> {
        self.0.read(move |connection| rows::postings(connection, payment)).await
    }

    async fn postings_done(&self, payment: PaymentId, ordinal: u32) -> Result<(), StoreError> {
        self.0.write(move |connection| rows::delete_postings(connection, payment, ordinal)).await
    }

    async fn take_due(
        &self,
        now: Timestamp,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Work>, StoreError> {
        // Mostly nothing is due, and then nothing is written.
        let found = self.0.read(move |connection| due(connection, now, limit)).await?;
        if found.is_empty() {
            return Ok(found);
        }
        let take = move |connection: &Connection| {
            let found = due(connection, now, limit)?;
            for work in &found {
                put_off(connection, work, until)?;
            }
            Ok(found)
        };
        self.0.write(take).await
    }

    async fn put_off(&self, work: Work, until: Timestamp) -> Result<(), StoreError> {
        self.0.write(move |connection| put_off(connection, &work, until)).await
    }

    async fn make_all_due(&self, now: Timestamp) -> Result<(), StoreError> {
        let make_due = move |connection: &Connection| {
            for table in ["payment", "posting"] {
                connection.execute(
                    &format!("UPDATE {table} SET due_at = ?1 WHERE due_at > ?1"),
                    [now.as_nanos()],
                )?;
            }
            Ok(())
        };
        self.0.write(make_due).await
    }

    async fn make_due(&self, payment: PaymentId, now: Timestamp) -> Result<Option<TenantId>, StoreError> {
        let make_due = move |connection: &Connection| {
            let mut update = connection.prepare_cached(
                "UPDATE payment SET due_at = min(coalesce(due_at, ?2), ?2) WHERE id = ?1 RETURNING tenant",
            )?;
            let id = payment.uuid();
            let tenant: Option<String> =
                update.query_row(params![id.as_bytes(), now.as_nanos()], |row| row.get(0)).optional()?;
            tenant.map(|tenant| encoding::tenant(&tenant)).transpose()
        };
        self.0.write(make_due).await
    }

    async fn by_processor_reference(
        &self,
        processor: String,
        reference: String,
    ) -> Result<Option<(TenantId, PaymentId)>, StoreError> {
        if reference.is_empty() {
            return Ok(None);
        }
        let read = move |connection: &Connection| {
            let mut select = connection.prepare_cached(
                "SELECT tenant, id FROM payment
                 WHERE processor_reference = ?1 AND processor = ?2 AND processor_reference <> ''",
            )?;
            let found: Option<(String, [u8; 16])> = select
                .query_row([&reference, &processor], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            found.map(|(tenant, id)| Ok((encoding::tenant(&tenant)?, rows::payment_id(id)))).transpose()
        };
        self.0.read(read).await
    }

    async fn payment(&self, tenant: TenantId, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.0.read(move |connection| rows::payment(connection, &tenant, id)).await
    }

    async fn payments(&self, tenant: TenantId, filter: Filter) -> Result<Vec<Payment>, StoreError> {
        self.0.read(move |connection| list(connection, &tenant, &filter)).await
    }

    async fn events(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        page: Page<i64>,
    ) -> Result<Option<(Payment, Vec<Recorded>)>, StoreError> {
        let read = move |connection: &Connection| match rows::payment(connection, &tenant, payment)? {
            Some(found) => Ok(Some((found, rows::events(connection, payment, page)?))),
            None => Ok(None),
        };
        self.0.read(read).await
    }

    async fn inspections(&self, limit: usize) -> Result<Vec<Inspection>, StoreError> {
        self.0.read(move |connection| rows::inspections(connection, limit)).await
    }
}

fn list(connection: &Connection, tenant: &TenantId, filter: &Filter) -> Result<Vec<Payment>, StoreError> {
    let mut sql = String::from("SELECT body FROM payment WHERE tenant = ?");
    let mut values = vec![Value::from(tenant.to_string())];
    let mut only = |condition: &str, value: Value| {
        sql.push_str(condition);
        values.push(value);
    };
    if let Some(status) = filter.status {
        only(" AND status = ?", status.name().to_owned().into());
    }
    if let Some(reference) = &filter.reference {
        // The first half lets the partial index be used.
        only(" AND reference <> '' AND reference = ?", reference.clone().into());
    }
    if let Some(least) = filter.amount_min {
        only(" AND amount >= ?", least.into());
    }
    if let Some(most) = filter.amount_max {
        only(" AND amount <= ?", most.into());
    }
    if let Some(from) = filter.from {
        only(" AND id >= ?", from.uuid().as_bytes().to_vec().into());
    }
    if let Some(before) = filter.before {
        only(" AND id < ?", before.uuid().as_bytes().to_vec().into());
    }
    if let Some((key, value)) = &filter.metadata {
        only(" AND id IN (SELECT payment FROM payment_metadata WHERE tenant = ?", tenant.to_string().into());
        only(" AND key = ?", key.clone().into());
        only(" AND value = ?)", value.clone().into());
    }
    only(" ORDER BY id DESC LIMIT ?", encoding::at_most(filter.limit).into());
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(values), |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|body| encoding::decode(&body?)).collect()
}

fn due(connection: &Connection, now: Timestamp, limit: usize) -> Result<Vec<Work>, StoreError> {
    let mut work = Vec::new();
    let mut read = |sql: &str, of: fn(TenantId, PaymentId) -> Work| -> Result<(), StoreError> {
        let mut select = connection.prepare_cached(sql)?;
        let mut found = select.query([now.as_nanos(), encoding::at_most(limit)])?;
        while let Some(row) = found.next()? {
            work.push(of(encoding::tenant(&row.get::<_, String>(0)?)?, rows::payment_id(row.get(1)?)));
        }
        Ok(())
    };
    read("SELECT tenant, id FROM payment WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2", Work::Payment)?;
    read(
        "SELECT tenant, payment FROM posting WHERE due_at <= ?1 GROUP BY payment ORDER BY min(due_at) LIMIT ?2",
        Work::Postings,
    )?;
    Ok(work)
}

/// Moves the time that something is due, but never forward what was moved further back meanwhile.
fn put_off(connection: &Connection, work: &Work, until: Timestamp) -> Result<(), StoreError> {
    let (sql, id) = match work {
        Work::Payment(_, id) => ("UPDATE payment SET due_at = ?2 WHERE id = ?1 AND due_at < ?2", id),
        Work::Postings(_, id) => ("UPDATE posting SET due_at = ?2 WHERE payment = ?1 AND due_at < ?2", id),
    };
    connection.prepare_cached(sql)?.execute(params![id.uuid().as_bytes(), until.as_nanos()])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::store::contract::{self, Fixture};

    struct OnDisk(tempfile::TempDir);

    impl Fixture for OnDisk {
        type Store = EmbeddedStore;
        const ALONE: bool = true;

        async fn open(&self) -> EmbeddedStore {
            EmbeddedStore::open(&self.0.path().join("payments.db")).unwrap()
        }
    }

    contract::suite!(OnDisk(tempfile::tempdir().unwrap()));
}
