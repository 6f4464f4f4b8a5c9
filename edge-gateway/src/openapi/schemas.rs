//! Messages as JSON Schema 2020-12, the dialect of OpenAPI 3.1.
//!
//! A message looks different from the two sides: what is read wants the fields marked `required` and
//! refuses unknown ones; what is written always has its scalars and lists. One that is used on both
//! sides gets two schemas.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::comments::Comments;
use crate::transcode::{Field, Free, Kind, Message, MessageId, Schema, Shape, Special};

/// Whether a message is read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    Input,
    Output,
}

/// Gathers the schemas that are referred to.
pub(super) struct Schemas<'a> {
    schema: &'a Schema,
    comments: &'a Comments,
    /// Messages that are written somewhere.
    outputs: BTreeSet<String>,
    components: BTreeMap<String, Value>,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(schema: &'a Schema, comments: &'a Comments, outputs: &[MessageId]) -> Self {
        let mut reached = BTreeSet::new();
        for id in outputs {
            reach(schema, *id, &mut reached);
        }
        Self { schema, comments, outputs: reached, components: BTreeMap::new() }
    }

    pub(super) fn schema(&self) -> &'a Schema {
        self.schema
    }

    pub(super) fn into_components(self) -> BTreeMap<String, Value> {
        self.components
    }

    /// A reference to a message's schema, or the schema itself where it is no object of fields.
    pub(super) fn message(&mut self, id: MessageId, side: Side) -> Value {
        let message = self.schema.message(id);
        match &message.special {
            Special::None => {}
            Special::Timestamp => return json!({"type": "string", "format": "date-time"}),
            Special::Duration => return json!({"type": "string", "pattern": "^-?[0-9]+(\\.[0-9]{1,9})?s$"}),
            Special::FieldMask => return json!({"type": "string"}),
            Special::Wrapper(kind) => return self.kind(*kind, side),
            Special::Free(Free::Struct, _) => return json!({"type": "object"}),
            Special::Free(Free::ListValue, _) => return json!({"type": "array", "items": {}}),
            // Any JSON, or bytes of any type: no schema says more (OpenAPI 3.1.1, section 4.7.14.1).
            Special::Free(Free::Value, _) | Special::Raw => return json!({}),
        }
        let name = self.name(message, side);
        if !self.components.contains_key(&name) {
            // The place is taken first, so that a message may contain itself.
            self.components.insert(name.clone(), Value::Null);
            let object = self.object(message, side, |_| true);
            self.components.insert(name.clone(), object);
        }
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    fn name(&self, message: &Message, side: Side) -> String {
        let descriptor = &message.descriptor;
        let full = descriptor.full_name();
        // `payments.v1.Payment.Fraud`: short, and still unique.
        let name = full.strip_prefix("paymesh.").unwrap_or(full);
        if side == Side::Input && self.outputs.contains(full) {
            format!("{name}.Input")
        } else {
            name.to_owned()
        }
    }

    /// The schema of an object with those fields that are wanted, by index.
    pub(super) fn object(&mut self, message: &Message, side: Side, wanted: impl Fn(usize) -> bool) -> Value {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (index, field) in message.fields.iter().enumerate().filter(|(index, _)| wanted(*index)) {
            let mut property = self.field(field, side);
            if side == Side::Input && message.required & (1 << index) == 0 {
                or_null(&mut property);
            }
            properties.insert(field.name.clone(), property);
            let always = match side {
                Side::Input => message.required & (1 << index) != 0,
                Side::Output => !field.presence,
            };
            if always {
                required.push(Value::from(field.name.as_str()));
            }
        }
        let mut object = json!({"type": "object", "properties": properties});
        if !required.is_empty() {
            object["required"] = required.into();
        }
        if side == Side::Input {
            object["additionalProperties"] = false.into();
        }
        let descriptor = &message.descriptor;
        if let Some(text) = self.comments.get(&descriptor.parent_file(), descriptor.path()) {
            object["description"] = text.into();
        }
        object
    }

    /// The schema of a field, with its description and example.
    pub(super) fn field(&mut self, field: &Field, side: Side) -> Value {
        let element = self.kind(field.kind, side);
        let mut schema = match field.shape {
            Shape::Singular => element,
            Shape::Repeated => json!({"type": "array", "items": element}),
            Shape::Map(_) => json!({"type": "object", "additionalProperties": element}),
        };
        if let Some(text) = self.comments.get(&field.descriptor.parent_file(), field.descriptor.path()) {
            schema["description"] = text.into();
        }
        if let Some(example) = example_of_field(field) {
            schema["examples"] = json!([example]);
        }
        if side == Side::Input
            && crate::transcode::option_is_set(&field.descriptor, "paymesh.options.v1.sensitive")
        {
            schema["writeOnly"] = true.into();
        }
        schema
    }

    fn kind(&mut self, kind: Kind, side: Side) -> Value {
        match kind {
            Kind::Double | Kind::Float => json!({"type": "number"}),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => json!({"type": "integer", "format": "int32"}),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => json!({"type": "integer", "format": "int64"}),
            Kind::Uint32 | Kind::Fixed32 => json!({"type": "integer", "minimum": 0, "maximum": u32::MAX}),
            Kind::Uint64 | Kind::Fixed64 => json!({"type": "integer", "minimum": 0, "maximum": u64::MAX}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::String => json!({"type": "string"}),
            Kind::Bytes => json!({"type": "string", "contentEncoding": "base64"}),
            Kind::Enum(id) => {
                let enumeration = self.schema.enumeration(id);
                let mut names: Vec<&str> = enumeration.choices().collect();
                if side == Side::Output {
                    names.extend(enumeration.name(0));
                }
                let mut schema = json!({"type": "string", "enum": names});
                if side == Side::Input {
                    // Its number does as well (ProtoJSON); that of an unknown value is for the service to refuse.
                    schema = json!({"anyOf": [schema, {"type": "integer", "format": "int32"}]});
                }
                if let Some(text) = self.enum_text(id, side) {
                    schema["description"] = text.into();
                }
                schema
            }
            Kind::Message(id) => self.message(id, side),
        }
    }

    /// What the values of an enum mean, where the proto says it.
    fn enum_text(&self, id: crate::transcode::EnumId, side: Side) -> Option<String> {
        let descriptor = &self.schema.enumeration(id).descriptor;
        let file = descriptor.parent_file();
        let lines: Vec<String> = descriptor
            .values()
            .filter(|value| side == Side::Output || value.number() != 0)
            .filter_map(|value| {
                Some(format!("- `{}`: {}", value.name(), self.comments.get(&file, value.path())?))
            })
            .collect();
        (!lines.is_empty()).then(|| lines.join("\n"))
    }

    /// An object made of the examples of the fields that are wanted; nothing if none has one.
    pub(super) fn example(
        &self,
        message: &Message,
        depth: usize,
        wanted: &dyn Fn(usize) -> bool,
    ) -> Option<Value> {
        let mut object = Map::new();
        for (index, field) in message.fields.iter().enumerate().filter(|(index, _)| wanted(*index)) {
            let needed = message.required & (1 << index) != 0;
            let value = match (example_of_field(field), field.kind) {
                (Some(example), _) => Some(example),
                (None, Kind::Message(id)) if needed && depth < 4 => {
                    self.example(self.schema.message(id), depth + 1, &|_| true)
                }
                _ => None,
            };
            let value =
                value.map(|value| if field.shape == Shape::Repeated { json!([value]) } else { value });
            object.extend(value.map(|value| (field.name.clone(), value)));
        }
        (!object.is_empty()).then_some(Value::Object(object))
    }
}

/// The example that the proto gives, as the JSON type of the field.
pub(super) fn example_of_field(field: &Field) -> Option<Value> {
    let pool = field.descriptor.parent_file().parent_pool().clone();
    let extension = pool.get_extension_by_name("paymesh.options.v1.example")?;
    let options = field.descriptor.options();
    let value = options.get_extension(&extension);
    let text = value.as_str().filter(|text| !text.is_empty())?;
    let typed = if field.kind.range().is_some() || field.kind == Kind::Bool {
        serde_json::from_str(text).ok()?
    } else {
        Value::from(text)
    };
    Some(typed)
}

fn reach(schema: &Schema, id: MessageId, reached: &mut BTreeSet<String>) {
    let message = schema.message(id);
    if reached.insert(message.descriptor.full_name().to_owned()) {
        for field in &message.fields {
            if let Kind::Message(id) = field.kind {
                reach(schema, id, reached);
            }
        }
    }
}

/// A field that may be left out may also be `null`, which is the same (ProtoJSON).
fn or_null(schema: &mut Value) {
    let Some(members) = schema.as_object_mut() else { return };
    if let Some(reference) = members.remove("$ref") {
        members.insert("anyOf".to_owned(), json!([{"$ref": reference}, {"type": "null"}]));
        return;
    }
    if let Some(Value::Array(forms)) = members.get_mut("anyOf") {
        forms.push(json!({"type": "null"}));
        return;
    }
    if let Some(kind @ Value::String(_)) = members.get_mut("type") {
        *kind = json!([kind.take(), "null"]);
    }
}
