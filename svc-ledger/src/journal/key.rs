//! The key of a journal's hashes: made once per cluster, so that a record of another cluster's journal, or
//! one that was made up, is not taken for one of this.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

use ring::rand::{SecureRandom as _, SystemRandom};
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::store::ports::Hash;

/// How long the key is, in bytes.
pub const KEY_BYTES: usize = 32;

/// The name of the file that an embedded ledger keeps its key in.
pub const FILE_NAME: &str = "journal.key";

/// Readable and writable by its owner only.
const FILE_MODE: u32 = 0o600;

/// What the key's own name is the hash of.
const ID_CONTEXT: &[u8] = b"paymesh ledger journal: key id";

/// The key. Wiped when dropped; `Debug` shows no content.
#[derive(Clone, zeroize::Zeroize, ZeroizeOnDrop)]
pub struct JournalKey([u8; KEY_BYTES]);

/// A key's own name: says which key a record was written with, and nothing of the key.
pub type KeyId = [u8; 8];

/// Why there is no key. Names files, never their content.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file is not a key.
    #[error("{file}: must be the journal's key, exactly {KEY_BYTES} bytes")]
    Length {
        /// Which file.
        file: String,
    },
    /// There is a journal, but the key it was written with is gone. A new one could not verify it.
    #[error("{file} is missing, and the journal was written with it: put it back from its backup")]
    Missing {
        /// Which file.
        file: String,
    },
    /// A file could not be read or made.
    #[error("{file}: {source}")]
    Io {
        /// Which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
    /// No random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

impl JournalKey {
    /// Takes over the bytes, and wipes where they came from.
    pub fn take(bytes: &mut [u8; KEY_BYTES]) -> Self {
        let key = Self(*bytes);
        bytes.zeroize();
        key
    }

    /// A new one.
    pub fn random() -> Result<Self, KeyError> {
        let mut bytes = [0; KEY_BYTES];
        SystemRandom::new().fill(&mut bytes).map_err(|_| KeyError::Random)?;
        Ok(Self::take(&mut bytes))
    }

    /// Reads a key from a file that is given, such as a mounted secret.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let at = |source| KeyError::Io { file: path.display().to_string(), source };
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        let mut file = File::open(path).map_err(at)?;
        let is_long_enough = match file.read_exact(&mut *bytes) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => false,
            Err(error) => return Err(at(error)),
        };
        if !is_long_enough || file.read(&mut [0]).map_err(at)? != 0 {
            return Err(KeyError::Length { file: path.display().to_string() });
        }
        let mode = fs::metadata(path).map_err(at)?.permissions().mode();
        if mode & 0o077 != 0 {
            tracing::warn!(file = %path.display(), "the journal's key can be read by others: its mode should be 0600");
        }
        Ok(Self::take(&mut bytes))
    }

    /// Reads the key kept in a directory. Makes it if there is none, unless there is a journal already
    /// (`expected`). The directory must be this process's alone while it is made.
    pub fn read_or_make(dir: &Path, expected: bool) -> Result<Self, KeyError> {
        let path = dir.join(FILE_NAME);
        let at = |source| KeyError::Io { file: path.display().to_string(), source };
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) if expected => return Err(KeyError::Missing { file: path.display().to_string() }),
            Ok(false) => Self::random()?.write(dir, &path).map_err(at)?,
            Err(error) => return Err(at(error)),
        }
        // Also after making it: what is used is what is on the disk.
        Self::read(&path)
    }

    /// All or nothing: the file appears under its name only when its content is on the disk.
    fn write(&self, dir: &Path, path: &Path) -> io::Result<()> {
        let draft = path.with_extension("key.draft");
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft)?;
        file.write_all(&self.0)?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(dir)?.sync_all()
    }

    /// Its own name.
    pub fn id(&self) -> KeyId {
        let hash = self.hash(ID_CONTEXT);
        let mut id = KeyId::default();
        id.copy_from_slice(&hash[..size_of::<KeyId>()]);
        id
    }

    /// A keyed hash that takes its bytes in parts.
    pub(super) fn hasher(&self) -> blake3::Hasher {
        blake3::Hasher::new_keyed(&self.0)
    }

    /// The keyed hash of the bytes.
    pub(super) fn hash(&self, bytes: &[u8]) -> Hash {
        *blake3::keyed_hash(&self.0, bytes).as_bytes()
    }
}

impl fmt::Debug for JournalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JournalKey(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_for_its_owner_only_and_never_shown() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("journal.key.draft"), "left behind").unwrap();
        let first = JournalKey::read_or_make(dir.path(), false).unwrap();
        let again = JournalKey::read_or_make(dir.path(), true).unwrap();
        assert_eq!(first.0, again.0);
        assert_ne!(first.0, [0; KEY_BYTES]);
        assert_ne!(first.id(), JournalKey::random().unwrap().id());
        assert_eq!(format!("{first:?}"), "JournalKey(redacted)");
        let path = dir.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_lost_key_is_not_made_anew_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(JournalKey::read_or_make(dir.path(), true), Err(KeyError::Missing { .. })));
        for length in [0, 31, 33] {
            fs::write(dir.path().join(FILE_NAME), vec![7; length]).unwrap();
            let refused = JournalKey::read_or_make(dir.path(), false);
            assert!(matches!(refused, Err(KeyError::Length { .. })), "{length}");
        }
        assert!(matches!(JournalKey::read(&dir.path().join("absent")), Err(KeyError::Io { .. })));
    }
}
