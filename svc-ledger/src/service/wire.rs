//! Accounts and transfers: the contract's messages to the domain's types and back.

use std::collections::BTreeSet;

use mesh::{Call, Fault, Reason, Violations, clock::to_proto};
use money::TenantId;
use paymesh_proto::ledger::v1::{
    self as proto, account::AccountFlag, transfer::TransferFlag, trial_balance::Line,
};

use crate::domain::{
    Account, AccountFlags, AccountId, Given, NewAccount, NewTransfer, Reference, Transfer, TransferFlags,
    TransferId, TransferResult, TrialBalance,
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
pub(super) fn new_accounts(call: &Call, accounts: Vec<proto::Account>) -> Result<Vec<NewAccount>, Fault> {
    let mut tenants = Tenants::new(call);
    convert(accounts, |_, account, _| {
        let balances =
            [account.debits_pending, account.debits_posted, account.credits_pending, account.credits_posted];
        Ok(Some(NewAccount {
            id: Given::parse(&account.id, AccountId::parse),
            tenant: tenants.of_item(account.tenant)?,
            ledger: Given::parse(&account.ledger, str::parse),
            code: Given::parse(&account.code, str::parse),
            flags: account_flags(&account.flags),
            balances_are_zero: balances == [0; 4],
        }))
    })
}

const BOTH: AccountFlags =
    AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS.with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);

/// Unknown flags, and limits on both sides, are none.
fn account_flags(flags: &[i32]) -> Option<AccountFlags> {
    let flags: BTreeSet<i32> = flags.iter().copied().collect();
    let set =
        flags.into_iter().try_fold(AccountFlags::NONE, |all, flag| match AccountFlag::try_from(flag) {
            Ok(AccountFlag::DebitsMustNotExceedCredits) => {
                Some(all.with(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS))
            }
            Ok(AccountFlag::CreditsMustNotExceedDebits) => {
                Some(all.with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS))
            }
            Ok(AccountFlag::Unspecified) | Err(_) => None,
        })?;
    (!set.contains(BOTH)).then_some(set)
}

/// The transfers that a request asks for.
///
/// What has a result code of its own goes on to the state machine; what has none (a flag of a newer
/// contract, a reference beyond its bound) refuses the call by the field's name.
pub(super) fn new_transfers(call: &Call, transfers: Vec<proto::Transfer>) -> Result<Vec<NewTransfer>, Fault> {
    let mut tenants = Tenants::new(call);
    convert(transfers, |index, transfer, violations| {
        let tenant = tenants.of_item(transfer.tenant)?;
        let field = |name| move || format!("transfers[{index}].{name}");
        let flags = note(violations, field("flags"), transfer_flags(&transfer.flags));
        let reference = note(violations, field("reference"), transfer.reference.parse::<Reference>());
        let (Some(flags), Some(reference)) = (flags, reference) else { return Ok(None) };
        Ok(Some(NewTransfer {
            id: Given::parse(&transfer.id, TransferId::parse),
            tenant,
            flags,
            debit: Given::parse(&transfer.debit_account_id, AccountId::parse),
            credit: Given::parse(&transfer.credit_account_id, AccountId::parse),
            amount: transfer.amount,
            post_full_amount: transfer.post_full_amount,
            ledger: Given::parse(&transfer.ledger, str::parse),
            code: Given::parse(&transfer.code, str::parse),
            pending: Given::parse(&transfer.pending_id, TransferId::parse),
            timeout_s: transfer.timeout_s,
            reference,
        }))
    })
}

fn transfer_flags(flags: &[i32]) -> Result<TransferFlags, &'static str> {
    flags.iter().try_fold(TransferFlags::default(), |all, flag| {
        let flag = match TransferFlag::try_from(*flag) {
            Ok(TransferFlag::Linked) => TransferFlags::LINKED,
            Ok(TransferFlag::Pending) => TransferFlags::PENDING,
            Ok(TransferFlag::PostPending) => TransferFlags::POST_PENDING,
            Ok(TransferFlag::VoidPending) => TransferFlags::VOID_PENDING,
            Ok(TransferFlag::Unspecified) | Err(_) => {
                return Err("must only have LINKED, PENDING, POST_PENDING or VOID_PENDING");
            }
        };
        Ok(all.with(flag))
    })
}

