//! The only places where the time and fresh ids come from. Everything that decides is handed them.

use std::{
    cell::RefCell,
    sync::atomic::{AtomicI64, Ordering},
    time::UNIX_EPOCH,
};

use money::Timestamp;
use ring::rand::{SecureRandom as _, SystemRandom};
use uuid::Uuid;

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// Now, UTC.
    fn now(&self) -> Timestamp;
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[allow(clippy::disallowed_types)] // this is the one place
        let since_epoch = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_nanos(i64::try_from(since_epoch.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// A clock that only moves when told to, for tests.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(AtomicI64::new(now.as_nanos()))
    }

    /// Moves the clock forward.
    pub fn advance_seconds(&self, seconds: i64) {
        self.advance_nanos(seconds.saturating_mul(1_000_000_000));
    }

    /// Moves the clock forward by less than seconds.
    pub fn advance_nanos(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }
}

/// Makes fresh ids.
pub trait Ids: Send + Sync + 'static {
    /// A UUIDv7 (RFC 9562): sorts by time.
    fn uuid_v7(&self, now: Timestamp) -> Uuid;
}

/// Ids from the operating system's randomness.
///
/// The twelve bits after the milliseconds hold the fraction of the millisecond (RFC 9562, section 6.2,
/// method 3), so that ids sort by time to a quarter of a microsecond; the other 62 bits are random.
#[derive(Debug, Clone, Copy, Default)]
pub struct RandomIds;

impl Ids for RandomIds {
    fn uuid_v7(&self, now: Timestamp) -> Uuid {
        let nanos = u64::try_from(now.as_nanos()).unwrap_or_default();
        let fraction = (nanos % 1_000_000 * 4_096 / 1_000_000).to_be_bytes();
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&fraction[6..]);
        tail[2..].copy_from_slice(&random_bytes());
        uuid::Builder::from_unix_timestamp_millis(nanos / 1_000_000, &tail).into_uuid()
    }
}

/// Random bytes that an id takes.
const ID_BYTES: usize = 8;

/// Fetched from the operating system by the page: asking it once per id costs as much as a small RPC's
/// whole way through the server stack.
struct Page {
    bytes: [u8; 512],
    used: usize,
}

thread_local! {
    static PAGE: RefCell<Page> = const { RefCell::new(Page { bytes: [0; 512], used: 512 }) };
}

fn random_bytes() -> [u8; ID_BYTES] {
    let taken = PAGE.try_with(|page| page.try_borrow_mut().ok()?.take()).ok().flatten();
    taken.unwrap_or_else(|| {
        let mut bytes = [0; ID_BYTES];
        bytes.copy_from_slice(&Uuid::new_v4().into_bytes()[..ID_BYTES]);
        bytes
    })
}

impl Page {
    /// Bytes that nobody had before; `None` if the system gave none.
    fn take(&mut self) -> Option<[u8; ID_BYTES]> {
        if self.used + ID_BYTES > self.bytes.len() {
            SystemRandom::new().fill(&mut self.bytes).ok()?;
            self.used = 0;
        }
        let bytes = self.bytes.get(self.used..self.used + ID_BYTES)?.try_into().ok()?;
        self.used += ID_BYTES;
        Some(bytes)
    }
}

/// To the wire's form.
pub fn to_proto(time: Timestamp) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds: time.as_seconds(), nanos: time.subsec_nanos() }
}

/// From the wire's form; `None` outside the range of [`Timestamp`].
pub fn from_proto(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::EPOCH.checked_add_seconds(time.seconds)?.checked_add_nanos(time.nanos.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_version_7_and_sort_by_time_within_a_millisecond() {
        let start = 1_800_000_000_123_000_000;
        let ids: Vec<Uuid> =
            (0..1_000).map(|n| RandomIds.uuid_v7(Timestamp::from_nanos(start + n * 1_000))).collect();
        assert!(ids.is_sorted());
        assert!(ids.iter().all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122));
        let (seconds, nanos) = ids[999].get_timestamp().unwrap().to_unix();
        assert_eq!((seconds, nanos), (1_800_000_000, 123_000_000));
        let now = Timestamp::from_nanos(start);
        assert_ne!(RandomIds.uuid_v7(now), RandomIds.uuid_v7(now));
    }
}
