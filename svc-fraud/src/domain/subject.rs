//! What is assessed: a payment, and what may be known of its card.
//!
//! There is no card number here and none can be built: the first six and last four digits are what
//! PCI DSS 3.4.1 lets be shown, and the fingerprint is the vault's keyed hash.

use std::{fmt, str::FromStr, sync::Arc};

use money::{Currency, PaymentId, TenantId};

/// Why a part of a card was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// Not what the vault gives as a fingerprint.
    #[error("must be 1 to 128 visible ASCII characters")]
    Fingerprint,
    /// Not the beginning of a card number.
    #[error("must be the first 6 digits of the card number, or 4 or 5 of one with fewer than 14")]
    Bin,
    /// Not the end of a card number.
    #[error("must be the last 4 digits of the card number")]
    Last4,
}

/// The vault's keyed hash of a card: the same for the same card of the same tenant.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fingerprint(Arc<str>);

impl Fingerprint {
    /// The text, as the vault gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Fingerprint {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (1..=128).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()) {
            Ok(Self(text.into()))
        } else {
            Err(SubjectError::Fingerprint)
        }
    }
}

impl fmt::Debug for Fingerprint {
    /// Not shown: beside the card's first and last digits it would help to guess the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(redacted)")
    }
}

/// The first six digits of a card number: who issued it. Of numbers with fewer than 14 digits the vault shows four or
/// five, so that as many as ever stay hidden.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bin([u8; 6]);

impl FromStr for Bin {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Where there are fewer the rest stays 0, which is no digit's byte.
        let mut bytes = [0; 6];
        match bytes.get_mut(..text.len()) {
            Some(digits) if text.len() >= 4 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.copy_from_slice(text.as_bytes());
                Ok(Self(bytes))
            }
            _ => Err(SubjectError::Bin),
        }
    }
}

/// The last four digits of a card number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Last4([u8; 4]);

impl FromStr for Last4 {
    type Err = SubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes: [u8; 4] = text.as_bytes().try_into().map_err(|_| SubjectError::Last4)?;
        if bytes.iter().all(u8::is_ascii_digit) { Ok(Self(bytes)) } else { Err(SubjectError::Last4) }
    }
}

/// What may be known of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The vault's keyed hash.
    pub fingerprint: Fingerprint,
    /// The first six digits.
    pub bin: Bin,
    /// The last four digits.
    pub last4: Last4,
}

/// One payment to assess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// Whose payment it is.
    pub tenant: TenantId,
    /// Which payment: it is assessed once.
    pub payment_id: PaymentId,
    /// Minor units, 1 to [`money::AMOUNT_MAX`].
    pub amount: i64,
    /// What the amount is in.
    pub currency: Currency,
    /// What it is paid with.
    pub card: Card,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_card_have_one_form() {
        assert!("424242".parse::<Bin>().is_ok() && "0019".parse::<Last4>().is_ok());
        let short = ["5018", "50180", "501800"].map(|bin| bin.parse::<Bin>().unwrap());
        assert!(short[0] != short[1] && short[1] != short[2]);
        for wrong in ["", "424", "4242424", "42424x", "４２"] {
            assert_eq!(wrong.parse::<Bin>(), Err(SubjectError::Bin), "{wrong}");
        }
        for wrong in ["", "001", "00190", "00 9", "42424242"] {
            assert_eq!(wrong.parse::<Last4>(), Err(SubjectError::Last4), "{wrong}");
        }
        for wrong in ["", "a b", "ä", "a\n", &"f".repeat(129)] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(SubjectError::Fingerprint), "{wrong}");
        }
    }

    #[test]
    fn a_fingerprint_is_not_shown_beside_the_digits() {
        let card = Card {
            fingerprint: "c0ffee".parse().unwrap(),
            bin: "424242".parse().unwrap(),
            last4: "4242".parse().unwrap(),
        };
        assert!(!format!("{card:?}").contains("c0ffee"));
    }
}
