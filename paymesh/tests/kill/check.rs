//! What must hold after every restart, and what must hold when nothing is under way.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::Path,
    time::{Duration, Instant},
};

use paymesh::rest::Rest;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use svc_payments::domain::transition::{self, Status};

use crate::{
    client::World,
    record::{Kind, PaymentRecord, Record},
    support::{
        Rng, all_payments,
        books::{self, number, text},
        check_events, get,
        process::PATIENCE,
    },
};

/// How many of each kind are looked at one by one after a restart.
const SAMPLE: usize = 24;

type Payments = HashMap<String, Value>;

/// Every payment that the mesh knows, by id.
pub(crate) async fn listed(rest: &Rest) -> Payments {
    let payments = all_payments(rest, "", 100).await.unwrap();
    payments.into_iter().map(|payment| (text(&payment, "id"), payment)).collect()
}

/// Whether the table leads from one state to the other, in any number of steps.
fn reachable(from: &str, to: &str) -> bool {
    let status = |name: &str| Status::ALL.into_iter().find(|status| status.name() == name);
    let (Some(from), Some(to)) = (status(from), status(to)) else { return false };
    from == to || transition::reachable().contains(&(from, to))
}

/// What was acknowledged is there, and nothing went where the table does not lead (I3, I7).
fn compare_payment(id: &str, record: &PaymentRecord, found: Option<&Value>) -> Result<(), String> {
    let acknowledged = &record.latest;
    let found = found.ok_or_else(|| format!("payment {id} is not there: {acknowledged}"))?;
    let wrong = |what: &str| Err(format!("payment {id}: {what}: {acknowledged} became {found}"));
    for field in ["amount", "currency", "payment_method", "capture_method", "reference", "created_at", "tax"]
    {
        if found[field] != acknowledged[field] {
            return wrong(field);
        }
    }
    for field in ["sequence", "amount_authorized", "amount_captured", "amount_refunded"] {
        if number(found, field) < number(acknowledged, field) {
            return wrong(field);
        }
    }
    let [amount, authorized, captured, refunded] =
        ["amount", "amount_authorized", "amount_captured", "amount_refunded"].map(|f| number(found, f));
    if !(authorized <= amount && captured <= authorized && refunded <= captured) {
        return wrong("more was moved than there was");
    }
    if !reachable(&text(acknowledged, "status"), &text(found, "status")) {
        return wrong("status");
    }
    if record.captured > 0 && captured != record.captured {
        return wrong("what was captured");
    }
    Ok(())
}

fn compare_refunds(id: &str, record: &PaymentRecord, listed: &Value) -> Result<(), String> {
    for (refund, acknowledged) in &record.refunds {
        let found = listed["refunds"].as_array().into_iter().flatten().find(|r| r["id"] == **refund);
        let found = found.ok_or_else(|| format!("refund {refund} of {id} is not there"))?;
        let settled = matches!(acknowledged["status"].as_str(), Some("SUCCEEDED" | "FAILED"));
        if found["amount"] != acknowledged["amount"] || settled && found != acknowledged {
            return Err(format!("refund {refund} of {id}: {acknowledged} became {found}"));
        }
    }
    Ok(())
}

/// Who counts events must not miss anything.
fn changed_without_an_event(record: &PaymentRecord, found: Option<&Value>) -> Option<String> {
    let (found, acknowledged) = (found?, &record.latest);
    let same = number(found, "sequence") == number(acknowledged, "sequence");
    // What was begun and is not settled is under way, and no event yet.
    let settled = |payment: &Value| {
        let mut payment = payment.clone();
        if let Some(operations) = payment["operations"].as_array_mut() {
            operations.retain(|operation| operation["status"] != "PENDING");
        }
        payment.as_object_mut().map(|fields| fields.remove("amount_capturable"));
        payment
    };
    (same && settled(found) != settled(acknowledged))
        .then(|| format!("without an event {acknowledged} became {found}"))
}

impl World {
    fn lose(&self, what: Result<(), String>) {
        if let Err(what) = what {
            self.record.lock().unwrap().lost.push(what);
        }
    }

