//! What is kept of named keys while the store is slow, away, or goes on without this replica.

use super::*;
use crate::testing::{Replica, TRUSTED_FOR, place};

async fn get_with(replica: &Replica, wanted: Wanted) -> Result<Arc<LiveKey>, KeyError> {
    let (tenant, name) = place();
    replica.named.get_with(&tenant, &name, wanted).await.map(Option::unwrap)
}

fn is_away<T>(result: &Result<T, KeyError>) -> bool {
    matches!(result, Err(KeyError::Store(StoreError::Server(_))))
}

#[tokio::test(start_paused = true)]
async fn a_key_is_good_for_as_long_as_its_changes_are_heard_of() {
    let replica = Replica::new().await;
    assert_eq!(replica.state().await, State::Enabled);
    replica.disabled().await;
    tokio::time::advance(TRUSTED_FOR.saturating_sub(Duration::from_nanos(1))).await;
    assert_eq!(replica.state().await, State::Enabled, "not known yet");
    tokio::time::advance(Duration::from_nanos(1)).await;
    assert_eq!(replica.state().await, State::Disabled);

    // What was heard of counts from the time when it was asked.
    let before = replica.store.asked();
    for _ in 0..10 {
        let asked_at = Instant::now();
        tokio::time::advance(TRUSTED_FOR / 2).await;
        replica.named.heard(asked_at);
        replica.state().await;
    }
    assert_eq!(replica.store.asked(), before, "it is not read again");
    tokio::time::advance(TRUSTED_FOR / 2).await;
    replica.state().await;
    assert_ne!(replica.store.asked(), before);
}

#[tokio::test(start_paused = true)]
async fn while_the_store_is_away_nothing_is_used_for_longer_than_it_is_good() {
    let replica = Replica::new().await;
    replica.get().await.unwrap();
    replica.store.fails(true);
    tokio::time::advance(TRUSTED_FOR.saturating_sub(Duration::from_nanos(1))).await;
    replica.get().await.unwrap();
    tokio::time::advance(Duration::from_nanos(1)).await;
    for _ in 0..3 {
        assert!(is_away(&replica.get().await));
    }
    replica.store.fails(false);
    replica.get().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_took_so_long_to_read_that_it_may_have_changed_is_not_used() {
    let replica = Replica::new().await;
    replica.store.slow(TRUSTED_FOR);
    assert!(is_away(&replica.get().await));
    replica.store.slow(TRUSTED_FOR / 4);
    replica.get().await.unwrap();

    // Changed while it was on its way.
    replica.named.forget_all();
    replica.store.slow(TRUSTED_FOR * 3 / 2);
    let changing = async {
        tokio::time::sleep(TRUSTED_FOR / 4).await;
        replica.store.slow(Duration::ZERO);
        replica.disabled().await;
    };
    let (state, ()) = tokio::join!(replica.state(), changing);
    assert_eq!(state, State::Disabled);
}

#[tokio::test(start_paused = true)]
async fn however_many_ask_a_key_is_read_once() {
    let replica = Replica::new().await;
    let before = replica.store.asked().keys;
    let many = (0..32).map(|_| {
        let named = Arc::clone(&replica.named);
        tokio::spawn(async move { named.get(&place().0, &place().1).await.unwrap().is_some() })
    });
    for one in many.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
    assert_eq!(replica.store.asked().keys, before + 1);
}

#[tokio::test(start_paused = true)]
async fn a_version_that_there_is_not_costs_nobody_a_key() {
    let replica = Replica::new().await;
    let kept = replica.get().await.unwrap();
    let before = replica.store.asked();
    for asked in 1..=3 {
        let found = get_with(&replica, Wanted::version(u32::MAX)).await.unwrap();
        assert!(Arc::ptr_eq(&found, &kept), "the same as before");
        assert_eq!(
            (replica.store.asked().keys, replica.store.asked().revisions),
            (before.keys, before.revisions + asked)
        );
    }
    // What is said to be of another key is not looked for at all.
    let of_another = KeyRef { id: Uuid::max(), version: u32::MAX };
    get_with(&replica, of_another.into()).await.unwrap();
    get_with(&replica, Wanted::version(1)).await.unwrap();
    assert_eq!(replica.store.asked().revisions, before.revisions + 3);
}

#[tokio::test(start_paused = true)]
async fn those_who_ask_at_once_for_a_new_version_cost_one_look_and_one_reading() {
    let replica = Replica::new().await;
    replica.get().await.unwrap();
    replica.rotated().await;
    let before = replica.store.asked();
    let many = (0..32).map(|_| {
        let named = Arc::clone(&replica.named);
        tokio::spawn(async move {
            let wanted = KeyRef { id: Uuid::nil(), version: 2 };
            named.get_with(&place().0, &place().1, wanted.into()).await.unwrap().unwrap().key.newest_version()
        })
    });
    for one in many.collect::<Vec<_>>() {
        assert_eq!(one.await.unwrap(), 2);
    }
    assert_eq!(replica.store.asked().keys, before.keys + 1);
    // The first, and one for all who came while it was under way.
    assert!(replica.store.asked().revisions <= before.revisions + 2, "{:?}", replica.store.asked());
}

#[tokio::test(start_paused = true)]
async fn a_look_that_fails_fails_for_all_who_wait_for_it() {
    let replica = Replica::new().await;
    let kept = replica.get().await.unwrap();
    replica.store.slow(TRUSTED_FOR / 8);
    replica.store.fails(true);
    let began = Instant::now();
    let many = (0..32).map(|_| {
        let named = Arc::clone(&replica.named);
        tokio::spawn(async move { named.get_with(&place().0, &place().1, Wanted::version(7)).await.is_err() })
    });
    for one in many.collect::<Vec<_>>() {
        assert!(one.await.unwrap());
    }
    assert!(began.elapsed() <= TRUSTED_FOR / 2, "not one after the other: {:?}", began.elapsed());
    replica.store.fails(false);
    assert!(Arc::ptr_eq(&get_with(&replica, Wanted::version(7)).await.unwrap(), &kept));
}

#[tokio::test(start_paused = true)]
async fn a_key_that_went_back_to_an_earlier_revision_is_read_again() {
    let replica = Replica::new().await;
    let back = replica.store.remember();
    replica.rotated().await;
    assert_eq!(replica.get().await.unwrap().key.newest_version(), 2);
    back();
    let found = get_with(&replica, Wanted::version(3)).await.unwrap();
    assert_eq!(found.key.newest_version(), 1);
}
