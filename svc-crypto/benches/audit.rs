//! What it costs to have a record durable before the answer: through the recorder, onto a real file.

// The macros of criterion make functions without documentation.
#![allow(missing_docs)]

use std::{hint::black_box, sync::Arc, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mesh::{Metrics, SpiffeId, SystemClock};
use money::Timestamp;
use svc_crypto::{
    audit::Recorder,
    domain::{
        algorithm::Verb,
        audit::{Act, ChainKey, Entry, Link, Outcome, Subject, merge},
        envelope::KeyRef,
        keys::KeyName,
        secret::KeyBytes,
    },
    store::EmbeddedAuditLog,
};
use tokio::{runtime::Runtime, task::JoinSet};
use uuid::Uuid;

fn key() -> ChainKey {
    ChainKey::new(&KeyBytes::take(&mut [1; 32]))
}

/// One message encrypted under one of so many keys.
fn entries(keys: u32) -> Vec<Entry> {
    let (Ok(workload), Ok(tenant)) = (SpiffeId::of("svc-payments"), "acme".parse::<money::TenantId>()) else {
        return Vec::new();
    };
    let entry = |n: u32| {
        let name = KeyName::parse(&format!("orders-{n}")).ok()?;
        let act = Act {
            workload: workload.clone(),
            tenant: Some(tenant.clone()),
            subject: Subject::Key(name),
            key: Some(KeyRef { id: Uuid::from_u128(n.into()), version: 1 }),
            verb: Verb::Encrypt,
            outcome: Outcome::Done,
        };
        Some(Entry { act, count: 1, bytes: 64 })
    };
    (0..keys).filter_map(entry).collect()
}

/// Callers that hand in one entry each and wait for it, over and over.
fn recorder(criterion: &mut Criterion) {
    let (Ok(runtime), Ok(dir)) = (Runtime::new(), tempfile::tempdir()) else { return };
    let Ok(log) = EmbeddedAuditLog::open(&dir.path().join("audit.db"), key()) else { return };
    let started = runtime.block_on(async {
        let (clock, metrics) = (Arc::new(SystemClock), Metrics::new("svc-crypto"));
        Recorder::start(log, Link::START, clock, Duration::from_secs(60), &metrics)
    });
    let Ok((recorder, end)) = started else { return };
    let mut group = criterion.benchmark_group("recorder");
    for (in_flight, keys) in [(1, 1), (256, 1), (256, 256), (4_096, 1), (4_096, 4_096)] {
        let entries: Arc<[Entry]> = entries(keys).into();
        group.throughput(Throughput::Elements(1));
        let name = BenchmarkId::new(format!("{in_flight} in flight"), format!("{keys} keys"));
        let (mut kept, before) = (0, end.borrow().sequence);
        group.bench_function(name, |b| {
            b.iter_custom(|iterations| {
                kept += iterations;
                let (recorder, entries) = (recorder.clone(), Arc::clone(&entries));
                runtime.block_on(async move {
                    let began = tokio::time::Instant::now();
                    let mut callers = JoinSet::new();
                    for caller in 0..in_flight {
                        let (recorder, entries) = (recorder.clone(), Arc::clone(&entries));
                        callers.spawn(async move {
                            // Shared out evenly.
                            let calls = iterations / in_flight + u64::from(caller < iterations % in_flight);
                            let own = usize::try_from(caller).unwrap_or_default() % entries.len();
                            for _ in 0..calls {
                                if recorder.submit(entries[own].clone()).await.is_err() {
                                    return;
                                }
                            }
                        });
                    }
                    callers.join_all().await;
                    began.elapsed()
                })
            });
        });
        let records = end.borrow().sequence - before;
        println!("{kept} entries became {records} records");
    }
    group.finish();
}

/// The parts: adding up a group, and the hash of a record.
fn parts(criterion: &mut Criterion) {
    let key = key();
    let mut group = criterion.benchmark_group("audit");
    for keys in [1, 256] {
        let all: Vec<Entry> = entries(keys).into_iter().cycle().take(1_024).collect();
        group.throughput(Throughput::Elements(1_024));
        group.bench_function(BenchmarkId::new("merge 1024", format!("{keys} keys")), |b| {
            b.iter(|| merge(black_box(&all).iter().cloned()));
        });
    }
    let one = entries(1);
    group.throughput(Throughput::Elements(1));
    group.bench_function("chain", |b| {
        b.iter(|| {
            key.extend(Link::START, Timestamp::EPOCH, black_box(&one).clone(), Timestamp::EPOCH).last()
        });
    });
    group.finish();
}

criterion_group!(benches, recorder, parts);
criterion_main!(benches);
