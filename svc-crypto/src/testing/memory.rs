//! A store of keys in memory that can be stopped, be slow, fail, go back, and lose its answers: what a database does
//! that is away. Uses no thread, so that time in tests can stand still. Keeps no cards.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use mesh::{
    StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
};
use money::{TenantId, Timestamp, TokenRef};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    domain::{
        key::Key,
        keys::{KeyName, Slot, WrappedKey},
        rooted::RootName,
    },
    store::{
        Change, Deletion, Kept, Put, PutCard, PutError, RootRecord, RootedError, RootedKey, Store, StoredCard,
    },
};

type Name = (TenantId, KeyName);

/// What is kept. A copy of it is put back where the store goes back.
#[derive(Clone, Default)]
struct State {
    named: BTreeMap<Name, (Key, u64)>,
    own: HashMap<Slot, Vec<WrappedKey>>,
    last_change: u64,
}

/// What the store does beside its work.
#[derive(Default)]
struct Mood {
    delay: Duration,
    fails: bool,
    /// Changes that are made, and not answered.
    loses_answers: usize,
    /// Changes that are neither made nor answered.
    loses_changes: usize,
    session: u64,
}

/// How often it was asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// For a whole key.
    pub(crate) keys: usize,
    /// For a key's revision.
    pub(crate) revisions: usize,
}

struct Shared {
    kept: Mutex<State>,
    mood: Mutex<Mood>,
    asked: Mutex<Asked>,
    open: watch::Sender<bool>,
}

/// Keys in memory. Cheap to clone.
#[derive(Clone)]
pub(crate) struct MemoryStore(Arc<Shared>);

fn lost() -> StoreError {
    StoreError::Server("it does not answer in time".to_owned())
}

impl MemoryStore {
    pub(crate) fn new() -> Self {
        let (kept, mood, asked) = (Mutex::default(), Mutex::default(), Mutex::default());
        Self(Arc::new(Shared { kept, mood, asked, open: watch::Sender::new(true) }))
    }

    /// Answers nothing until it is opened.
    pub(crate) fn stop(&self) {
        self.0.open.send_replace(false);
    }

    pub(crate) fn open(&self) {
        self.0.open.send_replace(true);
    }

    /// Takes so long for every answer.
    pub(crate) fn slow(&self, delay: Duration) {
        self.mood().delay = delay;
    }

    /// Fails to answer, or does not.
    pub(crate) fn fails(&self, fails: bool) {
        self.mood().fails = fails;
    }

    /// The next changes are made, but not answered.
    pub(crate) fn loses_answers(&self, changes: usize) {
        self.mood().loses_answers = changes;
    }

    /// The next changes are not made, nor answered.
    pub(crate) fn loses_changes(&self, changes: usize) {
        self.mood().loses_changes = changes;
    }

    /// A copy of all that is kept, to go back to.
    pub(crate) fn remember(&self) -> impl FnOnce() + use<> {
        let (store, before) = (self.clone(), self.kept().clone());
        move || *store.kept() = before
    }

    /// Answers from another session.
    pub(crate) fn reconnect(&self) {
        self.mood().session += 1;
    }

    pub(crate) fn asked(&self) -> Asked {
        *self.0.asked.lock().unwrap()
    }

    fn kept(&self) -> MutexGuard<'_, State> {
        self.0.kept.lock().unwrap()
    }

    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.0.mood.lock().unwrap()
    }

    /// The way there and back: what `work` finds is of the time when it was asked.
    async fn ask<T>(&self, work: impl FnOnce(&mut State) -> T) -> Result<T, StoreError> {
        let found = work(&mut self.kept());
        let delay = self.mood().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        self.0.open.subscribe().wait_for(|open| *open).await.unwrap();
        // Others come meanwhile.
        tokio::task::yield_now().await;
        if self.mood().fails { Err(lost()) } else { Ok(found) }
    }
}

impl Store for MemoryStore {
    async fn root(&self) -> Result<Option<RootRecord>, StoreError> {
        Ok(None)
    }

    async fn adopt_root(&self, id: Uuid, _: Option<Uuid>) -> Result<RootRecord, StoreError> {
        Ok(RootRecord { id, other: None })
    }

    async fn settle_root(&self, _: RootName) -> Result<Option<RootRecord>, StoreError> {
        Ok(None)
    }

    async fn keys_under_root(&self, _: Option<RootedKey>, _: usize) -> Result<Vec<RootedKey>, StoreError> {
        Ok(Vec::new())
    }

