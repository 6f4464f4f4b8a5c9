//! The audit log in PostgreSQL: one chain, whichever replica appends.
//!
//! A replica that appends alone knows the chain's end, and a group is one statement: it writes where the record that
//! it follows is there as it was kept, and a record of the same number that somebody else wrote makes it fail as a
//! whole. Where others append too, replicas take turns: a lock that lives as long as the transaction, the end, and the
//! group. Who appends alone has the same lock, shared: a turn waits for it, and it for a turn.

use std::{sync::Arc, time::Duration};

use deadpool_postgres::{Object, Pool};
use mesh::{
    StoreError,
    postgres::{Server, Session, as_bigint, failed, from_bigint, within},
};
use money::Timestamp;
use tokio::{sync::Mutex, time::timeout};
use tokio_postgres::{Client, Row, Statement, error::SqlState, types::ToSql};
use uuid::Uuid;

use super::{limit_of, own::version_of, row, rows};
use crate::{
    domain::audit::{ChainKey, Chained, Entry, Link},
    store::{
        AuditLog, Found, Usage,
        rows::{Columns, check_known, subject_texts, used},
    },
};

/// A replica that stands still in its turn loses it after this, in milliseconds: nobody's verbs are answered
/// meanwhile.
const TURN_MS_MAX: u32 = 1_000;

pub(super) const TURN: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))";

/// The last record, and the hash of the one that is known.
const END: &str = "SELECT sequence, hash, at, (SELECT hash FROM audit_record WHERE sequence = $1)
    FROM audit_record ORDER BY sequence DESC LIMIT 1";

/// All or nothing. $1 and $2 are the record before. What is waited for within a statement is not seen by it, but a
/// number that was taken meanwhile is refused all the same.
const APPEND: &str = "WITH turn AS MATERIALIZED (
        SELECT pg_advisory_xact_lock_shared(hashtextextended($20, 0))
    ), kept AS (
        INSERT INTO audit_record (sequence, at, workload, tenant, key_name, token, key_id, key_version, verb, outcome,
            count, bytes, hash)
        SELECT new.sequence, $3, new.workload, new.tenant, new.key_name, new.token, new.key_id, new.key_version,
            new.verb, new.outcome, new.count, new.bytes, new.hash
        FROM unnest($4::bigint[], $5::text[], $6::text[], $7::text[], $8::text[], $9::bytea[], $10::bigint[],
            $11::smallint[], $12::text[], $13::bigint[], $14::bigint[], $15::bytea[])
            AS new (sequence, workload, tenant, key_name, token, key_id, key_version, verb, outcome, count, bytes, hash)
        WHERE EXISTS (SELECT FROM turn)
            AND ($1::bigint = 0 OR EXISTS (SELECT FROM audit_record WHERE sequence = $1 AND hash = $2::bytea))
        RETURNING 1
    ), counted AS (
        INSERT INTO key_usage (id, version, messages, bytes)
        SELECT used.id, used.version, used.messages, used.bytes
        FROM unnest($16::uuid[], $17::bigint[], $18::bigint[], $19::bigint[]) AS used (id, version, messages, bytes)
        WHERE EXISTS (SELECT FROM kept)
        ON CONFLICT (id, version) DO UPDATE
        SET messages = key_usage.messages + excluded.messages, bytes = key_usage.bytes + excluded.bytes
    )
    SELECT count(*) FROM kept";

/// Keeps the audit log in one table. Cheap to clone.
#[derive(Clone)]
pub struct PostgresAuditLog {
    pub(super) server: Server,
    pool: Pool,
    key: ChainKey,
    pub(super) session: Session,
    /// What turns are taken by.
    pub(super) lock: String,
    timeout: Duration,
    writer: Arc<Mutex<Writer>>,
}

/// One append at a time.
#[derive(Default)]
struct Writer {
    /// None where the last append did not end well.
    open: Option<Open>,
    /// The end after the last append, and its time, if nobody else had appended since the one before.
    alone: Option<(Link, Timestamp)>,
}

