//! Cards: which numbers can be one, whose they are, and until when they are valid.
//!
//! A number is judged by ISO/IEC 7812: the leading digits say whose card it is and how long it must
//! be, the last digit is a check digit (Luhn, annex B of part 1). Knows nothing of where cards are kept.

use std::fmt;

use money::Timestamp;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::secret::SecretText;

/// The card scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Brand {
    /// Visa.
    Visa,
    /// Mastercard.
    Mastercard,
    /// American Express.
    AmericanExpress,
    /// Discover.
    Discover,
    /// Diners Club International.
    DinersClub,
    /// JCB.
    Jcb,
    /// China UnionPay.
    UnionPay,
    /// Any other issuer of ISO/IEC 7812.
    Other,
}

/// The leading digits from `first` to `last` (both of the same length, inclusive), and the lengths
/// that a number of that range can have.
struct Range {
    first: u32,
    last: u32,
    brand: Brand,
    lengths: &'static [u8],
}

const fn range(first: u32, last: u32, brand: Brand, lengths: &'static [u8]) -> Range {
    Range { first, last, brand, lengths }
}

/// The ranges of ISO/IEC 7812 issuer identification numbers, as the schemes publish them. The first
/// that fits decides. Numbers in 622126 to 622925, which Discover and UnionPay share, count as UnionPay.
const RANGES: &[Range] = &[
    range(34, 34, Brand::AmericanExpress, &[15]),
    range(37, 37, Brand::AmericanExpress, &[15]),
    range(300, 305, Brand::DinersClub, &[14, 15, 16, 17, 18, 19]),
    range(3095, 3095, Brand::DinersClub, &[14, 15, 16, 17, 18, 19]),
    range(36, 36, Brand::DinersClub, &[14, 15, 16, 17, 18, 19]),
    range(38, 39, Brand::DinersClub, &[14, 15, 16, 17, 18, 19]),
    range(3528, 3589, Brand::Jcb, &[16, 17, 18, 19]),
    range(4, 4, Brand::Visa, &[13, 16, 19]),
    range(51, 55, Brand::Mastercard, &[16]),
    range(2221, 2720, Brand::Mastercard, &[16]),
    range(6011, 6011, Brand::Discover, &[16, 17, 18, 19]),
    range(644, 649, Brand::Discover, &[16, 17, 18, 19]),
    range(65, 65, Brand::Discover, &[16, 17, 18, 19]),
    range(62, 62, Brand::UnionPay, &[16, 17, 18, 19]),
    range(8100, 8171, Brand::UnionPay, &[16, 17, 18, 19]),
];

/// Lengths for an issuer that is in no range above. ISO/IEC 7812 allows 8 to 19 digits; no card scheme
/// issues fewer than 12.
const LENGTHS_OTHER: &[u8] = &[12, 13, 14, 15, 16, 17, 18, 19];

/// The fewest digits that any card has.
pub const DIGITS_MIN: usize = 12;
/// The most digits that ISO/IEC 7812 allows.
pub const DIGITS_MAX: usize = 19;
/// How many of the first digits are shown at most.
const BIN_DIGITS: usize = 6;
/// The longest text in which a number is looked for, separators included.
const NUMBER_TEXT_BYTES_MAX: usize = 64;
/// The longest name of a holder, in characters.
pub const HOLDER_NAME_CHARS_MAX: usize = 100;
/// How far ahead a card can expire, in years.
const EXPIRY_YEARS_AHEAD_MAX: i32 = 30;

