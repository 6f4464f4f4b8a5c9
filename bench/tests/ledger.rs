//! The cases that run the ledger as a process of its own, and kill it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::process::Command;

#[test]
fn a_ledger_that_was_killed_tells_of_its_accounts() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_bench"))
        .args(["ledger", "--case", "history,accounts", "--log", "warn", "--data-dir"])
        .arg(directory.path())
        .args(["--transfers", "60", "--per-call", "20", "--million", "2", "--accounts", "10", "--many", "50"])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    for expected in ["1 x 60: ", "2 x 60: ", "the last / the first: ", "50 opened: "] {
        assert!(said.contains(expected), "{expected}: {said}");
    }
    assert_eq!(said.matches("killed; started anew").count(), 2, "{said}");
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "its data is removed");
}
