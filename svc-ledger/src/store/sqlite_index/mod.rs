//! The embedded store's index: what the journal says, arranged for looking up, in one SQLite file.
//!
//! It is derived: a file that is missing or damaged is made anew, empty, and the engine applies the journal
//! to it again. So a commit waits for no sync. It is `synchronous = NORMAL` nevertheless, not `OFF`: then
//! the log is synced before it is copied into the file, and the file before the log is begun anew, so that
//! after a power loss the file is as it was after *some* commit, and the watermark, which moves in the same
//! commit, claims nothing that is lost. With `OFF` the pages of one commit may reach the disk in part.
//!
//! What an `apply` writes decides how fast the ledger can go on and on, so all of it is appends:
//!
//! - `movements`, keyed by time: a transfer, or a reservation's lapse, packed into one value, with the
//!   balances after it of those accounts that keep their history.
//! - `ids`: client's id to time; of a burned one, -1 less its tenant's word. Ids that begin with the time are appended; random
//!   ones are written all over the tree, which is the one cost here that grows with what is held.
//! - `resolutions`: how a reservation ended.
//! - `postings`: who was moved when, by generations (see `posting`). The last, open generation is in memory,
//!   and read again from `movements` at the start.
//!
//! `apply` and what the executor looks up block their thread, which is the caller's own, and have a connection each:
//! nothing that anybody else asks makes the engine wait. Other questions, lookups by id among them, are answered by
//! blocking threads of the runtime, a few at once, each with a connection to itself.

mod body;
mod bytes;
mod known;
mod open;
mod posting;
mod query;
mod reading;
mod search;
#[cfg(test)]
mod tests;
mod view;
mod words;
mod write;

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
};

use mesh::store::StoreError;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::Semaphore;

use self::{open::Paths, reading::Reading, view::View, words::Words};
use super::ports::{
    AccountFilter, BalanceAt, BalanceFilter, Happened, Index, Page, TransferFilter, Watermark,
};
use crate::domain::{AccountId, Known, Transfer, TransferId};

/// Questions that are answered at once; others wait.
const READERS: usize = 4;

/// What is not asked of the configuration: it is measured, and smaller in tests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tuning {
    /// Movements of a generation. In memory each costs about 100 bytes while the generation is open, and
    /// opening the file reads up to so many; each closed one costs a question a lookup per key.
    pub(super) generation: usize,
    /// Movements that one question may look at.
    pub(super) budget: usize,
    /// Pages in the log that are not yet in the file, above which they are copied: 64 MiB.
    pub(super) log_pages: i64,
}

impl Default for Tuning {
    fn default() -> Self {
        Self { generation: 262_144, budget: 20_000, log_pages: 16_384 }
    }
}

/// The index in one local file. Cheap to clone.
#[derive(Clone)]
pub struct SqliteIndex {
    shared: Arc<Shared>,
    /// Whether it is the executor's.
    decides: bool,
}

struct Shared {
    paths: Paths,
    tuning: Tuning,
    /// The executor's alone.
    knower: Mutex<Connection>,
    readers: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
    /// After those that read, which cannot copy the log: the last connection that is closed does.
    writer: Mutex<Connection>,
    /// What is in memory of the last commit. Locked for writing while a commit becomes visible, so that
    /// whoever begins to read under the lock sees both as of the same commit.
    view: RwLock<Arc<View>>,
    /// All words of the last commit, and perhaps some of the next: for those who read without the view.
    words: RwLock<Arc<Words>>,
}

