//! A data key in use here: what is left of its limits. Knows no service and no clock: the time comes in.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use crypto_envelope::{
    local::{self, LocalKey},
    secret::KeyBytes,
};
use paymesh_proto::crypto::v1::DataKey;
use tokio::time::Instant;

/// A data key, expanded, with what may still be done with it.
pub(crate) struct HeldDataKey {
    pub(crate) key: LocalKey,
    until: Instant,
    messages: AtomicU64,
    bytes: AtomicU64,
    bytes_max: u64,
}

impl HeldDataKey {
    /// Takes over what the service gave to who asked at `asked_at`; `None` if it is no data key.
    pub(crate) fn new(given: &DataKey, asked_at: Instant) -> Option<Self> {
        let ttl: Duration = given.ttl?.try_into().ok()?;
        // The message that it came in is freed, not wiped: the connection's buffers are not ours.
        let secret = KeyBytes::from_slice(&given.plaintext)?;
        Some(Self {
            key: LocalKey::new(&secret, &given.wrapped).ok()?,
            until: asked_at.checked_add(ttl)?,
            messages: AtomicU64::new(given.messages_max.min(local::MESSAGES_MAX)),
            bytes: AtomicU64::new(given.bytes_max),
            bytes_max: given.bytes_max,
        })
    }

    /// Whether it may still be used to open.
    pub(crate) fn opens(&self, now: Instant) -> bool {
        now < self.until
    }

    /// Whether it may still be used to seal something.
    pub(crate) fn seals(&self, now: Instant) -> bool {
        self.opens(now) && self.messages.load(Ordering::Relaxed) > 0 && self.bytes.load(Ordering::Relaxed) > 0
    }

    /// Whether a message of this length is beyond what any data key may seal.
    pub(crate) fn never_seals(&self, length: u64) -> bool {
        length > self.bytes_max
    }

    /// Takes a message of this length off what is left; false where not that much is left, and then this key seals
    /// nothing more.
    pub(crate) fn take(&self, length: u64, now: Instant) -> bool {
        let less = |counter: &AtomicU64, by: u64| {
            counter
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(by))
                .inspect_err(|_| counter.store(0, Ordering::Relaxed))
                .is_ok()
        };
        self.opens(now) && less(&self.messages, 1) && less(&self.bytes, length)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use crypto_envelope::envelope::{KeyRef, Salt, SealingKey};

    use super::*;

    /// How long a key of these tests may be used.
    pub(crate) const TTL: Duration = Duration::from_secs(300);

    pub(crate) fn held(messages_max: u64, bytes_max: u64, now: Instant) -> HeldDataKey {
        let reference = KeyRef { id: "01933c5e-8f7a-7c3e-9d5b-2a4f6e8c0d1b".parse().unwrap(), version: 1 };
        let wrapping = SealingKey::new(reference, &KeyBytes::take(&mut [1; 32]));
        let wrapped = wrapping.seal(Salt::new([2; 32]), local::DATA_KEY_AAD, &[3; 32]).unwrap();
        let given = DataKey {
            plaintext: vec![3; 32].into(),
            wrapped: wrapped.into(),
            key_version: 1,
            ttl: TTL.try_into().ok(),
            messages_max,
            bytes_max,
        };
        HeldDataKey::new(&given, now).unwrap()
    }

    #[test]
    fn a_data_key_seals_as_many_messages_as_it_may() {
        let now = Instant::now();
        let key = held(2, 1_000, now);
        assert!(key.take(0, now) && key.seals(now) && key.take(0, now));
        assert!(!key.seals(now) && !key.take(0, now));
        assert!(key.opens(now), "what it sealed can still be opened");
    }

    #[test]
    fn a_data_key_seals_as_many_bytes_as_it_may() {
        let now = Instant::now();
        let key = held(9, 10, now);
        assert!(key.take(8, now));
        assert!(!key.take(3, now), "that would be eleven");
        assert!(!key.seals(now) && !key.take(1, now), "what was refused ends it: the next one serves all");
        assert!(key.never_seals(11) && !key.never_seals(10));
    }

    #[test]
    fn a_data_key_is_not_used_after_its_time() {
        let now = Instant::now();
        let key = held(9, 10, now);
        let late = now + TTL;
        assert!(key.opens(late - Duration::from_millis(1)));
        assert!(!key.opens(late) && !key.seals(late) && !key.take(1, late));
    }

    #[test]
    fn more_messages_than_random_nonces_allow_are_never_sealed() {
        assert_eq!(held(u64::MAX, 1, Instant::now()).messages.into_inner(), 1 << 32);
    }
}
