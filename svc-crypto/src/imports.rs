//! Imports under way: key pairs that serve one import each, and live a quarter of an hour at most.
//!
//! They are in memory, and gone with it. Where replicas share a store, those of RSA are there instead, sealed under the
//! tenant's key: any replica ends the import, by taking its key out of the store, which one can, once (see
//! [`crate::domain::key_import`] on why that matters). Those of P-256 stay where they were made, as ring gives no such
//! key out of its hands.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh::{Clock, Fault, Ids, StoreError};
use money::{TenantId, Timestamp};
use uuid::Uuid;

use crate::{
    domain::{
        algorithm::Algorithm,
        envelope::{EnvelopeError, KeyRef},
        key_import::{EcdhImport, RsaImport},
        keys::{self, Purpose, Slot, WrappedKey},
        secret::SecretBytes,
    },
    keyring::{KeyError, Keyring, Missing},
    material::{self, Material},
    random::Random,
    store::{KeptImport, SharedImports, Store},
};

/// How long a key pair waits for its import.
const KEPT_FOR: Duration = Duration::from_secs(15 * 60);

/// The most imports under way: each may cost seconds of a processor and a key pair in memory.
const UNDER_WAY_MAX: usize = 64;

/// How a key is wrapped for its import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// RSA-OAEP and AES-KWP.
    Rsa,
    /// ECDH on P-256 and AES-KWP.
    Ecdh,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailed {
    /// No such import, or not any more.
    #[error("there is no such import")]
    Unknown,
    /// As many as there may be are under way.
    #[error("too many imports are under way")]
    TooMany,
    /// What came does not unwrap.
    #[error("the wrapped key does not unwrap")]
    Wrapped,
    /// What was wrapped is no key of the algorithm.
    #[error("what was wrapped is no key of the algorithm")]
    Material(Fault),
    /// No key pair could be made.
    #[error("no key pair could be made")]
    Unmade,
    /// What is kept of imports is not to be had.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl From<StoreError> for ImportFailed {
    fn from(error: StoreError) -> Self {
        Self::Key(error.into())
    }
}

enum Pair {
    Rsa(Box<RsaImport>),
    Ecdh(EcdhImport),
}

/// What an import is ended with.
enum Kept {
    Pair(Pair),
    /// An RSA key, as the store kept it.
    Secret(SecretBytes),
}

/// Where an import's private key is sealed for.
fn place(tenant: &TenantId, id: Uuid) -> (Slot, KeyRef) {
    (Slot::own(tenant.clone(), Purpose::Import), KeyRef { id, version: 1 })
}

struct Import {
    tenant: TenantId,
    expires_at: Timestamp,
    pair: Pair,
}

/// An import that has begun.
pub struct Begun {
    /// What it is ended with.
    pub id: Uuid,
    /// To wrap the key with: SubjectPublicKeyInfo in DER.
    pub public_key: Vec<u8>,
    /// Until when.
    pub expires_at: Timestamp,
}

/// The imports under way.
pub struct Imports<S> {
    ring: Arc<Keyring<S>>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    random: Random,
    under_way: Mutex<HashMap<Uuid, Import>>,
    shared: Option<Arc<dyn SharedImports>>,
}

impl<S: Store> Imports<S> {
    /// None yet. `shared`: where replicas have those that any of them may end, sealed by `ring`.
    pub fn new(
        ring: Arc<Keyring<S>>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        shared: Option<Arc<dyn SharedImports>>,
    ) -> Self {
        Self { ring, clock, ids, random: Random::default(), under_way: Mutex::default(), shared }
    }

