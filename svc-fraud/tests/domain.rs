//! The pure core: what the rules decide, what they refuse to be, and the windows against a model that
//! remembers every payment.

// The lint's exception for tests covers the test functions, not what they share.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use money::{Currency, Timestamp};
use proptest::prelude::*;
use svc_fraud::domain::{
    Action, Card, Entity, Features, Limits, Outcome, RuleSet, RuleText, RulesText, Subject, Velocity,
    WhenText, Window, Windows, assess, decide,
};

const ROOM: Limits = Limits { entities_max: 10_000, cells_max: 1_000_000 };
const DEVELOPMENT: &str = include_str!("../src/rules.dev.toml");

fn compile(text: &str) -> Result<RuleSet, String> {
    let text: RulesText = toml::from_str(text).map_err(|error| error.to_string())?;
    RuleSet::compile(&text).map_err(|error| error.to_string())
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds)
}

fn subject(number: &str, amount: i64, currency: &str) -> Subject {
    Subject {
        tenant: "acme".parse().unwrap(),
        payment_id: "pay_01933c5e8f7a7c3e9d5b2a4f6e8c0d1b".parse().unwrap(),
        amount,
        currency: currency.parse().unwrap(),
        card: Card {
            fingerprint: format!("fp-{number}").parse().unwrap(),
            bin: number[..6].parse().unwrap(),
            last4: number[number.len() - 4..].parse().unwrap(),
        },
    }
}

/// Decides and counts, as the store does.
fn pay(
    rules: &RuleSet,
    windows: &mut Windows,
    subject: &Subject,
    now: Timestamp,
) -> (Outcome, u8, Vec<String>) {
    let decision = decide(rules, windows, subject, now);
    if decision.counted {
        for entity in subject.entities() {
            windows.record(&entity, subject.currency, subject.amount.unsigned_abs(), now);
        }
    }
    let assessment = decision.assessment;
    (assessment.outcome, assessment.score, assessment.reasons.iter().map(ToString::to_string).collect())
}

#[test]
fn the_development_rules_know_the_test_cards() {
    let rules = compile(DEVELOPMENT).unwrap();
    let mut windows = Windows::new(ROOM);
    let mut outcome =
        |number: &str, amount| pay(&rules, &mut windows, &subject(number, amount, "EUR"), at(0));
    for number in ["4242424242424242", "5555555555554444", "378282246310005", "6011111111111117"] {
        for amount in [1, 1050, 5_000_001, money::AMOUNT_MAX] {
            assert_eq!(
                outcome(number, amount),
                (Outcome::Allow, 0, vec!["approving_test_card".into()]),
                "{number}"
            );
        }
    }
    assert_eq!(outcome("4100000000000019", 100), (Outcome::Block, 100, vec!["blocked_test_card".into()]));
    assert_eq!(outcome("4000000000009235", 100), (Outcome::Review, 65, vec!["review_test_card".into()]));
    for last4 in ["0002", "9995", "9987", "9979", "0069", "0127", "0119", "0341"] {
        assert_eq!(outcome(&format!("400000000000{last4}"), 100), (Outcome::Allow, 0, vec![]), "{last4}");
    }
}

#[test]
fn an_approving_test_card_may_pay_without_end_and_uses_up_nothing() {
    let rules = compile(DEVELOPMENT).unwrap();
    let mut windows = Windows::new(ROOM);
    for i in 0..20_000 {
        let (outcome, ..) = pay(&rules, &mut windows, &subject("4242424242424242", 1050, "EUR"), at(i / 100));
        assert_eq!(outcome, Outcome::Allow);
    }
    assert_eq!(windows.entities(), 0);
}

#[test]
fn a_large_amount_is_reviewed_from_one_cent_above_the_limit_of_its_currency() {
    let rules = compile(DEVELOPMENT).unwrap();
    let mut windows = Windows::new(ROOM);
    let mut outcome = |amount, currency| {
        let (outcome, _, reasons) =
            pay(&rules, &mut windows, &subject("4000000000000077", amount, currency), at(0));
        (outcome, reasons)
    };
    assert_eq!(outcome(5_000_000, "EUR"), (Outcome::Allow, vec![]));
    assert_eq!(outcome(5_000_001, "EUR"), (Outcome::Review, vec!["large_amount".into()]));
    assert_eq!(outcome(5_000_001, "JPY"), (Outcome::Allow, vec![]));
    assert_eq!(outcome(7_500_001, "JPY"), (Outcome::Review, vec!["large_amount".into()]));
}

