//! What a card may be, by example and by property.

use proptest::prelude::*;

use super::*;

const NOW: Month = Month { year: 2026, month: 11 };

fn draft(number: &str) -> Draft<'_> {
    Draft { number, exp_month: 12, exp_year: 2030, cvc: "", holder_name: "" }
}

fn brand_of(number: &str) -> Result<Brand, CardError> {
    Pan::parse(number).map(|pan| pan.brand())
}

fn errors_of(draft: Draft<'_>) -> Vec<FieldError> {
    validate(draft, NOW).err().unwrap_or_default()
}

/// Public test numbers of the schemes and of processors.
#[test]
fn well_known_numbers_have_their_brand() {
    for (number, brand) in [
        ("4242424242424242", Brand::Visa),
        ("4222222222222", Brand::Visa),
        ("4000000000000002", Brand::Visa),
        ("4000000000009995", Brand::Visa),
        ("4000000000009987", Brand::Visa),
        ("4000000000009979", Brand::Visa),
        ("4000000000000069", Brand::Visa),
        ("4000000000000127", Brand::Visa),
        ("4000000000000119", Brand::Visa),
        ("4100000000000019", Brand::Visa),
        ("4000000000009235", Brand::Visa),
        ("5555555555554444", Brand::Mastercard),
        ("2223003122003222", Brand::Mastercard),
        ("378282246310005", Brand::AmericanExpress),
        ("371449635398431", Brand::AmericanExpress),
        ("6011111111111117", Brand::Discover),
        ("6445644564456445", Brand::Discover),
        ("3056930009020004", Brand::DinersClub),
        ("36227206271667", Brand::DinersClub),
        ("3566002020360505", Brand::Jcb),
        ("6200000000000005", Brand::UnionPay),
        ("6759649826438453", Brand::Other),
    ] {
        assert_eq!(brand_of(number), Ok(brand), "{number}");
    }
}

#[test]
fn ranges_are_closed_on_both_ends() {
    for (prefix, brand) in [
        ("222099", Brand::Other),
        ("222100", Brand::Mastercard),
        ("272099", Brand::Mastercard),
        ("272100", Brand::Other),
        ("509999", Brand::Other),
        ("510000", Brand::Mastercard),
        ("559999", Brand::Mastercard),
        ("560000", Brand::Other),
        ("352799", Brand::Other),
        ("352800", Brand::Jcb),
        ("358999", Brand::Jcb),
        ("359000", Brand::Other),
        ("643999", Brand::Other),
        ("644000", Brand::Discover),
        ("810000", Brand::UnionPay),
        ("817200", Brand::Other),
    ] {
        let number =
            (0..10).map(|check| format!("{prefix}000000000{check}")).find(|n| luhn_is_right(n.as_bytes()));
        assert_eq!(brand_of(&number.unwrap()), Ok(brand), "{prefix}");
    }
}

/// The ranges as the schemes publish them, once more by hand: first and last digits, whose, how long, and whose the
/// numbers just before and just after are.
type Published = (&'static str, &'static str, Brand, std::ops::RangeInclusive<usize>, Brand, Brand);
const PUBLISHED: [Published; 15] = [
    ("34", "34", Brand::AmericanExpress, 15..=15, Brand::Other, Brand::Other),
    ("37", "37", Brand::AmericanExpress, 15..=15, Brand::DinersClub, Brand::DinersClub),
    ("300", "305", Brand::DinersClub, 14..=19, Brand::Other, Brand::Other),
    ("3095", "3095", Brand::DinersClub, 14..=19, Brand::Other, Brand::Other),
    ("36", "36", Brand::DinersClub, 14..=19, Brand::Other, Brand::AmericanExpress),
    ("38", "39", Brand::DinersClub, 14..=19, Brand::AmericanExpress, Brand::Visa),
    ("3528", "3589", Brand::Jcb, 16..=19, Brand::Other, Brand::Other),
    // And of these 13, 16 and 19 only.
    ("4", "4", Brand::Visa, 13..=19, Brand::DinersClub, Brand::Other),
    ("51", "55", Brand::Mastercard, 16..=16, Brand::Other, Brand::Other),
    ("2221", "2720", Brand::Mastercard, 16..=16, Brand::Other, Brand::Other),
    ("6011", "6011", Brand::Discover, 16..=19, Brand::Other, Brand::Other),
    ("644", "649", Brand::Discover, 16..=19, Brand::Other, Brand::Discover),
    ("65", "65", Brand::Discover, 16..=19, Brand::Discover, Brand::Other),
    ("62", "62", Brand::UnionPay, 16..=19, Brand::Other, Brand::Other),
    ("8100", "8171", Brand::UnionPay, 16..=19, Brand::Other, Brand::Other),
];

