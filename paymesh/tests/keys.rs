//! `paymesh keys` as its user sees it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

fn keys(dir: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_paymesh"));
    command.env_remove("PAYMESH_KEYS_FILE").env_remove("PAYMESH_PEPPER_FILE");
    command.arg("keys").args(arguments).arg("--keys-file").arg(dir.join("keys/api-keys.toml"));
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn json(dir: &Path, arguments: &[&str]) -> Value {
    let output = keys(dir, &[arguments, &["--json"]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stderr.is_empty());
    serde_json::from_slice(&output.stdout).unwrap()
}

fn create<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&["create", "--tenant", "acme", "--name", "billing app"][..], more].concat()
}

/// All that lies in the directory.
fn files(dir: &Path) -> String {
    fs::read_dir(dir.join("keys"))
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap())
        .collect()
}

#[test]
fn a_key_is_printed_once_and_lives_until_it_is_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let output = keys(dir.path(), &create(&["--scope", "payments:*", "--expires", "90d"]));
    let said = text(&output.stdout);
    let key = said.split_whitespace().find(|word| word.starts_with("pmk_")).unwrap().to_owned();
    assert_eq!((key.len(), said.matches(&key).count()), (60, 1), "{said}");
    let id = &key[4..20];
    let shown = json(dir.path(), &["show", id]);
    assert_eq!((shown["state"].as_str(), shown["scopes"][0].as_str()), (Some("active"), Some("payments:*")));
    assert!(shown["expires"].as_str().unwrap().ends_with('Z'));
    let rotated = json(dir.path(), &["rotate", id, "--overlap", "1h"]);
    let young = rotated["key"].as_str().unwrap();
    assert!(young.starts_with(&format!("pmk_{id}_")) && young != key);
    assert!(rotated["previous_secret_valid_until"].is_string());
    let list = text(&keys(dir.path(), &["list"]).stdout);
    assert!(list.contains(id) && list.contains("billing app"), "{list}");
    assert_eq!(json(dir.path(), &["list", "--tenant", "globex"]), Value::Array(Vec::new()));
    assert_eq!(json(dir.path(), &["revoke", id])["state"], "revoked");
    // Nothing that was written down or said later holds a secret.
    for secret in [&key[21..], &young[21..]] {
        assert!(
            !files(dir.path()).contains(secret)
                && !list.contains(secret)
                && !shown.to_string().contains(secret)
        );
    }
    for name in ["api-keys.toml", "api-keys.pepper", "api-keys.toml.lock"] {
        let mode = fs::metadata(dir.path().join("keys").join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn a_signing_secret_is_printed_with_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let made = json(dir.path(), &create(&["--scope", "*", "--require-signature", "hmac-sha256"]));
    assert_eq!(
        (made["signature"].as_str(), made["signing_secret"].as_str().unwrap().len()),
        (Some("hmac-sha256"), 44)
    );
    let shown = json(dir.path(), &["show", made["id"].as_str().unwrap()]);
    assert!(shown.get("key").is_none() && shown.get("signing_secret").is_none());
}

#[test]
fn mistakes_are_named_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    json(dir.path(), &create(&["--scope", "*"]));
    let before = files(dir.path());
    for (arguments, told) in [
        (create(&["--scope", "payment:read"]), "there is no scope payment:read"),
        (create(&["--scope", "payments"]), "<area>:<verb>"),
        (create(&[]), "--scope"),
        (create(&["--scope", "*", "--expires", "soon"]), "a span such as 90d"),
        (create(&["--scope", "*", "--expires", "0s"]), "expired before"),
        (create(&["--scope", "*", "--require-signature", "rsa"]), "hmac-sha256, ed25519"),
        (create(&["--scope", "*", "--require-signature", "ed25519"]), "needs a public_key"),
        (vec!["revoke", "aaaaaaaaaaaaaaaa"], "there is no key aaaaaaaaaaaaaaaa"),
        (vec!["rotate", "aaaaaaaaaaaaaaaa", "--overlap", "1"], "a number with a unit"),
    ] {
        let output = keys(dir.path(), &arguments);
        let said = text(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}");
        assert!(said.contains(told), "{arguments:?}: {said}");
    }
    assert_eq!(files(dir.path()), before);
    // Without its pepper a key file is of no use, and another one must not be made in its place.
    fs::remove_file(dir.path().join("keys/api-keys.pepper")).unwrap();
    let output = keys(dir.path(), &create(&["--scope", "*"]));
    assert!(text(&output.stderr).contains("the keys are hashed under it"), "{}", text(&output.stderr));
    assert!(!dir.path().join("keys/api-keys.pepper").exists());
}

/// A first command that was cut short has left its pepper and no key file.
#[test]
fn a_beginning_that_was_cut_short_is_taken_up() {
    let dir = tempfile::tempdir().unwrap();
    json(dir.path(), &create(&["--scope", "*"]));
    let pepper = fs::read_to_string(dir.path().join("keys/api-keys.pepper")).unwrap();
    fs::remove_file(dir.path().join("keys/api-keys.toml")).unwrap();
    json(dir.path(), &create(&["--scope", "*"]));
    assert_eq!(json(dir.path(), &["list"]).as_array().unwrap().len(), 1);
    assert_eq!(fs::read_to_string(dir.path().join("keys/api-keys.pepper")).unwrap(), pepper);
}

#[test]
fn commands_at_the_same_time_lose_no_key() {
    let dir = tempfile::tempdir().unwrap();
    json(dir.path(), &create(&["--scope", "*"]));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| json(dir.path(), &create(&["--scope", "tax:read"])));
        }
    });
    assert_eq!(json(dir.path(), &["list"]).as_array().unwrap().len(), 9);
}
