//! Where a tenant wants webhooks sent.

use money::{TenantId, Timestamp, WebhookEndpointId};
use serde::{Deserialize, Serialize};

use super::{
    event::{EventFilter, EventType},
    secrets::Secrets,
    url::EndpointUrl,
};

/// Why nothing is sent to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DisabledReason {
    /// Its owner wants it so.
    Owner,
    /// It answered 410 Gone.
    Gone,
    /// Nothing was delivered for too long.
    Failing,
}

impl DisabledReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Gone, Self::Failing];

    /// The name in the contract, in stores and in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "OWNER",
            Self::Gone => "GONE",
            Self::Failing => "FAILING",
        }
    }
}

/// Since when nothing is sent to an endpoint, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disabled {
    /// Why.
    pub reason: DisabledReason,
    /// Since when.
    pub at: Timestamp,
}

/// An endpoint. `S` is the form in which its secrets are at hand; stores have them sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint<S> {
    /// Its id.
    pub id: WebhookEndpointId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where it is.
    pub url: EndpointUrl,
    /// Which events it wants.
    pub filter: EventFilter,
    /// What its owner says it is for.
    pub description: String,
    /// What its webhooks are signed with.
    pub secrets: Secrets<S>,
    /// Set while nothing is sent there.
    pub disabled: Option<Disabled>,
    /// Since when every attempt has failed.
    pub failing_since: Option<Timestamp>,
    /// Since when it is there.
    pub created_at: Timestamp,
    /// How often its owner has changed it: an answer to an attempt from before a change decides nothing.
    pub revision: u32,
}

/// What has become of an endpoint by an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// It began to fail, or has succeeded again.
    Health,
    /// It was disabled: its pending deliveries are to be canceled.
    Disabled(DisabledReason),
}

/// What an owner changes; `None` leaves it as it is.
#[derive(Debug, Clone, Default)]
pub struct Update {
    /// Where it is.
    pub url: Option<EndpointUrl>,
    /// Which events it wants.
    pub filter: Option<EventFilter>,
    /// What it is for.
    pub description: Option<String>,
    /// Whether anything is sent there.
    pub enabled: Option<bool>,
}

/// The longest description, in bytes.
pub const DESCRIPTION_BYTES_MAX: usize = 256;

/// Why an endpoint is not made or changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    /// The tenant has as many as it may.
    #[error("has as many endpoints as it may: delete one first")]
    TooMany,
    /// Too long, or with control characters.
    #[error("must be at most {DESCRIPTION_BYTES_MAX} bytes without control characters")]
    Description,
}

/// Whether a tenant that has so many endpoints, disabled ones among them, may have another one.
pub const fn may_add(endpoints: u32, most: u32) -> Result<(), EndpointError> {
    if endpoints < most { Ok(()) } else { Err(EndpointError::TooMany) }
}

fn check_description(text: &str) -> Result<(), EndpointError> {
    let legal = text.len() <= DESCRIPTION_BYTES_MAX && !text.chars().any(char::is_control);
    if legal { Ok(()) } else { Err(EndpointError::Description) }
}

impl<S> Endpoint<S> {
    /// A new endpoint, which is enabled. Its URL has been checked ([`super::url::CallPolicy::check_url`]).
    pub fn new(
        id: WebhookEndpointId,
        tenant: TenantId,
        url: EndpointUrl,
        filter: EventFilter,
        description: String,
        secret: S,
        now: Timestamp,
    ) -> Result<Self, EndpointError> {
        check_description(&description)?;
        let secrets = Secrets::new(secret, now);
        let (disabled, failing_since) = (None, None);
        let (created_at, revision) = (now, 0);
        Ok(Self {
            id,
            tenant,
            url,
            filter,
            description,
            secrets,
            disabled,
            failing_since,
            created_at,
            revision,
        })
    }

    /// Whether an event of this type is to be delivered here.
    pub fn wants(&self, kind: &EventType) -> bool {
        self.disabled.is_none() && self.filter.matches(kind)
    }

    /// Changes it as its owner wants. If that disables it, its pending deliveries are to be canceled
    /// ([`Change::Disabled`]).
    pub fn update(&mut self, update: Update, now: Timestamp) -> Result<Change, EndpointError> {
        if let Some(description) = &update.description {
            check_description(description)?;
        }
        self.revision = self.revision.saturating_add(1);
        if let Some(url) = update.url {
            self.url = url;
            // What failed was the other one.
            self.failing_since = None;
        }
        self.filter = update.filter.unwrap_or_else(|| self.filter.clone());
        self.description = update.description.unwrap_or_else(|| self.description.clone());
        match update.enabled {
            Some(true) => {
                self.disabled = None;
                // It is given its time anew.
                self.failing_since = None;
                Ok(Change::Health)
            }
            Some(false) => Ok(self.stop(DisabledReason::Owner, now)),
            None => Ok(Change::Health),
        }
    }

