//! Questions: which transfers, accounts and balances pass a filter.

use std::cell::RefCell;

use mesh::store::StoreError;
use money::{TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    body::{self, Movement},
    corrupt,
    posting::{Key, Of},
    search::{Search, Speller},
    view::View,
    words::Words,
};
use crate::{
    domain::{AccountId, Code, Kind, LedgerCode, Reference, Transfer, TransferFlags},
    store::ports::{AccountFilter, BalanceAt, BalanceFilter, Page, TransferFilter},
};

fn nothing<T>() -> Page<T> {
    Page { items: Vec::new(), resume: None }
}

/// A filter in the words and numbers of the rows.
struct Wanted<'a> {
    filter: &'a TransferFilter,
    tenant: Option<u32>,
    ledger: Option<u32>,
    code: Option<u32>,
    account: Option<Timestamp>,
    debit: Option<Timestamp>,
    credit: Option<Timestamp>,
}

impl<'a> Wanted<'a> {
    /// `None` where the filter names something of which there is nothing, or nothing of the tenant's.
    fn resolve(
        connection: &Connection,
        words: &Words,
        filter: &'a TransferFilter,
    ) -> Result<Option<Self>, StoreError> {
        let word = |text: Option<&str>| match text {
            None => Some(None),
            Some(text) => words.number(text).map(Some),
        };
        let (Some(tenant), Some(ledger), Some(code)) = (
            word(filter.tenant.as_ref().map(TenantId::as_str)),
            word(filter.ledger.as_ref().map(LedgerCode::as_str)),
            word(filter.code.as_ref().map(Code::as_str)),
        ) else {
            return Ok(None);
        };
        let account = |id: Option<AccountId>| -> Result<Option<Option<Timestamp>>, StoreError> {
            let Some(id) = id else { return Ok(Some(None)) };
            let found = find_account(connection, id)?;
            let own = found.filter(|found| tenant.is_none_or(|tenant| tenant == found.tenant));
            Ok(own.map(|found| Some(found.number)))
        };
        let (Some(account), Some(debit), Some(credit)) =
            (account(filter.account)?, account(filter.debit)?, account(filter.credit)?)
        else {
            return Ok(None);
        };
        Ok(Some(Self { filter, tenant, ledger, code, account, debit, credit }))
    }

    fn admits(&self, movement: &Movement<'_>) -> bool {
        let Some(made) = &movement.made else { return false };
        let filter = self.filter;
        let kind = match made.kind {
            Kind::Single => TransferFlags::default(),
            Kind::Pending { .. } => TransferFlags::PENDING,
            Kind::Post { .. } => TransferFlags::POST_PENDING,
            Kind::Void { .. } => TransferFlags::VOID_PENDING,
        };
        self.tenant.is_none_or(|tenant| tenant == made.words.tenant)
            && self.ledger.is_none_or(|ledger| ledger == made.words.ledger)
            && self.code.is_none_or(|code| code == made.words.code)
            && self.account.is_none_or(|number| number == movement.debit || number == movement.credit)
            && self.debit.is_none_or(|number| number == movement.debit)
            && self.credit.is_none_or(|number| number == movement.credit)
            && kind.with(made.modifiers).contains(filter.flags)
            && filter.amount_min.is_none_or(|least| made.amount >= least)
            && filter.amount_max.is_none_or(|most| made.amount <= most)
            && filter.user_data.is_none_or(|data| data == made.user_data)
            && filter.reference.as_ref().is_none_or(|reference| reference.as_str() == made.reference)
    }

    /// The lists that hold whatever passes, the shortest first as far as can be told beforehand. All movements
    /// of an account are of one tenant: the tenant's own list is read only where there is no other.
    fn keys(&self) -> Vec<Key> {
        let reference = self.filter.reference.as_ref().map(Reference::as_str);
        let mut keys: Vec<Key> = reference
            .filter(|text| !text.is_empty())
            .map(|text| Of::Reference(text).key())
            .into_iter()
            .collect();
        let user_data = self.filter.user_data.filter(|data| *data != 0);
        keys.extend(user_data.map(|data| Of::UserData(data).key()));
        let mut accounts: Vec<Timestamp> =
            [self.account, self.debit, self.credit].into_iter().flatten().collect();
        accounts.sort_unstable();
        accounts.dedup();
        keys.extend(accounts.into_iter().map(|number| Of::Account(number).key()));
        if keys.is_empty() {
            keys.extend(self.tenant.map(|tenant| Of::Tenant(tenant).key()));
        }
        keys
    }
}

/// Transfers that pass a filter.
pub(super) fn transfers(
    connection: &Connection,
    view: &View,
    budget: usize,
    filter: &TransferFilter,
) -> Result<Page<Transfer>, StoreError> {
    let Some(wanted) = Wanted::resolve(connection, &view.words, filter)? else { return Ok(nothing()) };
    let mut speller = Speller::new(connection, &view.words)?;
    let mut items = Vec::new();
    let mut visit = |timestamp: i64, movement: &Movement<'_>| {
        let admitted = wanted.admits(movement);
        if admitted {
            items.extend(speller.transfer(timestamp, movement)?);
        }
        Ok(admitted)
    };
    let resume = if let Some(pending) = filter.pending {
        // At most one transfer resolves a reservation.
        let resolved: Option<i64> = connection
            .prepare_cached("SELECT timestamp FROM resolutions WHERE reservation = ?1")?
            .query_row([pending.bits().to_be_bytes()], |row| row.get(0))
            .optional()?;
        let within = filter.period.from.as_nanos()..=filter.period.to.as_nanos();
        if let Some(timestamp) = resolved.filter(|timestamp| within.contains(timestamp)) {
            let mut find = connection.prepare_cached("SELECT body FROM movements WHERE timestamp = ?1")?;
            let mut rows = find.query([timestamp])?;
            let row = rows.next()?.ok_or_else(|| corrupt("resolution without its movement"))?;
            let bytes = row.get_ref(0)?.as_blob().map_err(|_| corrupt("movement"))?;
            visit(timestamp, &body::movement(bytes)?)?;
        }
        None
    } else {
        Search::new(connection, view, budget, filter.period, filter.window).walk(&wanted.keys(), visit)?
    };
    Ok(Page { items, resume })
}

