//! What a calculation costs without its store: looking up the rates, grouping, rounding, sharing.

use std::hint::black_box;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use money::Timestamp;
use svc_tax::domain::{Category, Line, RateTable, ShipTo, calculate};

fn benches(c: &mut Criterion) {
    let Ok(table) = RateTable::read(include_str!("../src/rates.toml")) else { return };
    let ship_to = ShipTo { country: "DE".into(), state: String::new() };
    for count in [1_i64, 10, 500] {
        let line = |i: i64| Line {
            reference: format!("L{i}"),
            amount: 1_003 + i,
            category: if i % 3 == 0 { Category::Reduced } else { Category::Standard },
        };
        let lines: Vec<Line> = (0..count).map(line).collect();
        for inclusive in [false, true] {
            let prices = if inclusive { "with" } else { "without" };
            c.bench_function(&format!("{count} lines, prices {prices} tax"), |b| {
                let now = Timestamp::from_seconds(1_795_132_800);
                let calculate = |lines| black_box(calculate(&table, lines, &ship_to, inclusive, now));
                b.iter_batched(|| lines.clone(), calculate, BatchSize::SmallInput);
            });
        }
    }
}

criterion_group!(group, benches);
criterion_main!(group);
