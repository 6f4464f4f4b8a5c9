//! The reference model: the ledger written as plainly as possible and as unlike the real one as
//! possible. It keeps nothing but the list of what happened, derives every balance, limit and closing from
//! it each time, asks of every result code by itself whether it applies, and takes the first that does.

use std::collections::HashMap;

use money::{TenantId, Timestamp};
use svc_ledger::domain::{
    Account, AccountFlags, AccountId, Balances, Given, Kind, LimitCode, NewLimit, NewTransfer,
    ReservationState, Transfer, TransferCode as C, TransferFlags as F, TransferId,
};

use super::{SECOND, at};

#[derive(Debug, Clone)]
pub enum Event {
    Made(Transfer),
    Lapsed { pending: TransferId },
    Limited { account: AccountId, limit: i64 },
}

#[derive(Debug, Clone)]
pub struct Model {
    pub accounts: Vec<Account>,
    pub events: Vec<Event>,
    /// By whose call.
    pub burned: HashMap<TransferId, TenantId>,
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

const MAX: i128 = i64::MAX as i128;

impl Model {
    pub fn new(accounts: Vec<Account>) -> Self {
        let last = accounts.iter().map(|account| account.created_at.as_nanos()).max().unwrap_or(0);
        Self { accounts, events: Vec::new(), burned: HashMap::new(), last }
    }

    pub fn next_nanos(&self, now: i64) -> i64 {
        if now > self.last { now } else { self.last + 1 }
    }

