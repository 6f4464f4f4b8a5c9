//! A service that is told to stop while its streams are open, on whichever store: each ends at once and says how
//! its caller goes on, and who goes on so has all of it.

use std::{path::Path, time::Duration};

use mesh::{Harness, Running, testing::call_of};
use paymesh_proto::ledger::v1::{self as proto, ledger_service_client::LedgerServiceClient};
use tokio::time::timeout;
use tonic::{
    Code, Status, Streaming,
    codegen::tokio_stream::{self, StreamExt as _},
};

use super::MESSAGE_BYTES_MAX;
use crate::{
    Config, Ledger,
    domain::{BATCH_MAX, REFERENCE_LENGTH_MAX},
};

/// Long before the drain's deadline of 35 seconds, and long after all else.
const PATIENCE: Duration = Duration::from_secs(20);
/// Full batches with long texts, so that most of an export waits for its reader.
const BATCHES: u64 = 3;

pub(crate) type Client = LedgerServiceClient<mesh::Upstream>;

/// A service on what is in a directory, or in what the configuration names.
pub(crate) async fn serve(dir: &Path, config: Config) -> (Client, Running) {
    let mut harness = Harness::new(dir).unwrap();
    let starting = async {
        loop {
            match harness.start::<Ledger>(config.clone()).await {
                Ok(running) => return running,
                // The files of one that has stopped are free when its threads have ended.
                Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
    };
    let running = timeout(PATIENCE, starting).await.expect("it starts");
    let client = LedgerServiceClient::new(harness.upstream("operator", &running).unwrap())
        .max_decoding_message_size(MESSAGE_BYTES_MAX as usize);
    (client, running)
}

/// Asks until a replica leads.
pub(crate) async fn leads(client: &mut Client) {
    let asking = async {
        let trial = || call_of("acme").request(proto::GetTrialBalanceRequest {});
        while client.get_trial_balance(trial()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, asking).await.expect("it leads");
}

fn id(kind: u8, number: u64) -> String {
    format!("018f0000-0000-7000-80{kind:02x}-{number:012x}")
}

/// The accounts of the batches.
pub(crate) async fn open_accounts(client: &mut Client) {
    let account = |number| proto::Account {
        id: id(1, number),
        ledger: "EUR".into(),
        code: "cash".into(),
        ..proto::Account::default()
    };
    let request = proto::CreateAccountsRequest { accounts: vec![account(1), account(2)] };
    client.create_accounts(call_of("acme").request(request)).await.unwrap();
}

/// A full batch, of this number.
pub(crate) fn batch(batch: u64) -> proto::StreamTransfersRequest {
    let transfer = |item| proto::Transfer {
        id: id(2, batch << 16 | item),
        debit_account_id: id(1, 1),
        credit_account_id: id(1, 2),
        amount: 1,
        ledger: "EUR".into(),
        code: "fee".into(),
        reference: "x".repeat(REFERENCE_LENGTH_MAX),
        ..proto::Transfer::default()
    };
    proto::StreamTransfersRequest { batch, transfers: (0..BATCH_MAX as u64).map(transfer).collect() }
}

/// What still comes, and the word at the end.
pub(crate) async fn rest<T>(stream: &mut Streaming<T>) -> (Vec<T>, Result<(), Status>) {
    let mut came = Vec::new();
    let end = loop {
        match timeout(PATIENCE, stream.message()).await.expect("the stream ends") {
            Ok(Some(message)) => came.push(message),
            Ok(None) => break Ok(()),
            Err(status) => break Err(status),
        }
    };
    (came, end)
}

pub(crate) fn assert_cut_short(end: Result<(), Status>, go_on: &str) {
    let status = end.expect_err("it was cut short");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    assert!(status.message().contains(go_on), "{status:?}");
}

fn watched(messages: &[proto::WatchTransfersResponse]) -> Vec<i64> {
    use proto::watch_transfers_response::movement::Movement;
    let movements = messages.iter().flat_map(|message| &message.movements);
    let made = movements.map(|movement| match &movement.movement {
        Some(Movement::Transfer(transfer)) => transfer.timestamp_ns,
        other => panic!("{other:?}"),
    });
    made.collect()
}

/// The sequence of each record that came whole.
fn exported(messages: &[proto::ExportJournalResponse]) -> Vec<u64> {
    let records = messages.iter().flat_map(|message| &message.records);
    records.filter(|record| !record.continues).map(|record| record.sequence).collect()
}

/// The streams of a service with this configuration end when it drains. The store that it names is empty.
pub(crate) async fn all_streams_end_and_are_taken_up_elsewhere(config: Config) {
    let dir = tempfile::tempdir().unwrap();
    let acme = call_of("acme");
    let (mut client, running) = serve(dir.path(), config.clone()).await;
    leads(&mut client).await;
    open_accounts(&mut client).await;

    // Its caller does not say that these are all.
    let batches = tokio_stream::iter((1..=BATCHES).map(batch)).chain(tokio_stream::pending());
    let mut transfers = client.stream_transfers(acme.request(batches)).await.unwrap().into_inner();
    for number in 1..=BATCHES {
        let answer = timeout(PATIENCE, transfers.message()).await.unwrap().unwrap().unwrap();
        assert_eq!((answer.batch, answer.results.len()), (number, BATCH_MAX));
    }
    let follow = |from_ns| acme.request(proto::WatchTransfersRequest { from_ns });
    // One has nothing to say, and two more than their readers take.
    let mut idle = client.watch_transfers(follow(i64::MAX)).await.unwrap().into_inner();
    let mut slow = client.watch_transfers(follow(0)).await.unwrap().into_inner();
    let mut seen = vec![timeout(PATIENCE, slow.message()).await.unwrap().unwrap().unwrap()];
    let export =
        |from_sequence| acme.request(proto::ExportJournalRequest { from_sequence, ..Default::default() });
    let mut exporting = client.export_journal(export(0)).await.unwrap().into_inner();
    let mut records = vec![timeout(PATIENCE, exporting.message()).await.unwrap().unwrap().unwrap()];

    let stopping = tokio::spawn(running.stop());
    let (none, end) = rest(&mut idle).await;
    assert!(none.is_empty());
    assert_cut_short(end, "one more than the last timestamp_ns");
    let (none, end) = rest(&mut transfers).await;
    assert!(none.is_empty());
    assert_cut_short(end, "with the same ids");
    let (more, end) = rest(&mut slow).await;
    seen.extend(more);
    assert_cut_short(end, "one more than the last timestamp_ns");
    let (more, end) = rest(&mut exporting).await;
    records.extend(more);
    assert_cut_short(end, "one more than the last sequence");
    timeout(PATIENCE, stopping).await.expect("the drain ends").unwrap();

    let (mut seen, mut records) = (watched(&seen), exported(&records));
    let batches = usize::try_from(BATCHES).unwrap();
    let total = batches * BATCH_MAX;
    assert!(seen.len() < total && records.len() <= batches, "{} and {records:?}", seen.len());
    let (mut client, running) = serve(dir.path(), config).await;
    leads(&mut client).await;
    let mut slow = client.watch_transfers(follow(seen.last().unwrap() + 1)).await.unwrap().into_inner();
    while seen.len() < total {
        let message = timeout(PATIENCE, slow.message()).await.unwrap().unwrap().unwrap();
        seen.extend(watched(&[message]));
    }
    assert_eq!(seen.len(), total);
    assert!(seen.is_sorted_by(|before, after| before < after), "none came twice");
    let from = records.last().map_or(1, |last| last + 1);
    let (more, end) = rest(&mut client.export_journal(export(from)).await.unwrap().into_inner()).await;
    end.unwrap();
    records.extend(exported(&more));
    assert!(records.iter().copied().eq(1..=1 + BATCHES), "{records:?}");
    drop(slow);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_files_all_streams_end_and_are_taken_up_elsewhere() {
    all_streams_end_and_are_taken_up_elsewhere(Config::default()).await;
}
