//! testssl.sh: protocols, ciphers, certificate, headers and known holes of the edge's TLS.

use std::path::Path;
use std::process::Command;

use super::{Verdict, listen};
use crate::error::Error;
use crate::tools;

/// What is at least of medium severity, and what could not be judged at all.
const FINDINGS: [&str; 5] = ["MEDIUM", "HIGH", "CRITICAL", "WARN", "FATAL"];
/// What it sometimes cannot judge (WARN), and that is no matter of the server: it ends its first connection at
/// once, often before a ticket has come that the second could show. `edge-gateway/tests/tls.rs` takes sessions up
/// again. A finding under these names counts as any other.
const EXCUSED_WARNINGS: [&str; 2] = ["sessionresumption_ticket", "sessionresumption_ID"];
/// Fewer results than this are no judgement; a whole run has well over a hundred.
const RESULTS_MIN: usize = 100;

/// One result, as it is reported.
#[derive(Debug, Default, PartialEq, Eq)]
struct Entry {
    id: String,
    severity: String,
    finding: String,
}

/// Judges the edge at this port of the loopback, whose certificate is for `localhost`.
pub(super) fn judge(port: u16, ca: &Path, directory: &Path) -> Result<Verdict, Error> {
    let report = directory.join("testssl.json");
    let mut command = Command::new(tools::testssl()?);
    // The path is one that is never compressed. Documents are, being the same for everyone, and BREACH
    // needs a secret beside what an attacker chose; see `edge-gateway/src/face`.
    //
    // All results are written and filtered here, so that a run that was broken off is not taken for one
    // without findings.
    command
        .args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none", "--ip", "127.0.0.1"])
        .arg("--add-ca")
        .arg(ca)
        .arg("--jsonfile")
        .arg(&report)
        .arg(format!("https://localhost:{port}/healthz"))
        .current_dir(directory);
    // Its exit code counts what it could not do; the report says that too.
    let _ = listen(&mut command)?;
    let report = std::fs::read_to_string(&report).map_err(Error::io(format!("read {}", report.display())))?;
    Ok(verdict(&results(&report)))
}

fn verdict(results: &[Entry]) -> Verdict {
    let ended = results.iter().any(|result| result.id == "scanTime" && result.severity == "INFO");
    let found: Vec<String> = results
        .iter()
        .filter(|result| FINDINGS.contains(&result.severity.as_str()))
        .filter(|result| !(result.severity == "WARN" && EXCUSED_WARNINGS.contains(&result.id.as_str())))
        .map(|result| format!("{} {}: {}", result.severity, result.id, result.finding))
        .collect();
    if !found.is_empty() {
        Err(found.join("; "))
    } else if !ended || results.len() < RESULTS_MIN {
        Err(format!("it did not come to its end: {} results", results.len()))
    } else {
        Ok(format!("{} results, none of medium severity or above", results.len()))
    }
}

/// The results of a flat report: objects with one member a line, as testssl.sh writes them.
fn results(report: &str) -> Vec<Entry> {
    let mut all: Vec<Entry> = Vec::new();
    for line in report.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim().trim_end_matches(',').trim_matches('"').to_owned();
        match (name.trim().trim_matches('"'), all.last_mut()) {
            ("id", _) => all.push(Entry { id: value, ..Entry::default() }),
            ("severity", Some(last)) => last.severity = value,
            ("finding", Some(last)) => last.finding = value,
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(entries: &[(&str, &str)]) -> String {
        let object = |(id, severity): &(&str, &str)| {
            format!(
                "          {{\n               \"id\"           : \"{id}\",\n               \"ip\"           : \
                 \"localhost/127.0.0.1\",\n               \"severity\"     : \"{severity}\",\n               \
                 \"finding\"      : \"it is: so\"\n          }}\n"
            )
        };
        format!("[\n{}\n          ]\n", entries.iter().map(object).collect::<Vec<_>>().join(",\n"))
    }

    /// A run of its usual length with these entries among the others.
    fn judged(entries: &[(&str, &str)]) -> Verdict {
        let mut all = vec![("TLS1_3", "OK"); RESULTS_MIN];
        all.extend(entries);
        verdict(&results(&report(&all)))
    }

    #[test]
    fn every_result_is_read() {
        let entry = Entry { id: "HSTS".into(), severity: "LOW".into(), finding: "it is: so".into() };
        assert_eq!(
            results(&report(&[("HSTS", "LOW"), ("HSTS", "LOW")])),
            [entry, Entry { id: "HSTS".into(), severity: "LOW".into(), finding: "it is: so".into() }]
        );
        assert_eq!(results("[\n]\n"), []);
    }

    #[test]
    fn medium_and_above_is_a_finding_and_a_run_must_have_come_to_its_end() {
        let end = ("scanTime", "INFO");
        assert!(judged(&[("HSTS", "LOW"), end]).is_ok());
        for severity in FINDINGS {
            let said = judged(&[("HSTS", severity), end]).unwrap_err();
            assert_eq!(said, format!("{severity} HSTS: it is: so"));
        }
        assert!(judged(&[("sessionresumption_ticket", "WARN"), end]).is_ok());
        assert!(judged(&[("sessionresumption_ticket", "MEDIUM"), end]).is_err());
        assert!(judged(&[]).unwrap_err().starts_with("it did not come to its end"));
        assert!(judged(&[("scanTime", "WARN")]).is_err());
        assert!(verdict(&results(&report(&[end]))).is_err(), "too few");
    }
}
