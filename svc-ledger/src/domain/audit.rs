//! The audit: replays the journal and compares the outcome with what is stored.
//!
//! Shares no code with the state machine but the types: what decides whether a transfer is made
//! must not also decide whether it was right to make it.

use std::collections::{BTreeMap, HashMap};

use money::{TenantId, Timestamp};

use super::{
    ledger::LedgerCode,
    types::{Account, AccountFlags, AccountId, Balances, Kind, ReservationState, Transfer, TransferId},
};

/// The most offences that a report names.
pub const OFFENCES_MAX: usize = 100;

/// One entry of the journal.
#[derive(Debug, Clone)]
pub enum Entry {
    /// A transfer was made.
    Made(Transfer),
    /// A reservation lapsed.
    Expired {
        /// When it was released.
        timestamp: Timestamp,
        /// The reservation.
        pending: TransferId,
    },
}

impl Entry {
    /// When it happened.
    pub fn timestamp(&self) -> Timestamp {
        match self {
            Self::Made(transfer) => transfer.timestamp,
            Self::Expired { timestamp, .. } => *timestamp,
        }
    }
}

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuditReport {
    /// How many accounts were compared.
    pub accounts: i64,
    /// How many transfers were replayed.
    pub transfers: i64,
    /// What is wrong, first offence first, at most [`OFFENCES_MAX`].
    pub offences: Vec<String>,
}

/// Replays. Feed it every account as stored, then the journal in order, then how every reservation
/// stands as stored; then [`Auditor::finish`].
#[derive(Debug, Default)]
pub struct Auditor {
    accounts: HashMap<AccountId, Replayed>,
    reservations: HashMap<TransferId, Reservation>,
    stored_reservations: usize,
    last: Option<Timestamp>,
    found: AuditReport,
}

#[derive(Debug)]
struct Replayed {
    tenant: TenantId,
    ledger: LedgerCode,
    flags: AccountFlags,
    created_at: Timestamp,
    stored: Balances,
    outcome: Balances,
}

#[derive(Debug)]
struct Reservation {
    debit: AccountId,
    credit: AccountId,
    amount: i64,
    expires_at: Option<Timestamp>,
    state: ReservationState,
}

/// What an entry does to its accounts: the same to the debits of one as to the credits of the other.
struct Movement {
    debit: AccountId,
    credit: AccountId,
    pending: i128,
    posted: i128,
}

impl Auditor {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An account as stored.
    pub fn account(&mut self, account: &Account) {
        self.found.accounts += 1;
        let Account { id, tenant, ledger, flags, created_at, balances, .. } = account.clone();
        let stored = balances;
        let outcome = Balances::default();
        let known = self.accounts.insert(id, Replayed { tenant, ledger, flags, created_at, stored, outcome });
        self.require(known.is_none(), || format!("account {id} is stored twice"));
    }

    /// The journal's next entry.
    pub fn entry(&mut self, entry: &Entry) {
        let timestamp = entry.timestamp();
        let follows = self.last.is_none_or(|last| last < timestamp);
        self.require(follows, || {
            format!("the entry at {} does not follow the one before it", timestamp.as_nanos())
        });
        self.last = Some(timestamp);
        match entry {
            Entry::Made(transfer) => self.made(transfer),
            Entry::Expired { pending, .. } => self.expired(*pending, timestamp),
        }
    }

    /// How a reservation stands as stored.
    pub fn reservation(&mut self, id: TransferId, stored: ReservationState) {
        self.stored_reservations += 1;
        let replayed = self.reservations.get(&id).map(|reservation| reservation.state);
        self.require(replayed == Some(stored), || {
            format!("reservation {id} is stored as {stored:?} and replays as {replayed:?}")
        });
    }

    /// Something that the store itself found wrong.
    pub fn offence(&mut self, offence: impl FnOnce() -> String) {
        self.require(false, offence);
    }

