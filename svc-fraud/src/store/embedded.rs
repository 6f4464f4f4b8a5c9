//! The store on the embedded engine.
//!
//! Assessments are rows; the windows are in memory, touched only by the engine's writer, and rebuilt at
//! start from the rows of the longest window. The other way, buckets kept as rows, would cost six
//! updates at random places of the file for each payment, and those are what a commit is slow with;
//! the rebuild costs a start about a second for each million rows, and is bounded.

use std::{
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use mesh::{Embedded, StoreError};
use money::{Currency, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Store;
use crate::domain::{
    Assessment, Entity, Fingerprint, Limits, Outcome, RuleSet, Subject, Window, Windows, decide,
};

/// The fingerprint is kept, the card's digits are not: a keyed hash and a truncated number of one card
/// must not lie side by side (PCI DSS 3.5.1). The index lists, by time, what counts for the windows.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE assessments (
        tenant TEXT NOT NULL,
        payment_id BLOB NOT NULL CHECK (length(payment_id) = 16),
        assessed_at INTEGER NOT NULL,
        outcome INTEGER NOT NULL CHECK (outcome BETWEEN 1 AND 3),
        score INTEGER NOT NULL CHECK (score BETWEEN 0 AND 100),
        reasons TEXT NOT NULL,
        counted INTEGER NOT NULL CHECK (counted IN (0, 1)),
        fingerprint TEXT NOT NULL,
        amount INTEGER NOT NULL,
        currency TEXT NOT NULL,
        PRIMARY KEY (tenant, payment_id)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX assessments_counted ON assessments (assessed_at) WHERE counted = 1;
"];

/// How much is kept in memory.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Of the windows.
    pub limits: Limits,
    /// The most rows that a start reads to rebuild the windows; beyond them the newest count.
    pub rebuild_rows_max: u32,
}

/// Assessments in the embedded engine, windows in memory.
#[derive(Clone)]
pub struct EmbeddedStore {
    engine: Embedded,
    rules: Arc<RuleSet>,
    windows: Arc<Mutex<Windows>>,
}

impl EmbeddedStore {
    /// Opens the file, or makes it, and rebuilds the windows as of `now`.
    pub async fn open(
        path: &Path,
        rules: RuleSet,
        options: Options,
        now: Timestamp,
    ) -> Result<Self, StoreError> {
        let engine = Embedded::open(path, MIGRATIONS)?;
        let windows = engine.read(move |connection| rebuild(connection, options, now)).await?;
        tracing::info!(
            entities = windows.entities(),
            cells = windows.cells(),
            evicted = windows.evicted(),
            "the velocity windows are rebuilt"
        );
        Ok(Self { engine, rules: Arc::new(rules), windows: Arc::new(Mutex::new(windows)) })
    }
}

impl Store for EmbeddedStore {
    async fn assess(&self, subjects: Vec<Subject>, now: Timestamp) -> Result<Vec<Assessment>, StoreError> {
        let (rules, windows) = (Arc::clone(&self.rules), Arc::clone(&self.windows));
        // What this job counted. Jobs share a transaction, so it may have to be taken back after the
        // job itself went well.
        let counted: Arc<Mutex<Vec<Subject>>> = Arc::default();
        let counting = Arc::clone(&counted);
        let outcome = self
            .engine
            .write(move |connection| {
                let mut windows = lock(&windows);
                let mut counted = lock(&counting);
                let assess =
                    |subject| assess_one(connection, &rules, &mut windows, &mut counted, subject, now);
                subjects.into_iter().map(assess).collect::<Result<Vec<_>, StoreError>>()
            })
            .await;
        if outcome.is_err() {
            let mut windows = lock(&self.windows);
            for subject in lock(&counted).drain(..) {
                for entity in subject.entities() {
                    windows.forget(&entity, subject.currency, subject.amount.unsigned_abs(), now);
                }
            }
        }
        outcome
    }
}

/// A panic elsewhere leaves the windows as they are: counts, at worst one short.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn assess_one(
    connection: &Connection,
    rules: &RuleSet,
    windows: &mut Windows,
    counted: &mut Vec<Subject>,
    subject: Subject,
    now: Timestamp,
) -> Result<Assessment, StoreError> {
    if let Some(first) = find(connection, &subject)? {
        return Ok(first);
    }
    let decision = decide(rules, windows, &subject, now);
    insert(connection, &subject, &decision.assessment, decision.counted)?;
    if decision.counted {
        for entity in subject.entities() {
            windows.record(&entity, subject.currency, subject.amount.unsigned_abs(), now);
        }
        counted.push(subject);
    }
    Ok(decision.assessment)
}

