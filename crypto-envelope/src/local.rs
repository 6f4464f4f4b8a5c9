//! Suite 4: what a client seals itself, under a data key that svc-crypto gave it.
//!
//! | offset | bytes | field      | content                                                       |
//! |-------:|------:|------------|---------------------------------------------------------------|
//! |      0 |    25 | prefix     | with suite 4, and the key id and version of the wrapped key   |
//! |     25 |     2 | length     | w, how long the wrapped data key is: 137                      |
//! |     27 |     w | wrapped    | the data key, an envelope of suite 1                          |
//! |   27+w |    32 | commitment | says which data key this is for                               |
//! |   59+w |    12 | nonce      | random, fresh for each message                                |
//! |   71+w |     n | ciphertext | as long as the plaintext                                      |
//! | 71+w+n |    16 | tag        | of AES-GCM                                                    |
//!
//! ```text
//! PRK             = HKDF-Extract(salt = "paymesh envelope 1" ‖ suite ‖ key id ‖ version, IKM = data key)
//! K               = HKDF-Expand(PRK, info = "pme1 local key", 32)
//! commitment      = HKDF-Expand(PRK, info = "pme1 local commitment", 32)
//! aad             = canonical(offsets 0 to 70+w, context)
//! ciphertext, tag = AES-256-GCM(K, nonce, aad, plaintext)
//! ```
//!
//! # Why
//! - The data key lives for minutes and a bounded count of messages, so one K serves them all: a message costs
//!   AES-GCM and nothing else. Random nonces of 96 bits are good for 2³² messages (NIST SP 800-38D, section 8.3).
//! - The wrapped data key travels along: an envelope opens for whoever may unwrap it.
//! - The commitment is compared, in constant time, before anything is decrypted.

use ring::aead;
use subtle::ConstantTimeEq as _;

use crate::{
    canonical,
    envelope::{EnvelopeError, KeyRef, OVERHEAD_BYTES, TAG_BYTES, key_of},
    prefix::{PREFIX_BYTES, Prefix, Suite},
    secret::{KEY_BYTES, KeyBytes, SecretBytes},
};

/// How long a nonce is.
pub const NONCE_BYTES: usize = aead::NONCE_LEN;
/// What a data key's wrapping is bound to, as `aad` of GenerateDataKey and DecryptDataKey.
pub const DATA_KEY_AAD: &[u8] = b"paymesh local 1";
/// The most messages that one data key may seal, whatever the service allows: beyond it random nonces repeat too
/// likely (NIST SP 800-38D, section 8.3).
pub const MESSAGES_MAX: u64 = 1 << 32;

/// How long a wrapped data key is: an envelope of suite 1 over a key.
pub const WRAPPED_BYTES: usize = OVERHEAD_BYTES + KEY_BYTES;

const LENGTH_AT: usize = PREFIX_BYTES;
const WRAPPED_AT: usize = LENGTH_AT + 2;
const COMMITMENT_BYTES: usize = 32;

const KEY_LABEL: &[u8] = b"pme1 local key";
const COMMITMENT_LABEL: &[u8] = b"pme1 local commitment";

/// The random number of one message. Cannot be copied: [`LocalKey::seal`] takes it, so that it is used once.
#[derive(Debug)]
pub struct Nonce([u8; NONCE_BYTES]);

impl Nonce {
    /// Takes fresh random bytes. They must come from a cryptographic generator.
    pub fn new(random: [u8; NONCE_BYTES]) -> Self {
        Self(random)
    }
}

/// A data key, expanded and ready for use. Cannot be printed.
pub struct LocalKey {
    /// What every envelope of it begins with: all up to the nonce.
    beginning: Vec<u8>,
    cipher: aead::LessSafeKey,
}

