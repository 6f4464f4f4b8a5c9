//! The decision on one transfer: the result codes in their order of precedence, and the balances
//! that follow. Decides only; [`super::WorkingSet`] carries out.

use money::{TenantId, Timestamp};

use super::{
    TransferCode as C,
    batch::TransferResult,
    exists,
    ledger::LedgerCode,
    text::{Code, Reference},
    types::{
        Account, AccountFlags, AccountId, Balances, Given, Kind, ReservationState, Transfer, TransferFlags,
        TransferId,
    },
    working::{Known, Standing, WorkingSet},
};

/// `CODE_INVALID`, whose name the generator shortens.
const CODE_INVALID: C = C::Invalid;

/// A transfer as a caller asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTransfer {
    /// Chosen by the client.
    pub id: Given<TransferId>,
    /// The owner of both accounts.
    pub tenant: Given<TenantId>,
    /// What it does.
    pub flags: TransferFlags,
    /// May be left out of a post or void.
    pub debit: Given<AccountId>,
    /// May be left out of a post or void.
    pub credit: Given<AccountId>,
    /// In minor units. Of a void zero or the whole.
    pub amount: i64,
    /// Post whatever was reserved; the amount is then left at zero.
    pub post_full_amount: bool,
    /// May be left out of a post or void.
    pub ledger: Given<LedgerCode>,
    /// May be left out of a post or void.
    pub code: Given<Code>,
    /// The reservation that a post or void resolves.
    pub pending: Given<TransferId>,
    /// Of a reservation only.
    pub timeout_s: u32,
    /// The caller's own.
    pub reference: Reference,
}

/// A transfer that may be made, and the balances after it.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) transfer: Transfer,
    pub(super) debit_after: Standing,
    pub(super) credit_after: Standing,
}

/// What the flags ask for, once they are known not to exclude each other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Intent {
    Move,
    Reserve,
    Post,
    Void,
}

impl Intent {
    fn of(flags: TransferFlags) -> Option<Self> {
        let asked = |flag| flags.contains(flag);
        match (
            asked(TransferFlags::PENDING),
            asked(TransferFlags::POST_PENDING),
            asked(TransferFlags::VOID_PENDING),
        ) {
            (false, false, false) => Some(Self::Move),
            (true, false, false) => Some(Self::Reserve),
            (false, true, false) => Some(Self::Post),
            (false, false, true) => Some(Self::Void),
            _ => None,
        }
    }

    /// Whether it resolves a reservation, whose accounts, ledger and code it may leave out.
    fn resolves(self) -> bool {
        matches!(self, Self::Post | Self::Void)
    }
}

/// Decides on one transfer that would happen at `timestamp`.
pub(super) fn decide(
    item: &NewTransfer,
    timestamp: Timestamp,
    set: &WorkingSet,
) -> Result<Decision, TransferResult> {
    let id = *item.id.value().ok_or(C::IdInvalid)?;
    match set.known(id) {
        Some(Known::Made(existing) | Known::Reserved(existing, _)) => {
            return Err(exists::compare(item, existing, set));
        }
        Some(Known::Failed) => return Err(C::IdAlreadyFailed.into()),
        None => {}
    }
    let intent = Intent::of(item.flags).ok_or(C::FlagsAreMutuallyExclusive)?;
    let tenant = item.tenant.value().ok_or(C::TenantInvalid)?;
    check_fields(item, id, intent)?;
    match (intent, item.pending.value()) {
        (Intent::Post | Intent::Void, Some(pending)) => {
            resolve(item, id, tenant, *pending, intent, timestamp, set)
        }
        _ => begin(item, id, tenant, intent, timestamp, set),
    }
}

