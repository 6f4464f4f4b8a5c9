//! Reading the journal from any record to one that is durable, one record at a time, beside the writer.

use std::{
    io,
    path::{Path, PathBuf},
    vec,
};

use money::Timestamp;

use super::{
    failed,
    recovery::{damaged, follows, gone, head},
    scan::{Bad, Piece, Scan},
    segment::{self, Segment},
};
use crate::{
    journal::{
        chain::{Chain, Header, Link},
        key::JournalKey,
    },
    store::ports::{Frame, Happened, JournalError, PAGE_BYTES, Sequence},
};

/// Reads a journal's files. It never reads beyond the record that it is told is durable.
#[derive(Debug, Clone)]
pub struct JournalReader {
    dir: PathBuf,
    key: JournalKey,
}

impl JournalReader {
    /// One of the journal in a directory.
    pub fn new(dir: &Path, key: JournalKey) -> Self {
        Self { dir: dir.to_owned(), key }
    }

    /// The key that the records are verified with.
    pub fn key(&self) -> &JournalKey {
        &self.key
    }

    /// What happened after a record that is known, up to one that is durable: the first must follow it.
    pub fn replay(&self, after: Link, durable: Sequence) -> Result<Replay, JournalError> {
        Ok(Replay(self.records(after.sequence + 1, Some(after), durable)?))
    }

    /// What happened from a record on, up to one that is durable. What came before is not looked at.
    pub fn replay_from(&self, from: Sequence, durable: Sequence) -> Result<Replay, JournalError> {
        Ok(Replay(self.records(from, None, durable)?))
    }

    /// What happened in all records, each with its length in bytes.
    pub(in crate::journal) fn measured(&self, durable: Sequence) -> Result<Measured, JournalError> {
        Ok(Measured(self.records(1, None, durable)?))
    }

    /// The first record that has an event of this time or later; the one after the last durable one, if none
    /// has. Looks at headers only.
    pub fn find(&self, from: Timestamp, durable: Sequence) -> Result<Sequence, JournalError> {
        let mut start = 1;
        for segment in self.segments()? {
            match head(&segment, &self.key)? {
                Some(first) if first.first < from && first.sequence <= durable => start = first.sequence,
                _ => break,
            }
        }
        let mut records = self.records(start, None, durable)?;
        while records.next <= durable {
            let header = records.seek()?;
            if header.last >= from {
                break;
            }
            records.pass(&header)?;
        }
        Ok(records.next)
    }

    /// How long the journal is, in bytes.
    pub fn bytes(&self) -> Result<u64, JournalError> {
        let segments = self.segments()?;
        segments.iter().try_fold(0, |sum, segment| {
            let bytes = segment.path.metadata().map_err(|error| failed(&segment.path, &error))?.len();
            Ok(sum + bytes)
        })
    }

    fn segments(&self) -> Result<Vec<Segment>, JournalError> {
        segment::list(&self.dir).map_err(|error| failed(&self.dir, &error))
    }

    fn records(
        &self,
        from: Sequence,
        after: Option<Link>,
        durable: Sequence,
    ) -> Result<Records, JournalError> {
        let from = from.max(1);
        let after = if from == 1 { Some(Link::EMPTY) } else { after };
        let mut segments = self.segments()?;
        let before = segments.iter().take_while(|segment| segment.first <= from).count();
        if before == 0 && from <= durable {
            return Err(JournalError::Damaged {
                sequence: from,
                what: format!("the segment that it was in is missing from {}", self.dir.display()),
            });
        }
        segments.drain(..before.saturating_sub(1));
        let next = segments.first().map_or(from, |segment| segment.first);
        let chain = after.map(|link| Chain::new(self.key.clone(), link));
        let (reader, segments) = (self.clone(), segments.into_iter());
        Ok(Records { reader, segments, scan: None, passed_bytes: 0, chain, next, from, durable })
    }

