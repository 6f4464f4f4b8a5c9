//! Categories and rates.

use std::{fmt, str::FromStr};

use rust_decimal::Decimal;

/// How a line is taxed; the VAT categories of EN 16931 (BT-151) that are offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Category {
    /// `S`, at the jurisdiction's standard rate.
    Standard,
    /// `S`, at the jurisdiction's reduced rate.
    Reduced,
    /// `Z`: taxable, at nought.
    ZeroRated,
    /// `E`: not taxable.
    Exempt,
}

/// A tax rate in percent: 0 to 100, with up to 4 decimals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Rate(Decimal);

impl Rate {
    /// Nought percent.
    pub const ZERO: Self = Self(Decimal::ZERO);

    const DECIMALS_MAX: u32 = 4;

    /// The percentage.
    pub fn percent(self) -> Decimal {
        self.0
    }

    /// The tax within one unit as an exact fraction: of a price without tax p/100, of a price with tax
    /// p/(100 + p). The numerator is at most 10⁶, the denominator at most 2 × 10⁶.
    pub(super) fn fraction(self, of_gross: bool) -> Fraction {
        let numerator = self.0.mantissa();
        let hundred = 100 * 10_i128.pow(self.0.scale());
        Fraction { numerator, denominator: if of_gross { hundred + numerator } else { hundred } }
    }
}

impl FromStr for Rate {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str =
            "a rate must be a percentage of 0 to 100 with at most 4 decimals, such as \"7.25\"";
        let percent = Decimal::from_str_exact(text).map_err(|_| WRONG)?.normalize();
        let legal = percent >= Decimal::ZERO
            && percent <= Decimal::ONE_HUNDRED
            && percent.scale() <= Self::DECIMALS_MAX;
        if legal { Ok(Self(percent)) } else { Err(WRONG) }
    }
}

impl fmt::Display for Rate {
    /// As the contract shows it: `19`, `7.25`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A non-negative fraction. Integers, because of a price with tax the tax is a quotient that no decimal
/// holds exactly, and shares are compared by their remainders.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    /// The fraction of `amount`, rounded half away from zero. `amount` is at least 0 and below 2⁶³, so
    /// that nothing here comes near the range of 128 bits.
    pub(super) fn rounded(self, amount: i64) -> i64 {
        let twice = 2 * i128::from(amount) * self.numerator + self.denominator;
        narrow(twice.div_euclid(2 * self.denominator))
    }

    /// The fraction of `amount`, rounded down, and what is left over, to be compared with other
    /// left-overs of the same fraction.
    pub(super) fn floored(self, amount: i64) -> (i64, i128) {
        let exact = i128::from(amount) * self.numerator;
        (narrow(exact.div_euclid(self.denominator)), exact.rem_euclid(self.denominator))
    }
}

/// A fraction is at most 1, so that what comes of an amount fits where the amount fitted.
fn narrow(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rust_decimal::RoundingStrategy::MidpointAwayFromZero;

    use super::*;

    #[test]
    fn rates_are_shown_without_needless_zeros() {
        let right = [
            ("19", "19"),
            ("19.00", "19"),
            ("7.250", "7.25"),
            ("0", "0"),
            ("100", "100"),
            ("0.0001", "0.0001"),
        ];
        for (text, shown) in right {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), shown);
        }
        for wrong in ["", "-1", "100.1", "0.00001", "19%", "1e1", "NaN", " 19"] {
            assert!(wrong.parse::<Rate>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_half_is_rounded_away_from_zero() {
        let rate = |text: &str| text.parse::<Rate>().unwrap();
        // 1.50 at 7 % is 10.5 cents; half to even would say 10.
        assert_eq!(rate("7").fraction(false).rounded(150), 11);
        assert_eq!(rate("7").fraction(false).rounded(50), 4);
        // 2.99 with 4 % in it: 11.5 cents of tax.
        assert_eq!(rate("4").fraction(true).rounded(299), 12);
    }

    proptest! {
        /// The integers agree with decimal arithmetic.
        #[test]
        fn rounding_agrees_with_decimals(
            amount in 0..=money::AMOUNT_MAX,
            ten_thousandths in 0_i64..=1_000_000,
        ) {
            let percent = Decimal::new(ten_thousandths, 4);
            let rate: Rate = percent.to_string().parse().unwrap();
            let exact = Decimal::from(amount) * percent;
            let of = |base: Decimal| (exact / base).round_dp_with_strategy(0, MidpointAwayFromZero);
            prop_assert_eq!(Decimal::from(rate.fraction(false).rounded(amount)), of(Decimal::ONE_HUNDRED));
            let gross = Decimal::ONE_HUNDRED + percent;
            prop_assert_eq!(Decimal::from(rate.fraction(true).rounded(amount)), of(gross));
        }
    }
}
