//! Accounts and transfers: the contract's messages to the domain's types and back.

use mesh::{Call, Fault, Reason, Violations, clock::to_proto};
use money::{TenantId, Timestamp};
use paymesh_proto::ledger::v1::{
    self as proto, account::AccountFlag, transfer::TransferFlag, trial_balance::Line,
};

use crate::{
    config::Vocabulary,
    domain::{
        Account, AccountFlags, AccountId, AccountResult, Given, LedgerCode, Ledgers, LimitResult, NewAccount,
        NewLimit, NewTransfer, Transfer, TransferFlags, TransferId, TransferResult, TrialBalance,
    },
};

/// The most fields at fault that one answer names.
const VIOLATIONS_MAX: usize = 16;

/// The tenants of a batch's items. Neighbours mostly have the same, so the last one is remembered.
struct Tenants<'a> {
    call: &'a Call,
    last: Option<(String, Given<TenantId>)>,
}

impl<'a> Tenants<'a> {
    fn new(call: &'a Call) -> Self {
        Self { call, last: None }
    }

    fn of_item(&mut self, name: String) -> Result<Given<TenantId>, Fault> {
        if let Some((_, given)) = self.last.as_ref().filter(|(last, _)| *last == name) {
            return Ok(given.clone());
        }
        let given = match self.call.tenant_of_item(&name) {
            Ok(tenant) => Given::Value(tenant),
            // A malformed name is the item's own result code.
            Err(fault) if fault.reason() == Reason::InvalidRequest => Given::Malformed,
            Err(fault) => return Err(fault),
        };
        self.last = Some((name, given.clone()));
        Ok(given)
    }
}

/// The value, or a note of what is wrong; the field's path is only spelled out when it is.
fn note<T, E: std::fmt::Display>(
    violations: &mut Violations,
    field: impl FnOnce() -> String,
    result: Result<T, E>,
) -> Option<T> {
    result.map_err(|error| violations.add(field(), error.to_string())).ok()
}

/// Converts a batch item by item; stops when enough is wrong with it.
fn convert<T, U>(
    items: Vec<T>,
    mut one: impl FnMut(usize, T, &mut Violations) -> Result<Option<U>, Fault>,
) -> Result<Vec<U>, Fault> {
    let mut violations = Violations::new();
    let mut wrong = 0;
    let mut converted = Vec::with_capacity(items.len());
    for (index, item) in items.into_iter().enumerate() {
        match one(index, item, &mut violations)? {
            Some(item) => converted.push(item),
            None => wrong += 1,
        }
        if wrong == VIOLATIONS_MAX {
            break;
        }
    }
    violations.finish()?;
    Ok(converted)
}

/// The accounts that a request asks for.
pub(super) fn new_accounts(
    call: &Call,
    words: &Vocabulary,
    accounts: Vec<proto::Account>,
) -> Result<Vec<NewAccount>, Fault> {
    let mut tenants = Tenants::new(call);
    let convert = |account: proto::Account| {
        let balances =
            [account.debits_pending, account.debits_posted, account.credits_pending, account.credits_posted];
        Ok(NewAccount {
            id: Given::parse(&account.id, AccountId::parse),
            tenant: tenants.of_item(account.tenant)?,
            ledger: ledger_of(words, &account.ledger, account.exponent),
            code: words.account_codes.given(&account.code),
            flags: account_flags(&account.flags),
            user_data: account.user_data,
            reference: account.reference.parse().ok(),
            limit: account.limit,
            has_balances: balances != [0; 4],
            has_timestamp: account.created_at.is_some(),
        })
    };
    accounts.into_iter().map(convert).collect()
}

/// A ledger under another exponent than its own is none.
fn ledger_of(words: &Vocabulary, text: &str, exponent: u32) -> Given<LedgerCode> {
    match words.ledgers.given(text) {
        Given::Value(code)
            if exponent != 0 && words.ledgers.exponent(code).map(u32::from) != Ok(exponent) =>
        {
            Given::Malformed
        }
        given => given,
    }
}

const ACCOUNT_FLAGS: [(AccountFlags, AccountFlag); 4] = [
    (AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS, AccountFlag::DebitsMustNotExceedCredits),
    (AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS, AccountFlag::CreditsMustNotExceedDebits),
    (AccountFlags::HISTORY, AccountFlag::History),
    (AccountFlags::CLOSED, AccountFlag::Closed),
];

const TRANSFER_FLAGS: [(TransferFlags, TransferFlag); 8] = [
    (TransferFlags::LINKED, TransferFlag::Linked),
    (TransferFlags::PENDING, TransferFlag::Pending),
    (TransferFlags::POST_PENDING, TransferFlag::PostPending),
    (TransferFlags::VOID_PENDING, TransferFlag::VoidPending),
    (TransferFlags::BALANCING_DEBIT, TransferFlag::BalancingDebit),
    (TransferFlags::BALANCING_CREDIT, TransferFlag::BalancingCredit),
    (TransferFlags::CLOSING_DEBIT, TransferFlag::ClosingDebit),
    (TransferFlags::CLOSING_CREDIT, TransferFlag::ClosingCredit),
];

