//! ProtoJSON category by category, after the names of protobuf's own conformance suite
//! (conformance/binary_json_conformance_suite.cc), with the choices of this mapping: names in snake_case,
//! 64-bit integers as numbers, unknown enum numbers, double keys and `Any` refused.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

mod sample;

use edge_gateway::transcode::{RequestError, Transcoder};
use http::Method;
use proptest::prelude::*;
use sample::{Sample, compile, json};

/// Reads `{field: value}`, writes what was understood, and takes the field out of it again.
fn through(sample: &Sample, field: &str, value: &str) -> Result<String, String> {
    let body = format!("{{\"{field}\":{value}}}");
    let bytes = sample.bytes(&Method::POST, "/v1/samples", &body).map_err(|error| match error {
        RequestError::Violations(list) => list[0].field.clone(),
        other => format!("{other:?}"),
    })?;
    // The second opinion reads the same bytes.
    let descriptor = sample.pool.get_message_by_name("paymesh.sample.v1.Everything").unwrap();
    prost_reflect::DynamicMessage::decode(descriptor, bytes.as_slice()).unwrap();
    let (route, _) = sample.api.find(&Method::POST, "/v1/samples").unwrap();
    let shown = route.response.decode(&sample.api.schema, &bytes).unwrap();
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    Ok(shown.get(field).map_or_else(|| "absent".to_owned(), ToString::to_string))
}

/// (category, field, given, understood); nothing understood: refused, and the field is blamed.
type Case = (&'static str, &'static str, &'static str, Option<&'static str>);

fn check(cases: &[Case]) {
    let sample = Sample::shared();
    for (category, field, given, understood) in cases {
        let got = through(sample, field, given);
        match understood {
            Some("absent") => assert_eq!(got.as_deref(), Ok("absent"), "{category}: {field} {given}"),
            Some(understood) => {
                assert_eq!(got.map(|got| json(&got)), Ok(json(understood)), "{category}: {field} {given}");
            }
            None => {
                let blamed =
                    got.err().unwrap_or_else(|| panic!("{category}: {field} {given} is not refused"));
                assert!(
                    blamed == *field
                        || blamed.starts_with(&format!("{field}."))
                        || blamed.starts_with(&format!("{field}[")),
                    "{category}: {blamed}"
                );
            }
        }
    }
}

