//! How often, and for how much, an entity paid lately: rolling counts over an hour, a day and a week.
//!
//! Each window is a ring of buckets, kept sparse: only buckets in which something happened take room.
//! A payment is counted while its bucket lies wholly inside the window, so a window never counts what
//! is older than it, and misses at most what happened within one bucket of its trailing edge: one
//! minute of an hour, 15 minutes of a day, two hours of a week. It errs low, and never blocks for
//! something that is already out of the window.
//!
//! Bounded: beyond the limits the entity that was idle longest is forgotten, and an entity that was
//! idle for the longest window is forgotten without being asked.

use std::collections::{BTreeMap, HashMap};

use money::{Currency, TenantId, Timestamp};

use super::subject::Fingerprint;

/// A rolling window. The three lengths are those that card-fraud rules commonly use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Window {
    /// 3,600 s.
    Hour,
    /// 86,400 s.
    Day,
    /// 604,800 s.
    Week,
}

impl Window {
    /// From the shortest to the longest.
    pub const ALL: [Self; 3] = [Self::Hour, Self::Day, Self::Week];

    /// How far back it reaches, in seconds.
    pub const fn seconds(self) -> i64 {
        match self {
            Self::Hour => 3_600,
            Self::Day => 86_400,
            Self::Week => 604_800,
        }
    }

    /// How wide a bucket is, in seconds: the most that the trailing edge is off.
    pub const fn bucket_seconds(self) -> i64 {
        match self {
            Self::Hour => 60,
            Self::Day => 900,
            Self::Week => 7_200,
        }
    }

    /// The window of this length, if it is one of ours.
    pub fn of_seconds(seconds: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|window| window.seconds() == seconds)
    }

    fn bucket(self, at: Timestamp) -> i64 {
        at.as_seconds().div_euclid(self.bucket_seconds())
    }

    /// The newest bucket that no longer counts.
    fn horizon(self, now: Timestamp) -> i64 {
        self.bucket(now) - self.seconds() / self.bucket_seconds()
    }
}

/// What is counted apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Entity {
    /// One card of one tenant.
    Card(TenantId, Fingerprint),
    /// One tenant.
    Tenant(TenantId),
}

/// What happened in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tally {
    /// Payments, in any currency.
    pub count: u64,
    /// Sum of the payments in the currency that was asked for, in minor units; saturates.
    pub amount: u64,
}

/// What happened in each of the windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Velocity([Tally; 3]);

impl Velocity {
    /// What happened in one of them.
    pub const fn of(&self, window: Window) -> Tally {
        self.0[window as usize]
    }
}

/// How much is kept.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most entities; each takes some 400 bytes beside its cells.
    pub entities_max: usize,
    /// The most cells of all entities together, 24 bytes each. A cell is one bucket with payments in
    /// one currency; a payment makes at most three for each of its entities.
    pub cells_max: usize,
}

#[derive(Debug, Clone, Copy)]
struct Cell {
    bucket: i64,
    amount: u64,
    count: u32,
    currency: Currency,
}

/// The cells of one entity, oldest first, one list for each window.
#[derive(Debug, Default)]
struct Rings {
    /// Its place in the order of idleness.
    turn: u64,
    cells: [Vec<Cell>; 3],
}

/// The windows of all entities.
#[derive(Debug)]
pub struct Windows {
    limits: Limits,
    entities: HashMap<Entity, Rings>,
    /// Who was seen when, in the order of being seen.
    idle: BTreeMap<u64, (Entity, Timestamp)>,
    turns: u64,
    cells: usize,
    evicted: u64,
}

impl Windows {
    /// Nothing happened yet.
    pub fn new(limits: Limits) -> Self {
        Self { limits, entities: HashMap::new(), idle: BTreeMap::new(), turns: 0, cells: 0, evicted: 0 }
    }

    /// What happened up to `now`, with sums in `currency`.
    pub fn velocity(&self, entity: &Entity, currency: Currency, now: Timestamp) -> Velocity {
        let mut velocity = Velocity::default();
        let Some(rings) = self.entities.get(entity) else { return velocity };
        for window in Window::ALL {
            let horizon = window.horizon(now);
            let cells = &rings.cells[window as usize];
            let live = cells.partition_point(|cell| cell.bucket <= horizon);
            let tally = &mut velocity.0[window as usize];
            for cell in &cells[live..] {
                tally.count += u64::from(cell.count);
                if cell.currency == currency {
                    tally.amount = tally.amount.saturating_add(cell.amount);
                }
            }
        }
        velocity
    }

    /// A payment happened. Payments may come out of order.
    pub fn record(&mut self, entity: &Entity, currency: Currency, amount: u64, at: Timestamp) {
        self.turns += 1;
        let rings = match self.entities.get_mut(entity) {
            Some(rings) => {
                self.idle.remove(&rings.turn);
                rings
            }
            None => self.entities.entry(entity.clone()).or_default(),
        };
        rings.turn = self.turns;
        self.idle.insert(self.turns, (entity.clone(), at));
        for window in Window::ALL {
            let cells = &mut rings.cells[window as usize];
            let before = cells.len();
            let stale = cells.partition_point(|cell| cell.bucket <= window.horizon(at));
            cells.drain(..stale);
            add(cells, window.bucket(at), currency, amount);
            self.cells = self.cells + cells.len() - before;
        }
        self.evict(at);
    }

    /// Takes back a payment that was recorded and then did not happen. One that was evicted meanwhile
    /// is not missed.
    pub fn forget(&mut self, entity: &Entity, currency: Currency, amount: u64, at: Timestamp) {
        let Some(rings) = self.entities.get_mut(entity) else { return };
        for window in Window::ALL {
            let cells = &mut rings.cells[window as usize];
            let bucket = window.bucket(at);
            let Some(index) = cells.iter().position(|c| c.bucket == bucket && c.currency == currency) else {
                continue;
            };
            if cells[index].count <= 1 {
                cells.remove(index);
                self.cells -= 1;
            } else {
                cells[index].count -= 1;
                cells[index].amount = cells[index].amount.saturating_sub(amount);
            }
        }
    }

