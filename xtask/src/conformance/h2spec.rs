//! h2spec: RFC 9113 and RFC 7541, asked frame by frame.

use std::process::Command;

use super::{Verdict, last_line, listen};
use crate::error::Error;
use crate::tools;

/// What does not hold on a plain port, with its reason.
const EXCUSED_PLAIN: (&str, &str) = (
    "Sends invalid connection preface",
    "a plain port speaks HTTP/1.1 too, and answers as HTTP/1.1 what is not the preface of HTTP/2",
);
/// What does not hold on any.
const EXCUSED: (&str, &str) = (
    "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
    "the stream may be answered and closed before the second frame, which is then of no stream",
);

/// Judges the port of this address; with TLS, HTTP/2 is what ALPN comes to.
pub(super) fn judge(address: &str, tls: bool) -> Result<Verdict, Error> {
    let Some((host, port)) = address.split_once(':') else {
        return Ok(Err(format!("the edge's address is {address}")));
    };
    let mut command = Command::new(tools::h2spec()?);
    command.args(["--host", host, "--port", port, "--path", "/healthz", "--timeout", "5"]);
    if tls {
        command.args(["--tls", "--insecure"]);
    }
    let (_, said) = listen(&mut command)?;
    let Some(summary) = said.iter().rev().find(|line| line.contains(" tests, ")) else {
        return Ok(Err(last_line(&said)));
    };
    let excused = if tls { vec![EXCUSED] } else { vec![EXCUSED, EXCUSED_PLAIN] };
    for (excused, reason) in &excused {
        println!("   excused: {excused}: {reason}");
    }
    let unexcused = failures(&said, &excused);
    Ok(if unexcused.is_empty() { Ok(summary.clone()) } else { Err(unexcused.join("; ")) })
}

/// What failed and may not. The failures are told once more at the end, after a word.
fn failures<'a>(said: &'a [String], excused: &[(&str, &str)]) -> Vec<&'a str> {
    said.iter()
        .skip_while(|line| !line.starts_with("Failures:"))
        .filter_map(|line| line.trim().strip_prefix("× "))
        .filter(|line| !excused.iter().any(|(excused, _)| line.ends_with(excused)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_those_that_are_not_excused() {
        let said = [
            "  × 2: Sends invalid connection preface",
            "Failures: ",
            "        × 3: Sends a frame of no use",
            "          -> The endpoint MUST",
            "        × 2: Sends invalid connection preface",
        ];
        let said: Vec<String> = said.into_iter().map(str::to_owned).collect();
        assert_eq!(failures(&said, &[EXCUSED, EXCUSED_PLAIN]), ["3: Sends a frame of no use"]);
        assert_eq!(failures(&said, &[EXCUSED]).len(), 2);
        assert_eq!(failures(&said[..1], &[]), [""; 0]);
    }
}
