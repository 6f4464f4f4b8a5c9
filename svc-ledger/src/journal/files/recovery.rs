//! What is done before the first append: the end of the journal is found and verified, and cut where a crash
//! has torn it. Only what a crash can explain is cut; all else is refused, with its place.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use super::{
    disk::Disk,
    failed,
    mark::MARK_BYTES,
    scan::{Bad, Piece, Scan},
    segment::{self, Segment},
};
use crate::{
    journal::{
        chain::{Chain, HASH_BYTES, HEADER_BYTES, Header, Link},
        key::JournalKey,
    },
    store::ports::{JournalError, Sequence},
};

/// No record is shorter, in bytes.
const RECORD_BYTES_MIN: u64 = (HEADER_BYTES + HASH_BYTES) as u64;

/// What a disk writes whole or not at all, in bytes; larger ones are multiples of it.
const SECTOR_BYTES: usize = 512;

/// What to do about damage.
const REMEDY: &str =
    "put the file back from a copy: cutting the journal there loses this record and all after it";

/// What was found when the journal was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The last record, which is durable now.
    pub link: Link,
    /// What was cut off its end, if anything was.
    pub cut: Option<Cut>,
    /// The segment to go on with.
    pub(super) tail: Option<Segment>,
}

/// An end that a crash had torn. Nobody was told that anything of it was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The record that was torn.
    pub sequence: Sequence,
    /// The file's name.
    pub file: String,
    /// Where it was cut, in bytes from the start.
    pub offset: u64,
    /// How much was cut off.
    pub bytes: u64,
    /// What was wrong with it.
    pub what: String,
}

/// Finds the end of the journal, cutting what is torn.
pub(super) fn recover<D: Disk>(disk: &D, dir: &Path, key: &JournalKey) -> Result<Recovered, JournalError> {
    let segments = segment::list(dir).map_err(|error| failed(dir, &error))?;
    let Some((tail, closed)) = segments.split_last() else {
        return Ok(Recovered { link: Link::EMPTY, cut: None, tail: None });
    };
    let start = neighbours(&segments, key)?;
    let start = match (start, closed.last()) {
        (Some(start), _) => start,
        // Nothing of the last segment can be read: the one before says what it must follow.
        (None, Some(before)) => {
            let first = head(before, key)?.ok_or_else(|| gone(before, "it holds no record"))?;
            let whole = walk(before, key, follows(&first))?;
            if let Some(bad) = whole.bad {
                return Err(bad.refused(before, "a segment was begun after it"));
            }
            whole.link
        }
        (None, None) => Link::EMPTY,
    };
    if start.sequence + 1 != tail.first {
        return Err(gone(tail, &format!("the segment before it ends with record {}", start.sequence)));
    }
    let walked = walk(tail, key, start)?;
    let length = tail.path.metadata().map_err(|error| failed(&tail.path, &error))?.len();
    if walked.bad.is_none() && length > walked.end {
        // Zeros that were to be overwritten.
        disk.truncate(&tail.path, walked.end).map_err(|error| failed(&tail.path, &error))?;
    }
    let cut = walked.bad.map(|bad| cut(disk, tail, key, &bad)).transpose()?;
    Ok(Recovered { link: walked.link, cut, tail: Some(tail.clone()) })
}

/// Looks at the ends of all segments: each must begin with the record that its name says and follow the
/// last of the one before. Returns what the first record of the last segment follows, if it can be read.
fn neighbours(segments: &[Segment], key: &JournalKey) -> Result<Option<Link>, JournalError> {
    let mut last_hash = Some(Link::EMPTY.hash);
    let mut start = None;
    for (index, segment) in segments.iter().enumerate() {
        if index == 0 && segment.first != 1 {
            return Err(gone(segment, "it is the first there is, and the journal begins with record 1"));
        }
        let header = head(segment, key)?;
        start = header.as_ref().map(follows);
        match header {
            Some(header) if header.sequence != segment.first => {
                return Err(gone(segment, &format!("it begins with record {}", header.sequence)));
            }
            Some(header) if last_hash.is_some_and(|hash| hash != header.previous) => {
                return Err(gone(
                    segment,
                    "its first record does not follow the last one of the file before it",
                ));
            }
            None if index + 1 < segments.len() => {
                return Err(gone(
                    segment,
                    "its first record cannot be read, and there are segments after it",
                ));
            }
            _ => {}
        }
        last_hash = Some(end(segment)?);
    }
    Ok(start)
}