    /// Entities that are known now.
    pub fn entities(&self) -> usize {
        self.entities.len()
    }

    /// Cells in use now.
    pub fn cells(&self) -> usize {
        self.cells
    }

    /// Entities that were forgotten to stay within the limits, though their windows were not over.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    fn evict(&mut self, now: Timestamp) {
        let longest = Window::Week.seconds();
        // The last one stays: it is the one that was just seen.
        while self.idle.len() > 1 {
            let Some(first) = self.idle.first_entry() else { return };
            let over = now.as_seconds().saturating_sub(first.get().1.as_seconds()) > longest;
            let full = self.entities.len() > self.limits.entities_max || self.cells > self.limits.cells_max;
            if !over && !full {
                return;
            }
            let (entity, _) = first.remove();
            if let Some(rings) = self.entities.remove(&entity) {
                self.cells -= rings.cells.iter().map(Vec::len).sum::<usize>();
            }
            self.evicted += u64::from(!over);
        }
    }
}

/// Adds to the cell of this bucket and currency, or makes it in its place. Looks from the end: what
/// happens now belongs there.
fn add(cells: &mut Vec<Cell>, bucket: i64, currency: Currency, amount: u64) {
    for index in (0..cells.len()).rev() {
        let cell = &mut cells[index];
        if cell.bucket < bucket {
            cells.insert(index + 1, Cell { bucket, amount, count: 1, currency });
            return;
        }
        if cell.bucket == bucket && cell.currency == currency {
            cell.count = cell.count.saturating_add(1);
            cell.amount = cell.amount.saturating_add(amount);
            return;
        }
    }
    cells.insert(0, Cell { bucket, amount, count: 1, currency });
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOM: Limits = Limits { entities_max: 1_000, cells_max: 100_000 };

    fn eur() -> Currency {
        "EUR".parse().unwrap()
    }

    fn card(name: &str) -> Entity {
        Entity::Card("acme".parse().unwrap(), name.parse().unwrap())
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(1_700_000_000 - 1_700_000_000 % 604_800 + seconds)
    }

    #[test]
    fn the_trailing_edge_errs_low_by_at_most_one_bucket() {
        for window in Window::ALL {
            let (length, bucket) = (window.seconds(), window.bucket_seconds());
            for start in [0, bucket / 2, bucket - 1] {
                let mut windows = Windows::new(ROOM);
                windows.record(&card("a"), eur(), 5, at(start));
                let count = |age| windows.velocity(&card("a"), eur(), at(start + age)).of(window).count;
                assert_eq!(count(0), 1);
                assert_eq!(count(length - bucket), 1, "{window:?} still counts what is a bucket inside");
                assert_eq!(count(length), 0, "{window:?} never counts what is as old as itself");
            }
        }
    }

    #[test]
    fn counts_span_currencies_and_sums_do_not() {
        let mut windows = Windows::new(ROOM);
        let jpy: Currency = "JPY".parse().unwrap();
        windows.record(&card("a"), eur(), 100, at(0));
        windows.record(&card("a"), jpy, 7, at(1));
        windows.record(&card("a"), eur(), 50, at(2));
        let hour = |currency| windows.velocity(&card("a"), currency, at(3)).of(Window::Hour);
        assert_eq!(hour(eur()), Tally { count: 3, amount: 150 });
        assert_eq!(hour(jpy), Tally { count: 3, amount: 7 });
        assert_eq!(windows.velocity(&card("b"), eur(), at(3)), Velocity::default());
    }

    #[test]
    fn what_is_taken_back_leaves_nothing() {
        let mut windows = Windows::new(ROOM);
        windows.record(&card("a"), eur(), 100, at(0));
        windows.record(&card("a"), eur(), 30, at(1));
        windows.forget(&card("a"), eur(), 30, at(1));
        assert_eq!(
            windows.velocity(&card("a"), eur(), at(2)).of(Window::Day),
            Tally { count: 1, amount: 100 }
        );
        windows.forget(&card("a"), eur(), 100, at(0));
        assert_eq!(windows.velocity(&card("a"), eur(), at(2)), Velocity::default());
        assert_eq!(windows.cells(), 0);
        windows.forget(&card("never-seen"), eur(), 1, at(0));
    }

    #[test]
    fn the_longest_idle_is_forgotten_first() {
        let mut windows = Windows::new(Limits { entities_max: 2, cells_max: 1_000 });
        for (second, name) in [(0, "a"), (1, "b"), (2, "a"), (3, "c")] {
            windows.record(&card(name), eur(), 1, at(second));
        }
        let known = |name| windows.velocity(&card(name), eur(), at(4)).of(Window::Hour).count;
        assert_eq!((known("a"), known("b"), known("c")), (2, 0, 1));
        assert_eq!((windows.entities(), windows.evicted()), (2, 1));
    }

    #[test]
    fn cells_are_bounded_and_what_is_over_leaves_by_itself() {
        let mut windows = Windows::new(Limits { entities_max: 1_000, cells_max: 30 });
        for i in 0..1_000 {
            windows.record(&card(&format!("c{i}")), eur(), 1, at(i));
            assert!(windows.cells() <= 30);
        }
        let mut windows = Windows::new(ROOM);
        windows.record(&card("a"), eur(), 1, at(0));
        windows.record(&card("b"), eur(), 1, at(604_801));
        assert_eq!((windows.entities(), windows.cells(), windows.evicted()), (1, 3, 0));
    }
}
