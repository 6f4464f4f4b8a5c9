//! The rules, checked and ready to decide: condition × action, with a score beside.
//!
//! What an action does, and in which order, follows Radar's rules as card processors know them: allow,
//! then block, then review. An allow rule exempts a card from the rules that judge behaviour (amounts
//! and velocities); a rule that names cards by list still holds for it, so that a blocked card stays
//! blocked whatever else is said of it.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    assessment::Features,
    rule_text::{Amounts, ListText, RuleText, RulesText, WhenText},
    subject::{Bin, Card, Fingerprint, Last4},
    windows::{Velocity, Window},
};

/// What follows when a rule matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// The card is exempt from the rules on behaviour, and is not counted.
    Allow,
    /// The payment is refused.
    Block,
    /// The payment goes on, and a person looks at it.
    Review,
    /// Only the points count.
    Score,
}

/// Whose payments a velocity counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The payment's card, at the payment's tenant.
    Card,
    /// The payment's tenant.
    Tenant,
}

/// Why a rule set was refused. The text says which rule or list, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// The thresholds do not make three bands.
    #[error("rules: 1 <= review_score_min <= block_score_min <= 100 must hold")]
    Thresholds,
    /// A name is not a name.
    #[error("rule {0:?}: the name must be 1 to 64 characters of a-z, 0-9 and '_'")]
    Name(String),
    /// Two rules of one name.
    #[error("rule {0:?}: the name is taken by a rule before it")]
    Duplicate(String),
    /// A rule cannot be what it is.
    #[error("rule {rule:?}: {problem}")]
    Rule {
        /// The rule's name.
        rule: String,
        /// What would be right.
        problem: &'static str,
    },
    /// A rule names a list that is not there.
    #[error("rule {rule:?}: there is no list {list:?}")]
    NoSuchList {
        /// The rule's name.
        rule: String,
        /// The list that it names.
        list: String,
    },
    /// An entry of a list is not one.
    #[error("list {list:?}: {part} {index} {problem}")]
    Entry {
        /// The list's name.
        list: String,
        /// `cards` or `fingerprints`.
        part: &'static str,
        /// Which entry, from 0. The entry itself is not repeated.
        index: usize,
        /// What would be right.
        problem: &'static str,
    },
}

#[derive(Debug, Default)]
struct CardList {
    fingerprints: HashSet<Fingerprint>,
    cards: HashSet<(Bin, Last4)>,
}

impl CardList {
    fn compile(name: &str, text: &ListText) -> Result<Self, RuleError> {
        let wrong = |part, index, problem| RuleError::Entry { list: name.to_owned(), part, index, problem };
        let mut list = Self::default();
        for (index, entry) in text.fingerprints.iter().enumerate() {
            let problem = "must be 1 to 128 visible ASCII characters";
            list.fingerprints.insert(entry.parse().map_err(|_| wrong("fingerprints", index, problem))?);
        }
        for (index, entry) in text.cards.iter().enumerate() {
            let digits =
                entry.split_once('*').and_then(|(bin, last4)| Some((bin.parse().ok()?, last4.parse().ok()?)));
            let problem = "must be the first 6 and last 4 digits, as 424242*4242; of numbers with 13 or 12 digits the first 5 or 4";
            list.cards.insert(digits.ok_or_else(|| wrong("cards", index, problem))?);
        }
        Ok(list)
    }

    fn has(&self, card: &Card) -> bool {
        self.cards.contains(&(card.bin, card.last4)) || self.fingerprints.contains(&card.fingerprint)
    }
}

#[derive(Debug)]
enum Over {
    Count(u64),
    Sum(Amounts),
}

#[derive(Debug)]
enum Condition {
    CardIn(Arc<CardList>),
    AmountOver(Amounts),
    Velocity { of: Scope, window: Window, over: Over },
}

impl Condition {
    fn holds(&self, features: &Features<'_>) -> bool {
        let subject = features.subject;
        match self {
            Self::CardIn(list) => list.has(&subject.card),
            Self::AmountOver(amounts) => {
                amounts.get(&subject.currency).is_some_and(|limit| subject.amount > *limit)
            }
            Self::Velocity { of, window, over } => {
                let velocity: &Velocity = match of {
                    Scope::Card => &features.card,
                    Scope::Tenant => &features.tenant,
                };
                let tally = velocity.of(*window);
                match over {
                    Over::Count(limit) => tally.count > *limit,
                    Over::Sum(limits) => limits
                        .get(&subject.currency)
                        .is_some_and(|limit| u64::try_from(*limit).is_ok_and(|limit| tally.amount > limit)),
                }
            }
        }
    }
}

