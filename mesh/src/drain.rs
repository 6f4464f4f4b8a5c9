//! How a service stops: told once, then given time to finish what it has begun.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// Says when to stop. Cheap to clone; all clones are told at once.
#[derive(Debug, Clone, Default)]
pub struct Drain(CancellationToken);

impl Drain {
    /// Nobody has been told to stop.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everyone to finish what they have begun and to begin nothing new.
    pub fn start(&self) {
        self.0.cancel();
    }

    /// Tells everyone at the latest when what is returned is dropped.
    pub fn start_on_drop(&self) -> impl Drop + Send + use<> {
        self.0.clone().drop_guard()
    }

    /// Whether stopping has begun.
    pub fn has_started(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits until stopping begins.
    pub async fn started(&self) {
        self.0.cancelled().await;
    }

    /// The future's output, or `None` if stopping begins first.
    pub async fn unless_started<F: Future>(&self, future: F) -> Option<F::Output> {
        self.0.run_until_cancelled(future).await
    }
}
