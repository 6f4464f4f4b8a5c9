//! Verification of a whole journal: every record's place, hash and link, and that its events can be read. It
//! takes as long as the journal is long, so it says how far it has come and can be stopped.

use std::ops::ControlFlow;

use super::{
    chain::{Chain, Link},
    files::JournalReader,
    key::JournalKey,
};
use crate::store::ports::{Frame, Happened, JournalError, Sequence, Watermark};

/// How often it says how far it has come: after so many bytes.
const REPORT_BYTES: u64 = 4 << 20;

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Records that are good so far.
    pub records: u64,
    /// Events in them.
    pub events: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The bytes that there are, as far as that is known.
    pub bytes_total: u64,
}

impl Progress {
    /// 0 to 100, rounded down; 100 only at the end.
    pub fn per_cent(&self) -> u8 {
        let part = u128::from(self.bytes) * 100 / u128::from(self.bytes_total.max(1));
        u8::try_from(part.min(100)).unwrap_or(100)
    }
}

/// What a verification came to.
#[derive(Debug)]
pub enum Verified {
    /// All is good, up to this record.
    Good(Progress, Watermark),
    /// The first offence, and what was good before it.
    Offence(Progress, JournalError),
    /// Its caller stopped it.
    Stopped(Progress),
}

/// Verifies a journal in files, up to a record that is durable.
pub fn verify_files(
    reader: &JournalReader,
    durable: Sequence,
    report: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Verified {
    match reader.bytes().and_then(|bytes| Ok((reader.measured(durable)?, bytes))) {
        Ok((records, bytes)) => tally(records, bytes, report),
        Err(error) => Verified::Offence(Progress::default(), error),
    }
}

/// Verifies records that come from elsewhere, from the first on. Of their bytes there are about `bytes_total`.
pub fn verify(
    key: &JournalKey,
    frames: impl IntoIterator<Item = Result<Frame, JournalError>>,
    bytes_total: u64,
    report: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Verified {
    let mut chain = Chain::new(key.clone(), Link::EMPTY);
    let records = frames.into_iter().map(|frame| {
        let frame = frame?;
        Ok((chain.open(&frame.bytes)?, frame.bytes.len() as u64))
    });
    tally(records, bytes_total, report)
}

/// Counts verified records, each with its length, up to the first that is none.
fn tally(
    records: impl Iterator<Item = Result<(Happened, u64), JournalError>>,
    bytes_total: u64,
    mut report: impl FnMut(&Progress) -> ControlFlow<()>,
) -> Verified {
    let mut progress = Progress { bytes_total, ..Progress::default() };
    let mut last = Watermark::default();
    let mut reported = 0;
    for record in records {
        let (happened, bytes) = match record {
            Ok(record) => record,
            Err(error) => return Verified::Offence(progress, error),
        };
        last = Watermark { sequence: happened.sequence, hash: happened.hash };
        progress.records += 1;
        progress.events += happened.events.len() as u64;
        progress.bytes += bytes;
        progress.bytes_total = progress.bytes_total.max(progress.bytes);
        if progress.bytes - reported >= REPORT_BYTES {
            reported = progress.bytes;
            if report(&progress).is_break() {
                return Verified::Stopped(progress);
            }
        }
    }
    // Files hold marks, too, and what was written meanwhile.
    progress.bytes_total = progress.bytes;
    match report(&progress) {
        ControlFlow::Continue(()) => Verified::Good(progress, last),
        ControlFlow::Break(()) => Verified::Stopped(progress),
    }
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::{
        super::{files::FileJournal, files::KeySource, samples},
        *,
    };
    use crate::store::ports::Journal as _;

    fn frames(count: u64) -> Vec<Frame> {
        let mut chain = Chain::new(samples::key(1), Link::EMPTY);
        let (mut rng, mut last, mut buffer) = (Rng::with_seed(31), 0, Vec::new());
        let mut seal = |_| chain.seal(&samples::events(&mut rng, 300, &mut last), &mut buffer).unwrap();
        (0..count).map(&mut seal).collect()
    }

    #[tokio::test]
    async fn it_says_how_far_it_came_and_what_it_found() {
        let frames = frames(200);
        let dir = tempfile::tempdir().unwrap();
        let key = KeySource::Given(samples::key(1));
        let (mut journal, _) = FileJournal::open(dir.path(), key, 2 << 20).unwrap();
        for group in frames.chunks(50) {
            journal.append(group).await.unwrap();
        }
        let mut per_cents = Vec::new();
        let verified = verify_files(&journal.reader(), 200, |progress| {
            per_cents.push(progress.per_cent());
            ControlFlow::Continue(())
        });
        let Verified::Good(progress, last) = verified else { panic!("{verified:?}") };
        assert_eq!((progress.records, progress.events), (200, 60_000));
        assert_eq!(last, Watermark { sequence: 200, hash: frames[199].hash });
        assert!(
            per_cents.len() > 1 && per_cents.is_sorted() && per_cents.last() == Some(&100),
            "{per_cents:?}"
        );
        let stopped = verify_files(&journal.reader(), 200, |_| ControlFlow::Break(()));
        assert!(matches!(stopped, Verified::Stopped(progress) if progress.records < 200), "{stopped:?}");
        let beyond = verify_files(&journal.reader(), 201, |_| ControlFlow::Continue(()));
        let Verified::Offence(progress, error) = beyond else { panic!("{beyond:?}") };
        assert_eq!(progress.records, 200);
        assert!(error.to_string().contains("record 201"), "{error}");
    }

    #[test]
    fn the_first_offence_ends_it() {
        let mut frames = frames(9);
        let mut bytes = frames[4].bytes.to_vec();
        bytes[500] ^= 1;
        frames[4].bytes = bytes.into();
        let verified = verify(&samples::key(1), frames.into_iter().map(Ok), 0, |_| ControlFlow::Continue(()));
        let Verified::Offence(progress, error) = verified else { panic!("{verified:?}") };
        assert_eq!(progress.records, 4);
        assert!(matches!(error, JournalError::Damaged { sequence: 5, .. }), "{error}");
    }
}
