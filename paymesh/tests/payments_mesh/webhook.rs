//! A processor's webhook makes it be asked at once; nothing more is believed of it.

use std::collections::BTreeMap;

use mesh::{Clock as _, Fault, Reason};
use paymesh_proto::{
    google_api::HttpBody,
    payments::v1::{
        ReceiveWebhookRequest, payment::CaptureMethod, payment::Status,
        webhook_service_client::WebhookServiceClient,
    },
};
use svc_payments::config::Config;
use webhooks::WebhookSecret;

use crate::{
    gate::until,
    world::{SILENT, World, call, impatient, order},
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn signed(secret: &str, id: &str, second: i64, body: &str) -> ReceiveWebhookRequest {
    let time = second.to_string();
    let signature = WebhookSecret::parse(secret).unwrap().sign(id, &time, body.as_bytes());
    let headers = [("webhook-id", id), ("webhook-timestamp", &time), ("webhook-signature", &signature)];
    ReceiveWebhookRequest {
        processor: "simulator".into(),
        body: Some(HttpBody { data: body.to_owned().into(), ..HttpBody::default() }),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
    }
}

#[tokio::test]
async fn a_webhook_settles_what_would_have_waited_and_twice_is_once() {
    let mut world = World::new().await;
    let secret_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret_file.path(), SECRET).unwrap();
    let config = Config { simulator_webhook_secret_file: Some(secret_file.path().to_owned()), ..impatient() };
    let (payments, edge) = world.start_payments(config).await;
    let upstream = world.harness.upstream("edge-gateway", &payments).unwrap();
    let mut webhooks = WebhookServiceClient::new(upstream);
    let token = world.token(SILENT).await;
    let created = edge.create("k", &order(&token, CaptureMethod::Automatic)).await.unwrap().message;
    assert_eq!(created.status(), Status::Unknown);
    // Asked about after 1, 2, 4 and 8 seconds; next after 16 more, though the processor knows after 20.
    for (asked, pause) in (1..).zip([1, 2, 4, 8]) {
        world.clock.advance_seconds(pause);
        until("it was asked about", async || (world.inquiries(&created.id) == asked).then_some(())).await;
    }
    world.clock.advance_seconds(8);
    assert!(world.nothing_is_due());
    assert_eq!(edge.get(&created.id).await.status(), Status::Unknown);

    let now = world.clock.now().as_seconds();
    let body = format!(
        r#"{{"type":"payment.updated","data":{{"reference":"{}_1","status":"declined"}}}}"#,
        created.id
    );
    let good = signed(SECRET, "msg_1", now, &body);
    let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let mut changed = good.clone();
    changed.body = Some(HttpBody { data: body.replace("_1", "_2").into(), ..HttpBody::default() });
    let mut unknown = good.clone();
    unknown.processor = "other".into();
    for (request, reason) in [
        (signed(other, "msg_1", now, &body), Reason::WebhookSignatureInvalid),
        (signed(SECRET, "msg_1", now - 301, &body), Reason::WebhookSignatureInvalid),
        (changed, Reason::WebhookSignatureInvalid),
        (ReceiveWebhookRequest { headers: BTreeMap::new(), ..good.clone() }, Reason::WebhookSignatureInvalid),
        (ReceiveWebhookRequest { body: None, ..good.clone() }, Reason::WebhookSignatureInvalid),
        (unknown, Reason::ProcessorNotFound),
        (signed(SECRET, "msg_1", now, "{"), Reason::BodyMalformed),
    ] {
        let refused = webhooks.receive_webhook(call("").forward(request)).await.unwrap_err();
        assert_eq!(Fault::from_status(&refused).reason(), reason);
    }
    assert!(world.nothing_is_due(), "what was refused has no effect");
    for _ in 0..2 {
        webhooks.receive_webhook(call("").forward(good.clone())).await.unwrap();
        until("it was asked about", async || world.nothing_is_due().then_some(())).await;
    }
    // The processor's own word counts, not the webhook's.
    until("it is settled", async || (edge.get(&created.id).await.status() == Status::Captured).then_some(()))
        .await;
    let nothing = signed(SECRET, "msg_2", now, r#"{"type":"other","data":{}}"#);
    webhooks.receive_webhook(call("").forward(nothing)).await.unwrap();
    assert_eq!(world.effects("sale"), 1);
    assert_eq!(edge.events(&created.id).await.last().map(String::as_str), Some("payment.captured"));
}
