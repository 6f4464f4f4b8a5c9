//! Imports under way: key pairs that serve one import each, live a quarter of an hour at most, and never leave
//! memory. After a restart, or at another replica, an import begins anew: a private key that is stored could be used
//! twice, which RSA here must not be (see [`crate::domain::key_import`]).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use mesh::{Clock, Fault, Ids};
use money::{TenantId, Timestamp};
use uuid::Uuid;

use crate::{
    domain::{
        algorithm::Algorithm,
        key_import::{EcdhImport, RsaImport},
    },
    material::{self, Material},
    random::Random,
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
}

enum Pair {
    Rsa(Box<RsaImport>),
    Ecdh(EcdhImport),
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
pub struct Imports {
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    random: Random,
    under_way: Mutex<HashMap<Uuid, Import>>,
}

impl Imports {
    /// None yet.
    pub fn new(clock: Arc<dyn Clock>, ids: Arc<dyn Ids>) -> Self {
        Self { clock, ids, random: Random::default(), under_way: Mutex::default() }
    }

    /// Makes a key pair for one import of the tenant.
    pub async fn begin(&self, tenant: TenantId, method: Method) -> Result<Begun, ImportFailed> {
        drop(self.room()?);
        let random = self.random.clone();
        // An RSA key takes seconds.
        let making = tokio::task::spawn_blocking(move || pair(method, &random));
        let (pair, public_key) = making.await.map_err(|_| ImportFailed::Unmade)??;
        let now = self.clock.now();
        let id = self.ids.uuid_v7(now);
        let kept_for = i64::try_from(KEPT_FOR.as_nanos()).unwrap_or(i64::MAX);
        let expires_at = Timestamp::from_nanos(now.as_nanos().saturating_add(kept_for));
        self.room()?.insert(id, Import { tenant, expires_at, pair });
        Ok(Begun { id, public_key, expires_at })
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
        let import = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            match under_way.get(&id) {
                Some(import) if import.tenant == *tenant && import.expires_at > now => under_way.remove(&id),
                _ => None,
            }
        };
        let import = import.ok_or(ImportFailed::Unknown)?;
        let (wrapped, random) = (wrapped.to_vec(), self.random.clone());
        let unwrapping = tokio::task::spawn_blocking(move || {
            let secret = match import.pair {
                Pair::Rsa(pair) => pair.unwrap(&wrapped),
                Pair::Ecdh(pair) => pair.unwrap(&wrapped),
            };
            let secret = secret.map_err(|_| ImportFailed::Wrapped)?;
            material::brought(algorithm, secret, &random).map_err(ImportFailed::Material)
        });
        unwrapping.await.map_err(|_| ImportFailed::Unmade)?
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
