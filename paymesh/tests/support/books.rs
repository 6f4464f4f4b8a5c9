//! What the ledger must say, computed from what the payments say.

use std::collections::BTreeMap;

use paymesh::rest::{Rest, RestError};
use serde_json::Value;

use super::{all_payments, ok};

/// debits_pending, debits_posted, credits_pending, credits_posted.
type Balances = [i64; 4];

const FIELDS: [&str; 4] = ["debits_pending", "debits_posted", "credits_pending", "credits_posted"];

/// By currency and account code.
type Books = BTreeMap<(String, String), Balances>;

/// Compares every account of the tenant with its payments, to the last minor unit, and the sums with zero.
pub(crate) async fn compare(rest: &Rest) -> Result<Result<(), String>, RestError> {
    let payments = all_payments(rest, "", 100).await?;
    let expected = expected(&payments);
    let found = accounts(rest).await?;
    let mut wrong = Vec::new();
    for key in expected.keys().chain(found.keys()) {
        let (should, is) = (expected.get(key).copied().unwrap_or_default(), found.get(key).copied());
        if is.unwrap_or_default() != should {
            wrong.push(format!("{key:?} is {is:?}, and the payments say {should:?} ({FIELDS:?})"));
        }
    }
    let trial = ok(rest.get("/v1/ledger/trial_balance").await?);
    for line in trial["lines"].as_array().into_iter().flatten() {
        let pending = line["debits_pending"] == line["credits_pending"];
        let posted = line["debits_posted"] == line["credits_posted"];
        if line["difference"] != 0 || !pending || !posted {
            wrong.push(format!("the trial balance is off: {line}"));
        }
    }
    wrong.dedup();
    Ok(if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) })
}

/// The tenant's accounts, page by page.
async fn accounts(rest: &Rest) -> Result<Books, RestError> {
    let (mut books, mut page_token) = (Books::new(), String::new());
    loop {
        let path = format!("/v1/ledger/accounts?page_size=5&page_token={page_token}");
        let page = ok(rest.get(&path).await?);
        for account in page["accounts"].as_array().into_iter().flatten() {
            let key = (text(account, "ledger"), text(account, "code"));
            let balances = FIELDS.map(|field| number(account, field));
            assert!(books.insert(key, balances).is_none(), "an account is listed once: {account}");
        }
        page_token = text(&page, "next_page_token");
        if page_token.is_empty() {
            return Ok(books);
        }
    }
}

fn expected(payments: &[Value]) -> Books {
    let mut books = Books::new();
    for payment in payments {
        let currency = text(payment, "currency");
        let [captured, refunded] = ["amount_captured", "amount_refunded"].map(|field| number(payment, field));
        // What is reserved stays reserved until it is known to be captured or released.
        let open = matches!(payment["status"].as_str(), Some("AUTHORIZED" | "UNKNOWN"));
        let pending = if open { number(payment, "amount") } else { 0 };
        let [tax, tax_back] = [captured, refunded].map(|part| tax_share(payment, part));
        for (code, change) in [
            ("processor_clearing", [pending, captured, 0, refunded]),
            ("biller_payable", [0, refunded + tax, pending, captured + tax_back]),
            ("tax_payable", [0, tax_back, 0, tax]),
        ] {
            let balances = books.entry((currency.clone(), code.to_owned())).or_default();
            for (sum, part) in balances.iter_mut().zip(change) {
                *sum += part;
            }
        }
    }
    books
}

/// The tax in a part of the payment, half up.
fn tax_share(payment: &Value, part: i64) -> i64 {
    let [tax, part, whole] =
        [number(&payment["tax"], "amount_tax"), part, number(payment, "amount")].map(i128::from);
    i64::try_from((2 * tax * part + whole) / (2 * whole)).unwrap()
}

pub(crate) fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_default()
}

pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}
