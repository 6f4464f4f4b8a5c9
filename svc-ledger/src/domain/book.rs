//! The book: the ledger's whole state in memory, as the engine keeps it from start to end.
//!
//! It holds all accounts, all open reservations and those transfers that the index has not taken up yet.
//! Other transfers are brought in for the group of calls that asks for them, and forgotten after it.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use money::{TenantId, Timestamp};

use super::{
    AccountResult, Event, Known, LedgerCode, LimitResult, NewAccount, NewLimit, NewTransfer,
    ReservationState, TransferResult, TrialBalance, TrialLine, WorkingSet,
    account::open_accounts,
    batch::execute,
    expiry::expire,
    limit::set_limits,
    types::{Account, AccountId, Kind, Transfer, TransferId},
};

/// The most reservations that one batch or one sweep releases: bounds how long it holds the writer.
pub const EXPIRE_MAX: usize = 8_190;

/// The state after some record of the journal. See the module.
#[derive(Debug, Clone)]
pub struct Book {
    set: WorkingSet,
    /// The last record.
    sequence: u64,
    /// Open reservations that can lapse, those first that lapse first.
    due: BTreeSet<(Timestamp, TransferId)>,
    /// Brought in for the group that is under way.
    learned: Vec<TransferId>,
    /// Which transfers may be forgotten once the index has taken up the record.
    unindexed: VecDeque<(u64, Vec<TransferId>)>,
}

impl Default for Book {
    fn default() -> Self {
        Self::restore(0, Timestamp::EPOCH, Vec::new(), Vec::new())
    }
}

impl Book {
    /// The state of a snapshot: its record, the latest time of any event, all accounts, all open reservations.
    pub fn restore(
        sequence: u64,
        last: Timestamp,
        accounts: impl IntoIterator<Item = Account>,
        reservations: impl IntoIterator<Item = Arc<Transfer>>,
    ) -> Self {
        let mut set = WorkingSet::new(last);
        for account in accounts {
            set.add_account(account);
        }
        let mut due = BTreeSet::new();
        for reservation in reservations {
            due.extend(reservation.expires_at().map(|at| (at, reservation.id)));
            set.add_transfer(reservation.id, Known::Reserved(reservation, ReservationState::Open));
        }
        Self { set, sequence, due, learned: Vec::new(), unindexed: VecDeque::new() }
    }

    /// Takes up what a record says happened. Transfers stay until the index has taken up the record.
    pub fn replay(&mut self, sequence: u64, events: &[Event]) {
        for event in events {
            self.set.apply(event);
        }
        self.note(sequence, events);
    }

    /// Leaves those of the ids of which the book does not know whether they are taken.
    pub fn retain_unknown(&self, ids: &mut Vec<TransferId>) {
        ids.retain(|id| self.set.known(*id).is_none());
    }

    /// Brings in what the index said of ids that the book did not know, until the next [`Book::settle`].
    pub fn learn(&mut self, known: impl IntoIterator<Item = (TransferId, Known)>) {
        for (id, known) in known {
            self.learned.push(id);
            self.set.add_transfer(id, known);
        }
    }

    /// Opens accounts; a result per item.
    pub fn open_accounts(&mut self, items: &[NewAccount], now: Timestamp) -> Vec<AccountResult> {
        open_accounts(items, now, &mut self.set)
    }

    /// Sets limits of accounts; a result per item.
    pub fn set_limits(&mut self, items: &[NewLimit], now: Timestamp) -> Vec<LimitResult> {
        set_limits(items, now, &mut self.set)
    }

    /// Executes transfers; a result per item.
    pub fn transfer(&mut self, items: &[NewTransfer], now: Timestamp) -> Vec<TransferResult> {
        execute(items, now, &mut self.set)
    }

