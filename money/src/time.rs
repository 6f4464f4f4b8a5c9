//! A point in time, as a plain number: domain code receives it and never asks for it.

use serde::{Deserialize, Serialize};

/// Nanoseconds since the Unix epoch, UTC. Covers the years 1677 to 2262.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(i64);

const NANOS_PER_SECOND: i64 = 1_000_000_000;

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From nanoseconds since the epoch.
    pub const fn from_nanos(nanos: i64) -> Self {
        Self(nanos)
    }

    /// From whole seconds since the epoch; saturates at the ends of the range.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(NANOS_PER_SECOND))
    }

    /// Nanoseconds since the epoch.
    pub const fn as_nanos(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn as_seconds(self) -> i64 {
        self.0.div_euclid(NANOS_PER_SECOND)
    }

    /// The nanoseconds within the second, 0 to 999,999,999.
    pub const fn subsec_nanos(self) -> i32 {
        // The remainder of a division by 10⁹ fits 32 bits.
        #[allow(clippy::cast_possible_truncation)]
        let nanos = self.0.rem_euclid(NANOS_PER_SECOND) as i32;
        nanos
    }

    /// This long after; `None` beyond the range.
    pub const fn checked_add_nanos(self, nanos: i64) -> Option<Self> {
        match self.0.checked_add(nanos) {
            Some(sum) => Some(Self(sum)),
            None => None,
        }
    }

    /// This many seconds after; `None` beyond the range.
    pub const fn checked_add_seconds(self, seconds: i64) -> Option<Self> {
        match seconds.checked_mul(NANOS_PER_SECOND) {
            Some(nanos) => self.checked_add_nanos(nanos),
            None => None,
        }
    }

    /// Nanoseconds from `earlier` to this, negative if it is later; saturates.
    pub const fn nanos_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_nanos_agree_on_both_sides_of_the_epoch() {
        let before = Timestamp::from_nanos(-1);
        assert_eq!((before.as_seconds(), before.subsec_nanos()), (-1, 999_999_999));
        let after = Timestamp::from_nanos(1_500_000_000);
        assert_eq!((after.as_seconds(), after.subsec_nanos()), (1, 500_000_000));
        assert_eq!(Timestamp::from_nanos(i64::MAX).checked_add_nanos(1), None);
        assert_eq!(Timestamp::EPOCH.checked_add_seconds(i64::MAX), None);
    }
}
