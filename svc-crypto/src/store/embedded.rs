//! The store on the mesh's embedded engine.

mod audit;
mod cards;
mod named;
mod root;

use std::path::Path;

use mesh::{
    Embedded, StoreError,
    idempotency::{self, Fingerprint, Known, Reuse, Scope},
};
use money::{TenantId, Timestamp, TokenRef};
use rusqlite::{Connection, params};
use uuid::Uuid;

use super::{
    Change, Deletion, Kept, Put, PutCard, PutError, RootRecord, RootedError, RootedKey, Store, StoredCard,
};
use crate::domain::{
    envelope::KeyRef,
    key::{Key, State},
    keys::{KeyName, Slot, WrappedKey},
    rooted::RootName,
};

pub use audit::EmbeddedAuditLog;

/// Applied once each, in order; never changed after a release.
const MIGRATIONS: &[&str] = &[
    "CREATE TABLE root (only INTEGER PRIMARY KEY CHECK (only = 1), id BLOB NOT NULL) STRICT",
    "CREATE TABLE key (
        tenant TEXT NOT NULL,
        purpose INTEGER NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        id BLOB NOT NULL,
        wrapped BLOB NOT NULL,
        created_at INTEGER NOT NULL,
        PRIMARY KEY (tenant, purpose, name, version)
    ) STRICT, WITHOUT ROWID",
    "CREATE TABLE card (
        tenant TEXT NOT NULL,
        id BLOB NOT NULL,
        sealed BLOB NOT NULL,
        brand INTEGER NOT NULL,
        bin TEXT NOT NULL,
        last4 TEXT NOT NULL,
        exp_month INTEGER NOT NULL,
        exp_year INTEGER NOT NULL,
        fingerprint TEXT NOT NULL,
        created_at INTEGER NOT NULL,
        updated_at INTEGER NOT NULL,
        PRIMARY KEY (tenant, id)
    ) STRICT, WITHOUT ROWID",
    "CREATE TABLE card_index (
        tenant TEXT NOT NULL,
        tag BLOB NOT NULL,
        id BLOB NOT NULL,
        PRIMARY KEY (tenant, tag)
    ) STRICT, WITHOUT ROWID",
    idempotency::SCHEMA,
    named::SCHEMA,
    cards::SCHEMA,
    root::SCHEMA,
];

/// Keeps everything in one file. When a deletion or a destruction is answered, no byte of what went is left on the disk.
/// Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Embedded,
}

impl EmbeddedStore {
    /// Opens or creates the file.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { engine: Embedded::open(path, MIGRATIONS)? })
    }

    /// Opens a file that is there, and changes nothing in it.
    pub fn open_read_only(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { engine: Embedded::open_read_only(path, MIGRATIONS)? })
    }

    /// The engine beneath, for background duties of the mesh.
    pub fn engine(&self) -> Embedded {
        self.engine.clone()
    }
}

impl Store for EmbeddedStore {
    async fn root(&self) -> Result<Option<RootRecord>, StoreError> {
        self.engine.read(root::select).await
    }

    async fn adopt_root(&self, id: Uuid, before: Option<Uuid>) -> Result<RootRecord, StoreError> {
        self.engine.write(move |connection| root::adopt(connection, id, before)).await
    }

    async fn settle_root(&self, root: RootName) -> Result<Option<RootRecord>, StoreError> {
        let record = self.engine.write(move |connection| root::settle(connection, &root)).await?;
        // The log may still hold what was overwritten.
        self.engine.checkpoint().await?;
        Ok(record)
    }

    async fn keys_under_root(
        &self,
        after: Option<RootedKey>,
        limit: usize,
    ) -> Result<Vec<RootedKey>, StoreError> {
        self.engine.read(move |connection| root::keys(connection, after.as_ref(), limit)).await
    }

    async fn rewrap_key(&self, from: RootedKey, wrapped: Vec<u8>) -> Result<bool, RootedError> {
        self.engine.write(move |connection| root::rewrap(connection, &from, &wrapped)).await
    }

