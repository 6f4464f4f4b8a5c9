//! What is left of `bench payments` when it is told to end, or finds its data directory in use: with a
//! program in the mesh's place that does as told.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A directory with the program and its mesh side by side, as they are looked for.
fn stage(mesh: &str) -> (TempDir, Command) {
    let stage = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = stage.path().join("bench");
    fs::hard_link(env!("CARGO_BIN_EXE_bench"), &program).unwrap();
    let paymesh = stage.path().join("paymesh");
    fs::write(&paymesh, format!("#!/bin/sh\n{mesh}\n")).unwrap();
    fs::set_permissions(&paymesh, Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(program);
    command.args(["payments", "--echo", "0"]).current_dir(stage.path());
    // With it, the real mesh would be built first.
    command.env_remove("CARGO").stdin(Stdio::null()).stdout(Stdio::null());
    (stage, command)
}

fn data_directories(stage: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(stage).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_string_lossy().contains("bench-data-")).collect()
}

#[test]
fn a_signal_ends_the_mesh_and_removes_its_directory() {
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        // It holds the pipe open as long as it lives.
        let (stage, mut command) = stage("exec 3>pipe; echo started >&3; exec sleep 1000");
        let pipe = stage.path().join("pipe");
        assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        let mut bench = command.stderr(Stdio::null()).spawn().unwrap();
        let mut pipe = BufReader::new(File::open(pipe).unwrap());
        let mut line = String::new();
        pipe.read_line(&mut line).unwrap();
        assert_eq!((line.trim(), data_directories(stage.path()).len()), ("started", 1));

        let pid = bench.id().to_string();
        let kill = Command::new("sh").args(["-c", r#"kill -s "$1" "$2""#, "sh", signal, &pid]).status();
        assert!(kill.unwrap().success());
        assert_eq!(bench.wait().unwrap().code(), Some(code), "{signal}");
        assert_eq!(pipe.read(&mut [0]).unwrap(), 0, "the mesh runs on");
        assert_eq!(data_directories(stage.path()), [] as [PathBuf; 0]);
    }
}

#[test]
fn the_file_of_a_mesh_that_runs_there_stays() {
    let (stage, mut command) = stage("echo 'the data directory is in use' >&2; exit 1");
    let data_dir = stage.path().join("data");
    fs::create_dir(&data_dir).unwrap();
    let dev_json = data_dir.join("dev.json");
    let text = r#"{"edge_url": "http://127.0.0.1:1", "api_key": "sk_test"}"#;
    fs::write(&dev_json, text).unwrap();
    let output = command.arg("--data-dir").arg(&data_dir).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("the data directory is in use"), "{said}");
    assert_eq!(fs::read_to_string(dev_json).unwrap(), text);
}