#[test]
fn a_card_that_pays_too_often_is_reviewed_then_blocked_and_an_hour_later_free_again() {
    let rules = compile(DEVELOPMENT).unwrap();
    let mut windows = Windows::new(ROOM);
    let card = subject("4000000000000002", 100, "EUR");
    let mut outcomes = Vec::new();
    for _ in 0..=5_001 {
        outcomes.push(pay(&rules, &mut windows, &card, at(0)).0);
    }
    assert_eq!(
        outcomes.iter().position(|o| *o == Outcome::Review),
        Some(1_001),
        "1,001 payments went before"
    );
    assert_eq!(outcomes.iter().position(|o| *o == Outcome::Block), Some(5_001));
    let other = subject("4000000000009995", 100, "EUR");
    assert_eq!(pay(&rules, &mut windows, &other, at(0)).0, Outcome::Allow, "other cards are not touched");
    assert_eq!(pay(&rules, &mut windows, &card, at(3_600)).0, Outcome::Allow);
}

#[test]
fn block_goes_before_review_and_a_block_list_before_an_allow_list() {
    let rules = compile(
        r#"
        review_score_min = 65
        block_score_min = 90
        [lists.friends]
        fingerprints = ["fp-4000000000000077", "fp-4000000000000085"]
        [lists.foes]
        cards = ["400000*0085"]
        [[rules]]
        name = "watch"
        action = "review"
        when = { amount_over = { EUR = 10 } }
        [[rules]]
        name = "stop"
        action = "block"
        when = { amount_over = { EUR = 100 } }
        [[rules]]
        name = "foe"
        action = "block"
        when = { card_in = "foes" }
        [[rules]]
        name = "friend"
        action = "allow"
        when = { card_in = "friends" }
        "#,
    )
    .unwrap();
    let mut windows = Windows::new(ROOM);
    let mut outcome = |number, amount| pay(&rules, &mut windows, &subject(number, amount, "EUR"), at(0));
    assert_eq!(outcome("4000000000000093", 11), (Outcome::Review, 65, vec!["watch".into()]));
    assert_eq!(outcome("4000000000000093", 101), (Outcome::Block, 90, vec!["watch".into(), "stop".into()]));
    assert_eq!(outcome("4000000000000077", 101), (Outcome::Allow, 0, vec!["friend".into()]));
    assert_eq!(outcome("4000000000000085", 1), (Outcome::Block, 90, vec!["foe".into(), "friend".into()]));
}

#[test]
fn points_add_up_to_an_outcome_and_not_beyond_100() {
    let rules = compile(
        r#"
        review_score_min = 50
        block_score_min = 100
        [[rules]]
        name = "a"
        action = "score"
        points = 30
        when = { amount_over = { EUR = 1 } }
        [[rules]]
        name = "b"
        action = "score"
        points = 30
        when = { amount_over = { EUR = 2 } }
        [[rules]]
        name = "c"
        action = "score"
        points = 80
        when = { amount_over = { EUR = 3 } }
        "#,
    )
    .unwrap();
    let mut windows = Windows::new(ROOM);
    let mut scored = |amount| {
        let (outcome, score, _) =
            pay(&rules, &mut windows, &subject("4000000000000077", amount, "EUR"), at(0));
        (outcome, score)
    };
    assert_eq!(scored(1), (Outcome::Allow, 0));
    assert_eq!(scored(2), (Outcome::Allow, 30));
    assert_eq!(scored(3), (Outcome::Review, 60));
    assert_eq!(scored(4), (Outcome::Block, 100));
}

