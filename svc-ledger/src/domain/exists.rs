//! What a transfer is whose id is taken: a replay, or another one.

use super::{
    TransferCode as C,
    batch::TransferResult,
    transfer::NewTransfer,
    types::{Given, Kind, Transfer},
};

/// Compares an item with the transfer that has its id, in the order of precedence.
///
/// Of another tenant's transfer nothing but that it is another tenant's is said: the other codes
/// speak of transfers of one tenant only.
pub(super) fn compare(item: &NewTransfer, existing: &Transfer) -> TransferResult {
    if !item.tenant.is(&existing.tenant) {
        return C::ExistsWithDifferentTenant.into();
    }
    let resolves = existing.pending_id().is_some();
    let code = if item.flags != existing.flags() {
        C::ExistsWithDifferentFlags
    } else if !is_same_pending(item, existing) {
        C::ExistsWithDifferentPendingId
    } else if item.timeout_s != existing.timeout_s() {
        C::ExistsWithDifferentTimeout
    } else if !matches(&item.debit, &existing.debit, resolves) {
        C::ExistsWithDifferentDebitAccountId
    } else if !matches(&item.credit, &existing.credit, resolves) {
        C::ExistsWithDifferentCreditAccountId
    } else if !is_same_amount(item, existing) {
        C::ExistsWithDifferentAmount
    } else if item.user_data != existing.user_data {
        C::ExistsWithDifferentUserData
    } else if item.reference.as_ref() != Some(&existing.reference) {
        C::ExistsWithDifferentReference
    } else if !matches(&item.ledger, &existing.ledger, resolves) {
        C::ExistsWithDifferentLedger
    } else if !matches(&item.code, &existing.code, resolves) {
        C::ExistsWithDifferentCode
    } else {
        return TransferResult { code: C::Exists, timestamp: Some(existing.timestamp) };
    };
    code.into()
}

/// A post or void takes from its reservation what it leaves out.
fn matches<T: PartialEq>(given: &Given<T>, existing: &T, resolves: bool) -> bool {
    if resolves { given.agrees(existing) } else { given.is(existing) }
}

fn is_same_pending(item: &NewTransfer, existing: &Transfer) -> bool {
    match existing.pending_id() {
        Some(pending) => item.pending.is(&pending),
        None => item.pending == Given::Nothing,
    }
}

/// The amount asked for, not the one that came of it: a balancing transfer may have moved less.
fn is_same_amount(item: &NewTransfer, existing: &Transfer) -> bool {
    match (existing.kind, existing.requested) {
        // Zero says the whole, too.
        (Kind::Void { .. }, _) => {
            !item.post_full_amount && (item.amount == 0 || item.amount == existing.amount)
        }
        (_, Some(asked)) => !item.post_full_amount && item.amount == asked,
        (_, None) => item.post_full_amount && item.amount == 0,
    }
}
