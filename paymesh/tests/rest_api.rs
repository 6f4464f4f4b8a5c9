//! The REST API as a client sees it: every operation, every card of the simulator, and the books
//! afterwards.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::collections::BTreeSet;

use http::Method;
use paymesh::rest::Rest;
use serde_json::{Value, json};
use support::{
    Mesh, SILENT, VISA, all_payments, books, card, check_events, get, id_of, ok, payment_body, post, token,
};

async fn books_are_right(rest: &Rest) {
    books::compare(rest).await.unwrap().unwrap();
}

async fn nothing_is_pending(rest: &Rest) {
    for line in get(rest, "/v1/ledger/trial_balance").await["lines"].as_array().unwrap() {
        assert_eq!((&line["debits_pending"], &line["credits_pending"]), (&json!(0), &json!(0)), "{line}");
    }
}

async fn pay(rest: &Rest, key: &str, body: &Value) -> Value {
    post(rest, "/v1/payments", key, body).await
}

/// Number, status, failure code, decline code, fraud outcome.
type CardCase = (&'static str, &'static str, Option<&'static str>, &'static str, &'static str);

const CARDS: [CardCase; 14] = [
    (VISA, "CAPTURED", None, "", "ALLOW"),
    ("5555555555554444", "CAPTURED", None, "", "ALLOW"),
    ("378282246310005", "CAPTURED", None, "", "ALLOW"),
    ("6011111111111117", "CAPTURED", None, "", "ALLOW"),
    ("4000000000000002", "FAILED", Some("CARD_DECLINED"), "generic_decline", "ALLOW"),
    ("4000000000009995", "FAILED", Some("CARD_DECLINED"), "insufficient_funds", "ALLOW"),
    ("4000000000009987", "FAILED", Some("CARD_DECLINED"), "lost_card", "ALLOW"),
    ("4000000000009979", "FAILED", Some("CARD_DECLINED"), "stolen_card", "ALLOW"),
    ("4000000000000069", "FAILED", Some("EXPIRED_CARD"), "expired_card", "ALLOW"),
    ("4000000000000127", "FAILED", Some("INCORRECT_CVC"), "incorrect_cvc", "ALLOW"),
    ("4000000000000119", "FAILED", Some("PROCESSING_ERROR"), "processing_error", "ALLOW"),
    ("4100000000000019", "FAILED", Some("FRAUD_BLOCKED"), "", "BLOCK"),
    ("4000000000009235", "IN_REVIEW", None, "", "REVIEW"),
    (SILENT, "UNKNOWN", None, "", "ALLOW"),
];

#[tokio::test]
async fn every_card_does_what_its_number_says() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    for (at, (number, status, code, decline_code, fraud)) in CARDS.into_iter().enumerate() {
        for capture in ["AUTOMATIC", "MANUAL"] {
            let token = token(&rest, number).await;
            let body = payment_body(&token, 1_000, "EUR", capture);
            let payment = pay(&rest, &format!("{capture}-{at}"), &body).await;
            let expected = if status == "CAPTURED" && capture == "MANUAL" { "AUTHORIZED" } else { status };
            assert_eq!(payment["status"], expected, "{payment}");
            assert_eq!(payment["failure"]["code"].as_str(), code, "{payment}");
            assert_eq!(payment["failure"]["decline_code"].as_str().unwrap_or_default(), decline_code);
            assert_eq!(payment["failure"]["message"].is_string(), code.is_some());
            assert_eq!(payment["fraud"]["outcome"], fraud, "{payment}");
            assert_eq!(payment["capture_method"], capture);
            assert_eq!(payment["processor"]["name"], "simulator");
            let authorized = if matches!(expected, "CAPTURED" | "AUTHORIZED") { 1_000 } else { 0 };
            let captured = if expected == "CAPTURED" { 1_000 } else { 0 };
            assert_eq!(payment["amount_authorized"], authorized);
            assert_eq!(payment["amount_captured"], captured);
            assert_eq!(payment["amount_refunded"], 0);
            let path = format!("/v1/payments/{}", id_of(&payment));
            check_events(&payment, &get(&rest, &format!("{path}/events")).await).unwrap();
            if expected == "AUTHORIZED" {
                post(&rest, &format!("{path}/cancel"), &format!("cancel-{at}"), &json!({})).await;
            }
        }
    }
    books_are_right(&rest).await;
    let trial = get(&rest, "/v1/ledger/trial_balance").await;
    assert_eq!(trial["lines"][0]["debits_pending"], 2_000, "only the unknown ones are still reserved");
    mesh.dev.stop().await;
}

