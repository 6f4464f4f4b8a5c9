//! gRPC-web as its clients see it: by tonic's own, and byte by byte.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a test says what it expects by failing

mod support;

use std::{num::NonZeroU32, time::Duration};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use edge_gateway::{CorsConfig, EdgeConfig, QuotaConfig};
use http::Method;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use paymesh_proto::payments::v1::{self as pb, payment_service_client::PaymentServiceClient};
use prost::Message as _;
use support::{Edge, KEY, Options, Reply};
use tonic::{Code, Request, Status};
use tonic_web::GrpcWebClientLayer;
use tower::Layer as _;

const CREATE: &str = "/paymesh.payments.v1.PaymentService/CreatePayment";
const WATCH: &str = "/paymesh.payments.v1.PaymentService/WatchPaymentEvents";
const BINARY: &str = "application/grpc-web+proto";
const TEXT: &str = "application/grpc-web-text";

async fn start_with(change: impl FnOnce(&mut Options) + 'static, configure: fn(&mut EdgeConfig)) -> Edge {
    Edge::start_with(|edge| {
        change(edge);
        edge.configure = Box::new(move |config, _| {
            config.http.grpc_web = true;
            configure(config);
        });
    })
    .await
}

async fn start() -> Edge {
    start_with(|_| {}, |_| {}).await
}

/// A macro, as the type of tonic's client cannot be named here without all of its layers.
macro_rules! client {
    ($edge:expr) => {{
        let http = Client::builder(TokioExecutor::new()).build_http();
        let origin = format!("http://{}", $edge.address()).parse().unwrap();
        PaymentServiceClient::with_origin(GrpcWebClientLayer::new().layer(http), origin)
    }};
}

fn with_key<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", KEY.parse().unwrap());
    request
}

fn payment(reference: &str) -> pb::CreatePaymentRequest {
    pb::CreatePaymentRequest {
        amount: 77,
        currency: "EUR".into(),
        reference: reference.into(),
        ..Default::default()
    }
}

fn create(reference: &str) -> Request<pb::CreatePaymentRequest> {
    let mut request = with_key(payment(reference));
    request.metadata_mut().insert("idempotency-key", "k-1".parse().unwrap());
    request
}

fn watch(payment: &str) -> Request<pb::WatchPaymentEventsRequest> {
    with_key(pb::WatchPaymentEventsRequest { payment_id: payment.into(), ..Default::default() })
}

fn reason(status: &Status) -> String {
    use tonic_types::StatusExt as _;
    status.get_details_error_info().unwrap().reason
}

#[tokio::test]
async fn a_tonic_client_calls_as_it_does_without_an_edge() {
    let edge = start().await;
    let mut client = client!(edge);
    let mut request = create("replayed");
    request.metadata_mut().insert("paymesh-tenant", "globex".parse().unwrap());
    let answer = client.create_payment(request).await.unwrap();
    assert_eq!(answer.metadata().get("idempotency-replayed").unwrap(), "true");
    let made = answer.into_inner();
    assert_eq!((made.amount, made.currency.as_str()), (77, "EUR"));
    let told = |name: &str| made.metadata[name].as_str();
    assert_eq!((told("tenant"), told("peer"), told("idempotency_key")), ("acme", "edge-gateway", "k-1"));
    assert_eq!(
        (told("foreign"), told("has_deadline")),
        ("", "true"),
        "nothing else of the request is passed on"
    );

    let mut events = client.watch_payment_events(watch("pay_ends")).await.unwrap().into_inner();
    for sequence in 1..=3 {
        assert_eq!(events.message().await.unwrap().unwrap().sequence, sequence);
    }
    assert!(events.message().await.unwrap().is_none());
    edge.stop().await;
}

