//! A second place that knows how far the audit log has come: a small file beside it. A log that lost its end
//! looks whole by itself.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use mesh::Drain;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};

use crate::domain::audit::{Link, LinkError};

/// The name of the file in the data directory.
const FILE_NAME: &str = "audit.head";
/// How often the file is written at most: so much of the log's end can be lost unseen after a crash.
const WRITTEN_EVERY: Duration = Duration::from_secs(1);
/// How often the end of the log is told in the process's log at most.
const LOGGED_EVERY: Duration = Duration::from_secs(60);
/// How long calls that are under way when the drain begins may go on to add records.
const LAST_CALLS: Duration = Duration::from_secs(5);

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// It holds something else.
    #[error("{file}: {error}")]
    Content {
        /// Which file.
        file: String,
        /// What it should hold.
        error: LinkError,
    },
    /// It could not be read.
    #[error("{file}: {source}")]
    Io {
        /// Which file.
        file: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The file.
#[derive(Debug, Clone)]
pub struct HeadFile(PathBuf);

impl HeadFile {
    /// That of a data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self(data_dir.join(FILE_NAME))
    }

    /// What is known of the log; [`Link::START`] if there is no such file.
    pub fn read(&self) -> Result<Link, HeadError> {
        let file = || self.0.display().to_string();
        match fs::read_to_string(&self.0) {
            Ok(text) => text.trim_end().parse().map_err(|error| HeadError::Content { file: file(), error }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Link::START),
            Err(source) => Err(HeadError::Io { file: file(), source }),
        }
    }

    /// All or nothing.
    fn write(&self, link: Link) -> io::Result<()> {
        let draft = self.0.with_extension("head.new");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        writeln!(file, "{link}")?;
        file.sync_all()?;
        fs::rename(&draft, &self.0)?;
        File::open(self.0.parent().unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Follows the end of the log, until the drain has begun and nobody adds records any more.
    pub async fn keep(self, mut end: watch::Receiver<Link>, drain: Drain) {
        let mut logged: Option<(Instant, Link)> = None;
        loop {
            let draining = drain.has_started();
            let changed = async {
                if draining {
                    // Until the last recorder is gone.
                    let all = async { while end.changed().await.is_ok() {} };
                    let _ = timeout(LAST_CALLS, all).await;
                } else {
                    let _ = drain.unless_started(end.changed()).await;
                }
            };
            changed.await;
            let (link, now) = (*end.borrow_and_update(), Instant::now());
            if link != Link::START {
                self.clone().write_aside(link).await;
                let due = logged.is_none_or(|(at, _)| now.duration_since(at) >= LOGGED_EVERY) || draining;
                if due && logged.is_none_or(|(_, said)| said != link) {
                    tracing::info!(end = %link, "the audit log");
                    logged = Some((now, link));
                }
            }
            if draining {
                return;
            }
            let _ = drain.unless_started(sleep_until(now + WRITTEN_EVERY)).await;
        }
    }

    async fn write_aside(self, link: Link) {
        let file = self.0.display().to_string();
        let written = tokio::task::spawn_blocking(move || self.write(link)).await;
        if let Ok(Err(error)) = written {
            tracing::warn!(%error, file, "the end of the audit log could not be written down");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(sequence: u64) -> Link {
        Link { sequence, hash: [7; 32] }
    }

    #[tokio::test(start_paused = true)]
    async fn it_follows_the_log_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let file = HeadFile::of(dir.path());
        assert_eq!(file.read().unwrap(), Link::START);
        let (publish, end) = watch::channel(Link::START);
        let drain = Drain::new();
        let keeping = tokio::spawn(file.clone().keep(end, drain.clone()));
        for sequence in [5, 9] {
            publish.send_replace(link(sequence));
            while file.read().unwrap() != link(sequence) {
                tokio::time::sleep(WRITTEN_EVERY).await;
            }
        }
        drain.start();
        publish.send_replace(link(12));
        drop(publish);
        keeping.await.unwrap();
        assert_eq!(file.read().unwrap(), link(12));
    }

    #[test]
    fn one_that_holds_something_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(FILE_NAME), "12").unwrap();
        let refused = HeadFile::of(dir.path()).read().unwrap_err().to_string();
        assert!(refused.contains("audit.head: must be a record's number"), "{refused}");
    }
}
