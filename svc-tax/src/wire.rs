//! Domain values as messages, and back. The message of a calculation is both what is answered and what
//! is kept, so that the same calculation is always the same bytes.

use mesh::clock;
use paymesh_proto::tax::v1 as proto;
use proto::line::Category as ProtoCategory;

use crate::domain::{Calculation, Category, Computation, LineResult, Subtotal};

/// A calculation as a message.
pub(crate) fn to_proto(calculation: &Calculation) -> proto::Calculation {
    let computation = &calculation.computation;
    let subtotals = computation.subtotals.iter().map(|subtotal| proto::calculation::Subtotal {
        category: category_to_proto(subtotal.category).into(),
        rate_percent: subtotal.rate.to_string(),
        amount_net: subtotal.amount_net,
        amount_tax: subtotal.amount_tax,
    });
    let lines = computation.lines.iter().map(|line| proto::calculation::LineResult {
        reference: line.reference.clone(),
        amount_net: line.amount_net,
        amount_tax: line.amount_tax,
        category: category_to_proto(line.category).into(),
        rate_percent: line.rate.to_string(),
    });
    proto::Calculation {
        id: calculation.id.to_string(),
        currency: calculation.currency.to_string(),
        amount_net: computation.amount_net(),
        amount_tax: computation.amount_tax(),
        amount_total: computation.amount_total(),
        subtotals: subtotals.collect(),
        lines: lines.collect(),
        jurisdiction: computation.jurisdiction.clone(),
        created_at: Some(clock::to_proto(calculation.created_at)),
    }
}

/// The calculation that a message was made of; `None` if it was made of none.
pub(crate) fn from_proto(message: proto::Calculation) -> Option<Calculation> {
    let subtotals = message.subtotals.into_iter().map(|subtotal| {
        Some(Subtotal {
            category: category_from_proto(subtotal.category)?,
            rate: subtotal.rate_percent.parse().ok()?,
            amount_net: subtotal.amount_net,
            amount_tax: subtotal.amount_tax,
        })
    });
    let lines = message.lines.into_iter().map(|line| {
        Some(LineResult {
            category: category_from_proto(line.category)?,
            rate: line.rate_percent.parse().ok()?,
            reference: line.reference,
            amount_net: line.amount_net,
            amount_tax: line.amount_tax,
        })
    });
    Some(Calculation {
        id: message.id.parse().ok()?,
        currency: message.currency.parse().ok()?,
        created_at: clock::from_proto(message.created_at.as_ref()?)?,
        computation: Computation {
            jurisdiction: message.jurisdiction,
            subtotals: subtotals.collect::<Option<_>>()?,
            lines: lines.collect::<Option<_>>()?,
        },
    })
}

/// The category of this number; none given means the standard rate.
pub(crate) fn category_from_proto(number: i32) -> Option<Category> {
    Some(match ProtoCategory::try_from(number).ok()? {
        ProtoCategory::Unspecified | ProtoCategory::Standard => Category::Standard,
        ProtoCategory::Reduced => Category::Reduced,
        ProtoCategory::ZeroRated => Category::ZeroRated,
        ProtoCategory::Exempt => Category::Exempt,
    })
}

fn category_to_proto(category: Category) -> ProtoCategory {
    match category {
        Category::Standard => ProtoCategory::Standard,
        Category::Reduced => ProtoCategory::Reduced,
        Category::ZeroRated => ProtoCategory::ZeroRated,
        Category::Exempt => ProtoCategory::Exempt,
    }
}
