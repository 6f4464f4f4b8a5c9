//! For tests: the way to a server, which can be closed, and stand still in the midst of what is said.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// Passes bytes on to a server, from a port of its own on loopback, until it is told not to. Ends with its runtime.
pub struct Way {
    port: u16,
    inside: Arc<Inside>,
}

struct Inside {
    passing: Mutex<Passing>,
    open: watch::Sender<bool>,
    /// How many connections stand still.
    still: watch::Sender<usize>,
    spared: &'static [u8],
}

#[derive(Default)]
struct Passing {
    connections: usize,
    /// Those before this one stand still.
    still_below: usize,
    /// After so many more pieces from the client's side all do that there are.
    pieces_left: Option<usize>,
}

impl Way {
    /// To the server at this address.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn to(server: &str) -> io::Result<Self> {
        Self::sparing(server, &[]).await
    }

    /// The same, where connections are never held up whose first piece from the client's side holds these bytes.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn sparing(server: &str, spared: &'static [u8]) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let port = listener.local_addr()?.port();
        let (open, still) = (watch::Sender::new(true), watch::Sender::new(0));
        let inside = Arc::new(Inside { passing: Mutex::default(), open, still, spared });
        let (server, of_task) = (server.to_owned(), Arc::clone(&inside));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(&server).await {
                    tokio::spawn(Arc::clone(&of_task).carry(client, server));
                }
            }
        });
        Ok(Self { port, inside })
    }

    /// Where clients connect.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections were made.
    pub fn connections(&self) -> usize {
        self.inside.passing().connections
    }

    /// Passes nothing on until it is opened, and all of it then.
    pub fn close(&self) {
        self.inside.open.send_replace(false);
    }

    /// Passes everything on.
    pub fn open(&self) {
        self.inside.open.send_replace(true);
    }

    /// All connections that there are stand still for ever, and neither side is told.
    pub fn stand_still(&self) {
        self.inside.passing().stand_still(&self.inside.still);
    }

    /// The same after so many more pieces from the clients' side.
    pub fn stand_still_after(&self, pieces: usize) {
        self.inside.passing().pieces_left = Some(pieces);
    }

    /// Waits until all connections stand still that there are now.
    pub async fn stands_still(&self) {
        let (connections, mut still) = (self.connections(), self.inside.still.subscribe());
        // The sender is here.
        drop(still.wait_for(|still| *still >= connections).await);
    }
}

impl Passing {
    fn stand_still(&mut self, still: &watch::Sender<usize>) {
        self.still_below = self.connections;
        self.pieces_left = None;
        still.send_replace(self.connections);
    }
}

impl Inside {
    fn passing(&self) -> MutexGuard<'_, Passing> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry(self: Arc<Self>, client: TcpStream, server: TcpStream) {
        let number = {
            let mut passing = self.passing();
            passing.connections += 1;
            passing.connections - 1
        };
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        let is_spared = watch::Sender::new(false);
        tokio::join!(
            self.pass(from_client, to_server, number, Some(&is_spared), is_spared.subscribe()),
            self.pass(from_server, to_client, number, None, is_spared.subscribe()),
        );
    }

    /// One direction. `from_client`: where it is told whether the connection is spared.
    async fn pass(
        &self,
        mut from: tokio::net::tcp::OwnedReadHalf,
        mut to: tokio::net::tcp::OwnedWriteHalf,
        number: usize,
        from_client: Option<&watch::Sender<bool>>,
        is_spared: watch::Receiver<bool>,
    ) {
        let (mut piece, mut first) = (vec![0; 64 << 10], true);
        while let Ok(count @ 1..) = from.read(&mut piece).await {
            let piece = piece.get(..count).unwrap_or_default();
            if let Some(spared) = from_client.filter(|_| first && !self.spared.is_empty()) {
                spared.send_replace(piece.windows(self.spared.len()).any(|bytes| bytes == self.spared));
            }
            first = false;
            if !*is_spared.borrow() {
                drop(self.open.subscribe().wait_for(|open| *open).await);
                if !self.passes(number, from_client.is_some()) {
                    break;
                }
            }
            if to.write_all(piece).await.is_err() {
                break;
            }
        }
        if number < self.passing().still_below {
            // Nobody is told that it has ended.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the next piece of a connection is passed on.
    fn passes(&self, number: usize, from_client: bool) -> bool {
        let mut passing = self.passing();
        match &mut passing.pieces_left {
            Some(0) if from_client => passing.stand_still(&self.still),
            Some(left) if from_client => *left -= 1,
            _ => {}
        }
        number >= passing.still_below
    }
}
