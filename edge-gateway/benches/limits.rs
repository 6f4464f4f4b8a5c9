//! What limits cost a request: its address, its tenant and its credential counted here, and the fields of
//! the answer.

use std::{hint::black_box, num::NonZeroU32};

use criterion::{Criterion, criterion_group, criterion_main};
use edge_gateway::limits::{Kind, Quota, Report, Table};
use http::HeaderMap;

fn limits(criterion: &mut Criterion) {
    let quota = Quota::new(NonZeroU32::MAX, NonZeroU32::MIN);
    let table = Table::new(65_536);
    // As many as there may be: the table is not in the nearest cache.
    for key in 0..40_000_u32 {
        table.take(key, &quota, 0);
    }
    let mut now = 0;
    criterion.bench_function("limits/three buckets", |bencher| {
        bencher.iter(|| {
            now += 1_000;
            let address = table.take(black_box(0x00ff_c0a8_0001_u128), &quota, now);
            let tenant = table.take(black_box("acme"), &quota, now);
            let credential = table.take(black_box(("acme", "billing app")), &quota, now);
            (address, tenant, credential)
        });
    });
    let mut report = Report::default();
    for kind in [Kind::Address, Kind::Tenant, Kind::Credential] {
        report.add(kind, quota, table.take("acme", &quota, now));
    }
    criterion.bench_function("limits/fields of the answer", |bencher| {
        bencher.iter(|| {
            let mut headers = HeaderMap::with_capacity(16);
            report.write(&mut headers);
            headers
        });
    });
}

criterion_group!(benches, limits);
criterion_main!(benches);
