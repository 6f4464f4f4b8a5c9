//! Snapshots in files: the state after a record, so that a start replays what came after it only. They are
//! derived: one that is lost or damaged costs time, nothing else.

mod format;

use std::{
    fs::{self, File},
    io::{self, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::{chain::Link, key::JournalKey};
use crate::store::ports::{JournalError, Sequence, Snapshot};

/// What a snapshot's name ends with, behind the digits of its sequence.
const EXTENSION: &str = "snap";

/// What one that is being written ends with.
const DRAFT: &str = "draft";

/// How many that are whole are kept: the newest, and one in case it comes to be damaged.
const KEPT: usize = 2;

/// How much is read and written at once, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// The snapshots in a directory. One at a time may be written; the owner sees to that.
#[derive(Debug, Clone)]
pub struct Snapshots {
    dir: PathBuf,
    key: JournalKey,
}

impl Snapshots {
    /// Those in this directory, which is made if it is not there.
    pub fn open(dir: &Path, key: JournalKey) -> Result<Self, JournalError> {
        fs::create_dir_all(dir).map_err(|error| failed(dir, &error))?;
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// Keeps a snapshot, durably, and the newest one before it that is whole; deletes all others, which a failure puts
    /// off until the next one. After an error those that were there still are; whether this one is, is not known.
    pub fn keep(&self, snapshot: &Snapshot) -> Result<(), JournalError> {
        let path = self.dir.join(format!("{:020}.{EXTENSION}", snapshot.sequence));
        let draft = path.with_extension(DRAFT);
        self.write(snapshot, &draft, &path).map_err(|error| {
            // Left behind, it would be deleted with the next one.
            fs::remove_file(&draft).ok();
            failed(&path, &error)
        })?;
        if let Err(error) = self.delete_others(snapshot.sequence) {
            tracing::warn!(dir = %self.dir.display(), %error, "older snapshots could not be looked through; the next one tries again");
        }
        Ok(())
    }

    fn write(&self, snapshot: &Snapshot, draft: &Path, path: &Path) -> io::Result<()> {
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(draft)?);
        let mut file = format::write(snapshot, &self.key, file)?;
        file.flush()?;
        file.get_ref().sync_all()?;
        fs::rename(draft, path)?;
        File::open(&self.dir)?.sync_all()
    }

    fn delete_others(&self, just_kept: Sequence) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == DRAFT) {
                fs::remove_file(path)?;
            }
        }
        let mut whole = 0;
        for (sequence, path) in self.list()? {
            // That one came from memory. Any other may have been damaged since it was written, and would be missed.
            if whole < KEPT && (sequence == just_kept || self.is_whole(sequence, &path)?) {
                whole += 1;
            } else {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Whether a snapshot could be read. An error is one of the disk, and says nothing of what is on it.
    fn is_whole(&self, sequence: Sequence, path: &Path) -> io::Result<bool> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        match format::check(&self.key, length, BufReader::with_capacity(BUFFER_BYTES, file)) {
            Ok(found) => Ok(found == sequence),
            Err(error) if error.raw_os_error().is_some() => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// The newest snapshot that is whole, or `None`: then the journal is replayed from its start. A snapshot
    /// of records that the journal does not have is refused: the journal has lost them.
    pub fn load(&self, journal: &Link) -> Result<Option<Snapshot>, JournalError> {
        let Some((snapshot, path)) = self.newest()? else { return Ok(None) };
        let sequence = snapshot.sequence;
        let is_ahead = sequence > journal.sequence;
        if is_ahead || (sequence == journal.sequence && snapshot.hash != journal.hash) {
            let what = if is_ahead { "the journal ends before it" } else { "the journal holds another" };
            let file = path.display();
            return Err(JournalError::Damaged {
                sequence,
                what: format!("the snapshot {file} holds it, and {what}; put the journal back from a copy"),
            });
        }
        Ok(Some(snapshot))
    }

    /// The same for who has looked at that before: none can be ahead of the journal that it was made of.
    pub fn latest(&self) -> Result<Option<Snapshot>, JournalError> {
        Ok(self.newest()?.map(|(snapshot, _)| snapshot))
    }

    fn newest(&self) -> Result<Option<(Snapshot, PathBuf)>, JournalError> {
        for (sequence, path) in self.list().map_err(|error| failed(&self.dir, &error))? {
            match self.read(sequence, &path) {
                Ok(snapshot) => return Ok(Some((snapshot, path))),
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "a snapshot cannot be used, an older one is looked for");
                }
            }
        }
        Ok(None)
    }

    fn read(&self, sequence: Sequence, path: &Path) -> io::Result<Snapshot> {
        let file = BufReader::with_capacity(BUFFER_BYTES, File::open(path)?);
        let snapshot = format::read(&self.key, file)?;
        if snapshot.sequence == sequence {
            Ok(snapshot)
        } else {
            Err(io::Error::other("its name is another's"))
        }
    }

    /// The newest first.
    fn list(&self) -> io::Result<Vec<(Sequence, PathBuf)>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == EXTENSION) {
                let sequence = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
                found.extend(sequence.map(|sequence| (sequence, path)));
            }
        }
        found.sort_unstable_by_key(|(sequence, _)| std::cmp::Reverse(*sequence));
        Ok(found)
    }
}

fn failed(path: &Path, error: &io::Error) -> JournalError {
    JournalError::Failed(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests;
