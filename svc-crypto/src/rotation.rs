//! Wraps every key anew that is not wrapped as it would be now: under another root of trust, or under an older
//! version of its key.
//!
//! Each key is changed by itself, and only from what it was found as, so this may end at any point, be begun again,
//! and go on at two replicas at once: a key is always wrapped whole, under a root that is on the store's record, which
//! the store sees to. The record changes last, once a look at all keys has found nothing more to do, and only if that is
//! still so then: it has one root when this is done.

use mesh::StoreError;
use uuid::Uuid;

use crate::{
    domain::{
        envelope::KeyRef,
        keys::{Purpose, Slot},
        rooted::{self, Stamp},
    },
    random::{Random, RandomError},
    root::{RootError, Roots},
    store::{RootRecord, RootedError, RootedKey, Store},
};

/// Keys that are read at once.
const READ_AT_ONCE: usize = 256;
/// How often all keys are looked at before it is given up: somebody wraps them under another root meanwhile.
const LOOKS_MAX: usize = 16;

/// Why it ended before it was done.
#[derive(Debug, thiserror::Error)]
pub enum RotationError {
    /// A root did not wrap or unwrap a key.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Keys on record that no root unwraps. All others were wrapped anew.
    #[error("{keys} keys are not what a root wrapped for their place, the first {first}")]
    Damaged {
        /// How many.
        keys: u64,
        /// Which was the first.
        first: String,
    },
    /// Somebody wraps keys otherwise all the time.
    #[error("keys are wrapped otherwise meanwhile, as by a replica with another configuration")]
    Contended,
}

impl From<RootedError> for RotationError {
    fn from(error: RootedError) -> Self {
        match error {
            RootedError::Store(error) => error.into(),
            RootedError::NotOnRecord(root) => RootError::NotOnRecord(root).into(),
        }
    }
}

/// How far it has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Keys of the present look that are wrapped as they should be.
    pub keys: u64,
    /// How many keys there are.
    pub keys_total: u64,
    /// How many were wrapped anew.
    pub rewrapped: u64,
    /// Under what.
    pub under: Stamp,
}

/// By whom keys are wrapped, and how many: `None` where what is on record is nothing that a root wrapped.
pub async fn census(store: &impl Store) -> Result<Vec<(Option<Stamp>, u64)>, StoreError> {
    let mut counts = std::collections::BTreeMap::new();
    let mut after = None;
    loop {
        let page = store.keys_under_root(after, READ_AT_ONCE).await?;
        for rooted in &page {
            *counts.entry(rooted::read(&rooted.key.wrapped).map(|(stamp, _)| stamp)).or_insert(0) += 1;
        }
        after = page.into_iter().last();
        if after.is_none() {
            return Ok(counts.into_iter().collect());
        }
    }
}

/// Whether another root than this one is needed, by what is on record.
pub fn needs_another(record: Option<RootRecord>, census: &[(Option<Stamp>, u64)], current: Uuid) -> bool {
    let others = record.is_some_and(|record| record.ids().any(|id| id != current));
    others || census.iter().any(|(stamp, _)| stamp.as_ref().is_none_or(|stamp| stamp.root.id() != current))
}

/// Wraps anew what is to be, one key after the other. `progress` is told after each, and may end it by saying no;
/// what was done stays.
pub async fn rotate(
    store: &impl Store,
    roots: &Roots,
    mut progress: impl FnMut(&Progress) -> bool,
) -> Result<Progress, RotationError> {
    let total = census(store).await?.iter().map(|(_, keys)| keys).sum();
    let mut done = Progress { keys: 0, keys_total: total, rewrapped: 0, under: wraps_with(roots).await? };
    for _ in 0..LOOKS_MAX {
        if look(store, roots, &mut done, &mut progress).await? {
            let (name, id) = (roots.current().clone(), roots.current().id());
            match store.settle_root(name.clone()).await? {
                Some(RootRecord { id: settled, other: None }) if settled == id => return Ok(done),
                // Somebody kept a key under the other root meanwhile.
                Some(record) if record.has(id) => {}
                _ => return Err(RootError::NotOnRecord(name).into()),
            }
        }
        if !progress(&done) {
            return Ok(done);
        }
    }
    Err(RotationError::Contended)
}

/// The root that wraps, and the version of its key that it does it with now: found out by wrapping a key that is
/// thrown away.
async fn wraps_with(roots: &Roots) -> Result<Stamp, RotationError> {
    let slot = Slot::of_service(Purpose::AuditChain);
    let reference = KeyRef { id: Uuid::nil(), version: 0 };
    let probe = roots.wrap(&slot, reference, &Random::default().key()?).await?;
    let (stamp, _) = rooted::read(&probe.wrapped).ok_or(RootError::Unreadable)?;
    Ok(stamp)
}

/// Goes through all keys once. Whether nothing was to be done.
async fn look(
    store: &impl Store,
    roots: &Roots,
    done: &mut Progress,
    progress: &mut impl FnMut(&Progress) -> bool,
) -> Result<bool, RotationError> {
    let (mut after, mut nothing, mut damage) = (None, true, Damage::default());
    done.keys = 0;
    loop {
        let page = store.keys_under_root(after, READ_AT_ONCE).await?;
        for found in &page {
            let stamp = rooted::read(&found.key.wrapped).map(|(stamp, _)| stamp);
            if stamp.as_ref() != Some(&done.under) {
                nothing = false;
                let key = match roots.unwrap(&found.slot, &found.key).await {
                    Ok(key) => key,
                    // One that is damaged does not keep the others; a root that is missing is no damage.
                    Err(error) if error.is_damage() => {
                        damage.add(found, &error);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                // Before the only copy that is known to be good goes.
                let anew = roots.wrap_to_keep(&found.slot, found.key.reference, &key).await?;
                let (stamp, _) = rooted::read(&anew.wrapped).ok_or(RootError::Unreadable)?;
                // Where another was quicker, the next look sees what it did.
                if store.rewrap_key(found.clone(), anew.wrapped).await? {
                    done.rewrapped += 1;
                }
                // The root's own key may have got a new version meanwhile: those before it come again.
                done.under = stamp;
            }
            done.keys += 1;
            done.keys_total = done.keys_total.max(done.keys);
            if !progress(done) {
                return Ok(false);
            }
        }
        after = page.into_iter().last();
        if after.is_none() {
            return damage.none().map(|()| nothing);
        }
    }
}

/// Keys of a look that no root unwraps.
#[derive(Default)]
struct Damage(Option<(u64, String)>);

impl Damage {
    fn add(&mut self, found: &RootedKey, error: &RootError) {
        let KeyRef { id, version } = found.key.reference;
        let key = match found.slot.owner() {
            "" => format!("of the service ({:?}), {id}, version {version}", found.slot.purpose),
            tenant => format!("of tenant {tenant} ({:?}), {id}, version {version}", found.slot.purpose),
        };
        tracing::error!(key, %error, "a key is not wrapped anew");
        self.0.get_or_insert((0, key)).0 += 1;
    }

    fn none(self) -> Result<(), RotationError> {
        self.0.map_or(Ok(()), |(keys, first)| Err(RotationError::Damaged { keys, first }))
    }
}

#[cfg(test)]
mod tests;
