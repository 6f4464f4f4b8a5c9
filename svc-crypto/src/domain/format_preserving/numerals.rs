//! The numbers that FF1 reckons with, for the crate `fpe`: a text's halves as numbers of 128 bits, which
//! are wiped when they are dropped. The crate's own are of any size, and are left behind in memory.

use fpe::ff1::{NumeralString, Operations};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// A text as the values of its characters, the most significant first.
pub(super) struct Numerals {
    radix: u8,
    values: Zeroizing<Vec<u8>>,
}

/// Half of a text, as a number below radix^count, which is at most 2¹²⁰.
#[derive(Zeroize, ZeroizeOnDrop)]
pub(super) struct Half {
    radix: u8,
    count: usize,
    number: u128,
}

impl Numerals {
    pub(super) fn new(radix: u8, values: Zeroizing<Vec<u8>>) -> Self {
        Self { radix, values }
    }

    pub(super) fn values(&self) -> &[u8] {
        &self.values
    }
}

impl NumeralString for Numerals {
    type Ops = Half;

    fn is_valid(&self, radix: u32) -> bool {
        u32::from(self.radix) == radix && self.values.iter().all(|value| *value < self.radix)
    }

    fn numeral_count(&self) -> usize {
        self.values.len()
    }

    fn split(&self) -> (Half, Half) {
        let (front, back) = self.values.split_at(self.values.len() / 2);
        (Half::of(self.radix, front), Half::of(self.radix, back))
    }

    fn concat(front: Half, back: Half) -> Self {
        let mut values = Zeroizing::new(vec![0; front.count + back.count]);
        let (room_in_front, room_behind) = values.split_at_mut(front.count);
        front.write(room_in_front);
        back.write(room_behind);
        Self { radix: front.radix, values }
    }
}

impl Half {
    fn of(radix: u8, values: &[u8]) -> Self {
        let number = values
            .iter()
            .fold(0, |number: u128, value| number.wrapping_mul(radix.into()).wrapping_add((*value).into()));
        Self { radix, count: values.len(), number }
    }

    fn write(&self, values: &mut [u8]) {
        let radix = u128::from(self.radix).max(2);
        let mut rest = self.number;
        for value in values.iter_mut().rev() {
            // Below the radix, which is a byte.
            *value = u8::try_from(rest % radix).unwrap_or_default();
            rest /= radix;
        }
        rest.zeroize();
    }

    /// The number modulo radix^count.
    fn with(&self, count: usize, number: impl FnOnce(u128) -> u128) -> Self {
        let modulus = (0..count).fold(1, |power: u128, _| power.wrapping_mul(self.radix.into())).max(1);
        Self { radix: self.radix, count, number: number(modulus) % modulus }
    }
}

/// A number of up to 20 bytes, big endian, modulo one of at most 2¹²⁰.
fn reduce(bytes: impl Iterator<Item = u8>, modulus: u128) -> u128 {
    bytes.fold(0, |rest, byte| ((rest << 8) | u128::from(byte)) % modulus)
}

impl Operations for Half {
    type Bytes = Zeroizing<Vec<u8>>;

    fn numeral_count(&self) -> usize {
        self.count
    }

    fn to_be_bytes(&self, _: u32, length: usize) -> Self::Bytes {
        let bytes = Zeroizing::new(self.number.to_be_bytes());
        let mut padded = Zeroizing::new(vec![0; length]);
        for (to, from) in padded.iter_mut().rev().zip(bytes.iter().rev()) {
            *to = *from;
        }
        padded
    }

    fn add_mod_exp(self, other: impl Iterator<Item = u8>, _: u32, count: usize) -> Self {
        self.with(count, |modulus| self.number % modulus + reduce(other, modulus))
    }

    fn sub_mod_exp(self, other: impl Iterator<Item = u8>, _: u32, count: usize) -> Self {
        self.with(count, |modulus| self.number % modulus + modulus - reduce(other, modulus))
    }
}
