//! Signals that end a run in order: by default they end the process at once, and nothing is dropped.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::BenchError;

/// SIGINT and SIGTERM, caught from its making until this process ends.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Within a runtime.
    pub(crate) fn catch() -> Result<Self, BenchError> {
        let caught = |kind| signal(kind).map_err(BenchError::io("catching signals"));
        Ok(Self { interrupt: caught(SignalKind::interrupt())?, terminate: caught(SignalKind::terminate())? })
    }

    /// The work's result; or, when a signal comes first, its name, and the work is dropped.
    pub(crate) async fn unless_any<T>(
        &mut self,
        work: impl Future<Output = Result<T, BenchError>>,
    ) -> Result<T, BenchError> {
        tokio::select! {
            biased;
            _ = self.interrupt.recv() => Err(BenchError::Interrupted { name: "SIGINT", number: 2 }),
            _ = self.terminate.recv() => Err(BenchError::Interrupted { name: "SIGTERM", number: 15 }),
            result = work => result,
        }
    }
}
