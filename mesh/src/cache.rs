//! A bounded map that keeps what is used: at most so many entries, whatever is asked for.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, PoisonError},
};

/// Two generations: what is used moves to the young one; when that is full the old one is dropped and
/// the young one grows old. Constant time, and an entry that is used at least once per generation stays.
pub struct Cache<K, V> {
    generations: Mutex<Generations<K, V>>,
    young_max: usize,
}

struct Generations<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash + Clone, V: Clone> Cache<K, V> {
    /// Keeps at most `entries_max`, but no fewer than two.
    pub fn new(entries_max: usize) -> Self {
        let generations = Generations { young: HashMap::new(), old: HashMap::new() };
        Self { generations: Mutex::new(generations), young_max: (entries_max / 2).max(1) }
    }

    /// The entry, if it is kept.
    pub fn get(&self, key: &K) -> Option<V> {
        // Every change leaves the maps whole, so a poisoned lock guards nothing broken.
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = generations.young.get(key) {
            return Some(value.clone());
        }
        let (key, value) = generations.old.remove_entry(key)?;
        generations.insert(key, value.clone(), self.young_max);
        Some(value)
    }

    /// The entry, if it is kept and good; else what `make` makes is kept and given.
    pub fn get_or_insert_with(&self, key: &K, good: impl FnOnce(&V) -> bool, make: impl FnOnce() -> V) -> V {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let young = generations.young.get(key).cloned();
        let was_young = young.is_some();
        let known = young.or_else(|| generations.old.remove(key));
        let (value, moved) = match known.filter(good) {
            Some(value) => (value, !was_young),
            None => (make(), true),
        };
        if moved {
            generations.insert(key.clone(), value.clone(), self.young_max);
        }
        value
    }

    /// All that is kept, in no order, without making anything younger.
    pub fn entries(&self) -> Vec<(K, V)> {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let all = generations.young.iter().chain(&generations.old);
        all.map(|(key, value)| (key.clone(), value.clone())).collect()
    }

    /// Lets go of an entry.
    pub fn remove(&self, key: &K) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.remove(key);
        generations.old.remove(key);
    }

    /// Lets go of an entry if it is still the one that is meant.
    pub fn remove_if(&self, key: &K, is_meant: impl Fn(&V) -> bool) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        let Generations { young, old } = &mut *generations;
        for generation in [young, old] {
            if generation.get(key).is_some_and(&is_meant) {
                generation.remove(key);
            }
        }
    }

    /// Lets go of all entries but those that are still good.
    pub fn retain(&self, is_good: impl Fn(&V) -> bool) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.retain(|_, value| is_good(value));
        generations.old.retain(|_, value| is_good(value));
    }

    /// Begins a generation: what was not used in the one before goes.
    pub fn age(&self) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.old = std::mem::take(&mut generations.young);
    }

    /// Puts another value in the place of an entry that is kept, without making it younger.
    pub fn replace(&self, key: &K, value: V) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = generations.young.get_mut(key) {
            *entry = value;
        } else if let Some(entry) = generations.old.get_mut(key) {
            *entry = value;
        }
    }

    /// Keeps an entry.
    pub fn insert(&self, key: K, value: V) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.old.remove(&key);
        generations.insert(key, value, self.young_max);
    }
}

impl<K: Eq + Hash, V> Generations<K, V> {
    fn insert(&mut self, key: K, value: V, young_max: usize) {
        if self.young.len() >= young_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_stays_within_its_bound_and_keeps_what_is_used() {
        let cache = Cache::new(10);
        cache.insert(0, "kept");
        for n in 1..1_000 {
            cache.insert(n, "other");
            assert_eq!(cache.get(&0), Some("kept"), "after {n}");
            let generations = cache.generations.lock().unwrap();
            assert!(generations.young.len() + generations.old.len() <= 10);
        }
        assert_eq!(cache.get(&1), None);
        cache.insert(0, "changed");
        assert_eq!(cache.get(&0), Some("changed"));
        cache.replace(&0, "replaced");
        cache.replace(&1, "not kept");
        assert_eq!((cache.get(&0), cache.get(&1)), (Some("replaced"), None));
        cache.insert(0, "changed");
        assert!(cache.entries().contains(&(0, "changed")) && cache.entries().len() <= 10);
    }

    #[test]
    fn entries_go_by_what_they_are() {
        let cache = Cache::new(10);
        for n in 0..6 {
            cache.insert(n, n);
        }
        cache.remove_if(&1, |value| *value == 7);
        cache.remove_if(&2, |value| *value == 2);
        assert_eq!((cache.get(&1), cache.get(&2)), (Some(1), None));
        cache.retain(|value| value % 2 == 0);
        assert_eq!([0, 1, 3, 4, 5].map(|n| cache.get(&n)), [Some(0), None, None, Some(4), None]);
    }

    #[test]
    fn the_smallest_still_keeps_the_latest() {
        let cache = Cache::new(0);
        cache.insert(1, 'a');
        cache.insert(2, 'b');
        assert_eq!(cache.get(&2), Some('b'));
    }
}