/// The header of a segment's first record, if it can be read.
pub(super) fn head(segment: &Segment, key: &JournalKey) -> Result<Option<Header>, JournalError> {
    let at = |error: io::Error| failed(&segment.path, &error);
    let mut scan = Scan::glance(&segment.path, key).map_err(at)?;
    loop {
        match scan.next().map_err(at)? {
            Piece::Mark(_) => {}
            Piece::Record(header) => return Ok(Some(header)),
            Piece::Bad(Bad::Foreign(error)) => return Err(error.at(segment.first)),
            Piece::End | Piece::Zeros | Piece::Bad(_) => return Ok(None),
        }
    }
}

/// The last bytes of a segment, which are its last record's hash.
fn end(segment: &Segment) -> Result<[u8; HASH_BYTES], JournalError> {
    let at = |error: io::Error| failed(&segment.path, &error);
    let mut file = File::open(&segment.path).map_err(at)?;
    let length = file.metadata().map_err(at)?.len();
    let mut hash = [0; HASH_BYTES];
    if let Some(from) = length.checked_sub(HASH_BYTES as u64) {
        file.seek(SeekFrom::Start(from)).and_then(|_| file.read_exact(&mut hash)).map_err(at)?;
    }
    Ok(hash)
}

/// What a record says that it follows. Its own hash vouches for it.
pub(super) fn follows(header: &Header) -> Link {
    header.follows()
}

/// How far a segment is good.
struct Walked {
    link: Link,
    /// Where its last record ends.
    end: u64,
    bad: Option<Trouble>,
}

/// Where a segment stops being good.
struct Trouble {
    /// The record that was to come.
    sequence: Sequence,
    /// Where the good part ends.
    offset: u64,
    /// How many bytes the bad piece has, as far as that can be known; 0: the file ends before it does.
    extent: u64,
    what: String,
}

/// Verifies a segment, up to its end or to what is bad.
fn walk(segment: &Segment, key: &JournalKey, start: Link) -> Result<Walked, JournalError> {
    let at = |error: io::Error| failed(&segment.path, &error);
    let mut scan = Scan::open(&segment.path, key).map_err(at)?;
    let mut chain = Chain::new(key.clone(), start);
    // Behind a mark that no record follows yet: where the mark is.
    let mut marked = None;
    let (extent, what) = loop {
        let offset = scan.offset;
        match scan.next().map_err(at)? {
            Piece::End if marked.is_some() => {
                break (0, "the file ends behind the mark of an append".to_owned());
            }
            Piece::End => return Ok(Walked { link: chain.link(), end: offset, bad: None }),
            Piece::Zeros if marked.is_none() && scan.is_empty_from(offset).map_err(at)? => {
                return Ok(Walked { link: chain.link(), end: offset, bad: None });
            }
            Piece::Zeros => break (RECORD_BYTES_MIN, "there are zeros in its place".to_owned()),
            Piece::Mark(mark) if mark.first == chain.link().sequence + 1 => marked = Some(offset),
            Piece::Mark(mark) => {
                scan.offset = offset;
                let what = format!("an append of record {} is in its place", mark.first);
                break (MARK_BYTES as u64, what);
            }
            Piece::Record(header) => {
                let verified = chain.verify(scan.record(&header).map_err(at)?);
                match verified {
                    Ok(_) => marked = None,
                    Err(JournalError::Damaged { what, .. }) => {
                        scan.offset = offset;
                        break (header.record_bytes() as u64, what);
                    }
                    Err(error) => return Err(error),
                }
            }
            Piece::Bad(Bad::Ends) => break (0, "the file ends before it does".to_owned()),
            Piece::Bad(Bad::Damaged(what)) => break (RECORD_BYTES_MIN, what.to_owned()),
            Piece::Bad(Bad::Foreign(error)) => return Err(error.at(chain.link().sequence + 1)),
        }
    };
    let offset = marked.unwrap_or(scan.offset);
    let extent = if extent == 0 { 0 } else { scan.offset - offset + extent };
    let bad = Some(Trouble { sequence: chain.link().sequence + 1, offset, extent, what });
    Ok(Walked { link: chain.link(), end: offset, bad })
}

