//! OpenMetrics, as the library writes it, in the older form that every scraper reads: Prometheus text 0.0.4.
//!
//! There a counter's family is named as its sample is, with `_total`, and there are no exemplars, units or
//! end marks. <https://prometheus.io/docs/instrumenting/exposition_formats/>

use std::fmt::Write as _;

/// The same samples as Prometheus text 0.0.4.
pub(super) fn prometheus(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut help = None;
    for line in open_metrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            // The type, which follows, says what the family is called here.
            help = rest.split_once(' ');
        } else if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take().filter(|(of, _)| *of == name) {
                let _ = writeln!(text, "# HELP {name}{suffix} {help}");
            }
            let kind = if kind == "unknown" { "untyped" } else { kind };
            let _ = writeln!(text, "# TYPE {name}{suffix} {kind}");
        } else if !line.starts_with('#') {
            text.push_str(without_exemplar(line));
            text.push('\n');
        }
    }
    text
}

/// A sample up to its exemplar. A `#` within the quotes of a label's value is none.
fn without_exemplar(sample: &str) -> &str {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in sample.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'#' if !quoted => return sample[..at].trim_end(),
            _ => {}
        }
    }
    sample
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_named_as_its_samples_and_exemplars_are_left_out() {
        let open_metrics = "# HELP a_b Things.\n# TYPE a_b counter\n\
            a_b_total{x=\"q\\\"# {\"} 1 # {trace_id=\"abc\"} 1.0\n\
            # HELP t_seconds Time.\n# TYPE t_seconds histogram\n# UNIT t_seconds seconds\n\
            t_seconds_bucket{le=\"+Inf\"} 2 # {trace_id=\"abc\"} 0.5\n# EOF\n";
        let expected = "# HELP a_b_total Things.\n# TYPE a_b_total counter\n\
            a_b_total{x=\"q\\\"# {\"} 1\n\
            # HELP t_seconds Time.\n# TYPE t_seconds histogram\n\
            t_seconds_bucket{le=\"+Inf\"} 2\n";
        assert_eq!(prometheus(open_metrics), expected);
    }
}
