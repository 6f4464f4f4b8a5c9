//! The contract, with a generation and a budget of any size, and what only this index promises.

use std::{fs, time::Duration};

use super::*;
use crate::{
    domain::{AccountFlags, Kind},
    store::index_contract::{any, world::World},
};

fn fresh(tuning: Tuning) -> (SqliteIndex, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (SqliteIndex::tuned(&dir.path().join("index.db"), tuning).unwrap(), dir)
}

mod as_it_is {
    crate::store::index_contract::suite!(super::fresh(super::Tuning::default()));
}

/// Many generations, and several calls to a page.
mod with_short_generations_and_a_small_budget {
    const TUNING: super::Tuning = super::Tuning { generation: 7, budget: 9, log_pages: 0 };
    crate::store::index_contract::suite!(super::fresh(TUNING));
}

/// Long generations, and one movement to a call.
mod with_the_smallest_budget {
    const TUNING: super::Tuning = super::Tuning { generation: 150, budget: 1, log_pages: 4 };
    crate::store::index_contract::suite!(super::fresh(TUNING));
}

const SHORT: Tuning = Tuning { generation: 20, budget: 1_000, log_pages: 1_000_000 };

/// Records of a few things each.
fn records(world: &mut World, count: usize) -> Vec<Happened> {
    world.settle(3);
    let record = |world: &mut World| {
        for _ in 0..6 {
            world.happen();
        }
        world.seal()
    };
    (0..count).map(|_| record(world)).collect()
}

fn made(records: &[Happened]) -> Vec<Transfer> {
    let transfer = |event: &crate::domain::Event| match event {
        crate::domain::Event::Made { transfer, .. } => Some(Transfer::clone(transfer)),
        _ => None,
    };
    records.iter().flat_map(|record| record.events.iter()).filter_map(transfer).collect()
}

async fn held(index: &SqliteIndex) -> Vec<Transfer> {
    let filter = TransferFilter { tenant: None, ..any("acme") };
    let mut held = index.transfers(filter.clone()).await.unwrap();
    assert_eq!(held.resume, None);
    // Along the postings as well as along the table.
    let mut by_tenant = Vec::new();
    for tenant in crate::store::index_contract::world::TENANTS {
        by_tenant.extend(index.transfers(TransferFilter { ..any(tenant) }).await.unwrap().items);
    }
    by_tenant.sort_unstable_by_key(|transfer| transfer.timestamp);
    assert_eq!(by_tenant, held.items);
    std::mem::take(&mut held.items)
}

#[tokio::test]
async fn what_was_applied_is_there_after_opening_again() {
    let (index, dir) = fresh(SHORT);
    let path = dir.path().join("index.db");
    let mut world = World::new(1);
    let records = records(&mut world, 12);
    let mut index = Some(index);
    for (done, record) in records.iter().enumerate() {
        let open = index.take().unwrap();
        open.apply(vec![record.clone()]).await.unwrap();
        drop(open);
        let again = SqliteIndex::tuned(&path, SHORT).unwrap();
        assert_eq!(
            again.applied().await.unwrap(),
            Watermark { sequence: record.sequence, hash: record.hash }
        );
        assert_eq!(held(&again).await, made(&records[..=done]));
        index = Some(again);
    }
    let generations = index.unwrap().shared.view.read().unwrap().generations.len();
    assert!(generations >= 2, "{generations}");
}

/// The log as a power loss may leave it: as far as it was synced. What is then held is what the watermark says.
#[tokio::test]
async fn a_log_that_is_cut_anywhere_leaves_what_the_watermark_says() {
    let (index, dir) = fresh(SHORT);
    let mut world = World::new(2);
    let records = records(&mut world, 12);
    for record in &records {
        index.apply(vec![record.clone()]).await.unwrap();
    }
    let log = fs::read(dir.path().join("index.db-wal")).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for part in 0..=24 {
        let cut = tempfile::tempdir().unwrap();
        fs::copy(dir.path().join("index.db"), cut.path().join("index.db")).unwrap();
        fs::write(cut.path().join("index.db-wal"), &log[..log.len() * part / 24]).unwrap();
        let index = SqliteIndex::tuned(&cut.path().join("index.db"), SHORT).unwrap();
        let watermark = index.applied().await.unwrap();
        let holds = usize::try_from(watermark.sequence).unwrap();
        assert_eq!(held(&index).await, made(&records[..holds]));
        seen.insert(holds);
        // And goes on from there.
        index.apply(records.clone()).await.unwrap();
        assert_eq!(held(&index).await, made(&records));
    }
    assert!(seen.len() > 5 && seen.contains(&12), "{seen:?}");
}

