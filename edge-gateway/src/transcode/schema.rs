//! Message descriptors compiled into what transcoding needs per field, once at start-up: names in
//! both spellings, wire kinds, presence, enum names, and the options of `paymesh.options.v1`.
//!
//! Knows neither routes nor HTTP.

use std::collections::HashMap;

use prost_reflect::{EnumDescriptor, FieldDescriptor, MessageDescriptor};

use super::wire::WireType;

/// More fields than this in one message are refused at start-up: the set of fields already seen is
/// one machine word pair.
const FIELDS_MAX: usize = 128;

/// All messages that can be reached from the annotated RPCs.
#[derive(Debug, Default)]
pub struct Schema {
    messages: Vec<Message>,
    enums: Vec<Enum>,
    message_ids: HashMap<String, MessageId>,
    enum_ids: HashMap<String, EnumId>,
}

/// A message of a [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId(usize);

/// An enum of a [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EnumId(usize);

/// What a field's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Double,
    Float,
    Int32,
    Int64,
    Uint32,
    Uint64,
    Sint32,
    Sint64,
    Fixed32,
    Fixed64,
    Sfixed32,
    Sfixed64,
    Bool,
    String,
    Bytes,
    Enum(EnumId),
    Message(MessageId),
}

impl Kind {
    pub(crate) fn wire_type(self) -> WireType {
        match self {
            Self::Double | Self::Fixed64 | Self::Sfixed64 => WireType::Fixed64,
            Self::Float | Self::Fixed32 | Self::Sfixed32 => WireType::Fixed32,
            Self::String | Self::Bytes | Self::Message(_) => WireType::Length,
            _ => WireType::Varint,
        }
    }

    /// The smallest and the largest integer, for kinds that are integers.
    pub(crate) fn range(self) -> Option<(i128, i128)> {
        match self {
            Self::Int32 | Self::Sint32 | Self::Sfixed32 => Some((i32::MIN.into(), i32::MAX.into())),
            Self::Int64 | Self::Sint64 | Self::Sfixed64 => Some((i64::MIN.into(), i64::MAX.into())),
            Self::Uint32 | Self::Fixed32 => Some((0, u32::MAX.into())),
            Self::Uint64 | Self::Fixed64 => Some((0, u64::MAX.into())),
            _ => None,
        }
    }
}

/// How often a field may occur.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    Singular,
    Repeated,
    /// A map with keys of this kind; the field's kind is that of the values.
    Map(Kind),
}

/// Messages whose JSON is not an object of their fields (protobuf.dev, "ProtoJSON format").
#[derive(Debug, Clone)]
pub(crate) enum Special {
    None,
    Timestamp,
    Duration,
    FieldMask,
    /// `google.protobuf.Int64Value` and its like: the bare value of field 1.
    Wrapper(Kind),
    /// `Struct`, `Value` and `ListValue`: any JSON.
    Free(Free, MessageDescriptor),
    /// `google.api.HttpBody`: bytes that are no JSON; only as a whole body.
    Raw,
}

/// Which JSON a free-form message takes (google/protobuf/struct.proto).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Free {
    Struct,
    Value,
    ListValue,
}

/// A field, ready for use.
#[derive(Debug)]
pub(crate) struct Field {
    pub(crate) name: String,
    /// `"name":`, as it is written.
    pub(crate) key: String,
    pub(crate) number: u32,
    pub(crate) kind: Kind,
    pub(crate) shape: Shape,
    /// Whether "not given" differs from the default value.
    pub(crate) presence: bool,
    /// The oneof that it is a member of, by index in the message.
    pub(crate) oneof: Option<usize>,
    pub(crate) required: bool,
    pub(crate) descriptor: FieldDescriptor,
}

/// A message, ready for use.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) fields: Vec<Field>,
    pub(crate) special: Special,
    by_name: HashMap<String, usize>,
    by_number: Vec<(u32, usize)>,
    pub(crate) required: u128,
    pub(crate) descriptor: MessageDescriptor,
}

impl Message {
    /// The index of the field of this name, in snake_case or lowerCamelCase.
    pub(crate) fn field_index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The index of the field of this number.
    pub(crate) fn number_index(&self, number: u32) -> Option<usize> {
        let at = self.by_number.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(self.by_number[at].1)
    }
}

