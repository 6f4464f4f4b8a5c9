//! The OpenAPI document: every route is in it, every reference leads somewhere, and it is the same
//! each time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

use std::collections::BTreeSet;

use edge_gateway::{openapi_document, transcode::Transcoder};
use serde_json::{Value, json};

fn document() -> Value {
    let api = Transcoder::new(&paymesh_proto::descriptor_pool()).unwrap();
    serde_json::from_slice(&openapi_document(&api)).unwrap()
}

fn walk<'a>(value: &'a Value, visit: &mut impl FnMut(&'a str, &'a Value)) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                visit(key, value);
                walk(value, visit);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| walk(value, visit)),
        _ => {}
    }
}

#[test]
fn every_annotated_rpc_is_in_it() {
    let document = document();
    let mut operations = BTreeSet::new();
    for path in document["paths"].as_object().unwrap().values() {
        for operation in path.as_object().unwrap().values() {
            assert!(
                operations.insert(operation["operationId"].as_str().unwrap().to_owned()),
                "ids are unique"
            );
            assert!(
                operation["responses"]["200"].is_object() && operation["responses"]["default"].is_object()
            );
        }
    }
    let pool = paymesh_proto::descriptor_pool();
    let http = pool.get_extension_by_name("google.api.http").unwrap();
    let mut annotated = BTreeSet::new();
    for service in pool.services() {
        for method in service.methods().filter(|method| method.options().has_extension(&http)) {
            annotated.insert(format!("{}_{}", service.name(), method.name()));
        }
    }
    assert!(annotated.len() >= 14);
    assert_eq!(operations, annotated);
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    walk(&document, &mut |key, value| {
        if key == "$ref" {
            let pointer = value.as_str().unwrap().strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some_and(Value::is_object), "{pointer}");
            used.insert(pointer.to_owned());
        }
    });
    for kind in ["schemas", "responses", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(&format!("/components/{kind}/{name}")), "{kind}/{name} is not used");
        }
    }
}

#[test]
fn a_payment_is_described_as_it_is_served() {
    let document = document();
    let create = &document["paths"]["/v1/payments"]["post"];
    assert!(
        create["description"]
            .as_str()
            .unwrap()
            .starts_with("Takes a payment, or with `confirm` false writes it down.")
    );
    let header = json!({"name": "Idempotency-Key", "in": "header", "required": true});
    let parameters = create["parameters"].as_array().unwrap();
    assert!(parameters.iter().any(|parameter| {
        header.as_object().unwrap().iter().all(|(name, value)| &parameter[name] == value)
    }));
    let body = &create["requestBody"];
    assert_eq!(body["required"], json!(true));
    let content = &body["content"]["application/json"];
    assert_eq!(content["example"]["amount"], json!(1050));
    assert!(content["example"]["payment_method"]["token"].as_str().unwrap().starts_with("tok_"));
    let reference = content["schema"]["$ref"].as_str().unwrap();
    let request = document.pointer(&reference[1..]).unwrap();
    assert_eq!(request["required"], json!(["amount", "currency", "payment_method"]));
    assert_eq!(request["additionalProperties"], json!(false));
    assert!(request["properties"]["amount"]["description"].as_str().unwrap().contains("Minor units"));

    let payment = &document["components"]["schemas"]["payments.v1.Payment"];
    let required = payment["required"].as_array().unwrap();
    assert!(required.contains(&json!("amount_refunded")) && !required.contains(&json!("failure")));
    let capture = &document["paths"]["/v1/payments/{id}/capture"]["post"]["requestBody"];
    assert_eq!(capture["required"], json!(false));
    let properties = &capture["content"]["application/json"]["schema"]["properties"];
    assert_eq!(properties.as_object().unwrap().keys().collect::<Vec<_>>(), ["amount", "final"]);
    let list = &document["paths"]["/v1/payments"]["get"]["parameters"];
    let names: Vec<&str> = list.as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "page_size",
            "page_token",
            "status",
            "reference",
            "amount_min",
            "amount_max",
            "created_from",
            "created_before",
            "metadata"
        ]
    );
    assert_eq!(document["components"]["securitySchemes"]["api_key"]["scheme"], json!("bearer"));
    assert_eq!(
        document["components"]["schemas"]["crypto.v1.CardInput"]["properties"]["number"]["writeOnly"],
        json!(true)
    );
}