    async fn named_key(&self, tenant: TenantId, name: KeyName) -> Result<Option<Key>, StoreError> {
        self.engine.read(move |connection| named::select(connection, &tenant, &name)).await
    }

    async fn revision(&self, tenant: TenantId, name: KeyName) -> Result<Option<u64>, StoreError> {
        self.engine.read(move |connection| named::revision(connection, &tenant, &name)).await
    }

    async fn named_keys(
        &self,
        tenant: TenantId,
        after: Option<KeyName>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        self.engine.read(move |connection| named::list(connection, &tenant, after.as_ref(), limit)).await
    }

    async fn keep_key(&self, key: Key) -> Result<Kept, StoreError> {
        let destroyed = matches!(key.state, State::Destroyed { .. });
        let kept = self.engine.write(move |connection| named::keep(connection, &key)).await?;
        if destroyed {
            // The log may still hold what was overwritten, just now or by an attempt that ended before this.
            self.engine.checkpoint().await?;
        }
        Ok(kept)
    }

    async fn keys_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>, StoreError> {
        self.engine.read(move |connection| named::due(connection, now, limit)).await
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        self.engine.read(move |connection| named::changes(connection, after, limit)).await
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        self.engine.read(named::last_change).await
    }

    async fn session(&self) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn key(&self, slot: Slot) -> Result<Vec<WrappedKey>, StoreError> {
        self.engine.read(move |connection| select_key(connection, &slot)).await
    }

    async fn make_key(
        &self,
        slot: Slot,
        first: WrappedKey,
        now: Timestamp,
    ) -> Result<Vec<WrappedKey>, RootedError> {
        self.engine
            .write(move |connection| {
                RootRecord::check(root::select(connection)?, &slot, &first.wrapped)?;
                let known = select_key(connection, &slot)?;
                if !known.is_empty() {
                    return Ok(known);
                }
                insert_key(connection, &slot, &first, now)?;
                Ok(vec![first])
            })
            .await
    }

    async fn put_card(&self, put: PutCard) -> Result<Put, PutError> {
        self.engine.write(move |connection| cards::put(connection, put)).await
    }

    async fn replay(&self, scope: Scope, fingerprint: Fingerprint) -> Result<Option<Vec<u8>>, Reuse> {
        self.engine
            .read(move |connection| {
                Ok(match idempotency::find(connection, &scope, &fingerprint)? {
                    Some(Known::Answered(answer)) => Some(answer),
                    Some(Known::New | Known::Underway { .. }) | None => None,
                })
            })
            .await
    }

    async fn cards(&self, ids: Vec<(TenantId, TokenRef)>) -> Result<Vec<Option<StoredCard>>, StoreError> {
        self.engine
            .read(move |connection| {
                ids.iter().map(|(tenant, id)| cards::select(connection, tenant, *id)).collect()
            })
            .await
    }

    async fn delete_cards(
        &self,
        ids: Vec<(TenantId, TokenRef)>,
        now: Timestamp,
    ) -> Result<Vec<Deletion>, StoreError> {
        let deleted: Vec<Deletion> = self
            .engine
            .write(move |connection| {
                ids.iter().map(|(tenant, id)| cards::delete(connection, tenant, *id, now)).collect()
            })
            .await?;
        if deleted.iter().any(|deletion| *deletion != Deletion::Unknown) {
            // The log may still hold what was overwritten, also of an attempt that ended before this line.
            self.engine.checkpoint().await?;
        }
        Ok(deleted)
    }
}

