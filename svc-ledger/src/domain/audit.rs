//! The audit: replays what happened and compares the outcome with what is stored.
//!
//! Shares no code with the state machine but the types: what decides whether a transfer is made
//! must not also decide whether it was right to make it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use money::{TenantId, Timestamp};

use super::{
    event::{Event, Side},
    ledger::LedgerCode,
    trial::TrialLine,
    types::{
        Account, AccountFlags, AccountId, Balances, Kind, ReservationState, Transfer, TransferFlags,
        TransferId,
    },
};

/// The most offences that a report names.
pub const OFFENCES_MAX: usize = 100;

/// What an audit has found so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditReport {
    /// How many accounts were opened.
    pub accounts: i64,
    /// How many transfers were replayed.
    pub transfers: i64,
    /// What is wrong, first offence first, at most [`OFFENCES_MAX`].
    pub offences: Vec<String>,
}

/// Replays. Feed it every [`Event`] in order, then every account as stored, the sums that are kept of them, and
/// every reservation that is stored as open; then [`Auditor::finish`].
///
/// It keeps the accounts and the open reservations in memory, and nothing that grows with history. That no
/// two transfers have the same id is for the index to hold, whose key it is.
#[derive(Debug, Default)]
pub struct Auditor {
    accounts: HashMap<AccountId, Replayed>,
    open: HashMap<TransferId, Arc<Transfer>>,
    open_stored: usize,
    last: Option<Timestamp>,
    sums: BTreeMap<(TenantId, LedgerCode), TrialLine>,
    found: AuditReport,
}

/// An account as the events leave it.
#[derive(Debug)]
struct Replayed {
    tenant: TenantId,
    ledger: LedgerCode,
    flags: AccountFlags,
    number: Timestamp,
    limit: i64,
    closed: bool,
    balances: Balances,
    is_stored: bool,
}

/// Of which side of its account something speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    Debit,
    Credit,
}

/// What an event does to its two accounts: the same to the debits of one as to the credits of the other.
struct Movement<'a> {
    by: &'a Transfer,
    pending: i64,
    posted: i64,
    /// Whether it is refused by a closed account, and held to limits.
    begins: bool,
    /// Whether it leaves closed accounts be.
    releases: bool,
    /// The reservation whose closing it sets or takes back.
    closing: Option<(&'a Transfer, bool)>,
}

impl Auditor {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What was found so far.
    pub fn report(&self) -> &AuditReport {
        &self.found
    }

    /// The next event.
    pub fn event(&mut self, event: &Event) {
        if let Some(timestamp) = event.timestamp() {
            let follows = self.last.is_none_or(|last| last < timestamp);
            self.require(follows, || {
                format!("the event at {} does not follow the one before it", timestamp.as_nanos())
            });
            self.last = Some(timestamp);
        }
        match event {
            Event::Opened(account) => self.opened(account),
            Event::Made { transfer, debit, credit } => self.made(transfer, [debit, credit]),
            Event::Expired { timestamp, pending, debit, credit } => {
                self.expired(*timestamp, pending, [debit, credit]);
            }
            Event::Burned { .. } | Event::TimesClosed { .. } => {}
            Event::Limited { account, number, limit, .. } => self.limited(*account, *number, *limit),
        }
    }

    /// An account as stored.
    pub fn account(&mut self, account: &Account) {
        let id = account.id;
        let sum = self.sums.entry((account.tenant.clone(), account.ledger)).or_default();
        let [debits_pending, debits_posted, credits_pending, credits_posted] =
            parts(&account.balances).map(i128::from);
        sum.debits_pending += debits_pending;
        sum.debits_posted += debits_posted;
        sum.credits_pending += credits_pending;
        sum.credits_posted += credits_posted;
        sum.accounts += 1;
        let Some(replayed) = self.accounts.get_mut(&id) else {
            self.require(false, || format!("account {id} is stored and was never opened"));
            return;
        };
        let is_first = !std::mem::replace(&mut replayed.is_stored, true);
        let (stored, outcome) = (account.balances, replayed.balances);
        let same_terms = replayed.tenant == account.tenant
            && replayed.ledger == account.ledger
            && replayed.flags == account.flags
            && replayed.number == account.created_at;
        let (limit, closed) = (replayed.limit, replayed.closed);
        self.require(is_first, || format!("account {id} is stored twice"));
        self.require(same_terms, || format!("account {id} is stored as another than it was opened as"));
        self.require(limit == account.limit, || {
            format!("account {id} is stored with the limit {} and replays to {limit}", account.limit)
        });
        self.require(closed == account.closed, || {
            format!("account {id} is stored with closed {} and replays to {closed}", account.closed)
        });
        self.require(stored == outcome, || {
            format!("account {id} is stored with {stored:?} and replays to {outcome:?}")
        });
    }