/// A session to append in.
struct Open {
    client: Client,
    turn: Statement,
    end: Statement,
    append: Statement,
}

impl Open {
    async fn new(server: &Server, session: &Session) -> Result<Self, StoreError> {
        let client = server.connect(session).await?;
        server.pin_durability(&client).await?;
        let (turn, end, append) =
            tokio::try_join!(client.prepare(TURN), client.prepare(END), client.prepare(APPEND))
                .map_err(failed)?;
        Ok(Self { client, turn, end, append })
    }
}

/// What an attempt without a turn came to.
enum Attempt {
    Kept,
    /// The log's end is another one. Nothing was kept.
    Elsewhere,
}

impl PostgresAuditLog {
    pub(super) fn new(server: Server, pool: Pool, key: ChainKey, timeout: Duration) -> Self {
        let settings = vec![
            ("statement_timeout", timeout.as_millis().to_string()),
            ("idle_in_transaction_session_timeout", TURN_MS_MAX.to_string()),
        ];
        let session = Session { name: "audit".to_owned(), settings };
        let lock = format!("{} audit", server.name_of(&Session::default()));
        Self { server, pool, key, session, lock, timeout, writer: Arc::default() }
    }

    /// Follows the end that is known, without asking for it.
    async fn append_alone(&self, open: &Open, before: Link, group: &Group) -> Result<Attempt, StoreError> {
        match group.insert(&open.client, &open.append, before, &self.lock).await {
            Ok(row) if row.get::<_, i64>(0) > 0 => Ok(Attempt::Kept),
            Ok(_) => Ok(Attempt::Elsewhere),
            Err(error) if error.code() == Some(&SqlState::UNIQUE_VIOLATION) => Ok(Attempt::Elsewhere),
            Err(error) => Err(failed(error)),
        }
    }

    /// Waits for this replica's turn, and follows the end that there is. Gives the end before and the new one.
    async fn append_in_turn(
        &self,
        open: &Open,
        entries: Vec<Entry>,
        known: Link,
        now: Timestamp,
    ) -> Result<(Link, Link, Timestamp), StoreError> {
        let Open { client, turn, end, append } = open;
        let at = as_bigint(known.sequence)?;
        // One way there and back for all three: they are sent in this order.
        let (lock, at): (Values<'_>, Values<'_>) = ([&self.lock], [&at]);
        let (begun, turn, end) = tokio::join!(
            biased;
            client.batch_execute("BEGIN"),
            client.query_one(turn, &lock),
            client.query_opt(end, &at),
        );
        begun.map_err(failed)?;
        turn.map_err(failed)?;
        let (end, time, at_known) = end_of(end.map_err(failed)?.as_ref())?;
        // What ends here goes with its session, and with its turn.
        check_known(known, at_known.as_deref(), end)?;
        let group = Group::new(self.key.extend(end, time, entries, now).collect())?;
        let (inserted, committed) = tokio::join!(
            biased;
            group.insert(client, append, end, &self.lock),
            client.batch_execute("COMMIT"),
        );
        if inserted.map_err(failed)?.get::<_, i64>(0) == 0 {
            return Err(StoreError::Server("the audit log's end changed within a turn".to_owned()));
        }
        committed.map_err(failed)?;
        Ok((end, group.end(end), group.at))
    }

    /// On a connection of the pool.
    async fn with<T>(
        &self,
        work: impl AsyncFnOnce(&mut Object) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        within(&self.pool, self.timeout, work).await
    }

    async fn keep(&self, entries: Vec<Entry>, known: Link, now: Timestamp) -> Result<Link, StoreError> {
        let mut writer = self.writer.lock().await;
        let alone = writer.alone.take();
        // Put back only when all went well: what failed, or was cut short, takes its session with it.
        let open = match writer.open.take() {
            Some(open) if !open.client.is_closed() => open,
            _ => Open::new(&self.server, &self.session).await?,
        };
        let mut entries = entries;
        if let Some((before, at)) = alone.filter(|(end, _)| *end == known) {
            let group = Group::new(self.key.extend(before, at, entries, now).collect())?;
            if matches!(self.append_alone(&open, before, &group).await?, Attempt::Kept) {
                let end = group.end(before);
                (writer.open, writer.alone) = (Some(open), Some((end, group.at)));
                return Ok(end);
            }
            entries = group.into_entries();
        }
        match self.append_in_turn(&open, entries, known, now).await {
            Ok((before, end, at)) => {
                writer.open = Some(open);
                writer.alone = (before == known).then_some((end, at));
                Ok(end)
            }
            Err(error) => Err(error),
        }
    }
}

