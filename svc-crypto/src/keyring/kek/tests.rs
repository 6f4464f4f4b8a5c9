//! How long a tenant's key is held, by what the root says meanwhile.

use std::sync::Mutex;

use mesh::{ManualClock, RandomIds};

use super::*;
use crate::{
    domain::{rooted::RootName, secret::KeyBytes},
    root::{Failure, FileRoot, RootOfTrust, Roots},
    store::EmbeddedStore,
    testing::MemoryStore,
};

const HELD_FOR_S: i64 = 100;

/// A file that can be away or refuse, and counts.
struct Switch {
    file: FileRoot,
    says: Mutex<Option<Failure>>,
    unwrapped: Mutex<u32>,
}

impl Switch {
    fn says(&self, failure: Option<Failure>) {
        *self.says.lock().unwrap() = failure;
    }

    fn unwrapped(&self) -> u32 {
        *self.unwrapped.lock().unwrap()
    }
}

#[tonic::async_trait]
impl RootOfTrust for Switch {
    fn name(&self) -> &RootName {
        self.file.name()
    }

    async fn wrap(&self, context: &[u8], key: &KeyBytes) -> Result<Vec<u8>, Failure> {
        self.file.wrap(context, key).await
    }

    async fn unwrap(&self, context: &[u8], wrapped: &[u8]) -> Result<KeyBytes, Failure> {
        *self.unwrapped.lock().unwrap() += 1;
        // So that others come meanwhile.
        tokio::task::yield_now().await;
        let says = self.says.lock().unwrap().clone();
        says.map_or(Ok(()), Err)?;
        self.file.unwrap(context, wrapped).await
    }
}

struct World {
    root: Arc<Switch>,
    clock: Arc<ManualClock>,
    ring: Arc<Keyring<EmbeddedStore>>,
    _dir: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = EmbeddedStore::open(&dir.path().join("crypto.db")).unwrap();
        let root = Arc::new(Switch {
            file: FileRoot::new(&KeyBytes::take(&mut [1; 32])),
            says: Mutex::default(),
            unwrapped: Mutex::default(),
        });
        let roots = Roots::new(Arc::clone(&root) as Arc<dyn RootOfTrust>, None, Duration::from_secs(5));
        store.adopt_root(roots.current().id(), None).await.unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1)));
        let held_for = Duration::from_secs(HELD_FOR_S.unsigned_abs());
        let (of_ring, ids) = (Arc::clone(&clock) as Arc<dyn mesh::Clock>, Arc::new(RandomIds));
        let ring = Arc::new(Keyring::new(store, roots, of_ring, ids, 100, held_for));
        Self { root, clock, ring, _dir: dir }
    }

    async fn has(&self, tenant: &str) -> bool {
        self.ring.kek(&tenant.parse().unwrap(), Missing::Leave).await.is_ok_and(|ring| ring.is_some())
    }

    async fn make(&self, tenant: &str) {
        self.ring.kek(&tenant.parse().unwrap(), Missing::Make).await.unwrap();
    }
}

#[tokio::test]
async fn however_many_ask_it_is_unwrapped_once() {
    let world = World::new().await;
    world.make("acme").await;
    world.clock.advance_seconds(HELD_FOR_S);
    let before = world.root.unwrapped();
    let calls = (0..32).map(|_| {
        let ring = Arc::clone(&world.ring);
        tokio::spawn(
            async move { ring.kek(&"acme".parse().unwrap(), Missing::Leave).await.unwrap().is_some() },
        )
    });
    for call in calls.collect::<Vec<_>>() {
        assert!(call.await.unwrap());
    }
    assert_eq!(world.root.unwrapped(), before + 1);
    assert!(!world.has("nobody").await);
}

#[tokio::test]
async fn halfway_it_is_unwrapped_anew_and_a_root_that_is_away_leaves_it_for_the_rest() {
    let world = World::new().await;
    world.make("acme").await;
    let before = world.root.unwrapped();
    world.clock.advance_seconds(HELD_FOR_S / 2 - 1);
    world.ring.renew().await;
    assert_eq!(world.root.unwrapped(), before, "too early");
    world.clock.advance_seconds(1);
    world.ring.renew().await;
    assert_eq!(world.root.unwrapped(), before + 1);

    // From here on it would be held for all of its time.
    world.root.says(Some(Failure::Unreachable("planted".into())));
    world.clock.advance_seconds(HELD_FOR_S - 1);
    world.ring.renew().await;
    assert!(world.has("acme").await, "nobody is disturbed");
    world.clock.advance_seconds(1);
    assert!(!world.has("acme").await, "but not for ever");
    world.root.says(None);
    assert!(world.has("acme").await);
}

#[tokio::test]
async fn a_root_that_refuses_has_it_let_go_of_at_once() {
    let world = World::new().await;
    for refusal in [Failure::Refused("planted".into()), Failure::Tampered] {
        world.make("acme").await;
        assert!(world.has("acme").await);
        world.clock.advance_seconds(HELD_FOR_S / 2);
        world.root.says(Some(refusal));
        assert!(world.has("acme").await, "until it is asked");
        world.ring.renew().await;
        assert!(!world.has("acme").await);
        world.root.says(None);
    }
}

/// One that hangs, and counts.
struct Hanging(RootName, Mutex<u32>);

#[tonic::async_trait]
impl RootOfTrust for Hanging {
    fn name(&self) -> &RootName {
        &self.0
    }

    async fn wrap(&self, _: &[u8], _: &KeyBytes) -> Result<Vec<u8>, Failure> {
        *self.1.lock().unwrap() += 1;
        std::future::pending().await
    }

    async fn unwrap(&self, _: &[u8], _: &[u8]) -> Result<KeyBytes, Failure> {
        std::future::pending().await
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_root_that_hangs_waits_for_it_once() {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let store = MemoryStore::new();
    let root = Arc::new(Hanging(RootName::parse("hanging").unwrap(), Mutex::default()));
    let roots = Roots::new(Arc::clone(&root) as Arc<dyn RootOfTrust>, None, TIMEOUT);
    let clock = Arc::new(ManualClock::new(Timestamp::from_seconds(1)));
    let ring = Arc::new(Keyring::new(store, roots, clock, Arc::new(RandomIds), 100, TIMEOUT));
    let begun = Instant::now();
    let calls = (0..32).map(|n| {
        let ring = Arc::clone(&ring);
        tokio::spawn(async move {
            // Some while the first is under way already.
            tokio::time::sleep(Duration::from_millis(n * 100)).await;
            let failed = ring.kek(&"acme".parse().unwrap(), Missing::Make).await.err().unwrap();
            assert!(matches!(failed, KeyError::Root(error) if error.is_away()));
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
    assert_eq!((begun.elapsed(), *root.1.lock().unwrap()), (TIMEOUT, 1));
    assert!(ring.kek(&"acme".parse().unwrap(), Missing::Make).await.is_err());
    assert_eq!(*root.1.lock().unwrap(), 2, "who comes later asks anew");
}
