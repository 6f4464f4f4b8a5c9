//! What every store promises, as one suite: `contract::suite!(fixture)` stamps it over an implementation.
//!
//! `commits` and `claims` are about what is written at once or not at all, `constraints` about what a store refuses
//! whatever it is told, `due` about work that is taken up, `lists` about what is found again, `crowd` about many at once.

mod claims;
mod commits;
mod constraints;
mod crowd;
mod due;
mod lists;

pub(crate) use claims::*;
pub(crate) use commits::*;
pub(crate) use constraints::*;
pub(crate) use crowd::*;
pub(crate) use due::*;
pub(crate) use lists::*;

use std::collections::BTreeMap;

use mesh::idempotency::Scope;
use money::{PaymentId, RefundId, TenantId, Timestamp, TokenId};
use uuid::Uuid;

use super::{Begun, Claim, Commit, CommitError, Committed, Done, Filter, Lines, Page, Store, decide};
use crate::domain::{
    answer,
    create::{self, Found, NewPayment},
    due::Terms,
    hold,
    method::{CardSummary, Method},
    operation::{Approval, Failure, ProcessorOutcome, Rpc},
    payment::{CaptureMethod, Change, Initiator, Payment, Recorded, Rejection},
    refund,
};

pub(in crate::store) const ALL_EVENTS: Page<i64> = Page { after: None, limit: 100 };
const TERMS: Terms = Terms { unconfirmed_s: 1_000, action_s: 1_000, review_s: 1_000, authorized_s: 1_000 };

/// A place where a store's state lives; opening again finds what was there.
pub(crate) trait Fixture {
    /// The store under test.
    type Store: Store;
    /// Whether only one process can have it open.
    const ALONE: bool;

    /// Opens the store.
    fn open(&self) -> impl Future<Output = Self::Store>;
}

pub(in crate::store) fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

pub(in crate::store) fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second)
}

/// In the order of the numbers.
pub(in crate::store) fn id(number: u128) -> PaymentId {
    PaymentId::new(Uuid::from_u128(number << 64))
}

pub(in crate::store) fn claim(rpc: Rpc, key: &str, fingerprint: u8, subject: &impl ToString) -> Claim {
    let scope = Scope { tenant: tenant("acme"), rpc: rpc.name(), key: key.parse().unwrap() };
    Claim { scope, fingerprint: [fingerprint; 32], subject: subject.to_string() }
}

/// The claim that a payment was created with.
pub(in crate::store) fn creation(number: u128) -> Claim {
    claim(Rpc::CreatePayment, &format!("k{number}"), 1, &id(number))
}

pub(in crate::store) fn wish(reference: &str) -> NewPayment {
    NewPayment {
        amount: 100,
        convenience_fee: 0,
        currency: "EUR".parse().unwrap(),
        capture_method: CaptureMethod::Manual,
        confirm: true,
        initiator: Initiator::Customer,
        mandate: None,
        reference: reference.into(),
        description: "ü".into(),
        metadata: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
    }
}

/// A payment as the domain makes it, before anything is committed.
pub(in crate::store) fn made(number: u128, wish: NewPayment) -> Change {
    let card = CardSummary {
        brand: "VISA".into(),
        bin: "424242".into(),
        last4: "4242".into(),
        fingerprint: "f".into(),
    };
    let method = Method::Card { token: TokenId::new(Uuid::from_u128(9)), card, saved: None };
    let found = Found { method, tax: None, processors: vec!["simulator".into()] };
    create::create(wish, found, id(number), tenant("acme"), &format!("k{number}"), &TERMS, at(0)).unwrap()
}

/// A change as it is committed: of the next version.
pub(in crate::store) fn next(mut change: Change) -> Commit {
    change.payment.version += 1;
    let answers = crate::answers::of(&change);
    Commit { claim: None, change, answers }
}

fn is_new(begun: Begun) -> Done {
    match begun {
        Begun::New(done) => *done,
        other => panic!("must be new: {other:?}"),
    }
}

async fn created_as<S: Store>(store: &S, number: u128, wish: NewPayment) -> Payment {
    let begun = decide::create(store, creation(number), made(number, wish), at(0)).await.unwrap();
    is_new(begun).change.payment
}

pub(in crate::store) async fn created<S: Store>(store: &S, number: u128) -> Payment {
    created_as(store, number, wish("")).await
}

pub(in crate::store) async fn stored<S: Store>(store: &S, number: u128) -> Payment {
    store.payment(tenant("acme"), id(number)).await.unwrap().unwrap()
}

