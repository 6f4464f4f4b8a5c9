//! The paymesh binary as a child of the test, to be stopped in every way there is.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use paymesh::describe::Description;
use tokio::time::MissedTickBehavior;

/// The longest that a start or a stop may take before the test gives up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The same on every Unix (POSIX, `kill`).
const SIGKILL: i32 = 9;

/// A running `paymesh dev`. Killed when dropped.
pub(crate) struct Process {
    child: Child,
    data_dir: PathBuf,
    log: PathBuf,
}

impl Process {
    /// Starts it on this data directory. What it says goes to `log`, standard output included.
    pub(crate) fn spawn(data_dir: &Path, log: &Path, arguments: &[&str]) -> Self {
        // It is written when the mesh is ready, so one from before would be taken for a sign.
        let _ = std::fs::remove_file(data_dir.join(Description::FILE));
        let program =
            std::env::var("PAYMESH_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_paymesh").to_owned());
        let output = File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(program);
        command.arg("dev").arg("--data-dir").arg(data_dir).args(arguments);
        // What configures the machine that the test runs on configures no mesh of the test.
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("PAYMESH_") {
                command.env_remove(name);
            }
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .expect("the paymesh binary starts");
        Self { child, data_dir: data_dir.to_owned(), log: log.to_owned() }
    }

    /// Waits until the mesh serves; says what it describes itself as.
    pub(crate) async fn ready(&mut self) -> Description {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            if let Ok(description) = Description::read(&self.data_dir) {
                return description;
            }
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("the mesh ended with {status} instead of starting:\n{}", self.said());
            }
            assert!(began.elapsed() < PATIENCE, "the mesh did not become ready:\n{}", self.said());
        }
    }

    /// Its number.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL. False if it had ended by itself before.
    pub(crate) fn kill(&mut self) -> bool {
        self.child.kill().unwrap();
        self.child.wait().unwrap().signal() == Some(SIGKILL)
    }

    /// Sends a signal by its name, such as `TERM`. The shell's own `kill` does it: there is no safe way
    /// to do so from within.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("sh")
            .args(["-c", "kill -s \"$0\" \"$1\"", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success(), "the signal could be sent");
    }

    /// Waits until the process is over.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(5));
        loop {
            ticks.tick().await;
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "the mesh did not stop:\n{}", self.said());
        }
    }

    /// Everything that it wrote.
    pub(crate) fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
