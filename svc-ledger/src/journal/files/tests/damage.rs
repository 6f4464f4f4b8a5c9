//! Files that are not as they were written: torn ends are cut, all else is refused with its place.

use super::*;

/// The records that are wholly in the first bytes of a file that begins with record 1, one in an append.
fn whole(frames: &[Frame], bytes: u64) -> usize {
    let ends = frames.iter().scan(0, |end, frame| {
        *end += mark::MARK_BYTES as u64 + frame.bytes.len() as u64;
        Some(*end)
    });
    ends.take_while(|end| *end <= bytes).count()
}

fn refused(dir: &Path) -> String {
    open(dir, ONE_SEGMENT).map(|(_, recovered)| recovered).unwrap_err().to_string()
}

#[test]
fn an_end_torn_at_any_byte_is_cut_and_nothing_before_it() {
    let history = History::new(5);
    let dir = written(&history.frames, 1, ONE_SEGMENT);
    let file = segments(dir.path()).remove(0);
    let content = fs::read(&file).unwrap();
    for length in 0..content.len() {
        put(&file, &content[..length]);
        let left = whole(&history.frames, length as u64);
        let (mut journal, recovered) = open(dir.path(), ONE_SEGMENT).unwrap();
        assert_eq!(recovered.link.sequence, left as u64, "{length} bytes");
        assert_eq!(recovered.cut.is_some(), fs::metadata(&file).unwrap().len() < length as u64);
        append(&mut journal, &history.frames[left..]).unwrap();
        drop(journal);
        trim(dir.path());
        assert_eq!(
            fs::read(&file).unwrap().len(),
            content.len() - if left < 4 { (4 - left) * 32 } else { 0 }
        );
        assert_eq!(replayed(dir.path(), 1, 5).unwrap().len(), 5, "{length} bytes");
    }
}

/// The same where zeros were written ahead: what is torn is followed by them.
#[test]
fn an_end_torn_within_zeros_is_cut_too() {
    let history = History::new(5);
    let dir = written(&history.frames, 1, ONE_SEGMENT);
    let file = segments(dir.path()).remove(0);
    let content = fs::read(&file).unwrap();
    let last = content.len() - mark::MARK_BYTES - history.frames[4].bytes.len();
    let mut refusals = 0;
    for length in last..content.len() {
        let mut torn = content[..length].to_vec();
        torn.resize(4_096, 0);
        put(&file, &torn);
        match open(dir.path(), ONE_SEGMENT) {
            Ok((_, recovered)) => assert_eq!(recovered.link.sequence, 4, "{length} bytes"),
            // No disk and no kernel stops there: it is taken for damage.
            Err(_) => refusals += 1,
        }
    }
    assert!(refusals <= 8, "{refusals}");
}

/// Several records in one append: none was acknowledged, those that are whole may stay.
#[test]
fn a_torn_append_of_several_is_cut_where_it_is_torn() {
    let history = History::new(9);
    let dir = written(&history.frames, 3, ONE_SEGMENT);
    let file = segments(dir.path()).remove(0);
    let content = fs::read(&file).unwrap();
    let last: usize = history.frames[6..].iter().map(|frame| frame.bytes.len()).sum();
    for length in content.len() - last - mark::MARK_BYTES..content.len() {
        put(&file, &content[..length]);
        let (_, recovered) = open(dir.path(), ONE_SEGMENT).unwrap();
        assert!((6..9).contains(&recovered.link.sequence), "{length} bytes");
    }
}

/// Any flipped bit, in any record, the last one too: no interrupted write explains it, so it may have been
/// acknowledged, and is not cut.
#[test]
fn a_flipped_bit_is_refused_wherever_it_is() {
    let history = History::new(6);
    let dir = written(&history.frames, 2, ONE_SEGMENT);
    let file = segments(dir.path()).remove(0);
    let content = fs::read(&file).unwrap();
    let mut rng = Rng::with_seed(14);
    for at in 0..content.len() {
        let mut flipped = content.clone();
        flipped[at] ^= 1 << rng.u8(0..8);
        put(&file, &flipped);
        let error = refused(dir.path());
        let says =
            ["journal record ", " is damaged: ", "00000000000000000001.log, byte ", "put the file back"];
        assert!(says.iter().all(|part| error.contains(part)), "byte {at}: {error}");
        let replay = replayed(dir.path(), 1, 6).unwrap_err();
        assert!(matches!(replay, JournalError::Damaged { .. }), "byte {at}: {replay}");
        assert_eq!(fs::read(&file).unwrap(), flipped, "byte {at}: nothing was changed");
    }
}

