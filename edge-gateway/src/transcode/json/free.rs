//! Free-form JSON (`google.protobuf.Struct`, `Value`, `ListValue`: google/protobuf/struct.proto) straight
//! to the wire. Unlike a generic JSON tree it does not let the second of two equal keys win unseen.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::super::{
    schema::Free,
    wire::{self, WireType},
};

/// Field numbers of `Value`.
const NULL: u32 = 1;
const NUMBER: u32 = 2;
const STRING: u32 = 3;
const BOOL: u32 = 4;
const STRUCT: u32 = 5;
const LIST: u32 = 6;

/// Lists and objects within each other: each of them is up to three messages on the wire, of which services
/// decode at most 100 within each other.
pub(super) const DEPTH_MAX: usize = 24;

/// What came of reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Written,
    /// `null`, where that is not a value of the message.
    Null,
    /// Another kind of JSON.
    Other,
    /// An object somewhere in it has a key twice.
    TwiceGiven,
    /// More than [`DEPTH_MAX`].
    TooDeep,
}

/// Reads one value and appends the content of the message; the length around it is the caller's.
pub(super) struct FreeSeed<'o> {
    pub(super) out: &'o mut Vec<u8>,
    pub(super) free: Free,
    /// How many lists and objects are around it.
    pub(super) depth: usize,
}

impl FreeSeed<'_> {
    fn is_value(&self) -> bool {
        self.free == Free::Value
    }

    /// A scalar: only a `Value` can be one.
    fn scalar(self, write: impl FnOnce(&mut Vec<u8>)) -> Outcome {
        if !self.is_value() {
            return Outcome::Other;
        }
        write(self.out);
        Outcome::Written
    }

    fn number(self, value: f64) -> Outcome {
        self.scalar(|out| {
            wire::put_tag(out, NUMBER, WireType::Fixed64);
            out.extend_from_slice(&value.to_le_bytes());
        })
    }
}

impl<'de> DeserializeSeed<'de> for FreeSeed<'_> {
    type Value = Outcome;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Outcome, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FreeSeed<'_> {
    type Value = Outcome;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Outcome, E> {
        if !self.is_value() {
            return Ok(Outcome::Null);
        }
        Ok(self.scalar(|out| {
            wire::put_tag(out, NULL, WireType::Varint);
            out.push(0);
        }))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Outcome, E> {
        Ok(self.scalar(|out| {
            wire::put_tag(out, BOOL, WireType::Varint);
            out.push(u8::from(value));
        }))
    }

    // JSON numbers have no types here: what a double cannot hold exactly is rounded.
    fn visit_i64<E>(self, value: i64) -> Result<Outcome, E> {
        Ok(self.number(value as f64))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Outcome, E> {
        Ok(self.number(value as f64))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Outcome, E> {
        Ok(self.number(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Outcome, E> {
        Ok(self.scalar(|out| wire::put_bytes(out, STRING, value.as_bytes())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Outcome, A::Error> {
        if self.depth >= DEPTH_MAX {
            IgnoredAny.visit_seq(seq)?;
            return Ok(Outcome::TooDeep);
        }
        let is_value = self.is_value();
        let mut outcome = if self.free == Free::Struct { Outcome::Other } else { Outcome::Written };
        let list = is_value.then(|| wire::open(self.out, LIST));
        loop {
            let element = wire::open(self.out, 1);
            let within = FreeSeed { out: &mut *self.out, free: Free::Value, depth: self.depth + 1 };
            let read = seq.next_element_seed(within)?;
            wire::close(self.out, element);
            match read {
                Some(Outcome::Written) => {}
                Some(other) => outcome = other,
                None => break,
            }
        }
        // The element that was opened and did not come: a tag and an empty length.
        self.out.truncate(self.out.len() - 2);
        if let Some(list) = list {
            wire::close(self.out, list);
        }
        Ok(outcome)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outcome, A::Error> {
        if self.depth >= DEPTH_MAX {
            IgnoredAny.visit_map(map)?;
            return Ok(Outcome::TooDeep);
        }
        let is_value = self.is_value();
        let mut outcome = if self.free == Free::ListValue { Outcome::Other } else { Outcome::Written };
        let object = is_value.then(|| wire::open(self.out, STRUCT));
        let mut keys = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            let entry = wire::open(self.out, 1);
            wire::put_bytes(self.out, 1, key.as_bytes());
            let value = wire::open(self.out, 2);
            let within = FreeSeed { out: &mut *self.out, free: Free::Value, depth: self.depth + 1 };
            let read = map.next_value_seed(within)?;
            wire::close(self.out, value);
            wire::close(self.out, entry);
            if read != Outcome::Written {
                outcome = read;
            }
            if !keys.insert(key) {
                outcome = Outcome::TwiceGiven;
            }
        }
        if let Some(object) = object {
            wire::close(self.out, object);
        }
        Ok(outcome)
    }
}