    /// The sums of each tenant and ledger as they are kept, after all accounts as stored.
    pub fn trial_balance<'a>(
        &mut self,
        kept: impl IntoIterator<Item = (&'a TenantId, LedgerCode, TrialLine)>,
    ) {
        let mut missing = self.sums.clone();
        for (tenant, ledger, kept) in kept {
            let stored = missing.remove(&(tenant.clone(), ledger));
            self.require(stored == Some(kept), || {
                format!(
                    "the sums of {tenant} in {ledger} are kept as {kept:?}, and its accounts have {stored:?}"
                )
            });
        }
        for (tenant, ledger) in missing.into_keys() {
            self.require(false, || format!("no sums of {tenant} in {ledger} are kept"));
        }
    }

    /// How a reservation stands as stored. Those that are not open may be left out.
    pub fn reservation(&mut self, id: TransferId, stored: ReservationState) {
        let replays = if self.open.contains_key(&id) { "open" } else { "resolved" };
        let is_open = stored == ReservationState::Open;
        self.open_stored += usize::from(is_open);
        self.require(is_open == (replays == "open"), || {
            format!("reservation {id} is stored as {stored:?} and replays as {replays}")
        });
    }

    /// Something that the store itself found wrong.
    pub fn offence(&mut self, offence: impl FnOnce() -> String) {
        self.require(false, offence);
    }

    /// Compares what is left to compare.
    pub fn finish(mut self) -> AuditReport {
        let (stored, replayed) = (self.open_stored, self.open.len());
        self.require(stored == replayed, || {
            format!("{stored} reservations are stored as open, {replayed} replay")
        });
        let mut missing: Vec<_> = self
            .accounts
            .iter()
            .filter(|(_, account)| !account.is_stored)
            .map(|(id, a)| (a.number, *id))
            .collect();
        missing.sort_unstable();
        for (_, id) in missing {
            self.require(false, || format!("account {id} was opened and is not stored"));
        }
        let sums = std::mem::take(&mut self.sums);
        for ((tenant, ledger), sum) in sums {
            let TrialLine { debits_pending, debits_posted, credits_pending, credits_posted, .. } = sum;
            self.require(debits_pending == credits_pending, || {
                format!(
                    "{tenant}, {ledger}: {debits_pending} debits and {credits_pending} credits are reserved"
                )
            });
            self.require(debits_posted == credits_posted, || {
                format!("{tenant}, {ledger}: {debits_posted} debits and {credits_posted} credits are posted")
            });
        }
        self.found
    }

    fn opened(&mut self, account: &Account) {
        self.found.accounts += 1;
        let Account { id, flags, limit, closed, balances, .. } = *account;
        let held = |flag| flags.contains(flag);
        let (debits, credits) = (
            held(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS),
            held(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS),
        );
        let sound = balances == Balances::default()
            && closed == held(AccountFlags::CLOSED)
            && !(debits && credits)
            && limit >= 0
            && (limit == 0 || debits || credits);
        self.require(sound, || format!("account {id} was opened as none can be"));
        let replayed = Replayed {
            tenant: account.tenant.clone(),
            ledger: account.ledger,
            flags,
            number: account.created_at,
            limit,
            closed,
            balances,
            is_stored: false,
        };
        let known = self.accounts.insert(id, replayed);
        self.require(known.is_none(), || format!("account {id} was opened twice"));
    }

