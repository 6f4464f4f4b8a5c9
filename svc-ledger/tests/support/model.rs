//! The reference model: the ledger written as plainly as possible and as unlike the real one as
//! possible. It keeps nothing but the list of what happened, derives every balance from it each time,
//! asks of every result code by itself whether it applies, and takes the first that does.

use std::collections::HashSet;

use money::Timestamp;
use svc_ledger::domain::{
    Account, AccountFlags, AccountId, Balances, Given, Kind, NewTransfer, ReservationState, Transfer,
    TransferCode as C, TransferFlags, TransferId,
};

use super::{SECOND, at};

#[derive(Debug, Clone)]
pub enum Event {
    Made(Transfer),
    Lapsed { pending: TransferId },
}

#[derive(Debug, Clone)]
pub struct Model {
    pub accounts: Vec<Account>,
    pub events: Vec<Event>,
    pub burned: HashSet<TransferId>,
    last: i64,
}

/// The sums of one account, too wide to overflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sums {
    debits_pending: i128,
    debits_posted: i128,
    credits_pending: i128,
    credits_posted: i128,
}

impl Model {
    pub fn new(accounts: Vec<Account>) -> Self {
        let last = accounts.iter().map(|account| account.created_at.as_nanos()).max().unwrap_or(0);
        Self { accounts, events: Vec::new(), burned: HashSet::new(), last }
    }

    pub fn next_nanos(&self, now: i64) -> i64 {
        if now > self.last { now } else { self.last + 1 }
    }

