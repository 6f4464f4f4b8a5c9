//! Message authentication, and blind indexes: keyed tags of data by which a database finds a row whose
//! content it cannot read. Pure; which key serves which is decided elsewhere.
//!
//! ```text
//! tag without a context = HMAC-SHA-256(key, data)
//! tag with a context    = HMAC-SHA-256(K, canonical("paymesh mac 1", context, data))
//!                     K = HKDF(salt = "paymesh mac 1", IKM = key, info = "context", 32)
//! blind index           = HMAC-SHA-256(I, canonical("paymesh blind index 1", context, data)), its first bytes
//!                     I = HKDF(salt = "paymesh blind index 1", IKM = key, info = "index", 32)
//! canonical: each part after its length in 64 bits, big endian
//! ```
//! Without a context it is bare HMAC (RFC 2104), so that others who hold the key can make and check the
//! same tags. With one it is under a subkey, so that no tag of data alone, whatever the data, is a tag
//! of some context and data.

use ring::hmac;
use subtle::ConstantTimeEq as _;

use super::{
    derive::Prk,
    keys::{MAC_BYTES, MacKey},
    secret::KeyBytes,
};

/// How long a tag is, in bytes. Shorter ones are not accepted.
pub const TAG_BYTES: usize = MAC_BYTES;

const MAC_LABEL: &[u8] = b"paymesh mac 1";
const CONTEXT_INFO: &[u8] = b"context";
const INDEX_LABEL: &[u8] = b"paymesh blind index 1";
const INDEX_INFO: &[u8] = b"index";

/// One version of a key that makes and checks tags. Cannot be printed.
#[derive(Clone)]
pub struct TagKey {
    bare: hmac::Key,
    bound: MacKey,
}

impl TagKey {
    /// Expands the key.
    pub fn new(key: &KeyBytes) -> Self {
        let bare = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        Self { bare, bound: subkey(MAC_LABEL, CONTEXT_INFO, key) }
    }

    /// The tag of data in a context, which is empty if there is none.
    pub fn tag(&self, context: &[u8], data: &[u8]) -> [u8; TAG_BYTES] {
        if context.is_empty() {
            bytes_of(hmac::sign(&self.bare, data))
        } else {
            self.bound.tag(&[MAC_LABEL, context, data])
        }
    }

    /// Whether this is the tag of that data in that context; compared in constant time.
    pub fn verify(&self, context: &[u8], data: &[u8], tag: &[u8]) -> bool {
        self.tag(context, data).as_slice().ct_eq(tag).into()
    }
}

/// How many bytes of a blind index are kept: few bring chance matches and so hide how often a value
/// occurs, many make it exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexLength(usize);

/// Why a length was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 4 to 32 bytes")]
pub struct IndexLengthError;

impl IndexLength {
    /// The fewest bytes.
    pub const MIN: usize = 4;
    /// The most bytes, all of the tag.
    pub const MAX: usize = TAG_BYTES;

    /// Judges a length in bytes.
    pub fn new(bytes: usize) -> Result<Self, IndexLengthError> {
        if (Self::MIN..=Self::MAX).contains(&bytes) { Ok(Self(bytes)) } else { Err(IndexLengthError) }
    }
}

/// One version of a key that makes blind indexes. Cannot be printed.
#[derive(Clone)]
pub struct IndexKey(MacKey);

impl IndexKey {
    /// Derives the subkey for indexes: of one key, no tag can be looked up as an index.
    pub fn new(key: &KeyBytes) -> Self {
        Self(subkey(INDEX_LABEL, INDEX_INFO, key))
    }

    /// The index of data in a context (such as the table and column), the same for the same. A shorter
    /// one is the beginning of a longer one.
    pub fn index(&self, context: &[u8], data: &[u8], length: IndexLength) -> Vec<u8> {
        let tag = self.0.tag(&[INDEX_LABEL, context, data]);
        tag.into_iter().take(length.0).collect()
    }
}

fn subkey(label: &[u8], info: &[u8], key: &KeyBytes) -> MacKey {
    let mut subkey = Prk::extract(&[label], key.expose()).expand(&[info]);
    MacKey::new(&KeyBytes::take(&mut subkey))
}

fn bytes_of(tag: hmac::Tag) -> [u8; TAG_BYTES] {
    let mut bytes = [0; TAG_BYTES];
    bytes.copy_from_slice(tag.as_ref());
    bytes
}

#[cfg(test)]
mod tests;
