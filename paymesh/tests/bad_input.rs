//! Everything that can be wrong with a request: the status, the code, the field that is named, and that
//! nothing of what was sent comes back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use http::Method;
use paymesh::rest::{Answer, Rest};
use serde_json::{Value, json};
use support::{Http, Mesh, SILENT, VISA, api_key, card, get, id_of, payment_body, post, token};

/// Sent where it does not belong; must never come back.
const SECRET: &str = "4012888888881881";

/// A request and what must come of it.
struct Case {
    what: &'static str,
    method: Method,
    path: String,
    /// Replaces the usual one; `None`: not sent.
    authorization: Option<String>,
    key: Option<String>,
    body: String,
    status: u16,
    code: &'static str,
    /// The field that must be named; empty for none.
    field: &'static str,
}

/// Text as it is, or JSON.
struct Body(String);

impl From<&str> for Body {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<Value> for Body {
    fn from(json: Value) -> Self {
        Self(json.to_string())
    }
}

impl Case {
    fn post(what: &'static str, path: impl Into<String>, body: impl Into<Body>) -> Self {
        Self {
            what,
            method: Method::POST,
            path: path.into(),
            authorization: Some(format!("Bearer {}", api_key("acme").key)),
            key: Some("bad-input".into()),
            body: body.into().0,
            status: 400,
            code: "INVALID_REQUEST",
            field: "",
        }
    }

    fn get(what: &'static str, path: impl Into<String>) -> Self {
        Self { method: Method::GET, key: None, ..Self::post(what, path, "") }
    }

    fn gives(mut self, status: u16, code: &'static str, field: &'static str) -> Self {
        (self.status, self.code, self.field) = (status, code, field);
        self
    }

    /// 400, with this field.
    fn names(self, field: &'static str) -> Self {
        self.gives(400, "INVALID_REQUEST", field)
    }

    fn with_key(mut self, key: Option<&str>) -> Self {
        self.key = key.map(str::to_owned);
        self
    }

    fn with_authorization(mut self, value: Option<&str>) -> Self {
        self.authorization = value.map(str::to_owned);
        self
    }

    async fn send(&self, http: &Http, url: &str) -> Answer {
        let mut headers = vec![("content-type", "application/json")];
        if let Some(value) = &self.authorization {
            headers.push(("authorization", value));
        }
        if let Some(key) = &self.key {
            headers.push(("idempotency-key", key));
        }
        let url = format!("{url}{}", self.path);
        http.send(self.method.clone(), &url, &headers, self.body.clone()).await.unwrap()
    }

    async fn check(&self, http: &Http, url: &str) -> Result<(), String> {
        let answer = self.send(http, url).await;
        let (what, body) = (self.what, &answer.body);
        is_problem(what, &answer);
        let fields: Vec<&str> =
            body["errors"].as_array().unwrap().iter().map(|error| error["field"].as_str().unwrap()).collect();
        let named = if self.field.is_empty() { fields.is_empty() } else { fields.contains(&self.field) };
        if (answer.status, body["code"].as_str()) != (self.status, Some(self.code)) || !named {
            return Err(format!("{what}: not {} {} {}: {body}", self.status, self.code, self.field));
        }
        if answer.status == 401 {
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
        let text = String::from_utf8_lossy(&answer.bytes);
        let said: Vec<&str> = [SECRET, "378282246310006", "12xy", "Mallory", "wrong-key"]
            .into_iter()
            .filter(|secret| text.contains(secret))
            .collect();
        if said.is_empty() { Ok(()) } else { Err(format!("{what} says {said:?}: {text}")) }
    }
}

/// RFC 9457, with our extensions.
fn is_problem(what: &str, answer: &Answer) {
    let body = &answer.body;
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{what}");
    assert_eq!(body["status"], answer.status, "{what}: {body}");
    for member in ["type", "title", "detail", "code", "request_id"] {
        assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{what}: {member} in {body}");
    }
    assert_eq!(answer.headers["x-request-id"], body["request_id"].as_str().unwrap(), "{what}");
    for error in body["errors"].as_array().expect("errors is a list") {
        assert!(error["detail"].as_str().is_some_and(|text| !text.is_empty()), "{what}: {body}");
    }
}

struct Ground {
    mesh: Mesh,
    rest: Rest,
    http: Http,
    visa: String,
}

impl Ground {
    async fn new() -> Self {
        let mesh = Mesh::start_for(&["acme", "globex"]).await;
        let rest = mesh.rest_of("acme");
        let visa = token(&rest, VISA).await;
        Self { mesh, rest, http: Http::new(), visa }
    }

