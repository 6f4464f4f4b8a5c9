//! What was measured, and how it is printed.
#![allow(clippy::float_arithmetic, reason = "rates and ratios for people; no amount is computed here")]

use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer latencies are counted as this long: the run is broken anyway.
const LATENCY_US_MAX: u64 = 120_000_000;

/// An empty histogram of µs up to [`LATENCY_US_MAX`], three significant digits.
pub(crate) fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, 3).unwrap_or_else(|_| unreachable!("the bounds are legal"))
}

/// Counts a duration.
pub(crate) fn add(histogram: &mut Histogram<u64>, time: Duration) {
    let us = u64::try_from(time.as_micros()).unwrap_or(LATENCY_US_MAX);
    histogram.saturating_record(us.clamp(1, LATENCY_US_MAX));
}

/// What one case came to.
#[derive(Debug, Clone)]
pub(crate) struct Figures {
    /// Latencies in µs of the requests that count.
    pub(crate) latencies_us: Histogram<u64>,
    /// How long those requests were counted.
    pub(crate) time: Duration,
    /// CPU time per request of all that ran in the measured process, where known.
    pub(crate) cpu_per_request: Option<Duration>,
}

impl Figures {
    /// Requests a second.
    pub(crate) fn rate(&self) -> f64 {
        let seconds = self.time.as_secs_f64();
        if seconds > 0.0 { self.latencies_us.len() as f64 / seconds } else { 0.0 }
    }

    /// The middle latency.
    fn p50(&self) -> Duration {
        Duration::from_micros(self.latencies_us.value_at_quantile(0.5))
    }

    /// Adds what another thread measured in the same time.
    pub(crate) fn merge(&mut self, other: &Self) {
        if self.latencies_us.add(&other.latencies_us).is_ok() {
            self.time = self.time.max(other.time);
        }
    }
}

/// CPU time shared out among requests.
pub(crate) fn per_request(
    before: Option<Duration>,
    after: Option<Duration>,
    requests: u64,
) -> Option<Duration> {
    let used = after?.checked_sub(before?)?;
    used.checked_div(u32::try_from(requests).ok().filter(|requests| *requests > 0)?)
}

/// The head of the table whose rows [`row`] makes.
pub(crate) const HEAD: &str =
    "case                      req/s    p50 ms    p90 ms    p99 ms  p99.9 ms   CPU µs/req";

/// One case as a line of the table.
pub(crate) fn row(name: &str, figures: &Figures) -> String {
    let ms = |quantile| figures.latencies_us.value_at_quantile(quantile) as f64 / 1_000.0;
    let cpu = figures
        .cpu_per_request
        .map_or_else(|| "-".to_owned(), |cpu| format!("{:.1}", cpu.as_nanos() as f64 / 1_000.0));
    format!(
        "{name:20} {rate:>10} {p50:9.2} {p90:9.2} {p99:9.2} {p999:9.2} {cpu:>12}",
        rate = grouped(figures.rate()),
        p50 = ms(0.5),
        p90 = ms(0.9),
        p99 = ms(0.99),
        p999 = ms(0.999),
    )
}

/// One case beside the one that is its limit, round by round: what else the machine does then burdens both.
/// The middle of the rates' ratios, and of those of CPU time where known; and the least CPU time of all rounds
/// of each, as others only ever add to it.
pub(crate) fn ratios(part: &[Figures], whole: &[Figures]) -> String {
    let times = |part: Option<Duration>, whole: Option<Duration>| {
        let (part, whole) = (part?, whole?);
        (!whole.is_zero()).then(|| part.as_secs_f64() / whole.as_secs_f64())
    };
    let pairs = part.iter().zip(whole);
    let typical =
        middle(pairs.filter_map(|(part, whole)| times(part.cpu_per_request, whole.cpu_per_request)));
    let least = |rounds: &[Figures]| rounds.iter().filter_map(|round| round.cpu_per_request).min();
    let cpu = match (typical, times(least(part), least(whole))) {
        (Some(typical), Some(least)) => {
            format!(", CPU per request {typical:.2} times (its least {least:.2} times the other's)")
        }
        _ => String::new(),
    };
    format!("{} of the rate{cpu}", ratio(part, whole))
}

/// The rate of one case as a part of another's, as in [`ratios`].
pub(crate) fn ratio(part: &[Figures], whole: &[Figures]) -> String {
    let pairs = part.iter().zip(whole).filter(|(_, whole)| whole.rate() > 0.0);
    middle(pairs.map(|(part, whole)| part.rate() / whole.rate()))
        .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"))
}