#[tokio::test]
async fn a_token_shows_what_may_be_shown() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    for (number, brand) in [
        (VISA, "VISA"),
        ("5555555555554444", "MASTERCARD"),
        ("378282246310005", "AMERICAN_EXPRESS"),
        ("6011111111111117", "DISCOVER"),
    ] {
        let answer = rest.post("/v1/tokens", None, &card(number)).await.unwrap();
        let text = String::from_utf8_lossy(&answer.bytes).into_owned();
        assert!(!text.contains(number) && !text.contains("cvc") && !text.contains("Ada"), "{text}");
        let token = ok(answer);
        assert!(token["id"].as_str().unwrap().starts_with("tok_"));
        let shown = &token["card"];
        assert_eq!(shown["brand"], brand);
        assert_eq!(
            (shown["bin"].as_str(), shown["last4"].as_str()),
            (number.get(..6), number.get(number.len() - 4..))
        );
        assert_eq!((&shown["exp_month"], &shown["exp_year"]), (&json!(12), &json!(2030)));
        assert!(!shown["fingerprint"].as_str().unwrap().is_empty());
        let again = get(&rest, &format!("/v1/tokens/{}", id_of(&token))).await;
        assert_eq!(again, token);
        assert_eq!(ok(rest.post("/v1/tokens", None, &card(number)).await.unwrap())["id"], token["id"]);
    }
    mesh.dev.stop().await;
}

#[tokio::test]
async fn a_token_of_digits_pays_and_a_deleted_one_does_not() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let mut with_digits = card(VISA);
    with_digits["token_format"] = json!("DIGITS");
    let token = ok(rest.post("/v1/tokens", None, &with_digits).await.unwrap());
    let (id, digits) = (id_of(&token), token["digit_token"].as_str().unwrap().to_owned());
    assert!(digits.starts_with('0') && digits.ends_with("4242") && digits.len() == 16);
    let paid = pay(&rest, "paid", &payment_body(&digits, 1_000, "EUR", "AUTOMATIC")).await;
    assert_eq!((&paid["status"], &paid["payment_method"]["token"]), (&json!("CAPTURED"), &json!(id)));
    let authorized = pay(&rest, "later", &payment_body(&id, 500, "EUR", "MANUAL")).await;

    for name in [&digits, &id, &id] {
        let path = format!("/v1/tokens/{name}");
        let gone = rest.send(Method::DELETE, &path, None, None).await.unwrap();
        assert_eq!((gone.status, gone.body), (200, json!({})));
        assert_eq!(rest.get(&path).await.unwrap().body["code"], "TOKEN_NOT_FOUND");
    }
    for name in [&digits, &id] {
        let body = payment_body(name, 1_000, "EUR", "AUTOMATIC");
        let refused = rest.post("/v1/payments", Some(&format!("after-{name}")), &body).await.unwrap();
        assert_eq!((refused.status, &refused.body["code"]), (404, &json!("TOKEN_NOT_FOUND")));
    }
    // What was authorized with it goes on.
    let capture = format!("/v1/payments/{}/capture", id_of(&authorized));
    assert_eq!(post(&rest, &capture, "capture", &json!({})).await["status"], "CAPTURED");
    books_are_right(&rest).await;
    mesh.dev.stop().await;
}

