//! Reading one segment from its start: marks and records, one after the other.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use super::mark::{self, MARK_BYTES, Mark};
use crate::{
    journal::{
        chain::{HEADER_BYTES, Header, HeaderError},
        key::{JournalKey, KeyId},
    },
    store::ports::Sequence,
};

/// How much is read at once, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// The same where only the first header is looked at.
const GLANCE_BYTES: usize = 4 << 10;

/// The same where a scan goes on at a journal's end, of which little is new.
const TAIL_BYTES: usize = 16 << 10;

/// A segment that is being read.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) path: PathBuf,
    file: BufReader<Counted>,
    key: JournalKey,
    id: KeyId,
    /// Where the next piece begins.
    pub(super) offset: u64,
    /// How long the segment was when it was opened.
    pub(super) length: u64,
    /// The last record read.
    record: Vec<u8>,
}

/// A file that counts the bytes that are read of it.
#[derive(Debug)]
struct Counted {
    file: File,
    bytes: u64,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// What comes next in a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// Nothing more.
    End,
    /// Zeros, where a mark or a record would begin: nothing was written here. The offset stays.
    Zeros,
    /// The start of an append.
    Mark(Mark),
    /// A record's header.
    Record(Header),
    /// Neither, and so nothing that follows can be told. The offset stays.
    Bad(Bad),
}

/// Why there is no telling what comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bad {
    /// The file ends before the piece does.
    Ends,
    /// The piece is all there, and damaged.
    Damaged(&'static str),
    /// Of another cluster or a newer program.
    Foreign(HeaderError),
}

impl Scan {
    /// To read all of it.
    pub(super) fn open(path: &Path, key: &JournalKey) -> io::Result<Self> {
        Self::with_buffer(path, key, BUFFER_BYTES)
    }

    /// To look at its start only.
    pub(super) fn glance(path: &Path, key: &JournalKey) -> io::Result<Self> {
        Self::with_buffer(path, key, GLANCE_BYTES)
    }

    /// To go on where another scan stood between two pieces.
    pub(super) fn open_at(path: &Path, key: &JournalKey, offset: u64) -> io::Result<Self> {
        let mut scan = Self::with_buffer(path, key, TAIL_BYTES)?;
        scan.file.seek(SeekFrom::Start(offset))?;
        scan.offset = offset;
        Ok(scan)
    }

    fn with_buffer(path: &Path, key: &JournalKey, buffer_bytes: usize) -> io::Result<Self> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let file = BufReader::with_capacity(buffer_bytes, Counted { file, bytes: 0 });
        let (id, key, path) = (key.id(), key.clone(), path.to_owned());
        Ok(Self { path, file, key, id, offset: 0, length, record: Vec::new() })
    }

    /// How many bytes of the file were read.
    pub(super) fn bytes_read(&self) -> u64 {
        self.file.get_ref().bytes
    }

    /// What comes next. Behind a record's header the caller goes on with [`Self::record`] or [`Self::skip`].
    pub(super) fn next(&mut self) -> io::Result<Piece> {
        // A file that was cut short behind our back ends.
        let rest = self.length.saturating_sub(self.offset);
        if rest == 0 {
            return Ok(Piece::End);
        }
        self.record.resize(HEADER_BYTES, 0);
        let mut start = [0; MARK_BYTES];
        let short = usize::try_from(rest).unwrap_or(MARK_BYTES).min(MARK_BYTES);
        self.file.read_exact(&mut start[..short])?;
        if start == [0; MARK_BYTES] {
            return Ok(Piece::Zeros);
        }
        if short < MARK_BYTES {
            return Ok(Piece::Bad(Bad::Ends));
        }
        if start[..mark::MAGIC.len()] == mark::MAGIC {
            return Ok(match Mark::decode(&start, &self.key) {
                Some(mark) => {
                    self.offset += MARK_BYTES as u64;
                    Piece::Mark(mark)
                }
                None => Piece::Bad(self.behind_bad_mark(rest)?),
            });
        }
        if rest < HEADER_BYTES as u64 {
            return Ok(Piece::Bad(Bad::Ends));
        }
        let mut head = [0; HEADER_BYTES];
        head[..MARK_BYTES].copy_from_slice(&start);
        self.file.read_exact(&mut head[MARK_BYTES..])?;
        self.record.copy_from_slice(&head);
        Ok(match Header::decode(&head, self.id) {
            Ok(header) if header.record_bytes() as u64 > rest => Piece::Bad(Bad::Ends),
            Ok(header) => Piece::Record(header),
            Err(HeaderError::Damaged(what)) => Piece::Bad(Bad::Damaged(what)),
            Err(foreign) => Piece::Bad(Bad::Foreign(foreign)),
        })
    }

    /// A mark cannot say whose it is; the record behind it can.
    fn behind_bad_mark(&mut self, rest: u64) -> io::Result<Bad> {
        let mut head = [0; HEADER_BYTES];
        if rest >= (MARK_BYTES + HEADER_BYTES) as u64 {
            self.file.read_exact(&mut head)?;
        }
        Ok(match Header::decode(&head, self.id) {
            Err(foreign @ (HeaderError::OtherKey | HeaderError::Newer { .. })) => Bad::Foreign(foreign),
            _ => Bad::Damaged("the mark that an append begins with is damaged"),
        })
    }

    /// The whole record of the header that came last.
    pub(super) fn record(&mut self, header: &Header) -> io::Result<&[u8]> {
        self.record.resize(header.record_bytes(), 0);
        self.file.read_exact(&mut self.record[HEADER_BYTES..])?;
        self.offset += self.record.len() as u64;
        Ok(&self.record)
    }

    /// Passes over the rest of the record whose header came last.
    pub(super) fn skip(&mut self, header: &Header) -> io::Result<()> {
        // Never more than a record may be long.
        let rest = i64::try_from(header.record_bytes() - HEADER_BYTES).map_err(io::Error::other)?;
        self.file.seek_relative(rest)?;
        self.offset += header.record_bytes() as u64;
        Ok(())
    }

    /// The bytes from here to there, as far as the segment goes. The scan does not go on afterwards.
    pub(super) fn bytes(&mut self, from: u64, to: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        self.file.by_ref().take(to.saturating_sub(from)).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Whether there are only zeros from here on. The scan does not go on afterwards.
    pub(super) fn is_empty_from(&mut self, offset: u64) -> io::Result<bool> {
        let mut from = offset;
        while from < self.length {
            let to = from + BUFFER_BYTES as u64;
            if self.bytes(from, to)?.iter().any(|byte| *byte != 0) {
                return Ok(false);
            }
            from = to;
        }
        Ok(true)
    }

    /// The first mark behind the offset, wherever it is, of an append after this record. The scan does not go
    /// on afterwards.
    pub(super) fn mark_after(&mut self, offset: u64, sequence: Sequence) -> io::Result<Option<Mark>> {
        let mut from = offset + 1;
        while from < self.length {
            let to = from + BUFFER_BYTES as u64;
            let bytes = self.bytes(from, to + MARK_BYTES as u64 - 1)?;
            let marks = bytes.windows(MARK_BYTES).filter(|window| window.starts_with(&mark::MAGIC));
            let mut marks = marks.filter_map(|window| Mark::decode(window.first_chunk()?, &self.key));
            if let Some(mark) = marks.find(|mark| mark.first > sequence) {
                return Ok(Some(mark));
            }
            from = to;
        }
        Ok(None)
    }
}
