//! A root key in shares: any `k` of `n` give it back, and fewer say nothing of it (A. Shamir, How to share a secret,
//! CACM 22, 1979).
//!
//! Each byte of the key is the constant term of a polynomial of degree `k - 1` over GF(2⁸), modulo
//! x⁸ + x⁴ + x³ + x + 1 (the field of AES, FIPS 197, section 4); the other coefficients are random. A share is the
//! polynomials' values at its number. The arithmetic has no table and no branch that depends on a secret.
//!
//! A share as text is `pms1-` and this in lower-case hexadecimal:
//!
//! | bytes | field     | content                                                                    |
//! |------:|-----------|----------------------------------------------------------------------------|
//! |    16 | root      | the id of the root key that it is of, see [`super::keys::root`]           |
//! |     4 | set       | random, the same in all shares that were made together                     |
//! |     1 | threshold | how many are needed, 2 to 255                                              |
//! |     1 | number    | which it is, 1 to 255                                                      |
//! |    32 | values    | of the polynomials                                                         |
//! |     8 | checksum  | the first bytes of SHA-256 over a label and all before: against slips      |
//!
//! The checksum is no signature. Whether the key is the right one is seen when it is put together: its id says so.

use std::fmt;

use ring::digest;
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{
    canonical, keys,
    secret::{KEY_BYTES, KeyBytes},
};

const PREFIX: &str = "pms1-";
const CHECKSUM_LABEL: &[u8] = b"paymesh root share 1";
const CHECKSUM_BYTES: usize = 8;
/// How many random bytes say which shares were made together.
pub const SET_BYTES: usize = 4;
const VALUES_AT: usize = 16 + SET_BYTES + 2;
const CHECKSUM_AT: usize = VALUES_AT + KEY_BYTES;
const SHARE_BYTES: usize = CHECKSUM_AT + CHECKSUM_BYTES;

/// One of the shares of a root key. Wiped when dropped; `Debug` shows no content.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Share {
    #[zeroize(skip)]
    root: Uuid,
    set: [u8; SET_BYTES],
    threshold: u8,
    number: u8,
    values: [u8; KEY_BYTES],
}

/// Why a key cannot be split so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a key is split into 2 to 255 shares, of which at least 2 and at most all are needed")]
pub struct SplitError;

/// Why a share, or shares together, cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ShareError {
    /// It is no share, or was mistyped.
    #[error("is no share of a root key, or not copied whole")]
    Text,
    /// It is of another key.
    #[error("is a share of another root key")]
    OtherRoot,
    /// The right number of shares gave another key: one of them was made up.
    #[error("the shares together are not the root key")]
    NotTheKey,
}

impl Share {
    /// Reads the text of a share.
    pub fn parse(text: &str) -> Result<Self, ShareError> {
        let digits = text.trim().strip_prefix(PREFIX).ok_or(ShareError::Text)?;
        let mut bytes = Zeroizing::new([0; SHARE_BYTES]);
        // One spelling: the library would also take capitals, and a sign in the place of a digit.
        if digits.len() != 2 * SHARE_BYTES
            || !digits.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        {
            return Err(ShareError::Text);
        }
        for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| ShareError::Text)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| ShareError::Text)?;
        }
        let (content, checksum) = bytes.split_at(CHECKSUM_AT);
        if checksum != checksum_of(content) {
            return Err(ShareError::Text);
        }
        let (head, values) = content.split_at(VALUES_AT);
        let field = |at: usize| head.get(at).copied().unwrap_or_default();
        let share = Self {
            root: head.get(..16).and_then(|id| Uuid::from_slice(id).ok()).ok_or(ShareError::Text)?,
            set: [field(16), field(17), field(18), field(19)],
            threshold: field(20),
            number: field(21),
            values: values.try_into().map_err(|_| ShareError::Text)?,
        };
        if share.threshold < 2 || share.number == 0 { Err(ShareError::Text) } else { Ok(share) }
    }

    /// The text, to be given to who keeps it.
    pub fn to_text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(SHARE_BYTES));
        bytes.extend_from_slice(self.root.as_bytes());
        bytes.extend_from_slice(&self.set);
        bytes.extend_from_slice(&[self.threshold, self.number]);
        bytes.extend_from_slice(&self.values);
        let checksum = checksum_of(&bytes);
        bytes.extend_from_slice(&checksum);
        let digits = Zeroizing::new(canonical::hex(&bytes));
        Zeroizing::new([PREFIX, digits.as_str()].concat())
    }

    /// Which root key it is of.
    pub fn root(&self) -> Uuid {
        self.root
    }

    /// How many are needed.
    pub fn threshold(&self) -> u8 {
        self.threshold
    }

    /// Which it is.
    pub fn number(&self) -> u8 {
        self.number
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} of {}, redacted)", self.number, self.root)
    }
}

fn checksum_of(content: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash = digest::digest(&digest::SHA256, &canonical::encode(&[CHECKSUM_LABEL, content]));
    let mut checksum = [0; CHECKSUM_BYTES];
    checksum.iter_mut().zip(hash.as_ref()).for_each(|(to, from)| *to = *from);
    checksum
}

