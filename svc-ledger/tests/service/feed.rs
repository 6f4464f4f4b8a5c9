//! The feed of what happened.

use std::{collections::BTreeSet, time::Duration};

use mesh::{Fault, testing::call_of};
use paymesh_proto::ledger::v1::{
    CreateAccountsRequest, CreateTransfersRequest, ExportJournalRequest, QueryTransfersRequest, Transfer,
    WatchTransfersRequest,
    transfer::TransferFlag,
    watch_transfers_response::{Movement, movement},
};
use svc_ledger::Config;
use tokio::time::timeout;
use tonic::Code;

use super::{Client, Setup, account, id, setup_with, transfer};

/// Only a wrong test waits as long.
const PATIENCE: Duration = Duration::from_secs(30);
const CLIENTS: u32 = 8;
const CALLS: u32 = 25;
const ITEMS: u32 = 5;
/// After so many movements the watcher begins a new stream.
const RECONNECT_AFTER: usize = 70;

/// A movement's time, and what it is of: a transfer, or a reservation that lapsed.
fn told(movement: Movement) -> (i64, String, bool) {
    match movement.movement.unwrap() {
        movement::Movement::Transfer(transfer) => (transfer.timestamp_ns, transfer.id, false),
        movement::Movement::Lapse(lapse) => (lapse.timestamp_ns, lapse.pending_id, true),
    }
}

/// Watches until so much happened, on one stream after the other.
async fn watch(mut client: Client, wanted: usize) -> Vec<(i64, String, bool)> {
    let acme = call_of("acme");
    let mut seen: Vec<(i64, String, bool)> = Vec::new();
    while seen.len() < wanted {
        let from_ns = seen.last().map_or(0, |(nanos, ..)| nanos + 1);
        let request = acme.request(WatchTransfersRequest { from_ns });
        let mut stream = client.watch_transfers(request).await.unwrap().into_inner();
        let mut here = 0;
        while here < RECONNECT_AFTER && seen.len() < wanted {
            let movements = stream.message().await.unwrap().expect("it ends for the watcher only").movements;
            assert!(!movements.is_empty());
            // The watcher may go away in the middle of a message.
            for movement in movements.into_iter().take(RECONNECT_AFTER - here) {
                seen.push(told(movement));
                here += 1;
            }
        }
    }
    seen
}

/// All transfers of acme, oldest first, as they are looked up.
async fn made(setup: &mut Setup) -> Vec<(i64, String, bool)> {
    let mut query =
        QueryTransfersRequest { oldest_first: true, page_size: 1_000, ..QueryTransfersRequest::default() };
    let mut found = Vec::new();
    loop {
        let page =
            setup.client.query_transfers(setup.acme.request(query.clone())).await.unwrap().into_inner();
        found.extend(page.transfers.into_iter().map(|made| (made.timestamp_ns, made.id, false)));
        if page.next_page_token.is_empty() {
            return found;
        }
        query.page_token = page.next_page_token;
    }
}

/// Every tenth is a reservation of a minute.
fn nth(number: u32) -> Transfer {
    if number.is_multiple_of(10) {
        let flags = vec![TransferFlag::Pending.into()];
        return Transfer { flags, timeout_s: 60, ..transfer(&id(number), 1) };
    }
    transfer(&id(number), 1)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_that_comes_again_misses_nothing_and_sees_nothing_twice() {
    const MADE: usize = (CLIENTS * CALLS * ITEMS) as usize;
    let mut setup = setup_with(Config { expiry_interval_ms: 1, ..Config::default() }).await;
    // What others do is told to nobody else.
    let other = call_of("other");
    let accounts = vec![account(&id(900_001), "cash"), account(&id(900_002), "cash")];
    let request = other.request(CreateAccountsRequest { accounts });
    setup.client.create_accounts(request).await.unwrap();

    let watching = tokio::spawn(timeout(PATIENCE, watch(setup.client.clone(), MADE)));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (mut rpc, acme, other) = (setup.client.clone(), setup.acme.clone(), other.clone());
            tokio::spawn(async move {
                for call in 0..CALLS {
                    let from = (client * CALLS + call) * ITEMS;
                    let transfers = (from..from + ITEMS).map(nth).collect();
                    rpc.create_transfers(acme.request(CreateTransfersRequest { transfers })).await.unwrap();
                    let theirs = Transfer {
                        debit_account_id: id(900_001),
                        credit_account_id: id(900_002),
                        ..transfer(&id(500_000 + from), 1)
                    };
                    let transfers = vec![theirs];
                    rpc.create_transfers(other.request(CreateTransfersRequest { transfers })).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let seen = watching.await.unwrap().expect("all of it is told");
    assert_eq!(seen.len(), MADE);
    assert_eq!(seen, made(&mut setup).await);

    // Then the reservations lapse, each once and later than all before.
    let reserved: BTreeSet<_> =
        (0..CLIENTS * CALLS * ITEMS).filter(|number| number.is_multiple_of(10)).map(id).collect();
    setup.clock.advance_seconds(61);
    let watching = watch(setup.client.clone(), MADE + reserved.len());
    let all = timeout(PATIENCE, watching).await.expect("lapses are told");
    assert_eq!(all[..MADE], seen, "what was told is told again to who begins anew");
    assert!(all.is_sorted_by(|before, after| before.0 < after.0), "times increase");
    assert!(all[MADE..].iter().all(|(.., lapsed)| *lapsed));
    assert_eq!(all.len() - MADE, reserved.len());
    assert_eq!(all[MADE..].iter().map(|(_, id, _)| id.clone()).collect::<BTreeSet<_>>(), reserved);
    setup.running.stop().await;
}

#[tokio::test]
async fn feeds_are_bounded_in_number_and_an_end_makes_room() {
    let mut setup = setup_with(Config { feeds_max: 2, ..Config::default() }).await;
    let acme = setup.acme.clone();
    let watch = || acme.request(WatchTransfersRequest { from_ns: 0 });
    let export = || acme.request(ExportJournalRequest::default());
    let first = setup.client.watch_transfers(watch()).await.unwrap();
    let second = setup.client.watch_transfers(watch()).await.unwrap();
    let refused = [
        setup.client.watch_transfers(watch()).await.unwrap_err(),
        setup.client.export_journal(export()).await.unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        let fault = Fault::from_status(&status);
        assert!(fault.message().contains("2 feeds") && fault.message().contains("feeds_max"), "{fault:?}");
        assert!(fault.retry_after().is_some());
    }
    // What is no feed is still served.
    assert_eq!(made(&mut setup).await, []);
    drop(first);
    let next = async {
        loop {
            match setup.client.export_journal(export()).await {
                Ok(answer) => return answer.into_inner(),
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let mut next = timeout(PATIENCE, next).await.expect("a place becomes free");
    assert_eq!(next.message().await.unwrap().unwrap().records.len(), 1);
    drop((second, next));
    setup.running.stop().await;
}
