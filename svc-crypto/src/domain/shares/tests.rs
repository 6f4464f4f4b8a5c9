//! Shares: the field's known products, a vector that was computed apart from this program, and everything that must
//! not give a key.

use proptest::prelude::*;

use super::*;
use crate::testing::unhex;

fn key(byte: u8) -> KeyBytes {
    KeyBytes::take(&mut [byte; KEY_BYTES])
}

/// Bytes that count up, instead of random ones.
fn counting(from: u8) -> impl FnMut(&mut [u8]) -> Result<(), SplitError> {
    let mut next = from;
    move |bytes| {
        for byte in bytes {
            (*byte, next) = (next, next.wrapping_add(1));
        }
        Ok(())
    }
}

fn gathered<'a>(
    shares: impl IntoIterator<Item = &'a Share>,
    root: Uuid,
) -> Result<Option<KeyBytes>, ShareError> {
    let (mut gathered, mut last) = (Gathered::new(), Ok(None));
    for share in shares {
        last = gathered.add(share.clone(), root).map(|taken| match taken {
            Taken::One { .. } => None,
            Taken::Last(key) => Some(key),
        });
    }
    last
}

#[test]
fn the_field_is_that_of_aes() {
    // FIPS 197, section 4.2.
    assert_eq!(multiply(0x57, 0x83), 0xc1);
    assert_eq!(multiply(0x57, 0x13), 0xfe);
    assert_eq!((multiply(0x02, 0x80), multiply(0, 7), multiply(1, 0xff)), (0x1b, 0, 0xff));
    for a in 1..=255 {
        assert_eq!(multiply(a, inverse(a)), 1, "{a}");
    }
    assert_eq!(inverse(0), 0);
    // The products by schoolbook multiplication and division.
    for (a, b) in (0..=255u8).flat_map(|a| (0..=255u8).map(move |b| (a, b))) {
        let mut long =
            (0..8).filter(|bit| b >> bit & 1 == 1).fold(0u16, |sum, bit| sum ^ (u16::from(a) << bit));
        for bit in (8..16).rev().filter(|bit| *bit < 16) {
            if long >> bit & 1 == 1 {
                long ^= 0x11b << (bit - 8);
            }
        }
        assert_eq!(u16::from(multiply(a, b)), long, "{a:#x} times {b:#x}");
    }
}

#[test]
fn the_vector_of_the_documentation_holds() {
    let bytes: Vec<u8> = (0..32).collect();
    let shares = split(&KeyBytes::from_slice(&bytes).unwrap(), 3, 5, counting(0x40)).unwrap();
    let values = |number: usize| canonical::hex(&shares[number - 1].values);
    assert_eq!(values(1), VECTOR[0]);
    assert_eq!(values(2), VECTOR[1]);
    assert_eq!(values(5), VECTOR[2]);
    let text = shares[0].to_text();
    assert_eq!(text.len(), PREFIX.len() + 2 * SHARE_BYTES);
    assert_eq!(Share::parse(&text).unwrap().values, shares[0].values);
    assert_eq!(unhex(&VECTOR[0][..4]), shares[0].values[..2]);
}

/// Shares 1, 2 and 5 of the key 00, 01, … 1f with threshold 3, where the random bytes are 40, 41, 42, …: first the
/// coefficients of x for all bytes of the key, then those of x². Computed by a program of its own.
const VECTOR: [&str; 3] = [
    "202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
    "1b1c15120700090e23242d2a3f3831366b6c65627770797e53545d5a4f484146",
    "61744b5e35201f0ac9dce3f69d88b7a22a3f00157e6b54418297a8bdd6c3fce9",
];