#[test]
fn integers() {
    check(&[
        ("MaxValue", "i32", "2147483647", Some("2147483647")),
        ("MinValue", "i32", "-2147483648", Some("-2147483648")),
        ("MaxFloatValue", "i32", "2147483647.0", Some("2147483647")),
        ("MinFloatValue", "i32", "-2147483648.0", Some("-2147483648")),
        ("ExponentialFormat", "i32", "1e5", Some("100000")),
        ("QuotedExponentialFormat", "i32", "\"1e5\"", Some("100000")),
        ("QuotedFraction", "i32", "\"10.0\"", Some("10")),
        ("StringValue", "i32", "\"2147483647\"", Some("2147483647")),
        ("StringValueEscaped", "i32", r#""2\u003147483647""#, Some("2147483647")),
        ("MinusZero", "i32", "-0", Some("0")),
        ("TooLarge", "i32", "2147483648", None),
        ("TooSmall", "i32", "-2147483649", None),
        ("NotInteger", "i32", "0.5", None),
        ("NotNumber", "i32", "\"x\"", None),
        ("StringValuePartiallyNumeric", "i32", "\"12abc\"", None),
        ("EmptyString", "i32", "\"\"", None),
        ("PlusSign", "i32", "\"+1\"", None),
        ("LeadingSpace", "i32", "\" 1\"", None),
        ("TrailingSpace", "i32", "\"1 \"", None),
        ("Hexadecimal", "i32", "\"0x1\"", None),
        ("BooleanIsNoNumber", "i32", "true", None),
        ("BeyondDouble", "i32", "1e400", None),
        ("BeyondDouble", "i64", "-1e999999999", None),
        ("MaxValue", "i64", "9223372036854775807", Some("9223372036854775807")),
        ("MinValue", "i64", "\"-9223372036854775808\"", Some("-9223372036854775808")),
        ("TooLarge", "i64", "9223372036854775808", None),
        ("TooLarge", "i64", "\"9223372036854775808\"", None),
        ("InexactFloat", "i64", "1e18", None),
        ("MaxValue", "u64", "18446744073709551615", Some("18446744073709551615")),
        ("TooLarge", "u64", "18446744073709551616", None),
        ("Negative", "u64", "-1", None),
        ("MaxValue", "u32", "4294967295", Some("4294967295")),
        ("TooLarge", "u32", "4294967296", None),
        ("MaxValue", "x32", "4294967295", Some("4294967295")),
        ("MaxValue", "x64", "18446744073709551615", Some("18446744073709551615")),
        ("MinValue", "sx32", "-2147483648", Some("-2147483648")),
        ("MinValue", "sx64", "-9223372036854775808", Some("-9223372036854775808")),
        ("MinValue", "s32", "-2147483648", Some("-2147483648")),
        ("MinValue", "s64", "-9223372036854775808", Some("-9223372036854775808")),
        ("ExactInQuotes", "i64", "\"9007199254740993.0\"", Some("9007199254740993")),
        ("ExactInQuotes", "u64", "\"1844674407370955161.5e1\"", Some("18446744073709551615")),
        ("ExactInQuotes", "i64", "\"-90071992547409930e-1\"", Some("-9007199254740993")),
        // Zeros before the first digit make no number longer.
        ("ExactInQuotes", "i64", "\"0.0000000000000000000001e22\"", Some("1")),
        ("ExactInQuotes", "i64", "\"-0.0000000000000000000000123e25\"", Some("-123")),
        ("NoIntegerInQuotes", "i64", "\"0.0000000000000000000001e21\"", None),
        ("NoIntegerInQuotes", "i64", "\"9007199254740993.5\"", None),
        ("NoIntegerInQuotes", "i64", "\"1.00000000000000000001\"", None),
        ("TooLargeInQuotes", "u64", "\"18446744073709551616.0\"", None),
        ("ZeroInQuotes", "i64", "\"0.0e99\"", Some("0")),
        ("LargestExactDouble", "i64", "9007199254740991.0", Some("9007199254740991")),
        // As doubles these two are one.
        ("InexactDouble", "i64", "9007199254740992.0", None),
        ("InexactDouble", "i64", "9007199254740993.0", None),
        ("RepeatedTooLarge", "numbers", "[1,2147483648]", None),
        ("RepeatedBeyondDouble", "numbers", "[1,1e400]", None),
    ]);
}

#[test]
fn floats() {
    check(&[
        ("MaxPositiveValue", "f64", "1.7976931348623157e308", Some("1.7976931348623157e308")),
        ("MinPositiveValue", "f64", "2.2250738585072014e-308", Some("2.2250738585072014e-308")),
        ("TooLarge", "f64", "1.89769e308", None),
        ("TooLarge", "f64", "1e400", None),
        ("TooSmallIsZero", "f64", "1e-400", Some("0.0")),
        ("Quoted", "f64", "\"1.5e2\"", Some("150.0")),
        ("NaN", "f64", "\"NaN\"", Some("\"NaN\"")),
        ("Infinity", "f64", "\"Infinity\"", Some("\"Infinity\"")),
        ("NegativeInfinity", "f32", "\"-Infinity\"", Some("\"-Infinity\"")),
        ("OtherNames", "f64", "\"inf\"", None),
        ("OtherNames", "f64", "\"nan\"", None),
        ("OtherNames", "f64", "\"+Infinity\"", None),
        ("QuotedTooLarge", "f64", "\"1e400\"", None),
        ("NoJsonNumber", "f64", "\"1.\"", None),
        ("NoJsonNumber", "f64", "\".5\"", None),
        ("NoJsonNumber", "f64", "\"+1.5\"", None),
        ("EmptyString", "f64", "\"\"", None),
        ("MaxFloat", "f32", "3.4028235e38", Some("3.4028235e38")),
        ("FloatTooLarge", "f32", "3.502823e38", None),
        ("FloatTooLarge", "f32", "-3.502823e38", None),
    ]);
    let sample = Sample::shared();
    // Without quotes these are no JSON at all.
    for bare in ["NaN", "Infinity", "-Infinity", "01", "1.", ".5", "+1", "0x1"] {
        let refused = through(sample, "f64", bare).unwrap_err();
        assert!(refused.starts_with("Malformed"), "{bare}: {refused}");
    }
}

#[test]
fn booleans_strings_bytes_and_enums() {
    check(&[
        ("True", "flag", "true", Some("true")),
        ("QuotedBool", "flag", "\"true\"", None),
        ("NumberIsNoBool", "flag", "1", None),
        ("Escapes", "name", r#""\"\\\/\b\f\n\r\t""#, Some(r#""\"\\/\b\f\n\r\t""#)),
        ("UnicodeEscape", "name", r#""\u8c37\u6b4c""#, Some("\"谷歌\"")),
        ("SurrogatePair", "name", r#""\ud83d\ude01""#, Some("\"😁\"")),
        ("NulIsAText", "name", r#""\u0000""#, Some(r#""\u0000""#)),
        ("NumberIsNoText", "name", "1", None),
        ("Base64", "raw", "\"AQID\"", Some("\"AQID\"")),
        ("Base64Url", "raw", "\"-_\"", Some("\"+w==\"")),
        ("Base64Unpadded", "raw", "\"AQ\"", Some("\"AQ==\"")),
        ("Base64Invalid", "raw", "\"!\"", None),
        ("Base64OneLetter", "raw", "\"A\"", None),
        ("EnumName", "colour", "\"RED\"", Some("\"RED\"")),
        ("EnumNumber", "colour", "-2", Some("\"BLUE\"")),
        ("EnumNumberAsFloat", "colour", "1.0", Some("\"RED\"")),
        ("EnumUnknownName", "colour", "\"GREEN\"", None),
        ("EnumUnknownNumber", "colour", "123", None),
        ("EnumCase", "colour", "\"red\"", None),
        ("NullValue", "nothing", "null", Some("null")),
        ("NullValueName", "nothing", "\"NULL_VALUE\"", Some("null")),
    ]);
    let sample = Sample::shared();
    for lone in [r#""\ud800""#, r#""\udc00""#, r#""\ud800\ud800""#, r#""\x""#, "\"\u{1}\"", "'a'"] {
        let refused = through(sample, "name", lone).unwrap_err();
        assert!(refused.starts_with("Malformed"), "{lone}: {refused}");
    }
}

#[test]
fn times_and_durations() {
    check(&[
        ("TimestampMin", "at", "\"0001-01-01T00:00:00Z\"", Some("\"0001-01-01T00:00:00Z\"")),
        (
            "TimestampMax",
            "at",
            "\"9999-12-31T23:59:59.999999999Z\"",
            Some("\"9999-12-31T23:59:59.999999999Z\""),
        ),
        ("TimestampTooSmall", "at", "\"0000-01-01T00:00:00Z\"", None),
        ("TimestampTooSmallByOffset", "at", "\"0001-01-01T00:00:00+01:00\"", None),
        ("TimestampTooLarge", "at", "\"10000-01-01T00:00:00Z\"", None),
        ("TimestampTooLargeByOffset", "at", "\"9999-12-31T23:59:59-01:00\"", None),
        ("TimestampOffset", "at", "\"1970-01-01T08:00:01+08:00\"", Some("\"1970-01-01T00:00:01Z\"")),
        ("TimestampNegativeOffset", "at", "\"1969-12-31T16:00:01-08:00\"", Some("\"1970-01-01T00:00:01Z\"")),
        ("TimestampMilli", "at", "\"1970-01-01T00:00:00.01Z\"", Some("\"1970-01-01T00:00:00.010Z\"")),
        (
            "TimestampMicro",
            "at",
            "\"1970-01-01T00:00:00.000010000Z\"",
            Some("\"1970-01-01T00:00:00.000010Z\""),
        ),
        (
            "TimestampNano",
            "at",
            "\"1970-01-01T00:00:00.000000010Z\"",
            Some("\"1970-01-01T00:00:00.000000010Z\""),
        ),
        ("TimestampTenDigits", "at", "\"1970-01-01T00:00:00.0000000001Z\"", None),
        ("TimestampLeapDay", "at", "\"2024-02-29T00:00:00Z\"", Some("\"2024-02-29T00:00:00Z\"")),
        ("TimestampNoLeapDay", "at", "\"2023-02-29T00:00:00Z\"", None),
        ("TimestampNoLeapCentury", "at", "\"1900-02-29T00:00:00Z\"", None),
        ("TimestampLeapSecond", "at", "\"2016-12-31T23:59:60Z\"", None),
        ("TimestampMonth", "at", "\"2016-13-01T00:00:00Z\"", None),
        ("TimestampMonthZero", "at", "\"2016-00-01T00:00:00Z\"", None),
        ("TimestampDayZero", "at", "\"2016-01-00T00:00:00Z\"", None),
        ("TimestampHour", "at", "\"2016-01-01T24:00:00Z\"", None),
        ("TimestampLowercaseT", "at", "\"1970-01-01t00:00:00Z\"", None),
        ("TimestampLowercaseZ", "at", "\"1970-01-01T00:00:00z\"", None),
        ("TimestampMissingT", "at", "\"1970-01-01 00:00:00Z\"", None),
        ("TimestampMissingZ", "at", "\"1970-01-01T00:00:00\"", None),
        ("TimestampBadOffset", "at", "\"1970-01-01T00:00:00+0100\"", None),
        ("TimestampNumber", "at", "0", None),
        ("TimestampRepeated", "times", "[\"1970-01-01T00:00:00Z\",\"x\"]", None),
        ("DurationMax", "took", "\"315576000000.999999999s\"", Some("\"315576000000.999999999s\"")),
        ("DurationMin", "took", "\"-315576000000.999999999s\"", Some("\"-315576000000.999999999s\"")),
        ("DurationTooLarge", "took", "\"315576000001.000000000s\"", None),
        ("DurationTooSmall", "took", "\"-315576000001.000000000s\"", None),
        ("DurationNegativeFraction", "took", "\"-0.5s\"", Some("\"-0.500s\"")),
        ("DurationHasZeroFractionalDigit", "took", "\"1.000000000s\"", Some("\"1s\"")),
        ("DurationHas3FractionalDigits", "took", "\"1.01s\"", Some("\"1.010s\"")),
        ("DurationHas6FractionalDigits", "took", "\"1.00001s\"", Some("\"1.000010s\"")),
        ("DurationHas9FractionalDigits", "took", "\"1.0000001s\"", Some("\"1.000000100s\"")),
        ("DurationTenDigits", "took", "\"1.0000000001s\"", None),
        ("DurationMissingS", "took", "\"1\"", None),
        ("DurationOnlyS", "took", "\"s\"", None),
        ("DurationNoDigits", "took", "\".5s\"", None),
        ("DurationNoFraction", "took", "\"1.s\"", None),
        ("DurationPlus", "took", "\"+1s\"", None),
        ("DurationTwoSigns", "took", "\"--1s\"", None),
        ("DurationSpace", "took", "\"1 s\"", None),
        ("DurationNumber", "took", "1", None),
        ("DurationRepeated", "spans", "[\"1s\",\"-2.5s\"]", Some("[\"1s\",\"-2.500s\"]")),
    ]);
}

#[test]
fn wrappers_masks_and_null() {
    check(&[
        ("Wrapper", "boxed", "\"-9\"", Some("-9")),
        ("WrapperDefault", "boxed", "0", Some("0")),
        ("WrapperNull", "boxed", "null", Some("absent")),
        ("WrapperTooLarge", "boxed_i32", "2147483648", None),
        ("WrapperObject", "boxed", "{\"value\":1}", None),
        ("Wrapper", "boxed_f64", "1.5", Some("1.5")),
        ("Wrapper", "boxed_f32", "\"NaN\"", Some("\"NaN\"")),
        ("Wrapper", "boxed_u64", "18446744073709551615", Some("18446744073709551615")),
        ("Wrapper", "boxed_u32", "4294967295", Some("4294967295")),
        ("Wrapper", "boxed_flag", "false", Some("false")),
        ("Wrapper", "boxed_raw", "\"AQI\"", Some("\"AQI=\"")),
        ("Wrapper", "boxed_text", "\"\"", Some("\"\"")),
        ("FieldMask", "mask", "\"foo,barBaz.quxQuux\"", Some("\"foo,bar_baz.qux_quux\"")),
        ("FieldMaskSnake", "mask", "\"bar_baz\"", Some("\"bar_baz\"")),
        ("FieldMaskEmpty", "mask", "\"\"", Some("\"\"")),
        ("FieldMaskInvalidCharacter", "mask", "\"foo,bar|\"", None),
        ("FieldMaskList", "mask", "[\"foo\"]", None),
        ("OptionalNull", "maybe", "null", Some("absent")),
        ("ScalarNull", "i32", "null", Some("0")),
        ("ListNull", "numbers", "null", Some("[]")),
        ("MapNull", "by_name", "null", Some("{}")),
        ("ElementNull", "numbers", "[1,null]", None),
        ("ElementNull", "words", "[null]", None),
        ("ElementNull", "colours", "[null]", None),
        ("ElementMessageNull", "child_list", "[null]", None),
        ("MapValueNull", "by_number", "{\"1\":null}", None),
        ("OneofNull", "text", "null", Some("absent")),
    ]);
}

#[test]
fn free_form_json() {
    check(&[
        ("Struct", "free", r#"{"a":{"b":[1,"x",null,true]}}"#, Some(r#"{"a":{"b":[1.0,"x",null,true]}}"#)),
        ("StructEmpty", "free", "{}", Some("{}")),
        ("StructNull", "free", "null", Some("absent")),
        ("StructList", "free", "[]", None),
        ("StructTwice", "free", r#"{"a":1,"a":2}"#, None),
        ("StructTwiceWithin", "free", r#"{"a":[{"b":1,"b":2}]}"#, None),
        ("StructBeyondDouble", "free", r#"{"a":1e400}"#, None),
        ("ValueNull", "any_value", "null", Some("null")),
        ("ValueNumber", "any_value", "1", Some("1.0")),
        ("ValueText", "any_value", "\"x\"", Some("\"x\"")),
        ("ValueBool", "any_value", "false", Some("false")),
        ("ValueList", "any_value", "[[],{}]", Some("[[],{}]")),
        ("ValueObject", "any_value", r#"{"a":null}"#, Some(r#"{"a":null}"#)),
        ("ListValue", "list", "[null,[0]]", Some("[null,[0.0]]")),
        ("ListValueObject", "list", "{}", None),
        ("RepeatedValue", "values", "[1,\"a\",null]", Some("[1.0,\"a\",null]")),
    ]);
}

#[test]
fn every_kind_of_map_key() {
    check(&[
        ("Key", "by_number", r#"{"-2147483648":"a","7":"b"}"#, Some(r#"{"-2147483648":"a","7":"b"}"#)),
        ("Key", "by_i64", r#"{"-9223372036854775808":true}"#, Some(r#"{"-9223372036854775808":true}"#)),
        ("Key", "by_u32", r#"{"4294967295":true}"#, Some(r#"{"4294967295":true}"#)),
        ("Key", "by_u64", r#"{"18446744073709551615":true}"#, Some(r#"{"18446744073709551615":true}"#)),
        ("Key", "by_s32", r#"{"-1":true}"#, Some(r#"{"-1":true}"#)),
        ("Key", "by_s64", r#"{"-1":true}"#, Some(r#"{"-1":true}"#)),
        ("Key", "by_x32", r#"{"1":true}"#, Some(r#"{"1":true}"#)),
        ("Key", "by_x64", r#"{"1":true}"#, Some(r#"{"1":true}"#)),
        ("Key", "by_sx32", r#"{"-1":true}"#, Some(r#"{"-1":true}"#)),
        ("Key", "by_sx64", r#"{"-1":true}"#, Some(r#"{"-1":true}"#)),
        ("Key", "by_flag", r#"{"true":1.5,"false":0}"#, Some(r#"{"false":0.0,"true":1.5}"#)),
        ("Key", "by_name", r#"{"":{"name":"x"}}"#, Some(r#"{"":{"amount":0,"name":"x"}}"#)),
        ("KeyEscaped", "by_flag", r#"{"\u0074rue":1}"#, Some(r#"{"true":1.0}"#)),
        ("KeyTooLarge", "by_number", r#"{"2147483648":"a"}"#, None),
        ("KeyNotInteger", "by_number", r#"{"0.5":"a"}"#, None),
        ("KeyNotBool", "by_flag", r#"{"1":1}"#, None),
        ("KeyNegative", "by_u64", r#"{"-1":true}"#, None),
        ("KeyTwice", "by_number", r#"{"1":"a","1":"b"}"#, None),
        ("KeyTwiceInOtherWords", "by_number", r#"{"1":"a","01":"b"}"#, None),
        ("KeyTwiceInOtherWords", "by_name", r#"{"a":{"name":"x"},"\u0061":{"name":"y"}}"#, None),
    ]);
}

#[test]
fn names_oneofs_and_nesting() {
    let sample = Sample::shared();
    let twice = |body: &str| sample.wrong(body);
    assert_eq!(twice(r#"{"i32":1,"i32":1}"#), ["i32: is given twice"]);
    assert_eq!(twice(r#"{"child_list":[],"childList":[]}"#), ["child_list: is given twice"]);
    assert_eq!(
        twice(r#"{"text":"","picked":{"name":"x"}}"#),
        ["picked: only one of text, picked may be given"]
    );
    assert_eq!(
        sample.post(r#"{"t\u0065xt":"a"}"#),
        Ok(json(r#"{"text":"a"}"#)),
        "an escaped name is that name"
    );
    assert_eq!(sample.post("{ }\n\t\r "), Ok(json("{}")));
    assert!(matches!(sample.post("\u{feff}{}"), Err(RequestError::Malformed { .. })), "no byte order mark");

    // 64 is deep enough for everyone, and far from what a service could not decode.
    let nested = |depth: usize| format!("{}{{}}{}", r#"{"again":"#.repeat(depth), "}".repeat(depth));
    assert!(sample.post(&nested(64)).is_ok());
    let wrong = sample.wrong(&nested(65));
    assert!(wrong.len() == 1 && wrong[0].ends_with("is nested more than 64 deep"), "{wrong:?}");
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        let free =
            |depth: usize| format!(r#"{{"any_value":{}1{}}}"#, open.repeat(depth), close.repeat(depth));
        assert!(sample.bytes(&Method::POST, "/v1/samples", &free(20)).is_ok());
        let deep = sample.bytes(&Method::POST, "/v1/samples", &free(64));
        assert!(matches!(deep, Err(RequestError::Violations(_))), "{deep:?}");
        assert!(sample.bytes(&Method::POST, "/v1/samples", &free(100_000)).is_err());
    }
}

#[test]
fn any_is_refused_at_start_up() {
    let source = "syntax = \"proto3\"; package paymesh.wrong.v1;
        import \"google/api/annotations.proto\"; import \"google/protobuf/any.proto\";
        import \"paymesh/options/v1/options.proto\";
        service Wrong { rpc A(M) returns (M) { option (google.api.http) = {get: \"/v1/x\"}; } }
        message M { repeated google.protobuf.Any details = 1; }";
    let error = Transcoder::new(&compile(Some(("any.proto", source)))).unwrap_err().to_string();
    assert_eq!(
        error,
        "paymesh.wrong.v1.Wrong/A: message paymesh.wrong.v1.M holds a google.protobuf.Any, which has no JSON here"
    );
}

fn free_value() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i32>().prop_map(|number| f64::from(number).into()),
        ".*".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Into::into),
            proptest::collection::btree_map(".*", inner, 0..6)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A value of every kind, as JSON of the reflection library's making or as our own.
fn everything() -> impl Strategy<Value = serde_json::Value> {
    use serde_json::json;
    let numbers = (any::<i32>(), any::<i64>(), any::<u32>(), any::<u64>(), any::<f32>(), any::<f64>());
    let texts = (".*", proptest::collection::vec(any::<u8>(), 0..40), any::<bool>());
    let time = (-62_135_596_800_i64..=253_402_300_799, 0..1_000_000_000_i32);
    let span = (0..=315_576_000_000_i64, 0..1_000_000_000_i32, any::<bool>());
    let maps = (
        proptest::collection::btree_map(any::<i32>(), ".*", 0..4),
        proptest::collection::btree_map(any::<u64>(), any::<bool>(), 0..4),
        proptest::collection::btree_map(".*", any::<i64>(), 0..4),
    );
    (numbers, texts, time, span, maps, free_value()).prop_map(
        |((i32, i64, u32, u64, f32, f64), (text, raw, flag), (seconds, nanos), span, maps, free)| {
            let raw: String = base64(&raw);
            let finite = |value: f64| if value.is_finite() { json!(value) } else { json!("NaN") };
            let time = prost_types::Timestamp { seconds, nanos }.to_string();
            let sign = if span.2 { "-" } else { "" };
            let took = format!("{sign}{}.{:09}s", span.0, span.1);
            let children: serde_json::Map<_, _> =
                maps.2.into_iter().map(|(key, amount)| (key, json!({"name": text, "amount": amount}))).collect();
            json!({
                "i32": i32, "i64": i64, "u32": u32, "u64": u64, "s32": i32, "s64": i64, "x32": u32, "x64": u64,
                "sx32": i32, "sx64": i64, "f32": finite(f64::from(f32)), "f64": finite(f64), "flag": flag,
                "name": text, "raw": raw, "colour": if flag { "RED" } else { "BLUE" }, "at": time, "took": took,
                "boxed": i64, "boxed_text": text, "boxed_flag": flag, "boxed_f64": finite(f64), "any_value": free,
                "values": [free], "numbers": [i32, i32], "words": [text, ""], "by_number": maps.0,
                "by_u64": maps.1, "by_name": children, "times": [time], "spans": [took],
                "again": {"maybe": i64, "text": text},
            })
        },
    )
}

fn base64(bytes: &[u8]) -> String {
    use prost_reflect::{DynamicMessage, Value};
    // The reflection library has a writer of its own.
    let pool = prost_reflect::DescriptorPool::global();
    let descriptor = pool.get_message_by_name("google.protobuf.BytesValue").unwrap();
    let mut message = DynamicMessage::new(descriptor);
    message.set_field_by_name("value", Value::Bytes(bytes.to_vec().into()));
    serde_json::to_value(&message).unwrap().as_str().unwrap().to_owned()
}

proptest! {
    /// What we read from JSON is what the reflection library reads from it, and what we write it reads
    /// as the same message again.
    #[test]
    fn two_implementations_agree_on_everything(value in everything()) {
        let sample = Sample::shared();
        let text = value.to_string();
        let ours = sample.bytes(&Method::POST, "/v1/samples", &text);
        let ours = ours.map_err(|error| TestCaseError::fail(format!("{error:?} for {text}")))?;
        let theirs = sample.message(&text);
        let descriptor = prost_reflect::ReflectMessage::descriptor(&theirs);
        let understood = prost_reflect::DynamicMessage::decode(descriptor, ours.as_slice()).unwrap();
        // Compared as JSON of one writer: NaN is not equal to itself, and maps have no order.
        prop_assert_eq!(serde_json::to_value(&understood).unwrap(), serde_json::to_value(&theirs).unwrap());
        let shown = sample.answer(&Method::POST, "/v1/samples", &theirs);
        let again = sample.message(&shown);
        prop_assert_eq!(serde_json::to_value(&again).unwrap(), serde_json::to_value(&theirs).unwrap());
    }
}
