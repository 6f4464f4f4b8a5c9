//! The audit log as the verbs use it: what was done goes into the log before its answer goes out.
//!
//! While one group of entries becomes durable, the next gathers. A log that does not take a record, or not in
//! time, makes the call fail: [`Recorder::submit`] never waits for longer than its deadline.

mod head;

pub use head::{HeadError, HeadFile};

use std::{future::Future, io, path::Path, sync::Arc, time::Duration};

use mesh::{
    BatchError, BatchLimits, Batcher, Clock, Fault, Metrics, RandomIds, Reason, StartError, StoreError,
    SystemClock,
};
use tokio::{
    runtime::Handle,
    sync::watch,
    time::{Instant, timeout_at},
};

use crate::{
    config::Config,
    domain::audit::{ChainKey, Entry, Link, Offence, Outcome, Verifier, merge},
    opening::Opening,
    root::Roots,
    store::{AuditLog, EmbeddedAuditLog, EmbeddedStore},
};

/// Records that are read at once.
pub(crate) const READ_AT_ONCE: usize = 1_024;
/// Calls whose records may wait. More are refused at once.
const QUEUE_MAX: usize = 16_384;

/// What one call leaves. Most leave one entry, which costs no allocation.
#[derive(Debug, Clone)]
pub enum Entries {
    /// One.
    One(Entry),
    /// Any number; equal ones are added up.
    Many(Vec<Entry>),
}

impl From<Entry> for Entries {
    fn from(entry: Entry) -> Self {
        Self::One(entry)
    }
}

impl From<Vec<Entry>> for Entries {
    fn from(entries: Vec<Entry>) -> Self {
        Self::Many(entries)
    }
}

impl IntoIterator for Entries {
    type Item = Entry;
    type IntoIter = std::iter::Chain<std::option::IntoIter<Entry>, std::vec::IntoIter<Entry>>;

    fn into_iter(self) -> Self::IntoIter {
        let (one, many) = match self {
            Self::One(entry) => (Some(entry), Vec::new()),
            Self::Many(entries) => (None, entries),
        };
        one.into_iter().chain(many)
    }
}

/// Why a record was not kept. The log says more.
#[derive(Debug, Clone, Copy)]
struct NotKept;

/// Puts entries into the audit log. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    queue: Batcher<Entries, Result<(), NotKept>>,
    deadline: Duration,
}

impl Recorder {
    /// Records to `log`, which must hold `known`. What is returned beside it tells the end of the log as it
    /// grows. Must be called within a runtime.
    pub fn start(
        log: impl AuditLog,
        known: Link,
        clock: Arc<dyn Clock>,
        deadline: Duration,
        metrics: &Metrics,
    ) -> io::Result<(Self, watch::Receiver<Link>)> {
        let (publish, end) = watch::channel(known);
        let records = metrics.counter("crypto_audit_records", "Records of the audit log that were kept");
        let failures = metrics.counter("crypto_audit_failures", "Groups of entries that were not kept");
        let runtime = Handle::current();
        let mut failing = false;
        let write = move |group: Vec<Entries>| {
            let calls = group.len();
            let entries = merge(group.into_iter().flatten());
            let (count, known) = (entries.len() as u64, *publish.borrow());
            let kept = match runtime.block_on(log.append(entries, known, clock.now())) {
                Ok(end) => {
                    records.inc_by(count);
                    publish.send_replace(end);
                    Ok(())
                }
                Err(error) => {
                    failures.inc();
                    if !failing {
                        // Once, and not for every call from then on.
                        tracing::error!(%error, "the audit log takes no records: every verb is refused");
                    }
                    Err(NotKept)
                }
            };
            if failing && kept.is_ok() {
                tracing::warn!("the audit log takes records again");
            }
            failing = kept.is_err();
            vec![kept; calls]
        };
        let limits = BatchLimits { items_max: QUEUE_MAX, queue_max: QUEUE_MAX };
        // A thread, so that what was handed in is kept also where the caller has gone away.
        let queue = Batcher::on_thread("crypto-audit", limits, write)?;
        Ok((Self { queue, deadline }, end))
    }