/// Any unknown flag makes the set unknown.
fn account_flags(flags: &[i32]) -> Option<AccountFlags> {
    flags.iter().try_fold(AccountFlags::NONE, |all, flag| {
        ACCOUNT_FLAGS.iter().find(|(_, theirs)| *theirs as i32 == *flag).map(|(mine, _)| all.with(*mine))
    })
}

/// The transfers that a request asks for. What is wrong with one of them is its own result code's to say.
pub(super) fn new_transfers(
    call: &Call,
    words: &Vocabulary,
    transfers: Vec<proto::Transfer>,
) -> Result<Vec<NewTransfer>, Fault> {
    let mut tenants = Tenants::new(call);
    let convert = |transfer: proto::Transfer| {
        let (flags, has_unknown_flags) = transfer_flags(&transfer.flags);
        Ok(NewTransfer {
            id: Given::parse(&transfer.id, TransferId::parse),
            tenant: tenants.of_item(transfer.tenant)?,
            flags,
            has_unknown_flags,
            has_timestamp: transfer.timestamp_ns != 0,
            debit: Given::parse(&transfer.debit_account_id, AccountId::parse),
            credit: Given::parse(&transfer.credit_account_id, AccountId::parse),
            amount: transfer.amount,
            post_full_amount: transfer.post_full_amount,
            ledger: words.ledgers.given(&transfer.ledger),
            code: words.transfer_codes.given(&transfer.code),
            pending: Given::parse(&transfer.pending_id, TransferId::parse),
            timeout_s: transfer.timeout_s,
            user_data: transfer.user_data,
            reference: transfer.reference.parse().ok(),
        })
    };
    transfers.into_iter().map(convert).collect()
}

/// Those that are known, so that a chain is the chain it was meant to be, and whether there are others.
pub(super) fn transfer_flags(flags: &[i32]) -> (TransferFlags, bool) {
    flags.iter().fold((TransferFlags::default(), false), |(all, has_unknown), flag| {
        match TRANSFER_FLAGS.iter().find(|(_, theirs)| *theirs as i32 == *flag) {
            Some((mine, _)) => (all.with(*mine), has_unknown),
            None => (all, true),
        }
    })
}

/// The limits that a request asks for.
pub(super) fn new_limits(call: &Call, limits: Vec<proto::AccountLimit>) -> Result<Vec<NewLimit>, Fault> {
    let mut tenants = Tenants::new(call);
    let convert = |limit: proto::AccountLimit| {
        Ok(NewLimit {
            account: Given::parse(&limit.account_id, AccountId::parse),
            tenant: tenants.of_item(limit.tenant)?,
            limit: limit.limit,
            expected: limit.expected_limit,
        })
    };
    limits.into_iter().map(convert).collect()
}

