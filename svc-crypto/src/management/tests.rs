//! Changes that a store makes, and does not say so.

use std::sync::Mutex;

use mesh::{Metrics, RandomIds};

use super::*;
use crate::{
    domain::{
        audit::Link,
        keys::{Purpose, WrappedKey},
    },
    store::{AuditLog, Found, Usage},
    testing::{MemoryStore, Replica, place},
};

/// Keeps what is done, unless it is away.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<(Vec<Entry>, bool)>>);

impl Log {
    fn verbs(&self) -> Vec<Verb> {
        self.0.lock().unwrap().0.iter().map(|entry| entry.act.verb).collect()
    }

    fn is_away(&self, away: bool) {
        self.0.lock().unwrap().1 = away;
    }
}

impl AuditLog for Log {
    async fn append(&self, entries: Vec<Entry>, known: Link, _: Timestamp) -> Result<Link, StoreError> {
        let mut inside = self.0.lock().unwrap();
        if inside.1 {
            return Err(StoreError::Commit("planted".into()));
        }
        inside.0.extend(entries);
        Ok(known)
    }

    async fn end(&self, known: Link) -> Result<Link, StoreError> {
        Ok(known)
    }

    async fn records(&self, _: u64, _: usize) -> Result<Vec<Found>, StoreError> {
        Ok(Vec::new())
    }

    async fn last_before(&self, _: Timestamp) -> Result<u64, StoreError> {
        Ok(0)
    }

    async fn usage(&self, _: Uuid) -> Result<Vec<Usage>, StoreError> {
        Ok(Vec::new())
    }
}

struct World {
    replica: Replica,
    log: Log,
    management: Management<MemoryStore>,
}

const LATER_S: i64 = 40 * 86_400;

impl World {
    async fn new() -> Self {
        let (replica, log) = (Replica::new().await, Log::default());
        let clock = Arc::clone(&replica.clock) as Arc<dyn Clock>;
        let (deadline, metrics) = (Duration::from_secs(5), Metrics::new("svc-crypto"));
        let (recorder, _) =
            Recorder::start(log.clone(), Link::START, Arc::clone(&clock), deadline, &metrics).unwrap();
        let (store, ring, named) =
            (replica.store.clone(), Arc::clone(&replica.ring), Arc::clone(&replica.named));
        let own = SpiffeId::of("svc-crypto").unwrap();
        let management = Management::new(store, ring, named, clock, Arc::new(RandomIds), recorder, own);
        Self { replica, log, management }
    }

    async fn rotate(&self) -> Result<Key, ManageError> {
        let (tenant, name) = place();
        self.management.rotate(&tenant, &name, Some(self.replica.on_record().await.newest_version())).await
    }

    async fn disable(&self) -> Result<Key, ManageError> {
        let (tenant, name) = place();
        self.management.change(&tenant, &name, |key, _| key.disable()).await
    }

