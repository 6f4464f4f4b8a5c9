//! The wire to JSON. What comes from a service of ours is checked all the same: bytes that are not
//! the message are an error, never a panic.

use std::io::Write as _;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};

use super::{
    super::{
        schema::{Field, Kind, Message, MessageId, Schema, Shape, Special},
        wire::{Cursor, Raw, WireError, WireType, unzigzag},
    },
    time,
};

/// As deep as prost itself decodes.
const DEPTH_MAX: usize = 100;

/// What a field holds after the first look through its message.
#[derive(Debug, Clone)]
enum Slot<'a> {
    Absent,
    One(Raw<'a>),
    /// A message in several pieces, which is their concatenation.
    Merged(Vec<u8>),
    /// A list or a map: its elements begin here.
    From(Cursor<'a>),
}

/// Writes messages of one schema.
#[derive(Debug)]
pub(crate) struct Writer<'s> {
    schema: &'s Schema,
    pub(crate) out: Vec<u8>,
}

impl<'s> Writer<'s> {
    pub(crate) fn new(schema: &'s Schema, capacity: usize) -> Self {
        Self { schema, out: Vec::with_capacity(capacity) }
    }

    /// Writes a message of this type.
    pub(crate) fn message(&mut self, id: MessageId, bytes: &[u8]) -> Result<(), WireError> {
        self.nested(id, bytes, 0)
    }

    /// Writes only one field of a message; what it holds when it is absent where it is.
    pub(crate) fn field_of(&mut self, id: MessageId, index: usize, bytes: &[u8]) -> Result<(), WireError> {
        let message = self.schema.message(id);
        let slots = look_through(message, bytes)?;
        let field = &message.fields[index];
        match &slots[index] {
            Slot::Absent if matches!(field.kind, Kind::Message(_)) && field.shape == Shape::Singular => {
                self.out.extend_from_slice(b"null");
                Ok(())
            }
            slot => self.field(field, slot, 0),
        }
    }

    fn nested(&mut self, id: MessageId, bytes: &[u8], depth: usize) -> Result<(), WireError> {
        if depth > DEPTH_MAX {
            return Err(WireError);
        }
        let message = self.schema.message(id);
        match &message.special {
            Special::None => self.object(message, bytes, depth),
            Special::Timestamp => {
                let time = prost_types::Timestamp::decode(bytes).map_err(|_| WireError)?;
                if time::put(&mut self.out, time) {
                    return Ok(());
                }
                write!(self.out, "\"{time}\"").map_err(|_| WireError)
            }
            Special::Duration => {
                let duration = prost_types::Duration::decode(bytes).map_err(|_| WireError)?;
                if time::put_duration(&mut self.out, duration) {
                    return Ok(());
                }
                write!(self.out, "\"{duration}\"").map_err(|_| WireError)
            }
            Special::FieldMask => {
                let mask = prost_types::FieldMask::decode(bytes).map_err(|_| WireError)?;
                self.string(&mask.paths.join(","))
            }
            Special::Wrapper(kind) => {
                let slots = look_through(message, bytes)?;
                match slots.first() {
                    Some(Slot::One(raw)) => self.value(*kind, *raw, depth),
                    _ => self.default(*kind),
                }
            }
            // Refused at start-up wherever it would be JSON.
            Special::Raw => Err(WireError),
            Special::Free(_, descriptor) => {
                let dynamic = DynamicMessage::decode(descriptor.clone(), bytes).map_err(|_| WireError)?;
                let options =
                    SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
                let mut serializer = serde_json::Serializer::new(&mut self.out);
                dynamic.serialize_with_options(&mut serializer, &options).map_err(|_| WireError)
            }
        }
    }

