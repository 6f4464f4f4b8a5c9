//! What is refused at the start, and what every session is held to.

use mesh::{StartError, StoreError};

use super::{Fixture, frame};
use crate::store::{
    Frames,
    ports::{Journal as _, JournalError},
    postgres::{
        MIGRATIONS, Postgres, PostgresConfig, journal,
        session::{Purpose, Server},
    },
};

#[tokio::test]
async fn migrations_are_applied_once_also_by_replicas_that_start_together() {
    let fixture = Fixture::without_schema().await;
    let opened = tokio::join!(fixture.open("a"), fixture.open("b"), fixture.open("c"), fixture.open("d"));
    drop(opened);
    let versions = fixture.count("SELECT count(*) FROM schema_version").await;
    assert_eq!(versions, i64::try_from(MIGRATIONS.len()).unwrap());
}

#[tokio::test]
async fn a_silent_server_is_not_waited_for() {
    let fixture = Fixture::new().await;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let config = fixture.config_at(listener.local_addr().unwrap().port());
    let server = Server::new(&PostgresConfig { connect_timeout_ms: 50, ..config }).unwrap();
    let silent = server.connect(Purpose::Lead).await.err().unwrap();
    assert!(silent.to_string().contains("does not answer"), "{silent}");
}

#[tokio::test]
async fn a_schema_may_have_the_name_of_a_keyword_and_be_there_already() {
    let fixture = Fixture::without_schema().await;
    let config = PostgresConfig { schema: "user".to_owned(), ..fixture.config.clone() };
    fixture.run("CREATE SCHEMA \"user\"").await;
    for _ in 0..2 {
        Postgres::open(&config).await.unwrap();
    }
    assert_eq!(fixture.count("SELECT count(*) FROM \"user\".leadership").await, 1);
    fixture.run("DROP SCHEMA \"user\" CASCADE").await;
    fixture.run(&format!("CREATE SCHEMA {}", fixture.config.schema)).await;
}

