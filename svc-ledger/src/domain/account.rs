//! Opening accounts.

use money::{TenantId, Timestamp};

use super::{
    AccountCode,
    ledger::LedgerCode,
    text::{Code, Reference},
    types::{Account, AccountFlags, AccountId, Balances, Given},
    working::WorkingSet,
};

/// `CODE_INVALID`, whose name the generator shortens.
const CODE_INVALID: AccountCode = AccountCode::Invalid;

/// An account as a caller asks for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAccount {
    /// Chosen by the client.
    pub id: Given<AccountId>,
    /// The owner.
    pub tenant: Given<TenantId>,
    /// Of all its transfers.
    pub ledger: Given<LedgerCode>,
    /// Its place in the chart of accounts.
    pub code: Given<Code>,
    /// `None` for flags that are unknown or exclude each other.
    pub flags: Option<AccountFlags>,
    /// Whether all balances were sent as zero.
    pub balances_are_zero: bool,
}

/// What became of one [`NewAccount`].
pub type AccountResult = AccountCode;

/// Opens accounts, in the order given. The set must hold those of the batch's ids that exist already.
/// Returns a result per item.
pub fn open_accounts(batch: &[NewAccount], now: Timestamp, set: &mut WorkingSet) -> Vec<AccountResult> {
    let open = |item: &NewAccount| match decide(item, set.next_timestamp(now), set) {
        Ok(account) => {
            set.open(account);
            AccountCode::Created
        }
        Err(code) => code,
    };
    batch.iter().map(open).collect()
}

fn decide(item: &NewAccount, created_at: Timestamp, set: &WorkingSet) -> Result<Account, AccountCode> {
    let id = *item.id.value().ok_or(AccountCode::IdInvalid)?;
    if let Some(existing) = set.account(id) {
        return Err(compare(item, existing));
    }
    let ledger = *item.ledger.value().ok_or(AccountCode::LedgerInvalid)?;
    let code = item.code.value().ok_or(CODE_INVALID)?.clone();
    let flags = item.flags.ok_or(AccountCode::FlagsInvalid)?;
    if !item.balances_are_zero {
        return Err(AccountCode::BalanceMustBeZero);
    }
    let tenant = item.tenant.value().ok_or(AccountCode::TenantInvalid)?.clone();
    Ok(Account {
        id,
        tenant,
        ledger,
        code,
        flags,
        user_data: 0,
        reference: Reference::default(),
        limit: 0,
        closed: flags.contains(AccountFlags::CLOSED),
        balances: Balances::default(),
        created_at,
    })
}

/// What an item is whose id is taken. Of another tenant's account nothing but that it is another
/// tenant's is said.
fn compare(item: &NewAccount, existing: &Account) -> AccountCode {
    if !item.tenant.is(&existing.tenant) {
        AccountCode::ExistsWithDifferentTenant
    } else if !item.ledger.is(&existing.ledger) {
        AccountCode::ExistsWithDifferentLedger
    } else if !item.code.is(&existing.code) {
        AccountCode::ExistsWithDifferentCode
    } else if item.flags != Some(existing.flags) {
        AccountCode::ExistsWithDifferentFlags
    } else {
        AccountCode::Exists
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(bits: u128) -> NewAccount {
        NewAccount {
            id: Given::parse(&uuid::Uuid::from_u128(bits).to_string(), AccountId::parse),
            tenant: Given::Value("acme".parse().unwrap()),
            ledger: Given::Value("EUR".parse().unwrap()),
            code: Given::Value("cash".parse().unwrap()),
            flags: Some(AccountFlags::NONE),
            balances_are_zero: true,
        }
    }

    fn set() -> WorkingSet {
        WorkingSet::new(Timestamp::from_nanos(9))
    }

    #[test]
    fn every_code_has_its_cause() {
        use AccountCode as C;
        let cases: Vec<(NewAccount, C)> = vec![
            (item(1), C::Created),
            (item(1), C::Exists),
            (NewAccount { balances_are_zero: false, ..item(1) }, C::Exists),
            (
                NewAccount { ledger: Given::Value("USD".parse().unwrap()), ..item(1) },
                C::ExistsWithDifferentLedger,
            ),
            (NewAccount { ledger: Given::Nothing, ..item(1) }, C::ExistsWithDifferentLedger),
            (
                NewAccount { code: Given::Value("fees".parse().unwrap()), ..item(1) },
                C::ExistsWithDifferentCode,
            ),
            (
                NewAccount { flags: Some(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS), ..item(1) },
                C::ExistsWithDifferentFlags,
            ),
            (NewAccount { flags: None, ..item(1) }, C::ExistsWithDifferentFlags),
            (
                // Another tenant learns nothing else about it.
                NewAccount {
                    tenant: Given::Value("other".parse().unwrap()),
                    code: Given::Nothing,
                    ..item(1)
                },
                C::ExistsWithDifferentTenant,
            ),
            (NewAccount { id: Given::Nothing, ..item(1) }, C::IdInvalid),
            (item(0), C::IdInvalid),
            (item(u128::MAX), C::IdInvalid),
            (NewAccount { ledger: Given::Malformed, code: Given::Malformed, ..item(2) }, C::LedgerInvalid),
            (NewAccount { ledger: Given::Nothing, ..item(2) }, C::LedgerInvalid),
            (NewAccount { code: Given::Malformed, flags: None, ..item(2) }, C::Invalid),
            (NewAccount { flags: None, balances_are_zero: false, ..item(2) }, C::FlagsInvalid),
            (
                NewAccount { balances_are_zero: false, tenant: Given::Malformed, ..item(2) },
                C::BalanceMustBeZero,
            ),
            (NewAccount { tenant: Given::Malformed, ..item(2) }, C::TenantInvalid),
            (NewAccount { tenant: Given::Nothing, ..item(2) }, C::TenantInvalid),
            // None of the refusals above took the id.
            (item(2), C::Created),
        ];
        let mut set = set();
        for (index, (item, code)) in cases.into_iter().enumerate() {
            let now = Timestamp::from_nanos(1_000);
            assert_eq!(open_accounts(&[item], now, &mut set), [code], "case {index}");
        }
    }

    #[test]
    fn one_batch_sees_its_own_accounts_and_their_times_are_unique() {
        let mut set = set();
        let now = Timestamp::from_nanos(7);
        let results = open_accounts(&[item(1), item(1), item(2)], now, &mut set);
        assert_eq!(results, [AccountCode::Created, AccountCode::Exists, AccountCode::Created]);
        let times: Vec<_> =
            set.take_events().iter().map(|event| event.timestamp().unwrap().as_nanos()).collect();
        assert_eq!(times, [10, 11]);
    }
}
