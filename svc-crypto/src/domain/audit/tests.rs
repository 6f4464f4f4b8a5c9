//! Chains: what is merged, what a changed one is found by, and the example of the document.

use proptest::{collection::vec, prelude::*, sample::select};
use uuid::Uuid;

use super::*;
use crate::domain::canonical::hex;

fn tenant(name: &str) -> TenantId {
    name.parse().unwrap()
}

fn token(id: u128) -> TokenRef {
    TokenRef::Opaque(money::TokenId::new(Uuid::from_u128(id)))
}

fn act(verb: Verb) -> Act {
    Act {
        workload: SpiffeId::of("svc-payments").unwrap(),
        tenant: Some(tenant("acme")),
        subject: Subject::Key(KeyName::parse("orders").unwrap()),
        key: Some(KeyRef { id: Uuid::from_u128(7), version: 3 }),
        verb,
        outcome: Outcome::Done,
    }
}

fn entry(verb: Verb, count: u32, bytes: u64) -> Entry {
    Entry { act: act(verb), count, bytes }
}

fn key(byte: u8) -> ChainKey {
    ChainKey::new(&KeyBytes::take(&mut [byte; 32]))
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn chain(key: &ChainKey, entries: Vec<Entry>) -> Vec<Chained> {
    key.extend(Link::START, at(0), entries, at(1_800_000_000)).collect()
}

fn verified(key: ChainKey, known: &[Link], records: &[Chained]) -> Result<Link, Offence> {
    let mut verifier = Verifier::new(key, known.iter().copied());
    for chained in records {
        verifier.check(chained.record.sequence, Some(chained))?;
    }
    verifier.finish().map(|()| verifier.end())
}

fn links(records: &[Chained]) -> Vec<Link> {
    records.iter().map(|found| Link { sequence: found.record.sequence, hash: found.hash }).collect()
}

fn any_entry() -> impl Strategy<Value = Entry> {
    let subject = prop_oneof![
        Just(Subject::None),
        "[a-z]{1,3}".prop_map(|name| Subject::Key(KeyName::parse(&name).unwrap())),
        (0..3u128).prop_map(|id| Subject::Token(token(id))),
    ];
    let key = prop::option::of((0..3u128, 0..3u32));
    let key = key.prop_map(|key| key.map(|(id, version)| KeyRef { id: Uuid::from_u128(id), version }));
    let outcome = select(vec!["", "DECRYPTION_FAILED", "KEY_NOT_FOUND"])
        .prop_map(|reason| Outcome::from_text(reason.to_owned()));
    let who = (select(vec!["a", "ab"]), prop::option::of(select(vec!["acme", "other"])));
    (who, subject, key, select(Verb::ALL), outcome, 0..3u32, 0..3u64).prop_map(
        |((workload, of), subject, key, verb, outcome, count, bytes)| Entry {
            act: Act {
                workload: SpiffeId::of(workload).unwrap(),
                tenant: of.map(tenant),
                subject,
                key,
                verb,
                outcome,
            },
            count,
            bytes,
        },
    )
}

proptest! {
    #[test]
    fn records_that_differ_have_different_hashes(a in any_entry(), b in any_entry()) {
        let hash = |entry: &Entry| chain(&key(1), vec![entry.clone()])[0].hash;
        prop_assert_eq!(a == b, hash(&a) == hash(&b));
    }

    #[test]
    fn merging_loses_nothing_and_leaves_no_two_alike(entries in vec(any_entry(), 0..40)) {
        let sum = |entries: &[Entry]| {
            let mut sums: HashMap<Act, (u64, u64)> = HashMap::new();
            for entry in entries {
                let sum = sums.entry(entry.act.clone()).or_default();
                *sum = (sum.0 + u64::from(entry.count), sum.1 + entry.bytes);
            }
            sums
        };
        let merged = merge(entries.iter().cloned());
        prop_assert_eq!(sum(&merged), sum(&entries));
        prop_assert_eq!(sum(&merged).len(), merged.len());
    }

    #[test]
    fn a_record_that_is_changed_dropped_doubled_or_swapped_is_named(
        entries in vec(any_entry(), 2..12),
        other in any_entry(),
        place in any::<prop::sample::Index>(),
        second in any::<prop::sample::Index>(),
    ) {
        let records = chain(&key(1), entries);
        let (place, second) = (place.index(records.len()), second.index(records.len()));
        let head = *links(&records).last().unwrap();
        prop_assert_eq!(verified(key(1), &[head], &records), Ok(head));
        let of = |place: usize| place as u64 + 1;

        let mut changed = records.clone();
        changed[place].record.entry = other.clone();
        let offence = Err(Offence::Hash { sequence: of(place) });
        let expected = if other == records[place].record.entry { Ok(head) } else { offence };
        prop_assert_eq!(verified(key(1), &[head], &changed), expected);
        let mut flipped = records.clone();
        flipped[place].hash[second] ^= 1;
        prop_assert_eq!(verified(key(1), &[head], &flipped), Err(Offence::Hash { sequence: of(place) }));

        let mut dropped = records.clone();
        dropped.remove(place);
        let gap = Offence::Gap { expected: of(place), found: of(place) + 1 };
        let last = records.len() as u64;
        let cut = Offence::Cut { last: last - 1, known: last };
        prop_assert_eq!(verified(key(1), &[head], &dropped), Err(if of(place) == last { cut } else { gap }));
        // With the numbers made to fit it is no better.
        for (number, chained) in (1..).zip(&mut dropped) {
            chained.record.sequence = number;
        }
        let hash = Offence::Hash { sequence: of(place) };
        prop_assert_eq!(verified(key(1), &[head], &dropped), Err(if of(place) == last { cut } else { hash }));

        let mut doubled = records.clone();
        doubled.insert(place, records[place].clone());
        let gap = Offence::Gap { expected: of(place) + 1, found: of(place) };
        prop_assert_eq!(verified(key(1), &[head], &doubled), Err(gap));

        let mut swapped = records.clone();
        swapped.swap(place, second);
        prop_assert_eq!(verified(key(1), &[head], &swapped).is_ok(), place == second);
        prop_assert!(verified(key(2), &[head], &records).is_err());
    }
}

#[test]
fn what_is_known_of_the_end_tells_a_cut_and_a_log_written_anew() {
    let records = chain(&key(1), vec![entry(Verb::Encrypt, 1, 1), entry(Verb::Sign, 1, 1)]);
    let all = links(&records);
    assert_eq!(verified(key(1), &[], &records[..1]), Ok(all[0]), "without it a cut cannot be seen");
    assert_eq!(verified(key(1), &[all[1]], &records[..1]), Err(Offence::Cut { last: 1, known: 2 }));
    assert_eq!(verified(key(1), &[all[0]], &records), Ok(all[1]));
    assert_eq!(verified(key(1), &[all[0]], &[]), Err(Offence::Cut { last: 0, known: 1 }));
    // By whoever has the key.
    let anew = chain(&key(1), vec![entry(Verb::Encrypt, 1, 1), entry(Verb::Verify, 1, 1)]);
    assert_eq!(verified(key(1), &[all[1]], &anew), Err(Offence::Rewritten { sequence: 2 }));
    assert_eq!(Verifier::new(key(1), [Link::START]).finish(), Ok(()));
}

#[test]
fn a_link_has_one_spelling() {
    let link = Link { sequence: 812, hash: [0xa7; 32] };
    let text = format!("812:{}", "a7".repeat(32));
    assert_eq!((link.to_string(), text.parse()), (text.clone(), Ok(link)));
    let wrong = ["", "812", "812:", &text[..67], &text.replace('a', "A"), &text.replacen("a7", "+7", 1)];
    for wrong in wrong.into_iter().chain([&*format!("0{text}"), &format!("{text}0"), &format!("+{text}")]) {
        assert_eq!(wrong.parse::<Link>(), Err(LinkError), "{wrong:?}");
    }
}

#[test]
fn time_that_goes_back_stands_still_and_is_an_offence_where_it_is_kept() {
    let key = key(1);
    let first: Vec<_> = key.extend(Link::START, at(0), [entry(Verb::Sign, 1, 1)], at(9)).collect();
    let end = links(&first)[0];
    let next: Vec<_> = key.extend(end, at(9), [entry(Verb::Sign, 1, 1)], at(5)).collect();
    assert_eq!(next[0].record.at, at(9));
    let backwards: Vec<_> = key.extend(end, at(0), [entry(Verb::Sign, 1, 1)], at(5)).collect();
    let all = [first[0].clone(), backwards[0].clone()];
    assert_eq!(verified(key.clone(), &[], &all), Err(Offence::Time { sequence: 2 }));
    let mut verifier = Verifier::new(key, []);
    assert_eq!(verifier.check(1, None), Err(Offence::Unreadable { sequence: 1 }));
}

#[test]
fn a_sum_that_cannot_be_kept_becomes_two_entries() {
    let full = entry(Verb::Sign, u32::MAX, 1);
    let merged = merge([full.clone(), entry(Verb::Sign, 1, 1), entry(Verb::Sign, 2, 2)].into_iter());
    assert_eq!(merged, [full, entry(Verb::Sign, 3, 3)]);
    let long = entry(Verb::Sign, 1, i64::MAX as u64);
    let merged = merge([long.clone(), entry(Verb::Encrypt, 1, 1), entry(Verb::Sign, 1, 1)].into_iter());
    assert_eq!(merged, [long, entry(Verb::Encrypt, 1, 1), entry(Verb::Sign, 1, 1)]);
}

#[test]
fn a_filter_lets_through_what_it_names() {
    let record = &chain(&key(1), vec![entry(Verb::Sign, 1, 1)])[0].record;
    let filter = Filter {
        tenant: Some(tenant("acme")),
        key_name: KeyName::parse("orders").ok(),
        verb: Some(Verb::Sign),
        workload: SpiffeId::of("svc-payments").ok(),
        ..Filter::default()
    };
    assert!(Filter::default().matches(record) && filter.matches(record));
    for other in [
        Filter { tenant: Some(tenant("other")), ..filter.clone() },
        Filter { key_name: KeyName::parse("order").ok(), ..filter.clone() },
        Filter { verb: Some(Verb::Verify), ..filter.clone() },
        Filter { workload: SpiffeId::of("svc-tax").ok(), ..filter.clone() },
        Filter { token: Some(token(0)), ..filter.clone() },
        Filter { refused: true, ..filter.clone() },
    ] {
        assert!(!other.matches(record), "{other:?}");
    }
}

/// The example of the document.
#[test]
fn the_format_is_as_documented() {
    let document = include_str!("../../../../docs/crypto-audit.md");
    let root: Vec<u8> = (0..32).collect();
    let key = ChainKey::new(&ChainKey::derived_from(&KeyBytes::from_slice(&root).unwrap()));
    let mut refused = act(Verb::Detokenize);
    refused.subject = Subject::Token(token(0xb1));
    refused.key = None;
    refused.outcome = Outcome::Refused(Cow::Borrowed("TOKEN_NOT_FOUND"));
    let entries = vec![entry(Verb::Encrypt, 100, 6_400), Entry { act: refused, count: 1, bytes: 0 }];
    for chained in chain(&key, entries) {
        assert!(
            document.contains(&hex(&chained.hash)),
            "record {}: {}",
            chained.record.sequence,
            hex(&chained.hash)
        );
    }
}