    /// Goes on behind a record that was read, with nothing that comes before it.
    fn records_behind(&self, place: &Place, durable: Sequence) -> Result<Records, JournalError> {
        let scan = Scan::open_at(&place.path, &self.key, place.offset);
        let scan = scan.map_err(|error| failed(&place.path, &error))?;
        let from = place.link.sequence + 1;
        Ok(Records {
            reader: self.clone(),
            segments: Vec::new().into_iter(),
            scan: Some(scan),
            passed_bytes: 0,
            chain: Some(Chain::new(self.key.clone(), place.link)),
            next: from,
            from,
            durable,
        })
    }
}

/// Where a record ends, in a segment and in the chain.
#[derive(Debug, Clone)]
struct Place {
    path: PathBuf,
    offset: u64,
    link: Link,
}

/// Records, one after the other.
#[derive(Debug)]
struct Records {
    reader: JournalReader,
    /// Those that follow, as far as they were looked for.
    segments: vec::IntoIter<Segment>,
    scan: Option<Scan>,
    /// What was read of the segments before, in bytes.
    passed_bytes: u64,
    /// None until the first record says what it follows.
    chain: Option<Chain>,
    /// The record that comes next in the file; those before `from` are passed over.
    next: Sequence,
    from: Sequence,
    durable: Sequence,
}

impl Records {
    /// Has the next record read; `None` behind the last, and after an error.
    fn next<T>(
        &mut self,
        read: impl FnOnce(&mut Chain, &[u8]) -> Result<T, JournalError>,
    ) -> Option<Result<T, JournalError>> {
        if self.next.max(self.from) > self.durable {
            return None;
        }
        let result = self.read(read);
        if result.is_err() {
            self.durable = 0;
        }
        Some(result)
    }

    fn read<T>(
        &mut self,
        read: impl FnOnce(&mut Chain, &[u8]) -> Result<T, JournalError>,
    ) -> Result<T, JournalError> {
        let header = self.seek()?;
        let Some(scan) = &mut self.scan else { return Err(self.ends()) };
        let offset = scan.offset;
        let key = &self.reader.key;
        let chain = self.chain.get_or_insert_with(|| Chain::new(key.clone(), follows(&header)));
        let path = scan.path.clone();
        let bytes = scan.record(&header).map_err(|error| failed(&path, &error))?;
        self.next += 1;
        read(chain, bytes).map_err(|error| match error {
            JournalError::Damaged { sequence, what } => damaged(&path, sequence, offset, &what),
            other => other,
        })
    }

    /// Finds the next record that is asked for.
    fn seek(&mut self) -> Result<Header, JournalError> {
        loop {
            let Some(scan) = &mut self.scan else {
                let Some(segment) = self.next_segment()? else { return Err(self.ends()) };
                if segment.first != self.next {
                    return Err(gone(&segment, &format!("record {} was to come", self.next)));
                }
                let scan = Scan::open(&segment.path, &self.reader.key);
                self.scan = Some(scan.map_err(|error| failed(&segment.path, &error))?);
                continue;
            };
            let at = |path: &Path, error: io::Error| failed(path, &error);
            match scan.next().map_err(|error| at(&scan.path, error))? {
                Piece::End => {
                    self.passed_bytes += scan.bytes_read();
                    self.scan = None;
                }
                Piece::Mark(_) => {}
                Piece::Zeros => {
                    return Err(damaged(&scan.path, self.next, scan.offset, "there are zeros in its place"));
                }
                Piece::Record(header) if header.sequence != self.next => {
                    let what = format!("record {} is in its place", header.sequence);
                    return Err(damaged(&scan.path, self.next, scan.offset, &what));
                }
                Piece::Record(header) if self.next < self.from => self.pass(&header)?,
                Piece::Record(header) => return Ok(header),
                Piece::Bad(Bad::Ends) => {
                    return Err(damaged(&scan.path, self.next, scan.offset, "the file ends before it does"));
                }
                Piece::Bad(Bad::Damaged(what)) => {
                    return Err(damaged(&scan.path, self.next, scan.offset, what));
                }
                Piece::Bad(Bad::Foreign(error)) => return Err(error.at(self.next)),
            }
        }
    }

