//! The mesh under load: one that runs already, or `paymesh dev` started for this run.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::Instant;

use super::PaymentsArgs;
use super::edge::Edge;
use crate::disk;
use crate::error::BenchError;

/// How long a mesh may take until all of it is ready.
const START_MAX: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(50);
/// How long it may take to end in order: twice the mesh's own limit for that, and a margin.
const STOP_MAX: Duration = Duration::from_secs(80);
/// Beside the data: what the mesh logs.
const LOG: &str = "bench-mesh.log";

/// As much of `dev.json` as matters here.
#[derive(Deserialize)]
struct Dev {
    edge_url: String,
    api_key: String,
}

/// The mesh that is measured.
pub(super) struct Target {
    /// Where payments go.
    pub(super) edge: Edge,
    data_dir: Option<PathBuf>,
    child: Option<Mesh>,
}

impl Target {
    /// What the arguments name, or a mesh of its own.
    pub(super) async fn find_or_start(args: &PaymentsArgs) -> Result<Self, BenchError> {
        if let Some(url) = &args.edge_url {
            let edge = Edge::new(url, args.api_key.as_deref().unwrap_or_default())?;
            return Ok(Self { edge, data_dir: None, child: None });
        }
        if let Some(path) = &args.dev_json {
            let data_dir = path.parent().map(Path::to_path_buf);
            return Ok(Self { edge: read(path)?, data_dir, child: None });
        }
        let mut mesh = Mesh::start(args.data_dir.as_deref())?;
        let edge = mesh.ready().await?;
        Ok(Self { edge, data_dir: Some(mesh.data_dir.clone()), child: Some(mesh) })
    }

    /// Where it keeps its data, if that is known.
    pub(super) fn data_dir(&self) -> Option<&Path> {
        self.data_dir.as_deref()
    }

    /// Its process, if it was started here.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(|mesh| mesh.child.id())
    }

    /// Stops what was started here, and insists on an orderly end.
    pub(super) async fn stop(self) -> Result<(), BenchError> {
        match self.child {
            Some(mesh) => mesh.stop().await,
            None => Ok(()),
        }
    }
}

fn read(dev_json: &Path) -> Result<Edge, BenchError> {
    let failed = |reason: String| BenchError::Arguments(format!("{}: {reason}", dev_json.display()));
    let text = fs::read(dev_json).map_err(|error| failed(error.to_string()))?;
    let dev: Dev = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    Edge::new(&dev.edge_url, &dev.api_key)
}

/// Which file it is: `dev.json` is replaced as a whole, by a rename, once the mesh is ready.
#[derive(Debug, PartialEq, Eq)]
struct Version {
    file: (u64, u64),
    modified: (i64, i64),
}

impl Version {
    /// Nothing where there is no file.
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self { file: (about.dev(), about.ino()), modified: (about.mtime(), about.mtime_nsec()) })
    }
}

/// A mesh of our own. Killed when dropped before its orderly end.
struct Mesh {
    child: Child,
    data_dir: PathBuf,
    /// The `dev.json` of an earlier mesh in this directory, or of one that still runs there. It is not
    /// ours to remove: that another one runs is found out by the new one, which then ends.
    earlier: Option<Version>,
    _temporary: Option<TempDir>,
}

impl Mesh {
    fn start(data_dir: Option<&Path>) -> Result<Self, BenchError> {
        let program = program()?;
        let beside = program.parent().unwrap_or(Path::new("."));
        let temporary = if data_dir.is_some() { None } else { Some(disk::directory_in(beside)?) };
        let data_dir = data_dir.or(temporary.as_ref().map(TempDir::path)).unwrap_or(beside).to_path_buf();
        let failed = || BenchError::io(format!("the data directory {}", data_dir.display()));
        fs::create_dir_all(&data_dir).map_err(failed())?;
        let earlier = Version::of(&data_dir.join("dev.json"));
        let log = File::create(data_dir.join(LOG)).map_err(failed())?;
        let child = Command::new(&program)
            .args(["dev", "--edge-addr", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            // What is measured is how fast payments are made, and not how many a tenant may make.
            .args(["--set", "svc-crypto.detokenize_per_minute=0"])
            // Ctrl-C is for us alone, and we stop it: a second signal would cut its orderly end short.
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed())?)
            .stderr(log)
            .spawn()
            .map_err(BenchError::io(program.display().to_string()))?;
        Ok(Self { child, data_dir, earlier, _temporary: temporary })
    }

    /// Waits until every service is.
    async fn ready(&mut self) -> Result<Edge, BenchError> {
        let deadline = Instant::now() + START_MAX;
        let dev_json = self.data_dir.join("dev.json");
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(BenchError::Edge(format!("the mesh ended ({status}): {}", self.last_words())));
            }
            // Until it is written, and until the edge listens, there is nothing to ask.
            if Version::of(&dev_json) != self.earlier
                && let Ok(edge) = read(&dev_json)
                && let Ok(mut connection) = edge.connect().await
                && matches!(connection.is_ready().await, Ok(true))
            {
                return Ok(edge);
            }
            if Instant::now() >= deadline {
                let after = START_MAX.as_secs();
                return Err(BenchError::Edge(format!("not ready after {after} s: {}", self.last_words())));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    fn last_words(&self) -> String {
        let log = fs::read_to_string(self.data_dir.join(LOG)).unwrap_or_default();
        log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()
    }

    async fn stop(mut self) -> Result<(), BenchError> {
        let pid = self.child.id().to_string();
        let failed = || BenchError::io("stopping the mesh");
        // The shell's own `kill`: the standard library sends nothing but SIGKILL.
        Command::new("sh").args(["-c", r#"kill -s TERM "$1""#, "sh", &pid]).status().map_err(failed())?;
        let status = self.ended().await.map_err(failed())?;
        if status.success() {
            return Ok(());
        }
        Err(BenchError::Edge(format!("the mesh did not end in order ({status}): {}", self.last_words())))
    }
}

impl Mesh {
    /// Asks now and then: with a wait that blocks, no signal would be heard.
    async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(std::io::Error::other(format!("still there after {} s", STOP_MAX.as_secs())));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }
}

impl Drop for Mesh {
    fn drop(&mut self) {
        // After an orderly end these do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The `paymesh` beside this program, built first where cargo runs us, so that it is not an old one.
fn program() -> Result<PathBuf, BenchError> {
    let here = std::env::current_exe().map_err(BenchError::io("the path of this program"))?;
    let program = here.with_file_name("paymesh");
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "paymesh", "--bin", "paymesh"]);
        if !cfg!(debug_assertions) {
            build.arg("--release");
        }
        let built = build.status().map_err(BenchError::io("building paymesh"))?;
        if !built.success() {
            return Err(BenchError::Arguments("paymesh does not build".to_owned()));
        }
    }
    if program.is_file() {
        return Ok(program);
    }
    Err(BenchError::Arguments(format!(
        "{} is missing: build it with `cargo build --release -p paymesh`, or name a mesh that runs with \
         --dev-json or --edge-url",
        program.display()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_was_replaced_is_another_version() {
        let directory = tempfile::tempdir().unwrap();
        let (file, draft) = (directory.path().join("dev.json"), directory.path().join("draft"));
        assert_eq!(Version::of(&file), None);
        fs::write(&file, "the same").unwrap();
        let earlier = Version::of(&file);
        assert!(earlier.is_some());
        assert_eq!(Version::of(&file), earlier);
        fs::write(&draft, "the same").unwrap();
        fs::rename(&draft, &file).unwrap();
        assert_ne!(Version::of(&file), earlier);
    }
}
