//! The mesh under load: one that runs already, or `paymesh dev` started for this run.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tempfile::TempDir;
use tokio::time::Instant;

use super::PaymentsArgs;
use super::edge::Edge;
use crate::error::BenchError;

/// How long a mesh may take until all of it is ready.
const START_MAX: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(50);
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
    pub(super) fn stop(self) -> Result<(), BenchError> {
        self.child.map_or(Ok(()), Mesh::stop)
    }
}

fn read(dev_json: &Path) -> Result<Edge, BenchError> {
    let failed = |reason: String| BenchError::Arguments(format!("{}: {reason}", dev_json.display()));
    let text = fs::read(dev_json).map_err(|error| failed(error.to_string()))?;
    let dev: Dev = serde_json::from_slice(&text).map_err(|error| failed(error.to_string()))?;
    Edge::new(&dev.edge_url, &dev.api_key)
}

/// A mesh of our own. Killed when dropped before its orderly end.
struct Mesh {
    child: Child,
    data_dir: PathBuf,
    _temporary: Option<TempDir>,
}

impl Mesh {
    fn start(data_dir: Option<&Path>) -> Result<Self, BenchError> {
        let program = program()?;
        let beside = program.parent().unwrap_or(Path::new("."));
        let temporary = match data_dir {
            Some(_) => None,
            // Not the system's temporary directory, which may be memory: durability would cost nothing.
            None => Some(
                tempfile::Builder::new()
                    .prefix("bench-data-")
                    .tempdir_in(beside)
                    .map_err(BenchError::io(format!("a directory in {}", beside.display())))?,
            ),
        };
        let data_dir = data_dir.or(temporary.as_ref().map(TempDir::path)).unwrap_or(beside).to_path_buf();
        let failed = || BenchError::io(format!("the data directory {}", data_dir.display()));
        fs::create_dir_all(&data_dir).map_err(failed())?;
        let _ = fs::remove_file(data_dir.join("dev.json"));
        let log = File::create(data_dir.join(LOG)).map_err(failed())?;
        let child = Command::new(&program)
            .args(["dev", "--edge-addr", "127.0.0.1:0", "--data-dir"])
            .arg(&data_dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed())?)
            .stderr(log)
            .spawn()
            .map_err(BenchError::io(program.display().to_string()))?;
        Ok(Self { child, data_dir, _temporary: temporary })
    }

    /// Waits until every service is.
    async fn ready(&mut self) -> Result<Edge, BenchError> {
        let deadline = Instant::now() + START_MAX;
        let dev_json = self.data_dir.join("dev.json");
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(BenchError::Edge(format!("the mesh ended ({status}): {}", self.last_words())));
            }
            // Until it is written whole, and until the edge listens, there is nothing to ask.
            if let Ok(edge) = read(&dev_json)
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

    fn stop(mut self) -> Result<(), BenchError> {
        let pid = self.child.id().to_string();
        let failed = || BenchError::io("stopping the mesh");
        // The shell's own `kill`: the standard library sends nothing but SIGKILL.
        Command::new("sh").args(["-c", r#"kill -s TERM "$1""#, "sh", &pid]).status().map_err(failed())?;
        let status = self.child.wait().map_err(failed())?;
        if status.success() {
            return Ok(());
        }
        Err(BenchError::Edge(format!("the mesh did not end in order ({status}): {}", self.last_words())))
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
