//! Posting lists: at which times there was a movement of a key. A key stands for an account, a tenant, a
//! reference or a caller's number, hashed to 64 bits: what two share a list for by chance is told apart by
//! whoever reads the movements, so that a list may hold too much, and never too little.
//!
//! A table keyed by account would be written to at as many places as there are accounts, each batch, and
//! the more the longer it runs. Here the movements of a *generation* are gathered in memory, in sorted
//! runs, and written down once, in the order of the keys, when the generation is full: appends only.

use std::sync::Arc;

use mesh::store::StoreError;
use money::Timestamp;

use super::{
    body::Movement,
    bytes::{Reader, put_number},
    corrupt,
};

/// A key's hash.
pub(super) type Key = u64;

/// A movement of a key, at a time in nanoseconds.
pub(super) type Entry = (Key, i64);

/// What keys are made of. The number tells the kinds apart in the hash, and is part of the schema.
#[derive(Debug, Clone, Copy)]
pub(super) enum Of<'a> {
    /// An account, by its number.
    Account(Timestamp),
    /// A tenant, by its word.
    Tenant(u32),
    /// A reference that is not empty.
    Reference(&'a str),
    /// A caller's number that is not zero.
    UserData(i64),
}

impl Of<'_> {
    /// The key. FNV-1a over texts, then the finalizer of splitmix64: part of the schema.
    pub(super) fn key(self) -> Key {
        let (kind, value) = match self {
            Self::Account(number) => (1, number.as_nanos().cast_unsigned()),
            Self::Tenant(word) => (2, word.into()),
            Self::UserData(data) => (3, data.cast_unsigned()),
            Self::Reference(text) => {
                let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
                (4, text.as_bytes().iter().fold(0xcbf2_9ce4_8422_2325, fold))
            }
        };
        let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(kind));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// Adds the entries of a movement.
pub(super) fn put_entries(to: &mut Vec<Entry>, timestamp: i64, movement: &Movement<'_>) {
    let Some(made) = movement.made else {
        // A lapse is looked for only by those who ask for balances.
        let kept = [(movement.debit, movement.debit_after), (movement.credit, movement.credit_after)];
        let kept = kept.into_iter().filter(|(_, after)| after.is_some());
        to.extend(kept.map(|(number, _)| (Of::Account(number).key(), timestamp)));
        return;
    };
    to.push((Of::Account(movement.debit).key(), timestamp));
    to.push((Of::Account(movement.credit).key(), timestamp));
    to.push((Of::Tenant(made.words.tenant).key(), timestamp));
    if made.user_data != 0 {
        to.push((Of::UserData(made.user_data).key(), timestamp));
    }
    if !made.reference.is_empty() {
        to.push((Of::Reference(made.reference).key(), timestamp));
    }
}

/// Sorted entries, shared with those who read.
pub(super) type Run = Arc<Vec<Entry>>;

/// Adds a run, and merges neighbours of like size: an entry is moved a logarithmic number of times, and
/// there are a logarithmic number of runs to look at.
pub(super) fn push_run(runs: &mut Vec<Run>, mut entries: Vec<Entry>) {
    entries.sort_unstable();
    while let Some(last) = runs.pop_if(|last| last.len() <= 2 * entries.len()) {
        entries = merge(&last, &entries);
    }
    if !entries.is_empty() {
        runs.push(Arc::new(entries));
    }
}

