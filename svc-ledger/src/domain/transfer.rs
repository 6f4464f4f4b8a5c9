//! The decision on one transfer: the result codes in their order of precedence, and the balances
//! that follow. Decides only; [`super::WorkingSet`] carries out.

use money::{TenantId, Timestamp};

use super::{
    TransferCode as C,
    batch::TransferResult,
    exists,
    ledger::LedgerCode,
    text::{Code, Reference},
    types::{Account, AccountId, Given, Kind, ReservationState, Transfer, TransferFlags, TransferId},
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
    /// Whether flags were given that have no meaning, besides those that do.
    pub has_unknown_flags: bool,
    /// Whether a time was given, which is for the ledger to say.
    pub has_timestamp: bool,
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
    /// The caller's own number.
    pub user_data: i64,
    /// The caller's own; `None` where it was too long.
    pub reference: Option<Reference>,
}

impl NewTransfer {
    /// The amount asked for; `None` for whatever was reserved.
    fn requested(&self) -> Option<i64> {
        (!self.post_full_amount).then_some(self.amount)
    }
}

/// A transfer that may be made, and how it leaves both accounts.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) transfer: Transfer,
    pub(super) debit_after: Standing,
    pub(super) credit_after: Standing,
}

/// What the flags ask for, once they are known not to exclude each other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Intent {
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
            (false, true, false) if !flags.no_resolution() => Some(Self::Post),
            (false, false, true) if !flags.no_resolution() => Some(Self::Void),
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
    refuse(item.has_timestamp, C::TimestampMustBeZero)?;
    refuse(item.has_unknown_flags, C::FlagsInvalid)?;
    let id = *item.id.value().ok_or(C::IdInvalid)?;
    match set.known(id) {
        Some(Known::Made(existing) | Known::Reserved(existing, _)) => {
            return Err(exists::compare(item, existing));
        }
        // Of another tenant's id nothing is told but that, whatever became of it.
        Some(Known::Failed(owner)) if !item.tenant.is(owner) => {
            return Err(C::ExistsWithDifferentTenant.into());
        }
        Some(Known::Failed(_)) => return Err(C::IdAlreadyFailed.into()),
        None => {}
    }
    let intent = Intent::of(item.flags).ok_or(C::FlagsAreMutuallyExclusive)?;
    let tenant = item.tenant.value().ok_or(C::TenantInvalid)?;
    let reference = check_fields(item, id, intent)?;
    let new = New { item, id, tenant, reference, timestamp };
    let decided = match (intent, item.pending.value()) {
        (Intent::Post | Intent::Void, Some(pending)) => resolve(&new, *pending, intent, set),
        _ => begin(&new, intent, set),
    };
    decided.map_err(TransferResult::from)
}

/// The fields by themselves, before anything is looked up.
fn check_fields(item: &NewTransfer, id: TransferId, intent: Intent) -> Result<&Reference, C> {
    let full_is_misplaced = item.post_full_amount && (intent != Intent::Post || item.amount != 0);
    let resolves = intent.resolves();
    refuse(item.amount < 0 || full_is_misplaced, C::AmountInvalid)?;
    refuse(is_wrong(&item.debit, resolves), C::DebitAccountIdInvalid)?;
    refuse(is_wrong(&item.credit, resolves), C::CreditAccountIdInvalid)?;
    let same = item.debit.value().is_some() && item.debit.value() == item.credit.value();
    refuse(same, C::AccountsMustBeDifferent)?;
    if resolves {
        let pending = item.pending.value().ok_or(C::PendingIdInvalid)?;
        refuse(*pending == id, C::PendingIdMustBeDifferent)?;
    } else {
        refuse(item.pending != Given::Nothing, C::PendingIdMustBeEmpty)?;
    }
    refuse(item.timeout_s != 0 && intent != Intent::Reserve, C::TimeoutReservedForPendingTransfer)?;
    refuse(item.flags.closes() && intent != Intent::Reserve, C::ClosingTransferMustBePending)?;
    let reference = item.reference.as_ref().ok_or(C::ReferenceInvalid)?;
    refuse(is_wrong(&item.ledger, resolves), C::LedgerInvalid)?;
    refuse(is_wrong(&item.code, resolves), CODE_INVALID)?;
    Ok(reference)
}

