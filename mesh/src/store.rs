//! The embedded engine: SQLite with a write-ahead log, one writer thread with group commit, and
//! reader threads that see only what is durable.
//!
//! Why SQLite: of the embedded engines measured on a small machine with a sync per batch it was the
//! fastest well-kept library at every batch size that the mesh has (ARCHITECTURE.md, "The store").
//! Knows nothing of what is stored.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rusqlite::{Connection, OpenFlags};

use crate::{
    batch::{BatchError, BatchLimits, Batcher},
    fault::{Fault, Reason},
};

/// Why the store did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed. The text is for the log, not for callers.
    #[error("store: {0}")]
    Engine(#[from] rusqlite::Error),
    /// The queue is full, or the writer is gone.
    #[error("store: {0}")]
    Queue(#[from] BatchError),
    /// The batch that the job was part of could not be committed: nothing of it was done.
    #[error("store: commit failed: {0}")]
    Commit(String),
    /// The file was written by a newer version of this program.
    #[error(
        "the store has schema version {found}, this program knows up to {known}: start a newer version of it"
    )]
    Newer {
        /// The version in the file.
        found: usize,
        /// The newest version that this program knows.
        known: usize,
    },
    /// A database server failed, or could not be reached. The text holds no value of a statement.
    #[error("store: the database server: {0}")]
    Server(String),
    /// What is stored cannot be understood.
    #[error("store: {0}")]
    Corrupt(String),
    /// A thread or a file could not be made.
    #[error("store: {0}")]
    Io(#[from] std::io::Error),
}

impl StoreError {
    /// Whether nothing of what was asked for was done. After any other error it may have been.
    pub fn left_nothing(&self) -> bool {
        matches!(self, Self::Commit(_) | Self::Newer { .. } | Self::Queue(BatchError::Full))
    }
}

impl From<StoreError> for Fault {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Queue(queue) => queue.into(),
            StoreError::Server(said) => {
                tracing::error!(error = said, "the database server failed");
                Fault::new(Reason::Unavailable, "The service could not reach its store; try again.")
                    .retry_after_s(1)
            }
            other => {
                tracing::error!(error = %other, "the store failed");
                Fault::new(Reason::Internal, "The service could not reach its store.")
            }
        }
    }
}

type Answer = Box<dyn Any + Send>;
/// Runs on the connection; says whether its savepoint is to be kept, and its answer.
type Job = Box<dyn FnOnce(&Connection) -> (bool, Answer) + Send>;

/// One embedded store. Cheap to clone.
#[derive(Clone)]
pub struct Embedded {
    writer: Batcher<Job, Answered>,
    reader: Batcher<Job, Answered>,
    path: Arc<Path>,
    checkpoints: Arc<Checkpoints>,
}

/// Checkpoints that were asked for, one at a time: SQLite refuses a second one at once.
#[derive(Default)]
struct Checkpoints {
    /// How many have begun.
    begun: AtomicU64,
    /// Which was the last that succeeded.
    done: tokio::sync::Mutex<u64>,
}

/// For how long a checkpoint waits for those who read or write.
const CHECKPOINT_MAX: Duration = Duration::from_secs(5);
/// How soon it tries again.
const CHECKPOINT_AGAIN: Duration = Duration::from_millis(5);

impl Embedded {
    /// Opens or creates the file and brings its schema up to date: `migrations` are applied in order,
    /// each once and each in a transaction. A file from a newer program is refused.
    pub fn open(path: &Path, migrations: &[&str]) -> Result<Self, StoreError> {
        let connection = Connection::open(path)?;
        configure(&connection)?;
        migrate(&connection, migrations)?;
        let limits = BatchLimits::default();
        let name = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or("store").to_owned();
        let writer =
            Batcher::on_thread(&format!("{name}-writer"), limits, move |jobs| commit(&connection, jobs))?;

        let connection = open_for_reading(path)?;
        let reader =
            Batcher::on_thread(&format!("{name}-reader"), limits, move |jobs| snapshot(&connection, jobs))?;
        Ok(Self { writer, reader, path: path.into(), checkpoints: Arc::default() })
    }

