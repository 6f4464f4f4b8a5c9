//! The decision: rules × what is known of the payment → outcome, score and reasons.

use std::sync::Arc;

use money::Timestamp;

use super::{
    rules::{Action, RuleSet},
    subject::Subject,
    windows::{Entity, Velocity, Windows},
};

/// Whether a payment may go on. Ordered from the mildest to the strictest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It may.
    Allow,
    /// It may, and a person should look at it.
    Review,
    /// It may not.
    Block,
}

/// What was decided about a payment, once and for all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assessment {
    /// Whether it may go on.
    pub outcome: Outcome,
    /// 0 (harmless) to 100. Never contradicts the outcome: it is in the band of the rule set's
    /// thresholds that the outcome names.
    pub score: u8,
    /// The names of the rules that matched, in the order of the rule set.
    pub reasons: Vec<Arc<str>>,
    /// When it was decided.
    pub assessed_at: Timestamp,
}

/// What the rules see.
#[derive(Debug, Clone, Copy)]
pub struct Features<'a> {
    /// The payment.
    pub subject: &'a Subject,
    /// What the card did before this payment.
    pub card: Velocity,
    /// What the tenant did before this payment.
    pub tenant: Velocity,
}

/// An assessment, and whether the payment is to be counted from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub assessment: Assessment,
    /// Whether the payment counts for the velocities of later ones: a payment of an exempt card does
    /// not, so that trusted traffic cannot use up its tenant's limits.
    pub counted: bool,
}

/// Asks every rule.
///
/// Outcome: block if a block rule matched or the points reach the block threshold, else review
/// likewise, else allow. The score is the sum of the points, at most 100, and at least the threshold of
/// the outcome that a rule asked for.
pub fn assess(rules: &RuleSet, features: &Features<'_>, now: Timestamp) -> Assessment {
    let exempt = rules.exempts(&features.subject.card);
    let mut score = 0_u8;
    let mut floor = 0_u8;
    let mut reasons = Vec::new();
    for rule in &rules.rules {
        if (exempt && rule.on_behaviour()) || !rule.matches(features) {
            continue;
        }
        score = score.saturating_add(rule.points);
        floor = floor.max(match rule.action {
            Action::Block => rules.block_score_min,
            Action::Review => rules.review_score_min,
            Action::Allow | Action::Score => 0,
        });
        reasons.push(Arc::clone(&rule.name));
    }
    let score = score.min(100).max(floor);
    let outcome = if score >= rules.block_score_min {
        Outcome::Block
    } else if score >= rules.review_score_min {
        Outcome::Review
    } else {
        Outcome::Allow
    };
    Assessment { outcome, score, reasons, assessed_at: now }
}

/// Reads the windows and asks the rules. The payment itself must not be in the windows yet.
pub fn decide(rules: &RuleSet, windows: &Windows, subject: &Subject, now: Timestamp) -> Decision {
    let exempt = rules.exempts(&subject.card);
    let velocity = |entity: &Entity| {
        if exempt { Velocity::default() } else { windows.velocity(entity, subject.currency, now) }
    };
    let [card, tenant] = subject.entities();
    let features = Features { subject, card: velocity(&card), tenant: velocity(&tenant) };
    Decision { assessment: assess(rules, &features, now), counted: !exempt }
}

impl Subject {
    /// Whose velocities this payment counts for: its card's and its tenant's.
    pub fn entities(&self) -> [Entity; 2] {
        let tenant = self.tenant.clone();
        [Entity::Card(tenant.clone(), self.card.fingerprint.clone()), Entity::Tenant(tenant)]
    }
}
