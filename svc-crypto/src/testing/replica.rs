//! One of several replicas, on a store in memory that others change too.

use std::{sync::Arc, time::Duration};

use mesh::{Clock, ManualClock, RandomIds};
use money::{TenantId, Timestamp};
use uuid::Uuid;

use super::MemoryStore;
use crate::{
    domain::{
        algorithm::Algorithm,
        envelope::KeyRef,
        key::{Key, NewKey, NewVersion, State},
        keys::{self, KeyName, Slot},
        secret::KeyBytes,
    },
    keyring::{KeyError, Keyring, LiveKey, Missing, NamedKeys},
    random::Random,
    root::{FileRoot, RootOfTrust, Roots},
    store::{Kept, Store as _},
};

pub(crate) const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// What it holds in memory, and the store.
pub(crate) struct Replica {
    pub(crate) store: MemoryStore,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) ring: Arc<Keyring<MemoryStore>>,
    pub(crate) named: Arc<NamedKeys<MemoryStore>>,
}

/// The one key on record.
pub(crate) fn place() -> (TenantId, KeyName) {
    ("acme".parse().unwrap(), KeyName::parse("k").unwrap())
}

impl Replica {
    /// With nothing in memory, and one key on record.
    pub(crate) async fn new() -> Self {
        let store = MemoryStore::new();
        let root = Arc::new(FileRoot::new(&KeyBytes::take(&mut [1; 32]))) as Arc<dyn RootOfTrust>;
        let roots = Roots::new(root, None, Duration::from_secs(5));
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1)));
        let (of_keys, held_for) = (Arc::clone(&clock) as Arc<dyn Clock>, Duration::from_secs(1_000_000_000));
        let ring =
            Keyring::new(store.clone(), roots, Arc::clone(&of_keys), Arc::new(RandomIds), 100, held_for);
        let ring = Arc::new(ring);
        let named = NamedKeys::new(store.clone(), Arc::clone(&ring), of_keys, 100, held_for);
        let replica = Self { store, clock, ring, named: Arc::new(named.with_replicas(TRUSTED_FOR)) };
        let (tenant, name) = place();
        let (algorithm, first) = (Algorithm::Aes256Gcm, replica.version(1).await);
        let new = NewKey { tenant, name, id: Uuid::nil(), algorithm, rotation_period: None, first };
        replica.keep(Key::create(new, Timestamp::from_seconds(1)).unwrap()).await;
        replica
    }

    async fn version(&self, version: u32) -> NewVersion {
        let (tenant, name) = place();
        let kek = self.ring.kek(&tenant, Missing::Make).await.unwrap().unwrap();
        let slot = Slot::named(tenant, Algorithm::Aes256Gcm.purpose(), name);
        let (reference, random) = (KeyRef { id: Uuid::nil(), version }, Random::default());
        let (secret, salt) = (random.key().unwrap(), random.salt().unwrap());
        let wrapped = keys::wrap(&kek, &slot, reference, secret.expose(), salt).unwrap().wrapped;
        NewVersion { version, imported: false, wrapped, public_key: Vec::new() }
    }

    pub(crate) async fn on_record(&self) -> Key {
        let (tenant, name) = place();
        self.store.named_key(tenant, name).await.unwrap().unwrap()
    }

    /// As another replica does.
    async fn keep(&self, key: Key) {
        assert_eq!(self.store.keep_key(key).await.unwrap(), Kept::Done);
    }

    /// Another replica adds a version.
    pub(crate) async fn rotated(&self) {
        let key = self.on_record().await;
        let next = self.version(key.newest_version() + 1).await;
        self.keep(key.rotate(None, next, Timestamp::from_seconds(2)).unwrap()).await;
    }

    /// Another replica takes the key out of use.
    pub(crate) async fn disabled(&self) {
        self.keep(self.on_record().await.disable().unwrap()).await;
    }

    /// The key as this replica uses it.
    pub(crate) async fn get(&self) -> Result<Arc<LiveKey>, KeyError> {
        let (tenant, name) = place();
        self.named.get(&tenant, &name).await.map(Option::unwrap)
    }

    pub(crate) async fn state(&self) -> State {
        self.get().await.unwrap().key.state
    }
}
