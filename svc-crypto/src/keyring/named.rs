//! Named keys, ready for use: loaded once however many ask, kept for a bounded time, and let go of the moment
//! they are changed. Where other replicas change them too, what is kept is good only as long as the store was asked
//! a short while ago what they changed: see [`NamedKeys::heard`].

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use mesh::{Cache, Clock, Drain, StoreError};
use money::{TenantId, Timestamp};
use tokio::{sync::OnceCell, time::Instant};
use uuid::Uuid;

use super::{KeyError, Keyring, Missing, age};
use crate::{
    domain::{
        algorithm::Algorithm,
        deterministic::DeterministicKey,
        envelope::{EnvelopeError, KeyRef, SealingKey},
        format_preserving::FormatPreservingKey,
        key::{Key, State},
        keys::{self, KeyName},
        large::LargeKey,
        mac::{IndexKey, TagKey},
        secret::{KeyBytes, SecretBytes},
        signing::{PublicKey, SigningKey},
    },
    material,
    random::Random,
    store::Store,
};

/// A version of a key, ready to do what its algorithm does. Cannot be printed.
pub enum Expanded {
    /// Encrypts.
    Encrypt(EncryptKeys),
    /// Encrypts deterministically.
    Deterministic(DeterministicKey),
    /// Makes tags and indexes.
    Mac(Box<MacKeys>),
    /// Signs.
    Sign(Box<SigningKeys>),
    /// Encrypts digits into digits.
    Format(FormatPreservingKey),
}

/// Each version of each key that is kept takes as much, so what is larger is boxed.
const _: () = assert!(size_of::<Expanded>() <= 256);

/// What an encrypting key does. Cannot be printed.
pub struct EncryptKeys {
    /// Seals messages.
    pub message: SealingKey,
    key: KeyBytes,
}

impl EncryptKeys {
    fn new(reference: KeyRef, key: KeyBytes) -> Self {
        Self { message: SealingKey::new(reference, &key), key }
    }

    /// Seals payloads of any size. Expanded for each, which costs it nothing to speak of, and would cost every key
    /// that is kept twice its memory.
    pub fn large(&self) -> LargeKey {
        LargeKey::new(self.message.reference(), &self.key)
    }
}

/// What a signing key does. Cannot be printed.
pub struct SigningKeys {
    /// Signs.
    pub private: SigningKey,
    /// Checks signatures.
    pub public: PublicKey,
}

/// What a MAC key does. Cannot be printed.
pub struct MacKeys {
    /// Makes and checks tags.
    pub tag: TagKey,
    /// Makes blind indexes.
    pub index: IndexKey,
}

/// A named key and its versions, expanded. Cannot be printed.
pub struct LiveKey {
    /// The key. Its versions' envelopes are left out.
    pub key: Key,
    /// In the order of the versions, which are counted from 1. Empty for a key that is destroyed.
    versions: Vec<Expanded>,
    compared: Compared,
}

impl LiveKey {
    /// A version, expanded. `None` for one that there is not.
    pub fn version(&self, version: u32) -> Option<&Expanded> {
        self.versions.get(usize::try_from(version.checked_sub(1)?).ok()?)
    }
}

/// A version that a call names, itself or by what is to be opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its number; 0 for none.
    pub version: u32,
    /// The key's id, where the call says that too.
    pub id: Option<Uuid>,
}

impl Wanted {
    /// A version by its number alone.
    pub fn version(version: u32) -> Self {
        Self { version, id: None }
    }

    /// Whether the key has not got it, and could have it by now.
    pub fn is_beyond(self, key: &Key) -> bool {
        self.version > key.newest_version() && self.id.is_none_or(|id| id == key.id)
    }
}

impl From<KeyRef> for Wanted {
    fn from(KeyRef { id, version }: KeyRef) -> Self {
        Self { version, id: Some(id) }
    }
}

/// Comparisons of a key with the one on record, one at a time.
#[derive(Default)]
struct Compared {
    /// How many have begun.
    begun: AtomicU64,
    last: tokio::sync::Mutex<Comparison>,
}

/// The last that ended.
#[derive(Default)]
struct Comparison {
    number: u64,
    failed: bool,
}

