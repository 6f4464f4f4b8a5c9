//! The short texts that accounts and transfers carry.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// The longest code, in characters.
pub const CODE_LENGTH_MAX: usize = 64;

/// The longest reference, in bytes.
pub const REFERENCE_LENGTH_MAX: usize = 256;

/// Why a text was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// Not a code.
    #[error("must be 1 to {CODE_LENGTH_MAX} characters of a-z, 0-9 and '_'")]
    Code,
    /// Too long for a reference.
    #[error("must be at most {REFERENCE_LENGTH_MAX} bytes long")]
    Reference,
}

/// What an account or a transfer is for, such as `processor_clearing`: an account's place in the
/// chart of accounts, or a transfer's business event.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Code(Arc<str>);

impl Code {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Borrow<str> for Code {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl FromStr for Code {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_');
        if (1..=CODE_LENGTH_MAX).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.into()))
        } else {
            Err(TextError::Code)
        }
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The caller's own reference; bounded, otherwise not interpreted. May be empty.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Reference(Arc<str>);

impl Reference {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Reference {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.len() {
            0 => Ok(Self::default()),
            1..=REFERENCE_LENGTH_MAX => Ok(Self(text.into())),
            _ => Err(TextError::Reference),
        }
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_short_lower_case_words() {
        assert!("processor_clearing_2".parse::<Code>().is_ok());
        assert!("x".repeat(64).parse::<Code>().is_ok());
        for wrong in ["", "Fee", "fee tax", "fée", &"x".repeat(65)] {
            assert_eq!(wrong.parse::<Code>(), Err(TextError::Code), "{wrong:?}");
        }
    }

    #[test]
    fn references_are_bounded_in_bytes() {
        assert!("".parse::<Reference>().is_ok());
        assert!("ü".repeat(128).parse::<Reference>().is_ok());
        assert_eq!("ü".repeat(129).parse::<Reference>(), Err(TextError::Reference));
    }
}
