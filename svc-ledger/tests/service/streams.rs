//! Batches of transfers on one stream.

use paymesh_proto::ledger::v1::{
    StreamTransfersRequest, StreamTransfersResponse, Transfer, TransferResult, transfer::TransferFlag,
    transfer_result::Code,
};
use svc_ledger::domain::BATCH_MAX;
use tonic::{Status, Streaming, codegen::tokio_stream};

use super::{A, Setup, balances, fault, id, invalid, setup, transfer};

async fn stream(
    setup: &mut Setup,
    batches: Vec<StreamTransfersRequest>,
) -> Streaming<StreamTransfersResponse> {
    let request = setup.acme.request(tokio_stream::iter(batches));
    setup.client.stream_transfers(request).await.unwrap().into_inner()
}

/// All answers, and how the stream ended.
async fn answers(
    mut stream: Streaming<StreamTransfersResponse>,
) -> (Vec<(u64, Vec<Code>)>, Result<(), Status>) {
    let mut answers = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(StreamTransfersResponse { batch, results })) => {
                answers.push((batch, results.iter().map(TransferResult::code).collect()));
            }
            Ok(None) => return (answers, Ok(())),
            Err(status) => return (answers, Err(status)),
        }
    }
}

fn batch(batch: u64, transfers: Vec<Transfer>) -> StreamTransfersRequest {
    StreamTransfersRequest { batch, transfers }
}

fn reserve(number: u32) -> Transfer {
    Transfer { flags: vec![TransferFlag::Pending.into()], ..transfer(&id(number), 5) }
}

fn post(number: u32, of: u32) -> Transfer {
    let flags = vec![TransferFlag::PostPending.into()];
    Transfer { id: id(number), pending_id: id(of), amount: 3, flags, ..Transfer::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn batches_are_carried_out_and_answered_in_their_order() {
    const PAIRS: u32 = 200;
    let mut setup = setup().await;
    // Each second batch needs what the one before it made: of those under way none overtakes another.
    let batches = (0..PAIRS).flat_map(|pair| {
        let (first, second) = (2 * pair, 2 * pair + 1);
        // The longer one comes first: it takes longer to read.
        let mut reserves: Vec<_> = (0..20).map(|item| reserve(1_000 * (item + 1) + pair)).collect();
        reserves.push(reserve(first));
        [batch(u64::from(first) + 7, reserves), batch(u64::from(second) + 7, vec![post(second, first)])]
    });
    let batches = batches.collect();
    let (answers, end) = answers(stream(&mut setup, batches).await).await;
    end.unwrap();
    assert_eq!(answers.len(), 2 * PAIRS as usize);
    for ((number, codes), expected) in answers.iter().zip(7..) {
        assert_eq!(*number, expected);
        assert!(codes.iter().all(|code| *code == Code::Created), "batch {number}: {codes:?}");
        assert_eq!(codes.len(), if number % 2 == 1 { 21 } else { 1 });
    }
    let pairs = i64::from(PAIRS);
    assert_eq!(balances(&mut setup, A).await, [20 * 5 * pairs, 3 * pairs, 0, 0]);
    setup.running.stop().await;
}

#[tokio::test]
async fn a_bad_batch_ends_the_stream_after_those_before_it_were_answered() {
    let mut setup = setup().await;
    let batches = vec![
        batch(1, vec![transfer(&id(1), 5)]),
        batch(2, Vec::new()),
        batch(3, vec![transfer(&id(1), 5), transfer(&id(2), -1)]),
        batch(4, vec![Transfer::default(); BATCH_MAX + 1]),
        batch(5, vec![transfer(&id(3), 5)]),
    ];
    let (answers, end) = answers(stream(&mut setup, batches).await).await;
    let expected = [(1, vec![Code::Created]), (2, vec![]), (3, vec![Code::Exists, Code::AmountInvalid])];
    assert_eq!(answers, expected);
    assert_eq!(fault(end.map(tonic::Response::new)), invalid(&["transfers"]));
    setup.running.stop().await;
}
