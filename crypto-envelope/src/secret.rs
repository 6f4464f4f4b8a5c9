//! Bytes that must not be seen: wiped when dropped, and without a form that could be printed.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Plaintext of any length. Wiped when dropped; `Debug` shows no content.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes the bytes over; the caller's vector is not copied.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The content. Never to be logged, nor put in an error.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Gives the content away, for an answer to a caller who may have it. It is not wiped after this.
    pub fn into_exposed(mut self) -> Vec<u8> {
        std::mem::take(&mut self.0)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes(redacted)")
    }
}

/// Text that must not be seen, such as a name on a card.
#[derive(Clone, Default, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretText(String);

impl SecretText {
    /// Takes the text over; the caller's string is not copied.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The content. Never to be logged, nor put in an error.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(redacted)")
    }
}

/// How long every symmetric key is, in bytes.
pub const KEY_BYTES: usize = 32;

/// The raw bytes of a 256-bit key. Wiped when dropped; `Debug` shows no content.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct KeyBytes([u8; KEY_BYTES]);

impl KeyBytes {
    /// Takes over fresh random bytes, and wipes where they came from.
    pub fn take(bytes: &mut [u8; KEY_BYTES]) -> Self {
        let key = Self(*bytes);
        bytes.zeroize();
        key
    }

    /// Reads a key of exactly [`KEY_BYTES`]; `None` for any other length.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        Some(Self(bytes.try_into().ok()?))
    }

    /// The content. Never to be logged, nor put in an error.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(redacted)")
    }
}

/// A scratch buffer that is wiped when dropped.
pub type Scratch = Zeroizing<Vec<u8>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_cannot_be_printed() {
        let shown = format!(
            "{:?} {:?} {:?}",
            SecretBytes::new(b"topsecret".to_vec()),
            SecretText::new("topsecret".into()),
            KeyBytes::take(&mut [0x74; KEY_BYTES]),
        );
        assert!(!shown.contains("topsecret") && !shown.contains("116") && !shown.contains("74"), "{shown}");
    }

    #[test]
    fn taking_a_key_wipes_its_source() {
        let mut source = [7; KEY_BYTES];
        let key = KeyBytes::take(&mut source);
        assert_eq!((key.expose(), source), (&[7; KEY_BYTES], [0; KEY_BYTES]));
        assert!(KeyBytes::from_slice(&[0; 31]).is_none() && KeyBytes::from_slice(&[0; 33]).is_none());
    }
}