    /// After a restart: every payment, and a sample of everything else (`all`: everything).
    pub(crate) async fn check(&self, rest: &Rest, rng: &mut Rng, all: bool) {
        let found = listed(rest).await;
        let (payments, sample, replays, tokens) = {
            let record = self.record.lock().unwrap();
            let draw = |rng: &mut Rng, length: usize| -> BTreeSet<usize> {
                // The latest are the ones in danger.
                let latest = length.saturating_sub(SAMPLE)..length;
                let random = (0..SAMPLE.min(length)).map(|_| rng.index(length));
                latest.chain(random).collect()
            };
            let ids: Vec<&String> = record.payments.keys().collect();
            let chosen = if all { (0..ids.len()).collect() } else { draw(rng, ids.len()) };
            let sample: Vec<String> = chosen.into_iter().map(|at| ids[at].clone()).collect();
            let replays: Vec<_> = draw(rng, record.acknowledged.len())
                .into_iter()
                .map(|at| record.acknowledged[at].clone())
                .collect();
            let tokens: Vec<Value> = record
                .acknowledged
                .iter()
                .filter(|acknowledged| acknowledged.operation.kind == Kind::Token)
                .map(|acknowledged| acknowledged.answer.clone())
                .collect();
            let chosen = if all { (0..tokens.len()).collect() } else { draw(rng, tokens.len()) };
            let tokens: Vec<Value> = chosen.into_iter().map(|at| tokens[at].clone()).collect();
            (record.payments.clone(), sample, replays, tokens)
        };
        for (id, record) in &payments {
            self.lose(compare_payment(id, record, found.get(id)));
            let changed = changed_without_an_event(record, found.get(id));
            self.record.lock().unwrap().wrong.extend(changed);
        }
        for id in sample.into_iter().filter(|id| found.contains_key(id)) {
            let path = format!("/v1/payments/{id}");
            // Events first: what happens meanwhile has more of them, not fewer.
            let refunds = get(rest, &format!("{path}/refunds")).await;
            self.lose(compare_refunds(&id, &payments[&id], &refunds));
            let (before, events, after) =
                (get(rest, &path).await, get(rest, &format!("{path}/events")).await, get(rest, &path).await);
            if before == after {
                self.lose(check_events(&before, &events));
            }
        }
        for token in tokens {
            let found = rest.get(&format!("/v1/tokens/{}", text(&token, "id"))).await.unwrap();
            if found.body != token {
                self.lose(Err(format!("a token is not as it was: {token} became {}", found.body)));
            }
        }
        for earlier in replays {
            let operation = &earlier.operation;
            let again = rest.post(&operation.path, Some(&operation.key), &operation.body).await.unwrap();
            let marked = again.headers.get("idempotency-replayed").is_some_and(|value| value == "true");
            if again.bytes != earlier.bytes || !marked {
                let what = format!("{operation:?}: {} became {}", earlier.answer, again.body);
                self.record.lock().unwrap().double.push(what);
            }
        }
    }

    /// Waits until nothing is under way, then compares everything with everything (I1, I2, I5). With
    /// `silent` also the card that never answers must have settled.
    pub(crate) async fn check_when_calm(&self, rest: &Rest, data_dir: &Path, silent: bool) -> Payments {
        self.settle_unanswered(rest).await;
        let began = Instant::now();
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        let silent_token = self.record.lock().unwrap().silent_token.clone();
        let found = loop {
            ticks.tick().await;
            let found = listed(rest).await;
            let open = found.values().filter(|payment| {
                let open = |operation: &Value| {
                    matches!(operation["status"].as_str(), Some("PENDING" | "UNKNOWN" | "SUBMITTED"))
                };
                let under_way = payment["operations"].as_array().is_some_and(|all| all.iter().any(open));
                under_way && (silent || payment["payment_method"]["token"] != *silent_token)
            });
            let open: Vec<&Value> = open.collect();
            // A posting that was cut off is taken up again at start; until then the books lag behind.
            let compared = books::compare(rest).await.unwrap();
            if open.is_empty() && compared.is_ok() {
                break found;
            }
            if began.elapsed() > 2 * PATIENCE {
                let mut record = self.record.lock().unwrap();
                record.wrong.extend(open.into_iter().map(|payment| format!("never settles: {payment}")));
                record.lost.extend(compared.err());
                break found;
            }
        };
        let audit = paymesh::operator::audit(data_dir, |_| {}).await.unwrap();
        let mut record = self.record.lock().unwrap();
        if !audit.ok {
            record.wrong.extend(audit.offences);
        }
        compare_effects(&mut record, &found);
        found
    }
}