    /// Opens a file that is there to read it, and changes nothing in it: jobs that write fail. One whose schema is not
    /// that of this program is refused.
    pub fn open_read_only(path: &Path, migrations: &[&str]) -> Result<Self, StoreError> {
        let connection = open_for_reading(path)?;
        let (found, known) = (schema_version(&connection)?, migrations.len());
        if found > known {
            return Err(StoreError::Newer { found, known });
        }
        if found < known {
            return Err(StoreError::Corrupt(format!(
                "the file has schema version {found}, and is brought to {known} by a start of the service"
            )));
        }
        let begin = |name: &str, connection: Connection| {
            Batcher::on_thread(name, BatchLimits::default(), move |jobs| snapshot(&connection, jobs))
        };
        let writer = begin("store-no-writer", connection)?;
        let reader = begin("store-reader", open_for_reading(path)?)?;
        Ok(Self { writer, reader, path: path.into(), checkpoints: Arc::default() })
    }

    /// Runs a job that may write. Jobs that wait together share one transaction; a job that returns
    /// an error is rolled back alone. The answer comes after the transaction is on disk.
    pub async fn write<T, E, J>(&self, job: J) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        J: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        call(&self.writer, job).await
    }

    /// Runs a job that only reads. It sees every write that was answered before, and nothing that is
    /// not durable.
    pub async fn read<T, E, J>(&self, job: J) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        J: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        call(&self.reader, job).await
    }

    /// As [`Embedded::read`], on a connection and a thread of its own: for reads so long that others
    /// should not wait for them.
    pub async fn read_aside<T, E, J>(&self, job: J) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
        J: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    {
        let path = Arc::clone(&self.path);
        let reading = tokio::task::spawn_blocking(move || {
            let connection = open_for_reading(&path)?;
            let snapshot = connection.unchecked_transaction().map_err(StoreError::from)?;
            job(&snapshot)
        });
        reading.await.unwrap_or_else(|_| Err(StoreError::Commit("a read panicked".into()).into()))
    }

    /// Moves all that is in the write-ahead log into the file, and empties the log: of what was overwritten
    /// before this, no copy is left in either, where the connection that overwrote it has `secure_delete` on.
    ///
    /// # Errors
    /// [`StoreError::Commit`] where others read for longer than five seconds.
    pub async fn checkpoint(&self) -> Result<(), StoreError> {
        let begun_before = self.checkpoints.begun.load(Ordering::SeqCst);
        let mut done = self.checkpoints.done.lock().await;
        if *done > begun_before {
            // One that began after this was asked for moved all that this one would.
            return Ok(());
        }
        let number = self.checkpoints.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let deadline = tokio::time::Instant::now() + CHECKPOINT_MAX;
        while !self.try_checkpoint().await? {
            if tokio::time::Instant::now() >= deadline {
                return Err(StoreError::Commit("the log is being read".to_owned()));
            }
            tokio::time::sleep(CHECKPOINT_AGAIN).await;
        }
        *done = number;
        Ok(())
    }

    /// Whether it could be done now: while the writer does one of its own, SQLite does not wait.
    async fn try_checkpoint(&self) -> Result<bool, StoreError> {
        let path = Arc::clone(&self.path);
        let moving = tokio::task::spawn_blocking(move || {
            let connection = Connection::open(&path)?;
            connection.busy_timeout(CHECKPOINT_MAX)?;
            let busy: bool = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            Ok(!busy)
        });
        moving.await.unwrap_or_else(|_| Err(StoreError::Commit("a checkpoint panicked".into())))
    }
}

