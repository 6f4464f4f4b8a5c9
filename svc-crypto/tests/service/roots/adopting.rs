//! A root is on record from the moment that it does what a root must, and not before.

use std::path::Path;

use mesh::Reason;
use svc_crypto::{
    config::Config,
    store::{EmbeddedStore, RootRecord, Store as _},
};

use super::{
    VISA,
    double::{Double, Mode},
    refused, under,
};
use crate::common::{World, reason};

async fn record(dir: &Path) -> Option<RootRecord> {
    EmbeddedStore::open(&dir.join("svc-crypto/crypto.db")).unwrap().root().await.unwrap()
}

/// A store under its own file, and a token in it.
async fn begun(dir: &Path) -> String {
    let world = World::start(dir).await;
    let token = world.token("acme").await;
    world.service.stop().await;
    token
}

fn both(dir: &Path, double: &Double, key: &str) -> Config {
    let previous = dir.join("svc-crypto/root.key");
    Config { previous_root_key_file: Some(previous), ..under(double.root(key)) }
}

#[tokio::test]
async fn a_root_that_never_answered_leaves_no_trace() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    let token = begun(dir.path()).await;
    let before = record(dir.path()).await;
    // A slip in the name: the server says that it may not.
    double.becomes(Mode::Forbidden);
    let world = World::start_with(dir.path(), both(dir.path(), &double, "paymehs")).await;
    assert!(world.root_status().await.sealed);
    assert_eq!(reason(world.number("acme", &token).await), Reason::VaultSealed);
    world.service.stop().await;
    assert_eq!(record(dir.path()).await, before);
    // It is put right, and is the second root, not the third.
    double.becomes(Mode::Serving);
    let world = World::start_with(dir.path(), both(dir.path(), &double, "paymesh")).await;
    assert_eq!(world.number("acme", &token).await.unwrap(), VISA);
    world.service.stop().await;
    let after = record(dir.path()).await.unwrap();
    assert_eq!((Some(after.id), after.other.is_some()), (before.map(|before| before.id), true));

    // From now on it may be away: keys are under the other one.
    double.becomes(Mode::Sealed);
    let world = World::start_with(dir.path(), both(dir.path(), &double, "paymesh")).await;
    assert_eq!(world.number("acme", &token).await.unwrap(), VISA);
    assert!(!world.root_status().await.answers);
    world.service.stop().await;
}

#[tokio::test]
async fn a_root_that_does_not_bind_what_it_wraps_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    begun(dir.path()).await;
    let before = record(dir.path()).await;
    double.becomes(Mode::Unbound);
    let said = refused(dir.path(), both(dir.path(), &double, "paymesh")).await;
    assert!(said.contains("does not bind"), "{said}");
    assert_eq!(record(dir.path()).await, before);
    for mode in [Mode::ChaCha, Mode::Serving] {
        double.becomes(mode);
        let world = World::start_with(dir.path(), both(dir.path(), &double, "paymesh")).await;
        assert!(!world.root_status().await.sealed);
        world.service.stop().await;
    }
}

#[tokio::test]
async fn the_roots_must_have_two_names() {
    let dir = tempfile::tempdir().unwrap();
    let double = Double::start(dir.path()).await;
    let same = Config { previous_root: double.root("paymesh"), ..under(double.root("paymesh")) };
    let said = refused(dir.path(), same).await;
    assert!(said.contains("previous_root") && said.contains("transit:transit/paymesh"), "{said}");
    let mut other = double.root("paymesh");
    other.transit.as_mut().unwrap().name = Some("vault-b/paymesh".into());
    let named = Config { previous_root: double.root("paymesh"), ..under(other) };
    let world = World::start_with(dir.path(), named).await;
    assert_eq!(world.root_status().await.current, "transit:vault-b/paymesh");
    world.service.stop().await;
}
