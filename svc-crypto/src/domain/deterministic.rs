//! Deterministic encryption: equal plaintexts under the same key version and context give equal bytes,
//! so that a database can look them up and join on them. Whoever sees the bytes sees which are equal;
//! whoever does not want that uses the [envelope](super::envelope).
//!
//! # Format, suite 2
//!
//! | offset | bytes | field      | content                                       |
//! |-------:|------:|------------|-----------------------------------------------|
//! |      0 |    25 | prefix     | as all envelopes begin, with suite 2          |
//! |     25 |    16 | SIV        | the synthetic IV, which is also the tag       |
//! |     41 |     n | ciphertext | as long as the plaintext                      |
//!
//! ```text
//! PRK = HKDF-Extract(salt = "paymesh envelope 1" ‖ suite ‖ key id ‖ version, IKM = key)
//! K   = HKDF-Expand(PRK, info = "pme1 siv key", 64)          (first half for S2V, second for CTR)
//! aad = len(prefix) ‖ prefix ‖ len(context) ‖ context                              (len: 64 bits)
//! SIV ‖ ciphertext = AES-SIV(K, associated data = [aad], plaintext)
//! ```
//! AES-SIV is RFC 5297 with 256-bit halves (AEAD_AES_SIV_CMAC_512), with one component of associated
//! data and without a nonce.
//!
//! # Why
//! - The synthetic IV is a PRF of the associated data *and* the plaintext. A mode that derives its nonce
//!   from the plaintext alone repeats it under two contexts; this one cannot.
//! - AES-SIV does not commit to its key, but the prefix does to the key's id and version: bytes that
//!   are made to open under two keys still name one of them.
//! - Guessing is the attack on determinism. It needs somebody who may encrypt under the same key and
//!   context: what callers may give as a context is what separates them.

use aes_siv::{KeyInit as _, Tag, siv::Aes256Siv};
use zeroize::Zeroizing;

use super::{
    canonical,
    envelope::{EnvelopeError, KeyRef},
    prefix::{PREFIX_BYTES, Prefix, Suite},
    secret::{KeyBytes, Scratch, SecretBytes},
};

const SIV_BYTES: usize = 16;
/// By how much a deterministic envelope is longer than what is in it.
pub const OVERHEAD_BYTES: usize = PREFIX_BYTES + SIV_BYTES;

const SIV_KEY_BYTES: usize = 64;
const SIV_KEY_LABEL: &[u8] = b"pme1 siv key";

/// One version of a key, derived and ready for use. Cannot be printed.
#[derive(Clone)]
pub struct DeterministicKey {
    prefix: Prefix,
    key: Zeroizing<[u8; SIV_KEY_BYTES]>,
}

impl DeterministicKey {
    /// Derives the key of AES-SIV.
    pub fn new(reference: KeyRef, key: &KeyBytes) -> Self {
        let prefix = Prefix { suite: Suite::Deterministic, key: reference };
        Self { prefix, key: prefix.extract(key).expand(&[SIV_KEY_LABEL]) }
    }

    /// Which key this is.
    pub fn reference(&self) -> KeyRef {
        self.prefix.key
    }

    /// Seals. The same `context` must be given to open.
    ///
    /// # Errors
    /// None that any input causes: the cipher's limits are beyond what memory holds.
    pub fn seal(&self, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let mut body = Zeroizing::new(plaintext.to_vec());
        let siv = self
            .cipher()
            .encrypt_inout_detached([self.aad(context)], body.as_mut_slice().into())
            .map_err(|aes_siv::Error| EnvelopeError)?;
        let mut envelope = Vec::with_capacity(body.len().saturating_add(OVERHEAD_BYTES));
        envelope.extend_from_slice(&self.prefix.bytes());
        envelope.extend_from_slice(&siv);
        envelope.extend_from_slice(&body);
        Ok(envelope)
    }

    /// Opens what [`Self::seal`] made with the same key and context.
    pub fn open(&self, envelope: &[u8], context: &[u8]) -> Result<SecretBytes, EnvelopeError> {
        if Prefix::read(envelope) != Some(self.prefix) {
            return Err(EnvelopeError);
        }
        let sealed = envelope.get(PREFIX_BYTES..).ok_or(EnvelopeError)?;
        let (siv, ciphertext) = sealed.split_first_chunk::<SIV_BYTES>().ok_or(EnvelopeError)?;
        let mut body: Scratch = Zeroizing::new(ciphertext.to_vec());
        // Compares in constant time, and gives no plaintext if it fails.
        self.cipher()
            .decrypt_inout_detached([self.aad(context)], body.as_mut_slice().into(), &Tag::from(*siv))
            .map_err(|aes_siv::Error| EnvelopeError)?;
        Ok(SecretBytes::new(std::mem::take(&mut *body)))
    }

    /// Expanded for each call: the cipher keeps state while it works, and expanding costs less than a lock.
    fn cipher(&self) -> Aes256Siv {
        Aes256Siv::new((&*self.key).into())
    }

    fn aad(&self, context: &[u8]) -> Vec<u8> {
        canonical::encode(&[&self.prefix.bytes(), context])
    }
}

#[cfg(test)]
mod tests;