#[test]
fn any_that_are_enough_give_the_key_and_fewer_do_not() {
    for (threshold, count) in [(2, 2), (2, 3), (3, 5), (5, 5)] {
        let shares = split(&key(7), threshold, count, counting(threshold)).unwrap();
        let root = keys::root(&key(7)).id;
        for chosen in 0u32..1 << count {
            let chosen: Vec<_> =
                shares.iter().filter(|share| chosen >> (share.number - 1) & 1 == 1).collect();
            if chosen.len() > usize::from(threshold) {
                continue;
            }
            let given = gathered(chosen.iter().rev().copied(), root).unwrap();
            assert_eq!(given.is_some(), chosen.len() == usize::from(threshold));
            if let Some(given) = given {
                assert_eq!(given.expose(), key(7).expose());
            }
        }
    }
    for (threshold, count) in [(0, 1), (1, 1), (1, 3), (3, 2), (2, 0)] {
        assert_eq!(split(&key(7), threshold, count, counting(0)).unwrap_err(), SplitError);
    }
}

#[test]
fn a_share_given_twice_counts_once() {
    let shares = split(&key(7), 2, 3, counting(1)).unwrap();
    let root = keys::root(&key(7)).id;
    assert!(gathered([&shares[0], &shares[0]], root).unwrap().is_none());
    assert!(gathered([&shares[0], &shares[0], &shares[2]], root).unwrap().is_some());
}

#[test]
fn what_is_of_another_key_or_set_or_made_up_gives_none() {
    let shares = split(&key(7), 2, 3, counting(1)).unwrap();
    let root = keys::root(&key(7)).id;
    let foreign = split(&key(8), 2, 3, counting(1)).unwrap();
    assert_eq!(gathered([&foreign[0]], root).unwrap_err(), ShareError::OtherRoot);
    let again = split(&key(7), 2, 3, counting(99)).unwrap();
    assert!(gathered([&shares[0], &again[1]], root).unwrap().is_none());
    let mut forged = shares[1].clone();
    forged.values[0] ^= 1;
    let mut given = Gathered::new();
    assert!(matches!(given.add(shares[0].clone(), root), Ok(Taken::One { of_its_set: 1 })));
    assert_eq!(given.add(forged, root).unwrap_err(), ShareError::NotTheKey);
    let begun = given.add(shares[0].clone(), root);
    assert!(matches!(begun, Ok(Taken::One { of_its_set: 1 })), "all of the set begin anew");
}

#[test]
fn a_share_of_a_set_that_is_out_of_use_keeps_nobody_from_unsealing() {
    let root = keys::root(&key(7)).id;
    let shares = split(&key(7), 2, 3, counting(1)).unwrap();
    let out_of_use = split(&key(7), 3, 3, counting(99)).unwrap();
    assert!(gathered([&out_of_use[0], &shares[0], &out_of_use[1], &shares[2]], root).unwrap().is_some());

    let mut given = Gathered::new();
    for seed in 0..100 {
        given.add(split(&key(7), 2, 3, counting(seed)).unwrap()[0].clone(), root).unwrap();
    }
    assert_eq!(given.0.len(), SETS_MAX, "nobody can fill the memory with sets");
}

#[test]
fn a_slip_in_the_text_is_noticed() {
    let text = split(&key(7), 2, 2, counting(1)).unwrap()[0].to_text();
    assert!(Share::parse(&format!(" {}\n", *text)).is_ok());
    for at in PREFIX.len()..text.len() {
        let mut wrong = text.as_bytes().to_vec();
        wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
        assert_eq!(Share::parse(std::str::from_utf8(&wrong).unwrap()).unwrap_err(), ShareError::Text, "{at}");
    }
    for wrong in ["", "pms1-", &text[1..], &text[..text.len() - 2], &format!("{}00", *text)] {
        assert_eq!(Share::parse(wrong).unwrap_err(), ShareError::Text);
    }
    let shown = format!("{:?}", Share::parse(&text).unwrap());
    assert!(shown.contains("redacted") && !shown.contains(&text[60..80]), "{shown}");
}

proptest! {
    #[test]
    fn whatever_is_split_comes_together(bytes: [u8; 32], from: u8, threshold in 2u8..6, more in 0u8..4) {
        let key = KeyBytes::take(&mut { bytes });
        let shares = split(&key, threshold, threshold + more, counting(from)).unwrap();
        let last = shares.iter().rev().take(threshold.into());
        let given = gathered(last, keys::root(&key).id).unwrap().unwrap();
        prop_assert_eq!(given.expose(), &bytes);
    }
}
