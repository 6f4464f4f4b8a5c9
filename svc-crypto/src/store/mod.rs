//! What the service keeps: wrapped keys, and cards of which everything that must not be seen is sealed
//! before it comes here. One trait, one contract suite, and the engines that implement it.

mod audit;
mod embedded;
mod imports;
mod postgres;
mod root;
mod rows;

#[cfg(test)]
pub(crate) mod contract;

use std::future::Future;

use mesh::{
    StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
};
use money::{DigitToken, TenantId, Timestamp, TokenId, TokenRef};
use uuid::Uuid;

pub use audit::{AuditLog, Found, Usage};
pub use embedded::{EmbeddedAuditLog, EmbeddedStore};
pub use imports::{KeptImport, SharedImports};
pub use postgres::{PostgresAuditLog, PostgresConfig, PostgresStore};
pub use root::{RootRecord, RootedError, RootedKey};

use crate::domain::{
    envelope::EnvelopeError,
    key::Key,
    keys::{KeyName, MAC_BYTES, Slot, WrappedKey},
    rooted::RootName,
    token::{Shown, Token},
};
use crate::random::RandomError;

/// Where the service keeps its state. Every answer speaks of what is durable.
pub trait Store: Clone + Send + Sync + 'static {
    /// The roots of trust that keys here are wrapped under; `None` as long as there is none.
    fn root(&self) -> impl Future<Output = Result<Option<RootRecord>, StoreError>> + Send;

    /// Puts a root's id on record, see [`RootRecord::adopt`], and gives the record as it is then.
    fn adopt_root(
        &self,
        id: Uuid,
        before: Option<Uuid>,
    ) -> impl Future<Output = Result<RootRecord, StoreError>> + Send;

    /// Takes the other root off the record, where this one is on it and every key that a root wraps is wrapped under
    /// it. Gives the record as it is then. When this has taken it off, nothing that the other wrapped is left on the
    /// disk, and nothing that it wraps is kept any more.
    fn settle_root(
        &self,
        root: RootName,
    ) -> impl Future<Output = Result<Option<RootRecord>, StoreError>> + Send;

    /// The keys that a root wraps ([`crate::domain::keys::Purpose::UNDER_ROOT`]) by owner, purpose and version, from the one after
    /// `after`, at most `limit`.
    fn keys_under_root(
        &self,
        after: Option<RootedKey>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<RootedKey>, StoreError>> + Send;

    /// Puts `wrapped` in the place of what is on record of a key that a root wraps, if that is still what `from`
    /// says. Whether it was. Refused where its root is not on record.
    fn rewrap_key(
        &self,
        from: RootedKey,
        wrapped: Vec<u8>,
    ) -> impl Future<Output = Result<bool, RootedError>> + Send;

    /// A named key, with all of its versions.
    fn named_key(
        &self,
        tenant: TenantId,
        name: KeyName,
    ) -> impl Future<Output = Result<Option<Key>, StoreError>> + Send;

    /// A named key's revision; `None` if there is no such key.
    fn revision(
        &self,
        tenant: TenantId,
        name: KeyName,
    ) -> impl Future<Output = Result<Option<u64>, StoreError>> + Send;

    /// A tenant's named keys by name, from the one after `after`, at most `limit`.
    fn named_keys(
        &self,
        tenant: TenantId,
        after: Option<KeyName>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Key>, StoreError>> + Send;

    /// Keeps a named key's next revision, or its first, if the one on record is the one before. A destroyed key's
    /// versions are emptied, and wiped from the disk where the store says so.
    fn keep_key(&self, key: Key) -> impl Future<Output = Result<Kept, StoreError>> + Send;

    /// Named keys to which something happens by itself at this time or before (see [`Key::due_at`]), the longest
    /// due first, at most `limit`.
    fn keys_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Key>, StoreError>> + Send;

    /// Which named keys were changed after the change of this number, by any replica, oldest first, at most
    /// `limit` of them.
    fn changes(
        &self,
        after: u64,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Change>, StoreError>> + Send;

    /// The number of the last change of a named key; 0 before the first.
    fn last_change(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// Which session with the store answers: another one may speak of an earlier state, after a failover.
    fn session(&self) -> impl Future<Output = Result<u64, StoreError>> + Send;

    /// All versions of one of the service's own keys, oldest first; empty if there is no such key.
    fn key(&self, slot: Slot) -> impl Future<Output = Result<Vec<WrappedKey>, StoreError>> + Send;

    /// Keeps the first version of one of the service's own keys unless there is one, and gives all versions on
    /// record: of callers that make the same key at once, one wins and all learn its key. One that a root wraps is
    /// refused where that root is not on record.
    fn make_key(
        &self,
        slot: Slot,
        first: WrappedKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<WrappedKey>, RootedError>> + Send;

    /// Keeps a card: under its token if the tenant stored it before, else under the new one.
    fn put_card(&self, put: PutCard) -> impl Future<Output = Result<Put, PutError>> + Send;

    /// What was answered to an earlier request under this key, without keeping anything.
    fn replay(
        &self,
        scope: Scope,
        fingerprint: Fingerprint,
    ) -> impl Future<Output = Result<Option<Vec<u8>>, Reuse>> + Send;

    /// Cards by tenant and token, in the order asked, in one read.
    fn cards(
        &self,
        ids: Vec<(TenantId, TokenRef)>,
    ) -> impl Future<Output = Result<Vec<Option<StoredCard>>, StoreError>> + Send;

    /// Takes cards out, in the order asked and in one commit. When this answers, the store gives out no byte of their
    /// envelopes, tags and fingerprints any more, be it now or at an earlier attempt that they were taken out; what was
    /// answered under an idempotency key stays for as long as such answers do. Their tokens stay taken: none will ever
    /// stand for another card. What the disk still holds each store says.
    fn delete_cards(
        &self,
        ids: Vec<(TenantId, TokenRef)>,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<Deletion>, StoreError>> + Send;
}

/// What became of a card to be taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// It is gone. This was its id.
    Done(TokenId),
    /// It was taken out before.
    Before,
    /// The tenant never had a card under this token.
    Unknown,
}

/// What became of a named key's next revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It is on record.
    Done,
    /// Another one came first. Nothing was changed.
    Overtaken,
}

/// A named key was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Rises with every change of any key.
    pub number: u64,
    /// Whose key.
    pub tenant: TenantId,
    /// Which.
    pub name: KeyName,
}

/// Seals a card for the token that it is kept under: only the store knows which that is.
pub type Seal = Box<dyn FnOnce(TokenId) -> Result<Vec<u8>, EnvelopeError> + Send>;

/// Draws a token of digits for a card; `None`: this draw made none.
pub type Draw = Box<dyn FnMut() -> Result<Option<DigitToken>, RandomError> + Send>;

/// How many tokens of digits are drawn for a card before it is given up. Of the shortest numbers a tenant has nine
/// million with the same last four digits; even with half of them in use, 55 in 100 draws fail.
const DRAWS_MAX: usize = 128;

/// A card to be kept.
pub struct PutCard {
    /// Whose it is.
    pub tenant: TenantId,
    /// Finds it if it was stored before.
    pub index_tag: [u8; MAC_BYTES],
    /// The token if it was not.
    pub new_id: TokenId,
    /// What may be shown of it; replaces what was kept.
    pub shown: Shown,
    /// Makes what is kept of it; replaces what was kept.
    pub seal: Seal,
    /// Gives the card a token of digits too, unless it has one.
    pub digits: Option<Draw>,
    /// When this happens.
    pub now: Timestamp,
    /// What makes a repetition of the request known.
    pub idempotency: Option<Idempotency>,
}

/// What makes a repetition of a request known.
pub struct Idempotency {
    /// What the caller's key is unique within.
    pub scope: Scope,
    /// The keyed digest of the request.
    pub fingerprint: Fingerprint,
    /// The answer's bytes, kept to be given again.
    pub answer: fn(&Token) -> Vec<u8>,
}

/// What became of a card to be kept.
#[derive(Debug, PartialEq, Eq)]
pub enum Put {
    /// It is kept.
    Stored(Token),
    /// The request came before; this was its answer. Nothing was changed.
    Replayed(Vec<u8>),
}

/// Why a card was not kept.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The idempotency key cannot be used, or the store failed.
    #[error(transparent)]
    Reuse(#[from] Reuse),
    /// The first request with this idempotency key has no answer yet.
    #[error("the first request with this key is still being worked on")]
    Underway,
    /// It could not be sealed.
    #[error(transparent)]
    Seal(#[from] EnvelopeError),
    /// No token of digits could be drawn.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// All tokens of digits that were drawn were taken.
    #[error("of cards with as many digits and the same last four, nearly all tokens of digits are taken")]
    DigitsTaken,
}

impl From<StoreError> for PutError {
    fn from(error: StoreError) -> Self {
        Self::Reuse(error.into())
    }
}

/// A card as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCard {
    /// The token and what may be shown.
    pub token: Token,
    /// The envelope.
    pub sealed: Vec<u8>,
}
