//! Large messages against an independent implementation, in pieces of every size, and damaged.

use aes_gcm::{
    Aes256Gcm, KeyInit as _,
    aead::{Aead as _, Payload},
};
use proptest::{collection::vec, prelude::*};
use uuid::Uuid;

use super::*;
use crate::{
    domain::{deterministic::DeterministicKey, envelope::SealingKey, prefix::PREFIX_BYTES},
    testing::{self, Count},
};

const REFERENCE: KeyRef = KeyRef { id: Uuid::from_u128(0x1234), version: 3 };
const CONTEXT: &[u8] = b"context";
/// Lengths at which something changes.
const LENGTHS: [usize; 9] = [
    0,
    1,
    15,
    CHUNK_BYTES - 1,
    CHUNK_BYTES,
    CHUNK_BYTES + 1,
    2 * CHUNK_BYTES - 1,
    2 * CHUNK_BYTES,
    2 * CHUNK_BYTES + 17,
];

fn bytes(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; 32])
}

fn key(byte: u8) -> LargeKey {
    LargeKey::new(REFERENCE, &bytes(byte))
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect()
}

fn seal(key: &LargeKey, salt: u8, context: &[u8], plaintext: &[u8]) -> Vec<u8> {
    seal_in(key, salt, context, plaintext, plaintext.len().max(1))
}

fn seal_in(key: &LargeKey, salt: u8, context: &[u8], plaintext: &[u8], piece: usize) -> Vec<u8> {
    let mut encryptor = key.encryptor(Salt::new([salt; SALT_BYTES]), context).unwrap();
    let mut sealed: Vec<u8> =
        plaintext.chunks(piece).flat_map(|piece| encryptor.push(piece).unwrap()).collect();
    sealed.extend(encryptor.finish().unwrap());
    sealed
}

fn open(key: &LargeKey, context: &[u8], sealed: &[u8]) -> Result<Vec<u8>, EnvelopeError> {
    open_in(key, context, sealed, sealed.len().max(1))
}

fn open_in(key: &LargeKey, context: &[u8], sealed: &[u8], piece: usize) -> Result<Vec<u8>, EnvelopeError> {
    let mut decryptor = key.decryptor(context);
    let mut opened = Vec::new();
    for piece in sealed.chunks(piece) {
        opened.extend(decryptor.push(piece)?.expose());
    }
    opened.extend(decryptor.finish()?.expose());
    Ok(opened)
}

/// Opens a message by the module's text alone: ring's own HKDF, and another AES-GCM.
fn open_independently(key: [u8; 32], sealed: &[u8], context: &[u8]) -> Option<Vec<u8>> {
    struct Length;
    impl ring::hkdf::KeyType for Length {
        fn len(&self) -> usize {
            32
        }
    }
    let (header, chunks) = sealed.split_at(89);
    let extract = [b"paymesh envelope 1", &header[4..25]].concat();
    let prk = ring::hkdf::Salt::new(ring::hkdf::HKDF_SHA256, &extract).extract(&key);
    let expand = |label: &[u8]| {
        let mut output = [0; 32];
        prk.expand(&[label, &header[25..57]], Length).unwrap().fill(&mut output).unwrap();
        output
    };
    assert_eq!(expand(b"pme1 commitment "), header[57..]);
    let bound = [&89u64.to_be_bytes(), header, &(context.len() as u64).to_be_bytes(), context].concat();
    let aad = digest::digest(&digest::SHA256, &bound);
    let cipher = Aes256Gcm::new(&expand(b"pme1 message key").into());
    let last = chunks.chunks(65_552).count() - 1;
    let mut opened = Vec::new();
    for (number, chunk) in chunks.chunks(65_552).enumerate() {
        let nonce = [&[0; 7][..], &u32::try_from(number).unwrap().to_be_bytes(), &[u8::from(number == last)]];
        let nonce: [u8; 12] = nonce.concat().try_into().unwrap();
        opened.extend(cipher.decrypt(&nonce.into(), Payload { msg: chunk, aad: aad.as_ref() }).ok()?);
    }
    Some(opened)
}

