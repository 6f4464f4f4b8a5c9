//! Tokens in the form of a card number, for those whose systems have room for nothing else.
//!
//! As many digits as the number, its last four, and between them digits that have nothing to do with it. The first
//! is 0, which is no payment card's: 1 to 9 all are (1 is UATP's, 7 that of fuel cards, 9 that of national
//! schemes), and [`Pan::parse`] refuses 0 for every number. The check digit is wrong beside that, so that systems
//! that know no first digits do not take it for a card either.

use money::DigitToken;

use super::card::{DIGITS_MAX, Pan, luhn_is_right};

/// How many digits at the end are the card's own.
const KEPT: usize = 4;
/// How many random bytes are drawn from at a time.
pub const DRAW_BYTES: usize = 32;
/// The largest multiple of ten that a byte can count to: bytes from here on would favour the lower digits.
const FAIR: u8 = 250;

/// A token for this number out of random bytes; `None` if they make none (one draw in ten, as the check digit
/// comes out right): draw again.
pub fn draw(pan: &Pan, bytes: &[u8; DRAW_BYTES]) -> Option<DigitToken> {
    let number = pan.digits().as_bytes();
    let mut token = [b'0'; DIGITS_MAX];
    let token = token.get_mut(..number.len())?;
    token.copy_from_slice(number);
    let free = 1..number.len().checked_sub(KEPT)?;
    let mut digits = bytes.iter().filter(|byte| **byte < FAIR).map(|byte| b'0' + byte % 10);
    for place in token.get_mut(free)? {
        *place = digits.next()?;
    }
    *token.first_mut()? = b'0';
    if luhn_is_right(token) { None } else { std::str::from_utf8(token).ok()?.parse().ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::card::CardError;

    /// One card of every length.
    const NUMBERS: [&str; 8] = [
        "501800000009",
        "4222222222222",
        "36227206271667",
        "378282246310005",
        "4242424242424242",
        "67596498264384534",
        "675964982643845301",
        "6759649826438453000",
    ];

    fn numbers() -> impl Iterator<Item = Pan> {
        NUMBERS.into_iter().map(|number| {
            // With the check digit that makes it a card.
            let stem = &number[..number.len() - 1];
            (0..10).find_map(|check| Pan::parse(&format!("{stem}{check}")).ok()).unwrap()
        })
    }

    proptest! {
        #[test]
        fn a_token_looks_like_its_card_and_is_none(bytes: [u8; DRAW_BYTES]) {
            for pan in numbers() {
                let Some(token) = draw(&pan, &bytes) else { continue };
                let token = token.as_str();
                prop_assert_eq!(token.len(), pan.digits().len());
                prop_assert!(token.ends_with(pan.last4()) && token.starts_with('0'));
                prop_assert!(!luhn_is_right(token.as_bytes()));
                prop_assert_eq!(Pan::parse(token).unwrap_err(), CardError::NumberIssuer);
            }
        }
    }

    #[test]
    fn every_digit_between_is_drawn_evenly_and_none_is_the_cards() {
        let pan = Pan::parse("4242424242424242").unwrap();
        // Bytes from 250 on are passed over.
        let mut bytes = [255; DRAW_BYTES];
        for (n, byte) in (0..11).zip(bytes.iter_mut().skip(1).step_by(2)) {
            *byte = 20 + n;
        }
        assert_eq!(draw(&pan, &bytes).unwrap().as_str(), "0012345678904242");
        assert_eq!(draw(&pan, &[255; DRAW_BYTES]), None, "too few to draw from");
    }

    #[test]
    fn a_right_check_digit_is_drawn_again() {
        let pan = Pan::parse("4242424242424242").unwrap();
        let refused = (0..10)
            .filter(|last| {
                let mut bytes = [0; DRAW_BYTES];
                bytes[10] = *last;
                draw(&pan, &bytes).is_none()
            })
            .count();
        assert_eq!(refused, 1, "of ten that differ in one digit, one has a right check digit");
    }
}
