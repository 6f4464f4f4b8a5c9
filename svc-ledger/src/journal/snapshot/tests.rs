//! Snapshots there and back, and what is loaded when the newest is damaged, torn or ahead of the journal.

use std::sync::Arc;

use fastrand::Rng;
use money::Timestamp;

use super::*;
use crate::journal::samples;

fn snapshot(sequence: Sequence, accounts: usize, reservations: usize) -> Snapshot {
    let mut rng = Rng::with_seed(sequence);
    let at = |number: usize| Timestamp::from_nanos(i64::try_from(number).unwrap());
    Snapshot {
        sequence,
        hash: [u8::try_from(sequence).unwrap(); 32],
        last: Timestamp::from_nanos(77),
        accounts: (0..accounts).map(|number| samples::account(&mut rng, at(number))).collect(),
        reservations: (0..reservations).map(|n| Arc::new(samples::transfer(&mut rng, at(n)))).collect(),
    }
}

fn link(sequence: Sequence) -> Link {
    Link { sequence, hash: [u8::try_from(sequence).unwrap(); 32], last: Timestamp::EPOCH }
}

fn loaded(snapshots: &Snapshots, journal: Sequence) -> Option<Sequence> {
    snapshots.load(&link(journal)).unwrap().map(|snapshot| snapshot.sequence)
}

fn file(dir: &Path, sequence: Sequence) -> PathBuf {
    dir.join(format!("{sequence:020}.snap"))
}

#[test]
fn what_is_kept_is_loaded_and_two_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(&dir.path().join("snapshots"), samples::key(1)).unwrap();
    assert_eq!(loaded(&snapshots, 9), None);
    for (sequence, accounts, reservations) in [(3, 0, 0), (4, 4_096, 1), (5, 10_000, 5_000), (6, 7, 0)] {
        let kept = snapshot(sequence, accounts, reservations);
        snapshots.keep(&kept).unwrap();
        let read = snapshots.load(&link(9)).unwrap().unwrap();
        assert_eq!((read.sequence, read.hash, read.last), (kept.sequence, kept.hash, kept.last));
        assert!(read.accounts == kept.accounts && read.reservations == kept.reservations, "{sequence}");
    }
    let left: Vec<Sequence> = snapshots.list().unwrap().into_iter().map(|(sequence, _)| sequence).collect();
    assert_eq!(left, [6, 5]);
}

#[test]
fn a_damaged_one_is_passed_over_for_the_older_and_that_for_none() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path(), samples::key(1)).unwrap();
    for sequence in [5, 6] {
        snapshots.keep(&snapshot(sequence, 6, 4)).unwrap();
    }
    let newest = file(dir.path(), 6);
    let content = fs::read(&newest).unwrap();
    let put = |bytes: &[u8]| {
        fs::remove_file(&newest).unwrap();
        fs::write(&newest, bytes).unwrap();
    };
    let mut rng = Rng::with_seed(21);
    for at in 0..content.len() {
        let mut flipped = content.clone();
        flipped[at] ^= 1 << rng.u8(0..8);
        put(&flipped);
        assert_eq!(loaded(&snapshots, 9), Some(5), "byte {at}");
        assert!(!snapshots.is_whole(6, &newest).unwrap(), "byte {at}");
        put(&content[..at]);
        assert_eq!(loaded(&snapshots, 9), Some(5), "{at} bytes");
        assert!(!snapshots.is_whole(6, &newest).unwrap(), "{at} bytes");
    }
    put(&[&content[..], &[0]].concat());
    assert_eq!(loaded(&snapshots, 9), Some(5), "there is more");
    assert!(!snapshots.is_whole(6, &newest).unwrap(), "there is more");
    put(&content);
    assert_eq!(loaded(&snapshots, 9), Some(6));
    assert!(snapshots.is_whole(6, &newest).unwrap());
    fs::rename(&newest, file(dir.path(), 7)).unwrap();
    assert_eq!(loaded(&snapshots, 9), Some(5), "another's name");
    fs::remove_file(file(dir.path(), 7)).unwrap();
    let other = Snapshots::open(dir.path(), samples::key(2)).unwrap();
    assert_eq!(loaded(&other, 9), None, "of another cluster");
}

/// Else the newest and one that nobody can read would be all there is.
#[test]
fn a_damaged_one_does_not_count_among_those_that_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path(), samples::key(1)).unwrap();
    let damage = |sequence| {
        let path = file(dir.path(), sequence);
        let mut bytes = fs::read(&path).unwrap();
        let last = bytes.len() - 40;
        bytes[last] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let left = || snapshots.list().unwrap().into_iter().map(|(sequence, _)| sequence).collect::<Vec<_>>();
    // More than is hashed at once.
    snapshots.keep(&snapshot(5, 3_000, 10)).unwrap();
    snapshots.keep(&snapshot(6, 20, 10)).unwrap();
    damage(6);
    snapshots.keep(&snapshot(7, 20, 10)).unwrap();
    assert_eq!(left(), [7, 5]);
    damage(7);
    assert_eq!(loaded(&snapshots, 9), Some(5));
    Snapshots::open(dir.path(), samples::key(2)).unwrap().keep(&snapshot(8, 1, 1)).unwrap();
    assert_eq!(left(), [8], "of another key, all but its own are unreadable");
}

/// A crash while one is written, or an error: the others stay, and the rest is tidied up with the next.
#[test]
fn a_draft_is_no_snapshot() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path(), samples::key(1)).unwrap();
    snapshots.keep(&snapshot(5, 3, 3)).unwrap();
    let draft = file(dir.path(), 6).with_extension("draft");
    fs::copy(file(dir.path(), 5), &draft).unwrap();
    assert_eq!(loaded(&snapshots, 9), Some(5));
    fs::create_dir(file(dir.path(), 7)).unwrap();
    let error = snapshots.keep(&snapshot(7, 1, 1)).unwrap_err();
    assert!(matches!(error, JournalError::Failed(_)), "{error}");
    fs::remove_dir(file(dir.path(), 7)).unwrap();
    assert_eq!(loaded(&snapshots, 9), Some(5));
    snapshots.keep(&snapshot(8, 1, 1)).unwrap();
    assert!(!draft.exists());
}

#[test]
fn a_journal_that_has_lost_what_a_snapshot_holds_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let snapshots = Snapshots::open(dir.path(), samples::key(1)).unwrap();
    snapshots.keep(&snapshot(5, 3, 3)).unwrap();
    assert_eq!(loaded(&snapshots, 5), Some(5));
    let error = snapshots.load(&link(4)).unwrap_err().to_string();
    assert!(error.contains("journal record 5 is damaged") && error.contains("ends before it"), "{error}");
    let other = Link { hash: [9; 32], ..link(5) };
    let error = snapshots.load(&other).unwrap_err().to_string();
    assert!(error.contains("the journal holds another"), "{error}");
}