/// Balances of an account.
pub(super) fn balances(
    connection: &Connection,
    view: &View,
    budget: usize,
    filter: &BalanceFilter,
) -> Result<Page<BalanceAt>, StoreError> {
    let tenant = view.words.number(filter.tenant.as_str());
    let account = find_account(connection, filter.account)?;
    let own = account.filter(|account| Some(account.tenant) == tenant && account.has_history);
    let Some(Account { number, .. }) = own else { return Ok(nothing()) };
    let items = RefCell::new(Vec::new());
    let visit = |timestamp: i64, movement: &Movement<'_>| {
        let after = match number {
            number if number == movement.debit => movement.debit_after,
            number if number == movement.credit => movement.credit_after,
            _ => None,
        };
        let at = after.map(|balances| BalanceAt { timestamp: Timestamp::from_nanos(timestamp), balances });
        items.borrow_mut().extend(at);
        Ok(at.is_some())
    };
    let search = Search::new(connection, view, budget, filter.period, filter.window);
    let resume = search.walk(&[Of::Account(number).key()], visit)?;
    Ok(Page { items: items.into_inner(), resume })
}

/// Ids of accounts that pass a filter: along the narrowest of the tenant's lists of accounts.
pub(super) fn accounts(
    connection: &Connection,
    view: &View,
    budget: usize,
    filter: &AccountFilter,
) -> Result<Page<AccountId>, StoreError> {
    let words = &view.words;
    let ledger = filter.ledger.map(|ledger| words.number(ledger.as_str()));
    let code = filter.code.as_ref().map(|code| words.number(code.as_str()));
    let (Some(tenant), false, false) =
        (words.number(filter.tenant.as_str()), ledger == Some(None), code == Some(None))
    else {
        return Ok(nothing());
    };
    let (ledger, code) = (ledger.flatten(), code.flatten());
    let reference = filter.reference.as_ref().map(Reference::as_str);
    let (path, condition) = match (reference, filter.user_data, code) {
        (Some(reference), ..) if !reference.is_empty() => {
            ("accounts_by_reference", "reference = ?2 AND reference <> ''")
        }
        (_, Some(data), _) if data != 0 => ("accounts_by_user_data", "user_data = ?3 AND user_data <> 0"),
        (_, _, Some(_)) => ("accounts_by_code", "code = ?4"),
        _ => ("accounts_by_tenant", "TRUE"),
    };
    let order = if filter.window.newest_first { "DESC" } else { "ASC" };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT number, id, ledger, code, user_data, reference FROM accounts INDEXED BY {path}
         WHERE tenant = ?1 AND {condition} AND number BETWEEN ?5 AND ?6 ORDER BY number {order}"
    ))?;
    let (from, to) = (filter.period.from.as_nanos(), filter.period.to.as_nanos());
    let mut rows = statement.query(params![tenant, reference, filter.user_data, code, from, to])?;
    let mut items = Vec::new();
    let mut looked_at = 0;
    while let Some(row) = rows.next()? {
        let passes = ledger.map_or(Ok(true), |ledger| row.get::<_, u32>(2).map(|found| found == ledger))?
            && code.map_or(Ok(true), |code| row.get::<_, u32>(3).map(|found| found == code))?
            && filter.user_data.map_or(Ok(true), |data| row.get::<_, i64>(4).map(|found| found == data))?
            && match reference {
                Some(reference) => row.get_ref(5)?.as_str().map_err(|_| corrupt("reference"))? == reference,
                None => true,
            };
        if passes {
            items.push(account_id(row.get(1)?)?);
        }
        looked_at += 1;
        if items.len() >= filter.window.limit || looked_at >= budget.max(1) {
            let number: i64 = row.get(0)?;
            let next = if filter.window.newest_first { number.checked_sub(1) } else { number.checked_add(1) };
            let resume = next.filter(|next| (from..=to).contains(next)).map(Timestamp::from_nanos);
            return Ok(Page { items, resume });
        }
    }
    Ok(Page { items, resume: None })
}

fn account_id(bytes: [u8; 16]) -> Result<AccountId, StoreError> {
    AccountId::new(u128::from_be_bytes(bytes)).map_err(|_| corrupt("account's id"))
}

struct Account {
    number: Timestamp,
    tenant: u32,
    has_history: bool,
}

fn find_account(connection: &Connection, id: AccountId) -> Result<Option<Account>, StoreError> {
    let mut find =
        connection.prepare_cached("SELECT number, tenant, has_history FROM accounts WHERE id = ?1")?;
    let found = find.query_row([id.bits().to_be_bytes()], |row| {
        let number = Timestamp::from_nanos(row.get(0)?);
        Ok(Account { number, tenant: row.get(1)?, has_history: row.get(2)? })
    });
    Ok(found.optional()?)
}
