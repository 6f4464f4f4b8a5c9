//! How long this disk takes to make a write durable: the floor under every acknowledged payment.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hdrhistogram::Histogram;
use tempfile::TempDir;

use crate::error::BenchError;
use crate::report;

const WRITES: u32 = 200;
const WRITE_BYTES: usize = 4_096;

/// A directory below another, removed when dropped. Not in the system's temporary directory, which may be
/// memory: durability would cost nothing.
pub(crate) fn directory_in(parent: &Path) -> Result<TempDir, BenchError> {
    tempfile::Builder::new()
        .prefix("bench-data-")
        .tempdir_in(parent)
        .map_err(BenchError::io(format!("a directory in {}", parent.display())))
}

/// The directory of this program.
pub(crate) fn beside_this_program() -> Result<PathBuf, BenchError> {
    let program = std::env::current_exe().map_err(BenchError::io("the path of this program"))?;
    Ok(program.parent().unwrap_or(Path::new(".")).to_path_buf())
}

/// Bytes of all files below a directory, by the name of what is directly in it. What goes away meanwhile
/// does not count.
pub(crate) fn sizes(directory: &Path) -> BTreeMap<String, u64> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), size(&entry.path()))).collect()
}

fn size(path: &Path) -> u64 {
    match std::fs::symlink_metadata(path) {
        Ok(about) if about.is_dir() => sizes(path).values().sum(),
        Ok(about) => about.len(),
        Err(_) => 0,
    }
}

/// fdatasync times in µs of small appends to a file in `directory`, one after the other.
pub(crate) fn fdatasync_us(directory: &Path) -> Result<Histogram<u64>, BenchError> {
    let failed = || BenchError::io(format!("measuring fdatasync in {}", directory.display()));
    let mut file = tempfile::tempfile_in(directory).map_err(failed())?;
    let mut times = report::histogram();
    for _ in 0..WRITES {
        file.write_all(&[0x5a; WRITE_BYTES]).map_err(failed())?;
        let begun = Instant::now();
        file.sync_data().map_err(failed())?;
        report::add(&mut times, begun.elapsed());
    }
    Ok(times)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_measured() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(fdatasync_us(directory.path()).unwrap().len(), u64::from(WRITES));
    }

    #[test]
    fn sizes_are_of_all_that_is_below() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(directory.path().join("journal/old")).unwrap();
        for (name, bytes) in [("index.db", 3), ("journal/1", 5), ("journal/old/0", 7)] {
            std::fs::write(directory.path().join(name), vec![0; bytes]).unwrap();
        }
        let expected = [("index.db".to_owned(), 3), ("journal".to_owned(), 12)];
        assert_eq!(sizes(directory.path()), expected.into());
    }
}
