//! The pure core: calculations by example, what is refused, and what holds for every calculation.

// The lint's exception for tests covers the test functions, not what they share.
#![allow(clippy::unwrap_used)]

use std::sync::OnceLock;

use money::{AMOUNT_MAX, Timestamp};
use proptest::prelude::*;
use rust_decimal::Decimal;
use svc_tax::domain::{
    Category::{self, Exempt, Reduced, Standard, ZeroRated},
    Computation, Day, LINES_MAX, Line, LineResult, RateTable, Rejection, ShipTo, TOTAL_MAX, calculate,
};

const RATES: &str = include_str!("../src/rates.toml");

fn table() -> &'static RateTable {
    static TABLE: OnceLock<RateTable> = OnceLock::new();
    TABLE.get_or_init(|| RateTable::read(RATES).unwrap())
}

/// 2026-11-20.
fn now() -> Timestamp {
    Timestamp::from_seconds(1_795_132_800)
}

fn lines(lines: &[(i64, Category)]) -> Vec<Line> {
    let line = |(i, &(amount, category)): (usize, &(i64, Category))| Line {
        reference: format!("L{i}"),
        amount,
        category,
    };
    lines.iter().enumerate().map(line).collect()
}

fn to(code: &str) -> ShipTo {
    let (country, state) = code.split_once('-').unwrap_or((code, ""));
    ShipTo { country: country.into(), state: state.into() }
}

fn compute(code: &str, given: &[(i64, Category)], inclusive: bool) -> Result<Computation, Vec<Rejection>> {
    calculate(table(), lines(given), &to(code), inclusive, now())
}

type Amounts = Vec<(i64, i64)>;

/// (net, tax) per line, (net, tax) per group, total.
fn amounts(computation: &Computation) -> (Amounts, Amounts, i64) {
    let lines = computation.lines.iter().map(|l| (l.amount_net, l.amount_tax)).collect();
    let groups = computation.subtotals.iter().map(|s| (s.amount_net, s.amount_tax)).collect();
    (lines, groups, computation.amount_total())
}

struct Example {
    why: &'static str,
    code: &'static str,
    inclusive: bool,
    given: &'static [(i64, Category)],
    lines: &'static [(i64, i64)],
    groups: &'static [(i64, i64)],
    total: i64,
}

