//! The journal in files as its users see it; what a crash and what damage does to it is in the parts.

mod child;
mod crash;
mod damage;
mod faulty;
mod pages;

use std::{
    fs::{self, File},
    path::Path,
};

use fastrand::Rng;
use tempfile::TempDir;

use self::faulty::FaultyDisk;
use super::*;
use crate::{
    domain::Event,
    journal::{Chain, samples},
    store::ports::Happened,
};

/// A segment that holds all that a test writes, with few zeros behind it.
const ONE_SEGMENT: u64 = 32 << 10;

/// Records that follow one another, with what is in each.
struct History {
    frames: Vec<Frame>,
    events: Vec<Vec<Event>>,
}

impl History {
    fn new(records: usize) -> Self {
        let mut rng = Rng::with_seed(11);
        let mut chain = Chain::new(samples::key(1), Link::EMPTY);
        let (mut buffer, mut last) = (Vec::new(), 0);
        let events: Vec<Vec<Event>> = (0..records).map(|_| samples::events(&mut rng, 1, &mut last)).collect();
        let frames = events.iter().map(|events| chain.seal(events, &mut buffer).unwrap()).collect();
        Self { frames, events }
    }
}

fn open(dir: &Path, segment_bytes: u64) -> Result<(FileJournal<FaultyDisk>, Recovered), JournalError> {
    open_on(FaultyDisk::default(), dir, segment_bytes)
}

fn open_on<D: Disk>(
    disk: D,
    dir: &Path,
    segment_bytes: u64,
) -> Result<(FileJournal<D>, Recovered), JournalError> {
    FileJournal::open_on(disk, dir, KeySource::Given(samples::key(1)), segment_bytes)
}

fn append<D: Disk>(journal: &mut FileJournal<D>, frames: &[Frame]) -> Result<(), JournalError> {
    // It blocks, and never waits.
    let mut append = std::pin::pin!(journal.append(frames));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match append.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => result,
        std::task::Poll::Pending => panic!("a file is not waited for"),
    }
}

/// A journal of these records, so many in an append.
fn written(frames: &[Frame], in_append: usize, segment_bytes: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, recovered) = open(dir.path(), segment_bytes).unwrap();
    assert_eq!((recovered.link, recovered.cut), (Link::EMPTY, None));
    for group in frames.chunks(in_append) {
        append(&mut journal, group).unwrap();
    }
    drop(journal);
    trim(dir.path());
    dir
}

/// Takes away the zeros behind the last record, as opening does.
fn trim(dir: &Path) {
    let before = JournalReader::new(dir, samples::key(1)).bytes().unwrap();
    let (journal, recovered) = open(dir, ONE_SEGMENT).unwrap();
    assert!(recovered.cut.is_none() && journal.reader().bytes().unwrap() <= before);
}

/// All that happened up to a record, or the first error.
fn replayed(dir: &Path, from: Sequence, durable: Sequence) -> Result<Vec<Happened>, JournalError> {
    JournalReader::new(dir, samples::key(1)).replay_from(from, durable)?.collect()
}

/// Puts other content in a file's place. (A file that is emptied and written again is flushed by ext4, which
/// takes its time.)
fn put(path: &Path, content: &[u8]) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{error}"),
        _ => fs::write(path, content).unwrap(),
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    segment::list(dir).unwrap().into_iter().map(|segment| segment.path).collect()
}

#[test]
fn what_was_appended_is_replayed_from_any_record_to_any() {
    let history = History::new(40);
    let dir = written(&history.frames, 3, 1_500);
    assert!(segments(dir.path()).len() > 4, "segments are closed when they are long enough");
    let (journal, recovered) = open(dir.path(), 1_500).unwrap();
    let last = history.frames.last().unwrap();
    assert_eq!((recovered.link.sequence, recovered.link.hash), (40, last.hash));
    assert_eq!(recovered.cut, None);
    for from in 1..=41 {
        for durable in [0, 1, from, from + 1, 40] {
            let durable = durable.min(40);
            let records = replayed(dir.path(), from, durable).unwrap();
            assert_eq!(records.len() as u64, (durable + 1).saturating_sub(from), "{from} to {durable}");
            for (sequence, happened) in (from..).zip(&records) {
                let place = usize::try_from(sequence - 1).unwrap();
                assert_eq!(happened.sequence, sequence);
                assert_eq!(happened.hash, history.frames[place].hash);
                assert_eq!(*happened.events, *history.events[place]);
            }
        }
    }
    assert!(journal.reader().bytes().unwrap() > history.frames.iter().map(|f| f.bytes.len() as u64).sum());
}

