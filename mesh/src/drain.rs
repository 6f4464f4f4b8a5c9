//! How a service stops: told once, then given time to finish what it has begun.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::fault::Fault;

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

    /// The outcome of work that would go on for long, such as a feed: given up when stopping begins, with
    /// UNAVAILABLE, so that its caller goes on elsewhere. `go_on` says from where ([`Fault::stopping`]). Who has
    /// something of its own to finish first asks [`Self::started`] instead.
    pub async fn or_stopping<T>(
        &self,
        work: impl Future<Output = Result<T, Fault>>,
        go_on: &str,
    ) -> Result<T, Fault> {
        self.unless_started(work).await.unwrap_or_else(|| Err(Fault::stopping(go_on)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Reason;

    #[tokio::test]
    async fn what_would_go_on_is_given_up_with_a_word_on_how_to_go_on() {
        let drain = Drain::new();
        assert_eq!(drain.or_stopping(async { Ok(7) }, "again").await, Ok(7));
        let feeding = tokio::spawn({
            let drain = drain.clone();
            async move { drain.or_stopping(std::future::pending::<Result<(), _>>(), "ask from 7 on").await }
        });
        tokio::task::yield_now().await;
        drain.start();
        let fault = feeding.await.unwrap().unwrap_err();
        assert_eq!((fault.reason(), fault.retry_after()), (Reason::Unavailable, Some(1)));
        assert_eq!(fault.message(), "This service is stopping: ask from 7 on.");
    }
}
