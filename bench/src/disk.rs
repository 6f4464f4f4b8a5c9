//! How long this disk takes to make a write durable: the floor under every acknowledged payment.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use hdrhistogram::Histogram;

use crate::error::BenchError;
use crate::report;

const WRITES: u32 = 200;
const WRITE_BYTES: usize = 4_096;

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
}
