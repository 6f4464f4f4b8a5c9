//! The connection is lost before the answer: what was written is known to whoever reads it, and to nobody
//! else.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{Fixture, PATIENCE, frame};
use crate::store::{
    ports::{Journal as _, JournalError},
    postgres::{PostgresJournal, place::Place},
};

const OPEN: u8 = 0;
/// What is sent arrives, and the answer does not.
const DROP_ANSWERS: u8 = 1;
/// What is sent does not arrive.
const DROP_REQUESTS: u8 = 2;

/// Passes bytes on until it is told to lose some; then it cuts the connection.
struct Proxy {
    port: u16,
    mode: Arc<AtomicU8>,
}

impl Proxy {
    async fn before(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let mode = Arc::new(AtomicU8::new(OPEN));
        let shared = Arc::clone(&mode);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, TcpStream::connect(server).await.unwrap(), Arc::clone(&shared)));
            }
        });
        Self { port, mode }
    }
}

async fn pass(client: TcpStream, server: TcpStream, mode: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let requests = {
        let mode = Arc::clone(&mode);
        async move {
            let mut buffer = vec![0; 65_536];
            loop {
                let read = from_client.read(&mut buffer).await.unwrap_or(0);
                if read == 0 || mode.load(Ordering::SeqCst) == DROP_REQUESTS {
                    return;
                }
                to_server.write_all(&buffer[..read]).await.unwrap();
            }
        }
    };
    let answers = async move {
        let mut buffer = vec![0; 65_536];
        loop {
            let read = from_server.read(&mut buffer).await.unwrap_or(0);
            // The answer is here, so the commit is done: now it is lost.
            if read == 0 || mode.load(Ordering::SeqCst) == DROP_ANSWERS {
                return;
            }
            to_client.write_all(&buffer[..read]).await.unwrap();
        }
    };
    // Whichever ends first takes both directions with it.
    tokio::select! { () = requests => {}, () = answers => {} }
}

async fn lose(fixture: &Fixture, mode: u8) -> JournalError {
    let url = fixture.config.url.rsplit_once('@').unwrap().1;
    let server: SocketAddr = url.split_once('/').unwrap().0.parse().unwrap();
    let proxy = Proxy::before(server).await;
    let epoch = fixture.take_over("first").await;
    let mut journal =
        PostgresJournal::open(&fixture.at(proxy.port), epoch, Place::of_a_follower()).await.unwrap();
    journal.append(&[frame(1)]).await.unwrap();
    proxy.mode.store(mode, Ordering::SeqCst);
    let told = timeout(PATIENCE, journal.append(&[frame(2), frame(3)])).await.unwrap();
    let again = journal.append(&[frame(4)]).await;
    assert!(matches!(again, Err(JournalError::Failed(_))), "nothing more may be appended: {again:?}");
    told.unwrap_err()
}

#[tokio::test]
async fn an_append_without_an_answer_is_unknown_and_the_next_leader_reads_what_happened() {
    for (mode, expected) in [(DROP_ANSWERS, 3), (DROP_REQUESTS, 1)] {
        let fixture = Fixture::new().await;
        let told = lose(&fixture, mode).await;
        assert!(matches!(told, JournalError::Unknown(_)), "{told:?}");
        let second = fixture.take_over("second").await;
        let (postgres, _) = fixture.open("second").await;
        assert_eq!(postgres.head().await.unwrap(), expected);
        let frames = postgres.frames_after(0).await.unwrap();
        assert_eq!(frames, (1..=expected).map(frame).collect::<Vec<_>>());
        fixture.journal(second).await.append(&[frame(expected + 1)]).await.unwrap();
    }
}

#[tokio::test]
async fn a_session_that_the_server_ends_leaves_the_outcome_unknown() {
    let fixture = Fixture::new().await;
    let epoch = fixture.take_over("first").await;
    let mut journal = fixture.journal(epoch).await;
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("SELECT FROM leadership FOR UPDATE", &[]).await.unwrap();
    let appending = tokio::spawn(async move { journal.append(&[frame(1)]).await });
    fixture.until_blocked(1).await;
    let name = fixture.server().writers(epoch);
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    assert_eq!(fixture.admin.query_one(ended, &[&name]).await.unwrap().get::<_, i64>(0), 1);
    let told = timeout(PATIENCE, appending).await.unwrap().unwrap();
    assert!(matches!(told, Err(JournalError::Unknown(_))), "{told:?}");
    hold.rollback().await.unwrap();
}
