//! Accounts and transfers in memory: what the state machine decides on and changes.

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::RandomState;
use money::{TenantId, Timestamp};

use super::{
    event::{Event, Side},
    ledger::LedgerCode,
    transfer::{Decision, NewTransfer},
    trial::{TrialBalance, TrialLine, Trials},
    types::{Account, AccountFlags, AccountId, Balances, Kind, ReservationState, Transfer, TransferId},
};

/// What is known of a transfer id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// A transfer that is no reservation.
    Made(Arc<Transfer>),
    /// A reservation, and where it stands.
    Reserved(Arc<Transfer>, ReservationState),
    /// Failed for a transient cause, in a call of this tenant: the id is burned, so that a late retry cannot
    /// succeed after the client has been told of the failure.
    Failed(TenantId),
}

/// The transfers that a batch asks for: its own ids, and those of the reservations that it resolves. Each once and
/// sorted, so that an index reads along its keys; whoever makes the call does that, and not the executor.
pub fn mentioned(batch: &[NewTransfer]) -> Vec<TransferId> {
    let ids = batch.iter().flat_map(|item| [item.id.value(), item.pending.value()]);
    let mut ids: Vec<TransferId> = ids.flatten().copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// Accounts and transfers in memory, and the log of what happened to them.
///
/// It may hold no more than one batch touches, or a whole ledger for as long as the process lives: no
/// step costs more for what else is in it.
#[derive(Debug, Clone)]
pub struct WorkingSet {
    // Ids are made by clients: the hash is keyed anew in each process, so that none can choose ids that meet.
    accounts: HashMap<AccountId, Account, RandomState>,
    transfers: HashMap<TransferId, Known, RandomState>,
    /// The sums over the accounts.
    trials: Trials,
    last: Timestamp,
    /// Until when times were closed for good; never before the last that was asked about.
    closed_until: Timestamp,
    log: Vec<Event>,
    /// How both accounts stood before each transfer of the chain that is being tried; `None` between chains.
    undo: Option<Vec<[Standing; 2]>>,
}

/// What a movement changes of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) balances: Balances,
    pub(super) closed: bool,
}

impl Standing {
    pub(super) fn of(account: &Account) -> Self {
        Self { balances: account.balances, closed: account.closed }
    }

    fn after(side: &Side) -> Self {
        Self { balances: side.after, closed: side.closed }
    }
}

/// How far beyond the time that is asked about times are closed for good, in nanoseconds: a second, in which all
/// further questions cost no record. Where the ledger begins anew within it, its time is as far ahead of its clock.
const CLOSED_AHEAD_NS: i64 = 1_000_000_000;

/// The time of the ledger's next event: now, unless the clock stands still or was set back.
fn next_timestamp(now: Timestamp, last: Timestamp) -> Timestamp {
    now.max(Timestamp::from_nanos(last.as_nanos().saturating_add(1)))
}

impl WorkingSet {
    /// An empty set; `last` is the time of the ledger's last event, or the later one until which times were closed.
    pub fn new(last: Timestamp) -> Self {
        let (accounts, transfers) = (HashMap::default(), HashMap::default());
        let (trials, log) = (Trials::default(), Vec::new());
        Self { accounts, transfers, trials, last, closed_until: last, log, undo: None }
    }

    /// The time that the next event would have.
    pub fn next_timestamp(&self, now: Timestamp) -> Timestamp {
        next_timestamp(now, self.last)
    }

    /// The time of the last event, or a later one that no event may have any more.
    pub fn last(&self) -> Timestamp {
        self.last
    }

    /// Lets no event that is still to come have this time or an earlier one. That of an event, and what was asked
    /// before, is closed by what is recorded already; of a later time a record is made, now and then.
    pub fn close_until(&mut self, time: Timestamp) {
        if time > self.last.max(self.closed_until) {
            self.closed_until = Timestamp::from_nanos(time.as_nanos().saturating_add(CLOSED_AHEAD_NS));
            self.log.push(Event::TimesClosed { until: self.closed_until });
        }
        self.last = self.last.max(time);
    }

