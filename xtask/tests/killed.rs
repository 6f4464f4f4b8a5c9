//! `cargo xtask servers` with programs that do as told: what is left when it is killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::fs::{self, File, Permissions};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Programs that stand for PostgreSQL's, and the directory that the task works in.
struct Stage(PathBuf);

impl Stage {
    fn new(name: &str, initdb: &str) -> Self {
        // Where every user can go: as root, the task runs the programs as somebody else.
        let path = std::env::temp_dir().join(format!("xtask-{name}-{}", std::process::id()));
        for directory in ["bin", "tmp"] {
            fs::create_dir_all(path.join(directory)).unwrap();
            fs::set_permissions(path.join(directory), Permissions::from_mode(0o755)).unwrap();
        }
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        let stage = Self(path);
        stage.program("initdb", initdb);
        stage.program("postgres", "exit 1");
        stage
    }

    fn program(&self, name: &str, body: &str) {
        let path = self.0.join("bin").join(name);
        let version = format!("if [ \"$1\" = --version ]; then echo '{name} (PostgreSQL) 17.0'; exit; fi");
        fs::write(&path, format!("#!/bin/sh\n{version}\n{body}\n")).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    }

    /// A shell that becomes the task; what it hands on beside the usual is on descriptor 3.
    fn task(&self, arguments: &str) -> Command {
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec \"$0\" servers {arguments} 3>\"$1\"")])
            .arg(env!("CARGO_BIN_EXE_xtask"))
            .arg(self.pipe())
            .env("PATH", format!("{}:/usr/bin:/bin", self.0.join("bin").display()))
            .env("TMPDIR", self.0.join("tmp"))
            .env_remove("PAYMESH_TEST_POSTGRES_URL")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    fn pipe(&self) -> PathBuf {
        self.0.join("pipe")
    }

    fn left_behind(&self) -> Vec<PathBuf> {
        fs::read_dir(self.0.join("tmp")).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_task_killed_while_a_cluster_is_made_leaves_nothing_behind() {
    // It speaks up once its guardian is there: what is killed before that is nobody's charge.
    let guarded = r#"tr '\0' ' ' < "$1" | grep -q "guardian -\{0,1\}$$ ""#;
    let initdb = format!(
        "is_guarded() {{ {guarded}; }} 2>/dev/null
         until for one in /proc/[0-9]*/cmdline; do is_guarded \"$one\" && break; done; do :; done
         pwd >&3
         exec sleep 1000"
    );
    let stage = Stage::new("killed", &initdb);
    assert!(Command::new("mkfifo").arg(stage.pipe()).status().unwrap().success());
    let mut task = stage.task("--from installed").stderr(Stdio::null()).spawn().unwrap();
    let mut pipe = BufReader::new(File::open(stage.pipe()).unwrap());
    let mut directory = String::new();
    pipe.read_line(&mut directory).unwrap();
    assert!(Path::new(directory.trim()).join("password").exists(), "{directory}");

    task.kill().unwrap();
    task.wait().unwrap();
    // Everything that the task started holds the pipe: it ends when the last of them, the guardian, has.
    assert_eq!(pipe.read(&mut [0]).unwrap(), 0);
    assert_eq!(stage.left_behind(), [] as [PathBuf; 0]);
}
