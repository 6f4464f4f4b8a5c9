//! A webhook on its way to one endpoint: one table says what may become of it.

use money::{EventId, TenantId, Timestamp, WebhookDeliveryId, WebhookEndpointId};
use serde::{Deserialize, Serialize};

use super::{
    attempt::{Attempt, Outcome, Verdict},
    endpoint::{Change, DisabledReason, Endpoint},
    event::EventType,
    schedule::{ATTEMPTS_SCHEDULED, next_attempt},
};

/// Where a delivery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum State {
    /// To be attempted when it is due.
    Pending,
    /// The receiver has confirmed it.
    Delivered,
    /// Given up after the last attempt of the schedule.
    Failed,
    /// Its endpoint was disabled or deleted.
    Canceled,
}

/// What happens to a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Step {
    /// An attempt succeeded.
    Confirmed,
    /// An attempt failed, and another one follows.
    Retried,
    /// An attempt failed, and it was the last one.
    GaveUp,
    /// The endpoint takes no more.
    Stopped,
    /// Its owner wants it sent again.
    Resent,
}

use State as S;
use Step as T;

/// Every legal step: in this state, this leads to that state. An attempt that was under way when its delivery was
/// canceled still counts if it succeeded.
pub const TRANSITIONS: &[(State, Step, State)] = &[
    (S::Pending, T::Confirmed, S::Delivered),
    (S::Pending, T::Retried, S::Pending),
    (S::Pending, T::GaveUp, S::Failed),
    (S::Pending, T::Stopped, S::Canceled),
    (S::Pending, T::Resent, S::Pending),
    (S::Delivered, T::Resent, S::Pending),
    (S::Failed, T::Resent, S::Pending),
    (S::Canceled, T::Resent, S::Pending),
    (S::Canceled, T::Confirmed, S::Delivered),
    (S::Canceled, T::Retried, S::Canceled),
    (S::Canceled, T::GaveUp, S::Canceled),
    (S::Canceled, T::Stopped, S::Canceled),
];

/// The state after the step, or `None` where the table has no such step.
pub fn next(from: State, step: Step) -> Option<State> {
    TRANSITIONS.iter().find(|(state, what, _)| *state == from && *what == step).map(|(_, _, to)| *to)
}

impl State {
    /// Every state.
    pub const ALL: [Self; 4] = [S::Pending, S::Delivered, S::Failed, S::Canceled];

    /// The name in the contract and in stores.
    pub const fn name(self) -> &'static str {
        match self {
            S::Pending => "PENDING",
            S::Delivered => "DELIVERED",
            S::Failed => "FAILED",
            S::Canceled => "CANCELED",
        }
    }
}

/// A delivery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    /// Its id.
    pub id: WebhookDeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it goes.
    pub endpoint: WebhookEndpointId,
    /// What it tells of: the `webhook-id` of each of its attempts, by which receivers know one from another.
    pub event: EventId,
    /// The type of that.
    pub event_type: EventType,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// Where it stands.
    pub state: State,
    /// How many attempts were made.
    pub attempts: u32,
    /// How many of them count for the schedule: it begins anew when a delivery that had ended is sent again.
    pub scheduled: u32,
    /// When it is attempted next; `None` unless it is pending.
    pub due_at: Option<Timestamp>,
}

/// What is known after an attempt was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// When it was begun.
    pub at: Timestamp,
    /// When it was over.
    pub ended_at: Timestamp,
    /// What came of it.
    pub outcome: Outcome,
    /// What the receiver said of when to come back, in seconds.
    pub retry_after_s: Option<u32>,
    /// The beginning of the answer, as [`super::attempt::excerpt`] makes it.
    pub answer: String,
    /// [`Endpoint::revision`] when it was begun.
    pub revision: u32,
    /// Any number, each as likely: spreads the next attempt.
    pub chance: u32,
}

/// What an attempt has changed besides its delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// For the delivery's log.
    pub attempt: Attempt,
    /// What has become of the endpoint.
    pub endpoint: Change,
}

impl Delivery {
    /// A delivery that is due at once.
    pub fn new<S>(
        id: WebhookDeliveryId,
        endpoint: &Endpoint<S>,
        event: EventId,
        event_type: EventType,
        now: Timestamp,
    ) -> Self {
        let tenant = endpoint.tenant.clone();
        let (endpoint, created_at, due_at) = (endpoint.id, now, Some(now));
        let state = State::Pending;
        Self { id, tenant, endpoint, event, event_type, created_at, state, attempts: 0, scheduled: 0, due_at }
    }

    /// Takes note of an attempt, on the delivery and on its endpoint. `disable_after_s`: see [`Endpoint::failed`]. An
    /// endpoint that is deleted meanwhile is `None`.
    ///
    /// Nothing is changed (`None`) where the delivery has ended already, as when another replica's attempt succeeded.
    pub fn settle<S>(
        &mut self,
        endpoint: Option<&mut Endpoint<S>>,
        report: &Report,
        disable_after_s: u32,
    ) -> Option<Settled> {
        let (scheduled, now) = (self.scheduled.saturating_add(1).min(ATTEMPTS_SCHEDULED), report.ended_at);
        let again = next_attempt(scheduled, now, report.chance, report.retry_after_s);
        let verdict = report.outcome.verdict();
        let step = match (verdict, again) {
            (Verdict::Delivered, _) => Step::Confirmed,
            (Verdict::Gone, _) => Step::Stopped,
            (Verdict::Failed, Some(_)) => Step::Retried,
            (Verdict::Failed, None) => Step::GaveUp,
        };
        self.state = next(self.state, step)?;
        self.attempts = self.attempts.saturating_add(1);
        self.scheduled = scheduled;
        self.due_at = again.filter(|_| self.state == State::Pending);
        let change = match (endpoint, verdict) {
            (None, _) => Change::None,
            (Some(endpoint), Verdict::Delivered) => endpoint.succeeded(),
            // Another URL's answer says nothing of this one.
            (Some(endpoint), _) if endpoint.revision != report.revision => Change::None,
            (Some(endpoint), Verdict::Gone) => endpoint.stop(DisabledReason::Gone, now),
            (Some(endpoint), Verdict::Failed) => endpoint.failed(now, step == Step::GaveUp, disable_after_s),
        };
        let took_ms = report.ended_at.nanos_since(report.at) / 1_000_000;
        let attempt = Attempt {
            number: self.attempts,
            at: report.at,
            took_ms: u32::try_from(took_ms.max(0)).unwrap_or(u32::MAX),
            outcome: report.outcome,
            answer: report.answer.clone(),
        };
        Some(Settled { attempt, endpoint: change })
    }

    /// Its endpoint was disabled or deleted. Whether that changes anything.
    pub fn stop(&mut self) -> bool {
        let before = self.state;
        if let Some(state) = next(before, Step::Stopped) {
            self.state = state;
            self.due_at = None;
        }
        self.state != before
    }

    /// Its owner wants it sent again: now, and if that fails once more by the schedule from its beginning. One that is
    /// pending is attempted now and stays where it is in the schedule.
    pub fn resend(&mut self, now: Timestamp) {
        if let Some(state) = next(self.state, Step::Resent) {
            if self.state != State::Pending {
                self.scheduled = 0;
            }
            self.state = state;
            self.due_at = Some(now);
        }
    }
}

#[cfg(test)]
#[path = "delivery_tests.rs"]
mod tests;
