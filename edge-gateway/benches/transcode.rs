//! What transcoding costs the edge per request: target under 5 µs for a payment, each way.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use edge_gateway::transcode::Transcoder;
use http::{HeaderMap, Method};
use paymesh_proto::payments::v1::{Payment, PaymentMethod, payment};
use prost::Message as _;

const REQUEST: &str = r#"{"amount":1050,"currency":"EUR","payment_method":{"token":"tok_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b"},
    "capture_method":"AUTOMATIC","reference":"INV-1001","description":"Two books and a lamp",
    "metadata":{"order":"1001","channel":"web"}}"#;

fn answer() -> Payment {
    Payment {
        id: "pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b".into(),
        status: payment::Status::Captured.into(),
        amount: 1050,
        amount_authorized: 1050,
        amount_captured: 1050,
        currency: "EUR".into(),
        payment_method: Some(PaymentMethod { token: "tok_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b".into() }),
        capture_method: payment::CaptureMethod::Automatic.into(),
        reference: "INV-1001".into(),
        description: "Two books and a lamp".into(),
        metadata: [("order", "1001"), ("channel", "web")].map(|(k, v)| (k.into(), v.into())).into(),
        fraud: Some(payment::Fraud {
            outcome: payment::fraud::Outcome::Allow.into(),
            score: 3,
            reasons: vec!["test_card".into()],
        }),
        processor: Some(payment::Processor { name: "simulator".into(), reference: "sim_1".into() }),
        created_at: "2026-01-31T12:00:00.123456Z".parse().ok(),
        updated_at: "2026-01-31T12:00:00.223456Z".parse().ok(),
        sequence: 3,
        ..Payment::default()
    }
}

fn transcode(criterion: &mut Criterion) {
    let Ok(api) = Transcoder::new(&paymesh_proto::descriptor_pool()) else { return };
    let path = "/v1/payments";
    criterion.bench_function("route a payment", |bencher| {
        bencher.iter(|| api.find(&Method::POST, black_box(path)).is_ok());
    });
    let Ok((route, found)) = api.find(&Method::POST, path) else { return };
    criterion.bench_function("payment: JSON to wire", |bencher| {
        bencher.iter(|| {
            route
                .request
                .encode(&api.schema, &found.captures, None, &HeaderMap::new(), black_box(REQUEST).as_bytes())
                .map(|b| b.len())
        });
    });
    let bytes = answer().encode_to_vec();
    criterion.bench_function("payment: wire to JSON", |bencher| {
        bencher.iter(|| route.response.decode(&api.schema, black_box(&bytes)).map(|json| json.len()));
    });
}

criterion_group!(benches, transcode);
criterion_main!(benches);
