//! Times as RFC 3339 writes them, in UTC, and durations in seconds, both with 0, 3, 6 or 9 digits of a
//! second; read strictly as ProtoJSON has it (`T` and `Z` in capitals, at most 9 digits).
//!
//! A payment's answer has several times; the general formatter costs more than the rest of the message.

use prost_types::{Duration, Timestamp};

const DAY_S: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01, in the proleptic Gregorian calendar.
const EPOCH_DAYS: i64 = 719_468;
/// Days in the 400 years after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// 0001-01-01T00:00:00Z to 9999-12-31T23:59:59Z (google/protobuf/timestamp.proto).
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;
/// About 10,000 years (google/protobuf/duration.proto).
const DURATION_S_MAX: u64 = 315_576_000_000;

/// Reads a time with its offset from UTC. A leap second is refused: the type has no room for it.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shape = b"0000-00-00T00:00:00";
    let (dated, rest) = bytes.split_at_checked(shape.len())?;
    let fits = |(byte, shape): (&u8, &u8)| if *shape == b'0' { byte.is_ascii_digit() } else { byte == shape };
    if !dated.iter().zip(shape).all(fits) {
        return None;
    }
    let number = |from: usize, to: usize| {
        dated[from..to].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let (nanos, zone) = fraction(std::str::from_utf8(rest).ok()?)?;
    let days = days(year, month, day);
    // What is no date comes back as another one.
    if (hour > 23 || minute > 59 || second > 59) || date(days) != (year, month, day) {
        return None;
    }
    let seconds = days * DAY_S + hour * 3_600 + minute * 60 + second - offset(zone)?;
    SECONDS.contains(&seconds).then_some(Timestamp { seconds, nanos })
}

/// `Z` or `+hh:mm`, in seconds.
fn offset(zone: &str) -> Option<i64> {
    if zone == "Z" {
        return Some(0);
    }
    let (sign, digits) = match zone.split_at_checked(1)? {
        ("+", digits) => (1, digits),
        ("-", digits) => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = digits.split_once(':')?;
    let two = |text: &str| {
        let plain = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    (hours < 24 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// An optional fraction of a second, in nanoseconds, and what comes after it.
fn fraction(text: &str) -> Option<(i32, &str)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((0, text)) };
    let end = rest.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(rest.len());
    if !(1..=9).contains(&end) {
        return None;
    }
    let digits: i32 = rest[..end].parse().ok()?;
    let places = u32::try_from(9 - end).ok()?;
    Some((digits * 10_i32.pow(places), &rest[end..]))
}

/// Reads a duration such as `-1.5s`.
pub(super) fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.strip_suffix('s')?;
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let sign = if unsigned.len() == text.len() { 1 } else { -1 };
    let end = unsigned.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(unsigned.len());
    let seconds: i64 = unsigned[..end].parse().ok()?;
    let (nanos, rest) = fraction(&unsigned[end..])?;
    let fits = rest.is_empty() && seconds.unsigned_abs() <= DURATION_S_MAX;
    fits.then_some(Duration { seconds: sign * seconds, nanos: nanos * i32::try_from(sign).ok()? })
}

/// Appends the duration in quotes; answers false where it is none: too long, or of two signs.
pub(super) fn put_duration(out: &mut Vec<u8>, duration: Duration) -> bool {
    let Duration { seconds, nanos } = duration;
    let two_signs = (seconds > 0 && nanos < 0) || (seconds < 0 && nanos > 0);
    if two_signs || seconds.unsigned_abs() > DURATION_S_MAX || nanos.unsigned_abs() >= 1_000_000_000 {
        return false;
    }
    out.push(b'"');
    if seconds < 0 || nanos < 0 {
        out.push(b'-');
    }
    out.extend_from_slice(seconds.unsigned_abs().to_string().as_bytes());
    put_fraction(out, nanos.unsigned_abs());
    out.extend_from_slice(b"s\"");
    true
}

/// Appends 0, 3, 6 or 9 digits of a second.
fn put_fraction(out: &mut Vec<u8>, nanos: u32) {
    if nanos > 0 {
        out.push(b'.');
        match (nanos % 1_000_000, nanos % 1_000) {
            (0, _) => digits(out, i64::from(nanos / 1_000_000), 3),
            (_, 0) => digits(out, i64::from(nanos / 1_000), 6),
            _ => digits(out, i64::from(nanos), 9),
        }
    }
}

/// Appends the time in quotes; answers false where it is outside the years 1 to 9999.
pub(super) fn put(out: &mut Vec<u8>, time: Timestamp) -> bool {
    let Ok(nanos @ 0..1_000_000_000) = u32::try_from(time.nanos) else { return false };
    if !SECONDS.contains(&time.seconds) {
        return false;
    }
    let (days, second) = (time.seconds.div_euclid(DAY_S), time.seconds.rem_euclid(DAY_S));
    let (year, month, day) = date(days);
    out.push(b'"');
    digits(out, year, 4);
    out.push(b'-');
    digits(out, month, 2);
    out.push(b'-');
    digits(out, day, 2);
    out.push(b'T');
    digits(out, second / 3_600, 2);
    out.push(b':');
    digits(out, second / 60 % 60, 2);
    out.push(b':');
    digits(out, second % 60, 2);
    put_fraction(out, nanos);
    out.extend_from_slice(b"Z\"");
    true
}

/// Year, month and day of a day counted from the epoch: years are counted from March, so that the
/// leap day is the last of its year (Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn date(days: i64) -> (i64, i64, i64) {
    let days = days + EPOCH_DAYS;
    let (era, of_era) = (days.div_euclid(ERA_DAYS), days.rem_euclid(ERA_DAYS));
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The inverse of [`date`]; for what is no date, the day that it would be.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let from_march = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * from_march + 2) / 5 + day - 1;
    let day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    era * ERA_DAYS + day_of_era - EPOCH_DAYS
}

