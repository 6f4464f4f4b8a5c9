//! The OpenTelemetry collector: built from the Go modules that `xtask/collector` names, and started with
//! an OTLP receiver that writes what arrives to a file.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::go::{self, GoProgram};
use super::host::{Host, with_free_port};
use super::{Server, Started, launch};
use crate::guard::Stop;

/// In its log once it takes requests.
const READY: &str = "Everything is ready";
/// The client's preface with an empty SETTINGS frame (RFC 9113, sections 3.4 and 6.5).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
/// The type of a SETTINGS frame, which a server sends first.
const SETTINGS: u8 = 4;

const PROGRAM: GoProgram = GoProgram {
    name: "collector",
    files: &["go.sum"],
    what: "the OpenTelemetry collector, once: takes a minute or two",
};

/// Where logs, traces and metrics go.
#[derive(Debug)]
pub(super) struct Collector;

impl Server for Collector {
    fn name(&self) -> &'static str {
        "OpenTelemetry collector"
    }

    /// `http://127.0.0.1:<port>#<file>`: where it takes OTLP over gRPC, and where it writes what it got.
    fn variable(&self) -> &'static str {
        "PAYMESH_TEST_OTEL_COLLECTOR"
    }

    fn installations(&self) -> Vec<PathBuf> {
        PROGRAM.installations()
    }

    fn can_install(&self, host: &Host) -> bool {
        GoProgram::can_install(host)
    }

    fn start_installed(&self, programs: &Path, host: &Host) -> Result<Started, String> {
        with_free_port(|port| start(programs, port, host))
    }

    fn start_docker(&self, _host: &Host) -> Result<Started, String> {
        Err("its container keeps its files to itself".to_owned())
    }

    fn install_packages(&self) -> Result<(), String> {
        PROGRAM.install()
    }

    fn check(&self, address: &str) -> Result<String, String> {
        let (endpoint, _file) = address.split_once('#').ok_or("its address names no file after a #")?;
        let host = endpoint.strip_prefix("http://").ok_or("its address does not begin with http://")?;
        let answer = ask(host).map_err(|error| error.to_string())?;
        if answer == SETTINGS { Ok(format!("HTTP/2 on {host}")) } else { Err("it speaks no HTTP/2".into()) }
    }

    fn advice(&self) -> &'static str {
        go::ADVICE
    }
}

fn start(programs: &Path, port: u16, host: &Host) -> Result<Started, String> {
    let directory = host.directory("collector")?;
    let (config, file) = (directory.join("config.yaml"), directory.join("otlp.jsonl"));
    let stop = Stop { signal: "TERM", directory: Some(directory.clone()), ..Stop::default() };
    let mut command = Command::new(programs.join("collector"));
    command.arg("--config").arg(&config).current_dir(&directory);
    let address = format!("http://127.0.0.1:{port}#{}", file.display());
    let started = host
        .write(&config, &configuration(port, &file))
        .and_then(|()| launch(command, &stop, address, READY, |address| Collector.check(address)));
    if started.is_err() {
        let _ = std::fs::remove_dir_all(&directory);
    }
    started
}

fn configuration(port: u16, file: &Path) -> String {
    let file = file.display();
    format!(
        "receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:{port}
exporters:
  file:
    path: {file}
    flush_interval: 100ms
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    traces: {{receivers: [otlp], exporters: [file]}}
    metrics: {{receivers: [otlp], exporters: [file]}}
    logs: {{receivers: [otlp], exporters: [file]}}
"
    )
}

/// The type of the first frame that the server sends.
fn ask(host: &str) -> std::io::Result<u8> {
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(PREFACE)?;
    let mut header = [0; 9];
    stream.read_exact(&mut header)?;
    Ok(header[3])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_file_is_refused() {
        assert!(Collector.check("http://127.0.0.1:1").unwrap_err().contains('#'));
        assert!(Collector.check("127.0.0.1:1#/x").unwrap_err().contains("http://"));
    }
}