impl AuditLog for PostgresAuditLog {
    async fn append(&self, entries: Vec<Entry>, known: Link, now: Timestamp) -> Result<Link, StoreError> {
        if entries.is_empty() {
            return self.end(known).await;
        }
        let late = |_| StoreError::Server("it does not answer in time".to_owned());
        timeout(self.timeout, self.keep(entries, known, now)).await.map_err(late)?
    }

    async fn end(&self, known: Link) -> Result<Link, StoreError> {
        let known_at = as_bigint(known.sequence)?;
        let found = self.with(async |client| row(client, END, &[&known_at]).await).await?;
        let (end, _, at_known) = end_of(found.as_ref())?;
        check_known(known, at_known.as_deref(), end)?;
        Ok(end)
    }

    async fn records(&self, after: u64, limit: usize) -> Result<Vec<Found>, StoreError> {
        let statement =
            "SELECT sequence, at, workload, tenant, key_name, token, key_id, key_version, verb, outcome,
                count, bytes, hash
            FROM audit_record WHERE sequence > $1 ORDER BY sequence LIMIT $2";
        let (after, limit) = (as_bigint(after)?, limit_of(limit));
        let found = self.with(async |client| rows(client, statement, &[&after, &limit]).await).await?;
        let found = found.iter().map(|row| {
            let sequence = from_bigint(row.get(0))?;
            Ok(Found { sequence, chained: columns(row, sequence).chained() })
        });
        found.collect()
    }

    /// Times rise with numbers, so halving finds it.
    async fn last_before(&self, time: Timestamp) -> Result<u64, StoreError> {
        let last = self.end(Link::START).await?;
        self.with(async |client| {
            let (mut before, mut not_before) = (0, last.sequence + 1);
            while not_before - before > 1 {
                let middle = u64::midpoint(before, not_before);
                let statement = "SELECT at FROM audit_record WHERE sequence = $1";
                let at: Option<i64> =
                    row(client, statement, &[&as_bigint(middle)?]).await?.map(|row| row.get(0));
                if at.is_some_and(|at| at < time.as_nanos()) {
                    before = middle;
                } else {
                    not_before = middle;
                }
            }
            Ok(before)
        })
        .await
    }

    async fn usage(&self, key: Uuid) -> Result<Vec<Usage>, StoreError> {
        let statement = "SELECT version, messages, bytes FROM key_usage WHERE id = $1 ORDER BY version";
        let found = self.with(async |client| rows(client, statement, &[&key]).await).await?;
        let usage = |row: &Row| {
            let (messages, bytes) = (from_bigint(row.get(1))?, from_bigint(row.get(2))?);
            Ok(Usage { key, version: version_of(row.get(0))?, messages, bytes })
        };
        found.iter().map(usage).collect()
    }
}

/// The one value of a statement.
type Values<'a> = [&'a (dyn ToSql + Sync); 1];

/// The last record, its time, and the hash of the record that is known.
type End = (Link, Timestamp, Option<Vec<u8>>);

fn end_of(row: Option<&Row>) -> Result<End, StoreError> {
    let Some(row) = row else { return Ok((Link::START, Timestamp::EPOCH, None)) };
    let sequence = from_bigint(row.get(0))?;
    let hash = row.get::<_, &[u8]>(1).try_into();
    let wrong = |_| StoreError::Corrupt(format!("record {sequence} of the audit log has no hash"));
    let link = Link { sequence, hash: hash.map_err(wrong)? };
    Ok((link, Timestamp::from_nanos(row.get(2)), row.get(3)))
}