#[tokio::test]
async fn the_security_code_reaches_the_first_authorization_and_no_other() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let checked = token(&rest, "4000000000000101").await;
    let body = payment_body(&checked, 1_000, "EUR", "AUTOMATIC");
    let first = pay(&rest, "first", &body).await;
    assert_eq!((&first["status"], &first["failure"]["code"]), (&json!("FAILED"), &json!("INCORRECT_CVC")));
    assert_eq!(pay(&rest, "second", &body).await["status"], "CAPTURED");
    mesh.dev.stop().await;
}

#[tokio::test]
async fn capture_cancel_and_refund_move_exactly_what_they_say() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let visa = token(&rest, VISA).await;
    let manual = |amount, currency| payment_body(&visa, amount, currency, "MANUAL");

    let whole = pay(&rest, "whole", &manual(5_000, "EUR")).await;
    assert_eq!((&whole["status"], &whole["amount_authorized"]), (&json!("AUTHORIZED"), &json!(5_000)));
    let path = format!("/v1/payments/{}", id_of(&whole));
    let captured = post(&rest, &format!("{path}/capture"), "capture-whole", &json!({})).await;
    assert_eq!((&captured["status"], &captured["amount_captured"]), (&json!("CAPTURED"), &json!(5_000)));

    let part = pay(&rest, "part", &manual(5_000, "USD")).await;
    let path = format!("/v1/payments/{}", id_of(&part));
    let captured = post(&rest, &format!("{path}/capture"), "capture-part", &json!({"amount": 1_999})).await;
    assert_eq!(captured["status"], "PARTIALLY_CAPTURED");
    assert_eq!(
        (&captured["amount_authorized"], &captured["amount_captured"]),
        (&json!(5_000), &json!(1_999))
    );

    let given_up = pay(&rest, "given-up", &manual(700, "EUR")).await;
    let cancel = format!("/v1/payments/{}/cancel", id_of(&given_up));
    let cancelled = post(&rest, &cancel, "cancel", &json!({"reason": "out of stock"})).await;
    assert_eq!((&cancelled["status"], &cancelled["amount_captured"]), (&json!("CANCELED"), &json!(0)));

    // 1,999 in three refunds: two parts, and whatever is left.
    let refunds = format!("{path}/refunds");
    let first = post(&rest, &refunds, "refund-1", &json!({"amount": 1, "reason": "kindness"})).await;
    assert_eq!(
        (&first["status"], &first["amount"], &first["reason"]),
        (&json!("SUCCEEDED"), &json!(1), &json!("kindness"))
    );
    assert_eq!((&first["payment_id"], &first["currency"]), (&part["id"], &json!("USD")));
    assert!(first["id"].as_str().unwrap().starts_with("re_"));
    let second = post(&rest, &refunds, "refund-2", &json!({"amount": "998"})).await;
    let between = get(&rest, &path).await;
    assert_eq!(
        (&between["status"], &between["amount_refunded"]),
        (&json!("PARTIALLY_CAPTURED"), &json!(999))
    );
    let rest_of_it = post(&rest, &refunds, "refund-3", &json!({})).await;
    assert_eq!(rest_of_it["amount"], 1_000);
    let after = get(&rest, &path).await;
    assert_eq!((&after["status"], &after["amount_refunded"]), (&json!("REFUNDED"), &json!(1_999)));
    let listed = get(&rest, &refunds).await;
    assert_eq!(listed["refunds"], json!([rest_of_it, second, first]), "newest first, as they were answered");
    let events = get(&rest, &format!("{path}/events")).await;
    check_events(&after, &events).unwrap();
    let types: Vec<&str> =
        events["events"].as_array().unwrap().iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(
        types,
        [
            "payment.created",
            "payment.authorized",
            "payment.partially_captured",
            "refund.created",
            "payment.partially_refunded",
            "refund.created",
            "payment.partially_refunded",
            "refund.created",
            "payment.refunded",
        ]
    );
    books_are_right(&rest).await;
    nothing_is_pending(&rest).await;
    mesh.dev.stop().await;
}