#[test]
fn a_velocity_sees_the_sum_of_its_currency_and_its_scope() {
    let rules = compile(
        r#"
        review_score_min = 65
        block_score_min = 90
        [[rules]]
        name = "card_sum"
        action = "review"
        when = { velocity = { of = "card", window_s = 86400, sum_over = { EUR = 100 } } }
        [[rules]]
        name = "tenant_count"
        action = "block"
        when = { velocity = { of = "tenant", window_s = 3600, count_over = 3 } }
        "#,
    )
    .unwrap();
    let mut windows = Windows::new(ROOM);
    let mut outcome = |number, amount, currency, second| {
        pay(&rules, &mut windows, &subject(number, amount, currency), at(second)).0
    };
    assert_eq!(outcome("4000000000000077", 1_000, "USD", 0), Outcome::Allow);
    assert_eq!(
        outcome("4000000000000077", 101, "EUR", 1),
        Outcome::Allow,
        "the payment itself is not counted"
    );
    assert_eq!(outcome("4000000000000077", 1, "EUR", 2), Outcome::Review);
    assert_eq!(outcome("4000000000000085", 1, "EUR", 3), Outcome::Allow, "another card");
    assert_eq!(outcome("4000000000000093", 1, "EUR", 4), Outcome::Block, "four of this tenant went before");
    assert_eq!(outcome("4000000000000077", 1, "EUR", 4_000), Outcome::Review, "the day is not over");
}

#[test]
fn a_rule_set_that_cannot_be_is_refused_by_the_name_of_the_rule() {
    let head = "review_score_min = 65\nblock_score_min = 90\n";
    let rule = |body: &str| format!("{head}[lists.l]\n[[rules]]\nname = \"r1\"\n{body}");
    for (text, expected) in [
        ("review_score_min = 0\nblock_score_min = 90".to_owned(), "review_score_min"),
        ("review_score_min = 91\nblock_score_min = 90".to_owned(), "review_score_min"),
        ("review_score_min = 65\nblock_score_min = 101".to_owned(), "block_score_min"),
        (format!("{head}surprise = 1"), "surprise"),
        (rule("action = \"deny\"\nwhen = {card_in = \"l\"}"), "deny"),
        (rule("action = \"block\"\nwhen = {}"), "rule \"r1\": `when` must say"),
        (rule("action = \"block\"\nwhen = {card_on = \"l\"}"), "card_on"),
        (rule("action = \"block\"\nwhen = {card_in = \"m\"}"), "rule \"r1\": there is no list \"m\""),
        (rule("action = \"block\"\nwhen = {amount_over = {}}"), "rule \"r1\": amounts must name"),
        (
            rule("action = \"block\"\nwhen = {amount_over = {EUR = -1}}"),
            "rule \"r1\": amounts must not be negative",
        ),
        (rule("action = \"block\"\nwhen = {amount_over = {eur = 1}}"), "three upper-case letters"),
        (
            rule("action = \"block\"\nwhen = {velocity = {of = \"card\", window_s = 60, count_over = 1}}"),
            "rule \"r1\": window_s",
        ),
        (
            rule("action = \"block\"\nwhen = {velocity = {of = \"card\", window_s = 3600}}"),
            "rule \"r1\": velocity must say either",
        ),
        (rule("action = \"block\"\npoints = 101\nwhen = {card_in = \"l\"}"), "rule \"r1\": points"),
        (rule("action = \"score\"\nwhen = {card_in = \"l\"}"), "rule \"r1\": a score rule must have points"),
        (
            rule("action = \"allow\"\npoints = 1\nwhen = {card_in = \"l\"}"),
            "rule \"r1\": an allow rule has no points",
        ),
        (
            rule("action = \"allow\"\nwhen = {amount_over = {EUR = 1}}"),
            "rule \"r1\": an allow rule may only name",
        ),
        (
            format!("{head}[[rules]]\nname = \"R 1\"\naction = \"block\"\nwhen = {{}}"),
            "rule \"R 1\": the name must be",
        ),
        (
            rule(
                "action = \"block\"\nwhen = {card_in = \"l\"}\n[[rules]]\nname = \"r1\"\naction = \"block\"\nwhen = {card_in = \"l\"}",
            ),
            "rule \"r1\": the name is taken",
        ),
        (
            format!("{head}[lists.l]\ncards = [\"424242*4242\", \"4242424242424242\"]"),
            "list \"l\": cards 1 must be",
        ),
        (format!("{head}[lists.l]\nfingerprints = [\"\"]"), "list \"l\": fingerprints 0 must be"),
    ] {
        let error = compile(&text).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
        assert!(!error.contains("4242424242424242"), "an entry is not repeated: {error}");
    }
}