fn is_wrong<T>(given: &Given<T>, may_be_left_out: bool) -> bool {
    match given {
        Given::Nothing => !may_be_left_out,
        Given::Malformed | Given::Unlisted(_) => true,
        Given::Value(_) => false,
    }
}

fn refuse(condition: bool, code: C) -> Result<(), C> {
    if condition { Err(code) } else { Ok(()) }
}

/// An item whose fields are right by themselves.
struct New<'a> {
    item: &'a NewTransfer,
    id: TransferId,
    tenant: &'a TenantId,
    reference: &'a Reference,
    timestamp: Timestamp,
}

impl New<'_> {
    fn transfer(&self, kind: Kind, of: &Parties<'_>, amount: i64) -> Transfer {
        Transfer {
            id: self.id,
            timestamp: self.timestamp,
            tenant: self.tenant.clone(),
            kind,
            modifiers: self.item.flags.without(TransferFlags::KINDS),
            debit: of.debit,
            credit: of.credit,
            amount,
            requested: self.item.requested(),
            ledger: of.ledger,
            code: of.code.clone(),
            user_data: self.item.user_data,
            reference: self.reference.clone(),
        }
    }
}

/// Between whom, and what for.
struct Parties<'a> {
    debit: AccountId,
    credit: AccountId,
    ledger: LedgerCode,
    code: &'a Code,
}

/// A move at once, or a reservation.
fn begin(new: &New<'_>, intent: Intent, set: &WorkingSet) -> Result<Decision, C> {
    let item = new.item;
    // Another tenant's account is as good as none.
    let find = |given: &Given<AccountId>| {
        given.value().and_then(|id| set.account(*id)).filter(|account| account.tenant == *new.tenant)
    };
    let debit = find(&item.debit).ok_or(C::DebitAccountNotFound)?;
    let credit = find(&item.credit).ok_or(C::CreditAccountNotFound)?;
    refuse(debit.ledger != credit.ledger, C::AccountsMustHaveTheSameLedger)?;
    refuse(!item.ledger.is(&debit.ledger), C::TransferMustHaveTheSameLedgerAsAccounts)?;
    refuse(debit.closed, C::DebitAccountAlreadyClosed)?;
    refuse(credit.closed, C::CreditAccountAlreadyClosed)?;
    let code = item.code.value().ok_or(CODE_INVALID)?;

    let reserves = intent == Intent::Reserve;
    let amount = balanced(item, debit, credit);
    check_overflow(debit, credit, amount, reserves)?;
    let kind = if reserves { Kind::Pending { timeout_s: item.timeout_s } } else { Kind::Single };
    let parties = Parties { debit: debit.id, credit: credit.id, ledger: debit.ledger, code };
    let transfer = new.transfer(kind, &parties, amount);
    refuse(item.timeout_s != 0 && transfer.expires_at().is_none(), C::OverflowsTimeout)?;
    refuse(debit.refuses_debit(amount), C::ExceedsCredits)?;
    refuse(credit.refuses_credit(amount), C::ExceedsDebits)?;

    let (pending, posted) = if reserves { (amount, 0) } else { (0, amount) };
    let debited = debit.balances.debited(pending, posted).ok_or(C::OverflowsDebits)?;
    let credited = credit.balances.credited(pending, posted).ok_or(C::OverflowsCredits)?;
    Ok(Decision {
        debit_after: Standing {
            balances: debited,
            closed: item.flags.contains(TransferFlags::CLOSING_DEBIT),
        },
        credit_after: Standing {
            balances: credited,
            closed: item.flags.contains(TransferFlags::CLOSING_CREDIT),
        },
        transfer,
    })
}

/// The amount asked for, or as much of it as the accounts to be balanced have.
fn balanced(item: &NewTransfer, debit: &Account, credit: &Account) -> i64 {
    let mut amount = item.amount;
    if item.flags.contains(TransferFlags::BALANCING_DEBIT) {
        amount = amount.min(debit.debits_left());
    }
    if item.flags.contains(TransferFlags::BALANCING_CREDIT) {
        amount = amount.min(credit.credits_left());
    }
    amount
}

