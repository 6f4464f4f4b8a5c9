//! Whose turn it is on a connection: what of its requests waits for us, and what for its peer. A drain waits long
//! for the one, and not for a peer that takes nothing of what it asked for.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

/// The requests of one connection that wait for us. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Turns(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    ours: AtomicUsize,
    /// How often a turn began or ended: a peer that takes little by little goes on.
    changes: AtomicU64,
}

impl Turns {
    /// A request, which is ours to answer.
    pub(crate) fn begin(&self) -> Turn {
        let mut turn = Turn { of: self.clone(), is_ours: false };
        turn.ours(true);
        turn
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

#[cfg(test)]
mod tests {
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
}
