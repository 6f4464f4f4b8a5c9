//! One writer per directory, by the system's own lock on a file: it ends with the process, however that ends.

use std::{
    fs::{File, TryLockError},
    path::Path,
};

use super::failed;
use crate::store::ports::JournalError;

/// The file whose lock says that a process writes here.
const LOCK_FILE: &str = "lock";

/// The lock, until it is dropped.
#[derive(Debug)]
pub(super) struct Lock(File);

impl Lock {
    /// Takes it, or says that another has it.
    pub(super) fn take(dir: &Path) -> Result<Self, JournalError> {
        let path = dir.join(LOCK_FILE);
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(|error| failed(&path, &error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(JournalError::Failed(format!(
                "another process writes to {}: there can be one only",
                dir.display()
            ))),
            Err(TryLockError::Error(error)) => Err(failed(&path, &error)),
        }
    }
}

impl Drop for Lock {
    /// A child process that is just being started may still hold a copy of the file: closing would not do.
    fn drop(&mut self) {
        self.0.unlock().ok();
    }
}
