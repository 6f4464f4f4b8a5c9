//! The tasks that run `cargo`: test, lint, bench, deny. Each says what it runs before it runs it.

use std::fmt;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};

use crate::error::Error;
use crate::process::{answers, cargo, root, shown, succeeds, succeeds_watched};
use crate::{openapi, servers, tidy};

/// Run all that the CI runs: format, tidy, clippy, docs, tests
///
/// The steps run in this order and the first failure ends the run. Where rustup left rustfmt or clippy
/// out, it is asked for them. Servers that the tests need are
/// found or started first (see `cargo xtask help servers`) and stopped afterwards.
#[derive(Debug, Args)]
pub(crate) struct TestArgs {
    /// Run this step alone; may be given several times
    #[arg(long, value_enum, value_name = "STEP")]
    only: Vec<Step>,
    /// Go on after a failed step, and list all that failed at the end
    #[arg(long)]
    keep_going: bool,
    /// Arguments for `cargo test`, such as `-p money` or `-- --nocapture`
    #[arg(last = true, value_name = "CARGO_TEST_ARGS")]
    pub(crate) cargo_test: Vec<String>,
}

/// One step of `cargo xtask test`, in the order in which they run: what fails soonest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Step {
    /// `cargo fmt --all --check`
    Format,
    /// What the compiler does not check: see `cargo xtask help tidy`
    Tidy,
    /// `cargo clippy` on every target, warnings are errors
    Clippy,
    /// `cargo doc` of every crate, warnings are errors
    Docs,
    /// `cargo test` of every crate, documentation tests too
    Tests,
    /// The edge's OpenAPI document, by a validator from PyPI
    Openapi,
}

impl Step {
    const fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Tidy => "tidy",
            Self::Clippy => "clippy",
            Self::Docs => "docs",
            Self::Tests => "tests",
            Self::Openapi => "openapi",
        }
    }

    fn command(self, cargo_test: &[String]) -> Option<Command> {
        let mut command = cargo();
        match self {
            Self::Format => command.args(["fmt", "--all", "--check"]),
            Self::Tidy | Self::Openapi => return None,
            Self::Clippy => {
                command.args(["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
            }
            Self::Docs => {
                let flags = std::env::var("RUSTDOCFLAGS").unwrap_or_default();
                command.env("RUSTDOCFLAGS", format!("{flags} -D warnings").trim_start());
                command.args(["doc", "--no-deps", "--workspace", "--locked"])
            }
            Self::Tests => {
                command.args(["test", "--locked"]);
                if !names_packages(cargo_test) {
                    command.arg("--workspace");
                }
                command.args(cargo_test)
            }
        };
        Some(command)
    }

    /// The component that this step needs beside `cargo`, and its subcommand.
    const fn component(self) -> Option<Component> {
        match self {
            Self::Format => Some(Component { name: "rustfmt", subcommand: "fmt" }),
            Self::Clippy => Some(Component { name: "clippy", subcommand: "clippy" }),
            Self::Tidy | Self::Docs | Self::Tests | Self::Openapi => None,
        }
    }
}

/// A part of the toolchain that rustup's minimal profile leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Component {
    name: &'static str,
    subcommand: &'static str,
}

impl Component {
    fn is_there(self) -> bool {
        answers(cargo().args([self.subcommand, "--version"]))
    }
}

