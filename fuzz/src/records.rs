//! What svc-crypto reads back from where others could have written: what a root wrapped, what is sealed of a card,
//! and the audit log.

use std::sync::LazyLock;

use crypto_envelope::secret::{KeyBytes, SecretBytes};
use mesh::SpiffeId;
use money::Timestamp;
use svc_crypto::domain::{
    algorithm::Verb,
    audit::{Act, ChainKey, Chained, Entry, Link, Outcome, Subject, Verifier},
    keys::KeyName,
    rooted::{self, RootName, Stamp},
    token,
};

use crate::input::{Input, part};

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let stamp = |name, version| Stamp::new(RootName::parse(name).ok()?, version);
    let rooted =
        |name, version| stamp(name, version).map(|stamp| rooted::encode(&stamp, b"body")).unwrap_or_default();
    let card = [&[1, 16][..], b"4242424242424242", b"A Cardholder"].concat();
    let link = CHAIN.last().map(|last| Link { sequence: last.record.sequence, hash: last.hash });
    vec![
        [&[0][..], &rooted("transit:transit/paymesh", "7")].concat(),
        [&[0][..], &rooted("pkcs11:token/key", "")].concat(),
        [&[1][..], &card].concat(),
        [&[2][..], link.map(|link| link.to_string()).unwrap_or_default().as_bytes()].concat(),
        [&[3, 1, 0][..], &part(b"svc-fraud")].concat(),
        [&[3, 2, 3][..], &part(b"payments.other")].concat(),
    ]
}

pub(crate) fn run(data: &[u8]) {
    let mut input = Input::new(data);
    match input.byte() % 4 {
        0 => {
            let wrapped = input.rest();
            if let Some((stamp, body)) = rooted::read(wrapped)
                && body.len() < wrapped.len()
            {
                assert_eq!(rooted::encode(&stamp, body), wrapped, "it has one form");
            }
        }
        1 => card(input.rest()),
        2 => link(input.rest()),
        _ => tampered(input),
    }
}

fn card(bytes: &[u8]) {
    if let Ok(card) = token::decode(&SecretBytes::new(bytes.to_vec())) {
        let (digits, name) = (card.pan.digits(), card.holder_name.expose());
        let length = u8::try_from(digits.len()).unwrap_or_default();
        assert_eq!([&[1, length], digits.as_bytes(), name.as_bytes()].concat(), bytes, "it has one form");
        assert!(card.pan.bin().len() + card.pan.last4().len() < digits.len());
    }
}

fn link(text: &[u8]) {
    let Ok(text) = std::str::from_utf8(text) else { return };
    if let Ok(link) = text.parse::<Link>() {
        assert_eq!(link.to_string(), text, "a link has one spelling");
    }
}

fn key() -> ChainKey {
    ChainKey::new(&KeyBytes::take(&mut [5; 32]))
}

fn entry(workload: &str, name: &str, verb: Verb) -> Option<Entry> {
    let act = Act {
        workload: SpiffeId::of(workload).ok()?,
        tenant: "acme".parse().ok(),
        subject: Subject::Key(KeyName::parse(name).ok()?),
        key: None,
        verb,
        outcome: Outcome::Done,
    };
    Some(Entry { act, count: 1, bytes: 64 })
}

/// Four records as they were written.
static CHAIN: LazyLock<Vec<Chained>> = LazyLock::new(|| {
    let entries = Verb::ALL.iter().take(4).filter_map(|verb| entry("svc-payments", "payments.notes", *verb));
    let (epoch, now) = (Timestamp::EPOCH, Timestamp::from_seconds(1_800_000_000));
    let entries: Vec<Entry> = entries.collect();
    key().extend(Link::START, epoch, entries, now).collect()
});

/// One of them is changed: the verification names that record, or one that follows.
fn tampered(mut input: Input<'_>) {
    let (at, field) = (usize::from(input.byte()) % CHAIN.len(), input.byte());
    let (text, number) = (input.part(), input.number() as u64);
    let text = std::str::from_utf8(text).unwrap_or_default();
    let mut chain = CHAIN.clone();
    let Some(Chained { record, hash }) = chain.get_mut(at) else { return };
    let act = &mut record.entry.act;
    match field % 10 {
        0 => act.workload = SpiffeId::of(text).unwrap_or_else(|_| act.workload.clone()),
        1 => act.tenant = text.parse().ok(),
        2 => act.subject = KeyName::parse(text).map_or(Subject::None, Subject::Key),
        3 => act.verb = Verb::ALL[usize::try_from(number).unwrap_or_default() % Verb::ALL.len()],
        4 => act.outcome = Outcome::from_text(text.to_owned()),
        5 => record.entry.count = u32::try_from(number).unwrap_or_default(),
        6 => record.entry.bytes = number,
        7 => record.at = Timestamp::from_nanos(number.cast_signed()),
        8 => record.sequence = number,
        _ => hash[usize::try_from(number).unwrap_or_default() % 32] ^= 1,
    }
    let mut verifier = Verifier::new(key(), []);
    let mut sound = chain.iter().map(|chained| verifier.check(chained.record.sequence, Some(chained)));
    let sound = sound.all(|checked| checked.is_ok());
    assert_eq!(sound, chain == *CHAIN, "what was changed is sound");
}