/// A number with these first digits and `filler` after them, its check digit right, and that with a wrong one.
fn numbers(prefix: &str, filler: char, length: usize) -> (String, String) {
    let stem: String = prefix.chars().chain(std::iter::repeat(filler)).take(length - 1).collect();
    let of = |right: bool| {
        let mut all = (0..10).map(|check| format!("{stem}{check}"));
        all.find(|number| luhn_is_right(number.as_bytes()) == right).unwrap()
    };
    (of(true), of(false))
}

#[test]
fn every_range_holds_at_its_edges_for_every_length() {
    assert_eq!(PUBLISHED.len(), RANGES.len(), "each range is written down here too");
    let neighbour = |digits: &str, by: i64| (digits.parse::<i64>().unwrap() + by).to_string();
    for (first, last, brand, lengths, before, after) in PUBLISHED {
        for length in DIGITS_MIN..=DIGITS_MAX {
            for (prefix, filler) in [(first, '0'), (last, '9')] {
                let (right, wrong) = numbers(prefix, filler, length);
                let legal =
                    lengths.contains(&length) && (brand != Brand::Visa || [13, 16, 19].contains(&length));
                let of_length = CardError::NumberLengthOfBrand(brand);
                assert_eq!(
                    brand_of(&right),
                    if legal { Ok(brand) } else { Err(of_length) },
                    "{prefix} {length}"
                );
                let refused = if legal { CardError::NumberCheckDigit } else { of_length };
                assert_eq!(brand_of(&wrong), Err(refused), "{prefix} {length}");
            }
            for (prefix, filler, expected) in
                [(neighbour(first, -1), '9', before), (neighbour(last, 1), '0', after)]
            {
                let found = match brand_of(&numbers(&prefix, filler, length).0) {
                    Ok(brand) | Err(CardError::NumberLengthOfBrand(brand)) => brand,
                    Err(error) => panic!("{prefix} {length}: {error}"),
                };
                assert_eq!(found, expected, "{prefix} {length}");
            }
        }
    }
}

#[test]
fn a_brands_ranges_have_the_lengths_that_are_told_of_it() {
    for range in RANGES {
        let told: Vec<String> = range.lengths.iter().map(u8::to_string).collect();
        assert_eq!(lengths_text(range.brand), told.join(" or "));
    }
}

#[test]
fn what_is_shown_leaves_four_digits_hidden_of_every_number() {
    for length in DIGITS_MIN..=DIGITS_MAX {
        let number = numbers("5018", '0', length).0;
        let pan = Pan::parse(&number).unwrap();
        assert_eq!(pan.bin().len(), if length < 14 { length - 8 } else { 6 });
        assert!(number.starts_with(pan.bin()) && number.ends_with(pan.last4()));
    }
}

#[test]
fn of_all_first_digits_only_0_is_no_cards() {
    for length in DIGITS_MIN..=DIGITS_MAX {
        assert_eq!(brand_of(&numbers("0", '7', length).0), Err(CardError::NumberIssuer), "{length}");
        for first in ["1", "7", "9"] {
            assert_eq!(brand_of(&numbers(first, '0', length).0), Ok(Brand::Other), "{first} {length}");
        }
    }
    for length in [8, 11, 20, 30] {
        assert_eq!(brand_of(&numbers("4", '0', length).0), Err(CardError::NumberLength), "{length}");
    }
}

