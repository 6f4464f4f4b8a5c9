//! Random messages against the reflection library: what is written reads back as the same message,
//! and any text at all is answered, never with a panic.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

use edge_gateway::transcode::{RequestError, Transcoder};
use http::{HeaderMap, Method};
use paymesh_proto::{
    payments::v1::{CreatePaymentRequest, PaymentMethod, TaxInput, payment::CaptureMethod},
    tax::v1::{Address, Line, line::Category},
};
use proptest::prelude::*;
use prost::Message as _;
use prost_reflect::{DynamicMessage, SerializeOptions};

prop_compose! {
    fn line()(reference in ".*", amount: i64, category in 0..5_i32) -> Line {
        let category = Category::try_from(category).unwrap_or_default().into();
        Line { reference, amount, category }
    }
}

prop_compose! {
    fn request()(
        amount: i64,
        currency in ".*",
        token in ".*",
        capture in 0..3_i32,
        text in ".*",
        metadata in proptest::collection::btree_map(".*", ".*", 0..6),
        lines in proptest::option::of(proptest::collection::vec(line(), 0..4)),
        flag: bool,
        confirm: Option<bool>,
        convenience_fee: i64,
    ) -> CreatePaymentRequest {
        CreatePaymentRequest {
            amount,
            currency,
            payment_method: Some(PaymentMethod { token }),
            capture_method: CaptureMethod::try_from(capture).unwrap_or_default().into(),
            reference: text.clone(),
            description: text.clone(),
            metadata,
            tax: lines.map(|lines| TaxInput {
                lines,
                ship_to: Some(Address { country: text, ..Address::default() }),
                ship_from: None,
                prices_include_tax: flag,
            }),
            confirm,
            convenience_fee,
        }
    }
}

/// As another implementation of the mapping writes it.
fn json_of(request: &CreatePaymentRequest, snake_case: bool, strings: bool) -> String {
    let pool = paymesh_proto::descriptor_pool();
    let descriptor = pool.get_message_by_name("paymesh.payments.v1.CreatePaymentRequest").unwrap();
    let message = DynamicMessage::decode(descriptor, request.encode_to_vec().as_slice()).unwrap();
    let options = SerializeOptions::new()
        .use_proto_field_name(snake_case)
        .stringify_64_bit_integers(strings)
        .skip_default_fields(false);
    let mut serializer = serde_json::Serializer::new(Vec::new());
    message.serialize_with_options(&mut serializer, &options).unwrap();
    String::from_utf8(serializer.into_inner()).unwrap()
}

proptest! {
    #[test]
    fn another_writers_json_is_read_as_the_same_message(request in request(), snake_case: bool, strings: bool) {
        let api = Transcoder::new(&paymesh_proto::descriptor_pool()).unwrap();
        let (route, found) = api.find(&Method::POST, "/v1/payments").unwrap();
        let json = json_of(&request, snake_case, strings);
        let bytes = route.request.encode(&api.schema, &found.captures, None, &HeaderMap::new(), json.as_bytes());
        let bytes = bytes.map_err(|error| TestCaseError::fail(format!("{error:?} for {json}")))?;
        prop_assert_eq!(CreatePaymentRequest::decode(bytes).unwrap(), request);
    }

    #[test]
    fn any_text_is_read_or_refused(text in "\\PC*") {
        let api = Transcoder::new(&paymesh_proto::descriptor_pool()).unwrap();
        let (route, found) = api.find(&Method::POST, "/v1/payments").unwrap();
        let _ = route.request.encode(&api.schema, &found.captures, Some(&text), &HeaderMap::new(), text.as_bytes());
    }

    #[test]
    fn a_body_cut_or_changed_anywhere_is_read_or_refused_without_being_quoted(
        request in request(), at: prop::sample::Index, byte: u8,
    ) {
        let api = Transcoder::new(&paymesh_proto::descriptor_pool()).unwrap();
        let (route, found) = api.find(&Method::POST, "/v1/payments").unwrap();
        let mut body = json_of(&CreatePaymentRequest { reference: "4242424242424242".into(), ..request }, true, false).into_bytes();
        let at = at.index(body.len());
        body[at] = byte;
        for body in [&body[..], &body[..at]] {
            let result = route.request.encode(&api.schema, &found.captures, None, &HeaderMap::new(), body);
            if let Err(RequestError::Violations(list)) = result {
                let shown = format!("{list:?}");
                prop_assert!(!shown.contains("42424242"), "{}", shown);
            }
        }
    }

    #[test]
    fn any_bytes_are_written_or_refused(bytes: Vec<u8>) {
        let api = Transcoder::new(&paymesh_proto::descriptor_pool()).unwrap();
        let (route, _) = api.find(&Method::POST, "/v1/payments").unwrap();
        if let Ok(json) = route.response.decode(&api.schema, &bytes) {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());
        }
    }
}
