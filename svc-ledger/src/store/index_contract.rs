//! What every index keeps, whatever it is made of. An index's tests run [`suite!`] on it.

pub(crate) mod plain;
mod random;
pub(super) mod world;

use std::sync::Arc;

use money::Timestamp;

use self::{
    random::{all, questions_at_random},
    world::{World, tenant},
};
use super::ports::{
    AccountFilter, BalanceFilter, Happened, Index, Period, TransferFilter, Watermark, Window,
};
use crate::domain::{AccountFlags, AccountId, Event, Kind, Known, ReservationState as Ended, TransferId};

const OLDEST: Window = Window { newest_first: false, limit: 1_000 };
const NEWEST: Window = Window { newest_first: true, limit: 1_000 };
const PENDING: Kind = Kind::Pending { timeout_s: 60 };

/// Every transfer of a tenant.
pub(super) fn any(owner: &str) -> TransferFilter {
    TransferFilter::any(Some(tenant(owner)), Period::EVER, OLDEST)
}

/// Every account of a tenant.
fn any_account(owner: &str) -> AccountFilter {
    AccountFilter::any(tenant(owner), Period::EVER, OLDEST)
}

async fn ids<I: Index>(index: &I, filter: TransferFilter) -> Vec<TransferId> {
    all(filter, |filter| index.transfers(filter)).await.into_iter().map(|transfer| transfer.id).collect()
}

/// Two accounts of acme in EUR, the first with its history kept.
fn pair(world: &mut World) -> (AccountId, AccountId) {
    (world.open("acme", "EUR", AccountFlags::HISTORY), world.open("acme", "EUR", AccountFlags::NONE))
}

pub(super) async fn an_empty_index_holds_nothing<I: Index>(index: I) {
    assert_eq!(index.applied().await.unwrap(), Watermark { sequence: 0, hash: [0; 32] });
    let id = TransferId::new(1).unwrap();
    assert_eq!(index.known(vec![id]).await.unwrap(), []);
    assert_eq!(index.known(Vec::new()).await.unwrap(), []);
    assert_eq!(ids(&index, any("acme")).await, []);
    assert_eq!(ids(&index, TransferFilter { tenant: None, ..any("acme") }).await, []);
    assert_eq!(all(any_account("acme"), |filter| index.accounts(filter)).await, []);
    index.apply(Vec::new()).await.unwrap();
    assert_eq!(index.applied().await.unwrap(), Watermark::default());
}

pub(super) async fn records_are_taken_up_once_in_order_and_without_a_gap<I: Index>(index: I) {
    let mut world = World::new(1);
    let (a, b) = pair(&mut world);
    let mut expected = vec![world.make(a, b, Kind::Single)];
    let first = world.seal();
    expected.push(world.make(b, a, Kind::Single));
    let second = world.seal();
    expected.push(world.make(b, a, Kind::Single));
    let third = world.seal();

    index.apply(vec![second.clone()]).await.unwrap_err();
    index.apply(vec![first.clone(), third.clone()]).await.unwrap_err();
    assert_eq!(index.applied().await.unwrap(), Watermark::default(), "refused as a whole");
    assert_eq!(ids(&index, any("acme")).await, []);

    index.apply(vec![first.clone()]).await.unwrap();
    index.apply(vec![first.clone()]).await.unwrap();
    let other = Happened { hash: [9; 32], ..first.clone() };
    index.apply(vec![other.clone()]).await.unwrap_err();
    index.apply(vec![other, second.clone()]).await.unwrap_err();
    assert_eq!(index.applied().await.unwrap(), Watermark { sequence: 1, hash: first.hash });
    assert_eq!(ids(&index, any("acme")).await, expected[..1]);

    index.apply(vec![first, second, third.clone()]).await.unwrap();
    assert_eq!(index.applied().await.unwrap(), Watermark { sequence: 3, hash: third.hash });
    assert_eq!(ids(&index, any("acme")).await, expected);
}

