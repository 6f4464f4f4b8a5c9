//! Questions with any combination of conditions as SQL. Pure.
//!
//! Each question walks one index, or an account's postings, along time, a bounded number of rows, and keeps of them what passes the
//! other conditions: a question that hardly anything passes takes several calls, and none takes long.

use money::Timestamp;
use tokio_postgres::types::{ToSql, Type};
use uuid::Uuid;

use super::{
    apply::PIECE_MAX,
    rows::{TRANSFER, account_uuid, transfer_uuid},
};
use crate::{
    domain::{Reference, TransferFlags},
    store::ports::{AccountFilter, Page, Period, TransferFilter, Window},
};

/// Rows that one question looks at, at most.
pub(super) const WALK_MAX: i64 = 8_192;

/// A statement with its parameters.
pub(super) struct Query {
    pub(super) text: String,
    parameters: Vec<(Box<dyn ToSql + Sync + Send>, Type)>,
    /// How many rows it walks along.
    pub(super) walk: i64,
}

impl Query {
    fn new() -> Self {
        Self { text: String::new(), parameters: Vec::new(), walk: 0 }
    }

    /// The parameter's place, as SQL names it.
    fn bind(&mut self, value: impl ToSql + Sync + Send + 'static, of: Type) -> String {
        self.parameters.push((Box::new(value), of));
        format!("${}", self.parameters.len())
    }

    fn text(&mut self, value: &str) -> String {
        self.bind(value.to_owned(), Type::TEXT)
    }

    /// References are kept as bytes.
    fn reference(&mut self, value: &Reference) -> String {
        self.bind(value.as_str().as_bytes().to_vec(), Type::BYTEA)
    }

    fn number(&mut self, value: i64) -> String {
        self.bind(value, Type::INT8)
    }

    fn id(&mut self, value: Uuid) -> String {
        self.bind(value, Type::UUID)
    }

    /// As the client takes them.
    pub(super) fn parameters(&self) -> Vec<(&(dyn ToSql + Sync), Type)> {
        self.parameters.iter().map(|(value, of)| (&**value as &(dyn ToSql + Sync), of.clone())).collect()
    }
}

/// How many items a page holds at most.
fn limit(window: Window) -> i64 {
    i64::try_from(window.limit).map_or(WALK_MAX, |limit| limit.clamp(1, WALK_MAX))
}

const fn direction(window: Window) -> (&'static str, &'static str) {
    if window.newest_first { ("DESC", "min") } else { ("ASC", "max") }
}

/// Rows of a walk: how many were looked at and the last one's time, with each row that passes; one row
/// without any where none does.
fn walk(
    query: &mut Query,
    along: &Along,
    time: &str,
    columns: &str,
    rest: &[String],
    window: Window,
    from: &str,
) {
    let limit = limit(window);
    query.walk = if rest.is_empty() { limit } else { WALK_MAX };
    let (order, last) = direction(window);
    let n = query.walk;
    let walked = match along {
        Along::Index(conditions) => {
            format!("SELECT * FROM {from} WHERE {conditions} ORDER BY {time} {order} LIMIT {n}")
        }
        Along::Postings { account, from, to } => postings(account, from, to, n, window),
    };
    let rest = if rest.is_empty() { "true".to_owned() } else { rest.join(" AND ") };
    query.text = format!(
        "WITH walked AS MATERIALIZED ({walked}),
            extent AS (SELECT count(*) AS walked, {last}({time}) AS last FROM walked)
        SELECT extent.walked, extent.last, found.* FROM extent LEFT JOIN LATERAL (
            SELECT {columns} FROM walked WHERE {rest} ORDER BY {time} {order} LIMIT {limit}) AS found ON true
        ORDER BY found.{time} {order}"
    );
}

/// What a walk goes along.
enum Along {
    /// An index: that of these conditions, with the time.
    Index(String),
    /// The transfers that an account is a side of, in a period.
    Postings { account: String, from: String, to: String },
}

/// A walk along an account's postings, `n` transfers at most.
fn postings(account: &str, from: &str, to: &str, n: i64, window: Window) -> String {
    let (order, _) = direction(window);
    let of = format!("SELECT until, at FROM postings WHERE account = {account} AND until");
    // Pieces do not overlap. Of the one that the end of the period is in, a part may lie beyond.
    let pieces = if window.newest_first {
        format!("({of} > {to} ORDER BY until LIMIT 1) UNION ALL ({of} <= {to} ORDER BY until DESC LIMIT {n})")
    } else {
        format!("{of} >= {from} ORDER BY until LIMIT {n}")
    };
    // So many pieces that n transfers are in them even if all of the first one but one is outside.
    #[allow(clippy::cast_possible_wrap)] // it is 128
    let enough = n + PIECE_MAX as i64;
    format!(
        "SELECT transfers.* FROM (
            SELECT hit FROM (
                SELECT at, sum(cardinality(at)) OVER (ORDER BY until {order}) - cardinality(at) AS before
                FROM ({pieces}) AS piece
            ) AS counted, unnest(counted.at) AS hit
            WHERE before < {enough} AND hit BETWEEN {from} AND {to} ORDER BY hit {order} LIMIT {n}
        ) AS hits JOIN transfers ON transfers.at = hits.hit ORDER BY transfers.at {order}"
    )
}