    /// Compares the outcome with what is stored.
    pub fn finish(mut self) -> AuditReport {
        let stored = self.stored_reservations;
        let replayed = self.reservations.len();
        self.require(stored == replayed, || format!("{stored} reservations are stored, {replayed} replay"));
        let mut accounts: Vec<(AccountId, Replayed)> = self.accounts.drain().collect();
        accounts.sort_unstable_by_key(|(_, account)| account.created_at);
        let mut sums: BTreeMap<LedgerCode, [i128; 4]> = BTreeMap::new();
        for (id, account) in &accounts {
            let (stored, replayed) = (account.stored, account.outcome);
            self.require(stored == replayed, || {
                format!("account {id} is stored with {stored:?} and replays to {replayed:?}")
            });
            let sum = sums.entry(account.ledger).or_default();
            for (sum, part) in sum.iter_mut().zip(parts(&stored)) {
                *sum += i128::from(part);
            }
        }
        for (ledger, [debits_pending, debits_posted, credits_pending, credits_posted]) in sums {
            self.require(debits_pending == credits_pending, || {
                format!("{ledger}: {debits_pending} debits and {credits_pending} credits are reserved")
            });
            self.require(debits_posted == credits_posted, || {
                format!("{ledger}: {debits_posted} debits and {credits_posted} credits are posted")
            });
        }
        self.found
    }

    fn made(&mut self, transfer: &Transfer) {
        self.found.transfers += 1;
        let Transfer { id, amount, debit, credit, .. } = *transfer;
        self.require(amount >= 0, || format!("transfer {id} has the amount {amount}"));
        self.require(debit != credit, || format!("transfer {id} debits and credits the same account"));
        for account_id in [debit, credit] {
            let account = self.accounts.get(&account_id);
            let fits = account.is_some_and(|account| {
                account.tenant == transfer.tenant
                    && account.ledger == transfer.ledger
                    && account.created_at < transfer.timestamp
            });
            self.require(fits, || {
                format!("transfer {id} does not fit the tenant, ledger or age of account {account_id}")
            });
        }
        let (pending, posted) = match transfer.kind {
            Kind::Single => (0, amount),
            Kind::Pending { .. } => {
                let reservation = Reservation {
                    debit,
                    credit,
                    amount,
                    expires_at: transfer.expires_at(),
                    state: ReservationState::Open,
                };
                let known = self.reservations.insert(id, reservation);
                self.require(known.is_none(), || format!("transfer {id} is stored twice"));
                (amount, 0)
            }
            Kind::Post { pending } => (-self.resolve(transfer, pending, ReservationState::Posted), amount),
            Kind::Void { pending } => (-self.resolve(transfer, pending, ReservationState::Voided), 0),
        };
        self.apply(id, &Movement { debit, credit, pending: pending.into(), posted: posted.into() });
    }

    /// Closes the reservation that a transfer resolves; its amount, zero if there is no such.
    fn resolve(&mut self, transfer: &Transfer, pending: TransferId, state: ReservationState) -> i64 {
        let id = transfer.id;
        let Some(reservation) = self.reservations.get_mut(&pending) else {
            self.require(false, || format!("transfer {id} resolves {pending}, which is no reservation"));
            return 0;
        };
        let before = std::mem::replace(&mut reservation.state, state);
        let amount = reservation.amount;
        let same = (reservation.debit, reservation.credit) == (transfer.debit, transfer.credit);
        let in_time = reservation.expires_at.is_none_or(|at| transfer.timestamp < at);
        let whole = state == ReservationState::Posted || transfer.amount == amount;
        self.require(same, || format!("transfer {id} resolves {pending} between other accounts"));
        self.require(in_time, || format!("transfer {id} resolves {pending} after it lapsed"));
        self.require(whole && transfer.amount <= amount, || {
            format!("transfer {id} resolves {} of the {amount} that {pending} reserved", transfer.amount)
        });
        self.require(before == ReservationState::Open, || {
            format!("transfer {id} resolves {pending}, which was {before:?} already")
        });
        if before == ReservationState::Open { amount } else { 0 }
    }

