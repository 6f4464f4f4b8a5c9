//! How fast the pure core is: a payment from its creation to its posting, and what is written for it.

#![allow(missing_docs, clippy::unwrap_used)]

use std::{collections::BTreeMap, hint::black_box};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use money::{PaymentId, RefundId, Timestamp, TokenId};
use svc_payments::{
    convert,
    domain::{
        answer,
        create::{self, Found, NewPayment},
        due::Terms,
        hold,
        method::{CardSummary, Method},
        operation::{Approval, ProcessorOutcome},
        payment::{CaptureMethod, Change, Initiator, Payment, Tax},
        posting, refund,
    },
};
use uuid::Uuid;

const NOW: Timestamp = Timestamp::from_seconds(1_800_000_000);
const TERMS: Terms = Terms { unconfirmed_s: 3_600, action_s: 3_600, review_s: 3_600, authorized_s: 3_600 };

/// A request as shops send it: a reference, a description, two entries of metadata, tax.
fn new(capture_method: CaptureMethod) -> (NewPayment, Found) {
    let token = TokenId::new(Uuid::from_u128(2));
    let entry = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let new = NewPayment {
        amount: 10_000,
        convenience_fee: 250,
        currency: "EUR".parse().unwrap(),
        capture_method,
        confirm: true,
        initiator: Initiator::Customer,
        mandate: None,
        reference: "INV-1001".into(),
        description: "Two chairs and a table".into(),
        metadata: BTreeMap::from([entry("order", "4711"), entry("shop", "north")]),
    };
    let card = CardSummary {
        brand: "VISA".into(),
        bin: "424242".into(),
        last4: "4242".into(),
        fingerprint: "9f86d081884c7d659a2feaa0c55ad015".into(),
    };
    let tax = Tax { calculation: vec![7; 96], amount_tax: 1_597 };
    let method = Method::Card { token, card, saved: None };
    (new, Found { method, tax: Some(tax), processors: vec!["simulator".into()] })
}

fn created(capture_method: CaptureMethod) -> Change {
    let (new, found) = new(capture_method);
    let id = PaymentId::new(Uuid::from_u128(0x0193_3c5e_8f7a_7c3e_9d5b_2a4f_6e8c_0d1b));
    create::create(new, found, id, "acme".parse().unwrap(), "key", &TERMS, NOW).unwrap()
}

fn approved() -> ProcessorOutcome {
    ProcessorOutcome::Approved(Approval::as_asked("sim_pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b_1"))
}

fn authorized(capture_method: CaptureMethod) -> Payment {
    answer::answered(created(capture_method).payment, 1, approved(), &TERMS, NOW).unwrap().payment
}

/// Creation, reservation, approval, capture, and the postings that go with them.
fn life(c: &mut Criterion) {
    let mut group = c.benchmark_group("core");
    group.throughput(Throughput::Elements(1));
    group.bench_function("sale", |b| {
        b.iter_batched(
            || (created(CaptureMethod::Automatic).payment, approved()),
            |(payment, outcome)| {
                let reservation = posting::reserve(&payment);
                (reservation, answer::answered(payment, 1, outcome, &TERMS, NOW).unwrap())
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("create and sale", |b| {
        b.iter(|| {
            let created = created(CaptureMethod::Automatic);
            let reservation = posting::reserve(&created.payment);
            (reservation, answer::answered(created.payment, 1, approved(), &TERMS, NOW).unwrap())
        });
    });
    group.bench_function("capture", |b| {
        b.iter_batched(
            || (authorized(CaptureMethod::Manual), approved()),
            |(payment, outcome)| {
                let begun = hold::begin_capture(payment, Some(6_000), true, "key", NOW).unwrap();
                answer::answered(begun.payment, 2, outcome, &TERMS, NOW).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
    group.bench_function("refund", |b| {
        let id = RefundId::new(Uuid::from_u128(3));
        b.iter_batched(
            || (authorized(CaptureMethod::Automatic), approved()),
            |(payment, outcome)| {
                let begun = refund::begin(payment, id, Some(100), String::new(), "key", NOW).unwrap();
                answer::answered(begun.payment, 2, outcome, &TERMS, NOW).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
    group.finish();
}

/// The same payment for the wire and the idempotency record (protobuf), and for its row (JSON).
fn encoding(c: &mut Criterion) {
    let payment = authorized(CaptureMethod::Automatic);
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    group.bench_function("answer", |b| b.iter(|| convert::encode_payment(black_box(&payment))));
    group.bench_function("row", |b| b.iter(|| serde_json::to_vec(black_box(&payment)).unwrap()));
    let row = serde_json::to_vec(&payment).unwrap();
    group.bench_function("read row", |b| {
        b.iter(|| serde_json::from_slice::<Payment>(black_box(&row)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, life, encoding);
criterion_main!(benches);
