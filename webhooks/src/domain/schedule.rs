//! When a delivery is tried again.

use money::Timestamp;

/// How long after the attempt before each attempt is made, in seconds (Standard Webhooks 1.0.0, "Retries"): ten
/// attempts over three days and four hours.
pub const DELAYS_S: [u32; ATTEMPTS_SCHEDULED as usize] =
    [0, 5, 5 * 60, 30 * 60, 2 * H, 5 * H, 10 * H, 14 * H, 20 * H, 24 * H];
/// How many attempts that are.
pub const ATTEMPTS_SCHEDULED: u32 = 10;
const H: u32 = 3_600;
/// The longest that a receiver can put the next attempt off by `Retry-After`, in seconds.
pub const RETRY_AFTER_S_MAX: u32 = 24 * H;
/// The most that is added to a delay by chance, as a part of it: a fifth. A receiver that comes back is not met by all
/// deliveries in the same second.
const JITTER_PART: u64 = 5;
const NANOS: u64 = 1_000_000_000;

/// When the next attempt is made, after `made` of the schedule; `None` when they are all made. `chance` is any number,
/// each as likely. A receiver's `Retry-After` (seconds) can only make it later than the schedule says, and by no more
/// than a day.
pub fn next_attempt(made: u32, now: Timestamp, chance: u32, retry_after_s: Option<u32>) -> Option<Timestamp> {
    let delay = u64::from(*DELAYS_S.get(usize::try_from(made).ok()?)?) * NANOS;
    let jitter = (u128::from(delay / JITTER_PART) * u128::from(chance)) >> 32;
    let asked = u64::from(retry_after_s.unwrap_or(0).min(RETRY_AFTER_S_MAX)) * NANOS;
    let wait = i64::try_from((u128::from(delay) + jitter).max(asked.into())).ok()?;
    now.checked_add_nanos(wait)
}

/// The seconds of a `Retry-After` header (RFC 9110, section 10.2.3), which is a number of them or a date; `None` where
/// it is neither. A date that is past is 0.
pub fn retry_after_s(value: &str, now: Timestamp) -> Option<u32> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        // More digits than fit are a long time.
        return Some(value.parse().unwrap_or(u32::MAX));
    }
    let date = httpdate::parse_http_date(value).ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_secs();
    let seconds = i64::try_from(date).ok()?.saturating_sub(now.as_seconds()).max(0);
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT

    fn wait(made: u32, chance: u32, retry_after: Option<u32>) -> Option<i64> {
        Some(next_attempt(made, NOW, chance, retry_after)?.nanos_since(NOW) / 1_000_000_000)
    }

    #[test]
    fn the_schedule_is_the_specifications() {
        let waits: Vec<_> = (0..11).map(|made| wait(made, 0, None)).collect();
        let expected = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400].map(Some);
        assert_eq!(waits, [&expected[..], &[None]].concat());
        assert_eq!((wait(2, u32::MAX, None), wait(9, u32::MAX, None)), (Some(359), Some(103_679)));
        assert_eq!(wait(u32::MAX, 0, None), None);
    }

    #[test]
    fn a_receiver_can_put_it_off_and_not_bring_it_forward() {
        assert_eq!(wait(1, 0, Some(60)), Some(60));
        assert_eq!(wait(3, 0, Some(60)), Some(1_800));
        assert_eq!(wait(3, 0, Some(0)), Some(1_800));
        assert_eq!(wait(1, 0, Some(u32::MAX)), Some(86_400));
        assert_eq!(wait(10, 0, Some(60)), None, "not beyond the schedule's end");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (value, expected) in [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("99999999999999999999", Some(u32::MAX)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
            ("Sunday, 06-Nov-94 08:49:47 GMT", Some(10)),
            ("Sun Nov  6 08:49:38 1994", Some(1)),
            ("Sun, 06 Nov 1994 08:49:36 GMT", Some(0)),
            ("Fri, 31 Dec 9999 23:59:59 GMT", Some(u32::MAX)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ] {
            assert_eq!(retry_after_s(value, NOW), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn an_attempt_is_never_early_and_at_most_a_fifth_or_a_day_late(
            made in 0..10_u32, chance: u32, asked in proptest::option::of(any::<u32>()),
        ) {
            let wait = next_attempt(made, NOW, chance, asked).unwrap().nanos_since(NOW);
            let delay = i64::from(DELAYS_S[made as usize]) * 1_000_000_000;
            let latest = (delay + delay / 5).max(i64::from(asked.unwrap_or(0).min(86_400)) * 1_000_000_000);
            prop_assert!((delay..=latest).contains(&wait), "{wait}");
        }

        #[test]
        fn any_text_is_read_or_not(text in ".{0,40}") {
            retry_after_s(&text, NOW);
        }
    }
}
