//! The ledger on one machine: the journal in files, the index in SQLite, snapshots beside them.
//!
//! ```text
//! journal/        what happened, in segments: the truth
//! journal.key     the key of its hashes
//! snapshots/      the state after some record, so that a start need not replay everything
//! index.db        for looking things up; made anew from the journal where it is missing
//! ```

mod keeper;

use std::{
    path::Path,
    thread::Thread,
    time::{Duration, Instant},
};

use tokio::{runtime::Handle, sync::watch};

use self::keeper::Keeper;
use super::{
    Led, OpenError,
    ports::Snapshot,
    recovery::{Recovery, RecoveryError},
    sqlite_index::SqliteIndex,
};
use crate::{
    engine::{Beginning, Engine, EngineError},
    journal::{
        Chain, Link,
        chain::{HASH_BYTES, HEADER_BYTES},
        files::{FileJournal, JournalReader, KeySource, SEGMENT_BYTES},
        snapshot::Snapshots,
    },
};

/// The ledger's file before there was a journal.
const FORMER_FILE: &str = "ledger.db";

/// About how many bytes an event takes in the journal.
const EVENT_BYTES: u64 = 85;

/// How many bytes a record takes besides its events: its header and its hash.
const RECORD_BYTES: u64 = (HEADER_BYTES + HASH_BYTES) as u64;

/// How often a long start says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// How many bytes the journal grows by between two snapshots: some 1.5 million transfers, which a start
/// replays in a few seconds.
const SNAPSHOT_BYTES: u64 = 128 << 20;

/// The ledger in one directory. Cheap to clone.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Engine<SqliteIndex>,
    archive: JournalReader,
    /// Who keeps snapshots; open as long as it runs.
    keeper: Thread,
    keeping: watch::Receiver<()>,
}

impl EmbeddedStore {
    /// Opens or creates the ledger in a directory.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn open(dir: &Path) -> Result<Self, OpenError> {
        Self::open_with(dir, SEGMENT_BYTES, SNAPSHOT_BYTES).await
    }

    /// The same with segments and distances between snapshots of these many bytes.
    pub async fn open_with(dir: &Path, segment_bytes: u64, snapshot_bytes: u64) -> Result<Self, OpenError> {
        let (dir, runtime) = (dir.to_owned(), Handle::current());
        let opening = tokio::task::spawn_blocking(move || begin(&dir, segment_bytes, &runtime));
        let Begun { beginning, archive, snapshots, replayed } =
            opening.await.map_err(|_| OpenError::Panicked)??;
        let engine = Engine::start(beginning)?;
        let keeper = Keeper {
            reader: archive.clone(),
            snapshots,
            durable: engine.durable(),
            behind: replayed,
            every: snapshot_bytes,
        };
        let (keeping_to, keeping) = watch::channel(());
        let work = move || {
            keeper.run();
            drop(keeping_to);
        };
        let keeper = std::thread::Builder::new().name("ledger-snapshots".to_owned()).spawn(work)?;
        Ok(Self { engine, archive, keeper: keeper.thread().clone(), keeping })
    }

    /// Done when the journal has failed, with the reason: nothing is served any more.
    pub fn stopped(&self) -> impl Future<Output = EngineError> + Send + use<> {
        self.engine.stopped()
    }

    /// Lets go of the ledger; done when its files are free, which is when the last clone is gone too.
    pub async fn close(self) {
        let Self { engine, archive: _, keeper, mut keeping } = self;
        engine.close().await;
        keeper.unpark();
        // An error says that its thread is gone.
        while keeping.changed().await.is_ok() {}
    }
}

impl Led for EmbeddedStore {
    type Index = SqliteIndex;
    type Archive = JournalReader;
    /// There is one: nobody else can write while this process lives.
    type Term = ();

    fn lead(&self) -> Result<(Engine<SqliteIndex>, ()), EngineError> {
        Ok((self.engine.clone(), ()))
    }

    fn confirm(&self, (): ()) -> Result<(), EngineError> {
        Ok(())
    }

    fn archive(&self) -> JournalReader {
        self.archive.clone()
    }
}

/// All that a start found.
struct Begun {
    beginning: Beginning<FileJournal, SqliteIndex>,
    archive: JournalReader,
    snapshots: Snapshots,
    /// About how many bytes of the journal were replayed.
    replayed: u64,
}

