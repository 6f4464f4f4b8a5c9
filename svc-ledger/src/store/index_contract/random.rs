//! Questions at random, each answered by the index under test and by the plain one. Conditions combine
//! freely, and are made up anew each time: a list of cases would only ever find what its writer thought of.

use money::Timestamp;

use super::{
    plain::Plain,
    world::{CODES, LEDGERS, Numbers, START, TENANTS, World, tenant},
};
use crate::{
    domain::{AccountId, Kind, Known, TransferFlags, TransferId},
    store::ports::{AccountFilter, BalanceFilter, Index, Page, Period, TransferFilter, Window},
};

/// From everything to a single moment, with ends on, beside and between what happened.
fn period(numbers: &mut Numbers, plain: &Plain) -> Period {
    let mut end = |open: i64| {
        let time = match numbers.below(5) {
            0 | 1 => open,
            2 => START + numbers.small(1_000_000_000),
            3 => plain.accounts[numbers.below(plain.accounts.len())].created_at.as_nanos(),
            _ if plain.transfers.is_empty() => open,
            _ => plain.transfers[numbers.below(plain.transfers.len())].timestamp.as_nanos(),
        };
        Timestamp::from_nanos(time.saturating_add(numbers.small(3) - 1))
    };
    let (from, to) = (end(i64::MIN), end(i64::MAX));
    // Now and then a period that is none, too.
    if from <= to || numbers.chance(10) { Period { from, to } } else { Period { from: to, to: from } }
}

fn window(numbers: &mut Numbers) -> Window {
    let limit = if numbers.chance(50) { 1 + numbers.below(4) } else { 1 + numbers.below(200) };
    Window { newest_first: numbers.chance(50), limit }
}

/// Each condition is there or not; those that are there agree with one of the transfers, mostly.
fn transfer_filter(numbers: &mut Numbers, plain: &Plain) -> TransferFilter {
    let model = (!plain.transfers.is_empty()).then(|| numbers.pick(&plain.transfers).clone());
    let share = [8, 20, 40][numbers.below(3)];
    let mut filter = TransferFilter {
        tenant: numbers.chance(80).then(|| tenant(numbers.text(&TENANTS))),
        period: period(numbers, plain),
        account: numbers.chance(share).then(|| numbers.pick(&plain.accounts).id),
        debit: numbers.chance(share).then(|| numbers.pick(&plain.accounts).id),
        credit: numbers.chance(share).then(|| numbers.pick(&plain.accounts).id),
        ledger: numbers.chance(share).then(|| numbers.text(&LEDGERS).parse().unwrap()),
        code: numbers.chance(share).then(|| numbers.text(&CODES).parse().unwrap()),
        flags: if numbers.chance(share) { TransferFlags::LINKED } else { TransferFlags::default() },
        reference: numbers
            .chance(share)
            .then(|| numbers.text(&["", "pay_1", "pay_9", "ünï"]).parse().unwrap()),
        user_data: numbers.chance(share).then(|| [0, 7, -1, 3][numbers.below(4)]),
        amount_min: numbers.chance(share).then(|| numbers.small(40)),
        amount_max: numbers.chance(share).then(|| 10 + numbers.small(40)),
        pending: numbers.chance(share / 4).then(|| TransferId::new(1 + u128::from(numbers.next())).unwrap()),
        window: window(numbers),
    };
    let Some(model) = model else { return filter };
    if numbers.chance(75) {
        filter.tenant = filter.tenant.map(|_| model.tenant.clone());
        let either = if numbers.chance(50) { model.debit } else { model.credit };
        filter.account = filter.account.map(|_| either);
        filter.debit = filter.debit.map(|_| model.debit);
        filter.credit = filter.credit.map(|_| model.credit);
        filter.ledger = filter.ledger.map(|_| model.ledger);
        filter.code = filter.code.map(|_| model.code.clone());
        if filter.flags != TransferFlags::default() {
            filter.flags = model.flags();
        }
        filter.reference = filter.reference.map(|_| model.reference.clone());
        filter.user_data = filter.user_data.map(|_| model.user_data);
    }
    if numbers.chance(10) {
        filter.pending = model.pending_id().or(Some(model.id));
    }
    filter
}

fn account_filter(numbers: &mut Numbers, plain: &Plain) -> AccountFilter {
    AccountFilter {
        tenant: tenant(numbers.text(&["acme", "globex", "initech", "nobody"])),
        period: period(numbers, plain),
        ledger: numbers.chance(40).then(|| numbers.text(&LEDGERS).parse().unwrap()),
        code: numbers.chance(40).then(|| numbers.text(&CODES).parse().unwrap()),
        reference: numbers.chance(40).then(|| numbers.text(&["", "main", "gone"]).parse().unwrap()),
        user_data: numbers.chance(40).then(|| numbers.small(3) - 1),
        window: window(numbers),
    }
}

