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
    let log = rusqlite::Connection::open(dir.join("svc-crypto/audit.db")).unwrap();
    log.execute("UPDATE record SET count = 2", []).unwrap();
    drop(log);
    let (changed, well) = said(dir, &["verify", "--offline"]).await;
    assert!(!well && changed.contains("offence    record 1 does not have the hash"), "{changed}");
}