/// The ids that a request looks up; `parse` reads one.
pub(super) fn ids<T, E: std::fmt::Display>(
    texts: Vec<String>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, Fault> {
    convert(texts, |index, text, violations| Ok(note(violations, || format!("ids[{index}]"), parse(&text))))
}

/// An account as the contract says it.
pub(super) fn account(account: &Account, ledgers: &Ledgers) -> proto::Account {
    let as_it_is = account.flags.without(AccountFlags::CLOSED);
    let flags = if account.closed { as_it_is.with(AccountFlags::CLOSED) } else { as_it_is };
    proto::Account {
        id: account.id.to_string(),
        ledger: account.ledger.to_string(),
        code: account.code.as_str().to_owned(),
        flags: ACCOUNT_FLAGS
            .iter()
            .filter(|(flag, _)| flags.contains(*flag))
            .map(|(_, flag)| (*flag).into())
            .collect(),
        debits_pending: account.balances.debits_pending,
        debits_posted: account.balances.debits_posted,
        credits_pending: account.balances.credits_pending,
        credits_posted: account.balances.credits_posted,
        created_at: Some(to_proto(account.created_at)),
        tenant: account.tenant.to_string(),
        user_data: account.user_data,
        reference: account.reference.as_str().to_owned(),
        limit: account.limit,
        exponent: exponent(ledgers, account.ledger),
    }
}

/// Zero of an asset that was taken out of the configuration.
fn exponent(ledgers: &Ledgers, ledger: LedgerCode) -> u32 {
    ledgers.exponent(ledger).map(u32::from).unwrap_or_default()
}

/// A transfer as the contract says it.
pub(super) fn transfer(transfer: &Transfer) -> proto::Transfer {
    let mine = transfer.flags();
    proto::Transfer {
        id: transfer.id.to_string(),
        debit_account_id: transfer.debit.to_string(),
        credit_account_id: transfer.credit.to_string(),
        amount: transfer.amount,
        ledger: transfer.ledger.to_string(),
        code: transfer.code.as_str().to_owned(),
        flags: TRANSFER_FLAGS
            .iter()
            .filter(|(flag, _)| mine.contains(*flag))
            .map(|(_, flag)| (*flag).into())
            .collect(),
        pending_id: transfer.pending_id().map(|id| id.to_string()).unwrap_or_default(),
        timeout_s: transfer.timeout_s(),
        reference: transfer.reference.as_str().to_owned(),
        timestamp_ns: transfer.timestamp.as_nanos(),
        tenant: transfer.tenant.to_string(),
        post_full_amount: false,
        user_data: transfer.user_data,
    }
}

/// An account's result as the contract says it.
pub(super) fn account_result(result: AccountResult) -> proto::AccountResult {
    proto::AccountResult { code: result.code.into(), timestamp_ns: nanos(result.timestamp) }
}

/// A limit's result as the contract says it.
pub(super) fn limit_result(result: LimitResult) -> proto::AccountLimitResult {
    proto::AccountLimitResult {
        code: result.code.into(),
        limit: result.limit.unwrap_or_default(),
        timestamp_ns: nanos(result.timestamp),
    }
}

fn nanos(timestamp: Option<Timestamp>) -> i64 {
    timestamp.map_or(0, Timestamp::as_nanos)
}

/// A transfer's result as the contract says it.
pub(super) fn transfer_result(result: TransferResult) -> proto::TransferResult {
    proto::TransferResult { code: result.code.into(), timestamp_ns: nanos(result.timestamp) }
}

/// A trial balance as the contract says it.
pub(super) fn trial_balance(trial: &TrialBalance, ledgers: &Ledgers) -> proto::TrialBalance {
    let lines = trial.lines.iter().map(|(ledger, line)| {
        let sums = [line.debits_pending, line.debits_posted, line.credits_pending, line.credits_posted];
        let is_narrow = |sum: &i128| i64::try_from(*sum).is_ok();
        let exact = proto::trial_balance::Exact {
            debits_pending: line.debits_pending.to_string(),
            debits_posted: line.debits_posted.to_string(),
            credits_pending: line.credits_pending.to_string(),
            credits_posted: line.credits_posted.to_string(),
            difference: line.difference().to_string(),
        };
        Line {
            ledger: ledger.to_string(),
            debits_pending: nearest(line.debits_pending),
            debits_posted: nearest(line.debits_posted),
            credits_pending: nearest(line.credits_pending),
            credits_posted: nearest(line.credits_posted),
            difference: nearest(line.difference()),
            accounts: line.accounts,
            exponent: exponent(ledgers, *ledger),
            exact: (!sums.iter().all(is_narrow)).then_some(exact),
        }
    });
    proto::TrialBalance { lines: lines.collect() }
}

/// The sum, or the end of what the contract's number says on its side.
fn nearest(sum: i128) -> i64 {
    i64::try_from(sum).unwrap_or(if sum < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::TrialLine;

    #[test]
    fn account_flags_are_a_set_of_known_ones() {
        assert_eq!(account_flags(&[]), Some(AccountFlags::NONE));
        assert_eq!(account_flags(&[1, 1]), Some(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS));
        assert_eq!(account_flags(&[4, 3]), Some(AccountFlags::HISTORY.with(AccountFlags::CLOSED)));
        for wrong in [&[0][..], &[5], &[-1], &[0, 1]] {
            assert_eq!(account_flags(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn transfer_flags_of_a_newer_contract_do_not_hide_those_that_are_known() {
        assert_eq!(transfer_flags(&[]), (TransferFlags::default(), false));
        let both = TransferFlags::PENDING.with(TransferFlags::LINKED);
        assert_eq!(transfer_flags(&[2, 1, 2]), (both, false));
        assert_eq!(transfer_flags(&[2, 99, 1]), (both, true));
        assert_eq!(transfer_flags(&[0]), (TransferFlags::default(), true));
        let all = transfer_flags(&[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(all, (TransferFlags::from_bits(u8::MAX), false));
    }

    #[test]
    fn a_ledger_is_its_code_and_its_exponent() {
        let words = crate::Config::default().vocabulary().unwrap();
        let eur = Given::Value("EUR".parse().unwrap());
        assert_eq!((ledger_of(&words, "EUR", 0), ledger_of(&words, "EUR", 2)), (eur, eur));
        assert_eq!(ledger_of(&words, "EUR", 3), Given::Malformed);
    }

    #[test]
    fn sums_beyond_the_contracts_numbers_are_told_in_digits() {
        let told = |line: TrialLine| {
            let trial = TrialBalance { lines: [("EUR".parse().unwrap(), line)].into() };
            trial_balance(&trial, &Ledgers::default()).lines.remove(0)
        };
        let most = i128::from(i64::MAX);
        let line = TrialLine { debits_posted: most, credits_posted: most, ..TrialLine::default() };
        assert_eq!((told(line).debits_posted, told(line).difference, told(line).exact), (i64::MAX, 0, None));
        let beyond = told(TrialLine { credits_posted: 3 * most, ..line });
        assert_eq!((beyond.debits_posted, beyond.credits_posted), (i64::MAX, i64::MAX));
        assert_eq!(beyond.difference, i64::MIN);
        let exact = beyond.exact.unwrap();
        assert_eq!((exact.debits_posted, exact.debits_pending), (most.to_string(), "0".to_owned()));
        assert_eq!(
            (exact.credits_posted, exact.difference),
            ((3 * most).to_string(), (-2 * most).to_string())
        );
    }
}
