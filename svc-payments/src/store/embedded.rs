//! The embedded store: each method is one job of the group commit.

use mesh::{
    Embedded, StoreError,
    idempotency::{self, Known},
};
use money::{PaymentId, RefundId, TenantId, Timestamp};
use rusqlite::{Connection, params_from_iter, types::Value};

use super::{Begun, Claim, CommitError, Committed, Decision, Filter, Page, Store, Work, rows};
use crate::domain::{
    payment::{Change, Payment, Recorded, Rejection},
    refund::Refund,
};
use crate::processor::WebhookSubject;

/// Payments in SQLite.
#[derive(Clone)]
pub struct EmbeddedStore(Embedded);

impl EmbeddedStore {
    /// Opens or creates the store's file.
    pub fn open(path: &std::path::Path) -> Result<Self, StoreError> {
        Ok(Self(Embedded::open(path, &[rows::SCHEMA, idempotency::SCHEMA, rows::UNDER_WAY_BY_ID])?))
    }

    /// The engine beneath, for background duties of the mesh.
    pub fn engine(&self) -> Embedded {
        self.0.clone()
    }
}

fn known(connection: &Connection, claim: &Claim) -> Result<Option<Begun>, CommitError> {
    Ok(match idempotency::find(connection, &claim.scope, &claim.fingerprint)? {
        None | Some(Known::New) => None,
        Some(Known::Underway { subject }) => Some(Begun::Underway { subject }),
        Some(Known::Answered(answer)) => Some(Begun::Answered(answer)),
    })
}

fn claim_key(connection: &Connection, claim: &Claim, now: Timestamp) -> Result<(), CommitError> {
    idempotency::begin(connection, &claim.scope, &claim.fingerprint, &claim.subject, now)?;
    Ok(())
}

/// Writes everything that goes with a decision about a payment that is on record.
fn write(connection: &Connection, decision: Decision, now: Timestamp) -> Result<Committed, CommitError> {
    let payment = &decision.change.payment;
    rows::update_payment(connection, payment, now)?;
    rows::insert_events(connection, payment.id, &decision.change.events)?;
    if let Some(refund) = &decision.refund {
        rows::put_refund(connection, refund, now)?;
    }
    if let Some((scope, answer)) = &decision.answer {
        idempotency::finish(connection, scope, answer, now)?;
    }
    let mut postings = Vec::with_capacity(decision.change.postings.len());
    for posting in &decision.change.postings {
        postings.push((rows::insert_posting(connection, posting, now)?, posting.clone()));
    }
    Ok(Committed { decision, postings })
}

fn load(connection: &Connection, tenant: &TenantId, id: PaymentId) -> Result<Payment, CommitError> {
    rows::payment(connection, tenant, id)?.ok_or(CommitError::PaymentNotFound)
}

impl Store for EmbeddedStore {
    async fn create(&self, claim: Claim, change: Change, now: Timestamp) -> Result<Begun, CommitError> {
        let create = move |connection: &Connection| {
            if let Some(begun) = known(connection, &claim)? {
                return Ok(begun);
            }
            claim_key(connection, &claim, now)?;
            rows::insert_payment(connection, &change.payment, now)?;
            rows::insert_events(connection, change.payment.id, &change.events)?;
            Ok(Begun::New(Box::new(Committed { decision: Decision::of(change), postings: Vec::new() })))
        };
        self.0.write(create).await
    }

    async fn begin<D>(
        &self,
        claim: Claim,
        payment: PaymentId,
        now: Timestamp,
        decide: D,
    ) -> Result<Begun, CommitError>
    where
        D: FnOnce(Payment) -> Result<Decision, Rejection> + Send + 'static,
    {
        let begin = move |connection: &Connection| {
            if let Some(begun) = known(connection, &claim)? {
                return Ok(begun);
            }
            let decision = decide(load(connection, &claim.scope.tenant, payment)?)?;
            claim_key(connection, &claim, now)?;
            Ok(Begun::New(Box::new(write(connection, decision, now)?)))
        };
        self.0.write(begin).await
    }

    async fn settle<D>(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        refund: Option<RefundId>,
        now: Timestamp,
        decide: D,
    ) -> Result<Committed, CommitError>
    where
        D: FnOnce(Payment, Option<Refund>) -> Result<Decision, Rejection> + Send + 'static,
    {
        let settle = move |connection: &Connection| {
            let found = load(connection, &tenant, payment)?;
            let refund = match refund {
                Some(id) => rows::refund(connection, payment, id)?,
                None => None,
            };
            write(connection, decide(found, refund)?, now)
        };
        self.0.write(settle).await
    }

    async fn find_claim(&self, claim: Claim) -> Result<Option<Begun>, CommitError> {
        self.0.read(move |connection| known(connection, &claim)).await
    }

