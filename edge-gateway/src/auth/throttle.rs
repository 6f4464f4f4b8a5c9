//! Slows down who guesses. Pure: the time comes in.
//!
//! Failures are counted per address (IPv6: per /64, which one customer has) and per key id. An address with
//! too many is refused before anything is looked at, each time for twice as long; other addresses notice
//! nothing. A key id with too many only makes wrong answers costlier: the right key is always let in, so that
//! nobody can lock out its holder. Failures are forgotten by halves.
//!
//! Bounded: two generations of entries, the older dropped when the younger is full. Who has more addresses
//! than that is slowed less; the keys' 160 bits are what holds.

use std::{collections::HashMap, hash::Hash, net::IpAddr};

use money::Timestamp;

use super::keys::KeyId;
use crate::limits::address::of_client;

/// How failures are answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ThrottleRules {
    /// So many failures have no consequence.
    pub(crate) free: u32,
    /// What the first one beyond costs, in seconds; each further one costs twice as much.
    pub(crate) base_s: u32,
    /// The longest refusal, in seconds.
    pub(crate) max_s: u32,
    /// After so many seconds without a failure, half of them are forgotten.
    pub(crate) half_life_s: u32,
    /// How many addresses and how many key ids are remembered.
    pub(crate) entries_max: usize,
}

/// The failures of the recent past.
#[derive(Debug)]
pub(crate) struct Throttle {
    rules: ThrottleRules,
    addresses: Table<u128>,
    keys: Table<KeyId>,
}

/// What a failure leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// For how many seconds to stay away; 0 for none.
    pub(crate) retry_after_s: u32,
    /// Whether the address was not refused before and is now.
    pub(crate) newly_refused: bool,
}

impl Throttle {
    pub(crate) fn new(rules: ThrottleRules) -> Self {
        let generation = (rules.entries_max / 2).max(1);
        Self { rules, addresses: Table::new(generation), keys: Table::new(generation) }
    }

    /// For how many seconds requests from this address are refused; `None` if they are not.
    pub(crate) fn refused_for(&self, address: IpAddr, now: Timestamp) -> Option<u32> {
        let entry = self.addresses.get(&of_client(address))?;
        let left = entry.until_s.saturating_sub(now.as_seconds());
        // A clock that was set back refuses nobody for longer than one that was not.
        u32::try_from(left).ok().filter(|left| *left > 0).map(|left| left.min(self.rules.max_s))
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, address: IpAddr, key: Option<KeyId>, now: Timestamp) -> Consequence {
        let address = of_client(address);
        let before = self.addresses.get(&address).is_some_and(|entry| entry.until_s > now.as_seconds());
        let by_address = self.addresses.fail(address, &self.rules, now);
        let by_key = key.map_or(0, |key| self.keys.fail(key, &self.rules, now));
        Consequence { retry_after_s: by_address.max(by_key), newly_refused: by_address > 0 && !before }
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    failures: u32,
    last_s: i64,
    until_s: i64,
}

#[derive(Debug)]
struct Table<K> {
    younger: HashMap<K, Entry>,
    older: HashMap<K, Entry>,
    generation: usize,
}

impl<K: Hash + Eq + Copy> Table<K> {
    fn new(generation: usize) -> Self {
        Self { younger: HashMap::new(), older: HashMap::new(), generation }
    }

    fn get(&self, key: &K) -> Option<&Entry> {
        self.younger.get(key).or_else(|| self.older.get(key))
    }