    fn object(&mut self, message: &Message, bytes: &[u8], depth: usize) -> Result<(), WireError> {
        let slots = look_through(message, bytes)?;
        self.out.push(b'{');
        let mut first = true;
        for (field, slot) in message.fields.iter().zip(&slots) {
            if matches!(slot, Slot::Absent) && field.presence {
                continue;
            }
            if !first {
                self.out.push(b',');
            }
            first = false;
            self.out.extend_from_slice(field.key.as_bytes());
            self.field(field, slot, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn field(&mut self, field: &Field, slot: &Slot<'_>, depth: usize) -> Result<(), WireError> {
        match (field.shape, slot) {
            (Shape::Singular, Slot::One(raw)) => self.value(field.kind, *raw, depth),
            (Shape::Singular, Slot::Merged(bytes)) => self.value(field.kind, Raw::Length(bytes), depth),
            (Shape::Singular, _) => self.default(field.kind),
            (Shape::Repeated, Slot::From(cursor)) => self.list(field, *cursor, depth),
            (Shape::Repeated, _) => {
                self.out.extend_from_slice(b"[]");
                Ok(())
            }
            (Shape::Map(key), Slot::From(cursor)) => self.map(field, key, *cursor, depth),
            (Shape::Map(_), _) => {
                self.out.extend_from_slice(b"{}");
                Ok(())
            }
        }
    }

    fn list(&mut self, field: &Field, mut cursor: Cursor<'_>, depth: usize) -> Result<(), WireError> {
        self.out.push(b'[');
        let begin = self.out.len();
        while let Some((number, raw)) = cursor.field()? {
            if number != field.number {
                continue;
            }
            match raw {
                Raw::Length(packed) if field.kind.wire_type() != WireType::Length => {
                    let mut packed = Cursor::new(packed);
                    while !packed.is_empty() {
                        let raw = match field.kind.wire_type() {
                            WireType::Fixed32 => Raw::Fixed32(packed.fixed32()?),
                            WireType::Fixed64 => Raw::Fixed64(packed.fixed64()?),
                            _ => Raw::Varint(packed.varint()?),
                        };
                        self.comma(begin);
                        self.value(field.kind, raw, depth)?;
                    }
                }
                raw => {
                    self.comma(begin);
                    self.value(field.kind, raw, depth)?;
                }
            }
        }
        self.out.push(b']');
        Ok(())
    }

    fn map(
        &mut self,
        field: &Field,
        key: Kind,
        mut cursor: Cursor<'_>,
        depth: usize,
    ) -> Result<(), WireError> {
        let mut entries = Vec::new();
        while let Some((number, raw)) = cursor.field()? {
            let Raw::Length(entry) = raw else {
                if number == field.number {
                    return Err(WireError);
                }
                continue;
            };
            if number == field.number {
                entries.push(self.entry(key, entry)?);
            }
        }
        // Stable: of two entries with one key the later one counts, as in every decoder.
        entries.sort_by(|(left, _), (right, _)| left.cmp(right));
        self.out.push(b'{');
        let begin = self.out.len();
        for (index, (key, value)) in entries.iter().enumerate() {
            if entries.get(index + 1).is_some_and(|(next, _)| next == key) {
                continue;
            }
            self.comma(begin);
            self.out.extend_from_slice(key);
            self.out.push(b':');
            match value {
                Some(raw) => self.value(field.kind, *raw, depth)?,
                None => self.default(field.kind)?,
            }
        }
        self.out.push(b'}');
        Ok(())
    }

    /// An entry's key as JSON writes it, and its value.
    fn entry<'a>(&self, kind: Kind, bytes: &'a [u8]) -> Result<(Vec<u8>, Option<Raw<'a>>), WireError> {
        let (mut key, mut value) = (None, None);
        let mut cursor = Cursor::new(bytes);
        while let Some((number, raw)) = cursor.field()? {
            match number {
                1 => key = Some(raw),
                2 => value = Some(raw),
                _ => {}
            }
        }
        let mut writer = Writer::new(self.schema, 32);
        match key {
            Some(raw) => writer.value(kind, raw, 0)?,
            None => writer.default(kind)?,
        }
        let mut text = writer.out;
        if kind != Kind::String {
            text.insert(0, b'"');
            text.push(b'"');
        }
        Ok((text, value))
    }

    fn comma(&mut self, begin: usize) {
        if self.out.len() > begin {
            self.out.push(b',');
        }
    }

    /// Writes one value that is no message.
    pub(crate) fn scalar(&mut self, kind: Kind, raw: Raw<'_>) -> Result<(), WireError> {
        self.value(kind, raw, 0)
    }

    fn value(&mut self, kind: Kind, raw: Raw<'_>, depth: usize) -> Result<(), WireError> {
        match (kind, raw) {
            (Kind::String, Raw::Length(bytes)) => {
                self.string(std::str::from_utf8(bytes).map_err(|_| WireError)?)
            }
            (Kind::Message(id), Raw::Length(bytes)) => self.nested(id, bytes, depth + 1),
            (Kind::Bytes, Raw::Length(bytes)) => {
                write!(self.out, "\"{}\"", BASE64_STANDARD.encode(bytes)).map_err(|_| WireError)
            }
            (Kind::Bool, Raw::Varint(value)) => {
                self.out.extend_from_slice(if value == 0 { b"false" } else { b"true" });
                Ok(())
            }
            (Kind::Enum(id), Raw::Varint(value)) => {
                let number = low_i32(value);
                if self.schema.enumeration(id).null {
                    self.out.extend_from_slice(b"null");
                    return Ok(());
                }
                match self.schema.enumeration(id).name(number) {
                    Some(name) => {
                        self.out.push(b'"');
                        self.out.extend_from_slice(name.as_bytes());
                        self.out.push(b'"');
                        Ok(())
                    }
                    // A newer service may know a value that this edge does not.
                    None => self.number(number),
                }
            }
            (Kind::Int32, Raw::Varint(value)) => self.number(low_i32(value)),
            (Kind::Uint32, Raw::Varint(value)) => self.number(low_i32(value).cast_unsigned()),
            (Kind::Uint64, Raw::Varint(value)) | (Kind::Fixed64, Raw::Fixed64(value)) => self.number(value),
            (Kind::Sint32, Raw::Varint(value)) => self.number(low_i32(unzigzag(value).cast_unsigned())),
            (Kind::Sint64, Raw::Varint(value)) => self.number(unzigzag(value)),
            (Kind::Fixed32, Raw::Fixed32(value)) => self.number(value),
            (Kind::Sfixed32, Raw::Fixed32(value)) => self.number(value.cast_signed()),
            (Kind::Int64, Raw::Varint(value)) | (Kind::Sfixed64, Raw::Fixed64(value)) => {
                self.number(value.cast_signed())
            }
            (Kind::Float, Raw::Fixed32(bits)) => self.float(f32::from_bits(bits), |value| f64::from(*value)),
            (Kind::Double, Raw::Fixed64(bits)) => self.float(f64::from_bits(bits), |value| *value),
            _ => Err(WireError),
        }
    }

    fn default(&mut self, kind: Kind) -> Result<(), WireError> {
        let raw = match kind.wire_type() {
            WireType::Varint => Raw::Varint(0),
            WireType::Fixed32 => Raw::Fixed32(0),
            WireType::Fixed64 => Raw::Fixed64(0),
            WireType::Length => Raw::Length(&[]),
        };
        self.value(kind, raw, 0)
    }

    fn string(&mut self, text: &str) -> Result<(), WireError> {
        serde_json::to_writer(&mut self.out, text).map_err(|_| WireError)
    }

    fn number(&mut self, value: impl serde::Serialize) -> Result<(), WireError> {
        serde_json::to_writer(&mut self.out, &value).map_err(|_| WireError)
    }

    fn float<T: serde::Serialize>(&mut self, value: T, wide: impl Fn(&T) -> f64) -> Result<(), WireError> {
        match wide(&value) {
            number if number.is_nan() => self.string("NaN"),
            f64::INFINITY => self.string("Infinity"),
            f64::NEG_INFINITY => self.string("-Infinity"),
            _ => self.number(value),
        }
    }
}

/// The low 32 bits, as every decoder takes an `int32` that is longer (protobuf.dev, "Encoding").
#[expect(clippy::cast_possible_truncation, reason = "the truncation is the rule")]
fn low_i32(value: u64) -> i32 {
    (value as u32).cast_signed()
}

/// Finds what each field of the message holds; unknown fields are passed over.
fn look_through<'a>(message: &Message, bytes: &'a [u8]) -> Result<Vec<Slot<'a>>, WireError> {
    let mut slots = Vec::new();
    slots.resize_with(message.fields.len(), || Slot::Absent);
    let mut cursor = Cursor::new(bytes);
    loop {
        let here = cursor;
        let Some((number, raw)) = cursor.field()? else { return Ok(slots) };
        let Some(index) = message.number_index(number) else { continue };
        let field = &message.fields[index];
        if field.shape != Shape::Singular {
            if matches!(slots[index], Slot::Absent) {
                slots[index] = Slot::From(here);
            }
            continue;
        }
        if let Some(oneof) = field.oneof {
            // Of a oneof the member that came last is the one that is set.
            for (other, slot) in message.fields.iter().zip(&mut slots) {
                if other.oneof == Some(oneof) && other.number != number {
                    *slot = Slot::Absent;
                }
            }
        }
        slots[index] = match (std::mem::replace(&mut slots[index], Slot::Absent), field.kind, raw) {
            (Slot::One(Raw::Length(before)), Kind::Message(_), Raw::Length(more)) => {
                Slot::Merged([before, more].concat())
            }
            (Slot::Merged(mut before), Kind::Message(_), Raw::Length(more)) => {
                before.extend_from_slice(more);
                Slot::Merged(before)
            }
            (_, _, raw) => Slot::One(raw),
        };
    }
}