/// The fields by themselves, before anything is looked up.
fn check_fields(item: &NewTransfer, id: TransferId, intent: Intent) -> Result<(), C> {
    let full_is_misplaced = item.post_full_amount && (intent != Intent::Post || item.amount != 0);
    let resolves = intent.resolves();
    let absent = |is_nothing: bool| is_nothing && !resolves;
    refuse(item.amount < 0 || full_is_misplaced, C::AmountInvalid)?;
    refuse(is_wrong(&item.debit, absent), C::DebitAccountIdInvalid)?;
    refuse(is_wrong(&item.credit, absent), C::CreditAccountIdInvalid)?;
    let same = item.debit.value().is_some() && item.debit.value() == item.credit.value();
    refuse(same, C::AccountsMustBeDifferent)?;
    if resolves {
        let pending = item.pending.value().ok_or(C::PendingIdInvalid)?;
        refuse(*pending == id, C::PendingIdMustBeDifferent)?;
    } else {
        refuse(item.pending != Given::Nothing, C::PendingIdMustBeEmpty)?;
    }
    refuse(item.timeout_s != 0 && intent != Intent::Reserve, C::TimeoutReservedForPendingTransfer)?;
    refuse(is_wrong(&item.ledger, absent), C::LedgerInvalid)?;
    refuse(is_wrong(&item.code, absent), CODE_INVALID)
}

fn is_wrong<T>(given: &Given<T>, absent: impl Fn(bool) -> bool) -> bool {
    match given {
        Given::Nothing => absent(true),
        Given::Malformed => true,
        Given::Value(_) => false,
    }
}

fn refuse(condition: bool, code: C) -> Result<(), C> {
    if condition { Err(code) } else { Ok(()) }
}

/// A move at once, or a reservation.
fn begin(
    item: &NewTransfer,
    id: TransferId,
    tenant: &TenantId,
    intent: Intent,
    timestamp: Timestamp,
    set: &WorkingSet,
) -> Result<Decision, TransferResult> {
    // Another tenant's account is as good as none.
    let find = |given: &Given<AccountId>| {
        given.value().and_then(|id| set.account(*id)).filter(|account| account.tenant == *tenant)
    };
    let debit = find(&item.debit).ok_or(C::DebitAccountNotFound)?;
    let credit = find(&item.credit).ok_or(C::CreditAccountNotFound)?;
    refuse(debit.ledger != credit.ledger, C::AccountsMustHaveTheSameLedger)?;
    refuse(!item.ledger.is(&debit.ledger), C::TransferMustHaveTheSameLedgerAsAccounts)?;
    let code = item.code.value().ok_or(CODE_INVALID)?.clone();

    let amount = item.amount;
    let (pending, posted) = if intent == Intent::Reserve { (amount, 0) } else { (0, amount) };
    let debit_after = debit.balances.debited(pending, posted).ok_or(C::OverflowsBalance)?;
    let credit_after = credit.balances.credited(pending, posted).ok_or(C::OverflowsBalance)?;
    let kind =
        if intent == Intent::Reserve { Kind::Pending { timeout_s: item.timeout_s } } else { Kind::Single };
    let transfer = Transfer {
        id,
        timestamp,
        tenant: tenant.clone(),
        kind,
        modifiers: item.flags.without(TransferFlags::KINDS),
        debit: debit.id,
        credit: credit.id,
        amount,
        requested: (!item.post_full_amount).then_some(item.amount),
        ledger: debit.ledger,
        code,
        user_data: 0,
        reference: item.reference.clone(),
    };
    refuse(item.timeout_s != 0 && transfer.expires_at().is_none(), C::OverflowsTimeout)?;
    refuse(exceeds_credits(debit, &debit_after), C::ExceedsCredits)?;
    refuse(exceeds_debits(credit, &credit_after), C::ExceedsDebits)?;
    let debit_after = Standing { balances: debit_after, closed: debit.closed };
    let credit_after = Standing { balances: credit_after, closed: credit.closed };
    Ok(Decision { transfer, debit_after, credit_after })
}

