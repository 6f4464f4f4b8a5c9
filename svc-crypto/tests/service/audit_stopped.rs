//! Verifying the audit log of a service that is stopped needs what the service needs, and changes nothing.

use std::{collections::BTreeMap, fs, path::Path};

use svc_crypto::{
    audit::verify_stopped,
    config::Config,
    root::{RootConfig, SharesConfig},
    store::PostgresConfig,
};

use crate::common::{World, card};

/// What lies in the directory, once what SQLite keeps beside its files has been moved into them.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    settle(dir);
    let files = fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        (path.file_name().unwrap().to_string_lossy().into_owned(), fs::read(path).unwrap())
    });
    files.filter(|(name, _)| !name.ends_with("-wal") && !name.ends_with("-shm")).collect()
}

/// Moves what SQLite keeps beside the files into them: from then on they change only where somebody writes.
fn settle(data: &Path) {
    for name in ["audit.db", "crypto.db"] {
        let connection = rusqlite::Connection::open(data.join(name)).unwrap();
        let busy: bool =
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
        assert!(!busy, "{name}");
    }
}

async fn refused(data: &Path, config: &Config) -> String {
    verify_stopped(data, config, None, |_| true).await.unwrap_err().to_string()
}

#[tokio::test]
async fn nothing_is_made_migrated_or_adopted() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("svc-crypto");
    let world = World::start(dir.path()).await;
    world.tokenize("acme", card("4242424242424242")).await.unwrap();
    assert!(refused(&data, &Config::default()).await.contains("another process"), "it is running");
    world.service.stop().await;
    let before = files(&data);
    let (end, offence) = verify_stopped(&data, &Config::default(), None, |_| true).await.unwrap();
    assert_eq!((end.sequence, offence), (1, None));
    assert_eq!(files(&data), before);

    // A root beside the one that there is: it is not asked, and is not on record afterwards.
    let other = dir.path().join("other.key");
    fs::write(&other, [8; 32]).unwrap();
    let both = Config {
        root_key_file: Some(other.clone()),
        previous_root_key_file: Some(data.join("root.key")),
        ..Config::default()
    };
    let (_, offence) = verify_stopped(&data, &both, None, |_| true).await.unwrap();
    assert_eq!((offence, files(&data)), (None, before.clone()));

    let alone = Config { root_key_file: Some(other), ..Config::default() };
    assert!(refused(&data, &alone).await.contains("not configured"));
    let postgres = PostgresConfig {
        url: "postgres://nobody@127.0.0.1:1/none".into(),
        password_file: None,
        ca_file: None,
        schema: "none".into(),
        pool_max: 1,
        keys_trusted_for_ms: 1_000,
        connect_timeout_ms: 1_000,
        query_timeout_ms: 1_000,
        allow_unsynced_commits: true,
    };
    let postgres = Config { postgres: Some(postgres), ..Config::default() };
    assert!(refused(&data, &postgres).await.contains("PostgreSQL"));
    let shares = SharesConfig { root_id: uuid::Uuid::from_u128(1).to_string() };
    let shares = RootConfig { shares: Some(shares), ..RootConfig::default() };
    assert!(refused(&data, &Config { root: shares, ..Config::default() }).await.contains("not configured"));
    assert_eq!(files(&data), before);

    for gone in ["root.key", "crypto.db"] {
        fs::rename(data.join(gone), dir.path().join(gone)).unwrap();
        let said = refused(&data, &Config::default()).await;
        assert!(said.contains(gone), "{said}");
        assert!(!data.join(gone).exists(), "{gone} is not made anew");
        fs::rename(dir.path().join(gone), data.join(gone)).unwrap();
    }
    assert_eq!(files(&data), before);
}
