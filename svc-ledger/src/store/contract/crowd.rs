//! Many callers at once on few accounts, who send the same again and again.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    NOW, all_pages, any_transfer, assert_sound, at, balances, codes, open, single, tenant, transfer_id,
};
use crate::{
    domain::{NewTransfer, TransferCode as C, TransferResult},
    store::Store,
};

const CLIENTS: u64 = 64;
const BATCHES: usize = 8;
/// Fewer than are sent, so that most are sent several times, by several clients at the same time.
const TRANSFERS: u128 = 400;
/// Far less than is asked for.
const FUNDS: i64 = 150;
const FUNDING: u128 = 1_000;

/// The same for everyone who sends it: three of four from the limited account 3 to account 2, others back.
fn nth(bits: u128) -> NewTransfer {
    let amount = i64::try_from(bits % 3 + 1).unwrap();
    if bits.is_multiple_of(4) { single(bits, 2, 3, amount) } else { single(bits, 3, 2, amount) }
}

async fn client<S: Store>(store: S, number: u64) -> Vec<(u128, TransferResult)> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut told = Vec::new();
    for _ in 0..BATCHES {
        let ids: Vec<_> = (0..random.usize(1..=6)).map(|_| random.u128(1..=TRANSFERS)).collect();
        // One in four is sent twice, as if the first answer had been lost.
        for _ in 0..=usize::from(random.u8(..4) == 0) {
            let results = store.transfer(ids.iter().map(|bits| nth(*bits)).collect(), at(NOW)).await.unwrap();
            assert_eq!(results.len(), ids.len());
            told.extend(ids.iter().copied().zip(results));
        }
    }
    told
}

pub(crate) async fn of_a_crowd_with_retries_each_id_has_its_effect_once<S: Store>(store: S) {
    open(&store).await;
    assert_eq!(codes(&store, vec![single(FUNDING, 1, 3, FUNDS)], NOW).await, [C::Created]);
    let clients: Vec<_> = (0..CLIENTS).map(|number| tokio::spawn(client(store.clone(), number))).collect();
    let mut told: BTreeMap<u128, Vec<TransferResult>> = BTreeMap::new();
    for client in clients {
        for (bits, result) in client.await.unwrap() {
            told.entry(bits).or_default().push(result);
        }
    }

    let (mut made, mut times, mut moved, mut back) = (BTreeSet::new(), BTreeSet::new(), 0, 0);
    for (bits, results) in &told {
        let count = |code| results.iter().filter(|result| result.code == code).count();
        let (created, refused) = (count(C::Created), count(C::ExceedsCredits));
        assert_eq!(created + refused, 1, "{bits}: {results:?}");
        let rest = if created == 1 { C::Exists } else { C::IdAlreadyFailed };
        assert_eq!(count(rest), results.len() - 1, "{bits}: {results:?}");
        assert!(results.iter().all(|result| result.timestamp == results[0].timestamp), "{bits}: {results:?}");
        if created == 1 {
            made.insert(*bits);
            assert!(times.insert(results[0].timestamp), "{bits} has the time of another one");
            *if bits.is_multiple_of(4) { &mut back } else { &mut moved } += nth(*bits).amount;
        }
    }
    assert!(made.len() < told.len(), "nothing was refused");
    assert!(told.values().flatten().count() > 2 * told.len(), "hardly anything was sent again");

    // What was answered is what is there, in memory and in the index.
    let (hot, other) = (balances(&store, 3).await, balances(&store, 2).await);
    assert_eq!((hot.debits_posted, hot.credits_posted), (moved, FUNDS + back));
    assert_eq!((other.debits_posted, other.credits_posted), (back, moved));
    assert!(hot.debits_posted <= hot.credits_posted);
    let ids = (1..=TRANSFERS).map(transfer_id).collect();
    let found = store.transfers(tenant("acme"), ids).await.unwrap();
    assert!(found.iter().map(|transfer| transfer.id.bits()).eq(made.iter().copied()));
    let mut found: Vec<_> =
        all_pages(&store, any_transfer(50)).await.iter().map(|transfer| transfer.id.bits()).collect();
    assert!(found.pop() == Some(FUNDING), "the oldest");
    assert_eq!(found.len(), made.len());
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), made);
    let report = store.audit().await.unwrap();
    assert_eq!(usize::try_from(report.transfers).unwrap(), made.len() + 1);
    assert_sound(&store).await;
}
