//! How often the same thing is said in the log: once a minute, however often it happens.
//!
//! What happens may be up to whoever sends requests, so what is kept of it is bounded, too.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Mutex,
    time::{Duration, Instant},
};

const EVERY: Duration = Duration::from_secs(60);
/// The most different things that are said in a minute; what is beyond is only counted by metrics.
const KEYS_MAX: usize = 1_024;

/// What was said when.
pub(crate) struct Seldom<K>(Mutex<HashMap<K, Said>>);

struct Said {
    at: Instant,
    /// How often it has happened since without being said.
    unsaid: u64,
}

impl<K> Default for Seldom<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash> Seldom<K> {
    /// It has happened: `Some` if it is to be said now, with how often it was not since the last time.
    pub(crate) fn note(&self, key: K, now: Instant) -> Option<u64> {
        // A poisoned lock costs no more than a line too many.
        let Ok(mut all) = self.0.lock() else { return Some(0) };
        let is_fresh = |said: &Said| now.saturating_duration_since(said.at) < EVERY;
        if let Some(said) = all.get_mut(&key) {
            if is_fresh(said) {
                said.unsaid = said.unsaid.saturating_add(1);
                return None;
            }
            let unsaid = said.unsaid;
            *said = Said { at: now, unsaid: 0 };
            return Some(unsaid);
        }
        if all.len() >= KEYS_MAX {
            all.retain(|_, said| is_fresh(said));
        }
        if all.len() >= KEYS_MAX {
            return None;
        }
        all.insert(key, Said { at: now, unsaid: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_is_said_once_a_minute_with_how_often_it_was_not() {
        let (seldom, began) = (Seldom::default(), Instant::now());
        let at = |seconds| began + Duration::from_secs(seconds);
        assert_eq!(seldom.note("a", at(0)), Some(0));
        assert_eq!(seldom.note("a", at(1)), None);
        assert_eq!(seldom.note("b", at(1)), Some(0));
        assert_eq!(seldom.note("a", at(59)), None);
        assert_eq!(seldom.note("a", at(60)), Some(2));
        assert_eq!(seldom.note("a", at(120)), Some(0));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let (seldom, began) = (Seldom::default(), Instant::now());
        let said = (0..10_000).filter(|key| seldom.note(*key, began).is_some()).count();
        assert_eq!((said, seldom.0.lock().unwrap().len()), (KEYS_MAX, KEYS_MAX));
        assert_eq!(seldom.note(20_000, began + EVERY), Some(0));
        assert_eq!(seldom.0.lock().unwrap().len(), 1);
    }
}
