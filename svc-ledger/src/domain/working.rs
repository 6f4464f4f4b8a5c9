//! What one batch may touch, in memory: filled by the store, changed by the state machine.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use money::Timestamp;

use super::{
    transfer::{Decision, NewTransfer},
    types::{Account, AccountId, Balances, Given, Kind, ReservationState, Transfer, TransferId},
};

/// What is known of a transfer id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A transfer that is no reservation.
    Made(Arc<Transfer>),
    /// A reservation, and where it stands.
    Reserved(Arc<Transfer>, ReservationState),
    /// Failed for a transient cause: the id is burned, so that a late retry cannot succeed after
    /// the client has been told of the failure.
    Failed,
}

/// One thing that happened, in order; what the store writes down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A transfer was made. A `Pending` one opened a reservation, a `Post` or `Void` resolved one.
    Made {
        /// The transfer.
        transfer: Arc<Transfer>,
        /// The debited account's balances before it.
        debit_before: Balances,
        /// The credited account's balances before it.
        credit_before: Balances,
    },
    /// A reservation lapsed and was released.
    Expired {
        /// When it was released, in the ledger's one order of events.
        timestamp: Timestamp,
        /// The reservation.
        pending: Arc<Transfer>,
    },
    /// An id was burned.
    Burned(TransferId),
}

/// The ids that batches mention: what a store has to look up before they can be executed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Touched {
    /// Of the transfers and of the reservations they resolve. The accounts of the latter are
    /// touched too, and known once these are loaded.
    pub transfers: Vec<TransferId>,
    /// The accounts named.
    pub accounts: Vec<AccountId>,
}

impl Touched {
    /// Collects the ids, each once and sorted, so that a store reads along its keys.
    pub fn by<'a>(items: impl IntoIterator<Item = &'a NewTransfer>) -> Self {
        let mut touched = Self::default();
        for item in items {
            touched.transfers.extend([&item.id, &item.pending].into_iter().filter_map(Given::value));
            touched.accounts.extend([&item.debit, &item.credit].into_iter().filter_map(Given::value));
        }
        touched.transfers.sort_unstable();
        touched.transfers.dedup();
        touched.accounts.sort_unstable();
        touched.accounts.dedup();
        touched
    }
}

/// The part of the ledger that a batch may touch, and the log of what the batch did to it.
#[derive(Debug, Clone)]
pub struct WorkingSet {
    accounts: HashMap<AccountId, Account>,
    transfers: HashMap<TransferId, Known>,
    last: Timestamp,
    log: Vec<Change>,
}

/// The time of the ledger's next event: now, unless the clock stands still or was set back.
pub(super) fn next_timestamp(now: Timestamp, last: Timestamp) -> Timestamp {
    now.max(Timestamp::from_nanos(last.as_nanos().saturating_add(1)))
}

impl WorkingSet {
    /// An empty set; `last` is the time of the ledger's last event.
    pub fn new(last: Timestamp) -> Self {
        Self { accounts: HashMap::new(), transfers: HashMap::new(), last, log: Vec::new() }
    }

    /// The time that the next event would have.
    pub fn next_timestamp(&self, now: Timestamp) -> Timestamp {
        next_timestamp(now, self.last)
    }

    /// Puts in an account as the store has it.
    pub fn add_account(&mut self, account: Account) {
        self.accounts.insert(account.id, account);
    }

    /// Puts in what the store knows of a transfer id.
    pub fn add_transfer(&mut self, id: TransferId, known: Known) {
        self.transfers.insert(id, known);
    }

    /// An account, as it stands now.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// What is known of a transfer id now.
    pub fn known(&self, id: TransferId) -> Option<&Known> {
        self.transfers.get(&id)
    }

    /// Takes the log of changes out, in the order they happened.
    pub fn take_changes(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.log)
    }

    /// The accounts whose balances the changes moved, each once, as they stand now.
    pub fn touched<'a>(&'a self, changes: &[Change]) -> Vec<&'a Account> {
        let moved = |change: &Change| match change {
            Change::Made { transfer, .. } => Some([transfer.debit, transfer.credit]),
            Change::Expired { pending, .. } => Some([pending.debit, pending.credit]),
            Change::Burned(_) => None,
        };
        let ids: HashSet<AccountId> = changes.iter().filter_map(moved).flatten().collect();
        let mut accounts: Vec<&Account> = ids.into_iter().filter_map(|id| self.account(id)).collect();
        accounts.sort_unstable_by_key(|account| account.created_at);
        accounts
    }

    pub(super) fn mark(&self) -> Mark {
        Mark { log: self.log.len(), last: self.last }
    }

    /// Makes a transfer that was decided upon.
    pub(super) fn make(&mut self, decision: Decision) -> Timestamp {
        let Decision { transfer, debit_after, credit_after } = decision;
        let transfer = Arc::new(transfer);
        let timestamp = transfer.timestamp;
        let debit_before = self.set_balances(transfer.debit, debit_after);
        let credit_before = self.set_balances(transfer.credit, credit_after);
        let known = match transfer.kind {
            Kind::Pending { .. } => Known::Reserved(transfer.clone(), ReservationState::Open),
            Kind::Post { pending } => {
                self.set_state(pending, ReservationState::Posted);
                Known::Made(transfer.clone())
            }
            Kind::Void { pending } => {
                self.set_state(pending, ReservationState::Voided);
                Known::Made(transfer.clone())
            }
            Kind::Single => Known::Made(transfer.clone()),
        };
        self.transfers.insert(transfer.id, known);
        self.last = timestamp;
        self.log.push(Change::Made { transfer, debit_before, credit_before });
        timestamp
    }

    /// Releases a reservation that has lapsed.
    pub(super) fn release(&mut self, timestamp: Timestamp, pending: Arc<Transfer>, after: [Balances; 2]) {
        let [debit_after, credit_after] = after;
        self.set_balances(pending.debit, debit_after);
        self.set_balances(pending.credit, credit_after);
        self.set_state(pending.id, ReservationState::Expired);
        self.last = timestamp;
        self.log.push(Change::Expired { timestamp, pending });
    }

    /// Burns an id. Outlives the rollback of the chain it was in.
    pub(super) fn burn(&mut self, id: TransferId) {
        self.transfers.insert(id, Known::Failed);
        self.log.push(Change::Burned(id));
    }

    /// Undoes everything since the mark. Only transfers of one chain lie in between.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        while self.log.len() > mark.log {
            let Some(Change::Made { transfer, debit_before, credit_before }) = self.log.pop() else { break };
            self.set_balances(transfer.credit, credit_before);
            self.set_balances(transfer.debit, debit_before);
            self.transfers.remove(&transfer.id);
            if let Some(pending) = transfer.pending_id() {
                self.set_state(pending, ReservationState::Open);
            }
        }
        self.last = mark.last;
    }

    fn set_balances(&mut self, id: AccountId, after: Balances) -> Balances {
        self.accounts.get_mut(&id).map_or(after, |account| std::mem::replace(&mut account.balances, after))
    }

    fn set_state(&mut self, id: TransferId, to: ReservationState) {
        if let Some(Known::Reserved(_, state)) = self.transfers.get_mut(&id) {
            *state = to;
        }
    }
}

/// A point to roll back to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    log: usize,
    last: Timestamp,
}
