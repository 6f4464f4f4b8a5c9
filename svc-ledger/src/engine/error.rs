//! Why the engine did not do what was asked, and how callers are told.

use mesh::{Fault, Reason, store::StoreError};

use crate::store::ports::JournalError;

/// Why the engine did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// Too much waits already. Nothing was done.
    #[error("too many calls are waiting")]
    Overloaded,
    /// The engine is gone. Whether the call was carried out is not known.
    #[error("the engine has stopped")]
    Closed,
    /// Another replica leads. Nothing was done.
    #[error("{leader} leads this ledger")]
    NotLeader {
        /// Its name, or nothing while nobody leads.
        leader: String,
    },
    /// The journal failed. Whether the call was carried out is not known.
    #[error("the journal failed: {0}")]
    Journal(String),
    /// The index failed. Nothing was done.
    #[error("the index failed: {0}")]
    Index(String),
    /// Another audit or verification is under way.
    #[error("one is under way")]
    Busy,
}

/// When to ask again while another audit is under way, in seconds.
const BUSY_RETRY_AFTER_S: u32 = 10;

impl From<JournalError> for EngineError {
    fn from(error: JournalError) -> Self {
        match error {
            JournalError::Fenced { leader } => Self::NotLeader { leader },
            other => Self::Journal(other.to_string()),
        }
    }
}

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::Index(error.to_string())
    }
}

impl From<EngineError> for Fault {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Overloaded => {
                Fault::new(Reason::Overloaded, "Too many requests are waiting; try again later.")
                    .retry_after_s(1)
            }
            EngineError::Closed => Fault::new(Reason::Unavailable, "The service is stopping; try again."),
            EngineError::NotLeader { leader } if leader.is_empty() => {
                Fault::new(Reason::Unavailable, "No replica leads this ledger yet; try again.")
                    .retry_after_s(1)
            }
            EngineError::NotLeader { leader } => {
                Fault::new(Reason::Unavailable, format!("This ledger is led by {leader}; ask there."))
                    .retry_after_s(1)
            }
            EngineError::Journal(_) => {
                tracing::error!(%error, "the ledger's journal failed");
                Fault::new(Reason::Unavailable, "The outcome is not known yet; ask again with the same ids.")
                    .retry_after_s(1)
            }
            EngineError::Index(_) => {
                tracing::error!(%error, "the ledger's index failed");
                Fault::new(Reason::Internal, "The service could not reach its store.")
            }
            EngineError::Busy => {
                Fault::new(Reason::Overloaded, "An audit is under way; try again when it is over.")
                    .retry_after_s(BUSY_RETRY_AFTER_S)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_audit_is_told_when_to_come_again() {
        let fault = Fault::from(EngineError::Busy);
        assert_eq!((fault.reason(), fault.retry_after()), (Reason::Overloaded, Some(BUSY_RETRY_AFTER_S)));
    }

    #[test]
    fn who_asks_a_follower_is_told_who_leads() {
        let fault = Fault::from(EngineError::NotLeader { leader: "ledger-1".into() });
        assert_eq!(fault.reason(), Reason::Unavailable);
        assert!(fault.message().contains("ledger-1"));
    }
}