pub(super) async fn records_of_nothing_to_look_up_move_the_watermark<I: Index>(index: I) {
    let mut world = World::new(2);
    let empty = world.seal();
    let (a, _) = pair(&mut world);
    let opened = world.seal();
    world.limit(a);
    let limited = world.seal();
    for record in [empty, opened, limited] {
        let watermark = Watermark { sequence: record.sequence, hash: record.hash };
        index.apply(vec![record]).await.unwrap();
        assert_eq!(index.applied().await.unwrap(), watermark);
    }
}

pub(super) async fn what_fails_leaves_nothing_behind<I: Index>(index: I) {
    let mut world = World::new(3);
    let (a, b) = pair(&mut world);
    let made = world.make(a, b, Kind::Single);
    let first = world.seal();
    index.apply(vec![first.clone()]).await.unwrap();

    let reserved = world.make(a, b, PENDING);
    let burned = world.burn("acme");
    let newcomer = world.open("acme", "EUR", AccountFlags::NONE);
    let good = world.seal();
    let twice = Happened {
        sequence: 3,
        hash: [3; 32],
        events: Arc::new([Event::Burned { tenant: tenant("acme"), id: made }]),
    };
    index.apply(vec![good.clone(), twice]).await.unwrap_err();
    assert_eq!(index.applied().await.unwrap(), Watermark { sequence: 1, hash: first.hash });
    assert_eq!(index.known(vec![reserved, burned]).await.unwrap(), []);
    assert_eq!(ids(&index, any("acme")).await, [made]);
    assert_eq!(all(any_account("acme"), |filter| index.accounts(filter)).await, [a, b]);

    index.apply(vec![good]).await.unwrap();
    assert_eq!(ids(&index, any("acme")).await, [made, reserved]);
    assert_eq!(index.known(vec![reserved, burned]).await.unwrap().len(), 2);
    assert_eq!(all(any_account("acme"), |filter| index.accounts(filter)).await, [a, b, newcomer]);
}

fn by_id(mut known: Vec<(TransferId, Known)>) -> Vec<(TransferId, Known)> {
    known.sort_unstable_by_key(|(id, _)| *id);
    known
}

pub(super) async fn known_ids_come_with_where_they_stand<I: Index>(index: I) {
    let mut world = World::new(4);
    let (a, b) = pair(&mut world);
    let single = world.make(a, b, Kind::Single);
    let reserved: Vec<TransferId> = (0..4).map(|_| world.make(a, b, PENDING)).collect();
    // Some are resolved in the commit that made them, some in a later one.
    let post = world.resolve(reserved[0], true);
    let (burned, theirs) = (world.burn("acme"), world.burn("globex"));
    index.apply(vec![world.seal()]).await.unwrap();
    world.resolve(reserved[1], false);
    world.expire(reserved[2]);
    index.apply(vec![world.seal()]).await.unwrap();

    let unknown: Vec<TransferId> = (0..3).map(|_| world.transfer_id()).collect();
    let asked = [&[single, post, burned, theirs], &reserved[..], &unknown].concat();
    let found = index.known(asked.clone()).await.unwrap();
    let looked_up = index.for_writes().known(asked).await.unwrap();
    assert_eq!(by_id(looked_up), by_id(found.clone()), "whoever asks");
    let state = |id: TransferId| {
        let known = found.iter().find(|(known, _)| *known == id).map(|(_, known)| known.clone());
        match known.unwrap() {
            Known::Reserved(transfer, state) => (Some(transfer), Some(state)),
            Known::Made(transfer) => (Some(transfer), None),
            Known::Failed(_) => (None, None),
        }
    };
    assert_eq!(found.len(), 8, "the unknown are left out");
    assert_eq!(state(burned), (None, None));
    assert_eq!(state(single).1, None);
    assert_eq!(state(post).0.unwrap().pending_id(), Some(reserved[0]));
    let states: Vec<_> = reserved.iter().map(|id| state(*id).1.unwrap()).collect();
    assert_eq!(states, [Ended::Posted, Ended::Voided, Ended::Expired, Ended::Open]);
    for id in [single, post, burned, theirs].into_iter().chain(reserved) {
        assert_eq!(
            found.iter().find(|(known, _)| *known == id).map(|(_, k)| k.clone()),
            world.plain.known(id)
        );
    }
}