impl Brand {
    /// The name that people know.
    pub fn name(self) -> &'static str {
        match self {
            Self::Visa => "Visa",
            Self::Mastercard => "Mastercard",
            Self::AmericanExpress => "American Express",
            Self::Discover => "Discover",
            Self::DinersClub => "Diners Club",
            Self::Jcb => "JCB",
            Self::UnionPay => "UnionPay",
            Self::Other => "other",
        }
    }

    /// The number that stands for it in a store. Never reused.
    pub fn code(self) -> i64 {
        match self {
            Self::Visa => 1,
            Self::Mastercard => 2,
            Self::AmericanExpress => 3,
            Self::Discover => 4,
            Self::DinersClub => 5,
            Self::Jcb => 6,
            Self::UnionPay => 7,
            Self::Other => 8,
        }
    }

    /// The brand that a store's number stands for.
    pub fn from_code(code: i64) -> Option<Self> {
        const ALL: [Brand; 8] = [
            Brand::Visa,
            Brand::Mastercard,
            Brand::AmericanExpress,
            Brand::Discover,
            Brand::DinersClub,
            Brand::Jcb,
            Brand::UnionPay,
            Brand::Other,
        ];
        ALL.into_iter().find(|brand| brand.code() == code)
    }

    /// How many digits the verification code has.
    fn cvc_digits(self) -> usize {
        if self == Self::AmericanExpress { 4 } else { 3 }
    }
}

/// A primary account number: 12 to 19 digits whose check digit is right. Wiped when dropped; `Debug`
/// shows no digit.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Pan {
    digits: [u8; DIGITS_MAX],
    length: usize,
}

impl fmt::Debug for Pan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pan(redacted)")
    }
}

/// Why a field of a card was refused. Says what would be right, never what was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CardError {
    /// Nothing given.
    #[error("must be given")]
    NumberMissing,
    /// Not digits, or separators where none belong.
    #[error("must be digits, with single spaces or hyphens between them")]
    NumberForm,
    /// Fewer or more digits than any card has.
    #[error("must have 12 to 19 digits")]
    NumberLength,
    /// Not as many digits as this scheme's cards have.
    #[error("must have {} digits, as every {} card", lengths_text(*.0), .0.name())]
    NumberLengthOfBrand(Brand),
    /// Leading zero: no payment card (ISO/IEC 7812-1 keeps it for other industries).
    #[error("must be the number of a payment card, which begins with 1 to 9")]
    NumberIssuer,
    /// The check digit is wrong.
    #[error("must have a right check digit (Luhn)")]
    NumberCheckDigit,
    /// No month of the calendar.
    #[error("must be a month, 1 to 12")]
    ExpiryMonth,
    /// Not a year that a card can expire in.
    #[error("must be a year of four digits, at most 30 years ahead")]
    ExpiryYear,
    /// The last day of the card is over.
    #[error("the card has expired: must be the current month or a later one")]
    Expired,
    /// Not a verification code.
    #[error("must be {0} digits")]
    Cvc(usize),
    /// Not a verification code of any brand.
    #[error("must be 3 or 4 digits")]
    CvcForm,
    /// Longer than is kept.
    #[error("must have at most 100 characters")]
    HolderNameLength,
    /// Control characters.
    #[error("must have no control characters")]
    HolderNameForm,
}

fn lengths_text(brand: Brand) -> String {
    let lengths =
        RANGES.iter().find(|range| range.brand == brand).map_or(LENGTHS_OTHER, |range| range.lengths);
    let texts: Vec<String> = lengths.iter().map(u8::to_string).collect();
    texts.join(" or ")
}

impl Pan {
    /// Reads a number as a payer types it: digits, single spaces or hyphens allowed between them.
    pub fn parse(text: &str) -> Result<Self, CardError> {
        if text.is_empty() {
            return Err(CardError::NumberMissing);
        }
        if text.len() > NUMBER_TEXT_BYTES_MAX {
            return Err(CardError::NumberLength);
        }
        let mut pan = Self { digits: [0; DIGITS_MAX], length: 0 };
        let mut after_digit = false;
        for byte in text.bytes() {
            match byte {
                b'0'..=b'9' => {
                    let slot = pan.digits.get_mut(pan.length).ok_or(CardError::NumberLength)?;
                    *slot = byte;
                    pan.length += 1;
                    after_digit = true;
                }
                b' ' | b'-' if after_digit => after_digit = false,
                _ => return Err(CardError::NumberForm),
            }
        }
        if !after_digit {
            return Err(CardError::NumberForm);
        }
        pan.check()?;
        Ok(pan)
    }

