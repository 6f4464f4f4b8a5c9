//! Named keys made, changed and ended: what [`crate::domain::key`] decides, carried out on the store. Of changes
//! that come at once one is kept, and the others are decided anew on what it left.

use std::{sync::Arc, time::Duration};

use mesh::{BatchError, Clock, Drain, Ids, SpiffeId, StoreError};
use money::{TenantId, Timestamp};
use uuid::Uuid;

use crate::{
    audit::Recorder,
    domain::{
        algorithm::{Algorithm, Verb},
        audit::{Act, Entry, Outcome, Subject},
        envelope::KeyRef,
        key::{ChangeError, Key, NewKey, NewVersion, State},
        keys::{self, KeyName, Slot},
    },
    keyring::{KeyError, Keyring, Missing, NamedKeys},
    material::{self, Material},
    random::Random,
    store::{Kept, Store},
};

/// How often a change is decided anew because another one came first. Each time somebody else's was kept.
const ATTEMPTS_MAX: u32 = 16;

/// How many keys one look at what is due takes.
const DUE_MAX: usize = 100;

/// How often a change is made again of which the store did not say what became.
const REPETITIONS_MAX: u32 = 3;

/// How soon each time.
const REPEATED_AFTER: Duration = Duration::from_millis(200);

/// How often what is due is looked for.
const DUE_EVERY: Duration = Duration::from_secs(10);

/// By how much replicas' clocks may differ, with the time that a commit takes.
const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60);

/// Why a key was not made or changed.
#[derive(Debug, thiserror::Error)]
pub enum ManageError {
    /// There is none of this name.
    #[error("there is no such key")]
    NotFound,
    /// It cannot be changed so.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// Others changed it each time.
    #[error("others change the key all the time")]
    Contended,
    /// Not every replica may know the version yet.
    #[error("the version is too new for a minimum")]
    TooNew {
        /// When to try again, in seconds.
        retry_after_s: u32,
    },
    /// The store did not say what became of it.
    #[error("whether it was done is not known")]
    Unknown,
    /// It is done, and the audit log did not take its record yet.
    #[error("what was done by itself is not on record yet")]
    NotOnRecord,
    /// Keys are not to be had.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ManageError {
    /// Whether other keys may fare better.
    fn is_of_one_key(&self) -> bool {
        match self {
            Self::Unknown | Self::NotOnRecord | Self::Key(KeyError::Store(_)) => false,
            Self::Key(KeyError::Root(error)) => !error.is_away(),
            _ => true,
        }
    }
}

impl From<StoreError> for ManageError {
    fn from(error: StoreError) -> Self {
        Self::Key(error.into())
    }
}

/// Makes, changes and ends named keys.
pub struct Management<S> {
    store: S,
    ring: Arc<Keyring<S>>,
    named: Arc<NamedKeys<S>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    random: Random,
    recorder: Recorder,
    /// Who does what happens by itself.
    own: SpiffeId,
    /// How old a version must be before older ones open nothing any more.
    settled_after: Option<Duration>,
    /// What happened by itself, or may have, and is not on record.
    owed: tokio::sync::Mutex<Option<Owed>>,
}

/// A change of which there is to be a record.
struct Owed {
    key: Key,
    adds: Adds,
    stage: Stage,
}

/// How far a change has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It is to be made.
    New,
    /// It was made, or was not.
    Unknown,
    /// It was made.
    Done,
}

/// What a change adds to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Adds {
    /// Its newest version.
    Version,
    /// No version.
    Nothing,
}

impl<S: Store> Management<S> {
    /// Works on the keys of `store`, wraps with those of `ring`, and tells `named` what it changed. What happens by
    /// itself goes to `recorder`, as done by `own`.
    pub fn new(
        store: S,
        ring: Arc<Keyring<S>>,
        named: Arc<NamedKeys<S>>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        recorder: Recorder,
        own: SpiffeId,
    ) -> Self {
        let (random, settled_after, owed) = (Random::default(), None, tokio::sync::Mutex::default());
        Self { store, ring, named, clock, ids, random, recorder, own, settled_after, owed }
    }

    /// Other replicas may not know a new version for so long, and seal under the one before.
    #[must_use]
    pub fn with_replicas(self, trusted_for: Duration) -> Self {
        Self { settled_after: Some(trusted_for + CLOCKS_DIFFER_MAX), ..self }
    }

