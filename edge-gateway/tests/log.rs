//! What the edge and everything below it logs, at the finest level: no card number and no key,
//! wherever in a request it stands. A process of its own, because the log is the process's.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what fails ends its test")]

mod support;

use serde_json::json;
use support::Edge;

/// Everything that this process logs.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<std::sync::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_card_number_and_no_key_is_logged_wherever_it_stands() {
    let log = Log::default();
    let writer = log.clone();
    let everything = tracing_subscriber::filter::LevelFilter::TRACE;
    tracing_subscriber::fmt()
        .with_max_level(everything)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .try_init()
        .unwrap();
    let edge = Edge::start().await;
    let card = "4242424242424242";
    let tokenize = json!({"card": {"number": card, "exp_month": 12, "exp_year": 2030, "cvc": "987"}});
    edge.post("/v1/tokens").json(&tokenize).await;
    edge.post("/v1/tokens").body(format!("{{\"card\":{{\"number\":{card}x")).await;
    let mut body = json!({"amount": 1050, "currency": "EUR", "payment_method": {"token": "tok_1"}});
    body["reference"] = json!(card);
    edge.post("/v1/payments").header("idempotency-key", "k").json(&body).await;
    body["reference"] = json!("foreign");
    body["description"] = json!(card);
    edge.post("/v1/payments").header("idempotency-key", "k").json(&body).await;
    edge.post("/v1/payments").header("idempotency-key", "k").json(&json!({card: card})).await;
    edge.get(&format!("/v1/tokens/{card}")).send().await;
    edge.get(&format!("/v1/payments?reference={card}&{card}=1")).send().await;
    edge.get(&format!("/v1/{card}")).send().await;
    // Of a key's form with the right checksum, of a token's, and of nothing's.
    let key = "pmk_aaaaaaaaaaaaaaaa_bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbabcdefg";
    let token = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UifQ.c2lnbmF0dXJl";
    for credential in [key, token, "Basic-secret"] {
        let request = edge.request(http::Method::GET, "/v1/payments");
        let reply = request.header("authorization", &format!("Bearer {credential}")).send().await;
        assert_eq!(reply.status, 401);
    }
    let signature = "sig1=:c2VjcmV0IHNpZ25hdHVyZQ==:";
    edge.get("/v1/payments").header("signature", signature).send().await;
    edge.stop().await;
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(text.contains("a request was answered") && text.contains("a request failed"), "the log is read");
    assert!(text.contains("a credential was refused"));
    let parts = ["bbbbbbbbbbbbbbbb", "eyJpc3MiOiJqb2UifQ", "c2lnbmF0dXJl", "Basic-secret", "c2VjcmV0"];
    for secret in [card, "987\"", "sk_test"].into_iter().chain(parts) {
        let line = text.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
}
