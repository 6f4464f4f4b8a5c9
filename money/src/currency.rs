//! Currencies of ISO 4217.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A currency of ISO 4217 that has minor units, so that amounts in it can be charged.
///
/// Fund codes, metals and the testing code (`XXX`, `XAU`, `XTS`, …) have none and are refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency {
    code: [u8; 3],
    exponent: u8,
}

/// Why a currency was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CurrencyError {
    /// Not three upper-case letters.
    #[error("must be three upper-case letters of ISO 4217, such as EUR")]
    Malformed,
    /// Well formed, but no currency that can be charged.
    #[error("is not a currency of ISO 4217 that can be charged")]
    Unknown,
}

impl Currency {
    /// The three letters, such as `EUR`.
    pub fn code(&self) -> &str {
        // The constructor admits upper-case ASCII only.
        std::str::from_utf8(&self.code).unwrap_or_default()
    }

    /// How many decimals the minor unit is away from the major one: 2 for EUR, 0 for JPY, 3 for KWD.
    pub fn exponent(&self) -> u8 {
        self.exponent
    }
}

impl FromStr for Currency {
    type Err = CurrencyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let code: [u8; 3] = text.as_bytes().try_into().map_err(|_| CurrencyError::Malformed)?;
        if !code.iter().all(u8::is_ascii_uppercase) {
            return Err(CurrencyError::Malformed);
        }
        let known = iso_currency::Currency::from_code(text).ok_or(CurrencyError::Unknown)?;
        let exponent = known.exponent().and_then(|e| u8::try_from(e).ok()).ok_or(CurrencyError::Unknown)?;
        Ok(Self { code, exponent })
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl Serialize for Currency {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.code())
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents_follow_iso_4217() {
        for (code, exponent) in [("EUR", 2), ("USD", 2), ("JPY", 0), ("KRW", 0), ("KWD", 3), ("CLF", 4)] {
            assert_eq!(code.parse::<Currency>().map(|c| c.exponent()), Ok(exponent), "{code}");
        }
    }

    #[test]
    fn what_cannot_be_charged_is_refused() {
        for text in ["", "eur", "EURO", "E R", "€", "\u{0}\u{0}\u{0}"] {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError::Malformed), "{text:?}");
        }
        for text in ["ZZZ", "QQQ", "XXX", "XAU"] {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError::Unknown), "{text}");
        }
    }
}
