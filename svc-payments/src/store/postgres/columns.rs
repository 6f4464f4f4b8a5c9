//! Commits as columns: what a batch writes, each table in one statement over `unnest`.

use mesh::StoreError;
use money::Timestamp;
use uuid::Uuid;

use crate::{
    domain::{due, payment::Payment},
    store::{Claim, Commit, encoding::encode},
};

/// A commit on its way, encoded by whoever hands it in, so that a batch does not wait for that.
#[derive(Clone)]
pub(super) struct Item {
    /// Which commit it is, however often it is sent.
    pub(super) id: Uuid,
    pub(super) commit: Commit,
    now: Timestamp,
    body: Vec<u8>,
    postings: Vec<Vec<u8>>,
    inspections: Vec<Vec<u8>>,
}

impl Item {
    pub(super) fn new(commit: Commit, now: Timestamp) -> Result<Self, StoreError> {
        let change = &commit.change;
        Ok(Self {
            id: Uuid::new_v4(),
            body: encode(&change.payment)?,
            postings: change.postings.iter().map(encode).collect::<Result<_, _>>()?,
            inspections: change.inspections.iter().map(encode).collect::<Result<_, _>>()?,
            commit,
            now,
        })
    }

    pub(super) fn payment(&self) -> &Payment {
        &self.commit.change.payment
    }

    pub(super) fn is_new_payment(&self) -> bool {
        self.payment().version == 1
    }

    /// The ordinal of the first posting that it adds, if it adds any.
    pub(super) fn first_ordinal(&self) -> Option<i64> {
        self.commit.change.postings.first().map(|posting| i64::from(posting.ordinal))
    }
}

/// Rows of `payment`.
#[derive(Default)]
pub(super) struct Payments<'a> {
    pub(super) ids: Vec<Uuid>,
    pub(super) tenants: Vec<&'a str>,
    pub(super) versions: Vec<i64>,
    pub(super) commits: Vec<Uuid>,
    pub(super) statuses: Vec<&'static str>,
    pub(super) references: Vec<&'a str>,
    pub(super) due: Vec<Option<i64>>,
    pub(super) amounts: Vec<i64>,
    pub(super) authorized: Vec<i64>,
    pub(super) captured: Vec<i64>,
    pub(super) capture_pending: Vec<i64>,
    pub(super) refunded: Vec<i64>,
    pub(super) refund_pending: Vec<i64>,
    pub(super) disputed: Vec<i64>,
    pub(super) processors: Vec<&'a str>,
    pub(super) processor_references: Vec<&'a str>,
    pub(super) bodies: Vec<&'a [u8]>,
}

impl<'a> Payments<'a> {
    fn push(&mut self, item: &'a Item) {
        let payment = item.payment();
        self.ids.push(payment.id.uuid());
        self.tenants.push(payment.tenant.as_str());
        self.versions.push(payment.version);
        self.commits.push(item.id);
        self.statuses.push(payment.status.name());
        self.references.push(&payment.reference);
        self.due.push(due::payment(payment).map(Timestamp::as_nanos));
        self.amounts.push(payment.amount);
        self.authorized.push(payment.amount_authorized);
        self.captured.push(payment.amount_captured);
        self.capture_pending.push(payment.amount_capture_pending);
        self.refunded.push(payment.amount_refunded);
        self.refund_pending.push(payment.amount_refund_pending);
        self.disputed.push(payment.amount_disputed);
        self.processors.push(&payment.processor);
        self.processor_references.push(&payment.processor_reference);
        self.bodies.push(&item.body);
    }
}

/// Rows of `idempotency`: those that are new, and answers to those that are there.
#[derive(Default)]
pub(super) struct Keys<'a> {
    pub(super) tenants: Vec<&'a str>,
    pub(super) rpcs: Vec<&'a str>,
    /// The keys themselves.
    pub(super) names: Vec<&'a str>,
    pub(super) fingerprints: Vec<&'a [u8]>,
    pub(super) subjects: Vec<&'a str>,
    pub(super) answers: Vec<Option<&'a [u8]>>,
    pub(super) at: Vec<i64>,
}

