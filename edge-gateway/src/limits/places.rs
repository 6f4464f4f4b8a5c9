//! How many things one of many does at once, so that none takes all places: requests and streams of a tenant.

use std::{
    collections::{HashMap, hash_map::Entry},
    hash::{BuildHasher as _, Hash, RandomState},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

const SHARDS: usize = 16;

/// The places that are taken, by whom. It has an entry for somebody only while there is something under
/// way, so it is bounded by what is under way altogether.
pub(crate) struct Places<K> {
    hasher: RandomState,
    taken: [Mutex<HashMap<K, usize>>; SHARDS],
}

impl<K: Clone + Eq + Hash> Places<K> {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { hasher: RandomState::new(), taken: std::array::from_fn(|_| Mutex::default()) })
    }

    /// A place for as long as it is held, if `whose` are fewer than `max`.
    #[allow(clippy::cast_possible_truncation)] // a few bits choose a shard
    pub(crate) fn take(self: &Arc<Self>, whose: &K, max: usize) -> Option<Place<K>> {
        let shard = self.hasher.hash_one(whose) as usize % SHARDS;
        match self.taken(shard).entry(whose.clone()) {
            Entry::Occupied(mut count) if *count.get() < max => *count.get_mut() += 1,
            Entry::Vacant(none) if max > 0 => {
                none.insert(1);
            }
            _ => return None,
        }
        Some(Place { places: Arc::clone(self), shard, whose: whose.clone() })
    }

    fn taken(&self, shard: usize) -> MutexGuard<'_, HashMap<K, usize>> {
        self.taken[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken until this is dropped.
pub(crate) struct Place<K: Clone + Eq + Hash> {
    places: Arc<Places<K>>,
    /// Where `whose` are counted.
    shard: usize,
    whose: K,
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.places.taken(self.shard).entry(self.whose.clone()) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use money::TenantId;

    use super::*;

    #[test]
    fn a_tenant_has_its_places_and_no_more_and_leaves_no_trace() {
        let places = Places::new();
        let (acme, globex): (TenantId, TenantId) = ("acme".parse().unwrap(), "globex".parse().unwrap());
        let held: Vec<_> = (0..2).map(|_| places.take(&acme, 2).unwrap()).collect();
        assert!(places.take(&acme, 2).is_none());
        assert!(places.take(&globex, 2).is_some(), "others have their own");
        assert!(places.take(&globex, 0).is_none());
        drop(held);
        assert!(places.take(&acme, 2).is_some());
        assert!(places.taken.iter().all(|shard| shard.lock().unwrap().is_empty()));
    }
}
