//! A root that is replaced under replicas of which one still has the old one alone.

use std::{path::Path, sync::Arc, time::Duration};

use mesh::{Fault, Reason, SystemClock, postgres::pooled};
use tokio_postgres::Client;

use super::{client, config, open};
use crate::{
    domain::{
        envelope::KeyRef,
        keys::{Purpose, Slot, WrappedKey},
        secret::KeyBytes,
    },
    keyring::{KeyError, Keyring, Missing},
    root::{FileRoot, RootError, RootOfTrust, Roots},
    rotation::{self, RotationError},
    store::{PostgresStore, RootRecord, RootedError, Store},
};

fn roots(current: u8, previous: Option<u8>) -> Roots {
    let root = |byte| Arc::new(FileRoot::new(&KeyBytes::take(&mut [byte; 32]))) as Arc<dyn RootOfTrust>;
    Roots::new(root(current), previous.map(root), Duration::from_secs(30))
}

fn keyring(store: &PostgresStore, roots: Roots) -> Keyring<PostgresStore> {
    let (clock, ids) = (Arc::new(SystemClock), Arc::new(mesh::RandomIds));
    Keyring::new(store.clone(), roots, clock, ids, 100, Duration::from_secs(3_600))
}

fn kek_of(tenant: &str) -> Slot {
    Slot::own(tenant.parse().unwrap(), Purpose::TenantKek)
}

async fn make(ring: &Keyring<PostgresStore>, tenant: &str) -> Result<(), KeyError> {
    ring.kek(&tenant.parse().unwrap(), Missing::Make).await.map(drop)
}

/// Two replicas of a schema in the middle of a replacement: one has both roots, one the old one alone.
async fn two(dir: &Path) -> (PostgresStore, PostgresStore, Roots, Roots) {
    let (a, b) = (open(dir), open(dir));
    let (new, old) = (roots(2, Some(1)), roots(1, None));
    a.adopt_root(old.current().id(), None).await.unwrap();
    a.adopt_root(new.current().id(), Some(old.current().id())).await.unwrap();
    (a, b, new, old)
}

async fn all_are_under(store: &PostgresStore, root: u8) -> usize {
    let (alone, mut after, mut keys) = (roots(root, None), None, 0);
    loop {
        let page = store.keys_under_root(after, 100).await.unwrap();
        for found in &page {
            alone.unwrap(&found.slot, &found.key).await.unwrap();
        }
        keys += page.len();
        after = page.into_iter().last();
        if after.is_none() {
            return keys;
        }
    }
}

#[tokio::test]
async fn a_replica_that_has_the_old_root_alone_makes_no_key_once_it_was_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, new, old) = two(dir.path()).await;
    let late = keyring(&b, old.clone());
    make(&keyring(&a, new.clone()), "acme").await.unwrap();
    make(&late, "before").await.unwrap();
    let done = rotation::rotate(&a, &new, |_| true).await.unwrap();
    assert_eq!((done.keys, done.rewrapped), (2, 1));

    let refused = make(&late, "after").await.unwrap_err();
    assert!(
        matches!(&refused, KeyError::Root(RootError::NotOnRecord(root)) if root == old.current()),
        "{refused}"
    );
    assert_eq!(Fault::from(refused).reason(), Reason::Unavailable, "another replica can");
    assert_eq!(a.key(kek_of("after")).await.unwrap(), []);
    // Nor does one that would take all of it back.
    let back = rotation::rotate(&b, &roots(1, Some(2)), |_| true).await.unwrap_err();
    assert!(matches!(&back, RotationError::Root(RootError::NotOnRecord(_))), "{back}");
    assert_eq!(all_are_under(&a, 2).await, 2);
    assert_eq!(a.root().await.unwrap(), Some(RootRecord { id: new.current().id(), other: None }));
}

#[tokio::test]
async fn keys_made_at_an_old_replica_during_a_rotation_are_never_left_behind() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, new, old) = two(dir.path()).await;
    let late = keyring(&b, old);
    for tenant in 0..20 {
        make(&late, &format!("t-{tenant}")).await.unwrap();
    }
    // Not for ever: a rotation ends where for a moment no key is made under the old root.
    let making = async {
        for tenant in 20..100 {
            if let Err(error) = make(&late, &format!("t-{tenant}")).await {
                assert!(matches!(error, KeyError::Root(RootError::NotOnRecord(_))), "{error}");
                return tenant;
            }
        }
        100
    };
    let rotating = async {
        loop {
            match rotation::rotate(&a, &new, |_| true).await {
                Ok(_) => return,
                Err(RotationError::Contended) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    let (made, ()) = tokio::join!(making, rotating);
    assert!(matches!(make(&late, "after").await, Err(KeyError::Root(RootError::NotOnRecord(_)))));
    assert_eq!(all_are_under(&a, 2).await, made);
}

/// Until a session of the schema's store waits for a lock, ten seconds at most.
async fn one_waits(waiting: &Client, schema: &str) {
    let blocked =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND application_name = $1";
    let name = format!("paymesh-crypto {schema}");
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while waiting.query_one(blocked, &[&name]).await.unwrap().get::<_, i64>(0) == 0 {
        assert!(tokio::time::Instant::now() < until, "none waits");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn wrapped(roots: &Roots, tenant: &str) -> (Slot, WrappedKey) {
    let (slot, reference) = (kek_of(tenant), KeyRef { id: uuid::Uuid::from_u128(7), version: 1 });
    let wrapped = roots.wrap(&slot, reference, &KeyBytes::take(&mut [7; 32])).await.unwrap();
    (slot, wrapped)
}

#[tokio::test]
async fn the_record_and_the_keys_are_changed_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b, new, old) = two(dir.path()).await;
    let schema = config(dir.path()).schema;
    let (mut session, waiting) = (pooled(&a.pool).await.unwrap(), client(&config(dir.path())).await);
    let both = a.root().await.unwrap().unwrap();

    // A key that is not committed yet holds up the record, which stays.
    let (slot, first) = wrapped(&old, "slow").await;
    let slow = session.transaction().await.unwrap();
    super::super::root::hold(&slow, &slot, &first.wrapped).await.unwrap();
    let settled = tokio::spawn({
        let (a, name) = (a.clone(), new.current().clone());
        async move { a.settle_root(name).await.unwrap() }
    });
    one_waits(&waiting, &schema).await;
    let insert =
        "INSERT INTO key (tenant, purpose, name, version, id, wrapped, created_at, imported, public_key)
        VALUES ('slow', 1, '', 1, $1, $2, 0, false, '')";
    slow.execute(insert, &[&first.reference.id, &first.wrapped]).await.unwrap();
    slow.commit().await.unwrap();
    assert_eq!(settled.await.unwrap(), Some(both), "it sees the key");

    // And a record that is not committed yet holds up keys, which are refused.
    rotation::rotate(&a, &new, |_| true).await.unwrap();
    session.execute("UPDATE root SET id = $1, other = $2", &[&both.id, &both.other]).await.unwrap();
    let slow = session.transaction().await.unwrap();
    let only = "UPDATE root SET id = $1, other = NULL";
    slow.execute(only, &[&new.current().id()]).await.unwrap();
    let (slot, first) = wrapped(&old, "late").await;
    let made = tokio::spawn(async move { b.make_key(slot, first, money::Timestamp::EPOCH).await });
    one_waits(&waiting, &schema).await;
    slow.commit().await.unwrap();
    assert!(matches!(made.await.unwrap(), Err(RootedError::NotOnRecord(_))));
    assert_eq!(all_are_under(&a, 2).await, 1);
}