/// Which transfers.
pub(super) fn transfers(filter: &TransferFilter) -> Query {
    let mut query = Query::new();
    let q = &mut query;
    let (from, to) = (q.number(filter.period.from.as_nanos()), q.number(filter.period.to.as_nanos()));
    let mut side = None;
    let mut conditions: Vec<(&str, String)> = Vec::new();
    if let Some(pending) = filter.pending {
        conditions.push(("pending", format!("pending = {}", q.id(transfer_uuid(pending)))));
    }
    for (column, account) in [("debit", filter.debit), ("credit", filter.credit)] {
        if let Some(account) = account {
            let account = q.id(account_uuid(account));
            conditions.push(("rest", format!("{column} = {account}")));
            side.get_or_insert(account);
        }
    }
    if let Some(account) = filter.account {
        let account = q.id(account_uuid(account));
        if side.is_some() || filter.pending.is_some() {
            conditions.push(("rest", format!("(debit = {account} OR credit = {account})")));
        }
        side.get_or_insert(account);
    }
    if let Some(reference) = &filter.reference {
        // The index has no rows without one.
        let name = if reference.as_str().is_empty() { "rest" } else { "reference" };
        let given = if reference.as_str().is_empty() { "" } else { " AND reference <> ''" };
        conditions.push((name, format!("reference = {}{given}", q.reference(reference))));
    }
    if let Some(tenant) = &filter.tenant {
        conditions.push(("tenant", format!("tenant = {}", q.text(tenant.as_str()))));
    }
    for (column, value) in [
        ("ledger", filter.ledger.as_ref().map(crate::domain::LedgerCode::as_str)),
        ("code", filter.code.as_ref().map(crate::domain::Code::as_str)),
    ] {
        if let Some(value) = value {
            conditions.push(("rest", format!("{column} = {}", q.text(value))));
        }
    }
    for (comparison, value) in [
        ("user_data =", filter.user_data),
        ("amount >=", filter.amount_min),
        ("amount <=", filter.amount_max),
    ] {
        if let Some(value) = value {
            conditions.push(("rest", format!("{comparison} {}", q.number(value))));
        }
    }
    if filter.flags != TransferFlags::default() {
        let flags = q.bind(i16::from(filter.flags.bits()), Type::INT2);
        conditions.push(("rest", format!("flags & {flags} = {flags}")));
    }

    // Along the narrowest way that there is. The index of references begins with the tenant.
    let has = |name: &str| conditions.iter().any(|(of, _)| *of == name);
    let (names, side): (&[&str], _) = if has("pending") {
        (&["pending"], None)
    } else if side.is_some() {
        (&[], side)
    } else if has("reference") && has("tenant") {
        (&["reference", "tenant"], None)
    } else {
        (&["tenant"], None)
    };
    let (driving, rest): (Vec<_>, Vec<_>) =
        conditions.into_iter().partition(|(name, _)| names.contains(name));
    let along = if let Some(account) = side {
        Along::Postings { account, from, to }
    } else {
        let driving = driving.into_iter().map(|(_, condition)| condition);
        let within = format!("at BETWEEN {from} AND {to}");
        Along::Index(driving.chain([within]).collect::<Vec<_>>().join(" AND "))
    };
    let rest: Vec<String> = rest.into_iter().map(|(_, condition)| condition).collect();
    walk(q, &along, "at", TRANSFER, &rest, filter.window, "transfers");
    query
}

/// Which accounts.
pub(super) fn accounts(filter: &AccountFilter) -> Query {
    let mut query = Query::new();
    let q = &mut query;
    let mut driving = vec![within(q, filter.period, "number")];
    let mut rest = Vec::new();
    driving.push(format!("tenant = {}", q.text(filter.tenant.as_str())));
    if let Some(reference) = &filter.reference {
        let given = format!("reference = {}", q.reference(reference));
        if reference.as_str().is_empty() {
            rest.push(given);
        } else {
            driving.push(format!("{given} AND reference <> ''"));
        }
    }
    if let Some(ledger) = &filter.ledger {
        rest.push(format!("ledger = {}", q.text(ledger.as_str())));
    }
    if let Some(code) = &filter.code {
        rest.push(format!("code = {}", q.text(code.as_str())));
    }
    if let Some(user_data) = filter.user_data {
        rest.push(format!("user_data = {}", q.number(user_data)));
    }
    walk(q, &Along::Index(driving.join(" AND ")), "number", "number, id", &rest, filter.window, "accounts");
    query
}

fn within(query: &mut Query, period: Period, time: &str) -> String {
    let (from, to) = (query.number(period.from.as_nanos()), query.number(period.to.as_nanos()));
    format!("{time} BETWEEN {from} AND {to}")
}

/// What a walk came to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extent {
    /// How many rows it was to look at.
    pub(super) walk: i64,
    /// How many it looked at.
    pub(super) walked: i64,
    /// The last one's time.
    pub(super) last: Option<i64>,
}

/// The page of what was found, with where to go on.
pub(super) fn page<T>(
    items: Vec<T>,
    time: impl Fn(&T) -> Timestamp,
    extent: Extent,
    period: Period,
    window: Window,
) -> Page<T> {
    let is_full = i64::try_from(items.len()).is_ok_and(|found| found >= limit(window));
    let reached = if is_full {
        items.last().map(|item| time(item).as_nanos())
    } else if extent.walked >= extent.walk {
        extent.last
    } else {
        None
    };
    let next = reached.and_then(|at| if window.newest_first { at.checked_sub(1) } else { at.checked_add(1) });
    let resume = next
        .filter(|at| (period.from.as_nanos()..=period.to.as_nanos()).contains(at))
        .map(Timestamp::from_nanos);
    Page { items, resume }
}