    /// All of them are refused, and none has an effect.
    async fn refuses(self, cases: Vec<Case>) {
        let before = get(&self.rest, "/v1/payments").await;
        let books = get(&self.rest, "/v1/ledger/trial_balance").await;
        let mut wrong = Vec::new();
        for case in &cases {
            wrong.extend(case.check(&self.http, self.mesh.url()).await.err());
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        assert_eq!(get(&self.rest, "/v1/payments").await, before, "nothing was done");
        assert_eq!(get(&self.rest, "/v1/ledger/trial_balance").await, books, "nothing was posted");
        self.mesh.dev.stop().await;
    }

    async fn pay(&self, key: &str, token: &str, capture: &str) -> String {
        let body = payment_body(token, 1_000, "EUR", capture);
        id_of(&post(&self.rest, "/v1/payments", key, &body).await)
    }
}

/// The usual payment with one field replaced.
fn payment_with(token: &str, field: &str, value: &Value) -> Value {
    let mut body = payment_body(token, 1_000, "EUR", "AUTOMATIC");
    body[field] = value.clone();
    body
}

#[tokio::test]
async fn a_payment_with_a_wrong_field_is_refused_and_the_field_is_named() {
    let ground = Ground::new().await;
    let with = |what, field, value: Value| {
        Case::post(what, "/v1/payments", payment_with(&ground.visa, field, &value))
    };
    let tax = |lines: Value, country: &str| json!({"lines": lines, "ship_to": {"country": country}});
    let line = json!({"amount": 100});
    let mut cases = vec![
        with("amount 0", "amount", json!(0)).names("amount"),
        with("negative", "amount", json!(-1)).names("amount"),
        with("negative zero as text", "amount", json!("-0")).names("amount"),
        with("fractional", "amount", json!(10.5)).names("amount"),
        with("fractional text", "amount", json!("10.5")).names("amount"),
        with("beyond the limit", "amount", json!(1_000_000_000_000_i64)).names("amount"),
        with("the largest integer", "amount", json!(i64::MAX)).names("amount"),
        with("letters", "amount", json!("12xy")).names("amount"),
        with("a card number for an amount", "amount", json!(SECRET)).names("amount"),
        with("nothing", "amount", json!("")).names("amount"),
        with("null", "amount", Value::Null).names("amount"),
        with("truth", "amount", json!(true)).names("amount"),
        with("a list", "amount", json!([1_000])).names("amount"),
        with("unknown currency", "currency", json!("XXQ")).names("currency"),
        with("lower case", "currency", json!("eur")).names("currency"),
        with("no currency", "currency", json!("")).names("currency"),
        with("a number for a currency", "currency", json!(978)).names("currency"),
        with("no token's form", "payment_method", json!({"token": "4012888888881881"}))
            .names("payment_method.token"),
        with("no token", "payment_method", json!({})).names("payment_method.token"),
        with("no method", "payment_method", Value::Null).names("payment_method"),
        with("unknown token", "payment_method", json!({"token": "tok_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b"}))
            .gives(404, "TOKEN_NOT_FOUND", "payment_method.token"),
        with("unknown field", "amonut", json!(1)).names("amonut"),
        with("a card number for a field", SECRET, json!(1)).names("(name withheld)"),
        with("a card in a payment", "card", json!({"number": SECRET})).names("card"),
        with("unknown field within", "payment_method", json!({"token": ground.visa, "cvc": SECRET}))
            .names("payment_method.cvc"),
        with("unknown capture", "capture_method", json!("LATER")).names("capture_method"),
        with("reference too long", "reference", json!("x".repeat(256))).names("reference"),
        with("control characters", "reference", json!("a\u{0}b")).names("reference"),
        with("description too long", "description", json!("x".repeat(1_001))).names("description"),
        with("metadata value too long", "metadata", json!({"k": "x".repeat(501)})).names("metadata.k"),
        with("metadata value no text", "metadata", json!({"k": 1})).names("metadata.k"),
        with("tax without lines", "tax", tax(json!([]), "DE")).names("tax.lines"),
        with("tax nowhere", "tax", tax(json!([line]), "")).names("tax.ship_to.country"),
        with("tax of a strange country", "tax", tax(json!([line]), "QQ")).names("tax.ship_to.country"),
        with("unknown field deep within", "tax", tax(json!([{"amount": 1, "price": 2}]), "DE"))
            .names("tax.lines[0].price"),
        with("negative tax line", "tax", tax(json!([line, {"amount": -1}]), "DE"))
            .names("tax.lines[1].amount"),
        Case::post("beyond 64 bits", "/v1/payments", r#"{"amount": 99999999999999999999}"#).names("amount"),
        Case::post("far beyond", "/v1/payments", r#"{"amount": 1e300}"#).names("amount"),
        Case::post("nothing at all", "/v1/payments", "{}").names("amount"),
        Case::post("twice", "/v1/payments", r#"{"amount": 1, "amount": 2}"#).names("amount"),
    ];
    for (value, field) in [(json!("x".repeat(501)), "metadata"), (json!(1), "metadata.(name withheld)")] {
        let mut withheld = json!({});
        withheld[SECRET] = value;
        cases.push(with("a card number for a metadata key", "metadata", withheld).names(field));
    }
    ground.refuses(cases).await;
}

#[tokio::test]
async fn every_wrong_field_is_named_at_once() {
    let ground = Ground::new().await;
    let body = json!({"amount": 0, "currency": "eur", "payment_method": {"token": "x"}, "reference": "x".repeat(300)});
    let answer = ground.rest.post("/v1/payments", Some("k"), &body).await.unwrap();
    let fields: Vec<&str> =
        answer.body["errors"].as_array().unwrap().iter().map(|e| e["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["amount", "currency", "payment_method.token", "reference"]);
    ground.refuses(Vec::new()).await;
}

#[tokio::test]
async fn a_body_that_is_no_request_is_refused() {
    let ground = Ground::new().await;
    let broken =
        |what, body: &str| Case::post(what, "/v1/payments", body).gives(400, "BODY_MALFORMED", "body");
    let huge = format!(r#"{{"description": "{}"}}"#, "x".repeat(1024 * 1024));
    let mut cases = vec![
        broken("cut off", r#"{"amount": 10"#),
        broken("broken, with a card number", &format!(r#"{{"card": {{"number": "{SECRET}", }}"#)),
        broken("a card number alone", SECRET).gives(400, "INVALID_REQUEST", "body"),
        broken("a number that no double holds", r#"{"amount": 1e400}"#).gives(
            400,
            "INVALID_REQUEST",
            "amount",
        ),
        broken("words", "amount=10&currency=EUR"),
        broken("more after it", "{} {}"),
        broken("a list", "[]").gives(400, "INVALID_REQUEST", "body"),
        Case::post("over 1 MiB", "/v1/payments", huge).gives(413, "BODY_TOO_LARGE", "body"),
    ];
    let mut form =
        Case::post("a card in a broken token request", "/v1/tokens", format!("{{\"card\": {SECRET}"));
    form = form.gives(400, "BODY_MALFORMED", "body");
    cases.push(form);
    ground.refuses(cases).await;
}

#[tokio::test]
async fn what_moves_money_needs_a_usable_key() {
    let ground = Ground::new().await;
    let id = ground.pay("p", &ground.visa, "MANUAL").await;
    let body = payment_body(&ground.visa, 1_000, "EUR", "AUTOMATIC");
    let mut cases = Vec::new();
    for (path, body) in [
        ("/v1/payments".to_owned(), body.clone()),
        (format!("/v1/payments/{id}/capture"), json!({})),
        (format!("/v1/payments/{id}/cancel"), json!({})),
        (format!("/v1/payments/{id}/refunds"), json!({})),
    ] {
        let case = Case::post("no key", path, body).with_key(None);
        cases.push(case.gives(400, "IDEMPOTENCY_KEY_REQUIRED", "Idempotency-Key"));
    }
    for (what, key) in [
        ("an empty key", String::new()),
        ("a key with a space", "a b".to_owned()),
        ("a key of 256", "k".repeat(256)),
        ("a key that is not ASCII", "schlüssel".to_owned()),
    ] {
        let case = Case::post(what, "/v1/payments", body.clone()).with_key(Some(&key));
        cases.push(case.gives(400, "IDEMPOTENCY_KEY_INVALID", "Idempotency-Key"));
    }
    ground.refuses(cases).await;
}

#[tokio::test]
async fn without_a_known_credential_nothing_is_told() {
    let ground = Ground::new().await;
    let body = payment_body(&ground.visa, 1_000, "EUR", "AUTOMATIC");
    let mut cases = Vec::new();
    for (what, value) in [
        ("none", None),
        ("unknown", Some("Bearer wrong-key-1")),
        ("cut", Some("Bearer key-of-acm")),
        ("no scheme", Some("key-of-acme")),
        ("another scheme", Some("Basic key-of-acme")),
        ("empty", Some("Bearer ")),
    ] {
        for case in [
            Case::post(what, "/v1/payments", body.clone()),
            Case::post(what, "/v1/payments", "{broken"),
            Case::get(what, "/v1/payments"),
            Case::get(what, "/v1/no/such/path"),
            Case::post(what, "/v1/tokens", card(SECRET)),
            Case::get(what, "/v1/ledger/accounts"),
        ] {
            cases.push(case.with_authorization(value).gives(401, "UNAUTHENTICATED", ""));
        }
    }
    ground.refuses(cases).await;
}

#[tokio::test]
async fn a_state_that_does_not_allow_it_is_said() {
    let ground = Ground::new().await;
    let authorized = ground.pay("authorized", &ground.visa, "MANUAL").await;
    let captured = ground.pay("captured", &ground.visa, "MANUAL").await;
    let capture = format!("/v1/payments/{captured}/capture");
    post(&ground.rest, &capture, "c", &json!({"amount": 500})).await;
    post(&ground.rest, &format!("/v1/payments/{captured}/refunds"), "r", &json!({"amount": 200})).await;
    let cancelled = ground.pay("cancelled", &ground.visa, "MANUAL").await;
    post(&ground.rest, &format!("/v1/payments/{cancelled}/cancel"), "x", &json!({})).await;
    let failed = ground.pay("failed", &token(&ground.rest, "4000000000000002").await, "AUTOMATIC").await;
    let unknown = ground.pay("unknown", &token(&ground.rest, SILENT).await, "AUTOMATIC").await;
    let refunded = ground.pay("refunded", &ground.visa, "AUTOMATIC").await;
    post(&ground.rest, &format!("/v1/payments/{refunded}/refunds"), "rr", &json!({})).await;
    let on =
        |what, id: &str, verb: &str, body: Value| Case::post(what, format!("/v1/payments/{id}/{verb}"), body);
    let state = "PAYMENT_STATE_CONFLICT";
    let mut cases = vec![
        on("capture above the authorized", &authorized, "capture", json!({"amount": 1_001})).gives(
            422,
            "CAPTURE_EXCEEDS_AUTHORIZED",
            "amount",
        ),
        on("refund above the captured", &captured, "refunds", json!({"amount": 301})).gives(
            422,
            "REFUND_EXCEEDS_CAPTURED",
            "amount",
        ),
        on("refund of what is refunded", &refunded, "refunds", json!({})).gives(
            422,
            "REFUND_EXCEEDS_CAPTURED",
            "amount",
        ),
        on("refund of the authorized", &authorized, "refunds", json!({})).gives(409, state, ""),
        on("capture after a capture", &captured, "capture", json!({})).gives(409, state, ""),
        on("cancel after a capture", &captured, "cancel", json!({})).gives(409, state, ""),
        on("confirm what is carried out", &captured, "confirm", json!({})).gives(409, state, ""),
        on("increment the captured", &captured, "increment", json!({"amount": 1})).gives(409, state, ""),
        on("increment by nothing", &authorized, "increment", json!({"amount": 0})).names("amount"),
        on("extend the captured", &captured, "extend", json!({})).gives(409, state, ""),
        on("capture while unknown", &unknown, "capture", json!({})).gives(409, state, ""),
        on("capture 0", &authorized, "capture", json!({"amount": 0})).names("amount"),
        on("capture less than nothing", &authorized, "capture", json!({"amount": -5})).names("amount"),
        on("capture by the id of another", &authorized, "capture", json!({"id": captured})).names("id"),
        on("refund 0", &captured, "refunds", json!({"amount": 0})).names("amount"),
        on("refund a fraction", &captured, "refunds", json!({"amount": 0.5})).names("amount"),
        on("refund with a story", &captured, "refunds", json!({"reason": "x".repeat(256)})).names("reason"),
        on("cancel with a story", &authorized, "cancel", json!({"reason": "x".repeat(256)})).names("reason"),
        on("cancel with an amount", &authorized, "cancel", json!({"amount": 1})).names("amount"),
    ];
    for (what, id) in [("of a cancelled payment", &cancelled), ("of a failed payment", &failed)] {
        for verb in ["capture", "cancel", "refunds"] {
            cases.push(on(what, id, verb, json!({})).gives(409, state, ""));
        }
    }
    ground.refuses(cases).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let ground = Ground::new().await;
    let payment = "/v1/payments/pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b";
    let none = |case: Case| case.gives(404, "PAYMENT_NOT_FOUND", "");
    let cases = vec![
        none(Case::get("payment", payment)),
        none(Case::get("events", format!("{payment}/events"))),
        none(Case::get("refunds", format!("{payment}/refunds"))),
        none(Case::post("capture", format!("{payment}/capture"), "{}")),
        none(Case::post("cancel", format!("{payment}/cancel"), "{}")),
        none(Case::post("refund", format!("{payment}/refunds"), "{}")),
        none(Case::get("no id's form", format!("/v1/payments/{SECRET}"))),
        none(Case::get("the id of something else", format!("/v1/payments/{}", ground.visa))),
        Case::get("token", "/v1/tokens/tok_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b").gives(
            404,
            "TOKEN_NOT_FOUND",
            "",
        ),
        Case::get("a card number for a token", format!("/v1/tokens/{SECRET}")).gives(
            404,
            "TOKEN_NOT_FOUND",
            "",
        ),
        Case::get("account", "/v1/ledger/accounts/01933c5e-8f7a-7c3e-9d5b-2a4f6e8c0d1b").gives(
            404,
            "ACCOUNT_NOT_FOUND",
            "",
        ),
        Case::get("no account's form", "/v1/ledger/accounts/cash").names("id"),
        Case::get("calculation", "/v1/tax/calculations/taxc_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b").gives(
            404,
            "CALCULATION_NOT_FOUND",
            "",
        ),
        Case::get("no path", "/v1/nothing").gives(404, "ROUTE_NOT_FOUND", ""),
        Case::get("the path of no version", "/v2/payments").gives(404, "ROUTE_NOT_FOUND", ""),
    ];
    ground.refuses(cases).await;
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let ground = Ground::new().await;
    let payment = format!("/v1/payments/{}", ground.pay("p", &ground.visa, "AUTOMATIC").await);
    let mut cases = Vec::new();
    for (method, path, allow) in [
        (Method::DELETE, "/v1/payments".to_owned(), "GET, HEAD, POST"),
        (Method::PUT, payment.clone(), "GET, HEAD"),
        (Method::PATCH, format!("{payment}/capture"), "POST"),
        (Method::GET, format!("{payment}/cancel"), "POST"),
        (Method::POST, format!("{payment}/events"), "GET, HEAD"),
        (Method::GET, "/v1/tokens".to_owned(), "POST"),
        (Method::POST, "/v1/ledger/accounts".to_owned(), "GET, HEAD"),
        (Method::DELETE, "/v1/ledger/trial_balance".to_owned(), "GET, HEAD"),
        (Method::POST, "/readyz".to_owned(), "GET, HEAD"),
        (Method::POST, "/openapi.json".to_owned(), "GET, HEAD"),
    ] {
        let mut case = Case::post("wrong method", path, "{}").gives(405, "METHOD_NOT_ALLOWED", "");
        case.method = method;
        let answer = case.send(&ground.http, ground.mesh.url()).await;
        let mut told: Vec<&str> = answer.headers["allow"].to_str().unwrap().split(", ").collect();
        told.sort_unstable();
        assert_eq!(told.join(", "), allow, "{} {}", case.method, case.path);
        cases.push(case);
    }
    ground.refuses(cases).await;
}

#[tokio::test]
async fn no_tenant_sees_or_touches_what_another_has() {
    let ground = Ground::new().await;
    let rest = ground.mesh.rest_of("globex");
    // The other tenant has the same things of its own, made in the same way.
    let their_visa = token(&rest, VISA).await;
    assert_ne!(their_visa, ground.visa);
    let their_card = get(&rest, &format!("/v1/tokens/{their_visa}")).await;
    let our_card = get(&ground.rest, &format!("/v1/tokens/{}", ground.visa)).await;
    assert_ne!(their_card["card"]["fingerprint"], our_card["card"]["fingerprint"]);
    let body = payment_body(&their_visa, 700, "EUR", "MANUAL");
    let theirs = id_of(&post(&rest, "/v1/payments", "k", &body).await);
    let calculation = json!({"currency": "EUR", "lines": [{"amount": 100}], "ship_to": {"country": "DE"}});
    let calculation =
        id_of(&support::ok(rest.post("/v1/tax/calculations", None, &calculation).await.unwrap()));
    let account = get(&rest, "/v1/ledger/accounts?code=processor_clearing").await["accounts"][0].clone();
    let ours = ground.pay("k", &ground.visa, "AUTOMATIC").await;
    assert_ne!(ours, theirs, "the same key of another tenant is another key");

    let path = format!("/v1/payments/{theirs}");
    let none = |case: Case| case.gives(404, "PAYMENT_NOT_FOUND", "");
    let cases =
        vec![
            none(Case::get("payment", &path)),
            none(Case::get("events", format!("{path}/events"))),
            none(Case::get("refunds", format!("{path}/refunds"))),
            none(Case::post("capture", format!("{path}/capture"), "{}")),
            none(Case::post("cancel", format!("{path}/cancel"), "{}")),
            none(Case::post("refund", format!("{path}/refunds"), "{}")),
            Case::get("token", format!("/v1/tokens/{their_visa}")).gives(404, "TOKEN_NOT_FOUND", ""),
            Case::post("a payment with it", "/v1/payments", payment_body(&their_visa, 1, "EUR", "MANUAL"))
                .gives(404, "TOKEN_NOT_FOUND", "payment_method.token"),
            Case::get("account", format!("/v1/ledger/accounts/{}", id_of(&account))).gives(
                404,
                "ACCOUNT_NOT_FOUND",
                "",
            ),
            Case::get("calculation", format!("/v1/tax/calculations/{calculation}")).gives(
                404,
                "CALCULATION_NOT_FOUND",
                "",
            ),
        ];
    let listed = get(&ground.rest, "/v1/payments").await;
    assert!(listed["payments"].as_array().unwrap().iter().all(|payment| id_of(payment) == ours));
    let accounts = get(&ground.rest, "/v1/ledger/accounts").await;
    assert!(accounts["accounts"].as_array().unwrap().iter().all(|account| account["tenant"] == "acme"));
    let trial = get(&ground.rest, "/v1/ledger/trial_balance").await;
    assert_eq!(
        (&trial["lines"][0]["debits_pending"], &trial["lines"][0]["debits_posted"]),
        (&json!(0), &json!(1_000))
    );
    let before = get(&rest, &path).await;
    assert_eq!(before["status"], "AUTHORIZED");

    // A tenant cannot be claimed from outside either.
    let authorization = format!("Bearer {}", api_key("acme").key);
    let url = format!("{}{path}", ground.mesh.url());
    for name in ["paymesh-tenant", "grpc-metadata-paymesh-tenant", "x-tenant", "l5d-client-id"] {
        let headers = [("authorization", authorization.as_str()), (name, "globex")];
        let answer = ground.http.send(Method::GET, &url, &headers, "").await.unwrap();
        assert_eq!(answer.status, 404, "{name}");
    }
    ground.refuses(cases).await;
}

#[tokio::test]
async fn a_card_that_cannot_be_is_refused_without_being_repeated() {
    let ground = Ground::new().await;
    let with = |what, field: &str, value: Value| {
        let mut body = card(SECRET);
        body["card"][field] = value;
        body["card"]["holder_name"] = json!("Mallory");
        Case::post(what, "/v1/tokens", body)
    };
    let mut cases = vec![
        with("wrong check digit", "number", json!("4012888888881882")).names("card.number"),
        with("wrong check digit of another brand", "number", json!("378282246310006")).names("card.number"),
        with("too short", "number", json!("4242")).names("card.number"),
        with("too long", "number", json!("42424242424242424242424")).names("card.number"),
        with("wrong length of the brand", "number", json!("42424242424242")).names("card.number"),
        with("letters", "number", json!("4012x8888x8881881")).names("card.number"),
        with("a number", "number", json!(4_012_888_888_881_881_i64)).names("card.number"),
        with("none", "number", json!("")).names("card.number"),
        with("expired last year", "exp_year", json!(2019)).names("card.exp_year"),
        with("a year of two digits", "exp_year", json!(30)).names("card.exp_year"),
        with("a year far away", "exp_year", json!(2999)).names("card.exp_year"),
        with("month 13", "exp_month", json!(13)).names("card.exp_month"),
        with("month 0", "exp_month", json!(0)).names("card.exp_month"),
        with("a month in words", "exp_month", json!("May")).names("card.exp_month"),
        with("letters for a code", "cvc", json!("12xy")).names("card.cvc"),
        with("a long code", "cvc", json!("12345")).names("card.cvc"),
        with("a card number for a code", "cvc", json!(SECRET)).names("card.cvc"),
        with("a number for a code", "cvc", json!(123)).names("card.cvc"),
        with("unknown field", "pin", json!(SECRET)).names("card.pin"),
        Case::post("no card", "/v1/tokens", "{}").names("card"),
        Case::post("a text for a card", "/v1/tokens", json!({"card": SECRET})).names("card"),
    ];
    for (what, name) in
        [("a long name", "Mallory".repeat(20)), ("a name with control characters", "Mallory\u{7}".into())]
    {
        let mut body = card(SECRET);
        body["card"]["holder_name"] = json!(name);
        cases.push(Case::post(what, "/v1/tokens", body).names("card.holder_name"));
    }
    ground.refuses(cases).await;
}

#[tokio::test]
async fn a_list_is_asked_for_in_its_own_terms() {
    let ground = Ground::new().await;
    let mut cases = Vec::new();
    for path in ["/v1/payments", "/v1/ledger/accounts"] {
        for (what, query, field) in [
            ("too many", "page_size=101", "page_size"),
            ("less than none", "page_size=-1", "page_size"),
            ("no number", "page_size=ten", "page_size"),
            ("no page", "page_token=xyz", "page_token"),
            ("the page of a card", "page_token=4012888888881881", "page_token"),
            ("unknown", "colour=red", "colour"),
            ("twice", "page_size=1&page_size=2", "page_size"),
            ("not percent-encoded", "page_token=%zz", "query"),
        ] {
            cases.push(Case::get(what, format!("{path}?{query}")).names(field));
        }
    }
    cases.push(Case::get("unknown status", "/v1/payments?status=PAID").names("status"));
    cases.push(Case::get("unknown currency", "/v1/ledger/accounts?currency=eur").names("currency"));
    ground.refuses(cases).await;
}
