//! `google.api.HttpBody` (google/api/httpbody.proto): a body of any type, byte for byte. Its extensions
//! are neither read nor written.

use bytes::Bytes;

use super::{
    request::PlanError,
    schema::{Kind, Message, MessageId, Schema, Shape, Special},
    wire::{self, Cursor, Raw, WireError},
};

const CONTENT_TYPE: u32 = 1;
const DATA: u32 = 2;

/// Where in a message the raw body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RawPlace {
    /// The message itself is it.
    Whole,
    /// The field with this number.
    Field(u32),
}

/// A body as it goes over HTTP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBody {
    /// The value of Content-Type; empty where the service said none.
    pub content_type: String,
    /// The bytes.
    pub data: Bytes,
}

/// The place of the raw body where `whole`, or the body field, is one; an error where there is one
/// that no body would carry.
pub(crate) fn place(
    schema: &Schema,
    id: MessageId,
    whole: bool,
    body: Option<usize>,
) -> Result<Option<RawPlace>, PlanError> {
    let message = schema.message(id);
    if matches!(message.special, Special::Raw) {
        let misplaced = || PlanError::RawBody(message.descriptor.full_name().to_owned());
        return if whole { Ok(Some(RawPlace::Whole)) } else { Err(misplaced()) };
    }
    let mut place = None;
    for (index, field) in message.fields.iter().enumerate() {
        let Kind::Message(inner) = field.kind else { continue };
        if Some(index) == body && is_raw(schema.message(inner)) && field.shape == Shape::Singular {
            place = Some(RawPlace::Field(field.number));
        } else if schema.holds_raw(inner) {
            return Err(PlanError::RawBody(field.name.clone()));
        }
    }
    Ok(place)
}

fn is_raw(message: &Message) -> bool {
    matches!(message.special, Special::Raw)
}

/// Appends the body to the request message.
pub(crate) fn put(out: &mut Vec<u8>, place: RawPlace, content_type: &str, data: &[u8]) {
    let open = match place {
        RawPlace::Whole => None,
        RawPlace::Field(number) => Some(wire::open(out, number)),
    };
    if !content_type.is_empty() {
        wire::put_bytes(out, CONTENT_TYPE, content_type.as_bytes());
    }
    if !data.is_empty() {
        wire::put_bytes(out, DATA, data);
    }
    if let Some(open) = open {
        wire::close(out, open);
    }
}

/// The body that an answer carries. Its bytes are not copied.
pub(crate) fn get(place: RawPlace, message: &Bytes) -> Result<RawBody, WireError> {
    let mut body = RawBody { content_type: String::new(), data: Bytes::new() };
    match place {
        RawPlace::Whole => merge(&mut body, message, message)?,
        RawPlace::Field(wanted) => {
            let mut cursor = Cursor::new(message);
            while let Some((number, raw)) = cursor.field()? {
                match raw {
                    Raw::Length(inner) if number == wanted => merge(&mut body, message, inner)?,
                    _ if number == wanted => return Err(WireError),
                    _ => {}
                }
            }
        }
    }
    Ok(body)
}

fn merge(body: &mut RawBody, whole: &Bytes, bytes: &[u8]) -> Result<(), WireError> {
    let mut cursor = Cursor::new(bytes);
    while let Some((number, raw)) = cursor.field()? {
        match (number, raw) {
            (CONTENT_TYPE, Raw::Length(text)) => {
                std::str::from_utf8(text).map_err(|_| WireError)?.clone_into(&mut body.content_type);
            }
            (DATA, Raw::Length(data)) => body.data = whole.slice_ref(data),
            (CONTENT_TYPE | DATA, _) => return Err(WireError),
            _ => {}
        }
    }
    Ok(())
}
