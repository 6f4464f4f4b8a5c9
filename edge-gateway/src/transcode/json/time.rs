//! Times as RFC 3339 writes them, in UTC, with 0, 3, 6 or 9 digits of a second as ProtoJSON has it.
//!
//! A payment's answer has several; the general formatter costs more than the rest of the message.

use prost_types::Timestamp;

const DAY_S: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01, in the proleptic Gregorian calendar.
const EPOCH_DAYS: i64 = 719_468;
/// Days in the 400 years after which the calendar repeats.
const ERA_DAYS: i64 = 146_097;

/// Appends the time in quotes; answers false where it is outside the years 1 to 9999.
pub(super) fn put(out: &mut Vec<u8>, time: Timestamp) -> bool {
    let Ok(nanos @ 0..1_000_000_000) = u32::try_from(time.nanos) else { return false };
    if !(-62_135_596_800..=253_402_300_799).contains(&time.seconds) {
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
    if nanos > 0 {
        out.push(b'.');
        match (nanos % 1_000_000, nanos % 1_000) {
            (0, _) => digits(out, i64::from(nanos / 1_000_000), 3),
            (_, 0) => digits(out, i64::from(nanos / 1_000), 6),
            _ => digits(out, i64::from(nanos), 9),
        }
    }
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
            prop_assert_eq!(String::from_utf8(out).unwrap(), format!("\"{time}\""));
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
