//! JSON to the wire, in one pass over the text.
//!
//! A value that does not fit its field is noted and passed over, so one pass finds all that is
//! wrong; only broken JSON ends it early.

use std::{borrow::Cow, collections::HashSet, fmt::Write as _};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::{
    super::{
        errors::{RequestError, VIOLATIONS_MAX, Violation, did_you_mean, safe_name},
        schema::{Free, Kind, Message, Schema, Shape, Special},
        wire,
    },
    free::{self, FreeSeed, Outcome},
    scalar::{self, Expected, Input},
};

/// Fields, list indexes and map keys within each other: as deep as a request may be. Services decode
/// messages at most 100 deep, and would call deeper ones broken.
const DEPTH_MAX: usize = 64;

/// Where in the request a value stands.
#[derive(Debug)]
enum Step<'s> {
    Field(&'s str),
    Index(usize),
    Key(String),
}

/// Gathers the wire form of one message, and what is wrong with what it is made from.
#[derive(Debug)]
pub(crate) struct Reader<'s> {
    schema: &'s Schema,
    pub(crate) out: Vec<u8>,
    path: Vec<Step<'s>>,
    violations: Vec<Violation>,
    /// Of the message that is the body, where a field is: fields that the path gives, by index.
    pub(crate) taken_of_body: u128,
}

/// What of a message was given so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Seen {
    /// By field index.
    pub(crate) fields: u128,
    /// By field index: given elsewhere (in the path), so not allowed in the body.
    pub(crate) taken: u128,
    /// By oneof index.
    pub(crate) oneofs: u128,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(schema: &'s Schema, capacity: usize) -> Self {
        Self {
            schema,
            out: Vec::with_capacity(capacity),
            path: Vec::new(),
            violations: Vec::new(),
            taken_of_body: 0,
        }
    }

    /// The wire form, or all that is wrong.
    pub(crate) fn finish(self) -> Result<Vec<u8>, RequestError> {
        if self.violations.is_empty() { Ok(self.out) } else { Err(RequestError::Violations(self.violations)) }
    }

    /// Notes that the value at the present place is wrong.
    pub(crate) fn wrong(&mut self, detail: impl Into<Expected>) {
        if self.violations.len() < VIOLATIONS_MAX {
            let field = self.place();
            self.violations.push(Violation { field, detail: detail.into() });
        }
    }

    /// Notes that the value at a place named by a query parameter or a path variable is wrong.
    pub(crate) fn wrong_at(&mut self, field: &str, detail: impl Into<Expected>) {
        if self.violations.len() < VIOLATIONS_MAX {
            self.violations.push(Violation { field: field.to_owned(), detail: detail.into() });
        }
    }

    /// Notes that the present place is too deep, if it is.
    fn is_too_deep(&mut self) -> bool {
        let too_deep = self.path.len() > DEPTH_MAX;
        if too_deep {
            self.wrong(format!("is nested more than {DEPTH_MAX} deep"));
        }
        too_deep
    }

    fn place(&self) -> String {
        let mut place = String::new();
        for step in &self.path {
            match step {
                Step::Index(index) => {
                    // Writing to a String cannot fail.
                    let _ = write!(place, "[{index}]");
                    continue;
                }
                Step::Field(_) | Step::Key(_) if !place.is_empty() => place.push('.'),
                _ => {}
            }
            match step {
                Step::Field(name) => place.push_str(name),
                Step::Key(name) => place.push_str(safe_name(name)),
                Step::Index(_) => {}
            }
        }
        if place.is_empty() { "body".to_owned() } else { place }
    }

    /// Notes the required fields of the message that are not there.
    pub(crate) fn check_required(&mut self, message: &'s Message, seen: Seen) {
        let missing = message.required & !(seen.fields | seen.taken);
        if missing == 0 {
            return;
        }
        for (index, field) in message.fields.iter().enumerate() {
            if missing & (1 << index) != 0 {
                self.path.push(Step::Field(&field.name));
                self.wrong("is required");
                self.path.pop();
            }
        }
    }

    /// Reads a whole body as the fields of `message`, without a length around them.
    pub(crate) fn body(
        &mut self,
        text: &str,
        message: &'s Message,
        seen: &mut Seen,
    ) -> Result<(), RequestError> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let top = Top { reader: self, message, seen };
        let read = top.deserialize(&mut deserializer).and_then(|()| deserializer.end());
        read.map_err(|error| self.unreadable(&error))
    }

    /// Reads a whole body as the value of one field.
    pub(crate) fn body_field(
        &mut self,
        text: &str,
        message: &'s Message,
        index: usize,
    ) -> Result<bool, RequestError> {
        let field = &message.fields[index];
        let mut deserializer = serde_json::Deserializer::from_str(text);
        self.path.push(Step::Field(&field.name));
        let slot = Slot { reader: self, number: field.number, kind: field.kind, shape: field.shape };
        let given = slot.deserialize(&mut deserializer).and_then(|given| deserializer.end().map(|()| given));
        let given = given.map_err(|error| self.unreadable(&error))?;
        self.path.pop();
        Ok(given)
    }

    /// Where the parser stopped, and nothing of what it says: its text may quote the body. A number that
    /// no type holds is JSON all the same: it is its field that is wrong.
    fn unreadable(&mut self, error: &serde_json::Error) -> RequestError {
        if error.to_string().starts_with("number out of range") {
            self.wrong("must be a number that is not beyond the range of a double");
            return RequestError::Violations(std::mem::take(&mut self.violations));
        }
        RequestError::Malformed { line: error.line(), column: error.column() }
    }

    fn object<'de, A: MapAccess<'de>>(
        &mut self,
        message: &'s Message,
        seen: &mut Seen,
        mut map: A,
    ) -> Result<(), A::Error> {
        while let Some(key) = map.next_key_seed(Key { message })? {
            let index = match key {
                Name::Known(index) => index,
                Name::Unknown(name) => {
                    map.next_value::<IgnoredAny>()?;
                    self.unknown(message, name);
                    continue;
                }
            };
            let (field, bit) = (&message.fields[index], 1_u128 << index);
            self.path.push(Step::Field(&field.name));
            if (seen.fields | seen.taken) & bit != 0 {
                map.next_value::<IgnoredAny>()?;
                let given = seen.taken & bit == 0;
                self.wrong(if given {
                    "is given twice"
                } else {
                    "is given by the path; leave it out of the body"
                });
            } else {
                let slot = Slot { reader: self, number: field.number, kind: field.kind, shape: field.shape };
                if map.next_value_seed(slot)? {
                    seen.fields |= bit;
                    self.check_oneof(message, index, seen);
                }
            }
            self.path.pop();
        }
        Ok(())
    }

    fn check_oneof(&mut self, message: &'s Message, index: usize, seen: &mut Seen) {
        let Some(oneof) = message.fields[index].oneof else { return };
        let bit = 1_u128 << oneof;
        if seen.oneofs & bit != 0 {
            let members: Vec<&str> = message
                .fields
                .iter()
                .filter(|field| field.oneof == Some(oneof))
                .map(|field| field.name.as_str())
                .collect();
            self.wrong(format!("only one of {} may be given", members.join(", ")));
        }
        seen.oneofs |= bit;
    }

    fn unknown(&mut self, message: &'s Message, name: String) {
        // What will not be told need not be guessed at: a body may hold very many unknown fields.
        if self.violations.len() >= VIOLATIONS_MAX {
            return;
        }
        let known = message.fields.iter().map(|field| field.name.as_str());
        let detail = match did_you_mean(&name, known) {
            Some(known) => format!("is not a known field; did you mean `{known}`?").into(),
            None => Cow::Borrowed("is not a known field"),
        };
        self.path.push(Step::Key(name));
        self.wrong(detail);
        self.path.pop();
    }

    /// Appends one value, or notes what would be right.
    pub(crate) fn put(&mut self, number: u32, kind: Kind, input: Input<'_>) {
        if let Err(expected) = scalar::put(self.schema, &mut self.out, number, kind, input) {
            self.wrong(expected);
        }
    }

    /// Appends one value from the URL under the given enclosing messages.
    pub(crate) fn put_at(
        &mut self,
        enclosing: &[u32],
        number: u32,
        kind: Kind,
        text: &str,
    ) -> Result<(), Expected> {
        let opened: Vec<wire::Open> =
            enclosing.iter().map(|number| wire::open(&mut self.out, *number)).collect();
        let result = scalar::put(self.schema, &mut self.out, number, kind, Input::Plain(text));
        for open in opened.into_iter().rev() {
            wire::close(&mut self.out, open);
        }
        result
    }
}