    fn expired(&mut self, pending: TransferId, timestamp: Timestamp) {
        let Some(reservation) = self.reservations.get_mut(&pending) else {
            self.require(false, || format!("{pending} lapsed, which is no reservation"));
            return;
        };
        let before = std::mem::replace(&mut reservation.state, ReservationState::Expired);
        let due = reservation.expires_at.is_some_and(|at| at <= timestamp);
        let Reservation { debit, credit, amount, .. } = *reservation;
        self.require(due, || format!("reservation {pending} lapsed before its time"));
        let was_open = before == ReservationState::Open;
        self.require(was_open, || format!("reservation {pending} lapsed and was {before:?} already"));
        if was_open {
            self.apply(pending, &Movement { debit, credit, pending: -i128::from(amount), posted: 0 });
        }
    }

    fn apply(&mut self, id: TransferId, movement: &Movement) {
        let mut broken = Vec::new();
        if let Some(account) = self.accounts.get_mut(&movement.debit) {
            let balances = &mut account.outcome;
            let sums = [&mut balances.debits_pending, &mut balances.debits_posted];
            if !add(sums, movement) || !account.is_within_limit() {
                broken.push(movement.debit);
            }
        }
        if let Some(account) = self.accounts.get_mut(&movement.credit) {
            let balances = &mut account.outcome;
            let sums = [&mut balances.credits_pending, &mut balances.credits_posted];
            if !add(sums, movement) || !account.is_within_limit() {
                broken.push(movement.credit);
            }
        }
        for account in broken {
            self.require(false, || format!("transfer {id} leaves account {account} beyond its limit"));
        }
    }

    fn require(&mut self, holds: bool, offence: impl FnOnce() -> String) {
        if !holds && self.found.offences.len() < OFFENCES_MAX {
            self.found.offences.push(offence());
        }
    }
}