    /// Sends nothing there any more. One that is disabled already stays so for the reason that it was.
    pub fn stop(&mut self, reason: DisabledReason, now: Timestamp) -> Change {
        if self.disabled.is_some() {
            return Change::None;
        }
        self.disabled = Some(Disabled { reason, at: now });
        Change::Disabled(reason)
    }

    /// An attempt has succeeded.
    pub fn succeeded(&mut self) -> Change {
        if self.failing_since.take().is_some() { Change::Health } else { Change::None }
    }

    /// An attempt has failed. When a delivery `gave_up`, and none has succeeded for `disable_after_s` seconds since the
    /// first failure, the endpoint is disabled: one delivery that a receiver cannot stomach is not enough, nor is a
    /// bad weekend.
    pub fn failed(&mut self, now: Timestamp, gave_up: bool, disable_after_s: u32) -> Change {
        let Some(since) = self.failing_since else {
            self.failing_since = Some(now);
            return Change::Health;
        };
        let too_long = now.nanos_since(since) >= i64::from(disable_after_s).saturating_mul(1_000_000_000);
        if gave_up && too_long { self.stop(DisabledReason::Failing, now) } else { Change::None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_S: i64 = 86_400;

    pub(crate) fn endpoint() -> Endpoint<()> {
        Endpoint::new(
            WebhookEndpointId::new(uuid::Uuid::from_u128(1)),
            "acme".parse().unwrap(),
            EndpointUrl::parse("https://example.com/hook").unwrap(),
            EventFilter::new(vec!["payment.*".into()]).unwrap(),
            String::new(),
            (),
            Timestamp::EPOCH,
        )
        .unwrap()
    }

    fn day(day: i64) -> Timestamp {
        Timestamp::from_seconds(day * DAY_S)
    }

    #[test]
    fn only_what_fails_all_the_time_for_days_is_disabled() {
        let limit = 5 * 86_400;
        let mut endpoint = endpoint();
        assert_eq!(endpoint.failed(day(0), true, limit), Change::Health);
        assert_eq!(endpoint.failed(day(4), true, limit), Change::None, "not for long enough");
        assert_eq!(endpoint.failed(day(6), false, limit), Change::None, "nothing was given up");
        assert_eq!(endpoint.succeeded(), Change::Health);
        assert_eq!(endpoint.succeeded(), Change::None);
        assert_eq!(endpoint.failed(day(7), true, limit), Change::Health, "it begins anew");
        assert_eq!(endpoint.failed(day(11), true, limit), Change::None);
        assert_eq!(endpoint.failed(day(12), true, limit), Change::Disabled(DisabledReason::Failing));
        assert_eq!(endpoint.disabled, Some(Disabled { reason: DisabledReason::Failing, at: day(12) }));
        assert_eq!(endpoint.failed(day(13), true, limit), Change::None, "once");
        assert!(!endpoint.wants(&"payment.captured".parse().unwrap()));
    }

    #[test]
    fn its_owner_disables_and_enables_it() {
        let captured = "payment.captured".parse().unwrap();
        let mut endpoint = endpoint();
        assert!(endpoint.wants(&captured) && !endpoint.wants(&"refund.failed".parse().unwrap()));
        let off = Update { enabled: Some(false), ..Update::default() };
        let on = Update { enabled: Some(true), ..Update::default() };
        assert_eq!(endpoint.update(off.clone(), day(1)), Ok(Change::Disabled(DisabledReason::Owner)));
        assert_eq!(endpoint.update(off, day(2)), Ok(Change::None));
        assert_eq!(endpoint.disabled.map(|disabled| disabled.at), Some(day(1)));
        endpoint.failing_since = Some(day(1));
        assert_eq!(endpoint.update(on, day(3)), Ok(Change::Health));
        assert!(endpoint.wants(&captured) && endpoint.failing_since.is_none());
        assert_eq!(endpoint.revision, 3);
    }

    #[test]
    fn what_is_not_said_stays() {
        let mut changed = endpoint();
        let url = EndpointUrl::parse("https://example.org/").unwrap();
        changed.update(Update { url: Some(url.clone()), ..Update::default() }, day(1)).unwrap();
        assert_eq!(changed, Endpoint { url, revision: 1, ..endpoint() });
        let long = Update { description: Some("x".repeat(257)), ..Update::default() };
        assert_eq!(changed.update(long, day(1)), Err(EndpointError::Description));
        assert_eq!(changed.revision, 1, "a refusal changes nothing");
    }

    #[test]
    fn a_tenant_has_only_so_many() {
        assert_eq!(may_add(15, 16), Ok(()));
        assert_eq!(may_add(16, 16), Err(EndpointError::TooMany));
    }
}