#[tokio::test]
async fn lists_are_paged_and_filtered() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let (visa, declined) = (token(&rest, VISA).await, token(&rest, "4000000000000002").await);
    let mut made = Vec::new();
    for number in 0..13 {
        let mut body = payment_body(if number % 4 == 3 { &declined } else { &visa }, 100, "EUR", "AUTOMATIC");
        body["reference"] = json!(format!("INV & {}", number % 2));
        made.push(id_of(&pay(&rest, &format!("p{number}"), &body).await));
    }
    made.reverse();
    for page_size in [1, 5, 13, 100] {
        let listed = all_payments(&rest, "", page_size).await.unwrap();
        assert_eq!(listed.iter().map(id_of).collect::<Vec<_>>(), made, "pages of {page_size}");
    }
    assert_eq!(get(&rest, "/v1/payments").await["payments"].as_array().unwrap().len(), 13, "20 by default");
    for (query, count) in [
        ("status=FAILED", 3),
        ("status=CAPTURED", 10),
        ("status=UNKNOWN", 0),
        ("reference=INV+%26+1", 6),
        ("reference=INV%20%26%200&status=CAPTURED", 7),
        ("reference=INV%20%26%201&status=FAILED", 3),
        ("reference=none", 0),
    ] {
        let listed = all_payments(&rest, query, 2).await.unwrap();
        assert_eq!(listed.len(), count, "{query}");
    }
    // A page token stands for a place, whatever is paid meanwhile.
    let first = get(&rest, "/v1/payments?page_size=6").await;
    pay(&rest, "meanwhile", &payment_body(&visa, 100, "EUR", "AUTOMATIC")).await;
    let next = first["next_page_token"].as_str().unwrap();
    let second = get(&rest, &format!("/v1/payments?page_size=100&page_token={next}")).await;
    let ids: Vec<String> = second["payments"].as_array().unwrap().iter().map(id_of).collect();
    assert_eq!(ids, made[6..]);
    mesh.dev.stop().await;
}

#[tokio::test]
async fn tax_is_calculated_and_set_aside() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let tax = json!({
        "lines": [
            {"reference": "L1", "amount": 11_900, "category": "STANDARD"},
            {"reference": "L2", "amount": 1_070, "category": "REDUCED"},
        ],
        "ship_to": {"country": "DE"}, "prices_include_tax": true,
    });
    let mut alone = tax.clone();
    alone["currency"] = json!("EUR");
    let calculation = ok(rest.post("/v1/tax/calculations", None, &alone).await.unwrap());
    assert_eq!((&calculation["amount_tax"], &calculation["amount_total"]), (&json!(1_970), &json!(12_970)));
    assert_eq!((&calculation["jurisdiction"], &calculation["currency"]), (&json!("DE"), &json!("EUR")));
    let again = get(&rest, &format!("/v1/tax/calculations/{}", id_of(&calculation))).await;
    assert_eq!(again, calculation);

    let visa = token(&rest, VISA).await;
    let mut body = payment_body(&visa, 12_970, "EUR", "MANUAL");
    body["tax"] = tax;
    let payment = pay(&rest, "with-tax", &body).await;
    assert_eq!(
        (&payment["tax"]["amount_tax"], &payment["tax"]["amount_net"]),
        (&json!(1_970), &json!(11_000))
    );
    let path = format!("/v1/payments/{}", id_of(&payment));
    post(&rest, &format!("{path}/capture"), "c", &json!({"amount": 10_000})).await;
    books_are_right(&rest).await;
    post(&rest, &format!("{path}/refunds"), "r1", &json!({"amount": 3_333})).await;
    post(&rest, &format!("{path}/refunds"), "r2", &json!({"amount": 1})).await;
    books_are_right(&rest).await;
    post(&rest, &format!("{path}/refunds"), "r3", &json!({})).await;
    books_are_right(&rest).await;
    nothing_is_pending(&rest).await;
    let accounts = get(&rest, "/v1/ledger/accounts?code=tax_payable&ledger=EUR").await;
    let account = &accounts["accounts"][0];
    assert_eq!(account["debits_posted"], account["credits_posted"], "all of the tax is back: {account}");
    assert_eq!(&get(&rest, &format!("/v1/ledger/accounts/{}", id_of(account))).await, account);
    mesh.dev.stop().await;
}

