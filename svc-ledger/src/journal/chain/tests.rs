//! Records that are damaged, dropped, repeated, of another key, made up: each is refused. And the golden bytes.

use fastrand::Rng;

use super::{super::samples, *};

/// Some records of a few events each.
fn sealed(records: usize) -> Vec<(Frame, Vec<Event>)> {
    let mut rng = Rng::with_seed(7);
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    let (mut buffer, mut last) = (Vec::new(), 0);
    (0..records)
        .map(|record| {
            let events = samples::events(&mut rng, record % 4, &mut last);
            (chain.seal(&events, &mut buffer).unwrap(), events)
        })
        .collect()
}

fn error(result: Result<Happened, JournalError>) -> String {
    result.unwrap_err().to_string()
}

#[test]
fn what_was_sealed_is_opened() {
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    let mut light = Chain::new(samples::key(1), Link::EMPTY);
    for (number, (frame, events)) in (1..).zip(sealed(50)) {
        assert_eq!(frame.sequence, number);
        let happened = chain.open(&frame.bytes).unwrap();
        assert_eq!((happened.sequence, happened.hash), (frame.sequence, frame.hash));
        assert_eq!(*happened.events, *events);
        let header = light.verify(&frame.bytes).unwrap();
        assert_eq!((header.record_bytes(), light.link()), (frame.bytes.len(), chain.link()));
    }
}

#[test]
fn any_flipped_bit_is_refused_and_leaves_the_chain_where_it_was() {
    let records = sealed(4);
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    for (frame, _) in &records[..3] {
        chain.open(&frame.bytes).unwrap();
    }
    let good = &records[3].0.bytes;
    for bit in 0..good.len() * 8 {
        let mut bytes = good.to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(matches!(chain.open(&bytes), Err(JournalError::Damaged { sequence: 4, .. })), "bit {bit}");
    }
    for length in 0..good.len() {
        assert!(chain.open(&good[..length]).is_err(), "{length} bytes");
    }
    chain.open(good).unwrap();
}

#[test]
fn records_follow_one_another_without_a_gap() {
    let records = sealed(4);
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    chain.open(&records[0].0.bytes).unwrap();
    assert_eq!(
        error(chain.open(&records[2].0.bytes)),
        "journal record 2 is damaged: record 3 is in its place",
        "a record was dropped"
    );
    assert!(chain.open(&records[0].0.bytes).is_err(), "a record came twice");
}

/// Each record is right by itself and has the right place, but what came before it was another.
#[test]
fn a_record_of_another_history_is_refused() {
    let mut buffer = Vec::new();
    let mut rng = Rng::with_seed(8);
    let mut last = 0;
    let mut other = Chain::new(samples::key(1), Link::EMPTY);
    let theirs: Vec<Frame> =
        (0..2).map(|_| other.seal(&samples::events(&mut rng, 2, &mut last), &mut buffer).unwrap()).collect();
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    chain.open(&sealed(1)[0].0.bytes).unwrap();
    assert_eq!(
        error(chain.open(&theirs[1].bytes)),
        "journal record 2 is damaged: it does not follow the record before: their hashes differ"
    );
}

#[test]
fn the_journal_of_another_cluster_or_a_newer_program_says_so() {
    let record = &sealed(1)[0].0.bytes;
    assert_eq!(
        error(Chain::new(samples::key(2), Link::EMPTY).open(record)),
        "the journal was written with another key than this ledger's: put back the key or the journal"
    );
    let mut newer = record.to_vec();
    newer[4] = 3;
    let checksum = crc32fast::hash(&newer[..80]);
    newer[80..84].copy_from_slice(&checksum.to_le_bytes());
    assert_eq!(
        error(Chain::new(samples::key(1), Link::EMPTY).open(&newer)),
        "the journal is of format 3, this program reads formats up to 2: start a newer one"
    );
}

/// Someone who can write the file and compute checksums, but has no key.
#[test]
fn a_record_cannot_be_made_up_without_the_key() {
    let mut forged = sealed(4)[3].0.bytes.to_vec();
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    for (frame, _) in &sealed(3) {
        chain.open(&frame.bytes).unwrap();
    }
    let content = forged.len() - HASH_BYTES;
    forged[content - 1] ^= 1;
    let unkeyed = blake3::hash(&forged[..content]);
    forged[content..].copy_from_slice(unkeyed.as_bytes());
    assert!(error(chain.open(&forged)).ends_with("its bytes are not those that its hash was made of"));
}

#[test]
fn too_many_events_are_refused_and_change_nothing() {
    let mut rng = Rng::with_seed(9);
    let mut last = 0;
    let one = loop {
        let event = samples::event(&mut rng, &mut last);
        if matches!(&event, Event::Made { transfer, .. } if !transfer.reference.as_str().is_empty()) {
            break event;
        }
    };
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    let many = vec![one; BODY_BYTES_MAX / 100];
    assert!(matches!(chain.seal(&many, &mut Vec::new()), Err(JournalError::Failed(_))));
    assert_eq!(chain.link(), Link::EMPTY);
}

/// Where this must change, the format's version must, too.
#[test]
fn the_format_is_that_of_its_document() {
    let key = || JournalKey::take(&mut std::array::from_fn(|place| u8::try_from(place).unwrap()));
    let (mut writing, mut reading) = (Chain::new(key(), Link::EMPTY), Chain::new(key(), Link::EMPTY));
    for (sequence, events) in [(1, samples::golden()), (2, samples::golden_of_version_2())] {
        let record = samples::golden_record(sequence);
        assert_eq!(*writing.seal(&events, &mut Vec::new()).unwrap().bytes, record);
        assert_eq!(*reading.open(&record).unwrap().events, events);
    }
}

/// Who knows the first version only must be told that a record is newer, not that it is damaged.
#[test]
fn a_record_has_the_first_version_that_has_all_of_its_events() {
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    let (first, second) = (samples::golden(), samples::golden_of_version_2());
    let both = [first.clone(), second.clone()].concat();
    for (events, version) in [(&first, 1), (&second, 2), (&both, 2)] {
        let before = chain.link();
        let frame = chain.seal(events, &mut Vec::new()).unwrap();
        let header = Header::decode(frame.bytes.first_chunk().unwrap(), samples::key(1).id()).unwrap();
        assert_eq!(header.version, version);

        let mut other = Header { version: 3 - version, ..header }.encode(samples::key(1).id()).to_vec();
        other.extend_from_slice(&frame.bytes[HEADER_BYTES..frame.bytes.len() - HASH_BYTES]);
        let hash = samples::key(1).hash(&other);
        other.extend_from_slice(&hash);
        let refused = error(Chain::new(samples::key(1), before).open(&other));
        assert!(refused.ends_with("not of the version that its header says"), "{refused}");
    }
}
