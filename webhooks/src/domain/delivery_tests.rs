//! A model of what a delivery may do: every state with every step, and any course of events.

use money::{EventId, WebhookDeliveryId, WebhookEndpointId};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::domain::{attempt::AttemptError, endpoint::Update, event::EventFilter, url::EndpointUrl};

const FIVE_DAYS_S: u32 = 5 * 86_400;

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(second)
}

fn endpoint() -> Endpoint<()> {
    Endpoint::new(
        WebhookEndpointId::new(Uuid::from_u128(1)),
        "acme".parse().unwrap(),
        EndpointUrl::parse("https://example.com/hook").unwrap(),
        EventFilter::new(vec!["*".into()]).unwrap(),
        String::new(),
        (),
        Timestamp::EPOCH,
    )
    .unwrap()
}

fn delivery() -> Delivery {
    let (id, event) = (WebhookDeliveryId::new(Uuid::from_u128(2)), EventId::new(Uuid::from_u128(3)));
    Delivery::new(id, &endpoint(), event, "payment.captured".parse().unwrap(), at(0))
}

fn report(second: i64, outcome: Outcome) -> Report {
    Report {
        at: at(second),
        ended_at: Timestamp::from_nanos(at(second).as_nanos() + 7_000_000),
        outcome,
        retry_after_s: None,
        answer: "no".to_owned(),
        revision: 0,
        chance: 0,
    }
}

const OK: Outcome = Outcome::Answered(204);
const BAD: Outcome = Outcome::Answered(500);
const GONE: Outcome = Outcome::Answered(410);

#[test]
fn the_table_has_each_step_once_and_leads_where_it_should() {
    let steps = [T::Confirmed, T::Retried, T::GaveUp, T::Stopped, T::Resent];
    for state in State::ALL {
        for step in steps {
            let rows = TRANSITIONS.iter().filter(|(from, what, _)| (*from, *what) == (state, step)).count();
            let expected = match state {
                S::Delivered | S::Failed => usize::from(step == T::Resent),
                S::Pending | S::Canceled => 1,
            };
            assert_eq!(rows, expected, "{state:?} {step:?}");
        }
        assert_eq!(next(state, T::Resent), Some(S::Pending), "all can be sent again");
        let json = serde_json::to_string(&state).unwrap();
        assert_eq!(json, format!("\"{}\"", state.name()));
    }
}

#[test]
fn ten_attempts_by_the_schedule_and_then_it_is_given_up() {
    let (mut delivery, mut endpoint) = (delivery(), endpoint());
    let mut dues = Vec::new();
    while let Some(due) = delivery.due_at {
        dues.push(due.as_seconds());
        let settled =
            delivery.settle(Some(&mut endpoint), &report(due.as_seconds(), BAD), FIVE_DAYS_S).unwrap();
        assert_eq!((settled.attempt.number, settled.attempt.took_ms), (delivery.attempts, 7));
    }
    let mut expected = 0;
    let expected: Vec<i64> = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400]
        .map(|delay| {
            expected += delay;
            expected
        })
        .into();
    assert_eq!((dues, delivery.state), (expected, State::Failed));
    assert_eq!((endpoint.failing_since.map(Timestamp::as_seconds), endpoint.disabled), (Some(0), None));
}

#[test]
fn gone_disables_the_endpoint_and_cancels() {
    let (mut delivery, mut endpoint) = (delivery(), endpoint());
    let settled = delivery.settle(Some(&mut endpoint), &report(1, GONE), FIVE_DAYS_S).unwrap();
    assert_eq!(settled.endpoint, Change::Disabled(DisabledReason::Gone));
    assert_eq!((delivery.state, delivery.due_at, delivery.attempts), (State::Canceled, None, 1));
}

#[test]
fn an_answer_to_another_url_decides_nothing_about_this_one() {
    let (mut delivery, mut endpoint) = (delivery(), endpoint());
    endpoint.update(Update::default(), at(0)).unwrap();
    let settled = delivery.settle(Some(&mut endpoint), &report(1, GONE), FIVE_DAYS_S).unwrap();
    assert_eq!((settled.endpoint, endpoint.disabled), (Change::None, None));
}

