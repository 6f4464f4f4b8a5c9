//! The envelope against its description, an independent implementation, and every kind of damage.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use proptest::{collection::vec, prelude::*};

use super::*;

mod commitment;
mod vectors;

const REFERENCE: KeyRef =
    KeyRef { id: Uuid::from_u128(0x0193_3c5e_8f7a_7c3e_9d5b_2a4f_6e8c_0d1b), version: 7 };

fn key(byte: u8) -> SealingKey {
    sealing_key(REFERENCE, byte)
}

fn sealing_key(reference: KeyRef, byte: u8) -> SealingKey {
    SealingKey::new(reference, &KeyBytes::take(&mut [byte; 32]))
}

fn seal(key: &SealingKey, salt: [u8; SALT_BYTES], context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    key.seal(Salt::new(salt), context, plaintext).unwrap()
}

struct Length(usize);

impl ring::hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

fn expand(prk: &ring::hkdf::Prk, label: &[u8], salt: &[u8]) -> [u8; 32] {
    let mut output = [0; 32];
    prk.expand(&[label, salt], Length(32)).unwrap().fill(&mut output).unwrap();
    output
}

/// Opens an envelope by the module's text alone: ring's own HKDF, and another AES-GCM.
fn open_independently(key: &[u8; 32], envelope: &[u8], context: &[u8]) -> Option<Vec<u8>> {
    assert_eq!(&envelope[..5], b"PME1\x01");
    let (salt, commitment) = (&envelope[25..57], &envelope[57..89]);
    let extract = [b"paymesh envelope 1", &envelope[4..25]].concat();
    let prk = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &extract).extract(key);
    assert_eq!(expand(&prk, b"pme1 commitment ", salt), commitment);
    let message_key = expand(&prk, b"pme1 message key", salt);
    let aad =
        [&89u64.to_be_bytes(), &envelope[..89], &(context.len() as u64).to_be_bytes(), context].concat();
    let cipher = Aes256Gcm::new(&message_key.into());
    cipher.decrypt(&[0; 12].into(), Payload { msg: &envelope[89..], aad: &aad }).ok()
}

/// The format may not change without a new suite: what was sealed once must always open. Computed
/// apart from this code, with HMAC and AES-GCM of another language's library.
#[test]
fn known_answer() {
    let salt: [u8; 32] = std::array::from_fn(|i| u8::try_from(i).unwrap());
    let envelope = seal(&key(0x42), salt, b"tenant acme", b"attack at dawn");
    assert_eq!(crate::canonical::hex(&envelope), KNOWN_ANSWER);
    assert_eq!(key(0x42).open(&envelope, b"tenant acme").unwrap().expose(), b"attack at dawn");
}

const KNOWN_ANSWER: &str = concat!(
    "504d453101",
    "01933c5e8f7a7c3e9d5b2a4f6e8c0d1b",
    "00000007",
    "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
    "6ae853ebcfebdd8806325ba805da02df1fa3c0e2ad79781ca115707aeae1b42b",
    "6ffba43115bcb9bafd2fdf240995",
    "42f8ce029676fc8b5f5a0e934bfc3e90",
);

proptest! {
    #[test]
    fn what_is_sealed_opens_here_and_in_an_independent_implementation(
        byte: u8, salt: [u8; 32], context in vec(any::<u8>(), 0..200), plaintext in vec(any::<u8>(), 0..2_000),
    ) {
        let envelope = seal(&key(byte), salt, &context, &plaintext);
        prop_assert_eq!(envelope.len(), plaintext.len() + OVERHEAD_BYTES);
        prop_assert_eq!(key_of(&envelope), Some(REFERENCE));
        let opened = key(byte).open(&envelope, &context).unwrap();
        prop_assert_eq!(opened.expose(), plaintext.as_slice());
        prop_assert_eq!(open_independently(&[byte; 32], &envelope, &context), Some(plaintext));
    }

    #[test]
    fn random_bytes_are_no_envelope(bytes in vec(any::<u8>(), 0..400)) {
        prop_assert_eq!(key(1).open(&bytes, b""), Err(EnvelopeError));
    }

    #[test]
    fn random_bytes_after_a_right_beginning_do_not_open(bytes in vec(any::<u8>(), 0..400)) {
        let mut envelope = seal(&key(1), [0; 32], b"", b"")[..PREFIX_BYTES].to_vec();
        envelope.extend(bytes);
        prop_assert_eq!(key(1).open(&envelope, b""), Err(EnvelopeError));
    }

    #[test]
    fn another_context_does_not_open(context in vec(any::<u8>(), 0..64), other in vec(any::<u8>(), 0..64)) {
        prop_assume!(context != other);
        let envelope = seal(&key(1), [9; 32], &context, b"plaintext");
        prop_assert_eq!(key(1).open(&envelope, &other), Err(EnvelopeError));
    }
}

#[test]
fn every_flipped_bit_and_every_truncation_is_the_same_error() {
    let envelope = seal(&key(1), [9; 32], b"context", b"plaintext");
    for at in 0..envelope.len() * 8 {
        let mut damaged = envelope.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert_eq!(key(1).open(&damaged, b"context"), Err(EnvelopeError), "bit {at}");
    }
    for length in 0..envelope.len() {
        assert_eq!(key(1).open(&envelope[..length], b"context"), Err(EnvelopeError), "length {length}");
    }
    let longer = [envelope.as_slice(), b"\0"].concat();
    assert_eq!(key(1).open(&longer, b"context"), Err(EnvelopeError));
}

#[test]
fn only_the_same_key_id_and_version_open() {
    let envelope = seal(&key(1), [9; 32], b"", b"plaintext");
    let other_id = KeyRef { id: Uuid::from_u128(1), ..REFERENCE };
    let other_version = KeyRef { version: 8, ..REFERENCE };
    for wrong in [key(2), sealing_key(other_id, 1), sealing_key(other_version, 1)] {
        assert_eq!(wrong.open(&envelope, b""), Err(EnvelopeError));
        // Not even when the header is made to name the wrong key.
        let mut renamed = envelope.clone();
        renamed[..PREFIX_BYTES].copy_from_slice(&wrong.prefix.bytes());
        assert_eq!(wrong.open(&renamed, b""), Err(EnvelopeError));
    }
}

/// The attack on AES-GCM without commitment needs a ciphertext that authenticates under two keys. Even
/// one that authenticates under the attacker's key is refused here if the commitment is another's.
#[test]
fn a_body_that_authenticates_is_refused_without_its_commitment() {
    let (ours, theirs) = (key(1), key(2));
    let mut envelope = seal(&theirs, [9; 32], b"", b"plaintext");
    let commitment = hmac::sign(&ours.prk, &info(COMMITMENT_LABEL, &[9; 32]));
    envelope[COMMITMENT_AT..HEADER_BYTES].copy_from_slice(commitment.as_ref());
    let aad = aad_of(&envelope[..HEADER_BYTES], b"");
    let mut body = b"plaintext".to_vec();
    let cipher = theirs.message_cipher(&[9; 32]).unwrap();
    cipher.seal_in_place_append_tag(nonce(), aead::Aad::from(&*aad), &mut body).unwrap();
    envelope.truncate(HEADER_BYTES);
    envelope.extend(body);
    assert_eq!(theirs.open(&envelope, b""), Err(EnvelopeError));
    assert_eq!(ours.open(&envelope, b""), Err(EnvelopeError));
}
