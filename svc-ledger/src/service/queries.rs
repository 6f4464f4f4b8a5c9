//! The RPCs that ask the index: filters and pages.

use mesh::{Call, Fault, Reason, Violations};
use money::{TenantId, Timestamp};
use paymesh_proto::ledger::v1 as proto;

use super::{
    page::{Asked, Query, Sizes, go_on},
    wire,
};
use crate::{
    domain::{Account, AccountFlags, AccountId, Ledgers, Reference, Transfer, TransferFlags, TransferId},
    engine::EngineError,
    store::{
        Store,
        ports::{AccountFilter, BalanceAt, BalanceFilter, Page, Period, TransferFilter, Window},
    },
};

const LIST: Sizes = Sizes { default: 20, max: 100 };
const QUERY: Sizes = Sizes { default: 100, max: 1_000 };

/// The most accounts of one question for balances of the past.
const AS_OF_MAX: usize = 100;

/// How often the index is asked for one page. What it has not found by then is left for the next page, which
/// may be empty and still not be the last.
const ROUNDS_MAX: usize = 8;

/// Fills a page, and says where the next one begins.
async fn fill<T, F, A>(
    mut period: Period,
    mut window: Window,
    mut ask: A,
) -> Result<(Vec<T>, Option<Timestamp>), Fault>
where
    A: FnMut(Period, Window) -> F,
    F: Future<Output = Result<Page<T>, EngineError>>,
{
    let mut found = Vec::new();
    for _ in 0..ROUNDS_MAX {
        let Page { items, resume } = ask(period, window).await?;
        window.limit -= items.len().min(window.limit);
        found.extend(items);
        let Some(resume) = resume else { return Ok((found, None)) };
        go_on(&mut period, window, resume);
        if window.limit == 0 {
            return Ok((found, Some(resume)));
        }
    }
    Ok((found, Some(if window.newest_first { period.to } else { period.from })))
}

fn next(query: Query, resume: Option<Timestamp>) -> String {
    resume.map(|at| query.token(at)).unwrap_or_default()
}

/// A text that narrows a query when it is not empty.
fn given<T, E: std::fmt::Display>(
    violations: &mut Violations,
    field: &str,
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    if text.is_empty() { None } else { violations.check(field, parse(text)) }
}

fn any_transfer(tenant: TenantId, period: Period, window: Window) -> TransferFilter {
    TransferFilter {
        tenant: Some(tenant),
        period,
        account: None,
        debit: None,
        credit: None,
        ledger: None,
        code: None,
        flags: TransferFlags::default(),
        reference: None,
        user_data: None,
        amount_min: None,
        amount_max: None,
        pending: None,
        window,
    }
}

async fn transfers<S: Store>(
    store: &S,
    query: Query,
    filter: TransferFilter,
) -> Result<(Vec<proto::Transfer>, String), Fault> {
    let ask = |period, window| store.find_transfers(TransferFilter { period, window, ..filter.clone() });
    let (found, resume): (Vec<Transfer>, _) = fill(filter.period, filter.window, ask).await?;
    Ok((found.iter().map(wire::transfer).collect(), next(query, resume)))
}

async fn accounts<S: Store>(
    store: &S,
    ledgers: &Ledgers,
    query: Query,
    filter: AccountFilter,
) -> Result<(Vec<proto::Account>, String), Fault> {
    let ask = |period, window| store.find_accounts(AccountFilter { period, window, ..filter.clone() });
    let (found, resume): (Vec<Account>, _) = fill(filter.period, filter.window, ask).await?;
    Ok((found.iter().map(|account| wire::account(account, ledgers)).collect(), next(query, resume)))
}

pub(super) async fn list_accounts<S: Store>(
    store: &S,
    ledgers: &Ledgers,
    call: &Call,
    request: proto::ListAccountsRequest,
) -> Result<proto::ListAccountsResponse, Fault> {
    let tenant = call.tenant()?.clone();
    let mut violations = Violations::new();
    let query = Query::new(&tenant, "ListAccounts", &(&request.ledger, &request.code));
    let asked = Asked {
        size: request.page_size,
        token: &request.page_token,
        oldest_first: false,
        from_ns: 0,
        to_ns: 0,
    };
    let (period, window) = query.page(asked, LIST, &mut violations);
    let filter = AccountFilter {
        tenant,
        period,
        ledger: given(&mut violations, "ledger", &request.ledger, str::parse),
        code: given(&mut violations, "code", &request.code, str::parse),
        reference: None,
        user_data: None,
        window,
    };
    violations.finish()?;
    let (accounts, next_page_token) = accounts(store, ledgers, query, filter).await?;
    Ok(proto::ListAccountsResponse { accounts, next_page_token })
}

