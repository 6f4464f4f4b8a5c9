//! Suite 4 against its description, an independent implementation, and every kind of damage.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use proptest::{collection::vec, prelude::*};
use uuid::Uuid;

use super::*;
use crate::{
    envelope::{Salt, SealingKey},
    testing::{self, Count},
};

const WRAPPER: KeyRef = KeyRef { id: Uuid::from_u128(7), version: 3 };

fn wrapped(reference: KeyRef, data_key: [u8; 32]) -> Vec<u8> {
    let wrapping = SealingKey::new(reference, &KeyBytes::take(&mut [1; 32]));
    wrapping.seal(Salt::new([5; 32]), DATA_KEY_AAD, &data_key).unwrap()
}

fn key(byte: u8) -> LocalKey {
    LocalKey::new(&KeyBytes::take(&mut [byte; 32]), &wrapped(WRAPPER, [byte; 32])).unwrap()
}

fn seal(key: &LocalKey, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    key.seal(Nonce::new([9; NONCE_BYTES]), context, plaintext).unwrap()
}

struct Length(usize);

impl ring::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

/// Opens an envelope by the module's text alone: ring's own HKDF, and another AES-GCM.
fn open_independently(data_key: &[u8; 32], envelope: &[u8], context: &[u8]) -> Option<Vec<u8>> {
    assert_eq!(&envelope[..5], b"PME1\x04");
    let length = usize::from(u16::from_be_bytes(envelope[25..27].try_into().unwrap()));
    let extract = [b"paymesh envelope 1", &envelope[4..25]].concat();
    let prk = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &extract).extract(data_key);
    let expand = |label: &[u8]| {
        let mut output = [0; 32];
        prk.expand(&[label], Length(32)).unwrap().fill(&mut output).unwrap();
        output
    };
    let header = 71 + length;
    assert_eq!(expand(b"pme1 local commitment"), envelope[27 + length..59 + length]);
    let aad =
        [&(header as u64).to_be_bytes(), &envelope[..header], &(context.len() as u64).to_be_bytes(), context]
            .concat();
    let nonce: [u8; 12] = envelope[59 + length..header].try_into().unwrap();
    let cipher = Aes256Gcm::new(&expand(b"pme1 local key").into());
    cipher.decrypt(&nonce.into(), Payload { msg: &envelope[header..], aad: &aad }).ok()
}

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("suite 4");
    for vector in testing::formats()["suite_4"].as_array().unwrap() {
        let [data_key, wrapped, nonce, context, plaintext, envelope] =
            ["data_key", "wrapped", "nonce", "context", "plaintext", "envelope"]
                .map(|name| testing::bytes(vector, name));
        let key = LocalKey::new(&KeyBytes::from_slice(&data_key).unwrap(), &wrapped).unwrap();
        let nonce = Nonce::new(nonce.try_into().unwrap());
        assert_eq!(key.seal(nonce, &context, &plaintext).unwrap(), envelope);
        assert_eq!(key.open(&envelope, &context).unwrap().expose(), plaintext);
        assert_eq!(wrapped_of(&envelope), Some(&wrapped[..]));
        count.checked();
    }
    count.at_least(3);
}

proptest! {
    #[test]
    fn what_is_sealed_opens_here_and_in_an_independent_implementation(
        byte: u8, nonce: [u8; 12], context in vec(any::<u8>(), 0..200), plaintext in vec(any::<u8>(), 0..2_000),
    ) {
        let key = key(byte);
        let envelope = key.seal(Nonce::new(nonce), &context, &plaintext).unwrap();
        prop_assert_eq!(envelope.len(), plaintext.len() + key.overhead_bytes());
        prop_assert_eq!(wrapping_key_of(&envelope), Some(WRAPPER));
        let opened = key.open(&envelope, &context).unwrap();
        prop_assert_eq!(opened.expose(), plaintext.as_slice());
        prop_assert_eq!(open_independently(&[byte; 32], &envelope, &context), Some(plaintext));
    }

    #[test]
    fn reading_never_panics(bytes in vec(any::<u8>(), 0..400), right in 0..240_usize) {
        let envelope = seal(&key(1), b"", b"");
        let mixed = [&envelope[..right.min(envelope.len())], &bytes].concat();
        let _ = wrapped_of(&mixed);
        let opened = key(1).open(&mixed, b"");
        prop_assert!(opened.is_err() || mixed == envelope);
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_is_the_same_error() {
    let key = key(1);
    let envelope = seal(&key, b"context", b"plaintext");
    for at in 0..envelope.len() * 8 {
        let mut damaged = envelope.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert_eq!(key.open(&damaged, b"context"), Err(EnvelopeError), "bit {at}");
    }
    for length in 0..envelope.len() {
        assert_eq!(key.open(&envelope[..length], b"context"), Err(EnvelopeError), "length {length}");
    }
    let longer = [envelope.as_slice(), b"\0"].concat();
    assert_eq!(key.open(&longer, b"context"), Err(EnvelopeError));
    assert_eq!(key.open(&envelope, b"other"), Err(EnvelopeError));
}

/// A body that authenticates under one data key does not open under another, even where the commitment is made
/// to be that of the other.
#[test]
fn another_data_key_does_not_open_it() {
    let (ours, theirs) = (key(1), key(2));
    let mut envelope = seal(&theirs, b"", b"plaintext");
    assert_eq!(ours.open(&envelope, b""), Err(EnvelopeError));
    envelope[..ours.beginning.len()].copy_from_slice(&ours.beginning);
    assert_eq!(ours.open(&envelope, b""), Err(EnvelopeError));
}

#[test]
fn what_names_another_key_than_its_wrapped_one_is_none() {
    let mut envelope = seal(&key(1), b"", b"plaintext");
    assert!(wrapped_of(&envelope).is_some());
    let other = Prefix { suite: Suite::Local, key: KeyRef { version: 4, ..WRAPPER } };
    envelope[..PREFIX_BYTES].copy_from_slice(&other.bytes());
    assert_eq!(wrapped_of(&envelope), None);
    let mut longer = wrapped(WRAPPER, [1; 32]);
    longer.push(0);
    assert!(LocalKey::new(&KeyBytes::take(&mut [1; 32]), &longer).is_err());
    assert!(LocalKey::new(&KeyBytes::take(&mut [1; 32]), b"no envelope").is_err());
}
