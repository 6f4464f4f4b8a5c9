//! `paymesh crypto` on a running mesh, and on one that is stopped.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{path::Path, process::ExitCode};

use clap::Parser as _;
use paymesh::{
    args::{Cli, Command},
    crypto::{self, args::CryptoCommand},
};
use support::{Mesh, VISA, token};

/// What a command line prints, and whether all is well.
async fn said(dir: &Path, options: &[&str]) -> (String, bool) {
    let dir = dir.to_str().unwrap();
    let line = ["paymesh", "crypto", "audit"].into_iter().chain(options.iter().copied());
    let cli = Cli::try_parse_from(line.chain(["--data-dir", dir])).unwrap();
    let Some(Command::Crypto(CryptoCommand::Audit(command))) = cli.command else { panic!("another command") };
    let mut out = Vec::new();
    let code = crypto::run(&command, &mut out, |_, _| {}).await.unwrap();
    (String::from_utf8(out).unwrap(), code == ExitCode::SUCCESS)
}

#[tokio::test]
async fn the_audit_log_is_listed_and_verified_running_and_stopped() {
    let mesh = Mesh::start_for(&["acme"]).await;
    let card = token(&mesh.rest_of("acme"), VISA).await;
    let dir = mesh.dir.path();
    let (listed, _) = said(dir, &["list", "--tenant", "acme", "--from", "2026-01-01T00:00:00Z"]).await;
    let told = format!(" edge-gateway acme tokenize {card} - DONE 1x 0B\n");
    assert!(listed.starts_with("1 2") && listed.ends_with(&told), "{listed}");
    assert_eq!(said(dir, &["list", "--refused"]).await, (String::new(), true));

    let (verified, well) = said(dir, &["verify"]).await;
    assert!(well && verified.starts_with("records    1\nend        1:"), "{verified}");
    let end = verified.lines().nth(1).unwrap().rsplit(' ').next().unwrap().to_owned();
    mesh.dev.stop().await;

    let (offline, well) = said(dir, &["verify", "--offline", "--known-end", &end]).await;
    assert!(well, "{offline}");
    assert_eq!(offline, verified);
    // It is configured as the service is: here the root key lies elsewhere.
    let key = dir.join("elsewhere.key");
    std::fs::rename(dir.join("svc-crypto/root.key"), &key).unwrap();
    let set = format!("svc-crypto.root_key_file={}", key.display());
    assert_eq!(said(dir, &["verify", "--offline", "--set", &set]).await.0, verified);
    std::fs::rename(&key, dir.join("svc-crypto/root.key")).unwrap();
    let log = rusqlite::Connection::open(dir.join("svc-crypto/audit.db")).unwrap();
    log.execute("UPDATE record SET count = 2", []).unwrap();
    drop(log);
    let (changed, well) = said(dir, &["verify", "--offline"]).await;
    assert!(!well && changed.contains("offence    record 1 does not have the hash"), "{changed}");
}

/// What `paymesh crypto root` prints, and whether all is well.
async fn root_said(options: &[&str], share: &str) -> (String, bool) {
    let line = ["paymesh", "crypto", "root"].into_iter().chain(options.iter().copied());
    let cli = Cli::try_parse_from(line).unwrap();
    let Some(Command::Crypto(CryptoCommand::Root(command))) = cli.command else { panic!("another command") };
    let mut out = Vec::new();
    let code = crypto::root::run(&command, &mut out, || Ok(share.to_owned()), |_| {}).await.unwrap();
    (String::from_utf8(out).unwrap(), code == ExitCode::SUCCESS)
}

#[tokio::test]
async fn the_root_is_told_rotated_and_split() {
    let mesh = Mesh::start_for(&["acme"]).await;
    token(&mesh.rest_of("acme"), VISA).await;
    let dir = mesh.dir.path().to_str().unwrap();
    let (status, well) = root_said(&["status", "--data-dir", dir], "").await;
    assert!(well && status.contains("keys       2 under file:"), "{status}");
    assert!(status.ends_with("The current root is the only one that is needed.\n"), "{status}");
    let address = &mesh.dev.description().services["svc-crypto"];
    assert_eq!(root_said(&["status", "--data-dir", dir, "--address", address], "").await.0, status);
    let line = ["paymesh", "crypto", "root", "status", "--data-dir", dir, "--address", "none"];
    let Some(Command::Crypto(CryptoCommand::Root(command))) = Cli::try_parse_from(line).unwrap().command
    else {
        panic!("another command")
    };
    let elsewhere = crypto::root::run(&command, &mut Vec::new(), || Ok(String::new()), |_| {}).await;
    assert!(elsewhere.is_err(), "the address that was given is the one that is asked");
    let (rotated, well) = root_said(&["rotate", "--data-dir", dir], "").await;
    assert!(well && rotated.starts_with("keys       2\nrewrapped  0\nunder      file:"), "{rotated}");

    let key = mesh.dir.path().join("svc-crypto/root.key");
    let split = ["split", "--shares", "3", "--threshold", "2", "--root-key-file", key.to_str().unwrap()];
    let (shares, _) = root_said(&split, "").await;
    let lines: Vec<&str> = shares.lines().collect();
    let root_id = lines[0].strip_prefix("root_id    ").unwrap();
    assert!(status.contains(root_id), "it is the root in use");
    assert_eq!(lines.len(), 4);
    let (new, _) = root_said(&["split", "--shares", "2", "--threshold", "2", "--new"], "").await;
    assert!(!new.contains(root_id));
    assert!(
        Cli::try_parse_from(["paymesh", "crypto", "root", "split", "--shares", "2", "--threshold", "2"])
            .is_err()
    );
    let unseal = Cli::try_parse_from(["paymesh", "crypto", "root", "unseal", "--data-dir", dir]).unwrap();
    let Some(Command::Crypto(CryptoCommand::Root(command))) = unseal.command else {
        panic!("another command")
    };
    let refused = crypto::root::run(&command, &mut Vec::new(), || Ok(lines[1].to_owned()), |_| {}).await;
    assert!(refused.unwrap_err().to_string().contains("share"), "this mesh's root is in a file");
    mesh.dev.stop().await;
}
