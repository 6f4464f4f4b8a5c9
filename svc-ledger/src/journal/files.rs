//! The journal in files: segments in a directory, each named after its first record, written at the end only.
//!
//! One append is one write and one `fdatasync`, and begins with a mark which says that all before it was
//! durable when it was written: recovery knows by it what may have been acknowledged. Now and then the write
//! goes on with zeros, which later appends overwrite: a sync is faster where the file does not grow. After an error nothing
//! more is written, and one of a sync ends the process: what the disk then holds is not known.

mod archive;
mod disk;
mod lock;
mod mark;
mod reader;
mod recovery;
mod scan;
mod segment;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, IoSlice},
    path::{Path, PathBuf},
};

pub use disk::{Disk, SystemDisk};
pub use reader::{FilePages, JournalReader, Replay};
pub use recovery::{Cut, Recovered};

use self::{lock::Lock, mark::Mark, segment::Segment};
use super::{
    chain::{Header, Link},
    key::{JournalKey, KeyId},
};
use crate::store::ports::{Frame, Journal, JournalError, Sequence};

/// How long a segment gets before the next one is begun, in bytes.
pub const SEGMENT_BYTES: u64 = 256 << 20;

/// How far ahead the last segment is filled with zeros, in bytes. Syncs that need not make the file longer
/// take a half to a third of the time, that of the zeros included; more zeros gain nothing and delay the
/// append that writes them.
const AHEAD_BYTES: u64 = 4 << 20;

/// What it is filled with.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// The writer. There is one at a time; the directory's lock sees to it.
#[derive(Debug)]
pub struct FileJournal<D: Disk = SystemDisk> {
    disk: D,
    dir: PathBuf,
    key: JournalKey,
    id: KeyId,
    segment_bytes: u64,
    link: Link,
    segment: Option<Open<D::File>>,
    has_failed: bool,
    /// Held while this lives.
    _lock: Lock,
}

/// The segment that is written to.
#[derive(Debug)]
struct Open<F> {
    file: F,
    path: PathBuf,
    /// Where the next append goes.
    end: u64,
    /// How long the file is: zeros from the end on.
    bytes: u64,
}

/// Where the key comes from.
#[derive(Debug, Clone)]
pub enum KeySource<'a> {
    /// It is given, such as by a mounted secret.
    Given(JournalKey),
    /// It is kept in this directory, in [`super::key::FILE_NAME`], and made with the journal.
    KeptIn(&'a Path),
}

impl FileJournal {
    /// Opens the journal in a directory, or begins one, and recovers what a crash has left: the only writer.
    /// Segments are closed once they have this many bytes ([`SEGMENT_BYTES`]).
    pub fn open(
        dir: &Path,
        key: KeySource<'_>,
        segment_bytes: u64,
    ) -> Result<(Self, Recovered), JournalError> {
        Self::open_on(SystemDisk, dir, key, segment_bytes)
    }
}

impl<D: Disk> FileJournal<D> {
    /// The same on a disk that is given.
    pub fn open_on(
        disk: D,
        dir: &Path,
        key: KeySource<'_>,
        segment_bytes: u64,
    ) -> Result<(Self, Recovered), JournalError> {
        let at = |error: io::Error| failed(dir, &error);
        if !dir.try_exists().map_err(at)? {
            fs::create_dir_all(dir).map_err(at)?;
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            disk.sync_dir(parent.unwrap_or(Path::new("."))).map_err(at)?;
        }
        let lock = Lock::take(dir)?;
        let key = match key {
            KeySource::Given(key) => key,
            KeySource::KeptIn(place) => {
                let has_journal = !segment::list(dir).map_err(at)?.is_empty();
                JournalKey::read_or_make(place, has_journal)
                    .map_err(|error| JournalError::Failed(error.to_string()))?
            }
        };
        let recovered = recovery::recover(&disk, dir, &key)?;
        let segment = match &recovered.tail {
            None => None,
            Some(Segment { path, .. }) => {
                let at = |error: io::Error| failed(path, &error);
                let file = disk.open(path).map_err(at)?;
                // What a process wrote that was killed before its sync is read back, but not yet durable.
                disk.sync(&file).and_then(|()| disk.sync_dir(dir)).map_err(at)?;
                let bytes = fs::metadata(path).map_err(at)?.len();
                Some(Open { file, path: path.clone(), end: bytes, bytes })
            }
        };
        let (id, link, dir) = (key.id(), recovered.link, dir.to_owned());
        let journal =
            Self { disk, dir, key, id, segment_bytes, link, segment, has_failed: false, _lock: lock };
        Ok((journal, recovered))
    }

    /// The key that its records are written with.
    pub fn key(&self) -> &JournalKey {
        &self.key
    }

