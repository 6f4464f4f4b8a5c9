//! `paymesh dev --demo`: some hundred varied payments through the REST edge, and what became of them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    describe::Description,
    rest::{Rest, RestError},
};

const PAYMENTS: usize = 300;
const AT_ONCE: usize = 16;

/// A card and what happens with it. The last one never answers, so it is used once only.
const CARDS: [(&str, &str); 12] = [
    ("4242424242424242", "approved"),
    ("5555555555554444", "approved"),
    ("378282246310005", "approved"),
    ("6011111111111117", "approved"),
    ("4000000000000002", "declined"),
    ("4000000000009995", "no funds"),
    ("4000000000009987", "lost"),
    ("4000000000000069", "expired"),
    ("4000000000000119", "processing error"),
    ("4100000000000019", "blocked as fraud"),
    ("4000000000009235", "held for review"),
    ("4000000000004087", "never answers"),
];
const CURRENCIES: [&str; 4] = ["EUR", "USD", "GBP", "JPY"];

/// Why the demo could not go on.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The edge did not answer.
    #[error(transparent)]
    Rest(#[from] RestError),
    /// The edge answered with an error where none was expected.
    #[error("{path} was answered with {status}: {detail}")]
    Refused {
        /// What was asked for.
        path: String,
        /// The HTTP status.
        status: u16,
        /// The problem's detail.
        detail: String,
    },
    /// A worker of the demo panicked.
    #[error("a part of the demo failed")]
    Worker,
    /// The latencies could not be counted.
    #[error("latencies: {0}")]
    Histogram(#[from] hdrhistogram::CreationError),
}

#[derive(Default)]
struct Tally {
    outcomes: BTreeMap<String, usize>,
    follow_ups: BTreeMap<&'static str, usize>,
    amounts: BTreeMap<String, i64>,
}

struct Demo {
    rest: Rest,
    tokens: Vec<String>,
    /// Makes idempotency keys of this run different from those of earlier runs.
    run: String,
    tally: Mutex<Tally>,
    latencies: Mutex<Histogram<u64>>,
}

/// Drives the payments and prints what happened.
pub async fn run(mesh: &Description) -> Result<(), DemoError> {
    let rest = Rest::new(mesh);
    let mut tokens = Vec::new();
    for (number, _) in CARDS {
        let card =
            json!({"card": {"number": number, "exp_month": 12, "exp_year": 2030, "cvc": cvc_of(number)}});
        let token = expect_ok("/v1/tokens", rest.post("/v1/tokens", None, &card).await?)?;
        tokens.push(token["id"].as_str().unwrap_or_default().to_owned());
    }
    let demo = Arc::new(Demo {
        rest,
        tokens,
        run: uuid::Uuid::now_v7().simple().to_string(),
        tally: Mutex::default(),
        latencies: Mutex::new(Histogram::new_with_bounds(1, 60_000_000, 3)?),
    });
    let bar = progress_bar();
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut workers = tokio::task::JoinSet::<Result<(), DemoError>>::new();
    for _ in 0..AT_ONCE {
        let (demo, next, bar) = (Arc::clone(&demo), Arc::clone(&next), bar.clone());
        workers.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= PAYMENTS {
                    return Ok(());
                }
                demo.one(number).await?;
                bar.inc(1);
            }
        });
    }
    while let Some(ended) = workers.join_next().await {
        ended.map_err(|_| DemoError::Worker)??;
    }
    bar.finish_and_clear();
    demo.print(began.elapsed()).await
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new(PAYMENTS as u64);
    if let Ok(style) = ProgressStyle::with_template("  payments [{bar:40}] {pos}/{len}  {per_sec}") {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}

/// American Express has four digits.
fn cvc_of(number: &str) -> &'static str {
    if number.starts_with("37") { "1234" } else { "123" }
}

fn expect_ok(path: &str, answer: crate::rest::Answer) -> Result<Value, DemoError> {
    if answer.status == 200 {
        return Ok(answer.body);
    }
    let detail = answer.body["detail"].as_str().unwrap_or_default().to_owned();
    Err(DemoError::Refused { path: path.to_owned(), status: answer.status, detail })
}

