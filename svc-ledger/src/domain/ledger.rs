//! Ledgers: one per currency or asset. Nothing is ever moved from one ledger to another.

use std::{collections::BTreeMap, fmt, str::FromStr};

use money::Currency;

use super::types::Given;

/// The longest code of an asset, in characters.
pub const LEDGER_CODE_LENGTH_MAX: usize = 8;

/// The most decimals that an asset's smallest unit may be away from its major one; `i64` holds 18.
pub const EXPONENT_MAX: u8 = 18;

/// The code of a ledger: a currency of ISO 4217 or an asset that the configuration names, 2 to 8
/// characters of A-Z and 0-9, the first a letter. Whether it is one that is kept is for [`Ledgers`] to say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LedgerCode([u8; LEDGER_CODE_LENGTH_MAX]);

/// Why a ledger's code was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LedgerError {
    /// Not a code at all.
    #[error(
        "must be a currency of ISO 4217, such as EUR, or a configured asset: 2 to 8 characters of A-Z and 0-9"
    )]
    Malformed,
    /// Well formed, and neither a currency in circulation nor a configured asset.
    #[error("is neither a currency of ISO 4217 in circulation nor an asset of the configuration")]
    Unknown,
    /// An asset may not take the code of a currency.
    #[error("is a currency of ISO 4217, whose exponent is not for the configuration to say")]
    IsCurrency,
    /// More decimals than an amount can have.
    #[error("has an exponent beyond {EXPONENT_MAX}")]
    Exponent,
}

impl LedgerCode {
    /// The characters.
    pub fn as_str(&self) -> &str {
        let end = self.0.iter().position(|byte| *byte == 0).unwrap_or(LEDGER_CODE_LENGTH_MAX);
        // The constructor admits ASCII only.
        std::str::from_utf8(&self.0[..end]).unwrap_or_default()
    }
}

impl FromStr for LedgerCode {
    type Err = LedgerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let legal = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        let is_code = (2..=LEDGER_CODE_LENGTH_MAX).contains(&text.len())
            && text.bytes().all(legal)
            && text.as_bytes()[0].is_ascii_uppercase();
        if !is_code {
            return Err(LedgerError::Malformed);
        }
        let mut code = [0; LEDGER_CODE_LENGTH_MAX];
        code[..text.len()].copy_from_slice(text.as_bytes());
        Ok(Self(code))
    }
}

impl fmt::Display for LedgerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for LedgerCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The ledgers that are kept: every currency in circulation, with its own exponent, and the assets that
/// the configuration names, each with the exponent said there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ledgers {
    assets: BTreeMap<LedgerCode, u8>,
}

impl Ledgers {
    /// The currencies and these assets: code and exponent.
    pub fn new<'a>(assets: impl IntoIterator<Item = (&'a str, u8)>) -> Result<Self, LedgerError> {
        let mut kept = BTreeMap::new();
        for (text, exponent) in assets {
            let code: LedgerCode = text.parse()?;
            if text.parse::<Currency>().is_ok() {
                return Err(LedgerError::IsCurrency);
            }
            if exponent > EXPONENT_MAX {
                return Err(LedgerError::Exponent);
            }
            kept.insert(code, exponent);
        }
        Ok(Self { assets: kept })
    }

    /// Reads the code of a ledger that is kept.
    pub fn parse(&self, text: &str) -> Result<LedgerCode, LedgerError> {
        let code = text.parse()?;
        self.exponent(code).map(|_| code)
    }

    /// What a request gives as a ledger.
    pub fn given(&self, text: &str) -> Given<LedgerCode> {
        match Given::parse(text, str::parse) {
            Given::Value(code) if self.exponent(code).is_err() => Given::Unlisted(code),
            other => other,
        }
    }

    /// How many decimals the ledger's smallest unit is away from its major one.
    pub fn exponent(&self, code: LedgerCode) -> Result<u8, LedgerError> {
        if let Some(exponent) = self.assets.get(&code) {
            return Ok(*exponent);
        }
        code.as_str()
            .parse::<Currency>()
            .map(|currency| currency.exponent())
            .map_err(|_| LedgerError::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn currencies_are_kept_with_their_own_exponent() {
        let ledgers = Ledgers::default();
        for (text, exponent) in [("EUR", 2), ("JPY", 0), ("KWD", 3)] {
            let code = ledgers.parse(text).unwrap();
            assert_eq!((code.to_string().as_str(), ledgers.exponent(code)), (text, Ok(exponent)));
        }
        assert_eq!(ledgers.parse("BTC"), Err(LedgerError::Unknown));
        for wrong in ["", "E", "eur", "EU R", "1EUR", "TOOLONGXX", "EÜR"] {
            assert_eq!(ledgers.parse(wrong), Err(LedgerError::Malformed), "{wrong:?}");
        }
    }

    #[test]
    fn assets_are_those_of_the_configuration() {
        let ledgers = Ledgers::new([("BTC", 8), ("POINTS", 0)]).unwrap();
        let code = ledgers.parse("BTC").unwrap();
        assert_eq!(ledgers.exponent(code), Ok(8));
        assert!(ledgers.parse("POINTS").is_ok() && ledgers.parse("EUR").is_ok());
        assert_eq!(ledgers.given("BTC"), Given::Value(code));
        assert_eq!(Ledgers::default().given("BTC"), Given::Unlisted(code));
        assert_eq!((ledgers.given(""), ledgers.given("btc")), (Given::Nothing, Given::Malformed));
        assert_eq!(Ledgers::new([("EUR", 3)]), Err(LedgerError::IsCurrency));
        assert_eq!(Ledgers::new([("BTC", 19)]), Err(LedgerError::Exponent));
        assert_eq!(Ledgers::new([("btc", 8)]), Err(LedgerError::Malformed));
    }
}
