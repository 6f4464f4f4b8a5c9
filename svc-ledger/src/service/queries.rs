//! The RPCs that ask the index: filters and pages.

use mesh::{Fault, Reason, Violations};
use money::{TenantId, Timestamp};
use paymesh_proto::ledger::v1 as proto;

use super::{
    page::{Paged, Query, Sizes, go_on},
    wire,
};
use crate::{
    domain::{Account, AccountFlags, AccountId, Ledgers, Reference, TransferId},
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

/// A part of all that passes a filter, in the contract's words, and the token of the next one.
type Found<T> = (Vec<T>, String);

/// A tenant's questions to a store.
pub(super) struct Questions<'a, S> {
    pub(super) store: S,
    pub(super) ledgers: &'a Ledgers,
    pub(super) tenant: TenantId,
    pub(super) now: Timestamp,
}

impl<S: Store> Questions<'_, S> {
    /// Takes what a request says of paging out of it; what is left is the query that its pages belong to.
    fn page(
        &self,
        rpc: &str,
        sizes: Sizes,
        request: &mut impl Paged,
        violations: &mut Violations,
    ) -> (Query, Period, Window) {
        let asked = request.take_paging();
        let query = Query::new(&self.tenant, rpc, request);
        let (period, window) = query.page(&asked, sizes, violations);
        (query, period, window)
    }

    /// Sees to it that nothing happens any more at a time that is asked about, or before it.
    async fn close_until(&self, field: &str, nanos: i64) -> Result<(), Fault> {
        if self.store.close_until(Timestamp::from_nanos(nanos), self.now).await? {
            return Ok(());
        }
        Err(Fault::invalid(field, "must not be in the future: what happens by then is not known yet"))
    }

    /// The same of a period's end, if it has one.
    async fn close_bound(&self, to_ns: i64) -> Result<(), Fault> {
        if to_ns == 0 { Ok(()) } else { self.close_until("to_ns", to_ns).await }
    }

    async fn transfers(&self, query: Query, filter: TransferFilter) -> Result<Found<proto::Transfer>, Fault> {
        let ask =
            |period, window| self.store.find_transfers(TransferFilter { period, window, ..filter.clone() });
        let (found, resume) = fill(filter.period, filter.window, ask).await?;
        Ok((found.iter().map(wire::transfer).collect(), next(query, resume)))
    }

    async fn accounts(
        &self,
        rpc: &str,
        sizes: Sizes,
        mut request: proto::QueryAccountsRequest,
    ) -> Result<Found<proto::Account>, Fault> {
        let mut violations = Violations::new();
        let (query, period, window) = self.page(rpc, sizes, &mut request, &mut violations);
        let reference = request.reference.map(|text| text.parse::<Reference>());
        let filter = AccountFilter {
            ledger: given(&mut violations, "ledger", &request.ledger, str::parse),
            code: given(&mut violations, "code", &request.code, str::parse),
            reference: reference.and_then(|parsed| violations.check("reference", parsed)),
            user_data: request.user_data,
            ..AccountFilter::any(self.tenant.clone(), period, window)
        };
        violations.finish()?;
        self.close_bound(request.to_ns).await?;
        let ask =
            |period, window| self.store.find_accounts(AccountFilter { period, window, ..filter.clone() });
        let (found, resume) = fill(period, window, ask).await?;
        let told = |account: &Account| wire::account(account, self.ledgers);
        Ok((found.iter().map(told).collect(), next(query, resume)))
    }

    pub(super) async fn list_accounts(
        &self,
        request: proto::ListAccountsRequest,
    ) -> Result<proto::ListAccountsResponse, Fault> {
        let proto::ListAccountsRequest { page_size, page_token, ledger, code } = request;
        let query = proto::QueryAccountsRequest { page_size, page_token, ledger, code, ..Default::default() };
        let (accounts, next_page_token) = self.accounts("ListAccounts", LIST, query).await?;
        Ok(proto::ListAccountsResponse { accounts, next_page_token })
    }

    pub(super) async fn query_accounts(
        &self,
        request: proto::QueryAccountsRequest,
    ) -> Result<proto::QueryAccountsResponse, Fault> {
        let (accounts, next_page_token) = self.accounts("QueryAccounts", QUERY, request).await?;
        Ok(proto::QueryAccountsResponse { accounts, next_page_token })
    }

    pub(super) async fn query_transfers(
        &self,
        mut request: proto::QueryTransfersRequest,
    ) -> Result<proto::QueryTransfersResponse, Fault> {
        let mut violations = Violations::new();
        let (query, period, window) = self.page("QueryTransfers", QUERY, &mut request, &mut violations);
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
            ..TransferFilter::any(Some(self.tenant.clone()), period, window)
        };
        violations.finish()?;
        self.close_bound(request.to_ns).await?;
        let (transfers, next_page_token) = self.transfers(query, filter).await?;
        Ok(proto::QueryTransfersResponse { transfers, next_page_token })
    }

    /// The account, which must be one of the tenant's.
    async fn account_of(&self, field: &str, id: &str) -> Result<Account, Fault> {
        let id = AccountId::parse(id).map_err(|error| Fault::invalid(field, error.to_string()))?;
        let found = self.store.accounts(self.tenant.clone(), vec![id]).await?;
        found
            .into_iter()
            .next()
            .ok_or_else(|| Fault::new(Reason::AccountNotFound, "There is no account with this id."))
    }

    async fn account_with_history(&self, field: &str, id: &str) -> Result<Account, Fault> {
        let account = self.account_of(field, id).await?;
        if account.flags.contains(AccountFlags::HISTORY) {
            return Ok(account);
        }
        let text = "must be an account with the flag HISTORY, which is said when it is opened";
        Err(Fault::invalid(field, text))
    }

    pub(super) async fn get_account(
        &self,
        request: proto::GetAccountRequest,
    ) -> Result<proto::Account, Fault> {
        Ok(wire::account(&self.account_of("id", &request.id).await?, self.ledgers))
    }

    pub(super) async fn list_account_transfers(
        &self,
        mut request: proto::ListAccountTransfersRequest,
    ) -> Result<proto::ListAccountTransfersResponse, Fault> {
        let mut violations = Violations::new();
        let (query, period, window) = self.page("ListAccountTransfers", LIST, &mut request, &mut violations);
        violations.finish()?;
        let id = Some(self.account_of("account_id", &request.account_id).await?.id);
        self.close_bound(request.to_ns).await?;
        let any = TransferFilter::any(Some(self.tenant.clone()), period, window);
        let filter = match (request.debits, request.credits) {
            (true, false) => TransferFilter { debit: id, ..any },
            (false, true) => TransferFilter { credit: id, ..any },
            _ => TransferFilter { account: id, ..any },
        };
        let (transfers, next_page_token) = self.transfers(query, filter).await?;
        Ok(proto::ListAccountTransfersResponse { transfers, next_page_token })
    }

    async fn balances(
        &self,
        account: AccountId,
        period: Period,
        window: Window,
    ) -> Result<(Vec<BalanceAt>, Option<Timestamp>), Fault> {
        let ask = |period, window| {
            self.store.find_balances(BalanceFilter { tenant: self.tenant.clone(), account, period, window })
        };
        fill(period, window, ask).await
    }

    pub(super) async fn list_account_balances(
        &self,
        mut request: proto::ListAccountBalancesRequest,
    ) -> Result<proto::ListAccountBalancesResponse, Fault> {
        let mut violations = Violations::new();
        let (query, period, window) = self.page("ListAccountBalances", LIST, &mut request, &mut violations);
        violations.finish()?;
        let account = self.account_with_history("account_id", &request.account_id).await?.id;
        self.close_bound(request.to_ns).await?;
        let (found, resume) = self.balances(account, period, window).await?;
        let balances = found.into_iter().map(balance).collect();
        Ok(proto::ListAccountBalancesResponse { balances, next_page_token: next(query, resume) })
    }

    pub(super) async fn balances_as_of(
        &self,
        request: proto::GetBalancesAsOfRequest,
    ) -> Result<proto::GetBalancesAsOfResponse, Fault> {
        let proto::GetBalancesAsOfRequest { account_ids, timestamp_ns } = request;
        if !(1..=AS_OF_MAX).contains(&account_ids.len()) {
            return Err(Fault::invalid("account_ids", format!("must have 1 to {AS_OF_MAX} items")));
        }
        if timestamp_ns < 0 {
            return Err(Fault::invalid("timestamp_ns", "must not be negative"));
        }
        self.close_until("timestamp_ns", timestamp_ns).await?;
        let period = Period { from: Timestamp::EPOCH, to: Timestamp::from_nanos(timestamp_ns) };
        let window = Window { newest_first: true, limit: 1 };
        let mut balances = Vec::with_capacity(account_ids.len());
        for (index, id) in account_ids.iter().enumerate() {
            let account = self.account_with_history(&format!("account_ids[{index}]"), id).await?.id;
            let (mut found, resume) = self.balances(account, period, window).await?;
            balances.push(match (found.pop(), resume) {
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