    pub fn transfers(&self) -> impl Iterator<Item = &Transfer> {
        self.events.iter().filter_map(|event| match event {
            Event::Made(transfer) => Some(transfer),
            Event::Lapsed { .. } | Event::Limited { .. } => None,
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

    fn reserves(&self, transfer: &Transfer) -> bool {
        matches!(transfer.kind, Kind::Pending { .. }) && self.state(transfer.id) == ReservationState::Open
    }

    fn sums(&self, account: AccountId) -> Sums {
        let mut sums = Sums::default();
        for transfer in self.transfers() {
            let amount = i128::from(transfer.amount);
            let (pending, posted) = match transfer.kind {
                Kind::Single | Kind::Post { .. } => (0, amount),
                Kind::Pending { .. } if self.reserves(transfer) => (amount, 0),
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

    /// An account as it stands now.
    pub fn account_now(&self, account: &Account) -> Account {
        let sums = self.sums(account.id);
        let narrow = |sum: i128| i64::try_from(sum).unwrap();
        Account {
            limit: self.limit(account),
            closed: self.is_closed(account),
            balances: Balances {
                debits_pending: narrow(sums.debits_pending),
                debits_posted: narrow(sums.debits_posted),
                credits_pending: narrow(sums.credits_pending),
                credits_posted: narrow(sums.credits_posted),
            },
            ..account.clone()
        }
    }

    /// What was said last.
    fn limit(&self, account: &Account) -> i64 {
        let said = self.events.iter().rev().find_map(|event| match event {
            Event::Limited { account: id, limit } if *id == account.id => Some(*limit),
            _ => None,
        });
        said.unwrap_or(account.limit)
    }

    /// It was opened so, or a reservation that closes it is open.
    fn is_closed(&self, account: &Account) -> bool {
        account.flags.contains(AccountFlags::CLOSED)
            || self.transfers().any(|transfer| {
                self.reserves(transfer)
                    && ((transfer.debit == account.id && transfer.flags().contains(F::CLOSING_DEBIT))
                        || (transfer.credit == account.id && transfer.flags().contains(F::CLOSING_CREDIT)))
            })
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

    /// Sets a limit: the result, the limit in force and when it was set.
    pub fn set_limit(&mut self, item: &NewLimit, now: i64) -> (LimitCode, Option<i64>, Option<Timestamp>) {
        let found = self.accounts.iter().find(|account| {
            item.account == Given::Value(account.id) && item.tenant == Given::Value(account.tenant.clone())
        });
        let refused = match (&item.account, &item.tenant) {
            (Given::Nothing | Given::Malformed | Given::Unlisted(_), _) => Some(LimitCode::IdInvalid),
            (_, Given::Nothing | Given::Malformed | Given::Unlisted(_)) => Some(LimitCode::TenantInvalid),
            _ if item.limit < 0 => Some(LimitCode::LimitInvalid),
            _ => None,
        };
        if let Some(code) = refused {
            return (code, None, None);
        }
        let Some(account) = found else { return (LimitCode::AccountNotFound, None, None) };
        let limited =
            [AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS, AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS];
        if !limited.iter().any(|flag| account.flags.contains(*flag)) {
            return (LimitCode::AccountHasNoLimit, None, None);
        }
        let (before, account) = (self.limit(account), account.id);
        if before == item.limit {
            return (LimitCode::Unchanged, Some(before), None);
        }
        if item.expected.unwrap_or(before) != before {
            return (LimitCode::LimitDiffers, Some(before), None);
        }
        self.last = self.next_nanos(now);
        self.events.push(Event::Limited { account, limit: item.limit });
        (LimitCode::Changed, Some(item.limit), Some(at(self.last)))
    }

    /// Executes a batch: results and times.
    pub fn execute(&mut self, batch: &[NewTransfer], now: i64) -> Vec<(C, Option<Timestamp>)> {
        let mut results = vec![(C::Unspecified, None); batch.len()];
        let mut start = 0;
        while start < batch.len() {
            let is_linked = |index: usize| batch[index].flags.contains(F::LINKED);
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
            C::DebitAccountAlreadyClosed,
            C::CreditAccountAlreadyClosed,
            C::ExceedsCredits,
            C::ExceedsDebits,
        ];
        let item = &chain[first];
        if let (true, Given::Value(id), Given::Value(by)) = (passes.contains(&why.0), &item.id, &item.tenant)
        {
            self.burned.insert(*id, by.clone());
        }
    }

    fn single(&mut self, item: &NewTransfer, now: i64) -> (C, Option<Timestamp>) {
        let nanos = self.next_nanos(now);
        let codes = (C::TimestampMustBeZero as i32)..=(C::ExceedsDebits as i32);
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
        let has = |flag| item.flags.contains(flag);
        let (is_pending, is_post, is_void) = kinds(item);
        let resolves = is_post || is_void;
        let existing = item.id.value().and_then(|id| self.find(*id));
        let differs = |question: &dyn Fn(&Transfer) -> bool| {
            existing.is_some_and(|e| item.tenant == Given::Value(e.tenant.clone()) && question(e))
        };
        match code {
            C::TimestampMustBeZero => item.has_timestamp,
            C::FlagsInvalid => item.has_unknown_flags,
            C::IdInvalid => !matches!(item.id, Given::Value(_)),
            C::ExistsWithDifferentTenant => {
                let burned = item.id.value().and_then(|id| self.burned.get(id));
                let owner = existing.map(|e| &e.tenant).or(burned);
                owner.is_some_and(|owner| item.tenant != Given::Value(owner.clone()))
            }
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
                let asked = (!item.post_full_amount).then_some(item.amount);
                let was = e.requested;
                let voids_whole = |said| said == Some(0) || said == Some(e.amount);
                let misplaced = item.post_full_amount && item.amount != 0;
                let void_again =
                    matches!(e.kind, Kind::Void { .. }) && voids_whole(asked) && voids_whole(was);
                misplaced || !(void_again || asked == was)
            }),
            C::ExistsWithDifferentUserData => differs(&|e| e.user_data != item.user_data),
            C::ExistsWithDifferentReference => differs(&|e| Some(&e.reference) != item.reference.as_ref()),
            C::ExistsWithDifferentLedger => {
                differs(&|e| unlike(&item.ledger, &e.ledger, e.pending_id().is_some()))
            }
            C::ExistsWithDifferentCode => differs(&|e| unlike(&item.code, &e.code, e.pending_id().is_some())),
            C::Exists => existing.is_some(),
            C::IdAlreadyFailed => item.id.value().is_some_and(|id| self.burned.contains_key(id)),
            C::FlagsAreMutuallyExclusive => {
                let others = [F::BALANCING_DEBIT, F::BALANCING_CREDIT, F::CLOSING_DEBIT, F::CLOSING_CREDIT];
                u8::from(is_pending) + u8::from(is_post) + u8::from(is_void) > 1
                    || (resolves && others.into_iter().any(has))
            }
            C::TenantInvalid => !matches!(item.tenant, Given::Value(_)),
            C::AmountInvalid => item.amount < 0 || (item.post_full_amount && (!is_post || item.amount > 0)),
            C::DebitAccountIdInvalid => is_amiss(&item.debit, resolves),
            C::CreditAccountIdInvalid => is_amiss(&item.credit, resolves),
            C::AccountsMustBeDifferent => item.debit == item.credit && item.debit != Given::Nothing,
            C::PendingIdMustBeEmpty => !resolves && item.pending != Given::Nothing,
            C::PendingIdInvalid => resolves && !matches!(item.pending, Given::Value(_)),
            C::PendingIdMustBeDifferent => resolves && item.pending == item.id,
            C::TimeoutReservedForPendingTransfer => !is_pending && item.timeout_s > 0,
            C::ClosingTransferMustBePending => {
                !is_pending && (has(F::CLOSING_DEBIT) || has(F::CLOSING_CREDIT))
            }
            C::ReferenceInvalid => item.reference.is_none(),
            C::LedgerInvalid => is_amiss(&item.ledger, resolves),
            C::Invalid => is_amiss(&item.code, resolves),
            _ if resolves => self.target_refuses(code, item, nanos),
            _ => self.accounts_refuse(code, item, nanos),
        }
    }

    fn target_refuses(&self, code: C, item: &NewTransfer, nanos: i64) -> bool {
        let target = self.target(item);
        let has = |question: &dyn Fn(&Transfer) -> bool| target.is_some_and(question);
        let stands = |state| has(&|t| self.state(t.id) == state);
        let closed = |id| self.accounts.iter().any(|account| account.id == id && self.is_closed(account));
        let (_, is_post, is_void) = kinds(item);
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
            C::DebitAccountAlreadyClosed => is_post && has(&|t| closed(t.debit)),
            C::CreditAccountAlreadyClosed => is_post && has(&|t| closed(t.credit)),
            _ => false,
        }
    }

    fn accounts_refuse(&self, code: C, item: &NewTransfer, nanos: i64) -> bool {
        let debit = self.account(item, &item.debit);
        let credit = self.account(item, &item.credit);
        let (is_pending, ..) = kinds(item);
        match code {
            C::DebitAccountNotFound => return debit.is_none(),
            C::CreditAccountNotFound => return credit.is_none(),
            _ => {}
        }
        let (Some(debit), Some(credit)) = (debit, credit) else { return false };
        let amount = i128::from(self.moves(item, debit, credit));
        let debits = self.sums(debit.id);
        let credits = self.sums(credit.id);
        let debited = debits.debits_pending + debits.debits_posted + amount;
        let credited = credits.credits_pending + credits.credits_posted + amount;
        match code {
            C::AccountsMustHaveTheSameLedger => debit.ledger != credit.ledger,
            C::TransferMustHaveTheSameLedgerAsAccounts => item.ledger != Given::Value(debit.ledger),
            C::DebitAccountAlreadyClosed => self.is_closed(debit),
            C::CreditAccountAlreadyClosed => self.is_closed(credit),
            C::OverflowsDebitsPending => is_pending && debits.debits_pending + amount > MAX,
            C::OverflowsCreditsPending => is_pending && credits.credits_pending + amount > MAX,
            C::OverflowsDebitsPosted => debits.debits_posted + amount > MAX,
            C::OverflowsCreditsPosted => credits.credits_posted + amount > MAX,
            C::OverflowsDebits => debited > MAX,
            C::OverflowsCredits => credited > MAX,
            C::OverflowsTimeout => {
                is_pending && i128::from(nanos) + i128::from(item.timeout_s) * i128::from(SECOND) > MAX
            }
            C::ExceedsCredits => {
                debit.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS)
                    && amount > 0
                    && debited > debits.credits_posted + i128::from(self.limit(debit))
            }
            C::ExceedsDebits => {
                credit.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS)
                    && amount > 0
                    && credited > credits.debits_posted + i128::from(self.limit(credit))
            }
            _ => false,
        }
    }

    /// What a transfer that is no resolution moves: of a balancing one, what is there.
    fn moves(&self, item: &NewTransfer, debit: &Account, credit: &Account) -> i64 {
        let mut amount = i128::from(item.amount);
        if item.flags.contains(F::BALANCING_DEBIT) {
            let sums = self.sums(debit.id);
            let held = debit.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS);
            let over = if held { i128::from(self.limit(debit)) } else { 0 };
            let there = sums.credits_posted + over - sums.debits_posted - sums.debits_pending;
            amount = amount.min(there.max(0));
        }
        if item.flags.contains(F::BALANCING_CREDIT) {
            let sums = self.sums(credit.id);
            let held = credit.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);
            let over = if held { i128::from(self.limit(credit)) } else { 0 };
            let there = sums.debits_posted + over - sums.credits_posted - sums.credits_pending;
            amount = amount.min(there.max(0));
        }
        i64::try_from(amount).unwrap()
    }

