//! The rules as they are written down in a configuration file. [`super::RuleSet::compile`] turns them
//! into what decides; nothing here is checked beyond its form.

use std::collections::BTreeMap;

use money::Currency;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::rules::{Action, Scope};

/// Amounts in minor units by currency; a currency that is not named never matches.
pub type Amounts = BTreeMap<Currency, i64>;

/// A whole rule set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesText {
    /// The least score, 1 to 100, that sends a payment to review.
    #[schemars(range(min = 1, max = 100), example = 50)]
    pub review_score_min: u8,
    /// The least score, 1 to 100, that blocks a payment.
    #[schemars(range(min = 1, max = 100), example = 80)]
    pub block_score_min: u8,
    /// Lists of cards by name.
    #[serde(default)]
    pub lists: BTreeMap<String, ListText>,
    /// The rules, in the order in which their names are reported.
    #[serde(default)]
    pub rules: Vec<RuleText>,
}

/// A list of cards.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListText {
    /// The vault's fingerprints: these name one card each.
    #[serde(default)]
    pub fingerprints: Vec<String>,
    /// First six and last four digits, as `424242*4242`: these name every card that shows them.
    #[serde(default)]
    pub cards: Vec<String>,
}

/// One rule.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RuleText {
    /// What is reported when it matches: 1 to 64 characters of a-z, 0-9 and `_`.
    #[schemars(example = &"large_amount")]
    pub name: String,
    /// What follows.
    pub action: Action,
    /// What it adds to the score, 0 to 100.
    #[serde(default)]
    #[schemars(range(max = 100))]
    pub points: u8,
    /// What must hold.
    pub when: WhenText,
}

/// Conditions; all that are given must hold.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WhenText {
    /// The card is in the list of this name.
    pub card_in: Option<String>,
    /// The payment is above the amount of its currency.
    #[schemars(with = "Option<BTreeMap<String, i64>>")]
    pub amount_over: Option<Amounts>,
    /// What happened before is above a limit. The payment itself is not counted.
    pub velocity: Option<VelocityText>,
}

/// A limit on what happened before.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VelocityText {
    /// Whose payments.
    pub of: Scope,
    /// 3600, 86400 or 604800.
    pub window_s: i64,
    /// More payments than this, in any currency. Either this or `sum_over`.
    pub count_over: Option<u64>,
    /// A higher sum than this, in the payment's currency.
    #[schemars(with = "Option<BTreeMap<String, i64>>")]
    pub sum_over: Option<Amounts>,
}
