//! An event as a message of AMQP 0-9-1, and back. Pure.
//!
//! | The event's | is the message's |
//! |---|---|
//! | id | message id |
//! | type | routing key, and type |
//! | tenant, subject, sequence | headers `paymesh-tenant`, `paymesh-subject`, `paymesh-sequence` |
//! | time | header `paymesh-time`, nanoseconds since the epoch; also the timestamp, in seconds |
//! | content type, body | content type, body |

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable, ShortString},
};
use money::Timestamp;

use crate::event::{Event, EventError};

const TENANT: &str = "paymesh-tenant";
const SUBJECT: &str = "paymesh-subject";
const SEQUENCE: &str = "paymesh-sequence";
const TIME: &str = "paymesh-time";
/// Kept on disk.
const PERSISTENT: u8 = 2;

/// A message is none of ours, or was damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A part is missing, or is not what it should be.
    #[error("the message has no {0}, or one of another form")]
    Part(&'static str),
    /// The parts make no event.
    #[error(transparent)]
    Event(#[from] EventError),
}

pub(super) fn properties(event: &Event) -> BasicProperties {
    let mut headers = FieldTable::default();
    let text = |text: &str| AMQPValue::LongString(text.into());
    headers.insert(TENANT.into(), text(event.tenant().as_str()));
    headers.insert(SUBJECT.into(), text(event.subject().as_str()));
    // An event has no larger one.
    let sequence = i64::try_from(event.sequence()).unwrap_or(i64::MAX);
    headers.insert(SEQUENCE.into(), AMQPValue::LongLongInt(sequence));
    headers.insert(TIME.into(), AMQPValue::LongLongInt(event.time().as_nanos()));
    BasicProperties::default()
        .with_message_id(event.id().to_string().into())
        .with_type(event.kind().as_str().into())
        .with_content_type(event.content_type().as_str().into())
        .with_timestamp(event.time().as_seconds().try_into().unwrap_or_default())
        .with_app_id("paymesh".into())
        .with_delivery_mode(PERSISTENT)
        .with_headers(headers)
}

/// The event that a consumer was delivered.
///
/// # Errors
/// [`WireError`]: it is no event of ours.
pub fn event_of(delivery: &Delivery) -> Result<Event, WireError> {
    read(&delivery.properties, delivery.data.clone())
}

fn read(properties: &BasicProperties, body: Vec<u8>) -> Result<Event, WireError> {
    let headers = properties.headers().as_ref().ok_or(WireError::Part("headers"))?;
    let text = |name: &'static str| match headers.inner().get(name) {
        Some(AMQPValue::LongString(text)) => {
            std::str::from_utf8(text.as_bytes()).map_err(|_| WireError::Part(name))
        }
        _ => Err(WireError::Part(name)),
    };
    let number = |name: &'static str| match headers.inner().get(name) {
        Some(AMQPValue::LongLongInt(number)) => Ok(*number),
        _ => Err(WireError::Part(name)),
    };
    let short =
        |part: &Option<ShortString>| part.as_ref().map(|text| text.as_str().to_owned()).unwrap_or_default();
    let event = Event::new(
        short(properties.message_id()).parse().map_err(|_| WireError::Part("message id"))?,
        text(TENANT)?.parse().map_err(|_| WireError::Part(TENANT))?,
        (text(SUBJECT)?.parse()?, number(SEQUENCE)?.try_into().map_err(|_| WireError::Part(SEQUENCE))?),
        short(properties.kind()).parse()?,
        Timestamp::from_nanos(number(TIME)?),
        body.into(),
    )?;
    Ok(event.with_content_type(short(properties.content_type()).parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::tests::event;

    #[test]
    fn an_event_reads_back_as_itself() {
        let event = event("pay_1", 3).with_content_type("text/plain".parse().unwrap());
        let properties = properties(&event);
        assert_eq!(properties.delivery_mode(), &Some(PERSISTENT));
        assert_eq!(read(&properties, event.body().to_vec()), Ok(event));
    }

    #[test]
    fn what_is_no_event_is_told_by_its_part() {
        let whole = properties(&event("pay_1", 3));
        let with = |name: &str, value| {
            let mut headers = whole.headers().clone().unwrap();
            headers.insert(name.into(), value);
            whole.clone().with_headers(headers)
        };
        let cases = [
            (BasicProperties::default(), WireError::Part("headers")),
            (whole.clone().with_message_id("pay_1".into()), WireError::Part("message id")),
            (with(TENANT, AMQPValue::LongString("A B".into())), WireError::Part(TENANT)),
            (with(SEQUENCE, AMQPValue::LongString("3".into())), WireError::Part(SEQUENCE)),
            (with(SEQUENCE, AMQPValue::LongLongInt(-3)), WireError::Part(SEQUENCE)),
            (with(SEQUENCE, AMQPValue::LongLongInt(0)), WireError::Event(EventError::Sequence)),
            (whole.clone().with_type("Payment".into()), WireError::Event(EventError::Type)),
        ];
        for (properties, error) in cases {
            assert_eq!(read(&properties, Vec::new()), Err(error));
        }
    }
}
