//! The wire form of an RPC's answer to the body of an HTTP response.

use bytes::Bytes;
use prost_reflect::MessageDescriptor;

use super::{
    json::write::Writer,
    raw::{self, RawBody, RawPlace},
    request::PlanError,
    schema::{Kind, MessageId, Schema, Shape, marked},
    wire::{Cursor, WireError},
};

/// How to write one RPC's answer; worked out at start-up.
#[derive(Debug)]
pub struct ResponsePlan {
    output: MessageId,
    /// The only field to show (`response_body`), by index.
    field: Option<usize>,
    /// The answer is no JSON, and is this.
    raw: Option<RawPlace>,
    /// Of a stream: the field with the message's place in it, by number.
    event_id: Option<(u32, Kind)>,
}

impl ResponsePlan {
    /// Works out how an answer of this type is written.
    pub(crate) fn new(
        schema: &mut Schema,
        output: &MessageDescriptor,
        body: &str,
    ) -> Result<Self, PlanError> {
        let output = schema.add(output)?;
        let find =
            |name| schema.message(output).field_index(name).ok_or_else(|| PlanError::Body(name.to_owned()));
        let field = if body.is_empty() { None } else { Some(find(body)?) };
        let raw = match field {
            // What is not shown may hold anything.
            Some(index) => match schema.message(output).fields[index].kind {
                Kind::Message(inner) if schema.holds_raw(inner) => {
                    let only = raw::place(schema, inner, true, None)?;
                    only.map(|_| RawPlace::Field(schema.message(output).fields[index].number))
                }
                _ => None,
            },
            None => raw::place(schema, output, true, None)?,
        };
        let message = schema.message(output);
        let event_id = marked(message, "paymesh.options.v1.event_id").map(|index| {
            let field = &message.fields[index];
            let plain = field.kind == Kind::String || field.kind.range().is_some();
            let plain = plain && field.shape == Shape::Singular;
            if plain { Ok((field.number, field.kind)) } else { Err(PlanError::Marked(field.name.clone())) }
        });
        Ok(Self { output, field, raw, event_id: event_id.transpose()? })
    }

    /// Whether the answer is no JSON.
    pub fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// The body of an answer that is no JSON.
    pub fn raw(&self, message: &Bytes) -> Result<RawBody, WireError> {
        self.raw.ok_or(WireError).and_then(|place| raw::get(place, message))
    }

    /// The place that a message of a stream has in it, as a text of one line.
    pub fn event_id(&self, schema: &Schema, bytes: &[u8]) -> Result<Option<String>, WireError> {
        let Some((wanted, kind)) = self.event_id else { return Ok(None) };
        let (mut cursor, mut found) = (Cursor::new(bytes), None);
        while let Some((number, raw)) = cursor.field()? {
            if number == wanted {
                found = Some(raw);
            }
        }
        let Some(raw) = found else { return Ok(None) };
        let mut writer = Writer::new(schema, 24);
        writer.scalar(kind, raw)?;
        let text = String::from_utf8(writer.out).map_err(|_| WireError)?;
        let text =
            if kind == Kind::String { serde_json::from_str(&text).map_err(|_| WireError)? } else { text };
        // An id with a line break would end its line; one with a NUL is ignored by every reader.
        Ok(Some(text).filter(|text| !text.contains(['\n', '\r', '\0'])))
    }

    /// The answer's message.
    pub(crate) fn output(&self) -> MessageId {
        self.output
    }

    /// The only field shown, by index.
    pub(crate) fn field(&self) -> Option<usize> {
        self.field
    }

    /// The JSON of an answer.
    pub fn decode(&self, schema: &Schema, bytes: &[u8]) -> Result<Bytes, WireError> {
        // Names and punctuation make JSON about three times as long as the wire form.
        let mut writer = Writer::new(schema, bytes.len() * 3 + 256);
        match self.field {
            None => writer.message(self.output, bytes)?,
            Some(index) => writer.field_of(self.output, index, bytes)?,
        }
        Ok(writer.out.into())
    }
}
