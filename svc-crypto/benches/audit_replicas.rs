//! What it costs to have a record durable before the answer where several replicas append to one chain, in a server
//! that keeps what it commits: `cargo xtask servers --durable -- cargo bench -p svc-crypto --bench audit_replicas`.
//! `AUDIT_BENCH_SECONDS` (3) is how long each case is measured.

// A bench says what it needs by failing.
#![allow(clippy::unwrap_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh::{Metrics, SpiffeId, SystemClock, testing::postgres::Schema};
use svc_crypto::{
    audit::{Recorder, verify},
    domain::{
        algorithm::Verb,
        audit::{Act, ChainKey, Entry, Link, Outcome, Subject},
        envelope::KeyRef,
        keys::KeyName,
        secret::KeyBytes,
    },
    store::{AuditLog as _, PostgresConfig, PostgresStore},
};
use tokio::{task::JoinSet, time::Instant};
use uuid::Uuid;

fn key() -> ChainKey {
    ChainKey::new(&KeyBytes::take(&mut [1; 32]))
}

/// One message encrypted under a key of this number.
fn entry(n: u64) -> Entry {
    let act = Act {
        workload: SpiffeId::of("svc-payments").unwrap(),
        tenant: "acme".parse().ok(),
        subject: Subject::Key(KeyName::parse(&format!("orders-{n}")).unwrap()),
        key: Some(KeyRef { id: Uuid::from_u128(n.into()), version: 1 }),
        verb: Verb::Encrypt,
        outcome: Outcome::Done,
    };
    Entry { act, count: 1, bytes: 64 }
}

/// So many replicas with so many callers each, whose entries are equal or all different.
async fn measured(replicas: u64, in_flight: u64, equal: bool, most: Duration) {
    let schema = Schema::new(&format!("bench_{}", &Uuid::new_v4().simple().to_string()[..20]));
    let dir = tempfile::tempdir().unwrap();
    let (url, password) = schema.url();
    std::fs::write(dir.path().join("password"), password).unwrap();
    let config = PostgresConfig {
        url,
        password_file: Some(dir.path().join("password")),
        ca_file: None,
        schema: schema.name().to_owned(),
        pool_max: 2,
        keys_trusted_for_ms: 1_000,
        connect_timeout_ms: 5_000,
        query_timeout_ms: 10_000,
        allow_unsynced_commits: std::env::var_os("AUDIT_BENCH_UNSYNCED").is_some(),
    };
    let (stop, done, nanos) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::default());
    let nanos: Arc<AtomicU64> = nanos;
    let (mut callers, mut logs) = (JoinSet::new(), Vec::new());
    for replica in 0..replicas {
        let log = PostgresStore::open(&config).await.unwrap().audit_log(key());
        let (patience, metrics) = (Duration::from_secs(30), Metrics::new("svc-crypto"));
        let (recorder, _end) =
            Recorder::start(log.clone(), Link::START, Arc::new(SystemClock), patience, &metrics).unwrap();
        logs.push(log);
        for caller in 0..in_flight {
            let (recorder, stop, done) = (recorder.clone(), Arc::clone(&stop), Arc::clone(&done));
            let nanos = Arc::clone(&nanos);
            let entry = entry(if equal { 0 } else { replica * in_flight + caller });
            callers.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let began = Instant::now();
                    recorder.submit(entry.clone()).await.unwrap();
                    let took = u64::try_from(began.elapsed().as_nanos()).unwrap();
                    nanos.fetch_add(took, Ordering::Relaxed);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    }
    let began = Instant::now();
    tokio::time::sleep(most).await;
    stop.store(true, Ordering::Relaxed);
    callers.join_all().await;
    let took = began.elapsed();
    let log = &logs[0];
    let (end, offence) = verify(log, key(), Vec::new(), |_| true).await.unwrap();
    assert_eq!(offence, None);
    assert_eq!(log.end(end).await.unwrap(), end);
    let done = done.load(Ordering::Relaxed);
    let per_second = u128::from(done) * 1_000_000 / took.as_micros();
    let micros = nanos.load(Ordering::Relaxed) / done.max(1) / 1_000;
    let kind = if equal { "equal" } else { "different" };
    println!(
        "{replicas} replicas, {in_flight:>4} in flight each, {kind:>9} acts: {per_second:>7} entries/s, {micros:>6} µs each on average, {} records",
        end.sequence
    );
}

fn main() {
    let seconds = std::env::var("AUDIT_BENCH_SECONDS").map_or(3, |text| text.parse().unwrap());
    let most = Duration::from_secs(seconds);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        for (in_flight, equal) in [(1, true), (64, false), (256, true), (256, false)] {
            for replicas in [1, 2, 3] {
                measured(replicas, in_flight, equal, most).await;
            }
        }
    });
}