#[tokio::test]
async fn refusals_are_statuses_with_their_details() {
    let edge = start().await;
    let mut client = client!(edge);
    let missing =
        client.get_payment(with_key(pb::GetPaymentRequest { id: "pay_2".into() })).await.unwrap_err();
    assert_eq!((missing.code(), missing.message()), (Code::NotFound, "There is no such payment."));
    assert_eq!(reason(&missing), "PAYMENT_NOT_FOUND");

    let keyless = client.create_payment(with_key(payment(""))).await.unwrap_err();
    assert_eq!(
        (keyless.code(), reason(&keyless).as_str()),
        (Code::InvalidArgument, "IDEMPOTENCY_KEY_REQUIRED")
    );
    let nobody = client.create_payment(payment("")).await.unwrap_err();
    assert_eq!((nobody.code(), reason(&nobody).as_str()), (Code::Unauthenticated, "UNAUTHENTICATED"));
    let foreign = client.create_payment(create("foreign")).await.unwrap_err();
    assert_eq!(foreign.code(), Code::Unavailable);
    assert!(!foreign.message().contains("10.0.0.1"), "{foreign}");

    let none = client.watch_payment_events(watch("pay_none")).await.unwrap_err();
    assert_eq!((none.code(), reason(&none).as_str()), (Code::NotFound, "PAYMENT_NOT_FOUND"));
    let mut events = client.watch_payment_events(watch("pay_breaks")).await.unwrap().into_inner();
    for _ in 1..=3 {
        events.message().await.unwrap().unwrap();
    }
    let broken = events.message().await.unwrap_err();
    assert_eq!(
        (broken.code(), broken.message(), reason(&broken).as_str()),
        (Code::Unavailable, "Not now.", "UNAVAILABLE")
    );
    edge.stop().await;
}

#[tokio::test]
async fn the_clients_deadline_holds_where_it_is_sooner() {
    let edge = start_with(|edge| edge.request_timeout_ms = 300, |_| {}).await;
    let mut client = client!(edge);
    let mut request = create("never");
    request.set_timeout(Duration::from_millis(20));
    assert_eq!(client.create_payment(request).await.unwrap_err().code(), Code::DeadlineExceeded);
    // The edge's own is not put off by it.
    let mut request = create("never");
    request.set_timeout(Duration::from_secs(3_600));
    let refused = tokio::time::timeout(Duration::from_secs(20), client.create_payment(request)).await;
    assert_eq!(refused.expect("it ends in time").unwrap_err().code(), Code::DeadlineExceeded);
    let wrong = edge.call(CREATE, BINARY).header("grpc-timeout", "soon").body(frame(&payment(""))).await;
    assert_eq!((status(&wrong), wrong.header("grpc-status")), (200, Some("3")));

    // On a busy machine it may have passed before the stream opens; then the next one is longer.
    let mut opened = None;
    for timeout_ms in [200, 400, 800, 1_600, 3_200] {
        let mut request = watch("pay_open");
        request.set_timeout(Duration::from_millis(timeout_ms));
        match client.watch_payment_events(request).await {
            Ok(events) => {
                opened = Some(events.into_inner());
                break;
            }
            Err(refused) => assert_eq!(refused.code(), Code::DeadlineExceeded),
        }
    }
    let mut events = opened.expect("the stream opens in time");
    let mut last = events.message().await;
    while let Ok(Some(_)) = last {
        last = events.message().await;
    }
    assert_eq!(last.unwrap_err().code(), Code::DeadlineExceeded);
    edge.stop().await;
}

impl Edge {
    fn call(&self, path: &str, content_type: &str) -> support::Builder {
        self.request(Method::POST, path)
            .header("authorization", KEY)
            .header("content-type", content_type)
            .header("idempotency-key", "k-1")
    }
}

fn framed(flags: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[flags], &length[..], content].concat()
}

fn frame(message: &pb::CreatePaymentRequest) -> Vec<u8> {
    framed(0, &message.encode_to_vec())
}

fn status(reply: &Reply) -> u16 {
    reply.status.as_u16()
}

/// The frames of a body, as their flags and their content.
fn frames(mut body: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut all = Vec::new();
    while let Some(([flags, length @ ..], rest)) = body.split_first_chunk::<5>() {
        let (content, further) = rest.split_at(u32::from_be_bytes(*length).try_into().unwrap());
        all.push((*flags, content.to_vec()));
        body = further;
    }
    assert!(body.is_empty());
    all
}

