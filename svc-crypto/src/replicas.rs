//! What other replicas change: this one asks the store every so often, and lets go of the keys that were changed.
//! While it cannot ask, keys in memory are soon not good any more (see [`NamedKeys::with_replicas`]): what another one
//! disabled is refused here in time, or nothing is done with keys at all.

use std::{sync::Arc, time::Duration};

use mesh::{Drain, StoreError};
use tokio::time::{Instant, sleep, timeout};

use crate::{keyring::NamedKeys, store::Store};

/// How often it is asked within the time for which keys are trusted: three answers may be lost.
const ASKED_TIMES: u32 = 4;

/// Changes that one answer holds at most.
const CHANGES_MAX: usize = 1_000;

/// Follows what other replicas change.
pub struct Follower<S> {
    store: S,
    named: Arc<NamedKeys<S>>,
    trusted_for: Duration,
    /// The last change that was heard of.
    seen: u64,
    /// Who answered then.
    session: u64,
    failing: bool,
}

impl<S: Store> Follower<S> {
    /// From the last change on that there is now. To be called before the first key is used.
    ///
    /// # Errors
    /// The store failed.
    pub async fn new(store: S, named: Arc<NamedKeys<S>>, trusted_for: Duration) -> Result<Self, StoreError> {
        let (session, seen) = (store.session().await?, store.last_change().await?);
        Ok(Self { store, named, trusted_for, seen, session, failing: false })
    }

    /// Asks until the drain begins.
    pub async fn follow(mut self, drain: Drain) {
        let every = self.trusted_for / ASKED_TIMES;
        loop {
            match timeout(self.trusted_for, self.ask()).await {
                Ok(Ok(())) if self.failing => {
                    tracing::warn!("changes of keys by other replicas are heard of again");
                    self.failing = false;
                }
                Ok(Ok(())) => {}
                Ok(Err(error)) => self.failed(&error.to_string()),
                Err(_) => self.failed("the store does not answer"),
            }
            if drain.unless_started(sleep(every)).await.is_none() {
                return;
            }
        }
    }

    /// Says so once, and not four times a second.
    fn failed(&mut self, error: &str) {
        if !self.failing {
            tracing::error!(error, "changes of keys by other replicas are not heard of");
        }
        self.failing = true;
    }

    async fn ask(&mut self) -> Result<(), StoreError> {
        let asked_at = Instant::now();
        let (session, last) = (self.store.session().await?, self.store.last_change().await?);
        if session != self.session || last < self.seen {
            // It may have gone back, and forward again on another way.
            tracing::warn!("the store may have gone back to an earlier state: all keys are read anew");
            self.named.forget_all();
            (self.session, self.seen) = (session, last);
        }
        loop {
            let changes = self.store.changes(self.seen, CHANGES_MAX).await?;
            for change in &changes {
                self.named.forget(&change.tenant, &change.name);
                self.seen = change.number;
            }
            if changes.len() < CHANGES_MAX {
                self.named.heard(asked_at);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests;
