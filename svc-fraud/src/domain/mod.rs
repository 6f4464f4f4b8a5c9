//! What an assessment is and how it comes about: who pays ([`Subject`]), how often that happened
//! lately ([`Windows`]), what is allowed ([`RuleSet`]), and what follows ([`assess`]).
//!
//! Pure: no clock, store, wire or randomness; the time comes in as an argument.

mod assessment;
mod rule_text;
mod rules;
mod subject;
mod windows;

pub use assessment::{Assessment, Decision, Features, Outcome, assess, decide};
pub use rule_text::{Amounts, ListText, RuleText, RulesText, VelocityText, WhenText};
pub use rules::{Action, RuleError, RuleSet, Scope};
pub use subject::{Bin, Card, Fingerprint, Last4, Subject, SubjectError};
pub use windows::{Entity, Limits, Tally, Velocity, Window, Windows};
