//! The JSON face of messages: ProtoJSON (protobuf.dev, "ProtoJSON format") with these choices.
//!
//! - Written: field names as in the proto (snake_case); 64-bit integers as numbers; scalars, lists
//!   and maps always, also when empty; messages, `optional` fields and members of a oneof only when
//!   present; times in RFC 3339; bytes in padded base64; an enum by its name; map keys sorted.
//! - Read: both spellings of a name, numbers also as strings, `null` as "not given". A field twice,
//!   two members of a oneof, an unknown field or enum name, a missing field marked `required`: each
//!   is refused by name, all of them in one answer. So is an enum's number that has no name, a key twice
//!   in a map or in free-form JSON, and what is nested more than 64 deep; `Any` is refused at start-up.
//! - A field mask has the proto's spelling in both directions; lowerCamelCase is read too.
//!
//! Both directions go straight between JSON and the wire format, guided by the compiled
//! [`Schema`](super::schema::Schema): no tree and no dynamic message in between.

mod free;
pub(crate) mod read;
pub(crate) mod scalar;
mod time;
pub(crate) mod write;