fn begin(dir: &Path, segment_bytes: u64, runtime: &Handle) -> Result<Begun, OpenError> {
    let former = dir.join(FORMER_FILE);
    if former.exists() {
        return Err(OpenError::Former(former));
    }
    let (journal, recovered) =
        FileJournal::open(&dir.join("journal"), KeySource::KeptIn(dir), segment_bytes)?;
    if let Some(cut) = recovered.cut {
        tracing::warn!(?cut, "a torn end of the journal, which nobody was told of, was cut off");
    }
    let (reader, key) = (journal.reader(), journal.key().clone());
    let snapshots = Snapshots::open(&dir.join("snapshots"), key.clone())?;
    let index = SqliteIndex::open(&dir.join("index.db")).map_err(RecoveryError::from)?;
    let recovery = match runtime.block_on(recover(&reader, &snapshots, &recovered.link, index.clone())) {
        // An index is made anew. One that knows more than the journal does is a sign of a journal that lost
        // its end, and stays refused.
        Err(RecoveryError::Ahead { what: super::recovery::INDEX, why: super::recovery::ANOTHER, at }) => {
            tracing::warn!(at, "the index is of another journal and is made anew");
            index.clear().map_err(RecoveryError::from)?;
            runtime.block_on(recover(&reader, &snapshots, &recovered.link, index))?
        }
        other => other?,
    };
    let (recovery, replayed) = recovery;
    let (book, index, unindexed) = runtime.block_on(recovery.finish())?;
    let chain = Chain::new(key, recovered.link);
    let beginning = Beginning { book, chain, journal, index, unindexed };
    Ok(Begun { beginning, archive: reader, snapshots, replayed })
}

async fn recover(
    reader: &JournalReader,
    snapshots: &Snapshots,
    end: &Link,
    index: SqliteIndex,
) -> Result<(Recovery<SqliteIndex>, u64), RecoveryError> {
    let (snapshot, durable) = (snapshots.load(end)?, end.sequence);
    if snapshot.is_none() && durable > 0 {
        tracing::info!(records = durable, "there is no snapshot: the whole journal is replayed");
    }
    let snapshot = snapshot.unwrap_or_else(Snapshot::empty);
    let kept = snapshot.sequence;
    let mut recovery = Recovery::begin(snapshot, index).await?;
    let mut replayed = 0;
    let mut said = Instant::now();
    for record in reader.replay_from(recovery.from(), durable)? {
        let record = record?;
        if said.elapsed() >= PROGRESS_EVERY {
            tracing::info!(record = record.sequence, of = durable, "replaying the journal");
            said = Instant::now();
        }
        if record.sequence > kept {
            replayed += RECORD_BYTES + EVENT_BYTES * record.events.len() as u64;
        }
        recovery.take(record).await?;
    }
    Ok((recovery, replayed))
}

#[cfg(test)]
mod tests {
    use money::Timestamp;

    use super::*;
    use crate::{
        domain::{AccountFlags, AccountId, Given, NewAccount, Reference},
        store::{
            Store as _, contract,
            ports::{AccountFilter, Period, Window},
        },
    };

    async fn fresh() -> (EmbeddedStore, tempfile::TempDir) {
        let dir = tempfile::tempdir().unwrap();
        (EmbeddedStore::open(dir.path()).await.unwrap(), dir)
    }

    crate::store::contract::suite!(fresh().await);