#[test]
fn spaces_and_hyphens_are_allowed_between_digits_only() {
    for number in ["4242 4242 4242 4242", "4242-4242-4242-4242", "4 2 4 2-4242 42424242"] {
        assert_eq!(Pan::parse(number).unwrap().digits(), "4242424242424242");
    }
    for number in
        [" 4242424242424242", "4242424242424242-", "4242--424242424242", "4242.4242.4242.4242", "-", "٤٢٤٢"]
    {
        assert_eq!(Pan::parse(number).unwrap_err(), CardError::NumberForm, "{number}");
    }
}

#[test]
fn a_number_that_cannot_be_a_card_is_refused_with_its_reason() {
    for (number, error) in [
        ("", CardError::NumberMissing),
        ("42424242424", CardError::NumberLength),
        ("42424242424242424242", CardError::NumberLength),
        ("424242424242424", CardError::NumberLengthOfBrand(Brand::Visa)),
        ("3782822463100050", CardError::NumberLengthOfBrand(Brand::AmericanExpress)),
        ("4242424242424241", CardError::NumberCheckDigit),
        ("0000000000000000", CardError::NumberIssuer),
        ("4242x24242424242", CardError::NumberForm),
    ] {
        assert_eq!(errors_of(draft(number)), [(field::NUMBER, error)], "{number}");
    }
    assert_eq!(
        CardError::NumberLengthOfBrand(Brand::Visa).to_string(),
        "must have 13 or 16 or 19 digits, as every Visa card"
    );
    let long = "1".repeat(1_000_000);
    assert_eq!(Pan::parse(&long).unwrap_err(), CardError::NumberLength);
}

#[test]
fn a_card_is_valid_through_the_end_of_its_month() {
    let at = |exp_month, exp_year| errors_of(Draft { exp_month, exp_year, ..draft("4242424242424242") });
    assert_eq!(at(11, 2026), []);
    assert_eq!(at(1, 2027), []);
    assert_eq!(at(12, 2056), []);
    assert_eq!(at(10, 2026), [(field::EXP_MONTH, CardError::Expired)]);
    assert_eq!(at(12, 2025), [(field::EXP_YEAR, CardError::Expired)]);
    assert_eq!(at(1, 2057), [(field::EXP_YEAR, CardError::ExpiryYear)]);
    assert_eq!(at(1, 30), [(field::EXP_YEAR, CardError::ExpiryYear)]);
    assert_eq!(at(13, 2030), [(field::EXP_MONTH, CardError::ExpiryMonth)]);
    assert_eq!(
        at(0, i32::MIN),
        [(field::EXP_MONTH, CardError::ExpiryMonth), (field::EXP_YEAR, CardError::ExpiryYear)]
    );
    assert_eq!(at(-1, i32::MAX).len(), 2);
}

#[test]
fn before_its_expiry_an_expired_card_was_valid() {
    let expired = Draft { exp_month: 1, exp_year: 2020, ..draft("4242424242424242") };
    assert_eq!(validate_before_expiry(expired).unwrap().expiry, Month { year: 2020, month: 1 });
    for (exp_month, exp_year) in [(0, 2030), (13, 2030), (1, 30), (1, i32::MAX), (i32::MIN, i32::MIN)] {
        let never = Draft { exp_month, exp_year, ..expired };
        assert_eq!(validate_before_expiry(never).is_ok(), exp_year == i32::MAX, "{exp_month} {exp_year}");
    }
    assert!(validate_before_expiry(draft("4242424242424241")).is_err());
}