fn open_for_reading(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

async fn call<T, E, J>(queue: &Batcher<Job, Answered>, job: J) -> Result<T, E>
where
    T: Send + 'static,
    E: From<StoreError> + Send + 'static,
    J: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
{
    let erased: Job = Box::new(move |connection| {
        let result = job(connection);
        (result.is_ok(), Box::new(result))
    });
    let answer = queue.call(erased).await.map_err(StoreError::from)?;
    let answer = answer.map_err(|error| StoreError::Commit(error.to_string()))?;
    match answer.downcast::<Result<T, E>>() {
        Ok(result) => *result,
        Err(_) => Err(StoreError::Corrupt("a job answered with another type".into()).into()),
    }
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        // Where it cannot be had (some network file systems) the promises of this module do not hold.
        return Err(StoreError::Corrupt(format!("a write-ahead log cannot be had here, only {mode}")));
    }
    // FULL: a commit returns after the log is synced, so that what was answered survives power loss.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.pragma_update(None, "wal_autocheckpoint", 4_000)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(128);
    Ok(())
}

fn schema_version(connection: &Connection) -> Result<usize, StoreError> {
    let found: u32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    Ok(found as usize)
}

fn migrate(connection: &Connection, migrations: &[&str]) -> Result<(), StoreError> {
    let found = schema_version(connection)?;
    if found > migrations.len() {
        return Err(StoreError::Newer { found, known: migrations.len() });
    }
    for (index, migration) in migrations.iter().enumerate().skip(found) {
        let version = index + 1;
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {migration}; PRAGMA user_version = {version}; COMMIT;"
        ))?;
    }
    Ok(())
}

fn execute(connection: &Connection, statement: &str) -> Result<(), rusqlite::Error> {
    connection.prepare_cached(statement)?.execute([]).map(drop)
}

type Answered = Result<Answer, Arc<str>>;

/// One transaction for all jobs, one savepoint for each.
fn commit(connection: &Connection, jobs: Vec<Job>) -> Vec<Answered> {
    let count = jobs.len();
    try_commit(connection, jobs).unwrap_or_else(|error| {
        abort_if_disk_is_in_doubt(&error);
        let _ = connection.execute_batch("ROLLBACK");
        let reason: Arc<str> = error.to_string().into();
        (0..count).map(|_| Err(Arc::clone(&reason))).collect()
    })
}

fn try_commit(connection: &Connection, jobs: Vec<Job>) -> Result<Vec<Answered>, rusqlite::Error> {
    execute(connection, "BEGIN IMMEDIATE")?;
    let mut answers = Vec::with_capacity(jobs.len());
    for job in jobs {
        execute(connection, "SAVEPOINT job")?;
        let (keep, answer) = run(connection, job);
        if !keep {
            execute(connection, "ROLLBACK TO job")?;
        }
        execute(connection, "RELEASE job")?;
        answers.push(answer);
    }
    execute(connection, "COMMIT")?;
    Ok(answers)
}

/// A job that panics is rolled back alone; the thread, and with it the store, goes on.
fn run(connection: &Connection, job: Job) -> (bool, Answered) {
    match catch_unwind(AssertUnwindSafe(|| job(connection))) {
        Ok((keep, answer)) => (keep, Ok(answer)),
        Err(_panic) => (false, Err("a job panicked".into())),
    }
}

/// After a failed sync nobody knows what is on the disk: only a fresh start with recovery does.
fn abort_if_disk_is_in_doubt(error: &rusqlite::Error) {
    if let rusqlite::Error::SqliteFailure(failure, _) = error
        && failure.code == rusqlite::ErrorCode::SystemIoFailure
    {
        tracing::error!(%error, "the disk failed during a commit: stopping, so that recovery decides");
        std::process::abort();
    }
}

