//! Banking days: the days on which the Federal Reserve Banks settle, and what is counted in them.

use crate::code::ReturnCode;
use crate::date::{Date, Weekday};

/// Whether the Federal Reserve Banks settle on that day: no weekend, and none of their holidays.
///
/// Juneteenth is one since 2021. A holiday on a Sunday is kept on the Monday after it; one on a Saturday takes no
/// other day (Federal Reserve, Holiday Schedules).
pub fn is_banking_day(date: Date) -> bool {
    !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday) && !is_holiday(date)
}

/// The first banking day after that day. Nothing where the century ends before it.
pub fn next_banking_day(date: Date) -> Option<Date> {
    let mut next = date.next()?;
    while !is_banking_day(next) {
        next = next.next()?;
    }
    Some(next)
}

/// That day where it is a banking day, and otherwise the next one.
pub fn banking_day_from(date: Date) -> Option<Date> {
    if is_banking_day(date) { Some(date) } else { next_banking_day(date) }
}

/// So many banking days after that day; with 0 that day, whatever it is.
pub fn plus_banking_days(date: Date, days: u16) -> Option<Date> {
    (0..days).try_fold(date, |date, _| next_banking_day(date))
}

/// Within which time a return has to be made available to the ODFI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeFrame {
    /// By the opening of business on the second banking day after the settlement of the entry.
    TwoBankingDays,
    /// By the opening of business on the banking day after the sixtieth calendar day after its settlement: consumers'
    /// claims that a debit was not authorized.
    SixtyDays,
    /// Within five banking days of the return's settlement: how long the ODFI may dishonor it.
    FiveBankingDays,
    /// None that is counted from the settlement: by agreement with the ODFI, from a notice of the receiver, or by
    /// rules for kinds of entries that this crate does not write.
    Open,
}

/// The last day on which something settled on `settlement` may come back in that frame; nothing for
/// [`TimeFrame::Open`], or where the century ends before.
pub fn return_deadline(settlement: Date, frame: TimeFrame) -> Option<Date> {
    match frame {
        TimeFrame::TwoBankingDays => plus_banking_days(settlement, 2),
        TimeFrame::SixtyDays => next_banking_day(settlement.plus_days(60)?),
        TimeFrame::FiveBankingDays => plus_banking_days(settlement, 5),
        TimeFrame::Open => None,
    }
}

/// The last day on which something settled on `settlement` may come back for that reason.
pub fn return_deadline_of(settlement: Date, code: ReturnCode) -> Option<Date> {
    return_deadline(settlement, code.time_frame())
}

fn is_holiday(date: Date) -> bool {
    let (month, day, weekday) = (date.month(), date.day(), date.weekday());
    let monday = weekday == Weekday::Monday;
    // On its day, or on the Monday after a Sunday.
    let fixed =
        |of_month: u8, of_day: u8| month == of_month && (day == of_day || (monday && day == of_day + 1));
    // The n-th such day of the month.
    let nth = |n: u8| day.div_ceil(7) == n;
    match month {
        1 => fixed(1, 1) || (monday && nth(3)),
        2 => monday && nth(3),
        5 => monday && day > 24,
        6 => date.year() >= 2021 && fixed(6, 19),
        7 => fixed(7, 4),
        9 => monday && nth(1),
        10 => monday && nth(2),
        11 => fixed(11, 11) || (weekday == Weekday::Thursday && nth(4)),
        12 => fixed(12, 25),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date(year: u16, month: u8, day: u8) -> Date {
        Date::new(year, month, day).unwrap()
    }

    /// The Federal Reserve's published schedule, without the holidays that fall on a Saturday and are not kept.
    #[test]
    fn the_published_holidays_are_kept() {
        let published: [(u16, &[(u8, u8)]); 3] = [
            (
                2025,
                &[
                    (1, 1),
                    (1, 20),
                    (2, 17),
                    (5, 26),
                    (6, 19),
                    (7, 4),
                    (9, 1),
                    (10, 13),
                    (11, 11),
                    (11, 27),
                    (12, 25),
                ],
            ),
            (
                2026,
                &[(1, 1), (1, 19), (2, 16), (5, 25), (6, 19), (9, 7), (10, 12), (11, 11), (11, 26), (12, 25)],
            ),
            (2027, &[(1, 1), (1, 18), (2, 15), (5, 31), (7, 5), (9, 6), (10, 11), (11, 11), (11, 25)]),
        ];
        for (year, holidays) in published {
            let mut found = Vec::new();
            let mut day = date(year, 1, 1);
            while day.year() == year {
                if !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday) && !is_banking_day(day) {
                    found.push((day.month(), day.day()));
                }
                day = day.next().unwrap();
            }
            assert_eq!(found, holidays, "{year}");
        }
        assert!(is_banking_day(date(2020, 6, 19)), "Juneteenth was none yet");
        assert!(is_banking_day(date(2021, 12, 31)), "a Saturday's holiday does not move to Friday");
    }

    #[test]
    fn banking_days_are_counted_over_weekends_and_holidays() {
        // Wednesday before Thanksgiving.
        let wednesday = date(2026, 11, 25);
        assert_eq!(next_banking_day(wednesday), Some(date(2026, 11, 27)));
        assert_eq!(plus_banking_days(wednesday, 2), Some(date(2026, 11, 30)));
        assert_eq!(plus_banking_days(date(2026, 11, 28), 0), Some(date(2026, 11, 28)));
        assert_eq!(banking_day_from(date(2026, 11, 28)), Some(date(2026, 11, 30)));
        assert_eq!(banking_day_from(wednesday), Some(wednesday));
        assert_eq!(next_banking_day(Date::MAX), None);
    }

    #[test]
    fn a_return_has_a_deadline() {
        let settled = date(2026, 11, 20);
        assert_eq!(return_deadline_of(settled, ReturnCode::R01), Some(date(2026, 11, 24)));
        // The sixtieth day is 2027-01-19, the day after Martin Luther King's.
        assert_eq!(return_deadline_of(settled, ReturnCode::R10), Some(date(2027, 1, 20)));
        assert_eq!(return_deadline_of(settled, ReturnCode::R68), Some(date(2026, 11, 30)));
        assert_eq!(return_deadline_of(settled, ReturnCode::R06), None);
        assert_eq!(return_deadline(Date::MAX, TimeFrame::TwoBankingDays), None);
    }
}