#[test]
fn the_month_turns_at_midnight_utc() {
    // 2026-12-01T00:00:00Z.
    let december = Timestamp::from_seconds(1_796_083_200);
    assert_eq!(Month::of(december), Month { year: 2026, month: 12 });
    assert_eq!(Month::of(december.checked_add_nanos(-1).unwrap()), Month { year: 2026, month: 11 });
    assert!(Month::of(Timestamp::from_nanos(i64::MAX)) > Month::of(Timestamp::from_nanos(i64::MIN)));
}

#[test]
fn the_verification_code_fits_the_brand() {
    let with = |number, cvc| errors_of(Draft { cvc, ..draft(number) });
    let (visa, amex) = ("4242424242424242", "378282246310005");
    for (number, cvc) in [(visa, "123"), (visa, ""), (amex, "1234"), (amex, "")] {
        assert_eq!(with(number, cvc), [], "{cvc}");
    }
    for (number, cvc, digits) in
        [(visa, "1234", 3), (visa, "12", 3), (visa, "12a", 3), (amex, "123", 4), (visa, "１２３", 3)]
    {
        assert_eq!(with(number, cvc), [(field::CVC, CardError::Cvc(digits))], "{cvc}");
    }
    assert_eq!(with("", "12"), [(field::NUMBER, CardError::NumberMissing), (field::CVC, CardError::CvcForm)]);
}

#[test]
fn the_holder_name_is_short_text() {
    let with = |holder_name: &str| errors_of(Draft { holder_name, ..draft("4242424242424242") });
    assert_eq!(with(&"é".repeat(100)), []);
    assert_eq!(with(&"é".repeat(101)), [(field::HOLDER_NAME, CardError::HolderNameLength)]);
    assert_eq!(with("Ada\nPayer"), [(field::HOLDER_NAME, CardError::HolderNameForm)]);
}

#[test]
fn what_was_stored_is_taken_up_whatever_the_rules_are_now() {
    assert_eq!(Pan::restore("424242424242424").unwrap().digits(), "424242424242424");
    assert_eq!(Pan::restore("4242424242424242"), Pan::parse("4242424242424242").ok());
    for no_number in ["", "42424242424", "42424242424242424242", "4242 4242 4242 4242", "é242424242424"] {
        assert_eq!(Pan::restore(no_number), None, "{no_number}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let all = Draft { number: "x", exp_month: 0, exp_year: 0, cvc: "x", holder_name: "\u{7}" };
    let fields: Vec<_> = errors_of(all).into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, [field::NUMBER, field::EXP_MONTH, field::EXP_YEAR, field::CVC, field::HOLDER_NAME]);
}

#[test]
fn a_card_cannot_be_printed() {
    let card = validate(Draft { holder_name: "Ada Payer", ..draft("4242424242424242") }, NOW).unwrap();
    let shown = format!("{card:?}");
    assert!(!shown.contains("4242") && !shown.contains("Ada") && !shown.contains("52, 50"), "{shown}");
    assert_eq!((card.pan.bin(), card.pan.last4()), ("424242", "4242"));
}

proptest! {
    #[test]
    fn one_wrong_digit_is_always_noticed(stem in "4[0-9]{14}", place in 0usize..16, add in 1u8..10) {
        let number = (0..10).map(|check| format!("{stem}{check}")).find(|n| luhn_is_right(n.as_bytes())).unwrap();
        let pan = Pan::parse(&number).unwrap();
        prop_assert_eq!(pan.digits(), &number);
        let mut digits = number.into_bytes();
        digits[place] = (digits[place] - b'0' + add) % 10 + b'0';
        prop_assert!(!luhn_is_right(&digits));
    }

    #[test]
    fn any_text_is_judged_without_panic(number in ".{0,80}", cvc in ".{0,6}", name in ".{0,120}", m: i32, y: i32) {
        let draft = Draft { number: &number, exp_month: m, exp_year: y, cvc: &cvc, holder_name: &name };
        if let Ok(card) = validate(draft, NOW) {
            prop_assert!((DIGITS_MIN..=DIGITS_MAX).contains(&card.pan.digits().len()));
        }
    }
}
