//! What becomes of each commit of a batch, by what the server has on record. Pure.

use std::collections::{HashMap, HashSet};

use mesh::{
    StoreError,
    idempotency::{Known, Reuse, Scope},
    postgres::idempotency,
};
use money::TenantId;
use tokio_postgres::Row;
use uuid::Uuid;

use super::columns::Item;
use crate::store::{CommitError, Committed};

/// How many of a payment's last commits are on record by their ids.
pub(super) const REMEMBERED: usize = 8;

/// What is on record of a payment, locked.
pub(super) struct Found {
    pub(super) tenant: TenantId,
    pub(super) version: i64,
    /// The newest first, [`REMEMBERED`] at most.
    pub(super) commits: Vec<Uuid>,
}

/// What is on record of everything that a batch is about.
#[derive(Default)]
pub(super) struct OnRecord<'a> {
    pub(super) payments: HashMap<Uuid, Found>,
    /// Rows of `idempotency`.
    pub(super) claims: HashMap<&'a Scope, Row>,
    /// The first posting of each payment that the ledger has not confirmed.
    pub(super) postings: HashMap<Uuid, i64>,
}

pub(super) type Outcome = Result<Committed, CommitError>;

/// The outcome of each item, and which are to be written for that to be so. `in_doubt`: they were sent before, and
/// nobody knows what became of that.
pub(super) fn decide<'a>(
    items: &'a [Item],
    on_record: &OnRecord<'a>,
    in_doubt: bool,
) -> (Vec<Outcome>, Vec<&'a Item>) {
    let (mut outcomes, mut writes) = (Vec::with_capacity(items.len()), Vec::new());
    let (mut claimed, mut changed): (HashMap<&Scope, &Item>, HashSet<Uuid>) = Default::default();
    for item in items {
        let outcome = match settled(item, on_record, &claimed, in_doubt) {
            Some(outcome) => outcome,
            None if !changed.insert(item.payment().id.uuid()) => overtaken(item),
            None => {
                claimed.extend(item.commit.claim.as_ref().map(|claim| (&claim.scope, item)));
                writes.push(item);
                Ok(done(item, on_record))
            }
        };
        outcomes.push(outcome);
    }
    (outcomes, writes)
}

fn done(item: &Item, on_record: &OnRecord<'_>) -> Committed {
    let unconfirmed = on_record.postings.get(&item.payment().id.uuid());
    let earlier_postings =
        unconfirmed.is_some_and(|unconfirmed| item.first_ordinal().is_some_and(|first| *unconfirmed < first));
    Committed::Done { earlier_postings }
}

/// The outcome of what is not to be written, if it is so.
fn settled<'a>(
    item: &Item,
    on_record: &OnRecord<'a>,
    claimed: &HashMap<&'a Scope, &'a Item>,
    in_doubt: bool,
) -> Option<Outcome> {
    let payment = item.payment();
    let found = on_record.payments.get(&payment.id.uuid());
    if let Some(found) = found.filter(|found| found.version >= payment.version) {
        // It may be its own doing: a commit whose answer was lost.
        let newer = usize::try_from(found.version - payment.version).unwrap_or(usize::MAX);
        match found.commits.get(newer) {
            Some(id) if *id == item.id => return Some(Ok(done(item, on_record))),
            None if in_doubt && newer >= REMEMBERED => return Some(Err(unknown("too many came after it"))),
            _ => {}
        }
    }
    let is_next = match found {
        Some(found) => found.tenant == payment.tenant && found.version == payment.version - 1,
        None => item.is_new_payment(),
    };
    known(item, on_record, claimed).or_else(|| (!is_next).then(|| overtaken(item)))
}

/// Somebody else wrote this version.
fn overtaken(item: &Item) -> Outcome {
    if item.is_new_payment() {
        return Err(StoreError::Commit("a payment has this id already".into()).into());
    }
    Ok(Committed::Contended)
}

/// What is known of the item's request.
fn known<'a>(
    item: &Item,
    on_record: &OnRecord<'a>,
    claimed: &HashMap<&'a Scope, &'a Item>,
) -> Option<Outcome> {
    let claim = item.commit.claim.as_ref()?;
    if let Some(first) = claimed.get(&claim.scope) {
        return Some(of_first(item, first));
    }
    let row = on_record.claims.get(&claim.scope)?;
    match idempotency::known(row, &claim.fingerprint) {
        Ok(Known::New) => None,
        Ok(Known::Underway { subject }) => Some(Ok(Committed::Underway { subject })),
        Ok(Known::Answered(answer)) => Some(Ok(Committed::Answered(answer))),
        Err(reuse) => Some(Err(reuse.into())),
    }
}

/// The same key was claimed by an item before this one.
fn of_first(item: &Item, first: &Item) -> Outcome {
    let (Some(claim), Some(before)) = (&item.commit.claim, &first.commit.claim) else {
        return Ok(Committed::Contended);
    };
    if claim.fingerprint != before.fingerprint {
        return Err(Reuse::OtherRequest.into());
    }
    let answer = first.commit.answers.iter().find(|(scope, _)| *scope == claim.scope);
    Ok(match answer {
        Some((_, answer)) => Committed::Answered(answer.clone()),
        None => Committed::Underway { subject: before.subject.clone() },
    })
}

/// Nobody can say whether it was done.
pub(super) fn unknown(why: &str) -> CommitError {
    StoreError::Server(format!("whether a commit was done is not known: {why}")).into()
}