    /// Makes a key pair for one import of the tenant.
    pub async fn begin(&self, tenant: TenantId, method: Method) -> Result<Begun, ImportFailed> {
        drop(self.room()?);
        let shared = self.shared.as_ref().filter(|_| method == Method::Rsa);
        if let Some(shared) = shared
            && shared.imports_waiting(self.clock.now()).await? >= UNDER_WAY_MAX
        {
            return Err(ImportFailed::TooMany);
        }
        let random = self.random.clone();
        // An RSA key takes seconds.
        let making = tokio::task::spawn_blocking(move || pair(method, &random));
        let (pair, public_key) = making.await.map_err(|_| ImportFailed::Unmade)??;
        let now = self.clock.now();
        let id = self.ids.uuid_v7(now);
        let kept_for = i64::try_from(KEPT_FOR.as_nanos()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_nanos(now.as_nanos().saturating_add(kept_for));
        match (shared, pair) {
            (Some(shared), Pair::Rsa(pair)) => {
                let secret = pair.into_secret().map_err(|_| ImportFailed::Unmade)?;
                let wrapped = self.seal(&tenant, id, &secret).await?;
                shared.keep_import(KeptImport { id, tenant, wrapped, expires_at }, now).await?;
            }
            (_, pair) => drop(self.room()?.insert(id, Import { tenant, expires_at, pair })),
        }
        Ok(Begun { id, public_key, expires_at })
    }

    async fn seal(&self, tenant: &TenantId, id: Uuid, secret: &SecretBytes) -> Result<Vec<u8>, KeyError> {
        let (slot, reference) = place(tenant, id);
        let kek = self.ring.kek(tenant, Missing::Make).await?.ok_or_else(|| KeyError::wrapped(&slot))?;
        Ok(keys::wrap(&kek, &slot, reference, secret.expose(), self.random.salt()?)?.wrapped)
    }

    async fn unseal(&self, tenant: &TenantId, id: Uuid, wrapped: Vec<u8>) -> Result<SecretBytes, KeyError> {
        let (slot, reference) = place(tenant, id);
        let kek = self.ring.kek(tenant, Missing::Leave).await?.ok_or_else(|| KeyError::wrapped(&slot))?;
        let kept = WrappedKey { reference, wrapped };
        keys::unwrap(&kek, &slot, &kept).map_err(|EnvelopeError| KeyError::wrapped(&slot))
    }

    /// Unwraps what came for an import. The key pair is gone afterwards, whatever comes of it.
    pub async fn end(
        &self,
        tenant: &TenantId,
        id: Uuid,
        algorithm: Algorithm,
        wrapped: &[u8],
    ) -> Result<Material, ImportFailed> {
        let now = self.clock.now();
        let kept = if let Some(pair) = self.take_kept(tenant, id, now) {
            Kept::Pair(pair)
        } else {
            let shared = self.shared.as_ref().ok_or(ImportFailed::Unknown)?;
            let sealed = shared.take_import(tenant, id, now).await?.ok_or(ImportFailed::Unknown)?;
            Kept::Secret(self.unseal(tenant, id, sealed).await?)
        };
        let (wrapped, random) = (wrapped.to_vec(), self.random.clone());
        let unwrapping = tokio::task::spawn_blocking(move || {
            let secret = match kept {
                Kept::Pair(Pair::Rsa(pair)) => pair.unwrap(&wrapped),
                Kept::Pair(Pair::Ecdh(pair)) => pair.unwrap(&wrapped),
                Kept::Secret(secret) => {
                    let seed = random.import_seed().map_err(|_| ImportFailed::Unmade)?;
                    let pair = RsaImport::from_secret(&secret, seed).map_err(|_| ImportFailed::Unmade)?;
                    pair.unwrap(&wrapped)
                }
            };
            let secret = secret.map_err(|_| ImportFailed::Wrapped)?;
            material::brought(algorithm, secret, &random).map_err(ImportFailed::Material)
        });
        unwrapping.await.map_err(|_| ImportFailed::Unmade)?
    }

    /// The key pair of an import that this process has.
    fn take_kept(&self, tenant: &TenantId, id: Uuid, now: Timestamp) -> Option<Pair> {
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        let import = under_way.get(&id)?;
        if import.tenant != *tenant || import.expires_at <= now {
            return None;
        }
        under_way.remove(&id).map(|import| import.pair)
    }

    /// The imports under way without those that are over, if there is room for one more.
    fn room(&self) -> Result<std::sync::MutexGuard<'_, HashMap<Uuid, Import>>, ImportFailed> {
        let now = self.clock.now();
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, import| import.expires_at > now);
        if under_way.len() < UNDER_WAY_MAX { Ok(under_way) } else { Err(ImportFailed::TooMany) }
    }
}

fn pair(method: Method, random: &Random) -> Result<(Pair, Vec<u8>), ImportFailed> {
    match method {
        Method::Rsa => {
            let seed = random.import_seed().map_err(|_| ImportFailed::Unmade)?;
            let pair = RsaImport::new(seed).map_err(|_| ImportFailed::Unmade)?;
            let public_key = pair.public_key().map_err(|_| ImportFailed::Unmade)?;
            Ok((Pair::Rsa(Box::new(pair)), public_key))
        }
        Method::Ecdh => {
            let pair = EcdhImport::new(random.generator()).map_err(|_| ImportFailed::Unmade)?;
            let public_key = pair.public_key();
            Ok((Pair::Ecdh(pair), public_key))
        }
    }
}
