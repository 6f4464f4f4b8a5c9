//! The forms in which paymesh seals data: what svc-crypto makes with its keys, and what its clients make with
//! data keys that it gave them. Every byte is described in `docs/crypto-formats.md`.
//!
//! Pure: keys, salts and nonces come in as arguments. Knows no key store, no wire and no service.

pub mod canonical;
pub mod derive;
pub mod envelope;
pub mod local;
pub mod prefix;
pub mod secret;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
