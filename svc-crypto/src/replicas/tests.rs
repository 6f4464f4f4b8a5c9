//! How soon a change is heard of, and what is heard of late or not at all.

use super::*;
use crate::{
    domain::key::State,
    testing::{MemoryStore, Replica, TRUSTED_FOR},
};

/// The longest until a change is heard of, where the store answers at once.
const HEARD_AFTER: Duration = TRUSTED_FOR.checked_div(ASKED_TIMES).unwrap();

async fn follower(replica: &Replica) -> Follower<MemoryStore> {
    Follower::new(replica.store.clone(), Arc::clone(&replica.named), TRUSTED_FOR).await.unwrap()
}

/// Follows until the drain that is given begins.
async fn follow(replica: &Replica) -> Drain {
    let drain = Drain::new();
    tokio::spawn(follower(replica).await.follow(drain.clone()));
    drain
}

#[tokio::test(start_paused = true)]
async fn a_change_is_heard_of_and_what_does_not_change_is_not_read_again() {
    let replica = Replica::new().await;
    let drain = follow(&replica).await;
    replica.get().await.unwrap();
    let before = replica.store.asked();
    for _ in 0..10 {
        sleep(TRUSTED_FOR).await;
        assert_eq!(replica.state().await, State::Enabled);
    }
    assert_eq!(replica.store.asked(), before);
    replica.disabled().await;
    sleep(HEARD_AFTER).await;
    assert_eq!(replica.state().await, State::Disabled, "long before it would be read again");
    // Nobody follows any more.
    drain.start();
    sleep(TRUSTED_FOR * 2).await;
    let before = replica.store.asked().keys;
    replica.get().await.unwrap();
    assert_eq!(replica.store.asked().keys, before + 1);
}

#[tokio::test(start_paused = true)]
async fn who_hears_of_nothing_uses_nothing_and_hears_of_what_it_missed() {
    let replica = Replica::new().await;
    let _drain = follow(&replica).await;
    replica.get().await.unwrap();
    replica.disabled().await;
    replica.store.stop();
    sleep(TRUSTED_FOR).await;
    assert!(timeout(TRUSTED_FOR * 100, replica.get()).await.is_err(), "it is not to be had");
    replica.store.open();
    sleep(HEARD_AFTER).await;
    assert_eq!(replica.state().await, State::Disabled);
    let before = replica.store.asked();
    sleep(TRUSTED_FOR * 10).await;
    replica.get().await.unwrap();
    assert_eq!(replica.store.asked(), before, "changes are heard of again");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_of_the_time_when_it_was_asked_for() {
    let replica = Replica::new().await;
    let mut follower = follower(&replica).await;
    replica.get().await.unwrap();
    sleep(TRUSTED_FOR / 2).await;
    // Three answers in a row.
    replica.store.slow(TRUSTED_FOR / 4);
    follower.ask().await.unwrap();
    replica.store.fails(true);
    sleep((TRUSTED_FOR / 4).saturating_sub(Duration::from_millis(1))).await;
    replica.get().await.unwrap();
    sleep(Duration::from_millis(1)).await;
    assert!(replica.get().await.is_err(), "it is as old as the question");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_went_back_is_noticed_by_its_number_or_by_its_session() {
    let replica = Replica::new().await;
    let back = replica.store.remember();
    replica.disabled().await;
    let mut follower = follower(&replica).await;
    assert_eq!(replica.state().await, State::Disabled);
    back();
    follower.ask().await.unwrap();
    assert_eq!(replica.state().await, State::Enabled);

    // Back, and on by another way with as many changes.
    let back = replica.store.remember();
    replica.disabled().await;
    follower.ask().await.unwrap();
    assert_eq!(replica.state().await, State::Disabled);
    back();
    replica.rotated().await;
    follower.ask().await.unwrap();
    assert_eq!(replica.state().await, State::Disabled, "nothing tells it");
    replica.store.reconnect();
    follower.ask().await.unwrap();
    assert_eq!(replica.state().await, State::Enabled);
}

#[tokio::test(start_paused = true)]
async fn more_changes_than_one_answer_holds_are_all_heard_of() {
    let replica = Replica::new().await;
    let mut follower = follower(&replica).await;
    let key = replica.on_record().await;
    for n in 0..=CHANGES_MAX {
        let name = crate::domain::keys::KeyName::parse(&format!("n{n}")).unwrap();
        replica.store.keep_key(crate::domain::key::Key { name, ..key.clone() }).await.unwrap();
    }
    replica.get().await.unwrap();
    replica.disabled().await;
    follower.ask().await.unwrap();
    assert_eq!(replica.state().await, State::Disabled);
    assert_eq!(follower.seen, replica.store.last_change().await.unwrap());
}