/// Cuts what a crash has torn; refuses what it cannot have.
fn cut<D: Disk>(disk: &D, segment: &Segment, key: &JournalKey, bad: &Trouble) -> Result<Cut, JournalError> {
    let at = |error: io::Error| failed(&segment.path, &error);
    let mut scan = Scan::open(&segment.path, key).map_err(at)?;
    if let Some(mark) = scan.mark_after(bad.offset, bad.sequence).map_err(at)? {
        let why = format!("record {} was begun when it was already durable", mark.first);
        return Err(bad.refused(segment, &why));
    }
    let is_torn = bad.extent == 0 || {
        let behind = bad.offset + bad.extent;
        let piece = scan.bytes(bad.offset, behind).map_err(at)?;
        has_empty_sector(&piece, bad.offset)
            || (has_empty_end(&piece) && scan.is_empty_from(behind).map_err(at)?)
    };
    if !is_torn {
        return Err(bad.refused(segment, "no write that was interrupted leaves it like that"));
    }
    let bytes = scan.length - bad.offset;
    disk.truncate(&segment.path, bad.offset).map_err(at)?;
    let cut = Cut {
        sequence: bad.sequence,
        file: segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        offset: bad.offset,
        bytes,
        what: bad.what.clone(),
    };
    tracing::warn!(
        sequence = cut.sequence,
        file = cut.file,
        offset = cut.offset,
        bytes,
        what = cut.what,
        "the journal ended in a record that a crash had torn, which was never acknowledged: it was cut off"
    );
    Ok(cut)
}

/// Whether a sector, or the piece's part of it, was never written: it reads as zeros then, which no part of a
/// record is but by a chance of 1 in 256 for each byte that the part has.
fn has_empty_sector(piece: &[u8], offset: u64) -> bool {
    let within = usize::try_from(offset % SECTOR_BYTES as u64).unwrap_or(0);
    let first = SECTOR_BYTES - within;
    let (head, rest) = piece.split_at(first.min(piece.len()));
    let is_empty = |part: &[u8]| !part.is_empty() && part.iter().all(|byte| *byte == 0);
    is_empty(head) || rest.chunks(SECTOR_BYTES).any(is_empty)
}

/// Whether the write stopped within a sector: a process can be killed there, if hardly. No record ends with
/// so many zeros but by a chance of 1 in 2⁶⁴.
fn has_empty_end(piece: &[u8]) -> bool {
    piece.ends_with(&[0; 8])
}

impl Trouble {
    fn refused(&self, segment: &Segment, why: &str) -> JournalError {
        damaged(&segment.path, self.sequence, self.offset, &format!("{}, and {why}", self.what))
    }
}

/// A record that cannot be read and must not be cut.
pub(super) fn damaged(path: &Path, sequence: Sequence, offset: u64, what: &str) -> JournalError {
    let what = format!("{what} ({}, byte {offset}); {REMEDY}", path.display());
    JournalError::Damaged { sequence, what }
}

/// Segments that are not those of one journal.
pub(super) fn gone(segment: &Segment, what: &str) -> JournalError {
    damaged(&segment.path, segment.first, 0, &format!("a segment is missing or damaged: {what}"))
}