/// An enum, ready for use.
#[derive(Debug)]
pub(crate) struct Enum {
    by_name: HashMap<String, i32>,
    /// Sorted by number; the first name of each.
    names: Vec<(i32, String)>,
    /// `google.protobuf.NullValue`, which is `null` in JSON.
    pub(crate) null: bool,
    pub(crate) descriptor: EnumDescriptor,
}

impl Enum {
    pub(crate) fn number(&self, name: &str) -> Option<i32> {
        self.by_name.get(name).copied()
    }

    pub(crate) fn name(&self, number: i32) -> Option<&str> {
        let at = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        Some(&self.names[at].1)
    }

    /// The names that a caller may choose from, in order of their numbers: without the zero value,
    /// which says "not given" (AIP-126).
    pub(crate) fn choices(&self) -> impl Iterator<Item = &str> {
        self.names.iter().filter(|(number, _)| *number != 0).map(|(_, name)| name.as_str())
    }
}

/// Why a message cannot be transcoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// One of the limits of this implementation.
    #[error("message {0} has more than {FIELDS_MAX} fields")]
    TooManyFields(String),
    /// proto2 groups have no JSON.
    #[error("field {0} is a group")]
    Group(String),
    /// The caller would choose the type, and so what the service decodes.
    #[error("message {0} holds a google.protobuf.Any, which has no JSON here")]
    Any(String),
}

impl Schema {
    /// An empty schema.
    pub fn new() -> Self {
        Self::default()
    }

    pub(crate) fn message(&self, id: MessageId) -> &Message {
        &self.messages[id.0]
    }

    /// Whether a message is a body of raw bytes, or holds one at any depth.
    pub(crate) fn holds_raw(&self, id: MessageId) -> bool {
        let (mut known, mut next) = (vec![id], 0);
        while let Some(message) = known.get(next).map(|id| self.message(*id)) {
            if matches!(message.special, Special::Raw) {
                return true;
            }
            for field in &message.fields {
                match field.kind {
                    Kind::Message(inner) if !known.contains(&inner) => known.push(inner),
                    _ => {}
                }
            }
            next += 1;
        }
        false
    }

    pub(crate) fn enumeration(&self, id: EnumId) -> &Enum {
        &self.enums[id.0]
    }

    /// Compiles a message and all that it reaches.
    pub fn add(&mut self, descriptor: &MessageDescriptor) -> Result<MessageId, SchemaError> {
        if let Some(id) = self.message_ids.get(descriptor.full_name()) {
            return Ok(*id);
        }
        let id = MessageId(self.messages.len());
        self.message_ids.insert(descriptor.full_name().to_owned(), id);
        // The place is taken first, so that a message may contain itself.
        self.messages.push(Message {
            fields: Vec::new(),
            special: Special::None,
            by_name: HashMap::new(),
            by_number: Vec::new(),
            required: 0,
            descriptor: descriptor.clone(),
        });
        if descriptor.fields().len() > FIELDS_MAX {
            return Err(SchemaError::TooManyFields(descriptor.full_name().to_owned()));
        }
        let special = self.special(descriptor)?;
        if matches!(special, Special::Free(..) | Special::Raw) {
            self.messages[id.0].special = special;
            return Ok(id);
        }
        let mut fields = Vec::new();
        for field in descriptor.fields() {
            fields.push(self.field(&field)?);
        }
        let message = &mut self.messages[id.0];
        for (index, field) in fields.iter().enumerate() {
            message.by_name.insert(field.name.clone(), index);
            message.by_name.insert(field.descriptor.json_name().to_owned(), index);
            message.by_number.push((field.number, index));
            if field.required {
                message.required |= 1 << index;
            }
        }
        message.by_number.sort_unstable();
        message.special = special;
        message.fields = fields;
        Ok(id)
    }

    fn special(&mut self, descriptor: &MessageDescriptor) -> Result<Special, SchemaError> {
        Ok(match descriptor.full_name() {
            "google.protobuf.Timestamp" => Special::Timestamp,
            "google.protobuf.Duration" => Special::Duration,
            "google.protobuf.FieldMask" => Special::FieldMask,
            "google.protobuf.Struct" => Special::Free(Free::Struct, descriptor.clone()),
            "google.protobuf.Value" => Special::Free(Free::Value, descriptor.clone()),
            "google.protobuf.ListValue" => Special::Free(Free::ListValue, descriptor.clone()),
            "google.protobuf.Any" => return Err(SchemaError::Any(descriptor.full_name().to_owned())),
            "google.api.HttpBody" => Special::Raw,
            "google.protobuf.DoubleValue"
            | "google.protobuf.FloatValue"
            | "google.protobuf.Int64Value"
            | "google.protobuf.UInt64Value"
            | "google.protobuf.Int32Value"
            | "google.protobuf.UInt32Value"
            | "google.protobuf.BoolValue"
            | "google.protobuf.StringValue"
            | "google.protobuf.BytesValue" => match descriptor.get_field(1) {
                Some(value) => Special::Wrapper(self.kind(&value)?),
                None => Special::None,
            },
            _ => Special::None,
        })
    }

