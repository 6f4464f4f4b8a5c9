//! The rows of all rounds, and what they say of one another.
#![allow(clippy::float_arithmetic, reason = "rates for people; no amount is computed here")]

use hdrhistogram::Histogram;

use super::pgbench::Said;
use crate::report::{self, Figures};

/// What a call of a case carries.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unit {
    /// Transfers.
    pub(super) transfers: u32,
}

#[derive(Debug)]
struct Row {
    name: String,
    /// Transfers a second.
    rate: f64,
    /// Of calls; not known of what another program measured.
    figures: Option<Figures>,
}

/// All that was measured, in order.
#[derive(Debug, Default)]
pub(super) struct Table(Vec<Row>);

impl Table {
    /// Takes a row and says it. `sync_us` is what fdatasync took on its disk.
    pub(super) fn add(&mut self, name: &str, unit: Unit, figures: Figures, sync_us: Option<&Histogram<u64>>) {
        self.head();
        println!("{}", line(name, unit, &figures, sync_us));
        let rate = figures.rate() * f64::from(unit.transfers);
        self.0.push(Row { name: name.to_owned(), rate, figures: Some(figures) });
    }

    /// Takes what another program measured, and says it.
    pub(super) fn add_said(&mut self, name: &str, said: Said) {
        self.head();
        let (rate, mean_ms) = (report::grouped(said.rate), said.latency_ms);
        println!("{name:24} {rate:>12} {rate:>12}   (mean {mean_ms:.2} ms)");
        self.0.push(Row { name: name.to_owned(), rate: said.rate, figures: None });
    }

    /// A case's figures, round by round.
    pub(super) fn rounds(&self, name: &str) -> Vec<Figures> {
        self.of(name).filter_map(|row| row.figures.clone()).collect()
    }

    /// Says what the columns are, before the first row.
    fn head(&self) {
        if self.0.is_empty() {
            println!("{HEAD}");
        }
    }

    fn of(&self, name: &str) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(move |row| row.name == name)
    }

    /// The most transfers a second of a case's rounds.
    pub(super) fn best(&self, name: &str) -> Option<f64> {
        self.of(name).map(|row| row.rate).max_by(f64::total_cmp)
    }

    /// How many times another case's transfers a second, round by round; the middle of that.
    pub(super) fn times(&self, part: &str, whole: &str) -> Option<f64> {
        let pairs = self.of(part).zip(self.of(whole)).filter(|(_, whole)| whole.rate > 0.0);
        report::middle(pairs.map(|(part, whole)| part.rate / whole.rate))
    }

    /// Says how two cases whose calls carry the same number of transfers compare, if both were measured.
    pub(super) fn compare(&self, part: &str, whole: &str, goal: &str) {
        let (of_part, of_whole) = (self.rounds(part), self.rounds(whole));
        if !of_part.is_empty() && !of_whole.is_empty() {
            println!("{part} / {whole}: {}{goal}", report::ratios(&of_part, &of_whole));
        }
    }
}

const HEAD: &str =
    "case                      transfers/s      calls/s    p50 ms    p99 ms  CPU µs/transfer  sync p50 ms";

fn line(name: &str, unit: Unit, figures: &Figures, sync_us: Option<&Histogram<u64>>) -> String {
    let ms = |histogram: &Histogram<u64>, quantile| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    let cpu = figures.cpu_per_request.map_or_else(
        || "-".to_owned(),
        |cpu| format!("{:.2}", cpu.as_nanos() as f64 / 1_000.0 / f64::from(unit.transfers)),
    );
    let sync = sync_us.map_or_else(|| "-".to_owned(), |sync| format!("{:.2}", ms(sync, 0.5)));
    format!(
        "{name:24} {transfers:>12} {calls:>12} {p50:9.2} {p99:9.2} {cpu:>16} {sync:>12}",
        transfers = report::grouped(figures.rate() * f64::from(unit.transfers)),
        calls = report::grouped(figures.rate()),
        p50 = ms(&figures.latencies_us, 0.5),
        p99 = ms(&figures.latencies_us, 0.99),
    )
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn figures(calls: u64) -> Figures {
        let mut latencies_us = report::histogram();
        latencies_us.record_n(1_500, calls).unwrap();
        let (time, cpu_per_request) = (Duration::from_secs(1), Some(Duration::from_micros(500)));
        Figures { latencies_us, time, cpu_per_request }
    }

    #[test]
    fn a_line_stands_under_its_head_and_counts_transfers() {
        let line = line("batch x 4", Unit { transfers: 100 }, &figures(200), None);
        assert_eq!(line.chars().count(), HEAD.chars().count(), "{line}");
        assert!(line.contains("20,000") && line.contains(" 5.00 "), "{line}");
    }

    #[test]
    fn the_best_round_is_the_one_with_most_transfers() {
        let mut table = Table::default();
        for calls in [100, 300, 200] {
            table.add("batch", Unit { transfers: 10 }, figures(calls), None);
        }
        assert_eq!(table.best("batch").map(f64::round), Some(3_000.0));
        assert_eq!(table.best("unary"), None);
        for rate in [500.0, 1_000.0, 1_000.0] {
            table.add_said("pgbench", Said { rate, latency_ms: 1.0 });
        }
        assert_eq!(table.times("batch", "pgbench").map(f64::round), Some(2.0));
        assert_eq!(table.times("pgbench", "unary"), None);
    }
}