    /// Refuses a minimum that what another replica seals now may be below.
    fn check_minimum(&self, key: &Key, next: &Key) -> Result<(), ManageError> {
        let Some(settled_after) = self.settled_after else { return Ok(()) };
        let least = next.min_decrypt_version;
        if least <= key.min_decrypt_version {
            return Ok(());
        }
        let made = next.versions.iter().find(|version| version.version == least);
        let age =
            made.map_or(0, |made| self.clock.now().as_nanos().saturating_sub(made.created_at.as_nanos()));
        let left = settled_after.saturating_sub(Duration::from_nanos(u64::try_from(age).unwrap_or(0)));
        if left.is_zero() {
            return Ok(());
        }
        Err(ManageError::TooNew {
            retry_after_s: u32::try_from(left.as_secs()).unwrap_or(u32::MAX).saturating_add(1),
        })
    }

    /// A key as it is on record.
    pub async fn get(&self, tenant: &TenantId, name: &KeyName) -> Result<Key, ManageError> {
        let found = self.store.named_key(tenant.clone(), name.clone()).await?;
        found.ok_or(ManageError::NotFound)
    }

    /// A tenant's keys by name, from the one after `after`.
    pub async fn list(
        &self,
        tenant: &TenantId,
        after: Option<KeyName>,
        limit: usize,
    ) -> Result<Vec<Key>, ManageError> {
        Ok(self.store.named_keys(tenant.clone(), after, limit).await?)
    }

    /// Makes a key; one of this name and algorithm that is there already is the answer.
    pub async fn create(
        &self,
        tenant: &TenantId,
        name: &KeyName,
        algorithm: Algorithm,
        rotation_period: Option<Duration>,
    ) -> Result<Key, ManageError> {
        for _ in 0..ATTEMPTS_MAX {
            match self.store.named_key(tenant.clone(), name.clone()).await? {
                Some(key) if key.algorithm == algorithm => return Ok(key),
                Some(_) => return Err(ChangeError::OtherAlgorithm.into()),
                None => {}
            }
            let material = material::fresh(algorithm, &self.random).map_err(KeyError::from)?;
            let key = self.first(tenant, name, algorithm, rotation_period, &material).await?;
            if self.keep(&key, Adds::Version).await? == Kept::Done {
                return Ok(key);
            }
        }
        Err(ManageError::Contended)
    }

    /// Makes a key of what a caller brought, or the next version of the key that there is.
    pub async fn import(
        &self,
        tenant: &TenantId,
        name: &KeyName,
        algorithm: Algorithm,
        rotation_period: Option<Duration>,
        material: &Material,
    ) -> Result<Key, ManageError> {
        for _ in 0..ATTEMPTS_MAX {
            let next = match self.store.named_key(tenant.clone(), name.clone()).await? {
                None => self.first(tenant, name, algorithm, rotation_period, material).await?,
                Some(key) if key.algorithm != algorithm => return Err(ChangeError::OtherAlgorithm.into()),
                Some(key) => {
                    let version =
                        self.version(tenant, &key.slot(), key.id, key.newest_version() + 1, material).await?;
                    key.rotate(None, version, self.clock.now())?
                }
            };
            if self.keep(&next, Adds::Version).await? == Kept::Done {
                return Ok(next);
            }
        }
        Err(ManageError::Contended)
    }

    /// Adds a version. `expected`: only if that is the newest now.
    pub async fn rotate(
        &self,
        tenant: &TenantId,
        name: &KeyName,
        expected: Option<u32>,
    ) -> Result<Key, ManageError> {
        for _ in 0..ATTEMPTS_MAX {
            let key = self.get(tenant, name).await?;
            let next = key.rotate(expected, self.fresh_version(&key).await?, self.clock.now())?;
            if self.keep(&next, Adds::Version).await? == Kept::Done {
                return Ok(next);
            }
        }
        Err(ManageError::Contended)
    }

    /// Any change that needs no new version.
    pub async fn change(
        &self,
        tenant: &TenantId,
        name: &KeyName,
        change: impl Fn(&Key, Timestamp) -> Result<Key, ChangeError>,
    ) -> Result<Key, ManageError> {
        for _ in 0..ATTEMPTS_MAX {
            let key = self.get(tenant, name).await?;
            let next = change(&key, self.clock.now())?;
            self.check_minimum(&key, &next)?;
            if next == key || self.keep(&next, Adds::Nothing).await? == Kept::Done {
                return Ok(next);
            }
        }
        Err(ManageError::Contended)
    }

