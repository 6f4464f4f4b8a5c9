//! The calculation: lines are grouped by category and rate, tax is rounded once per group, and each
//! line gets its share.
//!
//! After EN 16931-1 (BG-23, BR-CO-17): the tax of a group is its taxable amount times the rate, rounded
//! half away from zero to the minor unit; the total is the sum of the groups.
//!
//! Where prices include the tax, each group's sum is fixed and the **tax** is what is rounded: gross ×
//! p/(100 + p), half away from zero; the net amount is the rest. The other way (round the net, let the
//! tax be the rest) differs where both end in half a unit: 2.99 at 4 % holds 0.115 of tax and 2.875 net,
//! which is 0.12 of tax here and 0.11 there. The tax is what is owed to an authority and stated on a
//! document, so it gets the rounding that is defined for it, is off by half a unit at most, and is never
//! the smaller of two equally near amounts.
//!
//! Shares: each line gets its exact tax rounded down, and the units that are left go one each to the
//! lines with the largest remainders, earlier lines first among equals. So the shares add up to the
//! group's tax, and none is a whole unit off its exact tax.

use money::{AMOUNT_MAX, CalculationId, Currency, Timestamp};

use super::{
    day::Day,
    rate::{Category, Rate},
    rate_table::RateTable,
    rejection::Rejection,
};

/// The most lines of one calculation.
pub const LINES_MAX: usize = 500;

/// The largest total that can come out: [`LINES_MAX`] lines of [`AMOUNT_MAX`], taxed with 100 %.
pub const TOTAL_MAX: i64 = 2 * 500 * AMOUNT_MAX;

// Sums fit 64 bits by far, and JSON numbers hold them exactly (RFC 8259, section 6: below 2⁵³).
const _: () = assert!(LINES_MAX == 500 && TOTAL_MAX < 1 << 53);

/// One line to tax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The caller's own name for it.
    pub reference: String,
    /// Minor units, 0 to [`AMOUNT_MAX`].
    pub amount: i64,
    /// How it is taxed.
    pub category: Category,
}

/// Where the goods or services go: what decides the rates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShipTo {
    /// ISO 3166-1 alpha-2.
    pub country: String,
    /// The second part of an ISO 3166-2 code; read only in countries that tax by state.
    pub state: String,
}

/// All lines of one category and rate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subtotal {
    /// The category.
    pub category: Category,
    /// The rate.
    pub rate: Rate,
    /// Without tax, in minor units.
    pub amount_net: i64,
    /// The tax, in minor units.
    pub amount_tax: i64,
}

/// One line with its share of the tax.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineResult {
    /// The caller's own name for it.
    pub reference: String,
    /// Without tax, in minor units.
    pub amount_net: i64,
    /// Its share of its group's tax, in minor units.
    pub amount_tax: i64,
    /// The category.
    pub category: Category,
    /// The rate.
    pub rate: Rate,
}

/// What was calculated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Computation {
    /// Whose rates were used, such as `DE` or `US-CA`.
    pub jurisdiction: String,
    /// In the order in which the lines first need them.
    pub subtotals: Vec<Subtotal>,
    /// In the order given.
    pub lines: Vec<LineResult>,
}

impl Computation {
    /// Sum of the lines without tax, in minor units.
    pub fn amount_net(&self) -> i64 {
        self.subtotals.iter().map(|subtotal| subtotal.amount_net).sum()
    }

    /// Sum of the tax, in minor units.
    pub fn amount_tax(&self) -> i64 {
        self.subtotals.iter().map(|subtotal| subtotal.amount_tax).sum()
    }

    /// What is to be paid, in minor units, at most [`TOTAL_MAX`].
    pub fn amount_total(&self) -> i64 {
        self.amount_net() + self.amount_tax()
    }
}

/// A computation as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Calculation {
    /// Its id.
    pub id: CalculationId,
    /// What the amounts are in.
    pub currency: Currency,
    /// When it was made; the rates are those of this day.
    pub created_at: Timestamp,
    /// What was calculated.
    pub computation: Computation,
}

/// Calculates the tax on `lines` with the rates of the day of `now`, or says everything that is wrong.
pub fn calculate(
    table: &RateTable,
    lines: Vec<Line>,
    ship_to: &ShipTo,
    prices_include_tax: bool,
    now: Timestamp,
) -> Result<Computation, Vec<Rejection>> {
    let mut rejections = Vec::new();
    match lines.len() {
        0 => rejections.push(Rejection::NoLines),
        1..=LINES_MAX => {}
        _ => return Err(vec![Rejection::TooManyLines]),
    }
    for (index, line) in lines.iter().enumerate() {
        match line.amount {
            ..0 => rejections.push(Rejection::AmountNegative { line: index }),
            0..=AMOUNT_MAX => {}
            _ => rejections.push(Rejection::AmountTooLarge { line: index }),
        }
    }
    let (jurisdiction, rates) = match table.find(&ship_to.country, &ship_to.state, Day::of(now)) {
        Ok(found) => found,
        Err(rejection) => {
            rejections.push(rejection);
            return Err(rejections);
        }
    };
    let mut taxed = Vec::with_capacity(lines.len());
    for (index, line) in lines.into_iter().enumerate() {
        match rates.of(line.category) {
            Some(rate) => taxed.push((line, rate)),
            None => rejections.push(Rejection::NoReducedRate { line: index }),
        }
    }
    if !rejections.is_empty() {
        return Err(rejections);
    }
    let (subtotals, lines) = apportion(taxed, prices_include_tax);
    Ok(Computation { jurisdiction: jurisdiction.to_owned(), subtotals, lines })
}

fn apportion(taxed: Vec<(Line, Rate)>, prices_include_tax: bool) -> (Vec<Subtotal>, Vec<LineResult>) {
    // One jurisdiction has a handful of groups: a list is quicker than a map, and keeps their order.
    let mut groups: Vec<((Category, Rate), Vec<usize>)> = Vec::new();
    for (index, (line, rate)) in taxed.iter().enumerate() {
        let key = (line.category, *rate);
        match groups.iter_mut().find(|(group, _)| *group == key) {
            Some((_, members)) => members.push(index),
            None => groups.push((key, vec![index])),
        }
    }
    let mut taxes = vec![0; taxed.len()];
    let mut subtotals = Vec::with_capacity(groups.len());
    for ((category, rate), members) in groups {
        let fraction = rate.fraction(prices_include_tax);
        let sum: i64 = members.iter().map(|member| taxed[*member].0.amount).sum();
        let amount_tax = fraction.rounded(sum);
        let mut left = amount_tax;
        let mut remainders = Vec::with_capacity(members.len());
        for member in members {
            let (share, remainder) = fraction.floored(taxed[member].0.amount);
            taxes[member] = share;
            left -= share;
            remainders.push((remainder, member));
        }
        // Fewer units are left than there are lines with a remainder: the remainders of the lines add
        // up to what is left, rounded, and each is less than one unit.
        remainders.sort_unstable_by(|(a, i), (b, j)| b.cmp(a).then(i.cmp(j)));
        for (_, member) in remainders.into_iter().take(usize::try_from(left).unwrap_or(0)) {
            taxes[member] += 1;
        }
        let amount_net = if prices_include_tax { sum - amount_tax } else { sum };
        subtotals.push(Subtotal { category, rate, amount_net, amount_tax });
    }
    let lines = taxed.into_iter().zip(taxes).map(|((line, rate), amount_tax)| {
        let amount_net = if prices_include_tax { line.amount - amount_tax } else { line.amount };
        LineResult { reference: line.reference, amount_net, amount_tax, category: line.category, rate }
    });
    (subtotals, lines.collect())
}
