//! The few things that the writer does to a disk, so that tests can have them fail.

use std::{
    fmt::Debug,
    fs::{File, OpenOptions},
    io::{self, IoSlice, Seek as _, SeekFrom, Write as _},
    path::Path,
};

/// What the writer does to a disk. Readers read files.
pub trait Disk: Debug + Send + 'static {
    /// A file that is written to.
    type File: Debug + Send + 'static;

    /// Makes a file, which must not be there.
    fn create(&self, path: &Path) -> io::Result<Self::File>;

    /// Opens a file that is there.
    fn open(&self, path: &Path) -> io::Result<Self::File>;

    /// Writes from this byte on; returns how much was written.
    fn write(&self, file: &mut Self::File, at: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Makes what was written durable.
    fn sync(&self, file: &Self::File) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Cuts a file to this length, durably.
    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()>;

    /// A sync has failed: what is on the disk is not known, and asking again would be told a success, as
    /// the kernel has dropped what it could not write.
    fn give_up(&self, path: &Path, error: &io::Error);
}

/// The system's own.
#[derive(Debug, Clone, Copy)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    type File = File;

    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).open(path)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).open(path)
    }

    fn write(&self, file: &mut File, at: u64, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
        file.seek(SeekFrom::Start(at))?;
        file.write_vectored(pieces)
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn truncate(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        file.set_len(bytes)?;
        file.sync_all()
    }

    fn give_up(&self, path: &Path, error: &io::Error) {
        tracing::error!(
            path = %path.display(),
            %error,
            "the journal could not be made durable: the process ends, so that nothing is answered that may be lost"
        );
        std::process::abort();
    }
}