/// The name of a member of an object.
enum Name {
    Known(usize),
    Unknown(String),
}

struct Key<'s> {
    message: &'s Message,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = Name;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Name, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = Name;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Name, E> {
        Ok(self.message.field_index(name).map_or_else(|| Name::Unknown(name.to_owned()), Name::Known))
    }
}

/// The whole body as a message.
struct Top<'r, 's> {
    reader: &'r mut Reader<'s>,
    message: &'s Message,
    seen: &'r mut Seen,
}

impl<'de> DeserializeSeed<'de> for Top<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Top<'_, '_> {
    fn no_object(self) {
        self.reader.wrong("must be an object");
        // What it should have held is not worth listing.
        self.seen.fields = u128::MAX;
    }
}

macro_rules! no_object {
    ($($visit:ident: $type:ty),+ $(,)?) => {$(
        fn $visit<E>(self, _: $type) -> Result<(), E> {
            self.no_object();
            Ok(())
        }
    )+};
}

impl<'de> Visitor<'de> for Top<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    no_object!(visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str);

    fn visit_unit<E>(self) -> Result<(), E> {
        self.no_object();
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        IgnoredAny.visit_seq(seq)?;
        self.no_object();
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        self.reader.object(self.message, self.seen, map)
    }
}

/// The value of a field, or one element of it (then the shape is singular). Answers whether there
/// was a value: `null` is none.
struct Slot<'r, 's> {
    reader: &'r mut Reader<'s>,
    number: u32,
    kind: Kind,
    shape: Shape,
}

