//! `cargo xtask fuzz`: libFuzzer on the targets of the crate `fuzz`.
//!
//! Everything is built anew with LLVM's coverage instrumentation, by flags that the stable compiler takes, into a
//! directory of its own. libFuzzer comes with its crate as C++ source.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clap::Args;

use crate::error::Error;
use crate::guard::{Guarded, Stop};
use crate::process::{answers, cargo, output_of, root, shown, succeeds};
use crate::tools;

/// Has libFuzzer look for inputs that break a promise
///
/// The targets are the decoders of everything that comes from outside; `--list` shows them. The first run builds all
/// that they stand on with instrumentation, which takes ten minutes or so; it needs a C++ compiler. What libFuzzer
/// learns stays in target/fuzz/corpus and is gone on with. An input that breaks a promise is kept and named; put
/// into fuzz/regressions/TARGET, it is one that the tests run ever after.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  cargo xtask fuzz                                         every target, a minute each
  cargo xtask fuzz --target journal --seconds 3600         one of them for an hour
  cargo xtask fuzz --target journal --input crash-0123     what one input does")]
pub(crate) struct FuzzArgs {
    /// Only this target; may be given several times
    #[arg(long, value_name = "NAME")]
    target: Vec<String>,
    /// How long each target is run
    #[arg(long, default_value_t = 60, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// The most memory that it may use, in MiB; an input that takes more is a finding
    #[arg(long, default_value_t = 1024, value_name = "MIB", value_parser = clap::value_parser!(u32).range(64..))]
    memory: u32,
    /// Only show what targets there are
    #[arg(long)]
    list: bool,
    /// Run the one target on this file alone, once, and show all that it says
    #[arg(long, value_name = "FILE")]
    input: Option<PathBuf>,
}

/// Inline counters of edges, where each is, and what is compared: what libFuzzer reads. The mesh's own flag besides,
/// as these replace those of `.cargo/config.toml`.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg tokio_unstable -Ccodegen-units=1";

/// The longest input that is tried, in bytes.
const INPUT_BYTES_MAX: u32 = 4_096;
/// An input that takes longer is a finding, in seconds.
const INPUT_SECONDS_MAX: u32 = 10;
/// Between two words on how far it is.
const PROGRESS: Duration = Duration::from_secs(10);
/// What is shown of a finding, in lines.
const SHOWN_MAX: usize = 30;

/// `cargo xtask fuzz`.
pub(crate) fn run(args: &FuzzArgs) -> Result<(), Error> {
    let driver = build()?;
    let all = targets(&driver)?;
    if args.list {
        for (name, about) in &all {
            println!("{name:16} {about}");
        }
        return Ok(());
    }
    if let Some(unknown) = args.target.iter().find(|name| all.iter().all(|(known, _)| known != *name)) {
        let names: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        return Err(Error::Fuzz(format!("--target {unknown}: must be one of {}", names.join(", "))));
    }
    let wanted = |name: &String| args.target.is_empty() || args.target.contains(name);
    let names: Vec<String> = all.into_iter().map(|(name, _)| name).filter(wanted).collect();
    if let Some(input) = &args.input {
        let [name] = &names[..] else {
            return Err(Error::Fuzz("--input needs one --target".to_owned()));
        };
        let mut command = Command::new(&driver);
        command.env("FUZZ_TARGET", name).arg(input).stdin(Stdio::null());
        return if succeeds(&mut command)? { Ok(()) } else { Err(Error::Exit(1)) };
    }
    println!("── fuzz: {} targets, {} s each", names.len(), args.seconds);
    let mut findings = Vec::new();
    for name in &names {
        findings.extend(hunt(&driver, name, args)?);
    }
    if findings.is_empty() {
        return Ok(());
    }
    let list: Vec<String> = findings.iter().map(|path| format!("  {}", path.display())).collect();
    Err(Error::Fuzz(format!(
        "promises were broken by these inputs; keep each in fuzz/regressions/<target>:\n{}",
        list.join("\n")
    )))
}