    async fn give_up(&self) {
        let (tenant, name) = place();
        self.management.change(&tenant, &name, |key, now| key.schedule_destruction(None, now)).await.unwrap();
        self.replica.clock.advance_seconds(LATER_S);
    }
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_done_once() {
    let world = World::new().await;
    world.replica.store.loses_answers(1);
    let rotated = world.rotate().await.unwrap();
    assert_eq!((rotated.newest_version(), &rotated), (2, &world.replica.on_record().await));
    world.replica.store.loses_answers(2);
    let disabled = world.disable().await.unwrap();
    assert_eq!((disabled.revision, &disabled), (3, &world.replica.on_record().await));
    // A change that never came to the store is made after all.
    let (tenant, name) = place();
    world.replica.store.loses_changes(1);
    let enabled = world.management.change(&tenant, &name, |key, _| key.enable()).await.unwrap();
    assert_eq!((enabled.revision, &enabled), (4, &world.replica.on_record().await));
}

#[tokio::test]
async fn a_change_that_others_went_on_from_is_known_by_what_it_left() {
    let world = World::new().await;
    world.replica.store.loses_answers(1);
    let overtaking = async {
        tokio::time::sleep(REPEATED_AFTER / 4).await;
        world.replica.disabled().await;
    };
    let (rotated, ()) = tokio::join!(world.rotate(), overtaking);
    assert_eq!(rotated.unwrap().newest_version(), 2);
    let found = world.replica.on_record().await;
    assert_eq!((found.newest_version(), found.revision), (2, 3), "it was not rotated again");
    // Of two who rotate at once the one whose change was lost is told that it was.
    let world = World::new().await;
    world.replica.store.loses_changes(1);
    let overtaking = async {
        tokio::time::sleep(REPEATED_AFTER / 4).await;
        world.replica.rotated().await;
    };
    let (refused, ()) = tokio::join!(world.rotate(), overtaking);
    assert!(
        matches!(refused, Err(ManageError::Change(ChangeError::NotExpected { newest: 2 }))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn what_may_have_changed_is_not_used_while_that_is_found_out() {
    let world = World::new().await;
    assert_eq!(world.replica.state().await, State::Enabled);
    world.replica.store.loses_answers(1);
    let asking = async {
        tokio::time::sleep(REPEATED_AFTER / 4).await;
        world.replica.state().await
    };
    let (disabled, state) = tokio::join!(world.disable(), asking);
    disabled.unwrap();
    assert_eq!(state, State::Disabled);
}

#[tokio::test]
async fn where_the_store_stays_away_it_is_not_known() {
    let world = World::new().await;
    world.replica.store.loses_answers(usize::MAX);
    let unknown = world.disable().await;
    assert!(matches!(unknown, Err(ManageError::Unknown)), "{unknown:?}");
    assert_eq!(world.replica.on_record().await.state, State::Disabled);
}

#[tokio::test]
async fn a_destruction_of_which_the_store_says_nothing_is_on_record_in_the_end() {
    let world = World::new().await;
    world.give_up().await;
    world.replica.store.loses_answers(1 + usize::try_from(REPETITIONS_MAX).unwrap());
    let unknown = world.management.carry_out_due().await;
    assert!(matches!(unknown, Err(ManageError::Unknown)), "{unknown:?}");
    assert_eq!(world.log.verbs(), []);
    assert!(matches!(world.replica.on_record().await.state, State::Destroyed { .. }));
    assert_eq!(world.management.carry_out_due().await.unwrap(), 1);
    assert_eq!(world.management.carry_out_due().await.unwrap(), 0);
    assert_eq!(world.log.verbs(), [Verb::DestroyKey]);
}

#[tokio::test]
async fn a_key_that_cannot_be_rotated_keeps_no_other_from_its_destruction() {
    let world = World::new().await;
    let (tenant, now): (TenantId, _) = ("aaa".parse().unwrap(), world.replica.clock.now());
    let garbage = WrappedKey { reference: KeyRef { id: Uuid::nil(), version: 1 }, wrapped: vec![7; 40] };
    let slot = Slot::own(tenant.clone(), Purpose::TenantKek);
    world.replica.store.make_key(slot, garbage, now).await.unwrap();
    let rotation_period = Some(Duration::from_secs(3_600));
    let broken = Key { tenant, rotation_period, ..world.replica.on_record().await };
    world.replica.store.keep_key(broken).await.unwrap();
    world.give_up().await;
    let failed = world.management.carry_out_due().await;
    assert!(matches!(failed, Err(ManageError::Key(_))), "{failed:?}");
    assert_eq!(world.log.verbs(), [Verb::DestroyKey]);
}

#[tokio::test]
async fn a_destruction_that_the_log_did_not_take_is_on_record_before_anything_else_is_destroyed() {
    let world = World::new().await;
    let key = world.replica.on_record().await;
    for name in ["l", "m"] {
        let other = Key { name: KeyName::parse(name).unwrap(), ..key.clone() };
        world.replica.store.keep_key(other.clone()).await.unwrap();
        let given_up = other.schedule_destruction(None, world.replica.clock.now()).unwrap();
        world.replica.store.keep_key(given_up).await.unwrap();
    }
    world.give_up().await;
    world.log.is_away(true);
    for _ in 0..3 {
        let unrecorded = world.management.carry_out_due().await;
        assert!(matches!(unrecorded, Err(ManageError::NotOnRecord)), "{unrecorded:?}");
        let keys = world.replica.store.named_keys(key.tenant.clone(), None, 10).await.unwrap();
        let destroyed = keys.iter().filter(|key| matches!(key.state, State::Destroyed { .. })).count();
        assert_eq!(destroyed, 1);
    }
    world.log.is_away(false);
    assert_eq!(world.management.carry_out_due().await.unwrap(), 3);
    assert_eq!(world.log.verbs(), [Verb::DestroyKey; 3]);
}