    /// Takes up a number that was judged before it was stored. Only its form is checked: the rules of
    /// today may not lock away a card of yesterday.
    pub fn restore(digits: &str) -> Option<Self> {
        let mut pan = Self { digits: [0; DIGITS_MAX], length: digits.len() };
        let legal = digits.len() >= DIGITS_MIN && digits.bytes().all(|byte| byte.is_ascii_digit());
        pan.digits.get_mut(..digits.len())?.copy_from_slice(digits.as_bytes());
        legal.then_some(pan)
    }

    fn check(&self) -> Result<(), CardError> {
        if self.length < DIGITS_MIN {
            return Err(CardError::NumberLength);
        }
        if self.digits[0] == b'0' {
            return Err(CardError::NumberIssuer);
        }
        let (brand, lengths) = self.issuer();
        if !lengths.iter().any(|length| usize::from(*length) == self.length) {
            return Err(CardError::NumberLengthOfBrand(brand));
        }
        if luhn_is_right(self.digits().as_bytes()) { Ok(()) } else { Err(CardError::NumberCheckDigit) }
    }

    fn issuer(&self) -> (Brand, &'static [u8]) {
        let fits = |range: &&Range| {
            let width = range.first.ilog10() as usize + 1;
            let prefix = self.digits[..width].iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
            (range.first..=range.last).contains(&prefix)
        };
        RANGES.iter().find(fits).map_or((Brand::Other, LENGTHS_OTHER), |range| (range.brand, range.lengths))
    }

    /// Whose card it is.
    pub fn brand(&self) -> Brand {
        self.issuer().0
    }

    /// All digits. Never to be logged, nor put in an error.
    pub fn digits(&self) -> &str {
        // The constructor admits ASCII digits only.
        std::str::from_utf8(&self.digits[..self.length]).unwrap_or_default()
    }

    /// The first digits, which may be shown (PCI DSS 3.4.1: at most the BIN, and the last four).
    ///
    /// Six, although ISO/IEC 7812-1:2017 gives issuers eight: the most that may be shown is not what has to be.
    /// Which of the two an issuer has cannot be told from the number, nobody in the mesh decides by the last two,
    /// and what stays hidden is what an attacker has to guess at `Tokenize`, which answers equal cards with equal
    /// tokens: of 16 digits six and a check digit leave 100,000 numbers, eight would leave 1,000. For the same
    /// reason numbers of fewer than 14 digits, of which six and four would leave ten or a hundred, show fewer.
    pub fn bin(&self) -> &str {
        self.digits().get(..BIN_DIGITS.min(self.length.saturating_sub(8))).unwrap_or_default()
    }

    /// The last four digits, which may be shown (PCI DSS 3.4.1).
    pub fn last4(&self) -> &str {
        self.digits().get(self.length.saturating_sub(4)..).unwrap_or_default()
    }
}

/// Whether the last of these ASCII digits is the right check digit (ISO/IEC 7812-1, annex B).
pub(super) fn luhn_is_right(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let value = u32::from(digit - b'0');
            match (place % 2, value) {
                (0, value) => value,
                (_, 0..=4) => value * 2,
                (_, value) => value * 2 - 9,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// A month of a year.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Month {
    /// The year, four digits.
    pub year: i32,
    /// 1 to 12.
    pub month: u8,
}

impl Month {
    /// The month that a moment falls in, UTC.
    pub fn of(now: Timestamp) -> Self {
        // Every Timestamp lies within the years 1677 to 2262, which the calendar covers.
        let date = time::OffsetDateTime::from_unix_timestamp(now.as_seconds())
            .unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        Self { year: date.year(), month: date.month().into() }
    }
}

/// A card as its holder gives it, before anything is known of it.
#[derive(Clone, Copy)]
pub struct Draft<'a> {
    /// The number, separators allowed.
    pub number: &'a str,
    /// 1 to 12.
    pub exp_month: i32,
    /// Four digits.
    pub exp_year: i32,
    /// Empty if not given.
    pub cvc: &'a str,
    /// Empty if not given.
    pub holder_name: &'a str,
}