    #[tokio::test]
    async fn what_was_answered_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).await.unwrap();
        contract::before_a_restart(&store).await;
        store.close().await;
        contract::after_a_restart(&EmbeddedStore::open(dir.path()).await.unwrap()).await;
    }

    fn account(bits: u128) -> NewAccount {
        NewAccount {
            id: Given::Value(AccountId::new(bits).unwrap()),
            tenant: Given::Value("acme".parse().unwrap()),
            ledger: Given::Value("EUR".parse().unwrap()),
            code: Given::Value("cash".parse().unwrap()),
            flags: Some(AccountFlags::NONE),
            user_data: 0,
            reference: Some(Reference::default()),
            limit: 0,
            has_balances: false,
            has_timestamp: false,
        }
    }

    /// Opens a handful of accounts a call, so that there are many records.
    async fn grow(store: &EmbeddedStore, from: u128, to: u128) {
        for bits in from..to {
            let now = Timestamp::from_nanos(1_000);
            store.open_accounts(vec![account(3 * bits), account(3 * bits + 1)], now).await.unwrap();
        }
    }

    fn snapshots(dir: &Path) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(dir.join("snapshots")).unwrap().map(|entry| entry.unwrap().path());
        let mut found: Vec<_> = entries.filter(|path| path.extension().unwrap() == "snap").collect();
        found.sort();
        found
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_start_goes_on_from_a_snapshot_or_the_one_before_it() {
        let dir = tempfile::tempdir().unwrap();
        let open = || EmbeddedStore::open_with(dir.path(), 4_096, 4_096);
        let store = open().await.unwrap();
        let mut at = 1;
        while snapshots(dir.path()).len() < 2 {
            grow(&store, at, at + 20).await;
            at += 20;
        }
        store.close().await;

        let damaged = snapshots(dir.path()).pop().unwrap();
        let mut bytes = std::fs::read(&damaged).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&damaged, bytes).unwrap();
        let store = open().await.unwrap();
        let report = store.audit().await.unwrap();
        assert_eq!((report.accounts, report.offences), (i64::try_from(2 * (at - 1)).unwrap(), vec![]));
        store.close().await;

        std::fs::remove_dir_all(dir.path().join("snapshots")).unwrap();
        std::fs::remove_file(dir.path().join("index.db")).unwrap();
        let store = open().await.unwrap();
        let report = store.audit().await.unwrap();
        assert_eq!((report.accounts, report.offences), (i64::try_from(2 * (at - 1)).unwrap(), vec![]));
    }

    /// What is opened counts as what is moved does, also over starts between which it is too little.
    #[tokio::test(flavor = "multi_thread")]
    async fn accounts_alone_have_a_snapshot_kept() {
        let dir = tempfile::tempdir().unwrap();
        let open = || EmbeddedStore::open_with(dir.path(), 4_096, 40_000);
        let mut at = 1;
        loop {
            let store = open().await.unwrap();
            grow(&store, at, at + 40).await;
            at += 40;
            store.close().await;
            if !snapshots(dir.path()).is_empty() {
                break;
            }
            assert!(at < 2_000, "no snapshot of {at} calls");
        }
        assert!(at > 41, "one start was not enough");
        let store = open().await.unwrap();
        let report = store.audit().await.unwrap();
        assert_eq!((report.accounts, report.offences), (i64::try_from(2 * (at - 1)).unwrap(), vec![]));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_audit_beside_writes_compares_one_moment_with_itself() {
        let (store, _dir) = fresh().await;
        let writers: Vec<_> = (0..16_u128)
            .map(|writer| {
                let store = store.clone();
                tokio::spawn(async move {
                    let from = 1_000 * writer + 1;
                    grow(&store, from, from + 100).await;
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            assert_eq!(store.audit().await.unwrap().offences, Vec::<String>::new());
        }
        let report = store.audit().await.unwrap();
        assert_eq!((report.accounts, report.offences), (3_200, vec![]));
    }

    /// A file that somebody else wrote into while it was open.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_damaged_index_ends_the_ledger_and_is_made_anew_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).await.unwrap();
        contract::before_a_restart(&store).await;
        store.engine.index().await.unwrap();
        let other = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
        assert!(other.execute("UPDATE movements SET body = x'00'", []).unwrap() > 0);
        drop(other);
        let stopped = store.stopped();
        let filter = crate::store::index_contract::any("acme");
        let told = store.find_transfers(filter).await.unwrap_err();
        assert!(matches!(told, EngineError::Index(_)), "{told:?}");
        assert_eq!(stopped.await, told);
        let again = store.open_accounts(vec![account(7)], Timestamp::from_nanos(1_000)).await.unwrap_err();
        assert_eq!(again, told, "nothing more is served");
        store.close().await;
        contract::after_a_restart(&EmbeddedStore::open(dir.path()).await.unwrap()).await;
    }

    /// Something stands where the journal's next record belongs.
    #[tokio::test(flavor = "multi_thread")]
    async fn an_index_that_contradicts_the_journal_ends_the_ledger_and_is_made_anew_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(dir.path()).await.unwrap();
        let other = rusqlite::Connection::open(dir.path().join("index.db")).unwrap();
        other.execute("INSERT INTO accounts VALUES (1000, zeroblob(16), 0, 0, 0, 0, 0, '')", []).unwrap();
        drop(other);
        grow(&store, 1, 2).await;
        let stopped = tokio::time::timeout(Duration::from_secs(10), store.stopped()).await;
        assert!(matches!(stopped, Ok(EngineError::Index(_))), "{stopped:?}");
        store.close().await;
        let store = EmbeddedStore::open(dir.path()).await.unwrap();
        let everything = Period { from: Timestamp::EPOCH, to: Timestamp::from_nanos(2_000) };
        let window = Window { newest_first: false, limit: 10 };
        let filter = AccountFilter::any("acme".parse().unwrap(), everything, window);
        assert_eq!(store.find_accounts(filter).await.unwrap().items.len(), 2, "what was durable is there");
    }

    #[tokio::test]
    async fn a_ledger_of_before_the_journal_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FORMER_FILE), b"").unwrap();
        assert!(matches!(EmbeddedStore::open(dir.path()).await, Err(OpenError::Former(_))));
    }
}
