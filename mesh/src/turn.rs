//! Whose turn it is on a connection: what of its requests waits for us, and what for its peer. A drain waits long
//! for the one, and not for a peer that takes nothing of what it asked for.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What a peer takes of an answer is longer than this, in bytes; a ping or a window's change is not.
const SIGN_OF_LIFE_BYTES_MAX: usize = 64;

/// The requests of one connection that wait for us. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ours: AtomicUsize,
    /// How often a turn began or ended, or bytes left: a peer that takes little by little goes on.
    changes: AtomicU64,
}

impl Turns {
    /// A request, which is ours to answer.
    pub(crate) fn begin(&self) -> Turn {
        let mut turn = Turn { of: self.clone(), is_ours: false };
        turn.ours(true);
        turn
    }

    /// A connection whose peer is seen to take what is written to it.
    pub(crate) fn seen_on<T>(&self, stream: T) -> Seen<T> {
        Seen { inner: stream, turns: self.clone() }
    }

    /// Done when all was the peer's to take for so long, and it took nothing. Looks now and then: it may take twice
    /// as long.
    pub(crate) async fn left_untaken(&self, patience: Duration) {
        loop {
            let before = self.0.changes.load(Ordering::SeqCst);
            tokio::time::sleep(patience).await;
            let ours = self.0.ours.load(Ordering::SeqCst);
            if ours == 0 && self.0.changes.load(Ordering::SeqCst) == before {
                return;
            }
        }
    }
}

/// One request's turn. It ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    of: Turns,
    is_ours: bool,
}

impl Turn {
    /// Whether the request waits for us from now on, or for its peer to take what there is.
    pub(crate) fn ours(&mut self, is_ours: bool) {
        if self.is_ours == is_ours {
            return;
        }
        self.is_ours = is_ours;
        self.of.0.changes.fetch_add(1, Ordering::SeqCst);
        if is_ours {
            self.of.0.ours.fetch_add(1, Ordering::SeqCst);
        } else {
            self.of.0.ours.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.ours(false);
    }
}

/// Counts what leaves.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    inner: T,
    turns: Turns,
}

impl<T> Seen<T> {
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written
            && bytes > SIGN_OF_LIFE_BYTES_MAX
        {
            self.turns.0.changes.fetch_add(1, Ordering::SeqCst);
        }
        written
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Seen<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Seen<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, bytes);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    /// Whether it is left untaken within three times the patience.
    async fn is_left(turns: &Turns) -> bool {
        tokio::time::timeout(3 * PATIENCE, turns.left_untaken(PATIENCE)).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_is_the_peers_to_take_is_left_untaken() {
        let turns = Turns::default();
        assert!(is_left(&turns).await, "there is nothing");
        let (mut one, other) = (turns.begin(), turns.begin());
        assert!(!is_left(&turns).await);
        one.ours(false);
        one.ours(false);
        assert!(!is_left(&turns).await, "the other one is ours");
        drop(other);
        assert!(is_left(&turns).await);
        one.ours(true);
        assert!(!is_left(&turns).await);
        drop(one);
        assert!(is_left(&turns).await, "it is over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_little_by_little_is_waited_for() {
        let turns = Turns::default();
        let mut stream = turns.begin();
        stream.ours(false);
        let taking = async {
            for _ in 0..20 {
                tokio::time::sleep(PATIENCE * 9 / 10).await;
                stream.ours(true);
                stream.ours(false);
            }
        };
        tokio::select! {
            () = turns.left_untaken(PATIENCE) => panic!("it took something"),
            () = taking => {}
        }
    }

    /// One long message: no turn begins or ends while it is taken.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_one_long_message_slowly_is_waited_for_and_one_that_only_lives_is_not() {
        let turns = Turns::default();
        let (ours, mut theirs) = tokio::io::duplex(1_024);
        let mut ours = turns.seen_on(ours);
        let writing = async { ours.write_all(&vec![0; 20 << 10]).await };
        let reading = async {
            let mut piece = [0; 1_024];
            for _ in 0..20 {
                tokio::time::sleep(PATIENCE * 9 / 10).await;
                theirs.read_exact(&mut piece).await.unwrap();
            }
        };
        tokio::select! {
            () = turns.left_untaken(PATIENCE) => panic!("it took something"),
            (written, ()) = async { tokio::join!(writing, reading) } => written.unwrap(),
        }

        let pings = async {
            loop {
                tokio::time::sleep(PATIENCE / 2).await;
                ours.write_all(&[0; 17]).await.unwrap();
            }
        };
        tokio::select! {
            left = is_left(&turns) => assert!(left, "a ping is no answer"),
            () = pings => {}
        }
    }
}