    /// Hands entries in now. What is returned is done when they are durable, and until then no answer may be
    /// given. An empty list is done at once.
    ///
    /// # Errors
    /// [`Reason::Unavailable`]: the log did not take them in time, or not at all. They may be in it all the same.
    pub fn submit<E: Into<Entries>>(
        &self,
        entries: E,
    ) -> impl Future<Output = Result<(), Fault>> + Send + use<E> {
        let entries = entries.into();
        let nothing = matches!(&entries, Entries::Many(entries) if entries.is_empty());
        let until = Instant::now() + self.deadline;
        let submitted = (!nothing).then(|| self.queue.submit(entries));
        async move {
            let Some(submitted) = submitted else { return Ok(()) };
            let kept = async { submitted?.await };
            match timeout_at(until, kept).await {
                Ok(Ok(Ok(()))) => Ok(()),
                Ok(Ok(Err(NotKept)) | Err(BatchError::Full | BatchError::Closed | BatchError::Broken))
                | Err(_) => Err(not_kept()),
            }
        }
    }
}

fn not_kept() -> Fault {
    Fault::new(Reason::Unavailable, "The audit log did not take the record of this call; try again.")
        .retry_after_s(1)
}

/// What came of a call, as the log keeps it.
pub fn outcome_of<T>(result: &Result<T, Fault>) -> Outcome {
    match result {
        Ok(_) => Outcome::Done,
        Err(fault) => Outcome::Refused(fault.reason().as_str().into()),
    }
}

/// Checks all that a log holds. `progress` is told of every part and may end it by saying no.
///
/// # Errors
/// Where the log cannot be read; what is wrong with it is in what is returned.
pub async fn verify(
    log: &impl AuditLog,
    key: ChainKey,
    known: Vec<Link>,
    mut progress: impl FnMut(Link) -> bool,
) -> Result<(Link, Option<Offence>), StoreError> {
    // What is kept meanwhile is not waited for.
    let total = log.end(Link::START).await?.sequence;
    let mut verifier = Verifier::new(key, known);
    while verifier.end().sequence < total {
        let found = log.records(verifier.end().sequence, READ_AT_ONCE).await?;
        if found.is_empty() {
            break;
        }
        for found in found {
            if let Err(offence) = verifier.check(found.sequence, found.chained.as_ref()) {
                return Ok((verifier.end(), Some(offence)));
            }
        }
        if !progress(verifier.end()) {
            break;
        }
    }
    Ok((verifier.end(), verifier.finish().err()))
}

/// Checks the audit log in the data directory of a service that is stopped, as it is configured. Nothing is written:
/// neither log nor store is changed, and no root of trust is made or adopted. `known`: a place that the log is known to
/// have had, beside what `audit.head` knows.
///
/// # Errors
/// That it is running, or keeps its log in PostgreSQL; that a file is missing, of an earlier or a later version, or cannot
/// be read; that the root of trust does not unwrap the log's key.
pub async fn verify_stopped(
    data_dir: &Path,
    config: &Config,
    known: Option<Link>,
    progress: impl FnMut(Link) -> bool,
) -> Result<(Link, Option<Offence>), StartError> {
    if config.postgres.is_some() {
        return Err(StartError::Config(
            "postgres: the audit log is in PostgreSQL: a replica verifies it, which must run".to_owned(),
        ));
    }
    let [file, keys] = ["audit.db", "crypto.db"].map(|name| data_dir.join(name));
    file.metadata().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => StartError::Config(format!(
            "there is no {}: a log in PostgreSQL is verified by a replica that runs",
            file.display()
        )),
        _ => StartError::io(file.display().to_string())(error),
    })?;
    // The key is with the log, or the log is not this store's.
    keys.metadata().map_err(StartError::io(keys.display().to_string()))?;
    let _lock = mesh::service::lock(data_dir)?;
    // A root key is expected, and not made.
    let roots = Roots::open(config, data_dir, true)?;
    let store = EmbeddedStore::open_read_only(&keys)?;
    let key = Opening::new(store, roots, Arc::new(SystemClock), Arc::new(RandomIds)).look().await?;
    let head = HeadFile::of(data_dir).read().map_err(|error| StartError::Config(error.to_string()))?;
    let log = EmbeddedAuditLog::open_read_only(&file, key.clone())?;
    Ok(verify(&log, key, known.into_iter().chain([head]).collect(), progress).await?)
}

#[cfg(test)]
mod tests;