/// Sees to it that the toolchain has what the steps need: asks rustup for it, and says what to install
/// where that does not help.
fn check_tools(
    steps: &[Step],
    is_there: impl Fn(Component) -> bool,
    add: impl FnOnce(&[&'static str]) -> bool,
) -> Result<(), Error> {
    let mut missing: Vec<Component> = steps.iter().filter_map(|step| step.component()).collect();
    missing.retain(|component| !is_there(*component));
    let names: Vec<_> = missing.iter().map(|component| component.name).collect();
    // Where rustup succeeds, it may still have been for a toolchain that is not the one in use.
    if missing.is_empty() || (add(&names) && missing.iter().all(|component| is_there(*component))) {
        return Ok(());
    }
    Err(Error::Missing {
        program: names.join(" and "),
        install: format!("rustup component add {} (or your system's package of that name)", names.join(" ")),
    })
}

/// Adds components with rustup, if it is here.
fn rustup_adds(components: &[&'static str]) -> bool {
    if !answers(Command::new("rustup").arg("--version")) {
        return false;
    }
    let mut command = Command::new("rustup");
    command.args(["component", "add"]).args(components).current_dir(root()).stdin(Stdio::null());
    println!("── toolchain: {} missing: {}", components.join(" and "), shown(&command));
    succeeds(&mut command).unwrap_or(false)
}

/// Whether arguments for `cargo test` choose packages, so that `--workspace` would undo the choice.
fn names_packages(cargo_test: &[String]) -> bool {
    cargo_test
        .iter()
        .take_while(|argument| *argument != "--")
        .any(|argument| argument.starts_with("-p") || argument.starts_with("--package"))
}

/// `cargo xtask test`.
pub(crate) fn test(args: &TestArgs) -> Result<(), Error> {
    let steps: Vec<Step> = Step::value_variants()
        .iter()
        .copied()
        .filter(|step| args.only.is_empty() || args.only.contains(step))
        .collect();
    run(&steps, args.keep_going, &args.cargo_test)
}

/// `cargo xtask lint`.
pub(crate) fn lint() -> Result<(), Error> {
    run(&[Step::Format, Step::Tidy, Step::Clippy], true, &[])
}

fn run(steps: &[Step], keep_going: bool, cargo_test: &[String]) -> Result<(), Error> {
    check_tools(steps, Component::is_there, rustup_adds)?;
    // Before anything is built: a run that must fail for want of a server should do so at once.
    let servers = if steps.contains(&Step::Tests) { servers::obtain_all(None)? } else { Vec::new() };

    let tally = Arc::new(Mutex::new(Tally::default()));
    let mut done: Vec<(Step, bool, Duration)> = Vec::new();
    for step in steps.iter().copied() {
        let start = Instant::now();
        let passed = match step.command(cargo_test) {
            None if step == Step::Openapi => openapi::report()?,
            None => {
                println!("── {}", step.name());
                tidy::report()?
            }
            Some(mut command) => {
                if step == Step::Tests {
                    command.envs(servers.iter().map(|server| (server.variable, &server.address)));
                }
                println!("── {}: {}", step.name(), shown(&command));
                if step == Step::Tests {
                    let shared = Arc::clone(&tally);
                    succeeds_watched(&mut command, move |line| {
                        shared.lock().unwrap_or_else(PoisonError::into_inner).add(line);
                    })?
                } else {
                    succeeds(&mut command)?
                }
            }
        };
        let time = start.elapsed();
        println!("── {} {} in {:.1} s", step.name(), verdict(passed), time.as_secs_f64());
        done.push((step, passed, time));
        if !passed && !keep_going {
            break;
        }
    }
    drop(servers);
    let summary = summarize(steps, &done);
    if steps.contains(&Step::Tests) {
        println!("{}", tally.lock().unwrap_or_else(PoisonError::into_inner));
    }
    summary
}

/// What all test programs of a run said together.
#[derive(Debug, Default, PartialEq, Eq)]
struct Tally {
    passed: u64,
    failed: u64,
}

impl Tally {
    /// Counts a line such as `test result: ok. 12 passed; 0 failed; 0 ignored; …`; any other is nothing.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split(';') {
            let (number, kind) = count.trim().split_once(' ').unwrap_or_default();
            let number: u64 = number.parse().unwrap_or(0);
            match kind {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                _ => {}
            }
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

const fn verdict(passed: bool) -> &'static str {
    if passed { "passed" } else { "FAILED" }
}

fn summarize(steps: &[Step], done: &[(Step, bool, Duration)]) -> Result<(), Error> {
    if steps.len() > 1 {
        println!();
        for step in steps {
            match done.iter().find(|(of, _, _)| of == step) {
                Some((_, passed, time)) => {
                    println!("{:8} {} {:7.1} s", step.name(), verdict(*passed), time.as_secs_f64());
                }
                None => println!("{:8} not run", step.name()),
            }
        }
    }
    let failed: Vec<_> = done
        .iter()
        .filter(|(_, passed, _)| !passed)
        .map(|(step, _, _)| (step.name(), format!("cargo xtask test --only {}", step.name())))
        .collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::Steps(failed)) }
}

/// `cargo xtask tidy`.
pub(crate) fn tidy() -> Result<(), Error> {
    run(&[Step::Tidy], false, &[])
}

/// Run the criterion benchmarks and say where their figures are
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Only the benchmarks of this crate; may be given several times
    #[arg(long, short, value_name = "CRATE")]
    package: Vec<String>,
    /// Arguments for criterion, such as `--quick`, `--save-baseline NAME` or a part of a name
    #[arg(last = true, value_name = "CRITERION_ARGS")]
    criterion: Vec<String>,
}

/// `cargo xtask bench`.
pub(crate) fn bench(args: &BenchArgs) -> Result<(), Error> {
    let root = root();
    let tree = tidy::Tree::read(&root)?;
    // Named one by one: `cargo bench` alone also runs the unit tests' harness, which refuses
    // criterion's arguments.
    let targets: Vec<(String, Vec<String>)> = tree
        .manifests()
        .filter(|manifest| args.package.is_empty() || args.package.contains(&manifest.name))
        .filter(|manifest| !manifest.benches.is_empty())
        .map(|manifest| (manifest.name, manifest.benches))
        .collect();
    if targets.is_empty() {
        println!("no crate has a [[bench]] target here");
        return Ok(());
    }
    let mut command = cargo();
    command.args(["bench", "--locked"]);
    for (package, benches) in &targets {
        command.args(["--package", package]);
        for bench in benches {
            command.args(["--bench", bench]);
        }
    }
    if !args.criterion.is_empty() {
        command.arg("--").args(&args.criterion);
    }
    println!("── bench: {}", shown(&command));
    if !succeeds(&mut command)? {
        return Err(Error::Steps(vec![("bench", shown(&command))]));
    }
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |dir| root.join(dir));
    let reports = target.join("criterion");
    println!("── figures, one directory per benchmark (new/estimates.json): {}", reports.display());
    println!("   the next run is compared with this one; keep one by name with -- --save-baseline NAME");
    println!("   the gRPC limit and the payments under load: cargo run --release -p bench -- help");
    Ok(())
}