    fn next_segment(&mut self) -> Result<Option<Segment>, JournalError> {
        if self.segments.len() == 0 {
            let mut segments = self.reader.segments()?;
            segments.retain(|segment| segment.first >= self.next);
            self.segments = segments.into_iter();
        }
        Ok(self.segments.next())
    }

    /// Behind the record that was read last.
    fn place(&self) -> Option<Place> {
        let (scan, chain) = (self.scan.as_ref()?, self.chain.as_ref()?);
        Some(Place { path: scan.path.clone(), offset: scan.offset, link: chain.link() })
    }

    /// How many bytes of files were read.
    fn bytes_read(&self) -> u64 {
        self.passed_bytes + self.scan.as_ref().map_or(0, Scan::bytes_read)
    }

    /// Passes over the record that was found.
    fn pass(&mut self, header: &Header) -> Result<(), JournalError> {
        if let Some(scan) = &mut self.scan {
            scan.skip(header).map_err(|error| failed(&scan.path, &error))?;
        }
        self.next += 1;
        Ok(())
    }

    fn ends(&self) -> JournalError {
        let what = format!("it was durable, up to {}, and the journal ends before it", self.durable);
        JournalError::Damaged { sequence: self.next, what }
    }
}

/// What happened, record by record. It ends after the first error.
#[derive(Debug)]
pub struct Replay(Records);

impl Iterator for Replay {
    type Item = Result<Happened, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(Chain::open)
    }
}

/// Reads verified records by the page. What it keeps between two pages is a place: the file is opened anew for
/// each, and read from there on.
#[derive(Debug, Clone)]
pub struct FilePages {
    reader: JournalReader,
    at: At,
    bytes_read: u64,
}

#[derive(Debug, Clone)]
enum At {
    /// Nothing was read yet; this record is to come first.
    Before(Sequence),
    /// Behind what was read.
    Behind(Place),
}

impl FilePages {
    /// One that reads this record first.
    pub(super) fn new(reader: JournalReader, from: Sequence) -> Self {
        Self { reader, at: At::Before(from), bytes_read: 0 }
    }

    /// How many bytes of files were read for all pages together.
    pub fn bytes_read(&self) -> u64 {
        self.bytes_read
    }

    /// As [`FrameReader::page`](crate::store::ports::FrameReader::page); blocks.
    pub(super) fn read(&mut self, durable: Sequence) -> Result<Vec<Frame>, JournalError> {
        let mut records = match &self.at {
            At::Before(from) => self.reader.records(*from, None, durable)?,
            At::Behind(place) if place.link.sequence >= durable => return Ok(Vec::new()),
            At::Behind(place) => self.reader.records_behind(place, durable)?,
        };
        let (mut frames, mut bytes) = (Vec::new(), 0);
        let error = loop {
            if bytes >= PAGE_BYTES {
                break None;
            }
            match records.next(verified) {
                Some(Ok(frame)) => {
                    bytes += frame.bytes.len();
                    frames.push(frame);
                    if let Some(place) = records.place() {
                        self.at = At::Behind(place);
                    }
                }
                Some(Err(error)) => break Some(error),
                None => break None,
            }
        };
        self.bytes_read += records.bytes_read();
        match error {
            // The same error comes again when there is nothing before it.
            Some(error) if frames.is_empty() => Err(error),
            _ => Ok(frames),
        }
    }
}

/// A record as it is kept. It is verified but for what its events say.
fn verified(chain: &mut Chain, bytes: &[u8]) -> Result<Frame, JournalError> {
    let header = chain.verify(bytes)?;
    Ok(Frame { sequence: header.sequence, hash: chain.link().hash, bytes: bytes.into() })
}

/// What happened, with the length of each record in bytes. It ends after the first error.
#[derive(Debug)]
pub(in crate::journal) struct Measured(Records);

impl Iterator for Measured {
    type Item = Result<(Happened, u64), JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next(|chain, bytes| Ok((chain.open(bytes)?, bytes.len() as u64)))
    }
}
