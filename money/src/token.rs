//! The two names that a card in the vault can have.

use std::{fmt, str::FromStr};

use crate::id::TokenId;

/// The fewest digits of a token of digits: as many as the shortest card number has.
const DIGITS_MIN: usize = 12;
/// The most digits of a token of digits: as many as the longest card number has (ISO/IEC 7812-1).
const DIGITS_MAX: usize = 19;

/// A token in the form of a card number: 12 to 19 digits of which the first is 0. No payment card's number begins
/// with it (ISO/IEC 7812-1 gives 0 to industries that issue none), so the two can never be taken for each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DigitToken {
    digits: [u8; DIGITS_MAX],
    length: usize,
}

/// A card in the vault, by either of its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenRef {
    /// The one that every card has.
    Opaque(TokenId),
    /// The one in the form of a card number, for those that have it.
    Digits(DigitToken),
}

/// The text is no token of a card.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be tok_ and 32 lower-case hexadecimal digits, or 12 to 19 digits that begin with 0")]
pub struct TokenError;

impl DigitToken {
    /// All digits, the leading 0 among them.
    pub fn as_str(&self) -> &str {
        // Only digits are ever taken in.
        std::str::from_utf8(&self.digits[..self.length]).unwrap_or_default()
    }
}

impl FromStr for DigitToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = text.len() >= DIGITS_MIN
            && text.starts_with('0')
            && text.bytes().all(|byte| byte.is_ascii_digit());
        let mut token = Self { digits: [0; DIGITS_MAX], length: text.len() };
        match token.digits.get_mut(..text.len()) {
            Some(digits) if legal => {
                digits.copy_from_slice(text.as_bytes());
                Ok(token)
            }
            _ => Err(TokenError),
        }
    }
}

impl FromStr for TokenRef {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::Opaque).or_else(|_| text.parse().map(Self::Digits))
    }
}

impl From<TokenId> for TokenRef {
    fn from(id: TokenId) -> Self {
        Self::Opaque(id)
    }
}

impl fmt::Display for DigitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for DigitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for TokenRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Opaque(id) => id.fmt(f),
            Self::Digits(digits) => digits.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn either_name_reads_back_as_itself(bytes in any::<[u8; 16]>(), digits in "0[0-9]{11,18}") {
            let opaque = TokenRef::Opaque(TokenId::new(uuid::Uuid::from_bytes(bytes)));
            prop_assert_eq!(opaque.to_string().parse::<TokenRef>(), Ok(opaque));
            let token: TokenRef = digits.parse().unwrap();
            prop_assert!(matches!(token, TokenRef::Digits(_)));
            prop_assert_eq!(token.to_string(), digits);
        }

        #[test]
        fn any_other_text_is_refused(text in ".{0,40}") {
            let digits = (12..=19).contains(&text.len()) && text.starts_with('0');
            prop_assume!(!text.starts_with("tok_") && !digits);
            prop_assert_eq!(text.parse::<TokenRef>(), Err(TokenError));
        }
    }

    #[test]
    fn a_card_number_is_no_token() {
        for text in [
            "4242424242424242",
            "9000000000000000",
            "01234567890",
            "01234567890123456789",
            "0123 4567 8901",
            "-123456789012",
            "",
        ] {
            assert_eq!(text.parse::<DigitToken>(), Err(TokenError), "{text}");
        }
    }
}