    async fn postings_done(&self, numbers: Vec<i64>) -> Result<(), StoreError> {
        self.0.write(move |connection| rows::delete_postings(connection, &numbers)).await
    }

    async fn due(&self, now: Timestamp, limit: usize) -> Result<Vec<Work>, StoreError> {
        self.0.read(move |connection| due(connection, now, limit)).await
    }

    async fn put_off(&self, work: Work, until: Timestamp) -> Result<(), StoreError> {
        self.0.write(move |connection| rows::put_off(connection, &work, until)).await
    }

    async fn make_all_due(&self, now: Timestamp) -> Result<(), StoreError> {
        self.0.write(move |connection| rows::make_all_due(connection, now)).await
    }

    async fn make_due(&self, subject: WebhookSubject, now: Timestamp) -> Result<(), StoreError> {
        self.0.write(move |connection| rows::make_due(connection, subject, now)).await
    }

    async fn payment(&self, tenant: TenantId, id: PaymentId) -> Result<Option<Payment>, StoreError> {
        self.0.read(move |connection| rows::payment(connection, &tenant, id)).await
    }

    async fn payments(&self, tenant: TenantId, filter: Filter) -> Result<Vec<Payment>, StoreError> {
        self.0.read(move |connection| list(connection, &tenant, &filter)).await
    }

    async fn refunds(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        page: Page<RefundId>,
    ) -> Result<Option<Vec<Refund>>, StoreError> {
        let read = move |connection: &Connection| match rows::payment(connection, &tenant, payment)? {
            Some(_) => Ok(Some(rows::refunds(connection, payment, page)?)),
            None => Ok(None),
        };
        self.0.read(read).await
    }

    async fn refund(
        &self,
        tenant: TenantId,
        payment: PaymentId,
        id: RefundId,
    ) -> Result<Option<(Payment, Refund)>, StoreError> {
        let read = move |connection: &Connection| {
            let found = rows::payment(connection, &tenant, payment)?;
            Ok(found.zip(rows::refund(connection, payment, id)?))
        };
        self.0.read(read).await
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
}

fn list(connection: &Connection, tenant: &TenantId, filter: &Filter) -> Result<Vec<Payment>, StoreError> {
    let mut sql = String::from("SELECT body FROM payments WHERE tenant = ?");
    let mut values = vec![Value::from(tenant.to_string())];
    if let Some(status) = filter.status {
        sql.push_str(" AND status = ?");
        values.push(Value::from(status.name().to_owned()));
    }
    if let Some(reference) = &filter.reference {
        // The first half lets the partial index be used.
        sql.push_str(" AND reference <> '' AND reference = ?");
        values.push(Value::from(reference.clone()));
    }
    if let Some(before) = filter.before {
        sql.push_str(" AND id < ?");
        values.push(Value::from(before.uuid().as_bytes().to_vec()));
    }
    sql.push_str(" ORDER BY id DESC LIMIT ?");
    values.push(Value::from(i64::try_from(filter.limit).unwrap_or(i64::MAX)));
    let mut select = connection.prepare_cached(&sql)?;
    let rows = select.query_map(params_from_iter(values), |row| row.get::<_, Vec<u8>>(0))?;
    rows.map(|body| rows::decode_payment(&body?)).collect()
}

fn due(connection: &Connection, now: Timestamp, limit: usize) -> Result<Vec<Work>, StoreError> {
    let mut work = Vec::new();
    let most = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut payments = connection
        .prepare_cached("SELECT tenant, id FROM payments WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2")?;
    let mut found = payments.query([now.as_nanos(), most])?;
    while let Some(row) = found.next()? {
        let tenant = rows::tenant_of(&row.get::<_, String>(0)?)?;
        work.push(Work::Payment(tenant, PaymentId::new(rows::id_of(row.get(1)?))));
    }
    let mut refunds = connection.prepare_cached(
        "SELECT tenant, payment, id FROM refunds WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2",
    )?;
    let mut found = refunds.query([now.as_nanos(), most])?;
    while let Some(row) = found.next()? {
        let tenant = rows::tenant_of(&row.get::<_, String>(0)?)?;
        let payment = PaymentId::new(rows::id_of(row.get(1)?));
        work.push(Work::Refund(tenant, payment, RefundId::new(rows::id_of(row.get(2)?))));
    }
    let postings = rows::due_postings(connection, now, limit)?;
    work.extend(postings.into_iter().map(|(number, posting)| Work::Posting(number, Box::new(posting))));
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::EmbeddedStore;
    use crate::store::contract::{self, Fixture};

    struct OnDisk(tempfile::TempDir);

    impl Fixture for OnDisk {
        type Store = EmbeddedStore;

        fn open(&self) -> EmbeddedStore {
            EmbeddedStore::open(&self.0.path().join("payments.db")).unwrap()
        }
    }

    contract::suite!(OnDisk(tempfile::tempdir().unwrap()));
}