    fn limited(&mut self, id: AccountId, number: Timestamp, limit: i64) {
        let sound = self.accounts.get_mut(&id).is_some_and(|account| {
            account.limit = limit;
            account.number == number && limit >= 0 && account.flags.has_limit()
        });
        self.require(sound, || format!("account {id} was given the limit {limit}, which it cannot have"));
    }

    fn made(&mut self, transfer: &Arc<Transfer>, sides: [&Side; 2]) {
        self.found.transfers += 1;
        let Transfer { id, amount, debit, credit, .. } = **transfer;
        self.require(amount >= 0, || format!("transfer {id} has the amount {amount}"));
        self.require(debit != credit, || format!("transfer {id} debits and credits the same account"));
        let mut movement =
            Movement { by: transfer, pending: 0, posted: 0, begins: true, releases: false, closing: None };
        match transfer.kind {
            Kind::Single => {
                self.check_asked(transfer, None);
                movement.posted = amount;
                self.moved(&movement, sides);
            }
            Kind::Pending { .. } => {
                self.check_asked(transfer, None);
                let known = self.open.insert(id, Arc::clone(transfer));
                self.require(known.is_none(), || format!("reservation {id} was made twice"));
                movement.pending = amount;
                movement.closing = Some((transfer, true));
                self.moved(&movement, sides);
            }
            Kind::Post { pending } | Kind::Void { pending } => {
                let Some(reservation) = self.resolve(transfer, pending) else { return };
                movement.begins = false;
                movement.pending = 0_i64.saturating_sub(reservation.amount);
                if matches!(transfer.kind, Kind::Post { .. }) {
                    movement.posted = amount;
                } else {
                    movement.releases = true;
                }
                movement.closing = Some((&reservation, false));
                self.moved(&movement, sides);
            }
        }
    }

    /// Whether what was moved is what was asked for.
    fn check_asked(&mut self, transfer: &Transfer, reserved: Option<i64>) {
        let balancing = [TransferFlags::BALANCING_DEBIT, TransferFlags::BALANCING_CREDIT]
            .iter()
            .any(|flag| transfer.modifiers.contains(*flag));
        let Transfer { id, amount, kind, requested, .. } = *transfer;
        let fits = match (kind, requested, reserved) {
            (Kind::Single | Kind::Pending { .. }, Some(asked), _) => {
                if balancing {
                    amount <= asked
                } else {
                    amount == asked
                }
            }
            (Kind::Post { .. }, Some(asked), Some(reserved)) => amount == asked && amount <= reserved,
            (Kind::Post { .. }, None, Some(reserved)) => amount == reserved,
            (Kind::Void { .. }, Some(asked), Some(reserved)) => {
                amount == reserved && (asked == 0 || asked == reserved)
            }
            _ => false,
        };
        self.require(fits, || match reserved {
            Some(reserved) => format!("transfer {id} resolves {amount} of the {reserved} that were reserved"),
            None => format!("transfer {id} moves {amount}, which is not what was asked for"),
        });
    }

    /// Takes out the reservation that a transfer resolves.
    fn resolve(&mut self, transfer: &Transfer, pending: TransferId) -> Option<Arc<Transfer>> {
        let id = transfer.id;
        let Some(reservation) = self.open.remove(&pending) else {
            self.require(false, || format!("transfer {id} resolves {pending}, which is no open reservation"));
            return None;
        };
        let same = (reservation.debit, reservation.credit) == (transfer.debit, transfer.credit);
        let in_time = reservation.expires_at().is_none_or(|at| transfer.timestamp < at);
        self.require(same, || format!("transfer {id} resolves {pending} between other accounts"));
        self.require(in_time, || format!("transfer {id} resolves {pending} after it lapsed"));
        self.check_asked(transfer, Some(reservation.amount));
        same.then_some(reservation)
    }