impl<'s> Slot<'_, 's> {
    fn scalar(self, input: Input<'_>) -> bool {
        match self.shape {
            Shape::Singular => self.reader.put(self.number, self.kind, input),
            Shape::Repeated => self.reader.wrong("must be a list"),
            Shape::Map(_) => self.reader.wrong("must be an object"),
        }
        true
    }

    /// The message that the value must be, where it is an object of fields.
    fn message(&self) -> Option<&'s Message> {
        let Kind::Message(id) = self.kind else { return None };
        let message = self.reader.schema.message(id);
        matches!(message.special, Special::None).then_some(message)
    }

    fn free_form<'de, D: Deserializer<'de>>(self, free: Free, deserializer: D) -> Result<bool, D::Error> {
        let reader = self.reader;
        let begin = reader.out.len();
        let open = wire::open(&mut reader.out, self.number);
        match (FreeSeed { out: &mut reader.out, free, depth: 0 }).deserialize(deserializer)? {
            Outcome::Written => wire::close(&mut reader.out, open),
            Outcome::Null => {
                reader.out.truncate(begin);
                return Ok(false);
            }
            Outcome::Other => {
                let expected = scalar::expected(reader.schema, self.kind);
                reader.wrong(expected);
            }
            Outcome::TooDeep => reader.wrong(format!("is nested more than {} deep", free::DEPTH_MAX)),
            Outcome::TwiceGiven => reader.wrong("must not have a name twice in one object"),
        }
        Ok(true)
    }
}

impl<'de> DeserializeSeed<'de> for Slot<'_, '_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        if let (Kind::Message(id), Shape::Singular) = (self.kind, self.shape)
            && let Special::Free(free, _) = &self.reader.schema.message(id).special
        {
            return self.free_form(*free, deserializer);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Slot<'_, '_> {
    type Value = bool;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<bool, E> {
        match self.kind {
            Kind::Enum(id) if self.shape == Shape::Singular && self.reader.schema.enumeration(id).null => {
                Ok(self.scalar(Input::Integer(0)))
            }
            _ => Ok(false),
        }
    }

    fn visit_bool<E>(self, value: bool) -> Result<bool, E> {
        Ok(self.scalar(Input::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<bool, E> {
        Ok(self.scalar(Input::Integer(value.into())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<bool, E> {
        Ok(self.scalar(Input::Integer(value.into())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<bool, E> {
        Ok(self.scalar(Input::Float(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<bool, E> {
        Ok(self.scalar(Input::Text(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<bool, A::Error> {
        if self.reader.is_too_deep() {
            IgnoredAny.visit_seq(seq)?;
            return Ok(true);
        }
        if self.shape != Shape::Repeated {
            IgnoredAny.visit_seq(seq)?;
            let expected = match self.shape {
                Shape::Map(_) => "must be an object".into(),
                _ => scalar::expected(self.reader.schema, self.kind),
            };
            self.reader.wrong(expected);
            return Ok(true);
        }
        let mut index = 0;
        loop {
            self.reader.path.push(Step::Index(index));
            let element =
                Slot { reader: self.reader, number: self.number, kind: self.kind, shape: Shape::Singular };
            match seq.next_element_seed(element)? {
                Some(true) => {}
                Some(false) => self.reader.wrong("must not be null"),
                None => break,
            }
            self.reader.path.pop();
            index += 1;
        }
        self.reader.path.pop();
        Ok(true)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<bool, A::Error> {
        if self.reader.is_too_deep() {
            IgnoredAny.visit_map(map)?;
            return Ok(true);
        }
        match self.shape {
            Shape::Map(key_kind) => self.entries(key_kind, map)?,
            Shape::Repeated => {
                IgnoredAny.visit_map(map)?;
                self.reader.wrong("must be a list");
            }
            Shape::Singular => {
                if let Some(message) = self.message() {
                    let open = wire::open(&mut self.reader.out, self.number);
                    let taken = if self.reader.path.len() == 1 { self.reader.taken_of_body } else { 0 };
                    let mut seen = Seen { taken, ..Seen::default() };
                    self.reader.object(message, &mut seen, map)?;
                    self.reader.check_required(message, seen);
                    wire::close(&mut self.reader.out, open);
                } else {
                    IgnoredAny.visit_map(map)?;
                    let expected = scalar::expected(self.reader.schema, self.kind);
                    self.reader.wrong(expected);
                }
            }
        }
        Ok(true)
    }
}

impl Slot<'_, '_> {
    fn entries<'de, A: MapAccess<'de>>(self, key_kind: Kind, mut map: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let entry = wire::open(&mut self.reader.out, self.number);
            self.reader.path.push(Step::Key(key.clone()));
            self.reader.put(1, key_kind, Input::Plain(&key));
            let value = Slot { reader: self.reader, number: 2, kind: self.kind, shape: Shape::Singular };
            if !map.next_value_seed(value)? {
                self.reader.wrong("must not be null");
            }
            if !keys.insert(scalar::map_key(key_kind, key)) {
                self.reader.wrong("is given twice");
            }
            self.reader.path.pop();
            wire::close(&mut self.reader.out, entry);
        }
        Ok(())
    }
}
