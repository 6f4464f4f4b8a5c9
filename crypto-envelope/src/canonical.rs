//! One spelling for a list of byte strings, so that no two lists that differ are ever authenticated
//! or hashed as the same bytes; and one for bytes in text.

use std::{fmt::Write as _, ops::Deref};

/// Each part after its length (64 bits, big endian). Since every part says where it ends, two lists
/// have the same encoding only if they have the same parts in the same order.
pub fn encode(parts: &[&[u8]]) -> Vec<u8> {
    let length = parts.iter().map(|part| part.len() + LENGTH_BYTES).sum();
    let mut encoded = Vec::with_capacity(length);
    for part in parts {
        encoded.extend_from_slice(&length_of(part));
        encoded.extend_from_slice(part);
    }
    encoded
}

/// How many bytes an [`Encoded`] list takes without asking for memory: with a header, names and a short context.
const SHORT_BYTES_MAX: usize = 256;

/// An encoded list that is needed for a moment.
pub struct Encoded(Held);

#[allow(clippy::large_enum_variant)] // on the stack, and not for long
enum Held {
    Short([u8; SHORT_BYTES_MAX], usize),
    Long(Vec<u8>),
}

impl Encoded {
    /// As [`encode`] does it.
    pub fn of(parts: &[&[u8]]) -> Self {
        let length = parts.iter().map(|part| part.len() + LENGTH_BYTES).sum();
        let mut short = [0; SHORT_BYTES_MAX];
        let Some(mut room) = short.get_mut(..length) else { return Self(Held::Long(encode(parts))) };
        for part in parts {
            for bytes in [&length_of(part)[..], part] {
                let (place, rest) = room.split_at_mut(bytes.len());
                place.copy_from_slice(bytes);
                room = rest;
            }
        }
        Self(Held::Short(short, length))
    }
}

impl Deref for Encoded {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Held::Short(bytes, length) => &bytes[..*length],
            Held::Long(bytes) => bytes,
        }
    }
}

/// The bytes that say how long a part is.
pub const LENGTH_BYTES: usize = 8;

/// A part's length as it is encoded.
pub fn length_of(part: &[u8]) -> [u8; LENGTH_BYTES] {
    // A usize has at most 64 bits on every platform that Rust supports.
    (part.len() as u64).to_be_bytes()
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::{Encoded, SHORT_BYTES_MAX, encode, hex};

    fn encode_all(parts: &[Vec<u8>]) -> Vec<u8> {
        encode(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    proptest! {
        #[test]
        fn lists_that_differ_encode_differently(
            a in vec(vec(0u8..3, 0..4), 0..4),
            b in vec(vec(0u8..3, 0..4), 0..4),
        ) {
            prop_assert_eq!(a == b, encode_all(&a) == encode_all(&b));
        }
    }

    #[test]
    fn a_list_that_is_needed_for_a_moment_is_encoded_alike() {
        for length in [0, 1, SHORT_BYTES_MAX - 17, SHORT_BYTES_MAX - 16, SHORT_BYTES_MAX - 15, 1_000] {
            let part = vec![7; length];
            assert_eq!(*Encoded::of(&[b"", &part]), encode(&[b"", &part]), "{length}");
        }
    }

    #[test]
    fn moving_a_boundary_changes_the_encoding() {
        assert_ne!(encode(&[b"ab", b"c"]), encode(&[b"a", b"bc"]));
        assert_ne!(encode(&[b"ab"]), encode(&[b"ab", b""]));
        assert_eq!(hex(&[0x0f, 0xa0]), "0fa0");
        assert_eq!(encode(&[b"a"]), [0, 0, 0, 0, 0, 0, 0, 1, b'a']);
    }
}