#[tokio::test]
async fn the_answers_bytes_are_frames_and_the_last_one_is_the_trailers() {
    let edge = start().await;
    for content_type in ["application/grpc-web", BINARY, "application/grpc-web; charset=utf-8"] {
        let answer = edge.call(CREATE, content_type).body(frame(&payment(""))).await;
        assert_eq!((status(&answer), answer.header("content-type")), (200, Some(BINARY)));
        assert_eq!(answer.header("grpc-status"), None);
        let frames = frames(answer.bytes());
        assert_eq!(pb::Payment::decode(&*frames[0].1).unwrap().amount, 77);
        assert_eq!((frames[0].0, &frames[1]), (0, &(0x80, b"grpc-status:0\r\n".to_vec())));
        assert_eq!(frames.len(), 2);
    }
    // In base64, also in parts that were encoded one by one.
    let whole = frame(&payment(""));
    let (head, message) = whole.split_at(5);
    for body in [STANDARD.encode(&whole), STANDARD.encode(head) + &STANDARD.encode(message)] {
        let answer = edge.call(CREATE, TEXT).body(body).await;
        assert_eq!(answer.header("content-type"), Some("application/grpc-web-text+proto"));
        let frames = frames(&STANDARD.decode(answer.bytes()).unwrap());
        assert_eq!(pb::Payment::decode(&*frames[0].1).unwrap().amount, 77);
        assert_eq!(frames[1], (0x80, b"grpc-status:0\r\n".to_vec()));
    }
    let asked = pb::WatchPaymentEventsRequest { payment_id: "pay_ends".into(), ..Default::default() };
    let body = STANDARD.encode(framed(0, &asked.encode_to_vec()));
    let answer = edge.call(WATCH, "application/grpc-web-text+proto").body(body).await;
    let parts = answer.text();
    let parts = parts.split_inclusive('=').filter(|part| *part != "=");
    let decoded: Vec<u8> = parts.flat_map(|part| STANDARD.decode(padded(part)).unwrap()).collect();
    assert_eq!(frames(&decoded).iter().map(|(flags, _)| *flags).collect::<Vec<_>>(), [0, 0, 0, 0x80]);
    edge.stop().await;
}

/// The text with the padding that belongs to it.
fn padded(part: &str) -> String {
    let text = part.trim_end_matches('=');
    text.to_owned() + &"=".repeat((4 - text.len() % 4) % 4)
}

#[tokio::test]
async fn a_body_is_exactly_one_message_of_a_bounded_size() {
    let edge = start_with(|_| {}, |config| config.body_bytes_max = 1_000).await;
    let right = frame(&payment(""));
    let long = payment(&"x".repeat(1_000));
    for (body, reason) in [
        (Vec::new(), "3"),
        (right[..4].to_vec(), "3"),
        (right[..right.len() - 1].to_vec(), "3"),
        ([&right[..], b"x"].concat(), "3"),
        ([&right[..], &right[..]].concat(), "3"),
        ([&right[..], &framed(0x80, b"")[..]].concat(), "3"),
        (framed(0x80, b"grpc-status:0\r\n"), "3"),
        (framed(1, &payment("").encode_to_vec()), "12"),
        (frame(&long), "11"),
    ] {
        let refused = edge.call(CREATE, BINARY).body(body.clone()).await;
        assert_eq!((status(&refused), refused.header("grpc-status")), (200, Some(reason)), "{body:?}");
        assert_eq!((refused.header("content-type"), refused.text().as_str()), (Some(BINARY), ""));
        assert!(refused.header("x-request-id").is_some() && refused.header("grpc-message").is_some());
        let text = edge.call(CREATE, TEXT).body(STANDARD.encode(&body)).await;
        assert_eq!(text.header("grpc-status"), Some(reason), "{body:?}");
    }
    let refused = edge.call(CREATE, TEXT).body("no base64!").await;
    assert_eq!(refused.header("grpc-status"), Some("3"));
    let packed = edge.call(CREATE, BINARY).header("content-encoding", "gzip").body(right.clone()).await;
    assert_eq!(packed.header("grpc-status"), Some("3"));
    // As large as a message may be.
    let fits = payment(&"x".repeat(1_000 - payment("").encoded_len() - 3));
    assert_eq!(fits.encoded_len(), 1_000);
    for (content_type, body) in [(BINARY, frame(&fits)), (TEXT, STANDARD.encode(frame(&fits)).into())] {
        assert_eq!(edge.call(CREATE, content_type).body(body).await.header("grpc-status"), None);
    }
    edge.stop().await;
}