fn find(connection: &Connection, subject: &Subject) -> Result<Option<Assessment>, StoreError> {
    let mut select = connection.prepare_cached(
        "SELECT outcome, score, reasons, assessed_at FROM assessments WHERE tenant = ?1 AND payment_id = ?2",
    )?;
    let id = subject.payment_id.uuid();
    let row = select
        .query_row(params![subject.tenant.as_str(), id.as_bytes()], |row| {
            Ok((row.get::<_, u8>(0)?, row.get::<_, u8>(1)?, row.get::<_, String>(2)?, row.get::<_, i64>(3)?))
        })
        .optional()?;
    let Some((outcome, score, reasons, assessed_at)) = row else { return Ok(None) };
    let outcome = match outcome {
        1 => Outcome::Allow,
        2 => Outcome::Review,
        3 => Outcome::Block,
        _ => return Err(StoreError::Corrupt(format!("an assessment has outcome {outcome}"))),
    };
    let reasons = reasons.split_ascii_whitespace().map(Arc::from).collect();
    Ok(Some(Assessment { outcome, score, reasons, assessed_at: Timestamp::from_nanos(assessed_at) }))
}

fn insert(
    connection: &Connection,
    subject: &Subject,
    assessment: &Assessment,
    counted: bool,
) -> Result<(), StoreError> {
    let outcome = match assessment.outcome {
        Outcome::Allow => 1,
        Outcome::Review => 2,
        Outcome::Block => 3,
    };
    let mut insert = connection.prepare_cached(
        "INSERT INTO assessments
            (tenant, payment_id, assessed_at, outcome, score, reasons, counted, fingerprint, amount, currency)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    insert.execute(params![
        subject.tenant.as_str(),
        subject.payment_id.uuid().as_bytes(),
        assessment.assessed_at.as_nanos(),
        outcome,
        assessment.score,
        // The names of rules hold no spaces.
        assessment.reasons.join(" "),
        counted,
        subject.card.fingerprint.as_str(),
        subject.amount,
        subject.currency.code(),
    ])?;
    Ok(())
}

/// Counts again what was counted within the longest window before `now`, oldest first.
fn rebuild(connection: &Connection, options: Options, now: Timestamp) -> Result<Windows, StoreError> {
    let mut windows = Windows::new(options.limits);
    let horizon = now.checked_add_seconds(-Window::Week.seconds()).unwrap_or(Timestamp::EPOCH).as_nanos();
    let beyond: Option<i64> = connection
        .prepare_cached(
            "SELECT assessed_at FROM assessments WHERE counted = 1 AND assessed_at > ?1
             ORDER BY assessed_at DESC LIMIT 1 OFFSET ?2",
        )?
        .query_row(params![horizon, options.rebuild_rows_max], |row| row.get(0))
        .optional()?;
    if beyond.is_some() {
        tracing::warn!(
            rows = options.rebuild_rows_max,
            "more payments within a week than are read at start: the windows begin later, and count low until then"
        );
    }
    let mut select = connection.prepare_cached(
        "SELECT tenant, fingerprint, currency, amount, assessed_at FROM assessments
         WHERE counted = 1 AND assessed_at > ?1 ORDER BY assessed_at",
    )?;
    let mut rows = select.query([beyond.unwrap_or(horizon)])?;
    while let Some(row) = rows.next()? {
        let tenant: TenantId = parsed(row, 0)?;
        let fingerprint: Fingerprint = parsed(row, 1)?;
        let currency: Currency = parsed(row, 2)?;
        let amount = row.get::<_, i64>(3)?.unsigned_abs();
        let at = Timestamp::from_nanos(row.get(4)?);
        for entity in [Entity::Card(tenant.clone(), fingerprint), Entity::Tenant(tenant)] {
            windows.record(&entity, currency, amount, at);
        }
    }
    Ok(windows)
}

fn parsed<T: std::str::FromStr>(row: &Row<'_>, column: usize) -> Result<T, StoreError> {
    let text = row.get_ref(column)?.as_str().unwrap_or_default();
    text.parse().map_err(|_| StoreError::Corrupt(format!("column {column} of an assessment cannot be read")))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::store::contract::{self, Fixture, at, rules, subject};

    const OPTIONS: Options =
        Options { limits: Limits { entities_max: 1_000, cells_max: 10_000 }, rebuild_rows_max: 1_000 };

    struct OnDisk(tempfile::TempDir);

    impl OnDisk {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        async fn with(&self, options: Options, now: Timestamp) -> EmbeddedStore {
            EmbeddedStore::open(&self.0.path().join("fraud.db"), rules(), options, now).await.unwrap()
        }
    }

    impl Fixture for OnDisk {
        type Store = EmbeddedStore;

        async fn open(&self, now: Timestamp) -> EmbeddedStore {
            self.with(OPTIONS, now).await
        }
    }

    contract::suite!(OnDisk::new());

    #[tokio::test]
    async fn a_start_reads_no_more_rows_than_it_may() {
        let fixture = OnDisk::new();
        let store = fixture.open(at(0)).await;
        for i in 0..5_i64 {
            store.assess(vec![subject("acme", i.unsigned_abs(), "card")], at(i)).await.unwrap();
        }
        drop(store);
        let store = fixture.with(Options { rebuild_rows_max: 2, ..OPTIONS }, at(5)).await;
        let velocity = |store: &EmbeddedStore| {
            let subject = subject("acme", 0, "card");
            lock(&store.windows)
                .velocity(&subject.entities()[0], subject.currency, at(5))
                .of(Window::Hour)
                .count
        };
        assert_eq!(velocity(&store), 2, "the newest");
        drop(store);
        assert_eq!(velocity(&fixture.open(at(5)).await), 5);
    }

    /// A commit that fails takes the counts back that its jobs had made.
    #[tokio::test(flavor = "multi_thread")]
    async fn what_could_not_be_committed_was_not_counted() {
        let fixture = OnDisk::new();
        let store = fixture.open(at(0)).await;
        let schema = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)";
        store.engine.write(move |c| Ok::<_, StoreError>(c.execute_batch(schema)?)).await.unwrap();

        // While one job holds the writer, an assessment and a job whose wrong is found only by COMMIT
        // queue up behind it and so share a transaction.
        let ((entered, is_in), (leave, may_leave)) = (mpsc::channel::<()>(), mpsc::channel::<()>());
        let engine = store.engine.clone();
        let holder = tokio::spawn(async move {
            let hold = move |_: &Connection| {
                let _ = entered.send(());
                let _ = may_leave.recv();
                Ok::<_, StoreError>(())
            };
            engine.write(hold).await
        });
        tokio::task::spawn_blocking(move || is_in.recv()).await.unwrap().unwrap();
        let doomed = store.assess(vec![subject("acme", 1, "card")], at(0));
        let spoiler =
            store.engine.write(|c| Ok::<_, StoreError>(c.execute_batch("INSERT INTO child VALUES (7)")?));
        let release = async { leave.send(()).unwrap() };
        let (doomed, spoiler, ()) = tokio::join!(doomed, spoiler, release);
        assert!(matches!(doomed, Err(StoreError::Commit(_))), "{doomed:?}");
        assert!(matches!(spoiler, Err(StoreError::Commit(_))), "{spoiler:?}");
        holder.await.unwrap().unwrap();
        assert_eq!(lock(&store.windows).cells(), 0);

        store.assess(vec![subject("acme", 1, "card")], at(0)).await.unwrap();
        assert_eq!(lock(&store.windows).cells(), 6, "three windows of a card and a tenant");
    }
}
