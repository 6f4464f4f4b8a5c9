//! The way to the server, which can stand still.

use std::sync::{Arc, Mutex};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::PostgresConfig;

/// What is passed on.
#[derive(Default)]
struct Passing {
    /// How many connections were made.
    connections: usize,
    /// Those before this one stand still.
    still_below: usize,
    /// After so many more pieces from this side all do that there are.
    pieces_left: Option<usize>,
}

/// Passes bytes on to the server, until it is told not to.
pub(super) struct Proxy {
    port: u16,
    passing: Arc<Mutex<Passing>>,
    changed: watch::Sender<usize>,
}

impl Proxy {
    pub(super) async fn new(config: &PostgresConfig) -> Self {
        let server = config.url.rsplit_once('@').unwrap().1.split_once('/').unwrap().0.to_owned();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (passing, changed) = (Arc::new(Mutex::new(Passing::default())), watch::Sender::new(0));
        let (of_task, changes) = (Arc::clone(&passing), changed.clone());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&server).await.unwrap();
                let (client, server) = (client.into_split(), server.into_split());
                let number = {
                    let mut passing = of_task.lock().unwrap();
                    passing.connections += 1;
                    passing.connections - 1
                };
                for (mut from, mut to, counts) in [(client.0, server.1, true), (server.0, client.1, false)] {
                    let (passing, changes) = (Arc::clone(&of_task), changes.clone());
                    tokio::spawn(async move {
                        let mut piece = vec![0; 64 << 10];
                        while let Ok(count @ 1..) = from.read(&mut piece).await {
                            if !passes(&passing, &changes, number, counts)
                                || to.write_all(&piece[..count]).await.is_err()
                            {
                                break;
                            }
                        }
                        if number < passing.lock().unwrap().still_below {
                            // Nobody is told that it has ended.
                            std::future::pending::<()>().await;
                        }
                    });
                }
            }
        });
        Self { port, passing, changed }
    }

    /// The same server, by this way.
    pub(super) fn config(&self, config: &PostgresConfig) -> PostgresConfig {
        let (user, rest) = config.url.rsplit_once('@').unwrap();
        let (_, database) = rest.split_once('/').unwrap();
        PostgresConfig { url: format!("{user}@127.0.0.1:{}/{database}", self.port), ..config.clone() }
    }

    /// All connections that there are stand still after so many more pieces from this side.
    pub(super) fn stand_still_after(&self, pieces: usize) {
        self.passing.lock().unwrap().pieces_left = Some(pieces);
    }

    /// All connections that there are stand still.
    pub(super) fn stand_still(&self) {
        let mut passing = self.passing.lock().unwrap();
        passing.still_below = passing.connections;
    }

    /// Waits until that many connections stand still.
    pub(super) async fn stands_still(&self, connections: usize) {
        self.changed.subscribe().wait_for(|still| *still >= connections).await.unwrap();
    }

    pub(super) fn connections(&self) -> usize {
        self.passing.lock().unwrap().connections
    }
}

/// Whether a piece of this connection is passed on.
fn passes(passing: &Mutex<Passing>, changes: &watch::Sender<usize>, number: usize, counts: bool) -> bool {
    let mut passing = passing.lock().unwrap();
    if number < passing.still_below {
        return false;
    }
    match passing.pieces_left {
        Some(0) if counts => {
            passing.pieces_left = None;
            passing.still_below = passing.connections;
            changes.send_replace(passing.still_below);
            false
        }
        Some(left) if counts => {
            passing.pieces_left = Some(left - 1);
            true
        }
        _ => true,
    }
}
