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
    store::{RootRecord, RootedError, Store},
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
    /// What the root wrapped just now it unwraps to something else.
    #[error("the root of trust {0} does not give back what it wrapped")]
    Garbled(Stamp),
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
    let (mut after, mut nothing) = (None, true);
    done.keys = 0;
    loop {
        let page = store.keys_under_root(after, READ_AT_ONCE).await?;
        for found in &page {
            let (stamp, _) = rooted::read(&found.key.wrapped).ok_or(RootError::Unreadable)?;
            if stamp != done.under {
                nothing = false;
                let key = roots.unwrap(&found.slot, &found.key).await?;
                let anew = roots.wrap(&found.slot, found.key.reference, &key).await?;
                let (stamp, _) = rooted::read(&anew.wrapped).ok_or(RootError::Unreadable)?;
                // Before the only copy that is known to be good goes.
                if roots.unwrap(&found.slot, &anew).await?.expose() != key.expose() {
                    return Err(RotationError::Garbled(stamp));
                }
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
            return Ok(nothing);
        }
    }
}
