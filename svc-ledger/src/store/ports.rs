//! What the engine needs of the world: a journal that makes records durable, and an index that answers
//! what is no longer in memory. Each store brings one of each; the engine is the same for all.

use std::{future::Future, sync::Arc};

use mesh::store::StoreError;
use money::{TenantId, Timestamp};

use crate::domain::{
    Account, AccountId, Balances, Code, Event, Known, LedgerCode, Transfer, TransferFlags, TransferId,
};

/// The place of a record in the journal: 1, 2, 3, … without a gap. 0 is the empty journal.
pub type Sequence = u64;

/// A BLAKE3 hash, keyed with the journal's own key.
pub type Hash = [u8; 32];

/// A record as it is kept: header, events and hash in one piece, the same bytes in every store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its place.
    pub sequence: Sequence,
    /// Its hash, which is over the hash of the one before, too.
    pub hash: Hash,
    /// The whole of it.
    pub bytes: Arc<[u8]>,
}

/// Why the journal could not make something durable, or could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another writer has taken over. What was being written was not.
    #[error("another writer leads this ledger: {leader}")]
    Fenced {
        /// The other's name.
        leader: String,
    },
    /// Whether it was written is not known: the writer must stop and read what is there.
    #[error("the journal's outcome is unknown: {0}")]
    Unknown(String),
    /// A record that is not the last is damaged, or does not follow the one before it.
    #[error("journal record {sequence} is damaged: {what}")]
    Damaged {
        /// Its place.
        sequence: Sequence,
        /// What is wrong.
        what: String,
    },
    /// Written by another cluster's key, or by a newer program.
    #[error("{0}")]
    Foreign(String),
    /// The file or the server failed while reading.
    #[error("journal: {0}")]
    Failed(String),
}

/// Where records become durable. Owned by one thread of its own, so that an implementation may block.
pub trait Journal: Send + 'static {
    /// Writes the frames, which follow one another and what was written before, in one durable step. On an
    /// error nothing more may be appended.
    fn append(&mut self, frames: &[Frame]) -> impl Future<Output = Result<(), JournalError>> + Send;

    /// Whether nobody else can have written: asked before answers for which nothing was to be written, as they
    /// are of the state in memory alone. Does not block.
    fn confirm(&self) -> Result<(), JournalError> {
        Ok(())
    }
}

/// How many bytes of frames a page of the journal has, in bytes: no further frame begins beyond it. With the
/// longest frame it bounds what whoever follows the journal holds of it.
pub const PAGE_BYTES: usize = 256 << 10;

/// The journal, to be read beside its writer.
pub trait Archive: Clone + Send + Sync + 'static {
    /// Reads it from a record on.
    type Reader: FrameReader;

    /// The key of its hashes.
    fn key(&self) -> &crate::journal::JournalKey;

    /// The first record that has an event of this time or later; the one after `durable`, if none has.
    fn find(
        &self,
        from: Timestamp,
        durable: Sequence,
    ) -> impl Future<Output = Result<Sequence, JournalError>> + Send;

    /// One that reads this record first.
    fn reader(&self, from: Sequence) -> Self::Reader;
}

/// Reads frames in order, by the page. Between two pages it is a place in the journal and nothing more: it holds
/// no frame, no thread and no connection, however long it is kept, and the next page costs what is new.
pub trait FrameReader: Send + 'static {
    /// The frames that come next, up to one that is durable: at least one, and as many as begin within
    /// [`PAGE_BYTES`]; none once it has come to the durable one. Those before a damaged record come first, and its
    /// error comes in their place the next time. Must be called on a runtime. Where the future is dropped, the
    /// reader stands where it stood.
    fn page(&mut self, durable: Sequence) -> impl Future<Output = Result<Vec<Frame>, JournalError>> + Send;
}

/// What happened in one durable record.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The record's place.
    pub sequence: Sequence,
    /// Its hash.
    pub hash: Hash,
    /// Its events, in order.
    pub events: Arc<[Event]>,
}

/// How far an index has come: the last record that it holds. The hash tells an index of another journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Watermark {
    /// The record's place; 0 for an empty index.
    pub sequence: Sequence,
    /// The record's hash; zeros for an empty index.
    pub hash: Hash,
}

/// A part of an answer. The work of one call is bounded, so that a page may be shorter than its limit, even
/// empty, and still not be the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// What was found, in the order asked.
    pub items: Vec<T>,
    /// Where to go on: the same filter with `period.from` (oldest first) or `period.to` (newest first) set
    /// to this, which is always further on. `None`: there is no more.
    pub resume: Option<Timestamp>,
}

