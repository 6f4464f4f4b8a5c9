//! What happens to a ledger. The journal keeps events in their order; balances, indexes and snapshots
//! follow from them, and nothing else is the truth.

use std::sync::Arc;

use money::{TenantId, Timestamp};

use super::types::{Account, AccountId, Balances, Transfer, TransferId};

/// One thing that happened. Applying an event decides nothing: the decision was made when it was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// An account was opened.
    Opened(Arc<Account>),
    /// A transfer was made.
    Made {
        /// The transfer.
        transfer: Arc<Transfer>,
        /// The debited account.
        debit: Side,
        /// The credited account.
        credit: Side,
    },
    /// A reservation lapsed.
    Expired {
        /// When it was released: unique among all events that have a time.
        timestamp: Timestamp,
        /// The reservation.
        pending: Arc<Transfer>,
        /// The debited account.
        debit: Side,
        /// The credited account.
        credit: Side,
    },
    /// A transfer was refused for a cause that may pass; its id is never taken again.
    Burned {
        /// The tenant whose call it was.
        tenant: TenantId,
        /// The id.
        id: TransferId,
    },
    /// An account's limit was set.
    Limited {
        /// When: unique among all events that have a time.
        timestamp: Timestamp,
        /// The account.
        account: AccountId,
        /// The account's number.
        number: Timestamp,
        /// The new limit, in minor units.
        limit: i64,
    },
    /// Times were closed for good: answers about the past may have been given for any up to this one. Who goes on
    /// with the journal after a new beginning gives none of them to anything. Whoever recorded this knows what it was
    /// asked, and gives out those that it was not asked about.
    TimesClosed {
        /// The last of them.
        until: Timestamp,
    },
}

/// One side of a movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Side {
    /// The account's number: when it was opened, which is unique.
    pub number: Timestamp,
    /// Its balances after the movement.
    pub after: Balances,
    /// Whether it takes no transfers after the movement.
    pub closed: bool,
    /// Whether its balances are kept after each movement.
    pub has_history: bool,
}

impl Event {
    /// When it happened. A burned id has no time of its own, and neither has the closing of times.
    pub fn timestamp(&self) -> Option<Timestamp> {
        match self {
            Self::Opened(account) => Some(account.created_at),
            Self::Made { transfer, .. } => Some(transfer.timestamp),
            Self::Expired { timestamp, .. } | Self::Limited { timestamp, .. } => Some(*timestamp),
            Self::Burned { .. } | Self::TimesClosed { .. } => None,
        }
    }
}
