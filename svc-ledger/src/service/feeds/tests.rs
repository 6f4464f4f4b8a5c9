//! Feeds whose readers take nothing, or less than there is.

use std::{
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use fastrand::Rng;
use mesh::Drain;
use tokio::{
    runtime::{Builder, Runtime},
    task::yield_now,
    time::timeout,
};
use tonic::{Status, codegen::tokio_stream::Stream};

use super::*;
use crate::{
    journal::{
        Link,
        files::{FileJournal, KeySource},
        samples,
    },
    service::MESSAGE_BYTES_MAX,
    store::ports::{Journal as _, PAGE_BYTES},
};

/// Only a wrong test waits as long.
const PATIENCE: Duration = Duration::from_secs(30);

/// Records that follow one another, each with so many events.
fn records(events: impl IntoIterator<Item = usize>) -> Vec<Frame> {
    let (mut rng, mut chain) = (Rng::with_seed(5), Chain::new(samples::key(1), Link::EMPTY));
    let (mut buffer, mut last) = (Vec::new(), 0);
    let mut seal = |events| chain.seal(&samples::events(&mut rng, events, &mut last), &mut buffer).unwrap();
    events.into_iter().map(&mut seal).collect()
}

fn many() -> Vec<Frame> {
    records(std::iter::repeat_n(5, 5_000))
}

fn bytes(frames: &[Frame]) -> usize {
    frames.iter().map(|frame| frame.bytes.len()).sum()
}

/// A journal in memory that counts what it hands out.
#[derive(Clone)]
struct Counting {
    key: JournalKey,
    frames: Arc<Vec<Frame>>,
    handed: Arc<AtomicUsize>,
}

struct CountingPages {
    journal: Counting,
    next: usize,
}

impl Counting {
    fn new(frames: Vec<Frame>) -> Self {
        Self { key: samples::key(1), frames: Arc::new(frames), handed: Arc::default() }
    }

    /// How much was handed out once nothing goes on any more.
    async fn settled(&self) -> usize {
        let (mut before, mut quiet) = (0, 0);
        while quiet < 100 {
            yield_now().await;
            let now = self.handed.load(Ordering::SeqCst);
            quiet = if now == before { quiet + 1 } else { 0 };
            before = now;
        }
        before
    }
}

impl Archive for Counting {
    type Reader = CountingPages;

    fn key(&self) -> &JournalKey {
        &self.key
    }

    async fn find(&self, _: Timestamp, _: Sequence) -> Result<Sequence, JournalError> {
        Ok(1)
    }

    fn reader(&self, from: Sequence) -> CountingPages {
        CountingPages { journal: self.clone(), next: usize::try_from(from).unwrap() - 1 }
    }
}

impl FrameReader for CountingPages {
    async fn page(&mut self, durable: Sequence) -> Result<Vec<Frame>, JournalError> {
        let mut page = Vec::new();
        while self.next < usize::try_from(durable).unwrap() && bytes(&page) < PAGE_BYTES {
            page.push(self.journal.frames[self.next].clone());
            self.next += 1;
        }
        self.journal.handed.fetch_add(bytes(&page), Ordering::SeqCst);
        Ok(page)
    }
}

fn exported<A: Archive>(archive: &A, to: Sequence) -> Messages<proto::ExportJournalResponse> {
    let archive = archive.clone();
    stream_until(&Drain::new(), "", move |messages| async move {
        let frames = Frames::from(&archive, 1);
        Ok(export(frames, archive.key(), to, &messages).await?)
    })
}

async fn next<T>(messages: &mut Messages<T>) -> Option<Result<T, Status>> {
    let next = std::future::poll_fn(|context| Pin::new(&mut *messages).poll_next(context));
    timeout(PATIENCE, next).await.expect("a message, or the end")
}

#[tokio::test]
async fn what_nobody_takes_is_not_read() {
    let frames = many();
    let longest = frames.iter().map(|frame| frame.bytes.len()).max().unwrap();
    let (all, total) = (bytes(&frames), frames.len() as u64);
    assert!(all > 8 * PAGE_BYTES, "{all}");
    let journal = Counting::new(frames.clone());

    let mut messages = exported(&journal, total);
    // One message waits, one is being sent, and a page is at hand.
    let held = journal.settled().await;
    assert!((1..=3 * (PAGE_BYTES + longest)).contains(&held), "{held} bytes are held for one reader");
    let mut came = Vec::new();
    while let Some(message) = next(&mut messages).await {
        let records = message.unwrap().records;
        let bytes: usize = records.iter().map(|record| record.frame.len()).sum();
        assert!(!records.is_empty() && bytes <= EXPORT_BYTES, "{bytes}");
        came.extend(records);
    }
    assert_eq!(came.len(), frames.len());
    for (record, frame) in came.iter().zip(&frames) {
        assert_eq!(
            (record.sequence, &*record.hash, &*record.frame),
            (frame.sequence, &frame.hash[..], &*frame.bytes)
        );
        assert!(!record.continues);
    }

    let journal = Counting::new(frames.clone());
    let (durable, following) = watch::channel(total);
    let mut messages = watched(&journal, following);
    let held = journal.settled().await;
    assert!((1..=3 * (PAGE_BYTES + longest)).contains(&held), "{held} bytes are held for one watcher");
    let (mut came, expected) = (Vec::new(), movements_of_acme(&frames));
    while came.len() < expected.len() {
        came.extend(times(next(&mut messages).await.unwrap().unwrap()));
    }
    assert_eq!(came, expected, "all of it, once and in order");
    assert_eq!(journal.settled().await, all, "each frame is read once");
    drop(durable);
    assert!(next(&mut messages).await.is_none(), "there is no more");
}

fn watched(
    journal: &Counting,
    durable: watch::Receiver<Sequence>,
) -> Messages<proto::WatchTransfersResponse> {
    let archive = journal.clone();
    stream_until(&Drain::new(), "", move |to| async move {
        let tenant = "acme".parse().unwrap();
        let watched = watch(&archive, &tenant, Timestamp::EPOCH, durable, &to).await;
        watched.map(|_| ()).map_err(Fault::from)
    })
}

/// When each movement of the tenant happened.
fn movements_of_acme(frames: &[Frame]) -> Vec<i64> {
    let mut chain = Chain::new(samples::key(1), Link::EMPTY);
    let mut times = Vec::new();
    for frame in frames {
        times.extend(chain.open(&frame.bytes).unwrap().events.iter().filter_map(|event| match event {
            Event::Made { transfer: by, .. } | Event::Expired { pending: by, .. } => {
                event.timestamp().filter(|_| by.tenant.as_str() == "acme").map(Timestamp::as_nanos)
            }
            _ => None,
        }));
    }
    times
}

fn times(message: proto::WatchTransfersResponse) -> Vec<i64> {
    use proto::watch_transfers_response::movement::Movement;
    let time = |movement: proto::watch_transfers_response::Movement| match movement.movement.unwrap() {
        Movement::Transfer(transfer) => transfer.timestamp_ns,
        Movement::Lapse(lapse) => lapse.timestamp_ns,
    };
    message.movements.into_iter().map(time).collect()
}

/// A runtime with one thread for what blocks. It ends without waiting for that thread, so that a test that fails
/// does end.
struct OneThread(Option<Runtime>);

impl Drop for OneThread {
    fn drop(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

#[test]
fn readers_that_take_nothing_hold_no_thread() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let one_thread = OneThread(Some(runtime));
    one_thread.0.as_ref().unwrap().block_on(async {
        let (mut journal, _) =
            FileJournal::open(dir.path(), KeySource::Given(samples::key(1)), 1 << 30).unwrap();
        journal.append(&many()).await.unwrap();
        let archive = journal.reader();
        let mut feeds: Vec<_> = (0..8).map(|_| exported(&archive, 5_000)).collect();
        for feed in &mut feeds {
            // Each is under way, and has far more to say.
            next(feed).await.unwrap().unwrap();
        }
        let late = Timestamp::from_nanos(i64::MAX);
        let found = timeout(PATIENCE, Archive::find(&archive, late, 5_000)).await;
        assert_eq!(found.expect("there is a thread for others").unwrap(), 5_001);
    });
}

#[tokio::test]
async fn a_frame_that_fits_into_no_message_comes_in_parts() {
    // As a full batch with the longest texts, and as many reservations that lapse before it, may be.
    let frames = records([3, 80_000, 3]);
    let long = frames[1].bytes.len();
    assert!(long > MESSAGE_BYTES_MAX as usize, "{long}");
    let mut messages = exported(&Counting::new(frames.clone()), 3);
    let mut whole: Vec<(Sequence, Vec<u8>)> = Vec::new();
    let mut goes_on = false;
    while let Some(message) = next(&mut messages).await {
        let records = message.unwrap().records;
        assert!(records.iter().map(|record| record.frame.len()).sum::<usize>() <= EXPORT_BYTES);
        for record in records {
            if !goes_on {
                whole.push((record.sequence, Vec::new()));
            }
            let place = whole.len() - 1;
            let (sequence, bytes) = &mut whole[place];
            assert_eq!((record.sequence, &*record.hash), (*sequence, &frames[place].hash[..]));
            bytes.extend_from_slice(&record.frame);
            goes_on = record.continues;
        }
    }
    assert!(!goes_on, "the last part says that it is the last");
    let expected: Vec<_> = frames.iter().map(|frame| (frame.sequence, frame.bytes.to_vec())).collect();
    assert!(whole == expected, "the parts of each follow one another");
}

#[tokio::test]
async fn a_damaged_record_is_told_to_nobody_and_nobody_is_asked_to_come_again() {
    let mut frames = records([5; 3]);
    let mut bytes = frames[1].bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    frames[1].bytes = bytes.into();
    let journal = Counting::new(frames);
    let (_durable, following) = watch::channel(3);
    let mut watching = watched(&journal, following);
    let refused = loop {
        // What is before it comes first.
        match next(&mut watching).await.unwrap() {
            Ok(_) => {}
            Err(refused) => break refused,
        }
    };
    for refused in [refused, next(&mut exported(&journal, 3)).await.unwrap().unwrap_err()] {
        let fault = Fault::from_status(&refused);
        assert_eq!((fault.reason(), fault.retry_after()), (Reason::DataLoss, None));
    }
}
