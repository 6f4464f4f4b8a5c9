//! `cargo xtask`: the tasks of this workspace: its tests, lints, benchmarks, and the servers they need.
//!
//! Compiled first on a bare machine, so it stands on the standard library and `clap` alone, and on
//! nothing of ours.

mod certificate;
mod conformance;
mod error;
mod fuzz;
mod guard;
mod openapi;
mod process;
mod servers;
mod steps;
mod tidy;
mod tools;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Error;

/// Everything that is done to this workspace beside building it.
///
/// `cargo xtask test` is what the CI runs: when it passes, a change is ready.
#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    after_help = "\
Examples:
  cargo xtask test                            everything that the CI runs
  cargo xtask test --only clippy              one step of it
  cargo xtask test --only tests -- -p money   the tests of one crate, with the servers they need
  cargo xtask servers -- cargo test -p mesh   the same by hand
  cargo xtask servers                         start the servers and keep them until Ctrl-C
  cargo xtask conformance                     OpenAPI, schemathesis, h2spec and testssl.sh on a running mesh
  cargo xtask fuzz                            look for inputs that break a decoder
  cargo xtask bench -- --quick                every criterion benchmark, quickly
  cargo xtask help test                       more about one task"
)]
struct Cli {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    Test(steps::TestArgs),
    /// Format check, tidy and clippy: what `test` does before it builds any test
    Lint,
    Bench(steps::BenchArgs),
    /// Read the sources and the lock file for what the compiler does not check
    ///
    /// Each finding names its file, its line and the rule. The rules are in xtask/src/tidy.
    Tidy,
    Servers(servers::ServersArgs),
    Conformance(conformance::ConformanceArgs),
    Fuzz(fuzz::FuzzArgs),
    Deny(steps::DenyArgs),
}

fn main() -> ExitCode {
    let result = match Cli::parse().task {
        Task::Test(args) => steps::test(&args),
        Task::Lint => steps::lint(),
        Task::Bench(args) => steps::bench(&args),
        Task::Tidy => steps::tidy(),
        Task::Servers(args) => servers::run(&args),
        Task::Conformance(args) => conformance::run(&args),
        Task::Fuzz(args) => fuzz::run(&args),
        Task::Deny(args) => steps::deny(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Exit(code)) => ExitCode::from(code),
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_follows_the_dashes_reaches_cargo_test_unchanged() {
        let cli = Cli::try_parse_from([
            "xtask",
            "test",
            "--only",
            "tests",
            "--",
            "-p",
            "mesh",
            "--",
            "--nocapture",
        ])
        .unwrap();
        let Task::Test(args) = cli.task else { panic!("parsed as {cli:?}") };
        assert_eq!(args.cargo_test, ["-p", "mesh", "--", "--nocapture"]);
    }
}