#[test]
fn it_goes_on_where_it_was_closed() {
    let history = History::new(30);
    let dir = tempfile::tempdir().unwrap();
    for group in history.frames.chunks(2) {
        let (mut journal, _) = open(dir.path(), 1_000).unwrap();
        append(&mut journal, group).unwrap();
        assert_eq!(journal.link().sequence, group[1].sequence);
    }
    assert_eq!(replayed(dir.path(), 1, 30).unwrap().len(), 30);
}

#[test]
fn a_replay_must_follow_what_is_known_of_the_past() {
    let history = History::new(4);
    let dir = written(&history.frames, 1, ONE_SEGMENT);
    let reader = JournalReader::new(dir.path(), samples::key(1));
    let known = Link { sequence: 2, hash: history.frames[1].hash, ..Link::EMPTY };
    assert_eq!(reader.replay(known, 4).unwrap().filter_map(Result::ok).count(), 2);
    let other = Link { hash: history.frames[0].hash, ..known };
    let error = reader.replay(other, 4).unwrap().next().unwrap().unwrap_err().to_string();
    assert!(
        error.starts_with("journal record 3 is damaged: it does not follow the record before"),
        "{error}"
    );
}

#[test]
fn what_does_not_follow_is_not_written() {
    let history = History::new(5);
    let dir = written(&history.frames[..2], 1, ONE_SEGMENT);
    let (mut journal, _) = open(dir.path(), ONE_SEGMENT).unwrap();
    let bytes = fs::metadata(&segments(dir.path())[0]).unwrap().len();
    for wrong in
        [&history.frames[3..], &history.frames[1..], &[&history.frames[2..3], &history.frames[4..]].concat()]
    {
        let error = append(&mut journal, wrong).unwrap_err();
        assert!(
            matches!(&error, JournalError::Failed(what) if what.contains("nothing was written")),
            "{error}"
        );
    }
    assert_eq!(fs::metadata(&segments(dir.path())[0]).unwrap().len(), bytes);
    append(&mut journal, &history.frames[2..]).unwrap();
    append(&mut journal, &[]).unwrap();
}

#[test]
fn there_is_one_writer_and_it_has_the_journals_own_key() {
    let history = History::new(2);
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("journal");
    let open = || FileJournal::open(&place, KeySource::KeptIn(dir.path()), ONE_SEGMENT);
    let (journal, _) = open().unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains("another process writes to"), "{error}");
    let key = journal.key().clone();
    drop(journal);
    let (mut journal, _) = open().unwrap();
    assert_eq!(journal.key().id(), key.id());
    let error = append(&mut journal, &history.frames).unwrap_err().to_string();
    assert!(error.ends_with("frame 1 is no record of this journal: nothing was written"), "{error}");
    let mut chain = Chain::new(key, Link::EMPTY);
    append(&mut journal, &[chain.seal(&history.events[0], &mut Vec::new()).unwrap()]).unwrap();
    drop(journal);

    let other = FileJournal::open(&place, KeySource::Given(samples::key(2)), ONE_SEGMENT);
    let error = other.unwrap_err();
    assert!(matches!(&error, JournalError::Foreign(what) if what.contains("another key")), "{error}");
    fs::remove_file(dir.path().join("journal.key")).unwrap();
    let error = open().unwrap_err().to_string();
    assert!(error.contains("the journal was written with it"), "{error}");
}