/// A card that can be kept. There is no verification code in it: that is checked for its form and
/// then forgotten (PCI DSS 3.3.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// The number.
    pub pan: Pan,
    /// The last month in which it is valid.
    pub expiry: Month,
    /// Empty if not given.
    pub holder_name: SecretText,
}

/// The paths of a card's fields in a request.
pub mod field {
    /// The number.
    pub const NUMBER: &str = "card.number";
    /// The month of expiry.
    pub const EXP_MONTH: &str = "card.exp_month";
    /// The year of expiry.
    pub const EXP_YEAR: &str = "card.exp_year";
    /// The verification code.
    pub const CVC: &str = "card.cvc";
    /// The holder.
    pub const HOLDER_NAME: &str = "card.holder_name";
}

/// A field of a card and what is wrong with it.
pub type FieldError = (&'static str, CardError);

/// Judges a card. `current` is the month that it is now, UTC. Says everything that is wrong at once.
pub fn validate(draft: Draft<'_>, current: Month) -> Result<Card, Vec<FieldError>> {
    let mut errors = Vec::new();
    let pan = Pan::parse(draft.number).map_err(|error| errors.push((field::NUMBER, error))).ok();
    let expiry = validate_expiry(draft, current, &mut errors);
    if let Err(error) = check_cvc(draft.cvc, pan.as_ref().map(Pan::brand)) {
        errors.push((field::CVC, error));
    }
    if let Err(error) = check_holder_name(draft.holder_name) {
        errors.push((field::HOLDER_NAME, error));
    }
    match (pan, expiry) {
        (Some(pan), Some(expiry)) if errors.is_empty() => {
            Ok(Card { pan, expiry, holder_name: SecretText::new(draft.holder_name.to_owned()) })
        }
        _ => Err(errors),
    }
}

/// Judges a card as of its own last month: everything but whether it has expired meanwhile. Tells
/// whether a request could have been accepted before.
pub fn validate_before_expiry(draft: Draft<'_>) -> Result<Card, Vec<FieldError>> {
    let month = u8::try_from(draft.exp_month).unwrap_or_default();
    validate(draft, Month { year: draft.exp_year, month })
}

fn validate_expiry(draft: Draft<'_>, current: Month, errors: &mut Vec<FieldError>) -> Option<Month> {
    let month = u8::try_from(draft.exp_month).ok().filter(|month| (1..=12).contains(month));
    if month.is_none() {
        errors.push((field::EXP_MONTH, CardError::ExpiryMonth));
    }
    let years = 1000..=current.year.saturating_add(EXPIRY_YEARS_AHEAD_MAX);
    if !years.contains(&draft.exp_year) {
        errors.push((field::EXP_YEAR, CardError::ExpiryYear));
        return None;
    }
    if draft.exp_year < current.year {
        errors.push((field::EXP_YEAR, CardError::Expired));
        return None;
    }
    let expiry = Month { year: draft.exp_year, month: month? };
    if expiry < current {
        errors.push((field::EXP_MONTH, CardError::Expired));
        return None;
    }
    Some(expiry)
}

fn check_cvc(cvc: &str, brand: Option<Brand>) -> Result<(), CardError> {
    if cvc.is_empty() {
        return Ok(());
    }
    let digits = cvc.bytes().all(|byte| byte.is_ascii_digit());
    match brand {
        Some(brand) if !digits || cvc.len() != brand.cvc_digits() => Err(CardError::Cvc(brand.cvc_digits())),
        None if !digits || !(3..=4).contains(&cvc.len()) => Err(CardError::CvcForm),
        _ => Ok(()),
    }
}

fn check_holder_name(name: &str) -> Result<(), CardError> {
    if name.chars().any(char::is_control) {
        return Err(CardError::HolderNameForm);
    }
    // Counting stops early: a name may be as long as a request.
    if name.chars().nth(HOLDER_NAME_CHARS_MAX).is_some() {
        return Err(CardError::HolderNameLength);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