#[test]
fn every_operation_lists_the_scope_that_it_needs() {
    let document = document();
    for operation in
        document["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
    {
        if operation["security"] == json!([]) {
            continue;
        }
        let scope = operation["security"][0]["api_key"][0].as_str().unwrap();
        assert!(scope.contains(':'), "{scope}");
        assert_eq!(operation["security"][1]["access_token"], json!([scope]));
    }
    let refund = &document["paths"]["/v1/payments/{payment_id}/refunds"];
    assert_eq!(refund["post"]["security"][0]["api_key"], json!(["refunds:write"]));
    assert_eq!(refund["get"]["security"][0]["api_key"], json!(["refunds:read"]));
}

#[test]
fn every_operation_has_examples_and_says_how_it_is_refused() {
    let document = document();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let named = format!("{method} {path}");
            let bodies = operation["requestBody"]["content"].as_object().into_iter();
            let answers = operation["responses"]["200"]["content"].as_object().into_iter();
            for (kind, content) in bodies.chain(answers).flatten() {
                assert!(content.get("example").is_some(), "{named}: {kind}");
            }
            for status in ["400", "401", "429"] {
                let reference = operation["responses"][status]["$ref"].as_str().unwrap();
                let problem = document.pointer(&reference[1..]).unwrap();
                let example = &problem["content"]["application/problem+json"]["example"];
                assert_eq!(example["status"].to_string(), status, "{named}");
                let said = problem["description"].as_str().unwrap();
                assert!(said.contains(example["code"].as_str().unwrap()), "{named}: {said}");
            }
            let moves_money = operation["parameters"]
                .as_array()
                .is_some_and(|list| list.iter().any(|parameter| parameter["name"] == "Idempotency-Key"));
            assert_eq!(operation["responses"].get("422").is_some(), moves_money, "{named}");
        }
    }
}

#[test]
fn streams_and_raw_bodies_are_described_as_they_are_served() {
    let document = document();
    let watch = &document["paths"]["/v1/payments/{payment_id}/events:watch"]["get"];
    let content = watch["responses"]["200"]["content"].as_object().unwrap();
    assert_eq!(content.keys().collect::<Vec<_>>(), ["application/x-ndjson", "text/event-stream"]);
    let event = json!({"$ref": "#/components/schemas/payments.v1.PaymentEvent"});
    assert_eq!(content["application/x-ndjson"]["schema"], event);
    assert!(content["text/event-stream"]["example"].as_str().unwrap().starts_with("id: 1\ndata: {"));
    let names: Vec<&str> = watch["parameters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["payment_id", "after_sequence", "Last-Event-ID"]);
    assert_eq!(watch["security"][0]["api_key"], json!(["payments:read"]));

    let webhook = &document["paths"]["/v1/webhooks/{processor}"]["post"];
    assert_eq!(webhook["security"], json!([]), "needs no key");
    assert_eq!(webhook["requestBody"]["content"]["*/*"]["schema"], json!({}));
    let parameters = webhook["parameters"].as_array().unwrap();
    assert_eq!(parameters.len(), 1, "headers are no parameters: {parameters:?}");
}

#[test]
fn the_same_contract_gives_the_same_bytes() {
    let pool = paymesh_proto::descriptor_pool();
    let again = |_| openapi_document(&Transcoder::new(&pool).unwrap());
    let documents: Vec<Vec<u8>> = (0..3).map(again).collect();
    assert!(documents.windows(2).all(|pair| pair[0] == pair[1]));
}

/// Validators of other makers read it there: `target/tmp/openapi.json`.
#[test]
fn the_document_is_left_for_outside_validators() {
    let text = serde_json::to_string_pretty(&document()).unwrap();
    std::fs::write(concat!(env!("CARGO_TARGET_TMPDIR"), "/openapi.json"), text).unwrap();
}