/// `None` for bytes that are no key of the algorithm.
fn expanded(
    algorithm: Algorithm,
    reference: KeyRef,
    secret: &SecretBytes,
    random: &Random,
) -> Option<Expanded> {
    let symmetric = || KeyBytes::from_slice(secret.expose());
    Some(match algorithm {
        Algorithm::Aes256Gcm => Expanded::Encrypt(EncryptKeys::new(reference, symmetric()?)),
        Algorithm::Aes256Siv => Expanded::Deterministic(DeterministicKey::new(reference, &symmetric()?)),
        Algorithm::Ff1Aes256 => Expanded::Format(FormatPreservingKey::new(reference, &symmetric()?)),
        Algorithm::HmacSha256 => {
            let key = &symmetric()?;
            Expanded::Mac(Box::new(MacKeys { tag: TagKey::new(key), index: IndexKey::new(key) }))
        }
        Algorithm::Ed25519 | Algorithm::EcdsaP256Sha256 => {
            let scheme = material::signing(algorithm)?;
            let private = SigningKey::from_pkcs8(scheme, secret, random.generator()).ok()?;
            let public = private.public_key();
            Expanded::Sign(Box::new(SigningKeys { private, public }))
        }
    })
}

/// How often a key is read that is too old when it is there.
const LOADS_MAX: usize = 2;

type Name = (TenantId, KeyName);

/// One key's place in the cache: filled by the first who asks, while others wait for it.
struct Entry {
    /// Before the key was read.
    since: Timestamp,
    /// The same by this process's own clock.
    read_at: Instant,
    key: OnceCell<Arc<LiveKey>>,
}

/// The named keys of all tenants.
pub struct NamedKeys<S> {
    store: S,
    ring: Arc<Keyring<S>>,
    clock: Arc<dyn Clock>,
    random: Random,
    cache: Cache<Name, Arc<Entry>>,
    kept_for: Duration,
    replicas: Option<Replicas>,
}

/// What is known of changes by other replicas.
struct Replicas {
    trusted_for: Duration,
    /// Changes up to then were heard of.
    heard: Mutex<Instant>,
}

impl Replicas {
    /// Whether what was read at that time is good now.
    fn trusts(&self, read_at: Instant, now: Instant) -> bool {
        let heard = *self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        now.saturating_duration_since(heard.max(read_at)) < self.trusted_for
    }
}

impl<S: Store> NamedKeys<S> {
    /// Keys from `store`, unwrapped by `ring`. At most `cached_max` are kept expanded, each for at most `kept_for`.
    pub fn new(
        store: S,
        ring: Arc<Keyring<S>>,
        clock: Arc<dyn Clock>,
        cached_max: usize,
        kept_for: Duration,
    ) -> Self {
        let (random, cache) = (Random::default(), Cache::new(cached_max));
        Self { store, ring, clock, random, cache, kept_for, replicas: None }
    }

    /// Others change keys too: what was read is good for `trusted_for` after it was read, and after
    /// [`NamedKeys::heard`]. When that is over keys are read again, or are not to be had.
    #[must_use]
    pub fn with_replicas(mut self, trusted_for: Duration) -> Self {
        self.replicas = Some(Replicas { trusted_for, heard: Mutex::new(Instant::now()) });
        self
    }

    /// All that others had changed at that time was let go of.
    pub fn heard(&self, at: Instant) {
        if let Some(replicas) = &self.replicas {
            *replicas.heard.lock().unwrap_or_else(PoisonError::into_inner) = at;
        }
    }

    /// A key with its versions; `None` if there is none of this name.
    ///
    /// # Errors
    /// Where the store fails, or a key on record does not open.
    pub async fn get(&self, tenant: &TenantId, name: &KeyName) -> Result<Option<Arc<LiveKey>>, KeyError> {
        let place = (tenant.clone(), name.clone());
        for _ in 0..LOADS_MAX {
            let entry = self.entry(&place);
            if let Some(key) = entry.key.get() {
                return Ok(Some(Arc::clone(key)));
            }
            let loaded = entry
                .key
                .get_or_try_init(|| async {
                    let found = self.store.named_key(tenant.clone(), name.clone()).await;
                    let found = found.map_err(Missed::from)?.ok_or(Missed::None)?;
                    self.expand(found).await.map(Arc::new).map_err(Missed::from)
                })
                .await;
            match loaded {
                Ok(key) if self.trusts(&entry) => return Ok(Some(Arc::clone(key))),
                // It took so long that others may have changed it meanwhile.
                Ok(_) => self.let_go(&place, &entry),
                Err(missed) => {
                    // A name that nobody uses takes no room.
                    self.let_go(&place, &entry);
                    return match missed {
                        Missed::None => Ok(None),
                        Missed::Failed(error) => Err(error),
                    };
                }
            }
        }
        Err(StoreError::Server("keys are read too slowly to be good when they are there".to_owned()).into())
    }

