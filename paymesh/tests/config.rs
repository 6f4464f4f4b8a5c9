//! The example file is what the code says, and a service really starts from it; `paymesh config` as a user
//! meets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use mesh::{Clock as _, SystemClock, config::Loaded, pki::CertificateAuthority};
use paymesh::{config, dev::SERVICES};

const EXAMPLE: &str = include_str!("../../paymesh.example.toml");

/// The binary in a directory, without what configures the machine that the test runs on.
fn paymesh(dir: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymesh"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("PAYMESH_") {
            command.env_remove(name);
        }
    }
    command.current_dir(dir).args(arguments).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// The example in a directory that has all the certificates it names.
fn laid_out(dir: &Path) {
    std::fs::write(dir.join("paymesh.toml"), EXAMPLE).unwrap();
    let authority = CertificateAuthority::open_or_create(&dir.join("pki"), SystemClock.now()).unwrap();
    for service in SERVICES {
        authority.issue(service, SystemClock.now()).unwrap();
    }
}

fn loaded(text: &str) -> Loaded {
    config::tree().load_text("paymesh.example.toml", text).unwrap()
}

/// The example with every setting: each `#` before a setting taken away.
fn uncommented() -> String {
    let lines = EXAMPLE.lines().map(|line| match line.strip_prefix('#') {
        Some(setting) if !setting.is_empty() && !setting.starts_with(' ') => setting,
        _ => line,
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn the_example_is_the_one_that_the_code_writes() {
    assert!(
        EXAMPLE.trim_end() == config::example().unwrap().trim_end(),
        "write it anew: paymesh config example > paymesh.example.toml"
    );
}

#[test]
fn no_setting_is_the_meshs_and_a_services_at_once_and_all_are_explained() {
    let entries = loaded("").explain(None).unwrap();
    assert!(entries.len() > 30);
    for entry in entries {
        assert!(!entry.doc.is_empty(), "{} has no documentation", entry.path);
    }
}

#[test]
fn the_example_has_every_setting_and_says_the_true_defaults() {
    let (plain, whole) = (loaded(EXAMPLE), loaded(&uncommented()));
    for setting in plain.explain(None).unwrap() {
        let written = whole.explain(Some(&setting.path)).unwrap().remove(0);
        assert!(written.origin.starts_with("paymesh.example.toml:"), "{} is not in it", setting.path);
        // A list of tables is shown by an item, and stays empty by default.
        let is_shown = setting.default == Some(serde_json::json!([]))
            && EXAMPLE.contains(&format!("#[[{}]]", setting.path));
        if let (Some(default), "default", false) = (setting.default, setting.origin.as_str(), is_shown) {
            assert_eq!(written.value, Some(default), "{}", setting.path);
        }
    }
}

#[test]
fn the_example_is_fine_once_its_certificates_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let check = |arguments: &[&str]| {
        let output =
            paymesh(dir.path(), &[&["config", "check", "--config", "paymesh.toml"], arguments].concat())
                .output()
                .unwrap();
        (output.status.code(), text(&output))
    };
    std::fs::write(dir.path().join("paymesh.toml"), EXAMPLE).unwrap();
    let (code, said) = check(&[]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("svc-tax.identity.key: pki/svc-tax.key cannot be read"), "{said}");
    laid_out(dir.path());
    let (code, said) = check(&[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(
        said.starts_with("ok\n") && said.contains("svc-ledger    listens on 127.0.0.1:9102, 127.0.0.1:7102"),
        "{said}"
    );
    let (code, said) = check(&["--set", "svc-ledger.expiry_interval_ms=0", "--set", "svc-ledger.expry=1"]);
    assert_eq!(code, Some(1));
    assert!(
        said.contains("flag --set: svc-ledger.expiry_interval_ms: must be an integer, 1 to 3600000"),
        "{said}"
    );
    assert!(said.contains("svc-ledger.expry: unknown") && said.contains("2 problems"), "{said}");
    let (code, said) = check(&["svc-ledgr"]);
    assert_eq!(code, Some(1));
    assert!(said.contains("did you mean svc-ledger?"), "{said}");
}

#[test]
fn a_setting_is_explained_on_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let explain = |arguments: &[&str]| {
        let mut command = paymesh(dir.path(), &[&["config", "explain"], arguments].concat());
        let output = command.env("PAYMESH_EDGE_GATEWAY__HEADER_TIMEOUT_MS", "5").output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        text(&output)
    };
    let said = explain(&["edge-gateway.header_timeout_ms"]);
    assert!(said.starts_with("edge-gateway.header_timeout_ms = 5\n"), "{said}");
    assert!(said.contains("environment PAYMESH_EDGE_GATEWAY__HEADER_TIMEOUT_MS"), "{said}");
    let all: Vec<serde_json::Value> = serde_json::from_str(&explain(&["--json"])).unwrap();
    assert!(all.iter().any(|entry| entry["path"] == "edge-gateway.header_timeout_ms" && entry["value"] == 5));
}

/// A service of this test, killed when the test ends.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the admin port answers.
fn asked(admin: &str, what: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    let length = body.len();
    let request =
        format!("{what} HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_service_starts_from_the_example() {
    let dir = tempfile::tempdir().unwrap();
    laid_out(dir.path());
    // Free ports in place of the example's: others may have those.
    let free =
        ["--set", "svc-payments.rpc_listen=127.0.0.1:0", "--set", "svc-payments.admin_listen=127.0.0.1:0"];
    let arguments = [&["serve", "svc-payments", "--config", "paymesh.toml"], free.as_slice()].concat();
    let mut command = paymesh(dir.path(), &arguments);
    command.env("PAYMESH_MESH__TELEMETRY__FORMAT", "json").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut served = Served(command.spawn().unwrap());
    let mut said = String::new();
    let mut lines = BufReader::new(served.0.stderr.take().unwrap()).lines();
    let admin = loop {
        let line = lines.next().unwrap_or_else(|| panic!("it ended instead of serving:\n{said}")).unwrap();
        let event: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if event["message"] == "serving" {
            break event["admin_address"].as_str().unwrap().to_owned();
        }
        said.push_str(&line);
        said.push('\n');
    };
    let answer = asked(&admin, "GET /readyz", "");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = asked(&admin, "PUT /log?for_s=60", "warn,mesh=debug");
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\nwarn,mesh=debug\nthen info\n"),
        "{answer}"
    );
    let answer = asked(&admin, "PUT /log", "mesh=loud");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(dir.path().join("data/svc-payments").is_dir(), "its data is where the example says");
}
