//! Opening accounts.

use money::{TenantId, Timestamp};

use super::{
    AccountCode as C,
    ledger::LedgerCode,
    text::{Code, Reference},
    types::{Account, AccountFlags, AccountId, Balances, Given},
    working::WorkingSet,
};

/// `CODE_INVALID`, whose name the generator shortens.
const CODE_INVALID: C = C::Invalid;

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
    /// `None` for flags that are unknown.
    pub flags: Option<AccountFlags>,
    /// The caller's own number.
    pub user_data: i64,
    /// The caller's own; `None` where it was too long.
    pub reference: Option<Reference>,
    /// By how much its balance limit may be passed, in minor units.
    pub limit: i64,
    /// Whether any balance was sent, which is for the ledger to say.
    pub has_balances: bool,
    /// Whether a time was given, which is for the ledger to say, too.
    pub has_timestamp: bool,
}

/// What became of one [`NewAccount`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountResult {
    /// The result.
    pub code: C,
    /// When it was opened: of `CREATED` now, of `EXISTS` then, otherwise none.
    pub timestamp: Option<Timestamp>,
}

impl From<C> for AccountResult {
    fn from(code: C) -> Self {
        Self { code, timestamp: None }
    }
}

/// Opens accounts, in the order given. The set must hold those of the batch's ids that exist already.
/// Returns a result per item.
pub fn open_accounts(batch: &[NewAccount], now: Timestamp, set: &mut WorkingSet) -> Vec<AccountResult> {
    let open = |item: &NewAccount| match decide(item, set.next_timestamp(now), set) {
        Ok(account) => {
            let timestamp = Some(account.created_at);
            set.open(account);
            AccountResult { code: C::Created, timestamp }
        }
        Err(refused) => refused,
    };
    batch.iter().map(open).collect()
}

fn decide(item: &NewAccount, created_at: Timestamp, set: &WorkingSet) -> Result<Account, AccountResult> {
    refuse(item.has_timestamp, C::TimestampMustBeZero)?;
    let flags = item.flags.ok_or(C::FlagsInvalid)?;
    let id = *item.id.value().ok_or(C::IdInvalid)?;
    if let Some(existing) = set.account(id) {
        return Err(compare(item, flags, existing));
    }
    refuse(flags.excludes_itself(), C::FlagsAreMutuallyExclusive)?;
    let tenant = item.tenant.value().ok_or(C::TenantInvalid)?;
    refuse(item.has_balances, C::BalanceMustBeZero)?;
    let reference = item.reference.as_ref().ok_or(C::ReferenceInvalid)?;
    let ledger = *item.ledger.value().ok_or(C::LedgerInvalid)?;
    let code = item.code.value().ok_or(CODE_INVALID)?;
    refuse(item.limit < 0 || (item.limit > 0 && !flags.has_limit()), C::LimitInvalid)?;
    Ok(Account {
        id,
        tenant: tenant.clone(),
        ledger,
        code: code.clone(),
        flags,
        user_data: item.user_data,
        reference: reference.clone(),
        limit: item.limit,
        closed: flags.contains(AccountFlags::CLOSED),
        balances: Balances::default(),
        created_at,
    })
}

fn refuse(condition: bool, code: C) -> Result<(), C> {
    if condition { Err(code) } else { Ok(()) }
}