pub(super) async fn a_whole_call_of_ids_is_looked_up_at_once<I: Index>(index: I) {
    let mut world = World::new(5);
    let (a, b) = pair(&mut world);
    let held: Vec<TransferId> = (0..500).map(|_| world.make(a, b, Kind::Single)).collect();
    index.apply(vec![world.seal()]).await.unwrap();
    let mut asked: Vec<TransferId> = (0..8_000).map(|_| world.transfer_id()).collect();
    asked.extend(&held[400..]);
    asked.extend([held[0], held[0]]);
    asked.extend([1, u128::MAX - 1].map(|bits| TransferId::new(bits).unwrap()));
    let mut found: Vec<TransferId> =
        index.known(asked).await.unwrap().into_iter().map(|(id, _)| id).collect();
    found.sort_unstable();
    found.dedup();
    let mut expected = [&held[..1], &held[400..]].concat();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

pub(super) async fn nobody_sees_what_is_anothers<I: Index>(index: I) {
    let mut world = World::new(6);
    let (a, b) = pair(&mut world);
    let other = world.open("globex", "EUR", AccountFlags::HISTORY);
    let another = world.open("globex", "EUR", AccountFlags::NONE);
    let mine = world.make(a, b, PENDING);
    let post = world.resolve(mine, true);
    let theirs = world.make(other, another, Kind::Single);
    index.apply(vec![world.seal()]).await.unwrap();

    assert_eq!(ids(&index, any("acme")).await, [mine, post]);
    assert_eq!(ids(&index, any("globex")).await, [theirs]);
    assert_eq!(ids(&index, any("nobody")).await, []);
    assert_eq!(ids(&index, TransferFilter { tenant: None, ..any("acme") }).await, [mine, post, theirs]);
    // Not by naming another's account or reservation, either.
    let by_account = TransferFilter { account: Some(a), ..any("globex") };
    let by_debit = TransferFilter { debit: Some(a), ..any("globex") };
    let by_credit = TransferFilter { credit: Some(b), ..any("globex") };
    let by_pending = TransferFilter { pending: Some(mine), ..any("globex") };
    for filter in [by_account, by_debit, by_credit, by_pending] {
        assert_eq!(ids(&index, filter.clone()).await, [], "{filter:?}");
        let own = TransferFilter { tenant: Some(tenant("acme")), ..filter };
        assert!(ids(&index, own.clone()).await.contains(&post), "{own:?}");
    }
    let balances = |owner: &str, account| BalanceFilter {
        tenant: tenant(owner),
        account,
        period: Period::EVER,
        window: OLDEST,
    };
    assert_eq!(all(balances("globex", a), |filter| index.balances(filter)).await, []);
    assert_eq!(all(balances("acme", a), |filter| index.balances(filter)).await.len(), 2);
    assert_eq!(all(any_account("globex"), |filter| index.accounts(filter)).await, [other, another]);
}

pub(super) async fn history_is_kept_of_each_movement_and_read_as_of_any_time<I: Index>(index: I) {
    let mut world = World::new(7);
    let (a, b) = pair(&mut world);
    world.make(b, a, Kind::Single);
    let reserved = world.make(a, b, PENDING);
    index.apply(vec![world.seal()]).await.unwrap();
    world.expire(reserved);
    world.make(a, b, Kind::Single);
    index.apply(vec![world.seal()]).await.unwrap();

    let filter = BalanceFilter { tenant: tenant("acme"), account: a, period: Period::EVER, window: OLDEST };
    let history = all(filter.clone(), |filter| index.balances(filter)).await;
    assert_eq!(history, world.plain.balances(&filter));
    assert_eq!(history.len(), 4, "the lapse moved it, too");
    for (place, at) in history.iter().enumerate() {
        // As of a moment: the newest one at or before it.
        let newest_before = |to: i64| {
            let period = Period { from: Period::EVER.from, to: Timestamp::from_nanos(to) };
            let window = Window { newest_first: true, limit: 1 };
            BalanceFilter { period, window, ..filter.clone() }
        };
        let then = at.timestamp.as_nanos();
        assert_eq!(index.balances(newest_before(then)).await.unwrap().items, [*at]);
        let before = index.balances(newest_before(then - 1)).await.unwrap().items;
        assert_eq!(before.first(), place.checked_sub(1).map(|place| &history[place]));
    }
    let not_kept = BalanceFilter { account: b, ..filter };
    assert_eq!(all(not_kept, |filter| index.balances(filter)).await, []);
}

pub(super) async fn pages_follow_each_other_in_either_order<I: Index>(index: I) {
    let mut world = World::new(8);
    let (a, b) = pair(&mut world);
    for _ in 0..5 {
        for _ in 0..5 {
            world.make(a, b, Kind::Single);
        }
        index.apply(vec![world.seal()]).await.unwrap();
    }
    let everything = world.plain.transfers.clone();
    for limit in [1, 2, 24, 25, 26, usize::MAX] {
        for newest_first in [false, true] {
            let window = Window { newest_first, limit };
            for account in [None, Some(a)] {
                let filter = TransferFilter { account, window, ..any("acme") };
                let found = all(filter.clone(), |filter| index.transfers(filter)).await;
                let mut expected = everything.clone();
                if newest_first {
                    expected.reverse();
                }
                assert_eq!(found, expected, "{filter:?}");
            }
        }
    }
    let (first, last) = (everything[3].timestamp, everything[20].timestamp);
    let within = TransferFilter { period: Period { from: first, to: last }, window: NEWEST, ..any("acme") };
    let found = all(within, |filter| index.transfers(filter)).await;
    assert_eq!(found.len(), 18, "both ends are in");
    let none = TransferFilter { period: Period { from: last, to: first }, ..any("acme") };
    let page = index.transfers(none).await.unwrap();
    assert_eq!((page.items.len(), page.resume), (0, None), "a period that ends before it begins is none");
}

pub(super) async fn questions_at_random_are_answered_as_by_looking_at_everything<I: Index>(index: I) {
    questions_at_random(index, 20_261_121).await;
}

pub(super) async fn questions_at_random_in_a_second_world<I: Index>(index: I) {
    questions_at_random(index, 2).await;
}

pub(super) async fn questions_at_random_in_a_third_world<I: Index>(index: I) {
    questions_at_random(index, 3).await;
}

/// Stamps the suite over an index; `$fresh` gives an empty one and whatever must outlive it.
macro_rules! suite {
    ($fresh:expr; $($test:ident),+ $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let (index, _guard) = $fresh;
            $crate::store::index_contract::$test(index).await;
        }
    )+};
    ($fresh:expr) => {
        $crate::store::index_contract::suite! {
            $fresh;
            an_empty_index_holds_nothing,
            records_are_taken_up_once_in_order_and_without_a_gap,
            records_of_nothing_to_look_up_move_the_watermark,
            what_fails_leaves_nothing_behind,
            known_ids_come_with_where_they_stand,
            a_whole_call_of_ids_is_looked_up_at_once,
            nobody_sees_what_is_anothers,
            history_is_kept_of_each_movement_and_read_as_of_any_time,
            pages_follow_each_other_in_either_order,
            questions_at_random_are_answered_as_by_looking_at_everything,
            questions_at_random_in_a_second_world,
            questions_at_random_in_a_third_world,
        }
    };
}
pub(super) use suite;
