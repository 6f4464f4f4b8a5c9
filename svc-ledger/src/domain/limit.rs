//! Setting the limits of accounts.

use money::{TenantId, Timestamp};

use super::{
    LimitCode as C,
    types::{AccountId, Given},
    working::WorkingSet,
};

/// A limit as a caller asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLimit {
    /// The account.
    pub account: Given<AccountId>,
    /// Its owner.
    pub tenant: Given<TenantId>,
    /// By how much it may pass its balance limit, in minor units.
    pub limit: i64,
    /// Set it only if the limit is this one now.
    pub expected: Option<i64>,
}

/// What became of one [`NewLimit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitResult {
    /// The result.
    pub code: C,
    /// The limit in force now, of an account that has one.
    pub limit: Option<i64>,
    /// When it was set, if it was.
    pub timestamp: Option<Timestamp>,
}

impl From<C> for LimitResult {
    fn from(code: C) -> Self {
        Self { code, limit: None, timestamp: None }
    }
}

/// Sets limits in the order given. The set must hold the accounts that exist. Returns a result per item.
///
/// A lowered limit undoes nothing: what is beyond it stays, and only what would add to it is refused.
pub fn set_limits(batch: &[NewLimit], now: Timestamp, set: &mut WorkingSet) -> Vec<LimitResult> {
    batch.iter().map(|item| set_limit(item, now, set).unwrap_or_else(LimitResult::from)).collect()
}

fn set_limit(item: &NewLimit, now: Timestamp, set: &mut WorkingSet) -> Result<LimitResult, C> {
    let id = *item.account.value().ok_or(C::IdInvalid)?;
    let tenant = item.tenant.value().ok_or(C::TenantInvalid)?;
    if item.limit < 0 {
        return Err(C::LimitInvalid);
    }
    // Another tenant's account is as good as none.
    let account = set.account(id).filter(|account| account.tenant == *tenant).ok_or(C::AccountNotFound)?;
    if !account.flags.has_limit() {
        return Err(C::AccountHasNoLimit);
    }
    let current = account.limit;
    // Before what was expected, so that who asks again reads that it is done.
    if current == item.limit {
        return Ok(LimitResult { code: C::Unchanged, limit: Some(current), timestamp: None });
    }
    if item.expected.is_some_and(|expected| expected != current) {
        return Ok(LimitResult { code: C::LimitDiffers, limit: Some(current), timestamp: None });
    }
    let timestamp = set.set_limit(id, item.limit, now);
    Ok(LimitResult { code: C::Changed, limit: Some(item.limit), timestamp })
}