impl LocalKey {
    /// Derives what messages need of `data_key`, which is `wrapped` as the service gave it.
    ///
    /// # Errors
    /// `wrapped` is no wrapped data key.
    pub fn new(data_key: &KeyBytes, wrapped: &[u8]) -> Result<Self, EnvelopeError> {
        let wrapped: &[u8; WRAPPED_BYTES] = wrapped.try_into().map_err(|_| EnvelopeError)?;
        let key = key_of(wrapped).ok_or(EnvelopeError)?;
        let length = u16::try_from(WRAPPED_BYTES).map_err(|_| EnvelopeError)?;
        let prefix = Prefix { suite: Suite::Local, key };
        let prk = prefix.extract(data_key);
        let cipher = aead::UnboundKey::new(&aead::AES_256_GCM, &*prk.expand::<32>(&[KEY_LABEL]))
            .map_err(|ring::error::Unspecified| EnvelopeError)?;
        let commitment = prk.expand::<COMMITMENT_BYTES>(&[COMMITMENT_LABEL]);
        let beginning = [&prefix.bytes()[..], &length.to_be_bytes(), wrapped, &*commitment].concat();
        Ok(Self { beginning, cipher: aead::LessSafeKey::new(cipher) })
    }

    /// By how much an envelope of this key is longer than what is in it.
    pub fn overhead_bytes(&self) -> usize {
        self.beginning.len() + NONCE_BYTES + TAG_BYTES
    }

    /// Seals. The same `context` must be given to open.
    ///
    /// # Errors
    /// Only beyond the length limit of AES-GCM, 2³⁶ − 32 bytes.
    #[allow(clippy::needless_pass_by_value)] // taken, so that a nonce serves once
    pub fn seal(&self, nonce: Nonce, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
        let Nonce(nonce) = nonce;
        let mut envelope = Vec::with_capacity(plaintext.len().saturating_add(self.overhead_bytes()));
        envelope.extend_from_slice(&self.beginning);
        envelope.extend_from_slice(&nonce);
        let aad = canonical::encode(&[&envelope, context]);
        let begins_at = envelope.len();
        envelope.extend_from_slice(plaintext);
        let nonce = aead::Nonce::assume_unique_for_key(nonce);
        let sealed = match envelope.get_mut(begins_at..) {
            Some(body) => self.cipher.seal_in_place_separate_tag(nonce, aead::Aad::from(&aad), body),
            None => return Err(EnvelopeError),
        };
        if let Ok(tag) = sealed {
            envelope.extend_from_slice(tag.as_ref());
            Ok(envelope)
        } else {
            zeroize::Zeroize::zeroize(&mut envelope);
            Err(EnvelopeError)
        }
    }

    /// Opens what [`Self::seal`] made with the same data key and context.
    pub fn open(&self, envelope: &[u8], context: &[u8]) -> Result<SecretBytes, EnvelopeError> {
        let (beginning, rest) = envelope.split_at_checked(self.beginning.len()).ok_or(EnvelopeError)?;
        // The commitment is the end of it.
        if !bool::from(beginning.ct_eq(&self.beginning)) {
            return Err(EnvelopeError);
        }
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(EnvelopeError)?;
        let header = envelope.get(..self.beginning.len() + NONCE_BYTES).ok_or(EnvelopeError)?;
        let aad = canonical::encode(&[header, context]);
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let mut body = sealed.to_vec();
        let length = match self.cipher.open_in_place(nonce, aead::Aad::from(&aad), &mut body) {
            Ok(plaintext) => plaintext.len(),
            Err(ring::error::Unspecified) => return Err(EnvelopeError),
        };
        // What is cut off is the tag, no secret.
        body.truncate(length);
        Ok(SecretBytes::new(body))
    }
}

/// The wrapped data key that opens this envelope; `None` if it is none of this suite. Nothing is authenticated yet.
pub fn wrapped_of(envelope: &[u8]) -> Option<&[u8]> {
    let prefix = Prefix::read(envelope).filter(|prefix| prefix.suite == Suite::Local)?;
    let length = u16::from_be_bytes(*envelope.get(LENGTH_AT..)?.first_chunk()?);
    let (wrapped, rest) = envelope.get(WRAPPED_AT..)?.split_at_checked(length.into())?;
    let whole = wrapped.len() == WRAPPED_BYTES && rest.len() >= COMMITMENT_BYTES + NONCE_BYTES + TAG_BYTES;
    (whole && key_of(wrapped) == Some(prefix.key)).then_some(wrapped)
}

/// Which key wraps the data key of this envelope; `None` if it is none of this suite. Nothing is authenticated yet.
pub fn wrapping_key_of(envelope: &[u8]) -> Option<KeyRef> {
    wrapped_of(envelope).and_then(key_of)
}

#[cfg(test)]
mod tests;
