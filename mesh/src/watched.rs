//! A value that is read from files, and read again when their contents change: certificates, keys,
//! policies. Knows nothing of what is in them.
//!
//! The contents are compared, not their times or inodes: a mounted secret is swapped by a symbolic link,
//! and a file may change twice within one tick of the clock.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use ring::digest::{Context, SHA256};
use tokio::sync::watch;

use crate::drain::Drain;

type Read<T> = dyn Fn() -> Result<T, String> + Send + Sync;

/// A value kept in step with its files. Cheap to clone; all clones see the same value.
pub struct Watched<T> {
    shared: Arc<Shared<T>>,
}

struct Shared<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    /// Of the contents that the first value was read from.
    first: Vec<u8>,
    read: Box<Read<T>>,
    value: ArcSwap<T>,
    version: watch::Sender<u64>,
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads the value for the first time. `read` is called again whenever a file has changed; it must
    /// check all that it reads, as a value that it returns is used at once. `what` names it in logs.
    pub fn load<E: ToString>(
        what: &'static str,
        files: Vec<PathBuf>,
        read: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Taken before reading: a change in between is then seen as one, and not missed.
        let first = fingerprint(&files);
        let value = ArcSwap::from_pointee(read()?);
        let read = Box::new(move || read().map_err(|error| error.to_string()));
        let shared = Shared { what, files, first, read, value, version: watch::Sender::new(0) };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// A value that has no files and stays as it is until [`Watched::replace`].
    pub fn fixed(what: &'static str, value: T) -> Self {
        let read: Box<Read<T>> = Box::new(|| Err("has no file".to_owned()));
        let value = ArcSwap::from_pointee(value);
        let (files, first, version) = (Vec::new(), fingerprint(&[]), watch::Sender::new(0));
        Self { shared: Arc::new(Shared { what, files, first, read, value, version }) }
    }

    /// The value as it is now.
    pub fn current(&self) -> Arc<T> {
        self.shared.value.load_full()
    }

    /// Counts the changes: who waits on it hears of each new value.
    pub fn versions(&self) -> watch::Receiver<u64> {
        self.shared.version.subscribe()
    }

    /// Puts another value in place, for all clones.
    pub fn replace(&self, value: T) {
        self.shared.value.store(Arc::new(value));
        self.shared.version.send_modify(|version| *version += 1);
    }

    /// Looks at the files every so often and takes a new value over once two looks in a row found the
    /// same contents, so that a set of files that is being written is left alone, and once it reads
    /// without an error. With one, the old value stays, the error is logged once, and the same contents
    /// are read again: they may become right with time. Ends when the drain begins.
    pub async fn keep(self, every: Duration, drain: Drain) {
        let mut used = self.shared.first.clone();
        let mut seen = used.clone();
        let mut failed = None;
        while drain.unless_started(tokio::time::sleep(every)).await.is_some() {
            let Some(now) = self.look().await else { continue };
            if now == used {
                failed = None;
            } else if now == seen {
                let outcome = self.read_again().await;
                // Changed while they were being read: what was read may be of either.
                let unchanged = self.look().await.is_some_and(|after| after == now);
                match outcome {
                    _ if !unchanged => {}
                    Ok(value) => {
                        self.replace(value);
                        used.clone_from(&now);
                        let what = self.shared.what;
                        tracing::info!(what, "files changed: the new contents are in use");
                    }
                    Err(error) if failed.as_ref() == Some(&error) => {}
                    Err(error) => {
                        let what = self.shared.what;
                        tracing::error!(
                            what,
                            error,
                            "files changed, but cannot be used: the old contents stay"
                        );
                        failed = Some(error);
                    }
                }
            }
            seen = now;
        }
    }

    async fn look(&self) -> Option<Vec<u8>> {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || fingerprint(&shared.files)).await.ok()
    }

    async fn read_again(&self) -> Result<T, String> {
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || (shared.read)()).await;
        read.map_err(|error| error.to_string()).and_then(|read| read)
    }
}

/// A digest of what is in the files; a file that cannot be read counts as a content of its own.
fn fingerprint(files: &[PathBuf]) -> Vec<u8> {
    let mut all = Context::new(&SHA256);
    for file in files {
        let contents = digest(file);
        all.update(contents.as_deref().unwrap_or(b"unreadable"));
    }
    all.finish().as_ref().to_vec()
}

fn digest(file: &Path) -> io::Result<Vec<u8>> {
    Ok(ring::digest::digest(&SHA256, &fs::read(file)?).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(file: &Path) -> Result<u32, String> {
        fs::read_to_string(file).map_err(|e| e.to_string())?.trim().parse().map_err(|_| "no number".into())
    }

    async fn until(watched: &Watched<u32>, value: u32) {
        let mut versions = watched.versions();
        let waiting = async {
            while *watched.current() != value {
                versions.changed().await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.unwrap();
    }

    #[tokio::test]
    async fn a_new_content_is_taken_over_and_a_broken_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("n");
        fs::write(&file, "1").unwrap();
        let of = file.clone();
        let watched = Watched::load("a number", vec![file.clone()], move || number(&of)).unwrap();
        let drain = Drain::new();
        let keeping = tokio::spawn(watched.clone().keep(Duration::from_millis(1), drain.clone()));
        fs::write(&file, "2").unwrap();
        until(&watched, 2).await;
        fs::write(&file, "none").unwrap();
        fs::remove_file(&file).unwrap();
        assert_eq!(*watched.current(), 2);
        fs::write(&file, "3").unwrap();
        until(&watched, 3).await;
        drain.start();
        keeping.await.unwrap();
    }

    #[test]
    fn the_first_reading_must_succeed() {
        let file = PathBuf::from("/nonexistent/n");
        let of = file.clone();
        assert!(Watched::load("a number", vec![file], move || number(&of)).is_err());
    }

    /// Contents that are written in parts are taken when they are whole, and what fails is tried again:
    /// here it is another file, not watched, that makes it right.
    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_and_a_value_without_files_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (file, permit) = (dir.path().join("n"), dir.path().join("permit"));
        fs::write(&file, "1").unwrap();
        let (of, needs) = (file.clone(), permit.clone());
        let is_first = std::sync::atomic::AtomicBool::new(true);
        let read = move || {
            let is_first = is_first.swap(false, std::sync::atomic::Ordering::SeqCst);
            if is_first || needs.exists() { number(&of) } else { Err("not yet".to_owned()) }
        };
        let watched = Watched::load("a number", vec![file.clone()], read).unwrap();
        let (fixed, drain) = (Watched::fixed("a number", 7_u32), Drain::new());
        let every = Duration::from_millis(10);
        let keeping = tokio::spawn(watched.clone().keep(every, drain.clone()));
        let keeping_fixed = tokio::spawn(fixed.clone().keep(every, drain.clone()));
        fs::write(&file, "2").unwrap();
        tokio::time::sleep(every * 10).await;
        assert_eq!(*watched.current(), 1);
        fs::write(&permit, "").unwrap();
        until(&watched, 2).await;
        assert_eq!((*fixed.current(), *fixed.versions().borrow()), (7, 0));
        drain.start();
        keeping.await.unwrap();
        keeping_fixed.await.unwrap();
    }

    #[test]
    fn all_clones_see_a_replaced_value() {
        let watched = Watched::fixed("a number", 1_u32);
        let other = watched.clone();
        watched.replace(2);
        assert_eq!(*other.current(), 2);
        assert_eq!(*other.versions().borrow(), 1);
    }
}
