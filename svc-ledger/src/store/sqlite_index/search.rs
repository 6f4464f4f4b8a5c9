//! Walking along movements: those of all of some keys, or all there are, in a period, in either order, and
//! no more of them than the budget allows.

use std::collections::{HashMap, hash_map};

use mesh::store::StoreError;
use money::Timestamp;
use rusqlite::{CachedStatement, Connection, OptionalExtension};

use super::{
    body::{self, Movement},
    corrupt,
    posting::{self, Key},
    view::View,
    words::Words,
};
use crate::{
    domain::{AccountId, Transfer},
    store::ports::{Period, Window},
};

/// A list as short as this is not shortened further by reading another: looking at the movements is cheaper.
const SHORT: usize = 16;

/// What reading a list costs, in movements looked at.
const LIST_COST: usize = 4;

/// How many times of a list cost as much as a movement.
const TIMES_COST: usize = 64;

/// Spells movements out as transfers.
pub(super) struct Speller<'a> {
    words: &'a Words,
    find: CachedStatement<'a>,
    accounts: HashMap<Timestamp, AccountId>,
}

impl<'a> Speller<'a> {
    pub(super) fn new(connection: &'a Connection, words: &'a Words) -> Result<Self, StoreError> {
        let find = connection.prepare_cached("SELECT id FROM accounts WHERE number = ?1")?;
        Ok(Self { words, find, accounts: HashMap::new() })
    }

    fn account(&mut self, number: Timestamp) -> Result<AccountId, StoreError> {
        match self.accounts.entry(number) {
            hash_map::Entry::Occupied(known) => Ok(*known.get()),
            hash_map::Entry::Vacant(unknown) => {
                let id: Option<[u8; 16]> =
                    self.find.query_row([number.as_nanos()], |row| row.get(0)).optional()?;
                let id = id.and_then(|id| AccountId::new(u128::from_be_bytes(id)).ok());
                id.map(|id| *unknown.insert(id)).ok_or_else(|| corrupt("movement without its account"))
            }
        }
    }

    /// The transfer that a movement is; `None` for a reservation's lapse.
    pub(super) fn transfer(
        &mut self,
        timestamp: i64,
        movement: &Movement<'_>,
    ) -> Result<Option<Transfer>, StoreError> {
        let Some(made) = movement.made else { return Ok(None) };
        Ok(Some(Transfer {
            id: made.id,
            timestamp: Timestamp::from_nanos(timestamp),
            tenant: self.words.tenant(made.words.tenant)?,
            kind: made.kind,
            modifiers: made.modifiers,
            debit: self.account(movement.debit)?,
            credit: self.account(movement.credit)?,
            amount: made.amount,
            requested: made.requested,
            ledger: self.words.ledger(made.words.ledger)?,
            code: self.words.code(made.words.code)?,
            user_data: made.user_data,
            reference: made.reference.parse().map_err(|_| corrupt("reference"))?,
        }))
    }
}

/// A stretch of time: a closed generation with its ordinal, or the open one.
#[derive(Debug, Clone, Copy)]
struct Segment {
    ordinal: Option<i64>,
    first: i64,
    last: i64,
    count: usize,
}

/// Whether to go on.
#[derive(Clone, Copy)]
enum Walk {
    On,
    /// Enough was found, or looked at, up to this time.
    UpTo(i64),
}

/// A search under way.
pub(super) struct Search<'a> {
    connection: &'a Connection,
    view: &'a View,
    from: i64,
    to: i64,
    window: Window,
    budget: usize,
    taken: usize,
}

impl<'a> Search<'a> {
    pub(super) fn new(
        connection: &'a Connection,
        view: &'a View,
        budget: usize,
        period: Period,
        window: Window,
    ) -> Self {
        let (from, to) = (period.from.as_nanos(), period.to.as_nanos());
        Self { connection, view, from, to, window, budget: budget.max(1), taken: 0 }
    }

