//! The ledger's journal: events, accounts, transfers, headers, records.

use std::sync::LazyLock;

use svc_ledger::journal::{
    Chain, Decoder, JournalKey, Link,
    chain::{HASH_BYTES, HEADER_BYTES, Header},
    codec::Encoder,
};

use crate::input::{Input, changed};

/// The key of the document's example.
fn key() -> JournalKey {
    let mut key = [0; 32];
    (0..).zip(&mut key).for_each(|(number, byte)| *byte = number);
    JournalKey::take(&mut key)
}

/// The records of the document's example.
static RECORDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let blocks = include_str!("../../docs/ledger-journal.md").split("```hex").skip(1);
    let record = |block: &str| {
        let lines = block.lines().take_while(|line| *line != "```");
        let digits = lines.filter_map(|line| line.split('|').next()).flat_map(str::chars);
        let digits: Vec<u8> = digits.filter_map(|digit| u8::try_from(digit.to_digit(16)?).ok()).collect();
        digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    };
    blocks.map(record).collect()
});

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for record in &*RECORDS {
        let body = &record[HEADER_BYTES..record.len() - HASH_BYTES];
        // How many events there are is in the header.
        seeds.push([&[0, record[28]][..], body].concat());
        seeds.push([&[3][..], &record[..HEADER_BYTES]].concat());
        seeds.push([&[4][..], record].concat());
        seeds.push([5, 0, 100, 1].to_vec());
        // Of the first: an account without the tag before it, and the transfer after its own.
        if body.len() > 100 {
            seeds.push([&[1, 1][..], &body[1..51]].concat());
            seeds.push([&[2, 1][..], &body[52..]].concat());
        }
    }
    seeds
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let kind = input.byte() % 6;
    match kind {
        0..=2 => {
            let count = input.byte();
            items(kind, count.into(), input.rest());
        }
        3 => {
            if let Some(bytes) = input.rest().first_chunk::<HEADER_BYTES>()
                && let Ok(header) = Header::decode(bytes, key().id())
            {
                assert!(header.record_bytes() >= HEADER_BYTES + HASH_BYTES);
            }
        }
        4 => record(input.rest()),
        _ => {
            let (at, difference) = (input.number(), input.byte());
            let changed = RECORDS.first().and_then(|record| changed(record, at, difference));
            let opened = Chain::new(key(), Link::EMPTY).open(&changed.unwrap_or_default());
            assert!(opened.is_err(), "a byte is another");
        }
    }
}

/// What is read is, byte for byte, what is written.
fn items(kind: u8, count: usize, bytes: &[u8]) {
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    let read = match kind {
        0 => decoder.events(bytes, count).map(|events| {
            let mut encoder = Encoder::new(&mut out);
            for event in &events {
                encoder.event(event);
            }
        }),
        1 => decoder.accounts(bytes, count).map(|accounts| {
            let mut encoder = Encoder::new(&mut out);
            for account in &accounts {
                encoder.account(account);
            }
        }),
        _ => decoder.transfers(bytes, count).map(|transfers| {
            let mut encoder = Encoder::new(&mut out);
            for transfer in &transfers {
                encoder.transfer(transfer);
            }
        }),
    };
    if read.is_ok() {
        assert_eq!(out, bytes, "it has one form");
    }
}

/// A record that opens where it stands is the one that is sealed there.
fn record(bytes: &[u8]) {
    let Ok(mut chain) = Chain::before(key(), bytes) else { return };
    let before = chain.link();
    if let Ok(happened) = chain.open(bytes) {
        let sealed = Chain::new(key(), before).seal(&happened.events, &mut Vec::new());
        assert_eq!(sealed.ok().as_ref().map(|frame| &*frame.bytes), Some(bytes), "it has one form");
    }
}