fn digits(out: &mut Vec<u8>, value: i64, width: usize) {
    let (start, mut rest) = (out.len(), value);
    out.resize(start + width, b'0');
    for place in out[start..].iter_mut().rev() {
        *place = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]
        #[test]
        fn times_are_written_as_the_general_formatter_does(
            seconds in -62_135_596_800_i64..=253_402_300_799,
            nanos in 0..1_000_000_000,
            unit in prop_oneof![Just(1), Just(1_000), Just(1_000_000), Just(1_000_000_000)],
        ) {
            let time = Timestamp { seconds, nanos: nanos / unit * unit };
            let mut out = Vec::new();
            prop_assert!(put(&mut out, time));
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(&text, &format!("\"{time}\""));
            prop_assert_eq!(parse(text.trim_matches('"')), Some(time));
        }

        #[test]
        fn durations_come_back(seconds in -315_576_000_000_i64..=315_576_000_000, nanos in 0..1_000_000_000_i32) {
            let nanos = if seconds < 0 { -nanos } else { nanos };
            let mut out = Vec::new();
            let duration = Duration { seconds, nanos };
            prop_assert!(put_duration(&mut out, duration));
            let text = String::from_utf8(out).unwrap();
            prop_assert_eq!(parse_duration(text.trim_matches('"')), Some(duration));
        }

        #[test]
        fn any_text_is_a_time_or_none(text in "[0-9T:.Z+-]{0,40}") {
            let _ = (parse(&text), parse_duration(&text));
        }
    }

    #[test]
    fn the_edges_of_the_range() {
        let shown = |seconds, nanos| {
            let mut out = Vec::new();
            put(&mut out, Timestamp { seconds, nanos }).then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(shown(-62_135_596_800, 0).as_deref(), Some("\"0001-01-01T00:00:00Z\""));
        assert_eq!(
            shown(253_402_300_799, 999_999_999).as_deref(),
            Some("\"9999-12-31T23:59:59.999999999Z\"")
        );
        assert_eq!(shown(951_782_400, 0).as_deref(), Some("\"2000-02-29T00:00:00Z\""));
        assert_eq!(shown(253_402_300_800, 0), None);
        assert_eq!(shown(0, -1), None);
        assert_eq!(shown(0, 1_000_000_000), None);
    }
}