    /// Shows the movements of all of the keys, and some others, to `visit`, which says whether it takes one.
    /// Without a key, all. Returns where to go on.
    pub(super) fn walk(
        mut self,
        keys: &[Key],
        mut visit: impl FnMut(i64, &Movement<'_>) -> Result<bool, StoreError>,
    ) -> Result<Option<Timestamp>, StoreError> {
        if self.from > self.to {
            return Ok(None);
        }
        if keys.is_empty() {
            let walk = self.scan(self.from, self.to, &mut visit)?;
            return Ok(self.resume(walk));
        }
        for segment in self.segments() {
            let walk = self.segment(segment, keys, &mut visit)?;
            if let Walk::UpTo(_) = walk {
                return Ok(self.resume(walk));
            }
        }
        Ok(None)
    }

    fn resume(&self, walk: Walk) -> Option<Timestamp> {
        let Walk::UpTo(time) = walk else { return None };
        let next = if self.window.newest_first { time.checked_sub(1) } else { time.checked_add(1) };
        next.filter(|next| (self.from..=self.to).contains(next)).map(Timestamp::from_nanos)
    }

    /// The stretches of time that overlap the period, in the order asked.
    fn segments(&self) -> Vec<Segment> {
        let generations = &self.view.generations;
        let start = generations.partition_point(|generation| generation.last < self.from);
        let end = generations.partition_point(|generation| generation.first <= self.to);
        let mut segments: Vec<Segment> = generations
            .get(start..end)
            .unwrap_or_default()
            .iter()
            .map(|g| Segment { ordinal: Some(g.ordinal), first: g.first, last: g.last, count: g.count })
            .collect();
        let tail = &self.view.tail;
        if let Some((first, last)) = tail.span
            && first <= self.to
            && last >= self.from
        {
            segments.push(Segment { ordinal: None, first, last, count: tail.count });
        }
        if self.window.newest_first {
            segments.reverse();
        }
        segments
    }

    fn segment(
        &mut self,
        segment: Segment,
        keys: &[Key],
        visit: &mut impl FnMut(i64, &Movement<'_>) -> Result<bool, StoreError>,
    ) -> Result<Walk, StoreError> {
        let times = self.common(segment, keys)?;
        if times.len() > segment.count / 2 {
            // Most of the stretch: along the table it is faster.
            return self.scan(self.from.max(segment.first), self.to.min(segment.last), visit);
        }
        let start = times.partition_point(|time| *time < self.from);
        let end = times.partition_point(|time| *time <= self.to);
        let times = &times[start..end];
        let mut find = self.connection.prepare_cached("SELECT body FROM movements WHERE timestamp = ?1")?;
        for place in 0..times.len() {
            let place = if self.window.newest_first { times.len() - 1 - place } else { place };
            let time = times[place];
            let mut rows = find.query([time])?;
            let row = rows.next()?.ok_or_else(|| corrupt("posting without its movement"))?;
            let bytes = row.get_ref(0)?.as_blob().map_err(|_| corrupt("movement"))?;
            if let stop @ Walk::UpTo(_) = self.look(time, bytes, visit)? {
                return Ok(stop);
            }
        }
        if self.budget > LIST_COST {
            return Ok(Walk::On);
        }
        // Not enough for the next stretch.
        Ok(Walk::UpTo(if self.window.newest_first { segment.first } else { segment.last }))
    }

    fn look(
        &mut self,
        time: i64,
        bytes: &[u8],
        visit: &mut impl FnMut(i64, &Movement<'_>) -> Result<bool, StoreError>,
    ) -> Result<Walk, StoreError> {
        self.taken += usize::from(visit(time, &body::movement(bytes)?)?);
        self.budget -= 1;
        let is_enough = self.taken >= self.window.limit || self.budget == 0;
        Ok(if is_enough { Walk::UpTo(time) } else { Walk::On })
    }

    fn scan(
        &mut self,
        from: i64,
        to: i64,
        visit: &mut impl FnMut(i64, &Movement<'_>) -> Result<bool, StoreError>,
    ) -> Result<Walk, StoreError> {
        let order = if self.window.newest_first { "DESC" } else { "ASC" };
        let mut statement = self.connection.prepare_cached(&format!(
            "SELECT timestamp, body FROM movements WHERE timestamp BETWEEN ?1 AND ?2 ORDER BY timestamp {order}"
        ))?;
        let mut rows = statement.query([from, to])?;
        while let Some(row) = rows.next()? {
            let bytes = row.get_ref(1)?.as_blob().map_err(|_| corrupt("movement"))?;
            if let stop @ Walk::UpTo(_) = self.look(row.get(0)?, bytes, visit)? {
                return Ok(stop);
            }
        }
        Ok(Walk::On)
    }

    /// The times that are in the lists of all keys, or a few more; oldest first.
    fn common(&mut self, segment: Segment, keys: &[Key]) -> Result<Vec<i64>, StoreError> {
        let mut common: Option<Vec<i64>> = None;
        for key in keys {
            if common.as_ref().is_some_and(|common| common.len() <= SHORT) {
                break;
            }
            let times = match segment.ordinal {
                None => posting::in_runs(&self.view.tail.runs, *key, self.from, self.to),
                Some(ordinal) => self.list(ordinal, segment.first, *key)?,
            };
            // At least 1 is left, for one more movement: so each call comes further.
            let cost = LIST_COST + times.len() / TIMES_COST;
            self.budget = self.budget.saturating_sub(cost).max(1);
            common = Some(match common {
                None => times,
                Some(common) => posting::intersect(common, times),
            });
        }
        Ok(common.unwrap_or_default())
    }

    fn list(&self, ordinal: i64, first: i64, key: Key) -> Result<Vec<i64>, StoreError> {
        let mut statement = self.connection.prepare_cached(
            "SELECT body FROM postings WHERE place BETWEEN ?1 AND ?2 ORDER BY place DESC LIMIT 1",
        )?;
        let mut rows = statement.query([posting::place(ordinal, 0), posting::place(ordinal, key)])?;
        let Some(row) = rows.next()? else { return Ok(Vec::new()) };
        let block = row.get_ref(0)?.as_blob().map_err(|_| corrupt("block of postings"))?;
        posting::in_block(block, first, key)
    }
}