#[tokio::test]
async fn a_damaged_file_is_made_anew_and_a_newer_or_anothers_is_refused() {
    let (index, dir) = fresh(SHORT);
    let path = dir.path().join("index.db");
    let mut world = World::new(3);
    let records = records(&mut world, 3);
    index.apply(records.clone()).await.unwrap();
    drop(index);

    let newer = Connection::open(&path).unwrap();
    newer.pragma_update(None, "user_version", 3).unwrap();
    drop(newer);
    let refused = SqliteIndex::open(&path).err().unwrap();
    assert!(matches!(refused, StoreError::Newer { found: 3, known: 2 }), "{refused}");

    let older = Connection::open(&path).unwrap();
    older.pragma_update(None, "user_version", 1).unwrap();
    drop(older);
    let index = SqliteIndex::open(&path).unwrap();
    assert_eq!(index.applied().await.unwrap(), Watermark::default(), "made anew");
    index.apply(records.clone()).await.unwrap();
    drop(index);

    fs::write(&path, "no database at all, but something that is long enough to have a header".repeat(9))
        .unwrap();
    let index = SqliteIndex::open(&path).unwrap();
    assert_eq!(index.applied().await.unwrap(), Watermark::default());
    index.apply(records.clone()).await.unwrap();
    assert_eq!(held(&index).await, made(&records));

    let other = dir.path().join("other.db");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE treasure (coins INTEGER)").unwrap();
    let refused = SqliteIndex::open(&other).err().unwrap();
    assert!(refused.to_string().contains("is no index of a ledger"), "{refused}");
    assert!(fs::metadata(&other).unwrap().len() > 0, "and left alone");
}

#[tokio::test]
async fn damage_that_a_question_meets_has_the_file_made_anew_at_the_next_start() {
    let (index, dir) = fresh(SHORT);
    let path = dir.path().join("index.db");
    let mut world = World::new(4);
    let records = records(&mut world, 12);
    index.apply(records.clone()).await.unwrap();
    lock(&index.shared.writer).execute("UPDATE movements SET body = x'00'", []).unwrap();
    let filter = TransferFilter { tenant: None, ..any("acme") };
    let error = index.transfers(filter).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    drop(index);
    let index = SqliteIndex::tuned(&path, SHORT).unwrap();
    assert_eq!(index.applied().await.unwrap(), Watermark::default());
    index.apply(records.clone()).await.unwrap();
    drop(index);
    let index = SqliteIndex::tuned(&path, SHORT).unwrap();
    assert_eq!(held(&index).await, made(&records), "once");
}

#[test]
fn no_new_index_is_promised_where_the_damage_cannot_be_noted() {
    let (index, dir) = fresh(SHORT);
    // A directory stands where the note belongs.
    fs::create_dir(dir.path().join("index.db.damaged")).unwrap();
    assert!(!index.give_up());
    fs::remove_dir(dir.path().join("index.db.damaged")).unwrap();
    assert!(index.give_up());
}

#[tokio::test]
async fn time_does_not_run_backwards() {
    let (index, _dir) = fresh(SHORT);
    let mut world = World::new(8);
    let mut records = records(&mut world, 2);
    records[0].sequence = 2;
    records[1].sequence = 1;
    records.reverse();
    index.apply(vec![records[0].clone()]).await.unwrap();
    let refused = index.apply(vec![records[1].clone()]).await.unwrap_err();
    assert!(matches!(refused, StoreError::Corrupt(_)), "{refused}");
}

