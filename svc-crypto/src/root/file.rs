//! The root of trust that is 32 bytes: in a file that is given, or in one of our own that is made once. Whoever can
//! read the file can open everything; it wraps in memory, and always answers.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use super::{Failure, RootOfTrust};
use crate::{
    domain::{
        audit::ChainKey,
        keys::{self, Root},
        rooted::RootName,
        secret::{KEY_BYTES, KeyBytes},
    },
    random::{Random, RandomError},
};

/// A root key in memory.
pub struct FileRoot {
    name: RootName,
    root: Root,
    random: Random,
    chain_key: KeyBytes,
}

impl FileRoot {
    /// Expands the key.
    pub fn new(key: &KeyBytes) -> Self {
        let root = keys::root(key);
        let name = RootName::of_file(root.id);
        Self { name, root, random: Random::default(), chain_key: ChainKey::derived_from(key) }
    }
}

#[tonic::async_trait]
impl RootOfTrust for FileRoot {
    fn name(&self) -> &RootName {
        &self.name
    }

    async fn wrap(&self, context: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure> {
        let salt = self.random.salt().map_err(|error| Failure::Unreachable(error.to_string().into()))?;
        let sealed = self.root.ring.seal(salt, context, key.expose());
        Ok(sealed.map_err(|error| Failure::Refused(error.to_string().into()))?.1)
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
        let opened = self.root.ring.open(wrapped, context).map_err(|_| Failure::Tampered)?.1;
        KeyBytes::from_slice(opened.expose()).ok_or(Failure::Tampered)
    }

    fn derived_chain_key(&self) -> Result<Option<KeyBytes>, Failure> {
        Ok(Some(self.chain_key.clone()))
    }
}

/// The name of our own file in the data directory.
const FILE_NAME: &str = "root.key";
/// Readable and writable by its owner only.
const FILE_MODE: u32 = 0o600;

/// Why there is no root key. Names files, never their content.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file is not a key.
    #[error("{file}: must be the root key, exactly {KEY_BYTES} bytes")]
    Length {
        /// Which file.
        file: String,
    },
    /// The store has keys, but the root that wraps them is gone. A new one could not open them.
    #[error(
        "{file} is missing, and the store has keys under a root of trust: put the file back from its backup; or, where \
         the root is none of ours, its configuration (root_key_file, root)"
    )]
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
    #[error(transparent)]
    Random(#[from] RandomError),
}

/// Reads the root key from a file that is given, such as a mounted secret.
pub fn read(path: &Path) -> Result<KeyBytes, FileError> {
    read_file(path)
        .map_err(error_at(path))?
        .ok_or_else(|| FileError::Length { file: path.display().to_string() })
}

/// The file of our own root key in a data directory.
pub fn own_file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE_NAME)
}

/// Reads our own root key from the data directory. Makes it if there is none, unless the store
/// already has keys (`expected`).
pub fn read_or_make(data_dir: &Path, expected: bool, random: &Random) -> Result<KeyBytes, FileError> {
    let path = own_file(data_dir);
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) if expected => return Err(FileError::Missing { file: path.display().to_string() }),
        Ok(false) => make(data_dir, &path, &random.key()?).map_err(error_at(&path))?,
        Err(error) => return Err(error_at(&path)(error)),
    }
    // Also after making it: what is used is what is on the disk.
    let key = read(&path)?;
    let mode = fs::metadata(&path).map_err(error_at(&path))?.permissions().mode();
    if mode & 0o077 != 0 {
        tracing::warn!(file = %path.display(), "the root key can be read by others: its mode should be 0600");
    }
    Ok(key)
}

fn error_at(path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let file = path.display().to_string();
    move |source| FileError::Io { file, source }
}

/// `None` if it has another length than a key.
fn read_file(path: &Path) -> io::Result<Option<KeyBytes>> {
    let mut file = File::open(path)?;
    let mut bytes = [0; KEY_BYTES];
    match file.read_exact(&mut bytes) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let key = KeyBytes::take(&mut bytes);
    Ok((file.read(&mut [0])? == 0).then_some(key))
}

/// All or nothing: the file appears under its name only when its content is on the disk, and one that
/// another process made meanwhile stays.
fn make(directory: &Path, path: &Path, key: &KeyBytes) -> io::Result<()> {
    let draft = directory.join(format!("{FILE_NAME}.{}.new", std::process::id()));
    // A draft of ours from before a crash.
    match fs::remove_file(&draft) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&draft)?;
    file.write_all(key.expose())?;
    file.sync_all()?;
    // Unlike a rename, a link does not replace what is there.
    let linked = fs::hard_link(&draft, path);
    let placed = match linked {
        Ok(()) => fs::remove_file(&draft),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::remove_file(&draft),
        // A file system without links.
        Err(_) => fs::rename(&draft, path),
    };
    placed?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_once_for_its_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let random = Random::default();
        let first = read_or_make(dir.path(), false, &random).unwrap();
        let again = read_or_make(dir.path(), true, &random).unwrap();
        assert_eq!(first.expose(), again.expose());
        assert_ne!(first.expose(), &[0; KEY_BYTES]);
        let path = dir.path().join(FILE_NAME);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, FILE_MODE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn one_that_is_there_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE_NAME);
        let (ours, theirs) = (KeyBytes::take(&mut [1; 32]), KeyBytes::take(&mut [2; 32]));
        make(dir.path(), &path, &theirs).unwrap();
        make(dir.path(), &path, &ours).unwrap();
        assert_eq!(read(&path).unwrap().expose(), theirs.expose());
    }

    #[test]
    fn a_lost_root_is_not_made_anew_and_a_damaged_one_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let random = Random::default();
        assert!(matches!(read_or_make(dir.path(), true, &random), Err(FileError::Missing { .. })));
        for length in [0, 31, 33] {
            fs::write(dir.path().join(FILE_NAME), vec![7; length]).unwrap();
            let refused = read_or_make(dir.path(), false, &random);
            assert!(matches!(refused, Err(FileError::Length { .. })), "{length}");
        }
        assert!(matches!(read(&dir.path().join("absent")), Err(FileError::Io { .. })));
    }
}
