//! Keys as they come from outside: wrapped, as PKCS#8 and `SubjectPublicKeyInfo`, as shares; and signatures.

use std::sync::LazyLock;

use crypto_envelope::{
    secret::{KEY_BYTES, KeyBytes, SecretBytes},
    testing::{bytes, formats},
};
use ring::rand::SystemRandom;
use svc_crypto::domain::{
    key_import::EcdhImport,
    key_wrap,
    shares::{Share, SplitError, split},
    signing::{Encoding, PublicKey, Scheme, SigningKey},
    spki,
};

use crate::input::{Input, changed};

/// Both schemes' keys of the documents' vectors, with one message and its signature.
struct Signer {
    public: PublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
    encoding: Encoding,
}

static SIGNERS: LazyLock<Vec<Signer>> = LazyLock::new(|| {
    let formats = formats();
    let vectors = formats["signatures"].as_array().into_iter().flatten();
    let bare = vectors.filter(|vector| bytes(vector, "context").is_empty());
    let signers = bare.filter_map(|vector| {
        let p1363 = vector["algorithm"].as_str().is_some_and(|name| name.ends_with("P1363"));
        Some(Signer {
            public: PublicKey::from_spki(&bytes(vector, "spki")).ok()?,
            message: bytes(vector, "message"),
            signature: bytes(vector, "signature"),
            encoding: if p1363 { Encoding::P1363 } else { Encoding::Der },
        })
    });
    signers.collect()
});

fn wrapping_key() -> KeyBytes {
    KeyBytes::take(&mut [9; KEY_BYTES])
}

/// What reads it, and the vectors of each kind.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let formats = formats();
    let of = |list: &str, field: &str| -> Vec<Vec<u8>> {
        let vectors = formats[list].as_array().into_iter().flatten();
        vectors.map(|vector| bytes(vector, field)).collect()
    };
    let wrapped = |material: Vec<u8>| key_wrap::wrap(&wrapping_key(), &material).unwrap_or_default();
    let mut seeds = Vec::new();
    let mut add = |kind: u8, inputs: Vec<Vec<u8>>| {
        seeds.extend(inputs.into_iter().map(|input| [&[kind][..], &input].concat()));
    };
    add(0, of("key_wrap", "material").into_iter().map(wrapped).collect());
    add(
        1,
        of("key_wrap", "material").into_iter().map(|material| [&[0, 3, 1][..], &material].concat()).collect(),
    );
    add(2, of("import_ecdh", "wrapped"));
    add(3, of("signatures", "spki"));
    add(4, of("signatures", "pkcs8"));
    add(5, of("signatures", "signature"));
    add(6, shares().into_iter().map(String::into_bytes).collect());
    seeds
}

fn shares() -> Vec<String> {
    let fill = |bytes: &mut [u8]| {
        bytes.fill(3);
        Ok::<(), SplitError>(())
    };
    let shares = split(&wrapping_key(), 2, 3, fill).unwrap_or_default();
    shares.iter().map(|share| share.to_text().to_string()).collect()
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 7 {
        0 => unwrap(input.rest()),
        1 => {
            let (at, difference) = (input.number(), input.byte());
            wrap(input.rest(), at, difference);
        }
        2 => import(input.rest()),
        3 => public_key(input.rest()),
        4 => private_key(input.rest()),
        5 => signature(input.rest()),
        _ => share(input.rest()),
    }
}

/// What unwraps is what would be wrapped.
fn unwrap(wrapped: &[u8]) {
    let key = wrapping_key();
    if let Ok(material) = key_wrap::unwrap(&key, wrapped) {
        assert_eq!(key_wrap::wrap(&key, material.expose()).as_deref(), Ok(wrapped));
    }
}

fn wrap(material: &[u8], at: usize, difference: u8) {
    let key = wrapping_key();
    let Ok(wrapped) = key_wrap::wrap(&key, material) else { return };
    assert_eq!(key_wrap::unwrap(&key, &wrapped).as_ref().map(SecretBytes::expose), Ok(material));
    let changed = changed(&wrapped, at, difference).unwrap_or_default();
    assert!(key_wrap::unwrap(&key, &changed).is_err(), "a byte is another");
}

/// An import's key is made for it alone, so that nobody can have wrapped anything for it.
fn import(wrapped: &[u8]) {
    let Ok(import) = EcdhImport::new(&SystemRandom::new()) else { return };
    assert!(import.unwrap(wrapped).is_err(), "what was wrapped for nobody is taken");
}

fn public_key(der: &[u8]) {
    if let Some((curve, key)) = spki::decode(der) {
        assert_eq!(spki::encode(curve, key), der, "a public key has one form");
    }
    if let Ok(key) = PublicKey::from_spki(der) {
        assert_eq!(key.to_spki(), der);
        // The point need not be on the curve: then nothing verifies.
        key.verify(Encoding::Der, b"", b"message", &[0; 64]);
        key.verify(Encoding::P1363, b"context", b"message", &[0; 64]);
    }
}

fn private_key(pkcs8: &[u8]) {
    let (random, secret) = (SystemRandom::new(), SecretBytes::new(pkcs8.to_vec()));
    for scheme in [Scheme::Ed25519, Scheme::EcdsaP256Sha256] {
        let Ok(key) = SigningKey::from_pkcs8(scheme, &secret, &random) else { continue };
        for encoding in [Encoding::Der, Encoding::P1363] {
            let signature = key.sign(encoding, b"", b"message", &random).unwrap_or_default();
            let verifies = |message: &[u8]| key.public_key().verify(encoding, b"", message, &signature);
            assert!(verifies(b"message") && !verifies(b"massage"), "{scheme:?}");
        }
    }
}

/// Of one message nothing verifies but its own signature. ECDSA has two for each, of which the other is not forbidden.
fn signature(signature: &[u8]) {
    for signer in &*SIGNERS {
        let verifies = |message: &[u8]| signer.public.verify(signer.encoding, b"", message, signature);
        if verifies(&signer.message) && signer.public.scheme() == Scheme::Ed25519 {
            assert_eq!(signature, signer.signature, "another signature of the same message");
        }
        assert!(!verifies(b"another message"));
    }
}

fn share(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(share) = Share::parse(text) {
        assert_eq!(share.to_text().as_str(), text.trim(), "a share has one spelling");
    }
}
