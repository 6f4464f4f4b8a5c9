//! Buckets by key, as many as there may be and no more.
//!
//! A bucket that still owes is never forgotten: only full ones are, as they are what a new one would be.
//! Where all places are taken by buckets that owe, newcomers share a few buckets until there is room.
//! So filling the table with invented keys resets nobody, and costs those who fill it.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState},
    sync::{Mutex, PoisonError},
};

use super::gcra::{Quota, Verdict};

const SHARDS: usize = 16;
/// Per shard.
const SHARED_BUCKETS: usize = 64;
/// A full shard is not searched for full buckets more often than this.
const SWEEP_INTERVAL_NS: u64 = 100_000_000;

/// A bounded table of buckets.
pub struct Table {
    /// Two secret keys make 128 bits of a key: no two keys meet, and nobody can aim at a shared bucket.
    hashers: [RandomState; 2],
    shards: Box<[Mutex<Shard>]>,
    per_shard_max: usize,
}

#[derive(Default)]
struct Shard {
    /// When each bucket is full again.
    full_at: HashMap<u128, u64, BuildHasherDefault<AlreadyHashed>>,
    shared: Vec<u64>,
    swept_at: Option<u64>,
}

/// The keys are hashes already.
#[derive(Default)]
struct AlreadyHashed(u64);

impl Hasher for AlreadyHashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    #[allow(clippy::cast_possible_truncation)] // the half that the shard is not chosen by
    fn write_u128(&mut self, hash: u128) {
        self.0 = hash as u64;
    }
}

impl Table {
    /// A table for so many keys.
    pub fn new(keys_max: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let hashers = [RandomState::new(), RandomState::new()];
        Self { hashers, shards, per_shard_max: (keys_max / SHARDS).max(1) }
    }

    /// Takes one request from the key's bucket.
    pub fn take(&self, key: impl Hash, quota: &Quota, now: u64) -> Verdict {
        self.with(&key, now, |full_at| {
            let (verdict, next) = quota.take(*full_at, now);
            *full_at = next;
            verdict
        })
    }

    /// Puts back what [`Table::take`] took: the request did not go on after all.
    pub fn put_back(&self, key: impl Hash, quota: &Quota, now: u64) {
        self.with(&key, now, |full_at| *full_at = full_at.saturating_sub(quota.interval_ns()));
    }

    #[allow(clippy::cast_possible_truncation)] // shards and shared buckets are chosen by a few bits
    fn with<T>(&self, key: &impl Hash, now: u64, work: impl FnOnce(&mut u64) -> T) -> T {
        let [high, low] = &self.hashers;
        let (high, low) = (high.hash_one(key), low.hash_one(key));
        let hash = (u128::from(high) << 64) | u128::from(low);
        let mut shard = self.shards[high as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        let shard = &mut *shard;
        if let Some(full_at) = shard.full_at.get_mut(&hash) {
            return work(full_at);
        }
        if shard.full_at.len() >= self.per_shard_max {
            shard.sweep(now);
        }
        if shard.full_at.len() < self.per_shard_max {
            return work(shard.full_at.entry(hash).or_insert(0));
        }
        shard.shared.resize(SHARED_BUCKETS, 0);
        work(&mut shard.shared[(high >> 32) as usize % SHARED_BUCKETS])
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().full_at.len()).sum()
    }
}

impl Shard {
    fn sweep(&mut self, now: u64) {
        if self.swept_at.is_some_and(|swept_at| now < swept_at.saturating_add(SWEEP_INTERVAL_NS)) {
            return;
        }
        self.swept_at = Some(now);
        self.full_at.retain(|_, full_at| *full_at > now);
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn quota(requests: u32, window_s: u32) -> Quota {
        Quota::new(NonZeroU32::new(requests).unwrap(), NonZeroU32::new(window_s).unwrap())
    }

    #[test]
    fn keys_have_buckets_of_their_own_and_what_is_put_back_is_there_again() {
        let (table, quota) = (Table::new(1_024), quota(1, 10));
        assert!(table.take("a", &quota, 0).allowed);
        assert!(!table.take("a", &quota, 0).allowed);
        assert!(table.take("b", &quota, 0).allowed);
        table.put_back("a", &quota, 0);
        assert!(table.take("a", &quota, 0).allowed);
    }

    #[test]
    fn invented_keys_neither_grow_the_table_nor_reset_a_bucket() {
        let (table, quota) = (Table::new(256), quota(1, 1_000));
        assert!(table.take("the attacker's own", &quota, 1).allowed);
        let let_in = (0..100_000_u32).filter(|key| table.take(key, &quota, 1).allowed).count();
        assert!(table.len() <= 256, "{}", table.len());
        assert!(let_in <= 256 + SHARDS * SHARED_BUCKETS, "newcomers share: {let_in}");
        assert!(!table.take("the attacker's own", &quota, 2).allowed, "it still owes");
    }

    #[test]
    fn full_buckets_make_room() {
        let (table, quota) = (Table::new(256), quota(1, 1));
        for key in 0..1_000_u32 {
            table.take(key, &quota, 0);
        }
        let later = 2 * SECOND_NS;
        for key in 1_000..1_100_u32 {
            assert!(table.take(key, &quota, later).allowed);
        }
        assert!(table.len() <= 256);
    }
}