pub(super) async fn query_accounts<S: Store>(
    store: &S,
    ledgers: &Ledgers,
    call: &Call,
    mut request: proto::QueryAccountsRequest,
) -> Result<proto::QueryAccountsResponse, Fault> {
    let tenant = call.tenant()?.clone();
    let mut violations = Violations::new();
    let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
    let query = Query::new(&tenant, "QueryAccounts", &request);
    let asked = Asked {
        size,
        token: &token,
        oldest_first: request.oldest_first,
        from_ns: request.from_ns,
        to_ns: request.to_ns,
    };
    let (period, window) = query.page(asked, QUERY, &mut violations);
    let reference = request.reference.map(|text| text.parse::<Reference>());
    let filter = AccountFilter {
        tenant,
        period,
        ledger: given(&mut violations, "ledger", &request.ledger, str::parse),
        code: given(&mut violations, "code", &request.code, str::parse),
        reference: reference.and_then(|parsed| violations.check("reference", parsed)),
        user_data: request.user_data,
        window,
    };
    violations.finish()?;
    let (accounts, next_page_token) = accounts(store, ledgers, query, filter).await?;
    Ok(proto::QueryAccountsResponse { accounts, next_page_token })
}

pub(super) async fn query_transfers<S: Store>(
    store: &S,
    call: &Call,
    mut request: proto::QueryTransfersRequest,
) -> Result<proto::QueryTransfersResponse, Fault> {
    let tenant = call.tenant()?.clone();
    let mut violations = Violations::new();
    let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
    let query = Query::new(&tenant, "QueryTransfers", &request);
    let asked = Asked {
        size,
        token: &token,
        oldest_first: request.oldest_first,
        from_ns: request.from_ns,
        to_ns: request.to_ns,
    };
    let (period, window) = query.page(asked, QUERY, &mut violations);
    let reference = request.reference.map(|text| text.parse::<Reference>());
    if let (Some(least), Some(most)) = (request.amount_min, request.amount_max)
        && most < least
    {
        violations.add("amount_max", "must not be less than amount_min");
    }
    let (flags, has_unknown) = wire::transfer_flags(&request.flags);
    if has_unknown {
        violations.add("flags", "must be flags of transfers");
    }
    let checked = &mut violations;
    let filter = TransferFilter {
        account: given(checked, "account_id", &request.account_id, AccountId::parse),
        debit: given(checked, "debit_account_id", &request.debit_account_id, AccountId::parse),
        credit: given(checked, "credit_account_id", &request.credit_account_id, AccountId::parse),
        ledger: given(checked, "ledger", &request.ledger, str::parse),
        code: given(checked, "code", &request.code, str::parse),
        flags,
        reference: reference.and_then(|parsed| checked.check("reference", parsed)),
        user_data: request.user_data,
        amount_min: request.amount_min,
        amount_max: request.amount_max,
        pending: given(checked, "pending_id", &request.pending_id, TransferId::parse),
        ..any_transfer(tenant, period, window)
    };
    violations.finish()?;
    let (transfers, next_page_token) = transfers(store, query, filter).await?;
    Ok(proto::QueryTransfersResponse { transfers, next_page_token })
}

/// The account, which must be one of the tenant's.
async fn account_of<S: Store>(store: &S, tenant: &TenantId, field: &str, id: &str) -> Result<Account, Fault> {
    let id = AccountId::parse(id).map_err(|error| Fault::invalid(field, error.to_string()))?;
    let found = store.accounts(tenant.clone(), vec![id]).await?;
    found
        .into_iter()
        .next()
        .ok_or_else(|| Fault::new(Reason::AccountNotFound, "There is no account with this id."))
}

async fn account_with_history<S: Store>(
    store: &S,
    tenant: &TenantId,
    field: &str,
    id: &str,
) -> Result<Account, Fault> {
    let account = account_of(store, tenant, field, id).await?;
    if account.flags.contains(AccountFlags::HISTORY) {
        return Ok(account);
    }
    Err(Fault::invalid(field, "must be an account with the flag HISTORY, which is said when it is opened"))
}

