//! A calendar day, for when a rate holds.

use std::{fmt, str::FromStr};

use money::Timestamp;

/// A day of the proleptic Gregorian calendar, in UTC.
///
/// Jurisdictions change their rates at midnight of their own time; this calendar does so at midnight
/// UTC, at most 12 hours apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Day {
    year: i32,
    month: u8,
    of_month: u8,
}

const SECONDS_PER_DAY: i64 = 86_400;

fn is_leap(year: i32) -> bool {
    (year % 4 == 0 && year % 100 != 0) || year % 400 == 0
}

fn days_in_month(year: i32, month: u8) -> u8 {
    match month {
        2 => 28 + u8::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

impl Day {
    /// The day that this time is in.
    pub fn of(time: Timestamp) -> Self {
        let days = time.as_seconds().div_euclid(SECONDS_PER_DAY);
        // A timestamp is within 1677 and 2262, a few hundred years from the epoch: counting them is
        // quick and plain.
        let (mut year, mut left) = (1970_i32, days);
        let length = |year| if is_leap(year) { 366 } else { 365 };
        while left < 0 {
            year -= 1;
            left += length(year);
        }
        while left >= length(year) {
            left -= length(year);
            year += 1;
        }
        let mut month = 1;
        while left >= i64::from(days_in_month(year, month)) {
            left -= i64::from(days_in_month(year, month));
            month += 1;
        }
        Self { year, month, of_month: u8::try_from(left + 1).unwrap_or(31) }
    }

    /// The day after.
    #[must_use]
    pub fn next(self) -> Self {
        let Self { year, month, of_month } = self;
        if of_month < days_in_month(year, month) {
            Self { of_month: of_month + 1, ..self }
        } else if month < 12 {
            Self { year, month: month + 1, of_month: 1 }
        } else {
            Self { year: year + 1, month: 1, of_month: 1 }
        }
    }
}

impl FromStr for Day {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "a day must be a date such as 2026-01-31";
        let digits = |part: &str, length: usize| {
            let right = part.len() == length && part.bytes().all(|b| b.is_ascii_digit());
            if right { part.parse::<u16>().map_err(|_| WRONG) } else { Err(WRONG) }
        };
        let [year, month, of_month] = text.split('-').collect::<Vec<_>>()[..] else { return Err(WRONG) };
        let year = i32::from(digits(year, 4)?);
        let month = u8::try_from(digits(month, 2)?).map_err(|_| WRONG)?;
        let of_month = u8::try_from(digits(of_month, 2)?).map_err(|_| WRONG)?;
        if (1..=12).contains(&month) && (1..=days_in_month(year, month)).contains(&of_month) {
            Ok(Self { year, month, of_month })
        } else {
            Err(WRONG)
        }
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.of_month)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_those_of_the_calendar() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (951_782_399, "2000-02-28"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_609_459_199, "2020-12-31"),
            (1_609_459_200, "2021-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(Day::of(Timestamp::from_seconds(seconds)).to_string(), day);
        }
    }

    #[test]
    fn each_day_is_the_next_of_the_one_before() {
        let mut day = Day::of(Timestamp::from_seconds(-40_000 * SECONDS_PER_DAY));
        for n in -39_999..40_000 {
            day = day.next();
            assert_eq!(day, Day::of(Timestamp::from_seconds(n * SECONDS_PER_DAY)));
            assert_eq!(day.to_string().parse(), Ok(day));
        }
    }

    #[test]
    fn what_is_no_date_is_refused() {
        for wrong in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-01",
            "2026-02-29",
            "2026-1-1",
            "26-01-01",
            "2026-01-01-01",
            "2026-01-+1",
        ] {
            assert!(wrong.parse::<Day>().is_err(), "{wrong}");
        }
    }
}