#[test]
fn every_length_opens_here_and_in_an_independent_implementation() {
    for length in LENGTHS {
        let sealed = seal(&key(1), 2, CONTEXT, &text(length));
        assert_eq!(sealed_bytes(length as u64), Some(sealed.len() as u64), "{length}");
        assert_eq!(Prefix::read(&sealed), Some(Prefix { suite: Suite::Large, key: REFERENCE }));
        assert_eq!(open(&key(1), CONTEXT, &sealed), Ok(text(length)), "{length}");
        assert_eq!(open_independently([1; 32], &sealed, CONTEXT), Some(text(length)), "{length}");
    }
}

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("suite 3");
    for vector in testing::formats()["suite_3"].as_array().unwrap() {
        let (reference, key) = testing::key(vector);
        let key = LargeKey::new(reference, &key);
        let [context, salt, digest] = ["context", "salt", "sha256"].map(|name| testing::bytes(vector, name));
        let plaintext = text(usize::try_from(vector["plaintext_bytes"].as_u64().unwrap()).unwrap());
        let mut encryptor = key.encryptor(Salt::new(salt.try_into().unwrap()), &context).unwrap();
        let sealed = [encryptor.push(&plaintext).unwrap(), encryptor.finish().unwrap()].concat();
        assert_eq!(ring::digest::digest(&digest::SHA256, &sealed).as_ref(), digest);
        assert!(sealed.starts_with(&testing::bytes(vector, "begins")));
        assert!(sealed.ends_with(&testing::bytes(vector, "ends")));
        assert_eq!(open(&key, &context, &sealed), Ok(plaintext));
        count.checked();
    }
    count.at_least(4);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_sizes_of_pieces_change_nothing(at in 0..LENGTHS.len(), a in 1..200_000_usize, b in 1..200_000_usize) {
        let plaintext = text(LENGTHS[at]);
        let sealed = seal_in(&key(1), 2, CONTEXT, &plaintext, a);
        prop_assert!(sealed == seal(&key(1), 2, CONTEXT, &plaintext));
        prop_assert!(open_in(&key(1), CONTEXT, &sealed, b) == Ok(plaintext));
    }

    #[test]
    fn random_bytes_do_not_open(bytes in vec(any::<u8>(), 0..400), piece in 1..400_usize) {
        prop_assert_eq!(open_in(&key(1), CONTEXT, &bytes, piece), Err(EnvelopeError));
        let begun = [&seal(&key(1), 2, CONTEXT, b"")[..HEADER_BYTES], &bytes].concat();
        prop_assert_eq!(open_in(&key(1), CONTEXT, &begun, piece), Err(EnvelopeError));
    }
}

#[test]
fn single_bytes_in_and_out() {
    let plaintext = text(CHUNK_BYTES + 3);
    let sealed = seal_in(&key(1), 2, CONTEXT, &plaintext, 1);
    assert!(sealed == seal(&key(1), 2, CONTEXT, &plaintext));
    assert!(open_in(&key(1), CONTEXT, &sealed, 1) == Ok(plaintext));
}

#[test]
fn every_flipped_bit_and_every_truncation_is_the_same_error() {
    let sealed = seal(&key(1), 2, CONTEXT, b"plaintext");
    for at in 0..sealed.len() * 8 {
        let mut damaged = sealed.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert_eq!(open(&key(1), CONTEXT, &damaged), Err(EnvelopeError), "bit {at}");
    }
    for length in 0..sealed.len() {
        assert_eq!(open(&key(1), CONTEXT, &sealed[..length]), Err(EnvelopeError), "length {length}");
    }
    assert_eq!(open(&key(1), CONTEXT, &[&sealed[..], b"\0"].concat()), Err(EnvelopeError));
}

/// Chunk by chunk, and at both ends of each.
#[test]
fn what_is_cut_off_moved_repeated_or_added_is_found() {
    let (sealed, other) = (
        seal(&key(1), 2, CONTEXT, &text(3 * CHUNK_BYTES)),
        seal(&key(1), 3, CONTEXT, &text(3 * CHUNK_BYTES)),
    );
    let (header, chunks) = sealed.split_at(HEADER_BYTES);
    let chunks: Vec<&[u8]> = chunks.chunks(SEALED_CHUNK_BYTES).collect();
    let strange = &other[HEADER_BYTES..][..SEALED_CHUNK_BYTES];
    let [a, b, c] = chunks[..] else { panic!("{} chunks", chunks.len()) };
    assert_eq!(open(&key(1), CONTEXT, &[header, a, b, c].concat()), Ok(text(3 * CHUNK_BYTES)));
    let wrong: [&[&[u8]]; 12] = [
        &[header],
        &[header, a],
        &[header, a, b],
        &[header, a, b, &c[..c.len() - 1]],
        &[header, c],
        &[header, b, a, c],
        &[header, a, a, b, c],
        &[header, a, b, b, c],
        &[header, a, b, c, c],
        &[header, a, b, c, b"\0"],
        &[header, strange, b, c],
        &[&other[..HEADER_BYTES], a, b, c],
    ];
    for parts in wrong {
        let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
        assert_eq!(open(&key(1), CONTEXT, &parts.concat()), Err(EnvelopeError), "{lengths:?}");
    }
}

/// Also by somebody who has the key: one plaintext has one form under a salt.
#[test]
fn an_empty_chunk_after_others_is_refused() {
    let mut encryptor = key(1).encryptor(Salt::new([2; SALT_BYTES]), CONTEXT).unwrap();
    let mut sealed = encryptor.push(&text(CHUNK_BYTES)).unwrap();
    encryptor.cipher.seal(Place::Inner, &mut encryptor.chunk, &mut sealed).unwrap();
    sealed.extend(encryptor.finish().unwrap());
    assert_eq!(open_independently([1; 32], &sealed, CONTEXT), Some(text(CHUNK_BYTES)));
    assert_eq!(open(&key(1), CONTEXT, &sealed), Err(EnvelopeError));
}