fn columns(row: &Row, sequence: u64) -> Columns {
    Columns {
        sequence,
        at: row.get(1),
        workload: row.get(2),
        tenant: row.get(3),
        key_name: row.get(4),
        token: row.get(5),
        key_id: row.get(6),
        key_version: row.get(7),
        verb: row.get::<_, i16>(8).into(),
        outcome: row.get(9),
        count: row.get(10),
        bytes: row.get(11),
        hash: row.get(12),
    }
}

/// Records to be kept together, which have one time.
struct Group {
    chained: Vec<Chained>,
    at: Timestamp,
    used: Vec<Usage>,
}

impl Group {
    fn new(chained: Vec<Chained>) -> Result<Self, StoreError> {
        let first =
            chained.first().ok_or_else(|| StoreError::Server("there is nothing to keep".to_owned()))?;
        let at = first.record.at;
        let used = used(chained.iter().map(|chained| &chained.record.entry));
        Ok(Self { chained, at, used })
    }

    /// The end of the log with these after `before`.
    fn end(&self, before: Link) -> Link {
        let link = |last: &Chained| Link { sequence: last.record.sequence, hash: last.hash };
        self.chained.last().map_or(before, link)
    }

    fn into_entries(self) -> Vec<Entry> {
        self.chained.into_iter().map(|chained| chained.record.entry).collect()
    }

    /// One statement. The row says how many were kept.
    async fn insert(
        &self,
        client: &Client,
        append: &Statement,
        before: Link,
        lock: &str,
    ) -> Result<Row, tokio_postgres::Error> {
        // Counts never come near the end of i64, and a sum of bytes beyond it is refused before.
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let records = || self.chained.iter().map(|chained| &chained.record);
        let acts = || records().map(|record| &record.entry.act);
        let (names, tokens): (Vec<&str>, Vec<String>) = acts().map(|act| subject_texts(&act.subject)).unzip();
        let sequences: Vec<i64> = records().map(|record| number(record.sequence)).collect();
        let workloads: Vec<&str> = acts().map(|act| act.workload.name()).collect();
        let tenants: Vec<&str> =
            acts().map(|act| act.tenant.as_ref().map_or("", |tenant| tenant.as_str())).collect();
        let key_ids: Vec<&[u8]> =
            acts().map(|act| act.key.as_ref().map_or(&[][..], |key| key.id.as_bytes())).collect();
        let key_versions: Vec<i64> =
            acts().map(|act| act.key.map_or(0, |key| i64::from(key.version))).collect();
        let verbs: Vec<i16> = acts().map(|act| i16::from(act.verb.code())).collect();
        let outcomes: Vec<&str> = acts().map(|act| act.outcome.as_str()).collect();
        let counts: Vec<i64> = records().map(|record| i64::from(record.entry.count)).collect();
        let bytes: Vec<i64> = records().map(|record| number(record.entry.bytes)).collect();
        let hashes: Vec<&[u8]> = self.chained.iter().map(|chained| chained.hash.as_slice()).collect();
        let used_ids: Vec<Uuid> = self.used.iter().map(|used| used.key).collect();
        let used_versions: Vec<i64> = self.used.iter().map(|used| i64::from(used.version)).collect();
        let used_messages: Vec<i64> = self.used.iter().map(|used| number(used.messages)).collect();
        let used_bytes: Vec<i64> = self.used.iter().map(|used| number(used.bytes)).collect();
        let (before_sequence, before_hash) = (number(before.sequence), before.hash.as_slice());
        let at = self.at.as_nanos();
        let values: [&(dyn ToSql + Sync); 20] = [
            &before_sequence,
            &before_hash,
            &at,
            &sequences,
            &workloads,
            &tenants,
            &names,
            &tokens,
            &key_ids,
            &key_versions,
            &verbs,
            &outcomes,
            &counts,
            &bytes,
            &hashes,
            &used_ids,
            &used_versions,
            &used_messages,
            &used_bytes,
            &lock,
        ];
        client.query_one(append, &values).await
    }
}
