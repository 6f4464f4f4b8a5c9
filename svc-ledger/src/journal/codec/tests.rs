//! Random events there and back, and bytes of any kind, from fixed seeds.

use std::sync::Arc;

use fastrand::Rng;
use money::Timestamp;

use super::{Decoder, Encoder};
use crate::{
    domain::{Account, Balances, Event, Kind, Side, Transfer, TransferId},
    journal::samples,
};

fn encoded(events: &[Event]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes);
    for event in events {
        encoder.event(event);
    }
    bytes
}

#[test]
fn what_is_written_is_read_back_as_it_was() {
    let mut rng = Rng::with_seed(1);
    let mut decoder = Decoder::default();
    for round in 0..2_000 {
        let mut last = rng.i64(-1_000..2_000_000_000_000_000_000);
        let count = rng.usize(0..12);
        let events = samples::events(&mut rng, count, &mut last);
        let bytes = encoded(&events);
        assert_eq!(decoder.events(&bytes, count).unwrap(), events, "round {round}");
    }
}

#[test]
fn accounts_and_transfers_by_themselves_too() {
    let mut rng = Rng::with_seed(2);
    let times = [i64::MIN, -1, 0, 5, i64::MAX, 7].map(Timestamp::from_nanos);
    for _ in 0..200 {
        let accounts: Vec<Account> = times.iter().map(|at| samples::account(&mut rng, *at)).collect();
        let transfers: Vec<Transfer> = times.iter().map(|at| samples::transfer(&mut rng, *at)).collect();
        let (mut bytes, mut more) = (Vec::new(), Vec::new());
        let mut encoder = Encoder::new(&mut bytes);
        for account in &accounts {
            encoder.account(account);
        }
        let mut encoder = Encoder::new(&mut more);
        for transfer in &transfers {
            encoder.transfer(transfer);
        }
        assert_eq!(Decoder::default().accounts(&bytes, times.len()).unwrap(), accounts);
        let read = Decoder::default().transfers(&more, times.len()).unwrap();
        assert!(read.iter().map(|transfer| &**transfer).eq(&transfers));
    }
}

/// What [`crate::journal::chain::BODY_BYTES_MAX`] says of events.
#[test]
fn no_event_is_longer_than_700_bytes() {
    let most = Timestamp::from_nanos(i64::MIN);
    let after = Balances { debits_pending: -1, debits_posted: -1, credits_pending: -1, credits_posted: -1 };
    let side = Side { number: most, after, closed: true, has_history: true };
    let pending = Transfer {
        kind: Kind::Void { pending: TransferId::new(1).unwrap() },
        tenant: "t".repeat(64).parse().unwrap(),
        code: "c".repeat(64).parse().unwrap(),
        ledger: "POINTS22".parse().unwrap(),
        reference: "r".repeat(256).parse().unwrap(),
        amount: -1,
        requested: Some(-2),
        user_data: i64::MIN,
        ..samples::transfer(&mut Rng::with_seed(3), Timestamp::EPOCH)
    };
    let event = Event::Expired { timestamp: most, pending: Arc::new(pending), debit: side, credit: side };
    let length = encoded(&[event]).len();
    assert!((600..700).contains(&length), "{length}");
}

#[test]
fn bytes_of_any_kind_are_refused_or_read_and_never_panic() {
    let mut rng = Rng::with_seed(4);
    let mut decoder = Decoder::default();
    let mut refused = 0;
    let rounds = 100_000;
    for _ in 0..rounds {
        let mut last = 1_800_000_000_000_000_000;
        let (bytes, count) = if rng.bool() {
            let bytes: Vec<u8> = (0..rng.usize(0..200)).map(|_| rng.u8(..)).collect();
            (bytes, rng.usize(0..1 << 40))
        } else {
            let events = samples::events(&mut rng, 2, &mut last);
            let mut bytes = encoded(&events);
            for _ in 0..rng.usize(1..4) {
                let at = rng.usize(0..bytes.len());
                bytes[at] ^= 1 << rng.u8(0..8);
            }
            bytes.truncate(rng.usize(bytes.len() / 2..=bytes.len() * 2));
            (bytes, 2)
        };
        match decoder.events(&bytes, count) {
            // One spelling for each value.
            Ok(events) => assert_eq!(encoded(&events), bytes),
            Err(error) => {
                refused += 1;
                assert!(error.at <= bytes.len(), "{error}");
            }
        }
    }
    assert!(refused > rounds / 2, "{refused}");
}

#[test]
fn what_is_refused_says_where() {
    let mut rng = Rng::with_seed(5);
    let mut last = 0;
    let events = samples::events(&mut rng, 3, &mut last);
    let bytes = encoded(&events);
    let mut decoder = Decoder::default();
    let text = |result: Result<Vec<Event>, super::DecodeError>| result.unwrap_err().to_string();

    let ends = text(decoder.events(&bytes[..bytes.len() - 1], 3));
    assert!(ends.starts_with("item 2, byte ") && ends.ends_with("it ends too early"), "{ends}");
    let more = text(decoder.events(&bytes, 2));
    assert!(
        more.starts_with("item 2, byte ") && more.ends_with("there is more than the count says"),
        "{more}"
    );
    for (wrong, what) in [
        (&[0_u8][..], "item 0, byte 1: the event's tag is unknown"),
        (&[7], "item 0, byte 1: the event's tag is unknown"),
        (&[6], "item 0, byte 1: it ends too early"),
        (&[4, 2], "item 0, byte 2: the bits of a burned id are unknown"),
        (&[4, 1], "item 0, byte 2: the first tenant cannot be the same as before"),
        (&[4, 0, 0], "item 0, byte 3: the tenant is not a legal one"),
        (&[4, 0, 0x81, 0], "item 0, byte 2: a number is not in its shortest form"),
        (
            &[4, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff],
            "item 0, byte 2: a number is too long",
        ),
        (&[4, 0, 200, 1, b'a'], "item 0, byte 4: it ends too early"),
        (
            &[4, 0, 1, b'a', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "item 0, byte 20: a transfer's id is nil or max",
        ),
    ] {
        assert_eq!(text(decoder.events(wrong, 1)), what);
    }
}
