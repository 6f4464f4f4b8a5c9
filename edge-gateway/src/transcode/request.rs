//! An HTTP request's path, query and body to the wire form of the RPC's request message, by the
//! rules of google.api.http: path variables first, then the body, and query parameters only for
//! what neither of them covers.

use std::borrow::Cow;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, header::CONTENT_TYPE};
use prost_reflect::MessageDescriptor;

use super::{
    errors::{RequestError, did_you_mean, safe_name},
    headers,
    json::read::{Reader, Seen},
    mask::{self, MaskPlan},
    raw::{self, RawPlace},
    schema::{Field, Kind, MessageId, Schema, SchemaError, Shape, Special, marked},
    template::Template,
    wire,
};

/// Where a broken stream is taken up again (HTML Standard, "Server-sent events").
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where the body of a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyRule {
    /// There is none.
    None,
    /// `body: "*"`: every field that the path does not give.
    Whole,
    /// `body: "field"`: this field, by index.
    Field(usize),
}

/// A field that takes its value from the path.
#[derive(Debug)]
struct Binding {
    place: Place,
    name: String,
}

/// A field, with the messages around it.
#[derive(Debug)]
struct Place {
    enclosing: Vec<u32>,
    number: u32,
    kind: Kind,
    shape: Shape,
    /// Its index in the message that it is directly in.
    index: usize,
    /// The index of its outermost part in the request message.
    top: usize,
    /// The path in the proto's spelling.
    name: String,
    /// The members of oneofs that it is, or is within.
    choices: Vec<Choice>,
}

/// A member of a oneof that is given: of the message at this path, this oneof, this field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    enclosing: Vec<u32>,
    oneof: usize,
    field: u32,
}

impl Choice {
    /// Whether both cannot be given.
    fn excludes(&self, other: &Self) -> bool {
        (self.oneof, &self.enclosing) == (other.oneof, &other.enclosing) && self.field != other.field
    }
}

/// How to make one RPC's request message; worked out at start-up.
#[derive(Debug)]
pub struct RequestPlan {
    input: MessageId,
    bindings: Vec<Binding>,
    pub(crate) body: BodyRule,
    /// Top-level fields that the path or the body gives, by index.
    covered: u128,
    /// Top-level fields that a path variable gives as a whole, by index.
    taken: u128,
    /// Likewise of the message that the body is, where it is a field.
    taken_of_body: u128,
    /// The body is no JSON and goes here as it is.
    raw: Option<RawPlace>,
    /// The field that takes `Last-Event-ID`, by index.
    resume: Option<usize>,
    /// The number of the map that takes the request's headers.
    headers: Option<u32>,
    /// The field mask of a PATCH.
    mask: Option<MaskPlan>,
}

/// Why an annotation does not fit its request message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A message that cannot be transcoded.
    #[error(transparent)]
    Schema(#[from] SchemaError),
    /// A path variable that is not a single plain field.
    #[error("the path variable {0} is not a single field with a plain value")]
    Variable(String),
    /// `body` or `response_body` names no field.
    #[error("the body field {0} does not exist")]
    Body(String),
    /// A path variable deep inside the field that the body gives.
    #[error("the field {0} is given by the path and by the body")]
    Overlap(String),
    /// A `google.api.HttpBody` that is not the body.
    #[error("{0} is raw bytes (google.api.HttpBody), which only a whole body can be")]
    RawBody(String),
    /// An option on a field that it is not for.
    #[error("the field {0} has an option that its type does not allow")]
    Marked(String),
}