    fn field(&mut self, descriptor: &FieldDescriptor) -> Result<Field, SchemaError> {
        if descriptor.is_group() {
            return Err(SchemaError::Group(descriptor.full_name().to_owned()));
        }
        let kind = descriptor.kind();
        if kind.as_message().is_some_and(|message| message.full_name() == "google.protobuf.Any") {
            return Err(SchemaError::Any(descriptor.parent_message().full_name().to_owned()));
        }
        let entry = kind.as_message().filter(|message| message.is_map_entry());
        let (kind, shape) = match entry {
            Some(entry) => {
                let key = self.kind(&entry.map_entry_key_field())?;
                (self.kind(&entry.map_entry_value_field())?, Shape::Map(key))
            }
            None if descriptor.is_list() => (self.kind(descriptor)?, Shape::Repeated),
            None => (self.kind(descriptor)?, Shape::Singular),
        };
        let oneof = descriptor.containing_oneof().filter(|oneof| !oneof.is_synthetic());
        let oneofs = descriptor.parent_message().oneofs();
        Ok(Field {
            name: descriptor.name().to_owned(),
            key: format!("\"{}\":", descriptor.name()),
            number: descriptor.number(),
            kind,
            shape,
            presence: descriptor.supports_presence(),
            oneof: oneof.and_then(|oneof| oneofs.into_iter().position(|other| other == oneof)),
            required: option_is_set(descriptor, "paymesh.options.v1.required"),
            descriptor: descriptor.clone(),
        })
    }

    fn kind(&mut self, descriptor: &FieldDescriptor) -> Result<Kind, SchemaError> {
        use prost_reflect::Kind as K;
        Ok(match descriptor.kind() {
            K::Double => Kind::Double,
            K::Float => Kind::Float,
            K::Int32 => Kind::Int32,
            K::Int64 => Kind::Int64,
            K::Uint32 => Kind::Uint32,
            K::Uint64 => Kind::Uint64,
            K::Sint32 => Kind::Sint32,
            K::Sint64 => Kind::Sint64,
            K::Fixed32 => Kind::Fixed32,
            K::Fixed64 => Kind::Fixed64,
            K::Sfixed32 => Kind::Sfixed32,
            K::Sfixed64 => Kind::Sfixed64,
            K::Bool => Kind::Bool,
            K::String => Kind::String,
            K::Bytes => Kind::Bytes,
            K::Enum(descriptor) => Kind::Enum(self.add_enum(&descriptor)),
            K::Message(descriptor) => Kind::Message(self.add(&descriptor)?),
        })
    }

    fn add_enum(&mut self, descriptor: &EnumDescriptor) -> EnumId {
        if let Some(id) = self.enum_ids.get(descriptor.full_name()) {
            return *id;
        }
        let id = EnumId(self.enums.len());
        let mut names: Vec<(i32, String)> =
            descriptor.values().map(|value| (value.number(), value.name().to_owned())).collect();
        let by_name = names.iter().map(|(number, name)| (name.clone(), *number)).collect();
        // Stable, so that of two names for one number the first declared stays.
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        let null = descriptor.full_name() == "google.protobuf.NullValue";
        self.enums.push(Enum { by_name, names, null, descriptor: descriptor.clone() });
        self.enum_ids.insert(descriptor.full_name().to_owned(), id);
        id
    }
}

/// The index of the field of a message that has this option.
pub(crate) fn marked(message: &Message, option: &str) -> Option<usize> {
    message.fields.iter().position(|field| option_is_set(&field.descriptor, option))
}

/// Whether a boolean extension option of a field is set.
pub(crate) fn option_is_set(field: &FieldDescriptor, name: &str) -> bool {
    let extension = field.parent_file().parent_pool().get_extension_by_name(name);
    extension.is_some_and(|extension| field.options().get_extension(&extension).as_bool() == Some(true))
}
