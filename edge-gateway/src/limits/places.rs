//! How many requests of one tenant are worked on at once: one tenant cannot take all places.

use std::{
    collections::HashMap,
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, PoisonError},
};

use money::TenantId;

const SHARDS: usize = 16;

/// The places that are taken, by tenant. It has an entry for a tenant only while it has requests under
/// way, so it is bounded by the requests under way altogether.
pub(crate) struct Places {
    hasher: RandomState,
    taken: [Mutex<HashMap<TenantId, usize>>; SHARDS],
}

impl Places {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { hasher: RandomState::new(), taken: std::array::from_fn(|_| Mutex::default()) })
    }

    /// A place for as long as it is held, if the tenant has fewer than `max`.
    pub(crate) fn take(self: &Arc<Self>, tenant: &TenantId, max: usize) -> Option<Place> {
        let mut taken = self.shard(tenant).lock().unwrap_or_else(PoisonError::into_inner);
        match taken.get_mut(tenant) {
            Some(count) if *count >= max => return None,
            Some(count) => *count += 1,
            None if max == 0 => return None,
            None => {
                taken.insert(tenant.clone(), 1);
            }
        }
        Some(Place { places: Arc::clone(self), tenant: tenant.clone() })
    }

    #[allow(clippy::cast_possible_truncation)] // a few bits choose
    fn shard(&self, tenant: &TenantId) -> &Mutex<HashMap<TenantId, usize>> {
        &self.taken[self.hasher.hash_one(tenant) as usize % SHARDS]
    }
}

/// A place that is taken until this is dropped.
pub(crate) struct Place {
    places: Arc<Places>,
    tenant: TenantId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.shard(&self.tenant).lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = taken.get_mut(&self.tenant) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.tenant);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_places_and_no_more_and_leaves_no_trace() {
        let places = Places::new();
        let (acme, globex): (TenantId, TenantId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let held: Vec<_> = (0..2).map(|_| places.take(&acme, 2).unwrap()).collect();
        assert!(places.take(&acme, 2).is_none());
        assert!(places.take(&globex, 2).is_some(), "others have their own");
        drop(held);
        assert!(places.take(&acme, 2).is_some());
        assert!(places.taken.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