    fn made_of(&self, item: &NewTransfer, nanos: i64) -> Transfer {
        let (is_pending, is_post, is_void) = kinds(item);
        let id = *item.id.value().unwrap();
        let modifiers = item.flags.without(F::KINDS);
        let requested = (!item.post_full_amount).then_some(item.amount);
        let timestamp = at(nanos);
        let user_data = item.user_data;
        let reference = item.reference.clone().unwrap();
        if is_post || is_void {
            let target = self.target(item).unwrap().clone();
            let pending = target.id;
            let kind = if is_post { Kind::Post { pending } } else { Kind::Void { pending } };
            let whole = is_void || item.post_full_amount;
            let amount = if whole { target.amount } else { item.amount };
            return Transfer {
                id,
                timestamp,
                kind,
                modifiers,
                amount,
                requested,
                user_data,
                reference,
                ..target
            };
        }
        let debit = self.account(item, &item.debit).unwrap();
        let credit = self.account(item, &item.credit).unwrap();
        Transfer {
            id,
            timestamp,
            tenant: item.tenant.value().unwrap().clone(),
            kind: if is_pending { Kind::Pending { timeout_s: item.timeout_s } } else { Kind::Single },
            modifiers,
            debit: debit.id,
            credit: credit.id,
            amount: self.moves(item, debit, credit),
            requested,
            ledger: *item.ledger.value().unwrap(),
            code: item.code.value().unwrap().clone(),
            user_data,
            reference,
        }
    }
}

/// Pending, post, void.
fn kinds(item: &NewTransfer) -> (bool, bool, bool) {
    let has = |flag| item.flags.contains(flag);
    (has(F::PENDING), has(F::POST_PENDING), has(F::VOID_PENDING))
}

fn is_amiss<T>(given: &Given<T>, may_be_left_out: bool) -> bool {
    match given {
        Given::Nothing => !may_be_left_out,
        Given::Malformed | Given::Unlisted(_) => true,
        Given::Value(_) => false,
    }
}

fn unlike<T: PartialEq>(given: &Given<T>, value: &T, may_be_left_out: bool) -> bool {
    match given {
        Given::Nothing => !may_be_left_out,
        Given::Malformed => true,
        Given::Unlisted(given) | Given::Value(given) => given != value,
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