fn check_overflow(debit: &Account, credit: &Account, amount: i64, reserves: bool) -> Result<(), C> {
    let debits = debit.balances.debits().overflows(amount, reserves);
    let credits = credit.balances.credits().overflows(amount, reserves);
    refuse(debits.pending, C::OverflowsDebitsPending)?;
    refuse(credits.pending, C::OverflowsCreditsPending)?;
    refuse(debits.posted, C::OverflowsDebitsPosted)?;
    refuse(credits.posted, C::OverflowsCreditsPosted)?;
    refuse(debits.total, C::OverflowsDebits)?;
    refuse(credits.total, C::OverflowsCredits)
}

/// A post or a void. Its accounts are the reservation's; those given are only compared.
fn resolve(new: &New<'_>, pending_id: TransferId, intent: Intent, set: &WorkingSet) -> Result<Decision, C> {
    let item = new.item;
    let (pending, state) = match set.known(pending_id) {
        Some(Known::Reserved(pending, state)) if pending.tenant == *new.tenant => (pending, *state),
        Some(Known::Made(other)) if other.tenant == *new.tenant => return Err(C::PendingTransferNotPending),
        _ => return Err(C::PendingTransferNotFound),
    };
    refuse(!item.debit.agrees(&pending.debit), C::PendingTransferHasDifferentDebitAccountId)?;
    refuse(!item.credit.agrees(&pending.credit), C::PendingTransferHasDifferentCreditAccountId)?;
    refuse(!item.ledger.agrees(&pending.ledger), C::PendingTransferHasDifferentLedger)?;
    refuse(!item.code.agrees(&pending.code), C::PendingTransferHasDifferentCode)?;
    refuse(item.amount > pending.amount, C::ExceedsPendingTransferAmount)?;
    let voids = intent == Intent::Void;
    let is_part = item.amount != 0 && item.amount != pending.amount;
    refuse(voids && is_part, C::PendingTransferHasDifferentAmount)?;
    match state {
        ReservationState::Posted => return Err(C::PendingTransferAlreadyPosted),
        ReservationState::Voided => return Err(C::PendingTransferAlreadyVoided),
        ReservationState::Expired => return Err(C::PendingTransferExpired),
        ReservationState::Open => {}
    }
    // It may have lapsed without having been released yet.
    refuse(pending.expires_at().is_some_and(|at| at <= new.timestamp), C::PendingTransferExpired)?;

    let debit = set.account(pending.debit).ok_or(C::DebitAccountNotFound)?;
    let credit = set.account(pending.credit).ok_or(C::CreditAccountNotFound)?;
    refuse(!voids && debit.closed, C::DebitAccountAlreadyClosed)?;
    refuse(!voids && credit.closed, C::CreditAccountAlreadyClosed)?;
    let (amount, posted, kind) = if voids {
        (pending.amount, 0, Kind::Void { pending: pending_id })
    } else {
        let amount = item.requested().unwrap_or(pending.amount);
        (amount, amount, Kind::Post { pending: pending_id })
    };
    // Posting at most what is reserved cannot overflow: that was seen to when it was reserved.
    let debited = debit.balances.debited(-pending.amount, posted).ok_or(C::OverflowsDebits)?;
    let credited = credit.balances.credited(-pending.amount, posted).ok_or(C::OverflowsCredits)?;
    let parties =
        Parties { debit: pending.debit, credit: pending.credit, ledger: pending.ledger, code: &pending.code };
    Ok(Decision {
        transfer: new.transfer(kind, &parties, amount),
        debit_after: Standing {
            balances: debited,
            closed: debit.stays_closed(pending, TransferFlags::CLOSING_DEBIT),
        },
        credit_after: Standing {
            balances: credited,
            closed: credit.stays_closed(pending, TransferFlags::CLOSING_CREDIT),
        },
    })
}

impl Account {
    /// Whether it is closed once a reservation is released. What closed it opens it again.
    pub(super) fn stays_closed(&self, released: &Transfer, closing: TransferFlags) -> bool {
        self.closed && !released.modifiers.contains(closing)
    }
}