impl RequestPlan {
    /// Works out how a request of this RPC is made.
    pub(crate) fn new(
        schema: &mut Schema,
        input: &MessageDescriptor,
        template: &Template,
        method: Option<&Method>,
        body: &str,
    ) -> Result<Self, PlanError> {
        let input = schema.add(input)?;
        let message = schema.message(input);
        let body = match body {
            "" => BodyRule::None,
            "*" => BodyRule::Whole,
            name => {
                BodyRule::Field(message.field_index(name).ok_or_else(|| PlanError::Body(name.to_owned()))?)
            }
        };
        let (mut bindings, mut covered, mut taken) = (Vec::new(), 0_u128, 0_u128);
        let mut taken_of_body = 0_u128;
        for variable in &template.variables {
            let name = variable.field.clone();
            let place = find(schema, input, &name)
                .ok()
                .filter(|place| place.shape == Shape::Singular && has_text_form(schema, place.kind))
                .ok_or_else(|| PlanError::Variable(name.clone()))?;
            if body == BodyRule::Field(place.top) {
                // AIP-134: `patch: "/v1/{book.name=books/*}" body: "book"`.
                let [_] = place.enclosing[..] else { return Err(PlanError::Overlap(name)) };
                taken_of_body |= 1 << place.index;
            }
            covered |= 1 << place.top;
            if place.enclosing.is_empty() {
                taken |= 1 << place.top;
            }
            bindings.push(Binding { place, name });
        }
        match body {
            BodyRule::None => {}
            BodyRule::Whole => covered = u128::MAX,
            BodyRule::Field(index) => covered |= 1 << index,
        }
        let body_field = if let BodyRule::Field(index) = body { Some(index) } else { None };
        let raw = raw::place(schema, input, body == BodyRule::Whole, body_field)?;
        let message = schema.message(input);
        let allowed = |index: usize, allowed: bool| {
            if allowed { Ok(index) } else { Err(PlanError::Marked(message.fields[index].name.clone())) }
        };
        let mut headers = None;
        if let Some(index) = marked(message, "paymesh.options.v1.http_headers") {
            let field = &message.fields[index];
            allowed(index, (field.shape, field.kind) == (Shape::Map(Kind::String), Kind::String))?;
            covered |= 1 << index;
            taken |= 1 << index;
            headers = Some(field.number);
        }
        let resume = marked(message, "paymesh.options.v1.resume_after");
        let resume = resume.map(|index| {
            let field = &message.fields[index];
            allowed(index, field.shape == Shape::Singular && has_text_form(schema, field.kind))
        });
        let mask = body_field.filter(|_| method == Some(&Method::PATCH));
        let mask = mask.and_then(|body| mask_plan(schema, message, body));
        let resume = resume.transpose()?;
        Ok(Self { input, bindings, body, covered, taken, taken_of_body, raw, resume, headers, mask })
    }

    /// Whether the body is taken as it is, whatever its type.
    pub(crate) fn is_raw(&self) -> bool {
        self.raw.is_some()
    }

    /// The field that takes `Last-Event-ID`, by index.
    pub(crate) fn resume(&self) -> Option<usize> {
        self.resume
    }

    /// The request message.
    pub(crate) fn input(&self) -> MessageId {
        self.input
    }

