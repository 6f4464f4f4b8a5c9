//! What the service keeps: wrapped keys, and cards of which everything that must not be seen is sealed
//! before it comes here. One trait, one contract suite, and the engines that implement it.

mod embedded;

#[cfg(test)]
mod contract;

use std::future::Future;

use mesh::{
    StoreError,
    idempotency::{Fingerprint, Reuse, Scope},
};
use money::{TenantId, Timestamp, TokenId};
use uuid::Uuid;

pub use embedded::EmbeddedStore;

use crate::domain::{
    envelope::EnvelopeError,
    keys::{MAC_BYTES, Slot, WrappedKey},
    token::{Shown, Token},
};

/// Where the service keeps its state. Every answer speaks of what is durable.
pub trait Store: Clone + Send + Sync + 'static {
    /// The id of the root key that everything here is wrapped under; `None` as long as there is none.
    fn root(&self) -> impl Future<Output = Result<Option<Uuid>, StoreError>> + Send;

    /// Puts the root's id on record unless there is one, and gives the one on record.
    fn adopt_root(&self, id: Uuid) -> impl Future<Output = Result<Uuid, StoreError>> + Send;

    /// All versions of a key, oldest first; empty if there is no such key.
    fn key(&self, slot: Slot) -> impl Future<Output = Result<Vec<WrappedKey>, StoreError>> + Send;

    /// Keeps the first version of a key unless there is one, and gives all versions on record: of
    /// callers that make the same key at once, one wins and all learn its key.
    fn make_key(
        &self,
        slot: Slot,
        first: WrappedKey,
        now: Timestamp,
    ) -> impl Future<Output = Result<Vec<WrappedKey>, StoreError>> + Send;

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
        ids: Vec<(TenantId, TokenId)>,
    ) -> impl Future<Output = Result<Vec<Option<StoredCard>>, StoreError>> + Send;
}

/// Seals a card for the token that it is kept under: only the store knows which that is.
pub type Seal = Box<dyn FnOnce(TokenId) -> Result<Vec<u8>, EnvelopeError> + Send>;

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
