//! What is refused at the start.

use mesh::{StartError, StoreError};

use super::{PostgresConfig, PostgresStore, client, config, open};
use crate::store::{Store as _, postgres::MIGRATIONS};

#[tokio::test]
async fn replicas_that_start_together_migrate_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let opened = tokio::join!(
        PostgresStore::open(&config),
        PostgresStore::open(&config),
        PostgresStore::open(&config)
    );
    for store in [opened.0, opened.1, opened.2] {
        assert_eq!(store.unwrap().last_change().await.unwrap(), 0);
    }
    let versions = client(&config).await.query("SELECT version FROM schema_version", &[]).await.unwrap();
    assert_eq!(versions.len(), MIGRATIONS.len());
}

#[tokio::test]
async fn a_schema_from_a_newer_program_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let config = config(dir.path());
    client(&config).await.batch_execute("INSERT INTO schema_version (version) VALUES (999)").await.unwrap();
    let refused = PostgresStore::open(&config).await.err().unwrap();
    assert!(
        matches!(refused, StartError::Store(StoreError::Newer { found: 999, known }) if known == MIGRATIONS.len()),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused_unless_that_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path());
    let unsynced =
        "SELECT count(*) FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off'";
    let unsynced: i64 = client(&config).await.query_one(unsynced, &[]).await.unwrap().get(0);
    // The server that tests get keeps nothing on disk; one that somebody brings may be a careful one.
    if unsynced > 0 {
        let careful = PostgresConfig { allow_unsynced_commits: false, ..config };
        let refused = PostgresStore::open(&careful).await.err().unwrap();
        assert!(refused.to_string().contains("allow_unsynced_commits"), "{refused:?}");
    }
}