pub(super) async fn get_account<S: Store>(
    store: &S,
    ledgers: &Ledgers,
    call: &Call,
    request: proto::GetAccountRequest,
) -> Result<proto::Account, Fault> {
    let account = account_of(store, call.tenant()?, "id", &request.id).await?;
    Ok(wire::account(&account, ledgers))
}

pub(super) async fn list_account_transfers<S: Store>(
    store: &S,
    call: &Call,
    mut request: proto::ListAccountTransfersRequest,
) -> Result<proto::ListAccountTransfersResponse, Fault> {
    let tenant = call.tenant()?.clone();
    let mut violations = Violations::new();
    let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
    let query = Query::new(&tenant, "ListAccountTransfers", &request);
    let asked = Asked {
        size,
        token: &token,
        oldest_first: request.oldest_first,
        from_ns: request.from_ns,
        to_ns: request.to_ns,
    };
    let (period, window) = query.page(asked, LIST, &mut violations);
    violations.finish()?;
    let id = Some(account_of(store, &tenant, "account_id", &request.account_id).await?.id);
    let any = any_transfer(tenant, period, window);
    let filter = match (request.debits, request.credits) {
        (true, false) => TransferFilter { debit: id, ..any },
        (false, true) => TransferFilter { credit: id, ..any },
        _ => TransferFilter { account: id, ..any },
    };
    let (transfers, next_page_token) = transfers(store, query, filter).await?;
    Ok(proto::ListAccountTransfersResponse { transfers, next_page_token })
}

fn balance(at: BalanceAt) -> proto::AccountBalance {
    proto::AccountBalance {
        timestamp_ns: at.timestamp.as_nanos(),
        debits_pending: at.balances.debits_pending,
        debits_posted: at.balances.debits_posted,
        credits_pending: at.balances.credits_pending,
        credits_posted: at.balances.credits_posted,
    }
}

pub(super) async fn list_account_balances<S: Store>(
    store: &S,
    call: &Call,
    mut request: proto::ListAccountBalancesRequest,
) -> Result<proto::ListAccountBalancesResponse, Fault> {
    let tenant = call.tenant()?.clone();
    let mut violations = Violations::new();
    let (size, token) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.page_token));
    let query = Query::new(&tenant, "ListAccountBalances", &request);
    let asked = Asked {
        size,
        token: &token,
        oldest_first: request.oldest_first,
        from_ns: request.from_ns,
        to_ns: request.to_ns,
    };
    let (period, window) = query.page(asked, LIST, &mut violations);
    violations.finish()?;
    let account = account_with_history(store, &tenant, "account_id", &request.account_id).await?.id;
    let ask = |period, window| {
        store.find_balances(BalanceFilter { tenant: tenant.clone(), account, period, window })
    };
    let (found, resume) = fill(period, window, ask).await?;
    let balances = found.into_iter().map(balance).collect();
    Ok(proto::ListAccountBalancesResponse { balances, next_page_token: next(query, resume) })
}

pub(super) async fn balances_as_of<S: Store>(
    store: &S,
    call: &Call,
    request: proto::GetBalancesAsOfRequest,
) -> Result<proto::GetBalancesAsOfResponse, Fault> {
    let tenant = call.tenant()?.clone();
    if !(1..=AS_OF_MAX).contains(&request.account_ids.len()) {
        return Err(Fault::invalid("account_ids", format!("must have 1 to {AS_OF_MAX} items")));
    }
    if request.timestamp_ns < 0 {
        return Err(Fault::invalid("timestamp_ns", "must not be negative"));
    }
    let period = Period { from: Timestamp::EPOCH, to: Timestamp::from_nanos(request.timestamp_ns) };
    let window = Window { newest_first: true, limit: 1 };
    let mut balances = Vec::with_capacity(request.account_ids.len());
    for (index, id) in request.account_ids.iter().enumerate() {
        let field = format!("account_ids[{index}]");
        let account = account_with_history(store, &tenant, &field, id).await?.id;
        let filter = BalanceFilter { tenant: tenant.clone(), account, period, window };
        let Page { mut items, resume } = store.find_balances(filter).await?;
        balances.push(match (items.pop(), resume) {
            (Some(at), _) => balance(at),
            (None, None) => proto::AccountBalance::default(),
            (None, Some(_)) => {
                let text = "The account's history could not be searched in one step.";
                return Err(Fault::new(Reason::Internal, text));
            }
        });
    }
    Ok(proto::GetBalancesAsOfResponse { balances })
}
