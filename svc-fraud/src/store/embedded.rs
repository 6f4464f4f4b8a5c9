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

use mesh::{BatchError, Embedded, StoreError};
use money::{Currency, TenantId, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::{Store, counts::Counts};
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
    counts: Arc<Mutex<Counts>>,
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
        Ok(Self { engine, rules: Arc::new(rules), counts: Arc::new(Mutex::new(Counts::new(windows))) })
    }
}

impl Store for EmbeddedStore {
    async fn assess(&self, subjects: Vec<Subject>, now: Timestamp) -> Result<Vec<Assessment>, StoreError> {
        let (rules, counts) = (Arc::clone(&self.rules), Arc::clone(&self.counts));
        let job = move |connection: &Connection| {
            let mut counts = lock(&counts);
            counts.take_back(|counted| is_kept(connection, counted))?;
            let assess = |subject| assess_one(connection, &rules, &mut counts, subject, now);
            let assessments = subjects.into_iter().map(assess).collect::<Result<Vec<_>, StoreError>>()?;
            Ok::<_, StoreError>((assessments, counts.turn()))
        };
        let (engine, counts) = (self.engine.clone(), Arc::clone(&self.counts));
        // A task of its own: a caller that no longer waits must not leave its counts provisional for good.
        let assessing = tokio::spawn(async move {
            let (assessments, turn) = engine.write(job).await?;
            lock(&counts).confirm(turn);
            Ok(assessments)
        });
        // It does not panic; it ends early only with the runtime.
        assessing.await.unwrap_or(Err(StoreError::Queue(BatchError::Closed)))
    }
}

/// A panic elsewhere leaves the windows as they are: at worst one count is wrong.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn assess_one(
    connection: &Connection,
    rules: &RuleSet,
    counts: &mut Counts,
    subject: Subject,
    now: Timestamp,
) -> Result<Assessment, StoreError> {
    if let Some(first) = find(connection, &subject)? {
        return Ok(first);
    }
    let decision = decide(rules, counts.windows(), &subject, now);
    insert(connection, &subject, &decision.assessment, decision.counted)?;
    if decision.counted {
        counts.count(subject, now);
    }
    Ok(decision.assessment)
}

/// Whether an assessment of this payment is in the store, or in the transaction under way.
fn is_kept(connection: &Connection, subject: &Subject) -> Result<bool, StoreError> {
    let mut select =
        connection.prepare_cached("SELECT 1 FROM assessments WHERE tenant = ?1 AND payment_id = ?2")?;
    Ok(select.exists(params![subject.tenant.as_str(), subject.payment_id.uuid().as_bytes()])?)
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
    use std::{future::poll_fn, task::Poll};

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

    /// Payments by the card "card" within the hour.
    fn counted(store: &EmbeddedStore, now: Timestamp) -> u64 {
        let subject = subject("acme", 0, "card");
        let counts = lock(&store.counts);
        counts.windows().velocity(&subject.entities()[0], subject.currency, now).of(Window::Hour).count
    }

    #[tokio::test]
    async fn a_start_reads_no_more_rows_than_it_may() {
        let fixture = OnDisk::new();
        let store = fixture.open(at(0)).await;
        for i in 0..5_i64 {
            store.assess(vec![subject("acme", i.unsigned_abs(), "card")], at(i)).await.unwrap();
        }
        drop(store);
        let store = fixture.with(Options { rebuild_rows_max: 2, ..OPTIONS }, at(5)).await;
        assert_eq!(counted(&store, at(5)), 2, "the newest");
        drop(store);
        assert_eq!(counted(&fixture.open(at(5)).await, at(5)), 5);
    }

    /// A transaction that assesses payment 13 fails when it is committed, though the job went well.
    async fn doom_payment_13(store: &EmbeddedStore) {
        let schema = "CREATE TABLE parent (id INTEGER PRIMARY KEY);
            CREATE TABLE child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED);
            CREATE TRIGGER doom AFTER INSERT ON assessments
                WHEN NEW.payment_id = X'0000000000000000000000000000000D'
                BEGIN INSERT INTO child VALUES (7); END";
        store.engine.write(move |c| Ok::<_, StoreError>(c.execute_batch(schema)?)).await.unwrap();
    }

    /// Asks and goes away at once, as a caller at its deadline does; waits until the job was carried out.
    async fn assess_and_go_away(store: &EmbeddedStore, payment: u64) {
        let before = lock(&store.counts).turn();
        {
            let mut asking = std::pin::pin!(store.assess(vec![subject("acme", payment, "card")], at(0)));
            poll_fn(|context| Poll::Ready(asking.as_mut().poll(context).is_ready())).await;
        }
        while lock(&store.counts).turn() == before {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_could_not_be_committed_was_not_counted() {
        let fixture = OnDisk::new();
        let store = fixture.open(at(0)).await;
        doom_payment_13(&store).await;
        store.assess(vec![subject("acme", 1, "card")], at(0)).await.unwrap();
        for _ in 0..3 {
            let batch = vec![subject("acme", 12, "card"), subject("acme", 13, "card")];
            let doomed = store.assess(batch, at(0)).await;
            assert!(matches!(doomed, Err(StoreError::Commit(_))), "{doomed:?}");
        }
        store.assess(vec![subject("acme", 12, "card")], at(0)).await.unwrap();
        assert_eq!(counted(&store, at(0)), 2, "payments 1 and 12");
        assert_eq!(lock(&store.counts).provisional(), 0);
    }

    #[tokio::test]
    async fn what_could_not_be_committed_is_not_counted_though_nobody_waits() {
        let fixture = OnDisk::new();
        let store = fixture.open(at(0)).await;
        doom_payment_13(&store).await;
        for _ in 0..5 {
            assess_and_go_away(&store, 13).await;
        }
        // Three payments within an hour are allowed, and a fourth would be reviewed.
        for payment in 1..=3 {
            let answers = store.assess(vec![subject("acme", payment, "card")], at(0)).await.unwrap();
            assert_eq!(answers[0].outcome, Outcome::Allow);
        }
        assert_eq!(counted(&store, at(0)), 3);
    }

    #[tokio::test]
    async fn what_was_committed_stays_counted_though_nobody_waits() {
        let fixture = OnDisk::new();
        let store = fixture.open(at(0)).await;
        for payment in 1..=3 {
            assess_and_go_away(&store, payment).await;
        }
        while lock(&store.counts).provisional() > 0 {
            tokio::task::yield_now().await;
        }
        let answers = store.assess(vec![subject("acme", 4, "card")], at(0)).await.unwrap();
        assert_eq!(answers[0].outcome, Outcome::Review);
        assert_eq!(counted(&store, at(0)), 4);
    }

    #[tokio::test]
    async fn a_job_that_panics_leaves_no_counts() {
        let fixture = OnDisk::new();
        let store = fixture.open(at(0)).await;
        let counts = Arc::clone(&store.counts);
        let panicking = store.engine.write::<(), StoreError, _>(move |_| {
            lock(&counts).count(subject("acme", 1, "card"), at(0));
            panic!("planted")
        });
        assert!(panicking.await.is_err());
        store.assess(vec![subject("acme", 2, "card")], at(0)).await.unwrap();
        assert_eq!(counted(&store, at(0)), 1);
    }
}
