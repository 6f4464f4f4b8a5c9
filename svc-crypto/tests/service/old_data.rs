//! A data directory that an earlier version made, when the key of the audit log's chain was derived from the root
//! key: it goes on, and what was on record stays as it was, byte for byte.

use std::{fs, path::Path};

use money::Timestamp;
use rusqlite::Connection;
use svc_crypto::{
    audit::verify_stopped,
    config::Config,
    domain::{
        algorithm::Verb,
        audit::{Act, ChainKey, Entry, Link, Outcome, Subject},
        envelope::{KeyRef, Salt},
        keys::{self, Purpose, Slot},
        secret::KeyBytes,
    },
    store::{AuditLog as _, EmbeddedAuditLog, EmbeddedStore, Store as _},
};

use crate::common::{World, card};

const ROOT: [u8; 32] = [9; 32];
const KEK: [u8; 32] = [5; 32];

/// As the earlier version left it: a root key, a tenant's key under it, and a log of three records.
async fn make(dir: &Path) -> Link {
    fs::create_dir_all(dir).unwrap();
    fs::write(dir.join("root.key"), ROOT).unwrap();
    let (root, derived) = {
        let bytes = KeyBytes::take(&mut { ROOT });
        (keys::root(&bytes), ChainKey::derived_from(&bytes))
    };
    let file = dir.join("crypto.db");
    let store = EmbeddedStore::open(&file).unwrap();
    store.adopt_root(root.id, None).await.unwrap();
    let slot = Slot::own("acme".parse().unwrap(), Purpose::TenantKek);
    let reference = KeyRef { id: uuid::Uuid::from_u128(3), version: 1 };
    let wrapped = keys::wrap(&root.ring, &slot, reference, &KEK, Salt::new([1; 32])).unwrap();
    store.make_key(slot, wrapped, Timestamp::EPOCH).await.unwrap();
    drop(store);
    // The table of roots had one column, and the file one migration less.
    let connection = Connection::open(&file).unwrap();
    let version: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
    connection.execute_batch("ALTER TABLE root DROP COLUMN other").unwrap();
    connection.pragma_update(None, "user_version", version - 1).unwrap();
    drop(connection);
    let log = EmbeddedAuditLog::open(&dir.join("audit.db"), ChainKey::new(&derived)).unwrap();
    let act = Act {
        workload: mesh::SpiffeId::of("svc-payments").unwrap(),
        tenant: None,
        subject: Subject::None,
        key: None,
        verb: Verb::Tokenize,
        outcome: Outcome::Done,
    };
    let mut end = Link::START;
    for n in 1..=3 {
        let entries = vec![Entry { act: act.clone(), count: n, bytes: 0 }];
        end = log.append(entries, end, Timestamp::from_seconds(n.into())).await.unwrap();
    }
    fs::write(dir.join("audit.head"), format!("{end}\n")).unwrap();
    end
}

/// The tenant's key as it is on record.
async fn kek(dir: &Path) -> Vec<u8> {
    let slot = Slot::own("acme".parse().unwrap(), Purpose::TenantKek);
    let store = EmbeddedStore::open(&dir.join("crypto.db")).unwrap();
    store.key(slot).await.unwrap().remove(0).wrapped
}

#[tokio::test]
async fn it_goes_on_with_its_keys_and_its_audit_log() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("svc-crypto");
    let end = make(&data).await;
    let before = {
        let connection = Connection::open(data.join("crypto.db")).unwrap();
        connection.query_row("SELECT wrapped FROM key", [], |row| row.get::<_, Vec<u8>>(0)).unwrap()
    };
    for start in 1..=2 {
        let world = World::start(dir.path()).await;
        world.tokenize("acme", card("4242424242424242")).await.unwrap();
        world.service.stop().await;
        assert_eq!(kek(&data).await, before, "start {start}");
        let (now, offence) = verify_stopped(&data, &Config::default(), Some(end), |_| true).await.unwrap();
        assert_eq!((now.sequence, offence), (3 + start, None), "one chain from the first record on");
    }
    assert_eq!(fs::read(data.join("root.key")).unwrap(), ROOT);
}

#[tokio::test]
async fn a_new_one_has_a_random_chain_key() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("svc-crypto");
    let world = World::start(dir.path()).await;
    world.tokenize("acme", card("4242424242424242")).await.unwrap();
    world.service.stop().await;
    let bytes: [u8; 32] = fs::read(data.join("root.key")).unwrap().try_into().unwrap();
    let derived = ChainKey::new(&ChainKey::derived_from(&KeyBytes::take(&mut { bytes })));
    let log = EmbeddedAuditLog::open(&data.join("audit.db"), derived.clone()).unwrap();
    let (_, offence) = svc_crypto::audit::verify(&log, derived, vec![], |_| true).await.unwrap();
    assert!(offence.is_some(), "who has the root key alone cannot make its hashes");
    let store = EmbeddedStore::open(&data.join("crypto.db")).unwrap();
    assert_eq!(store.key(Slot::of_service(Purpose::AuditChain)).await.unwrap().len(), 1);
}