async fn changed<S: Store>(
    store: &S,
    number: u128,
    second: i64,
    decide: impl Fn(Payment) -> Result<Change, Rejection>,
) -> Done {
    decide::change(store, &Lines::default(), stored(store, number).await, at(second), decide).await.unwrap()
}

pub(in crate::store) fn approved(reference: &str) -> ProcessorOutcome {
    ProcessorOutcome::Approved(Approval::as_asked(reference))
}

fn declined() -> ProcessorOutcome {
    ProcessorOutcome::Declined(Failure::new("CARD_DECLINED", "The card was declined."))
}

/// The processor's answer to the payment's latest operation.
pub(in crate::store) async fn answered<S: Store>(
    store: &S,
    number: u128,
    second: i64,
    outcome: ProcessorOutcome,
) -> Done {
    let decide = |payment: Payment| {
        let latest = payment.operations.last().unwrap().number;
        answer::answered(payment, latest, outcome.clone(), &TERMS, at(second))
    };
    changed(store, number, second, decide).await
}

pub(in crate::store) async fn authorized<S: Store>(store: &S, number: u128) -> Payment {
    created(store, number).await;
    answered(store, number, 1, approved(&format!("r{number}"))).await.change.payment
}

/// Captures so much, which demands one posting.
async fn capture<S: Store>(store: &S, number: u128, second: i64, amount: i64) -> Done {
    let key = format!("c{second}");
    changed(store, number, second, |p| hold::begin_capture(p, Some(amount), false, &key, at(second))).await;
    answered(store, number, second, approved("c")).await
}

/// Begins a refund of `amount`, as the handler does.
async fn refund<S: Store>(store: &S, payment: u128, number: u128, amount: i64) -> Result<(), CommitError> {
    let refund = RefundId::new(Uuid::from_u128(number));
    let key = format!("r{number}");
    let claim = claim(Rpc::CreateRefund, &key, 1, &refund);
    let decide = |payment| refund::begin(payment, refund, Some(amount), String::new(), &key, at(2));
    decide::begin(store, &Lines::default(), claim, id(payment), at(2), decide)
        .await
        .map(|begun| drop(is_new(begun)))
}

pub(in crate::store) async fn events<S: Store>(store: &S, number: u128) -> Vec<Recorded> {
    store.events(tenant("acme"), id(number), ALL_EVENTS).await.unwrap().unwrap().1
}

/// Everything that is on record of a payment, to see that nothing of it changed.
async fn everything<S: Store>(store: &S, number: u128) -> String {
    let postings = store.postings(tenant("acme"), id(number)).await.unwrap();
    let inspections = store.inspections(100).await.unwrap();
    let (payment, events) = (stored(store, number).await, events(store, number).await);
    format!("{payment:?} {events:?} {postings:?} {inspections:?}")
}

/// Stamps the suite over the fixture that the expression makes.
macro_rules! suite {
    ($fixture:expr) => {
        $crate::store::contract::suite!($fixture =>
            a_payment_is_found_by_its_tenant,
            a_commit_is_written_as_a_whole,
            a_commit_of_another_version_writes_nothing,
            an_id_is_taken_once,
            events_are_gapless_and_paged,
            postings_are_told_in_order_and_crossed_off_by_number,
            a_key_has_one_effect_and_one_answer,
            a_key_is_answered_with_the_commit_that_claims_it,
            a_claim_that_is_known_writes_nothing,
            a_claim_with_a_contended_commit_is_not_kept,
            a_rejection_leaves_nothing,
            an_answer_outlives_what_the_payment_became,
            money_that_does_not_add_up_is_refused,
            a_step_that_is_not_in_the_table_is_refused,
            an_events_number_is_taken_once,
            a_processors_id_stands_for_one_payment,
            what_is_under_way_becomes_due,
            what_is_taken_is_nobody_elses_until_its_lease_ends,
            what_is_put_off_is_due_later_and_never_sooner,
            what_is_settled_is_not_due,
            what_somebody_has_news_of_is_due_at_once,
            a_start_makes_all_due_where_nobody_else_can_be_at_it,
            payments_are_listed_by_filter_and_page,
            payments_are_found_by_what_they_carry,
            inspections_are_kept_newest_first,
            of_commits_of_one_version_one_is_written,
            duplicates_at_once_have_one_effect,
            refunds_at_once_never_exceed_the_captured,
            payments_at_once_do_not_disturb_each_other,
        );
    };
    ($fixture:expr => $($test:ident,)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                $crate::store::contract::$test($fixture).await;
            }
        )*
    };
}
pub(crate) use suite;