fn balance_filter(numbers: &mut Numbers, plain: &Plain) -> BalanceFilter {
    let account = numbers.pick(&plain.accounts).clone();
    BalanceFilter {
        tenant: if numbers.chance(90) { account.tenant } else { tenant(numbers.text(&TENANTS)) },
        account: if numbers.chance(97) { account.id } else { AccountId::new(77).unwrap() },
        period: period(numbers, plain),
        window: window(numbers),
    }
}

/// A filter that can be asked page by page.
pub(super) trait Paged: Clone + std::fmt::Debug {
    fn period(&mut self) -> &mut Period;
    fn window(&self) -> Window;
}

macro_rules! paged {
    ($($filter:ty),+) => {$(
        impl Paged for $filter {
            fn period(&mut self) -> &mut Period {
                &mut self.period
            }
            fn window(&self) -> Window {
                self.window
            }
        }
    )+};
}
paged!(TransferFilter, AccountFilter, BalanceFilter);

/// Follows the pages to the end.
pub(super) async fn all<F: Paged, T, A>(mut filter: F, ask: impl Fn(F) -> A) -> Vec<T>
where
    A: Future<Output = Result<Page<T>, mesh::store::StoreError>>,
{
    let window = filter.window();
    let mut items = Vec::new();
    loop {
        let page = ask(filter.clone()).await.unwrap();
        assert!(page.items.len() <= window.limit, "{filter:?}");
        items.extend(page.items);
        let Some(resume) = page.resume else { return items };
        let period = filter.period();
        if window.newest_first {
            assert!(resume < period.to, "no further than before: {resume:?} in {period:?}");
            period.to = resume;
        } else {
            assert!(resume > period.from, "no further than before: {resume:?} in {period:?}");
            period.from = resume;
        }
    }
}

/// Says where two answers part, not all that is in them.
fn assert_same<T: PartialEq + std::fmt::Debug, F: std::fmt::Debug>(
    found: &[T],
    expected: &[T],
    seed: u64,
    filter: &F,
) {
    if found != expected {
        let place = found.iter().zip(expected).take_while(|(left, right)| left == right).count();
        panic!(
            "seed {seed}, {filter:?}: {} found, {} expected; at {place} {:?} for {:?}",
            found.len(),
            expected.len(),
            found.get(place),
            expected.get(place)
        );
    }
}

async fn compare<I: Index>(index: &I, world: &mut World, seed: u64) {
    for _ in 0..60 {
        let filter = transfer_filter(&mut world.numbers, &world.plain);
        let found = all(filter.clone(), |filter| index.transfers(filter)).await;
        assert_same(&found, &world.plain.transfers(&filter), seed, &filter);
    }
    for _ in 0..15 {
        let filter = account_filter(&mut world.numbers, &world.plain);
        let found = all(filter.clone(), |filter| index.accounts(filter)).await;
        assert_same(&found, &world.plain.accounts(&filter), seed, &filter);
        let filter = balance_filter(&mut world.numbers, &world.plain);
        let found = all(filter.clone(), |filter| index.balances(filter)).await;
        assert_same(&found, &world.plain.balances(&filter), seed, &filter);
    }
    let mut ids: Vec<TransferId> = world.plain.transfers.iter().map(|transfer| transfer.id).collect();
    ids.extend((0..50).map(|_| world.transfer_id()));
    if !world.numbers.chance(50) {
        ids.sort_unstable();
    }
    let mut found = index.known(ids.clone()).await.unwrap();
    found.sort_unstable_by_key(|(id, _)| *id);
    ids.sort_unstable();
    let expected: Vec<(TransferId, Known)> =
        ids.into_iter().filter_map(|id| Some((id, world.plain.known(id)?))).collect();
    assert!(found == expected, "seed {seed}: known ids differ");
}

pub(super) async fn questions_at_random<I: Index>(index: I, seed: u64) {
    let mut world = World::new(seed);
    world.settle(4);
    let first = world.seal();
    index.apply(vec![first]).await.unwrap();
    compare(&index, &mut world, seed).await;
    for round in 1..=8 {
        let mut records = Vec::new();
        for _ in 0..=world.numbers.below(4) {
            for _ in 0..world.numbers.below(40 * round) {
                world.happen();
            }
            records.push(world.seal());
        }
        index.apply(records).await.unwrap();
        assert_eq!(index.applied().await.unwrap(), world.plain.watermark);
        compare(&index, &mut world, seed).await;
    }
    let kinds = |is: fn(&Kind) -> bool| world.plain.transfers.iter().filter(|t| is(&t.kind)).count();
    let resolved = kinds(|kind| matches!(kind, Kind::Post { .. } | Kind::Void { .. }));
    assert!(world.plain.transfers.len() > 300 && resolved > 30, "a world worth asking about");
}