proptest! {
    /// The outcome is always the band of the score, and no amount makes a stricter outcome milder.
    #[test]
    fn the_score_never_contradicts_the_outcome(
        drawn in prop::collection::vec((1_i64..200, 0_u8..=100, 0_usize..3), 0..8),
        amount in 1_i64..200,
    ) {
        let rule = |(i, &(limit, points, action)): (usize, &(i64, u8, usize))| RuleText {
            name: format!("r{i}"),
            action: [Action::Review, Action::Block, if points == 0 { Action::Review } else { Action::Score }][action],
            points,
            when: WhenText { amount_over: Some([("EUR".parse().unwrap(), limit)].into()), ..WhenText::default() },
        };
        let rules = drawn.iter().enumerate().map(rule).collect();
        let text = RulesText { review_score_min: 40, block_score_min: 80, lists: BTreeMap::new(), rules };
        let rules = RuleSet::compile(&text).unwrap();
        let assessed = |amount| {
            let subject = &subject("4000000000000077", amount, "EUR");
            assess(&rules, &Features { subject, card: Velocity::default(), tenant: Velocity::default() }, at(0))
        };
        let assessment = assessed(amount);
        prop_assert!(assessment.score <= 100);
        let band = match assessment.score {
            80.. => Outcome::Block,
            40.. => Outcome::Review,
            _ => Outcome::Allow,
        };
        prop_assert_eq!(assessment.outcome, band);
        prop_assert_eq!(assessment.reasons.len(), drawn.iter().filter(|(limit, ..)| amount > *limit).count());
        prop_assert!(assessed(amount + 1).outcome >= assessment.outcome);
    }
}

#[derive(Debug, Clone)]
struct Payment {
    entity: usize,
    currency: usize,
    amount: u64,
    second: i64,
    /// Taken back right away.
    undone: bool,
}

fn payments() -> impl Strategy<Value = Vec<Payment>> {
    // Steps of very different length, some of them back in time, so that every window has an edge in it.
    let step = prop_oneof![Just(0), -30_i64..30, 0_i64..4_000, 0_i64..100_000, 0_i64..700_000];
    let payment = (0_usize..3, 0_usize..2, 1_u64..1_000, step, prop::bool::weighted(0.1));
    prop::collection::vec(payment, 1..120).prop_map(|items| {
        let mut second = 0;
        items
            .into_iter()
            .map(|(entity, currency, amount, step, undone)| {
                second += step;
                Payment { entity, currency, amount, second, undone }
            })
            .collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn windows_agree_with_a_model_that_remembers_everything(payments in payments(), later in 0_i64..800_000) {
        let currencies: [Currency; 2] = ["EUR".parse().unwrap(), "JPY".parse().unwrap()];
        let entity = |i: usize| Entity::Card("acme".parse().unwrap(), format!("c{i}").parse().unwrap());
        let mut windows = Windows::new(ROOM);
        let mut newest = i64::MIN;
        for payment in &payments {
            let (currency, time) = (currencies[payment.currency], at(payment.second));
            windows.record(&entity(payment.entity), currency, payment.amount, time);
            if payment.undone {
                windows.forget(&entity(payment.entity), currency, payment.amount, time);
            }
            newest = newest.max(payment.second);
        }
        // Asked at or after the newest payment: asking about the past is not offered.
        for now in [newest, newest + later] {
            for (i, (c, currency)) in (0..3).flat_map(|i| currencies.iter().enumerate().map(move |c| (i, c))) {
                let velocity = windows.velocity(&entity(i), *currency, at(now));
                for window in Window::ALL {
                    let (length, bucket) = (window.seconds(), window.bucket_seconds());
                    let past = payments.iter().filter(|p| p.entity == i && !p.undone);
                    let exact = past.clone().filter(|p| now - p.second < length).count() as u64;
                    let sure = past.clone().filter(|p| now - p.second <= length - bucket).count() as u64;
                    let tally = velocity.of(window);
                    prop_assert!(sure <= tally.count, "{window:?}: {sure} <= {}", tally.count);
                    prop_assert!(tally.count <= exact, "{window:?}: {} <= {exact}", tally.count);
                    let slot = |second: i64| at(second).as_seconds().div_euclid(bucket);
                    let live = past.filter(|p| p.currency == c && slot(p.second) > slot(now) - length / bucket);
                    prop_assert_eq!(tally.amount, live.map(|p| p.amount).sum::<u64>());
                }
            }
        }
    }
}
