//! Makes up what an engine would record: accounts, transfers with balances that add up, reservations that
//! are resolved once, in records one after the other. The same seed gives the same world.

use std::sync::Arc;

use money::{TenantId, Timestamp};

use super::plain::Plain;
use crate::{
    domain::{
        Account, AccountFlags, AccountId, Balances, Event, Kind, Side, Transfer, TransferFlags, TransferId,
    },
    store::ports::{Happened, Hash},
};

/// When the first thing happens, in nanoseconds since the epoch.
pub(in crate::store) const START: i64 = 1_800_000_000_000_000_000;

pub(in crate::store) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
pub(in crate::store) const LEDGERS: [&str; 2] = ["EUR", "BTC"];
pub(in crate::store) const CODES: [&str; 3] = ["fee", "payment", "payout"];

pub(in crate::store) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

/// A fixed sequence of numbers that look random (splitmix64).
pub(in crate::store) struct Numbers(pub(in crate::store) u64);

impl Numbers {
    pub(in crate::store) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `end` - 1.
    pub(in crate::store) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).unwrap()
    }

    pub(in crate::store) fn small(&mut self, end: u32) -> i64 {
        i64::try_from(self.next() % u64::from(end)).unwrap()
    }

    pub(in crate::store) fn chance(&mut self, percent: u64) -> bool {
        self.next() % 100 < percent
    }

    pub(in crate::store) fn pick<'a, T>(&mut self, among: &'a [T]) -> &'a T {
        &among[self.below(among.len())]
    }

    pub(in crate::store) fn text(&mut self, among: &[&'static str]) -> &'static str {
        self.pick::<&str>(among)
    }
}

pub(in crate::store) struct World {
    pub(in crate::store) numbers: Numbers,
    pub(super) plain: Plain,
    accounts: Vec<Account>,
    open: Vec<Arc<Transfer>>,
    events: Vec<Event>,
    now: i64,
    sequence: u64,
}

impl World {
    pub(in crate::store) fn new(seed: u64) -> Self {
        Self {
            numbers: Numbers(seed),
            plain: Plain::default(),
            accounts: Vec::new(),
            open: Vec::new(),
            events: Vec::new(),
            now: START,
            sequence: 0,
        }
    }

    fn tick(&mut self) -> Timestamp {
        // Within one call times follow each other; between calls there are gaps.
        self.now += if self.numbers.chance(60) { 1 } else { 1 + self.numbers.small(5_000_000) };
        Timestamp::from_nanos(self.now)
    }

    pub(in crate::store) fn open(&mut self, owner: &str, ledger: &str, flags: AccountFlags) -> AccountId {
        let created_at = self.tick();
        let (high, low) = (self.numbers.next(), self.numbers.next());
        let account = Account {
            id: AccountId::new((u128::from(high) << 64) | u128::from(low)).unwrap(),
            tenant: tenant(owner),
            ledger: ledger.parse().unwrap(),
            code: self.numbers.text(&CODES).parse().unwrap(),
            flags,
            user_data: self.numbers.small(3) - 1,
            reference: self.numbers.text(&["", "", "main", "spare"]).parse().unwrap(),
            limit: 0,
            closed: false,
            balances: Balances::default(),
            created_at,
        };
        self.accounts.push(account.clone());
        let id = account.id;
        self.events.push(Event::Opened(Arc::new(account)));
        id
    }

    /// Half begin with the time, as a UUIDv7 does.
    pub(in crate::store) fn transfer_id(&mut self) -> TransferId {
        let noise = (u128::from(self.numbers.next()) << 64) | u128::from(self.numbers.next());
        let timed = (u128::try_from(self.now / 1_000_000).unwrap() << 80) | (noise >> 48);
        TransferId::new(if self.numbers.chance(50) { noise } else { timed }).unwrap()
    }

    fn index(&self, id: AccountId) -> usize {
        self.accounts.iter().position(|account| account.id == id).unwrap()
    }

    fn side(&mut self, id: AccountId, change: impl FnOnce(&mut Balances)) -> Side {
        let index = self.index(id);
        let account = &mut self.accounts[index];
        change(&mut account.balances);
        Side {
            number: account.created_at,
            after: account.balances,
            closed: account.closed,
            has_history: account.flags.contains(AccountFlags::HISTORY),
        }
    }

    /// A transfer between two accounts, at once or reserved.
    pub(in crate::store) fn make(&mut self, debit: AccountId, credit: AccountId, kind: Kind) -> TransferId {
        let account = self.accounts[self.index(debit)].clone();
        let amount = self.numbers.small(50);
        let modifiers = match self.numbers.small(6) {
            0 => TransferFlags::LINKED,
            1 => TransferFlags::BALANCING_DEBIT,
            2 => TransferFlags::BALANCING_CREDIT.with(TransferFlags::LINKED),
            _ => TransferFlags::default(),
        };
        let requested = if modifiers == TransferFlags::default() { amount } else { amount + 1 };
        let transfer = Transfer {
            id: self.transfer_id(),
            timestamp: self.tick(),
            tenant: account.tenant,
            kind,
            modifiers,
            debit,
            credit,
            amount,
            requested: Some(requested),
            ledger: account.ledger,
            code: self.numbers.text(&CODES).parse().unwrap(),
            user_data: [0, 0, 7, -1, i64::MAX][self.numbers.below(5)],
            reference: self.numbers.text(&["", "", "pay_1", "pay_2", "ünï"]).parse().unwrap(),
        };
        self.made(transfer)
    }

    /// Posts or voids a reservation.
    pub(in crate::store) fn resolve(&mut self, pending: TransferId, is_posted: bool) -> TransferId {
        let position = self.open.iter().position(|open| open.id == pending).unwrap();
        let reserved = self.open.swap_remove(position);
        let amount = if is_posted { reserved.amount - reserved.amount / 3 } else { reserved.amount };
        let requested = self.numbers.chance(50).then_some(amount);
        let transfer = Transfer {
            id: self.transfer_id(),
            timestamp: self.tick(),
            kind: if is_posted { Kind::Post { pending } } else { Kind::Void { pending } },
            modifiers: TransferFlags::default(),
            amount,
            requested,
            ..Transfer::clone(&reserved)
        };
        self.made_of(transfer, reserved.amount)
    }

    fn made(&mut self, transfer: Transfer) -> TransferId {
        let amount = transfer.amount;
        self.made_of(transfer, amount)
    }

    fn made_of(&mut self, transfer: Transfer, reserved: i64) -> TransferId {
        let amount = transfer.amount;
        let change = |pending: &mut i64, posted: &mut i64| match transfer.kind {
            Kind::Single => *posted += amount,
            Kind::Pending { .. } => *pending += amount,
            Kind::Post { .. } => {
                *pending -= reserved;
                *posted += amount;
            }
            Kind::Void { .. } => *pending -= reserved,
        };
        let debit = self.side(transfer.debit, |b| change(&mut b.debits_pending, &mut b.debits_posted));
        let credit = self.side(transfer.credit, |b| change(&mut b.credits_pending, &mut b.credits_posted));
        let transfer = Arc::new(transfer);
        if matches!(transfer.kind, Kind::Pending { .. }) {
            self.open.push(transfer.clone());
        }
        let id = transfer.id;
        self.events.push(Event::Made { transfer, debit, credit });
        id
    }

    /// Lets a reservation lapse.
    pub(in crate::store) fn expire(&mut self, pending: TransferId) {
        let position = self.open.iter().position(|open| open.id == pending).unwrap();
        let pending = self.open.swap_remove(position);
        let timestamp = self.tick();
        let debit = self.side(pending.debit, |b| b.debits_pending -= pending.amount);
        let credit = self.side(pending.credit, |b| b.credits_pending -= pending.amount);
        self.events.push(Event::Expired { timestamp, pending, debit, credit });
    }

    pub(in crate::store) fn burn(&mut self, owner: &str) -> TransferId {
        let id = self.transfer_id();
        self.events.push(Event::Burned { tenant: tenant(owner), id });
        id
    }

    pub(in crate::store) fn limit(&mut self, account: AccountId) {
        let number = self.accounts[self.index(account)].created_at;
        let limit = self.numbers.small(1_000);
        let timestamp = self.tick();
        self.events.push(Event::Limited { timestamp, account, number, limit });
    }

    /// Closes times; the last of them.
    pub(in crate::store) fn close_times(&mut self) -> Timestamp {
        let until = Timestamp::from_nanos(self.now + self.numbers.small(5_000_000));
        self.events.push(Event::TimesClosed { until });
        until
    }

    /// The record of what has happened since the last one.
    pub(in crate::store) fn seal(&mut self) -> Happened {
        self.sequence += 1;
        let record = Happened {
            sequence: self.sequence,
            hash: hash(self.sequence),
            events: std::mem::take(&mut self.events).into(),
        };
        self.plain.apply(&record);
        record
    }

    /// Accounts of each tenant and ledger, some with their history kept.
    pub(in crate::store) fn settle(&mut self, each: usize) {
        for owner in TENANTS {
            for ledger in LEDGERS {
                for n in 0..each {
                    let flags = if n % 2 == 0 { AccountFlags::HISTORY } else { AccountFlags::NONE };
                    self.open(owner, ledger, flags);
                }
            }
        }
    }

    /// Something happens, of any kind.
    pub(in crate::store) fn happen(&mut self) {
        let some = self.numbers.below(self.accounts.len());
        let (debit, owner, ledger) = {
            let account = &self.accounts[some];
            (account.id, account.tenant.clone(), account.ledger)
        };
        let others: Vec<AccountId> = self
            .accounts
            .iter()
            .filter(|other| other.id != debit && other.tenant == owner && other.ledger == ledger)
            .map(|other| other.id)
            .collect();
        let credit = *self.numbers.pick(&others);
        let open = (!self.open.is_empty()).then(|| self.numbers.below(self.open.len()));
        let open = open.map(|index| self.open[index].id);
        match (self.numbers.below(21), open) {
            (0, _) => drop(self.burn(owner.as_str())),
            (1, _) => self.limit(debit),
            (2, _) => drop(self.open(owner.as_str(), ledger.as_str(), AccountFlags::HISTORY)),
            (3..=6, _) => drop(self.make(debit, credit, Kind::Pending { timeout_s: 0 })),
            (7, _) => drop(self.make(debit, credit, Kind::Pending { timeout_s: 30 })),
            (8 | 9, Some(pending)) => drop(self.resolve(pending, true)),
            (10, Some(pending)) => drop(self.resolve(pending, false)),
            (11, Some(pending)) => self.expire(pending),
            (20, _) => drop(self.close_times()),
            _ => drop(self.make(debit, credit, Kind::Single)),
        }
    }
}

/// A record's hash, as far as an index can tell.
pub(in crate::store) fn hash(sequence: u64) -> Hash {
    let mut hash = [0xa5; 32];
    hash[..8].copy_from_slice(&sequence.to_be_bytes());
    hash
}