    /// Releases up to [`EXPIRE_MAX`] reservations that have lapsed, those first that lapsed first. Returns how
    /// many; as many as the bound means that there may be more.
    pub fn release_lapsed(&mut self, now: Timestamp) -> usize {
        let now = self.set.next_timestamp(now);
        let lapsed = self.due.iter().take_while(|(at, _)| *at <= now).take(EXPIRE_MAX);
        let lapsed: Vec<TransferId> = lapsed.map(|(_, id)| *id).collect();
        expire(&lapsed, now, &mut self.set)
    }

    /// Whether a reservation has lapsed and was not released yet.
    pub fn is_any_due(&self, now: Timestamp) -> bool {
        let now = self.set.next_timestamp(now);
        self.due.first().is_some_and(|(at, _)| *at <= now)
    }

    /// Ends a group of calls: what happened since the last, to be recorded as this record, if anything did.
    pub fn settle(&mut self, sequence: u64) -> Vec<Event> {
        let events = self.set.take_events();
        for id in std::mem::take(&mut self.learned) {
            self.set.forget_transfer(id);
        }
        if !events.is_empty() {
            self.note(sequence, &events);
        }
        events
    }

    /// The index has taken up all records until this one: what it holds is forgotten.
    pub fn forget_through(&mut self, indexed: u64) {
        while self.unindexed.front().is_some_and(|(sequence, _)| *sequence <= indexed) {
            let ids = self.unindexed.pop_front().map(|(_, ids)| ids);
            for id in ids.unwrap_or_default() {
                self.set.forget_transfer(id);
            }
        }
    }

    /// Keeps the due times and the list of what may be forgotten. A reservation stays while it is open, and
    /// until the index knows how it ended.
    fn note(&mut self, sequence: u64, events: &[Event]) {
        let mut ids = Vec::with_capacity(events.len());
        for event in events {
            match event {
                Event::Made { transfer, .. } => match transfer.kind {
                    Kind::Pending { .. } => {
                        self.due.extend(transfer.expires_at().map(|at| (at, transfer.id)));
                    }
                    Kind::Single => ids.push(transfer.id),
                    Kind::Post { pending } | Kind::Void { pending } => {
                        ids.extend([transfer.id, pending]);
                        self.no_longer_due(pending);
                    }
                },
                Event::Expired { pending, .. } => {
                    ids.push(pending.id);
                    self.no_longer_due(pending.id);
                }
                Event::Burned { id, .. } => ids.push(*id),
                Event::Opened(_) | Event::Limited { .. } | Event::TimesClosed { .. } => {}
            }
        }
        self.unindexed.push_back((sequence, ids));
        self.sequence = sequence;
    }

    fn no_longer_due(&mut self, id: TransferId) {
        if let Some(Known::Reserved(reservation, _)) = self.set.known(id)
            && let Some(at) = reservation.expires_at()
        {
            self.due.remove(&(at, id));
        }
    }

    /// Those of the accounts that exist and are the tenant's, in the order asked.
    pub fn accounts(&self, tenant: &TenantId, ids: &[AccountId]) -> Vec<Account> {
        let mine = |id: &AccountId| self.set.account(*id).filter(|account| account.tenant == *tenant);
        ids.iter().filter_map(mine).cloned().collect()
    }

    /// What is known of these transfers, in the order asked; nothing of those that the book does not hold.
    pub fn transfers(&self, ids: &[TransferId]) -> Vec<Option<Known>> {
        ids.iter().map(|id| self.set.known(*id).cloned()).collect()
    }

    /// Sums over a tenant's accounts.
    pub fn trial_balance(&self, tenant: &TenantId) -> TrialBalance {
        self.set.trial_balance(tenant)
    }

    /// The sums over the accounts of each tenant and ledger, in no order.
    pub fn trial_lines(&self) -> impl Iterator<Item = (&TenantId, LedgerCode, TrialLine)> {
        self.set.trial_lines()
    }

    /// The last record.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Lets nothing that is still to happen have this time or an earlier one, so that what is said of it stays
    /// true: here at once, and after a new beginning by what is recorded, if it is not so by what was recorded before.
    /// `false`, and nothing changes, of a time that has not come: it is later than now and than all that happened.
    pub fn close_until(&mut self, time: Timestamp, now: Timestamp) -> bool {
        let has_come = time <= now.max(self.set.last());
        if has_come {
            self.set.close_until(time);
        }
        has_come
    }

