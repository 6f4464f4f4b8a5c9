//! What is refused at the start.

use mesh::{StartError, StoreError, postgres::Session};

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
    let somebody = client(&config).await;
    // Whatever the server is like: for this role it does not wait for the disk.
    let role = config.schema.clone();
    let make =
        format!("CREATE ROLE {role} LOGIN PASSWORD 'p'; ALTER ROLE {role} SET synchronous_commit = off");
    somebody.batch_execute(&make).await.unwrap();
    let password_file = dir.path().join("role");
    std::fs::write(&password_file, "p").unwrap();
    let (_, address) = config.url.rsplit_once('@').unwrap();
    let url = format!("postgres://{role}@{address}");
    let careful = PostgresConfig {
        url,
        password_file: Some(password_file),
        allow_unsynced_commits: false,
        ..config.clone()
    };
    let refused = PostgresStore::open(&careful).await;
    let careless = PostgresConfig { allow_unsynced_commits: true, ..careful };
    let session = PostgresStore::new(&careless).unwrap().server.connect(&Session::default()).await.unwrap();
    let pinned = PostgresStore::new(&careless).unwrap().server.pin_durability(&session).await;
    let commit: String = session.query_one("SHOW synchronous_commit", &[]).await.unwrap().get(0);
    drop(session);
    somebody.batch_execute(&format!("DROP ROLE {role}")).await.unwrap();
    let refused = refused.err().unwrap().to_string();
    assert!(refused.contains("allow_unsynced_commits") && refused.contains(" = off"), "{refused}");
    assert!(pinned.is_ok());
    assert_eq!(commit, "off");
}
