//! Tenants' key-encryption keys: unwrapped by the root of trust, once however many ask, and held for a bounded time.
//! Where that fails, all who waited for it are told: who came while a root hangs does not wait for it once more.
//!
//! Halfway through that time each is unwrapped anew in the background. A root that does not answer then leaves it as
//! it is, so that who was served before is served on until the end of the time; a root that refuses, or says that
//! what is on record is not its, has it let go of at once.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use mesh::Drain;
use money::{TenantId, Timestamp};
use tokio::{sync::OnceCell, time::Instant};

use super::{KeyError, Keyring, Missing, age, ring_of};
use crate::{
    domain::{
        envelope::KeyRef,
        keys::{Purpose, Ring, Slot},
    },
    root::RootError,
    store::Store,
};

/// How often it is looked whether a key is to be unwrapped anew.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// One tenant's place in the cache: filled by the first who asks, while others wait for it.
pub(super) struct Entry {
    /// Before the key was read.
    since: Timestamp,
    ring: OnceCell<Arc<Ring>>,
    /// When the root last failed here, and how.
    failed: Mutex<Option<(Instant, RootError)>>,
}

impl Entry {
    fn new(since: Timestamp, ring: OnceCell<Arc<Ring>>) -> Self {
        Self { since, ring, failed: Mutex::default() }
    }

    fn failed(&self) -> MutexGuard<'_, Option<(Instant, RootError)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Store> Keyring<S> {
    /// What wraps the tenant's keys.
    pub async fn kek(&self, tenant: &TenantId, missing: Missing) -> Result<Option<Arc<Ring>>, KeyError> {
        let now = self.clock.now();
        let fresh = |entry: &Arc<Entry>| age(entry.since, now) < self.held_for;
        let made = || Arc::new(Entry::new(now, OnceCell::new()));
        let came = Instant::now();
        let entry = self.keks.get_or_insert_with(tenant, fresh, made);
        if let Some(ring) = entry.ring.get() {
            return Ok(Some(Arc::clone(ring)));
        }
        let unwrapped = entry.ring.get_or_try_init(|| async {
            let meanwhile = entry.failed().as_ref().filter(|(at, _)| *at >= came).cloned();
            if let Some((_, error)) = meanwhile {
                return Err(Missed::Failed(error.into()));
            }
            let unwrapped = self.unwrapped(tenant, missing).await;
            if let Err(KeyError::Root(error)) = &unwrapped
                && error.may_pass()
            {
                *entry.failed() = Some((Instant::now(), error.clone()));
            }
            unwrapped.map_err(Missed::Failed)?.ok_or(Missed::None)
        });
        match unwrapped.await {
            Ok(ring) => Ok(Some(Arc::clone(ring))),
            Err(missed) => {
                // A tenant that nobody uses takes no room.
                self.keks.remove_if(tenant, |kept| Arc::ptr_eq(kept, &entry));
                match missed {
                    Missed::None => Ok(None),
                    Missed::Failed(error) => Err(error),
                }
            }
        }
    }

    /// All versions, unwrapped by the root; `None` if there is none and none is to be made.
    async fn unwrapped(&self, tenant: &TenantId, missing: Missing) -> Result<Option<Arc<Ring>>, KeyError> {
        let slot = Slot::own(tenant.clone(), Purpose::TenantKek);
        let mut versions = self.store.key(slot.clone()).await?;
        if versions.is_empty() && missing == Missing::Make {
            let now = self.clock.now();
            let reference = KeyRef { id: self.ids.uuid_v7(now), version: 1 };
            let key = self.random.key()?;
            let first = self.roots.wrap_to_keep(&slot, reference, &key).await?;
            versions = self.store.make_key(slot.clone(), first.clone(), now).await?;
            if versions[..] == [first] {
                return Ok(Some(Arc::new(ring_of(&[(reference, key)]))));
            }
        }
        if versions.is_empty() {
            return Ok(None);
        }
        let mut unwrapped = Vec::with_capacity(versions.len());
        for version in &versions {
            unwrapped.push((version.reference, self.roots.unwrap(&slot, version).await?));
        }
        Ok(Some(Arc::new(ring_of(&unwrapped))))
    }

    /// Unwraps anew what was held for half of its time, one after the other.
    pub async fn renew(&self) {
        let now = self.clock.now();
        for (tenant, entry) in self.keks.entries() {
            if age(entry.since, now) < self.held_for / 2 || entry.ring.get().is_none() {
                continue;
            }
            match self.unwrapped(&tenant, Missing::Leave).await {
                Ok(Some(ring)) => {
                    let renewed = Entry::new(now, OnceCell::new_with(Some(ring)));
                    self.keks.replace(&tenant, Arc::new(renewed));
                }
                Ok(None) => self.keks.remove(&tenant),
                // The root or the store is away: the others would not fare better.
                Err(KeyError::Root(error)) if error.is_away() => return,
                Err(KeyError::Store(_)) => return,
                Err(error) => {
                    tracing::error!(%tenant, %error, "a tenant's keys are let go of");
                    self.keks.remove(&tenant);
                    self.vaults.remove(&tenant);
                }
            }
        }
    }

    /// Renews what is held until the drain begins.
    pub async fn keep(self: Arc<Self>, drain: Drain) {
        while drain.unless_started(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
            if drain.unless_started(self.renew()).await.is_none() {
                return;
            }
        }
    }
}

enum Missed {
    None,
    Failed(KeyError),
}

#[cfg(test)]
mod tests;