    /// The top-level fields that the query string may give.
    pub(crate) fn query_fields<'s>(&self, schema: &'s Schema) -> impl Iterator<Item = &'s Field> {
        let covered = self.covered;
        let fields = schema.message(self.input).fields.iter().enumerate();
        fields.filter(move |(index, _)| covered & (1 << index) == 0).map(|(_, field)| field)
    }

    /// Whether a path variable gives this top-level field.
    pub(crate) fn is_taken(&self, index: usize) -> bool {
        self.taken & (1 << index) != 0
    }

    /// Whether a path variable gives a field of the message that the body is.
    pub(crate) fn takes_of_body(&self) -> bool {
        self.taken_of_body != 0
    }

    /// Likewise of a field of the message that the body is, where it is a field.
    pub(crate) fn is_taken_of_body(&self, index: usize) -> bool {
        self.taken_of_body & (1 << index) != 0
    }

    /// Makes the request message. `captures` are the values of the path variables in the order of
    /// the template; of the headers only those count that the message asks for.
    pub fn encode(
        &self,
        schema: &Schema,
        captures: &[Cow<'_, str>],
        query: Option<&str>,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<Bytes, RequestError> {
        let message = schema.message(self.input);
        let mut reader = Reader::new(schema, body.len() + 64);
        reader.taken_of_body = self.taken_of_body;
        let mut seen = Seen { taken: self.taken, ..Seen::default() };
        let text = match self.raw {
            Some(_) => "",
            None => std::str::from_utf8(body).map_err(|_| RequestError::NotUtf8)?,
        };
        if let Some(place) = self.raw {
            self.raw(&mut reader, place, headers, body, &mut seen);
        } else if self.body == BodyRule::None && !body.is_empty() {
            return Err(RequestError::BodyNotTaken);
        } else if !body.is_empty() {
            // No body at all is the message with nothing in it.
            match self.body {
                BodyRule::None => {}
                BodyRule::Whole => reader.body(text, message, &mut seen)?,
                BodyRule::Field(index) => {
                    if reader.body_field(text, message, index)? {
                        seen.fields |= 1 << index;
                    }
                }
            }
        }
        let resumed =
            self.resume.filter(|index| Self::resume_at(&mut reader, &message.fields[*index], headers));
        if let Some(query) = query {
            self.query(&mut reader, schema, query, resumed, &mut seen);
        }
        if let Some(mask) = self.mask.filter(|mask| seen.fields & (1 << mask.index) == 0)
            && !body.is_empty()
        {
            let paths = mask::derived(schema, mask.resource, text);
            wire::put_bytes(&mut reader.out, mask.number, &mask::encoded(paths));
        }
        if let Some(number) = self.headers
            && let Err(expected) = headers::put(&mut reader.out, number, headers)
        {
            reader.wrong_at("headers", expected);
        }
        for (binding, capture) in self.bindings.iter().zip(captures) {
            let place = &binding.place;
            if let Err(expected) = reader.put_at(&place.enclosing, place.number, place.kind, capture) {
                reader.wrong_at(&binding.name, expected);
            }
            seen.fields |= 1 << place.top;
        }
        reader.check_required(message, seen);
        reader.finish().map(Bytes::from)
    }

    fn raw(
        &self,
        reader: &mut Reader<'_>,
        place: RawPlace,
        headers: &HeaderMap,
        body: &[u8],
        seen: &mut Seen,
    ) {
        let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        raw::put(&mut reader.out, place, content_type.unwrap_or_default(), body);
        if let BodyRule::Field(index) = self.body {
            seen.fields |= 1 << index;
        }
    }

    /// Takes `Last-Event-ID` over, if there is one; then what the query says of the same field is what
    /// the stream began with.
    fn resume_at(reader: &mut Reader<'_>, field: &Field, headers: &HeaderMap) -> bool {
        let last = headers.get(LAST_EVENT_ID).map(|value| value.to_str().unwrap_or("\u{0}"));
        let Some(last) = last.filter(|last| !last.is_empty()) else { return false };
        if let Err(expected) = reader.put_at(&[], field.number, field.kind, last) {
            reader.wrong_at("Last-Event-ID", expected);
        }
        true
    }

    /// The members of oneofs that the path gives, and the body where it is a field.
    fn choices_before(&self, schema: &Schema, seen: Seen) -> Vec<Choice> {
        let of_path = self.bindings.iter().flat_map(|binding| binding.place.choices.iter().cloned());
        let of_body = match self.body {
            BodyRule::Field(index) if seen.fields & (1 << index) != 0 => {
                let field = &schema.message(self.input).fields[index];
                field.oneof.map(|oneof| Choice { enclosing: Vec::new(), oneof, field: field.number })
            }
            _ => None,
        };
        of_path.chain(of_body).collect()
    }

    fn query(
        &self,
        reader: &mut Reader<'_>,
        schema: &Schema,
        query: &str,
        resumed: Option<usize>,
        seen: &mut Seen,
    ) {
        let mut given: Vec<String> = Vec::new();
        let mut choices = self.choices_before(schema, *seen);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (form_decode(name), form_decode(value)) else {
                reader.wrong_at("query", "must be percent-encoded UTF-8");
                continue;
            };
            let place = match find(schema, self.input, &name) {
                Ok(place) if self.covered & (1 << place.top) == 0 => place,
                Ok(_) => {
                    let detail = "is not a query parameter here; it belongs in the path or the body";
                    reader.wrong_at(safe_name(&name), detail);
                    continue;
                }
                Err(()) => {
                    let known = self
                        .query_fields(schema)
                        .filter(|field| {
                            has_text_form(schema, field.kind) && !matches!(field.shape, Shape::Map(_))
                        })
                        .map(|field| field.name.as_str());
                    let detail: Cow<'static, str> = match did_you_mean(&name, known) {
                        Some(known) => format!("is not a known parameter; did you mean `{known}`?").into(),
                        None => "is not a known parameter".into(),
                    };
                    reader.wrong_at(safe_name(&name), detail);
                    continue;
                }
            };
            if place.enclosing.is_empty() && Some(place.top) == resumed {
                continue;
            }
            if matches!(place.shape, Shape::Map(_)) || !has_text_form(schema, place.kind) {
                reader.wrong_at(&place.name, "cannot be given in the query string");
            } else if place.shape == Shape::Singular && given.contains(&place.name) {
                reader.wrong_at(&place.name, "is given twice");
            } else if place.choices.iter().any(|one| choices.iter().any(|other| one.excludes(other))) {
                reader.wrong_at(&place.name, "cannot be given together with another one of its oneof");
            } else {
                choices.extend_from_slice(&place.choices);
                let put =
                    match self.mask.filter(|mask| mask.number == place.number && place.top == mask.index) {
                        Some(mask) => mask::given(schema, mask.resource, &value).map(|paths| {
                            wire::put_bytes(&mut reader.out, mask.number, &mask::encoded(paths));
                        }),
                        None => reader.put_at(&place.enclosing, place.number, place.kind, &value),
                    };
                if let Err(expected) = put {
                    reader.wrong_at(&place.name, expected);
                }
                seen.fields |= 1 << place.top;
                given.push(place.name);
            }
        }
    }
}