const EXAMPLES: &[Example] = &[
    Example {
        why: "one line: 100.00 at 19 %",
        code: "DE",
        inclusive: false,
        given: &[(10_000, Standard)],
        lines: &[(10_000, 1_900)],
        groups: &[(10_000, 1_900)],
        total: 11_900,
    },
    Example {
        why: "rounded per group, not per line: 2 × 10.03 at 19 % is 3.81, while 2 × 1.91 would be 3.82",
        code: "DE",
        inclusive: false,
        given: &[(1_003, Standard), (1_003, Standard)],
        lines: &[(1_003, 191), (1_003, 190)],
        groups: &[(2_006, 381)],
        total: 2_387,
    },
    Example {
        why: "half away from zero: 1.50 at 7 % is 0.105",
        code: "DE",
        inclusive: false,
        given: &[(150, Reduced)],
        lines: &[(150, 11)],
        groups: &[(150, 11)],
        total: 161,
    },
    Example {
        why: "one breakdown per category and rate, in the order of first use; nought has two categories",
        code: "DE",
        inclusive: false,
        given: &[(2_500, Reduced), (10_000, Standard), (700, Exempt), (300, ZeroRated), (2_500, Reduced)],
        lines: &[(2_500, 175), (10_000, 1_900), (700, 0), (300, 0), (2_500, 175)],
        groups: &[(5_000, 350), (10_000, 1_900), (700, 0), (300, 0)],
        total: 18_250,
    },
    Example {
        why: "the remainders decide who gets the odd cents: of 0.19 each line has 0.0633…",
        code: "DE",
        inclusive: false,
        given: &[(33, Standard), (33, Standard), (34, Standard)],
        lines: &[(33, 6), (33, 6), (34, 7)],
        groups: &[(100, 19)],
        total: 119,
    },
    Example {
        why: "many tiny lines: 5 × 0.01 at 19 % is 0.0095, 0.01 in all",
        code: "DE",
        inclusive: false,
        given: &[(1, Standard), (1, Standard), (1, Standard), (1, Standard), (1, Standard)],
        lines: &[(1, 1), (1, 0), (1, 0), (1, 0), (1, 0)],
        groups: &[(5, 1)],
        total: 6,
    },
    Example {
        why: "tax included: the gross sum stays",
        code: "DE",
        inclusive: true,
        given: &[(11_900, Standard), (1_070, Reduced)],
        lines: &[(10_000, 1_900), (1_000, 70)],
        groups: &[(10_000, 1_900), (1_000, 70)],
        total: 12_970,
    },
    Example {
        why: "tax included, both ends at half a cent: 2.99 with 4 % holds 0.115, and the tax is rounded",
        code: "US-NY",
        inclusive: true,
        given: &[(299, Standard)],
        lines: &[(287, 12)],
        groups: &[(287, 12)],
        total: 299,
    },
    Example {
        why: "a rate with decimals: 19.99 at 7.25 % is 1.449275",
        code: "US-CA",
        inclusive: false,
        given: &[(1_999, Standard)],
        lines: &[(1_999, 145)],
        groups: &[(1_999, 145)],
        total: 2_144,
    },
    Example {
        why: "a state without sales tax",
        code: "US-OR",
        inclusive: false,
        given: &[(1_999, Standard)],
        lines: &[(1_999, 0)],
        groups: &[(1_999, 0)],
        total: 1_999,
    },
    Example {
        why: "free lines are lines",
        code: "HU",
        inclusive: true,
        given: &[(0, Standard), (127, Standard)],
        lines: &[(0, 0), (100, 27)],
        groups: &[(100, 27)],
        total: 127,
    },
];

#[test]
fn calculations_by_example() {
    for example in EXAMPLES {
        let computation = compute(example.code, example.given, example.inclusive).unwrap();
        let expected = (example.lines.to_vec(), example.groups.to_vec(), example.total);
        assert_eq!(amounts(&computation), expected, "{}", example.why);
        assert_eq!(computation.jurisdiction, example.code);
    }
}

#[test]
fn the_rates_are_those_of_the_day() {
    let rate = |code: &str, category, day: &str, second: i64| {
        let day: Day = day.parse().unwrap();
        let midnight =
            (0..30_000).map(|n| Timestamp::from_seconds(n * 86_400)).find(|t| Day::of(*t) == day).unwrap();
        let now = midnight.checked_add_seconds(second).unwrap();
        calculate(table(), lines(&[(100, category)]), &to(code), false, now).unwrap().lines[0]
            .rate
            .to_string()
    };
    assert_eq!(rate("DE", Standard, "2020-06-30", 86_399), "19");
    assert_eq!(rate("DE", Standard, "2020-07-01", 0), "16");
    assert_eq!(rate("DE", Reduced, "2020-12-31", 86_399), "5");
    assert_eq!(rate("DE", Standard, "2021-01-01", 0), "19");
    assert_eq!(rate("EE", Standard, "2025-06-30", 0), "22");
    assert_eq!(rate("EE", Standard, "2025-07-01", 0), "24");
    assert_eq!(rate("FI", Reduced, "2026-01-01", 0), "13.5");
    assert_eq!(rate("US-SD", Standard, "2023-07-01", 0), "4.2");
    let before = Timestamp::from_seconds(1_483_228_799);
    let refused = calculate(table(), lines(&[(100, Standard)]), &to("DE"), false, before);
    assert_eq!(refused, Err(vec![Rejection::NoRatesOnDay]), "2016-12-31 is before the table");
}

