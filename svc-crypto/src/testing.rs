//! What the tests of the pure core share, and what it may not name itself: the terminal and a generator.

mod memory;
mod replica;

pub(crate) use memory::MemoryStore;
pub(crate) use replica::{Replica, TRUSTED_FOR, place};

pub(crate) use crypto_envelope::testing::{Count, bytes, formats, key, unhex};
use ring::rand::{SecureRandom, SystemRandom};

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
