//! An answer as it might look: the examples of the proto where it gives them, else a plain value of the
//! right kind.

use serde_json::{Map, Value, json};

use super::schemas::{Schemas, example_of_field};
use crate::transcode::{Field, Free, Kind, MessageId, Shape, Special};

/// Messages within messages are shown down to here.
const DEPTH_MAX: usize = 3;

impl Schemas<'_> {
    /// A message as it is written, or one field of it.
    pub(super) fn sample(&self, id: MessageId, field: Option<usize>) -> Value {
        match field {
            None => self.sample_message(id, 0),
            Some(index) => self.sample_field(&self.schema().message(id).fields[index], 0),
        }
    }

    fn sample_message(&self, id: MessageId, depth: usize) -> Value {
        let message = self.schema().message(id);
        match &message.special {
            Special::None => {}
            Special::Timestamp => return json!("2026-01-31T12:00:00Z"),
            Special::Duration => return json!("1.500s"),
            Special::FieldMask => return json!("reference,amount"),
            Special::Wrapper(kind) => return self.sample_kind(*kind, depth),
            Special::Free(Free::Struct, _) => return json!({}),
            Special::Free(Free::Value, _) => return Value::Null,
            Special::Free(Free::ListValue, _) => return json!([]),
            Special::Raw => return json!("any bytes"),
        }
        let (mut object, mut oneofs) = (Map::new(), Vec::new());
        for field in &message.fields {
            let is_message = matches!(field.kind, Kind::Message(_)) && field.shape == Shape::Singular;
            // What may be absent is so where it would go on and on, and of a oneof one member is there.
            let absent = (is_message && depth >= DEPTH_MAX)
                || field.oneof.is_some_and(|oneof| oneofs.contains(&oneof))
                || (field.presence && !is_message && field.oneof.is_none());
            if absent {
                continue;
            }
            oneofs.extend(field.oneof);
            object.insert(field.name.clone(), self.sample_field(field, depth));
        }
        Value::Object(object)
    }

    fn sample_field(&self, field: &Field, depth: usize) -> Value {
        let one = |depth| example_of_field(field).unwrap_or_else(|| self.sample_kind(field.kind, depth));
        match field.shape {
            Shape::Singular => one(depth),
            Shape::Repeated if depth < DEPTH_MAX => json!([one(depth + 1)]),
            Shape::Repeated => json!([]),
            Shape::Map(_) => json!({}),
        }
    }

    fn sample_kind(&self, kind: Kind, depth: usize) -> Value {
        match kind {
            Kind::Double | Kind::Float => json!(0.0),
            Kind::Bool => json!(false),
            Kind::String | Kind::Bytes => json!(""),
            Kind::Enum(id) => {
                let enumeration = self.schema().enumeration(id);
                enumeration.choices().next().or_else(|| enumeration.name(0)).map_or(Value::Null, Value::from)
            }
            Kind::Message(id) => self.sample_message(id, depth + 1),
            _ => json!(0),
        }
    }
}
