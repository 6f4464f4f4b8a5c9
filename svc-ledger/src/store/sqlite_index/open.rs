//! Opening the file, and telling apart what it may be: an index, none, a damaged one, a newer one.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use mesh::store::StoreError;
use rusqlite::{Connection, OpenFlags};

use super::{is_damage, view::View};

/// The schema's version. One that is older is made anew: there is nothing in it that the journal has not.
const VERSION: i64 = 2;

/// Tells an index from other files of the engine.
const APPLICATION: i64 = 0x706d_6c69;

/// The file, and those that belong to it.
#[derive(Debug, Clone)]
pub(super) struct Paths {
    pub(super) file: PathBuf,
    damaged: PathBuf,
}

impl Paths {
    pub(super) fn new(path: &Path) -> Self {
        Self { file: path.to_owned(), damaged: beside(path, ".damaged") }
    }

    pub(super) fn note_damage(&self) -> Result<(), io::Error> {
        std::fs::write(&self.damaged, "")
    }

    fn remove(&self) -> Result<(), io::Error> {
        // The note goes last: whatever comes in between, the rest is removed at the next start.
        for path in [&self.file, &beside(&self.file, "-wal"), &beside(&self.file, "-shm"), &self.damaged] {
            match std::fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(ending);
    name.into()
}

/// The writing connection, and what belongs in memory.
pub(super) fn open(paths: &Paths) -> Result<(Connection, View), StoreError> {
    if paths.damaged.exists() {
        paths.remove()?;
    }
    match try_open(&paths.file) {
        Err(error) if is_damage(&error) => {
            tracing::error!(%error, "the index is damaged: it is made anew from the journal");
            paths.note_damage()?;
            paths.remove()?;
            try_open(&paths.file)
        }
        other => other,
    }
}

fn try_open(path: &Path) -> Result<(Connection, View), StoreError> {
    let connection = Connection::open(path)?;
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && tables > 0 {
        let problem = format!("{} is no index of a ledger: move it away", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem).into());
    }
    if version > VERSION {
        let found = usize::try_from(version).unwrap_or(usize::MAX);
        return Err(StoreError::Newer { found, known: usize::try_from(VERSION).unwrap_or_default() });
    }
    if tables > 0 && version < VERSION {
        return Err(StoreError::Corrupt("the index is of an older program".into()));
    }
    configure(&connection)?;
    if tables == 0 {
        let schema = include_str!("schema.sql");
        connection.execute_batch(&format!(
            "BEGIN IMMEDIATE; {schema}; PRAGMA application_id = {APPLICATION}; \
             PRAGMA user_version = {VERSION}; COMMIT;"
        ))?;
    }
    let view = View::load(&connection)?;
    Ok((connection, view))
}

fn configure(connection: &Connection) -> Result<(), StoreError> {
    let mode: String = connection.pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))?;
    if mode != "wal" {
        let problem = format!("a write-ahead log cannot be had here, only {mode}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, problem).into());
    }
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    // The log is copied by the writer itself, which looks at what comes of it.
    connection.pragma_update(None, "wal_autocheckpoint", 0)?;
    connection.pragma_update(None, "cache_size", -65_536)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

/// A connection that only reads.
pub(super) fn reading(paths: &Paths) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(&paths.file, flags)?;
    connection.pragma_update(None, "cache_size", -16_384)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}