fn select_key(connection: &Connection, slot: &Slot) -> Result<Vec<WrappedKey>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT version, id, wrapped FROM key WHERE tenant = ?1 AND purpose = ?2 AND name = ?3 ORDER BY version",
    )?;
    let rows = select.query_map(params![slot.owner(), slot.purpose.code(), slot.name()], |row| {
        let reference = KeyRef { version: row.get(0)?, id: Uuid::from_bytes(row.get(1)?) };
        Ok(WrappedKey { reference, wrapped: row.get(2)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn insert_key(
    connection: &Connection,
    slot: &Slot,
    key: &WrappedKey,
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut insert = connection.prepare_cached(
        "INSERT INTO key (tenant, purpose, name, version, id, wrapped, created_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?;
    insert.execute(params![
        slot.owner(),
        slot.purpose.code(),
        slot.name(),
        key.reference.version,
        key.reference.id.as_bytes(),
        key.wrapped,
        now.as_nanos(),
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use money::Timestamp;

    use super::{Deletion, EmbeddedStore, PutCard, Store as _};
    use crate::domain::{
        algorithm::Algorithm,
        card::{Brand, Month},
        key::{Key, NewKey, NewVersion},
        keys::KeyName,
        token::Shown,
    };

    /// Whether any file of the store holds these bytes.
    fn holds(dir: &std::path::Path, bytes: &[u8]) -> bool {
        let files = fs::read_dir(dir).unwrap().map(|entry| fs::read(entry.unwrap().path()).unwrap());
        files.into_iter().any(|file| file.windows(bytes.len()).any(|part| part == bytes))
    }

    #[tokio::test]
    async fn of_a_destroyed_key_no_byte_is_left() {
        let (dir, wrapped) = (tempfile::tempdir().unwrap(), b"the envelope around the key".to_vec());
        let open = || EmbeddedStore::open(&dir.path().join("crypto.db")).unwrap();
        let first =
            NewVersion { version: 1, imported: false, wrapped: wrapped.clone(), public_key: Vec::new() };
        let (tenant, name, id) =
            ("acme".parse().unwrap(), KeyName::parse("orders").unwrap(), uuid::Uuid::nil());
        let new = NewKey { tenant, name, id, algorithm: Algorithm::Aes256Gcm, rotation_period: None, first };
        let key = Key::create(new, Timestamp::EPOCH).unwrap();
        let store = open();
        store.keep_key(key.clone()).await.unwrap();
        assert!(holds(dir.path(), &wrapped));
        let given_up = key.schedule_destruction(None, Timestamp::EPOCH).unwrap();
        store.keep_key(given_up.clone()).await.unwrap();
        let destroyed = given_up.destroy_if_due(Timestamp::from_nanos(i64::MAX)).unwrap();
        store.keep_key(destroyed).await.unwrap();
        assert!(!holds(dir.path(), &wrapped));
    }

    #[tokio::test]
    async fn of_a_deleted_card_no_byte_is_left_nor_of_what_was_kept_of_it_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&dir.path().join("crypto.db")).unwrap();
        let (tenant, id) =
            ("acme".parse::<money::TenantId>().unwrap(), money::TokenId::new(uuid::Uuid::max()));
        let envelopes =
            [&b"the envelope around the card"[..], b"its envelope, sealed for longer than before"];
        let fingerprint = "the fingerprint of the card";
        for envelope in envelopes {
            let shown = Shown {
                brand: Brand::Visa,
                bin: "424242".into(),
                last4: "4242".into(),
                expiry: Month { year: 2030, month: 12 },
                fingerprint: fingerprint.into(),
            };
            let put = PutCard {
                tenant: tenant.clone(),
                index_tag: *b"the tag that its number is known",
                new_id: id,
                shown,
                seal: Box::new(move |_| Ok(envelope.to_vec())),
                digits: None,
                now: Timestamp::EPOCH,
                idempotency: None,
            };
            store.put_card(put).await.unwrap();
            assert!(holds(dir.path(), envelope));
        }
        let deleted = store.delete_cards(vec![(tenant, id.into())], Timestamp::EPOCH).await.unwrap();
        assert_eq!(deleted, [Deletion::Done(id)]);
        let wiped = [envelopes[0], envelopes[1], fingerprint.as_bytes(), b"the tag that its number"];
        for bytes in wiped {
            assert!(!holds(dir.path(), bytes), "{}", String::from_utf8_lossy(bytes));
        }
    }

    crate::store::contract::suite!(
        |dir: &std::path::Path| EmbeddedStore::open(&dir.join("crypto.db")).unwrap()
    );
}
