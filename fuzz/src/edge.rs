//! The edge: what clients send as JSON, paths, queries and signatures, and what services answer.

use std::{borrow::Cow, sync::LazyLock};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use edge_gateway::{
    auth::{
        keys::SignatureRecord,
        signature::{SignatureAlgorithm, SignatureError, SignatureRules, SignedBody, VerifyingKey, verify},
    },
    transcode::{Route, Transcoder},
};
use http::{HeaderMap, HeaderValue, Method, Request, header::CONTENT_TYPE, request::Parts};
use money::Timestamp;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, MethodDescriptor,
    Value, prost::Message as _,
};
use ring::hmac;

use crate::input::{Input, part};

struct Face {
    pool: DescriptorPool,
    api: Option<Transcoder>,
}

static FACE: LazyLock<Face> = LazyLock::new(|| {
    let pool = paymesh_proto::descriptor_pool();
    Face { api: Transcoder::new(&pool).ok(), pool }
});

impl Face {
    fn route(&self, number: u8) -> Option<(&Transcoder, &Route, MethodDescriptor)> {
        let api = self.api.as_ref()?;
        let route = &api.routes()[usize::from(number) % api.routes().len()];
        let (service, name) = route.rpc.split_once('/')?;
        let method =
            self.pool.get_service_by_name(service)?.methods().find(|method| method.name() == name)?;
        Some((api, route, method))
    }
}

/// How deep a sample goes.
const DEPTH_MAX: u32 = 3;

/// A message in which every field is given.
fn sample(descriptor: &MessageDescriptor, depth: u32) -> DynamicMessage {
    let mut message = DynamicMessage::new(descriptor.clone());
    for field in descriptor.fields() {
        let Some(value) = sample_of(&field, depth) else { continue };
        let value = match value {
            map @ Value::Map(_) => map,
            one if field.is_list() => Value::List(vec![one]),
            one => one,
        };
        // Refused where it is no value of the field: then that stays empty.
        let _ = message.try_set_field(&field, value);
    }
    message
}

fn sample_of(field: &FieldDescriptor, depth: u32) -> Option<Value> {
    Some(match field.kind() {
        Kind::Message(inner) if field.is_map() => {
            let value = sample_of(&inner.get_field_by_name("value")?, depth)?;
            Value::Map([(MapKey::String("key".into()), value)].into())
        }
        Kind::Message(inner) if depth < DEPTH_MAX => Value::Message(sample(&inner, depth + 1)),
        Kind::Message(_) => return None,
        Kind::Double => Value::F64(1.5),
        Kind::Float => Value::F32(1.5),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(7),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(1_050),
        Kind::Uint32 | Kind::Fixed32 => Value::U32(7),
        Kind::Uint64 | Kind::Fixed64 => Value::U64(7),
        Kind::Bool => Value::Bool(true),
        Kind::String => Value::String("EUR".into()),
        Kind::Bytes => Value::Bytes(Bytes::from_static(b"bytes")),
        Kind::Enum(_) => Value::EnumNumber(1),
    })
}

fn numbers() -> impl Iterator<Item = u8> {
    let routes = FACE.api.as_ref().map_or(0, |api| api.routes().len());
    (0..=u8::MAX).take(routes)
}

/// A route, two values of its path, its query, two headers, its body.
pub(crate) fn requests() -> Vec<Vec<u8>> {
    let id = part(b"pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b");
    let mut seeds = Vec::new();
    for number in numbers() {
        let Some((_, _, method)) = FACE.route(number) else { continue };
        let json = serde_json::to_vec(&sample(&method.input(), 0)).unwrap_or_default();
        let query = part(b"page_size=10&page_token=x&amount=7&currency=EUR");
        seeds.push([&[number][..], &id, &id, &query, &part(b"text/plain"), &part(b"7")].concat());
        seeds.push(
            [&[number][..], &id, &id, &part(b""), &part(b"application/json"), &part(b""), &json].concat(),
        );
    }
    seeds
}

/// What is taken is a message of the contract.
pub(crate) fn request(data: &[u8]) {
    let mut input = Input::new(data);
    let Some((api, route, method)) = FACE.route(input.byte()) else { return };
    let captures = [input.part(), input.part()].map(String::from_utf8_lossy);
    let query = String::from_utf8_lossy(input.part());
    let query = Some(&*query).filter(|query| !query.is_empty());
    let mut headers = HeaderMap::new();
    for name in [CONTENT_TYPE, http::HeaderName::from_static("last-event-id")] {
        if let Ok(value) = HeaderValue::from_bytes(input.part()) {
            headers.insert(name, value);
        }
    }
    let body = input.rest();
    let encoded = route.request.encode(&api.schema, &captures, query, &headers, body);
    if let Ok(bytes) = encoded {
        let message = DynamicMessage::decode(method.input(), bytes.clone());
        assert!(message.is_ok(), "{}: it is no {}", route.rpc, method.input().full_name());
        let borrowed: Vec<Cow<'_, str>> = captures.iter().map(|text| Cow::Borrowed(&**text)).collect();
        let again = route.request.encode(&api.schema, &borrowed, query, &headers, body);
        assert_eq!(again.ok(), Some(bytes), "the same request is another message");
    }
    // Whatever the path, it leads somewhere or nowhere.
    if let Some(path) = std::str::from_utf8(body).ok().filter(|path| path.starts_with('/')) {
        drop(api.find(&Method::GET, path));
    }
}

