//! The field mask of a PATCH (AIP-134): which fields of the resource are meant. One that is given is
//! checked against the resource's message; where none is, the body's own names are it.

use std::borrow::Cow;

use prost::Message as _;
use serde_json::Value;

use super::{
    errors::{did_you_mean, safe_name},
    schema::{Kind, MessageId, Schema, Shape, Special},
};

/// Which field of the request takes the mask, and of what.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MaskPlan {
    /// The field of the mask, by index in the request.
    pub(crate) index: usize,
    pub(crate) number: u32,
    /// The resource, which is the body.
    pub(crate) resource: MessageId,
}

/// A mask on the wire.
pub(crate) fn encoded(paths: Vec<String>) -> Vec<u8> {
    prost_types::FieldMask { paths }.encode_to_vec()
}

/// The paths of a given mask in the proto's spelling, or what is wrong with it.
pub(crate) fn given(
    schema: &Schema,
    resource: MessageId,
    text: &str,
) -> Result<Vec<String>, Cow<'static, str>> {
    if text == "*" {
        return Ok(vec!["*".to_owned()]);
    }
    if text.is_empty() {
        return Err("must name at least one field, or be left out".into());
    }
    text.split(',').map(|path| one(schema, resource, path.trim())).collect()
}

fn one(schema: &Schema, resource: MessageId, path: &str) -> Result<String, Cow<'static, str>> {
    let (mut at, mut resolved) = (Some(resource), String::new());
    for part in path.split('.') {
        let message =
            at.map(|id| schema.message(id)).filter(|message| matches!(message.special, Special::None));
        let Some(message) = message else {
            return Err(format!("`{}` has no fields within it", safe_name(&resolved)).into());
        };
        let Some(index) = message.field_index(part) else {
            let known = message.fields.iter().map(|field| field.name.as_str());
            let guess = did_you_mean(part, known).map(|known| format!("; did you mean `{known}`?"));
            let of = message.descriptor.name();
            let guess = guess.unwrap_or_default();
            return Err(format!("`{}` is not a field of {of}{guess}", safe_name(part)).into());
        };
        let field = &message.fields[index];
        if !resolved.is_empty() {
            resolved.push('.');
        }
        resolved.push_str(&field.name);
        at = match (field.shape, field.kind) {
            (Shape::Singular, Kind::Message(id)) => Some(id),
            _ => None,
        };
    }
    Ok(resolved)
}

/// The mask that a body of known fields stands for: the paths to everything that it says, also to what
/// it says is `null`. A list or a map counts as a whole.
pub(crate) fn derived(schema: &Schema, resource: MessageId, body: &str) -> Vec<String> {
    let mut paths = Vec::new();
    if let Ok(Value::Object(object)) = serde_json::from_str(body) {
        collect(schema, resource, &object, "", &mut paths);
    }
    paths
}

fn collect(
    schema: &Schema,
    id: MessageId,
    object: &serde_json::Map<String, Value>,
    prefix: &str,
    paths: &mut Vec<String>,
) {
    let message = schema.message(id);
    for (name, value) in object {
        let Some(field) = message.field_index(name).map(|index| &message.fields[index]) else { continue };
        let path = format!("{prefix}{}", field.name);
        match (field.shape, field.kind, value) {
            (Shape::Singular, Kind::Message(inner), Value::Object(object))
                if !object.is_empty() && matches!(schema.message(inner).special, Special::None) =>
            {
                collect(schema, inner, object, &format!("{path}."), paths);
            }
            _ => paths.push(path),
        }
    }
}