/// A sector that reads as zeros: the last append may have lost it, one before it cannot.
#[test]
fn a_lost_sector_is_cut_in_the_last_append_and_refused_before() {
    let history = History::new(40);
    let dir = written(&history.frames, 20, ONE_SEGMENT);
    let file = segments(dir.path()).remove(0);
    let content = fs::read(&file).unwrap();
    let first: usize = history.frames[..20].iter().map(|frame| frame.bytes.len()).sum();
    let second = first + mark::MARK_BYTES;
    for sector in 0..content.len() / 512 {
        let (from, to) = (sector * 512, (sector + 1) * 512);
        let mut lost = content.clone();
        lost[from..to].fill(0);
        put(&file, &lost);
        if from >= second {
            let (_, recovered) = open(dir.path(), ONE_SEGMENT).unwrap();
            assert!((20..40).contains(&recovered.link.sequence), "sector {sector}");
            assert!(recovered.cut.is_some());
        } else if to <= second {
            let error = refused(dir.path());
            assert!(error.contains("and record 21 was begun when it was already durable"), "{error}");
        }
    }
}

#[test]
fn a_mark_in_a_reference_is_no_mark() {
    let mut rng = Rng::with_seed(15);
    let real = Mark { first: 9 }.encode(&samples::key(1));
    assert_eq!(Mark::decode(&real, &samples::key(1)), Some(Mark { first: 9 }));
    assert_eq!(Mark::decode(&real, &samples::key(2)), None);
    for _ in 0..1_000 {
        let mut forged = real;
        forged[rng.usize(0..16)] ^= 1 << rng.u8(0..8);
        assert_eq!(Mark::decode(&forged, &samples::key(1)), None);
    }
}

#[test]
fn segments_that_are_missing_cut_or_mixed_up_are_refused() {
    let history = History::new(40);
    let dir = written(&history.frames, 2, 1_200);
    let files = segments(dir.path());
    assert!(files.len() > 4);
    let contents: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let restore = || files.iter().zip(&contents).for_each(|(file, content)| put(file, content));

    for (number, file) in files[..files.len() - 1].iter().enumerate() {
        fs::remove_file(file).unwrap();
        let error = refused(dir.path());
        assert!(error.contains("a segment is missing or damaged"), "{number}: {error}");
        assert!(replayed(dir.path(), 1, 40).is_err());
        restore();
        fs::write(file, &contents[number][..contents[number].len() - 1]).unwrap();
        let error = refused(dir.path());
        assert!(error.contains("does not follow the last one of the file before it"), "{number}: {error}");
        assert!(replayed(dir.path(), 1, 40).is_err());
        restore();
        fs::write(file, []).unwrap();
        let error = refused(dir.path());
        assert!(error.contains("its first record cannot be read"), "{number}: {error}");
        restore();
    }
    fs::write(&files[1], &contents[2]).unwrap();
    assert!(refused(dir.path()).contains("it begins with record"));
    restore();
    fs::write(dir.path().join("1.log"), []).unwrap();
    assert!(refused(dir.path()).contains("has a segment's ending but not its name"));
    fs::remove_file(dir.path().join("1.log")).unwrap();

    // A flipped bit in a closed segment is found when it is read, and its place said.
    let mut flipped = contents[1].clone();
    flipped[200] ^= 1;
    fs::write(&files[1], flipped).unwrap();
    let error = replayed(dir.path(), 1, 40).unwrap_err().to_string();
    let name = files[1].file_name().unwrap().to_str().unwrap();
    assert!(error.contains(name) && error.contains("byte "), "{error}");
    restore();

    // The process died between making a segment and writing to it.
    let (journal, recovered) = open(dir.path(), 1_200).unwrap();
    drop(journal);
    fs::write(segment::path(dir.path(), 41), []).unwrap();
    let (_, again) = open(dir.path(), 1_200).unwrap();
    assert_eq!(again.link, recovered.link);
    // As one was begun after it, the segment before it was whole.
    let last = files.last().unwrap();
    fs::write(last, &contents[files.len() - 1][..contents[files.len() - 1].len() - 1]).unwrap();
    let error = refused(dir.path());
    assert!(error.contains("a segment was begun after it"), "{error}");
}

/// A planted bug: a record is dropped on its way to the disk.
#[test]
fn a_dropped_record_is_found() {
    let history = History::new(6);
    let dir = written(&history.frames, 1, ONE_SEGMENT);
    let file = segments(dir.path()).remove(0);
    let content = fs::read(&file).unwrap();
    let begin: usize = history.frames[..2].iter().map(|frame| frame.bytes.len() + mark::MARK_BYTES).sum();
    let end = begin + history.frames[2].bytes.len() + mark::MARK_BYTES;
    put(&file, &[&content[..begin], &content[end..]].concat());
    let error = refused(dir.path());
    assert!(
        error.starts_with("journal record 3 is damaged: an append of record 4 is in its place"),
        "{error}"
    );
    let error = replayed(dir.path(), 1, 6).unwrap_err().to_string();
    assert!(error.starts_with("journal record 3 is damaged: record 4 is in its place"), "{error}");
}