    /// What reads the journal, here and in other threads, beside the writer.
    pub fn reader(&self) -> JournalReader {
        JournalReader::new(&self.dir, self.key.clone())
    }

    /// The last record that is durable.
    pub fn link(&self) -> Link {
        self.link
    }

    /// Where the last of these frames leads to, which must follow one another and what was written.
    fn follow(&self, frames: &[Frame]) -> Result<Link, JournalError> {
        frames.iter().try_fold(self.link, |link, frame| {
            let head = frame.bytes.first_chunk().and_then(|head| Header::decode(head, self.id).ok());
            let is_whole = |head: &Header| {
                head.record_bytes() == frame.bytes.len() && frame.bytes.ends_with(&frame.hash)
            };
            match head.filter(is_whole) {
                Some(head) if head.sequence == link.sequence + 1 && head.previous == link.hash => {
                    Ok(Link { sequence: head.sequence, hash: frame.hash, last: head.last })
                }
                Some(_) => Err("does not follow the one before it"),
                None => Err("is no record of this journal"),
            }
            .map_err(|what| {
                JournalError::Failed(format!("frame {} {what}: nothing was written", frame.sequence))
            })
        })
    }

    fn write(&mut self, frames: &[Frame], first: Sequence) -> Result<(), JournalError> {
        let unknown = |what: &str, error: &io::Error| JournalError::Unknown(format!("{what}: {error}"));
        if let Some(full) = self.segment.take_if(|open| open.end >= self.segment_bytes) {
            // A segment that others follow ends with its last record.
            self.disk.truncate(&full.path, full.end).map_err(|error| {
                self.disk.give_up(&self.dir, &error);
                unknown("the end of a segment", &error)
            })?;
        }
        if self.segment.is_none() {
            let path = segment::path(&self.dir, first);
            let file = self.disk.create(&path).map_err(|error| unknown("a new segment", &error))?;
            self.disk.sync_dir(&self.dir).map_err(|error| {
                self.disk.give_up(&self.dir, &error);
                unknown("the sync of the journal's directory", &error)
            })?;
            self.segment = Some(Open { file, path, end: 0, bytes: 0 });
        }
        let Some(open) = &mut self.segment else { return Ok(()) };
        let mark = Mark { first }.encode(&self.key);
        let mut pieces = vec![IoSlice::new(&mark)];
        pieces.extend(frames.iter().map(|frame| IoSlice::new(&frame.bytes)));
        let end = open.end + pieces.iter().map(|piece| piece.len() as u64).sum::<u64>();
        if end > open.bytes {
            let ahead = AHEAD_BYTES.min(self.segment_bytes.max(1));
            open.bytes = (end / ahead + 1) * ahead;
            add_zeros(&mut pieces, open.bytes - end);
        }
        write_all(&self.disk, &mut open.file, open.end, &mut pieces)
            .map_err(|error| unknown("a write", &error))?;
        open.end = end;
        self.disk.sync(&open.file).map_err(|error| {
            self.disk.give_up(&self.dir, &error);
            unknown("a sync", &error)
        })
    }
}

impl<D: Disk> Journal for FileJournal<D> {
    async fn append(&mut self, frames: &[Frame]) -> Result<(), JournalError> {
        let Some(first) = frames.first() else { return Ok(()) };
        if self.has_failed {
            return Err(JournalError::Unknown("it has failed before, and must be opened again".to_owned()));
        }
        let link = self.follow(frames)?;
        self.has_failed = true;
        self.write(frames, first.sequence)?;
        self.has_failed = false;
        self.link = link;
        Ok(())
    }
}

/// Has so many zeros written behind the rest.
fn add_zeros(pieces: &mut Vec<IoSlice<'_>>, mut count: u64) {
    while count > 0 {
        let part = usize::try_from(count).unwrap_or(ZEROS.len()).min(ZEROS.len());
        pieces.push(IoSlice::new(&ZEROS[..part]));
        count -= part as u64;
    }
}

/// Writes all of it, in one call where the system takes it in one.
fn write_all<D: Disk>(
    disk: &D,
    file: &mut D::File,
    mut at: u64,
    mut pieces: &mut [IoSlice<'_>],
) -> io::Result<()> {
    // What one call takes at most (IOV_MAX of Linux).
    const PIECES_MAX: usize = 1_024;
    while !pieces.is_empty() {
        match disk.write(file, at, &pieces[..pieces.len().min(PIECES_MAX)]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => {
                at += written as u64;
                IoSlice::advance_slices(&mut pieces, written);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Reading or opening failed; nothing is lost.
fn failed(path: &Path, error: &io::Error) -> JournalError {
    JournalError::Failed(format!("{}: {error}", path.display()))
}
