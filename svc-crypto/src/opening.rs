//! From sealed to open: whether the roots that are configured are those of the store, and the one key that the
//! service needs before anything else, that of the audit log's chain. It is a random key that the root wraps, so
//! unwrapping it shows that the root answers, and is the right one.

use std::{sync::Arc, time::Duration};

use mesh::{Clock, Fault, Ids, Reason, StartError, StoreError};

use crate::{
    domain::{
        audit::ChainKey,
        envelope::KeyRef,
        keys::{Purpose, Slot},
        rooted::RootName,
        secret::KeyBytes,
    },
    random::{Random, RandomError},
    root::{RootError, Roots},
    store::{RootRecord, RootedError, Store},
};

/// The first wait for a root that does not answer; then twice as long each time.
const WAIT_FIRST: Duration = Duration::from_millis(500);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(15);

/// Why the service cannot open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The root does not unwrap the chain's key.
    #[error(transparent)]
    Root(#[from] RootError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No random numbers.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// Keys are wrapped under a root that is not configured.
    #[error(
        "the root of trust is not the one that the store was made under, or of two that its keys are wrapped under \
         one is missing: configure it too, as the previous root, until `paymesh crypto root rotate` has ended"
    )]
    Other,
    /// Keys are wrapped under two others already.
    #[error(
        "keys of the store are wrapped under two other roots of trust: go back to those, and let \
         `paymesh crypto root rotate` end, before a third is configured"
    )]
    Third,
    /// Nothing was ever chained with this store's keys.
    #[error("the store has no key of the audit log's chain: it is not the one that the log was kept beside")]
    NoChainKey,
}

impl OpenError {
    /// Whether it may be otherwise later, with nothing changed here.
    fn may_pass(&self) -> bool {
        matches!(self, Self::Root(error) if error.may_pass())
    }
}

impl From<RootedError> for OpenError {
    fn from(error: RootedError) -> Self {
        match error {
            RootedError::Store(error) => error.into(),
            RootedError::NotOnRecord(root) => RootError::NotOnRecord(root).into(),
        }
    }
}

impl From<OpenError> for StartError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Store(error) => error.into(),
            other => Self::Config(other.to_string()),
        }
    }
}

/// What callers are told as long as the root has not answered.
pub fn sealed() -> Fault {
    let message = "The vault is sealed: its root of trust has not answered yet; try again later.";
    Fault::new(Reason::VaultSealed, message).retry_after_s(5)
}

/// Opens a store under its roots.
#[derive(Clone)]
pub struct Opening<S> {
    store: S,
    roots: Roots,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
}

impl<S: Store> Opening<S> {
    /// Nothing is asked yet.
    pub fn new(store: S, roots: Roots, clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { store, roots, clock, ids }
    }

    /// The key of the audit log's chain, or `None` where the root does not answer, or refuses, as yet.
    pub async fn attempt(&self) -> Result<Option<ChainKey>, OpenError> {
        match self.open().await {
            Ok(key) => Ok(Some(key)),
            Err(error) if error.may_pass() => {
                tracing::warn!(%error, "the vault is sealed");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Attempts it until the root answers, ever more seldom.
    pub async fn wait(&self) -> Result<ChainKey, OpenError> {
        let mut wait = WAIT_FIRST;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.roots.unsealed() => {}
            }
            if let Some(key) = self.attempt().await? {
                tracing::info!("the vault is open");
                return Ok(key);
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    async fn open(&self) -> Result<ChainKey, OpenError> {
        let known = self.store.root().await?;
        if known.is_some_and(|known| known.ids().any(|id| self.roots.find(id).is_none())) {
            return Err(OpenError::Other);
        }
        let on_record = known.is_some_and(|known| known.has(self.roots.current().id()));
        match self.roots.probe(&Random::default().key()?).await {
            // Keys may be under the other one.
            Err(error) if on_record && error.may_pass() => tracing::warn!(%error, "the root in use"),
            // Before it is on record: what was never a root cannot be taken off again.
            probed => probed?,
        }
        let slot = Slot::of_service(Purpose::AuditChain);
        let mut versions = self.store.key(slot.clone()).await?;
        if versions.is_empty() {
            let now = self.clock.now();
            let reference = KeyRef { id: self.ids.uuid_v7(now), version: 1 };
            let key = self.derived_key(known)?.map_or_else(|| Random::default().key(), Ok)?;
            let first = self.roots.wrap_to_keep(&slot, reference, &key).await?;
            self.adopt().await?;
            versions = self.store.make_key(slot.clone(), first, now).await?;
        } else {
            self.adopt().await?;
        }
        // Its first version: what was chained with it is compared with it.
        let key = versions.first().ok_or(RootError::Unreadable)?;
        Ok(ChainKey::new(&self.roots.unwrap(&slot, key).await?))
    }

    /// The key of the audit log's chain as it is on record: nothing is made, and no root adopted.
    pub async fn look(&self) -> Result<ChainKey, OpenError> {
        let slot = Slot::of_service(Purpose::AuditChain);
        let key = match self.store.key(slot.clone()).await?.first() {
            Some(key) => self.roots.unwrap(&slot, key).await?,
            None => self.derived_key(self.store.root().await?)?.ok_or(OpenError::NoChainKey)?,
        };
        Ok(ChainKey::new(&key))
    }

    /// The key that a log was begun with before such keys were random: one that there is goes on with it.
    fn derived_key(&self, known: Option<RootRecord>) -> Result<Option<KeyBytes>, OpenError> {
        let Some(root) = known.and_then(|known| self.roots.find(known.id)) else { return Ok(None) };
        let failed = |failure| RootError::Failed { root: root.name().clone(), failure };
        Ok(root.derived_chain_key().map_err(failed)?)
    }

    /// From now on keys may be wrapped under the root that wraps.
    async fn adopt(&self) -> Result<(), OpenError> {
        let (id, before) = (self.roots.current().id(), self.roots.previous().map(RootName::id));
        if self.store.adopt_root(id, before).await?.has(id) { Ok(()) } else { Err(OpenError::Third) }
    }
}
