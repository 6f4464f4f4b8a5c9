//! The envelope: the one form in which anything sealed leaves memory, cards and wrapped keys alike.
//!
//! # Format, version 1
//! All integers are big endian.
//!
//! | offset | bytes | field      | content                                                        |
//! |-------:|------:|------------|----------------------------------------------------------------|
//! |      0 |     4 | magic      | `PME1`                                                         |
//! |      4 |     1 | suite      | `1`: HKDF-SHA-256 and AES-256-GCM, as below                    |
//! |      5 |    16 | key id     | the key that sealed it, a UUID                                 |
//! |     21 |     4 | version    | of that key, from 1                                            |
//! |     25 |    32 | salt       | random, fresh for each message                                 |
//! |     57 |    32 | commitment | says which key and message this is for, see below              |
//! |     89 |     n | ciphertext | as long as the plaintext                                       |
//! |   89+n |    16 | tag        | of AES-GCM                                                     |
//!
//! # Derivation, suite 1
//! ```text
//! PRK        = HKDF-Extract(salt = "paymesh envelope 1" ‖ suite ‖ key id ‖ version, IKM = key)
//! K          = HKDF-Expand(PRK, info = "pme1 message key" ‖ salt, 32)
//! commitment = HKDF-Expand(PRK, info = "pme1 commitment " ‖ salt, 32)
//! aad        = len(header) ‖ header ‖ len(context) ‖ context        (header: offsets 0 to 88; len: 64 bits)
//! ciphertext, tag = AES-256-GCM(K, nonce = 96 zero bits, aad, plaintext)
//! ```
//! HKDF is RFC 5869 with SHA-256, AES-GCM is NIST SP 800-38D. The PRK is computed once per key version
//! and kept; a message costs two HMACs more than bare AES-GCM.
//!
//! # Why
//! - Each message has its own K, so the nonce may be constant: what must not repeat is the salt, and
//!   256 random bits do not. The limit of 2³² messages under one key with random nonces is gone.
//! - AES-GCM alone does not commit: one ciphertext can be made to open under two keys. The commitment
//!   is checked, in constant time, before anything is decrypted.
//! - The context is what the caller bound the message to (a tenant, a token). It is not stored.
//! - A wrong key, context or header, a flipped bit and a truncation are one and the same
//!   [`EnvelopeError`]: an attacker learns nothing from the difference.

use ring::{aead, hmac};
use uuid::Uuid;
use zeroize::Zeroize;

use crate::{
    canonical::Encoded,
    prefix::{PREFIX_BYTES, Prefix, Suite},
    secret::{KeyBytes, SecretBytes},
};

/// Where the salt begins, here and in the suite for large payloads.
pub const SALT_AT: usize = PREFIX_BYTES;
/// Where the commitment begins.
pub const COMMITMENT_AT: usize = SALT_AT + SALT_BYTES;
/// How many bytes precede the ciphertext.
pub const HEADER_BYTES: usize = COMMITMENT_AT + 32;
/// How many bytes follow it.
pub const TAG_BYTES: usize = 16;
/// By how much an envelope is longer than what is in it.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + TAG_BYTES;
/// How long a salt is.
pub const SALT_BYTES: usize = 32;

// Both labels have 16 bytes: with the salt and HKDF's counter the input stays within one SHA-256 block.
/// What a message's key is expanded under.
pub const MESSAGE_KEY_LABEL: &[u8; 16] = b"pme1 message key";
/// What a message's commitment is expanded under.
pub const COMMITMENT_LABEL: &[u8; 16] = b"pme1 commitment ";
const INFO_BYTES: usize = 16 + SALT_BYTES + 1;

/// It does not open. Deliberately says no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the envelope does not open with this key and context")]
pub struct EnvelopeError;

/// Which key sealed an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyRef {
    /// The key, whatever its version.
    pub id: Uuid,
    /// Its version, from 1.
    pub version: u32,
}

/// The random number of one message. Cannot be copied: [`SealingKey::seal`] takes it, so that it is
/// used once.
#[derive(Debug)]
pub struct Salt([u8; SALT_BYTES]);

impl Salt {
    /// Takes fresh random bytes. They must come from a cryptographic generator.
    pub fn new(random: [u8; SALT_BYTES]) -> Self {
        Self(random)
    }

    /// Uses it up.
    pub fn spend(self) -> [u8; SALT_BYTES] {
        self.0
    }
}

/// One version of a key, expanded and ready for use. Cannot be printed.
#[derive(Clone)]
pub struct SealingKey {
    prefix: Prefix,
    /// The PRK, as the HMAC key that HKDF-Expand uses it as.
    prk: hmac::Key,
}

impl SealingKey {
    /// Derives the PRK.
    pub fn new(reference: KeyRef, key: &KeyBytes) -> Self {
        let prefix = Prefix { suite: Suite::Message, key: reference };
        Self { prefix, prk: prefix.extract(key).into_hmac() }
    }

