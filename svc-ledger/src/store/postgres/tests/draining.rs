//! A replica that is told to stop: its streams end, it takes no place any more, and gives up the one that it has.

use std::time::Duration;

use mesh::testing::call_of;
use paymesh_proto::ledger::v1 as proto;
use tokio::time::timeout;
use tonic::codegen::tokio_stream::{self, StreamExt as _};

use super::{Fixture, PATIENCE, serving::Served};
use crate::{
    Config,
    service::draining::{assert_cut_short, batch, leads, open_accounts, rest, serve},
    store::{Led as _, postgres::Role},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_streams_end_and_are_taken_up_elsewhere() {
    let fixture = Fixture::new().await;
    let config = Config { postgres: Some(fixture.config.clone()), ..Config::default() };
    crate::service::draining::all_streams_end_and_are_taken_up_elsewhere(config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_that_were_begun_are_answered_before_their_stream_ends() {
    const BATCHES: u64 = 3;
    let mut fixture = Fixture::new().await;
    // So long that a busy machine does not lose its place.
    fixture.config.lease_ms = 20_000;
    let config = Config { postgres: Some(fixture.config.clone()), ..Config::default() };
    let (dir, acme) = (tempfile::tempdir().unwrap(), call_of("acme"));
    let (mut client, running) = serve(dir.path(), config.clone()).await;
    leads(&mut client).await;
    open_accounts(&mut client).await;
    let mut session = fixture.client().await;
    let hold = session.transaction().await.unwrap();
    hold.batch_execute("LOCK TABLE journal IN EXCLUSIVE MODE").await.unwrap();
    let small = |number| {
        let mut batch = batch(number);
        batch.transfers.truncate(1);
        batch
    };
    let ids: Vec<String> = (1..=BATCHES).map(|number| small(number).transfers.remove(0).id).collect();
    let batches = tokio_stream::iter((1..=BATCHES).map(small)).chain(tokio_stream::pending());
    let mut transfers = client.stream_transfers(acme.request(batches)).await.unwrap().into_inner();
    let all = proto::WatchTransfersRequest { from_ns: i64::MAX };
    let mut idle = client.watch_transfers(acme.request(all)).await.unwrap().into_inner();
    // One is being written, and cannot be.
    fixture.until_blocked(1).await;

    let stopping = tokio::spawn(running.stop());
    let (_, end) = rest(&mut idle).await;
    assert_cut_short(end, "one more than the last timestamp_ns");
    hold.rollback().await.unwrap();
    let (answered, end) = rest(&mut transfers).await;
    assert_cut_short(end, "with the same ids");
    assert!(!answered.is_empty(), "the one that was being written, at least");
    assert!(answered.iter().map(|answer| answer.batch).eq(1..=answered.len() as u64));
    timeout(PATIENCE, stopping).await.expect("the drain ends").unwrap();

    let (mut client, running) = serve(dir.path(), config).await;
    leads(&mut client).await;
    let asked = acme.request(proto::LookupTransfersRequest { ids: ids.clone() });
    let made = client.lookup_transfers(asked).await.unwrap().into_inner().transfers;
    let made: Vec<String> = made.into_iter().map(|transfer| transfer.id).collect();
    assert_eq!(made, ids[..answered.len()], "all that was begun was answered");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_reads_the_books_when_it_is_told_to_stop_gives_its_place_up_at_once() {
    let mut fixture = Fixture::new().await;
    // The books are not to be had, and nobody gives up waiting for them.
    fixture.config.query_timeout_ms = 600_000;
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.batch_execute("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let served = Served::start(&fixture, "first").await;
    fixture.until_blocked(1).await;
    assert!(served.store.engine().is_err());
    served.leave().await;
    let released = "SELECT count(*) FROM leadership WHERE epoch = 1 AND released";
    assert_eq!(fixture.count(released).await, 1);
    hold.rollback().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_loses_its_place_while_it_drains_takes_none_again() {
    let fixture = Fixture::new().await;
    let served = Served::start(&fixture, "first").await;
    // A call that is under way holds up the end.
    let engine = served.until_it_leads().await;
    served.drain.start();
    let role = served.store.postgres.role();
    assert_eq!(*role.borrow(), Role::Leading { epoch: 1 });
    fixture.run("UPDATE leadership SET released = true").await;
    let lost = async {
        while fixture.count("SELECT count(*) FROM leadership WHERE released").await == 1
            && matches!(*role.borrow(), Role::Leading { .. })
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // It looks several times more.
        tokio::time::sleep(Duration::from_millis(fixture.config.lease_ms)).await;
    };
    timeout(PATIENCE, lost).await.expect("it looks");
    drop(engine);
    served.leave().await;
    assert_eq!(fixture.count("SELECT epoch FROM leadership").await, 1, "the place is free for others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_about_to_take_the_place_when_it_is_told_to_stop_leaves_it_free() {
    let fixture = Fixture::new().await;
    let mut client = fixture.client().await;
    let hold = client.transaction().await.unwrap();
    hold.execute("SELECT FROM leadership FOR UPDATE", &[]).await.unwrap();
    let served = Served::start(&fixture, "first").await;
    fixture.until_blocked(1).await;
    served.drain.start();
    tokio::task::yield_now().await;
    hold.rollback().await.unwrap();
    served.leave().await;
    // What its sessions were at is over, too.
    let at_it = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE state = 'active'
            AND application_name LIKE 'paymesh-ledger {}%' AND pid <> pg_backend_pid()",
        fixture.config.schema
    );
    let over = async {
        while fixture.count(&at_it).await > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, over).await.expect("they end");
    assert_eq!(fixture.count("SELECT count(*) FROM leadership WHERE released").await, 1);
}