/// How many random bytes a split needs; `None` for numbers that cannot be.
fn random_bytes(threshold: u8, count: u8) -> Option<usize> {
    (threshold >= 2 && threshold <= count).then(|| KEY_BYTES * (usize::from(threshold) - 1))
}

/// Splits a root key into `count` shares, of which `threshold` are needed. `random` fills a buffer with random bytes
/// from a cryptographic generator.
///
/// # Errors
/// [`SplitError`], or what `random` fails with.
pub fn split<E: From<SplitError>>(
    key: &KeyBytes,
    threshold: u8,
    count: u8,
    mut random: impl FnMut(&mut [u8]) -> Result<(), E>,
) -> Result<Vec<Share>, E> {
    let needed = random_bytes(threshold, count).ok_or(SplitError)?;
    let mut coefficients = Zeroizing::new(vec![0; needed]);
    random(&mut coefficients)?;
    let mut set = [0; SET_BYTES];
    random(&mut set)?;
    let root = keys::root(key).id;
    let share = |number: u8| {
        let mut values = [0; KEY_BYTES];
        // From the highest coefficient down (Horner).
        for terms in coefficients.chunks(KEY_BYTES).rev().chain([&key.expose()[..]]) {
            for (value, term) in values.iter_mut().zip(terms) {
                *value = multiply(*value, number) ^ term;
            }
        }
        let share = Share { root, set, threshold, number, values };
        values.zeroize();
        share
    };
    Ok((1..=count).map(share).collect())
}

/// Of how many sets shares are gathered at the same time; with one more the first is let go of.
const SETS_MAX: usize = 8;

/// Shares as they come in, until there are enough of a set. A key may have been split more than once, and whoever
/// gives a share of a set that is no longer in use keeps nobody from giving those of another.
#[derive(Debug, Default)]
pub struct Gathered(Vec<Vec<Share>>);

/// What came of a share.
#[derive(Debug)]
pub enum Taken {
    /// More are needed.
    One {
        /// How many different ones there are of its set.
        of_its_set: usize,
    },
    /// It was the last that was needed: the key.
    Last(KeyBytes),
}

impl Gathered {
    /// None yet.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Takes a share of the key of this id, and puts the key together if it is the last that was needed. Afterwards
    /// there is none of its set, whatever came of it.
    ///
    /// # Errors
    /// Where it is not of this key; nothing is changed then. [`ShareError::NotTheKey`] where enough of them do not
    /// give the key.
    pub fn add(&mut self, share: Share, root: Uuid) -> Result<Taken, ShareError> {
        if share.root != root {
            return Err(ShareError::OtherRoot);
        }
        let needed = usize::from(share.threshold);
        let is_its = |set: &Vec<Share>| {
            set.first().is_some_and(|first| (first.set, first.threshold) == (share.set, share.threshold))
        };
        let mut set = match self.0.iter().position(is_its) {
            Some(at) => self.0.remove(at),
            None => Vec::new(),
        };
        set.retain(|known| known.number != share.number);
        set.push(share);
        if set.len() < needed {
            let of_its_set = set.len();
            self.0.push(set);
            if self.0.len() > SETS_MAX {
                self.0.remove(0);
            }
            return Ok(Taken::One { of_its_set });
        }
        let key = combine(&set);
        if keys::root(&key).id == root { Ok(Taken::Last(key)) } else { Err(ShareError::NotTheKey) }
    }
}

/// The polynomials' values at zero (Lagrange). The shares' numbers differ, and are no secret.
fn combine(shares: &[Share]) -> KeyBytes {
    let mut key = [0; KEY_BYTES];
    for share in shares {
        let others = shares.iter().filter(|other| other.number != share.number);
        // In this field subtracting is adding: x / (x - own).
        let factor = others.fold(1, |factor, other| {
            multiply(factor, multiply(other.number, inverse(other.number ^ share.number)))
        });
        for (byte, value) in key.iter_mut().zip(&share.values) {
            *byte ^= multiply(*value, factor);
        }
    }
    KeyBytes::take(&mut key)
}

/// In GF(2⁸), in constant time: eight times the shifted first factor, masked by a bit of the second.
fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product) = (a, 0);
    for bit in 0..8 {
        product ^= a & mask(b >> bit);
        a = (a << 1) ^ (0x1b & mask(a >> 7));
    }
    product
}

/// All ones where the last bit is one, else zero.
fn mask(bit: u8) -> u8 {
    (bit & 1).wrapping_neg()
}

/// a²⁵⁴, which is 1/a, and 0 of 0.
fn inverse(a: u8) -> u8 {
    // 254 is 11111110 in binary.
    let (mut power, mut inverse) = (a, 1);
    for _ in 0..7 {
        power = multiply(power, power);
        inverse = multiply(inverse, power);
    }
    inverse
}

#[cfg(test)]
mod tests;
