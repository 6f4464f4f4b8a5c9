//! Currencies of ISO 4217.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A currency of ISO 4217 that is in circulation, so that amounts in it can be charged.
///
/// Refused are metals, units of account and the testing code (`XXX`, `XAU`, `XDR`, `XTS`, …), which have
/// no minor unit; fund codes such as `CLF`, though most have one; and currencies that were withdrawn.
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
    /// A fund or a unit of account: something to reckon in that nobody can pay with.
    #[error("is a fund or unit of account of ISO 4217, and must be a currency in circulation")]
    Fund,
    /// No longer in circulation.
    #[error("was withdrawn from ISO 4217: its successor is {successor}")]
    Withdrawn {
        /// The code that took its place.
        successor: &'static str,
    },
}

/// What `iso_currency` knows and nobody can be charged in, sorted by code.
///
/// Said here and not taken from the flags of `iso_currency`: they call `VES` superseded, which amendment
/// 170 of ISO 4217 keeps as the code to use beside `VED`. Source: the maintenance agency's list one
/// (current codes; a fund is one by its column "Fund", `XAD` by its entity, the Arab Monetary Fund) and
/// list three (historic codes) as of 2026.
const REFUSED: [(&str, CurrencyError); 16] = [
    ("ANG", withdrawn("XCG")), // 2025
    ("BGN", withdrawn("EUR")), // 2026
    ("BOV", CurrencyError::Fund),
    ("CHE", CurrencyError::Fund),
    ("CHW", CurrencyError::Fund),
    ("CLF", CurrencyError::Fund),
    ("COU", CurrencyError::Fund),
    ("CUC", withdrawn("CUP")), // 2021
    ("HRK", withdrawn("EUR")), // 2023
    ("MXV", CurrencyError::Fund),
    ("SLL", withdrawn("SLE")), // 2023
    ("USN", CurrencyError::Fund),
    ("UYI", CurrencyError::Fund),
    ("UYW", CurrencyError::Fund),
    ("XAD", CurrencyError::Fund),
    ("ZWL", withdrawn("ZWG")), // 2024
];

const fn withdrawn(successor: &'static str) -> CurrencyError {
    CurrencyError::Withdrawn { successor }
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
        if let Ok(index) = REFUSED.binary_search_by_key(&text, |(code, _)| code) {
            return Err(REFUSED[index].1);
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
        let (none, three) = (["ISK", "JPY", "KRW", "XAF", "XOF", "XPF"], ["BHD", "IQD", "KWD", "TND"]);
        let two = ["CHF", "CUP", "EUR", "GBP", "HUF", "SLE", "USD", "VED", "VES", "XCD", "XCG", "ZWG"];
        let expected = none.map(|code| (code, 0)).into_iter();
        let expected = expected.chain(two.map(|code| (code, 2))).chain(three.map(|code| (code, 3)));
        for (code, exponent) in expected {
            assert_eq!(code.parse::<Currency>().map(|c| c.exponent()), Ok(exponent), "{code}");
        }
    }

    #[test]
    fn what_cannot_be_charged_is_refused() {
        for text in ["", "eur", "EURO", "E R", "€", "\u{0}\u{0}\u{0}"] {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError::Malformed), "{text:?}");
        }
        for text in ["ZZZ", "QQQ", "XXX", "XAU", "XBA", "XDR", "XSU", "XTS", "XUA", "DEM"] {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError::Unknown), "{text}");
        }
        for text in ["BOV", "CHE", "CHW", "CLF", "COU", "MXV", "USN", "UYI", "UYW", "XAD"] {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError::Fund), "{text}");
        }
        let gone =
            [("ANG", "XCG"), ("BGN", "EUR"), ("CUC", "CUP"), ("HRK", "EUR"), ("SLL", "SLE"), ("ZWL", "ZWG")];
        for (text, successor) in gone {
            assert_eq!(text.parse::<Currency>(), Err(CurrencyError::Withdrawn { successor }), "{text}");
            assert!(successor.parse::<Currency>().is_ok(), "{successor}");
        }
    }

    #[test]
    fn the_refused_are_sorted_so_that_they_are_found() {
        assert!(REFUSED.is_sorted_by(|(a, _), (b, _)| a < b));
    }

    /// Fails when a newer `iso_currency` flags something that the list above does not have.
    #[test]
    fn every_code_there_is_agrees_with_the_flags_of_the_library() {
        let letters = || b'A'..=b'Z';
        let codes = letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| [a, b, c])));
        let mut accepted = 0;
        for code in codes {
            let code = String::from_utf8(code.to_vec()).unwrap();
            let charged = iso_currency::Currency::from_code(&code).is_some_and(|known| {
                let gone = known.is_superseded().is_some() && code != "VES";
                known.exponent().is_some() && !known.is_fund() && !known.is_special() && !gone
            });
            assert_eq!(code.parse::<Currency>().is_ok(), charged, "{code}");
            accepted += u32::from(charged);
        }
        assert_eq!(accepted, 155, "currencies in circulation");
    }
}
