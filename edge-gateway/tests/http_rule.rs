//! google.api.http beyond paths and JSON: raw bodies, headers, streams' places, field masks, every method.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

mod sample;

use bytes::Bytes;
use edge_gateway::transcode::{ApiError, RawBody, RequestError, Transcoder};
use http::{HeaderMap, HeaderValue, Method, header::CONTENT_TYPE};
use prost::Message as _;
use prost_reflect::DynamicMessage;
use sample::{Sample, compile, json, violations};
use serde_json::{Value, json};

const BYTES: &[u8] = b"\x00\xff{ not JSON \r\n";

fn encode(method: &Method, uri: &str, headers: &HeaderMap, body: &[u8]) -> Result<Value, RequestError> {
    let sample = Sample::shared();
    let (path, query) = uri.split_once('?').map_or((uri, None), |(path, query)| (path, Some(query)));
    let (route, found) = sample.api.find(method, path).unwrap();
    let bytes = route.request.encode(&sample.api.schema, &found.captures, query, headers, body)?;
    let name = route.rpc.split_once('/').unwrap();
    let service = sample.pool.get_service_by_name(name.0).unwrap();
    let input = service.methods().find(|method| method.name() == name.1).unwrap().input();
    let message = DynamicMessage::decode(input, bytes).unwrap();
    let options =
        prost_reflect::SerializeOptions::new().use_proto_field_name(true).stringify_64_bit_integers(false);
    Ok(message.serialize_with_options(serde_json::value::Serializer, &options).unwrap())
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, HeaderValue::from_static(value));
    }
    headers
}

#[test]
fn a_raw_body_goes_in_and_comes_out_as_it_is() {
    let mut with_type = HeaderMap::new();
    with_type.insert(CONTENT_TYPE, HeaderValue::from_static("image/png"));
    // Base64 of the bytes, as the reflection library writes them.
    let data = "AP97IG5vdCBKU09OIA0K";
    let content = json!({"content_type": "image/png", "data": data});
    let uploaded = encode(&Method::POST, "/v1/blobs/a%2Fb?note=n", &with_type, BYTES);
    assert_eq!(uploaded, Ok(json!({"name": "a/b", "note": "n", "content": content})));
    assert_eq!(encode(&Method::POST, "/v1/raw", &with_type, BYTES), Ok(content));
    assert_eq!(encode(&Method::POST, "/v1/raw", &HeaderMap::new(), b""), Ok(json!({})));
    let named = violations(encode(&Method::POST, "/v1/blobs/a?content.data=AAAA", &with_type, BYTES));
    assert_eq!(named, ["content.data: is not a known parameter"]);

    let sample = Sample::shared();
    for (path, whole) in [("/v1/raw", true), ("/v1/blobs/x", false)] {
        let (route, _) = sample.api.find(&Method::POST, path).unwrap();
        assert!(route.response.is_raw());
        let name = if whole { "google.api.HttpBody" } else { "paymesh.sample.v1.Blob" };
        let content = json!({"contentType": "image/png", "data": data});
        let value = if whole { content } else { json!({"name": "n", "content": content}) };
        let descriptor = sample.pool.get_message_by_name(name).unwrap();
        let message = DynamicMessage::deserialize(descriptor, value).unwrap().encode_to_vec();
        let body = route.response.raw(&Bytes::from(message)).unwrap();
        assert_eq!(body, RawBody { content_type: "image/png".into(), data: BYTES.into() });
        let empty = route.response.raw(&Bytes::new()).unwrap();
        assert_eq!(empty, RawBody { content_type: String::new(), data: Bytes::new() });
        assert!(route.response.raw(&Bytes::from_static(b"\x12\x05x")).is_err(), "cut short");
    }
}

