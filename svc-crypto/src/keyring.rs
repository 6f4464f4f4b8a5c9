//! Keys on demand: loads them from the store, unwraps them down the hierarchy, makes the service's own where
//! they are missing, and keeps what is expanded in bounded caches. Decisions are in [`crate::domain::keys`] and
//! [`crate::domain::key`].

mod kek;
mod named;

pub use named::{EncryptKeys, Expanded, LiveKey, MacKeys, NamedKeys, SigningKeys, Wanted};

use std::{sync::Arc, time::Duration};

use mesh::{Cache, Clock, Fault, Ids, Reason, StoreError};
use money::{TenantId, Timestamp};

use crate::{
    domain::{
        envelope::{EnvelopeError, KeyRef, SealingKey},
        keys::{self, MacKey, Purpose, Ring, Slot},
        secret::KeyBytes,
    },
    random::{Random, RandomError},
    root::{RootError, Roots},
    store::{RootedError, Store},
};

/// Why a key is not to be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A key on record does not open under its parent.
    #[error("a wrapped key of {owner:?} for {purpose:?} does not open under its parent")]
    Wrapped {
        /// Whose key, see [`Slot::owner`].
        owner: String,
        /// What it is for.
        purpose: Purpose,
    },
    /// The root of trust does not unwrap it.
    #[error(transparent)]
    Root(#[from] RootError),
    /// A new key could not be wrapped.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
}

impl KeyError {
    /// The key in this place does not open under its parent.
    pub fn wrapped(slot: &Slot) -> Self {
        Self::Wrapped { owner: slot.owner().to_owned(), purpose: slot.purpose }
    }
}

impl From<RootedError> for KeyError {
    fn from(error: RootedError) -> Self {
        match error {
            RootedError::Store(error) => error.into(),
            RootedError::NotOnRecord(root) => RootError::NotOnRecord(root).into(),
        }
    }
}

impl From<KeyError> for Fault {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::Store(error) => error.into(),
            KeyError::Root(error) => error.into(),
            other => {
                tracing::error!(error = %other, "a key is not to be had");
                Fault::new(Reason::Internal, "The service could not use its keys.")
            }
        }
    }
}

/// Whether a key that does not exist is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Missing {
    /// It is made.
    Make,
    /// There is none.
    Leave,
}

/// A tenant's keys for the card vault, expanded.
pub struct VaultKeys {
    /// Seals cards.
    pub card: Ring,
    /// Finds cards stored before.
    pub index: MacKey,
    /// Makes the fingerprints that callers see.
    pub fingerprint: MacKey,
    /// Compares requests.
    pub request: MacKey,
}

/// The service's own keys, and what wraps all others.
pub struct Keyring<S> {
    store: S,
    roots: Roots,
    random: Random,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    held_for: Duration,
    keks: Cache<TenantId, Arc<kek::Entry>>,
    vaults: Cache<TenantId, (Timestamp, Arc<VaultKeys>)>,
}

impl<S: Store> Keyring<S> {
    /// Keys from `store` under `roots`; each cache keeps at most `cached_max`, and each for at most `held_for`.
    pub fn new(
        store: S,
        roots: Roots,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        cached_max: usize,
        held_for: Duration,
    ) -> Self {
        let random = Random::default();
        let (keks, vaults) = (Cache::new(cached_max), Cache::new(cached_max));
        Self { store, roots, random, clock, ids, held_for, keks, vaults }
    }

    /// The tenant's keys for the card vault.
    pub async fn vault(
        &self,
        tenant: &TenantId,
        missing: Missing,
    ) -> Result<Option<Arc<VaultKeys>>, KeyError> {
        let now = self.clock.now();
        let known = self.vaults.get(tenant).filter(|(since, _)| age(*since, now) < self.held_for);
        if let Some((_, keys)) = known {
            return Ok(Some(keys));
        }
        let Some(kek) = self.kek(tenant, missing).await? else { return Ok(None) };
        let own = |purpose| {
            let (slot, kek) = (Slot::own(tenant.clone(), purpose), &kek);
            async move { self.load(&slot, kek, missing).await }
        };
        // At once, so that making them costs one commit.
        let (card, index, fingerprint, request) = tokio::try_join!(
            own(Purpose::Card),
            own(Purpose::CardIndex),
            own(Purpose::CardFingerprint),
            own(Purpose::RequestFingerprint),
        )?;
        let (Some(card), Some(index), Some(fingerprint), Some(request)) =
            (card.as_deref().map(ring_of), mac_of(index), mac_of(fingerprint), mac_of(request))
        else {
            return Ok(None);
        };
        let keys = Arc::new(VaultKeys { card, index, fingerprint, request });
        self.vaults.insert(tenant.clone(), (now, Arc::clone(&keys)));
        Ok(Some(keys))
    }

    /// All versions of a key, unwrapped; `None` if there is none and none is to be made.
    async fn load(
        &self,
        slot: &Slot,
        parent: &Ring,
        missing: Missing,
    ) -> Result<Option<Vec<(KeyRef, KeyBytes)>>, KeyError> {
        let mut versions = self.store.key(slot.clone()).await?;
        if versions.is_empty() && missing == Missing::Make {
            let now = self.clock.now();
            let reference = KeyRef { id: self.ids.uuid_v7(now), version: 1 };
            let first =
                keys::wrap(parent, slot, reference, self.random.key()?.expose(), self.random.salt()?)?;
            versions = self.store.make_key(slot.clone(), first, now).await?;
        }
        if versions.is_empty() {
            return Ok(None);
        }
        let unwrapped = versions.iter().map(|version| {
            let key = keys::unwrap_symmetric(parent, slot, version);
            Ok((version.reference, key.map_err(|EnvelopeError| KeyError::wrapped(slot))?))
        });
        unwrapped.collect::<Result<_, KeyError>>().map(Some)
    }
}

fn ring_of(versions: &[(KeyRef, KeyBytes)]) -> Ring {
    Ring::new(versions.iter().map(|(reference, key)| SealingKey::new(*reference, key)))
}

/// The first version: tags are compared with tags of before, so their key stays.
fn mac_of(versions: Option<Vec<(KeyRef, KeyBytes)>>) -> Option<MacKey> {
    versions?.first().map(|(_, key)| MacKey::new(key))
}

fn age(since: Timestamp, now: Timestamp) -> Duration {
    let nanos = now.as_nanos().saturating_sub(since.as_nanos());
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(0))
}
