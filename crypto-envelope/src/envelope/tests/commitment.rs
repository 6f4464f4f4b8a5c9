//! The attack that the commitment is there for: one ciphertext that AES-GCM opens under two keys
//! (Dodis, Grubbs, Ristenpart, Woodage, "Fast Message Franking: From Invisible Salamanders to
//! Encryptment", 2018).

use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};

use super::*;

/// Multiplication in GF(2¹²⁸) as GHASH has it (SP 800-38D, section 6.3), most significant bit first.
fn times(x: u128, y: u128) -> u128 {
    let (mut product, mut power) = (0, y);
    for bit in (0..128).rev() {
        if x >> bit & 1 == 1 {
            product ^= power;
        }
        power = (power >> 1) ^ if power & 1 == 1 { 0xe1 << 120 } else { 0 };
    }
    product
}

/// x to the power 2¹²⁸ − 2.
fn inverse(x: u128) -> u128 {
    let (mut result, mut square) = (1 << 127, x);
    for _ in 1..128 {
        square = times(square, square);
        result = times(result, square);
    }
    result
}

/// What a key makes of a nonce of zeros and associated data: the hash key, and the tag of a ciphertext
/// of one block of zeros.
fn tag_of_zeros(key: &[u8; 32], aad: &[u8]) -> (u128, u128) {
    let cipher = aes::Aes256::new(key.into());
    let encrypt = |block: u128| {
        let mut block = block.to_be_bytes().into();
        cipher.encrypt_block(&mut block);
        u128::from_be_bytes(block.into())
    };
    let hash_key = encrypt(0);
    let lengths = (aad.len() as u128 * 8) << 64 | 128;
    let blocks = aad.chunks(16).map(|chunk| {
        let mut block = [0; 16];
        block[..chunk.len()].copy_from_slice(chunk);
        u128::from_be_bytes(block)
    });
    let hash = blocks.chain([0, lengths]).fold(0, |hash, block| times(hash ^ block, hash_key));
    (hash_key, hash ^ encrypt(1))
}

fn message_key(key: &SealingKey) -> [u8; 32] {
    hmac::sign(&key.prk, &info(MESSAGE_KEY_LABEL, &[9; SALT_BYTES])).as_ref().try_into().unwrap()
}

#[test]
fn a_ciphertext_for_two_keys_opens_under_one_at_most() {
    let (ours, theirs) = (key(1), key(2));
    // A whole envelope of theirs, so that everything but its body is right.
    let mut envelope = seal(&theirs, [9; SALT_BYTES], b"context", &[0; 16]);
    let aad = aad_of(&envelope[..HEADER_BYTES], b"context");
    let keys = [&ours, &theirs].map(message_key);

    // The block X with which both tags are the same: X·H² is what it adds to each.
    let [(h1, t1), (h2, t2)] = keys.map(|key| tag_of_zeros(&key, &aad));
    let block = times(t1 ^ t2, inverse(times(h1, h1) ^ times(h2, h2)));
    let tag = t1 ^ times(block, times(h1, h1));
    envelope.truncate(HEADER_BYTES);
    envelope.extend(block.to_be_bytes());
    envelope.extend(tag.to_be_bytes());

    // Bare AES-GCM opens it under both keys, to two plaintexts: the attack works.
    let opened = keys.map(|key| {
        let payload = Payload { msg: &envelope[HEADER_BYTES..], aad: &aad };
        Aes256Gcm::new(&key.into()).decrypt(&[0; 12].into(), payload).unwrap()
    });
    assert_ne!(opened[0], opened[1]);

    assert_eq!(theirs.open(&envelope, b"context").unwrap().expose(), opened[1]);
    assert_eq!(ours.open(&envelope, b"context"), Err(EnvelopeError));
}