/// One rule, ready to be asked.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) action: Action,
    pub(super) points: u8,
    when: Vec<Condition>,
}

impl Rule {
    pub(super) fn matches(&self, features: &Features<'_>) -> bool {
        self.when.iter().all(|condition| condition.holds(features))
    }

    /// Whether it judges what is done, not who does it.
    pub(super) fn on_behaviour(&self) -> bool {
        self.when.iter().any(|condition| !matches!(condition, Condition::CardIn(_)))
    }
}

/// Rules that decide.
#[derive(Debug)]
pub struct RuleSet {
    pub(super) review_score_min: u8,
    pub(super) block_score_min: u8,
    pub(super) rules: Vec<Rule>,
    exempt: Vec<Arc<CardList>>,
}

impl RuleSet {
    /// Checks a rule set and makes it ready.
    pub fn compile(text: &RulesText) -> Result<Self, RuleError> {
        let (review_score_min, block_score_min) = (text.review_score_min, text.block_score_min);
        if !(1 <= review_score_min && review_score_min <= block_score_min && block_score_min <= 100) {
            return Err(RuleError::Thresholds);
        }
        let mut lists = HashMap::new();
        for (name, list) in &text.lists {
            lists.insert(name.as_str(), Arc::new(CardList::compile(name, list)?));
        }
        let mut names = HashSet::new();
        let (mut rules, mut exempt) = (Vec::with_capacity(text.rules.len()), Vec::new());
        for rule in &text.rules {
            if !names.insert(rule.name.as_str()) {
                return Err(RuleError::Duplicate(rule.name.clone()));
            }
            let rule = compile_rule(rule, &lists)?;
            if rule.action == Action::Allow {
                exempt.extend(rule.when.iter().filter_map(|condition| match condition {
                    Condition::CardIn(list) => Some(Arc::clone(list)),
                    _ => None,
                }));
            }
            rules.push(rule);
        }
        Ok(Self { review_score_min, block_score_min, rules, exempt })
    }

    /// Whether an allow rule exempts this card from the rules on behaviour.
    pub fn exempts(&self, card: &Card) -> bool {
        self.exempt.iter().any(|list| list.has(card))
    }

    /// How many rules there are.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// Whether there is no rule: everything is allowed.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }
}

fn compile_rule(text: &RuleText, lists: &HashMap<&str, Arc<CardList>>) -> Result<Rule, RuleError> {
    let legal = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_');
    if !((1..=64).contains(&text.name.len()) && text.name.bytes().all(legal)) {
        return Err(RuleError::Name(text.name.clone()));
    }
    let wrong = |problem| RuleError::Rule { rule: text.name.clone(), problem };
    let WhenText { card_in, amount_over, velocity } = &text.when;
    let mut when = Vec::new();
    if let Some(name) = card_in {
        let missing = || RuleError::NoSuchList { rule: text.name.clone(), list: name.clone() };
        when.push(Condition::CardIn(Arc::clone(lists.get(name.as_str()).ok_or_else(missing)?)));
    }
    if let Some(amounts) = amount_over {
        when.push(Condition::AmountOver(limits(amounts).map_err(wrong)?));
    }
    if let Some(velocity) = velocity {
        let window = Window::of_seconds(velocity.window_s);
        let window = window.ok_or_else(|| wrong("window_s must be 3600, 86400 or 604800"))?;
        let over = match (velocity.count_over, &velocity.sum_over) {
            (Some(count), None) => Over::Count(count),
            (None, Some(amounts)) => Over::Sum(limits(amounts).map_err(wrong)?),
            _ => return Err(wrong("velocity must say either count_over or sum_over")),
        };
        when.push(Condition::Velocity { of: velocity.of, window, over });
    }
    if when.is_empty() {
        return Err(wrong("`when` must say card_in, amount_over or velocity"));
    }
    if text.points > 100 {
        return Err(wrong("points must be 0 to 100"));
    }
    match text.action {
        Action::Score if text.points == 0 => return Err(wrong("a score rule must have points, 1 to 100")),
        Action::Allow if text.points > 0 => return Err(wrong("an allow rule has no points")),
        Action::Allow if when.len() > 1 || card_in.is_none() => {
            return Err(wrong("an allow rule may only name a list of cards, by card_in"));
        }
        _ => {}
    }
    Ok(Rule { name: text.name.as_str().into(), action: text.action, points: text.points, when })
}

fn limits(amounts: &Amounts) -> Result<Amounts, &'static str> {
    if amounts.is_empty() {
        return Err("amounts must name at least one currency");
    }
    if amounts.values().any(|amount| *amount < 0) {
        return Err("amounts must not be negative");
    }
    Ok(amounts.clone())
}