impl Replayed {
    fn is_within_limit(&self) -> bool {
        let [debits_pending, debits_posted, credits_pending, credits_posted] =
            parts(&self.outcome).map(i128::from);
        let held = |flag| self.flags.contains(flag);
        (!held(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
            || debits_pending + debits_posted <= credits_posted)
            && (!held(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
                || credits_pending + credits_posted <= debits_posted)
    }
}

fn parts(balances: &Balances) -> [i64; 4] {
    [balances.debits_pending, balances.debits_posted, balances.credits_pending, balances.credits_posted]
}

/// Adds to the reserved and the made sum; says whether both stayed within what a balance can be.
fn add([pending, posted]: [&mut i64; 2], movement: &Movement) -> bool {
    let sum =
        |before: i64, change: i128| i64::try_from(i128::from(before) + change).ok().filter(|sum| *sum >= 0);
    match (sum(*pending, movement.pending), sum(*posted, movement.posted)) {
        (Some(new_pending), Some(new_posted)) => {
            (*pending, *posted) = (new_pending, new_posted);
            true
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Code, Reference, TransferFlags};

    fn at(nanos: i64) -> Timestamp {
        Timestamp::from_nanos(nanos)
    }

    fn account(bits: u128, flags: AccountFlags, balances: Balances) -> Account {
        Account {
            id: AccountId::new(bits).unwrap(),
            tenant: "acme".parse().unwrap(),
            ledger: "EUR".parse().unwrap(),
            code: "cash".parse::<Code>().unwrap(),
            flags,
            user_data: 0,
            reference: Reference::default(),
            limit: 0,
            closed: false,
            balances,
            created_at: at(i64::try_from(bits).unwrap()),
        }
    }

    fn transfer(bits: u128, kind: Kind, amount: i64) -> Transfer {
        Transfer {
            id: TransferId::new(bits).unwrap(),
            timestamp: at(i64::try_from(bits).unwrap()),
            tenant: "acme".parse().unwrap(),
            kind,
            modifiers: TransferFlags::default(),
            debit: AccountId::new(1).unwrap(),
            credit: AccountId::new(2).unwrap(),
            amount,
            requested: Some(amount),
            ledger: "EUR".parse().unwrap(),
            code: "fee".parse().unwrap(),
            user_data: 0,
            reference: Reference::default(),
        }
    }

    fn debits(debits_pending: i64, debits_posted: i64) -> Balances {
        Balances { debits_pending, debits_posted, ..Balances::default() }
    }

    fn credits(credits_pending: i64, credits_posted: i64) -> Balances {
        Balances { credits_pending, credits_posted, ..Balances::default() }
    }

    fn audit(
        accounts: &[Account],
        entries: &[Entry],
        reservations: &[(u128, ReservationState)],
    ) -> Vec<String> {
        let mut auditor = Auditor::new();
        for account in accounts {
            auditor.account(account);
        }
        for entry in entries {
            auditor.entry(entry);
        }
        for (bits, state) in reservations {
            auditor.reservation(TransferId::new(*bits).unwrap(), *state);
        }
        auditor.finish().offences
    }

    fn pending(bits: u128, timeout_s: u32, amount: i64) -> Entry {
        Entry::Made(transfer(bits, Kind::Pending { timeout_s }, amount))
    }

    fn post(bits: u128, of: u128, amount: i64) -> Entry {
        Entry::Made(transfer(bits, Kind::Post { pending: TransferId::new(of).unwrap() }, amount))
    }

    type Case = (&'static str, Vec<Account>, Vec<Entry>, Vec<(u128, ReservationState)>);

    #[test]
    fn a_sound_ledger_has_no_offence() {
        let accounts =
            [account(1, AccountFlags::NONE, debits(5, 30)), account(2, AccountFlags::NONE, credits(5, 30))];
        let expiry = Entry::Expired { timestamp: at(2_000_000_000), pending: TransferId::new(12).unwrap() };
        let entries =
            [pending(10, 0, 40), post(11, 10, 30), pending(12, 1, 9), expiry, pending(2_000_000_001, 0, 5)];
        let states = [
            (10, ReservationState::Posted),
            (12, ReservationState::Expired),
            (2_000_000_001, ReservationState::Open),
        ];
        assert_eq!(audit(&accounts, &entries, &states), Vec::<String>::new());
    }

    #[test]
    fn each_planted_offence_is_named() {
        let none = AccountFlags::NONE;
        let two = |d, c| vec![account(1, none, d), account(2, none, c)];
        let single = |bits, amount| Entry::Made(transfer(bits, Kind::Single, amount));
        let cases: Vec<Case> = vec![
            ("replays to", two(debits(0, 7), credits(0, 8)), vec![single(10, 8)], vec![]),
            ("debits and", two(debits(0, 7), credits(0, 8)), vec![single(10, 8)], vec![]),
            ("does not follow", two(debits(0, 2), credits(0, 2)), vec![single(10, 1), single(10, 1)], vec![]),
            ("does not fit", vec![account(1, none, debits(0, 1))], vec![single(10, 1)], vec![]),
            (
                "already",
                two(debits(0, 2), credits(0, 2)),
                vec![pending(10, 0, 1), post(11, 10, 1), post(12, 10, 1)],
                vec![(10, ReservationState::Posted)],
            ),
            ("no reservation", two(debits(0, 1), credits(0, 1)), vec![post(11, 10, 1)], vec![]),
            (
                "that 00000000-0000-0000-0000-00000000000a reserved",
                two(debits(0, 2), credits(0, 2)),
                vec![pending(10, 0, 1), post(11, 10, 2)],
                vec![(10, ReservationState::Posted)],
            ),
            (
                "replays as Some(Open)",
                two(debits(1, 0), credits(1, 0)),
                vec![pending(10, 0, 1)],
                vec![(10, ReservationState::Voided)],
            ),
            ("1 replay", two(debits(1, 0), credits(1, 0)), vec![pending(10, 0, 1)], vec![]),
            (
                "beyond its limit",
                vec![
                    account(1, AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS, debits(0, 1)),
                    account(2, none, credits(0, 1)),
                ],
                vec![single(10, 1)],
                vec![],
            ),
        ];
        for (text, accounts, entries, reservations) in cases {
            let offences = audit(&accounts, &entries, &reservations);
            assert!(offences.iter().any(|offence| offence.contains(text)), "{text}: {offences:?}");
        }
    }

    #[test]
    fn a_report_is_bounded() {
        let accounts: Vec<_> = (1..300).map(|n| account(n, AccountFlags::NONE, debits(0, 1))).collect();
        assert_eq!(audit(&accounts, &[], &[]).len(), OFFENCES_MAX);
    }
}
