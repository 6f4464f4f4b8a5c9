//! What an API key looks like: `pmk_<id>_<secret><checksum>`. Pure.
//!
//! | Part | Characters | What it is |
//! |---|---|---|
//! | `pmk_` | 4 | says that this is a key of paymesh: secret scanners look for it |
//! | id | 16 | 80 random bits; public: it is in lists and logs |
//! | `_` | 1 | |
//! | secret | 32 | 160 random bits |
//! | checksum | 7 | CRC-32 of all before it: a mistyped key is refused without a look-up |
//!
//! All but the prefix and `_` is base32 in lower case (RFC 4648, section 6, without padding). The whole is
//! found by `pmk_[a-z2-7]{16}_[a-z2-7]{39}`.

use std::fmt;

use ring::{
    error::Unspecified,
    rand::{SecureRandom, SystemRandom},
};
use zeroize::Zeroizing;

/// What every key begins with.
pub(crate) const PREFIX: &str = "pmk_";
const ID_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 32;
const CHECKSUM_LENGTH: usize = 7;
const UNCHECKED_LENGTH: usize = PREFIX.len() + ID_LENGTH + 1 + SECRET_LENGTH;
/// How long a key is.
pub(crate) const LENGTH: usize = UNCHECKED_LENGTH + CHECKSUM_LENGTH;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// The public part of a key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; ID_LENGTH]);

/// Why a text is no key id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be 16 characters of a-z and 2-7")]
pub struct KeyIdError;

impl KeyId {
    /// As text.
    pub fn as_str(&self) -> &str {
        // Only characters of the alphabet get in.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl std::str::FromStr for KeyId {
    type Err = KeyIdError;

    fn from_str(text: &str) -> Result<Self, KeyIdError> {
        let bytes: [u8; ID_LENGTH] = text.as_bytes().try_into().map_err(|_| KeyIdError)?;
        if bytes.iter().copied().all(is_digit) { Ok(Self(bytes)) } else { Err(KeyIdError) }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fresh id.
pub(crate) fn fresh_id() -> Result<KeyId, Unspecified> {
    let mut random = [0; 10];
    SystemRandom::new().fill(&mut random)?;
    let text = base32(&random);
    Ok(KeyId(text.as_bytes().try_into().map_err(|_| Unspecified)?))
}

/// A fresh key of this id. Wiped from memory when dropped.
pub(crate) fn fresh_key(id: KeyId) -> Result<Zeroizing<String>, Unspecified> {
    let mut random = Zeroizing::new([0; 20]);
    SystemRandom::new().fill(random.as_mut())?;
    let secret = Zeroizing::new(base32(random.as_ref()));
    let mut key = Zeroizing::new(String::with_capacity(LENGTH));
    for part in [PREFIX, id.as_str(), "_", secret.as_str()] {
        key.push_str(part);
    }
    let checksum = checksum(key.as_bytes());
    key.push_str(&checksum);
    Ok(key)
}

/// The id of a key whose form and checksum are right.
pub(crate) fn id_of(key: &str) -> Option<KeyId> {
    if key.len() != LENGTH || !key.is_ascii() {
        return None;
    }
    let (unchecked, sum) = key.split_at(UNCHECKED_LENGTH);
    let (id, secret) = unchecked.strip_prefix(PREFIX)?.split_once('_')?;
    let legal = secret.bytes().all(is_digit);
    if legal && checksum(unchecked.as_bytes()) == sum { id.parse().ok() } else { None }
}

/// Whether it is in the alphabet.
fn is_digit(byte: u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'2'..=b'7')
}

fn checksum(bytes: &[u8]) -> String {
    base32(&crc32(bytes).to_be_bytes())
}

/// RFC 4648, section 6, in lower case and without padding.
fn base32(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(5) * 8);
    let (mut bits, mut count) = (0_u32, 0);
    let digit = |value: u32| char::from(ALPHABET[(value & 31) as usize]);
    for byte in bytes {
        bits = ((bits & 0xff) << 8) | u32::from(*byte);
        count += 8;
        while count >= 5 {
            count -= 5;
            text.push(digit(bits >> count));
        }
    }
    if count > 0 {
        text.push(digit(bits << (5 - count)));
    }
    text
}

/// CRC-32 of ISO 3309, as in zip and gzip: scanners compute it with what they have.
fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut index: u32 = 0;
        while index < 256 {
            let (mut value, mut bit) = (index, 0);
            while bit < 8 {
                value = if value & 1 == 1 { (value >> 1) ^ 0xedb8_8320 } else { value >> 1 };
                bit += 1;
            }
            table[index as usize] = value;
            index += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc, byte| (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_codes_are_those_of_the_standards() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926, "the check value of CRC-32/ISO-HDLC");
        for (text, encoded) in [
            ("", ""),
            ("f", "my"),
            ("fo", "mzxq"),
            ("foob", "mzxw6yq"),
            ("fooba", "mzxw6ytb"),
            ("foobar", "mzxw6ytboi"),
        ] {
            assert_eq!(base32(text.as_bytes()), encoded, "RFC 4648, section 10");
        }
    }

    #[test]
    fn a_fresh_key_has_the_form_and_any_changed_character_is_noticed() {
        let id = fresh_id().unwrap();
        let key = fresh_key(id).unwrap();
        assert_eq!((key.len(), id_of(&key)), (LENGTH, Some(id)));
        assert_ne!(fresh_key(id).unwrap(), key);
        for index in 0..LENGTH {
            for other in ['a', '7', '_', 'A', 'é'] {
                let mut changed: Vec<char> = key.chars().collect();
                if changed[index] != other {
                    changed[index] = other;
                    let changed: String = changed.into_iter().collect();
                    assert_eq!(id_of(&changed), None, "{index} {other}");
                }
            }
        }
        for wrong in ["", "pmk_", &key[..LENGTH - 1], &format!("{}a", &*key)] {
            assert_eq!(id_of(wrong), None);
        }
    }
}
