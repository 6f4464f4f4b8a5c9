//! libFuzzer around one target of the crate `fuzz`. `cargo xtask fuzz` builds and runs it; by itself it takes
//! libFuzzer's arguments, and from the environment:
//!
//! - `FUZZ_TARGET`: the target's name; `list` prints all, a line each.
//! - `FUZZ_SEEDS`: a directory to write the target's seeds into, before libFuzzer reads any.

#![no_main]

use std::{fs, path::PathBuf, process, sync::OnceLock};

use fuzz::{TARGETS, Target};
use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<&Target> = OnceLock::new();

fn prepare() {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    if name == "list" {
        for target in TARGETS {
            println!("{}\t{}", target.name, target.about);
        }
        process::exit(0);
    }
    let Some(target) = fuzz::target(&name) else {
        eprintln!(
            "FUZZ_TARGET must be one of: {}",
            TARGETS.iter().map(|target| target.name).collect::<Vec<_>>().join(", ")
        );
        process::exit(2);
    };
    if let Some(seeds) = std::env::var_os("FUZZ_SEEDS").map(PathBuf::from)
        && let Err(error) = write_seeds(target, &seeds)
    {
        eprintln!("the seeds of {name} could not be written to {}: {error}", seeds.display());
        process::exit(2);
    }
    TARGET.get_or_init(|| target);
}

fn write_seeds(target: &Target, directory: &std::path::Path) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    (target.seeds)()
        .iter()
        .enumerate()
        .try_for_each(|(number, seed)| fs::write(directory.join(format!("seed-{number}")), seed))
}

fuzz_target!(init: prepare(), |data: &[u8]| {
    if let Some(target) = TARGET.get() {
        (target.run)(data);
    }
});
