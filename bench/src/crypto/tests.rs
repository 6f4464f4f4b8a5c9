//! Every case does what it measures.

use super::*;

#[test]
fn every_encryption_is_made_whichever_way_it_travels() {
    let directory = tempfile::tempdir().unwrap();
    let ground = Ground::start(directory.path()).unwrap();
    for travel in [Travel::Alone(2), Travel::Coalesced] {
        let (figures, all) = unary::drive(&ground, 100, 16, travel, Bound::Count(200)).unwrap();
        assert_eq!((figures.latencies_us.len(), all), (200, 200), "{travel:?}");
    }
    let shape = BatchShape { callers: 2, per_call: 10, window: 3 };
    for drive in [unary::drive_batches as Drive, stream::drive as Drive] {
        let (figures, all) = drive(&ground, shape, Bound::Count(20)).unwrap();
        assert_eq!((figures.latencies_us.len(), all), (20, 20));
    }
    ground.stop();
}

#[test]
fn keys_and_local_encryption_are_measured() {
    let directory = tempfile::tempdir().unwrap();
    keys::measure(directory.path(), 20, 3).unwrap();
    local::compare(directory.path(), 1_000, 1).unwrap();
}

#[test]
fn a_line_stands_under_its_head() {
    let mut latencies_us = report::histogram();
    latencies_us.record_n(1_500, 200).unwrap();
    let (time, cpu_per_request) = (Duration::from_secs(1), Some(Duration::from_micros(500)));
    let line = line("batch x 4", 100, &Figures { latencies_us, time, cpu_per_request });
    assert_eq!(line.chars().count(), HEAD.chars().count(), "{line}");
    assert!(line.contains("20,000") && line.contains(" 5.00"), "{line}");
}
