//! `cargo xtask conformance`: what others wrote to judge an HTTP API, let loose on a running mesh.
//!
//! Each judge is a program of its own, installed once below `target/tools`; here is only which ones, how
//! they are called, and what of their verdict counts.

mod h2spec;
mod mesh;
mod testssl;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::process::{shown, succeeds_watched};
use crate::{openapi, tools};
use mesh::Mesh;

/// Fewer generated requests than this say too little.
const CASES_MIN: u64 = 10_000;

/// Let the judges of others loose on a running mesh: OpenAPI, schemathesis, h2spec, testssl.sh
///
/// A mesh of its own is started in a temporary directory and stopped afterwards; for h2spec-tls and
/// testssl its edge also takes TLS, with a certificate that openssl makes. The judges are installed once:
/// below target/tools openapi-spec-validator and schemathesis from PyPI and h2spec from the Go module
/// proxy, and testssl.sh as the system's package. Nothing is sent anywhere but to the mesh.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask conformance                                    all judges
  cargo xtask conformance --only h2spec-tls --only testssl   the edge's TLS alone")]
pub(crate) struct ConformanceArgs {
    /// Only this judge; may be given several times
    #[arg(long, value_enum, value_name = "JUDGE")]
    only: Vec<Judge>,
    /// How many requests schemathesis makes up for each operation, at most
    #[arg(long, default_value_t = 400, value_name = "NUMBER")]
    examples: u32,
    /// How long schemathesis may go on, in seconds
    #[arg(long, default_value_t = 480, value_name = "SECONDS")]
    seconds: u32,
    /// From which all its requests follow; another one finds other things
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
}

impl Default for ConformanceArgs {
    fn default() -> Self {
        Self { only: Vec::new(), examples: 400, seconds: 480, seed: 1 }
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
    /// The same over TLS
    H2specTls,
    /// The edge's TLS: no finding of medium severity or above
    Testssl,
}

impl Judge {
    /// Its program, installed if need be.
    fn program(self) -> Result<PathBuf, Error> {
        match self {
            Self::Openapi => tools::openapi_validator(),
            Self::Schemathesis => tools::schemathesis(),
            Self::H2spec | Self::H2specTls => tools::h2spec(),
            Self::Testssl => tools::testssl(),
        }
    }

    const fn needs_tls(self) -> bool {
        matches!(self, Self::H2specTls | Self::Testssl)
    }
}

/// Runs the judges; the first that is not content fails the task after all have been heard.
pub(crate) fn run(args: &ConformanceArgs) -> Result<(), Error> {
    let judges: Vec<Judge> = Judge::value_variants()
        .iter()
        .copied()
        .filter(|judge| args.only.is_empty() || args.only.contains(judge))
        .collect();
    // Before anything runs for long: a program that cannot be had is told at once.
    for judge in &judges {
        judge.program()?;
    }
    let mesh = Mesh::start(judges.iter().any(|judge| judge.needs_tls()))?;
    let mut failed = Vec::new();
    for judge in judges {
        let verdict = match judge {
            Judge::Openapi => openapi(&mesh)?,
            Judge::Schemathesis => schemathesis(&mesh, args)?,
            Judge::H2spec => h2spec::judge(mesh.address(), false)?,
            Judge::H2specTls => h2spec::judge(&mesh.tls()?.address(), true)?,
            Judge::Testssl => {
                let tls = mesh.tls()?;
                testssl::judge(tls.port, &tls.certificate.ca, &mesh.directory)?
            }
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

fn openapi(mesh: &Mesh) -> Result<Verdict, Error> {
    let document = mesh.write("openapi.json", &mesh.get("/openapi.json")?)?;
    let valid = openapi::is_valid(&document)?;
    Ok(if valid {
        Ok("valid OpenAPI 3.1".to_owned())
    } else {
        Err("not valid; it says why above".to_owned())
    })
}

fn schemathesis(mesh: &Mesh, args: &ConformanceArgs) -> Result<Verdict, Error> {
    let mut command = Command::new(tools::schemathesis()?);
    command
        .arg("run")
        .arg(format!("{}/openapi.json", mesh.url))
        // A request can be of the right form and be refused all the same: a card that has expired, a key
        // that was used before, a payment that does not exist.
        // A card has one token, and a key one answer: who stores a card that another has deleted since, under a key
        // that was used before, is given what was made then.
        .args(["--checks", "all"])
        .args(["--exclude-checks", "positive_data_acceptance,ensure_resource_availability"])
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
