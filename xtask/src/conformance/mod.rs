//! `cargo xtask conformance`: what others wrote to judge an HTTP API, let loose on a running mesh.
//!
//! Each judge is a program of its own, installed once below `target/tools`; here is only which ones, how
//! they are called, and what of their verdict counts.

mod mesh;
mod tools;

use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::process::{shown, succeeds_watched};
use mesh::Mesh;
use tools::Tools;

/// Fewer generated requests than this say too little.
const CASES_MIN: u64 = 10_000;
/// What h2spec asks that does not hold here, each with its reason.
const H2SPEC_EXCUSED: [(&str, &str); 2] = [
    (
        "Sends invalid connection preface",
        "a plain port speaks HTTP/1.1 too, and answers as HTTP/1.1 what is not the preface of HTTP/2",
    ),
    (
        "Sends multiple WINDOW_UPDATE frames increasing the flow control window to above 2^31-1 on a stream",
        "the stream may be answered and closed before the second frame, which is then of no stream",
    ),
];

/// Let the judges of others loose on a running mesh: OpenAPI, schemathesis, h2spec
///
/// A mesh of its own is started in a temporary directory and stopped afterwards. The judges are
/// installed once, below target/tools: openapi-spec-validator and schemathesis from PyPI, h2spec from
/// the Go module proxy. Nothing is sent anywhere but to the mesh.
#[derive(Debug, Args)]
pub(crate) struct ConformanceArgs {
    /// Only this judge; may be given several times
    #[arg(long, value_enum, value_name = "JUDGE")]
    only: Vec<Judge>,
    /// How many requests schemathesis makes up for each operation, at most
    #[arg(long, default_value_t = 400, value_name = "NUMBER")]
    examples: u32,
    /// How long schemathesis may go on, in seconds
    #[arg(long, default_value_t = 240, value_name = "SECONDS")]
    seconds: u32,
    /// From which all its requests follow; another one finds other things
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
}