#[test]
fn raw_bytes_within_json_are_a_start_up_error() {
    for (fields, rule, field) in [
        ("google.api.HttpBody b = 1;", "post: \"/v1/x\" body: \"*\"", "b"),
        ("google.api.HttpBody b = 1;", "get: \"/v1/x\"", "b"),
        ("repeated google.api.HttpBody b = 1;", "post: \"/v1/x\" body: \"b\"", "b"),
        ("N n = 2;", "post: \"/v1/x\" body: \"n\"", "n"),
        ("map<string, N> n = 2;", "post: \"/v1/x\" body: \"*\"", "n"),
    ] {
        let source = format!(
            "syntax = \"proto3\"; package paymesh.wrong.v1;
             import \"google/api/annotations.proto\"; import \"google/api/httpbody.proto\";
             import \"paymesh/options/v1/options.proto\";
             service Wrong {{ rpc A(M) returns (Ok) {{ option (google.api.http) = {{{rule}}}; }} }}
             message M {{ {fields} }} message N {{ google.api.HttpBody b = 1; N n = 2; }} message Ok {{}}"
        );
        let error = Transcoder::new(&compile(Some(("raw.proto", &source)))).unwrap_err();
        assert!(matches!(error, ApiError::Plan { .. }), "{error}");
        assert!(error.to_string().contains(&format!(": {field} is raw bytes")), "{error}");
    }
}

#[test]
fn headers_and_the_last_events_id_reach_those_who_ask() {
    let given =
        headers(&[("x-a", "1"), ("x-a", "2"), ("authorization", "Bearer x"), ("x-forwarded-for", "y")]);
    let hook = encode(&Method::POST, "/v1/hooks/a/b", &given, b"x");
    assert_eq!(hook, Ok(json!({"content": {"data": "eA=="}, "headers": {"x-a": "1, 2"}})));
    // What others add on the way in another encoding is no text, and does not keep the rest from arriving.
    let mut foreign = HeaderMap::new();
    for (name, value) in [("x-a", "é".as_bytes()), ("x-a", b"\xe9"), ("x-city", b"Orl\xe9ans")] {
        foreign.append(name, http::HeaderValue::from_bytes(value).unwrap());
    }
    let hook = encode(&Method::POST, "/v1/hooks/a/b", &foreign, b"x");
    assert_eq!(hook, Ok(json!({"content": {"data": "eA=="}, "headers": {"x-a": "é"}})));
    let query = violations(encode(&Method::GET, "/v1/hooks?headers.x=1", &HeaderMap::new(), b""));
    assert_eq!(query, ["headers.x: is not a known parameter"]);

    let watch = |uri: &str, last: Option<&'static str>| {
        let headers = headers(&last.map(|last| ("last-event-id", last)).into_iter().collect::<Vec<_>>());
        encode(&Method::GET, uri, &headers, b"")
    };
    assert_eq!(watch("/v1/ticks:watch?after=3&of=x", None), Ok(json!({"after": 3, "of": "x"})));
    assert_eq!(watch("/v1/ticks:watch?after=3&of=x", Some("7")), Ok(json!({"after": 7, "of": "x"})));
    assert_eq!(watch("/v1/ticks:watch?after=3", Some("")), Ok(json!({"after": 3})));
    assert_eq!(violations(watch("/v1/ticks:watch", Some("x"))), ["Last-Event-ID: must be an integer"]);

    let sample = Sample::shared();
    let (route, _) = sample.api.find(&Method::GET, "/v1/ticks:watch").unwrap();
    assert!(route.streaming && !route.public);
    let id = |value: Value| {
        let descriptor = sample.pool.get_message_by_name("paymesh.sample.v1.Tick").unwrap();
        let message = DynamicMessage::deserialize(descriptor, value).unwrap();
        route.response.event_id(&sample.api.schema, &message.encode_to_vec()).unwrap()
    };
    assert_eq!(id(json!({"place": "a \"b\" é", "number": 1})).as_deref(), Some("a \"b\" é"));
    assert_eq!(id(json!({"number": 1})), None);
    for broken in ["a\nb", "a\rb", "a\u{0}b"] {
        assert_eq!(id(json!({"place": broken})), None, "it would end its line");
    }
}

