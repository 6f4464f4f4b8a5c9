//! What reading and writing the shared words costs: each request does it several times.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use money::{Currency, PaymentId};
use uuid::Uuid;

fn benches(c: &mut Criterion) {
    // One that is accepted, one of the refused, one that is not known.
    for code in ["EUR", "CLF", "ZZZ"] {
        c.bench_function(&format!("currency, parse {code}"), |b| {
            b.iter(|| black_box(code).parse::<Currency>());
        });
    }
    let id = PaymentId::new(Uuid::from_u128(0x0193_3c5e_8f7a_7c3e_9d5b_2a4f_6e8c_0d1b));
    let text = id.to_string();
    c.bench_function("payment id, parse", |b| b.iter(|| black_box(&*text).parse::<PaymentId>()));
    c.bench_function("payment id, display", |b| b.iter(|| black_box(id).to_string()));
}

criterion_group!(group, benches);
criterion_main!(group);