    /// Whether what was read into this place is good now.
    fn trusts(&self, entry: &Entry) -> bool {
        self.replicas.as_ref().is_none_or(|replicas| replicas.trusts(entry.read_at, Instant::now()))
    }

    /// The same, where this version of it is asked for: one that is kept without it may be older than another
    /// replica's, and is read again if there is another revision of it. Those who ask for what there is not cost a
    /// look at the store, one at a time, and nobody else anything.
    ///
    /// # Errors
    /// As [`NamedKeys::get`].
    pub async fn get_with(
        &self,
        tenant: &TenantId,
        name: &KeyName,
        wanted: Wanted,
    ) -> Result<Option<Arc<LiveKey>>, KeyError> {
        let kept = self.get(tenant, name).await?;
        let Some(key) = kept.as_ref().filter(|key| self.replicas.is_some() && wanted.is_beyond(&key.key))
        else {
            return Ok(kept);
        };
        let before = key.compared.begun.load(Ordering::SeqCst);
        let mut last = key.compared.last.lock().await;
        if last.number <= before {
            // The one that was waited for, if any, had begun before this call.
            let number = key.compared.begun.fetch_add(1, Ordering::SeqCst) + 1;
            let revision = self.store.revision(tenant.clone(), name.clone()).await;
            *last = Comparison { number, failed: revision.is_err() };
            if revision? != Some(key.key.revision) {
                self.cache.remove_if(&(tenant.clone(), name.clone()), |entry| {
                    entry.key.get().is_some_and(|there| Arc::ptr_eq(there, key))
                });
            }
        } else if last.failed {
            return Err(
                StoreError::Server("a key could not be compared with the one on record".to_owned()).into()
            );
        }
        drop(last);
        self.get(tenant, name).await
    }

    /// The key's place, made anew where what is in it is too old.
    fn entry(&self, place: &Name) -> Arc<Entry> {
        let (now, read_at) = (self.clock.now(), Instant::now());
        let fresh = |entry: &Arc<Entry>| age(entry.since, now) < self.kept_for && self.trusts(entry);
        self.cache.get_or_insert_with(place, fresh, || {
            Arc::new(Entry { since: now, read_at, key: OnceCell::new() })
        })
    }

    /// Lets go of what is in this place, if that is still the same.
    fn let_go(&self, place: &Name, meant: &Arc<Entry>) {
        self.cache.remove_if(place, |entry| Arc::ptr_eq(entry, meant));
    }

    /// Lets go of a key: whoever asks from now on sees what is on record now.
    pub fn forget(&self, tenant: &TenantId, name: &KeyName) {
        self.cache.remove(&(tenant.clone(), name.clone()));
    }

    /// Lets go of all keys.
    pub fn forget_all(&self) {
        // Both generations.
        self.cache.age();
        self.cache.age();
    }

    /// Lets go of the keys that nobody used since this was called the time before last.
    pub fn forget_idle(&self) {
        self.cache.age();
    }

    /// Lets go of idle keys every so often until the drain begins.
    pub async fn forget_idle_every(self: Arc<Self>, every: Duration, drain: Drain) {
        while drain.unless_started(tokio::time::sleep(every)).await.is_some() {
            self.forget_idle();
        }
    }

    async fn expand(&self, mut key: Key) -> Result<LiveKey, KeyError> {
        let mut versions = Vec::with_capacity(key.versions.len());
        if !matches!(key.state, State::Destroyed { .. }) {
            let kek = self.ring.kek(&key.tenant, Missing::Leave).await?;
            let slot = key.slot();
            let wrapped = || KeyError::wrapped(&slot);
            let kek = kek.ok_or_else(wrapped)?;
            for version in &key.versions {
                let stored = key.wrapped(version);
                let secret = keys::unwrap(&kek, &slot, &stored).map_err(|EnvelopeError| wrapped())?;
                let expanded = expanded(key.algorithm, stored.reference, &secret, &self.random);
                versions.push(expanded.ok_or_else(wrapped)?);
            }
        }
        for version in &mut key.versions {
            version.wrapped = Vec::new();
        }
        key.versions.shrink_to_fit();
        Ok(LiveKey { key, versions, compared: Compared::default() })
    }
}

enum Missed {
    None,
    Failed(KeyError),
}

impl<E: Into<KeyError>> From<E> for Missed {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

#[cfg(test)]
mod tests;