    /// Puts in an account as the store has it.
    pub fn add_account(&mut self, account: Account) {
        self.trials.opened(&account.tenant, account.ledger, &account.balances);
        if let Some(former) = self.accounts.insert(account.id, account) {
            self.trials.removed(&former.tenant, former.ledger, &former.balances);
        }
    }

    /// Puts in what the store knows of a transfer id.
    pub fn add_transfer(&mut self, id: TransferId, known: Known) {
        self.transfers.insert(id, known);
    }

    /// Takes out what is known of a transfer id, which whoever asks next has to look up elsewhere.
    pub fn forget_transfer(&mut self, id: TransferId) -> Option<Known> {
        self.transfers.remove(&id)
    }

    /// An account, as it stands now.
    pub fn account(&self, id: AccountId) -> Option<&Account> {
        self.accounts.get(&id)
    }

    /// All accounts, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.accounts.values()
    }

    /// Sums over a tenant's accounts.
    pub fn trial_balance(&self, tenant: &TenantId) -> TrialBalance {
        self.trials.of(tenant)
    }

    /// The sums over the accounts of each tenant and ledger, in no order.
    pub fn trial_lines(&self) -> impl Iterator<Item = (&TenantId, LedgerCode, TrialLine)> {
        self.trials.all()
    }

    /// All accounts and all that is known of transfers, in no order.
    pub fn into_parts(self) -> (impl Iterator<Item = Account>, impl Iterator<Item = Known>) {
        (self.accounts.into_values(), self.transfers.into_values())
    }

    /// What is known of a transfer id now.
    pub fn known(&self, id: TransferId) -> Option<&Known> {
        self.transfers.get(&id)
    }

    /// All transfer ids that are known, in no order.
    pub fn transfers(&self) -> impl Iterator<Item = (TransferId, &Known)> {
        self.transfers.iter().map(|(id, known)| (*id, known))
    }

    /// Takes the log of events out, in the order they happened.
    pub fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.log)
    }

    /// Takes over an event that was recorded before. Nothing is decided, and nothing logged.
    pub fn apply(&mut self, event: &Event) {
        match event {
            Event::Opened(account) => self.add_account(Account::clone(account)),
            Event::Made { transfer, debit, credit } => {
                self.bring(transfer, [debit, credit].map(Standing::after));
                self.record(transfer);
            }
            Event::Expired { pending, debit, credit, .. } => {
                self.bring(pending, [debit, credit].map(Standing::after));
                self.set_state(pending.id, ReservationState::Expired);
            }
            Event::Burned { tenant, id } => {
                self.transfers.insert(*id, Known::Failed(tenant.clone()));
            }
            Event::Limited { account, limit, .. } => {
                if let Some(account) = self.accounts.get_mut(account) {
                    account.limit = *limit;
                }
            }
            // Which of them were asked about is not known.
            Event::TimesClosed { until } => self.last = self.last.max(*until),
        }
        self.last = event.timestamp().map_or(self.last, |timestamp| timestamp.max(self.last));
    }

    /// Begins a chain: what follows is either kept or rolled back as a whole.
    pub(super) fn begin_chain(&mut self) -> Mark {
        self.undo = Some(Vec::new());
        Mark { log: self.log.len(), last: self.last }
    }

    /// Keeps what was done since the chain began.
    pub(super) fn keep_chain(&mut self) {
        self.undo = None;
    }

    /// Undoes everything since the chain began. Only transfers lie in between.
    pub(super) fn roll_back(&mut self, mark: Mark) {
        for before in self.undo.take().unwrap_or_default().into_iter().rev() {
            let Some(Event::Made { transfer, .. }) = self.log.pop() else { break };
            self.bring(&transfer, before);
            self.transfers.remove(&transfer.id);
            if let Some(pending) = transfer.pending_id() {
                self.set_state(pending, ReservationState::Open);
            }
        }
        debug_assert_eq!(self.log.len(), mark.log, "a chain is rolled back to where it began");
        self.last = mark.last;
    }

    /// Opens an account that was decided upon.
    pub(super) fn open(&mut self, account: Account) {
        self.last = account.created_at;
        self.log.push(Event::Opened(Arc::new(account.clone())));
        self.add_account(account);
    }

    /// Makes a transfer that was decided upon.
    #[inline(never)] // in line it is slower by a copy of the decision
    pub(super) fn make(&mut self, decision: Decision) -> Timestamp {
        let Decision { transfer, debit_after, credit_after } = decision;
        let timestamp = transfer.timestamp;
        let transfer = Arc::new(transfer);
        let (debit_before, debit) = self.settle(transfer.debit, debit_after);
        let (credit_before, credit) = self.settle(transfer.credit, credit_after);
        self.count(&transfer, [[&debit_before, &debit_after], [&credit_before, &credit_after]]);
        if let Some(undo) = &mut self.undo {
            undo.push([debit_before, credit_before]);
        }
        self.record(&transfer);
        self.last = timestamp;
        self.log.push(Event::Made { transfer, debit, credit });
        timestamp
    }

    /// Releases a reservation that has lapsed.
    pub(super) fn release(&mut self, timestamp: Timestamp, pending: Arc<Transfer>, after: [Standing; 2]) {
        let [debit, credit] = self.bring(&pending, after);
        self.set_state(pending.id, ReservationState::Expired);
        self.last = timestamp;
        self.log.push(Event::Expired { timestamp, pending, debit, credit });
    }

    /// Sets the limit of an account of the set; when.
    pub(super) fn set_limit(&mut self, id: AccountId, limit: i64, now: Timestamp) -> Option<Timestamp> {
        let timestamp = self.next_timestamp(now);
        let account = self.accounts.get_mut(&id)?;
        account.limit = limit;
        self.last = timestamp;
        self.log.push(Event::Limited { timestamp, account: id, number: account.created_at, limit });
        Some(timestamp)
    }

    /// Burns an id. Comes after the rollback of the chain it was in, and thereby outlives it.
    pub(super) fn burn(&mut self, tenant: TenantId, id: TransferId) {
        self.transfers.insert(id, Known::Failed(tenant.clone()));
        self.log.push(Event::Burned { tenant, id });
    }

    /// Notes a transfer, and what it did to a reservation.
    fn record(&mut self, transfer: &Arc<Transfer>) {
        let known = match transfer.kind {
            Kind::Pending { .. } => Known::Reserved(Arc::clone(transfer), ReservationState::Open),
            Kind::Post { pending } => {
                self.set_state(pending, ReservationState::Posted);
                Known::Made(Arc::clone(transfer))
            }
            Kind::Void { pending } => {
                self.set_state(pending, ReservationState::Voided);
                Known::Made(Arc::clone(transfer))
            }
            Kind::Single => Known::Made(Arc::clone(transfer)),
        };
        self.transfers.insert(transfer.id, known);
    }

    /// Brings the accounts of a transfer, or of a reservation, to where a movement leaves them, and the sums with
    /// them; the movement's sides.
    fn bring(&mut self, by: &Transfer, after: [Standing; 2]) -> [Side; 2] {
        let [debit_after, credit_after] = after;
        let (debit_before, debit) = self.settle(by.debit, debit_after);
        let (credit_before, credit) = self.settle(by.credit, credit_after);
        self.count(by, [[&debit_before, &debit_after], [&credit_before, &credit_after]]);
        [debit, credit]
    }

    /// Changes the sums over the accounts by what a movement made of its two: of each before and after.
    fn count(&mut self, by: &Transfer, sides: [[&Standing; 2]; 2]) {
        let sides = sides.map(|side| side.map(|standing| &standing.balances));
        self.trials.moved(&by.tenant, by.ledger, sides);
    }

    /// Brings an account to where a movement leaves it; where it stood before, and the movement's side. What is
    /// called for every movement is in line, and so small; whoever calls it counts the sums, too.
    fn settle(&mut self, id: AccountId, after: Standing) -> (Standing, Side) {
        let Some(account) = self.accounts.get_mut(&id) else {
            // Every decision was made on the accounts of this set.
            let number = Timestamp::EPOCH;
            let side = Side { number, after: after.balances, closed: after.closed, has_history: false };
            return (after, side);
        };
        let before = Standing::of(account);
        (account.balances, account.closed) = (after.balances, after.closed);
        let side = Side {
            number: account.created_at,
            after: after.balances,
            closed: after.closed,
            has_history: account.flags.contains(AccountFlags::HISTORY),
        };
        (before, side)
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
