//! Segments by name: each is named after its first record.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::store::ports::Sequence;

/// What a segment's name ends with, behind the digits.
const EXTENSION: &str = "log";

/// How many digits its name has.
const DIGITS: usize = 20;

/// A segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Segment {
    /// Its first record.
    pub(super) first: Sequence,
    /// Its file.
    pub(super) path: PathBuf,
}

/// The file of the segment that begins with this record.
pub(super) fn path(dir: &Path, first: Sequence) -> PathBuf {
    dir.join(format!("{first:0DIGITS$}.{EXTENSION}"))
}

/// The segments in a directory, in order.
pub(super) fn list(dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let stem = path.file_stem().and_then(|stem| stem.to_str());
            let digits = stem.filter(|stem| stem.len() == DIGITS && stem.bytes().all(|b| b.is_ascii_digit()));
            let first = digits.and_then(|digits| digits.parse().ok()).filter(|first| *first > 0);
            let first = first.ok_or_else(|| {
                io::Error::other(format!("{} has a segment's ending but not its name", path.display()))
            })?;
            segments.push(Segment { first, path });
        }
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    Ok(segments)
}
