//! The journal as it is exported, and the checks of it.

use std::path::PathBuf;

use paymesh_proto::ledger::v1::{
    AuditRequest, AuditResponse, ExportJournalRequest, VerifyJournalRequest, VerifyJournalResponse,
    export_journal_response::Record, transfer_result::Code,
};
use svc_ledger::journal::{Chain, JournalKey, Link};

use super::{Setup, audited, fault, id, invalid, make, setup, transfer};

/// More records than pass between two messages of a check.
const TRANSFERS: u32 = 300;

/// A ledger with many records; how many.
async fn grown() -> (Setup, u64) {
    let mut setup = setup().await;
    for number in 0..TRANSFERS {
        assert_eq!(make(&mut setup, vec![transfer(&id(number), 1)]).await, [Code::Created]);
    }
    // The accounts came in one record.
    (setup, u64::from(TRANSFERS) + 1)
}

async fn exported(setup: &mut Setup, from_sequence: u64, to_sequence: u64) -> Vec<Record> {
    let request = setup.acme.request(ExportJournalRequest { from_sequence, to_sequence });
    let mut stream = setup.client.export_journal(request).await.unwrap().into_inner();
    let mut records = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        records.extend(message.records);
    }
    records
}

async fn verified(setup: &mut Setup, from_sequence: u64) -> Vec<VerifyJournalResponse> {
    let request = setup.acme.request(VerifyJournalRequest { from_sequence });
    let mut stream = setup.client.verify_journal(request).await.unwrap().into_inner();
    let mut said = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        said.push(message);
    }
    said
}

fn data(setup: &Setup) -> PathBuf {
    setup.dir.path().join("svc-ledger")
}

#[tokio::test]
async fn an_export_is_the_whole_chain_and_a_check_comes_to_its_end() {
    let (mut setup, total) = grown().await;
    let records = exported(&mut setup, 0, 0).await;
    assert!(records.iter().map(|record| record.sequence).eq(1..=total));
    let key = JournalKey::read(&data(&setup).join("journal.key")).unwrap();
    let mut chain = Chain::new(key, Link::EMPTY);
    let mut events = 0;
    for record in &records {
        let happened = chain.open(&record.frame).unwrap();
        assert_eq!((happened.sequence, &happened.hash[..]), (record.sequence, &record.hash[..]));
        events += happened.events.len();
    }
    assert_eq!(events, 2 + TRANSFERS as usize);
    assert_eq!(exported(&mut setup, 100, 102).await, records[99..102]);
    assert_eq!(exported(&mut setup, total + 1, 0).await, []);

    let said = verified(&mut setup, 0).await;
    let progress: Vec<_> = said.iter().map(|said| (said.records, said.records_total, said.done)).collect();
    assert_eq!(progress, [(256, total, false), (total, total, true)]);
    let last = said.last().unwrap();
    assert_eq!((last.sequence, &last.hash, &*last.offence), (total, &records.last().unwrap().hash, ""));
    let said = verified(&mut setup, total - 1).await;
    assert_eq!((said.len(), said[0].records, said[0].sequence, said[0].done), (1, 2, total, true));

    let request = setup.acme.request(AuditRequest {});
    let mut stream = setup.client.audit(request).await.unwrap().into_inner();
    let mut said: Vec<AuditResponse> = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        said.push(message);
    }
    let progress: Vec<_> = said.iter().map(|said| (said.records, said.records_total, said.done)).collect();
    assert_eq!(progress, [(256, total, false), (total, total, true)]);
    let last = said.last().unwrap();
    assert_eq!((last.ok, last.accounts, last.transfers), (true, 2, TRANSFERS.into()));

    let acme = setup.acme.clone();
    let past = ExportJournalRequest { from_sequence: 0, to_sequence: total + 1 };
    assert_eq!(fault(setup.client.export_journal(acme.request(past)).await), invalid(&["to_sequence"]));
    let past = ExportJournalRequest { from_sequence: total + 2, to_sequence: 0 };
    assert_eq!(fault(setup.client.export_journal(acme.request(past)).await), invalid(&["from_sequence"]));
    let past = VerifyJournalRequest { from_sequence: total + 2 };
    assert_eq!(fault(setup.client.verify_journal(acme.request(past)).await), invalid(&["from_sequence"]));
    setup.running.stop().await;
}

#[tokio::test]
async fn a_bit_that_flips_under_a_running_ledger_is_found() {
    let (mut setup, total) = grown().await;
    let records = exported(&mut setup, 0, 0).await;
    let hit = 150;
    let mut segments: Vec<_> = std::fs::read_dir(data(&setup).join("journal"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    segments.sort();
    let wanted = &records[hit].frame;
    let (path, mut bytes, at) = segments
        .into_iter()
        .find_map(|path| {
            let bytes = std::fs::read(&path).unwrap();
            let at = bytes.windows(wanted.len()).position(|window| window == &wanted[..])?;
            Some((path, bytes, at))
        })
        .expect("a frame is kept as it is exported");
    bytes[at + wanted.len() / 2] ^= 1;
    std::fs::write(path, bytes).unwrap();

    let said = verified(&mut setup, 0).await;
    let last = said.last().unwrap();
    assert!(last.done && last.offence.contains(&(hit + 1).to_string()), "{}", last.offence);
    assert_eq!((last.records, last.sequence, last.records_total), (150, 150, total));
    let audit = audited(&mut setup).await;
    assert!(audit.done && !audit.ok);
    assert!(audit.offences[0].contains(&(hit + 1).to_string()), "{:?}", audit.offences);
    setup.running.stop().await;
}