/// The ids that a request looks up; `parse` reads one.
pub(super) fn ids<T, E: std::fmt::Display>(
    texts: Vec<String>,
    parse: impl Fn(&str) -> Result<T, E>,
) -> Result<Vec<T>, Fault> {
    convert(texts, |index, text, violations| Ok(note(violations, || format!("ids[{index}]"), parse(&text))))
}

/// An account as the contract says it.
pub(super) fn account(account: &Account) -> proto::Account {
    let flags = [
        (AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS, AccountFlag::DebitsMustNotExceedCredits),
        (AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS, AccountFlag::CreditsMustNotExceedDebits),
    ];
    proto::Account {
        id: account.id.to_string(),
        ledger: account.ledger.to_string(),
        code: account.code.as_str().to_owned(),
        flags: flags
            .iter()
            .filter(|(flag, _)| account.flags.contains(*flag))
            .map(|(_, flag)| (*flag).into())
            .collect(),
        debits_pending: account.balances.debits_pending,
        debits_posted: account.balances.debits_posted,
        credits_pending: account.balances.credits_pending,
        credits_posted: account.balances.credits_posted,
        created_at: Some(to_proto(account.created_at)),
        tenant: account.tenant.to_string(),
    }
}

/// A transfer as the contract says it.
pub(super) fn transfer(transfer: &Transfer) -> proto::Transfer {
    let flags = [
        (TransferFlags::LINKED, TransferFlag::Linked),
        (TransferFlags::PENDING, TransferFlag::Pending),
        (TransferFlags::POST_PENDING, TransferFlag::PostPending),
        (TransferFlags::VOID_PENDING, TransferFlag::VoidPending),
    ];
    let mine = transfer.flags();
    proto::Transfer {
        id: transfer.id.to_string(),
        debit_account_id: transfer.debit.to_string(),
        credit_account_id: transfer.credit.to_string(),
        amount: transfer.amount,
        ledger: transfer.ledger.to_string(),
        code: transfer.code.as_str().to_owned(),
        flags: flags
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
    }
}

/// A transfer's result as the contract says it.
pub(super) fn transfer_result(result: TransferResult) -> proto::TransferResult {
    proto::TransferResult {
        code: result.code.into(),
        timestamp_ns: result.timestamp.map_or(0, money::Timestamp::as_nanos),
    }
}

/// A trial balance as the contract says it.
pub(super) fn trial_balance(trial: &TrialBalance) -> Result<proto::TrialBalance, Fault> {
    let narrow = |sum: i128| {
        i64::try_from(sum).map_err(|_| {
            Fault::new(Reason::Internal, "A sum over all accounts is beyond what the answer can say.")
        })
    };
    let lines = trial.lines.iter().map(|(ledger, line)| {
        Ok(Line {
            ledger: ledger.to_string(),
            debits_pending: narrow(line.debits_pending)?,
            debits_posted: narrow(line.debits_posted)?,
            credits_pending: narrow(line.credits_pending)?,
            credits_posted: narrow(line.credits_posted)?,
            difference: narrow(line.difference())?,
            accounts: line.accounts,
        })
    });
    Ok(proto::TrialBalance { lines: lines.collect::<Result<_, Fault>>()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_flags_are_a_set_of_at_most_one() {
        assert_eq!(account_flags(&[]), Some(AccountFlags::NONE));
        assert_eq!(account_flags(&[1, 1]), Some(AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS));
        assert_eq!(account_flags(&[2]), Some(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS));
        for wrong in [&[0][..], &[3], &[-1], &[1, 2], &[0, 1]] {
            assert_eq!(account_flags(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn transfer_flags_of_a_newer_contract_are_refused() {
        assert_eq!(transfer_flags(&[]), Ok(TransferFlags::default()));
        assert_eq!(transfer_flags(&[2, 1, 2]), Ok(TransferFlags::PENDING.with(TransferFlags::LINKED)));
        for wrong in [&[0][..], &[5], &[2, 99]] {
            assert!(transfer_flags(wrong).is_err(), "{wrong:?}");
        }
    }
}
