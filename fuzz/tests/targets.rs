//! Every target on what the documents have as examples, on what once broke a promise, and on some hundred changes of
//! both, the same each time. What looks further is `cargo xtask fuzz`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{fs, panic, path::Path};

use fastrand::Rng;
use fuzz::TARGETS;

/// How often each target is run on something that was changed.
const CHANGED: usize = 400;
/// No input that is made here is longer.
const BYTES_MAX: usize = 4_096;

/// Inputs that broke a promise once: `regressions/<target>/`, one a file.
fn regressions(target: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions").join(target);
    let Ok(files) = fs::read_dir(dir) else { return Vec::new() };
    files.map(|file| fs::read(file.unwrap().path()).unwrap()).collect()
}

/// One to four changes: a bit, a byte, something left out, put twice, or of another input.
fn change(rng: &mut Rng, inputs: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = rng.choice(inputs).cloned().unwrap_or_default();
    for _ in 0..rng.usize(1..=4) {
        let at = rng.usize(0..=bytes.len());
        match rng.u8(0..6) {
            0 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << rng.u8(0..8)),
            1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = rng.u8(..)),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, *rng.choice(&[0, 1, 0x7f, 0x80, 0xff, b'+', b' ', b'"', b'\n']).unwrap()),
            4 => drop(bytes.splice(at..(at + rng.usize(0..16)).min(bytes.len()), [])),
            _ => {
                let other = rng.choice(inputs).unwrap();
                let from = rng.usize(0..=other.len());
                bytes.splice(at..at, other[from..].iter().copied().take(64));
            }
        }
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

#[test]
fn every_promise_holds_for_what_is_known_and_for_changes_of_it() {
    for target in TARGETS {
        let mut inputs = (target.seeds)();
        assert!(!inputs.is_empty(), "{}: no seeds", target.name);
        inputs.extend(regressions(target.name));
        let mut rng = Rng::with_seed(7);
        let changed: Vec<Vec<u8>> = (0..CHANGED).map(|_| change(&mut rng, &inputs)).collect();
        for input in inputs.iter().chain(&changed).chain([&Vec::new()]) {
            let kept = panic::catch_unwind(|| (target.run)(input));
            assert!(kept.is_ok(), "{} broke its promise on {}", target.name, input.escape_ascii());
        }
    }
}

#[test]
fn what_was_found_once_is_of_a_target() {
    let Ok(dirs) = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("regressions")) else { return };
    for dir in dirs {
        let name = dir.unwrap().file_name().into_string().unwrap();
        assert!(fuzz::target(&name).is_some(), "{name}");
    }
}
