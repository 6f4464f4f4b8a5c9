//! What records do to the tables, each row once. Pure.

use std::{collections::HashMap, sync::Arc};

use money::{TenantId, Timestamp};

use crate::{
    domain::{
        Account, AccountFlags, AccountId, Balances, Event, Kind, ReservationState, Side, Transfer, TransferId,
    },
    store::ports::Happened,
};

/// Balances of an account right after a movement.
pub(super) struct Moment {
    pub(super) account: Timestamp,
    pub(super) at: Timestamp,
    pub(super) balances: Balances,
}

/// How an account stands in the end; what did not change is left out.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) moved: Option<(Balances, bool)>,
    pub(super) limit: Option<i64>,
}

/// Rows to add and rows to change. What is added is added as it stands in the end.
#[derive(Default)]
pub(super) struct Changes {
    /// In the order of their numbers, which grow.
    pub(super) opened: Vec<Account>,
    /// Of accounts that were there before, by number.
    pub(super) standings: HashMap<Timestamp, Standing>,
    pub(super) transfers: Vec<Arc<Transfer>>,
    /// When each account was a side of a transfer, in the order of time.
    pub(super) postings: HashMap<AccountId, Vec<i64>>,
    pub(super) history: Vec<Moment>,
    pub(super) reserved: Vec<(TransferId, ReservationState)>,
    /// Of reservations that were there before.
    pub(super) resolved: Vec<(TransferId, ReservationState)>,
    pub(super) burned: Vec<(TransferId, TenantId)>,
    /// The latest time of any event, or the later one until which times were closed.
    pub(super) last: Option<Timestamp>,
}

impl Changes {
    /// All that happened in the records, one after the other.
    pub(super) fn of(records: &[Happened]) -> Self {
        let mut gathering = Gathering::default();
        for event in records.iter().flat_map(|record| record.events.iter()) {
            gathering.take(event);
        }
        gathering.changes
    }
}

#[derive(Default)]
struct Gathering {
    changes: Changes,
    /// Places in `opened`.
    opened: HashMap<Timestamp, usize>,
    /// Places in `reserved`.
    reserved: HashMap<TransferId, usize>,
}

impl Gathering {
    fn take(&mut self, event: &Event) {
        self.changes.last = self.changes.last.max(event.timestamp());
        if let Event::TimesClosed { until } = event {
            self.changes.last = self.changes.last.max(Some(*until));
        }
        match event {
            Event::Opened(account) => {
                self.opened.insert(account.created_at, self.changes.opened.len());
                self.changes.opened.push(Account::clone(account));
            }
            Event::Made { transfer, debit, credit } => {
                self.settle(debit, transfer.timestamp);
                self.settle(credit, transfer.timestamp);
                match transfer.kind {
                    Kind::Single => {}
                    Kind::Pending { .. } => {
                        self.reserved.insert(transfer.id, self.changes.reserved.len());
                        self.changes.reserved.push((transfer.id, ReservationState::Open));
                    }
                    Kind::Post { pending } => self.resolve(pending, ReservationState::Posted),
                    Kind::Void { pending } => self.resolve(pending, ReservationState::Voided),
                }
                for account in [transfer.debit, transfer.credit] {
                    self.changes.postings.entry(account).or_default().push(transfer.timestamp.as_nanos());
                }
                self.changes.transfers.push(Arc::clone(transfer));
            }
            Event::Expired { timestamp, pending, debit, credit } => {
                self.settle(debit, *timestamp);
                self.settle(credit, *timestamp);
                self.resolve(pending.id, ReservationState::Expired);
            }
            Event::Burned { tenant, id } => self.changes.burned.push((*id, tenant.clone())),
            Event::TimesClosed { .. } => {}
            Event::Limited { number, limit, .. } => match self.opened.get(number) {
                Some(place) => self.changes.opened[*place].limit = *limit,
                None => self.changes.standings.entry(*number).or_default().limit = Some(*limit),
            },
        }
    }

    fn settle(&mut self, side: &Side, at: Timestamp) {
        if side.has_history {
            self.changes.history.push(Moment { account: side.number, at, balances: side.after });
        }
        match self.opened.get(&side.number) {
            Some(place) => {
                let account = &mut self.changes.opened[*place];
                (account.balances, account.closed) = (side.after, side.closed);
            }
            None => {
                self.changes.standings.entry(side.number).or_default().moved =
                    Some((side.after, side.closed));
            }
        }
    }

    fn resolve(&mut self, pending: TransferId, state: ReservationState) {
        match self.reserved.get(&pending) {
            Some(place) => self.changes.reserved[*place].1 = state,
            None => self.changes.resolved.push((pending, state)),
        }
    }
}

/// The set as it is stored: accounts' flags fit, as do transfers'.
pub(super) fn flags_of(account: &Account) -> i16 {
    account.flags.bits().into()
}

/// The flags of a stored account.
pub(super) fn account_flags(stored: i16) -> Option<AccountFlags> {
    u8::try_from(stored).ok().and_then(AccountFlags::from_bits)
}