/// What is derived from the journal for looking things up. It follows the journal at a distance; how far
/// it has come is kept in the same commit as what it holds. An answer holds all that was applied when it
/// was asked for.
pub trait Index: Clone + Send + Sync + 'static {
    /// How far it has come.
    fn applied(&self) -> impl Future<Output = Result<Watermark, StoreError>> + Send;

    /// The same index for whoever decides what is written: however many others ask it, this one's lookups by id
    /// wait for none of them. They may block the thread, as those of others may not.
    #[must_use]
    fn for_writes(&self) -> Self {
        self.clone()
    }

    /// Told that what it holds is damaged. Whether a new start makes it anew from the journal: then its engine stops,
    /// as nothing else mends it, and all that is asked of it would fail until then.
    fn give_up(&self) -> bool {
        false
    }

    /// Takes up what follows, in order, in one commit: all or nothing. Records that it holds already are
    /// passed over; one that leaves a gap, and another record in the place of the last one, are refused.
    fn apply(&self, records: Vec<Happened>) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Those of the ids that are taken, in any order. A reservation comes with its state.
    fn known(
        &self,
        ids: Vec<TransferId>,
    ) -> impl Future<Output = Result<Vec<(TransferId, Known)>, StoreError>> + Send;

    /// Transfers that pass a filter. Times of the page are those of transfers.
    fn transfers(
        &self,
        filter: TransferFilter,
    ) -> impl Future<Output = Result<Page<Transfer>, StoreError>> + Send;

    /// Ids of accounts that pass a filter. Times of the page are those of opening.
    fn accounts(
        &self,
        filter: AccountFilter,
    ) -> impl Future<Output = Result<Page<AccountId>, StoreError>> + Send;

    /// Balances of an account that keeps its history, one after each movement.
    fn balances(
        &self,
        filter: BalanceFilter,
    ) -> impl Future<Output = Result<Page<BalanceAt>, StoreError>> + Send;
}

/// From when to when, both included; in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    /// The earliest.
    pub from: Timestamp,
    /// The latest.
    pub to: Timestamp,
}

impl Period {
    /// All there is.
    pub const EVER: Self =
        Self { from: Timestamp::from_nanos(i64::MIN), to: Timestamp::from_nanos(i64::MAX) };
}

/// In which order, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Newest first.
    pub newest_first: bool,
    /// At most so many; at least 1.
    pub limit: usize,
}

/// Which transfers. Every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransferFilter {
    /// The owner; `None` for all, which only the ledger's own duties may ask.
    pub tenant: Option<TenantId>,
    /// When.
    pub period: Period,
    /// The account debited or credited.
    pub account: Option<AccountId>,
    /// The account debited.
    pub debit: Option<AccountId>,
    /// The account credited.
    pub credit: Option<AccountId>,
    /// Of this ledger.
    pub ledger: Option<LedgerCode>,
    /// Of this code.
    pub code: Option<Code>,
    /// With all of these flags.
    pub flags: TransferFlags,
    /// With exactly this reference.
    pub reference: Option<crate::domain::Reference>,
    /// With this user data.
    pub user_data: Option<i64>,
    /// Of at least this amount.
    pub amount_min: Option<i64>,
    /// Of at most this amount.
    pub amount_max: Option<i64>,
    /// Which resolve this reservation.
    pub pending: Option<TransferId>,
    /// Order and number.
    pub window: Window,
}

impl TransferFilter {
    /// All transfers of a tenant, or of all tenants.
    pub fn any(tenant: Option<TenantId>, period: Period, window: Window) -> Self {
        Self {
            tenant,
            period,
            account: None,
            debit: None,
            credit: None,
            ledger: None,
            code: None,
            flags: TransferFlags::default(),
            reference: None,
            user_data: None,
            amount_min: None,
            amount_max: None,
            pending: None,
            window,
        }
    }
}

/// Which accounts. Every condition that is given must hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountFilter {
    /// The owner.
    pub tenant: TenantId,
    /// When it was opened.
    pub period: Period,
    /// Of this ledger.
    pub ledger: Option<LedgerCode>,
    /// Of this code.
    pub code: Option<Code>,
    /// With this reference.
    pub reference: Option<crate::domain::Reference>,
    /// With this user data.
    pub user_data: Option<i64>,
    /// Order and number.
    pub window: Window,
}

impl AccountFilter {
    /// All accounts of a tenant.
    pub fn any(tenant: TenantId, period: Period, window: Window) -> Self {
        Self { tenant, period, ledger: None, code: None, reference: None, user_data: None, window }
    }
}

/// Which balances.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BalanceFilter {
    /// The owner.
    pub tenant: TenantId,
    /// The account.
    pub account: AccountId,
    /// After which movements.
    pub period: Period,
    /// Order and number.
    pub window: Window,
}

/// An account's balances after a movement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BalanceAt {
    /// The movement's time: a transfer's, or that of a reservation's lapse.
    pub timestamp: Timestamp,
    /// The balances after it.
    pub balances: Balances,
}

/// All that recovery needs of the past: the state after a record, checked when it is read.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The last record in it; 0 for the empty journal.
    pub sequence: Sequence,
    /// That record's hash; zeros for the empty journal.
    pub hash: Hash,
    /// The latest time of any event, or the later one until which times were closed.
    pub last: Timestamp,
    /// All accounts.
    pub accounts: Vec<Account>,
    /// All reservations that are open.
    pub reservations: Vec<Arc<Transfer>>,
}

impl Snapshot {
    /// Of the empty journal.
    pub fn empty() -> Self {
        let (accounts, reservations) = (Vec::new(), Vec::new());
        Self { sequence: 0, hash: [0; 32], last: Timestamp::EPOCH, accounts, reservations }
    }
}