/// What an item is whose id is taken. Of another tenant's account nothing but that it is another
/// tenant's is said. The limit is not compared: it changes over time, as balances do.
fn compare(item: &NewAccount, flags: AccountFlags, existing: &Account) -> AccountResult {
    let code = if !item.tenant.is(&existing.tenant) {
        C::ExistsWithDifferentTenant
    } else if flags != existing.flags {
        C::ExistsWithDifferentFlags
    } else if item.user_data != existing.user_data {
        C::ExistsWithDifferentUserData
    } else if item.reference.as_ref() != Some(&existing.reference) {
        C::ExistsWithDifferentReference
    } else if !item.ledger.is(&existing.ledger) {
        C::ExistsWithDifferentLedger
    } else if !item.code.is(&existing.code) {
        C::ExistsWithDifferentCode
    } else {
        return AccountResult { code: C::Exists, timestamp: Some(existing.created_at) };
    };
    code.into()
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
            flags: Some(AccountFlags::HISTORY),
            user_data: 7,
            reference: "mine".parse().ok(),
            limit: 0,
            has_balances: false,
            has_timestamp: false,
        }
    }

    fn set() -> WorkingSet {
        WorkingSet::new(Timestamp::from_nanos(9))
    }

    const BOTH: AccountFlags =
        AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS.with(AccountFlags::CREDITS_MUST_NOT_EXCEED_DEBITS);

    /// One fault in an item: its code, and how to make it in an item that has none.
    type Fault = (C, fn(&mut NewAccount));

    /// In the order of precedence.
    const FAULTS_OF_ANY: [Fault; 3] = [
        (C::TimestampMustBeZero, |item| item.has_timestamp = true),
        (C::FlagsInvalid, |item| item.flags = None),
        (C::IdInvalid, |item| item.id = Given::Malformed),
    ];

    /// Of an item whose id is taken.
    const FAULTS_OF_TAKEN: [Fault; 6] = [
        (C::ExistsWithDifferentTenant, |item| item.tenant = Given::Value("other".parse().unwrap())),
        (C::ExistsWithDifferentFlags, |item| item.flags = Some(AccountFlags::NONE)),
        (C::ExistsWithDifferentUserData, |item| item.user_data = 8),
        (C::ExistsWithDifferentReference, |item| item.reference = None),
        (C::ExistsWithDifferentLedger, |item| item.ledger = Given::Nothing),
        (C::ExistsWithDifferentCode, |item| item.code = Given::Malformed),
    ];

    /// Of an item whose id is not.
    const FAULTS_OF_NEW: [Fault; 7] = [
        (C::FlagsAreMutuallyExclusive, |item| item.flags = Some(BOTH)),
        (C::TenantInvalid, |item| item.tenant = Given::Malformed),
        (C::BalanceMustBeZero, |item| item.has_balances = true),
        (C::ReferenceInvalid, |item| item.reference = None),
        (C::LedgerInvalid, |item| item.ledger = Given::Unlisted("BTC".parse().unwrap())),
        (CODE_INVALID, |item| item.code = Given::Unlisted("cass".parse().unwrap())),
        (C::LimitInvalid, |item| item.limit = -1),
    ];

    fn one(set: &mut WorkingSet, item: &NewAccount) -> AccountResult {
        open_accounts(std::slice::from_ref(item), Timestamp::from_nanos(1_000), set)[0]
    }

    /// Makes each fault alone and with each later one: the answer is always the earlier one's code.
    fn pairs(set: &WorkingSet, id: u128, faults: &[Fault]) {
        for (index, (code, spoil)) in faults.iter().enumerate() {
            for (later, spoil_too) in &faults[index..] {
                let mut wrong = item(id);
                spoil_too(&mut wrong);
                spoil(&mut wrong);
                let mut set = set.clone();
                assert_eq!(one(&mut set, &wrong), AccountResult::from(*code), "with {later:?}");
                assert_eq!(set.take_events(), [], "nothing happened");
            }
        }
    }

    #[test]
    fn of_two_faults_the_earlier_is_the_answer() {
        let mut set = set();
        assert_eq!(one(&mut set, &item(1)).code, C::Created);
        set.take_events();
        pairs(&set, 1, &[&FAULTS_OF_ANY[..], &FAULTS_OF_TAKEN].concat());
        pairs(&set, 2, &[&FAULTS_OF_ANY[..], &FAULTS_OF_NEW].concat());
        let all = FAULTS_OF_ANY.len() + FAULTS_OF_TAKEN.len() + FAULTS_OF_NEW.len() + 2;
        assert_eq!(all, C::LimitInvalid as usize, "every code but CREATED and EXISTS is a fault here");
    }

    #[test]
    fn what_is_missing_is_as_wrong_as_what_is_malformed() {
        for (wrong, code) in [
            (NewAccount { id: Given::Nothing, ..item(1) }, C::IdInvalid),
            (item(0), C::IdInvalid),
            (item(u128::MAX), C::IdInvalid),
            (NewAccount { tenant: Given::Nothing, ..item(1) }, C::TenantInvalid),
            (NewAccount { ledger: Given::Nothing, ..item(1) }, C::LedgerInvalid),
            (NewAccount { code: Given::Nothing, ..item(1) }, CODE_INVALID),
        ] {
            assert_eq!(one(&mut set(), &wrong).code, code);
        }
    }

    #[test]
    fn a_limit_is_for_accounts_that_have_one_and_is_not_compared_again() {
        let limited = |flags, limit| NewAccount { flags: Some(flags), limit, ..item(1) };
        let debits = AccountFlags::DEBITS_MUST_NOT_EXCEED_CREDITS;
        assert_eq!(one(&mut set(), &limited(AccountFlags::NONE, 1)).code, C::LimitInvalid);
        assert_eq!(one(&mut set(), &limited(debits, -1)).code, C::LimitInvalid);
        let mut set = set();
        assert_eq!(one(&mut set, &limited(debits, 5)).code, C::Created);
        assert_eq!(one(&mut set, &limited(debits, 6)).code, C::Exists);
        assert_eq!(set.account(AccountId::new(1).unwrap()).unwrap().limit, 5);
    }

    #[test]
    fn a_replay_needs_no_configuration() {
        let mut set = set();
        assert_eq!(one(&mut set, &item(1)).code, C::Created);
        let again = NewAccount {
            ledger: Given::Unlisted("EUR".parse().unwrap()),
            code: Given::Unlisted("cash".parse().unwrap()),
            ..item(1)
        };
        assert_eq!(one(&mut set, &again).code, C::Exists);
    }

    #[test]
    fn one_batch_sees_its_own_accounts_and_their_times_are_unique() {
        let mut set = set();
        let now = Timestamp::from_nanos(7);
        let closed = NewAccount { flags: Some(AccountFlags::CLOSED), ..item(2) };
        let results = open_accounts(&[item(1), item(1), closed], now, &mut set);
        let (first, second) = (Some(Timestamp::from_nanos(10)), Some(Timestamp::from_nanos(11)));
        let expected = [(C::Created, first), (C::Exists, first), (C::Created, second)];
        assert_eq!(results, expected.map(|(code, timestamp)| AccountResult { code, timestamp }));
        let events = set.take_events();
        assert_eq!(events.iter().map(super::super::Event::timestamp).collect::<Vec<_>>(), [first, second]);
        assert!(set.account(AccountId::new(2).unwrap()).unwrap().closed);
        assert!(!set.account(AccountId::new(1).unwrap()).unwrap().closed);
    }
}
