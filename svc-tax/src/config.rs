//! What svc-tax is configured with.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::domain::RateTable;

/// The rates in use when no others are configured.
const RATES: &str = include_str!("rates.toml");

/// What svc-tax alone has.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// A table of rates to use in place of the built-in one (`src/rates.toml`, which also shows the form).
    #[schemars(extend("x-file" = "public"), example = "rates.toml")]
    pub rates_file: Option<PathBuf>,
}

impl Config {
    /// The rates, checked. The error says what is wrong and where.
    pub fn rates(&self) -> Result<RateTable, String> {
        let Some(path) = &self.rates_file else {
            return RateTable::read(RATES).map_err(|error| error.to_string());
        };
        let said = |error: &dyn std::fmt::Display| format!("rates_file {}: {error}", path.display());
        let text = std::fs::read_to_string(path).map_err(|error| said(&error))?;
        RateTable::read(&text).map_err(|error| said(&error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_of_ones_own_takes_the_place_of_the_built_in_one() {
        assert!(Config::default().rates().unwrap().codes().len() > 40);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("rates.toml");
        let config = Config { rates_file: Some(path.clone()) };
        assert!(config.rates().unwrap_err().contains("rates.toml"));
        let rates = r#"rates = [{ begin = "2020-01-01", standard = "1" }]"#;
        let table = format!("[[jurisdiction]]\ncode = \"XA\"\nname = \"Test\"\n{rates}");
        std::fs::write(&path, table).unwrap();
        assert_eq!(config.rates().unwrap().codes(), ["XA"]);
    }
}
