//! Keys from keys: HKDF with SHA-256 (RFC 5869). One key is never used in two ways; each use has a
//! subkey of its own, made here under a label of its own. Knows no use.

use ring::hmac;
use zeroize::Zeroizing;

/// What HKDF can give under one info at most, in bytes (RFC 5869, section 2.3).
pub const OUTPUT_BYTES_MAX: usize = 255 * 32;

/// A pseudorandom key, from which subkeys are expanded. Cannot be printed.
#[derive(Clone)]
pub struct Prk(hmac::Key);

impl Prk {
    /// HKDF-Extract. The salt, public and fixed for a use, is the concatenation of its parts.
    pub fn extract(salt: &[&[u8]], key: &[u8]) -> Self {
        let prk = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &salt.concat()), key);
        Self(hmac::Key::new(hmac::HMAC_SHA256, prk.as_ref()))
    }

    /// HKDF-Expand. The info is the concatenation of its parts.
    pub fn expand<const BYTES: usize>(&self, info: &[&[u8]]) -> Zeroizing<[u8; BYTES]> {
        const { assert!(BYTES <= OUTPUT_BYTES_MAX) };
        let mut output = Zeroizing::new([0; BYTES]);
        self.fill(info, output.as_mut());
        output
    }

    /// T(1) ‖ T(2) ‖ … of RFC 5869, as much of it as there is room for. Beyond [`OUTPUT_BYTES_MAX`] the
    /// RFC defines nothing, and nothing is written.
    pub fn fill(&self, info: &[&[u8]], output: &mut [u8]) {
        let mut previous = Zeroizing::new([0; 32]);
        for (counter, block) in (1..=u8::MAX).zip(output.chunks_mut(32)) {
            let mut context = hmac::Context::with_key(&self.0);
            if counter > 1 {
                context.update(previous.as_ref());
            }
            for part in info {
                context.update(part);
            }
            context.update(&[counter]);
            previous.copy_from_slice(context.sign().as_ref());
            block.copy_from_slice(&previous[..block.len()]);
        }
    }

    /// As the HMAC key that HKDF-Expand uses it as, for who makes T(1) of a short info in one call.
    pub fn into_hmac(self) -> hmac::Key {
        self.0
    }
}

#[cfg(test)]
mod tests;