    pub fn transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.events.iter().filter_map(|event| match event {
            Event::Made(transfer) => Some(transfer),
            Event::Lapsed { .. } => None,
        })
    }

    fn find(&self, id: TransferId) -> Option<&Transfer> {
        self.transfers().find(|transfer| transfer.id == id)
    }

    /// Where a reservation stands: what the first event that speaks of it says.
    pub fn state(&self, id: TransferId) -> ReservationState {
        self.events
            .iter()
            .find_map(|event| match event {
                Event::Lapsed { pending } if *pending == id => Some(ReservationState::Expired),
                Event::Made(Transfer { kind: Kind::Post { pending }, .. }) if *pending == id => {
                    Some(ReservationState::Posted)
                }
                Event::Made(Transfer { kind: Kind::Void { pending }, .. }) if *pending == id => {
                    Some(ReservationState::Voided)
                }
                _ => None,
            })
            .unwrap_or(ReservationState::Open)
    }

    fn sums(&self, account: AccountId) -> Sums {
        let mut sums = Sums::default();
        for transfer in self.transfers() {
            let amount = i128::from(transfer.amount);
            let (pending, posted) = match transfer.kind {
                Kind::Single | Kind::Post { .. } => (0, amount),
                Kind::Pending { .. } if self.state(transfer.id) == ReservationState::Open => (amount, 0),
                Kind::Pending { .. } | Kind::Void { .. } => (0, 0),
            };
            if transfer.debit == account {
                sums.debits_pending += pending;
                sums.debits_posted += posted;
            }
            if transfer.credit == account {
                sums.credits_pending += pending;
                sums.credits_posted += posted;
            }
        }
        sums
    }

    pub fn balances(&self, account: AccountId) -> Balances {
        let sums = self.sums(account);
        let narrow = |sum: i128| i64::try_from(sum).unwrap();
        Balances {
            debits_pending: narrow(sums.debits_pending),
            debits_posted: narrow(sums.debits_posted),
            credits_pending: narrow(sums.credits_pending),
            credits_posted: narrow(sums.credits_posted),
        }
    }

    /// Releases what has lapsed.
    pub fn lapse(&mut self, now: i64) {
        let now = self.next_nanos(now);
        let mut due: Vec<(i64, i64, TransferId)> = self
            .transfers()
            .filter(|transfer| self.state(transfer.id) == ReservationState::Open)
            .filter_map(|transfer| {
                expiry(transfer).map(|at| (at, transfer.timestamp.as_nanos(), transfer.id))
            })
            .filter(|(at, ..)| *at <= now)
            .collect();
        due.sort_unstable();
        for (.., pending) in due {
            self.last = self.next_nanos(now);
            self.events.push(Event::Lapsed { pending });
        }
    }

    /// Executes a batch: results and times.
    pub fn execute(&mut self, batch: &[NewTransfer], now: i64) -> Vec<(C, Option<Timestamp>)> {
        let mut results = vec![(C::Unspecified, None); batch.len()];
        let mut start = 0;
        while start < batch.len() {
            let is_linked = |index: usize| batch[index].flags.contains(TransferFlags::LINKED);
            let end = (start..batch.len()).find(|index| !is_linked(*index));
            match end {
                None => {
                    results[start..].fill((C::LinkedEventFailed, None));
                    results[batch.len() - 1].0 = C::LinkedEventChainOpen;
                    break;
                }
                Some(end) => {
                    self.chain(&batch[start..=end], now, &mut results[start..=end]);
                    start = end + 1;
                }
            }
        }
        results
    }

    fn chain(&mut self, chain: &[NewTransfer], now: i64, results: &mut [(C, Option<Timestamp>)]) {
        let before = self.clone();
        for (index, item) in chain.iter().enumerate() {
            results[index] = self.single(item, now);
        }
        if results.iter().all(|(code, _)| *code == C::Created)
            || results.iter().all(|(code, _)| *code == C::Exists)
        {
            return;
        }
        let first = results.iter().position(|(code, _)| *code != C::Created).unwrap();
        let why = results[first];
        *self = before;
        results.fill((C::LinkedEventFailed, None));
        results[first] = why;
        let passes = [
            C::DebitAccountNotFound,
            C::CreditAccountNotFound,
            C::PendingTransferNotFound,
            C::ExceedsCredits,
            C::ExceedsDebits,
        ];
        if let (true, Given::Value(id)) = (passes.contains(&why.0), &chain[first].id) {
            self.burned.insert(*id);
        }
    }

    fn single(&mut self, item: &NewTransfer, now: i64) -> (C, Option<Timestamp>) {
        let nanos = self.next_nanos(now);
        let codes = (C::IdInvalid as i32)..=(C::ExceedsDebits as i32);
        let refused =
            codes.map(|number| C::try_from(number).unwrap()).find(|code| self.applies(*code, item, nanos));
        match refused {
            Some(C::Exists) => {
                (C::Exists, item.id.value().and_then(|id| self.find(*id)).map(|existing| existing.timestamp))
            }
            Some(code) => (code, None),
            None => {
                let transfer = self.made_of(item, nanos);
                self.last = nanos;
                self.events.push(Event::Made(transfer));
                (C::Created, Some(at(nanos)))
            }
        }
    }

    /// The reservation that an item resolves, if it is one of the item's tenant.
    fn target(&self, item: &NewTransfer) -> Option<&Transfer> {
        let found = item.pending.value().and_then(|id| self.find(*id));
        found.filter(|found| item.tenant.value() == Some(&found.tenant))
    }

    fn account(&self, item: &NewTransfer, id: &Given<AccountId>) -> Option<&Account> {
        let found = self.accounts.iter().find(|account| Some(&account.id) == id.value());
        found.filter(|found| item.tenant.value() == Some(&found.tenant))
    }

    /// Whether a code applies, given that none before it does.
    fn applies(&self, code: C, item: &NewTransfer, nanos: i64) -> bool {
        let (is_pending, is_post, is_void) = kinds(item);
        let resolves = is_post || is_void;
        let existing = item.id.value().and_then(|id| self.find(*id));
        let differs = |question: &dyn Fn(&Transfer) -> bool| {
            existing.is_some_and(|e| item.tenant == Given::Value(e.tenant.clone()) && question(e))
        };
        let absent_or_wrong =
            |is_nothing: bool, is_malformed: bool| is_malformed || (is_nothing && !resolves);
        match code {
            C::IdInvalid => !matches!(item.id, Given::Value(_)),
            C::ExistsWithDifferentFlags => differs(&|e| e.flags() != item.flags),
            C::ExistsWithDifferentPendingId => {
                differs(&|e| e.pending_id().map_or(Given::Nothing, Given::Value) != item.pending)
            }
            C::ExistsWithDifferentTimeout => differs(&|e| e.timeout_s() != item.timeout_s),
            C::ExistsWithDifferentDebitAccountId => {
                differs(&|e| unlike(&item.debit, &e.debit, e.pending_id().is_some()))
            }
            C::ExistsWithDifferentCreditAccountId => {
                differs(&|e| unlike(&item.credit, &e.credit, e.pending_id().is_some()))
            }
            C::ExistsWithDifferentAmount => differs(&|e| {
                let reserved = e.pending_id().and_then(|id| self.find(id)).map(|pending| pending.amount);
                let asked = match (e.kind, item.post_full_amount) {
                    (Kind::Post { .. }, true) | (Kind::Void { .. }, false) if item.amount == 0 => reserved,
                    (_, true) => None,
                    (_, false) => Some(item.amount),
                };
                asked != Some(e.amount)
            }),
            C::ExistsWithDifferentReference => differs(&|e| e.reference != item.reference),
            C::ExistsWithDifferentLedger => {
                differs(&|e| unlike(&item.ledger, &e.ledger, e.pending_id().is_some()))
            }
            C::ExistsWithDifferentCode => differs(&|e| unlike(&item.code, &e.code, e.pending_id().is_some())),
            C::ExistsWithDifferentTenant => {
                existing.is_some_and(|e| item.tenant != Given::Value(e.tenant.clone()))
            }
            C::Exists => existing.is_some(),
            C::IdAlreadyFailed => item.id.value().is_some_and(|id| self.burned.contains(id)),
            C::FlagsAreMutuallyExclusive => u8::from(is_pending) + u8::from(is_post) + u8::from(is_void) > 1,
            C::TenantInvalid => !matches!(item.tenant, Given::Value(_)),
            C::AmountInvalid => item.amount < 0 || (item.post_full_amount && (!is_post || item.amount > 0)),
            C::DebitAccountIdInvalid => {
                absent_or_wrong(item.debit == Given::Nothing, item.debit == Given::Malformed)
            }
            C::CreditAccountIdInvalid => {
                absent_or_wrong(item.credit == Given::Nothing, item.credit == Given::Malformed)
            }
            C::AccountsMustBeDifferent => item.debit == item.credit && item.debit != Given::Nothing,
            C::PendingIdMustBeEmpty => !resolves && item.pending != Given::Nothing,
            C::PendingIdInvalid => resolves && !matches!(item.pending, Given::Value(_)),
            C::PendingIdMustBeDifferent => resolves && item.pending == item.id,
            C::TimeoutReservedForPendingTransfer => !is_pending && item.timeout_s > 0,
            C::LedgerInvalid => {
                absent_or_wrong(item.ledger == Given::Nothing, item.ledger == Given::Malformed)
            }
            C::Invalid => absent_or_wrong(item.code == Given::Nothing, item.code == Given::Malformed),
            C::OverflowsBalance | C::OverflowsTimeout | C::ExceedsCredits | C::ExceedsDebits if resolves => {
                false
            }
            _ if resolves => self.target_refuses(code, item, nanos),
            _ => self.accounts_refuse(code, item, nanos),
        }
    }

    fn target_refuses(&self, code: C, item: &NewTransfer, nanos: i64) -> bool {
        let target = self.target(item);
        let has = |question: &dyn Fn(&Transfer) -> bool| target.is_some_and(question);
        let stands = |state| has(&|t| self.state(t.id) == state);
        let (_, _, is_void) = kinds(item);
        match code {
            C::PendingTransferNotFound => target.is_none(),
            C::PendingTransferNotPending => has(&|t| !matches!(t.kind, Kind::Pending { .. })),
            C::PendingTransferHasDifferentDebitAccountId => has(&|t| unlike(&item.debit, &t.debit, true)),
            C::PendingTransferHasDifferentCreditAccountId => has(&|t| unlike(&item.credit, &t.credit, true)),
            C::PendingTransferHasDifferentLedger => has(&|t| unlike(&item.ledger, &t.ledger, true)),
            C::PendingTransferHasDifferentCode => has(&|t| unlike(&item.code, &t.code, true)),
            C::ExceedsPendingTransferAmount => has(&|t| item.amount > t.amount),
            C::PendingTransferHasDifferentAmount => {
                is_void && item.amount > 0 && has(&|t| item.amount != t.amount)
            }
            C::PendingTransferAlreadyPosted => stands(ReservationState::Posted),
            C::PendingTransferAlreadyVoided => stands(ReservationState::Voided),
            C::PendingTransferExpired => {
                stands(ReservationState::Expired) || has(&|t| expiry(t).is_some_and(|at| at <= nanos))
            }
            _ => false,
        }
    }

    fn accounts_refuse(&self, code: C, item: &NewTransfer, nanos: i64) -> bool {
        let debit = self.account(item, &item.debit);
        let credit = self.account(item, &item.credit);
        let (is_pending, ..) = kinds(item);
        let amount = i128::from(item.amount);
        match code {
            C::DebitAccountNotFound => return debit.is_none(),
            C::CreditAccountNotFound => return credit.is_none(),
            _ => {}
        }
        let (Some(debit), Some(credit)) = (debit, credit) else { return false };
        let debits = self.sums(debit.id);
        let credits = self.sums(credit.id);
        let debited = debits.debits_pending + debits.debits_posted + amount;
        let credited = credits.credits_pending + credits.credits_posted + amount;
        match code {
            C::AccountsMustHaveTheSameLedger => debit.ledger != credit.ledger,
            C::TransferMustHaveTheSameLedgerAsAccounts => item.ledger != Given::Value(debit.ledger),
            C::OverflowsBalance => debited.max(credited) > i128::from(i64::MAX),
            C::OverflowsTimeout => {
                is_pending
                    && i128::from(nanos) + i128::from(item.timeout_s) * i128::from(SECOND)
                        > i128::from(i64::MAX)
            }
            C::ExceedsCredits => {
                debit.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
                    && debited > debits.credits_posted
            }
            C::ExceedsDebits => {
                credit.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
                    && credited > credits.debits_posted
            }
            _ => false,
        }
    }

    fn made_of(&self, item: &NewTransfer, nanos: i64) -> Transfer {
        let (is_pending, is_post, is_void) = kinds(item);
        let id = *item.id.value().unwrap();
        let tenant = item.tenant.value().unwrap().clone();
        let modifiers = item.flags.without(TransferFlags::KINDS);
        let requested = (!item.post_full_amount).then_some(item.amount);
        let timestamp = at(nanos);
        let reference = item.reference.clone();
        if is_post || is_void {
            let target = self.target(item).unwrap().clone();
            let pending = target.id;
            let kind = if is_post { Kind::Post { pending } } else { Kind::Void { pending } };
            let whole = is_void || item.post_full_amount;
            let amount = if whole { target.amount } else { item.amount };
            return Transfer { id, timestamp, kind, modifiers, amount, requested, reference, ..target };
        }
        let kind = if is_pending { Kind::Pending { timeout_s: item.timeout_s } } else { Kind::Single };
        Transfer {
            id,
            timestamp,
            tenant,
            kind,
            modifiers,
            debit: *item.debit.value().unwrap(),
            credit: *item.credit.value().unwrap(),
            amount: item.amount,
            requested,
            ledger: *item.ledger.value().unwrap(),
            code: item.code.value().unwrap().clone(),
            user_data: 0,
            reference,
        }
    }
}

/// Pending, post, void.
fn kinds(item: &NewTransfer) -> (bool, bool, bool) {
    let has = |flag| item.flags.contains(flag);
    (has(TransferFlags::PENDING), has(TransferFlags::POST_PENDING), has(TransferFlags::VOID_PENDING))
}

fn unlike<T: PartialEq>(given: &Given<T>, value: &T, may_be_left_out: bool) -> bool {
    match given {
        Given::Nothing => !may_be_left_out,
        Given::Malformed => true,
        Given::Value(given) => given != value,
    }
}

/// The nanosecond from which on a reservation has lapsed.
fn expiry(transfer: &Transfer) -> Option<i64> {
    match transfer.kind {
        Kind::Pending { timeout_s: 0 } => None,
        Kind::Pending { timeout_s } => Some(transfer.timestamp.as_nanos() + i64::from(timeout_s) * SECOND),
        _ => None,
    }
}