    /// Rotates and destroys what is due, one key after the other. Says how many were. What cannot be put on record, or
    /// of which it is not known whether it was done, ends this, and is the first to be settled the next time.
    ///
    /// # Errors
    /// Where the store or the audit log does not answer.
    pub async fn carry_out_due(&self) -> Result<usize, ManageError> {
        let mut owed = self.owed.lock().await;
        let mut done = 0;
        if let Some(left) = owed.take() {
            done += usize::from(self.carry_out(left, &mut owed).await?);
        }
        let (now, mut failed) = (self.clock.now(), None);
        let mut due = self.store.keys_due(now, DUE_MAX).await?;
        // A destruction needs nothing but the store, and waits for no rotation.
        due.sort_by_key(|key| key.destroy_if_due(now).is_none());
        for key in due {
            match self.carry_out_if_due(key, now, &mut owed).await {
                Ok(mine) => done += usize::from(mine),
                // One that cannot be rotated keeps no other from it.
                Err(error) if error.is_of_one_key() => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(done), Err)
    }

    async fn carry_out_if_due(
        &self,
        key: Key,
        now: Timestamp,
        owed: &mut Option<Owed>,
    ) -> Result<bool, ManageError> {
        let (key, adds) = match key.destroy_if_due(now) {
            Some(destroyed) => (destroyed, Adds::Nothing),
            None => match key.rotate_if_due(self.fresh_version(&key).await?, now) {
                Some(rotated) => (rotated?, Adds::Version),
                None => return Ok(false),
            },
        };
        self.carry_out(Owed { key, adds, stage: Stage::New }, owed).await
    }

    /// Makes a change, unless it is made, and puts it on record. Whether it was this replica's: where another one was
    /// quicker, it is done as well. What is left of it at an error is `owed`.
    async fn carry_out(&self, change: Owed, owed: &mut Option<Owed>) -> Result<bool, ManageError> {
        let Owed { key, adds, stage } = change;
        let kept = match stage {
            Stage::New => self.keep(&key, adds).await,
            Stage::Unknown => self.settle(&key, adds).await,
            Stage::Done => Ok(Kept::Done),
        };
        match kept {
            Ok(Kept::Done) => {}
            Ok(Kept::Overtaken) => return Ok(false),
            Err(error) => {
                if matches!(error, ManageError::Unknown) {
                    *owed = Some(Owed { key, adds, stage: Stage::Unknown });
                }
                return Err(error);
            }
        }
        let (tenant, name) = (&key.tenant, key.name.as_str());
        let verb =
            if matches!(key.state, State::Destroyed { .. }) { Verb::DestroyKey } else { Verb::RotateKey };
        let act = Act {
            workload: self.own.clone(),
            tenant: Some(tenant.clone()),
            subject: Subject::Key(key.name.clone()),
            key: None,
            verb,
            outcome: Outcome::Done,
        };
        if let Err(fault) = self.recorder.submit(Entry { act, count: 1, bytes: 0 }).await {
            // It is done, and cannot be undone for want of a record.
            tracing::error!(%tenant, key = name, reason = fault.reason().as_str(), "it is not on record yet");
            *owed = Some(Owed { key, adds, stage: Stage::Done });
            return Err(ManageError::NotOnRecord);
        }
        if verb == Verb::DestroyKey {
            tracing::warn!(%tenant, key = name, "a key was destroyed");
        } else {
            tracing::info!(%tenant, key = name, version = key.newest_version(), "a key was rotated");
        }
        Ok(true)
    }

    /// Carries out what is due until the drain begins.
    pub async fn keep_due(self: Arc<Self>, drain: Drain) {
        loop {
            match self.carry_out_due().await {
                // There may be more.
                Ok(DUE_MAX) => {}
                Ok(_) => {
                    if drain.unless_started(tokio::time::sleep(DUE_EVERY)).await.is_none() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "keys that are due could not be rotated or destroyed");
                    if drain.unless_started(tokio::time::sleep(DUE_EVERY)).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Keeps a revision. Nobody in this process uses the one before once this has answered, or the store, also where
    /// the caller has gone away.
    async fn keep(&self, key: &Key, adds: Adds) -> Result<Kept, ManageError> {
        let (store, named, key) = (self.store.clone(), Arc::clone(&self.named), key.clone());
        let keeping = tokio::spawn(mesh::scope::carry(async move {
            let forget = || named.forget(&key.tenant, &key.name);
            let kept = kept(&store, &key, adds, forget).await;
            forget();
            kept
        }));
        keeping.await.map_err(|_| StoreError::from(BatchError::Broken))?
    }

    /// Finds out what became of a revision that may be kept, and keeps it if it can be.
    async fn settle(&self, key: &Key, adds: Adds) -> Result<Kept, ManageError> {
        let kept = kept_by_now(&self.store, key, adds).await;
        self.named.forget(&key.tenant, &key.name);
        kept.map_err(|error| {
            tracing::warn!(%error, "what became of a change is still not known");
            ManageError::Unknown
        })
    }

    async fn first(
        &self,
        tenant: &TenantId,
        name: &KeyName,
        algorithm: Algorithm,
        rotation_period: Option<Duration>,
        material: &Material,
    ) -> Result<Key, ManageError> {
        let now = self.clock.now();
        let id = self.ids.uuid_v7(now);
        let slot = Slot::named(tenant.clone(), algorithm.purpose(), name.clone());
        let first = self.version(tenant, &slot, id, 1, material).await?;
        let (tenant, name) = (tenant.clone(), name.clone());
        Ok(Key::create(NewKey { tenant, name, id, algorithm, rotation_period, first }, now)?)
    }

    async fn fresh_version(&self, key: &Key) -> Result<NewVersion, ManageError> {
        let material = material::fresh(key.algorithm, &self.random).map_err(KeyError::from)?;
        self.version(&key.tenant, &key.slot(), key.id, key.newest_version() + 1, &material).await
    }

    /// Wraps a version for its place.
    async fn version(
        &self,
        tenant: &TenantId,
        slot: &Slot,
        id: Uuid,
        version: u32,
        material: &Material,
    ) -> Result<NewVersion, ManageError> {
        // A tenant's first key makes what wraps it.
        let kek = self.ring.kek(tenant, Missing::Make).await?.ok_or_else(|| KeyError::wrapped(slot))?;
        let salt = self.random.salt().map_err(KeyError::from)?;
        let wrapped = keys::wrap(&kek, slot, KeyRef { id, version }, material.secret.expose(), salt)
            .map_err(KeyError::from)?
            .wrapped;
        let public_key = material.public_key.clone();
        Ok(NewVersion { version, imported: material.imported, wrapped, public_key })
    }
}

/// Keeps a revision, and finds out what became of it where the store does not say. `forget` is told of every time
/// that it may have been kept.
async fn kept(store: &impl Store, key: &Key, adds: Adds, forget: impl Fn()) -> Result<Kept, ManageError> {
    let mut error = match store.keep_key(key.clone()).await {
        Ok(kept) => return Ok(kept),
        Err(error) if error.left_nothing() => return Err(error.into()),
        Err(error) => error,
    };
    for _ in 0..REPETITIONS_MAX {
        forget();
        tokio::time::sleep(REPEATED_AFTER).await;
        match kept_by_now(store, key, adds).await {
            Ok(kept) => return Ok(kept),
            Err(again) => error = again,
        }
    }
    tracing::error!(%error, tenant = %key.tenant, key = key.name.as_str(), "whether the key was changed is not known");
    Err(ManageError::Unknown)
}

/// Keeps a revision that may be kept already. One that is still under way is waited for by the store, which keeps only
/// one revision of a number: so what this says stays true.
async fn kept_by_now(store: &impl Store, key: &Key, adds: Adds) -> Result<Kept, StoreError> {
    if store.keep_key(key.clone()).await? == Kept::Done {
        return Ok(Kept::Done);
    }
    let found = store.named_key(key.tenant.clone(), key.name.clone()).await?;
    let is_there = found.is_some_and(|found| {
        // Others may have gone on from it. Where it left no trace it is decided anew on what they made of it, which
        // comes to the same.
        let left_its_version =
            adds == Adds::Version && key.versions.last().is_some_and(|added| found.versions.contains(added));
        found == *key || (found.id == key.id && left_its_version)
    });
    Ok(if is_there { Kept::Done } else { Kept::Overtaken })
}

#[cfg(test)]
mod tests;
