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
    /// The journal, or the engine, could not be asked. It was to be read only.
    #[error("it could not be read: {0}")]
    Unread(String),
    /// What is kept is damaged, and reading it again does not help. Nothing was done.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// The index failed. Nothing was done.
    #[error("the index failed: {0}")]
    Index(String),
    /// Another audit or verification is under way.
    #[error("one is under way")]
    Busy,
}

/// When to ask again while another audit is under way, in seconds.
const BUSY_RETRY_AFTER_S: u32 = 10;

impl EngineError {
    /// Why the journal could not be read.
    pub(crate) fn reading(error: JournalError) -> Self {
        match error {
            JournalError::Fenced { leader } => Self::NotLeader { leader },
            JournalError::Damaged { .. } | JournalError::Foreign(_) => Self::Damaged(error.to_string()),
            JournalError::Unknown(_) | JournalError::Failed(_) => Self::Unread(error.to_string()),
        }
    }

    /// The same for who only reads: of that there is no outcome that could be known or not.
    pub(super) fn of_a_read(self) -> Self {
        match self {
            Self::Journal(why) => Self::Unread(why),
            other => other,
        }
    }
}

/// Why the journal could not be written.
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
        match error {
            StoreError::Corrupt(what) => Self::Damaged(what),
            other => Self::Index(other.to_string()),
        }
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
            EngineError::Unread(_) => {
                tracing::error!(%error, "the ledger could not be read");
                Fault::new(Reason::Unavailable, "The ledger could not be read; try again.").retry_after_s(1)
            }
            EngineError::Damaged(_) => {
                tracing::error!(%error, "what the ledger keeps is damaged");
                Fault::new(Reason::DataLoss, "What was asked for is damaged in the ledger's store.")
            }
            EngineError::Index(_) => {
                tracing::error!(%error, "the ledger's index failed");
                Fault::new(
                    Reason::Unavailable,
                    "The ledger could not look things up; try again with the same ids.",
                )
                .retry_after_s(1)
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
    fn a_read_has_no_outcome_and_what_is_damaged_is_not_asked_for_again() {
        let damaged = JournalError::Damaged { sequence: 3, what: "a bit of it".to_owned() };
        let foreign = JournalError::Foreign("another key".to_owned());
        for error in [damaged, foreign] {
            let fault = Fault::from(EngineError::reading(error));
            assert_eq!((fault.reason(), fault.retry_after()), (Reason::DataLoss, None));
        }
        let failed = || JournalError::Failed("no answer".to_owned());
        let unread = [EngineError::reading(failed()), EngineError::from(failed()).of_a_read()];
        for fault in unread.map(Fault::from) {
            assert_eq!((fault.reason(), fault.retry_after()), (Reason::Unavailable, Some(1)));
            assert!(!fault.message().contains("outcome"), "{}", fault.message());
        }
        let written = Fault::from(EngineError::from(failed()));
        assert!(written.message().contains("outcome"), "{}", written.message());
    }

    #[test]
    fn who_asks_a_follower_is_told_who_leads() {
        let fault = Fault::from(EngineError::NotLeader { leader: "ledger-1".into() });
        assert_eq!(fault.reason(), Reason::Unavailable);
        assert!(fault.message().contains("ledger-1"));
    }
}
