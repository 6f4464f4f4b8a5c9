//! For tests: the vectors of `docs/crypto-formats.md`, and counting of vectors.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc)] // a test says what it expects by failing

use crate::{envelope::KeyRef, secret::KeyBytes};

/// Counts vectors, so that an empty set of them cannot pass for a good one.
pub struct Count {
    what: &'static str,
    checked: usize,
    skipped: usize,
}

impl Count {
    /// None so far, of what is said.
    pub fn of(what: &'static str) -> Self {
        Self { what, checked: 0, skipped: 0 }
    }

    /// One more that was compared.
    pub fn checked(&mut self) {
        self.checked += 1;
    }

    /// A vector for what is not offered, such as a key of another length.
    pub fn skipped(&mut self) {
        self.skipped += 1;
    }

    /// Prints what was checked, and fails if that is less than there should be.
    pub fn at_least(self, floor: usize) {
        let Self { what, checked, skipped } = self;
        println!("{what}: {checked} vectors checked, {skipped} not applicable");
        assert!(checked >= floor, "{what}: {checked} vectors are fewer than {floor}");
    }
}

/// The bytes that hexadecimal text stands for.
pub fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "{text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The fixed vectors of `docs/crypto-formats.md`, which another implementation computed.
pub fn formats() -> serde_json::Value {
    serde_json::from_str(include_str!("../tests/vectors/formats.json")).unwrap()
}

/// The bytes under a name in a vector.
pub fn bytes(vector: &serde_json::Value, name: &str) -> Vec<u8> {
    unhex(vector[name].as_str().unwrap_or_else(|| panic!("{name} is missing")))
}

/// The key and key reference of a vector.
pub fn key(vector: &serde_json::Value) -> (KeyRef, KeyBytes) {
    let id = uuid::Uuid::from_slice(&bytes(vector, "key_id")).unwrap();
    let version = u32::try_from(vector["version"].as_u64().unwrap()).unwrap();
    let key = KeyBytes::from_slice(&bytes(vector, "key")).unwrap();
    (KeyRef { id, version }, key)
}
