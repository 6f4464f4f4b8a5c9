//! The store on the embedded engine.

use std::path::Path;

use mesh::{
    Embedded, StoreError,
    idempotency::{self, Known, Reuse},
};
use money::{CalculationId, TenantId};
use paymesh_proto::tax::v1 as proto;
use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Kept, Key, Store};
use crate::{domain::Calculation, wire};

/// A record is a message of up to some 60 KB, so the row is kept apart from its key (no WITHOUT ROWID):
/// rows in the order of being made, beside an index that is as well.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE calculations (
        tenant TEXT NOT NULL,
        id BLOB NOT NULL CHECK (length(id) = 16),
        record BLOB NOT NULL,
        PRIMARY KEY (tenant, id)
    ) STRICT",
    idempotency::SCHEMA,
];

/// Calculations in the embedded engine.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Embedded,
}

impl EmbeddedStore {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { engine: Embedded::open(path, MIGRATIONS)? })
    }

    /// The engine beneath, for background duties of the mesh.
    pub fn engine(&self) -> Embedded {
        self.engine.clone()
    }
}

impl Store for EmbeddedStore {
    async fn keep(
        &self,
        tenant: TenantId,
        calculation: Calculation,
        key: Option<Key>,
    ) -> Result<Kept, Reuse> {
        let record = wire::to_proto(&calculation).encode_to_vec();
        self.engine
            .write(move |connection| {
                let Some(Key { scope, fingerprint }) = key else {
                    insert(connection, &tenant, calculation.id, &record)?;
                    return Ok(Kept::New(calculation));
                };
                let subject = calculation.id.to_string();
                let known =
                    idempotency::begin(connection, &scope, &fingerprint, &subject, calculation.created_at)?;
                if let Some(first) = first_answer(known)? {
                    return Ok(Kept::Replayed(first));
                }
                insert(connection, &tenant, calculation.id, &record)?;
                idempotency::finish(connection, &scope, &record, calculation.created_at)?;
                Ok(Kept::New(calculation))
            })
            .await
    }

    async fn replay(&self, Key { scope, fingerprint }: Key) -> Result<Option<Calculation>, Reuse> {
        self.engine
            .read(move |connection| {
                let known = idempotency::find(connection, &scope, &fingerprint)?.unwrap_or(Known::New);
                Ok(first_answer(known)?)
            })
            .await
    }

    async fn find(&self, tenant: TenantId, id: CalculationId) -> Result<Option<Calculation>, StoreError> {
        self.engine
            .read(move |connection| {
                let mut select = connection
                    .prepare_cached("SELECT record FROM calculations WHERE tenant = ?1 AND id = ?2")?;
                let key = id.uuid();
                let record: Option<Vec<u8>> = select
                    .query_row(params![tenant.as_str(), key.as_bytes()], |row| row.get(0))
                    .optional()?;
                record.map(|record| read(&record)).transpose()
            })
            .await
    }
}

fn first_answer(known: Known) -> Result<Option<Calculation>, StoreError> {
    match known {
        Known::New => Ok(None),
        Known::Answered(answer) => read(&answer).map(Some),
        // A key and its answer are written in one transaction: there is no in between.
        Known::Underway { subject } => {
            Err(StoreError::Corrupt(format!("the key of {subject} has no answer")))
        }
    }
}

fn insert(
    connection: &Connection,
    tenant: &TenantId,
    id: CalculationId,
    record: &[u8],
) -> Result<(), StoreError> {
    let mut insert =
        connection.prepare_cached("INSERT INTO calculations (tenant, id, record) VALUES (?1, ?2, ?3)")?;
    insert.execute(params![tenant.as_str(), id.uuid().as_bytes(), record])?;
    Ok(())
}

fn read(record: &[u8]) -> Result<Calculation, StoreError> {
    let message = proto::Calculation::decode(record).ok();
    let calculation = message.and_then(wire::from_proto);
    calculation.ok_or_else(|| StoreError::Corrupt("a calculation cannot be read".into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::contract::{self, Fixture};

    struct OnDisk(tempfile::TempDir);

    impl Fixture for OnDisk {
        type Store = EmbeddedStore;

        fn open(&self) -> EmbeddedStore {
            EmbeddedStore::open(&self.0.path().join("tax.db")).unwrap()
        }
    }

    contract::suite!(OnDisk(tempfile::tempdir().unwrap()));
}
