//! What an assessment costs without its store: reading the windows, asking the development rules,
//! counting the payment.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use money::Timestamp;
use svc_fraud::domain::{Card, Limits, RuleSet, RulesText, Subject, Windows, decide};

fn subject(card: u64) -> Option<Subject> {
    Some(Subject {
        tenant: "acme".parse().ok()?,
        payment_id: "pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b".parse().ok()?,
        amount: 1050,
        currency: "EUR".parse().ok()?,
        card: Card {
            fingerprint: format!("{card:064x}").parse().ok()?,
            bin: "400000".parse().ok()?,
            last4: "0002".parse().ok()?,
        },
    })
}

fn benches(c: &mut Criterion) {
    let text: Option<RulesText> = toml::from_str(include_str!("../src/rules.dev.toml")).ok();
    let Some(rules) = text.and_then(|text| RuleSet::compile(&text).ok()) else { return };
    for cards in [1_000_u64, 200_000] {
        let subjects: Vec<Subject> = (0..cards).filter_map(subject).collect();
        let limits = Limits { entities_max: 1_000_000, cells_max: 10_000_000 };
        let mut windows = Windows::new(limits);
        let mut turn = 0_usize;
        c.bench_function(&format!("decide and record, {cards} cards"), |b| {
            b.iter(|| {
                // A stride that is coprime to the number of cards visits them in no cache's order.
                turn = (turn + 7_919) % subjects.len();
                let subject = &subjects[turn];
                let now = Timestamp::from_nanos(1_800_000_000_000_000_000 + i64::try_from(turn).unwrap_or(0));
                let decision = decide(&rules, &windows, subject, now);
                for entity in subject.entities() {
                    windows.record(&entity, subject.currency, subject.amount.unsigned_abs(), now);
                }
                black_box(decision)
            });
        });
        c.bench_function(&format!("decide, {cards} cards"), |b| {
            b.iter(|| {
                turn = (turn + 7_919) % subjects.len();
                black_box(decide(&rules, &windows, &subjects[turn], Timestamp::from_seconds(1_800_000_001)))
            });
        });
    }
}

criterion_group!(group, benches);
criterion_main!(group);
