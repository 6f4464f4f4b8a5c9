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
    /// Keys are not to be had.
    #[error(transparent)]
    Key(#[from] KeyError),
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
        let (random, settled_after) = (Random::default(), None);
        Self { store, ring, named, clock, ids, random, recorder, own, settled_after }
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
            if self.keep(&key).await? == Kept::Done {
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
            if self.keep(&next).await? == Kept::Done {
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
            if self.keep(&next).await? == Kept::Done {
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
            if next == key || self.keep(&next).await? == Kept::Done {
                return Ok(next);
            }
        }
        Err(ManageError::Contended)
    }

    /// Rotates and destroys what is due, one key after the other. Says how many were.
    pub async fn carry_out_due(&self) -> Result<usize, ManageError> {
        let now = self.clock.now();
        let mut done = 0;
        for key in self.store.keys_due(now, DUE_MAX).await? {
            let next = match key.destroy_if_due(now) {
                Some(destroyed) => destroyed,
                None => match key.rotate_if_due(self.fresh_version(&key).await?, now) {
                    Some(rotated) => rotated?,
                    None => continue,
                },
            };
            // Where another replica was quicker, it is done as well.
            if self.keep(&next).await? == Kept::Done {
                let (tenant, key) = (&next.tenant, next.name.as_str());
                let verb = if matches!(next.state, State::Destroyed { .. }) {
                    tracing::warn!(%tenant, key, "a key was destroyed");
                    Verb::DestroyKey
                } else {
                    tracing::info!(%tenant, key, version = next.newest_version(), "a key was rotated");
                    Verb::RotateKey
                };
                let act = Act {
                    workload: self.own.clone(),
                    tenant: Some(tenant.clone()),
                    subject: Subject::Key(next.name.clone()),
                    key: None,
                    verb,
                    outcome: Outcome::Done,
                };
                if let Err(fault) = self.recorder.submit(Entry { act, count: 1, bytes: 0 }).await {
                    // It is done, and cannot be undone for want of a record.
                    tracing::error!(%tenant, key, reason = fault.reason().as_str(), "it is not on record");
                }
                done += 1;
            }
        }
        Ok(done)
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
    async fn keep(&self, key: &Key) -> Result<Kept, ManageError> {
        let (store, named, key) = (self.store.clone(), Arc::clone(&self.named), key.clone());
        let keeping = tokio::spawn(mesh::scope::carry(async move {
            let kept = store.keep_key(key.clone()).await;
            // Whatever came of it: it may be kept also where the store says that it failed.
            named.forget(&key.tenant, &key.name);
            kept
        }));
        Ok(keeping.await.map_err(|_| StoreError::from(BatchError::Broken))??)
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
