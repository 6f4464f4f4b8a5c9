//! What every store promises of named keys.

use std::time::Duration;

use money::Timestamp;
use uuid::Uuid;

use super::{at, tenant};
use crate::{
    domain::{
        algorithm::Algorithm,
        key::{Key, NewKey, NewVersion, State, WAITING_PERIOD_MIN},
        keys::KeyName,
    },
    store::{Change, Kept, Store},
};

fn name(text: &str) -> KeyName {
    KeyName::parse(text).unwrap()
}

fn version(version: u32) -> NewVersion {
    let wrapped = format!("wrapped key {version}").into_bytes();
    NewVersion { version, imported: version == 2, wrapped, public_key: vec![version.to_be_bytes()[3]; 2] }
}

fn new(of: &str, text: &str, rotation_period: Option<Duration>) -> Key {
    let algorithm = Algorithm::HmacSha256;
    let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{of} {text}").as_bytes());
    let (tenant, name, first) = (tenant(of), name(text), version(1));
    Key::create(NewKey { tenant, name, id, algorithm, rotation_period, first }, at(1)).unwrap()
}

async fn read<S: Store>(store: &S, key: &Key) -> Option<Key> {
    store.named_key(key.tenant.clone(), key.name.clone()).await.unwrap()
}

async fn keep<S: Store>(store: &S, key: Key) -> Key {
    assert_eq!(store.keep_key(key.clone()).await.unwrap(), Kept::Done);
    key
}

pub(crate) async fn a_named_key_reads_back_whatever_becomes_of_it<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let key = new("acme", "orders", Some(Duration::from_secs(7200)));
    let revision = async |key: &Key| store.revision(key.tenant.clone(), key.name.clone()).await.unwrap();
    assert_eq!((read(&store, &key).await, revision(&key).await), (None, None));
    let key = keep(&store, key).await;
    assert_eq!(read(&store, &key).await, Some(key.clone()));
    let key = keep(&store, key.rotate(None, version(2), at(2)).unwrap()).await;
    let key = keep(&store, key.set_min_decrypt_version(2).unwrap()).await;
    let key = keep(&store, key.set_rotation_period(None).unwrap()).await;
    let key = keep(&store, key.disable().unwrap()).await;
    assert_eq!((read(&store, &key).await, revision(&key).await), (Some(key.clone()), Some(5)));
    let key = keep(&store, key.schedule_destruction(None, at(3)).unwrap()).await;
    assert_eq!(read(&store, &key).await, Some(key.clone()));
    let destroyed = key.destroy_if_due(at(100 * 86_400)).unwrap();
    let key = keep(&store, destroyed).await;
    drop(store);

    let store = open();
    let found = read(&store, &key).await.unwrap();
    assert!(matches!(found.state, State::Destroyed { .. }));
    assert!(found.versions.iter().all(|version| version.wrapped.is_empty()));
    assert_eq!(found, key);
}

pub(crate) async fn of_changes_of_one_key_at_once_one_is_kept<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let key = new("acme", "orders", None);
    let (a, b) = tokio::join!(store.keep_key(key.clone()), store.keep_key(key.clone()));
    let mut kept = [a.unwrap(), b.unwrap()];
    kept.sort_by_key(|kept| *kept == Kept::Overtaken);
    assert_eq!(kept, [Kept::Done, Kept::Overtaken]);

    let (mine, theirs) = (key.disable().unwrap(), key.rotate(None, version(2), at(2)).unwrap());
    keep(&store, theirs.clone()).await;
    assert_eq!(store.keep_key(mine).await.unwrap(), Kept::Overtaken);
    assert_eq!(read(&store, &key).await, Some(theirs), "what came second changed nothing");
}

pub(crate) async fn named_keys_are_listed_by_name_and_tenant<S: Store>(open: impl Fn() -> S) {
    let store = open();
    let mut kept = Vec::new();
    for text in ["c", "a", "b.2", "b-1"] {
        kept.push(keep(&store, new("acme", text, None)).await);
    }
    keep(&store, new("other", "a", None)).await;
    // By bytes: `-` comes before `.`.
    kept.sort_by(|a, b| a.name.cmp(&b.name));
    let page = |after: Option<&str>, limit| store.named_keys(tenant("acme"), after.map(name), limit);
    assert_eq!(page(None, 10).await.unwrap(), kept);
    assert_eq!(page(None, 2).await.unwrap(), kept[..2]);
    assert_eq!(page(Some("b-1"), 10).await.unwrap(), kept[2..]);
    assert_eq!(page(Some("c"), 10).await.unwrap(), []);
}

pub(crate) async fn what_is_due_is_found_the_longest_due_first<S: Store>(open: impl Fn() -> S) {
    let store = open();
    keep(&store, new("acme", "by-hand", None)).await;
    let rotated = keep(&store, new("acme", "rotated", Some(Duration::from_secs(7200)))).await;
    let ended = keep(&store, new("other", "ended", None)).await;
    let ended = keep(&store, ended.schedule_destruction(Some(WAITING_PERIOD_MIN), at(1)).unwrap()).await;
    let due = |now: Timestamp, limit| store.keys_due(now, limit);
    assert_eq!(due(at(7200), 10).await.unwrap(), []);
    assert_eq!(due(at(7201), 10).await.unwrap(), std::slice::from_ref(&rotated));
    assert_eq!(due(at(90_000), 10).await.unwrap(), [rotated.clone(), ended.clone()]);
    assert_eq!(due(at(90_000), 1).await.unwrap(), std::slice::from_ref(&rotated));
    keep(&store, rotated.disable().unwrap()).await;
    assert_eq!(due(at(90_000), 10).await.unwrap(), [ended]);
}

pub(crate) async fn every_change_is_told_once_with_its_newest_number<S: Store>(open: impl Fn() -> S) {
    let store = open();
    assert_eq!(store.last_change().await.unwrap(), 0);
    let a = keep(&store, new("acme", "a", None)).await;
    let b = keep(&store, new("acme", "b", None)).await;
    let names = |changes: Vec<Change>| changes.into_iter().map(|change| change.name).collect::<Vec<_>>();
    assert_eq!(names(store.changes(0, 10).await.unwrap()), [name("a"), name("b")]);
    let seen = store.last_change().await.unwrap();
    assert_eq!(store.changes(seen, 10).await.unwrap(), []);
    keep(&store, a.disable().unwrap()).await;
    keep(&store, b.disable().unwrap()).await;
    let told = store.changes(seen, 10).await.unwrap();
    assert!(told.iter().all(|change| change.number > seen && change.tenant == tenant("acme")));
    assert_eq!(told.last().map(|change| change.number), Some(store.last_change().await.unwrap()));
    assert_eq!(names(store.changes(0, 1).await.unwrap()), [name("a")]);
    assert_eq!(names(told), [name("a"), name("b")]);
}