/// AIP-134: a field `update_mask` beside the resource, which is the body.
fn mask_plan(schema: &Schema, message: &super::Message, body: usize) -> Option<MaskPlan> {
    let (Kind::Message(resource), Shape::Singular) = (message.fields[body].kind, message.fields[body].shape)
    else {
        return None;
    };
    let index = message.field_index("update_mask")?;
    let field = &message.fields[index];
    let Kind::Message(of) = field.kind else { return None };
    let is_mask = matches!(schema.message(of).special, Special::FieldMask) && field.shape == Shape::Singular;
    is_mask.then_some(MaskPlan { index, number: field.number, resource })
}

/// Whether a value of this kind can be written as a plain text.
pub(crate) fn has_text_form(schema: &Schema, kind: Kind) -> bool {
    let Kind::Message(id) = kind else { return true };
    !matches!(schema.message(id).special, Special::None | Special::Free(..) | Special::Raw)
}

fn find(schema: &Schema, input: MessageId, path: &str) -> Result<Place, ()> {
    let (mut id, mut enclosing, mut name) = (input, Vec::new(), String::new());
    let mut parts = path.split('.').peekable();
    let (mut top, mut choices) = (None, Vec::new());
    while let Some(part) = parts.next() {
        let message = schema.message(id);
        let index = message.field_index(part).ok_or(())?;
        let field = &message.fields[index];
        let top = *top.get_or_insert(index);
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&field.name);
        if let Some(oneof) = field.oneof {
            choices.push(Choice { enclosing: enclosing.clone(), oneof, field: field.number });
        }
        if parts.peek().is_none() {
            return Ok(Place {
                enclosing,
                number: field.number,
                kind: field.kind,
                shape: field.shape,
                index,
                top,
                name,
                choices,
            });
        }
        let (Kind::Message(next), Shape::Singular) = (field.kind, field.shape) else { return Err(()) };
        // What has a JSON form of its own has no parts in a URL either.
        if !matches!(schema.message(next).special, Special::None) {
            return Err(());
        }
        enclosing.push(field.number);
        id = next;
    }
    Err(())
}

/// One name or value of a query string (URL Standard, application/x-www-form-urlencoded).
fn form_decode(text: &str) -> Option<Cow<'_, str>> {
    if text.contains('+') {
        let spaced = text.replace('+', " ");
        return Some(Cow::Owned(percent_decode(&spaced, |_| true)?.into_owned()));
    }
    percent_decode(text, |_| true)
}

/// Decodes `%xx` where `wanted` says so; nothing if it is not well-formed UTF-8 afterwards.
pub(crate) fn percent_decode(text: &str, wanted: impl Fn(u8) -> bool) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let (mut out, mut bytes) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, rest)) = bytes.split_first() {
        bytes = rest;
        if *first != b'%' {
            out.push(*first);
            continue;
        }
        let (digits, rest) = bytes.split_at_checked(2)?;
        let digits =
            std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
        let byte = u8::from_str_radix(digits, 16).ok()?;
        if wanted(byte) {
            out.push(byte);
        } else {
            out.push(b'%');
            out.extend_from_slice(digits.as_bytes());
        }
        bytes = rest;
    }
    String::from_utf8(out).ok().map(Cow::Owned)
}