    /// The latest time of any event, or a later one that none may have any more.
    pub fn last(&self) -> Timestamp {
        self.set.last()
    }

    /// All accounts and all open reservations, in no order.
    pub fn into_parts(self) -> (Vec<Account>, Vec<Arc<Transfer>>) {
        let (accounts, transfers) = self.set.into_parts();
        let open = transfers.filter_map(|known| match known {
            Known::Reserved(reservation, ReservationState::Open) => Some(reservation),
            _ => None,
        });
        (accounts.collect(), open.collect())
    }

    /// All accounts, in no order.
    pub fn all_accounts(&self) -> impl Iterator<Item = &Account> {
        self.set.accounts()
    }

    /// All open reservations, in no order.
    pub fn open_reservations(&self) -> impl Iterator<Item = &Arc<Transfer>> {
        self.set.transfers().filter_map(|(_, known)| match known {
            Known::Reserved(reservation, ReservationState::Open) => Some(reservation),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AccountFlags, Given, Reference};

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn opened(book: &mut Book, bits: u128, now: i64) -> Option<i64> {
        let account = NewAccount {
            id: Given::Value(AccountId::new(bits).unwrap()),
            tenant: Given::Value("acme".parse().unwrap()),
            ledger: Given::Value("EUR".parse().unwrap()),
            code: Given::Value("cash".parse().unwrap()),
            flags: Some(AccountFlags::NONE),
            user_data: 0,
            reference: Some(Reference::default()),
            limit: 0,
            has_balances: false,
            has_timestamp: false,
        };
        book.open_accounts(&[account], at(now))[0].timestamp.map(Timestamp::as_nanos)
    }

    #[test]
    fn what_is_closed_stays_as_it_is_and_what_has_not_come_is_not_closed() {
        let mut book = Book::default();
        assert!(book.close_until(at(50), at(50)), "the present has come");
        assert_eq!(opened(&mut book, 1, 50), Some(51));
        assert!(book.close_until(at(51), at(10)), "what happened has come, wherever the clock was set to");
        assert!(!book.close_until(at(52), at(51)));
        assert_eq!(opened(&mut book, 2, 20), Some(52), "nothing was closed");
        assert!(book.close_until(at(7), at(90)));
        assert_eq!(opened(&mut book, 3, 60), Some(60), "no more is closed than was asked about");
    }

    #[test]
    fn what_is_closed_stays_closed_where_the_ledger_begins_anew_and_most_of_it_costs_no_record() {
        let mut book = Book::default();
        assert_eq!(opened(&mut book, 1, 50), Some(50));
        let mut events = book.settle(1);
        assert!(book.close_until(at(50), at(90)));
        assert_eq!(book.settle(2), [], "what happened is recorded");

        let close = |book: &mut Book, time| {
            assert!(book.close_until(at(time), at(time)));
            book.settle(2)
        };
        let closed = close(&mut book, 70);
        let Event::TimesClosed { until } = closed[0] else { panic!("{closed:?}") };
        let until = until.as_nanos();
        for time in [70, 71, 40, until] {
            assert_eq!(close(&mut book, time), [], "it is recorded that {time} is closed");
        }
        let later = close(&mut book, until + 1);
        assert!(matches!(later[..], [Event::TimesClosed { until: later }] if later > at(until + 1)));

        events.extend(closed);
        let mut anew = Book::default();
        anew.replay(1, &events);
        assert_eq!(close(&mut anew, until), []);
        assert_eq!(opened(&mut anew, 2, 10), Some(until + 1), "which of them were asked about is not known");
        let last = anew.last();
        let (accounts, reservations) = anew.into_parts();
        let mut anew = Book::restore(2, last, accounts, reservations);
        assert_eq!(opened(&mut anew, 3, 10), Some(until + 2));
    }
}