    /// Which key this is.
    pub fn reference(&self) -> KeyRef {
        self.prefix.key
    }

    /// Seals. The same `context` must be given to open.
    ///
    /// # Errors
    /// Only beyond the length limit of AES-GCM, 2³⁶ − 32 bytes.
    #[allow(clippy::needless_pass_by_value)] // taken, so that a salt serves once
    pub fn seal(&self, salt: Salt, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let Salt(salt) = salt;
        let mut envelope = Vec::with_capacity(plaintext.len().saturating_add(OVERHEAD_BYTES));
        envelope.extend_from_slice(&self.prefix.bytes());
        envelope.extend_from_slice(&salt);
        envelope.extend_from_slice(hmac::sign(&self.prk, &info(COMMITMENT_LABEL, &salt)).as_ref());
        let aad = aad_of(&envelope, context);
        let cipher = self.message_cipher(&salt)?;
        envelope.extend_from_slice(plaintext);
        let sealed = match envelope.get_mut(HEADER_BYTES..) {
            Some(body) => cipher.seal_in_place_separate_tag(nonce(), aead::Aad::from(&*aad), body),
            None => return Err(EnvelopeError),
        };
        if let Ok(tag) = sealed {
            envelope.extend_from_slice(tag.as_ref());
            Ok(envelope)
        } else {
            envelope.zeroize();
            Err(EnvelopeError)
        }
    }

    /// Opens what [`Self::seal`] made with the same key and context.
    pub fn open(&self, envelope: &[u8], context: &[u8]) -> Result<SecretBytes, EnvelopeError> {
        let parsed = Parsed::read(envelope).ok_or(EnvelopeError)?;
        if parsed.reference != self.prefix.key {
            return Err(EnvelopeError);
        }
        // Compares in constant time.
        hmac::verify(&self.prk, &info(COMMITMENT_LABEL, parsed.salt), parsed.commitment)
            .map_err(|ring::error::Unspecified| EnvelopeError)?;
        let aad = aad_of(parsed.header, context);
        let cipher = self.message_cipher(parsed.salt)?;
        let mut body = parsed.body.to_vec();
        let length = match cipher.open_in_place(nonce(), aead::Aad::from(&*aad), &mut body) {
            Ok(plaintext) => plaintext.len(),
            Err(ring::error::Unspecified) => return Err(EnvelopeError),
        };
        // What is cut off is the tag, no secret.
        body.truncate(length);
        Ok(SecretBytes::new(body))
    }

    fn message_cipher(&self, salt: &[u8; SALT_BYTES]) -> Result<aead::LessSafeKey, EnvelopeError> {
        let key = hmac::sign(&self.prk, &info(MESSAGE_KEY_LABEL, salt));
        aead::UnboundKey::new(&aead::AES_256_GCM, key.as_ref())
            .map(aead::LessSafeKey::new)
            .map_err(|ring::error::Unspecified| EnvelopeError)
    }
}

/// Which key sealed this; `None` if it is no envelope. Nothing is authenticated yet.
pub fn key_of(envelope: &[u8]) -> Option<KeyRef> {
    Parsed::read(envelope).map(|parsed| parsed.reference)
}

/// Constant, because every message has a key of its own.
fn nonce() -> aead::Nonce {
    aead::Nonce::assume_unique_for_key([0; aead::NONCE_LEN])
}

/// The info of HKDF-Expand for an output of one block, with the counter that ends it: T(1) of RFC 5869
/// is HMAC(PRK, info ‖ 0x01).
fn info(label: &[u8; 16], salt: &[u8; SALT_BYTES]) -> [u8; INFO_BYTES] {
    let mut info = [1; INFO_BYTES];
    info[..16].copy_from_slice(label);
    info[16..16 + SALT_BYTES].copy_from_slice(salt);
    info
}

fn aad_of(header: &[u8], context: &[u8]) -> Encoded {
    Encoded::of(&[header, context])
}

struct Parsed<'a> {
    header: &'a [u8],
    reference: KeyRef,
    salt: &'a [u8; SALT_BYTES],
    commitment: &'a [u8],
    /// Ciphertext and tag.
    body: &'a [u8],
}

impl<'a> Parsed<'a> {
    fn read(envelope: &'a [u8]) -> Option<Self> {
        if envelope.len() < OVERHEAD_BYTES {
            return None;
        }
        let (header, body) = envelope.split_at_checked(HEADER_BYTES)?;
        let prefix = Prefix::read(header).filter(|prefix| prefix.suite == Suite::Message)?;
        let salt = header.get(SALT_AT..COMMITMENT_AT)?.try_into().ok()?;
        let commitment = header.get(COMMITMENT_AT..)?;
        Some(Self { header, reference: prefix.key, salt, commitment, body })
    }
}

#[cfg(test)]
mod tests;