/// The middle one of some values; the upper one of an even number.
pub(crate) fn middle(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

/// The middle latency of one case as a part of another's, as in [`ratios`].
pub(crate) fn ratio_p50(part: &[Figures], whole: &[Figures]) -> String {
    let pairs = part.iter().zip(whole).filter(|(_, whole)| whole.p50() > Duration::ZERO);
    middle(pairs.map(|(part, whole)| part.p50().as_secs_f64() / whole.p50().as_secs_f64()))
        .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.3}"))
}

/// By how much one case's middle latency is above another's, as in [`ratios`].
pub(crate) fn added_p50(part: &[Figures], whole: &[Figures]) -> Option<Duration> {
    let pairs = part.iter().zip(whole);
    middle(pairs.map(|(part, whole)| part.p50().saturating_sub(whole.p50()).as_secs_f64()))
        .map(Duration::from_secs_f64)
}

/// Milliseconds at a quantile, for a sentence.
pub(crate) fn ms_at(histogram: &Histogram<u64>, quantile: f64) -> String {
    format!("{:.2} ms", histogram.value_at_quantile(quantile) as f64 / 1_000.0)
}

/// A rate with its thousands apart, and a decimal where it is small.
pub(crate) fn grouped(rate: f64) -> String {
    if rate < 1_000.0 {
        return format!("{rate:.1}");
    }
    let digits = format!("{rate:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(requests: u64, seconds: u64) -> Figures {
        let mut latencies_us = histogram();
        latencies_us.record_n(1_500, requests).unwrap();
        Figures { latencies_us, time: Duration::from_secs(seconds), cpu_per_request: None }
    }

    #[test]
    fn rates_and_ratios() {
        assert!((figures(1_000, 4).rate() - 250.0).abs() < 1e-9);
        assert_eq!(ratio(&[figures(300, 1)], &[figures(1_200, 1)]), "0.250");
        assert_eq!(ratio(&[figures(300, 1)], &[figures(0, 0)]), "-");
        assert_eq!(
            added_p50(&[figures(9, 1)], &[figures(0, 1)]).map(|added| added.as_micros() / 10),
            Some(150)
        );
        let rounds = [figures(10, 1), figures(900, 1), figures(30, 1)];
        assert_eq!(ratio(&rounds, &[figures(20, 1), figures(1_000, 1), figures(50, 1)]), "0.600");
        assert_eq!(ratio_p50(&[figures(300, 1)], &[figures(1, 1)]), "1.000");
        assert_eq!(ratio_p50(&[figures(300, 1)], &[figures(0, 1)]), "-");
    }

    #[test]
    fn the_least_cpu_time_of_each_is_compared_too() {
        let rounds = |cpu_us: [u64; 3]| {
            cpu_us.map(|cpu_us| Figures {
                cpu_per_request: Some(Duration::from_micros(cpu_us)),
                ..figures(100, 1)
            })
        };
        let text = ratios(&rounds([30, 24, 12]), &rounds([15, 10, 10]));
        assert_eq!(text, "1.000 of the rate, CPU per request 2.00 times (its least 1.20 times the other's)");
    }

    #[test]
    fn a_row_stands_under_its_head() {
        let row = row("bare", &figures(123_456, 1));
        assert_eq!(row.chars().count(), HEAD.chars().count(), "{row}");
        assert!(row.contains("123,456") && row.contains("1.50"), "{row}");
    }

    #[test]
    fn thousands_stand_apart() {
        assert_eq!(grouped(999.94), "999.9");
        assert_eq!(grouped(1_000.0), "1,000");
        assert_eq!(grouped(1_234_567.0), "1,234,567");
    }

    #[test]
    fn latencies_beyond_measure_are_counted_as_the_longest() {
        let mut histogram = histogram();
        add(&mut histogram, Duration::MAX);
        add(&mut histogram, Duration::ZERO);
        assert_eq!((histogram.len(), histogram.min()), (2, 1));
        assert!(histogram.max() >= LATENCY_US_MAX);
    }

    #[test]
    fn cpu_time_is_shared_out_among_requests() {
        let seconds = |s| Some(Duration::from_secs(s));
        assert_eq!(per_request(seconds(1), seconds(3), 1_000), Some(Duration::from_millis(2)));
        assert_eq!(per_request(seconds(1), seconds(3), 0), None);
        assert_eq!(per_request(None, seconds(3), 1), None);
    }
}