fn home() -> PathBuf {
    tools::target().join("fuzz")
}

/// Builds the driver, and answers with where it is.
fn build() -> Result<PathBuf, Error> {
    if !["c++", "g++", "clang++"].iter().any(|compiler| answers(Command::new(compiler).arg("--version"))) {
        return Err(Error::Missing {
            program: "a C++ compiler".to_owned(),
            install: "your system's (Debian: apt-get install g++)".to_owned(),
        });
    }
    // With a target said, the flags are not for what runs while it is built.
    let host = output_of(Command::new("rustc").arg("-vV"))
        .and_then(|text| text.lines().find_map(|line| line.strip_prefix("host: ").map(str::to_owned)));
    let host = host.ok_or_else(|| Error::Fuzz("rustc does not say which host it is for".to_owned()))?;
    let driver = root().join("fuzz/driver");
    // The same versions as everywhere; what the driver alone has is pinned in its manifest.
    let doing = "copy Cargo.lock to fuzz/driver";
    fs::copy(root().join("Cargo.lock"), driver.join("Cargo.lock")).map_err(Error::io(doing))?;
    let mut command = cargo();
    command
        .env("RUSTFLAGS", FLAGS)
        .args(["build", "--release", "--target", &host, "--manifest-path"])
        .arg(driver.join("Cargo.toml"))
        .arg("--target-dir")
        .arg(home());
    println!("── fuzz: {}", shown(&command));
    if !succeeds(&mut command)? {
        return Err(Error::Steps(vec![("fuzz", "cargo xtask fuzz --list".to_owned())]));
    }
    Ok(home().join(host).join("release/fuzz-driver"))
}

/// Names, and what they are.
fn targets(driver: &Path) -> Result<Vec<(String, String)>, Error> {
    let list = output_of(Command::new(driver).env("FUZZ_TARGET", "list"));
    let list = list.ok_or_else(|| Error::Fuzz("the driver does not list its targets".to_owned()))?;
    let line = |line: &str| line.split_once('\t').map(|(name, about)| (name.to_owned(), about.to_owned()));
    Ok(list.lines().filter_map(line).collect())
}

/// Runs one target for its time. Answers with the input that broke a promise, if any did.
fn hunt(driver: &Path, name: &str, args: &FuzzArgs) -> Result<Option<PathBuf>, Error> {
    let corpus = home().join("corpus").join(name);
    let findings = home().join("findings").join(name);
    for directory in [&corpus, &findings] {
        fs::create_dir_all(directory).map_err(Error::io(format!("make {}", directory.display())))?;
    }
    let mut command = Command::new(driver);
    command
        .env("FUZZ_TARGET", name)
        .env("FUZZ_SEEDS", &corpus)
        .arg(format!("-max_total_time={}", args.seconds))
        .arg(format!("-rss_limit_mb={}", args.memory))
        .arg(format!("-max_len={INPUT_BYTES_MAX}"))
        .arg(format!("-timeout={INPUT_SECONDS_MAX}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args(["-print_final_stats=1", "-reload=0", "-use_value_profile=1"])
        .arg(&corpus);
    let regressions = root().join("fuzz/regressions").join(name);
    if regressions.is_dir() {
        command.arg(regressions);
    }
    let doing = format!("run {name}");
    let stop = Stop { signal: "TERM", group: true, ..Stop::default() };
    let mut child = Guarded::spawn(command.stdin(Stdio::null()).stderr(Stdio::piped()), &stop)
        .map_err(Error::io(doing.as_str()))?;
    let mut said = Said::new(name);
    let log = home().join(format!("{name}.log"));
    let mut log = File::create(&log).map_err(Error::io(format!("write {}", log.display())))?;
    if let Some(output) = child.child().stderr.take() {
        for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line);
            let _ = writeln!(log, "{line}");
            if let Some(progress) = said.line(&line, Instant::now()) {
                println!("{progress}");
            }
        }
    }
    let status = child.wait().map_err(Error::io(doing))?;
    println!("{}", said.summary());
    if status.success() {
        return Ok(None);
    }
    for line in &said.finding {
        println!("    {line}");
    }
    // Where it names none, it is libFuzzer itself that failed, and its log says why.
    Ok(Some(said.input.unwrap_or_else(|| home().join(format!("{name}.log")))))
}

