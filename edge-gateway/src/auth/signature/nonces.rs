//! Remembers the nonces of signed requests, so that a request that was overheard is not taken twice. Pure:
//! the time comes in. Bounded per key: who signs much forgets nobody else's.

use std::collections::{HashMap, HashSet, VecDeque};

use money::Timestamp;
use ring::digest::{SHA256, digest};

use crate::auth::keys::KeyId;

/// The first half of a nonce's SHA-256: however long a nonce is, this is what is kept.
type Mark = [u8; 16];

/// The nonces of every key.
#[derive(Debug)]
pub(crate) struct Nonces {
    by_key: HashMap<KeyId, Seen>,
    per_key_max: usize,
}

#[derive(Debug, Default)]
struct Seen {
    marks: HashSet<Mark>,
    /// Until when each is remembered, soonest first.
    order: VecDeque<(Timestamp, Mark)>,
}

/// Why a nonce was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NonceError {
    /// It was used before.
    Used,
    /// So many are remembered that this one could not be.
    Full,
}

impl Nonces {
    /// Remembers at most so many for each key.
    pub(crate) fn new(per_key_max: usize) -> Self {
        Self { by_key: HashMap::new(), per_key_max }
    }

    /// Takes a nonce, which is then refused for `window_s`.
    pub(crate) fn take(
        &mut self,
        key: KeyId,
        nonce: &str,
        window_s: i64,
        now: Timestamp,
    ) -> Result<(), NonceError> {
        let seen = self.by_key.entry(key).or_default();
        while let Some((_, mark)) = seen.order.front().copied().filter(|(until, _)| *until < now) {
            seen.order.pop_front();
            seen.marks.remove(&mark);
        }
        let mut mark = [0; 16];
        mark.copy_from_slice(&digest(&SHA256, nonce.as_bytes()).as_ref()[..16]);
        if seen.marks.contains(&mark) {
            return Err(NonceError::Used);
        }
        if seen.marks.len() >= self.per_key_max {
            return Err(NonceError::Full);
        }
        let until = now.checked_add_seconds(window_s).unwrap_or(now);
        seen.marks.insert(mark);
        seen.order.push_back((until, mark));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once_within_its_window_and_each_key_has_its_own() {
        let at = Timestamp::from_seconds;
        let (one, two): (KeyId, KeyId) = ("a".repeat(16).parse().unwrap(), "b".repeat(16).parse().unwrap());
        let mut nonces = Nonces::new(2);
        assert_eq!(nonces.take(one, "n", 600, at(0)), Ok(()));
        assert_eq!(nonces.take(one, "n", 600, at(600)), Err(NonceError::Used));
        assert_eq!(nonces.take(two, "n", 600, at(0)), Ok(()));
        assert_eq!(nonces.take(one, "m", 600, at(1)), Ok(()));
        assert_eq!(nonces.take(one, "o", 600, at(2)), Err(NonceError::Full));
        assert_eq!(nonces.take(two, "o", 600, at(2)), Ok(()), "another key has room");
        assert_eq!(nonces.take(one, "o", 600, at(601)), Ok(()), "the first is forgotten");
        assert_eq!(nonces.take(one, "n", 600, at(602)), Ok(()), "and so is the second");
    }
}
