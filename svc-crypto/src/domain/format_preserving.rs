//! Format-preserving encryption: a text of digits becomes another text of as many digits. For systems
//! that can hold nothing else; whoever can hold more uses the [envelope](super::envelope), as this
//! authenticates nothing: what is decrypted in a wrong context is another text of the same form, and no
//! error. Equal texts are equal when encrypted in the same context.
//!
//! ```text
//! K     = HKDF-SHA-256(salt = "paymesh format preserving 1" ‖ key id ‖ version, IKM = key, info = "ff1 key", 32)
//! tweak = SHA-256(canonical("paymesh ff1 1", alphabet, context))          (alphabet: one byte, see below)
//! text  → FF1 with AES-256 under K, the tweak, and the alphabet's number of characters as radix
//! ```
//! FF1 is NIST SP 800-38G, by the crate `fpe`; canonical puts before each part its length in 64 bits.
//! The tweak is hashed, so that it has one length whatever the context.
//!
//! | alphabet           | byte | characters, by value     | characters in a text |
//! |--------------------|-----:|--------------------------|---------------------:|
//! | decimal            |    1 | `0`–`9`                  |              6 to 72 |
//! | upper alphanumeric |    2 | `0`–`9` `A`–`Z`          |              4 to 46 |
//! | alphanumeric       |    3 | `0`–`9` `A`–`Z` `a`–`z`  |              4 to 40 |
//!
//! There must be at least 10⁶ texts of a length (SP 800-38G Rev. 1, section 5): of fewer, all can be tried.
//! No text is so long that half of it is a number beyond 2¹²⁰: then all arithmetic is in 128 bits.

use aes::Aes256;
use fpe::ff1::FF1;
use ring::digest;
use zeroize::Zeroizing;

use self::numerals::Numerals;
use super::{
    canonical,
    derive::Prk,
    envelope::KeyRef,
    secret::{KeyBytes, SecretText},
};

mod numerals;

const KEY_LABEL: &[u8] = b"paymesh format preserving 1";
const KEY_INFO: &[u8] = b"ff1 key";
const TWEAK_LABEL: &[u8] = b"paymesh ff1 1";

/// Which characters a text is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Alphabet {
    /// `0` to `9`.
    Decimal,
    /// `0` to `9`, `A` to `Z`.
    UpperAlphanumeric,
    /// `0` to `9`, `A` to `Z`, `a` to `z`.
    Alphanumeric,
}

impl Alphabet {
    /// Every alphabet there is.
    pub const ALL: [Self; 3] = [Self::Decimal, Self::UpperAlphanumeric, Self::Alphanumeric];

    /// The byte that stands for it in the tweak. Never reused.
    pub fn code(self) -> u8 {
        match self {
            Self::Decimal => 1,
            Self::UpperAlphanumeric => 2,
            Self::Alphanumeric => 3,
        }
    }

    /// How many characters a text has at least: as many as make 10⁶ texts.
    pub fn length_min(self) -> usize {
        match self {
            Self::Decimal => 6,
            Self::UpperAlphanumeric | Self::Alphanumeric => 4,
        }
    }

    /// How many characters a text has at most.
    pub fn length_max(self) -> usize {
        match self {
            Self::Decimal => 72,
            Self::UpperAlphanumeric => 46,
            Self::Alphanumeric => 40,
        }
    }

    fn radix(self) -> u8 {
        match self {
            Self::Decimal => 10,
            Self::UpperAlphanumeric => 36,
            Self::Alphanumeric => 62,
        }
    }

    /// The value of a character, if it is of the alphabet.
    fn value(self, character: u8) -> Option<u8> {
        let value = match character {
            b'0'..=b'9' => character - b'0',
            b'A'..=b'Z' => character - b'A' + 10,
            b'a'..=b'z' => character - b'a' + 36,
            _ => return None,
        };
        (value < self.radix()).then_some(value)
    }
}

/// The character of a value below 62.
fn character(value: u8) -> char {
    char::from(match value {
        0..=9 => b'0' + value,
        10..=35 => b'A' + (value - 10),
        _ => b'a' + (value.min(61) - 36),
    })
}

/// Why a text was refused. Never quotes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// Too short to be secret, or longer than is offered.
    #[error("must have {min} to {max} characters")]
    Length {
        /// At least so many.
        min: usize,
        /// At most so many.
        max: usize,
    },
    /// There is a character that is not of the alphabet.
    #[error("must have characters of the alphabet only")]
    Character,
}

/// One version of a key, derived and ready for use. Cannot be printed.
#[derive(Clone)]
pub struct FormatPreservingKey {
    reference: KeyRef,
    key: Zeroizing<[u8; 32]>,
}

impl FormatPreservingKey {
    /// Derives the key of FF1.
    pub fn new(reference: KeyRef, key: &KeyBytes) -> Self {
        let version = reference.version.to_be_bytes();
        let prk = Prk::extract(&[KEY_LABEL, reference.id.as_bytes(), &version], key.expose());
        Self { reference, key: prk.expand(&[KEY_INFO]) }
    }

    /// Which key this is. The text has no room to say it.
    pub fn reference(&self) -> KeyRef {
        self.reference
    }

    /// Encrypts. The same alphabet and context must be given to decrypt.
    pub fn encrypt(&self, alphabet: Alphabet, context: &[u8], text: &str) -> Result<SecretText, FormatError> {
        self.apply(Direction::Encrypt, alphabet, context, text)
    }

    /// Decrypts. In another alphabet or context the result is another text, and no error.
    pub fn decrypt(&self, alphabet: Alphabet, context: &[u8], text: &str) -> Result<SecretText, FormatError> {
        self.apply(Direction::Decrypt, alphabet, context, text)
    }

    fn apply(
        &self,
        direction: Direction,
        alphabet: Alphabet,
        context: &[u8],
        text: &str,
    ) -> Result<SecretText, FormatError> {
        let parts = canonical::encode(&[TWEAK_LABEL, &[alphabet.code()], context]);
        let tweak = digest::digest(&digest::SHA256, &parts);
        ff1(&self.key, direction, alphabet, tweak.as_ref(), text)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Encrypt,
    Decrypt,
}

fn ff1(
    key: &[u8; 32],
    direction: Direction,
    alphabet: Alphabet,
    tweak: &[u8],
    text: &str,
) -> Result<SecretText, FormatError> {
    let (min, max) = (alphabet.length_min(), alphabet.length_max());
    if !(min..=max).contains(&text.len()) {
        return Err(FormatError::Length { min, max });
    }
    let mut values = Zeroizing::new(Vec::with_capacity(text.len()));
    for character in text.bytes() {
        values.push(alphabet.value(character).ok_or(FormatError::Character)?);
    }
    let numerals = Numerals::new(alphabet.radix(), values);
    // What the crate refuses, an alphabet of fewer than 2 or a short text, does not come here.
    let cipher = FF1::<Aes256>::new(key, alphabet.radix().into()).map_err(|_| FormatError::Character)?;
    let result = match direction {
        Direction::Encrypt => cipher.encrypt(tweak, &numerals),
        Direction::Decrypt => cipher.decrypt(tweak, &numerals),
    };
    let numerals = result.map_err(|_| FormatError::Character)?;
    let mut text = String::with_capacity(text.len());
    text.extend(numerals.values().iter().map(|value| character(*value)));
    Ok(SecretText::new(text))
}

#[cfg(test)]
mod tests;
