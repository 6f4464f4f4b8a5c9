//! What svc-fraud is configured with.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::{Limits, RuleSet, RulesText};

/// The rules in use when none are configured.
const DEVELOPMENT_RULES: &str = include_str!("rules.dev.toml");

/// What svc-fraud alone has.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The rules. Without them the built-in development set is in use (`src/rules.dev.toml`, which also
    /// shows the form), and a warning says so: it is not for payments with real cards.
    pub rules: Option<RulesText>,
    /// The most cards and tenants whose velocities are kept; the longest idle is forgotten first.
    pub velocity_entities_max: usize,
    /// The most cells of all velocities together, 24 bytes each.
    pub velocity_cells_max: usize,
    /// The most payments that are counted again at start.
    pub velocity_rebuild_rows_max: u32,
}

impl Default for Config {
    /// The development rules, and memory for some 200,000 cards that pay within a week (about 150 MB
    /// when full).
    fn default() -> Self {
        Self {
            rules: None,
            velocity_entities_max: 200_000,
            velocity_cells_max: 2_000_000,
            velocity_rebuild_rows_max: 2_000_000,
        }
    }
}

impl Config {
    /// The development rules by choice, hence without a warning.
    pub fn development() -> Result<Self, String> {
        let rules = toml::from_str(DEVELOPMENT_RULES).map_err(|error| error.to_string())?;
        Ok(Self { rules: Some(rules), ..Self::default() })
    }

    /// The rules, checked. The error says which rule is wrong and what would be right.
    pub fn rules(&self) -> Result<RuleSet, String> {
        let compiled = if let Some(text) = &self.rules {
            RuleSet::compile(text)
        } else {
            tracing::warn!(
                "no fraud rules are configured, so the development rules are in use: they let test cards pass \
                 without limits, and each card that shares their first six and last four digits; give rules of \
                 your own in the table [svc-fraud.rules] of the configuration file, in the form of \
                 svc-fraud/src/rules.dev.toml"
            );
            let text: RulesText = toml::from_str(DEVELOPMENT_RULES).map_err(|error| error.to_string())?;
            RuleSet::compile(&text)
        };
        compiled.map_err(|error| error.to_string())
    }

    /// How much the windows keep.
    pub fn limits(&self) -> Limits {
        Limits { entities_max: self.velocity_entities_max, cells_max: self.velocity_cells_max }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Seek as _, SeekFrom},
        sync::Arc,
    };

    use super::*;

    /// What is logged when the rules are read.
    fn logged(config: &Config) -> String {
        let mut log = tempfile::tempfile().unwrap();
        let writer = Arc::new(log.try_clone().unwrap());
        let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(writer).finish();
        tracing::subscriber::with_default(subscriber, || config.rules().map(drop)).unwrap();
        let mut text = String::new();
        log.seek(SeekFrom::Start(0)).unwrap();
        log.read_to_string(&mut text).unwrap();
        text
    }

    #[test]
    fn an_empty_table_is_the_development_set_and_is_warned_of() {
        let config: Config = toml::from_str("").unwrap();
        assert!(config.rules().unwrap().len() > 5);
        let warning = logged(&config);
        assert!(warning.contains("WARN") && warning.contains("[svc-fraud.rules]"), "{warning}");
        let own = Config { rules: Some(toml::from_str(DEVELOPMENT_RULES).unwrap()), ..config };
        assert_eq!(logged(&own), "");
    }

    #[test]
    fn rules_are_given_inline_and_wrong_ones_are_refused_by_name() {
        let text = r#"
            velocity_cells_max = 5
            [rules]
            review_score_min = 50
            block_score_min = 60
            [[rules.rules]]
            name = "big"
            action = "review"
            when = { amount_over = { EUR = 1 } }
        "#;
        let config: Config = toml::from_str(text).unwrap();
        assert_eq!((config.rules().unwrap().len(), config.limits().cells_max), (1, 5));
        let wrong: Config = toml::from_str(&text.replace("{ EUR = 1 }", "{}")).unwrap();
        assert!(wrong.rules().unwrap_err().contains("rule \"big\""));
        assert!(toml::from_str::<Config>("rule = 1").is_err());
    }
}
