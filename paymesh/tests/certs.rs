//! `paymesh certs` as an operator uses it: the binary, its files, its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use mesh::{
    Clock as _, SpiffeId, SystemClock,
    pki::{CertificateAuthority, CertificateFiles, Validity},
    tls::Identity,
};
use serde_json::Value;

fn certs(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_paymesh"))
        .arg("certs")
        .args(arguments)
        .arg("--dir")
        .arg(dir)
        .env_remove("PAYMESH_PKI_DIR")
        .output()
        .unwrap()
}

fn done(dir: &Path, arguments: &[&str]) -> String {
    let output = certs(dir, arguments);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{arguments:?}: {text} {}", String::from_utf8_lossy(&output.stderr));
    text
}

fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = certs(dir, arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

fn rows(output: &Output) -> Vec<Value> {
    serde_json::from_slice::<Vec<Value>>(&output.stdout).unwrap()
}

#[test]
fn a_mesh_gets_its_certificates_and_a_new_ca_step_by_step() {
    let parent = tempfile::tempdir().unwrap();
    let dir = &parent.path().join("pki");
    assert!(refused(dir, &["issue", "svc-tax"]).contains("paymesh certs init"));
    done(dir, &["init"]);
    assert!(refused(dir, &["init"]).contains("nothing was overwritten"));
    done(dir, &["issue", "svc-tax", "svc-fraud", "--days", "7", "--host", "tax.internal"]);
    let files = CertificateFiles::within(dir, "svc-tax");
    let key = || fs::read_to_string(&files.key).unwrap();
    let first = key();
    assert!(refused(dir, &["issue", "svc-tax"]).contains("nothing was overwritten"));
    assert!(refused(dir, &["issue", "Not A Name"]).contains("spiffe://"));
    assert_eq!(key(), first);
    assert!(refused(dir, &["renew", "svc-ledger"]).contains("paymesh certs issue svc-ledger"));
    assert_eq!(done(dir, &["renew", "--due"]), "", "nothing is due");
    assert_eq!(done(dir, &["renew", "svc-tax"]), "renewed svc-tax\n");
    assert_ne!(key(), first);

    assert!(refused(dir, &["rotate-ca", "reissue"]).contains("`add` first"));
    done(dir, &["rotate-ca", "add"]);
    assert!(refused(dir, &["rotate-ca", "drop"]).contains("`reissue` first"));
    assert!(done(dir, &["status"]).contains("trusted, does not sign"));
    done(dir, &["rotate-ca", "reissue"]);
    done(dir, &["rotate-ca", "drop"]);
    Identity::load(&files).unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        if path.extension().is_some_and(|extension| extension == "key") {
            assert_eq!(mode, 0o600, "{}", path.display());
        }
        assert!(!path.to_string_lossy().ends_with(".draft"), "{}", path.display());
    }
    assert_eq!(fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!dir.join("ca.next.key").exists());
}

#[test]
fn status_says_who_has_what_and_fails_when_something_is_over() {
    let parent = tempfile::tempdir().unwrap();
    let dir = &parent.path().join("pki");
    done(dir, &["init"]);
    done(dir, &["issue", "svc-tax"]);
    let table = done(dir, &["status"]);
    assert!(table.starts_with("WORKLOAD") && table.contains("svc-tax"), "{table}");
    let authority = CertificateAuthority::open(dir).unwrap();
    let issue = |name: &str, from_s, until_s| {
        let id = SpiffeId::of(name).unwrap();
        authority.issue_for(name, &id, SystemClock.now(), Validity { from_s, until_s }).unwrap()
    };
    issue("svc-due", -1_000_000, 86_400);
    let good = certs(dir, &["status", "--json"]);
    assert!(good.status.success(), "due is not over");
    let of = |rows: &[Value], name: &str| rows.iter().find(|row| row["name"] == name).unwrap().clone();
    let found = rows(&good);
    assert_eq!(found[0]["kind"], "ca");
    assert_eq!(of(&found, "svc-due")["state"], "due");
    let tax = of(&found, "svc-tax");
    assert_eq!(tax["state"], "ok");
    assert!((29..=30).contains(&tax["days_left"].as_i64().unwrap()), "{tax}");
    assert_eq!(tax["spiffe_id"], "spiffe://paymesh.local/ns/paymesh/sa/svc-tax");
    assert_eq!(tax["issuer"], found[0]["name"]);
    assert_eq!(done(dir, &["renew", "--due"]), "renewed svc-due\n");

    issue("svc-over", -7_200, -3_600);
    let mixed = issue("svc-mixed", -300, 86_400);
    fs::copy(CertificateFiles::within(dir, "svc-tax").key, mixed.key).unwrap();
    let bad = certs(dir, &["status", "--json"]);
    assert!(!bad.status.success());
    let found = rows(&bad);
    assert_eq!(of(&found, "svc-over")["state"], "expired");
    assert_eq!(of(&found, "svc-mixed")["state"], "unusable");
    assert!(of(&found, "svc-mixed")["problem"].as_str().unwrap().contains("KeyMismatch"));
    assert!(!String::from_utf8(bad.stdout).unwrap().contains("PRIVATE KEY"));
}

#[test]
fn a_mesh_may_have_another_name() {
    let parent = tempfile::tempdir().unwrap();
    let dir = &parent.path().join("pki");
    let named = ["--trust-domain", "example.org", "--namespace", "billing"];
    let with = |arguments: &[&'static str]| [arguments, &named[..]].concat();
    done(dir, &with(&["init"]));
    done(dir, &with(&["issue", "svc-tax"]));
    let status = certs(dir, &with(&["status", "--json"]));
    assert!(status.status.success());
    assert!(rows(&status).iter().any(|row| row["spiffe_id"] == "spiffe://example.org/ns/billing/sa/svc-tax"));
    // In another mesh it is nobody's.
    assert!(!certs(dir, &["status"]).status.success());
    assert!(refused(dir, &["renew", "svc-tax"]).contains("not the certificate of a workload of this mesh"));
    assert!(refused(dir, &["issue", "svc-fraud", "--trust-domain", "Ex/ample"]).contains("trust_domain"));
}
