//! A day of the calendar, as the files write it.

use std::fmt;

/// A day between 2000-01-01 and 2099-12-31: what `YYMMDD` can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Date {
    year: u16,
    month: u8,
    day: u8,
}

/// A day of the week.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // their names say all
pub enum Weekday {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

impl Date {
    /// The first day that can be written.
    pub const MIN: Self = Self { year: 2000, month: 1, day: 1 };
    /// The last day that can be written.
    pub const MAX: Self = Self { year: 2099, month: 12, day: 31 };

    /// Nothing for a day that is not in the calendar, or not in this century.
    pub const fn new(year: u16, month: u8, day: u8) -> Option<Self> {
        if year < Self::MIN.year || year > Self::MAX.year || day == 0 || day > days_in(year, month) {
            return None;
        }
        Some(Self { year, month, day })
    }

    /// The year, in full.
    pub const fn year(self) -> u16 {
        self.year
    }

    /// The month, from 1.
    pub const fn month(self) -> u8 {
        self.month
    }

    /// The day of the month, from 1.
    pub const fn day(self) -> u8 {
        self.day
    }

    /// Which day of the week it is.
    pub const fn weekday(self) -> Weekday {
        // 2000-01-01 was a Saturday.
        match (self.since_min() + 5) % 7 {
            0 => Weekday::Monday,
            1 => Weekday::Tuesday,
            2 => Weekday::Wednesday,
            3 => Weekday::Thursday,
            4 => Weekday::Friday,
            5 => Weekday::Saturday,
            _ => Weekday::Sunday,
        }
    }

    /// The day of the year, from 1: how a settlement date is written.
    pub const fn day_of_year(self) -> u16 {
        let mut days = self.day as u16;
        let mut month = 1;
        while month < self.month {
            days += days_in(self.year, month) as u16;
            month += 1;
        }
        days
    }

    /// The day after. Nothing after [`Date::MAX`].
    pub const fn next(self) -> Option<Self> {
        if self.day < days_in(self.year, self.month) {
            return Some(Self { day: self.day + 1, ..self });
        }
        if self.month < 12 {
            return Some(Self { month: self.month + 1, day: 1, ..self });
        }
        Self::new(self.year + 1, 1, 1)
    }

    /// So many days later. Nothing after [`Date::MAX`].
    pub fn plus_days(self, days: u16) -> Option<Self> {
        (0..days).try_fold(self, |date, _| date.next())
    }

    const fn since_min(self) -> u32 {
        let years = (self.year - Self::MIN.year) as u32;
        // All years that divide by 4 are leap years from 2000 to 2099.
        years * 365 + years.div_ceil(4) + self.day_of_year() as u32 - 1
    }

    /// `YYMMDD`.
    pub(crate) fn written(self) -> String {
        format!("{:02}{:02}{:02}", self.year % 100, self.month, self.day)
    }

    /// Of `YYMMDD`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let number = digits(text, 6)?;
        let part = |divisor: u64| u8::try_from(number / divisor % 100).ok();
        Self::new(2000 + u16::from(part(10_000)?), part(100)?, part(1)?)
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}-{:02}", self.year, self.month, self.day)
    }
}

/// A time of day, to the minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    hour: u8,
    minute: u8,
}

impl Time {
    /// Nothing for a time that is not on a clock of 24 hours.
    pub const fn new(hour: u8, minute: u8) -> Option<Self> {
        if hour < 24 && minute < 60 { Some(Self { hour, minute }) } else { None }
    }

    /// The hour, up to 23.
    pub const fn hour(self) -> u8 {
        self.hour
    }

    /// The minute, up to 59.
    pub const fn minute(self) -> u8 {
        self.minute
    }

    /// `HHMM`.
    pub(crate) fn written(self) -> String {
        format!("{:02}{:02}", self.hour, self.minute)
    }

    /// Of `HHMM`.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let number = u16::try_from(digits(text, 4)?).ok()?;
        Self::new(u8::try_from(number / 100).ok()?, u8::try_from(number % 100).ok()?)
    }
}

/// The number that exactly so many digits are.
pub(crate) fn digits(text: &str, length: usize) -> Option<u64> {
    if text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().ok()
    } else {
        None
    }
}

/// Nothing where there is no such month.
const fn days_in(year: u16, month: u8) -> u8 {
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) => 29,
        2 => 28,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_do_not_exist_are_none() {
        assert!(Date::new(2023, 2, 29).is_none() && Date::new(2024, 2, 29).is_some());
        for (year, month, day) in
            [(1999, 12, 31), (2100, 1, 1), (2024, 0, 1), (2024, 13, 1), (2024, 4, 31), (2024, 4, 0)]
        {
            assert_eq!(Date::new(year, month, day), None);
        }
        assert!(Time::new(24, 0).is_none() && Time::new(0, 60).is_none() && Time::new(23, 59).is_some());
    }

    #[test]
    fn the_weekday_is_that_of_the_calendar() {
        for ((year, month, day), weekday) in [
            ((2000, 1, 1), Weekday::Saturday),
            ((2000, 3, 1), Weekday::Wednesday),
            ((2024, 2, 29), Weekday::Thursday),
            ((2026, 11, 22), Weekday::Sunday),
            ((2099, 12, 31), Weekday::Thursday),
        ] {
            assert_eq!(Date::new(year, month, day).unwrap().weekday(), weekday);
        }
    }

    #[test]
    fn the_days_of_a_century_follow_one_another() {
        let (mut date, mut count) = (Date::MIN, 0);
        while let Some(next) = date.next() {
            count += 1;
            assert!(next > date && next.since_min() == count);
            assert_eq!(Date::read(&next.written()), Some(next));
            date = next;
        }
        assert_eq!((date, date.day_of_year(), count), (Date::MAX, 365, 36_524));
    }
}