/// A post or a void. Its accounts are the reservation's; those given are only compared.
fn resolve(
    item: &NewTransfer,
    id: TransferId,
    tenant: &TenantId,
    pending_id: TransferId,
    intent: Intent,
    timestamp: Timestamp,
    set: &WorkingSet,
) -> Result<Decision, TransferResult> {
    let (pending, state) = match set.known(pending_id) {
        Some(Known::Reserved(pending, state)) if pending.tenant == *tenant => (pending, *state),
        Some(Known::Made(other)) if other.tenant == *tenant => {
            return Err(C::PendingTransferNotPending.into());
        }
        _ => return Err(C::PendingTransferNotFound.into()),
    };
    refuse(!item.debit.agrees(&pending.debit), C::PendingTransferHasDifferentDebitAccountId)?;
    refuse(!item.credit.agrees(&pending.credit), C::PendingTransferHasDifferentCreditAccountId)?;
    refuse(!item.ledger.agrees(&pending.ledger), C::PendingTransferHasDifferentLedger)?;
    refuse(!item.code.agrees(&pending.code), C::PendingTransferHasDifferentCode)?;
    refuse(item.amount > pending.amount, C::ExceedsPendingTransferAmount)?;
    let amount = match intent {
        Intent::Post if !item.post_full_amount => item.amount,
        _ => pending.amount,
    };
    let differs = intent == Intent::Void && item.amount != 0 && item.amount != pending.amount;
    refuse(differs, C::PendingTransferHasDifferentAmount)?;
    match state {
        ReservationState::Posted => return Err(C::PendingTransferAlreadyPosted.into()),
        ReservationState::Voided => return Err(C::PendingTransferAlreadyVoided.into()),
        ReservationState::Expired => return Err(C::PendingTransferExpired.into()),
        ReservationState::Open => {}
    }
    // It may have lapsed without having been released yet.
    refuse(pending.expires_at().is_some_and(|at| at <= timestamp), C::PendingTransferExpired)?;

    let debit = set.account(pending.debit).ok_or(C::DebitAccountNotFound)?;
    let credit = set.account(pending.credit).ok_or(C::CreditAccountNotFound)?;
    let (posted, kind) = match intent {
        Intent::Post => (amount, Kind::Post { pending: pending_id }),
        _ => (0, Kind::Void { pending: pending_id }),
    };
    let debit_after = debit.balances.debited(-pending.amount, posted).ok_or(C::OverflowsBalance)?;
    let credit_after = credit.balances.credited(-pending.amount, posted).ok_or(C::OverflowsBalance)?;
    let transfer = Transfer {
        id,
        timestamp,
        tenant: tenant.clone(),
        kind,
        modifiers: item.flags.without(TransferFlags::KINDS),
        debit: pending.debit,
        credit: pending.credit,
        amount,
        requested: (!item.post_full_amount).then_some(item.amount),
        ledger: pending.ledger,
        code: pending.code.clone(),
        user_data: 0,
        reference: item.reference.clone(),
    };
    let debit_after = Standing { balances: debit_after, closed: debit.closed };
    let credit_after = Standing { balances: credit_after, closed: credit.closed };
    Ok(Decision { transfer, debit_after, credit_after })
}

fn exceeds_credits(account: &Account, after: &Balances) -> bool {
    account.flags.contains(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS) && after.debits_exceed_credits()
}

fn exceeds_debits(account: &Account, after: &Balances) -> bool {
    account.flags.contains(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS) && after.credits_exceed_debits()
}

impl Balances {
    /// After a change of the reserved and the made debits. `None` where either would become
    /// negative, or where they could not be made together within the range.
    pub(super) fn debited(&self, pending: i64, posted: i64) -> Option<Self> {
        let (debits_pending, debits_posted) =
            moved(self.debits_pending, self.debits_posted, pending, posted)?;
        Some(Self { debits_pending, debits_posted, ..*self })
    }

    /// After a change of the reserved and the made credits; `None` as for [`Self::debited`].
    pub(super) fn credited(&self, pending: i64, posted: i64) -> Option<Self> {
        let (credits_pending, credits_posted) =
            moved(self.credits_pending, self.credits_posted, pending, posted)?;
        Some(Self { credits_pending, credits_posted, ..*self })
    }

    /// Whether reserved and made debits are more than the made credits.
    pub(super) fn debits_exceed_credits(&self) -> bool {
        i128::from(self.debits_pending) + i128::from(self.debits_posted) > i128::from(self.credits_posted)
    }

    /// Whether reserved and made credits are more than the made debits.
    pub(super) fn credits_exceed_debits(&self) -> bool {
        i128::from(self.credits_pending) + i128::from(self.credits_posted) > i128::from(self.debits_posted)
    }
}

/// Reserving only what could also be made keeps a later post from overflowing.
fn moved(pending: i64, posted: i64, pending_change: i64, posted_change: i64) -> Option<(i64, i64)> {
    let pending = pending.checked_add(pending_change).filter(|sum| *sum >= 0)?;
    let posted = posted.checked_add(posted_change).filter(|sum| *sum >= 0)?;
    pending.checked_add(posted)?;
    Some((pending, posted))
}