#[test]
fn the_table_has_the_union_its_neighbours_and_some_states() {
    let table = table();
    let codes = table.codes();
    for country in
        "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK GB CH NO".split(' ')
    {
        assert!(codes.contains(&country), "{country}");
        let (_, rates) = table.find(country, "", Day::of(now())).unwrap();
        let standard = rates.of(Standard).unwrap().percent();
        // Article 97 of the VAT Directive: a standard rate is at least 15 %.
        assert!(country == "CH" || standard >= 15.into(), "{country} {standard}");
        assert!(rates.of(Reduced).is_none_or(|reduced| reduced.percent() < standard), "{country}");
    }
    assert!(codes.iter().filter(|code| code.starts_with("US-")).count() >= 12);
}

#[test]
fn everything_that_is_wrong_is_said_with_its_field() {
    let refused = |code: &str, given: &[(i64, Category)]| {
        let rejections = compute(code, given, false).unwrap_err();
        rejections.iter().map(Rejection::field).collect::<Vec<_>>()
    };
    assert_eq!(refused("DE", &[]), ["lines"]);
    assert_eq!(refused("DE", &[(1, Standard); LINES_MAX + 1]), ["lines"]);
    assert_eq!(
        refused("DE", &[(1, Standard), (-1, Standard), (AMOUNT_MAX + 1, Standard)]),
        ["lines[1].amount", "lines[2].amount"]
    );
    assert_eq!(
        refused("DE", &[(i64::MIN, Standard), (i64::MAX, Standard)]),
        ["lines[0].amount", "lines[1].amount"]
    );
    assert_eq!(refused("DK", &[(1, Standard), (-1, Reduced)]), ["lines[1].amount", "lines[1].category"]);
    assert_eq!(refused("XX", &[(-1, Standard)]), ["lines[0].amount", "ship_to.country"]);
    for country in ["", "de", "DEU", "D", "Ä", "EL", "UK", "US-", "US-XX", "US-ca", "US-CALI"] {
        let field = if country.starts_with("US") { "ship_to.state" } else { "ship_to.country" };
        assert_eq!(refused(country, &[(1, Standard)]), [field], "{country}");
    }
    let said = |code: &str| compute(code, &[(1, Standard)], false).unwrap_err()[0].to_string();
    assert!(said("EL").contains("GR") && said("UK").contains("GB"));
}

#[test]
fn the_largest_request_is_calculated_exactly() {
    for inclusive in [false, true] {
        let computation = compute("HU", &[(AMOUNT_MAX, Standard); LINES_MAX], inclusive).unwrap();
        let sum = i128::from(AMOUNT_MAX) * LINES_MAX as i128;
        let tax = if inclusive { (sum * 27 + 63) / 127 } else { (sum * 27 + 50) / 100 };
        assert_eq!(i128::from(computation.amount_tax()), tax);
        assert!(computation.amount_total() <= TOTAL_MAX);
    }
}