/// By somebody who has the key: chunks that authenticate with a header that they are bound to, whose
/// commitment is another's.
#[test]
fn chunks_that_authenticate_are_refused_without_their_commitment() {
    let mut header: [u8; HEADER_BYTES] = seal(&key(1), 2, CONTEXT, b"")[..HEADER_BYTES].try_into().unwrap();
    let (mut chunk, mut sealed) = (b"plaintext".to_vec(), Vec::new());
    header[COMMITMENT_AT..].copy_from_slice(&*key(2).commitment(&[2; SALT_BYTES]));
    let mut cipher = key(1).cipher(&header, &[2; SALT_BYTES], CONTEXT).unwrap();
    cipher.seal(Place::Last, &mut chunk, &mut sealed).unwrap();
    for key in [key(1), key(2)] {
        assert_eq!(open(&key, CONTEXT, &[&header[..], &sealed].concat()), Err(EnvelopeError));
    }
}

#[test]
fn nothing_of_a_damaged_chunk_is_released() {
    let mut sealed = seal(&key(1), 2, CONTEXT, &text(3 * CHUNK_BYTES));
    sealed[HEADER_BYTES + SEALED_CHUNK_BYTES + 5] ^= 1;
    let mut decryptor = key(1).decryptor(CONTEXT);
    let second = HEADER_BYTES + SEALED_CHUNK_BYTES;
    // The first chunk is only opened once it is known not to be the last.
    assert!(decryptor.push(&sealed[..second]).unwrap().expose().is_empty());
    assert_eq!(decryptor.push(&sealed[second..=second]).unwrap().expose(), text(CHUNK_BYTES));
    assert!(decryptor.push(&sealed[second + 1..][..SEALED_CHUNK_BYTES - 1]).unwrap().expose().is_empty());
    assert_eq!(decryptor.push(b"x"), Err(EnvelopeError));
    assert!(matches!(decryptor.state, State::Failed));
    assert_eq!(decryptor.push(b"x"), Err(EnvelopeError));
    assert_eq!(decryptor.finish(), Err(EnvelopeError));
}

#[test]
fn only_the_same_key_context_and_suite_open() {
    let sealed = seal(&key(1), 2, CONTEXT, b"plaintext");
    let of = |reference| LargeKey::new(reference, &bytes(1));
    let other_id = of(KeyRef { id: Uuid::from_u128(1), ..REFERENCE });
    let other_version = of(KeyRef { version: 4, ..REFERENCE });
    for wrong in [key(2), other_id, other_version] {
        assert_eq!(open(&wrong, CONTEXT, &sealed), Err(EnvelopeError));
        let renamed = [&wrong.prefix.bytes()[..], &sealed[PREFIX_BYTES..]].concat();
        assert_eq!(open(&wrong, CONTEXT, &renamed), Err(EnvelopeError));
    }
    assert_eq!(open(&key(1), b"contex", &sealed), Err(EnvelopeError));
    assert_eq!(open(&key(1), b"", &sealed), Err(EnvelopeError));
    let message = SealingKey::new(REFERENCE, &bytes(1));
    let deterministic = DeterministicKey::new(REFERENCE, &bytes(1));
    assert_eq!(message.open(&sealed, CONTEXT), Err(EnvelopeError));
    assert_eq!(deterministic.open(&sealed, CONTEXT), Err(EnvelopeError));
    let theirs = message.seal(Salt::new([2; SALT_BYTES]), CONTEXT, b"plaintext").unwrap();
    assert_eq!(open(&key(1), CONTEXT, &theirs), Err(EnvelopeError));
    // Nor as what it claims to be after its suite is changed.
    let mut claimed = theirs;
    claimed[4] = Suite::Large.code();
    assert_eq!(open(&key(1), CONTEXT, &claimed), Err(EnvelopeError));
}

#[test]
fn chunks_are_numbered_to_the_end_and_not_beyond() {
    let mut encryptor = key(1).encryptor(Salt::new([2; SALT_BYTES]), CONTEXT).unwrap();
    encryptor.cipher.next = Some(u32::MAX);
    encryptor.push(&text(2 * CHUNK_BYTES)).unwrap();
    assert_eq!(encryptor.push(b"x"), Err(EnvelopeError));
    assert_eq!(encryptor.finish(), Err(EnvelopeError));
    let longest = (1 << 32) * CHUNK_BYTES as u64;
    assert!(sealed_bytes(longest).is_some() && sealed_bytes(longest + 1).is_none());
    assert_eq!(sealed_bytes(u64::MAX), None);
}

#[test]
fn memory_does_not_grow_with_the_message() {
    let mut encryptor = key(1).encryptor(Salt::new([2; SALT_BYTES]), CONTEXT).unwrap();
    let mut decryptor = key(1).decryptor(CONTEXT);
    for _ in 0..40 {
        let sealed = encryptor.push(&text(10_000)).unwrap();
        decryptor.push(&sealed).unwrap();
        assert_eq!(encryptor.chunk.capacity(), SEALED_CHUNK_BYTES);
        assert_eq!(decryptor.buffer.capacity(), SEALED_CHUNK_BYTES);
    }
}
