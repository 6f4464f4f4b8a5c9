//! A reader that keeps its place: what it reads is what is new.

use super::*;
use crate::store::ports::{Archive as _, FrameReader as _, PAGE_BYTES};

/// A page's read-ahead, in bytes: what is read in vain when little is new.
const AHEAD: u64 = 16 << 10;

fn pages(dir: &Path, from: Sequence) -> FilePages {
    JournalReader::new(dir, samples::key(1)).reader(from)
}

/// All pages up to a record.
fn all(pages: &mut FilePages, durable: Sequence) -> Result<Vec<Frame>, JournalError> {
    let mut frames = Vec::new();
    loop {
        let page = pages.read(durable)?;
        if page.is_empty() {
            return Ok(frames);
        }
        frames.extend(page);
    }
}

#[test]
fn it_reads_the_bytes_that_were_appended_from_any_record_on_however_far_they_are_durable() {
    let history = History::new(40);
    let dir = written(&history.frames, 3, 1_500);
    assert!(segments(dir.path()).len() > 4);
    for from in 1..=41 {
        let mut pages = pages(dir.path(), from);
        let mut read = Vec::new();
        for durable in 0..=40 {
            read.extend(all(&mut pages, durable).unwrap());
            let place = usize::try_from(from - 1).unwrap();
            let end = usize::try_from(durable).unwrap().max(place);
            assert_eq!(read, history.frames[place..end], "{from} to {durable}");
        }
    }
}

#[test]
fn what_is_new_at_the_end_is_read_and_nothing_before_it() {
    const OLD: usize = 2_000;
    const NEW: usize = 50;
    let history = History::new(OLD + NEW);
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), 1 << 30).unwrap();
    append(&mut journal, &history.frames[..OLD]).unwrap();
    let mut pages = pages(dir.path(), 1);
    let old: u64 = history.frames[..OLD].iter().map(|frame| frame.bytes.len() as u64).sum();
    assert!(old > 10 * AHEAD, "{old}");
    assert_eq!(all(&mut pages, OLD as u64).unwrap().len(), OLD);
    assert!(pages.bytes_read() >= old);

    // Were any of it looked at again, it would be found damaged.
    let path = &segments(dir.path())[0];
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &vec![0xff; usize::try_from(old).unwrap() / 2], 0)
        .unwrap();
    for (count, frame) in (OLD as u64 + 1..).zip(&history.frames[OLD..]) {
        append(&mut journal, std::slice::from_ref(frame)).unwrap();
        let before = pages.bytes_read();
        assert_eq!(pages.read(count).unwrap(), std::slice::from_ref(frame));
        let read = pages.bytes_read() - before;
        assert!(read <= AHEAD, "{read} bytes were read of one record");
        assert_eq!(pages.read(count).unwrap(), []);
        assert_eq!(pages.bytes_read() - before, read, "where nothing is new, nothing is read");
    }
    assert!(replayed(dir.path(), 1, OLD as u64).is_err(), "it was damaged indeed");
}

#[test]
fn a_page_is_bounded() {
    let history = History::new(4_000);
    let longest = history.frames.iter().map(|frame| frame.bytes.len()).max().unwrap();
    let dir = written(&history.frames, 100, 1 << 30);
    let mut pages = pages(dir.path(), 1);
    let mut read = 0;
    let mut count = 0;
    while read < history.frames.len() {
        let page = pages.read(4_000).unwrap();
        let bytes: usize = page.iter().map(|frame| frame.bytes.len()).sum();
        assert!(bytes < PAGE_BYTES + longest, "{bytes} bytes");
        (read, count) = (read + page.len(), count + 1);
    }
    assert!(count > 2, "{count} pages");
}

#[test]
fn what_is_before_a_damaged_record_comes_and_then_its_error_each_time() {
    let history = History::new(30);
    let dir = written(&history.frames, 1, 1_500);
    let hit = 20;
    let wanted = &history.frames[hit].bytes;
    let (path, mut bytes, at) = segments(dir.path())
        .into_iter()
        .find_map(|path| {
            let bytes = fs::read(&path).unwrap();
            let at = bytes.windows(wanted.len()).position(|window| window == &wanted[..])?;
            Some((path, bytes, at))
        })
        .unwrap();
    bytes[at + wanted.len() - 1] ^= 1;
    put(&path, &bytes);
    let mut pages = pages(dir.path(), 3);
    assert_eq!(pages.read(30).unwrap(), history.frames[2..hit]);
    for _ in 0..2 {
        let error = pages.read(30).unwrap_err();
        assert!(matches!(error, JournalError::Damaged { sequence: 21, .. }), "{error}");
    }
}

#[tokio::test]
async fn the_end_of_a_journal_that_should_go_on_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut none = pages(dir.path(), 1);
    assert_eq!(none.page(0).await.unwrap(), []);
    let error = none.page(2).await.unwrap_err();
    assert!(matches!(error, JournalError::Damaged { sequence: 1, .. }), "{error}");

    let history = History::new(4);
    let dir = written(&history.frames, 2, ONE_SEGMENT);
    let mut some = pages(dir.path(), 2);
    assert_eq!(some.page(5).await.unwrap(), history.frames[1..]);
    let error = some.page(5).await.unwrap_err();
    assert!(matches!(error, JournalError::Damaged { sequence: 5, .. }), "{error}");
    // The next record comes where it is looked for.
    let (mut journal, _) = open(dir.path(), ONE_SEGMENT).unwrap();
    let next = History::new(5);
    append(&mut journal, &next.frames[4..]).unwrap();
    assert_eq!(some.page(5).await.unwrap(), next.frames[4..]);
}

#[test]
fn who_gives_a_page_up_gets_it_when_it_asks_again() {
    let history = History::new(10);
    let dir = written(&history.frames, 2, ONE_SEGMENT);
    let mut pages = pages(dir.path(), 1);
    let one_thread = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    one_thread.block_on(async {
        let (go, held) = std::sync::mpsc::channel::<()>();
        let holding = tokio::task::spawn_blocking(move || held.recv());
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(std::pin::pin!(pages.page(10)).poll(&mut context).is_pending(), "the thread is taken");
        go.send(()).unwrap();
        holding.await.unwrap().unwrap();
        assert_eq!(pages.page(10).await.unwrap(), history.frames);
    });
}