/// One read transaction for all jobs: they see one state.
fn snapshot(connection: &Connection, jobs: Vec<Job>) -> Vec<Answered> {
    if let Err(error) = execute(connection, "BEGIN") {
        let reason: Arc<str> = error.to_string().into();
        return jobs.iter().map(|_| Err(Arc::clone(&reason))).collect();
    }
    let answers = jobs.into_iter().map(|job| run(connection, job).1).collect();
    let _ = execute(connection, "COMMIT");
    answers
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCHEMA: &[&str] = &["CREATE TABLE n (v INTEGER PRIMARY KEY) STRICT"];

    fn insert(v: i64) -> impl FnOnce(&Connection) -> Result<(), StoreError> {
        move |c| Ok(c.prepare_cached("INSERT INTO n VALUES (?1)")?.execute([v]).map(drop)?)
    }

    async fn all(store: &Embedded) -> Vec<i64> {
        store
            .read(|c| {
                let mut statement = c.prepare_cached("SELECT v FROM n ORDER BY v")?;
                let rows = statement.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>()?;
                Ok::<_, StoreError>(rows)
            })
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn checkpoints_at_once_and_beside_writes_all_empty_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(&dir.path().join("t.db"), SCHEMA).unwrap();
        let tasks: Vec<_> = (0..64)
            .map(|v| {
                let store = store.clone();
                tokio::spawn(async move {
                    store.write(insert(v)).await.unwrap();
                    store.checkpoint().await.unwrap();
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let log = std::fs::metadata(dir.path().join("t.db-wal")).unwrap();
        assert_eq!(log.len(), 0, "the last of them came after the last write");
        assert_eq!(all(&store).await.len(), 64);
    }

    #[tokio::test]
    async fn a_failing_job_takes_no_other_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(&dir.path().join("t.db"), SCHEMA).unwrap();
        let jobs = (0..64).map(|i| {
            let store = store.clone();
            tokio::spawn(async move {
                store
                    .write(move |c| {
                        insert(i)(c)?;
                        if i % 2 == 1 { Err(StoreError::Corrupt("odd".into())) } else { Ok(i) }
                    })
                    .await
            })
        });
        for (i, job) in jobs.collect::<Vec<_>>().into_iter().enumerate() {
            assert_eq!(job.await.unwrap().is_ok(), i % 2 == 0);
        }
        assert_eq!(all(&store).await, (0..64).step_by(2).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_panicking_job_is_rolled_back_alone_and_the_store_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let store = Embedded::open(&dir.path().join("t.db"), SCHEMA).unwrap();
        let panicking = store.write::<(), StoreError, _>(|c| {
            insert(1)(c)?;
            panic!("planted")
        });
        assert!(matches!(panicking.await, Err(StoreError::Commit(_))));
        store.write(insert(2)).await.unwrap();
        assert_eq!(all(&store).await, [2]);
    }

    #[tokio::test]
    async fn what_was_answered_is_there_after_reopening_and_a_newer_file_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        let store = Embedded::open(&path, SCHEMA).unwrap();
        store.write(insert(7)).await.unwrap();
        drop(store);
        let newer: &[&str] = &[SCHEMA[0], "CREATE TABLE m (v INTEGER) STRICT"];
        assert_eq!(all(&Embedded::open(&path, newer).unwrap()).await, [7]);
        assert!(matches!(Embedded::open(&path, SCHEMA), Err(StoreError::Newer { found: 2, known: 1 })));
    }

    #[tokio::test]
    async fn one_that_is_opened_to_be_read_is_not_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("read.db");
        assert!(Embedded::open_read_only(&path, SCHEMA).is_err() && !path.exists(), "none is made");
        let store = Embedded::open(&path, SCHEMA).unwrap();
        store.write(insert(1)).await.unwrap();
        // Its threads close the file a moment later, and would write then what is not in it yet.
        store.checkpoint().await.unwrap();
        drop(store);
        let before = std::fs::read(&path).unwrap();
        let store = Embedded::open_read_only(&path, SCHEMA).unwrap();
        assert_eq!(all(&store).await, [1]);
        assert!(store.write(insert(2)).await.is_err());
        assert_eq!(all(&store).await, [1]);
        drop(store);
        assert!(Embedded::open_read_only(&path, &[SCHEMA[0], SCHEMA[0]]).is_err(), "nor migrated");
        assert!(matches!(
            Embedded::open_read_only(&path, &[]),
            Err(StoreError::Newer { found: 1, known: 0 })
        ));
        assert!(std::fs::read(&path).unwrap() == before, "the file is another one");
    }
}
