//! What the tests of the pure core share, and what it may not name itself: the terminal and a generator.

use ring::rand::{SecureRandom, SystemRandom};

use crate::domain::{envelope::KeyRef, secret::KeyBytes};

/// Counts vectors, so that an empty set of them cannot pass for a good one.
pub(crate) struct Count {
    what: &'static str,
    checked: usize,
    skipped: usize,
}

impl Count {
    pub(crate) fn of(what: &'static str) -> Self {
        Self { what, checked: 0, skipped: 0 }
    }

    pub(crate) fn checked(&mut self) {
        self.checked += 1;
    }

    /// A vector for what is not offered, such as a key of another length.
    pub(crate) fn skipped(&mut self) {
        self.skipped += 1;
    }

    /// Prints what was checked, and fails if that is less than there should be.
    pub(crate) fn at_least(self, floor: usize) {
        let Self { what, checked, skipped } = self;
        println!("{what}: {checked} vectors checked, {skipped} not applicable");
        assert!(checked >= floor, "{what}: {checked} vectors are fewer than {floor}");
    }
}

/// The bytes that hexadecimal text stands for.
pub(crate) fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The fixed vectors of `docs/crypto-formats.md`, which another implementation computed.
pub(crate) fn formats() -> serde_json::Value {
    serde_json::from_str(include_str!("../tests/vectors/formats.json")).unwrap()
}

/// The bytes under a name in a vector.
pub(crate) fn bytes(vector: &serde_json::Value, name: &str) -> Vec<u8> {
    unhex(vector[name].as_str().unwrap_or_else(|| panic!("{name} is missing")))
}

/// The key and key reference of a vector.
pub(crate) fn key(vector: &serde_json::Value) -> (KeyRef, KeyBytes) {
    let id = uuid::Uuid::from_slice(&bytes(vector, "key_id")).unwrap();
    let version = u32::try_from(vector["version"].as_u64().unwrap()).unwrap();
    let key = KeyBytes::from_slice(&bytes(vector, "key")).unwrap();
    (KeyRef { id, version }, key)
}

/// A generator to hand in.
pub(crate) fn random() -> impl SecureRandom {
    SystemRandom::new()
}

/// A generator that gives these bytes once: ring loads a private key for agreement in no other way, and
/// has this for its own tests.
#[allow(deprecated)]
pub(crate) fn fixed(bytes: &[u8]) -> impl SecureRandom + '_ {
    ring::test::rand::FixedSliceRandom { bytes }
}