#[tokio::test]
async fn a_schema_from_a_newer_program_is_refused() {
    let fixture = Fixture::new().await;
    fixture.run("INSERT INTO schema_version (version) VALUES (999)").await;
    let refused = Postgres::open(&fixture.config).await.err().unwrap();
    let known = MIGRATIONS.len();
    assert!(
        matches!(refused, StartError::Store(StoreError::Newer { found: 999, known: k }) if k == known),
        "{refused:?}"
    );
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_and_those_before_it_stay() {
    let fixture = Fixture::without_schema().await;
    let mut client = fixture.server().connect(Purpose::Migrate).await.unwrap();
    let broken: &[&str] = &["CREATE TABLE one (n int)", "CREATE TABLE two (n int); SELECT no_such_column"];
    fixture.server().migrate(&mut client, broken).await.unwrap_err();
    let tables =
        "SELECT count(*) FROM pg_tables WHERE schemaname = current_schema() AND tablename IN ('one', 'two')";
    assert_eq!(fixture.count(tables).await, 1);
    let mended: &[&str] = &[broken[0], "CREATE TABLE two (n int)"];
    fixture.server().migrate(&mut client, mended).await.unwrap();
    assert_eq!(fixture.count(tables).await, 2);
}

#[tokio::test]
async fn a_journal_of_another_key_is_refused() {
    let fixture = Fixture::new().await;
    let key_file = fixture.directory.path().join("other.key");
    std::fs::write(&key_file, [8; 32]).unwrap();
    let other = PostgresConfig { key_file, ..fixture.config.clone() };
    let refused = Postgres::open(&other).await.err().unwrap();
    assert!(matches!(&refused, StartError::Config(said) if said.contains("another key")), "{refused:?}");
    Postgres::open(&fixture.config).await.unwrap();
}

#[tokio::test]
async fn a_server_that_may_lose_commits_is_refused_unless_that_is_allowed() {
    let fixture = Fixture::new().await;
    let careful = PostgresConfig { allow_unsynced_commits: false, ..fixture.config.clone() };
    let unsynced = fixture.count(
        "SELECT count(*) FROM pg_settings WHERE name IN ('fsync', 'synchronous_commit') AND setting = 'off'",
    );
    // The server that tests get keeps nothing on disk; one that somebody brings may be a careful one.
    if unsynced.await > 0 {
        let refused = Postgres::open(&careful).await.err().unwrap();
        assert!(
            matches!(&refused, StartError::Store(StoreError::Server(said)) if said.contains("allow_unsynced_commits")),
            "{refused:?}"
        );
    }
    // A setting that is changed later does not reach a session that commits.
    let epoch = fixture.take_over("first").await;
    let client = fixture.server().connect_writer(epoch).await.unwrap();
    let source = "SELECT source FROM pg_settings WHERE name = 'synchronous_commit'";
    assert_eq!(client.query_one(source, &[]).await.unwrap().get::<_, String>(0), "session");
}

#[tokio::test]
async fn every_session_is_read_committed_whatever_the_server_says() {
    let fixture = Fixture::new().await;
    for purpose in [Purpose::Migrate, Purpose::Lead, Purpose::Write(1), Purpose::Read] {
        let client = fixture.server().connect(purpose).await.unwrap();
        let row = client
            .query_one("SELECT current_setting('transaction_isolation'), current_schema()::text", &[])
            .await
            .unwrap();
        assert_eq!(
            (row.get(0), row.get(1)),
            ("read committed", fixture.config.schema.as_str()),
            "{purpose:?}"
        );
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_told_without_the_password() {
    let fixture = Fixture::new().await;
    let password = std::fs::read_to_string(fixture.config.password_file.as_ref().unwrap()).unwrap();
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let gone = fixture.at(port).connect(Purpose::Lead).await.err().unwrap();
    let said = gone.to_string();
    assert!(said.contains("refused") && !said.contains(password.trim()), "{said}");

    let wrong = fixture.directory.path().join("wrong");
    std::fs::write(&wrong, "no-such-password").unwrap();
    let config = PostgresConfig { password_file: Some(wrong), ..fixture.config.clone() };
    let refused = Server::new(&config).unwrap().connect(Purpose::Lead).await.err().unwrap();
    let said = refused.to_string();
    assert!(said.contains("28P01") && !said.contains("no-such-password"), "{said}");
}

#[tokio::test]
async fn a_journal_is_read_in_pages_and_a_missing_frame_is_told() {
    let fixture = Fixture::new().await;
    let epoch = fixture.take_over("first").await;
    let mut writer = fixture.journal(epoch).await;
    let large = |sequence| {
        let mut frame = frame(sequence);
        frame.bytes = vec![1; 96 << 10].into();
        frame
    };
    for sequence in 1..=5 {
        writer.append(&[large(sequence)]).await.unwrap();
    }
    let client = &fixture.admin;
    let page: Vec<u64> = journal::read(client, 0).await.unwrap().iter().map(|frame| frame.sequence).collect();
    assert_eq!(page, [1, 2, 3], "three begin within 256 KiB");
    assert_eq!(journal::read(client, 3).await.unwrap().len(), 2);
    assert_eq!(journal::read(client, 5).await.unwrap(), []);
    let (postgres, _) = fixture.open("reader").await;
    let read = async |from, durable| {
        let mut frames = Frames::from(&postgres, from);
        let mut read = Vec::new();
        while let Some(frame) = frames.next(durable).await.transpose() {
            read.push(frame.map(|frame| frame.sequence).map_err(|error| error.to_string()));
            if read.last().is_some_and(Result::is_err) {
                break;
            }
        }
        read
    };
    assert_eq!(read(0, 4).await, [Ok(1), Ok(2), Ok(3), Ok(4)], "not beyond what is durable");
    assert_eq!(read(4, 5).await, [Ok(4), Ok(5)]);
    assert_eq!(read(6, 5).await, []);
    assert!(matches!(&read(5, 6).await[..], [Ok(5), Err(missing)] if missing.contains('6')));
    writer.append(&[frame(7)]).await.unwrap();
    assert!(matches!(&read(5, 7).await[..], [Ok(5), Err(missing)] if missing.contains('6')));
    assert_eq!(journal::read(client, 4).await.unwrap().len(), 1, "what is before it comes first");
    let missing = journal::read(client, 5).await.unwrap_err();
    assert!(matches!(missing, JournalError::Damaged { sequence: 6, .. }), "{missing:?}");
}