#[tokio::test]
async fn an_index_of_another_journal_is_cleared() {
    let (index, _dir) = fresh(SHORT);
    let mut world = World::new(5);
    index.apply(records(&mut world, 12)).await.unwrap();
    index.clear().unwrap();
    assert_eq!(index.applied().await.unwrap(), Watermark::default());
    assert_eq!(held(&index).await, []);
    let mut other = World::new(6);
    let records = records(&mut other, 12);
    index.apply(records.clone()).await.unwrap();
    assert_eq!(held(&index).await, made(&records));
}

/// Whoever asks while records are applied sees whole records: as many as the watermark before said, or more.
#[test]
fn questions_see_whole_commits_while_others_are_under_way() {
    const RECORDS: i64 = 120;
    let (index, _dir) = fresh(Tuning { log_pages: 8, ..SHORT });
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut world = World::new(7);
    let a = world.open("acme", "EUR", AccountFlags::HISTORY);
    let b = world.open("acme", "EUR", AccountFlags::NONE);
    let writer = index.clone();
    let applying = runtime.spawn(async move {
        for _ in 0..RECORDS {
            // A record is three transfers.
            for _ in 0..3 {
                world.make(a, b, Kind::Single);
            }
            writer.apply(vec![world.seal()]).await.unwrap();
        }
    });
    runtime.block_on(async {
        let mut last = 0;
        while last < usize::try_from(RECORDS).unwrap() {
            let least = usize::try_from(index.applied().await.unwrap().sequence).unwrap();
            let filter = TransferFilter { account: Some(a), ..any("acme") };
            let found = index.transfers(filter).await.unwrap().items.len();
            assert_eq!(found % 3, 0, "a part of a record");
            assert!(found >= 3 * least, "{found} of {least} records");
            assert!(found / 3 >= last, "fewer than before");
            last = found / 3;
        }
        applying.await.unwrap();
    });
}

/// The executor's connection and the others' have nothing to do with each other: neither waits.
#[test]
fn the_executor_waits_for_no_reader_and_no_reader_for_the_executor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (index, _dir) = fresh(SHORT);
    let mut world = World::new(9);
    let records = records(&mut world, 12);
    runtime.block_on(index.apply(records.clone())).unwrap();
    let ids: Vec<TransferId> = made(&records).iter().map(|transfer| transfer.id).collect();

    let executing = lock(&index.shared.knower);
    let looking_up = async { tokio::time::timeout(Duration::from_secs(60), index.known(ids.clone())).await };
    let found = runtime.block_on(looking_up).expect("a reader has a connection of its own").unwrap();
    drop(executing);
    assert_eq!(found.len(), ids.len());

    // Readers that have taken all turns and all connections there are.
    let turns = runtime.block_on(index.shared.turns.acquire_many(u32::try_from(READERS).unwrap())).unwrap();
    let connections = lock(&index.shared.readers);
    assert_eq!(runtime.block_on(index.for_writes().known(ids.clone())).unwrap().len(), ids.len());
    drop((turns, connections));
}

/// A snapshot that stayed open would be all that the connection ever sees.
#[tokio::test]
async fn a_lookup_leaves_no_transaction_open() {
    let (index, _dir) = fresh(SHORT);
    let mut world = World::new(10);
    let (first, second) = (records(&mut world, 3), records(&mut world, 3));
    index.apply(first.clone()).await.unwrap();
    let ids = |records: &[Happened]| made(records).iter().map(|transfer| transfer.id).collect::<Vec<_>>();
    for asked in [ids(&first), ids(&second), Vec::new()] {
        let expected = if asked == ids(&first) { asked.len() } else { 0 };
        assert_eq!(index.for_writes().known(asked).await.unwrap().len(), expected);
        assert!(lock(&index.shared.knower).is_autocommit());
    }
    index.apply(second.clone()).await.unwrap();
    assert_eq!(index.for_writes().known(ids(&second)).await.unwrap().len(), ids(&second).len());
    assert_eq!(index.known(ids(&second)).await.unwrap().len(), ids(&second).len());
    assert!(lock(&index.shared.readers).iter().all(Connection::is_autocommit));
}