impl SqliteIndex {
    /// Opens the file, or makes it: anew where it is damaged, which [`Index::applied`] shows. A file of a
    /// newer program is refused, and one that is no index, too. Reads up to a generation of movements.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Self::tuned(path, Tuning::default())
    }

    fn tuned(path: &Path, tuning: Tuning) -> Result<Self, StoreError> {
        let paths = Paths::new(path);
        let (writer, view) = open::open(&paths)?;
        let knower = open::reading(&paths)?;
        let words = Arc::clone(&view.words);
        let shared = Shared {
            paths,
            tuning,
            writer: Mutex::new(writer),
            view: RwLock::new(Arc::new(view)),
            words: RwLock::new(words),
            knower: Mutex::new(knower),
            readers: Mutex::new(Vec::new()),
            turns: Arc::new(Semaphore::new(READERS)),
        };
        Ok(Self { shared: Arc::new(shared), decides: false })
    }

    /// Forgets everything, for an index that turns out to be of another journal. Blocks.
    pub fn clear(&self) -> Result<(), StoreError> {
        self.shared.noting_damage(write::clear(&self.shared))
    }

    /// Runs a question on a connection and a thread to itself.
    async fn read<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection, &View, usize) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let turn = Arc::clone(&self.shared.turns).acquire_owned().await;
        let shared = Arc::clone(&self.shared);
        let answering = tokio::task::spawn_blocking(move || {
            // Given back when the work is over, which may be after its caller went away.
            let _turn = turn;
            shared.noting_damage(shared.answer(question))
        });
        answering.await.unwrap_or_else(|_| Err(StoreError::Commit("a question panicked".into())))
    }
}

impl Shared {
    fn answer<T>(
        &self,
        question: impl FnOnce(&Connection, &View, usize) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let connection = match lock(&self.readers).pop() {
            Some(connection) => connection,
            None => open::reading(&self.paths)?,
        };
        let answer = {
            let view = self.view.read().unwrap_or_else(PoisonError::into_inner);
            let snapshot = Reading::begin(&connection)?;
            // The snapshot is taken by the first thing read in it.
            snapshot
                .prepare_cached("SELECT sequence FROM watermark")?
                .query_row([], |row| row.get::<_, i64>(0))?;
            let seen = Arc::clone(&view);
            drop(view);
            question(&snapshot, &seen, self.tuning.budget)?
        };
        lock(&self.readers).push(connection);
        Ok(answer)
    }

    /// Leaves a note when the file turns out to be damaged, so that the next start makes it anew.
    fn noting_damage<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        result.map_err(|error| {
            if !is_damage(&error) {
                return error;
            }
            tracing::error!(%error, "the index is damaged");
            // Where that fails, it says so; whoever asks whether it was noted does it again.
            let _ = self.note_damage();
            StoreError::Corrupt(error.to_string())
        })
    }

    /// Whether it is noted.
    fn note_damage(&self) -> bool {
        let noted = self.paths.note_damage();
        if let Err(error) = &noted {
            let file = self.paths.file.display();
            tracing::error!(%error, "it could not be noted that the index is damaged: delete {file} before the next start");
        }
        noted.is_ok()
    }
}

impl Index for SqliteIndex {
    fn for_writes(&self) -> Self {
        Self { decides: true, ..self.clone() }
    }

    fn give_up(&self) -> bool {
        self.shared.note_damage()
    }

    async fn applied(&self) -> Result<Watermark, StoreError> {
        Ok(self.shared.view.read().unwrap_or_else(PoisonError::into_inner).watermark)
    }

    async fn apply(&self, records: Vec<Happened>) -> Result<(), StoreError> {
        self.shared.noting_damage(write::apply(&self.shared, &records))
    }

    async fn known(&self, ids: Vec<TransferId>) -> Result<Vec<(TransferId, Known)>, StoreError> {
        if self.decides {
            return self.shared.noting_damage(known::of_group(&self.shared, ids));
        }
        self.read(move |connection, view, _| known::known(connection, view, ids)).await
    }

    async fn transfers(&self, filter: TransferFilter) -> Result<Page<Transfer>, StoreError> {
        self.read(move |connection, view, budget| query::transfers(connection, view, budget, &filter)).await
    }

    async fn accounts(&self, filter: AccountFilter) -> Result<Page<AccountId>, StoreError> {
        self.read(move |connection, view, budget| query::accounts(connection, view, budget, &filter)).await
    }

    async fn balances(&self, filter: BalanceFilter) -> Result<Page<BalanceAt>, StoreError> {
        self.read(move |connection, view, budget| query::balances(connection, view, budget, &filter)).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the lock guards is changed in one step: a panic elsewhere left nothing half-done in it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn corrupt(what: &str) -> StoreError {
    StoreError::Corrupt(format!("the index holds a {what} that it cannot have written"))
}

fn is_damage(error: &StoreError) -> bool {
    match error {
        StoreError::Corrupt(_) => true,
        StoreError::Engine(error) => {
            matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
        }
        _ => false,
    }
}
