//! The mesh that is judged: `paymesh dev` in a directory of its own.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::certificate::Certificate;
use crate::error::Error;
use crate::guard::{Guarded, Stop};
use crate::process::{cargo, succeeds};
use crate::{servers, tools};

/// How long it may take until it is ready.
const READY_MAX: Duration = Duration::from_secs(60);
/// A key for tests alone; the mesh takes requests from this machine only.
const API_KEY: &str = "conformance-key-1";

/// A running mesh. Dropping it stops it and removes its directory.
pub(super) struct Mesh {
    /// Where its edge is: `http://127.0.0.1:<port>`.
    pub(super) url: String,
    /// A key that may do everything.
    pub(super) api_key: &'static str,
    /// Its directory; the judges may leave their reports there.
    pub(super) directory: PathBuf,
    tls: Option<Tls>,
    _process: Guarded,
}

/// Where its edge takes TLS.
pub(super) struct Tls {
    /// On the loopback, by the name `localhost`.
    pub(super) port: u16,
    pub(super) certificate: Certificate,
}

impl Tls {
    /// `host:port`.
    pub(super) fn address(&self) -> String {
        format!("localhost:{}", self.port)
    }
}

impl Mesh {
    /// Builds and starts it; with TLS on a second port where a judge needs that.
    pub(super) fn start(with_tls: bool) -> Result<Self, Error> {
        if !succeeds(cargo().args(["build", "--locked", "-p", "paymesh"]))? {
            return Err(Error::Server("paymesh could not be built".to_owned()));
        }
        let directory = std::env::temp_dir().join(format!("paymesh-conformance-{}", std::process::id()));
        std::fs::create_dir(&directory).map_err(Error::io(format!("make {}", directory.display())))?;
        let mut command = Command::new(tools::target().join("debug/paymesh"));
        command
            .args(["dev", "--api-key", API_KEY, "--log", "error"])
            // Wrong credentials are among what is tried, over and over.
            .args(["--set", "edge-gateway.auth.throttle.failures_free=1000000"])
            .arg("--data-dir")
            .arg(directory.join("data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let tls = if with_tls { Some(add_tls(&mut command, &directory)?) } else { None };
        if tls.is_none() {
            command.args(["--edge-addr", "127.0.0.1:0"]);
        }
        let stop = Stop { signal: "TERM", directory: Some(directory.clone()), ..Stop::default() };
        let mut process = Guarded::spawn(&mut command, &stop).map_err(Error::io("start paymesh"))?;
        let url = wait(&mut process, &directory.join("data/dev.json"))?;
        Ok(Self { url, api_key: API_KEY, directory, tls, _process: process })
    }

    /// `host:port` of the edge.
    pub(super) fn address(&self) -> &str {
        self.url.strip_prefix("http://").unwrap_or(&self.url)
    }

    /// Where its edge takes TLS.
    pub(super) fn tls(&self) -> Result<&Tls, Error> {
        self.tls.as_ref().ok_or_else(|| Error::Server("the edge was started without TLS".to_owned()))
    }

    /// The body of a document that needs no key.
    pub(super) fn get(&self, path: &str) -> Result<String, Error> {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.address());
        let mut answer = String::new();
        TcpStream::connect(self.address())
            .and_then(|mut stream| {
                stream.write_all(request.as_bytes())?;
                stream.read_to_string(&mut answer)
            })
            .map_err(Error::io(format!("get {path}")))?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.starts_with("HTTP/1.1 200") => Ok(body.to_owned()),
            _ => Err(Error::Server(format!("the edge does not answer {path}"))),
        }
    }

    /// Writes a file beside the mesh's data.
    pub(super) fn write(&self, name: &str, text: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        std::fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        Ok(path)
    }
}

/// Has the edge take TLS on one port and HTTP without it on another.
fn add_tls(command: &mut Command, directory: &std::path::Path) -> Result<Tls, Error> {
    let certificate = Certificate::make(directory)?;
    let [port, plain] = servers::free_ports().map_err(Error::Server)?;
    let set = |name: &str, value: String| format!("edge-gateway.https.{name}={value}");
    command
        .args(["--edge-addr", &format!("127.0.0.1:{port}")])
        .args(["--set", &set("cert_file", certificate.cert.display().to_string())])
        .args(["--set", &set("key_file", certificate.key.display().to_string())])
        .args(["--set", &set("plain_listen", format!("127.0.0.1:{plain}"))]);
    Ok(Tls { port, certificate })
}

/// The edge's address, once the mesh has written that it is ready.
fn wait(process: &mut Guarded, description: &std::path::Path) -> Result<String, Error> {
    let deadline = Instant::now() + READY_MAX;
    while Instant::now() < deadline {
        if let Some(url) = std::fs::read_to_string(description).ok().as_deref().and_then(edge_url) {
            return Ok(url.to_owned());
        }
        let ended = process.child().try_wait().map_err(Error::io("look after paymesh"))?;
        if ended.is_some() {
            return Err(Error::Server("paymesh ended before it was ready; it said why above".to_owned()));
        }
        std::thread::park_timeout(Duration::from_millis(50));
    }
    Err(Error::Server(format!("paymesh was not ready after {} s", READY_MAX.as_secs())))
}

/// The value of `edge_url` in `dev.json`, which has one member a line.
fn edge_url(description: &str) -> Option<&str> {
    description.split("\"edge_url\": \"").nth(1)?.split('"').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_edges_address_is_found() {
        let text = "{\n  \"edge_url\": \"http://127.0.0.1:8080\",\n  \"api_key\": \"x\"\n}";
        assert_eq!(edge_url(text), Some("http://127.0.0.1:8080"));
        assert_eq!(edge_url("{}"), None);
    }
}