/// Every request has an answer now, so that the answers alone say what must have happened.
fn compare_effects(record: &mut Record, found: &Payments) {
    let payments = record.payments.clone();
    for id in found.keys().filter(|id| !payments.contains_key(*id)) {
        record.double.push(format!("payment {id} exists, and no answer speaks of it"));
    }
    for (id, known) in &payments {
        let Some(payment) = found.get(id) else { continue };
        let refunded: i64 = known
            .refunds
            .values()
            .filter(|refund| refund["status"] != "FAILED")
            .map(|refund| number(refund, "amount"))
            .sum();
        let [is_captured, is_refunded] = ["amount_captured", "amount_refunded"].map(|f| number(payment, f));
        if is_captured != known.captured && !known.was_unknown {
            record.double.push(format!("{id}: captured {}, answered {}", is_captured, known.captured));
        }
        if is_refunded != refunded {
            record.double.push(format!("{id}: refunded {is_refunded}, answered {refunded}"));
        }
    }
}

/// What the processor did, from its own journal: one authorization and one capture per payment at most,
/// and nothing that no payment knows of (I2, I6). The mesh must be stopped.
pub(crate) fn check_processor(record: &mut Record, found: &Payments, data_dir: &Path) {
    let path = data_dir.join("svc-payments/simulator.db");
    let journal = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = journal.prepare("SELECT reference, kind, of, amount, outcome FROM journal").unwrap();
    let mut rows = select.query([]).unwrap();
    // What was approved, by payment: authorizations, captures, voids; and how much was given back.
    let mut done: BTreeMap<String, [Vec<i64>; 4]> = BTreeMap::new();
    while let Some(row) = rows.next().unwrap() {
        let [reference, kind, of, outcome] = [0, 1, 2, 4].map(|at| row.get::<_, String>(at).unwrap());
        let amount: i64 = row.get(3).unwrap();
        let approved = outcome.contains("approved");
        let slot = match kind.as_str() {
            "sale" | "authorize" => 0,
            "capture" => 1,
            "void" => 2,
            _ => 3,
        };
        // Ours is `pay_…_n` (or `re_…`), the processor's own `sim_pay_…_n`.
        let about = if slot == 0 { reference.as_str() } else { of.trim_start_matches("sim_") };
        let id = about.rsplit_once('_').map_or(about, |(id, _)| id).to_owned();
        if !found.contains_key(&id) {
            record.double.push(format!("the processor did {kind} {reference} for no payment of ours"));
        }
        if approved || slot == 0 {
            done.entry(id).or_default()[slot].push(amount);
        }
    }
    for (id, [authorizations, captures, voids, refunds]) in &done {
        let Some(payment) = found.get(id) else { continue };
        if authorizations.len() > 1 || captures.len() + voids.len() > 1 {
            record.double.push(format!(
                "{id}: {authorizations:?} authorized, {captures:?} captured, {voids:?} voided"
            ));
        }
        let status = text(payment, "status");
        let captured: i64 = captures.iter().sum();
        let sale = payment["capture_method"] == "AUTOMATIC";
        let unknown = status == "UNKNOWN";
        if !sale && captured != number(payment, "amount_captured") && !unknown {
            record.double.push(format!("{id}: the processor captured {captured}, and it says {payment}"));
        }
        if refunds.iter().sum::<i64>() != number(payment, "amount_refunded") {
            record.double.push(format!("{id}: the processor refunded {refunds:?}, and it says {payment}"));
        }
        if (status == "CANCELED" && authorizations.len() == 1) != (voids.len() == 1) && !unknown {
            record.double.push(format!("{id}: {voids:?} voided, and it says {payment}"));
        }
    }
    for (id, payment) in found {
        let charged = number(payment, "amount_authorized") > 0;
        if charged && done.get(id).is_none_or(|[authorizations, ..]| authorizations.is_empty()) {
            record.lost.push(format!("{id} says that it is authorized, and the processor never was asked"));
        }
    }
}