fn merge(left: &[Entry], right: &[Entry]) -> Vec<Entry> {
    let mut merged = Vec::with_capacity(left.len() + right.len());
    let (mut left, mut right) = (left.iter().peekable(), right.iter().peekable());
    while let (Some(l), Some(r)) = (left.peek(), right.peek()) {
        let next = if l <= r { left.next() } else { right.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// All runs as one.
pub(super) fn merge_all(mut runs: Vec<Run>) -> Vec<Entry> {
    let mut merged = Vec::new();
    while let Some(run) = runs.pop() {
        merged = merge(&run, &merged);
    }
    merged
}

/// The times of a key in runs, from one to another, oldest first, each once.
pub(super) fn in_runs(runs: &[Run], key: Key, from: i64, to: i64) -> Vec<i64> {
    let mut times = Vec::new();
    for run in runs {
        let start = run.partition_point(|entry| *entry < (key, from));
        times.extend(run[start..].iter().take_while(|entry| **entry <= (key, to)).map(|entry| entry.1));
    }
    times.sort_unstable();
    times.dedup();
    times
}

/// A block is closed when it has grown to this many bytes: two fit a page of 4 KiB.
const BLOCK_BYTES: usize = 1_900;

/// The bits of a key that a block's place is made of.
const PLACE_BITS: u32 = 40;

/// Where a block is that begins with the key. Blocks of a generation follow each other, in the order of
/// their keys; no two begin with the same [`PLACE_BITS`].
pub(super) fn place(generation: i64, key: Key) -> i64 {
    (generation << PLACE_BITS) | (key >> (64 - PLACE_BITS)).cast_signed()
}

/// Packs sorted entries into blocks: gives each with its place.
pub(super) fn put_blocks(
    generation: i64,
    first: i64,
    entries: &[Entry],
    mut put: impl FnMut(i64, &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut block = Vec::new();
    let mut start = 0;
    let mut previous = None;
    let mut list = Vec::new();
    for group in entries.chunk_by(|left, right| left.0 == right.0) {
        let key = group[0].0;
        list.clear();
        let mut before = first;
        for (place, (_, time)) in group.iter().enumerate() {
            if place > 0 && *time == before {
                continue;
            }
            put_number(&mut list, time.abs_diff(before));
            before = *time;
        }
        let here = place(generation, key);
        let is_full = block.len() + list.len() > BLOCK_BYTES;
        if is_full && !block.is_empty() && previous != Some(here) {
            put(start, &block)?;
            block.clear();
        }
        if block.is_empty() {
            start = here;
        }
        previous = Some(here);
        block.extend_from_slice(&key.to_le_bytes());
        put_number(&mut block, list.len() as u64);
        block.extend_from_slice(&list);
    }
    if block.is_empty() { Ok(()) } else { put(start, &block) }
}

/// The times of a key in a block, oldest first.
pub(super) fn in_block(block: &[u8], first: i64, key: Key) -> Result<Vec<i64>, StoreError> {
    let read = || {
        let mut block = Reader(block);
        while !block.0.is_empty() {
            let found = block.fixed()?;
            let length = block.count()?;
            let mut list = Reader(block.take(length)?);
            if found > key {
                break;
            }
            if found == key {
                let mut times = Vec::new();
                let mut time = first;
                while !list.0.is_empty() {
                    time = time.checked_add_unsigned(list.number()?)?;
                    times.push(time);
                }
                return Some(times);
            }
        }
        Some(Vec::new())
    };
    read().ok_or_else(|| corrupt("block of postings"))
}

/// Those that are in both lists.
pub(super) fn intersect(left: Vec<i64>, right: Vec<i64>) -> Vec<i64> {
    let (mut common, longer) = if left.len() <= right.len() { (left, right) } else { (right, left) };
    common.retain(|time| longer.binary_search(time).is_ok());
    common
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: i64 = 1_800_000_000_000_000_000;

    fn blocks(entries: &[Entry]) -> Vec<(i64, Vec<u8>)> {
        let mut blocks = Vec::new();
        put_blocks(3, FIRST, entries, |place, block| {
            blocks.push((place, block.to_vec()));
            Ok(())
        })
        .unwrap();
        blocks
    }

    fn find(blocks: &[(i64, Vec<u8>)], key: Key) -> Vec<i64> {
        let end = blocks.partition_point(|(at, _)| *at <= place(3, key));
        end.checked_sub(1).map_or(Vec::new(), |index| in_block(&blocks[index].1, FIRST, key).unwrap())
    }

    #[test]
    fn lists_of_all_lengths_are_found_in_their_blocks() {
        let mut entries: Vec<Entry> = Vec::new();
        for n in 0..500_u64 {
            let key = Of::Tenant(u32::try_from(n).unwrap()).key();
            let length = if n % 100 == 7 { 3_000 } else { 1 + i64::try_from(n % 9).unwrap() };
            entries.extend((0..length).map(|time| (key, FIRST + time * 1_000_003)));
        }
        // Keys that share all that a place is made of, in number more than a block holds.
        let close = 0x1234_5678_9a00_0000;
        entries.extend((0..500).map(|n| (close + n, FIRST + 5)));
        entries.extend([(0, FIRST), (u64::MAX, FIRST + 9), (u64::MAX, FIRST + 9)]);
        entries.sort_unstable();

        let blocks = blocks(&entries);
        assert!(blocks.len() > 12 && blocks.is_sorted_by(|left, right| left.0 < right.0));
        for group in entries.chunk_by(|left, right| left.0 == right.0) {
            let mut times: Vec<i64> = group.iter().map(|entry| entry.1).collect();
            times.dedup();
            assert_eq!(find(&blocks, group[0].0), times);
            assert!(find(&blocks, group[0].0 ^ (1 << 50)).is_empty(), "no such key");
        }
        assert!(in_block(&blocks[1].1[..20], FIRST, u64::MAX).is_err(), "cut short");
    }

    #[test]
    fn runs_are_merged_and_few() {
        let mut runs = Vec::new();
        let mut all: Vec<Entry> = Vec::new();
        for n in 0..1_000_i64 {
            let entries = vec![(1, 2 * n + 1), (0, 2 * n), (n.cast_unsigned() % 7, 2 * n)];
            all.extend(&entries);
            push_run(&mut runs, entries);
        }
        assert!(runs.len() <= 10, "{}", runs.len());
        all.sort_unstable();
        let of = |key| {
            let mut times: Vec<i64> =
                all.iter().filter(|entry| entry.0 == key).map(|entry| entry.1).collect();
            times.dedup();
            times
        };
        assert!([0, 1, 6, 9].iter().all(|key| in_runs(&runs, *key, i64::MIN, i64::MAX) == of(*key)));
        assert_eq!(in_runs(&runs, 0, 4, 8), [4, 6, 8]);
        assert_eq!(merge_all(runs), all);
        assert_eq!(intersect(vec![1, 3, 5, 9], vec![3, 4, 9]), [3, 9]);
    }
}