impl Demo {
    async fn post(&self, path: &str, key: &str, body: &Value) -> Result<Value, DemoError> {
        let began = Instant::now();
        let answer = self.rest.post(path, Some(&format!("{}-{key}", self.run)), body).await?;
        if let Ok(mut latencies) = self.latencies.lock() {
            latencies.saturating_record(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX));
        }
        expect_ok(path, answer)
    }

    fn count(&self, follow_up: &'static str) {
        if let Ok(mut tally) = self.tally.lock() {
            *tally.follow_ups.entry(follow_up).or_default() += 1;
        }
    }

    async fn one(&self, number: usize) -> Result<(), DemoError> {
        // One payment in all goes to the card that never answers; two in three to cards that approve.
        let silent = self.tokens.len() - 1;
        let card = match number {
            7 => silent,
            n if n % 3 != 0 => n % 4,
            n => 4 + (n / 3) % (silent - 4),
        };
        let manual = number % 5 == 1;
        let amount = i64::try_from(500 + (number * 7_919) % 95_000).unwrap_or(500);
        let currency = CURRENCIES[number % CURRENCIES.len()];
        let mut body = json!({
            "amount": amount, "currency": currency, "reference": format!("INV-{}", 1_000 + number),
            "payment_method": {"token": self.tokens[card]},
            "capture_method": if manual { "MANUAL" } else { "AUTOMATIC" },
            "metadata": {"demo": "true"},
        });
        if currency == "EUR" && number.is_multiple_of(8) {
            let lines = json!([{"reference": "L1", "amount": amount, "category": "STANDARD"}]);
            body["tax"] = json!({"lines": lines, "ship_to": {"country": "DE"}, "prices_include_tax": true});
        }
        let payment = self.post("/v1/payments", &format!("pay-{number}"), &body).await?;
        let id = payment["id"].as_str().unwrap_or_default();
        let status = payment["status"].as_str().unwrap_or_default();
        self.note(status, &payment, currency, amount);
        match status {
            "AUTHORIZED" if number.is_multiple_of(2) => {
                self.post(&format!("/v1/payments/{id}/cancel"), &format!("cancel-{number}"), &json!({}))
                    .await?;
                self.count("cancelled");
            }
            "AUTHORIZED" => {
                let part = json!({"amount": amount / 2 + 1});
                self.post(&format!("/v1/payments/{id}/capture"), &format!("capture-{number}"), &part).await?;
                self.count("captured in part");
            }
            "CAPTURED" if number.is_multiple_of(6) || number.is_multiple_of(11) => {
                let path = format!("/v1/payments/{id}/refunds");
                let part =
                    if number.is_multiple_of(2) { json!({}) } else { json!({"amount": amount / 3 + 1}) };
                self.post(&path, &format!("refund-{number}"), &part).await?;
                self.count("refunded");
            }
            _ => {}
        }
        Ok(())
    }

    fn note(&self, status: &str, payment: &Value, currency: &str, amount: i64) {
        let failure = &payment["failure"];
        let finer = failure["decline_code"].as_str().filter(|code| !code.is_empty());
        let outcome = match finer.or(failure["code"].as_str()) {
            Some(code) => format!("{status} ({code})"),
            None => status.to_owned(),
        };
        if let Ok(mut tally) = self.tally.lock() {
            *tally.outcomes.entry(outcome).or_default() += 1;
            if status == "CAPTURED" {
                *tally.amounts.entry(currency.to_owned()).or_default() += amount;
            }
        }
    }

    async fn print(&self, took: Duration) -> Result<(), DemoError> {
        let balance =
            expect_ok("/v1/ledger/trial_balance", self.rest.get("/v1/ledger/trial_balance").await?)?;
        println!("\n{PAYMENTS} payments in {:.1} s, {AT_ONCE} at a time\n", took.as_secs_f64());
        println!("  Outcome of the first call                  payments");
        if let Ok(tally) = self.tally.lock() {
            for (outcome, count) in &tally.outcomes {
                println!("  {outcome:<42}{count:>9}");
            }
            println!("\n  Afterwards");
            for (what, count) in &tally.follow_ups {
                println!("  {what:<42}{count:>9}");
            }
            println!("\n  Captured at once, in minor units");
            for (currency, amount) in &tally.amounts {
                println!("  {currency:<32}{amount:>19}");
            }
        }
        if let Ok(latencies) = self.latencies.lock() {
            let at = |quantile| Duration::from_micros(latencies.value_at_quantile(quantile));
            println!("\n  Latency of the calls that move money");
            println!("  p50 {:.1?}   p90 {:.1?}   p99 {:.1?}", at(0.5), at(0.9), at(0.99));
        }
        println!("\n  Trial balance        debits posted  credits posted   debits pending  difference");
        for line in balance["lines"].as_array().into_iter().flatten() {
            let number = |field: &str| line[field].as_i64().unwrap_or_default();
            println!(
                "  {:<16}{:>18}{:>16}{:>17}{:>12}",
                line["ledger"].as_str().unwrap_or_default(),
                number("debits_posted"),
                number("credits_posted"),
                number("debits_pending"),
                number("difference"),
            );
        }
        Ok(())
    }
}