    /// Answers with how long to stay away, in seconds.
    fn fail(&mut self, key: K, rules: &ThrottleRules, now: Timestamp) -> u32 {
        let now = now.as_seconds();
        let mut entry = self.get(&key).copied().unwrap_or_default();
        let quiet = now.saturating_sub(entry.last_s).max(0);
        let halvings = u32::try_from(quiet / i64::from(rules.half_life_s.max(1))).unwrap_or(u32::MAX);
        entry.failures = entry.failures.checked_shr(halvings).unwrap_or(0).saturating_add(1);
        entry.last_s = now;
        let beyond = entry.failures.saturating_sub(rules.free);
        let penalty = match beyond {
            0 => 0,
            _ => rules
                .base_s
                .saturating_mul(1_u32.checked_shl(beyond - 1).unwrap_or(u32::MAX))
                .min(rules.max_s),
        };
        entry.until_s = now.saturating_add(penalty.into());
        if !self.younger.contains_key(&key) && self.younger.len() >= self.generation {
            self.older = std::mem::take(&mut self.younger);
        }
        self.younger.insert(key, entry);
        penalty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: ThrottleRules =
        ThrottleRules { free: 3, base_s: 2, max_s: 60, half_life_s: 100, entries_max: 8 };

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_refusal_doubles_up_to_a_limit_and_is_forgotten_by_halves() {
        let mut throttle = Throttle::new(RULES);
        let one = address("192.0.2.1");
        let penalties: Vec<u32> = (0..9).map(|_| throttle.failed(one, None, at(0)).retry_after_s).collect();
        assert_eq!(penalties, [0, 0, 0, 2, 4, 8, 16, 32, 60]);
        assert_eq!(throttle.refused_for(one, at(0)), Some(60));
        assert_eq!(throttle.refused_for(one, at(59)), Some(1));
        assert_eq!(throttle.refused_for(one, at(60)), None);
        assert_eq!(throttle.refused_for(address("192.0.2.2"), at(0)), None, "others notice nothing");
        // 9 failures are 4 after one half-life and none after many.
        assert_eq!(
            throttle.failed(one, None, at(100)),
            Consequence { retry_after_s: 4, newly_refused: true }
        );
        assert_eq!(
            throttle.failed(one, None, at(100_000)),
            Consequence { retry_after_s: 0, newly_refused: false }
        );
    }

    #[test]
    fn a_clock_that_is_set_back_refuses_nobody_for_long() {
        let mut throttle = Throttle::new(RULES);
        let one = address("192.0.2.1");
        for _ in 0..5 {
            throttle.failed(one, None, at(1_000_000));
        }
        assert_eq!(throttle.refused_for(one, at(0)), Some(60));
    }

    #[test]
    fn ipv6_counts_by_the_64_bits_of_a_customer_and_mapped_addresses_as_ipv4() {
        let mut throttle = Throttle::new(RULES);
        for host in 1..=4 {
            throttle.failed(address(&format!("2001:db8:0:1::{host}")), None, at(0));
        }
        assert!(throttle.refused_for(address("2001:db8:0:1:ffff::9"), at(0)).is_some());
        assert!(throttle.refused_for(address("2001:db8:0:2::1"), at(0)).is_none());
        for _ in 0..4 {
            throttle.failed(address("::ffff:192.0.2.7"), None, at(0));
        }
        assert!(throttle.refused_for(address("192.0.2.7"), at(0)).is_some());
        assert!(throttle.refused_for(address("::ffff:192.0.2.8"), at(0)).is_none());
    }

    #[test]
    fn a_key_that_many_guess_at_costs_them_more_and_blocks_no_address() {
        let mut throttle = Throttle::new(RULES);
        let key: KeyId = "a".repeat(16).parse().unwrap();
        for last in 1..=3 {
            assert_eq!(
                throttle.failed(address(&format!("192.0.2.{last}")), Some(key), at(0)).retry_after_s,
                0
            );
        }
        let fourth = throttle.failed(address("192.0.2.4"), Some(key), at(0));
        assert_eq!(fourth, Consequence { retry_after_s: 2, newly_refused: false });
        assert_eq!(throttle.refused_for(address("192.0.2.4"), at(0)), None);
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut throttle = Throttle::new(RULES);
        for number in 0..10_000_u32 {
            throttle.failed(IpAddr::V4(number.into()), None, at(0));
        }
        assert!(throttle.addresses.younger.len() + throttle.addresses.older.len() <= RULES.entries_max);
    }
}