impl Default for ConformanceArgs {
    fn default() -> Self {
        Self { only: Vec::new(), examples: 400, seconds: 240, seed: 1 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Judge {
    /// Whether `/openapi.json` is valid OpenAPI 3.1
    Openapi,
    /// Requests made up from it, right ones and wrong ones: no 5xx, nothing invalid accepted, no answer
    /// that it does not describe
    Schemathesis,
    /// RFC 9113 and RFC 7541, on the edge's plain port
    H2spec,
}

/// Runs the judges; the first that is not content fails the task after all have been heard.
pub(crate) fn run(args: &ConformanceArgs) -> Result<(), Error> {
    let judges: Vec<Judge> = Judge::value_variants()
        .iter()
        .copied()
        .filter(|judge| args.only.is_empty() || args.only.contains(judge))
        .collect();
    let tools = Tools::install(&judges)?;
    let mesh = Mesh::start()?;
    let mut failed = Vec::new();
    for judge in judges {
        let verdict = match judge {
            Judge::Openapi => openapi(&tools, &mesh)?,
            Judge::Schemathesis => schemathesis(&tools, &mesh, args)?,
            Judge::H2spec => h2spec(&tools, &mesh)?,
        };
        let name = judge.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        match verdict {
            Ok(said) => println!("── {name}: passed: {said}"),
            Err(said) => {
                println!("── {name}: FAILED: {said}");
                failed.push(("conformance", format!("cargo xtask conformance --only {name}")));
            }
        }
    }
    drop(mesh);
    if failed.is_empty() { Ok(()) } else { Err(Error::Steps(failed)) }
}

/// What a judge says in the end.
type Verdict = Result<String, String>;

fn openapi(tools: &Tools, mesh: &Mesh) -> Result<Verdict, Error> {
    let document = mesh.write("openapi.json", &mesh.get("/openapi.json")?)?;
    let mut command = Command::new(tools.python("openapi-spec-validator"));
    command.args(["--schema", "3.1"]).arg(document);
    let (passed, said) = listen(&mut command)?;
    Ok(if passed { Ok("valid OpenAPI 3.1".to_owned()) } else { Err(last_line(&said)) })
}

fn schemathesis(tools: &Tools, mesh: &Mesh, args: &ConformanceArgs) -> Result<Verdict, Error> {
    let mut command = Command::new(tools.python("schemathesis"));
    command
        .arg("run")
        .arg(format!("{}/openapi.json", mesh.url))
        // A request can be of the right form and be refused all the same: a card that has expired, a key
        // that was used before, a payment that does not exist.
        .args(["--checks", "all", "--exclude-checks", "positive_data_acceptance"])
        .args(["--mode", "all", "--continue-on-failure", "--no-shrink", "--workers", "2"])
        .args(["--max-examples", &args.examples.to_string(), "--max-time", &args.seconds.to_string()])
        .args(["--seed", &args.seed.to_string(), "--request-timeout", "35", "--warnings", "off"])
        .args(["--header", &format!("Authorization: Bearer {}", mesh.api_key)])
        .current_dir(&mesh.directory);
    let (passed, said) = listen(&mut command)?;
    let cases = said.iter().find_map(|line| generated(line)).unwrap_or(0);
    Ok(if !passed {
        Err(format!("{cases} requests, with findings"))
    } else if cases < CASES_MIN && args.seconds >= ConformanceArgs::default().seconds {
        Err(format!("only {cases} requests, and it takes {CASES_MIN} to say anything"))
    } else {
        Ok(format!("{cases} requests, no finding"))
    })
}

/// 17318 of `  17318 generated, 11 found 11 unique failures, 14 skipped`.
fn generated(line: &str) -> Option<u64> {
    let (number, rest) = line.trim().split_once(' ')?;
    rest.starts_with("generated").then(|| number.replace(',', "").parse().ok())?
}

fn h2spec(tools: &Tools, mesh: &Mesh) -> Result<Verdict, Error> {
    let Some((host, port)) = mesh.address().split_once(':') else {
        return Ok(Err(format!("the edge's address is {}", mesh.url)));
    };
    let mut command = Command::new(tools.binary("h2spec"));
    command.args(["--host", host, "--port", port, "--path", "/healthz", "--timeout", "5"]);
    let (_, said) = listen(&mut command)?;
    let Some(summary) = said.iter().rev().find(|line| line.contains(" tests, ")) else {
        return Ok(Err(last_line(&said)));
    };
    // The failures are told once more at the end, after this word.
    let failures = said.iter().skip_while(|line| !line.starts_with("Failures:"));
    let unexcused: Vec<&str> = failures
        .filter_map(|line| line.trim().strip_prefix("× "))
        .filter(|line| !H2SPEC_EXCUSED.iter().any(|(excused, _)| line.ends_with(excused)))
        .collect();
    for (excused, reason) in H2SPEC_EXCUSED {
        println!("   excused: {excused}: {reason}");
    }
    Ok(if unexcused.is_empty() { Ok(summary.clone()) } else { Err(unexcused.join("; ")) })
}

/// Runs a judge, shows what it says, and keeps the lines.
fn listen(command: &mut Command) -> Result<(bool, Vec<String>), Error> {
    let (sender, lines) = std::sync::mpsc::channel();
    command.stdin(Stdio::null());
    println!("── {}", shown(command));
    let passed = succeeds_watched(command, move |line| {
        let _ = sender.send(line.to_owned());
    })?;
    Ok((passed, lines.into_iter().collect()))
}

fn last_line(lines: &[String]) -> String {
    let line = lines.iter().rev().find(|line| !line.trim().is_empty());
    line.cloned().unwrap_or_else(|| "it said nothing".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_requests_is_read() {
        assert_eq!(generated("  17318 generated, 11 found 11 unique failures"), Some(17_318));
        assert_eq!(generated("  9,001 generated, 9,001 passed"), Some(9_001));
        assert_eq!(generated("Test cases:"), None);
    }
}