    async fn rewrap_key(&self, _: RootedKey, _: Vec<u8>) -> Result<bool, RootedError> {
        Ok(false)
    }

    async fn named_key(&self, tenant: TenantId, name: KeyName) -> Result<Option<Key>, StoreError> {
        self.0.asked.lock().unwrap().keys += 1;
        self.ask(|kept| kept.named.get(&(tenant, name)).map(|(key, _)| key.clone())).await
    }

    async fn revision(&self, tenant: TenantId, name: KeyName) -> Result<Option<u64>, StoreError> {
        self.0.asked.lock().unwrap().revisions += 1;
        self.ask(|kept| kept.named.get(&(tenant, name)).map(|(key, _)| key.revision)).await
    }

    async fn named_keys(
        &self,
        tenant: TenantId,
        after: Option<KeyName>,
        limit: usize,
    ) -> Result<Vec<Key>, StoreError> {
        let is_meant =
            |key: &&Key| key.tenant == tenant && after.as_ref().is_none_or(|after| key.name > *after);
        let list = |kept: &mut State| {
            kept.named.values().map(|(key, _)| key).filter(is_meant).take(limit).cloned().collect()
        };
        self.ask(list).await
    }

    async fn keep_key(&self, key: Key) -> Result<Kept, StoreError> {
        let lose = |mood: &mut Mood| match (&mut mood.loses_changes, &mut mood.loses_answers) {
            (0, 0) => (false, false),
            (0, answers) => {
                *answers -= 1;
                (false, true)
            }
            (changes, _) => {
                *changes -= 1;
                (true, true)
            }
        };
        let (loses_change, loses_answer) = lose(&mut self.mood());
        let kept = self.ask(|kept| {
            let place = (key.tenant.clone(), key.name.clone());
            if kept.named.get(&place).map_or(0, |(key, _)| key.revision) + 1 != key.revision {
                return Kept::Overtaken;
            }
            if !loses_change {
                kept.last_change += 1;
                kept.named.insert(place, (key, kept.last_change));
            }
            Kept::Done
        });
        let kept = kept.await?;
        if loses_answer { Err(lost()) } else { Ok(kept) }
    }

    async fn keys_due(&self, now: Timestamp, limit: usize) -> Result<Vec<Key>, StoreError> {
        let is_due = |key: &&Key| key.due_at().is_some_and(|due| due <= now);
        self.ask(|kept| kept.named.values().map(|(key, _)| key).filter(is_due).take(limit).cloned().collect())
            .await
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<Change>, StoreError> {
        let list = |kept: &mut State| {
            let later = kept.named.iter().filter(|(_, (_, number))| *number > after);
            let change = |((tenant, name), (_, number)): (&Name, &(Key, u64))| Change {
                number: *number,
                tenant: tenant.clone(),
                name: name.clone(),
            };
            let mut changes: Vec<Change> = later.map(change).collect();
            changes.sort_by_key(|change| change.number);
            changes.truncate(limit);
            changes
        };
        self.ask(list).await
    }

    async fn last_change(&self) -> Result<u64, StoreError> {
        self.ask(|kept| kept.last_change).await
    }

    async fn session(&self) -> Result<u64, StoreError> {
        let session = self.mood().session;
        self.ask(|_| session).await
    }

    async fn key(&self, slot: Slot) -> Result<Vec<WrappedKey>, StoreError> {
        self.ask(|kept| kept.own.get(&slot).cloned().unwrap_or_default()).await
    }

    async fn make_key(
        &self,
        slot: Slot,
        first: WrappedKey,
        _: Timestamp,
    ) -> Result<Vec<WrappedKey>, RootedError> {
        Ok(self.ask(|kept| kept.own.entry(slot).or_insert_with(|| vec![first]).clone()).await?)
    }

    async fn put_card(&self, _: PutCard) -> Result<Put, PutError> {
        Err(lost().into())
    }

    async fn replay(&self, _: Scope, _: Fingerprint) -> Result<Option<Vec<u8>>, Reuse> {
        Err(lost().into())
    }

    async fn cards(&self, _: Vec<(TenantId, TokenRef)>) -> Result<Vec<Option<StoredCard>>, StoreError> {
        Err(lost())
    }

    async fn delete_cards(
        &self,
        _: Vec<(TenantId, TokenRef)>,
        _: Timestamp,
    ) -> Result<Vec<Deletion>, StoreError> {
        Err(lost())
    }
}
