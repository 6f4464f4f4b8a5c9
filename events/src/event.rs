//! What an event is. Pure.

use std::{fmt, str::FromStr, sync::Arc};

use bytes::Bytes;
use money::{EventId, TenantId, Timestamp};

/// The longest body, in bytes: brokers hold many of them in memory.
pub const BODY_BYTES_MAX: usize = 1024 * 1024;
/// The longest type, subject or content type, in bytes. RabbitMQ's routing keys may have 255.
pub const NAME_BYTES_MAX: usize = 128;

/// Why something is no event, or no part of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EventError {
    /// An [`EventType`].
    #[error(
        "an event's type must be words of a-z, 0-9 and '_' with dots between, up to {NAME_BYTES_MAX} bytes"
    )]
    Type,
    /// A [`Subject`].
    #[error("an event's subject must have 1 to {NAME_BYTES_MAX} visible ASCII characters")]
    Subject,
    /// A [`ContentType`].
    #[error("an event's content type must have 1 to {NAME_BYTES_MAX} visible ASCII characters")]
    ContentType,
    /// The sequence is 0, or has more than 63 bits.
    #[error("an event's sequence must be from 1 to {}", i64::MAX)]
    Sequence,
    /// The body is longer than [`BODY_BYTES_MAX`].
    #[error("an event's body must not be longer than {BODY_BYTES_MAX} bytes")]
    Body,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $error:expr, $legal:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = EventError;

            fn from_str(text: &str) -> Result<Self, EventError> {
                let legal: fn(&str) -> bool = $legal;
                let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
                if fits && legal(text) { Ok(Self(text.into())) } else { Err($error) }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// What has happened, such as `payment.captured`; also what queues are bound by.
    EventType,
    EventError::Type,
    |text| text.split('.').all(|word| {
        !word.is_empty() && word.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    })
);
name!(
    /// What it has happened to, such as a payment's id. Its events have an order.
    Subject,
    EventError::Subject,
    is_visible
);
name!(
    /// What the body is.
    ContentType,
    EventError::ContentType,
    is_visible
);

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

impl ContentType {
    /// `application/json`.
    pub fn json() -> Self {
        Self("application/json".into())
    }
}

/// Something that has happened, as it is told to others. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Event {
    id: EventId,
    tenant: TenantId,
    subject: Subject,
    sequence: u64,
    kind: EventType,
    time: Timestamp,
    content_type: ContentType,
    body: Bytes,
}

impl Event {
    /// An event whose body is JSON. `sequence` counts the subject's events from 1, without gaps; `time` is when it
    /// happened. The same id is the same event: whoever takes it a second time does nothing.
    ///
    /// # Errors
    /// [`EventError::Sequence`] and [`EventError::Body`].
    pub fn new(
        id: EventId,
        tenant: TenantId,
        (subject, sequence): (Subject, u64),
        kind: EventType,
        time: Timestamp,
        body: Bytes,
    ) -> Result<Self, EventError> {
        if sequence == 0 || i64::try_from(sequence).is_err() {
            return Err(EventError::Sequence);
        }
        if body.len() > BODY_BYTES_MAX {
            return Err(EventError::Body);
        }
        Ok(Self { id, tenant, subject, sequence, kind, time, content_type: ContentType::json(), body })
    }

    /// The same with a body of another type.
    #[must_use]
    pub fn with_content_type(mut self, content_type: ContentType) -> Self {
        self.content_type = content_type;
        self
    }

    /// What it is known by, once and for all.
    pub fn id(&self) -> EventId {
        self.id
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// What it has happened to.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// Its place among the subject's events, from 1.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// What has happened.
    pub fn kind(&self) -> &EventType {
        &self.kind
    }

    /// When.
    pub fn time(&self) -> Timestamp {
        self.time
    }

    /// What the body is.
    pub fn content_type(&self) -> &ContentType {
        &self.content_type
    }

    /// What there is to say of it.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// What its order is kept within.
    pub(crate) fn stream(&self) -> (TenantId, Subject) {
        (self.tenant.clone(), self.subject.clone())
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The body is the tenant's, and no line of a log.
        let (id, kind, tenant) = (&self.id, &self.kind, &self.tenant);
        write!(f, "{kind} {id} ({tenant}, {} {}, {} bytes)", self.subject, self.sequence, self.body.len())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use uuid::Uuid;

    use super::*;

    /// The event `sequence` of `subject`.
    pub(crate) fn event(subject: &str, sequence: u64) -> Event {
        event_of(subject, sequence, "payment.captured")
    }

    pub(crate) fn event_of(subject: &str, sequence: u64, kind: &str) -> Event {
        let id = Uuid::new_v5(&Uuid::NAMESPACE_OID, format!("{subject} {sequence}").as_bytes());
        let stream = (subject.parse().unwrap(), sequence);
        let time = Timestamp::from_seconds(1_800_000_000);
        let tenant = "acme".parse().unwrap();
        Event::new(EventId::new(id), tenant, stream, kind.parse().unwrap(), time, Bytes::from_static(b"{}"))
            .unwrap()
    }

    #[test]
    fn types_are_words_with_dots_between() {
        for right in ["a", "payment.captured", "payment.refund_failed.2"] {
            assert!(right.parse::<EventType>().is_ok(), "{right}");
        }
        for wrong in ["", ".", "a.", ".a", "a..b", "Payment", "a b", "a.*", "a.#", "ä", &"a".repeat(129)] {
            assert_eq!(wrong.parse::<EventType>(), Err(EventError::Type), "{wrong}");
        }
        assert!("a\nb".parse::<Subject>().is_err() && "".parse::<Subject>().is_err());
        assert!("text/plain; a".parse::<ContentType>().is_err());
    }

    #[test]
    fn an_event_has_a_sequence_and_a_bounded_body_and_does_not_show_it() {
        let made = |sequence, body: Bytes| {
            let stream = ("pay_1".parse().unwrap(), sequence);
            let (tenant, kind) = ("acme".parse().unwrap(), "payment.failed".parse().unwrap());
            Event::new(EventId::new(Uuid::nil()), tenant, stream, kind, Timestamp::EPOCH, body)
        };
        assert_eq!(made(0, Bytes::new()).err(), Some(EventError::Sequence));
        assert_eq!(made(u64::MAX, Bytes::new()).err(), Some(EventError::Sequence));
        assert_eq!(made(1, vec![0; BODY_BYTES_MAX + 1].into()).err(), Some(EventError::Body));
        let shown = format!("{:?}", made(1, Bytes::from_static(b"secret")).unwrap());
        assert!(shown.contains("payment.failed evt_0") && !shown.contains("secret"), "{shown}");
    }
}