/// A route, and its answer.
pub(crate) fn answers() -> Vec<Vec<u8>> {
    let of = |number| {
        let (_, _, method) = FACE.route(number)?;
        Some([vec![number], sample(&method.output(), 0).encode_to_vec()].concat())
    };
    numbers().filter_map(of).collect()
}

/// What comes out is JSON, or a body that is none.
pub(crate) fn answer(data: &[u8]) {
    let mut input = Input::new(data);
    let Some((api, route, method)) = FACE.route(input.byte()) else { return };
    let message = input.rest();
    let decoded = route.response.decode(&api.schema, message);
    if let Ok(json) = &decoded {
        let read = serde_json::from_slice::<serde_json::Value>(json);
        assert!(read.is_ok(), "{}: the answer is no JSON: {read:?}", route.rpc);
    }
    if let Some(message) = as_json_knows_it(method.output(), message)
        && !route.response.is_raw()
    {
        let decoded = route.response.decode(&api.schema, &message);
        assert!(decoded.is_ok(), "{}: a message of the contract is refused", route.rpc);
    }
    if let Ok(Some(id)) = route.response.event_id(&api.schema, message) {
        assert!(!id.contains(['\n', '\r', '\0']), "an event's id is one line");
    }
    if route.response.is_raw() {
        drop(route.response.raw(&Bytes::copy_from_slice(message)));
    }
}

/// The message as another implementation writes it in JSON and reads it back: so without fields that the contract
/// does not have (they may be of the deprecated groups, which no service of ours writes), and only where each time in it
/// has a form there.
fn as_json_knows_it(descriptor: MessageDescriptor, bytes: &[u8]) -> Option<Vec<u8>> {
    let message = DynamicMessage::decode(descriptor.clone(), bytes).ok()?;
    let json = serde_json::to_value(&message).ok()?;
    Some(DynamicMessage::deserialize(descriptor, json).ok()?.encode_to_vec())
}

const NOW: i64 = 1_800_000_000;
const ID: &str = "abcdefghijklmnop";
const SECRET: [u8; 32] = [7; 32];
/// What the body hashes to stands in the header.
const BODY: &str = "{\"hello\": \"world\"}";

/// Lines: the target, Signature-Input, Signature, Content-Digest, Idempotency-Key; then the body.
pub(crate) fn signed() -> Vec<Vec<u8>> {
    let digest = ring::digest::digest(&ring::digest::SHA256, BODY.as_bytes());
    let digest = format!("sha-256=:{}:", STANDARD.encode(digest.as_ref()));
    let parameters = format!(r#"created={NOW};nonce="12345678";keyid="{ID}""#);
    let covered = r#"("@method" "@target-uri" "content-digest" "idempotency-key")"#;
    let all = format!("{covered};{parameters}");
    let base = format!(
        "\"@method\": POST\n\"@target-uri\": https://example.com/foo?a=b\n\"content-digest\": {digest}\n\
         \"idempotency-key\": k-1\n\"@signature-params\": {all}"
    );
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &SECRET), base.as_bytes());
    let signature = format!("sig1=:{}:", STANDARD.encode(tag.as_ref()));
    let lines = ["/foo?a=b", &format!("sig1={all}"), &signature, &digest, "k-1", BODY];
    let other = [
        "/foo",
        &format!("a=(\"date\");x, sig1={all};alg=\"hmac-sha256\";expires=9"),
        "sig1=:AAAA:",
        "",
        "",
        "",
    ];
    vec![lines.join("\n").into_bytes(), other.join("\n").into_bytes()]
}

/// A signature is the request's, or is refused.
pub(crate) fn signature(data: &[u8]) {
    let mut lines = data.splitn(6, |byte| *byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    let Ok(request) = Request::post(line()).header("host", "example.com").body(()) else { return };
    let mut parts = request.into_parts().0;
    for name in ["signature-input", "signature", "content-digest", "idempotency-key"] {
        if let (value @ [_, ..], name) = (line(), name)
            && let Ok(value) = HeaderValue::from_bytes(value)
        {
            parts.headers.insert(name, value);
        }
    }
    let body = line();
    let Ok(signed) = check(&parts, NOW) else { return };
    if signed.body.check(body).is_ok() && !body.is_empty() {
        assert_ne!(signed.body, SignedBody::Any);
        let other = [body, b"x"].concat();
        assert_eq!(signed.body.check(&other), Err(SignatureError::Body), "another body passes");
    }
    parts.method = Method::PUT;
    assert!(check(&parts, NOW).is_err(), "it is another method");
    parts.method = Method::POST;
    assert_eq!(check(&parts, NOW + 61).err(), Some(SignatureError::Stale), "it is too old");
    let uri = format!("{}x", parts.uri).parse();
    parts.uri = uri.unwrap_or_default();
    assert!(check(&parts, NOW).is_err(), "it is another target");
}

fn check(parts: &Parts, now: i64) -> Result<edge_gateway::auth::signature::Signed, SignatureError> {
    let record = SignatureRecord { algorithm: SignatureAlgorithm::HmacSha256, public_key: None };
    let key = VerifyingKey::new(&record, &SECRET).map_err(|_| SignatureError::Missing)?;
    let id = ID.parse().map_err(|_| SignatureError::Missing)?;
    let rules = SignatureRules { scheme: "https", tolerance_s: 60 };
    verify(parts, id, &key, &rules, Timestamp::from_seconds(now))
}
