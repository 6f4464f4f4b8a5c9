//! Wrapping keys under keys: AES-KWP (RFC 5649, NIST SP 800-38F) with a 256-bit key, the form in which
//! other systems hand keys over. What is kept here is sealed in the [envelope](super::envelope), which
//! binds a context; this has none.

use aes_kw::{KeyInit as _, KwpAes256};
use zeroize::Zeroizing;

use super::secret::{KeyBytes, Scratch, SecretBytes};

/// How long what is wrapped may be, in bytes: the PKCS#8 of the largest private keys in use is shorter.
pub const MATERIAL_BYTES_MAX: usize = 8 * 1024;
/// A semiblock: what is wrapped is padded to a multiple of it, and one is added.
const SEMIBLOCK_BYTES: usize = 8;

/// It does not wrap or unwrap. Deliberately says no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the key does not unwrap, or has not 1 to 8192 bytes")]
pub struct WrapError;

/// Wraps key material of 1 to [`MATERIAL_BYTES_MAX`] bytes.
pub fn wrap(key: &KeyBytes, material: &[u8]) -> Result<Vec<u8>, WrapError> {
    if !(1..=MATERIAL_BYTES_MAX).contains(&material.len()) {
        return Err(WrapError);
    }
    let mut wrapped = vec![0; material.len().next_multiple_of(SEMIBLOCK_BYTES) + SEMIBLOCK_BYTES];
    match KwpAes256::new(key.expose().into()).wrap_key(material, &mut wrapped) {
        Ok(_) => Ok(wrapped),
        Err(_) => Err(WrapError),
    }
}

/// Unwraps what [`wrap`] or another system wrapped under the same key.
pub fn unwrap(key: &KeyBytes, wrapped: &[u8]) -> Result<SecretBytes, WrapError> {
    // Two semiblocks at least (RFC 5649, section 3). One alone passes for an empty key: nothing of it is
    // encrypted.
    let bounds = 2 * SEMIBLOCK_BYTES..=MATERIAL_BYTES_MAX + SEMIBLOCK_BYTES;
    if !bounds.contains(&wrapped.len()) {
        return Err(WrapError);
    }
    let mut padded: Scratch = Zeroizing::new(vec![0; wrapped.len() - SEMIBLOCK_BYTES]);
    let length = match KwpAes256::new(key.expose().into()).unwrap_key(wrapped, &mut padded) {
        Ok(material) => material.len(),
        Err(_) => return Err(WrapError),
    };
    // What is cut off is zeros.
    padded.truncate(length);
    Ok(SecretBytes::new(std::mem::take(&mut *padded)))
}

#[cfg(test)]
mod tests;