/// What libFuzzer says: of it, what is shown.
struct Said {
    name: String,
    shown_at: Instant,
    /// The last line on how far it is.
    progress: String,
    executions: Option<String>,
    /// What it says of a finding.
    finding: Vec<String>,
    /// Where it put the input.
    input: Option<PathBuf>,
}

impl Said {
    fn new(name: &str) -> Self {
        let (name, shown_at) = (name.to_owned(), Instant::now());
        Self { name, shown_at, progress: String::new(), executions: None, finding: Vec::new(), input: None }
    }

    /// Takes a line; answers with what to show now, if anything.
    fn line(&mut self, line: &str, now: Instant) -> Option<String> {
        if line.starts_with('#') && line.contains("cov: ") {
            // `#4096 pulse cov: 812 ft: 2713 corp: 129/9Kb lim: 4096 exec/s: 2048 rss: 61Mb`
            let words: Vec<&str> = line.split_whitespace().collect();
            let after = |name: &str| {
                let at = words.iter().position(|word| *word == name)?;
                words.get(at + 1).copied()
            };
            let of = |name| after(name).unwrap_or("?");
            let count = words.first().and_then(|word| word.strip_prefix('#')).unwrap_or("?");
            self.progress = format!(
                "{count} executions, {} edges, {} a second, {}",
                of("cov:"),
                of("exec/s:"),
                of("rss:")
            );
            if now.saturating_duration_since(self.shown_at) >= PROGRESS {
                self.shown_at = now;
                return Some(format!("   {}: {}", self.name, self.progress));
            }
        } else if let Some(count) = line.strip_prefix("stat::number_of_executed_units:") {
            self.executions = Some(count.trim().to_owned());
        } else if let Some((_, path)) = line.split_once("Test unit written to ") {
            self.input = Some(PathBuf::from(path.trim()));
        } else if (!self.finding.is_empty()
            || line.contains("panicked at")
            || line.contains("ERROR: libFuzzer"))
            && self.finding.len() < SHOWN_MAX
        {
            self.finding.push(line.to_owned());
        }
        None
    }

    fn summary(&self) -> String {
        let verdict = if self.finding.is_empty() { "nothing found" } else { "BROKE ITS PROMISE" };
        let executions = self.executions.as_deref().unwrap_or("?");
        format!("── {}: {verdict}; {executions} executions in all; {}", self.name, self.progress)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_says_is_understood() {
        let mut said = Said::new("journal");
        let begun = said.shown_at;
        let pulse = "#4096\tpulse  cov: 812 ft: 2713 corp: 129/9Kb lim: 4096 exec/s: 2048 rss: 61Mb";
        assert_eq!(said.line(pulse, begun), None, "too early");
        let shown = said.line(pulse, begun + PROGRESS);
        assert_eq!(shown.as_deref(), Some("   journal: 4096 executions, 812 edges, 2048 a second, 61Mb"));
        assert_eq!(said.line("stat::number_of_executed_units: 5000", begun), None);
        assert!(said.summary().contains("nothing found; 5000 executions in all"), "{}", said.summary());
        for line in ["thread '<unnamed>' panicked at fuzz/src/journal.rs:1:2:", "it has one form"] {
            assert_eq!(said.line(line, begun), None);
        }
        said.line("artifact_prefix='x/'; Test unit written to x/crash-0123", begun);
        assert_eq!((said.finding.len(), said.input.clone()), (2, Some(PathBuf::from("x/crash-0123"))));
        assert!(said.summary().contains("BROKE"));
    }
}