/// Rows that hang on a payment: events, postings, inspections and metadata.
#[derive(Default)]
pub(super) struct Details<'a> {
    pub(super) payments: Vec<Uuid>,
    /// An event's sequence, a posting's ordinal.
    pub(super) numbers: Vec<i64>,
    /// An event's type, a posting's tenant, a metadata entry's tenant.
    pub(super) words: Vec<&'a str>,
    /// An event's status, a metadata entry's key.
    pub(super) names: Vec<&'a str>,
    /// A metadata entry's value.
    pub(super) values: Vec<&'a str>,
    pub(super) amounts: Vec<i64>,
    /// When it happened, or is due.
    pub(super) at: Vec<i64>,
    pub(super) bodies: Vec<&'a [u8]>,
}

/// Everything that a batch writes.
#[derive(Default)]
pub(super) struct Columns<'a> {
    pub(super) created: Payments<'a>,
    pub(super) updated: Payments<'a>,
    pub(super) metadata: Details<'a>,
    pub(super) claims: Keys<'a>,
    pub(super) answers: Keys<'a>,
    pub(super) events: Details<'a>,
    pub(super) postings: Details<'a>,
    pub(super) inspections: Details<'a>,
}

impl<'a> Columns<'a> {
    /// Of these items. Keys are in their own order, whatever that of the items is: two batches that meet wait for one
    /// another at the first that they share.
    pub(super) fn of(items: &[&'a Item]) -> Self {
        let mut columns = Self::default();
        let mut claims: Vec<(&Claim, &Item)> = Vec::new();
        for item in items {
            if item.is_new_payment() {
                columns.created.push(item);
                columns.push_metadata(item);
            } else {
                columns.updated.push(item);
            }
            claims.extend(item.commit.claim.as_ref().map(|claim| (claim, *item)));
            columns.push_answers(item);
            columns.push_details(item);
        }
        claims.sort_by_key(|(claim, _)| {
            let scope = &claim.scope;
            (scope.tenant.as_str(), scope.rpc, scope.key.as_str())
        });
        for (claim, item) in claims {
            columns.push_claim(claim, item);
        }
        columns
    }

    fn push_claim(&mut self, claim: &'a Claim, item: &'a Item) {
        let answer = item.commit.answers.iter().find(|(scope, _)| *scope == claim.scope);
        self.claims.tenants.push(claim.scope.tenant.as_str());
        self.claims.rpcs.push(claim.scope.rpc);
        self.claims.names.push(claim.scope.key.as_str());
        self.claims.fingerprints.push(&claim.fingerprint);
        self.claims.subjects.push(&claim.subject);
        self.claims.answers.push(answer.map(|(_, bytes)| bytes.as_slice()));
        self.claims.at.push(item.now.as_nanos());
    }

    /// Those to keys that are on record already.
    fn push_answers(&mut self, item: &'a Item) {
        let own = item.commit.claim.as_ref().map(|claim| &claim.scope);
        for (scope, bytes) in item.commit.answers.iter().filter(|(scope, _)| Some(scope) != own) {
            self.answers.tenants.push(scope.tenant.as_str());
            self.answers.rpcs.push(scope.rpc);
            self.answers.names.push(scope.key.as_str());
            self.answers.answers.push(Some(bytes));
            self.answers.at.push(item.now.as_nanos());
        }
    }

    fn push_metadata(&mut self, item: &'a Item) {
        let payment = item.payment();
        for (key, value) in &payment.metadata {
            self.metadata.payments.push(payment.id.uuid());
            self.metadata.words.push(payment.tenant.as_str());
            self.metadata.names.push(key);
            self.metadata.values.push(value);
        }
    }

    fn push_details(&mut self, item: &'a Item) {
        let change = &item.commit.change;
        let id = change.payment.id.uuid();
        for event in &change.events {
            self.events.payments.push(id);
            self.events.numbers.push(event.sequence);
            self.events.words.push(event.event_type);
            self.events.names.push(event.status.name());
            self.events.amounts.push(event.amount);
            self.events.at.push(event.at.as_nanos());
        }
        for (posting, body) in change.postings.iter().zip(&item.postings) {
            self.postings.payments.push(posting.payment.uuid());
            self.postings.numbers.push(posting.ordinal.into());
            self.postings.words.push(posting.tenant.as_str());
            self.postings.at.push(due::posting(item.now).as_nanos());
            self.postings.bodies.push(body);
        }
        for body in &item.inspections {
            self.inspections.payments.push(id);
            self.inspections.at.push(item.now.as_nanos());
            self.inspections.bodies.push(body);
        }
    }
}
