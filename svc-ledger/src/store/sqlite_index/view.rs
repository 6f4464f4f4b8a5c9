//! What of an index is in memory: as of one commit, never changed, shared with those who read.

use std::sync::Arc;

use mesh::store::StoreError;
use rusqlite::Connection;

use super::{
    body, corrupt,
    posting::{self, Entry, Run},
    words::Words,
};
use crate::store::ports::Watermark;

/// Movements whose postings are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Generation {
    /// Its number: 0, 1, 2, …
    pub(super) ordinal: i64,
    /// The time of its first movement.
    pub(super) first: i64,
    /// The time of its last one.
    pub(super) last: i64,
    /// How many there are.
    pub(super) count: usize,
}

/// The open generation.
#[derive(Debug, Clone, Default)]
pub(super) struct Tail {
    /// The times of the first and the last movement.
    pub(super) span: Option<(i64, i64)>,
    /// How many.
    pub(super) count: usize,
    /// Their postings.
    pub(super) runs: Vec<Run>,
}

impl Tail {
    /// Takes up what follows: movements from the first to the last time, and their entries.
    pub(super) fn add(&mut self, span: (i64, i64), count: usize, entries: Vec<Entry>) {
        self.span = Some((self.span.map_or(span.0, |(first, _)| first), span.1));
        self.count += count;
        posting::push_run(&mut self.runs, entries);
    }
}

#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) watermark: Watermark,
    pub(super) words: Arc<Words>,
    /// In the order of time.
    pub(super) generations: Arc<Vec<Generation>>,
    pub(super) tail: Tail,
}

impl View {
    /// The time of the latest movement.
    pub(super) fn latest_time(&self) -> Option<i64> {
        let closed = || self.generations.last().map(|generation| generation.last);
        self.tail.span.map(|(_, last)| last).or_else(closed)
    }

    /// Reads it from the file.
    pub(super) fn load(connection: &Connection) -> Result<Self, StoreError> {
        let (sequence, hash): (i64, [u8; 32]) =
            connection.query_row("SELECT sequence, hash FROM watermark", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })?;
        let generations = load_generations(connection)?;
        let closed = generations.last().map_or(i64::MIN, |generation| generation.last);
        Ok(Self {
            watermark: Watermark { sequence: sequence.cast_unsigned(), hash },
            words: Arc::new(Words::load(connection)?),
            generations: Arc::new(generations),
            tail: load_tail(connection, closed)?,
        })
    }
}

fn load_generations(connection: &Connection) -> Result<Vec<Generation>, StoreError> {
    let mut statement =
        connection.prepare("SELECT ordinal, first, last, count FROM generations ORDER BY ordinal")?;
    let mut rows = statement.query([])?;
    let mut generations: Vec<Generation> = Vec::new();
    while let Some(row) = rows.next()? {
        let count = row.get::<_, u32>(3)? as usize;
        let next = Generation { ordinal: row.get(0)?, first: row.get(1)?, last: row.get(2)?, count };
        let follows = generations.last().map_or(next.ordinal == 0, |before| {
            next.ordinal == before.ordinal + 1 && next.first > before.last
        });
        if !follows || next.last < next.first {
            return Err(corrupt("generation out of its place"));
        }
        generations.push(next);
    }
    Ok(generations)
}

fn load_tail(connection: &Connection, closed: i64) -> Result<Tail, StoreError> {
    let mut statement = connection
        .prepare("SELECT timestamp, body FROM movements WHERE timestamp > ?1 ORDER BY timestamp")?;
    let mut rows = statement.query([closed])?;
    let mut tail = Tail::default();
    let mut entries = Vec::new();
    let mut span: Option<(i64, i64)> = None;
    let mut count = 0;
    while let Some(row) = rows.next()? {
        let time: i64 = row.get(0)?;
        let bytes = row.get_ref(1)?.as_blob().map_err(|_| corrupt("movement"))?;
        posting::put_entries(&mut entries, time, &body::movement(bytes)?);
        span = Some((span.map_or(time, |(first, _)| first), time));
        count += 1;
    }
    if let Some(span) = span {
        tail.add(span, count, entries);
    }
    Ok(tail)
}