#[tokio::test]
async fn the_same_key_has_the_same_answer_and_one_effect() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let visa = token(&rest, VISA).await;
    let manual = payment_body(&visa, 1_000, "EUR", "MANUAL");
    let created = rest.post("/v1/payments", Some("k"), &manual).await.unwrap();
    assert!(!created.headers.contains_key("idempotency-replayed"));
    let path = format!("/v1/payments/{}", id_of(&created.body));
    let mut declined = manual.clone();
    declined["payment_method"]["token"] = json!(token(&rest, "4000000000000002").await);
    for (path, first, other) in [
        ("/v1/payments".to_owned(), manual.clone(), declined),
        (format!("{path}/capture"), json!({"amount": 600}), json!({"amount": 601})),
        (format!("{path}/refunds"), json!({"amount": 100}), json!({"amount": 101})),
        ("/v1/tokens".to_owned(), card(VISA), card("5555555555554444")),
        (
            "/v1/tax/calculations".to_owned(),
            json!({"currency": "EUR", "lines": [{"amount": 100}], "ship_to": {"country": "DE"}}),
            json!({"currency": "EUR", "lines": [{"amount": 101}], "ship_to": {"country": "DE"}}),
        ),
    ] {
        let key = Some("k");
        let answer = rest.post(&path, key, &first).await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        for _ in 0..2 {
            let again = rest.post(&path, key, &first).await.unwrap();
            assert_eq!((again.status, &again.bytes), (200, &answer.bytes), "{path}");
            assert_eq!(again.headers["idempotency-replayed"], "true", "{path}");
        }
        let refused = rest.post(&path, key, &other).await.unwrap();
        assert_eq!(
            (refused.status, &refused.body["code"]),
            (422, &json!("IDEMPOTENCY_KEY_REUSED")),
            "{path}"
        );
    }
    // The first answer stays the answer, though the payment has moved on since.
    let again = rest.post("/v1/payments", Some("k"), &manual).await.unwrap();
    assert_eq!(again.bytes, created.bytes);
    let now = get(&rest, &path).await;
    assert_eq!((&now["amount_captured"], &now["amount_refunded"]), (&json!(600), &json!(100)));
    books_are_right(&rest).await;
    mesh.dev.stop().await;
}

#[tokio::test]
async fn duplicates_at_the_same_time_make_one_payment() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let body = payment_body(&token(&rest, VISA).await, 1_000, "EUR", "AUTOMATIC");
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..60 {
        let (rest, body) = (rest.clone(), body.clone());
        requests.spawn(async move {
            let key = format!("k{}", number % 3);
            loop {
                let answer = rest.post("/v1/payments", Some(&key), &body).await.unwrap();
                if answer.status == 200 {
                    return (key, answer.bytes);
                }
                assert_eq!((answer.status, &answer.body["code"]), (409, &json!("IDEMPOTENCY_IN_PROGRESS")));
                assert!(answer.headers.contains_key("retry-after"), "a client is told when to ask again");
            }
        });
    }
    let answers: BTreeSet<_> = requests.join_all().await.into_iter().collect();
    assert_eq!(answers.len(), 3, "one answer for each key");
    assert_eq!(all_payments(&rest, "", 100).await.unwrap().len(), 3);

    // The same with a refund, and with different keys: together never more than what was captured.
    let payment = all_payments(&rest, "", 1).await.unwrap().remove(0);
    let path = format!("/v1/payments/{}/refunds", id_of(&payment));
    let mut requests = tokio::task::JoinSet::new();
    for number in 0..20 {
        let (rest, path) = (rest.clone(), path.clone());
        requests.spawn(async move {
            rest.post(&path, Some(&format!("r{number}")), &json!({"amount": 300})).await.unwrap()
        });
    }
    let (given, refused): (Vec<_>, Vec<_>) =
        requests.join_all().await.into_iter().partition(|answer| answer.status == 200);
    assert_eq!(given.len(), 3);
    assert!(refused.iter().all(|answer| answer.body["code"] == "REFUND_EXCEEDS_CAPTURED"));
    books_are_right(&rest).await;
    mesh.dev.stop().await;
}