#[test]
fn a_table_that_cannot_be_is_refused_by_jurisdiction() {
    let table = |code: &str, rates: &str| {
        let text = format!("[[jurisdiction]]\ncode = \"{code}\"\nname = \"x\"\nrates = [{rates}]\n");
        RateTable::read(&text).map(drop).map_err(|error| error.to_string())
    };
    let good = r#"{ begin = "2020-01-01", standard = "1" }"#;
    let two = |end: &str| {
        format!(
            r#"{{ begin = "2020-01-01", {end} standard = "1" }}, {{ begin = "2021-01-01", standard = "1" }}"#
        )
    };
    assert_eq!(table("XA", good), Ok(()));
    assert_eq!(table("XA", &two(r#"end = "2020-12-31","#)), Ok(()));
    for (code, rates, expected) in [
        ("xa", good, "\"xa\": the code must be"),
        ("XA-", good, "the code must be"),
        ("XA", "", "at least one version"),
        ("XA", r#"{ begin = "2020-02-30", standard = "1" }"#, "a day must be"),
        ("XA", r#"{ begin = "2020-01-01", standard = "101" }"#, "a rate must be"),
        ("XA", r#"{ begin = "2020-01-01", standard = "-1" }"#, "a rate must be"),
        ("XA", r#"{ begin = "2020-01-01", end = "2019-12-31", standard = "1" }"#, "must not end before"),
        ("XA", &two(""), "only the last"),
        ("XA", &two(r#"end = "2020-12-30","#), "on the day after"),
        ("XA", &two(r#"end = "2021-01-01","#), "on the day after"),
        ("XA", &two(r#"end = "2019-12-31","#), "must not end before"),
        ("XA", r#"{ begin = "2020-01-01", normal = "1" }"#, "normal"),
    ] {
        let error = table(code, rates).unwrap_err();
        assert!(error.contains(expected), "expected {expected:?} in {error:?}");
    }
    let twice = format!("{RATES}\n[[jurisdiction]]\ncode = \"DE\"\nname = \"x\"\nrates = [{good}]");
    assert!(RateTable::read(&twice).unwrap_err().to_string().contains("\"DE\""));
    let both = format!("{RATES}\n[[jurisdiction]]\ncode = \"US\"\nname = \"x\"\nrates = [{good}]");
    assert!(RateTable::read(&both).unwrap_err().to_string().contains("\"US\""));
}

fn given() -> impl Strategy<Value = Vec<(i64, Category)>> {
    let amount = prop_oneof![0_i64..10, 0_i64..10_000, 0..=AMOUNT_MAX];
    let category = prop_oneof![Just(Standard), Just(Reduced), Just(ZeroRated), Just(Exempt)];
    prop::collection::vec((amount, category), 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn everything_adds_up(
        given in given(),
        code in prop::sample::select(vec!["DE", "FI", "SI", "CH", "IE"]),
        inclusive: bool,
    ) {
        let computation = compute(code, &given, inclusive).unwrap();
        let (mut net, mut tax) = (0, 0);
        for group in &computation.subtotals {
            let belongs = |line: &&LineResult| line.category == group.category && line.rate == group.rate;
            let members = || computation.lines.iter().filter(belongs);
            prop_assert_eq!(members().map(|line| line.amount_tax).sum::<i64>(), group.amount_tax);
            prop_assert_eq!(members().map(|line| line.amount_net).sum::<i64>(), group.amount_net);
            net += group.amount_net;
            tax += group.amount_tax;
        }
        prop_assert_eq!((net, tax), (computation.amount_net(), computation.amount_tax()));
        prop_assert_eq!(net + tax, computation.amount_total());
        prop_assert_eq!(computation.lines.len(), given.len());
        for (line, (amount, category)) in computation.lines.iter().zip(&given) {
            let fixed = if inclusive { line.amount_net + line.amount_tax } else { line.amount_net };
            prop_assert_eq!((fixed, line.category), (*amount, *category), "what was given stays");
            prop_assert!(line.amount_net >= 0 && line.amount_tax >= 0);
            // No share is a whole unit off the exact tax; in ten-thousandths of a percent.
            let percent = i128::try_from((line.rate.percent() * Decimal::from(10_000)).trunc()).unwrap();
            let whole = if inclusive { 1_000_000 + percent } else { 1_000_000 };
            let off = i128::from(line.amount_tax) * whole - i128::from(*amount) * percent;
            prop_assert!(off.abs() < whole, "{line:?}");
        }
    }

    /// The order of the lines changes no group's tax and no total.
    #[test]
    fn order_does_not_matter(given in given(), inclusive: bool, turn in 0_usize..60) {
        let mut turned = given.clone();
        turned.rotate_left(turn % given.len());
        let (a, b) = (compute("DE", &given, inclusive).unwrap(), compute("DE", &turned, inclusive).unwrap());
        prop_assert_eq!(a.amount_total(), b.amount_total());
        for subtotal in &a.subtotals {
            prop_assert!(b.subtotals.contains(subtotal));
        }
    }
}