    fn expired(&mut self, timestamp: Timestamp, pending: &Transfer, sides: [&Side; 2]) {
        let id = pending.id;
        let Some(reservation) = self.open.remove(&id) else {
            self.require(false, || format!("{id} lapsed, which is no open reservation"));
            return;
        };
        let due = reservation.expires_at().is_some_and(|at| at <= timestamp);
        self.require(due, || format!("reservation {id} lapsed before its time"));
        self.require(*reservation == *pending, || format!("reservation {id} lapsed as another than it was"));
        let movement = Movement {
            by: &reservation,
            pending: 0_i64.saturating_sub(reservation.amount),
            posted: 0,
            begins: false,
            releases: true,
            closing: Some((&reservation, false)),
        };
        self.moved(&movement, sides);
    }

    fn moved(&mut self, movement: &Movement<'_>, [debit, credit]: [&Side; 2]) {
        self.side(movement, Which::Debit, debit);
        self.side(movement, Which::Credit, credit);
    }

    /// What a movement does to one of its accounts, which the event must say, too.
    fn side(&mut self, movement: &Movement<'_>, which: Which, said: &Side) {
        let by = movement.by;
        let (id, closing) = match which {
            Which::Debit => (by.debit, TransferFlags::CLOSING_DEBIT),
            Which::Credit => (by.credit, TransferFlags::CLOSING_CREDIT),
        };
        let Some(account) = self.accounts.get_mut(&id) else {
            self.require(false, || format!("transfer {} is of account {id}, which was never opened", by.id));
            return;
        };
        let fits = account.tenant == by.tenant && account.ledger == by.ledger;
        let was_closed = account.closed;
        let in_range = account.add(which, movement);
        if let Some((reservation, closes)) = movement.closing
            && reservation.modifiers.contains(closing)
        {
            account.closed = closes;
        }
        // What adds to no sum may leave an account as far beyond a lowered limit as it was.
        let adds = movement.begins && (movement.pending > 0 || movement.posted > 0);
        let within = !adds || account.is_within_limit(which);
        let side = Side {
            number: account.number,
            after: account.balances,
            closed: account.closed,
            has_history: account.flags.contains(AccountFlags::HISTORY),
        };
        self.require(fits, || {
            format!("transfer {} does not fit the tenant or ledger of account {id}", by.id)
        });
        self.require(movement.releases || !was_closed, || {
            format!("transfer {} moves account {id}, which was closed", by.id)
        });
        self.require(in_range, || {
            format!("transfer {} leaves account {id} with sums that none can have", by.id)
        });
        self.require(within, || format!("transfer {} leaves account {id} beyond its limit", by.id));
        self.require(*said == side, || {
            format!(
                "transfer {} is recorded as leaving account {id} as {said:?}, and leaves it as {side:?}",
                by.id
            )
        });
    }

    fn require(&mut self, holds: bool, offence: impl FnOnce() -> String) {
        if !holds && self.found.offences.len() < OFFENCES_MAX {
            self.found.offences.push(offence());
        }
    }
}

impl Replayed {
    /// Adds to the reserved and the made sum of a side; says whether both stayed what sums can be.
    fn add(&mut self, which: Which, movement: &Movement<'_>) -> bool {
        let balances = &mut self.balances;
        let (pending, posted) = match which {
            Which::Debit => (&mut balances.debits_pending, &mut balances.debits_posted),
            Which::Credit => (&mut balances.credits_pending, &mut balances.credits_posted),
        };
        let sum = |before: i64, change: i64| before.checked_add(change).filter(|sum| *sum >= 0);
        match (sum(*pending, movement.pending), sum(*posted, movement.posted)) {
            (Some(new_pending), Some(new_posted)) => {
                (*pending, *posted) = (new_pending, new_posted);
                new_pending.checked_add(new_posted).is_some()
            }
            _ => false,
        }
    }

    fn is_within_limit(&self, which: Which) -> bool {
        let [debits_pending, debits_posted, credits_pending, credits_posted] =
            parts(&self.balances).map(i128::from);
        let limit = i128::from(self.limit);
        match which {
            Which::Debit => {
                !self.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
                    || debits_pending + debits_posted <= credits_posted + limit
            }
            Which::Credit => {
                !self.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
                    || credits_pending + credits_posted <= debits_posted + limit
            }
        }
    }
}

fn parts(balances: &Balances) -> [i64; 4] {
    [balances.debits_pending, balances.debits_posted, balances.credits_pending, balances.credits_posted]
}