#[test]
fn a_late_success_counts_also_after_it_was_canceled() {
    let (mut delivery, mut endpoint) = (delivery(), endpoint());
    assert!(delivery.stop());
    assert!(!delivery.stop());
    assert!(delivery.settle(Some(&mut endpoint), &report(1, BAD), FIVE_DAYS_S).is_some());
    assert_eq!((delivery.state, delivery.due_at), (State::Canceled, None));
    assert!(delivery.settle::<()>(None, &report(2, OK), FIVE_DAYS_S).is_some());
    assert_eq!(delivery.state, State::Delivered);
    assert!(delivery.settle(Some(&mut endpoint), &report(3, BAD), FIVE_DAYS_S).is_none(), "it has ended");
    assert_eq!((delivery.state, delivery.attempts), (State::Delivered, 2));
}

#[test]
fn sent_again_it_keeps_its_id_and_begins_the_schedule_anew() {
    let (mut delivery, mut endpoint) = (delivery(), endpoint());
    while let Some(due) = delivery.due_at {
        delivery.settle(Some(&mut endpoint), &report(due.as_seconds(), BAD), FIVE_DAYS_S);
    }
    let event = delivery.event;
    delivery.resend(at(1_000_000));
    assert_eq!((delivery.state, delivery.due_at), (State::Pending, Some(at(1_000_000))));
    delivery.settle(Some(&mut endpoint), &report(1_000_000, BAD), FIVE_DAYS_S).unwrap();
    assert_eq!(delivery.due_at.map(Timestamp::as_seconds), Some(1_000_005));
    assert_eq!((delivery.event, delivery.attempts), (event, 11));
    delivery.resend(at(1_000_001));
    assert_eq!((delivery.scheduled, delivery.due_at), (1, Some(at(1_000_001))), "pending: only earlier");
}

#[derive(Debug, Clone)]
enum Happens {
    Attempt(Outcome, Option<u32>, u32),
    Stop,
    Resend,
    Enable,
}

fn happens() -> impl Strategy<Value = Happens> {
    let outcome = prop_oneof![
        (100..600_u16).prop_map(Outcome::Answered),
        Just(OK),
        Just(GONE),
        Just(Outcome::Failed(AttemptError::Time)),
    ];
    prop_oneof![
        8 => (outcome, proptest::option::of(any::<u32>()), any::<u32>())
            .prop_map(|(outcome, asked, chance)| Happens::Attempt(outcome, asked, chance)),
        1 => Just(Happens::Stop),
        1 => Just(Happens::Resend),
        1 => Just(Happens::Enable),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_it_is_due_exactly_while_it_is_pending(course in proptest::collection::vec(happens(), 0..60)) {
        let (mut delivery, mut endpoint) = (delivery(), endpoint());
        let mut now = at(0);
        for happened in course {
            let before = delivery.clone();
            now = delivery.due_at.unwrap_or(now).max(now);
            match happened {
                Happens::Attempt(outcome, retry_after_s, chance) => {
                    let revision = endpoint.revision;
                    let report =
                        Report { retry_after_s, revision, chance, ..report(now.as_seconds(), outcome) };
                    let settled = delivery.settle(Some(&mut endpoint), &report, FIVE_DAYS_S);
                    let ended = matches!(before.state, State::Delivered | State::Failed);
                    prop_assert_eq!(settled.is_none(), ended);
                    prop_assert_eq!(delivery.attempts, before.attempts + u32::from(!ended));
                    if outcome.verdict() == Verdict::Delivered && !ended {
                        prop_assert_eq!((delivery.state, endpoint.failing_since), (State::Delivered, None));
                    }
                    if outcome.verdict() == Verdict::Gone && !ended {
                        prop_assert!(endpoint.disabled.is_some() && delivery.state == State::Canceled);
                    }
                    if let Some(due) = delivery.due_at.filter(|_| !ended) {
                        prop_assert!(due > now && due.nanos_since(now) <= 104_000 * 1_000_000_000);
                    }
                }
                Happens::Stop => {
                    delivery.stop();
                }
                Happens::Resend => {
                    delivery.resend(now);
                    prop_assert_eq!(delivery.due_at, Some(now));
                }
                Happens::Enable => {
                    endpoint.update(Update { enabled: Some(true), ..Update::default() }, now).unwrap();
                }
            }
            prop_assert_eq!(delivery.due_at.is_some(), delivery.state == State::Pending);
            prop_assert_eq!((delivery.event, delivery.created_at), (before.event, before.created_at));
            prop_assert!(delivery.scheduled <= 10);
        }
    }
}
