//! The wire form of an RPC's answer to the body of an HTTP response.

use bytes::Bytes;
use prost_reflect::MessageDescriptor;

use super::{
    json::write::Writer,
    request::PlanError,
    schema::{MessageId, Schema},
    wire::WireError,
};

/// How to write one RPC's answer; worked out at start-up.
#[derive(Debug)]
pub struct ResponsePlan {
    output: MessageId,
    /// The only field to show (`response_body`), by index.
    field: Option<usize>,
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
        Ok(Self { output, field })
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
