//! JSON to messages and back, over every form of field and annotation, against the reflection
//! library as the second opinion.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

mod sample;

use std::borrow::Cow;

use edge_gateway::transcode::{ApiError, NoMatch, RequestError, Transcoder};
use http::{HeaderMap, Method};
use prost::Message as _;
use sample::{Sample, compile, json, violations};

#[test]
fn every_kind_of_value_is_read() {
    let sample = Sample::shared();
    // (given, understood); where the second is missing it is the first.
    let cases = [
        (r#"{"f64":1.5,"f32":-0.25}"#, None),
        (r#"{"f64":"Infinity","f32":"NaN"}"#, None),
        (r#"{"f64":3}"#, Some(r#"{"f64":3.0}"#)),
        (
            r#"{"i32":-2147483648,"i64":-9223372036854775808,"u32":4294967295,"u64":18446744073709551615}"#,
            None,
        ),
        (r#"{"s32":-5,"s64":-6,"x32":7,"x64":8,"sx32":-9,"sx64":-10}"#, None),
        (
            r#"{"i64":"-12","u64":"18446744073709551615","i32":10.0}"#,
            Some(r#"{"i64":-12,"u64":18446744073709551615,"i32":10}"#),
        ),
        (r#"{"i64":1e3}"#, Some(r#"{"i64":1000}"#)),
        (r#"{"flag":true,"name":"a\u00e9\"\n","raw":"AQID"}"#, None),
        (r#"{"raw":"_-8"}"#, Some(r#"{"raw":"/+8="}"#)),
        (r#"{"colour":"BLUE","colours":["RED",-2]}"#, Some(r#"{"colour":"BLUE","colours":["RED","BLUE"]}"#)),
        (r#"{"maybe":0}"#, None),
        (r#"{"maybe":null,"name":null,"child":null,"words":null}"#, Some("{}")),
        (
            r#"{"childList":[{"name":"x","amount":1},{"name":"y"}]}"#,
            Some(r#"{"child_list":[{"name":"x","amount":1},{"name":"y"}]}"#),
        ),
        (r#"{"numbers":[1,2,-3],"words":["",""]}"#, None),
        (r#"{"by_name":{"k":{"name":"n"}},"by_number":{"-1":"m"},"by_flag":{"true":1.5}}"#, None),
        (r#"{"text":"t"}"#, None),
        (r#"{"text":null,"picked":{"name":"p"}}"#, Some(r#"{"picked":{"name":"p"}}"#)),
        (
            r#"{"at":"2026-01-31T12:00:00.5Z","took":"1.500s","mask":"a.b,cD"}"#,
            Some(r#"{"at":"2026-01-31T12:00:00.500Z","took":"1.500s","mask":"a.b,cD"}"#),
        ),
        (r#"{"at":"2026-01-31T12:00:00+02:00"}"#, Some(r#"{"at":"2026-01-31T10:00:00Z"}"#)),
        (r#"{"boxed":"0","boxed_text":""}"#, Some(r#"{"boxed":0,"boxed_text":""}"#)),
        (r#"{"free":{"a":[1.5,null,{"b":true}]},"any_value":[1.5]}"#, None),
        (r#"{"again":{"again":{"i32":1}}}"#, None),
        (r#"{"times":["2026-01-31T12:00:00Z"]}"#, None),
        ("{}", None),
        ("", Some("{}")),
    ];
    for (given, understood) in cases {
        assert_eq!(sample.post(given), Ok(json(understood.unwrap_or(given))), "{given}");
    }
}

#[test]
fn what_is_wrong_is_named_and_never_quoted() {
    let sample = Sample::shared();
    let cases: &[(&str, &[&str])] = &[
        (r#"{"i64":10.5}"#, &["i64: must be an integer"]),
        (r#"{"i64":"12a4"}"#, &["i64: must be an integer"]),
        (r#"{"i64":true}"#, &["i64: must be an integer"]),
        (r#"{"i64":[1]}"#, &["i64: must be an integer"]),
        (r#"{"i64":{"a":[1]}}"#, &["i64: must be an integer"]),
        (
            r#"{"i64":99999999999999999999}"#,
            &["i64: must be an integer between -9223372036854775808 and 9223372036854775807"],
        ),
        (
            r#"{"i64":1e30}"#,
            &["i64: must be an integer between -9223372036854775808 and 9223372036854775807"],
        ),
        (r#"{"i32":2147483648}"#, &["i32: must be an integer between -2147483648 and 2147483647"]),
        (r#"{"u32":-1}"#, &["u32: must be an integer between 0 and 4294967295"]),
        (
            r#"{"u32":"99999999999999999999999999999999999999999999"}"#,
            &["u32: must be an integer between 0 and 4294967295"],
        ),
        (r#"{"i32":"+5"}"#, &["i32: must be an integer"]),
        (r#"{"i32":""}"#, &["i32: must be an integer"]),
        (r#"{"name":5}"#, &["name: must be a string"]),
        (r#"{"flag":"true"}"#, &["flag: must be true or false"]),
        (r#"{"f32":1e300}"#, &["f32: must be a number"]),
        (r#"{"f64":"x"}"#, &["f64: must be a number"]),
        (r#"{"raw":"***"}"#, &["raw: must be a string in base64"]),
        (r#"{"colour":"GREEN"}"#, &["colour: must be one of BLUE, RED"]),
        (r#"{"colour":7}"#, &["colour: must be one of BLUE, RED"]),
        (r#"{"child":"x"}"#, &["child: must be an object"]),
        (r#"{"child":{}}"#, &["child.name: is required"]),
        (
            r#"{"child":{"name":"x","child":{"name":"y","amount":"z"}}}"#,
            &["child.child.amount: must be an integer"],
        ),
        (r#"{"child_list":{}}"#, &["child_list: must be a list"]),
        (
            r#"{"child_list":[{"name":"a"},{"name":"b","amount":1.5}]}"#,
            &["child_list[1].amount: must be an integer"],
        ),
        (r#"{"child_list":[null]}"#, &["child_list[0]: must not be null"]),
        (r#"{"numbers":7}"#, &["numbers: must be a list"]),
        (r#"{"numbers":[[1]]}"#, &["numbers[0]: must be an integer"]),
        (r#"{"by_name":[]}"#, &["by_name: must be an object"]),
        (r#"{"by_name":{"k":{"name":1}}}"#, &["by_name.k.name: must be a string"]),
        (r#"{"by_name":{"4242424242424242":1}}"#, &["by_name.(name withheld): must be an object"]),
        (r#"{"by_number":{"x":"m"}}"#, &["by_number.x: must be an integer"]),
        (r#"{"by_number":{"1":"m","1":"n"}}"#, &["by_number.1: is given twice"]),
        (r#"{"by_flag":{"true":null}}"#, &["by_flag.true: must not be null"]),
        (r#"{"text":"t","picked":{"name":"p"}}"#, &["picked: only one of text, picked may be given"]),
        (r#"{"name":"a","name":"b"}"#, &["name: is given twice"]),
        (r#"{"child_list":[],"childList":[]}"#, &["child_list: is given twice"]),
        (r#"{"at":"yesterday"}"#, &["at: must be an RFC 3339 time such as 2026-01-31T12:00:00Z"]),
        (r#"{"at":"2026-01-31"}"#, &["at: must be an RFC 3339 time such as 2026-01-31T12:00:00Z"]),
        (r#"{"at":{"seconds":1}}"#, &["at: must be an RFC 3339 time such as 2026-01-31T12:00:00Z"]),
        (r#"{"took":"1h"}"#, &["took: must be seconds with an s, such as 1.5s"]),
        (r#"{"mask":"a b"}"#, &["mask: must be field names separated by commas"]),
        (r#"{"boxed":"x"}"#, &["boxed: must be an integer"]),
        (r#"{"free":7}"#, &["free: must be a google.protobuf.Struct in JSON"]),
        (r#"{"colur":"RED"}"#, &["colur: is not a known field; did you mean `colour`?"]),
        (r#"{"zzzzzz":{"a":[1,{"b":2}]}}"#, &["zzzzzz: is not a known field"]),
        (r#"{"4000000000000002":1}"#, &["(name withheld): is not a known field"]),
        ("[]", &["body: must be an object"]),
        ("null", &["body: must be an object"]),
        ("\"4242424242424242\"", &["body: must be an object"]),
        (
            r#"{"i64":1.5,"name":3,"nope":0}"#,
            &["i64: must be an integer", "name: must be a string", "nope: is not a known field"],
        ),
    ];
    for (body, expected) in cases {
        assert_eq!(sample.wrong(body), *expected, "{body}");
    }
}

#[test]
fn broken_json_is_told_by_its_place_alone() {
    let sample = Sample::shared();
    let malformed = |line, column| Err(RequestError::Malformed { line, column });
    assert_eq!(sample.post("{\"name\":"), malformed(1, 8));
    assert_eq!(sample.post("{\n\"name\": 4242424242424242x}"), malformed(2, 25));
    assert_eq!(sample.post("{} {}"), malformed(1, 4));
    assert_eq!(sample.post("{\"i64\":01}"), malformed(1, 9));
    assert_eq!(sample.post("{\"name\":\"\u{1}\"}"), malformed(1, 10));
    assert_eq!(sample.post("not json"), malformed(1, 2));
    assert!(matches!(sample.post("{\"a\":1,}"), Err(RequestError::Malformed { .. })));
    let deep = format!("{}1{}", r#"{"again":"#.repeat(200), "}".repeat(200));
    assert!(sample.wrong(&deep)[0].ends_with("is nested more than 64 deep"));
    let (route, found) = sample.api.find(&Method::POST, "/v1/samples").unwrap();
    let encoded = route.request.encode(
        &sample.api.schema,
        &found.captures,
        None,
        &HeaderMap::new(),
        b"{\"name\":\"\xff\"}",
    );
    assert_eq!(encoded, Err(RequestError::NotUtf8));
}

#[test]
fn a_deep_unknown_value_costs_no_stack() {
    let sample = Sample::shared();
    let deep = format!(r#"{{"nope":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(sample.wrong(&deep), ["nope: is not a known field"]);
}

#[test]
fn the_list_of_violations_is_bounded() {
    let sample = Sample::shared();
    let body = format!(r#"{{"numbers":[{}true]}}"#, "true,".repeat(50_000));
    assert_eq!(sample.wrong(&body).len(), 16);
}

#[test]
fn path_query_and_body_each_give_their_fields() {
    let sample = Sample::shared();
    let cases = [
        (Method::PUT, "/v1/samples/a%20b", r#"{"i32":1}"#, r#"{"name":"a b","i32":1}"#),
        (Method::PUT, "/v1/samples/x", "", r#"{"name":"x"}"#),
        (
            Method::PATCH,
            "/v1/samples/a/7/b?i32=5&again.child.name=n&again.child.amount=2",
            r#"[{"name":"c"}]"#,
            r#"{"child":{"name":"a/7/b"},"child_list":[{"name":"c"}],"i32":5,"again":{"child":{"name":"n","amount":2}}}"#,
        ),
        (Method::GET, "/v1/samples/-5", "", r#"{"i32":-5}"#),
        (
            Method::GET,
            "/v1/samples?numbers=1&numbers=2&words=a+b&words=%C3%A9&flag=true&colour=RED&maybe=0&at=2026-01-31T12:00:00Z",
            "",
            r#"{"numbers":[1,2],"words":["a b","é"],"flag":true,"colour":"RED","maybe":0,"at":"2026-01-31T12:00:00Z"}"#,
        ),
        (Method::GET, "/v1/samples?childList=", "", ""),
        (
            Method::GET,
            "/v1/samples?raw=AQID&boxed=3&mask=a,b&f64=1.5&u64=9",
            "",
            r#"{"raw":"AQID","boxed":3,"mask":"a,b","f64":1.5,"u64":9}"#,
        ),
        (Method::GET, "/v1/samples?", "", "{}"),
    ];
    for (method, uri, body, expected) in cases {
        let got = sample.request(&method, uri, body);
        if expected.is_empty() {
            assert_eq!(violations(got), ["child_list: cannot be given in the query string"], "{uri}");
        } else {
            assert_eq!(got, Ok(json(expected)), "{method} {uri}");
        }
    }
    let query = Method::from_bytes(b"QUERY").unwrap();
    let got = sample.request(&query, "/v1/samples:search?name=n", r#"{"name":"c"}"#);
    assert_eq!(got, Ok(json(r#"{"name":"n","child":{"name":"c"}}"#)));
}

#[test]
fn wrong_parameters_are_named() {
    let sample = Sample::shared();
    let cases = [
        (Method::GET, "/v1/samples/x", "", "i32: must be an integer"),
        (
            Method::GET,
            "/v1/samples/99999999999",
            "",
            "i32: must be an integer between -2147483648 and 2147483647",
        ),
        (Method::GET, "/v1/samples?i32=x", "", "i32: must be an integer"),
        (Method::GET, "/v1/samples?i32=1&i32=2", "", "i32: is given twice"),
        (Method::GET, "/v1/samples?shape=RED", "", "shape: is not a known parameter"),
        (
            Method::GET,
            "/v1/samples?coluor=RED",
            "",
            "coluor: is not a known parameter; did you mean `colour`?",
        ),
        (Method::GET, "/v1/samples?flag=yes", "", "flag: must be true or false"),
        (Method::GET, "/v1/samples?by_name.x=1", "", "by_name.x: is not a known parameter"),
        (
            Method::GET,
            "/v1/samples?text=a&picked.name=b",
            "",
            "picked.name: cannot be given together with another one of its oneof",
        ),
        (
            Method::GET,
            "/v1/samples?again.picked.name=b&picked.name=c&again.text=a",
            "",
            "again.text: cannot be given together with another one of its oneof",
        ),
        (Method::GET, "/v1/samples?by_name=1", "", "by_name: cannot be given in the query string"),
        (Method::GET, "/v1/samples?name=%ff", "", "query: must be percent-encoded UTF-8"),
        (
            Method::GET,
            "/v1/samples/1?i32=2",
            "",
            "i32: is not a query parameter here; it belongs in the path or the body",
        ),
        (
            Method::POST,
            "/v1/samples?i32=2",
            "{}",
            "i32: is not a query parameter here; it belongs in the path or the body",
        ),
        (
            Method::PUT,
            "/v1/samples/x",
            r#"{"name":"y"}"#,
            "name: is given by the path; leave it out of the body",
        ),
        (Method::PATCH, "/v1/samples/a/7/b", "{}", "child_list: must be a list"),
    ];
    for (method, uri, body, expected) in cases {
        assert_eq!(violations(sample.bytes(&method, uri, body)), [expected], "{method} {uri}");
    }
    assert_eq!(sample.bytes(&Method::GET, "/v1/samples", "{}"), Err(RequestError::BodyNotTaken));
}

#[test]
fn answers_show_scalars_always_and_messages_when_present() {
    let sample = Sample::shared();
    let shown = sample.answer(&Method::POST, "/v1/samples", &sample.message("{}"));
    let expected = concat!(
        r#"{"f64":0.0,"f32":0.0,"i32":0,"i64":0,"u32":0,"u64":0,"s32":0,"s64":0,"x32":0,"x64":0,"sx32":0,"#,
        r#""sx64":0,"flag":false,"name":"","raw":"","colour":"COLOUR_UNSPECIFIED","child_list":[],"#,
        r#""numbers":[],"words":[],"colours":[],"by_name":{},"by_number":{},"by_flag":{},"times":[],"#,
        r#""nothing":null,"by_i64":{},"by_u32":{},"by_u64":{},"by_s32":{},"by_s64":{},"by_x32":{},"#,
        r#""by_x64":{},"by_sx32":{},"by_sx64":{},"spans":[],"values":[]}"#
    );
    assert_eq!(shown, expected);
    let get = |body: &str| sample.answer(&Method::GET, "/v1/samples/1", &sample.message(body));
    assert_eq!(get(r#"{"child":{"name":"c","amount":"5"}}"#), r#"{"name":"c","amount":5}"#);
    assert_eq!(get("{}"), "null");
    let list = |body: &str| sample.answer(&Method::GET, "/v1/samples", &sample.message(body));
    assert_eq!(list(r#"{"childList":[{"name":"\n"}]}"#), r#"[{"name":"\n","amount":0}]"#);
    assert_eq!(list("{}"), "[]");
}

#[test]
fn map_keys_come_sorted_and_unknown_things_are_passed_over() {
    let sample = Sample::shared();
    let keys: Vec<String> = (0..50).map(|n| format!("\"k{n:02}\":{{\"name\":\"\"}}")).collect();
    let message = sample.message(&format!("{{\"byName\":{{{}}}}}", keys.join(",")));
    let shown = sample.answer(&Method::POST, "/v1/samples", &message);
    let positions: Vec<usize> = (0..50).map(|n| shown.find(&format!("k{n:02}")).unwrap()).collect();
    assert!(positions.is_sorted());

    let (route, _) = sample.api.find(&Method::POST, "/v1/samples").unwrap();
    // Field 1000 is not known; colour 9 has no name; packed and unpacked numbers mix.
    let bytes = [0xc0, 0x3e, 0x01, 0x80, 0x01, 0x09, 0xa0, 0x01, 0x01, 0xa2, 0x01, 0x02, 0x02, 0x03];
    let shown = route.response.decode(&sample.api.schema, &bytes).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!((&shown["colour"], &shown["numbers"]), (&json("9"), &json("[1,2,3]")));
    assert!(route.response.decode(&sample.api.schema, &[0x0a, 0x01]).is_err());
    // A string that is not UTF-8.
    assert!(route.response.decode(&sample.api.schema, &[0x72, 0x01, 0xff]).is_err());
}

#[test]
fn a_message_in_pieces_is_one_message_and_the_last_of_a_oneof_counts() {
    let sample = Sample::shared();
    let piece = |json: &str| sample.message(json).encode_to_vec();
    let parts = [
        piece(r#"{"child":{"name":"a"}}"#),
        piece(r#"{"child":{"amount":"3"},"text":"t"}"#),
        piece(r#"{"child":{"child":{"name":"z"}},"picked":{"name":"p"}}"#),
    ];
    let (route, _) = sample.api.find(&Method::POST, "/v1/samples").unwrap();
    let shown = route.response.decode(&sample.api.schema, &parts.concat()).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!(shown["child"], json(r#"{"name":"a","amount":3,"child":{"name":"z","amount":0}}"#));
    assert_eq!(shown.get("text"), None);
    assert_eq!(shown["picked"]["name"], json("\"p\""));
}

#[test]
fn only_annotated_rpcs_are_reachable() {
    let sample = Sample::shared();
    assert_eq!(sample.api.routes().len(), 11);
    assert!(sample.api.routes().iter().all(|route| !route.rpc.ends_with("Internal")));
    assert!(sample.api.routes().iter().all(|route| &*route.upstream == "svc-sample"));
    let Err(error) = sample.api.find(&Method::DELETE, "/v1/samples/x") else { panic!("no DELETE") };
    assert_eq!(error, NoMatch::MethodNotAllowed(vec![Method::GET, Method::PUT]));
}

fn api_error(rpcs: &str) -> ApiError {
    let source = format!(
        "syntax = \"proto3\"; package paymesh.wrong.v1;
         import \"google/api/annotations.proto\"; import \"paymesh/options/v1/options.proto\";
         service Wrong {{ {rpcs} }}
         message M {{ string id = 1; M m = 2; repeated string many = 3; }}"
    );
    Transcoder::new(&compile(Some(("wrong.proto", &source)))).unwrap_err()
}

#[test]
fn annotations_that_cannot_be_are_start_up_errors() {
    let rpc = |name: &str, rule: &str| {
        format!("rpc {name}(M) returns (M) {{ option (google.api.http) = {{{rule}}}; }}")
    };
    let both = rpc("A", "get: \"/v1/x/{id}\"") + &rpc("B", "get: \"/v1/x/{m.id}\"");
    let conflict = api_error(&both).to_string();
    assert_eq!(
        conflict,
        "GET /v1/x/{m.id} leads to both paymesh.wrong.v1.Wrong/A and paymesh.wrong.v1.Wrong/B"
    );
    for (rule, expected) in [
        ("get: \"/v1/{nope}\"", "Wrong/A: the path variable nope is not a single field with a plain value"),
        ("get: \"/v1/{m}\"", "Wrong/A: the path variable m is not a single field with a plain value"),
        ("get: \"/v1/{many}\"", "Wrong/A: the path variable many is not a single field with a plain value"),
        ("post: \"/v1/x\" body: \"nope\"", "Wrong/A: the body field nope does not exist"),
        (
            "post: \"/v1/{m.m.id}\" body: \"m\"",
            "Wrong/A: the field m.m.id is given by the path and by the body",
        ),
        ("custom: {kind: \"get\" path: \"/v1/x\"}", "Wrong/A: the custom method is not an HTTP method"),
        ("custom: {kind: \"A B\" path: \"/v1/x\"}", "Wrong/A: the custom method is not an HTTP method"),
        (
            "get: \"/v1/x\" additional_bindings {get: \"/v1/y\" additional_bindings {get: \"/v1/z\"}}",
            "Wrong.A: additional_bindings within additional_bindings",
        ),
        (
            "get: \"/v1/x/{id}\" additional_bindings {get: \"/v1/{id}/y\"}",
            "GET /v1/{id}/y leads to both paymesh.wrong.v1.Wrong/A and paymesh.wrong.v1.Wrong/A",
        ),
        ("get: \"/v1/x\" response_body: \"nope\"", "Wrong/A: the body field nope does not exist"),
        ("get: \"v1\"", "Wrong/A: the path v1 must begin with '/'"),
        ("body: \"*\"", "Wrong/A: the google.api.http annotation has no path"),
    ] {
        let error = api_error(&rpc("A", rule)).to_string();
        assert!(error.ends_with(expected), "{error}");
    }
    // Across bindings, between a variable and a literal, and between one method and every method.
    for (first, second) in [
        (
            "post: \"/v1/a\" additional_bindings {get: \"/v1/x/{id}\"}",
            "get: \"/v1/y\" additional_bindings {get: \"/v1/x/*\"}",
        ),
        ("get: \"/v1/{id}/x\"", "get: \"/v1/y/{id}\""),
        ("get: \"/v1/{id=a/*}\"", "get: \"/v1/a/{id}\""),
        ("get: \"/v1/{id=**}\"", "get: \"/v1/**\""),
        ("get: \"/v1/{id}\"", "custom: {kind: \"*\" path: \"/v1/x\"}"),
        ("get: \"/v1/{id}:go\"", "get: \"/v1/*:go\""),
    ] {
        let error = api_error(&(rpc("A", first) + &rpc("B", second)));
        assert!(
            matches!(&error, ApiError::Conflict { first, second, .. }
            if first.ends_with("/A") && second.ends_with("/B")),
            "{error}"
        );
    }
    let stream = "rpc A(stream M) returns (M) { option (google.api.http) = {get: \"/v1/x\"}; }";
    assert!(matches!(api_error(stream), ApiError::Streaming(_)));
    let both = stream.replace("returns (M)", "returns (stream M)");
    assert!(matches!(api_error(&both), ApiError::Streaming(_)));
}

#[test]
fn the_contract_itself_makes_an_api() {
    let api = Transcoder::new(&paymesh_proto::descriptor_pool()).unwrap();
    let (route, found) = api.find(&Method::POST, "/v1/payments/pay_1/refunds").unwrap();
    assert_eq!(&*route.rpc, "paymesh.payments.v1.PaymentService/CreateRefund");
    assert_eq!(route.grpc_path.path(), "/paymesh.payments.v1.PaymentService/CreateRefund");
    assert_eq!(&*route.upstream, "svc-payments");
    assert_eq!(found.captures, [Cow::Borrowed("pay_1")]);
    let body = route
        .request
        .encode(&api.schema, &found.captures, None, &HeaderMap::new(), br#"{"amount":0}"#)
        .unwrap();
    let refund = paymesh_proto::payments::v1::CreateRefundRequest::decode(body).unwrap();
    assert_eq!((refund.payment_id.as_str(), refund.amount), ("pay_1", Some(0)));
}
