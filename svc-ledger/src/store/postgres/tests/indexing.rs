//! The index: what every index keeps, what a replaced writer may not do to it, and what a new leader finds.

use std::sync::Arc;

use money::Timestamp;

use super::Fixture;
use crate::{
    domain::{Account, AccountFlags, Event, Kind, Known, Reference, Transfer},
    store::{
        index_contract::{any, suite, world::World},
        ports::{Happened, Index as _, TransferFilter, Watermark},
        postgres::PostgresIndex,
    },
};

impl Fixture {
    async fn index(&self, epoch: u64) -> PostgresIndex {
        let (postgres, _) = self.open("any").await;
        postgres.index(epoch).unwrap()
    }
}

async fn fresh() -> (PostgresIndex, Fixture) {
    let fixture = Fixture::new().await;
    let epoch = fixture.take_over("first").await;
    (fixture.index(epoch).await, fixture)
}

suite!(fresh().await);

#[tokio::test]
async fn a_replaced_writer_applies_nothing() {
    let (old, fixture) = fresh().await;
    let mut world = World::new(11);
    world.open("acme", "EUR", AccountFlags::NONE);
    let first = world.seal();
    old.apply(vec![first.clone()]).await.unwrap();
    let epoch = fixture.take_over("second").await;
    world.open("acme", "EUR", AccountFlags::NONE);
    let second = world.seal();
    old.apply(vec![second.clone()]).await.unwrap_err();
    assert_eq!(fixture.count("SELECT count(*) FROM accounts").await, 1);
    let new = fixture.index(epoch).await;
    assert_eq!(new.applied().await.unwrap(), Watermark { sequence: 1, hash: first.hash });
    new.apply(vec![first, second]).await.unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM accounts").await, 2);
}

#[tokio::test]
async fn what_was_under_way_when_the_connection_was_lost_is_taken_up_once() {
    let (index, fixture) = fresh().await;
    let mut world = World::new(12);
    let accounts = [(); 2].map(|()| world.open("acme", "EUR", AccountFlags::HISTORY));
    index.apply(vec![world.seal()]).await.unwrap();
    world.make(accounts[0], accounts[1], Kind::Single);
    let record = world.seal();
    let writers = fixture.server().writers(1);
    let ended = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = $1";
    fixture.admin.query_one(ended, &[&writers]).await.unwrap();
    // It fails once, or not at all where the loss was seen before.
    if index.apply(vec![record.clone()]).await.is_err() {
        index.apply(vec![record.clone()]).await.unwrap();
    }
    index.apply(vec![record]).await.unwrap();
    assert_eq!(fixture.count("SELECT count(*) FROM transfers").await, 1);
}

#[tokio::test]
async fn a_new_leader_finds_accounts_and_open_reservations_at_the_watermark() {
    let (index, fixture) = fresh().await;
    let mut world = World::new(13);
    let a = world.open("acme", "EUR", AccountFlags::HISTORY);
    let b = world.open("acme", "EUR", AccountFlags::CLOSED);
    let mut open = Vec::new();
    for _ in 0..20 {
        let reserved = world.make(a, b, Kind::Pending { timeout_s: 60 });
        match world.numbers.below(4) {
            0 => drop(world.resolve(reserved, true)),
            1 => drop(world.resolve(reserved, false)),
            2 => world.expire(reserved),
            _ => open.push(reserved),
        }
        if world.numbers.chance(30) {
            index.apply(vec![world.seal()]).await.unwrap();
        }
    }
    world.burn("acme");
    world.limit(a);
    let last = world.seal();
    let limit = last.events.iter().find_map(|event| match event {
        Event::Limited { limit, .. } => Some(*limit),
        _ => None,
    });
    let at = last.events.iter().filter_map(Event::timestamp).max();
    index.apply(vec![last.clone()]).await.unwrap();
    let (postgres, _) = fixture.open("second").await;
    assert_eq!(Some(postgres.snapshot().await.unwrap().last), at);
    let closed = world.close_times();
    let last = world.seal();
    index.apply(vec![last.clone()]).await.unwrap();

    let snapshot = postgres.snapshot().await.unwrap();
    assert_eq!((snapshot.sequence, snapshot.hash), (last.sequence, last.hash));
    assert_eq!(snapshot.last, closed);
    let reservations: Vec<_> = snapshot.reservations.iter().map(|transfer| transfer.id).collect();
    assert_eq!(reservations, open);
    let mut accounts = snapshot.accounts;
    accounts.sort_by_key(|account| account.created_at);
    assert_eq!(accounts.iter().map(|account| account.id).collect::<Vec<_>>(), [a, b]);
    assert_eq!(Some(accounts[0].limit), limit);
    assert!(snapshot.reservations.iter().all(|reservation| reservation.expires_at().is_some()));
    // Both sides of each movement are in: what is reserved is reserved on both.
    assert_eq!(accounts[0].balances.debits_pending, accounts[1].balances.credits_pending);
    assert_eq!(accounts[0].balances.debits_posted, accounts[1].balances.credits_posted);
    let reserved: i64 = snapshot.reservations.iter().map(|reservation| reservation.amount).sum();
    assert_eq!(accounts[0].balances.debits_pending, reserved);
}

#[tokio::test]
async fn an_event_of_an_account_that_is_not_there_is_refused() {
    let (index, _fixture) = fresh().await;
    let mut world = World::new(14);
    let a = world.open("acme", "EUR", AccountFlags::NONE);
    index.apply(vec![world.seal()]).await.unwrap();
    let event = Event::Limited {
        timestamp: Timestamp::from_nanos(1),
        account: a,
        number: Timestamp::from_nanos(2),
        limit: 5,
    };
    let made_up = Happened { sequence: 2, hash: [2; 32], events: Arc::new([event]) };
    index.apply(vec![made_up]).await.unwrap_err();
    assert_eq!(index.applied().await.unwrap().sequence, 1);
}

#[tokio::test]
async fn a_reference_is_any_text() {
    let (index, _fixture) = fresh().await;
    let mut world = World::new(15);
    let [a, b] = [(); 2].map(|()| world.open("acme", "EUR", AccountFlags::NONE));
    world.make(a, b, Kind::Single);
    let record = world.seal();
    let reference: Reference = "no \0 end\u{10ffff}".parse().unwrap();
    let with_it = |event: &Event| match event {
        Event::Made { transfer, debit, credit } => {
            let transfer = Transfer { reference: reference.clone(), ..Transfer::clone(transfer) };
            Event::Made { transfer: Arc::new(transfer), debit: *debit, credit: *credit }
        }
        Event::Opened(account) => {
            Event::Opened(Arc::new(Account { reference: reference.clone(), ..Account::clone(account) }))
        }
        other => other.clone(),
    };
    let events = record.events.iter().map(with_it).collect();
    index.apply(vec![Happened { events, ..record }]).await.unwrap();
    let filter = TransferFilter { reference: Some(reference.clone()), ..any("acme") };
    let found = index.transfers(filter).await.unwrap().items;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].reference, reference);
    let known = index.known(vec![found[0].id]).await.unwrap();
    assert!(matches!(&known[..], [(_, Known::Made(transfer))] if transfer.reference == reference));
}