#[tokio::test]
async fn a_second_start_finds_everything_as_it_was() {
    let mesh = Mesh::start().await;
    let rest = mesh.rest();
    let visa = token(&rest, VISA).await;
    let body = payment_body(&visa, 1_000, "EUR", "MANUAL");
    let answer = rest.post("/v1/payments", Some("k"), &body).await.unwrap();
    let payment = format!("/v1/payments/{}", id_of(&answer.body));
    post(&rest, &format!("{payment}/capture"), "c", &json!({"amount": 400})).await;
    post(&rest, &format!("{payment}/refunds"), "r", &json!({"amount": 100})).await;
    let paths = [
        format!("/v1/tokens/{visa}"),
        payment.clone(),
        format!("{payment}/refunds"),
        format!("{payment}/events"),
        "/v1/payments".to_owned(),
        "/v1/ledger/accounts".to_owned(),
        "/v1/ledger/trial_balance".to_owned(),
    ];
    let mut before = Vec::new();
    for path in &paths {
        before.push(get(&rest, path).await);
    }
    let key = mesh.dev.description().api_key.clone();
    mesh.dev.stop().await;

    let dev = support::start_in(mesh.dir.path(), Vec::new()).await;
    assert_eq!(dev.description().api_key, key);
    assert_eq!(support::describe(mesh.dir.path()).edge_url, dev.description().edge_url);
    let rest = Rest::new(dev.description());
    for (path, before) in paths.iter().zip(before) {
        assert_eq!(get(&rest, path).await, before, "{path}");
    }
    let again = rest.post("/v1/payments", Some("k"), &body).await.unwrap();
    assert_eq!(again.bytes, answer.bytes);
    assert_eq!(again.headers["idempotency-replayed"], "true");
    post(&rest, &format!("{payment}/refunds"), "r2", &json!({"amount": 300})).await;
    books_are_right(&rest).await;
    let audit = paymesh::operator::audit(mesh.dir.path(), |_| {}).await.unwrap();
    assert!(audit.ok && audit.accounts == 3 && audit.transfers == 4, "{audit:?}");
    dev.stop().await;
}

#[tokio::test]
async fn probes_and_the_description_need_no_key() {
    let mesh = Mesh::start().await;
    let anonymous = Rest::with_key(mesh.url(), "not-a-key");
    assert_eq!(anonymous.get("/healthz").await.unwrap().status, 200);
    assert_eq!(get(&anonymous, "/readyz").await["status"], "ready");
    let api = get(&anonymous, "/openapi.json").await;
    assert!(api["openapi"].as_str().unwrap().starts_with("3."));
    for (path, methods) in [
        ("/v1/tokens", &["post"][..]),
        ("/v1/tokens/{id}", &["get", "delete"]),
        ("/v1/payments", &["get", "post"]),
        ("/v1/payments/{id}", &["get"]),
        ("/v1/payments/{id}/capture", &["post"]),
        ("/v1/payments/{id}/cancel", &["post"]),
        ("/v1/payments/{payment_id}/refunds", &["get", "post"]),
        ("/v1/payments/{payment_id}/events", &["get"]),
        ("/v1/tax/calculations", &["post"]),
        ("/v1/ledger/accounts", &["get"]),
        ("/v1/ledger/accounts/{id}", &["get"]),
        ("/v1/ledger/trial_balance", &["get"]),
    ] {
        for method in methods {
            assert!(api["paths"][path][method].is_object(), "{method} {path}");
        }
    }
    mesh.dev.stop().await;
}