/// Check licences, bans, advisories and sources with cargo-deny (deny.toml)
///
/// Not part of `test`, because it is a tool of its own that takes minutes to install; `tidy` checks the
/// bans and the duplicate versions without it.
#[derive(Debug, Args)]
pub(crate) struct DenyArgs {
    /// Only these checks, such as `bans licenses sources`, which need no network
    #[arg(last = true, value_name = "CHECKS")]
    checks: Vec<String>,
}

/// `cargo xtask deny`.
pub(crate) fn deny(args: &DenyArgs) -> Result<(), Error> {
    if !answers(cargo().args(["deny", "--version"])) {
        return Err(Error::Missing {
            program: "cargo-deny".to_owned(),
            install: "cargo install --locked cargo-deny".to_owned(),
        });
    }
    let mut command = cargo();
    // The lock file also holds what no build of ours ever has; `tidy` knows which reasons are stale.
    command
        .args(["deny", "--workspace", "--locked", "check", "--allow", "unmatched-skip"])
        .args(&args.checks);
    println!("── deny: {}", shown(&command));
    if succeeds(&mut command)? {
        Ok(())
    } else {
        Err(Error::Steps(vec![("deny", "cargo xtask deny".to_owned())]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn chosen_packages_replace_the_workspace() {
        for chosen in ["-p money", "-pmoney", "--package money", "--package=money --lib"] {
            let command = Step::Tests.command(&words(chosen)).unwrap();
            assert!(!shown(&command).contains("--workspace"), "{chosen}");
        }
        for all in ["", "--lib", "-- -p"] {
            let command = Step::Tests.command(&words(all)).unwrap();
            assert!(shown(&command).contains("--workspace"), "{all}");
        }
    }

    const RUSTFMT: Component = Component { name: "rustfmt", subcommand: "fmt" };

    #[test]
    fn nothing_is_added_to_a_toolchain_that_has_all() {
        check_tools(Step::value_variants(), |_| true, |_| panic!("asked for nothing")).unwrap();
        check_tools(&[Step::Tidy, Step::Tests], |_| false, |_| panic!("needs nothing")).unwrap();
    }

    #[test]
    fn what_is_missing_is_added_at_once() {
        let added = std::cell::RefCell::new(Vec::new());
        let add = |names: &[&'static str]| {
            added.borrow_mut().extend_from_slice(names);
            true
        };
        let all = Step::value_variants();
        check_tools(all, |component| added.borrow().contains(&component.name), add).unwrap();
        assert_eq!(*added.borrow(), ["rustfmt", "clippy"]);
    }

    #[test]
    fn what_cannot_be_added_is_named_with_what_to_do() {
        for rustup in [false, true] {
            let error = check_tools(
                &[Step::Format, Step::Clippy],
                |component| component == RUSTFMT,
                |names| {
                    assert_eq!(names, ["clippy"]);
                    rustup
                },
            );
            let text = error.unwrap_err().to_string();
            assert!(text.starts_with("clippy is missing; "), "{text}");
            assert!(text.contains("rustup component add clippy"), "{text}");
        }
    }

    #[test]
    fn the_results_of_all_test_programs_are_added_up() {
        let mut tally = Tally::default();
        for line in [
            "running 12 tests",
            "test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
            "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 1.00s",
            "test results::test result ... ok",
        ] {
            tally.add(line);
        }
        assert_eq!(tally.to_string(), "15 passed, 2 failed");
    }

    #[test]
    fn a_failed_step_is_named_with_the_command_that_runs_it_alone() {
        let second = Duration::from_secs(1);
        let done = [(Step::Format, true, second), (Step::Clippy, false, second)];
        let error = summarize(&[Step::Format, Step::Clippy, Step::Docs], &done).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("step clippy failed"), "{text}");
        assert!(text.contains("cargo xtask test --only clippy"), "{text}");
        assert!(!text.contains("docs"), "{text}");
    }

    #[test]
    fn documentation_is_built_with_warnings_as_errors() {
        let command = Step::Docs.command(&[]).unwrap();
        let flags = command.get_envs().find(|(name, _)| *name == "RUSTDOCFLAGS").and_then(|(_, value)| value);
        assert!(flags.is_some_and(|flags| flags.to_string_lossy().ends_with("-D warnings")));
    }
}