#[tokio::test]
async fn only_what_has_a_route_can_be_called_and_only_when_it_is_switched_on() {
    let edge = start().await;
    for path in [
        // Inside the mesh alone.
        "/paymesh.ledger.v1.LedgerService/CreateTransfers",
        "/paymesh.crypto.v1.VaultService/Detokenize",
        "/grpc.health.v1.Health/Check",
        // Whose body is signed as it is sent.
        "/paymesh.payments.v1.WebhookService/ReceiveWebhook",
        "/paymesh.payments.v1.PaymentService/None",
        "/v1/payments",
    ] {
        let refused = edge.call(path, BINARY).body(frame(&payment(""))).await;
        assert_eq!((status(&refused), refused.header("grpc-status")), (200, Some("12")), "{path}");
        // Without a credential nothing is told.
        let nobody = edge.request(Method::POST, path).header("content-type", BINARY).send().await;
        assert_eq!(nobody.header("grpc-status"), Some("16"), "{path}");
    }
    for other in ["application/grpc", "application/grpc-web+json", "application/json"] {
        assert_eq!(status(&edge.call(CREATE, other).body(frame(&payment(""))).await), 404, "{other}");
    }
    let read = edge.get(CREATE).header("content-type", BINARY).send().await;
    assert_eq!(status(&read), 404);
    edge.stop().await;

    let edge = Edge::start().await;
    assert_eq!(status(&edge.call(CREATE, BINARY).body(frame(&payment(""))).await), 404, "off by default");
    edge.stop().await;
}

#[tokio::test]
async fn limits_hold_and_pages_may_read_what_they_need() {
    let edge = start_with(
        |_| {},
        |config| {
            let two = NonZeroU32::new(2).unwrap();
            let window_s = NonZeroU32::new(3_600).unwrap();
            config.limits.tenant = Some(QuotaConfig { requests: two, window_s });
            config.http.cors =
                CorsConfig { origins: vec!["https://shop.example".into()], ..CorsConfig::default() };
        },
    )
    .await;
    let asked = edge
        .request(Method::OPTIONS, CREATE)
        .header("origin", "https://shop.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "x-grpc-web,grpc-timeout,x-user-agent")
        .send()
        .await;
    let allowed = asked.header("access-control-allow-headers").unwrap();
    assert!(
        ["grpc-timeout", "x-grpc-web", "x-user-agent", "last-event-id"]
            .iter()
            .all(|name| allowed.contains(name)),
        "{allowed}"
    );
    for _ in 0..2 {
        let answer =
            edge.call(CREATE, BINARY).header("origin", "https://shop.example").body(frame(&payment("")));
        let answer = answer.await;
        assert!(answer.header("ratelimit").is_some() && answer.header("grpc-status").is_none());
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(
            ["grpc-status", "grpc-message", "ratelimit"].iter().all(|name| exposed.contains(name)),
            "{exposed}"
        );
    }
    let refused = edge.call(CREATE, BINARY).body(frame(&payment(""))).await;
    assert_eq!((status(&refused), refused.header("grpc-status")), (200, Some("8")));
    let seconds: u32 = refused.header("retry-after").expect("when to come back").parse().unwrap();
    assert!((1..=1_800).contains(&seconds), "{seconds}");
    edge.stop().await;
}

#[tokio::test]
async fn a_stream_that_the_edge_ends_is_not_taken_for_one_that_has_ended() {
    let edge = start_with(|edge| edge.stream_duration_max_ms = 200, |_| {}).await;
    let mut client = client!(edge);
    let mut events = client.watch_payment_events(watch("pay_open")).await.unwrap().into_inner();
    let mut last = events.message().await;
    while let Ok(Some(_)) = last {
        last = events.message().await;
    }
    assert_eq!(last.unwrap_err().code(), Code::Unavailable);
    edge.stop().await;
}