#[test]
fn options_on_fields_that_they_are_not_for_are_start_up_errors() {
    for (field, name) in [
        ("repeated string a = 1 [(paymesh.options.v1.resume_after) = true];", "a"),
        ("string b = 1 [(paymesh.options.v1.http_headers) = true];", "b"),
        ("map<string, int32> c = 1 [(paymesh.options.v1.http_headers) = true];", "c"),
        ("bytes d = 1 [(paymesh.options.v1.event_id) = true];", "d"),
    ] {
        let source = format!(
            "syntax = \"proto3\"; package paymesh.wrong.v1;
             import \"google/api/annotations.proto\"; import \"paymesh/options/v1/options.proto\";
             service Wrong {{ rpc A(M) returns (stream M) {{ option (google.api.http) = {{get: \"/v1/x\"}}; }} }}
             message M {{ {field} }}"
        );
        let error = Transcoder::new(&compile(Some(("marked.proto", &source)))).unwrap_err().to_string();
        assert!(
            error.ends_with(&format!("the field {name} has an option that its type does not allow")),
            "{error}"
        );
    }
}

#[test]
fn a_patch_means_what_its_body_names_or_its_mask() {
    let patch = |query: &str, body: &str| {
        encode(&Method::PATCH, &format!("/v1/everything/x{query}"), &HeaderMap::new(), body.as_bytes())
    };
    let mask = |query: &str, body: &str| patch(query, body).map(|request| request["update_mask"].clone());
    for (body, expected) in [
        (r#"{"i32":1,"childList":[]}"#, json!("i32,childList")),
        // What is said to be nothing is meant too.
        (r#"{"i32":null,"text":null}"#, json!("i32,text")),
        (
            r#"{"child":{"name":"c","child":{"name":"d"}},"by_name":{"k":{"name":"v"}}}"#,
            json!("byName,child.child.name,child.name"),
        ),
        (r#"{"again":{},"free":{"a":1}}"#, json!("again,free")),
        ("{}", json!("")),
    ] {
        let mut paths: Vec<String> =
            mask("", body).unwrap().as_str().unwrap_or_default().split(',').map(str::to_owned).collect();
        paths.sort_unstable();
        let mut wanted: Vec<&str> = expected.as_str().unwrap().split(',').collect();
        wanted.sort_unstable();
        assert_eq!(paths, wanted, "{body}");
    }
    assert_eq!(mask("", ""), Ok(Value::Null), "nothing is said at all");
    assert_eq!(mask("?update_mask=i32,child.name", r#"{"i64":1}"#), Ok(json!("i32,child.name")));
    assert_eq!(mask("?update_mask=childList", "{}"), Ok(json!("childList")));
    assert_eq!(mask("?updateMask=child_list", "{}"), Ok(json!("childList")));
    assert_eq!(mask("?update_mask=*", "{}"), Ok(json!("*")));
    let whole = patch("", r#"{"i32":1}"#).unwrap();
    assert_eq!(
        whole["everything"],
        json!({"name": "x", "i32": 1}),
        "the path's part of the resource is in it"
    );
    for (query, body, expected) in [
        ("?update_mask=i33", "{}", "update_mask: `i33` is not a field of Everything; did you mean `i32`?"),
        ("?update_mask=child.nope", "{}", "update_mask: `nope` is not a field of Child"),
        ("?update_mask=i32.x", "{}", "update_mask: `i32` has no fields within it"),
        ("?update_mask=by_name.k", "{}", "update_mask: `by_name` has no fields within it"),
        ("?update_mask=at.seconds", "{}", "update_mask: `at` has no fields within it"),
        ("?update_mask=", "{}", "update_mask: must name at least one field, or be left out"),
        ("?update_mask=i32,", "{}", "update_mask: `(name withheld)` is not a field of Everything"),
        ("?update_mask=*,i32", "{}", "update_mask: `(name withheld)` is not a field of Everything"),
        (
            "?update_mask=4242424242424242",
            "{}",
            "update_mask: `(name withheld)` is not a field of Everything",
        ),
        ("?update_mask.paths=nope", "{}", "update_mask.paths: is not a known parameter"),
        ("?update_mask=i32&update_mask=i64", "{}", "update_mask: is given twice"),
        ("", r#"{"name":"y"}"#, "everything.name: is given by the path; leave it out of the body"),
        ("", r#"{"nope":1}"#, "everything.nope: is not a known field"),
    ] {
        assert_eq!(violations(patch(query, body)), [expected], "{query} {body}");
    }
}

#[test]
fn a_rule_for_every_method_takes_every_method() {
    let sample = Sample::shared();
    for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"] {
        let (route, _) = sample.api.find(&method.parse().unwrap(), "/v1/hooks/a").unwrap();
        assert!(route.rpc.ends_with("/Hook"), "{method}");
        assert!(route.public && route.body_bytes_max == Some(10));
    }
    // HEAD is GET where it has no route of its own.
    let (route, _) = sample.api.find(&Method::HEAD, "/v1/samples").unwrap();
    assert!(route.rpc.ends_with("/List"));
    assert!(sample.api.find(&Method::HEAD, "/v1/raw").is_err());
    assert_eq!(json("{}"), json!({}));
}
